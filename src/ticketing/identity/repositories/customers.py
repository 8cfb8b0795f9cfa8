"""Customers: people who are known to an organiser's own system, and have no account here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.combiner import RETRY, Combiner, Retry
from ticketing.db.facts import BY_COLUMNS, Origin, recorded
from ticketing.db.ids import uuid7
from ticketing.db.pages import Page, page
from ticketing.db.statements import Driver, Statement, driver, whole
from ticketing.errors import Busy, CustomerNotFound, LoginExists, TicketingError
from ticketing.identity.credentials import digest, new_token
from ticketing.identity.repositories.password_tokens import PUT_TOKEN, PasswordToken
from ticketing.ops import logs
from ticketing.ops.progress import Tell
from ticketing.web.keyed import KeyedRequest, Replayed
from ticketing.web.repositories import stored_responses
from ticketing.web.repositories.stored_responses import once

IMPORTED_AT_ONCE: Final = 500
COLUMNS: Final = """
    seq, user_id, organiser_id, external_id, name, email, created_at,
    EXISTS (
        SELECT FROM users WHERE users.id = user_id AND password_hash IS NOT NULL OFFSET 0
    ) AS has_login
"""
FIND: Final = Statement(
    """
    SELECT known.user_id, known.organiser_id, known.external_id, known.name, known.email
    FROM unnest(CAST(:organisers AS uuid[]), CAST(:external_ids AS text[]))
        AS asked(organiser_id, external_id)
    CROSS JOIN LATERAL (
        SELECT * FROM customers WHERE customers.external_id = asked.external_id OFFSET 0
    ) AS known
    WHERE known.organiser_id = asked.organiser_id
    """
)
_GIVEN: Final = """
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:organisers AS uuid[]), CAST(:external_ids AS text[]),
        CAST(:names AS text[]), CAST(:emails AS text[]), CAST(:actors AS uuid[]),
        CAST(:credentials AS uuid[]), CAST(:addresses AS text[]), CAST(:request_ids AS text[])
    ) AS given(
        id, organiser_id, external_id, name, email, actor, credential, address, request_id
    )
"""
# Sorted, so that two workers that make the same customers can't deadlock. A customer whom another
# worker is making is waited for, and then not returned.
MAKE: Final = Statement(
    f"""
    WITH given AS ({_GIVEN}), made AS (
        INSERT INTO customers (user_id, organiser_id, external_id, name, email)
        SELECT id, organiser_id, external_id, name, email FROM given
        ORDER BY organiser_id, external_id
        ON CONFLICT (organiser_id, external_id) DO NOTHING
        RETURNING user_id
    ), people AS (
        INSERT INTO users (id) SELECT user_id FROM made
    ), new AS (
        SELECT given.* FROM given JOIN made ON made.user_id = given.id
    ), {recorded("'customer.made'", of="new", subject="id", by=BY_COLUMNS)}
    SELECT user_id FROM made
    """  # noqa: S608 - our own text
)
# Locked in one order, so that two workers can't deadlock.
CHANGE: Final = Statement(
    f"""
    WITH given AS ({_GIVEN}), held AS (
        SELECT user_id FROM customers WHERE user_id = ANY(CAST(:ids AS uuid[]))
        ORDER BY user_id FOR NO KEY UPDATE
    ), changed AS (
        UPDATE customers SET
            name = coalesce(given.name, customers.name),
            email = coalesce(given.email, customers.email)
        FROM given
        WHERE customers.user_id = ANY(ARRAY(SELECT user_id FROM held))
            AND customers.user_id = given.id
        RETURNING given.*
    ), {recorded("'customer.changed'", of="changed", subject="id", by=BY_COLUMNS)}
    SELECT id FROM changed
    """  # noqa: S608 - our own text
)
GET: Final = Statement(
    f"SELECT {COLUMNS} FROM customers WHERE user_id = :customer"  # noqa: S608 - our own text
)
OF_ORGANISER: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM customers
    WHERE organiser_id = :organiser
        AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit
    """  # noqa: S608 - our own text
)
BY_EXTERNAL_ID: Final = Statement(
    f"""
    SELECT {COLUMNS} FROM (
        SELECT * FROM customers WHERE external_id = :external_id OFFSET 0
    ) AS customers
    WHERE organiser_id = :organiser
        AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
    """  # noqa: S608 - our own text
)
UPDATE: Final = Statement(
    f"""
    WITH changed AS (
        UPDATE customers SET
            name = CASE WHEN CAST(:names AS boolean) THEN CAST(:name AS text) ELSE name END,
            email = CASE WHEN CAST(:emails AS boolean) THEN CAST(:email AS text) ELSE email END
        WHERE user_id = :customer
        RETURNING *
    ), {recorded("'customer.changed'", of="changed", subject="user_id")}
    SELECT {COLUMNS} FROM changed
    """  # noqa: S608 - our own text
)
# The person is locked first, as by everything that deletes an account or gives it a login.
# Without a login, the person becomes like a deleted account: see `users.DELETE`.
ERASE: Final = Statement(
    f"""
    WITH held AS (
        SELECT id, username FROM users WHERE id = :customer FOR NO KEY UPDATE
    ), erased AS (
        DELETE FROM customers WHERE user_id = (SELECT id FROM held) RETURNING user_id
    ), closed AS (
        UPDATE users SET username = '~' || substr(replace(CAST(id AS text), '-', ''), 4)
        WHERE id = (SELECT user_id FROM erased) AND username IS NULL
        RETURNING id
    ), departed AS (
        INSERT INTO departures (user_id, waiting)
        SELECT id, ARRAY(
            -- OFFSET makes every plan look up the rows by user.
            SELECT id FROM (
                SELECT id, status FROM bookings WHERE user_id = CAST(:customer AS uuid) OFFSET 0
            ) AS mine WHERE status IN ('waiting', 'held', 'offered')
        )
        FROM closed
    ), discarded AS (
        DELETE FROM password_tokens WHERE user_id = (SELECT id FROM closed)
    ), {recorded("'customer.erased'", of="erased", subject="user_id")}
    SELECT user_id, EXISTS (SELECT FROM closed) AS is_gone FROM erased
    """  # noqa: S608 - our own text
)
# The lock makes this, an erasure and the use of an earlier token wait for each other.
WITHOUT_LOGIN: Final = Statement(
    "SELECT id FROM users WHERE id = :customer AND username IS NULL FOR NO KEY UPDATE"
)


