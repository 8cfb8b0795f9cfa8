"""Compose the part."""

from ticketing.feed.part import Feed
from ticketing.feed.repositories.trail import TrailRepository
from ticketing.feed.routers import trail
from ticketing.web.part import Part, Shared


def compose(shared: Shared) -> Part:
    """Return the feed's routes and what they work with."""
    return Part(Feed(TrailRepository(shared.pools.requests)), routes=[trail.routes])
