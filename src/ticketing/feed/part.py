"""The objects that the routes of this part work with."""

from dataclasses import dataclass

from ticketing.feed.repositories.trail import TrailRepository


@dataclass(frozen=True, slots=True)
class Feed:
    """The objects that the routes of this part work with."""

    trail: TrailRepository
