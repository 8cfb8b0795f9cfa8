"""The service's own address returns a page to browsers, and JSON to programs."""

import httpx
import pytest
from fastapi import FastAPI

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.fixture
def app(shared_app: FastAPI) -> FastAPI:
    return shared_app


@pytest.mark.parametrize(
    "accept",
    [BROWSER, "text/html", "TEXT/HTML;q=0.5", "application/json;q=0.8, text/html; q=0.9"],
)
async def test_a_browser_gets_a_page(client: httpx.AsyncClient, accept: str) -> None:
    page = await client.get("/", headers={"Accept": accept})
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Accept" in page.headers["vary"].split(", ")
    (policy,) = page.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; ")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "accept",
    [
        *("*/*", "", "application/json", "text/*", "text/html;q=0", "text/html;q=no"),
        *("application/json, text/html;q=0.9", ";,;q=;", "text/html;q=-1", "text/html;q=nan"),
    ],
)
async def test_a_program_gets_json(client: httpx.AsyncClient, accept: str) -> None:
    answer = await client.get("/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    links = answer.json()
    assert links.pop("name") == "ticketing"
    assert links.pop("version")
    for link in links.values():
        assert (await client.get(link)).status_code == 200


async def test_the_start_page_has_no_address_outside_of_its_prefix(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/", headers={"Accept": BROWSER})
    assert 'href="docs"' in page.text
    assert 'href="/' not in page.text
    assert "//" not in page.text
