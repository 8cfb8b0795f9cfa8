"""The application in this process, and clients of it without a network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from tests.contract import assert_documented
from tests.signing import SECRET
from ticketing.app import create_app
from ticketing.settings import Settings
from ticketing.web.service import Service


def settings_of(database_url: str, log_dir: Path) -> Settings:
    return Settings(
        _env_file=None,
        database_url=SecretStr(database_url),
        jwt_secret=SecretStr(SECRET),
        log_dir=log_dir,
        bcrypt_rounds=4,
        rate_limits="off",
        # Each application would look for webhooks, on a connection of its own.
        webhook_delivery="off",
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    """Run an application."""
    app = create_app(settings)
    # A client of these tests has its response when it is complete.
    app.state.provided[Service].streams.longest = 0.0
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application. Every response must be documented."""

    async def documented(response: httpx.Response) -> None:
        await response.aread()
        assert_documented(app, response)
        await asyncio.sleep(0)  # Log lines are written at the end of this turn.

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        client.event_hooks["response"].append(documented)
        yield client
