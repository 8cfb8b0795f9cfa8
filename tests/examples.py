"""Routes that only tests mount. They use what any part may declare."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated
from ticketing.limits.limits import Counted
from ticketing.web.fields import EventId, In
from ticketing.web.lists import PageSize
from ticketing.web.part import Part, Shared, of
from ticketing.web.policy import Overload
from ticketing.web.replay import (
    IdempotencyKey,
    Rendered,
    as_response,
    keyed_request,
)
from ticketing.web.repositories.stored_responses import once
from ticketing.web.routes import Routes
from ticketing.web.streams import Streams

PREFIX = "/api/examples"
FAREWELL = b"farewell"
BEAT = b"beat"


@dataclass
class Examples:
    """The objects that the examples work with."""

    shared: Shared
    streams: Streams
    done: list[str] = field(default_factory=list)
    """The requests that were done."""


class Confirm(In):
    """A body that is not called `body`."""

    reference: str


class Confirmed(BaseModel):
    """A request to confirm."""

    example_id: int
    reference: str


class Split(BaseModel):
    """A request to split."""

    example_id: int
    part_id: int
    limit: int


routes = Routes(PREFIX, "examples")


@routes.post("/{exampleId}/confirm", Action.GET_ME, status=201, counted=Counted.BOOKINGS)
async def confirm(
    exampleId: EventId,  # noqa: N803 - as the API names it
    asked: Confirm,
    caller: Authenticated,
    request: Request,
    key: IdempotencyKey = None,
) -> Rendered:
    """Do once, on a direct route with a parameter in the middle of its path."""
    said = Confirmed(example_id=exampleId, reference=asked.reference)
    return await _once(request, caller.id, key, said, f"confirmed {exampleId} {asked.reference}")


@routes.post("/{exampleId}/parts/{partId}", Action.GET_ME, status=201)
async def split(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    exampleId: EventId,  # noqa: N803 - as the API names it
    partId: EventId,  # noqa: N803 - likewise
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    key: IdempotencyKey = None,
) -> Response:
    """Do once, on a route of the framework with a query and no body."""
    said = Split(example_id=exampleId, part_id=partId, limit=limit)
    return as_response(await _once(request, caller.id, key, said, f"split {exampleId} {partId}"))


@routes.get("/stream", Action.GET_ME, counted=None, streams=True)
async def stream(request: Request) -> StreamingResponse:
    """Send something at short intervals, for ever."""
    return StreamingResponse(_until_drained(of(request, Examples).streams))


@routes.post("/rush", Action.GET_ME, counted=None, overload=Overload.SHED)
async def rush() -> Rendered:
    """Return something. This route is shed first under overload."""
    return Rendered(204, b"")


async def _once(
    request: Request, owner: UUID, key: str | None, said: BaseModel, done: str
) -> Rendered:
    have = of(request, Examples)

    def render(outcome: str) -> Rendered:
        return Rendered(201, b'{"done":"%b"}' % outcome.encode(), f"{PREFIX}/{len(have.done)}")

    keyed = keyed_request(owner, key, said, render)
    async with once(have.shared.pools.requests, keyed) as (_, keep):
        have.done.append(done)
        await keep(done)
    return render(done)


async def _until_drained(streams: Streams) -> AsyncIterator[bytes]:
    async for each in streams.until_drained(_ticks(), BEAT):
        yield each
    yield FAREWELL


async def _ticks() -> AsyncIterator[bytes]:
    while True:
        yield b"tick"
        await asyncio.sleep(0.02)


def examples(shared: Shared) -> Part:
    """Return the examples as a part."""
    return Part(Examples(shared, shared.streams), routes=[routes])
