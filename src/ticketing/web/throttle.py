"""The ASGI layer that applies the rate limits of addresses and adds RateLimit headers."""

from collections.abc import Awaitable
from typing import Final

from ticketing.errors import TooManyRequests
from ticketing.limits.limits import TAKEN, Counted, Limits, Taken
from ticketing.limits.meter import Meter, seconds
from ticketing.web.asgi import ASGIApp, ASGIScope, Message, Receive, Send, client_address
from ticketing.web.problems import response_to

API: Final = "/api/"
"""Below this path, requests without a route are counted too."""


class Throttle:
    """Returns 429 to an address at its limit, and adds RateLimit headers to every response.

    The form is that of draft-ietf-httpapi-ratelimit-headers-11. The route's policy names the limits
    that count it. Inner layers append what they count to `scope[TAKEN]`.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        """Wrap `app`."""
        self._app = app
        self._meters = {
            counted: _known(meter, limits.of_account.get(counted))
            for counted, meter in limits.of_address.items()
        }
        self._key = limits.subjects.of_address

    def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        # Not a second coroutine around the first, here and below: each takes as long as the count.
        counted = _counted(scope)
        if counted is None:
            return self._app(scope, receive, send)
        meter, policy = self._meters[counted]
        left = meter.take(self._key(client_address(scope) or ""))
        taken: list[Taken] = []
        scope[TAKEN] = taken

        def send_with_state(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                state = meter.state(left)
                for each, left_of_it in taken:
                    state += b", " + each.state(left_of_it)
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


def _known(meter: Meter, beside: Meter | None) -> tuple[Meter, tuple[bytes, bytes]]:
    policies = [each.policy for each in (meter, beside) if each is not None]
    return meter, (b"ratelimit-policy", b", ".join(policies))
