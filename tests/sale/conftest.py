from collections.abc import AsyncIterator

import pytest
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.engine import connect
from ticketing.db.statements import Driver, Statement
from ticketing.sale.repositories.bookings import BookingRepository


@pytest.fixture
async def bookings(engine: AsyncEngine) -> AsyncIterator[BookingRepository]:
    repository = BookingRepository(engine)
    yield repository
    await repository.close()


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[BookingRepository]:
    """The same repository as in another process: only the rows are shared."""
    engine = connect(database_url, pool_size=4)
    repository = BookingRepository(engine)
    yield repository
    await repository.close()
    await engine.dispose()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are sent."""
    statements: list[str] = []
    fetch = Statement.fetch

    async def note(self: Statement, connection: Driver, **parameters: object) -> list[Record]:
        statements.append(self.sql)
        return await fetch(self, connection, **parameters)

    monkeypatch.setattr(Statement, "fetch", note)
    return statements
