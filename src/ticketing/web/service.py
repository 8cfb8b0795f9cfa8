"""How the service itself is: whether it can serve, and the description of its API."""

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

import orjson

from ticketing.web.assets import Asset
from ticketing.web.streams import Streams


class Service:
    """What the pages and the health checks work with."""

    def __init__(self, is_usable: Callable[[], Awaitable[bool]], streams: Streams) -> None:
        """Ask `is_usable` whether the database can be used."""
        self._is_migrated = is_usable
        self.streams = streams
        self._is_stopping = False
        self.describe: Callable[[], dict[str, Any]] = dict
        """Makes the OpenAPI document; the composition root sets it."""

    async def is_ready(self) -> bool:
        """Whether it can serve. Raises Unavailable if the database does not answer."""
        return not self._is_stopping and await self._is_migrated()

    def stop(self) -> None:
        """Be ready no more: the service is told to stop."""
        self._is_stopping = True

    def drain(self) -> None:
        """End the streams, because this worker leaves: the service stops, or restarts it."""
        self.streams.end()

    @cached_property
    def _document(self) -> Asset:
        return Asset(orjson.dumps(self.describe()), "application/json")

    def document(self) -> Asset:
        """Return the OpenAPI document, which is written once: nothing limits how often it is asked.

        Writing takes longer than any request may hold the others up.
        """
        return self._document
