"""The welcome, the documentation pages and the health checks."""

import re
from typing import Final

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from ticketing import __version__
from ticketing.errors import NotReady
from ticketing.web.asgi import PREFIX
from ticketing.web.assets import file
from ticketing.web.documented import headers
from ticketing.web.fields import Out
from ticketing.web.part import of
from ticketing.web.policy import Overload
from ticketing.web.routes import Routes
from ticketing.web.service import Service

routes = Routes("", "service")

WEIGHT: Final = re.compile(r"[01](\.[0-9]{0,3})?")

# No page loads anything from other sites. The two API pages set styles from their scripts.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "worker-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

START_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


LOGIN: Final = {
    True: "To log in, <b>register</b>, then press <b>Authorize</b> with that username and password",
    False: "To log in, press <b>Authorize</b> with the username and password of your account, which"
    " the operator of this site creates",
}
"""How to log in on the documentation page, by whether registration is open."""


class Welcome(Out):
    """Links to the documentation and the API."""

    name: str = "ticketing"
    version: str = __version__
    docs: str = Field(examples=["/docs"])
    reference: str = Field(examples=["/redoc"])
    openapi: str = Field(examples=["/openapi.json"])
    health: str = Field(examples=["/readyz"])
    events: str = Field(examples=["/api/events"])


class Health(Out):
    """The state of the service."""

    status: str = Field(examples=["ready"])


@routes.get(
    "/",
    "welcome",
    "Welcome",
    model=Welcome,
    responses={
        200: {
            "content": {"text/html": {"schema": {"type": "string"}}},
            "headers": headers("Vary"),
        }
    },
    counted=None,
    errors=None,
)
async def welcome(request: Request) -> Response:
    """Return links to the documentation: a page for browsers, JSON for programs."""
    if _prefers_page(",".join(request.headers.getlist("accept"))):
        page = await file("start.html", START_POLICY, VERSION=__version__).response(request.headers)
    else:
        below = request.scope.get(PREFIX, "")
        where = Welcome(
            docs=f"{below}/docs",
            reference=f"{below}/redoc",
            openapi=f"{below}/openapi.json",
            health=f"{below}/readyz",
            events=f"{below}/api/events",
        )
        page = JSONResponse(where.model_dump())
    page.headers.add_vary_header("Accept")
    return page


def _prefers_page(accept: str) -> bool:
    """Whether it accepts HTML with at least the weight of JSON (RFC 9110, section 12.5.1)."""
    weights: dict[str, float] = {}
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        (weight,) = [part[2:] for part in parameters if part.startswith("q=")][:1] or ["1"]
        weights[kind] = float(weight) if WEIGHT.fullmatch(weight) else 0
    page = weights.get("text/html", 0)
    return page > 0 and page >= weights.get("application/json", 0)


@routes.get(
    "/livez",
    "livez",
    "Check that the process is alive",
    counted=None,
    errors=None,
    overload=Overload.SERVE,
)
async def livez() -> Health:
    """Return 200 as long as the process responds. The database is not checked."""
    return Health(status="alive")


@routes.get(
    "/readyz",
    "readyz",
    "Check that the service can serve",
    counted=None,
    errors=(NotReady,),
    overload=Overload.SERVE,
)
async def readyz(request: Request) -> Health:
    """Return 200 if the database can be reached and is migrated, else 503.

    A service that is stopping returns 503, and so does one that gets no connections.
    """
    await of(request, Service).require_ready()
    return Health(status="ready")


@routes.get("/openapi.json", "document", counted=None)
async def document(request: Request) -> Response:
    """Serve the OpenAPI document."""
    described = await of(request, Service).document()
    return await described.response(request.headers)


async def _page(name: str, request: Request, **texts: str) -> Response:
    return await file(name, CONTENT_SECURITY_POLICY, **texts).response(request.headers)


@routes.get("/docs", "docs", counted=None)
async def docs(request: Request) -> Response:
    """Serve Swagger UI."""
    is_open = of(request, Service).registration_is_open
    return await _page("docs.html", request, LOGIN=LOGIN[is_open])


@routes.get("/redoc", "reference", counted=None)
async def reference(request: Request) -> Response:
    """Serve the reference page."""
    return await _page("redoc.html", request)
