"""The outermost layer of a request: its id, its headers, its log line and its duration."""

import os
import re
import time
from collections.abc import Iterable
from functools import cache
from typing import Final

from prometheus_client import Histogram
from starlette.requests import ClientDisconnect

from ticketing.ops import logs, metrics
from ticketing.ops.metrics import SECONDS
from ticketing.web.asgi import HEAD, ASGIApp, ASGIScope, Message, Receive, Send, client_address
from ticketing.web.headers import protective
from ticketing.web.proxies import BELIEVED

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
MAX_PATH: Final = 200
DURATION: Final = Histogram(
    "ticketing_http_request_duration_seconds",
    "Duration of requests, by method, route and status.",
    ["method", "route", "status"],
    buckets=SECONDS,
)


@cache
def _duration(method: str, route: str, status: int) -> Histogram:
    # Cached, because finding the labels takes longer than observing.
    return DURATION.labels(method, route, status)


class RequestLog:
    """The outermost ASGI layer: gives every request an id, and logs a line when it ends.

    The inner application may set `scope["user_id"]` (the caller) and `scope["route"]`. An exception
    that arrives here already has a response. It is logged with its traceback and not raised again.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app
        self._has_warned = False

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            # RFC 9110, section 9.3.2: the same as GET, and the server omits the body.
            scope = {**scope, "method": "GET", HEAD: True}
        started = time.perf_counter()
        given, is_forwarded = _noted(scope["headers"])
        current = given or os.urandom(16).hex()
        logs.request_id.set(current)
        if is_forwarded and not self._has_warned and not scope.get(BELIEVED):
            self._warn(scope)
        header = (b"x-request-id", current.encode())
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = message.get("headers", ())
                message["headers"] = [*given, header, *protective(scope["path"], given)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 - it has a response, and is logged
            if not isinstance(error, ClientDisconnect):  # The client left, which is no fault.
                logs.log.exception("request.failed")
        finally:  # Also if the request is cancelled because the service stops.
            seconds = time.perf_counter() - started
            template = getattr(scope.get("route"), "path", None)
            if metrics.is_shared:  # Observing takes longer than finding the route.
                _duration(method, template or "", status).observe(seconds)
            logs.info(
                "request.completed",
                {
                    "method": method,
                    "path": template or scope["path"][:MAX_PATH],
                    "status": status,
                    "durationMs": round(seconds * 1000, 2),
                    "userId": scope.get("user_id"),
                    "clientIp": client_address(scope),
                    "requestId": current,
                },
            )

    def _warn(self, scope: ASGIScope) -> None:
        """Warn once that all clients of a proxy share one address, and so one rate limit."""
        self._has_warned = True
        logs.log.warning(
            "proxy.not_trusted", clientIp=client_address(scope), setting="TICKETING_TRUSTED_PROXIES"
        )


def _noted(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str | None, bool]:
    """Return the request's own id, if it is valid, and whether a proxy forwarded the request."""
    given, is_forwarded = None, False
    for name, value in headers:
        if name == b"x-request-id":
            if given is None and REQUEST_ID.fullmatch(value):
                given = value.decode()
        elif name == b"x-forwarded-for" and value:
            is_forwarded = True
    return given, is_forwarded
