"""People call the API in any order. Each response is compared with a model in plain Python."""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import httpx
import hypothesis
import pytest
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import integers, sampled_from
from sqlalchemy import text

from tests.contract import assert_documented, assert_problem
from tests.people import Person, Visitor
from ticketing.app import create_app
from ticketing.db.engine import connect
from ticketing.settings import Settings

ResultT = TypeVar("ResultT")

_names = itertools.count(1)


@dataclass
class ModelledEvent:
    """The expected state of an event: capacity, people with places, waiting list, history."""

    id: int
    organiser: str
    total: int
    booked: set[str] = field(default_factory=set)
    line: list[str] = field(default_factory=list)
    # The bookings in their order, as person and id.
    history: list[tuple[str, str]] = field(default_factory=list)
    status: dict[str, str] = field(default_factory=dict)
    version: int = 1

    def latest(self, user: str) -> str | None:
        """The id of the person's last booking."""
        return next((made for who, made in reversed(self.history) if who == user), None)

    def book(self, user: str, booking: str) -> None:
        self.version += 1
        self.history.append((user, booking))
        if len(self.booked) < self.total:
            self.booked.add(user)
            self.status[booking] = "booked"
        else:
            self.line.append(user)
            self.status[booking] = "waiting"

    def cancel(self, user: str) -> int:
        """Cancel, and return how many people are promoted."""
        self.version += 1
        booking = self.latest(user)
        assert booking is not None
        self.status[booking] = "cancelled"
        if user in self.line:
            self.line.remove(user)
            return 0
        self.booked.remove(user)
        if not self.line:
            return 0
        promoted = self.line.pop(0)
        self.booked.add(promoted)
        booking = self.latest(promoted)
        assert booking is not None
        self.status[booking] = "booked"
        return 1

    def listed(self, user: str, booking: str) -> dict[str, Any]:
        status = self.status[booking]
        position = self.line.index(user) + 1 if status == "waiting" else None
        return {
            "id": booking,
            "eventId": self.id,
            "userId": user,
            "status": status,
            "position": position,
            "quantity": 1,
            "amount": 0,
            "currency": None,
            "expiresAt": None,
            "promoted": None,
            "refund": None,
        }


class Service:
    """The application on a separate loop, so that the synchronous state machine can call it."""

    def __init__(self, settings: Settings) -> None:
        self.runner = asyncio.Runner()
        self.app = create_app(settings)
        self.lifespan = self.app.router.lifespan_context(self.app)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://test",
            event_hooks={"response": [self.documented]},
        )
        assert settings.database_url is not None
        self.engine = connect(settings.database_url.get_secret_value(), pool_size=2)

    async def documented(self, response: httpx.Response) -> None:
        await response.aread()
        assert_documented(self.app, response)

    async def clear(self) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text("TRUNCATE users, events, bookings CASCADE"))

    async def open(self) -> None:
        await self.lifespan.__aenter__()

    async def shut(self) -> None:
        await self.client.aclose()
        await self.lifespan.__aexit__(None, None, None)
        await self.engine.dispose()


