"""The codes of events: made in bulk, changed, listed and exported.

Commits change the counters of codes: see `sale.commit.parts`. A decision rests on codes as they
were read at an event's version, so a change of a code increases the version.
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.facts import Origin, recorded
from ticketing.db.pages import Page, page
from ticketing.db.statements import Driver, Statement, driver
from ticketing.errors import (
    CodeNotFound,
    CodeRedeemed,
    CodeTaken,
    CodeUnknown,
    EventNotFound,
    TicketTypeNotFound,
    TooManyCodes,
    ValidationFailed,
)
from ticketing.ops import logs
from ticketing.sale.details import failure
from ticketing.sale.folding import folded_code
from ticketing.sale.inventory.codes import Code, CodeKind, DiscountPer, usable
from ticketing.sale.rows import code
from ticketing.web.keyed import KeyedRequest
from ticketing.web.repositories.stored_responses import once

MAX_CODES: Final = 100_000
"""How many codes an event may have."""
ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Letters and digits that people do not confuse."""
SYMBOLS: Final = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))
"""The symbol of each random byte. All symbols have equally many bytes."""
EXPORTED_AT_ONCE: Final = 200

# Taken first, as commits do. The next statements see what was committed before.
LOCK: Final = Statement("SELECT id FROM events WHERE id = :event FOR NO KEY UPDATE")
COUNT: Final = Statement("SELECT count(*) AS codes FROM codes WHERE event_id = :event")
KNOWN_TYPES: Final = Statement(
    """
    SELECT count(*) AS known FROM ticket_types
    WHERE event_id = :event AND id = ANY(CAST(:types AS bigint[]))
    """
)
TAKEN: Final = Statement(
    """
    SELECT code FROM (
        SELECT * FROM codes WHERE folded = ANY(CAST(:folded AS text[])) OFFSET 0
    ) AS codes
    WHERE event_id = :event ORDER BY id LIMIT 1
    """
)
MAKE: Final = Statement(
    f"""
    WITH made AS (
        INSERT INTO codes (event_id, code, folded, kind, percent, amount, per, ticket_type_ids,
            starts_at, ends_at, max_uses, max_tickets)
        SELECT CAST(:event AS bigint), given.code, given.folded, :kind, :percent, :amount, :per,
            CAST(:ticket_type_ids AS bigint[]), CAST(:starts_at AS timestamptz),
            CAST(:ends_at AS timestamptz), :max_uses, :max_tickets
        FROM unnest(CAST(:codes AS text[]), CAST(:folded AS text[]))
            WITH ORDINALITY AS given(code, folded, place)
        ORDER BY given.place
        ON CONFLICT (event_id, folded) DO NOTHING
        RETURNING *
    ), counted AS (
        SELECT :event AS event_id, count(*) AS codes, min(id) AS first, max(id) AS last FROM made
        HAVING count(*) > 0
    ), {
        recorded(
            "'codes.created'",
            of="counted",
            event="event_id",
            details="jsonb_build_object('codes', codes, 'firstId', first, 'lastId', last)",
        )
    }
    SELECT * FROM made ORDER BY id
    """  # noqa: S608 - our own text
)
ONE: Final = Statement("SELECT * FROM codes WHERE id = :code AND event_id = :event")
CHANGE: Final = Statement(
    f"""
    WITH swapped AS (
        UPDATE events SET version = version + 1 WHERE id = :event RETURNING id
    ), changed AS (
        UPDATE codes SET starts_at = :starts_at, ends_at = :ends_at, max_uses = :max_uses,
            max_tickets = :max_tickets, active = :active
        FROM swapped WHERE codes.id = :code AND codes.event_id = swapped.id
        RETURNING codes.*
    ), {
        recorded(
            "'code.changed'",
            of="changed",
            event="event_id",
            details="jsonb_build_object('codeId', id, 'active', active)",
        )
    }
    SELECT * FROM changed
    """  # noqa: S608 - our own text
)
WAS_USED: Final = Statement("SELECT 1 FROM bookings WHERE code_id = CAST(:code AS bigint) LIMIT 1")
DELETE: Final = Statement(
    f"""
    WITH swapped AS (
        UPDATE events SET version = version + 1 WHERE id = :event RETURNING id
    ), gone AS (
        DELETE FROM codes USING swapped
        WHERE codes.id = :code AND codes.event_id = swapped.id RETURNING codes.id, event_id
    ), {
        recorded(
            "'code.deleted'",
            of="gone",
            event="event_id",
            details="jsonb_build_object('codeId', id)",
        )
    }
    SELECT id FROM gone
    """  # noqa: S608 - our own text
)
LIST: Final = Statement(
    """
    SELECT *, id AS seq FROM codes
    WHERE event_id = :event AND id > coalesce(CAST(:after AS bigint), 0)
        AND coalesce(active = CAST(:active AS boolean), true)
    ORDER BY id LIMIT :limit
    """
)
FIND: Final = Statement(
    """
    SELECT codes.*, clock_timestamp() AS now
    FROM (SELECT * FROM codes WHERE folded = :folded OFFSET 0) AS codes
    WHERE event_id = :event
    """
)


