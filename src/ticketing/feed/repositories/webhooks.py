"""Webhooks, as the people who made them see and change them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import Origin, recorded
from ticketing.db.ids import uuid7
from ticketing.db.pages import Page, page
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import TooManyWebhooks, UserNotFound, WebhookNotFound
from ticketing.feed.batches import Tried
from ticketing.feed.repositories.deliveries import SHOWN, log, opened
from ticketing.feed.repositories.facts import FactRepository
from ticketing.feed.signing import new_secret
from ticketing.feed.told import FeedEventType
from ticketing.ops import logs
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once
from ticketing.web.seals import Seals

MAX_WEBHOOKS: Final = 50
OVERLAP: Final = 24
"""Hours for which a secret that was replaced still signs."""
COUNTED: Final = 10_000
"""Undelivered events are counted up to this number."""

# The lock makes this wait for a deletion of the account, and the deletion wait for this.
OWNER: Final = Statement(
    "SELECT id FROM users WHERE id = :user AND password_hash IS NOT NULL FOR NO KEY UPDATE"
)
COUNT: Final = Statement("SELECT count(*) AS count FROM webhooks WHERE user_id = :user")


def _said(action: str, of: str) -> str:
    return recorded(
        f"'{action}'", of=of, subject="user_id", details="jsonb_build_object('webhookId', id)"
    )


MAKE: Final = Statement(
    f"""
    WITH made AS (
        INSERT INTO webhooks (id, user_id, event_id, url, types, secret, position)
        VALUES (:id, :user, :event, :url, CAST(:types AS text[]), :secret, :position)
        RETURNING *
    ), {_said("webhook.created", "made")}
    SELECT * FROM made
    """  # noqa: S608 - our own text
)
OF_USER: Final = Statement(
    """
    SELECT * FROM webhooks
    WHERE user_id = :user AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """
)
GET: Final = Statement("SELECT * FROM webhooks WHERE id = :id AND user_id = :user")
HOLD: Final = Statement("SELECT * FROM webhooks WHERE id = :id AND user_id = :user FOR UPDATE")
# A process that delivers to it loses its lease, so it sends nothing more to the address of before.
CHANGE: Final = Statement(
    f"""
    WITH changed AS (
        UPDATE webhooks SET
            url = :url, types = CAST(:types AS text[]), state = :state,
            since = CASE WHEN state <> :state THEN now() ELSE since END,
            last_error = CASE WHEN :state = 'active' AND state <> :state THEN NULL
                ELSE last_error END,
            failing_since = NULL, tries = 0, lease = NULL, rests = false, due_at = now()
        WHERE id = :id RETURNING *
    ), {_said("webhook.changed", "changed")}
    SELECT * FROM changed
    """  # noqa: S608 - our own text
)
TRY_ALL: Final = Statement(
    """
    UPDATE webhook_retries
    SET next_at = now(), failing_since = CASE WHEN tries > 0 THEN now() END
    WHERE webhook_id = :id
    """
)
DELETE: Final = Statement(
    f"""
    WITH deleted AS (
        DELETE FROM webhooks WHERE id = :id AND user_id = :user RETURNING id, user_id
    ), {_said("webhook.deleted", "deleted")}
    SELECT id FROM deleted
    """  # noqa: S608 - our own text
)
DEPART: Final = Statement("DELETE FROM webhooks WHERE user_id = :user")
ROTATE: Final = Statement(
    f"""
    WITH rotated AS (
        UPDATE webhooks SET previous_secret = secret, secret = :secret,
            previous_until = now() + make_interval(hours => {OVERLAP})
        WHERE id = :id AND user_id = :user RETURNING *
    ), {_said("webhook.secret_rotated", "rotated")}
    SELECT * FROM rotated
    """  # noqa: S608 - our own text
)
# What is set aside behind the position is read again from the trail.
REPLAY: Final = Statement(
    f"""
    WITH dropped AS (
        DELETE FROM webhook_retries WHERE webhook_id = :id AND record > :position
    ), replayed AS (
        UPDATE webhooks SET position = least(position, :position), lease = NULL, rests = false,
            tries = 0, failing_since = NULL, due_at = now()
        WHERE id = :id RETURNING *
    ), {_said("webhook.replayed", "replayed")}
    SELECT * FROM replayed
    """  # noqa: S608 - our own text
)
DELIVERIES: Final = Statement(
    """
    SELECT message_id, type, attempt, at, status, error, milliseconds FROM webhook_deliveries
    WHERE webhook_id = :id ORDER BY seq DESC LIMIT :limit
    """
)
ASIDE: Final = Statement(
    """
    SELECT count(*) AS count, count(*) FILTER (WHERE next_at IS NULL) AS given_up
    FROM webhook_retries WHERE webhook_id = :id
    """
)


class Asked(NamedTuple):
    """What a person wants to be called for. None: all types; all events of theirs."""

    url: str
    types: Sequence[FeedEventType] | None
    event_id: int | None


class Changes(NamedTuple):
    """What to change. None: it stays as it is."""

    url: str | None
    types: Sequence[FeedEventType] | None
    all_types: bool
    state: str | None


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook without its secret."""

    id: UUID
    url: str
    types: Sequence[FeedEventType]
    event_id: int | None
    state: str
    since: datetime
    last_error: str | None
    failing_since: datetime | None
    created_at: datetime
    position: int

    @property
    def cursor(self) -> str | None:
        """The position as a cursor of the feed."""
        return f"{self.position:x}" if self.position else None


