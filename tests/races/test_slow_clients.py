"""A sale goes on while hundreds of clients send almost nothing."""

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.people import Person, Visitor
from tests.serving import PATIENCE, serving

SLOW = 500
BUYERS = 20
ROUNDS = 10

HEADER = b"GET /api/events HTTP/1.1\r\nHost: x\r\nX-Slow: "
BODY = (
    b"POST /api/events/book HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n"
)

pytestmark = pytest.mark.usefixtures("unmeasured")


async def dripping(url: httpx.URL, begun: bytes, all_there: asyncio.Barrier) -> bytes:
    """Send the start of a request, then a byte at intervals. Return the response."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    answer = asyncio.create_task(reader.read())
    with suppress(ConnectionError):
        writer.write(begun)
        await writer.drain()
        await all_there.wait()
        while not answer.done():
            writer.write(b" ")
            await writer.drain()
            await asyncio.wait([answer], timeout=0.5)
    writer.close()
    return await answer


async def test_a_sale_goes_on_among_500_slow_clients(kept_dir: Path) -> None:
    with serving(kept_dir, TICKETING_HEADER_TIMEOUT="10", TICKETING_BODY_TIMEOUT="10") as service:
        url = httpx.URL(service.url)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            visitor = Visitor(client)
            people = [await visitor.register() for _ in range(BUYERS)]
            events = [await people[0].organise(total=BUYERS) for _ in range(ROUNDS)]
            token = f"Authorization: Bearer {people[0].token}\r\n\r\n".encode()
            all_there = asyncio.Barrier(SLOW + 1)
            slow = [
                asyncio.create_task(dripping(url, begun, all_there))
                for begun in [HEADER, BODY[:-2] + token] * (SLOW // 2)
            ]
            async with asyncio.timeout(PATIENCE):
                await all_there.wait()
                assert await book_all(people, events[0]) == [201] * BUYERS
                # Later, a busy machine may have disconnected them all.
                assert not all(task.done() for task in slow)
                booked = [await book_all(people, event) for event in events[1:]]
                assert booked == [[201] * BUYERS] * (ROUNDS - 1)
                answers = await asyncio.gather(*slow)
            for answer in answers:
                assert b"408 Request Timeout" in answer
            for event in events:
                assert (await visitor.event(event))["availableTickets"] == 0


async def book_all(people: list[Person], event: int) -> list[int]:
    answers = await asyncio.gather(*(person.book(event) for person in people))
    return [answer.status_code for answer in answers]
