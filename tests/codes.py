"""An event with codes, as a test sells it."""

from typing import Any

import httpx

from tests.people import Person, Visitor
from tests.sales import tickets

SOON = "2100-01-01T00:00:00Z"


class Shop:
    """An organiser with an event that has several ticket types."""

    def __init__(self, owner: Person, event: dict[str, Any]) -> None:
        self.owner = owner
        self.event: int = event["id"]
        self.types: dict[str, int] = {each["name"]: each["id"] for each in event["ticketTypes"]}

    @classmethod
    async def open(cls, visitor: Visitor, price: int = 400, **more: object) -> "Shop":
        owner = await visitor.register()
        euros = {"amount": price, "currency": "EUR"}
        types = [
            {"name": "P", "price": euros},
            {"name": "H1", "hidden": True},
            {"name": "H2", "hidden": True},
        ]
        event = {"name": "A concert", "capacity": 1000, "ticketTypes": types} | more
        made = await owner.post("/api/events", event)
        assert made.status_code == 201, made.text
        return cls(owner, made.json())

    async def make(self, *codes: str, **more: object) -> list[dict[str, Any]]:
        body = {"kind": "discount", "codes": codes} | (more or {"percent": 50})
        made = await self.owner.post(f"/api/events/{self.event}/codes", body)
        assert made.status_code == 201, made.text
        items: list[dict[str, Any]] = made.json()["items"]
        return items

    def body(self, code: str | None, **lines: int) -> dict[str, Any]:
        wanted = [
            {"ticketTypeId": self.types.get(name, 999), "quantity": quantity}
            for name, quantity in lines.items()
        ]
        named = {} if code is None else {"code": code}
        return {"eventId": self.event, "lines": wanted} | named

    async def book(self, person: Person, code: str | None, **lines: int) -> httpx.Response:
        return await person.post("/api/events/book", self.body(code, **lines))

    async def hold(self, person: Person, code: str | None, **lines: int) -> httpx.Response:
        return await person.post("/api/holds", self.body(code, **lines))

    async def held(self, person: Person, code: str | None, **lines: int) -> dict[str, Any]:
        made = await self.hold(person, code, **lines)
        assert made.status_code == 201, made.text
        booking: dict[str, Any] = made.json()
        return booking

    async def used(self) -> list[tuple[int, int]]:
        listed = await self.owner.get(f"/api/events/{self.event}/codes")
        return [(each["uses"], each["tickets"]) for each in listed.json()["items"]]

    async def prices(self, booking: str) -> list[int]:
        return [each["amount"] for each in await tickets(self.owner, booking)]
