"""The state of the service, and the description of its API."""

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

import orjson

from ticketing.web.assets import Asset
from ticketing.web.streams import Streams


class Service:
    """State for the pages and the health checks."""

    def __init__(
        self,
        is_usable: Callable[[], Awaitable[bool]],
        streams: Streams,
        *,
        registration_is_open: bool,
    ) -> None:
        """Call `is_usable` to check the database."""
        self.registration_is_open = registration_is_open
        self._is_migrated = is_usable
        self.streams = streams
        self._is_stopping = False
        self.describe: Callable[[], dict[str, Any]] = dict
        """Makes the OpenAPI document; the composition root sets it."""

    async def is_ready(self) -> bool:
        """Whether the service can serve. Raises Unavailable if the database does not respond."""
        return not self._is_stopping and await self._is_migrated()

    def stop(self) -> None:
        """Report "not ready" from now on, because the service stops."""
        self._is_stopping = True

    def drain(self) -> None:
        """End the streams, because the service stops or restarts this worker."""
        self.streams.end()

    @cached_property
    def _document(self) -> Asset:
        return Asset(orjson.dumps(self.describe()), "application/json")

    def document(self) -> Asset:
        """Return the OpenAPI document, which is serialised once.

        Serialising takes too long to do it in a request, and no rate limit counts these requests.
        """
        return self._document
