"""The board: a page that the team of an event keeps open while it sells."""

from typing import Final

from fastapi import Request, Response

from ticketing.web.assets import file
from ticketing.web.fields import EventId
from ticketing.web.routes import Routes

routes = Routes("/board", "service")

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@routes.get("", "boardHome", counted=None)
async def home() -> Response:
    """Lead to the page with a slash, below which its files are found behind every prefix."""
    return Response(status_code=307, headers={"Location": "board/"})


@routes.get("/", "boards", counted=None)
async def boards(request: Request) -> Response:
    """Serve the page. Without an event it shows those of the person who logs in."""
    return await file("board.html", POLICY).response(request.headers)


@routes.get("/{eventId}", "board", counted=None)
async def board(eventId: EventId, request: Request) -> Response:  # noqa: N803 - the API's name
    """Serve the page. It asks who looks, and reads the event itself."""
    del eventId
    return await file("board.html", POLICY).response(request.headers)
