"""What is to be delivered to webhooks, and what became of it.

The trail is the queue. A webhook has a position in it, and only what failed has a row of its own.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import COMMAND_LINE, recorded
from ticketing.db.statements import Driver, Statement, driver
from ticketing.feed.batches import Batch, Delivery, Hook, Result, Tried, delivery
from ticketing.feed.repositories.facts import FactRepository
from ticketing.feed.retrying import GIVEN_UP
from ticketing.web.seals import Seals

LEASE: Final = 15
"""Seconds after which another process delivers, if the one that began has died."""
RENEW: Final = 5.0
"""Seconds after which a process that lives renews its leases."""
AT_ONCE: Final = 200
"""Events of the feed that are read, and delivered, before the position is written."""
SET_ASIDE: Final = 1_000
"""Events of a webhook that wait for another try. At this number nothing new is tried."""
SHOWN: Final = 100
"""Deliveries of a webhook that are kept."""
KEPT: Final = 30
"""Days for which an event that was given up is kept."""

ANY_ACTIVE: Final = Statement(
    "SELECT EXISTS (SELECT FROM webhooks WHERE state = 'active') AS any",
    reads_tables="there are few webhooks, and most of them are active",
)
# One that has read everything rests until something happens at one of its events.
_NEWS: Final = """
    CAST(:any AS boolean) OR event_id = ANY(CAST(:events AS bigint[]))
    OR event_id IS NULL AND user_id IN (
        SELECT organiser_id FROM events WHERE id = ANY(CAST(:events AS bigint[]))
        UNION SELECT user_id FROM event_roles
        WHERE event_id = ANY(CAST(:events AS bigint[])) AND role = 'manager'
    )
