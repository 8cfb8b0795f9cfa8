"""Finding the result of a commit whose connection was lost before it was confirmed."""

import asyncio
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import CONFIRM, Statement, driver
from ticketing.errors import OutcomeUnknown, Unavailable

PATIENCE: Final = 10.0
"""Seconds within which the database must be reachable again."""
PAUSE: Final = 0.1

# Every commit writes its own id. This statement writes the same id, and the first of the two wins.
# So a backend that hangs before it reads the commit's statement can't execute it later.
GIVE_UP: Final = Statement(
    "INSERT INTO commits (id) VALUES (:commit) ON CONFLICT (id) DO NOTHING RETURNING id"
)
WON: Final = Statement("SELECT events FROM commits WHERE id = :commit")

# The ids begin with the time (RFC 9562). After an hour no worker looks for them.
CLEAN: Final = Statement(
    """
    DELETE FROM commits WHERE id < CAST(
        lpad(to_hex(CAST(extract(epoch FROM now() - make_interval(hours => 1)) * 1000 AS bigint)),
            12, '0') || '00000000000000000000' AS uuid
    )
    """
)


async def settle(engine: AsyncEngine, commit: object) -> set[int]:
    """Return the events that the commit has written. From then on it can't write any more.

    Raises OutcomeUnknown if the database does not respond within PATIENCE.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with driver(engine) as connection:
                        if await GIVE_UP.fetch(connection, commit=commit):
                            return set()
                        (row,) = await WON.fetch(connection, commit=commit)
                        # The commit may have lost its connection while it waited for a standby.
                        await CONFIRM.fetch(connection)
                        return set(row["events"])
                except Unavailable:
                    await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise OutcomeUnknown from None


async def clean(engine: AsyncEngine) -> None:
    """Delete the ids of commits that are older than an hour."""
    async with driver(engine) as connection:
        await CLEAN.fetch(connection)
