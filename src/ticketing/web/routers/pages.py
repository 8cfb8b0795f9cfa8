"""The welcome, the documentation pages and the health checks."""

from typing import Final

from fastapi import Request, Response
from pydantic import Field

from ticketing import __version__
from ticketing.errors import NotReady
from ticketing.web.asgi import PREFIX
from ticketing.web.assets import file
from ticketing.web.fields import Out
from ticketing.web.part import of
from ticketing.web.policy import Overload
from ticketing.web.routes import Routes
from ticketing.web.service import Service

routes = Routes("", "service")

# The pages load nothing from anywhere else. Both set styles from their scripts.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "worker-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)


class Welcome(Out):
    """Where to go from here."""

    name: str = "ticketing"
    version: str = __version__
    docs: str = Field(examples=["/docs"])
    reference: str = Field(examples=["/redoc"])
    openapi: str = Field(examples=["/openapi.json"])
    events: str = Field(examples=["/api/events"])


class Health(Out):
    """The service's own word on how it is."""

    status: str = Field(examples=["ready"])


@routes.get("/", "welcome", "Welcome", counted=None, errors=None)
async def welcome(request: Request) -> Welcome:
    """Say what this is and where the documentation is."""
    below = request.scope.get(PREFIX, "")
    return Welcome(
        docs=f"{below}/docs",
        reference=f"{below}/redoc",
        openapi=f"{below}/openapi.json",
        events=f"{below}/api/events",
    )


@routes.get(
    "/livez",
    "livez",
    "Is the process alive",
    counted=None,
    errors=None,
    overload=Overload.SERVE,
)
async def livez() -> Health:
    """Answer as long as the process can answer at all; the database is not asked."""
    return Health(status="alive")


@routes.get(
    "/readyz",
    "readyz",
    "Can it serve",
    counted=None,
    errors=(NotReady,),
    overload=Overload.SERVE,
)
async def readyz(request: Request) -> Health:
    """Answer 200 when the database can be reached and is migrated, else 503.

    It is not ready any more from the moment at which it is told to stop.
    """
    if not await of(request, Service).is_ready():
        raise NotReady
    return Health(status="ready")


@routes.get("/openapi.json", "document", counted=None)
async def document(request: Request) -> Response:
    """Serve the description of the API, for programs and for the two pages."""
    return await of(request, Service).document().response(request.headers)


async def _page(name: str, request: Request) -> Response:
    return await file(name, CONTENT_SECURITY_POLICY).response(request.headers)


@routes.get("/docs", "docs", counted=None)
async def docs(request: Request) -> Response:
    """Serve Swagger UI."""
    return await _page("docs.html", request)


@routes.get("/redoc", "reference", counted=None)
async def reference(request: Request) -> Response:
    """Serve the reference page."""
    return await _page("redoc.html", request)
