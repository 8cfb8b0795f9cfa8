"""Responses stored under their Idempotency-Key, in the transaction of the change."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from typing import Final, TypeAlias
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import CONFIRM, Driver, Statement, driver
from ticketing.errors import RequestInProgress, TicketingError
from ticketing.web.keyed import KeyedRequest, Rendered, Replayed

CONSTRAINT: Final = "pk_idempotency_keys"
"""The constraint that refuses a second response to one keyed request."""

# PostgreSQL releases it at the end of the transaction, also if the client dies.
CLAIM: Final = Statement("SELECT pg_try_advisory_xact_lock(:lock) AS is_ours")
FIND: Final = Statement(
    """
    SELECT kept.owner, kept.key, digest, status, location, body
    FROM unnest(CAST(:owners AS uuid[]), CAST(:keys AS text[])) AS asked(owner, key)
    CROSS JOIN LATERAL (
        SELECT * FROM idempotency_keys AS kept
        WHERE kept.owner = asked.owner AND kept.key = asked.key LIMIT 1
    ) AS kept
    """
)
KEEP: Final = Statement(
    """
    INSERT INTO idempotency_keys (owner, key, digest, status, location, body)
    VALUES (:owner, :key, :digest, :status, :location, :body)
    """
)
CLEAN: Final = Statement(
    "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(hours => 24)"
)

Keep: TypeAlias = Callable[[object], Awaitable[None]]
"""Stores the response to an outcome, in the transaction that is under way."""


async def find(
    connection: Driver, requests: Iterable[KeyedRequest]
) -> dict[tuple[UUID, str], Replayed | TicketingError]:
    """Return the stored responses of those requests that have one, by owner and key.

    They are as durable as any other, unless a transaction is under way that is rolled back.
    """
    asked = {(each.owner, each.key): each for each in requests}
    rows = await FIND.fetch(
        connection, owners=[owner for owner, _ in asked], keys=[key for _, key in asked]
    )
    if rows:
        await CONFIRM.fetch(connection)
    return {
        (row["owner"], row["key"]): asked[row["owner"], row["key"]].replayed(
            row["digest"], Rendered(row["status"], row["body"], row["location"])
        )
        for row in rows
    }


async def recall(engine: AsyncEngine, request: KeyedRequest) -> Replayed | TicketingError | None:
    """Return the stored response, or None if the request was not carried out before."""
    async with driver(engine) as connection:
        return await _found(connection, request)


@asynccontextmanager
async def once(
    engine: AsyncEngine, request: KeyedRequest | None
) -> AsyncIterator[tuple[Driver, Keep]]:
    """Yield a connection for the request, and a function that stores its response.

    Without a keyed request there is no transaction, and nothing is stored. Raises RequestInProgress
    if the request is under way elsewhere; Replayed, IdempotencyKeyReused or AnswerLost if it was
    carried out before.
    """
    async with driver(engine) as connection:
        if request is None:
            yield connection, _keep_nothing
            return
        try:
            async with connection.transaction():
                (claim,) = await CLAIM.fetch(connection, lock=_lock(request))
                if not claim["is_ours"]:
                    raise RequestInProgress
                # A separate statement, so that it sees everything that was committed before the
                # lock.
                if (found := await _found(connection, request)) is not None:
                    raise found
                yield connection, partial(_keep, connection, request)
        except Replayed:
            await CONFIRM.fetch(connection)
            raise
        except asyncpg.UniqueViolationError as error:
            # A booking with the same key, which takes no lock.
            if error.constraint_name != CONSTRAINT:
                raise
            raise (await _found(connection, request) or RequestInProgress()) from None


async def _found(connection: Driver, request: KeyedRequest) -> Replayed | TicketingError | None:
    return (await find(connection, [request])).get((request.owner, request.key))


def _lock(request: KeyedRequest) -> int:
    named = request.owner.bytes + request.key.encode()
    return int.from_bytes(blake2b(named, digest_size=8).digest(), signed=True)


async def _keep(connection: Driver, request: KeyedRequest, outcome: object) -> None:
    response = request.render(outcome)
    digest, body = request.hidden(response.body)
    await KEEP.fetch(
        connection,
        owner=request.owner,
        key=request.key,
        digest=digest,
        status=response.status,
        location=response.location,
        body=body,
    )


async def _keep_nothing(_: object) -> None:
    pass


async def clean(engine: AsyncEngine) -> None:
    """Remove keys that are older than a day."""
    async with driver(engine) as connection:
        await CLEAN.fetch(connection)
