from collections.abc import AsyncIterator

import pytest

from ticketing.db.engine import connect
from ticketing.sale.repositories.bookings import BookingRepository


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[BookingRepository]:
    """The same repository as in another process: only the rows are shared."""
    engine = connect(database_url, pool_size=4)
    repository = BookingRepository(engine)
    yield repository
    await repository.close()
    await engine.dispose()
