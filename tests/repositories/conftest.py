from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing import database
from ticketing.repositories.bookings import BookingRepository


@pytest.fixture
async def bookings(engine: AsyncEngine) -> AsyncIterator[BookingRepository]:
    repository = BookingRepository(engine)
    yield repository
    await repository.close()


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[BookingRepository]:
    """The same repository in what might be another process: nothing is shared but the rows."""
    engine = database.connect(database_url, pool_size=4)
    repository = BookingRepository(engine)
    yield repository
    await repository.close()
    await engine.dispose()
