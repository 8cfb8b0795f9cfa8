"""The keys that sign codes: all workers share them, and they are replaced with an overlap."""

import asyncio
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.door import codes
from ticketing.door.codes import Claims
from ticketing.door.repositories.keys import KeyRepository, Keys
from ticketing.web.seals import Seals

SECRET = "s" * 40


def workers(engine: AsyncEngine, count: int) -> list[KeyRepository]:
    return [KeyRepository(engine, Seals(SECRET)) for _ in range(count)]


def signed(keys: Keys) -> str:
    return codes.write(Claims(keys.signing_id, 1, uuid4(), 1), keys.signing)


async def test_workers_that_start_at_once_make_one_key(engine: AsyncEngine) -> None:
    found = await asyncio.gather(*[each.current() for each in workers(engine, 5)])
    assert {each.signing_id for each in found} == {1}
    assert codes.read(signed(found[0]), found[4].public) is not None


async def test_a_new_key_verifies_before_it_signs_and_the_old_one_verifies_on(
    engine: AsyncEngine,
) -> None:
    (first,) = workers(engine, 1)
    before = await first.current()
    made = await first.rotate(15)
    assert (made.id, made.signs) == (2, False)
    (second,) = workers(engine, 1)
    between = await second.current()
    assert (between.signing_id, set(between.public)) == (1, {1, 2})
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE ticket_keys SET signs_from = now() WHERE id = 2"))
    (third,) = workers(engine, 1)
    after = await third.current()
    assert after.signing_id == 2
    assert [(each.id, each.signs) for each in await third.every()] == [(2, True), (1, False)]
    assert codes.read(signed(before), after.public) is not None
    # Who read the keys in between verifies what is signed now.
    assert codes.read(signed(after), between.public) is not None
    assert await third.retire(1)
    assert not await third.retire(1)
    (fourth,) = workers(engine, 1)
    assert codes.read(signed(before), (await fourth.current()).public) is None


async def test_no_key_gets_the_id_of_one_that_was_retired(engine: AsyncEngine) -> None:
    (first,) = workers(engine, 1)
    before = await first.current()
    assert await first.retire(before.signing_id)
    assert not await first.retire(before.signing_id)
    (second,) = workers(engine, 1)
    after = await second.current()
    assert (after.signing_id, set(after.public)) == (2, {2})
    assert [each.id for each in await second.every()] == [2]
    # A verifier that has read the keys before does not take the new code for a forged one.
    assert after.signing_id not in before.public


async def test_the_database_alone_signs_nothing_and_a_new_secret_gets_a_new_key(
    engine: AsyncEngine,
) -> None:
    (known,) = workers(engine, 1)
    before = await known.current()
    async with engine.begin() as connection:
        stored = (await connection.execute(text("SELECT sealed FROM ticket_keys"))).scalar_one()
    assert before.signing.private_bytes_raw() not in bytes(stored)
    other = await KeyRepository(engine, Seals("t" * 40)).current()
    assert other.signing_id == 2
    assert codes.read(signed(before), other.public) is not None
    kept = await KeyRepository(engine, Seals("u" * 40, ["t" * 40])).current()
    assert kept.signing_id == 2
