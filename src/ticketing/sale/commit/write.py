"""Writing a commit: one statement, which is one transaction and one round trip."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.statements import Driver, Statement
from ticketing.sale.commit.commit import Commit
from ticketing.sale.commit.parts import PARTS, Change, Part
from ticketing.sale.commit.settle import settle
from ticketing.sale.commit.shape import Shape
from ticketing.sale.inventory.model import Snapshot
from ticketing.sale.rows import snapshot

UNCERTAIN: Final = (
    OSError,  # TimeoutError is one
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalServerError,
)
"""After these a statement may have been committed, or still be."""


class NotAsReadError(Exception):
    """Somebody who does not swap the version has changed a booking: nothing was written."""


@cache
def parts_of(shape: Shape) -> Sequence[Part]:
    """Return the parts that a commit of this shape has."""
    return tuple(part for part in PARTS if part.is_in(shape))


@cache
def statement(shape: Shape) -> Statement:
    """Return the statement of this shape.

    It returns the inventory of each event whose swap was won, and the database's time.
    """
    parts = ", ".join(part.sql(shape) for part in parts_of(shape))
    found = f", {Change.FOUND}" if shape.changes else ""
    return Statement(f"WITH {parts} SELECT swapped.*, clock_timestamp() AS now{found} FROM swapped")  # noqa: S608


async def write(
    commit: Commit, connection: Driver, engine: AsyncEngine, clock: DatabaseClock
) -> Mapping[int, Snapshot | None]:
    """Write it, and return the events whose decision was good, with their inventories.

    None stands for one that is not known, because the connection was lost; then `engine` was asked
    what had become of the commit. Raises OutcomeUnknown if it did not say, and NotAsReadError, with
    nothing written, if a booking to be changed is no more what the decision rests on.
    """
    shape = commit.shape
    parameters: dict[str, object] = {}
    for part in parts_of(shape):
        parameters.update(part.parameters(commit, shape))
    try:
        try:
            rows = await statement(shape).fetch(connection, **parameters)
        except asyncpg.LockNotAvailableError:
            # Somebody holds one of the events for long: the others need not wait.
            if not shape.many:
                return {}
            rows = await statement(shape._replace(skip=True)).fetch(connection, **parameters)
    except asyncpg.DivisionByZeroError as error:
        raise NotAsReadError from error
    except UNCERTAIN:
        connection.lose()
        return dict.fromkeys(await settle(engine, commit.id))
    if rows:
        clock.learn(rows[0]["now"])
    return {row["id"]: snapshot(row) for row in rows}
