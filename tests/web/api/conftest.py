"""A person whose rows bad input must not change, and a limit of the response time."""

import time
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Person, Visitor
from ticketing.db.tables import Base

LONGEST = 1.0
"""Seconds that a response may take."""


class Swift(httpx.AsyncBaseTransport):
    """Resends slow requests, because a busy machine may have slowed the first one."""

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
    """A client whose responses must be fast."""
    client._transport = Swift(client._transport)


@pytest.fixture
async def ada(visitor: Visitor, engine: AsyncEngine) -> AsyncIterator[Person]:
    """A person with an event, a place and a waiting position, whose rows must not change."""
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise(total=1)
    await ada.book(event)
    await bob.book(event)
    before = await rows(engine)
    yield ada
    after = await rows(engine)
    assert {t: after[t] for t in after if after[t] != before[t]} == {}


# Rows of commits without changes, and counts of limits, belong to nobody.
TABLES = sorted(set(Base.metadata.tables) - {"commits", "rates"})


async def rows(engine: AsyncEngine) -> dict[str, list[str]]:
    async with engine.connect() as connection:
        return {
            table: list(
                await connection.scalars(text(f"SELECT t::text FROM {table} AS t ORDER BY 1"))
            )
            for table in TABLES
        }