class Customer(NamedTuple):
    """A customer. The fields are the columns of GET without `seq`."""

    id: UUID
    organiser_id: UUID
    external_id: str
    name: str | None
    email: str | None
    created_at: datetime
    has_login: bool


class Asked(NamedTuple):
    """A customer to find or to make. None leaves the name or the e-mail address as it is."""

    organiser_id: UUID
    external_id: str
    name: str | None
    email: str | None
    origin: Origin
    keyed: KeyedRequest | None = None

    @property
    def key(self) -> "Key":
        """The organiser and the external id, which identify the customer."""
        return self.organiser_id, self.external_id


Key: TypeAlias = tuple[UUID, str]


class Imported(NamedTuple):
    """How many were new, changed, and as they were."""

    new: int
    changed: int
    unchanged: int


class Found(NamedTuple):
    """Customers that were found or made."""

    ids: dict[Key, UUID]
    made: dict[UUID, Asked]
    changed: dict[UUID, Asked]

    def add(self, more: "Found") -> None:
        """Have these too."""
        self.ids.update(more.ids)
        self.made.update(more.made)
        self.changed.update(more.changed)

    def tell(self) -> None:
        """Log which were made or changed, after the commit."""
        _tell("customer.made", self.made)
        _tell("customer.changed", self.changed)


