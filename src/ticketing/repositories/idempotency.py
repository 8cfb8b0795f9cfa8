"""Answers that are kept under their Idempotency-Key, in the transaction of what they tell of."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.database import Driver, Statement, driver
from ticketing.errors import IdempotencyKeyReused
from ticketing.idempotency import Answer, Intent, Replayed

CONSTRAINT: Final = "pk_idempotency_keys"
"""What refuses a second answer to one intention."""

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


async def find(
    connection: Driver, intents: Iterable[Intent]
) -> dict[tuple[UUID, str], Replayed | IdempotencyKeyReused]:
    """Return what was answered to those that were carried out, by owner and key."""
    asked = {(intent.owner, intent.key): intent.digest for intent in intents}
    rows = await FIND.fetch(
        connection, owners=[owner for owner, _ in asked], keys=[key for _, key in asked]
    )
    return {
        (row["owner"], row["key"]): Replayed(Answer(row["status"], row["body"], row["location"]))
        if row["digest"] == asked[row["owner"], row["key"]]
        else IdempotencyKeyReused()
        for row in rows
    }


async def keep(connection: Driver, intent: Intent, answer: Answer) -> None:
    """Keep the answer, in the transaction that is under way.

    Raises asyncpg.UniqueViolationError of CONSTRAINT if there is one already.
    """
    await KEEP.fetch(
        connection,
        owner=intent.owner,
        key=intent.key,
        digest=intent.digest,
        **answer._asdict(),
    )


async def clean(engine: AsyncEngine) -> None:
    """Forget the keys of more than a day ago."""
    async with driver(engine) as connection:
        await CLEAN.fetch(connection)
