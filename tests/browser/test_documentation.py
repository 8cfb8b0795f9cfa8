"""The documentation pages in a browser."""

import json
from typing import Any

import httpx
import pytest
from playwright.async_api import Page

from tests.browser.traffic import Traffic
from tests.serving import Service

pytestmark = pytest.mark.usefixtures("unmeasured")

CREDENTIALS = {"username": "ada", "password": "correct horse battery"}


async def execute(page: Page, operation: str, body: object) -> tuple[int, dict[str, Any]]:
    """Open an operation, send its form, and return the status and the body that are shown."""
    block = page.locator(f".opblock[id$=-{operation}]")
    await block.locator(".opblock-summary-control").click()
    await block.locator("textarea").fill(json.dumps(body))
    await block.get_by_role("button", name="Execute").click()
    shown = block.locator(".live-responses-table .response")
    status = await shown.locator(".response-col_status").inner_text()
    return int(status), json.loads(await shown.locator(".highlight-code code").inner_text())


async def authorize(page: Page, username: str, password: str) -> None:
    await page.locator(".auth-wrapper > .authorize").click()
    dialog = page.locator(".dialog-ux")
    await dialog.get_by_label("username").fill(username)
    await dialog.get_by_label("password").fill(password)
    await dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
    await dialog.get_by_role("button", name="Remove authorization").wait_for()
    await dialog.get_by_role("button", name="Close").first.click()


def operations(service: Service) -> dict[str, tuple[str, str]]:
    """The method and the path of every documented operation, by its id."""
    paths = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    return {
        operation["operationId"]: (method.upper(), path)
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def webhooks(service: Service) -> dict[str, tuple[str, str]]:
    """The method and the name of every call to a webhook, by its id."""
    calls = httpx.get(f"{service.url}/openapi.json").json()["webhooks"]
    return {call["post"]["operationId"]: ("POST", name) for name, call in calls.items()}


async def test_somebody_registers_logs_in_and_books_on_the_docs_page(
    page: Page, service: Service
) -> None:
    traffic = Traffic(page)
    await page.goto(f"{service.url}/docs")

    status, person = await execute(page, "register", CREDENTIALS)
    assert (status, person["username"]) == (201, CREDENTIALS["username"])
    await authorize(page, **CREDENTIALS)
    event = {"name": "An evening of chamber music", "totalTickets": 1}
    status, made = await execute(page, "initializeEvent", event)
    assert (status, made["organiserId"]) == (201, person["id"])
    wish = {"eventId": made["id"], "userId": person["id"]}
    status, booked = await execute(page, "bookTicket", wish)
    assert (status, booked["status"]) == (201, "booked")
    assert booked.items() >= wish.items()
    assert traffic.complaints == []

    async with httpx.AsyncClient(base_url=service.url) as client:
        login = await client.post("/api/users/login", json=CREDENTIALS)
        headers = {"Authorization": f"Bearer {login.json()['token']}"}
        mine = await client.get("/api/users/me/bookings", headers=headers)
        assert mine.json()["items"] == [booked]
        assert (await client.get(f"/api/events/{made['id']}")).json()["availableTickets"] == 0


async def test_an_api_key_can_be_pasted(page: Page, service: Service) -> None:
    bob = {"username": "bob", "password": "correct horse battery"}
    async with httpx.AsyncClient(base_url=service.url) as client:
        await client.post("/api/users/register", json=bob)
        login = (await client.post("/api/users/login", json=bob)).json()
        headers = {"Authorization": f"Bearer {login['token']}"}
        wanted = {"name": "A program", "scopes": ["events:write"]}
        made = await client.post("/api/users/me/keys", json=wanted, headers=headers)
    await page.goto(f"{service.url}/docs")
    await page.locator(".auth-wrapper > .authorize").click()
    dialog = page.locator(".dialog-ux")
    await dialog.locator("#auth-bearer-value").fill(made.json()["key"])
    await dialog.get_by_role("button", name="Apply credentials").click()
    await dialog.get_by_role("button", name="Remove authorization").wait_for()
    await dialog.get_by_role("button", name="Close").first.click()
    event = {"name": "An evening of chamber music", "totalTickets": 1}
    status, event = await execute(page, "initializeEvent", event)
    assert (status, event["organiserId"]) == (201, login["userId"])


async def test_the_docs_page_shows_every_operation_and_needs_no_other_site(
    page: Page, service: Service
) -> None:
    expected = operations(service)
    called = webhooks(service)
    traffic = Traffic(page)
    await page.goto(f"{service.url}/docs")

    blocks = page.locator(".opblock")
    await blocks.nth(len(expected) + len(called) - 1).wait_for()
    shown = await blocks.locator(".opblock-summary-control").evaluate_all(
        """summaries => summaries.filter(each => each.checkVisibility()).map(each => [
            each.querySelector(".opblock-summary-method").innerText,
            each.querySelector(".opblock-summary-path").dataset.path,
        ])"""
    )
    assert sorted(map(tuple, shown)) == sorted([*expected.values(), *called.values()])

    await page.wait_for_load_state("networkidle")
    assert traffic.besides(service.url) == {}
    assert traffic.complaints == []


async def test_the_reference_shows_every_operation_and_needs_no_other_site(
    page: Page, service: Service
) -> None:
    expected = [*operations(service), *webhooks(service)]
    traffic = Traffic(page)
    await page.goto(f"{service.url}/redoc")

    sections = page.locator("[data-section-id*='/operation/']")
    await sections.nth(len(expected) - 1).wait_for()
    shown = await sections.evaluate_all(
        """sections => sections.filter(each => each.checkVisibility())
            .map(each => each.dataset.sectionId.split("/").at(-1))"""
    )
    assert sorted(shown) == sorted(expected)
    # The search runs in a worker, made from a blob.
    await page.get_by_placeholder("Search...").fill("give up a place")
    await page.get_by_role("search").get_by_text("Cancel a booking").wait_for()

    await page.wait_for_load_state("networkidle")
    assert traffic.besides(service.url) == {}
    assert traffic.complaints == []


async def test_the_reference_names_no_button_that_it_lacks(page: Page, service: Service) -> None:
    await page.goto(f"{service.url}/redoc")
    await page.locator("[data-section-id*='/operation/']").first.wait_for()
    text = await page.locator("body").inner_text()
    assert "Bearer" in text
    assert "Authorize" not in text
    assert "Try it" not in text

    async with page.expect_download() as started:
        await page.get_by_text("Download", exact=True).click()
    path = await (await started.value).path()
    async with httpx.AsyncClient(base_url=service.url) as client:
        served = await client.get("/openapi.json")
    assert json.loads(path.read_bytes()) == served.json()
