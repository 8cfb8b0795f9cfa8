"""Compose the part."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from ticketing.feed.delivery import Deliverer, Tester
from ticketing.feed.following import Follower
from ticketing.feed.live import POLL_EVERY, Hub
from ticketing.feed.part import Feed
from ticketing.feed.repositories.activity import ActivityRepository
from ticketing.feed.repositories.deliveries import DeliveryRepository
from ticketing.feed.repositories.facts import FactRepository
from ticketing.feed.repositories.live import FollowedRepository
from ticketing.feed.repositories.trail import TrailRepository
from ticketing.feed.repositories.webhooks import WebhookRepository
from ticketing.feed.routers import board, calendars, feed, fields, live, stats, trail, webhooks
from ticketing.feed.routers.live_fields import Availability, Following
from ticketing.ops.loops import Loop, repeating
from ticketing.sale.repositories.events import EventRepository
from ticketing.web.part import Part, Shared

COUNT_EVERY: Final = 1.0
"""Seconds between two counts of what is new in the trail, by one of the workers."""
CLEAN_EVERY: Final = 3600.0
START_EVERY: Final = 60.0
"""Seconds. The loop only begins the delivery, and begins it again if it has ended."""


@asynccontextmanager
async def delivering(shared: Shared) -> AsyncIterator[None]:
    """Deliver webhooks, in a process that does nothing else."""
    engine = shared.pools.requests
    facts = FactRepository(engine)
    follower = Follower(facts)
    deliveries = DeliveryRepository(engine, facts, shared.seals)
    deliverer = Deliverer(deliveries, follower, shared.settings.webhook_networks)
    loops = [
        Loop("webhooks", deliverer.start, START_EVERY),
        Loop("cleaning of webhooks", deliveries.clean, CLEAN_EVERY),
    ]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(follower.close)
        stack.push_async_callback(deliverer.close)
        for loop in loops:
            await stack.enter_async_context(repeating(loop))
        yield


def compose(shared: Shared) -> Part:
    """Return the feed's routes and what they work with."""
    engine, streams = shared.pools.requests, shared.streams
    facts = FactRepository(engine)
    follower = Follower(facts)
    networks = shared.settings.webhook_networks
    hooks = WebhookRepository(engine, facts, shared.seals)
    # A connection of its own, so that no delivery keeps a request waiting.
    alone = shared.pools.alone("webhooks")
    deliveries = DeliveryRepository(alone, FactRepository(alone), shared.seals)
    deliverer = Deliverer(deliveries, follower, networks)
    # Listeners are many and wait for a long time, so they read on a connection of their own.
    events = EventRepository(engine, shared.pools.alone("live"))
    have = Feed(
        TrailRepository(engine),
        facts,
        follower,
        streams,
        hooks,
        Tester(hooks, networks),
        Hub(Availability(events), streams),
        Hub(Following(FollowedRepository(engine)), streams),
        ActivityRepository(engine),
    )
    loops = [
        Loop("cleaning of webhooks", deliveries.clean, CLEAN_EVERY),
        Loop("live events", have.availability.poll, POLL_EVERY, at_once=False),
        Loop("live bookings", have.following.poll, POLL_EVERY, at_once=False),
        Loop("activity", have.activity.count, COUNT_EVERY, at_once=False),
    ]
    if shared.settings.webhook_delivery == "workers":
        loops.append(Loop("webhooks", deliverer.start, START_EVERY))
    routes = [
        *(trail.routes, feed.routes, webhooks.routes),
        *(live.events, live.bookings, stats.routes, board.routes),
        *(calendars.events, calendars.mine),
    ]
    return Part(
        have,
        routes=routes,
        webhooks=fields.described(),
        loops=loops,
        departed=[hooks.depart],
        close=[deliverer.close, follower.close, events.close],
    )
