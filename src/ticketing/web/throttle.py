"""The ASGI layer that applies the rate limits of addresses and adds RateLimit headers."""

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from ticketing.errors import TooManyRequests
from ticketing.limits.limits import TAKEN, Counted, Limits, Taken
from ticketing.limits.meter import Meter, seconds
from ticketing.web.asgi import ASGIApp, ASGIScope, Message, Receive, Send, client_address
from ticketing.web.problems import response_to

API: Final = "/api/"
"""Below this path, requests without a route are counted too."""

CountedApart: TypeAlias = Callable[[ASGIScope], bool]
"""Whether the credential of a booking has a limit of its own, so that its address has none."""


class Throttle:
    """Returns 429 to an address at its limit, and adds RateLimit headers to every response.

    The form is that of draft-ietf-httpapi-ratelimit-headers-11. The headers name the limits that
    counted the request. Inner layers append what they count to `scope[TAKEN]`.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, counted_apart: Sequence[CountedApart] = ()
    ) -> None:
        """Wrap `app`."""
        self._app = app
        self._meters = limits.of_address
        self._key = limits.subjects.of_address
        self._counted_apart = counted_apart

    def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        # Not a second coroutine around the first, here and below: each takes as long as the count.
        counted = _counted(scope)
        if counted is None:
            return self._app(scope, receive, send)
        taken: list[Taken] = []
        scope[TAKEN] = taken
        left = 0
        if counted is Counted.REQUESTS or not any(each(scope) for each in self._counted_apart):
            meter = self._meters[counted]
            left = meter.take(self._key(client_address(scope) or ""))
            taken.append((meter, left))

        def send_with_state(message: Message) -> Awaitable[None]:
            if taken and message["type"] == "http.response.start":
                policy = _policy(*[each for each, _ in taken])
                state = b", ".join([each.state(left_of_it) for each, left_of_it in taken])
                given = message.get("headers", ())
                message["headers"] = [*given, policy, (b"ratelimit", state)]
            return send(message)

        if left < 0:
            refusal = response_to(TooManyRequests(seconds(-left)), scope)
            return refusal(scope, receive, send_with_state)
        return self._app(scope, receive, send_with_state)


def _counted(scope: ASGIScope) -> Counted | None:
    if scope["type"] != "http":
        return None
    route = scope.get("route")
    if route is not None:
        found: Counted | None = route.policy.counted
        return found
    return Counted.REQUESTS if scope["path"].startswith(API) else None


@lru_cache(64)
def _policy(*meters: Meter) -> tuple[bytes, bytes]:
    return b"ratelimit-policy", b", ".join([each.policy for each in meters])
