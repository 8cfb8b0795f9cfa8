"""Every answer to any test here must be documented."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from tests.api.contract import assert_documented


@pytest.fixture
def client(client: httpx.AsyncClient, app: FastAPI) -> httpx.AsyncClient:
    async def documented(response: httpx.Response) -> None:
        await response.aread()
        assert_documented(app, response)
        await asyncio.sleep(0)  # The log's lines are written at the end of this turn.

    client.event_hooks["response"].append(documented)
    return client
