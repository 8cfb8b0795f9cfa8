"""The headers that protect clients, other origins, and proxies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import httpx
import pytest
from fastapi import FastAPI

from tests.contract import PROBLEM_JSON
from tests.logs import content, lines
from tests.people import Visitor
from ticketing.app import create_app
from ticketing.settings import Settings
from ticketing.web.asgi import ASGIScope, Message, Receive, Send, client_address
from ticketing.web.proxies import TrustedProxies

STRICT = "default-src 'none'; frame-ancestors 'none'"
ORIGIN = "https://tickets.example"


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client


async def test_every_response_protects_its_client(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    answers = [
        await ada.get("/api/users/me"),
        await ada.client.get("/api/users/me"),
        await ada.get(f"/api/events/{event}"),
        await ada.get("/api/events"),
        await ada.book(event),
        await ada.book(event),
        await ada.post("/api/events/book", {}),
        await ada.get("/api/nope"),
        await ada.client.put("/api/events/book"),
    ]
    for answer in answers:
        assert answer.headers.get_list("cache-control") == ["no-store"], answer.request.url
        assert answer.headers.get_list("content-security-policy") == [STRICT]
    for path in ("/", "/livez", "/nope", "/openapi.json", "/static/docs.js"):
        answers.append(await ada.client.get(path))
        assert answers[-1].headers.get_list("content-security-policy") == [STRICT]
        assert answers[-1].headers.get_list("cache-control") == ["no-cache"]
    for path in ("/docs", "/redoc"):
        answers.append(await ada.client.get(path))
        (policy,) = answers[-1].headers.get_list("content-security-policy")
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
    for answer in answers:
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"]


async def test_no_other_origin_may_call_unless_it_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/events", headers={"Origin": ORIGIN})
    asked = await client.options(
        "/api/events", headers={"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    )
    assert asked.status_code == 405
    for each in (answer, asked):
        assert not any(name.startswith("access-control") for name in each.headers)


@pytest.mark.usefixtures("app")
async def test_an_origin_that_is_named_may_call(settings: Settings) -> None:
    named = settings.model_copy(update={"cors_origins": (ORIGIN,)})
    async with calling(create_app(named)) as client:
        preflight = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        asked = await client.options("/api/events/book", headers=preflight)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in asked.headers
        # By the framework, and by the routes of the sale, which bypass it.
        for path in ("/api/events", "/api/events/1"):
            answer = await client.get(path, headers={"Origin": ORIGIN})
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert "X-Request-ID" in answer.headers["access-control-expose-headers"]

        for other in (f"{ORIGIN}.evil.example", "http://tickets.example", "null", f"{ORIGIN}:8443"):
            answer = await client.get("/api/events", headers={"Origin": other})
            assert answer.status_code == 200
            assert "access-control-allow-origin" not in answer.headers
            asked = await client.options("/api/events/book", headers=preflight | {"Origin": other})
            assert (asked.status_code, asked.json()["code"]) == (400, "origin_refused")
            assert asked.headers["content-type"] == PROBLEM_JSON
            assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4,10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9", "1.2.3.4", "10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:DB8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["2001:0db8::0001"], "2001:db8::1"),
        ("::1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("::ffff:10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4, "], "10.0.0.1"),
        ("10.0.0.1", ["'; --, \x01"], "10.0.0.1"),
        ("10.0.0.1", ["9.9.9.9," * 1000 + "1.2.3.4, 10.0.0.2"], "1.2.3.4"),
    ],
)
async def test_the_client_is_the_first_address_that_is_not_trusted(
    peer: str, forwarded: list[str], client: str
) -> None:
    seen = []

    async def app(scope: ASGIScope, _receive: Receive, _send: Send) -> None:
        seen.append(client_address(scope))

    trusting = TrustedProxies(app, (ip_network("10.0.0.0/8"), ip_network("::1/128")))
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    for _ in range(2):  # The second time from memory.
        await trusting({"type": "http", "client": (peer, 1), "headers": headers}, receive, send)
    await trusting({"type": "lifespan"}, receive, send)
    assert seen == [client, client, None]


async def receive() -> Message:
    raise AssertionError


async def send(_: Message) -> None:
    raise AssertionError


async def test_the_log_believes_only_a_proxy_that_is_named(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    headers = {"X-Forwarded-For": "1.2.3.4"}
    await client.get("/livez", headers=headers)
    assert "1.2.3.4" not in content(settings.log_dir)
    named = settings.model_copy(update={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    async with calling(create_app(named)) as behind_proxy:
        await behind_proxy.get("/livez", headers=headers)
    assert '"clientIp":"1.2.3.4"' in content(settings.log_dir)


async def test_a_warning_names_an_untrusted_proxy_once(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    for number in range(3):
        await client.get("/livez", headers={"X-Forwarded-For": f"203.0.113.{number}"})
    (warned,) = lines(settings.log_dir, "proxy.")
    assert warned["event"] == "proxy.not_trusted"
    assert warned["level"] == "warning"
    assert warned["setting"] == "TICKETING_TRUSTED_PROXIES"
    assert warned["clientIp"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("trusted", "forwarded", "warnings"),
    [
        ("127.0.0.0/8", "203.0.113.7", 0),
        ("127.0.0.0/8", "nonsense", 0),
        ("127.0.0.0/8", "", 0),
        ("10.0.0.0/8", "203.0.113.7", 1),
    ],
)
async def test_a_warning_names_a_proxy_only_if_it_is_not_trusted(
    settings: Settings, trusted: str, forwarded: str, warnings: int
) -> None:
    named = settings.model_copy(update={"trusted_proxies": (ip_network(trusted),)})
    app = create_app(named)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await client.get("/livez", headers={"X-Forwarded-For": forwarded})
    assert len(lines(settings.log_dir, "proxy.")) == warnings
