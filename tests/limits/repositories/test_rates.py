"""Counts that several machines share. Each has its own memory."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.limits.cells import Cells
from ticketing.limits.meter import SECOND, Meter
from ticketing.limits.repositories.rates import RateRepository
from ticketing.settings import RateLimit

KEY = 4711


class Machine:
    """A machine that counts how often something is done."""

    def __init__(self, engine: AsyncEngine, limit: RateLimit) -> None:
        cells = Cells()
        self.shared = RateRepository(engine, cells)
        self.meter = Meter("things", limit, cells, self.shared.pending)

    def take(self, times: int) -> int:
        """Try several times, and return how often it was allowed."""
        return sum(self.meter.take(KEY) >= 0 for _ in range(times))


async def test_machines_learn_what_others_counted(engine: AsyncEngine) -> None:
    one, other = (Machine(engine, RateLimit(10, 1000)) for _ in range(2))
    assert (one.take(6), other.take(3)) == (6, 3)
    await one.shared.exchange()
    await other.shared.exchange()
    assert other.take(5) == 1
    await other.shared.exchange()
    await one.shared.exchange()
    # It has read nothing, because it did nothing meanwhile. Its next try reads the count.
    assert one.take(1) == 1
    await one.shared.exchange()
    assert one.take(5) == 0
    assert not one.shared.pending


async def test_only_time_gives_back_what_was_counted(engine: AsyncEngine) -> None:
    # The next comes back after a second, in which a busy machine exchanges once.
    machine = Machine(engine, RateLimit(2, 2))
    assert machine.take(9) == 2
    await machine.shared.exchange()
    await machine.shared.exchange()
    await asyncio.sleep(2.05)
    assert machine.take(9) == 2
    await machine.shared.exchange()
    assert machine.take(9) == 0


async def test_several_numbers_are_changed_as_one(engine: AsyncEngine) -> None:
    machines = [Machine(engine, RateLimit(1, 1)) for _ in range(2)]

    def one_more(numbers: Sequence[int], now: int) -> tuple[Sequence[int], int]:
        assert now > 1_700_000_000 * SECOND
        return [number + 1 for number in numbers], numbers[0]

    orders = ([3, 1, 2], [2, 3, 1])
    seen = await asyncio.gather(
        *(machines[turn % 2].shared.change(orders[turn % 2], one_more) for turn in range(20))
    )
    assert sorted(seen) == list(range(20))


async def test_numbers_that_ended_are_removed(engine: AsyncEngine) -> None:
    machine = Machine(engine, RateLimit(1, 1000))
    machine.take(1)
    await machine.shared.exchange()
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO rates (key, until) VALUES (1, 0), (2, 1)"))
    await machine.shared.clean()
    async with engine.begin() as connection:
        kept = (await connection.execute(text("SELECT count(*) FROM rates"))).scalar_one()
        persistence = (
            await connection.execute(
                text("SELECT relpersistence FROM pg_class WHERE relname = 'rates'")
            )
        ).scalar_one()
    assert kept == 1
    assert persistence in {"u", b"u"}
