"""A headless Chromium, and a service for it to visit."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.chromium import FLAGS
from tests.browser.traffic import PATIENCE
from tests.folders import folder_open_to_all, put
from tests.serving import UNMEASURED, Service, serving

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


@pytest.fixture(scope="session", autouse=True)
def chromium() -> str:
    """The path of a Chromium. Autouse, so that no service starts without it."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    message = "the browser tests need a Chromium: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path=chromium, args=FLAGS) as browser,
    ):
        yield browser


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page in a new profile."""
    async with await browser.new_context() as context:
        context.set_default_timeout(PATIENCE)
        yield await context.new_page()


@pytest.fixture(scope="module")
def service(kept_data: Path) -> Iterator[Service]:
    """One service for all tests."""
    with folder_open_to_all() as folder:
        put(kept_data, folder)
        with serving(folder, **UNMEASURED) as running:
            yield running
