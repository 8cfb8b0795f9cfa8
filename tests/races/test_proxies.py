"""The service behind nginx and HAProxy, with the files of `deploy/`."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.examples import PREFIX as EXAMPLES
from tests.examples import examples
from tests.folders import folder_open_to_all, put
from tests.fronts import PREFIX, PROXIES, Proxy, proxied, settings_of
from tests.people import Visitor
from tests.serving import PATIENCE, UNMEASURED, Service, serving
from tests.workers import Worker
from tests.workers import serving as serving_here
from ticketing.app import create_app
from ticketing.server.protocol import BoundedProtocol
from ticketing.settings import Settings
from ticketing.web.asgi import ASGIScope, Receive, Send
from ticketing.web.bodies import MAX_BODY

LIMIT = 5
RATES = {"TICKETING_RATE_LIMITS": "on", "TICKETING_LIMIT_ADDRESS_BOOKINGS": f"{LIMIT}/3600s"}


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, kept_data: Path) -> Iterator[Proxy]:
    """Each proxy, in front of a service with the settings that its file names."""
    with folder_open_to_all() as folder:
        put(kept_data, folder)
        given = {**settings_of(request.param), **RATES, "TICKETING_DRAIN": "0", **UNMEASURED}
        with serving(folder, **given) as service, proxied(request.param, folder, at(service)) as it:
            yield it


def at(service: Service) -> str:
    return service.url.removeprefix("http://").replace("localhost", "127.0.0.1")


def asking(proxy: Proxy, address: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client that calls from this address."""
    transport = httpx.AsyncHTTPTransport(
        verify=proxy.tls,
        local_address=address,
        limits=httpx.Limits(max_connections=None, keepalive_expiry=PATIENCE),
    )
    return httpx.AsyncClient(transport=transport, base_url=proxy.url, timeout=PATIENCE)


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(proxy) as client:
        yield client


async def test_a_new_event_is_found_at_its_location(
    proxy: Proxy, client: httpx.AsyncClient
) -> None:
    ada = await Visitor(client).register()
    made = await ada.post("/api/events/initialize", {"name": "Recital", "totalTickets": 1})
    location = made.headers["location"]
    assert location == f"{PREFIX}/api/events/{made.json()['id']}"
    assert (await client.get(urljoin(proxy.url, location))).json() == made.json()


@pytest.mark.parametrize("page", ["docs", "redoc"])
async def test_a_page_and_its_files_are_found(
    proxy: Proxy, client: httpx.AsyncClient, page: str
) -> None:
    shown = await client.get(f"/{page}")
    loaded = re.findall(r'(?:href|src|spec-url)="([^"#]+)"', shown.text)
    assert len(loaded) > 3
    for each in loaded:
        found = await client.get(urljoin(f"{proxy.url}/{page}", each))
        assert found.status_code == 200, each
    document = await client.get("/openapi.json")
    assert document.headers["content-encoding"] == "gzip"
    known = {"If-None-Match": document.headers["etag"]}
    assert (await client.get("/openapi.json", headers=known)).status_code == 304


async def test_the_service_is_found_at_the_prefix_itself(client: httpx.AsyncClient) -> None:
    welcome = (await client.get("/")).json()
    assert (welcome["name"], welcome["docs"]) == ("ticketing", f"{PREFIX}/docs")


async def test_a_prefix_that_a_client_sends_is_ignored(
    client: httpx.AsyncClient,
) -> None:
    headers = {"X-Forwarded-Prefix": "/evil"}
    assert (await client.get("/", headers=headers)).json()["docs"] == f"{PREFIX}/docs"


async def test_each_client_has_a_rate_limit_of_its_own(proxy: Proxy) -> None:
    for address in ("127.0.0.2", "127.0.0.3"):
        async with asking(proxy, address) as client:
            # A client can't get another limit by sending another address.
            answers = [
                await client.post(
                    "/api/events/book", json={}, headers={"X-Forwarded-For": f"10.0.0.{number}"}
                )
                for number in range(LIMIT + 1)
            ]
            assert [each.status_code for each in answers] == [401] * LIMIT + [429], address


