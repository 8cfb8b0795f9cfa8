"""The application in this process, and clients of it without a network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

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
    )


@asynccontextmanager
async def running(
    settings: Settings, documents: dict[str, dict[str, Any]]
) -> AsyncIterator[FastAPI]:
    """Run an application. `documents` keeps the OpenAPI documents by their description."""
    app = create_app(settings)
    # A client of these tests has its response when it is complete.
    app.state.provided[Service].streams.longest = 0.0
    # Making a document takes a second under coverage, and settings change only the description.
    app.openapi_schema = documents.get(app.description)
    async with app.router.lifespan_context(app):
        yield app
    if app.openapi_schema is not None:
        documents[app.description] = app.openapi_schema


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
