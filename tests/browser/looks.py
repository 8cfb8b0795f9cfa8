"""How pages look: rules of accessibility, and their width."""

from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

Scheme = Literal["light", "dark"]


PHONE = 390
"""Pixels."""


ALL_RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


async def violations(page: Page, rules: list[str]) -> dict[str, list[Any]]:
    """Return violations of WCAG that axe-core finds, by rule."""
    options = {"resultTypes": ["violations"], "runOnly": rules}
    found = (await Axe().run(page, options=options)).response["violations"]
    return {each["id"]: [node["target"] for node in each["nodes"]] for each in found}


async def width(page: Page) -> int:
    wide: int = await page.evaluate("document.scrollingElement.scrollWidth")
    return wide
