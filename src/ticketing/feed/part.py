"""The objects that the routes of this part work with."""

from dataclasses import dataclass
from typing import Any

from ticketing.feed.delivery import Tester
from ticketing.feed.following import Follower
from ticketing.feed.live import Hub
from ticketing.feed.repositories.activity import ActivityRepository
from ticketing.feed.repositories.facts import FactRepository
from ticketing.feed.repositories.live import Followed, Key
from ticketing.feed.repositories.trail import TrailRepository
from ticketing.feed.repositories.webhooks import WebhookRepository
from ticketing.web.streams import Streams


@dataclass(frozen=True, slots=True)
class Feed:
    """The objects that the routes of this part work with."""

    trail: TrailRepository
    facts: FactRepository
    follower: Follower
    streams: Streams
    webhooks: WebhookRepository
    tester: Tester
    availability: Hub[Any, Any]
    """Of events."""
    following: Hub[Key, Followed]
    """Of bookings."""
    activity: ActivityRepository