"""
CLAIM: Final = Statement(
    f"""
    WITH wanted AS (
        SELECT id FROM webhooks
        WHERE state = 'active' AND (due_at <= now() OR rests AND ({_NEWS}))
            AND (id = ANY(CAST(:slow AS uuid[]))) = CAST(:is_slow AS boolean)
        ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE webhooks
    SET lease = gen_random_uuid(), rests = false,
        due_at = now() + make_interval(secs => {LEASE})
    FROM wanted WHERE webhooks.id = wanted.id RETURNING webhooks.*
    """,  # noqa: S608 - our own text
    reads_tables="there are few webhooks, and most of them are active",
)
# One whose row is locked is being served or changed, and is looked at again after that.
FALL_DUE: Final = Statement(
    f"""
    WITH wanted AS (
        SELECT id FROM webhooks WHERE state = 'active' AND rests AND ({_NEWS})
        FOR UPDATE SKIP LOCKED
    )
    UPDATE webhooks SET rests = false, due_at = now()
    FROM wanted WHERE webhooks.id = wanted.id
    """,  # noqa: S608 - our own text
    reads_tables="there are few webhooks, and most of them are active",
)
WAITING: Final = Statement(
    f"""
    SELECT *, next_at <= now() AS is_due,
        (SELECT event_id FROM audit_records WHERE seq = record) AS event_id
    FROM webhook_retries
    WHERE webhook_id = :webhook AND next_at IS NOT NULL ORDER BY record LIMIT {SET_ASIDE + AT_ONCE}
    """  # noqa: S608 - numbers of ours
)
# The lock makes this wait for a change of the webhook, which ends the lease.
HOLD: Final = Statement(
    "SELECT * FROM webhooks WHERE id = :webhook AND lease = CAST(:lease AS uuid) FOR UPDATE"
)
DONE: Final = Statement(
    """
    DELETE FROM webhook_retries
    WHERE webhook_id = :webhook AND record = ANY(CAST(:records AS bigint[]))
    """
)
ASIDE: Final = Statement(
    """
    INSERT INTO webhook_retries
        (webhook_id, record, about, type, body, tries, failing_since, next_at, last_error)
    SELECT :webhook, of.record, about, type, body, tries,
        CASE WHEN tries > 0 THEN now() END, now() + make_interval(secs => pause), error
    FROM unnest(
        CAST(:records AS bigint[]), CAST(:abouts AS text[]), CAST(:types AS text[]),
        CAST(:bodies AS bytea[]), CAST(:tries AS integer[]), CAST(:pauses AS float8[]),
        CAST(:errors AS text[])
    ) AS of(record, about, type, body, tries, pause, error)
    ON CONFLICT (webhook_id, record) DO UPDATE SET
        tries = excluded.tries,
        last_error = coalesce(excluded.last_error, webhook_retries.last_error),
        failing_since = coalesce(webhook_retries.failing_since, excluded.failing_since),
        next_at = CASE
            WHEN webhook_retries.failing_since < now() - make_interval(secs => :given_up) THEN NULL
            ELSE excluded.next_at
        END
    """
)
LOG: Final = Statement(
    """
    INSERT INTO webhook_deliveries
        (webhook_id, message_id, type, attempt, at, status, error, milliseconds)
    SELECT :webhook, message, type, attempt, at, status, error, milliseconds
    FROM unnest(
        CAST(:messages AS text[]), CAST(:types AS text[]), CAST(:tries AS integer[]),
        CAST(:ats AS timestamptz[]), CAST(:statuses AS integer[]), CAST(:errors AS text[]),
        CAST(:times AS integer[])
    ) WITH ORDINALITY AS of(message, type, attempt, at, status, error, milliseconds, place)
    ORDER BY place
    """
)
FORGET: Final = Statement(
    f"""
    DELETE FROM webhook_deliveries WHERE webhook_id = :webhook AND seq <= (
        SELECT seq FROM webhook_deliveries WHERE webhook_id = :webhook
        ORDER BY seq DESC OFFSET {SHOWN} LIMIT 1
    )
    """  # noqa: S608 - numbers of ours
)
TRY_ALL: Final = Statement(
    "UPDATE webhook_retries SET next_at = now() WHERE webhook_id = :webhook AND next_at > now()"
)
# `due_at` is the next try, or the end of the lease. It is disabled after three days of failures.
_ENDS: Final = """
    (:ends OR :failed AND NOT :delivered
        AND failing_since < now() - make_interval(secs => :given_up))
"""
SETTLE: Final = Statement(
    f"""
    WITH settled AS (
        UPDATE webhooks SET position = greatest(position, :position),
            tries = CASE WHEN :delivered THEN 0 WHEN :pauses THEN tries + 1 ELSE tries END,
            failing_since = CASE WHEN :delivered THEN NULL
                WHEN :failed THEN coalesce(failing_since, now()) ELSE failing_since END,
            last_error = CASE WHEN :delivered THEN last_error
                ELSE coalesce(CAST(:error AS text), last_error) END,
            state = CASE WHEN {_ENDS} THEN 'disabled' ELSE state END,
            since = CASE WHEN {_ENDS} THEN now() ELSE since END,
            lease = CASE WHEN :pauses OR {_ENDS} THEN NULL ELSE lease END,
            due_at = now() + make_interval(secs => :pause)
        WHERE id = :webhook RETURNING *
    ), ended AS (
        SELECT * FROM settled WHERE state = 'disabled'
    ), {
        recorded(
            "'webhook.disabled'",
            of="ended",
            subject="user_id",
            details="jsonb_build_object('webhookId', id, 'reason', last_error)",
        )
    }
    SELECT * FROM settled
    """  # noqa: S608 - our own text
)
RENEWED: Final = Statement(
    f"""
    UPDATE webhooks SET due_at = now() + make_interval(secs => {LEASE})
    WHERE id = ANY(CAST(:webhooks AS uuid[])) AND lease = ANY(CAST(:leases AS uuid[]))
    """  # noqa: S608 - numbers of ours
)
REST: Final = Statement(
    """
    UPDATE webhooks SET position = greatest(position, :position), lease = NULL, rests = true,
        due_at = coalesce(
            (
                -- Those behind the first about the same thing wait for it.
                SELECT min(next_at) FROM (
                    SELECT DISTINCT ON (about) next_at FROM webhook_retries
                    WHERE webhook_id = :webhook AND next_at IS NOT NULL ORDER BY about, record
                ) AS first
            ), 'infinity'
        )
    WHERE id = :webhook AND lease = CAST(:lease AS uuid)
    """
)
WAKE: Final = Statement("UPDATE webhooks SET due_at = now() WHERE id = :webhook AND rests")
RELEASE: Final = Statement(
    """
    UPDATE webhooks SET lease = NULL, due_at = now()
    WHERE id = ANY(CAST(:webhooks AS uuid[])) AND lease = ANY(CAST(:leases AS uuid[]))
    """
)
CLEAN: Final = Statement(
    f"""
    DELETE FROM webhook_retries
    WHERE next_at IS NULL AND failing_since < now() - make_interval(days => {KEPT})
    """,  # noqa: S608 - numbers of ours
    reads_tables="only what failed has a row",
)
# Those of accounts that were deleted while this part was unavailable.
LEFT: Final = Statement(
    """
    DELETE FROM webhooks USING users
    WHERE users.id = webhooks.user_id AND users.password_hash IS NULL
    """,
    reads_tables="there are few webhooks",
)
BACKLOG: Final = Statement(
    """
    SELECT
        (SELECT count(*) FROM webhook_retries WHERE next_at IS NOT NULL) AS aside,
        (
            SELECT coalesce(max((SELECT max(seq) FROM audit_records) - position), 0)
            FROM webhooks WHERE state = 'active' AND NOT rests
        ) AS behind
    """,
    reads_tables="only what failed has a row, and there are few webhooks",
)


class DeliveryRepository:
    """Says what to deliver, and records what became of it."""

    def __init__(self, engine: AsyncEngine, facts: FactRepository, seals: Seals) -> None:
        """Work on `engine`. Secrets are opened by `seals`."""
        self._engine = engine
        self._facts = facts
        self._seals = seals

    async def any_active(self) -> bool:
        """Whether there is a webhook that is not disabled."""
        async with driver(self._engine) as connection:
            (row,) = await ANY_ACTIVE.fetch(connection)
        return bool(row["any"])

    async def claim(
        self,
        events: frozenset[int] | None,
        slow: Collection[UUID],
        *,
        is_slow: bool,
        limit: int,
    ) -> Sequence[Hook]:
        """Take webhooks that are due, or rest although there is something new at these events.

        None: there may be something new at any. Only those in `slow` are taken with `is_slow`, and
        only others without. Nobody else delivers to them meanwhile.
        """
        if not limit or (is_slow and not slow):
            return []
        async with driver(self._engine) as connection:
            rows = await CLAIM.fetch(
                connection, **_news(events), slow=list(slow), is_slow=is_slow, limit=limit
            )
        return [self._hook(row) for row in rows]

    async def fall_due(self, events: frozenset[int] | None) -> None:
        """Make those that rest due now, because all places are taken."""
        if events is None or events:
            async with driver(self._engine) as connection:
                await FALL_DUE.fetch(connection, **_news(events))

    async def batch(self, hook: Hook, limit: int = AT_ONCE) -> Batch:
        """Return what to deliver next, `limit` of those set aside and as many new ones.

        A webhook that fails gets one to try.
        """
        async with driver(self._engine) as connection:
            rows = await WAITING.fetch(connection, webhook=hook.id)
        if rows:
            rows = await self._still_visible(hook, rows)
        due, blocked = _due(rows, limit)
        if hook.is_paused:
            due = _probe(rows)
        if len(rows) >= SET_ASIDE:
            return Batch(due, (), hook.position)
        new, position = await self._facts.of_person(
            hook.user_id,
            hook.event_id,
            after=hook.position,
            limit=1 if hook.is_paused else limit,
            types=hook.types,
        )
        made = [delivery(fact) for fact in new]
        return Batch(
            [*due, *(each for each in made if each.about not in blocked)],
            [each for each in made if each.about in blocked],
            position,
        )

    async def _still_visible(
        self, hook: Hook, rows: Sequence[asyncpg.Record]
    ) -> list[asyncpg.Record]:
        """Return what the person may still see of what was set aside, and drop the rest."""
        events = await self._facts.visible(hook.user_id, hook.event_id)
        hidden = [row["record"] for row in rows if row["event_id"] not in events]
        if hidden:
            async with driver(self._engine) as connection:
                await DONE.fetch(connection, webhook=hook.id, records=hidden)
        return [row for row in rows if row["event_id"] in events]

    async def note(self, hook: Hook, result: Result) -> tuple[Hook | None, str | None]:
        """Record the result of a batch. Return the webhook if there may be more, and its state.

        It is None after a pause begins. It is also None, with nothing written, if somebody has
        changed the webhook, or has the lease: then the state is None too.
        """
        pauses = result.pause is not None
        async with driver(self._engine) as connection, connection.transaction():
            if not await HOLD.fetch(connection, webhook=hook.id, lease=hook.lease):
                return None, None
            await _note(connection, hook, result)
            (row,) = await SETTLE.fetch(
                connection,
                webhook=hook.id,
                position=result.position,
                delivered=result.delivered,
                failed=result.error is not None,
                error=result.error,
                pauses=pauses,
                pause=LEASE if result.pause is None else result.pause,
                ends=result.ends,
                given_up=GIVEN_UP.total_seconds(),
                **COMMAND_LINE._asdict(),
            )
            if hook.is_paused and result.delivered:
                await TRY_ALL.fetch(connection, webhook=hook.id)
        goes_on = row["state"] == "active" and not pauses
        return self._hook(row) if goes_on else None, row["state"]

    async def rest(self, hook: Hook, position: int) -> None:
        """Release a webhook to which everything was delivered that is due."""
        async with driver(self._engine) as connection:
            await REST.fetch(connection, webhook=hook.id, lease=hook.lease, position=position)

    async def wake(self, hook: Hook) -> None:
        """Have the webhook served again, because something new was seen while it was released."""
        async with driver(self._engine) as connection:
            await WAKE.fetch(connection, webhook=hook.id)

    async def renew(self, hooks: Collection[Hook]) -> None:
        """Keep these webhooks, because this process still delivers to them."""
        async with driver(self._engine) as connection:
            await RENEWED.fetch(connection, **_leases(hooks))

    async def release(self, hooks: Collection[Hook]) -> None:
        """Release webhooks, because this process stops."""
        async with driver(self._engine) as connection:
            await RELEASE.fetch(connection, **_leases(hooks))

    async def clean(self) -> None:
        """Remove what was given up long ago, and the webhooks of deleted accounts."""
        async with driver(self._engine) as connection:
            await CLEAN.fetch(connection)
            await LEFT.fetch(connection)

    async def backlog(self) -> tuple[int, int]:
        """Return how many events wait for another try, and how far the slowest webhook is behind.

        The second is in numbers of trail records, of which not all concern the webhook.
        """
        async with driver(self._engine) as connection:
            (row,) = await BACKLOG.fetch(connection)
        return row["aside"], row["behind"]

    def _hook(self, row: asyncpg.Record) -> Hook:
        return Hook(
            row["id"],
            row["user_id"],
            row["event_id"],
            row["url"],
            row["types"],
            opened(self._seals, row),
            row["position"],
            row["lease"],
            row["tries"],
            row["failing_since"],
        )


def _news(events: frozenset[int] | None) -> dict[str, object]:
    return {"events": list(events or ()), "any": events is None}


def _leases(hooks: Collection[Hook]) -> dict[str, object]:
    return {
        "webhooks": [each.id for each in hooks],
        "leases": [each.lease for each in hooks],
    }


def opened(seals: Seals, row: asyncpg.Record) -> Sequence[str]:
    """Return the secrets that sign, the newest first. Those that can't be read are missing."""
    sealed = [row["secret"]]
    if row["previous_until"] is not None and row["previous_until"] > datetime.now(UTC):
        sealed.append(row["previous_secret"])
    return [found.decode() for each in sealed if (found := seals.open(each)) is not None]


def _delivery(row: asyncpg.Record) -> Delivery:
    return Delivery(row["record"], row["about"], row["type"], row["body"], row["tries"], True)  # noqa: FBT003


def _due(rows: Sequence[asyncpg.Record], limit: int) -> tuple[Sequence[Delivery], frozenset[str]]:
    """Return what is due again, and the things of which something else has to come first."""
    first: dict[str, bool] = {}
    for row in rows:
        first.setdefault(row["about"], row["is_due"])
    due = [_delivery(row) for row in rows if first[row["about"]]]
    later = {about for about, is_due in first.items() if not is_due}
    return due[:limit], frozenset(later.union(each.about for each in due[limit:]))


def _probe(rows: Sequence[asyncpg.Record]) -> Sequence[Delivery]:
    """Return the first about some thing that was tried least, so that none blocks all others."""
    first: dict[str, asyncpg.Record] = {}
    for row in rows:
        first.setdefault(row["about"], row)
    return [_delivery(row) for row in sorted(first.values(), key=itemgetter("tries"))[:1]]


async def _note(connection: Driver, hook: Hook, result: Result) -> None:
    tried, aside = result.tried, result.aside
    done = [each.delivery.record for each in tried if each.is_delivered and each.delivery.is_aside]
    errors = {each.delivery.record: each.error or f"HTTP {each.status}" for each in tried}
    if done:
        await DONE.fetch(connection, webhook=hook.id, records=done)
    if aside:
        rows: list[tuple[Any, ...]] = [
            (*each[:4], each.tries, pause, errors.get(each.record)) for each, pause in aside
        ]
        names = ("records", "abouts", "types", "bodies", "tries", "pauses", "errors")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        await ASIDE.fetch(connection, webhook=hook.id, given_up=GIVEN_UP.total_seconds(), **columns)
    if tried:
        await log(connection, hook.id, tried)


async def log(connection: Driver, webhook_id: UUID, tried: Sequence[Tried]) -> None:
    """Keep the last of these tries among the deliveries of the webhook."""
    last = tried[-SHOWN:]
    await LOG.fetch(
        connection,
        webhook=webhook_id,
        messages=[each.message_id for each in last],
        types=[each.delivery.type for each in last],
        tries=[each.delivery.tries + 1 for each in last],
        ats=[each.at for each in last],
        statuses=[each.status for each in last],
        errors=[each.error for each in last],
        times=[each.milliseconds for each in last],
    )
    await FORGET.fetch(connection, webhook=webhook_id)
