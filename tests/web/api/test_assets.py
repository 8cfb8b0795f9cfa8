"""Files that are the same for all clients are compressed on request, and sent once to each."""

import random

import httpx
import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers

from tests.people import PASSWORD, Visitor
from ticketing.web.assets import LEAST, Asset, takes_gzip

BUNDLE = "/static/swagger-ui/swagger-ui-bundle.js"
LARGE = ["/openapi.json", BUNDLE, "/static/swagger-ui/swagger-ui.css"]
PAGES = ["/docs", "/redoc", "/static/docs.js", "/static/swagger-ui/favicon-32x32.png"]
PLAIN = {"Accept-Encoding": "identity"}
ZIPPED = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.fixture
def app(shared_app: FastAPI) -> FastAPI:
    return shared_app


@pytest.mark.parametrize("path", LARGE)
async def test_large_files_are_compressed_for_clients_that_accept_it(
    client: httpx.AsyncClient, path: str
) -> None:
    plain = await client.get(path, headers=PLAIN)
    zipped = await client.get(path, headers=ZIPPED)
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(plain.headers["content-length"]) == len(plain.content)
    assert int(zipped.headers["content-length"]) < len(plain.content) / 3
    assert zipped.content == plain.content
    assert zipped.headers["content-type"] == plain.headers["content-type"]
    for each in (plain, zipped):
        assert each.headers["vary"] == "Accept-Encoding"
    # A cache must not use one for the other.
    assert plain.headers["etag"] != zipped.headers["etag"]


@pytest.mark.parametrize(
    "body",
    [b"a" * (LEAST - 1), random.Random(1).randbytes(10 * LEAST)],
    ids=["small", "random"],
)
async def test_files_that_would_not_become_smaller_are_sent_uncompressed(body: bytes) -> None:
    asset = Asset(body, "image/png")
    answers = [await asset.response(Headers(asked)) for asked in (ZIPPED, PLAIN, ZIPPED)]
    for each in answers:
        assert each.body == body
        assert "content-encoding" not in each.headers
    assert len({each.headers["etag"] for each in answers}) == 1


@pytest.mark.parametrize("path", LARGE + PAGES)
async def test_a_file_that_a_client_has_is_not_sent_again(
    client: httpx.AsyncClient, path: str
) -> None:
    for encoding in (PLAIN, ZIPPED):
        first = await client.get(path, headers=encoding)
        tag = first.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await client.get(path, headers=encoding | {"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b""), known
            # They replace the stored headers. Without its policy a page would be blank.
            for name in ("etag", "vary", "cache-control", "content-security-policy"):
                assert again.headers.get(name) == first.headers.get(name), name
        for other in ('"other"', tag.strip('"'), "", f"{tag[:-1]}-other{tag[-1]}"):
            again = await client.get(path, headers=encoding | {"If-None-Match": other})
            assert again.status_code == 200, other


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        *(
            ("gzip", True),
            ("GZIP", True),
            ("br, gzip;q=0.5", True),
            ("*", True),
            ("a, *;q=0.1", True),
        ),
        *(("gzip;q=1.0", True), ("gzip ; q = 1", True), ("gzip;q=0, *", False), ("*;q=0", False)),
        *(("", False), ("identity", False), ("gzip;q=0", False), ("gzip;q=0.000", False)),
        *(("gzipped", False), ("x;gzip", False), (";", False), (",,", False), ("br", False)),
    ],
)
def test_the_client_says_whether_it_accepts_gzip(accepted: str, taken: object) -> None:
    assert takes_gzip(accepted) == taken


async def test_changing_or_secret_responses_are_never_compressed(visitor: Visitor) -> None:
    # With text that an attacker chooses, the length would reveal a secret (BREACH).
    ada = await visitor.register()
    for number in range(30):
        await ada.organise(name=f"Recital {number}")
    login = {"username": ada.username, "password": PASSWORD}
    body = {"name": "x" * 100, "scopes": ["events:write"]}
    answers = [
        await ada.client.post("/api/users/login", json=login, headers=ZIPPED),
        await ada.client.post("/api/users/me/keys", json=body, headers=ada.headers | ZIPPED),
        await ada.client.get("/api/users/me/sessions", headers=ada.headers | ZIPPED),
        await ada.client.get("/api/events?limit=100", headers=ZIPPED),
    ]
    assert len(answers[-1].content) > LEAST
    for each in answers:
        assert each.is_success
        assert "content-encoding" not in each.headers
        assert "etag" not in each.headers
