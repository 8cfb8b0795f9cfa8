"""Everything that a part may declare of a route, with routes that only tests mount."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request

from tests.examples import PREFIX, Examples, examples
from tests.people import Visitor
from ticketing.app import create_app
from ticketing.identity.permissions import Action
from ticketing.settings import RateLimit, Settings
from ticketing.web.direct import DirectRoute
from ticketing.web.fields import In
from ticketing.web.policy import Overload
from ticketing.web.replay import Rendered
from ticketing.web.routes import Routes


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    limits = {"rate_limits": "on", "limit_bookings": RateLimit(3, 3600)}
    app = create_app(settings.model_copy(update=limits), also=[examples])
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def done(app: FastAPI) -> list[str]:
    found: Examples = app.state.provided[Examples]
    return found.done


async def test_a_response_is_replayed_on_a_route_with_a_parameter_in_the_middle_of_its_path(
    app: FastAPI, visitor: Visitor
) -> None:
    ada = await visitor.register()
    path, body = f"{PREFIX}/7/confirm", {"reference": "paid"}
    first, again = [await ada.post(path, body, key="confirm") for _ in range(2)]
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json() == {"done": "confirmed 7 paid"}
    assert first.headers["location"] == again.headers["location"]
    assert [each.headers.get("idempotency-replayed") for each in (first, again)] == [None, "true"]
    assert done(app) == ["confirmed 7 paid"]
    # The path is part of the stored request.
    other = await ada.post(f"{PREFIX}/8/confirm", body, key="confirm")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert done(app) == ["confirmed 7 paid"]


async def test_a_response_is_replayed_on_a_route_of_the_framework(
    app: FastAPI, visitor: Visitor
) -> None:
    ada = await visitor.register()
    path = f"{PREFIX}/7/parts/3?limit=5"
    headers = ada.headers | {"Idempotency-Key": "split"}
    first, again = [await ada.client.post(path, headers=headers) for _ in range(2)]
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert [each.headers.get("idempotency-replayed") for each in (first, again)] == [None, "true"]
    assert done(app) == ["split 7 3"]
    other = await ada.client.post(path.replace("=5", "=6"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_parameter_in_the_middle_of_a_path_is_validated(visitor: Visitor) -> None:
    ada = await visitor.register()
    refused = await ada.post(f"{PREFIX}/none/confirm", {"reference": "paid"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["in"] == "path"
    assert refused.json()["errors"][0]["pointer"] == "#/exampleId"


async def test_a_route_is_counted_by_the_limits_that_its_policy_names(visitor: Visitor) -> None:
    ada = await visitor.register()
    path = f"{PREFIX}/7/confirm"
    answers = [await ada.post(path, {"reference": str(each)}) for each in range(4)]
    assert [each.status_code for each in answers] == [201, 201, 201, 429]
    assert '"bookings";r=0' in answers[-1].headers["ratelimit"]
    assert '"address-bookings"' in answers[0].headers["ratelimit-policy"]
    other = await ada.client.post(f"{PREFIX}/7/parts/3", headers=ada.headers)
    assert other.status_code == 201
    assert other.headers["ratelimit-policy"].startswith('"requests"')
    uncounted = await ada.client.post(f"{PREFIX}/rush")
    assert (uncounted.status_code, "ratelimit" in uncounted.headers) == (204, False)


async def test_the_routes_say_which_requests_are_shed_and_which_are_always_served(
    app: FastAPI,
) -> None:
    table = app.state.table
    sale = ["/api/events/book", "/api/events/cancel", "/api/holds"]
    assert table.under(Overload.SHED) == sorted([*sale, f"{PREFIX}/rush"])
    assert table.under(Overload.SERVE) == ["/livez", "/readyz"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", f"{PREFIX}/7/confirm", "POST"),
        ("GET", "/api/events/book", "POST"),
        ("PATCH", "/api/events/initialize", "POST"),
        ("POST", "/api/events/7", "DELETE, GET, HEAD, PATCH"),
        ("POST", "/docs", "GET, HEAD"),
        # A literal word of another path may be a parameter's value.
        ("POST", "/api/events/book/bookings", "GET, HEAD"),
        ("GET", "/api/events/book/team/019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa", "DELETE, PUT"),
    ],
)
async def test_a_wrong_method_gets_the_allowed_ones_of_the_path(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    refused = await client.request(method, path)
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == allowed


async def test_a_path_without_a_segment_is_no_parameter(client: httpx.AsyncClient) -> None:
    for path in (f"{PREFIX}//confirm", "/api/events/", f"{PREFIX}/7/confirm/"):
        assert (await client.get(path)).status_code == 404


def test_a_parameter_that_a_direct_route_can_not_fill_is_refused_when_it_is_declared() -> None:
    class Other(In):
        pass

    routes = Routes(PREFIX, "examples")

    async def two_bodies(one: Other, two: Other) -> Rendered:
        raise NotImplementedError

    async def unknown(request: Request, whatever: int) -> Rendered:
        raise NotImplementedError

    async def misspelt(exampleid: int) -> Rendered:
        raise NotImplementedError

    for endpoint in (two_bodies, unknown, misspelt):
        with pytest.raises(TypeError, match="can't find"):
            routes.post("/{exampleId}", Action.GET_ME)(endpoint)


def test_a_body_may_have_any_name() -> None:
    async def endpoint(whatever: Body) -> Rendered:
        raise NotImplementedError

    routes = Routes(PREFIX, "examples")
    routes.post("/named", Action.GET_ME)(endpoint)
    assert [type(each) for each in routes.declared] == [DirectRoute]


class Body(In):
    """A body."""
