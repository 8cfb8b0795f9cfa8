"""The page for the door: it scans tickets on a phone, with and without network."""

from typing import Final

from fastapi import Request, Response

from ticketing.web.assets import file
from ticketing.web.routes import Routes

routes = Routes("/door", "door")

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
OF_WORKER: Final = "default-src 'none'; connect-src 'self'"
"""A service worker has its own. It fetches what the page loads."""


@routes.get("/worker.js", "doorWorker", counted=None)
async def worker(request: Request) -> Response:
    """Serve the service worker. It is here because it serves the pages below its own path."""
    return await file("door/worker.js", OF_WORKER).response(request.headers)


@routes.get("/{eventId}", "door", counted=None)
async def door(
    eventId: str,  # noqa: ARG001, N803 - the page reads it from its address
    request: Request,
) -> Response:
    """Serve the page. It is the same for every event, and asks the service what it may know."""
    return await file("door/door.html", CONTENT_SECURITY_POLICY).response(request.headers)