class TicketOffice(RuleBasedStateMachine):
    """People, events and bookings. Every rule asks the service and the model the same."""

    service: ClassVar[Service]
    people = Bundle("people")
    events = Bundle("events")

    def __init__(self) -> None:
        super().__init__()
        self.everybody: list[Person] = []
        self.every_event: list[ModelledEvent] = []
        # The order in which bookings were made, over all events.
        self.order: list[str] = []
        self.run(self.service.clear())

    @initialize(target=people)
    def open_the_office(self) -> MultipleResults[Person]:
        return multiple(*(self.new_person() for _ in range(3)))

    @initialize(target=events, total=integers(1, 2))
    def announce(self, total: int) -> ModelledEvent:
        return self.new_event(self.everybody[0] if self.everybody else self.new_person(), total)

    def run(self, call: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self.service.runner.run(call)

    def new_person(self) -> Person:
        person = self.run(Visitor(self.service.client).register(f"person.{next(_names)}"))
        self.everybody.append(person)
        return person

    def new_event(self, organiser: Person, total: int) -> ModelledEvent:
        event = ModelledEvent(self.run(organiser.organise(total)), organiser.id, total)
        self.every_event.append(event)
        return event

    @rule(target=people)
    def register(self) -> Person:
        return self.new_person()

    @rule(person=people)
    def register_again(self, person: Person) -> None:
        body = {"username": person.username.upper(), "password": "correct horse"}
        refused = self.run(self.service.client.post("/api/users/register", json=body))
        assert_problem(refused, 409, "username_taken")

    @rule(target=events, organiser=people, total=integers(1, 3))
    def organise(self, organiser: Person, total: int) -> ModelledEvent:
        return self.new_event(organiser, total)

    @rule(person=people, event=events)
    def book(self, person: Person, event: ModelledEvent) -> None:
        self.check_booked(event, person, self.run(person.book(event.id)))

    @rule(person=people, event=events)
    def cancel(self, person: Person, event: ModelledEvent) -> None:
        self.check_cancelled(event, person, self.run(person.cancel(event.id)))

    @rule(clerk=people, person=people, event=events)
    def box_office_books(self, clerk: Person, person: Person, event: ModelledEvent) -> None:
        answer = self.run(clerk.book(event.id, for_=person))
        if clerk.id in {person.id, event.organiser}:
            self.check_booked(event, person, answer)
        else:
            assert_problem(answer, 403, "forbidden")

    @rule(clerk=people, person=people, event=events)
    def box_office_cancels(self, clerk: Person, person: Person, event: ModelledEvent) -> None:
        answer = self.run(clerk.cancel(event.id, for_=person))
        if clerk.id in {person.id, event.organiser}:
            self.check_cancelled(event, person, answer)
        else:
            assert_problem(answer, 403, "forbidden")

    @rule(event=events)
    def everybody_books_at_once(self, event: ModelledEvent) -> None:
        self.check_at_once(event, [person.book(event.id) for person in self.everybody])

    @rule(event=events)
    def everybody_cancels_at_once(self, event: ModelledEvent) -> None:
        self.check_at_once(event, [person.cancel(event.id) for person in self.everybody])

    def check_at_once(
        self, event: ModelledEvent, calls: list[Coroutine[Any, Any, httpx.Response]]
    ) -> None:
        async def at_once() -> list[httpx.Response]:
            return await asyncio.gather(*calls)

        before = event.version
        # Calls that are made together are served in the order in which they were made.
        for person, answer in zip(self.everybody, self.run(at_once()), strict=True):
            if answer.request.url.path.endswith("/book"):
                self.check_booked(event, person, answer)
            else:
                self.check_cancelled(event, person, answer)
        shown = self.run(Visitor(self.service.client).event(event.id))
        # Requests that share a commit are one change.
        assert min(before + 1, event.version) <= shown["version"] <= event.version
        event.version = shown["version"]

    @rule(person=people, event=events)
    def ask_for_what_is_not_there(self, person: Person, event: ModelledEvent) -> None:
        missing = max(each.id for each in self.every_event) + 1
        assert missing != event.id
        assert_problem(self.run(person.book(missing)), 404, "event_not_found")
        assert_problem(self.run(person.cancel(missing)), 404, "event_not_found")
        assert_problem(self.run(person.get(f"/api/events/{missing}")), 404, "event_not_found")

    @rule(person=people, limit=integers(1, 3))
    def list_mine(self, person: Person, limit: int) -> None:
        expected = {
            booking: event.listed(user, booking)
            for event in self.every_event
            for user, booking in event.history
            if user == person.id
        }
        found = self.pages(person, "/api/users/me/bookings", limit=limit)
        assert found == [expected[each] for each in reversed(self.order) if each in expected]

    @rule(
        person=people,
        event=events,
        limit=integers(1, 3),
        status=sampled_from([None, "booked", "waiting", "cancelled"]),
    )
    def list_who_comes(
        self, person: Person, event: ModelledEvent, limit: int, status: str | None
    ) -> None:
        path = f"/api/events/{event.id}/bookings"
        asked: dict[str, str] = {} if status is None else {"status": status}
        if person.id != event.organiser:
            assert_problem(self.run(person.get(path, **asked)), 403, "forbidden")
            return
        names = {each.id: each.username for each in self.everybody}
        expected = [
            event.listed(user, booking) | {"username": names[user], "customer": None}
            for user, booking in event.history
        ]
        assert self.pages(person, path, limit=limit, **asked) == [
            item for item in expected if status in {None, item["status"]}
        ]

    @rule(person=people, limit=integers(1, 3))
    def list_events(self, person: Person, limit: int) -> None:
        found = self.pages(person, "/api/events", limit=limit)
        assert [item["id"] for item in found] == [each.id for each in self.every_event[::-1]]

    @invariant()
    def every_event_is_as_modelled(self) -> None:
        for event in self.every_event:
            shown = self.run(Visitor(self.service.client).event(event.id))
            assert shown["availableTickets"] == event.total - len(event.booked)
            assert shown["waitingListCount"] == len(event.line)
            assert shown["organiserId"] == event.organiser
            assert shown["version"] == event.version

    def check_booked(self, event: ModelledEvent, person: Person, answer: httpx.Response) -> None:
        if person.id in event.booked:
            assert_problem(answer, 409, "already_booked")
            return
        if person.id in event.line:
            assert_problem(answer, 409, "already_waiting")
            return
        booking = answer.json()
        event.book(person.id, booking["id"])
        self.order.append(booking["id"])
        expected = event.listed(person.id, booking["id"])
        assert answer.status_code == (201 if expected["status"] == "booked" else 202)
        assert booking.pop("createdAt")
        assert booking == expected

    def check_cancelled(self, event: ModelledEvent, person: Person, answer: httpx.Response) -> None:
        latest = event.latest(person.id)
        if latest is None:
            assert_problem(answer, 404, "booking_not_found")
            return
        active = event.status[latest] != "cancelled"
        promoted = event.cancel(person.id) if active else 0
        assert answer.status_code == 200
        given = answer.json()
        assert given.pop("createdAt")
        assert given == event.listed(person.id, latest) | {"promoted": promoted, "refund": 0}

    def pages(self, person: Person, path: str, **asked: str | int) -> list[dict[str, Any]]:
        found = []
        while True:
            answer = self.run(person.get(path, **asked))
            assert answer.status_code == 200
            found += answer.json()["items"]
            cursor = answer.json()["nextCursor"]
            if cursor is None:
                return [
                    {name: value for name, value in item.items() if name != "createdAt"}
                    for item in found
                ]
            asked["cursor"] = cursor


@pytest.mark.usefixtures("unmeasured")
def test_every_response_is_what_the_model_says(settings: Settings) -> None:
    service = Service(settings)
    with service.runner:
        service.runner.run(service.open())
        try:
            run_state_machine_as_test(
                type("Office", (TicketOffice,), {"service": service}),
                settings=hypothesis.settings(
                    max_examples=25,
                    stateful_step_count=25,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    suppress_health_check=[hypothesis.HealthCheck.too_slow],
                ),
            )
        finally:
            service.runner.run(service.shut())
