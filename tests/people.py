"""People who use the API, so that a test reads as what they do."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import httpx

PASSWORD = "correct horse"

_numbers = itertools.count(1)


@dataclass
class Visitor:
    """A client without an account."""

    client: httpx.AsyncClient

    async def register(self, username: str | None = None) -> "Person":
        """Register, log in, and return the person."""
        credentials = {"username": username or f"person-{next(_numbers)}", "password": PASSWORD}
        made = await self.client.post("/api/users/register", json=credentials)
        assert made.status_code == 201, made.text
        answer = (await self.client.post("/api/users/login", json=credentials)).json()
        return Person(
            self.client,
            credentials["username"],
            answer["userId"],
            answer["token"],
            answer["refreshToken"],
        )

    async def event(self, event_id: int) -> dict[str, Any]:
        """Return the event."""
        answer: dict[str, Any] = (await self.client.get(f"/api/events/{event_id}")).json()
        return answer


@dataclass
class Person(Visitor):
    """A person who is logged in."""

    username: str
    id: str
    token: str
    refresh_token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def get(self, path: str, **parameters: str | int) -> httpx.Response:
        return await self.client.get(path, headers=self.headers, params=parameters)

    async def post(self, path: str, body: object, *, key: str | None = None) -> httpx.Response:
        named = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post(path, headers=self.headers | named, json=body)

    async def put(self, path: str, body: object) -> httpx.Response:
        return await self.client.put(path, headers=self.headers, json=body)

    async def patch(self, path: str, body: object, *, etag: str | None = "*") -> httpx.Response:
        """Change something that is as `etag` says; None sends no If-Match."""
        condition = {} if etag is None else {"If-Match": etag}
        return await self.client.patch(path, headers=self.headers | condition, json=body)

    async def delete(
        self, path: str, body: object = None, *, etag: str | None = None
    ) -> httpx.Response:
        """Delete something, if it is as `etag` says."""
        headers = self.headers | ({} if etag is None else {"If-Match": etag})
        return await self.client.request("DELETE", path, headers=headers, json=body)

    async def again(self) -> "Person":
        """Log in again, as from another device."""
        answer = await self.client.post(
            "/api/users/login", json={"username": self.username, "password": PASSWORD}
        )
        assert answer.status_code == 200, answer.text
        given = answer.json()
        return replace(self, token=given["token"], refresh_token=given["refreshToken"])

    async def make_key(self, *scopes: str, **more: object) -> "Person":
        """Make an API key and return the person as their program, which uses it as its token."""
        body = {"name": "A program", "scopes": scopes, **more}
        made = await self.post("/api/users/me/keys", body)
        assert made.status_code == 201, made.text
        return replace(self, token=made.json()["key"], refresh_token="")

    async def organise(self, total: int = 10, name: str = "A concert") -> int:
        """Make an event and return its id."""
        made = await self.post("/api/events/initialize", {"name": name, "totalTickets": total})
        assert made.status_code == 201, made.text
        return int(made.json()["id"])

    async def draft(self) -> int:
        """Make an event that is a draft and return its id."""
        body = {"name": "A concert", "capacity": 10, "status": "draft"}
        made = await self.post("/api/events", body)
        assert made.status_code == 201, made.text
        return int(made.json()["id"])

    async def appoint(self, event_id: int, whom: "Person", role: str) -> None:
        """Grant a role at an event of this person."""
        given = await self.put(f"/api/events/{event_id}/team/{whom.id}", {"role": role})
        assert given.status_code == 204, given.text

    async def book(
        self, event_id: int, *, for_: "Person | None" = None, key: str | None = None
    ) -> httpx.Response:
        body = {"eventId": event_id, "userId": (for_ or self).id}
        return await self.post("/api/events/book", body, key=key)

    async def book_for(self, event_id: int, external_id: str) -> str:
        """Book for a customer and return their id."""
        body = {"eventId": event_id, "customer": {"externalId": external_id}}
        made = await self.post("/api/events/book", body)
        assert made.is_success, made.text
        return str(made.json()["userId"])

    async def sell(self, event_id: int, *types: int, places: int = 1) -> dict[str, Any]:
        """Book places of these ticket types for somebody new, and return the booking."""
        lines = [{"ticketTypeId": each, "quantity": places} for each in types]
        body = {"eventId": event_id, "userId": (await self.register()).id, "lines": lines}
        made = await self.post("/api/events/book", body)
        assert made.is_success, made.text
        booking: dict[str, Any] = made.json()
        return booking

    async def cancel(
        self, event_id: int, *, for_: "Person | None" = None, key: str | None = None
    ) -> httpx.Response:
        body = {"eventId": event_id, "userId": (for_ or self).id}
        return await self.post("/api/events/cancel", body, key=key)


async def bookings_of(person: Person, visitor: Visitor) -> list[dict[str, object]]:
    """Return the event as the person's old token still shows it."""
    answer = await Person(visitor.client, person.username, person.id, person.token).get(
        "/api/users/me/bookings"
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["items"]
    return found
