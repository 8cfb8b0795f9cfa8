"""The pages and their files stay below the prefix of a proxy."""

import re
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI

AT = "https://tickets.example/tickets/"
ADDRESS = re.compile(r"""(?:href|src|spec-url|action)=["']?([^"' >]+)|\burl: ["']([^"']+)""")


@pytest.fixture
def app(shared_app: FastAPI) -> FastAPI:
    return shared_app


async def addresses(client: httpx.AsyncClient, path: str) -> list[str]:
    """Return the addresses in a page, or in its scripts and stylesheets."""
    found = ADDRESS.findall((await client.get(path)).text)
    return [one or other for one, other in found]


@pytest.mark.parametrize("page", ["docs", "redoc"])
async def test_a_page_loads_nothing_outside_of_its_prefix(
    client: httpx.AsyncClient, page: str
) -> None:
    loaded = await addresses(client, f"/{page}")
    scripts = [each for each in loaded if re.fullmatch(r"static/[^/]+\.js", each)]
    loaded += [named for script in scripts for named in await addresses(client, f"/{script}")]
    assert "openapi.json" in loaded
    for each in loaded:
        under = urljoin(AT + page, each)
        assert under.startswith(AT), each
        assert (await client.get("/" + under.removeprefix(AT))).status_code == 200


async def test_the_paths_of_the_document_are_relative_to_its_own_address(app: FastAPI) -> None:
    document = app.openapi()
    (server,) = document["servers"]
    assert urljoin(AT + "openapi.json", server["url"]) == AT


async def test_the_docs_page_logs_in_below_the_prefix(client: httpx.AsyncClient) -> None:
    script = (await client.get("/static/docs.js")).text
    (login,) = re.findall(r'tokenUrl: "([^"]+)"', script)
    assert urljoin(AT + "docs", login) == AT + "api/users/token"
