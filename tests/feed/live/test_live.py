"""Live streams over HTTP: who may follow what, and how a stream begins and ends."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from tests.feed.live.ears import PATIENCE, listen
from tests.holding import OFFERS
from tests.people import Visitor
from tests.sales import sale
from tests.workers import Worker, serving
from ticketing.app import create_app
from ticketing.feed.part import Feed
from ticketing.feed.routers import live
from ticketing.server.unread import confirmed
from ticketing.settings import Settings


@pytest.fixture
async def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
async def worker(app: FastAPI, settings: Settings) -> AsyncIterator[Worker]:
    async with serving(app, settings) as worker:
        yield worker


@pytest.fixture
async def visitor(worker: Worker) -> AsyncIterator[Visitor]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.port}") as client:
        yield Visitor(client)


async def until_open(worker: Worker, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while worker.service.streams.open != count:  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(0.01)


async def test_the_numbers_are_sent_at_first_and_then_what_changes(
    worker: Worker, visitor: Visitor
) -> None:
    ada = await visitor.register()
    types = [{"name": "Adult"}, {"name": "Student"}, {"name": "Box", "capacity": 1}]
    event, ids = await sale(
        ada,
        ticketTypes=types,
        quotas=[{"name": "Chairs", "capacity": 8, "ticketTypes": ["Student"]}],
    )
    listening = await listen(worker, f"/api/events/{event}/live")
    assert "HTTP/1.1 200 OK" in listening.head
    for header in (
        "content-type: text/event-stream; charset=utf-8",
        "cache-control: no-cache, no-transform",
        "x-accel-buffering: no",
    ):
        assert header in listening.head
    assert listening.head.count("cache-control") == 1
    first = await listening.next()
    shown = await visitor.event(event)
    assert first.name == "availability"
    assert first.retry is not None
    assert first.id == f"{shown['revision']}-{shown['version']}-open"
    numbers = {name: first.data[name] for name in ("availableTickets", "version", "totalTickets")}
    assert numbers == {name: shown[name] for name in numbers}
    for of in ("ticketTypes", "quotas"):
        told = [
            {name: each[name] for name in got}
            for got, each in zip(first.data[of], shown[of], strict=True)
        ]
        assert first.data[of] == told
    await ada.sell(event, ids["Student"])
    change = await listening.next()
    assert (change.name, change.data["availableTickets"]) == ("change", 9)
    # The place was also one of those that adults could have had.
    assert change.data["ticketTypes"] == [
        {"id": ids["Adult"], "available": 9, "taken": 0, "waiting": 0},
        {"id": ids["Student"], "available": 7, "taken": 1, "waiting": 0},
    ]
    assert change.data["quotas"] == [{"id": shown["quotas"][0]["id"], "available": 7}]
    worker.close()
    await until_open(worker, 0)


async def test_hidden_ticket_types_and_drafts_are_shown_to_the_team_alone(
    worker: Worker, visitor: Visitor
) -> None:
    ada, eve = await visitor.register(), await visitor.register()
    event, ids = await sale(ada, ticketTypes=[{"name": "A"}, {"name": "B", "hidden": True}])
    for person, shown in ((ada, set(ids.values())), (eve, {ids["A"]}), (None, {ids["A"]})):
        first = await (await listen(worker, f"/api/events/{event}/live", person)).next()
        assert {each["id"] for each in first.data["ticketTypes"]} == shown
    draft = await ada.draft()
    assert "200 OK" in (await listen(worker, f"/api/events/{draft}/live", ada)).head
    for person in (eve, None):
        assert " 404 " in (await listen(worker, f"/api/events/{draft}/live", person)).head


async def test_a_person_follows_their_booking_from_the_waiting_list_to_an_offer_and_a_place(
    worker: Worker, visitor: Visitor
) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    event, _ = await sale(ada, capacity=1, **OFFERS)
    first, second = [(await person.book(event)).json()["id"] for person in (bob, eve)]
    third = (await ada.book(event)).json()["id"]
    path = f"/api/bookings/{third}/live"
    assert " 403 " in (await listen(worker, path, eve)).head
    assert " 401 " in (await listen(worker, path)).head
    listening = await listen(worker, path, ada)
    assert (await listening.next()).data == {
        "status": "waiting",
        "quantity": 1,
        "position": 2,
        "expiresAt": None,
    }
    await eve.post(f"/api/bookings/{second}/cancel", None)
    assert (await listening.next()).data["position"] == 1
    await bob.post(f"/api/bookings/{first}/cancel", None)
    offered = (await listening.next()).data
    assert (offered["status"], offered["position"]) == ("offered", None)
    assert offered["expiresAt"] is not None
    await ada.post(f"/api/holds/{third}/confirm", None)
    assert (await listening.next()).data["status"] == "booked"


async def test_a_stream_ends_when_its_credential_is_revoked(
    worker: Worker, app: FastAPI, visitor: Visitor
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    booking = (await ada.book(event)).json()["id"]
    listening = await listen(worker, f"/api/bookings/{booking}/live", ada)
    await listening.next()
    await ada.post("/api/users/logout", {})
    (topic,) = app.state.provided[Feed].following._topics.values()
    topic.sent_at -= 60.0  # So that something is sent, as after some seconds.
    assert "retry: " in await listening.rest()
    await until_open(worker, 0)


async def test_who_leaves_the_team_sees_what_it_sees_no_longer_than_some_minutes(
    worker: Worker, app: FastAPI, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TEAM_LONGEST", 0.1)
    ada, bob = [await visitor.register() for _ in range(2)]
    event, ids = await sale(ada, ticketTypes=[{"name": "A"}, {"name": "B", "hidden": True}])
    await ada.appoint(event, bob, "staff")
    path = f"/api/events/{event}/live"
    listening = await listen(worker, path, bob)
    assert len((await listening.next()).data["ticketTypes"]) == 2
    await ada.delete(f"/api/events/{event}/team/{bob.id}")
    await asyncio.sleep(0.1)
    (topic,) = app.state.provided[Feed].availability._topics.values()
    topic.sent_at -= 60.0  # So that something is sent, as after some seconds.
    assert "retry: " in await listening.rest()
    again = await (await listen(worker, path, bob)).next()
    assert {each["id"] for each in again.data["ticketTypes"]} == {ids["A"]}


async def test_streams_end_at_a_drain_and_others_are_refused(
    worker: Worker, visitor: Visitor
) -> None:
    event = await (await visitor.register()).organise()
    path = f"/api/events/{event}/live"
    listening = [await listen(worker, path) for _ in range(50)]
    worker.server.handle_exit(signal.SIGTERM, None)
    times = {(await each.rest()).split("retry: ")[-1] for each in listening}
    assert len(times) > 25
    await until_open(worker, 0)


async def test_listeners_have_a_limit_of_their_own_and_leave_the_connections_to_others(
    settings: Settings, visitor: Visitor
) -> None:
    event = await (await visitor.register()).organise()
    path = f"/api/events/{event}/live"
    few = settings.model_copy(update={"max_streams": 3, "max_connections": 2})
    async with serving(create_app(few), few) as worker:
        for _ in range(3):
            assert " 200 " in (await listen(worker, path)).head
        assert " 503 " in (await listen(worker, path)).head
        assert (await worker.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))[1].startswith(
            b"HTTP/1.1 200 "
        )


async def test_a_head_request_holds_no_stream(worker: Worker, visitor: Visitor) -> None:
    event = await (await visitor.register()).organise()
    found = await visitor.client.head(f"/api/events/{event}/live")
    assert (found.status_code, found.headers["content-type"]) == (
        200,
        "text/event-stream; charset=utf-8",
    )
    await until_open(worker, 0)


async def test_a_client_whose_system_confirms_nothing_is_disconnected(
    worker: Worker, app: FastAPI, visitor: Visitor
) -> None:
    event = await (await visitor.register()).organise()
    path = f"/api/events/{event}/live"
    with socket.socket() as gone:
        # It takes little and reads nothing, so most of what is sent is never confirmed.
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        gone.connect(("127.0.0.1", worker.port))
        gone.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await until_open(worker, 1)
        there = await listen(worker, path)
        (topic,) = app.state.provided[Feed].availability._topics.values()
        topic.id, topic.whole = "large", b":" * 20_000 + b"\n\n"
        for listener in topic.listeners:
            listener.wake()
        connections = worker.server.server_state.connections
        async with asyncio.timeout(PATIENCE):
            while all(confirmed(each.transport) is None for each in connections):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await there.reader.readuntil(b"::\n\n")
        worker.server._vanished.look(connections)
        await asyncio.sleep(0)
        assert worker.service.streams.open == 2
        worker.server._vanished.look(connections)
        await until_open(worker, 1)
