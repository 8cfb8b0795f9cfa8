"""Rate limits as a client sees them."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from tests.contract import assert_documented, assert_problem
from tests.people import PASSWORD, Person, Visitor
from ticketing.app import create_app
from ticketing.settings import RateLimit, Settings

WRONG = "wrong"

Serve = Callable[..., AbstractAsyncContextManager[Visitor]]


@pytest.fixture(params=["memory", "postgresql"])
def serve(request: pytest.FixtureRequest, settings: Settings) -> Serve:
    """A service with some limits, called from a chosen address."""

    @asynccontextmanager
    async def serving(address: str = "192.0.2.1", **limits: object) -> AsyncIterator[Visitor]:
        changes = {"rate_limits": "on", "rate_limit_store": request.param, **limits}
        app = create_app(settings.model_copy(update=changes))
        async with app.router.lifespan_context(app), calling(app, address) as visitor:
            yield visitor

    return serving


@asynccontextmanager
async def calling(app: FastAPI, address: str) -> AsyncIterator[Visitor]:
    async def documented(response: httpx.Response) -> None:
        await response.aread()
        assert_documented(app, response)

    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        client.event_hooks["response"].append(documented)
        yield Visitor(client)


def assert_refused(answer: httpx.Response) -> int:
    """Check the form of a 429, and return the seconds to wait."""
    members = assert_problem(answer, 429, "too_many_requests")
    wait = int(answer.headers["retry-after"])
    assert members == {"retryAfter": wait}
    assert wait > 0
    assert answer.headers["ratelimit-policy"]
    return wait


async def test_an_account_books_within_its_limit(serve: Serve) -> None:
    async with serve(limit_bookings=RateLimit(3, 300)) as visitor:
        ada, bob = await visitor.register(), await visitor.register()
        event = await ada.organise()
        first = await ada.book(event)
        assert first.headers["ratelimit-policy"] == (
            '"address-bookings";q=3000;w=60, "bookings";q=3;w=300'
        )
        assert re.fullmatch(
            r'"address-bookings";r=2999;t=1, "bookings";r=2;t=(99|100)', first.headers["ratelimit"]
        )
        assert (await ada.cancel(event)).status_code == 200
        assert (await ada.book(event)).status_code == 201
        refused = await ada.cancel(event)
        assert 90 <= assert_refused(refused) <= 100
        assert '"bookings";r=0;t=' in refused.headers["ratelimit"]
        assert (await bob.book(event)).status_code == 201
        places = await visitor.event(event)
        assert places["availableTickets"] == 8


async def test_a_shop_books_for_each_customer_within_their_limit_and_not_its_own(
    serve: Serve,
) -> None:
    async with serve(limit_bookings=RateLimit(2, 200)) as visitor:
        shop = await visitor.register()
        event = await shop.organise()
        for _ in range(2):
            await shop.book(event)
        assert_refused(await shop.book(event))
        for program in (shop, await shop.make_key("bookings:write")):
            for number in range(4):
                customer = {"externalId": f"{program.token[-30:]}-{number}"}
                body = {"eventId": event, "customer": customer}
                assert (await program.post("/api/events/book", body)).status_code == 201
            assert (await program.post("/api/events/cancel", body)).status_code == 200
            refused = await program.post("/api/events/book", body)
            assert 90 <= assert_refused(refused) <= 100
            assert '"customer-bookings";r=0;t=' in refused.headers["ratelimit"]


async def test_a_key_books_within_a_limit_of_its_own_and_is_not_counted_by_address(
    serve: Serve,
) -> None:
    limits = {"limit_key_bookings": RateLimit(4, 400), "limit_address_bookings": RateLimit(2, 60)}
    async with serve(**limits) as visitor:
        shop = await visitor.register()
        event = await shop.organise()
        one, other = [await shop.make_key("bookings:write") for _ in range(2)]

        async def book(by: Person, customer: str) -> httpx.Response:
            body = {"eventId": event, "customer": {"externalId": customer}}
            return await by.post("/api/events/book", body)

        # The first request with a key counts for the address too, because it is not verified yet.
        first = [await book(program, f"first-{program.token[-8:]}") for program in (one, other)]
        assert [each.status_code for each in first] == [201, 201]
        assert_refused(await book(shop, "by-token"))
        answers = [await book(one, f"customer-{number}") for number in range(4)]
        assert [each.status_code for each in answers] == [201, 201, 201, 429]
        assert answers[0].headers["ratelimit-policy"] == (
            '"key-bookings";q=4;w=400, "customer-bookings";q=60;w=60'
        )
        assert '"key-bookings";r=0;t=' in answers[-1].headers["ratelimit"]
        assert 90 <= assert_refused(answers[-1]) <= 100
        assert (await book(other, "customer-9")).status_code == 201
        # Bookings of the person by a key count for the person too.
        own = await other.book(event)
        assert own.headers["ratelimit-policy"] == ('"key-bookings";q=4;w=400, "bookings";q=60;w=60')


async def test_an_address_calls_within_its_limit(serve: Serve) -> None:
    async with serve(
        limit_requests=RateLimit(4, 400), limit_address_bookings=RateLimit(1, 60)
    ) as visitor:
        get = visitor.client.get
        answers = [await get("/api/events") for _ in range(3)]
        answers.append(await get("/api/nothing"))
        assert [each.status_code for each in answers] == [200, 200, 200, 404]
        left = [each.headers["ratelimit"].rpartition(";")[0] for each in answers]
        assert left == [f'"requests";r={remaining}' for remaining in (3, 2, 1, 0)]
        assert answers[0].headers["ratelimit-policy"] == '"requests";q=4;w=400'
        refused = await get("/api/events/1")
        assert assert_refused(refused) <= 100
        assert refused.headers["x-request-id"]
        assert refused.headers["cache-control"] == "no-store"
        # Bookings have a separate limit, which refuses before authentication.
        book = [await visitor.client.post("/api/events/book", json={}) for _ in range(2)]
        assert [each.status_code for each in book] == [401, 429]
        for path in ("/livez", "/readyz", "/docs", "/openapi.json", "/static/docs.js", "/"):
            answer = await get(path)
            assert answer.status_code != 429
            assert "ratelimit" not in answer.headers


async def test_guessing_a_password_is_slowed_and_the_owner_gets_in(serve: Serve) -> None:
    async with serve(limit_logins=RateLimit(4, 400)) as visitor:
        ada = await visitor.register()

        async def guess(client: httpx.AsyncClient, password: str = WRONG) -> httpx.Response:
            body = {"username": ada.username, "password": password}
            return await client.post("/api/users/login", json=body)

        transport = visitor.client._transport
        assert isinstance(transport, httpx.ASGITransport)
        app = transport.app
        for number in (7, 8):
            async with calling(app, f"198.51.100.{number}") as guesser:  # type: ignore[arg-type]
                answers = [await guess(guesser.client) for _ in range(5)]
                tried = sum(answer.status_code == 401 for answer in answers)
                assert tried == (3 if number == 7 else 1)
                assert_refused(answers[-1])
                assert_refused(await guess(guesser.client, PASSWORD))
        # From an address where she logged in before, she mistypes and gets in.
        assert (await guess(visitor.client)).status_code == 401
        assert (await guess(visitor.client, PASSWORD)).status_code == 200


@pytest.mark.parametrize("letters", ["\u0130", "\u212a"])
async def test_a_letter_whose_lower_case_is_in_a_name_does_not_open_the_account(
    serve: Serve, letters: str
) -> None:
    async with serve() as visitor:
        ada = await visitor.register()
        name = f"ki{ada.username[:20]}"
        known = {"username": name, "password": PASSWORD}
        assert (await visitor.client.post("/api/users/register", json=known)).status_code == 201
        for first in ("ki", f"{letters}i", f"k{letters}", f"{letters}{letters}"):
            body = {"username": f"{first}{name[2:]}", "password": PASSWORD}
            answer = await visitor.client.post("/api/users/login", json=body)
            assert answer.status_code == (200 if first == "ki" else 401), ascii(first)


async def test_guessing_a_token_that_sets_a_password_is_limited(serve: Serve) -> None:
    async with serve(limit_address_logins=RateLimit(4, 400)) as visitor:

        async def guess(client: httpx.AsyncClient, token: str) -> httpx.Response:
            body = {"token": token, "newPassword": "another horse"}
            return await client.post("/api/users/password", json=body)

        for number in range(4):
            refused = await guess(visitor.client, f"guess-{number}")
            assert_problem(refused, 401, "invalid_password_token")
        assert_refused(await guess(visitor.client, "another guess"))
        # Other addresses are not limited.
        app = visitor.client._transport.app  # type: ignore[attr-defined]
        async with calling(app, "198.51.100.1") as other:
            refused = await guess(other.client, "guess-0")
            assert_problem(refused, 401, "invalid_password_token")


async def test_a_borrowed_token_does_not_help_to_guess_the_password(serve: Serve) -> None:
    async with serve() as visitor:
        ada = await visitor.register()
        for _ in range(3):
            assert (
                await ada.post("/api/users/me/delete", {"password": "wrong"})
            ).status_code == 403
        change = {"currentPassword": PASSWORD, "newPassword": "another horse"}
        assert_refused(await ada.post("/api/users/me/delete", {"password": PASSWORD}))
        assert_refused(await ada.post("/api/users/me/password", change))


async def test_an_address_registers_within_its_limit(serve: Serve) -> None:
    async with serve(limit_registrations=RateLimit(1, 100)) as visitor:
        await visitor.register()
        credentials = {"username": "another", "password": PASSWORD}
        refused = await visitor.client.post("/api/users/register", json=credentials)
        assert 90 <= assert_refused(refused) <= 100


async def test_without_limits_no_response_has_their_headers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/events")
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


async def test_a_page_of_another_origin_may_read_the_headers_of_limits(serve: Serve) -> None:
    async with serve(cors_origins=("https://tickets.example",)) as visitor:
        answer = await visitor.client.get(
            "/api/events", headers={"Origin": "https://tickets.example"}
        )
        exposed = answer.headers["access-control-expose-headers"]
        assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(exposed.split(", "))
