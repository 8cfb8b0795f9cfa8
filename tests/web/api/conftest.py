"""A person whose rows bad input must not change, and a limit of the response time."""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.applications import calling, running, settings_of
from tests.databases import Databases
from tests.people import Person, Visitor
from ticketing.db.engine import connect
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


@dataclass
class Undisturbed:
    """An application that bad input must not change, and its rows as they are known."""

    ada: Person
    engine: AsyncEngine
    rows: dict[str, list[str]]


@pytest.fixture(scope="module")
def _shared_url(_databases: Databases) -> Iterator[str]:
    url = _databases.take()
    yield url
    _databases.give_back(url)


@pytest.fixture(scope="module")
async def shared_app(
    _shared_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[FastAPI]:
    """One application for all tests of a module, because none changes it."""
    async with running(settings_of(_shared_url, tmp_path_factory.mktemp("logs"))) as it:
        yield it


@pytest.fixture(scope="module")
async def _undisturbed(shared_app: FastAPI, _shared_url: str) -> AsyncIterator[Undisturbed]:
    """A person whose rows no test of the module changes. The responses must be fast."""
    engine = connect(_shared_url, pool_size=2)
    async with calling(shared_app) as client:
        client._transport = Swift(client._transport)
        ada, bob = [await Visitor(client).register() for _ in range(2)]
        event = await ada.organise(total=1)
        await ada.book(event)
        await bob.book(event)
        yield Undisturbed(ada, engine, await rows(engine))
    await engine.dispose()


@pytest.fixture
async def ada(_undisturbed: Undisturbed) -> AsyncIterator[Person]:
    """A person with an event, a place and a waiting position, whose rows must not change."""
    before = _undisturbed.rows
    yield _undisturbed.ada
    _undisturbed.rows = after = await rows(_undisturbed.engine)
    assert {t: after[t] for t in after if after[t] != before[t]} == {}


# Rows of commits without changes, and counts of limits, belong to nobody.
COUNTED = {"activity", "activity_cursor", "revenues", "reduced_tickets"}
"""Tables that a loop fills from the trail."""
TABLES = sorted(set(Base.metadata.tables) - {"commits", "rates"} - COUNTED)


async def rows(engine: AsyncEngine) -> dict[str, list[str]]:
    async with engine.connect() as connection:
        return {
            table: list(
                await connection.scalars(text(f"SELECT t::text FROM {table} AS t ORDER BY 1"))
            )
            for table in TABLES
        }
