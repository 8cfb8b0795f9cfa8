"""The ASGI layer that counts every request of an address, and tells clients what they have left."""

from collections.abc import Awaitable, Callable
from typing import Final

from ticketing.errors import TicketingError, TooManyRequests
from ticketing.rates import TAKEN, Meter, Rates, Taken, seconds
from ticketing.telemetry import ASGIApp, Message, Receive, Scope, Send, client_address

LIMITED: Final = "/api/"
"""Where limits hold: health checks and pages have none."""
OF_BOOKINGS: Final = ("/api/events/book", "/api/events/cancel")


class Throttle:
    """Answers 429 to an address that asks too often, and gives every answer RateLimit headers.

    In the form of draft-ietf-httpapi-ratelimit-headers-11. What inner parts of the application
    count too, they append to `scope[TAKEN]`.
    """

    def __init__(
        self, app: ASGIApp, rates: Rates, refuse: Callable[[Scope, TicketingError], ASGIApp]
    ) -> None:
        """Wrap `app`; `refuse` makes the answer to an error."""
        self._app = app
        self._refuse = refuse
        self._rest = _known(rates.requests)
        self._by_path = dict.fromkeys(
            OF_BOOKINGS, _known(rates.address_bookings, beside=rates.bookings)
        )
        self._key = rates.keys.of_address

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        # Not a coroutine around a coroutine, here and below: each takes as long as the count.
        if scope["type"] != "http" or not scope["path"].startswith(LIMITED):
            return self._app(scope, receive, send)
        meter, policy = self._by_path.get(scope["path"], self._rest)
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

        app = self._app if left >= 0 else self._refuse(scope, TooManyRequests(seconds(-left)))
        return app(scope, receive, send_with_state)


def _known(meter: Meter, *, beside: Meter | None = None) -> tuple[Meter, tuple[bytes, bytes]]:
    policies = [each.policy for each in (meter, beside) if each is not None]
    return meter, (b"ratelimit-policy", b", ".join(policies))
