"""Several tabs of a browser share one session: the recipe of `docs/clients.md`, to the letter."""

import asyncio
import hashlib
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Visitor

TABS = 5


class Browser:
    """The storage that the tabs of one browser share."""

    def __init__(self, client: httpx.AsyncClient, refresh_token: str) -> None:
        self.client = client
        self.storage: dict[str, Any] = {"refreshToken": refresh_token}

    async def refresh(self, refresh_token: str | None = None) -> httpx.Response:
        """Refresh in a tab with the token from the storage, or with an older one."""
        token = refresh_token or self.storage["refreshToken"]
        key = hashlib.sha256(token.encode()).hexdigest()
        while True:
            answer = await self.client.post(
                "/api/users/refresh",
                json={"refreshToken": token},
                headers={"Idempotency-Key": key},
            )
            if answer.status_code != 409:
                break
            assert answer.json()["code"] == "request_in_progress"
            await asyncio.sleep(int(answer.headers["Retry-After"]))
        if answer.status_code == 200:
            self.storage = answer.json()
        return answer

    async def is_in(self) -> bool:
        headers = {"Authorization": f"Bearer {self.storage['token']}"}
        return (await self.client.get("/api/users/me", headers=headers)).status_code == 200


async def test_tabs_that_refresh_at_once_get_the_same_tokens_and_stay_logged_in(
    visitor: Visitor,
) -> None:
    ada = await visitor.register()
    browser = Browser(visitor.client, ada.refresh_token)
    for _ in range(3):
        answers = await asyncio.gather(*(browser.refresh() for _ in range(TABS)))
        assert [each.status_code for each in answers] == [200] * TABS
        assert len({each.content for each in answers}) == 1
        assert await browser.is_in()


async def test_a_tab_that_refreshes_late_gets_the_new_tokens(visitor: Visitor) -> None:
    ada = await visitor.register()
    browser = Browser(visitor.client, ada.refresh_token)
    for _ in range(2):
        await browser.refresh()
    now = browser.storage
    late = await browser.refresh(ada.refresh_token)
    assert late.headers["Idempotency-Replayed"] == "true"
    assert browser.storage != now
    assert (await browser.refresh()).status_code == 200
    assert browser.storage == now
    assert await browser.is_in()


async def test_a_tab_that_refreshes_with_a_used_token_after_a_day_ends_the_session(
    visitor: Visitor, app: FastAPI, engine: AsyncEngine
) -> None:
    del app
    ada = await visitor.register()
    browser = Browser(visitor.client, ada.refresh_token)
    await browser.refresh()
    async with engine.begin() as connection:  # As the service does after a day.
        await connection.execute(text("DELETE FROM idempotency_keys"))
    assert (await browser.refresh(ada.refresh_token)).status_code == 401
    assert not await browser.is_in()
