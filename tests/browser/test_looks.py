"""The pages are readable in dark mode, on a phone and by keyboard."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.looks import ALL_RULES, PHONE, Scheme, violations, width
from tests.browser.traffic import PATIENCE, Traffic
from tests.serving import Service
from ticketing import __version__

pytestmark = pytest.mark.usefixtures("unmeasured")

CONTRAST = ["color-contrast"]


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    chosen: Scheme = request.param
    return chosen


@pytest.fixture
async def page(browser: Browser, scheme: Scheme) -> AsyncIterator[Page]:
    """A page on a phone whose system has one of the colour schemes."""
    async with await browser.new_context(
        color_scheme=scheme, viewport={"width": PHONE, "height": 844}, reduced_motion="reduce"
    ) as context:
        context.set_default_timeout(PATIENCE)
        yield await context.new_page()


# Of elements beside each other that have the same tags, attributes, classes and styles, all the
# way down, it keeps two, because rows alternate.
KEEP_TWO_ALIKE = """() => {
    const outline = (part) => {
        const seen = new Map();
        for (const child of [...part.children]) {
            const like = outline(child);
            seen.set(like, (seen.get(like) ?? 0) + 1);
            if (seen.get(like) > 2) child.remove();
        }
        const looks = ["class", "style"].map((name) => part.getAttribute(name));
        return [part.tagName, part.getAttributeNames(), looks, ...seen.keys()].join(" ");
    };
    outline(document.body);
}"""


async def pale(page: Page) -> dict[str, list[Any]]:
    """Return violations of the rule of contrast. The page is of no use afterwards.

    What looks like two others before it is not looked at, because axe-core needs milliseconds for
    each element, and a documentation page has ten thousand.
    """
    await page.evaluate(KEEP_TWO_ALIKE)
    return await violations(page, CONTRAST)


async def lightness(page: Page) -> float:
    """The lightness of the page's background, from 0 to 255."""
    light: float = await page.evaluate(
        """() => {
            const of = (part) =>
                getComputedStyle(part).backgroundColor.match(/[0-9.]+/g).map(Number);
            const seen = [document.body, document.documentElement].map(of)
                .find((colour) => colour[3] !== 0) ?? [255, 255, 255];
            return (seen[0] + seen[1] + seen[2]) / 3;
        }"""
    )
    return light


async def test_the_start_page_leads_everywhere_and_needs_no_script(
    browser: Browser, service: Service
) -> None:
    async with await browser.new_context(java_script_enabled=False) as context:
        page = await context.new_page()
        traffic = Traffic(page)
        await page.goto(service.url)
        assert await page.locator("h1").inner_text() == f"ticketing {__version__}"
        links = await page.get_by_role("link").all()
        targets = [await link.get_attribute("href") for link in links]
        assert targets == ["docs", "redoc", "openapi.json", "board/", "readyz"]
        async with httpx.AsyncClient(base_url=service.url) as client:
            for target in targets:
                assert (await client.get(f"/{target}")).status_code == 200
        await page.wait_for_load_state("networkidle")
        assert traffic.besides(service.url) == {}
        assert traffic.complaints == []


async def test_everybody_can_read_the_start_page(
    page: Page, service: Service, scheme: Scheme
) -> None:
    await page.goto(service.url)
    assert await width(page) <= PHONE
    assert (await lightness(page) > 128) is (scheme == "light")
    assert await violations(page, ALL_RULES) == {}


async def test_the_start_page_shows_where_the_keyboard_is(page: Page, service: Service) -> None:
    await page.goto(service.url)
    await page.keyboard.press("Tab")
    style = "getComputedStyle(document.activeElement, '::after')"
    assert await page.evaluate("document.activeElement.getAttribute('href')") == "docs"
    assert await page.evaluate(f"{style}.outlineStyle") == "solid"


async def test_everybody_can_read_the_docs_page(
    page: Page, service: Service, scheme: Scheme
) -> None:
    await page.goto(f"{service.url}/docs")
    for operation in ("bookTicket", "updateEvent", "deleteMe", "grantRole", "listEvents"):
        block = page.locator(f".opblock[id$=-{operation}]")
        await block.locator(".opblock-summary-control").click()
        await block.locator(".responses-table").wait_for()
        await block.locator(".responses-table").scroll_into_view_if_needed()
        assert await width(page) <= PHONE, operation
    block = page.locator(".opblock[id$=-bookTicket]")
    await block.get_by_role("button", name="Execute").click()
    await block.locator(".live-responses-table").wait_for()
    assert await width(page) <= PHONE
    assert (await lightness(page) > 128) is (scheme == "light")
    assert await pale(page) == {}


async def test_everybody_can_read_the_authorize_dialog(page: Page, service: Service) -> None:
    await page.goto(f"{service.url}/docs")
    await page.locator(".auth-wrapper > .authorize").click()
    dialog = page.locator(".dialog-ux")
    await dialog.get_by_label("username").fill("nobody")
    await dialog.get_by_label("password").fill("a wrong one")
    await dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
    await dialog.get_by_role("alert").wait_for()
    assert await width(page) <= PHONE
    assert await pale(page) == {}


async def test_the_docs_page_follows_the_system_while_it_is_open(
    page: Page, service: Service
) -> None:
    await page.goto(f"{service.url}/docs")
    root = page.locator("html")
    await page.emulate_media(color_scheme="dark")
    await expect(root).to_have_class("dark-mode")
    assert await lightness(page) < 128
    await page.emulate_media(color_scheme="light")
    await expect(root).to_have_class("")
    assert await lightness(page) > 128


@pytest.mark.parametrize("scheme", ["dark"], indirect=True)
async def test_a_pale_text_among_many_that_look_alike_is_found(
    page: Page, service: Service
) -> None:
    await page.goto(f"{service.url}/docs")
    await page.locator(".opblock").first.wait_for()
    paths = page.locator(".opblock-delete .opblock-summary-path")
    assert await paths.count() > 2
    await paths.last.evaluate("(path) => { path.style.opacity = 0.1 }")
    assert list(await pale(page)) == ["color-contrast"]


@pytest.mark.parametrize("scheme", ["light"], indirect=True)  # No markup depends on it.
@pytest.mark.parametrize("path", ["", "docs", "redoc"])
async def test_a_page_has_a_language_a_title_a_heading_and_fits_a_phone(
    page: Page, service: Service, path: str
) -> None:
    await page.goto(f"{service.url}/{path}")
    await page.get_by_role("heading", level=1).first.wait_for()
    assert await page.locator("html").get_attribute("lang") == "en"
    assert (await page.title()).startswith("ticketing: ")
    assert await width(page) <= PHONE
