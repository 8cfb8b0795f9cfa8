"""The service below a prefix, behind proxies that remove it from the request or do not."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI

from tests.contract import assert_problem
from tests.examples import PREFIX as EXAMPLES
from tests.examples import examples
from tests.people import Visitor
from ticketing.app import create_app
from ticketing.settings import OWN_SEGMENTS, Settings
from ticketing.web.asgi import Message

HERE = ip_network("127.0.0.0/8")
HEADER = "X-Forwarded-Prefix"
HOSTILE = [
    *("//evil.example", "/\\evil.example", "https://evil.example", "/a//evil.example", "evil"),
    *("/a/../b", "/a/./b", "/..", "/", "/a b", "/a%0d%0aX-Other: 1", '/"><script>', "/a?b", "/a#b"),
    *(
        "/a, /b",
        "/a;b",
        "/\u00e4",
        "/api",
        "/api/v1",
        "/static",
        "/" + "a" * 200,
        "",
        " ",
        "/a\t/b",
    ),
]


@pytest.fixture(params=["set", "told"])
def way(request: pytest.FixtureRequest) -> str:
    """The source of the prefix: the setting, or a trusted proxy."""
    return str(request.param)


@pytest.fixture
async def app(settings: Settings, way: str) -> AsyncIterator[FastAPI]:
    known = {"root_path": "/shop/tickets"} if way == "set" else {"trusted_proxies": (HERE,)}
    app = create_app(settings.model_copy(update=known), also=[examples])
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(params=["stripped", "whole"])
async def client(
    app: FastAPI, way: str, request: pytest.FixtureRequest
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a proxy that passes on the path unchanged, or removes the prefix."""
    base = "http://test/shop/tickets" if request.param == "whole" else "http://test"
    headers = {HEADER: "/shop/tickets"} if way == "told" else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=headers) as client:
        yield client


async def test_the_application_starts_and_ends_as_a_server_tells_it(
    settings: Settings, way: str
) -> None:
    known = {"root_path": "/shop/tickets"} if way == "set" else {"trusted_proxies": (HERE,)}
    app = create_app(settings.model_copy(update=known))
    told = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
    said = []

    async def receive() -> Message:
        return told.pop()

    async def send(message: Message) -> None:
        said.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_location_is_below_the_prefix(visitor: Visitor) -> None:
    ada = await visitor.register()
    body = {"name": "Recital", "totalTickets": 1}
    # In the first response and in the stored one. Neither may have the prefix twice.
    answers = [await ada.post("/api/events/initialize", body, key="made") for _ in range(2)]
    for made in answers:
        assert made.headers["location"] == f"/shop/tickets/api/events/{made.json()['id']}"
    assert answers[1].headers["idempotency-replayed"] == "true"
    split = await ada.client.post(f"{EXAMPLES}/7/parts/3", headers=ada.headers)
    assert split.headers["location"].startswith(f"/shop/tickets{EXAMPLES}/")


async def test_the_start_page_has_addresses_below_the_prefix(client: httpx.AsyncClient) -> None:
    welcome = (await client.get("/")).json()
    for name, path in {"docs": "docs", "reference": "redoc", "openapi": "openapi.json"}.items():
        assert welcome[name] == f"/shop/tickets/{path}"
    assert welcome["events"] == "/shop/tickets/api/events"


async def test_pages_and_their_files_are_found(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc", "/static/docs.js", "/openapi.json"):
        found = await client.get(path)
        assert found.status_code == 200, path
        assert found.headers["cache-control"] == "no-cache"
    document = (await client.get("/openapi.json")).json()
    at = "https://example/shop/tickets/"
    assert urljoin(at + "openapi.json", document["servers"][0]["url"]) == at


async def test_a_problem_names_the_path_that_the_client_asked_for(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/api/events/7", "/api/nothing", "/nothing"):
        refused = await client.get(path)
        assert refused.json()["instance"] == f"/shop/tickets{path}"
        assert refused.status_code == 404


async def test_routes_of_the_api_are_protected_below_a_prefix_too(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/api/events")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("way", ["set"], indirect=True)
async def test_a_path_that_only_begins_like_the_prefix_is_another(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/shop/tickets")).json()["name"] == "ticketing"
        for path in ("/shop/ticketsapi/events", "/shop/livez", "/shop"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("way", ["told"], indirect=True)
@pytest.mark.parametrize("told", HOSTILE)
async def test_an_invalid_prefix_is_ignored(app: FastAPI, told: str) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {HEADER.encode(): told.encode("latin-1")}
        assert (await client.get("/", headers=headers)).json()["docs"] == "/docs"
        refused = await client.get("/api/events/7", headers=headers)
        assert_problem(refused, 404, "event_not_found")


async def seen(settings: Settings, headers: dict[str, str], **known: object) -> str:
    """Return the address of the docs in the start page."""
    app = create_app(settings.model_copy(update=known))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        return str((await client.get("/", headers=headers)).json()["docs"])


async def test_only_trusted_proxies_can_set_the_prefix(settings: Settings) -> None:
    told = {HEADER: "/other"}
    elsewhere = (ip_network("10.0.0.0/8"),)
    assert await seen(settings, told) == "/docs"
    assert await seen(settings, told, trusted_proxies=elsewhere) == "/docs"
    # A client can't pretend to be a trusted proxy.
    named = told | {"X-Forwarded-For": "10.0.0.1"}
    assert await seen(settings, named, trusted_proxies=elsewhere) == "/docs"
    assert await seen(settings, told, trusted_proxies=(HERE,)) == "/other/docs"


async def test_the_setting_overrides_the_header_of_a_proxy(settings: Settings) -> None:
    # A proxy that does not know the header passes on one from a client.
    known = {"root_path": "/tickets", "trusted_proxies": (HERE,)}
    assert await seen(settings, {HEADER: "/other"}, **known) == "/tickets/docs"


async def test_no_prefix_begins_like_a_path_of_the_service(settings: Settings) -> None:
    app = create_app(settings)
    paths = [getattr(route, "path", "") for route in app.routes]
    assert {path.split("/")[1] for path in paths} - {""} == OWN_SEGMENTS