class EventCode(NamedTuple):
    """A code as it was given, when it was made, and what it does."""

    text: str
    created_at: datetime
    does: Code


@dataclass(frozen=True, slots=True)
class NewCodes:
    """Codes to make. All do the same. `codes` are given, or `count` are drawn."""

    kind: CodeKind
    codes: Sequence[str] = ()
    count: int = 0
    prefix: str = ""
    length: int = 10
    percent: int | None = None
    amount: int | None = None
    per: DiscountPer = DiscountPer.TICKET
    ticket_type_ids: Sequence[int] | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_uses: int | None = None
    max_tickets: int | None = None


class CodeRepository:
    """Makes, changes, lists and finds the codes of events."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def make(
        self, event_id: int, asked: NewCodes, origin: Origin, keyed: KeyedRequest | None = None
    ) -> Sequence[EventCode]:
        """Make all of these codes, or none. Return them in order.

        Raises EventNotFound, TicketTypeNotFound, TooManyCodes, CodeTaken. With `keyed`, also the
        errors of `once`.
        """
        async with once(self._engine, keyed) as (connection, keep), connection.transaction():
            if not await LOCK.fetch(connection, event=event_id):
                raise EventNotFound
            await _check_types(connection, event_id, asked.ticket_type_ids)
            (counted,) = await COUNT.fetch(connection, event=event_id)
            if counted["codes"] + (asked.count or len(asked.codes)) > MAX_CODES:
                raise TooManyCodes
            if asked.codes:
                made = await _given(connection, event_id, asked, origin)
            else:
                made = await _drawn(connection, event_id, asked, origin)
            await keep(made)
        logs.log.info("codes.created", eventId=event_id, codes=len(made))
        return made

    async def change(
        self, event_id: int, code_id: int, changes: Mapping[str, Any], origin: Origin
    ) -> EventCode:
        """Change the limits, the times, or whether the code is active. Holds are not ended.

        Raises CodeNotFound, EventNotFound, ValidationFailed.
        """
        async with driver(self._engine) as connection, connection.transaction():
            before = await _locked(connection, event_id, code_id)
            names = ("starts_at", "ends_at", "max_uses", "max_tickets", "active")
            now = {name: getattr(before.does, name) for name in names} | dict(changes)
            if now["starts_at"] and now["ends_at"] and now["starts_at"] >= now["ends_at"]:
                raise ends_early()
            (row,) = await CHANGE.fetch(
                connection, event=event_id, code=code_id, **now, **origin._asdict()
            )
        logs.log.info("code.changed", eventId=event_id, codeId=code_id)
        return _event_code(row)

    async def delete(self, event_id: int, code_id: int, origin: Origin) -> None:
        """Delete a code that was never used. Raises CodeNotFound, CodeRedeemed, EventNotFound."""
        async with driver(self._engine) as connection, connection.transaction():
            await _locked(connection, event_id, code_id)
            if await WAS_USED.fetch(connection, code=code_id):
                raise CodeRedeemed
            await DELETE.fetch(connection, event=event_id, code=code_id, **origin._asdict())
        logs.log.info("code.deleted", eventId=event_id, codeId=code_id)

    async def get(self, event_id: int, code_id: int) -> EventCode:
        """Return the event's code with this id. Raises CodeNotFound."""
        async with driver(self._engine) as connection:
            return await _one(connection, event_id, code_id)

    async def list(
        self,
        event_id: int,
        *,
        active: bool | None = None,
        text: str | None = None,
        after: int | None,
        limit: int,
    ) -> Page[EventCode]:
        """Return the event's codes with ids above `after`, oldest first; only `text` if given."""
        async with driver(self._engine) as connection:
            if text is not None:
                found = await FIND.fetch(connection, event=event_id, folded=folded_code(text))
                codes = [_event_code(row) for row in found if active in {None, row["active"]}]
                return Page(codes, None)
            rows = await LIST.fetch(
                connection, event=event_id, after=after, active=active, limit=limit + 1
            )
        return page(rows, limit, _event_code)

    async def every(self, event_id: int) -> AsyncIterator[Sequence[EventCode]]:
        """Yield all codes of the event in pages, each as it is when it is read."""
        after: int | None = None
        while True:
            found = await self.list(event_id, after=after, limit=EXPORTED_AT_ONCE)
            yield found.items
            after = found.next_after
            if after is None:
                return

    async def find(self, event_id: int, text: str) -> Code:
        """Return the event's code that is written so. Raises the errors of `usable`."""
        async with driver(self._engine) as connection:
            rows = await FIND.fetch(connection, event=event_id, folded=folded_code(text))
        if not rows:
            raise CodeUnknown
        return usable(code(rows[0]), rows[0]["now"])


