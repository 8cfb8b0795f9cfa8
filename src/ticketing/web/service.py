"""The state of the service, and the description of its API."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from ticketing.errors import NotReady
from ticketing.web.assets import Asset
from ticketing.web.streams import Streams

BRIEF: Final = 1e-4
"""Seconds after which a thread that makes the document lets requests go on. The interpreter's own
value, 5 ms, would delay each of their steps by that time."""


class Service:
    """State for the pages and the health checks."""

    def __init__(
        self,
        is_usable: Callable[[], Awaitable[bool]],
        is_short: Callable[[], bool],
        streams: Streams,
        *,
        registration_is_open: bool,
    ) -> None:
        """Call `is_usable` to check the database, and `is_short` whether it lacks connections."""
        self.registration_is_open = registration_is_open
        self._is_usable = is_usable
        self._is_short = is_short
        self.streams = streams
        self._is_stopping = False
        self.describe: Callable[[], dict[str, Any]] = dict
        """Makes the OpenAPI document; the composition root sets it."""
        self._document: Asset | None = None
        self._making = asyncio.Lock()

    async def require_ready(self) -> None:
        """Raise NotReady unless the service can serve, or Unavailable if the database is silent."""
        if self._is_stopping:
            raise NotReady("stopping")
        if not await self._is_usable():
            raise NotReady("database")
        if self._is_short():
            raise NotReady("connections")

    def stop(self) -> None:
        """Report "not ready" from now on, because the service stops."""
        self._is_stopping = True

    def drain(self) -> None:
        """End the streams, because the service stops or restarts this worker."""
        self.streams.end()

    async def document(self) -> Asset:
        """Return the OpenAPI document.

        The first call makes it, in a thread, because that takes half a second.
        """
        async with self._making:
            if self._document is None:
                self._document = await asyncio.to_thread(self._make)
        return self._document

    def _make(self) -> Asset:
        usual = sys.getswitchinterval()
        sys.setswitchinterval(BRIEF)
        try:
            return Asset(orjson.dumps(self.describe()), "application/json")
        finally:
            sys.setswitchinterval(usual)