class CustomerRepository:
    """Reads and writes `customers`, and the people behind them in `users`."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine
        self._asked = Combiner[Asked, UUID](self._find_or_make, name="customers")
        self.sample = self._asked.sample

    async def close(self) -> None:
        """Finish the queued requests and refuse new ones."""
        await self._asked.close()

    async def find_or_make(self, asked: Asked) -> UUID:
        """Return the id of the customer, who is made if there is none with this external id.

        Requests that arrive during a round trip share the next one, because a shop books a
        thousand new customers at once. Nothing is remembered, so that nobody is booked as an erased
        customer. Raises Busy. With `keyed`, and if there is no such customer, also raises the
        stored response: a late resend must not make a customer again who was erased since.
        """
        return await self._asked.submit(asked)

    async def import_all(self, asked: Sequence[Asked], tell: Tell, *, keep: bool) -> Imported:
        """Find or make these customers, all of them or none. Their keys must differ.

        Without `keep` nothing stays. It is one transaction: bookings for a customer that it has
        made or changed wait for its end, and may get Busy.
        """
        found = Found({}, {}, {})
        async with driver(self._engine) as connection, whole(connection, keep=keep):
            for start in range(0, len(asked), IMPORTED_AT_ONCE):
                tell(f"{start:,} of {len(asked):,}")
                found.add(await find_or_make(connection, asked[start : start + IMPORTED_AT_ONCE]))
        if keep:
            found.tell()
        new, changed = len(found.made), len(found.changed)
        return Imported(new, changed, len(asked) - new - changed)

    async def find(self, organiser_id: UUID, external_id: str) -> Customer | None:
        """Return the organiser's customer with this external id."""
        found = await self.of_organiser(organiser_id, external_id=external_id, before=None, limit=1)
        return found.items[0] if found.items else None

    async def get(self, customer_id: UUID) -> Customer:
        """Return the customer. Raises CustomerNotFound."""
        async with driver(self._engine) as connection:
            rows = await GET.fetch(connection, customer=customer_id)
        if not rows:
            raise CustomerNotFound
        return _customer(rows[0])

    async def of_organiser(
        self, organiser_id: UUID, *, external_id: str | None, before: int | None, limit: int
    ) -> Page[Customer]:
        """Return the organiser's customers, newest first, only those with a `seq` below `before`.

        With `external_id`, return only the one who has it.
        """
        wanted = {"organiser": organiser_id, "before": before}
        async with driver(self._engine) as connection:
            if external_id is None:
                rows = await OF_ORGANISER.fetch(connection, **wanted, limit=limit + 1)
            else:
                rows = await BY_EXTERNAL_ID.fetch(connection, **wanted, external_id=external_id)
        return page(rows, limit, _customer)

    async def update(
        self, customer_id: UUID, changes: Mapping[str, str | None], origin: Origin
    ) -> Customer:
        """Change the `name` and the `email` that are in `changes`. Raises CustomerNotFound."""
        async with driver(self._engine) as connection:
            rows = await UPDATE.fetch(
                connection,
                customer=customer_id,
                names="name" in changes,
                name=changes.get("name"),
                emails="email" in changes,
                email=changes.get("email"),
                **origin._asdict(),
            )
        if not rows:
            raise CustomerNotFound
        logs.log.info("customer.changed", userId=customer_id)
        return _customer(rows[0])

    async def erase(self, customer_id: UUID, origin: Origin) -> bool:
        """Erase all that is known of the customer. Bookings stay.

        Return whether the person is gone too, because they have no login. Nobody can book for them
        any more. Raises CustomerNotFound.
        """
        async with driver(self._engine) as connection:
            rows = await ERASE.fetch(connection, customer=customer_id, **origin._asdict())
        if not rows:
            raise CustomerNotFound
        logs.log.info("customer.erased", userId=customer_id)
        return bool(rows[0]["is_gone"])

    async def make_login_token(
        self, customer_id: UUID, origin: Origin, keyed: KeyedRequest | None = None
    ) -> PasswordToken:
        """Make a token with which the customer registers. It replaces an earlier one.

        Raises CustomerNotFound or LoginExists. With `keyed`, also raises what `once` raises.
        """
        token = new_token()
        async with (
            once(self._engine, keyed) as (connection, keep),
            connection.transaction(),
        ):
            is_free = await WITHOUT_LOGIN.fetch(connection, customer=customer_id)
            # A separate statement, because it sees an erasure that was waited for.
            if not await GET.fetch(connection, customer=customer_id):
                raise CustomerNotFound
            if not is_free:
                raise LoginExists
            (row,) = await PUT_TOKEN.fetch(
                connection, user=customer_id, hash=digest(token), **origin._asdict()
            )
            made = PasswordToken(token, row["expires_at"])
            await keep(made)
        logs.log.info("user.password_token_made", userId=customer_id)
        return made

    async def _find_or_make(self, asked: Sequence[Asked]) -> Sequence[UUID | Exception | Retry]:
        async with driver(self._engine) as connection:
            known = await _known(connection, {each.key for each in asked})
            replays = await _replays(connection, [each for each in asked if each.key not in known])
            wanted = _merged(
                each
                for each in asked
                if each.keyed is None or (each.keyed.owner, each.keyed.key) not in replays
            )
            new = [each for key, each in wanted.items() if key not in known]
            found = {key: row["user_id"] for key, row in known.items()}
            made = await _make(connection, new)
            _tell("customer.made", made)
            found |= {each.key: customer_id for customer_id, each in made.items()}
            changes = [(known[k], wanted[k]) for k in wanted if k in known]
            _tell("customer.changed", await _change(connection, changes))
        # Another worker has made those that are still missing.
        return [
            found.get(each.key)
            or (replays.get((each.keyed.owner, each.keyed.key)) if each.keyed else None)
            or RETRY
            for each in asked
        ]


