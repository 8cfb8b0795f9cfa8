"""Events with tickets, and the people who hold them."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.people import Person, Visitor


@dataclass
class Gala:
    """An event with two ticket types, and its owner."""

    owner: Person
    event: int
    types: list[int]
    visitor: Visitor

    @classmethod
    async def open(cls, visitor: Visitor, capacity: int = 100, **more: object) -> "Gala":
        owner = await visitor.register()
        types = [{"name": "Hall"}, {"name": "Lounge"}]
        body = {"name": "A gala", "capacity": capacity, "ticketTypes": types} | more
        made = await owner.post("/api/events", body)
        assert made.status_code == 201, made.text
        return cls(owner, made.json()["id"], [t["id"] for t in made.json()["ticketTypes"]], visitor)

    async def sell(self, to: Person | None = None, places: int = 1, kind: int = 0) -> list[str]:
        """Book, and return the ids of the tickets."""
        person = to or await self.visitor.register()
        lines = [{"ticketTypeId": self.types[kind], "quantity": places}]
        body = {"eventId": self.event, "userId": person.id, "lines": lines}
        made = await self.owner.post("/api/events/book", body)
        assert made.status_code == 201, made.text
        return await self.tickets(made.json()["id"])

    async def tickets(self, booking: str) -> list[str]:
        listed = await self.owner.get(f"/api/bookings/{booking}/tickets")
        return [each["id"] for each in listed.json()["items"]]

    async def ticket(self, ticket: str) -> dict[str, Any]:
        """Return the ticket as the owner of the event sees it."""
        found = await self.owner.get(f"/api/tickets/{ticket}")
        assert found.status_code == 200, found.text
        answer: dict[str, Any] = found.json()
        return answer


async def pass_on(ticket: str, holder: Person, to: Person) -> httpx.Response:
    """Pass the ticket on, and return the response to who takes it."""
    offered = await holder.post(f"/api/tickets/{ticket}/transfers", None)
    assert offered.status_code == 201, offered.text
    return await to.post("/api/tickets/accept", {"token": offered.json()["token"]})


async def scan(
    gala: Gala,
    by: Person | None = None,
    /,
    **body: Any,  # noqa: ANN401 - fields of the body
) -> dict[str, Any]:
    """Scan at the door, and return what it says."""
    given = {"scanId": str(uuid4())} | body
    answer = await (by or gala.owner).post(f"/api/events/{gala.event}/check-ins", given)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def put_lists(gala: Gala, *lists: dict[str, object]) -> None:
    made = await gala.owner.put(f"/api/events/{gala.event}/door", {"lists": lists})
    assert made.status_code == 200, made.text
