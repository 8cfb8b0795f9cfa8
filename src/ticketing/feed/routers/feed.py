"""The feed: what happened at events, in order, from any cursor."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Annotated, TypeAlias

from fastapi import Query, Request, Response
from pydantic import Field

from ticketing.errors import EventNotFound, Forbidden, InsufficientScope, NotAuthenticated
from ticketing.feed.following import Listener
from ticketing.feed.part import Feed
from ticketing.feed.routers.fields import FeedEventOut
from ticketing.feed.told import Fact, document, encoded
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.routers.authentication import Authenticated, require
from ticketing.web.fields import INT32, EventId, Out, Whole
from ticketing.web.lists import Cursor, PageSize, decode_cursor
from ticketing.web.part import of
from ticketing.web.routes import Routes

routes = Routes("/api", "feed")

Wait = Annotated[
    int,
    Query(
        ge=0,
        le=30,
        description="Seconds to wait for something new, if there is nothing yet.",
        json_schema_extra=INT32,
    ),
    Whole,
]

Read: TypeAlias = Callable[[int], Awaitable[tuple[Sequence[Fact], int]]]
"""Returns the facts after a number, and the number after which to read on."""


class FeedOut(Out):
    """The events after the cursor, in order."""

    items: list[FeedEventOut]
    next_cursor: str | None = Field(
        description="Send it as `cursor` to go on, also if `items` is empty. Null if nothing has"
        " happened yet: then go on without a cursor.",
        examples=["4f2"],
    )


@routes.get(
    "/events/{eventId}/feed",
    Action.READ_EVENT_FEED,
    "Follow what happens at an event",
    errors=(NotAuthenticated, InsufficientScope, Forbidden, EventNotFound),
    model=FeedOut,
    streams=True,
)
async def follow_event(  # noqa: PLR0913, PLR0917 - the parameters of the API
    eventId: EventId,  # noqa: N803 - the API's name
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
    wait: Wait = 0,
) -> Response:
    """Return what happened at the event after the cursor, oldest first; from the start without one.

    The order never changes, and nothing is left out. If there is nothing yet, `wait` holds the
    response until something happens. The response may come earlier, and then has no items. A cursor
    from beyond the end is refused: the database was restored from a backup that is older.
    """
    await require(request, caller, eventId)
    facts = of(request, Feed).facts

    async def read(after: int) -> tuple[Sequence[Fact], int]:
        found = await facts.of_event(eventId, after=after, limit=limit)
        return found, found[-1].seq if found else after

    return await _followed(request, read, (eventId,), cursor, wait)


@routes.get(
    "/feed",
    Action.READ_FEED,
    "Follow what happens at all your events",
    errors=(NotAuthenticated, InsufficientScope),
    model=FeedOut,
    streams=True,
)
async def follow_events(
    caller: Authenticated,
    request: Request,
    limit: PageSize = 20,
    cursor: Cursor = None,
    wait: Wait = 0,
) -> Response:
    """Return what happened after the cursor at all events whose owner or manager you are.

    Admins see all events. It is the same as following each event, in one order.
    """
    facts = of(request, Feed).facts
    is_admin = caller.id in of(request, Identity).access.admins
    events = None if is_admin else await facts.visible_to(caller.id)

    async def read(after: int) -> tuple[Sequence[Fact], int]:
        if is_admin:
            return await facts.of_events(None, after=after, limit=limit)
        return await facts.of_person(caller.id, after=after, limit=limit)

    return await _followed(request, read, events, cursor, wait, and_new=True)


async def _followed(  # noqa: PLR0913 - what is followed, and how
    request: Request,
    read: Read,
    events: Collection[int] | None,
    cursor: str | None,
    wait: int,
    *,
    and_new: bool = False,
) -> Response:
    have = of(request, Feed)
    after = decode_cursor(cursor) or 0
    found, after = await read(after)
    if not found:
        await have.facts.require_drawn(after)
    if not found and wait:
        with have.follower.listening(events, and_new=and_new) as listener:
            found, after = await read(after)
            if not found:
                news = have.streams.until_drained(_news(listener, wait), beat=None, every=wait)
                async for _ in news:
                    found, after = await read(after)
                    if found:
                        break
    body = {
        "items": [document(each) for each in found],
        "nextCursor": f"{after:x}" if after else None,
    }
    return Response(encoded(body), media_type="application/json")


async def _news(listener: Listener, wait: int) -> AsyncIterator[None]:
    """Yield each time there are new records, until the time has passed."""
    ends_at = asyncio.get_running_loop().time() + wait
    while await listener.wait(ends_at - asyncio.get_running_loop().time()):
        yield None
