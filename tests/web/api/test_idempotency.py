"""A request is done once, however often it is sent."""

import asyncio
import hashlib

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import Visitor
from ticketing.web.repositories import stored_responses

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


async def count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        found = await connection.execute(text(f"SELECT count(*) FROM {table}"))
        return int(found.scalar_one())


async def test_a_resent_booking_gets_the_same_response(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await ada.organise(total=2)
    first = await ada.book(event, key=KEY)
    again = await ada.book(event, key=KEY)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    # Also if the booking was cancelled since: the request is that of before.
    await ada.cancel(event)
    late = await ada.book(event, key=KEY)
    assert (late.status_code, late.content) == (201, first.content)
    assert await count(engine, "bookings") == 1
    assert (await ada.get(f"/api/events/{event}")).json()["availableTickets"] == 2


async def test_every_version_stores_the_same_digest_of_a_request(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    await ada.book(event, key=KEY)
    asked = f"BookTicket(event_id={event}, user_id=UUID('{ada.id}'))"
    async with engine.connect() as connection:
        kept = await connection.scalar(text("SELECT digest FROM idempotency_keys"))
    assert kept == hashlib.sha256(asked.encode()).digest()


async def test_resent_waiting_and_cancelling_get_the_same_responses(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await ada.organise(total=1)
    await ada.book(event)
    waiting = [await bob.book(event, key="wait") for _ in range(2)]
    assert [answer.status_code for answer in waiting] == [202, 202]
    assert waiting[0].content == waiting[1].content
    cancelled = [await ada.cancel(event, key="cancel") for _ in range(2)]
    assert [answer.json()["promoted"] for answer in cancelled] == [1, 1]
    assert cancelled[1].headers["Idempotency-Replayed"] == "true"
    assert (await ada.cancel(event)).json()["promoted"] == 0


async def test_an_event_is_made_once(visitor: Visitor, engine: AsyncEngine) -> None:
    ada = await visitor.register()
    body = {"name": "A concert", "totalTickets": 1}
    first, again = [await ada.post("/api/events/initialize", body, key=KEY) for _ in range(2)]
    assert first.content == again.content
    assert first.headers["Location"] == again.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await count(engine, "events") == 1


async def test_a_key_is_for_one_request_only(visitor: Visitor, engine: AsyncEngine) -> None:
    ada = await visitor.register()
    first, second = await ada.organise(total=1), await ada.organise(total=1)
    await ada.book(first, key=KEY)
    reused = "idempotency_key_reused"
    assert_problem(await ada.book(second, key=KEY), 422, reused)
    assert_problem(await ada.cancel(first, key=KEY), 422, reused)
    body = {"name": "A concert", "totalTickets": 1}
    assert_problem(await ada.post("/api/events/initialize", body, key=KEY), 422, reused)
    assert (await ada.get(f"/api/events/{second}")).json()["availableTickets"] == 1
    assert (await ada.get(f"/api/events/{first}")).json()["availableTickets"] == 0
    assert await count(engine, "events") == 2


async def test_each_person_has_separate_keys(visitor: Visitor) -> None:
    ada, bob = await visitor.register(), await visitor.register()
    event = await ada.organise(total=2)
    answers = [await person.book(event, key=KEY) for person in (ada, bob)]
    assert [answer.json()["userId"] for answer in answers] == [ada.id, bob.id]


async def test_one_of_many_equal_requests_at_once_is_done(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await ada.organise(total=30)
    answers = await asyncio.gather(*(ada.book(event, key=KEY) for _ in range(20)))
    (booked,) = {answer.content for answer in answers if answer.status_code == 201}
    for answer in answers:
        if answer.status_code != 201:
            assert_problem(answer, 409, "request_in_progress")
            assert answer.headers["Retry-After"] == "1"
    assert (await ada.book(event, key=KEY)).content == booked
    assert await count(engine, "bookings") == 1


async def test_a_refused_request_may_be_tried_again(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise(total=1)
    await ada.book(event)
    assert_problem(await ada.book(event, key=KEY), 409, "already_booked")
    await ada.cancel(event)
    answer = await ada.book(event, key=KEY)
    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer.headers


async def test_a_key_may_come_as_a_structured_field(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise(total=1)
    await ada.book(event, key=KEY)
    again = await ada.book(event, key=f'"{KEY}"')
    assert again.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("key", ["", " ", '""', '"open', "two words", "x" * 256, "caf\xe9"])
async def test_an_invalid_key_is_refused_and_changes_nothing(
    visitor: Visitor, engine: AsyncEngine, key: str
) -> None:
    ada = await visitor.register()
    event = await ada.organise(total=1)
    headers = httpx.Headers(ada.headers | {"Idempotency-Key": key}, encoding="latin-1")
    body = {"eventId": event, "userId": ada.id}
    answer = await ada.client.post("/api/events/book", headers=headers, json=body)
    assert_problem(answer, 400, "invalid_idempotency_key")
    assert await count(engine, "bookings") == 0


async def test_stored_responses_are_deleted_after_a_day(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await ada.organise(total=1)
    await ada.book(event, key="old")
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second'")
        )
    await ada.cancel(event, key="fresh")
    await stored_responses.clean(engine)
    async with engine.connect() as connection:
        keys = await connection.execute(text("SELECT key FROM idempotency_keys"))
        assert keys.scalars().all() == ["fresh"]


async def test_a_cancel_that_changed_nothing_cancels_nothing_when_it_is_resent(
    visitor: Visitor,
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    await ada.book(event)
    await ada.cancel(event)
    first = await ada.cancel(event, key="late")
    assert (first.status_code, first.json()["promoted"]) == (200, 0)
    booked = await ada.book(event)
    again = await ada.cancel(event, key="late")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    (standing, *_) = (await ada.get("/api/users/me/bookings")).json()["items"]
    assert (standing["id"], standing["status"]) == (booked.json()["id"], "booked")