async def find_known(connection: Driver, keys: Collection[Key]) -> Mapping[Key, UUID]:
    """Return the ids of the customers that exist."""
    known = await _known(connection, keys) if keys else {}
    return {key: row["user_id"] for key, row in known.items()}


async def find_or_make(connection: Driver, asked: Sequence[Asked]) -> Found:
    """Find or make these customers in the connection's transaction. Their keys must differ.

    Raises Busy if another request makes and erases one of them meanwhile.
    """
    wanted = {each.key: each for each in asked}
    if not wanted:
        return Found({}, {}, {})
    known = await _known(connection, wanted)
    new = [wanted[key] for key in wanted.keys() - known.keys()]
    made = await _make(connection, new)
    changed = await _change(connection, [(row, wanted[key]) for key, row in known.items()])
    ids = {key: row["user_id"] for key, row in known.items()}
    ids |= {each.key: customer_id for customer_id, each in made.items()}
    # Another transaction has made those that are still missing.
    ids |= await find_known(connection, wanted.keys() - ids.keys())
    if len(ids) < len(wanted):
        raise Busy
    return Found(ids, made, changed)


def _merged(asked: Iterable[Asked]) -> dict[Key, Asked]:
    """Return one request for each customer, with what was given last."""
    merged: dict[Key, Asked] = {}
    for each in asked:
        before = merged.get(each.key, each)
        merged[each.key] = each._replace(
            name=each.name or before.name, email=each.email or before.email
        )
    return merged


async def _known(connection: Driver, keys: Iterable[Key]) -> dict[Key, asyncpg.Record]:
    organisers, external_ids = zip(*keys, strict=True)
    rows = await FIND.fetch(connection, organisers=organisers, external_ids=external_ids)
    return {(row["organiser_id"], row["external_id"]): row for row in rows}


async def _replays(
    connection: Driver, asked: Iterable[Asked]
) -> dict[tuple[UUID, str], Replayed | TicketingError]:
    keyed = [each.keyed for each in asked if each.keyed is not None]
    return await stored_responses.find(connection, keyed) if keyed else {}


async def _make(connection: Driver, new: Sequence[Asked]) -> dict[UUID, Asked]:
    """Make these customers, and return those who were not made by another worker, by id."""
    if not new:
        return {}
    ids = {uuid7(): each for each in new}
    rows = await MAKE.fetch(connection, **_columns(ids))
    return {row["user_id"]: ids[row["user_id"]] for row in rows}


async def _change(
    connection: Driver, asked: Iterable[tuple[asyncpg.Record, Asked]]
) -> dict[UUID, Asked]:
    """Write the names and the e-mail addresses that differ, and return those changes by id."""
    changed = {
        row["user_id"]: each
        for row, each in asked
        if each.name not in {None, row["name"]} or each.email not in {None, row["email"]}
    }
    if not changed:
        return {}
    rows = await CHANGE.fetch(connection, **_columns(changed))
    return {row["id"]: changed[row["id"]] for row in rows}


def _columns(by_id: Mapping[UUID, Asked]) -> dict[str, object]:
    origins = [each.origin for each in by_id.values()]
    return {
        "ids": list(by_id),
        "organisers": [each.organiser_id for each in by_id.values()],
        "external_ids": [each.external_id for each in by_id.values()],
        "names": [each.name for each in by_id.values()],
        "emails": [each.email for each in by_id.values()],
        "actors": [each.actor for each in origins],
        "credentials": [each.credential for each in origins],
        "addresses": [each.address for each in origins],
        "request_ids": [each.request_id for each in origins],
    }


def _tell(fact: str, by_id: Mapping[UUID, Asked]) -> None:
    for customer_id, each in by_id.items():
        logs.info(fact, {"userId": customer_id, "requestId": each.origin.request_id})


def _customer(row: asyncpg.Record) -> Customer:
    return Customer(*(row[name] for name in ("user_id", *Customer._fields[1:])))
