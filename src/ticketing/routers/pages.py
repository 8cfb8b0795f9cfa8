"""The welcome, the documentation pages and the health checks."""

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from ticketing import __version__
from ticketing.errors import NotReady
from ticketing.routers.dependencies import Out, parts, problems

router = APIRouter()

STATIC: Final = files("ticketing") / "static"

# The pages load nothing from anywhere else. Both set styles from their scripts.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "worker-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)


class Welcome(Out):
    """Where to go from here."""

    name: str = "ticketing"
    version: str = __version__
    docs: str = "/docs"
    reference: str = "/redoc"
    openapi: str = "/openapi.json"
    events: str = "/api/events"


class Health(Out):
    """The service's own word on how it is."""

    status: str = Field(examples=["ready"])


@router.get("/", operation_id="welcome", summary="Welcome", tags=["service"])
async def welcome() -> Welcome:
    """Say what this is and where the documentation is."""
    return Welcome()


@router.get("/livez", operation_id="livez", summary="Is the process alive", tags=["service"])
async def livez() -> Health:
    """Answer as long as the process can answer at all; the database is not asked."""
    return Health(status="alive")


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Can it serve",
    tags=["service"],
    responses=problems(NotReady, of_api=False),
)
async def readyz(request: Request) -> Health:
    """Answer 200 when the database can be reached and is migrated, else 503.

    It is not ready any more from the moment at which it is told to stop.
    """
    if request.app.state.stopping or not await parts(request).is_ready():
        raise NotReady
    return Health(status="ready")


@router.get("/openapi.json", include_in_schema=False)
async def document(request: Request) -> Response:
    """Serve the description of the API, for programs and for the two pages."""
    return Response(request.app.state.document(), media_type="application/json")


def _page(name: str) -> HTMLResponse:
    return HTMLResponse(
        (STATIC / name).read_text(encoding="utf-8"),
        headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
    )


@router.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    """Serve Swagger UI."""
    return _page("docs.html")


@router.get("/redoc", include_in_schema=False)
async def reference() -> HTMLResponse:
    """Serve the reference page."""
    return _page("redoc.html")
