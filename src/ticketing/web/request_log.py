"""The outermost layer of a request: its id, its headers, its log line and its duration."""

import os
import re
import time
from functools import cache
from typing import Final

from prometheus_client import Histogram
from starlette.requests import ClientDisconnect

from ticketing.ops import logs, metrics
from ticketing.ops.metrics import SECONDS
from ticketing.web.asgi import ASGIApp, ASGIScope, Message, Receive, Send, client_address
from ticketing.web.headers import protective

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
MAX_PATH: Final = 200
DURATION: Final = Histogram(
    "ticketing_http_request_duration_seconds",
    "Requests that were answered and how long that took, by method, route and status.",
    ["method", "route", "status"],
    buckets=SECONDS,
)


@cache
def _duration(method: str, route: str, status: int) -> Histogram:
    # To look it up among the labels takes longer than to observe.
    return DURATION.labels(method, route, status)


class RequestLog:
    """The outermost ASGI layer: gives every request an id and writes its line when it is done.

    The inner application may leave the caller's id in `scope["user_id"]` and the route in
    `scope["route"]`. An exception that arrives here has been answered by the application's own
    handler; it is logged with its traceback and goes no further.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            # RFC 9110, section 9.3.2: as GET, and the server leaves out the body.
            scope = {**scope, "method": "GET"}
        started = time.perf_counter()
        current = _given_request_id(scope) or os.urandom(16).hex()
        logs.request_id.set(current)
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
        except Exception as error:  # noqa: BLE001 - it was answered, and is logged
            if not isinstance(error, ClientDisconnect):  # The client has left: no fault of ours.
                logs.log.exception("request.failed")
        finally:  # Also when it is cut short as the service stops.
            seconds = time.perf_counter() - started
            template = getattr(scope.get("route"), "path", None)
            if metrics.is_shared:  # It would take longer than finding the route.
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


def _given_request_id(scope: ASGIScope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return None