def ends_early() -> ValidationFailed:
    """Return the error for a code that would end before it starts."""
    message = "`endsAt` must be later than `startsAt`"
    return ValidationFailed(errors=[failure("#/endsAt", "ends_early", message)])


async def _check_types(connection: Driver, event_id: int, types: Sequence[int] | None) -> None:
    if types is not None:
        (row,) = await KNOWN_TYPES.fetch(connection, event=event_id, types=types)
        if row["known"] < len(types):
            raise TicketTypeNotFound


async def _given(
    connection: Driver, event_id: int, asked: NewCodes, origin: Origin
) -> Sequence[EventCode]:
    folded = [folded_code(each) for each in asked.codes]
    taken = await TAKEN.fetch(connection, event=event_id, folded=folded)
    if taken:
        raise CodeTaken(taken[0]["code"])
    return await _make(connection, event_id, asked, asked.codes, origin)


async def _drawn(
    connection: Driver, event_id: int, asked: NewCodes, origin: Origin
) -> Sequence[EventCode]:
    """Make codes that nobody can guess. One that the event has already is drawn again."""
    made: list[EventCode] = []
    while len(made) < asked.count:
        drawn: dict[str, None] = {}
        while len(drawn) < asked.count - len(made):
            letters = secrets.token_bytes(asked.length).translate(SYMBOLS).decode()
            drawn[f"{asked.prefix}{letters}"] = None
        made += await _make(connection, event_id, asked, list(drawn), origin)
    return made


async def _make(
    connection: Driver, event_id: int, asked: NewCodes, codes: Sequence[str], origin: Origin
) -> Sequence[EventCode]:
    columns = asdict(asked)
    for name in ("codes", "count", "prefix", "length"):
        del columns[name]
    rows = await MAKE.fetch(
        connection,
        event=event_id,
        codes=codes,
        folded=[folded_code(each) for each in codes],
        **columns,
        **origin._asdict(),
    )
    return [_event_code(row) for row in rows]


async def _locked(connection: Driver, event_id: int, code_id: int) -> EventCode:
    """Lock the event, and return its code."""
    if not await LOCK.fetch(connection, event=event_id):
        raise EventNotFound
    return await _one(connection, event_id, code_id)


async def _one(connection: Driver, event_id: int, code_id: int) -> EventCode:
    rows = await ONE.fetch(connection, code=code_id, event=event_id)
    if not rows:
        raise CodeNotFound
    return _event_code(rows[0])


def _event_code(row: asyncpg.Record) -> EventCode:
    return EventCode(row["code"], row["created_at"], code(row))
