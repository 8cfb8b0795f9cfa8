"""Writing a commit: one statement, one transaction, one round trip."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.clock import DatabaseClock
from ticketing.db.statements import Driver, Statement
from ticketing.sale.commit.commit import Commit
from ticketing.sale.commit.parts import PARTS, Part
from ticketing.sale.commit.settle import settle
from ticketing.sale.commit.shape import Shape
from ticketing.sale.inventory.model import Snapshot
from ticketing.sale.rows import after

UNCERTAIN: Final = (
    OSError,  # TimeoutError is one
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalServerError,
)
"""Errors after which the statement may have been committed, or may still be."""


class NotAsReadError(Exception):
    """A booking was changed without a swap of the version. Nothing was written."""


@cache
def parts_of(shape: Shape) -> Sequence[Part]:
    """Return the parts of a commit of this shape."""
    return tuple(part for part in PARTS if part.is_in(shape))


@cache
def statement(shape: Shape) -> Statement:
    """Return the statement of this shape.

    Its rows are the inventory of each event whose swap was won, with the database's time.
    """
    parts = parts_of(shape)
    tables = ", ".join(part.sql(shape) for part in parts)
    columns = ["swapped.*", "clock_timestamp() AS now"]
    columns += [found for part in parts if (found := part.found(shape))]
    return Statement(f"WITH {tables} SELECT {', '.join(columns)} FROM swapped")  # noqa: S608 - our own text


async def write(
    commit: Commit, connection: Driver, engine: AsyncEngine, clock: DatabaseClock
) -> Mapping[int, Snapshot | None]:
    """Write the commit. Return the events whose decision was valid, with their inventories.

    If the connection is lost, `engine` is asked for the result, and the inventories are None.
    Raises OutcomeUnknown if it does not respond. Raises NotAsReadError, with nothing written, if a
    booking to change is not as it was read.
    """
    shape = commit.shape
    parameters: dict[str, object] = {}
    for part in parts_of(shape):
        parameters.update(part.parameters(commit, shape))
    try:
        try:
            rows = await statement(shape).fetch(connection, **parameters)
        except asyncpg.LockNotAvailableError:
            # Another transaction locks one of the events for long. The other events need not wait.
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
    before = {each.before.event_id: each.before for each in commit.decisions}
    return {row["id"]: after(before[row["id"]], row) for row in rows}