@dataclass(frozen=True, slots=True)
class Shown:
    """A delivery, as its receiver's owner sees it."""

    message_id: str
    type: str
    attempt: int
    at: datetime
    status: int | None
    error: str | None
    milliseconds: int


class WebhookRepository:
    """Makes, changes and shows webhooks."""

    def __init__(self, engine: AsyncEngine, facts: FactRepository, seals: Seals) -> None:
        """Work on `engine`. Secrets are sealed by `seals`."""
        self._engine = engine
        self._facts = facts
        self._seals = seals

    async def make(
        self, user_id: UUID, asked: Asked, origin: Origin, keyed: KeyedRequest | None = None
    ) -> tuple[Webhook, str]:
        """Make a webhook for what happens from now on. Return it with its secret.

        Raises TooManyWebhooks, or UserNotFound if the account was deleted. With `keyed`, also
        raises what `once` raises.
        """
        secret = new_secret()
        position = await self._facts.last()
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            if not await OWNER.fetch(connection, user=user_id):
                raise UserNotFound
            (count,) = await COUNT.fetch(connection, user=user_id)
            if count["count"] >= MAX_WEBHOOKS:
                raise TooManyWebhooks
            (row,) = await MAKE.fetch(
                connection,
                id=uuid7(),
                user=user_id,
                event=asked.event_id,
                url=asked.url,
                types=asked.types and [str(each) for each in asked.types],
                secret=self._seals.seal(secret.encode()),
                position=position,
                **origin._asdict(),
            )
            made = _webhook(row), secret
            await keep(made)
        logs.log.info("webhook.created", webhookId=row["id"], userId=user_id)
        return made

    async def of_user(self, user_id: UUID, *, before: int | None, limit: int) -> Page[Webhook]:
        """Return the person's webhooks, newest first, only those with a `seq` below `before`."""
        async with driver(self._engine) as connection:
            rows = await OF_USER.fetch(connection, user=user_id, before=before, limit=limit + 1)
        return page(rows, limit, _webhook)

    async def get(self, user_id: UUID, webhook_id: UUID) -> Webhook:
        """Return one of the person's webhooks. Raises WebhookNotFound."""
        async with driver(self._engine) as connection:
            return _webhook(await _one(connection, GET, user_id, webhook_id))

    async def undelivered(self, user_id: UUID, webhook_id: UUID) -> tuple[Webhook, int]:
        """Return one of the person's webhooks, and how many events it has not got.

        At most COUNTED of those that it was not tried with are counted. Raises WebhookNotFound.
        """
        async with driver(self._engine) as connection:
            row = await _one(connection, GET, user_id, webhook_id)
            (aside,) = await ASIDE.fetch(connection, id=webhook_id)
        of = await self._facts.visible(user_id, row["event_id"])
        new = await self._facts.count(of, after=row["position"], limit=COUNTED, types=row["types"])
        return _webhook(row), aside["count"] + new

    async def change(
        self,
        user_id: UUID,
        webhook_id: UUID,
        changes: Changes,
        origin: Origin,
    ) -> Webhook:
        """Change it, and try at once what has failed. Raises WebhookNotFound."""
        async with driver(self._engine) as connection, connection.transaction():
            now = await _one(connection, HOLD, user_id, webhook_id)
            wanted = None if changes.all_types else (changes.types or now["types"])
            (row,) = await CHANGE.fetch(
                connection,
                id=webhook_id,
                url=changes.url or now["url"],
                types=wanted and [str(each) for each in wanted],
                state=changes.state or now["state"],
                **origin._asdict(),
            )
            await TRY_ALL.fetch(connection, id=webhook_id)
        logs.log.info("webhook.changed", webhookId=webhook_id, userId=user_id, state=row["state"])
        return _webhook(row)

    async def delete(self, user_id: UUID, webhook_id: UUID, origin: Origin) -> None:
        """Delete one of the person's webhooks. Raises WebhookNotFound."""
        async with driver(self._engine) as connection:
            rows = await DELETE.fetch(connection, id=webhook_id, user=user_id, **origin._asdict())
        if not rows:
            raise WebhookNotFound
        logs.log.info("webhook.deleted", webhookId=webhook_id, userId=user_id)

    async def depart(self, user_id: UUID) -> None:
        """Delete the webhooks of a deleted account."""
        async with driver(self._engine) as connection:
            await DEPART.fetch(connection, user=user_id)

    async def rotate(
        self,
        user_id: UUID,
        webhook_id: UUID,
        origin: Origin,
        keyed: KeyedRequest | None = None,
    ) -> tuple[Webhook, str]:
        """Give the webhook another secret. The one of before signs too for OVERLAP hours.

        Raises WebhookNotFound. With `keyed`, also raises what `once` raises.
        """
        secret = new_secret()
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            rows = await ROTATE.fetch(
                connection,
                id=webhook_id,
                user=user_id,
                secret=self._seals.seal(secret.encode()),
                **origin._asdict(),
            )
            if not rows:
                raise WebhookNotFound
            rotated = _webhook(rows[0]), secret
            await keep(rotated)
        logs.log.info("webhook.secret_rotated", webhookId=webhook_id, userId=user_id)
        return rotated

    async def replay(
        self, user_id: UUID, webhook_id: UUID, position: int, origin: Origin
    ) -> Webhook:
        """Deliver again what happened after this number. Raises WebhookNotFound."""
        async with driver(self._engine) as connection, connection.transaction():
            await _one(connection, HOLD, user_id, webhook_id)
            (row,) = await REPLAY.fetch(
                connection, id=webhook_id, position=position, **origin._asdict()
            )
        logs.log.info("webhook.replayed", webhookId=webhook_id, userId=user_id)
        return _webhook(row)

    async def deliveries(self, user_id: UUID, webhook_id: UUID) -> Sequence[Shown]:
        """Return the last deliveries of the webhook, newest first. Raises WebhookNotFound."""
        async with driver(self._engine) as connection:
            await _one(connection, GET, user_id, webhook_id)
            rows = await DELIVERIES.fetch(connection, id=webhook_id, limit=SHOWN)
        return [Shown(*(row[name] for name in Shown.__slots__)) for row in rows]

    async def with_secrets(self, user_id: UUID, webhook_id: UUID) -> tuple[Webhook, Sequence[str]]:
        """Return the webhook, and the secrets that sign. Raises WebhookNotFound."""
        async with driver(self._engine) as connection:
            row = await _one(connection, GET, user_id, webhook_id)
        return _webhook(row), opened(self._seals, row)

    async def tested(self, webhook_id: UUID, tried: Tried) -> None:
        """Show a test among the deliveries. It may be gone by now."""
        async with driver(self._engine) as connection, connection.transaction():
            await log(connection, webhook_id, [tried])


async def _one(
    connection: Driver, statement: Statement, user_id: UUID, webhook_id: UUID
) -> asyncpg.Record:
    rows = await statement.fetch(connection, id=webhook_id, user=user_id)
    if not rows:
        raise WebhookNotFound
    return rows[0]


def _webhook(row: asyncpg.Record) -> Webhook:
    return Webhook(
        row["id"],
        row["url"],
        [FeedEventType(each) for each in row["types"] or FeedEventType],
        row["event_id"],
        row["state"],
        row["since"],
        row["last_error"],
        row["failing_since"],
        row["created_at"],
        row["position"],
    )
