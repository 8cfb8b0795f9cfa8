"""Composes what all parts share, and the part `web`."""

from functools import partial
from typing import Final

from ticketing.db.clock import DatabaseClock
from ticketing.db.pools import Pools
from ticketing.db.primary import LOOK_EVERY
from ticketing.db.schema import is_usable
from ticketing.limits import limits
from ticketing.limits.cells import Memory
from ticketing.ops.loops import Loop
from ticketing.settings import Settings
from ticketing.web.part import Part, Shared
from ticketing.web.repositories import stored_responses
from ticketing.web.routers import pages
from ticketing.web.seals import Seals
from ticketing.web.service import Service
from ticketing.web.streams import Streams

CLEAN_EVERY: Final = 60.0
CLOCK_EVERY: Final = 10.0
"""Seconds. In this time the clocks of two machines drift apart by less than a millisecond."""


def share(settings: Settings, memory: Memory | None) -> Shared:
    """Return the objects that all parts share. They connect to nothing yet.

    Rate limits are counted in `memory`; without it, in memory of this process.
    """
    if settings.database_url is None or settings.jwt_secret is None:
        raise ValueError("database_url and jwt_secret must be set")
    secret = settings.jwt_secret.get_secret_value()
    previous = [each.get_secret_value() for each in settings.jwt_previous_secrets]
    url = settings.database_url.get_secret_value()
    pools = Pools(url, settings.pool_size, settings.pooler)
    return Shared(
        settings=settings,
        secret=secret,
        previous_secrets=previous,
        pools=pools,
        clock=DatabaseClock(),
        limits=limits.compose(settings, secret, memory, pools.requests),
        seals=Seals(secret, previous),
        streams=Streams(settings.max_streams),
    )


def compose(shared: Shared) -> Part:
    """Return the part. It closes what all parts share, so it must be closed last."""
    engine = shared.pools.requests
    clean = partial(stored_responses.clean, engine)
    return Part(
        Service(
            partial(is_usable, engine),
            lambda: shared.pools.is_short,
            shared.streams,
            registration_is_open=shared.settings.registration == "open",
        ),
        routes=[pages.routes],
        loops=[
            Loop("primary", partial(shared.pools.primary.look, engine), LOOK_EVERY),
            Loop("clock", partial(shared.clock.refresh, engine), CLOCK_EVERY),
            Loop("cleaning of keys", clean, CLEAN_EVERY),
            *(shared.limits.loops if shared.limits is not None else ()),
        ],
        samples=[*shared.pools.samples, shared.streams.sample],
        close=[shared.pools.close],
    )
