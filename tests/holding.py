"""Holds and offers, as a test makes and ends them."""

from collections.abc import Sequence
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Person, Visitor
from tests.sales import EUR

PRICED = {"ticketTypes": [{"name": "Seat", "price": EUR}]}


OFFERS = {"waitingList": {"mode": "offer", "offerMinutes": 30}}


async def hold(person: Person, event: int, **more: object) -> httpx.Response:
    return await person.post("/api/holds", {"eventId": event} | more)


async def held(person: Person, event: int, **more: object) -> dict[str, Any]:
    made = await hold(person, event, **more)
    assert made.status_code == 201, made.text
    document: dict[str, Any] = made.json()
    assert document["status"] == "held"
    return document


async def confirm(person: Person, booking: str, **more: object) -> httpx.Response:
    return await person.post(f"/api/holds/{booking}/confirm", more)


async def end(engine: AsyncEngine, *bookings: str) -> None:
    """Let the time of holds be over, without anybody having looked at them."""
    async with engine.begin() as connection:
        for booking in bookings:
            await connection.execute(
                text(
                    """
                    WITH ended AS (
                        UPDATE bookings SET expires_at = now() - interval '1 second'
                        WHERE id = :booking RETURNING event_id
                    )
                    UPDATE events SET next_expiry = now() - interval '1 second',
                        version = version + 1
                    FROM ended WHERE events.id = ended.event_id
                    """
                ),
                {"booking": booking},
            )


async def status(person: Person, booking: str) -> str:
    found = await person.get(f"/api/bookings/{booking}")
    assert found.status_code == 200, found.text
    return str(found.json()["status"])


async def people(visitor: Visitor, count: int) -> Sequence[Person]:
    return [await visitor.register() for _ in range(count)]
