"""A person whose rows bad input must leave as they are, and a limit of the time that it takes."""

import time
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Person, Visitor
from ticketing.db.tables import Base

LONGEST = 1.0
"""Seconds that an answer may take."""


class Swift(httpx.AsyncBaseTransport):
    """Sends what took long again: slow is what is slow by itself, not what met a busy machine."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(3):
            started = time.perf_counter()
            answer = await self._transport.handle_async_request(request)
            if time.perf_counter() - started <= LONGEST:
                return answer
        raise AssertionError(f"{request.method} {request.url!s:.200} takes over {LONGEST} s")


@pytest.fixture
def _swift(client: httpx.AsyncClient) -> None:
    """No answer may take long."""
    client._transport = Swift(client._transport)


@pytest.fixture
async def ada(visitor: Visitor, engine: AsyncEngine) -> AsyncIterator[Person]:
    """Somebody with an event, a place and a place in a line, whose rows stay as they are."""
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise(total=1)
    await ada.book(event)
    await bob.book(event)
    before = await rows(engine)
    yield ada
    after = await rows(engine)
    assert {t: after[t] for t in after if after[t] != before[t]} == {}


# What commits that changed nothing leave, and the counts of limits, are no rows of anybody.
TABLES = sorted(set(Base.metadata.tables) - {"commits", "rates"})


async def rows(engine: AsyncEngine) -> dict[str, list[str]]:
    async with engine.connect() as connection:
        return {
            table: list(
                await connection.scalars(text(f"SELECT t::text FROM {table} AS t ORDER BY 1"))
            )
            for table in TABLES
        }