@pytest.mark.parametrize("size", [MAX_BODY + 1, 10 * MAX_BODY])
async def test_a_body_that_is_too_large_is_refused_by_the_service(
    client: httpx.AsyncClient, size: int
) -> None:
    json = {"Content-Type": "application/json"}
    fits = await client.post("/api/users/login", content=b"{}".ljust(MAX_BODY), headers=json)
    assert fits.status_code == 422
    refused = await client.post("/api/users/login", content=b"{}".ljust(size), headers=json)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


LATE = {
    "nginx": {
        "proxy_pass http://ticketing/;": "proxy_pass http://ticketing/; proxy_read_timeout 1s;"
    },
    "haproxy": {
        "timeout server          60s": "timeout server 1s",
        # The services of these tests respond to no check.
        "default-server check inter 2s downinter 100ms fall 2 rise 1": "",
    },
}
"""Changes with which the proxy waits for a second only."""


@pytest.mark.parametrize(
    ("serves", "nginx", "haproxy"),
    [
        ("nobody", (502, "bad_gateway"), (503, "service_unavailable")),
        ("hangs up", (502, "bad_gateway"), (502, "bad_gateway")),
        ("is silent", (504, "gateway_timeout"), (504, "gateway_timeout")),
    ],
)
async def test_an_error_of_the_proxy_itself_is_a_problem_document(
    open_dir: Path,
    name: str,
    serves: str,
    nginx: tuple[int, str],
    haproxy: tuple[int, str],
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            if serves == "is silent":
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        if serves == "nobody":
            server.close()
        with proxied(name, open_dir, f"127.0.0.1:{port}", LATE[name]) as proxy:
            async with asking(proxy) as client:
                answer = await client.post("/api/events/book", json={})
    status, code = nginx if name == "nginx" else haproxy
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem.keys() >= {"type", "title", "detail"}


async def test_a_body_that_the_proxy_does_not_pass_on_is_refused_as_by_the_service(
    open_dir: Path,
) -> None:
    with proxied("nginx", open_dir, "127.0.0.1:9") as proxy:
        async with asking(proxy) as client:
            refused = await client.post("/api/users/login", content=b" " * 2**21)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert refused.headers["content-type"] == "application/problem+json"


IDLE = {
    "nginx": {"keepalive_timeout 60s": "keepalive_timeout 1s"},
    "haproxy": {"pool-purge-delay 5s": "pool-purge-delay 500ms"},
}
"""Changes that end an idle connection soon."""
KEEP_ALIVE = 4
"""Seconds that the service keeps a connection, in these tests."""
CLIENTS = 40


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", PROXIES)
async def test_no_request_is_lost_on_a_connection_that_is_being_closed(
    kept_dir: Path, name: str
) -> None:
    settings = settings_of(name) | {
        "TICKETING_KEEP_ALIVE": str(KEEP_ALIVE),
        "TICKETING_DRAIN": "0",
    }
    with (
        serving(kept_dir, **settings) as service,
        proxied(name, kept_dir, at(service), IDLE[name]) as proxy,
    ):
        async with asking(proxy) as client:
            seen: Counter[int] = Counter()

            async def ask() -> None:
                # A POST, because no proxy may resend it.
                seen[(await client.post("/api/users/login", json={})).status_code] += 1

            async with (
                asyncio.TaskGroup() as group
            ):  # All at once, so that there are many connections.
                for _ in range(CLIENTS):
                    group.create_task(ask())
            for around in (1, 2, KEEP_ALIVE):
                async with asyncio.TaskGroup() as group:
                    for number in range(CLIENTS):
                        pause = around + (number - CLIENTS / 2) * 0.002
                        asyncio.get_running_loop().call_later(
                            pause, lambda: group.create_task(ask())
                        )
                    await asyncio.sleep(around + 0.2)
            assert seen == {422: 4 * CLIENTS}


@pytest.fixture(params=PROXIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def before(
    worker: Worker, name: str, folder: Path, changes: Mapping[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a proxy in front of a service in this process, which must not be blocked."""
    # Health checks without the database, because its loop is that of this test.
    checks = {"httpchk GET /readyz": "httpchk GET /livez"} if name == "haproxy" else {}
    context = proxied(name, folder, f"127.0.0.1:{worker.port}", {**checks, **(changes or {})})
    proxy = await asyncio.to_thread(context.__enter__)
    try:
        async with asking(proxy) as client:
            yield client
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def test_connections_to_the_service_are_kept_and_speak_http_1_1(
    settings: Settings, open_dir: Path, name: str
) -> None:
    seen = []
    app = create_app(settings.model_copy(update={"root_path": PREFIX}))
    inner = app.middleware_stack
    assert inner is not None

    async def noting(scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/livez":  # HAProxy's own.
            seen.append((scope["http_version"], scope["client"]))
        await inner(scope, receive, send)

    app.middleware_stack = noting
    async with serving_here(app, settings) as worker, before(worker, name, open_dir) as client:
        for _ in range(20):
            assert (await client.get("/")).status_code == 200
    assert {version for version, _ in seen} == {"1.1"}
    assert len(seen) == 20
    assert len({connection for _, connection in seen}) == 1


async def test_an_idle_connection_is_ended_by_the_proxy_and_not_by_the_service(
    settings: Settings, open_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[BoundedProtocol] = []
    monkeypatch.setattr(BoundedProtocol, "timeout_keep_alive_handler", ended.append)
    known = settings.model_copy(update={"root_path": PREFIX, "keep_alive": KEEP_ALIVE})
    app = create_app(known)
    async with (
        serving_here(app, known) as worker,
        before(worker, name, open_dir, IDLE[name]) as client,
    ):
        answers = await asyncio.gather(*(client.get("/") for _ in range(4)))
        assert {each.status_code for each in answers} == {200}
        async with asyncio.timeout(PATIENCE):
            # HAProxy's checks come and go.
            while len(worker.server.server_state.connections) > 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert ended == []


async def test_a_stream_arrives_piece_by_piece(
    settings: Settings, open_dir: Path, name: str
) -> None:
    known = {"root_path": PREFIX}
    app = create_app(settings.model_copy(update=known), also=[examples])
    async with (
        serving_here(app, settings) as worker,
        before(worker, name, open_dir) as client,
        client.stream("GET", f"{EXAMPLES}/stream") as response,
    ):
        assert response.status_code == 200
        pieces = response.aiter_raw()
        first = [await anext(pieces) for _ in range(5)]
        # A proxy that buffers sends several thousand bytes at a time.
        assert max(map(len, first)) < 100
        assert set(b"".join(first).split(b"tick")) == {b""}


async def test_live_numbers_arrive_at_once_and_a_client_that_leaves_is_noticed(
    settings: Settings, open_dir: Path, name: str
) -> None:
    app = create_app(settings.model_copy(update={"root_path": PREFIX}))
    async with serving_here(app, settings) as worker, before(worker, name, open_dir) as client:
        ada = await Visitor(client).register()
        event = await ada.organise()
        async with client.stream("GET", f"/api/events/{event}/live") as response:
            assert response.headers["cache-control"] == "no-cache, no-transform"
            assert "content-encoding" not in response.headers
            lines = response.aiter_lines()
            for wanted in ('"availableTickets":10,', '"availableTickets":9,'):
                async with asyncio.timeout(PATIENCE):
                    while wanted not in await anext(lines):
                        pass
                assert worker.service.streams.open == 1
                await ada.book(event)
        async with asyncio.timeout(PATIENCE):
            while worker.service.streams.open:  # noqa: ASYNC110 - it sends no event
                await asyncio.sleep(0.01)
