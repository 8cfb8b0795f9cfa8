"""The composition root: joins the parts of the product to one application."""

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from ticketing import __version__
from ticketing.door.compose import compose as compose_door
from ticketing.errors import TicketingError
from ticketing.feed.compose import compose as compose_feed
from ticketing.identity.compose import compose as compose_identity
from ticketing.limits.cells import Memory
from ticketing.ops import logs, metrics
from ticketing.ops.loops import Loop, repeating
from ticketing.sale.compose import compose as compose_sale
from ticketing.settings import Settings
from ticketing.web import openapi
from ticketing.web.asgi import ASGIApp
from ticketing.web.assets import StaticFiles
from ticketing.web.bodies import BodyLimit
from ticketing.web.compose import compose as compose_web
from ticketing.web.compose import share
from ticketing.web.cors import cors
from ticketing.web.direct import DirectRoutes
from ticketing.web.part import Departures, Entries, Part, Shared
from ticketing.web.problems import handle
from ticketing.web.proxies import TrustedProxies
from ticketing.web.replay import Replayed
from ticketing.web.request_log import RequestLog
from ticketing.web.service import Service
from ticketing.web.streams import StreamLimit
from ticketing.web.table import Dispatch, RouteTable
from ticketing.web.throttle import CountedApart, Throttle

SAMPLE_EVERY: Final = 1.0
"""Seconds between two samples of a gauge."""

Compose: TypeAlias = Callable[[Shared], Part]
PARTS: Final[Sequence[Compose]] = (
    compose_feed,
    compose_door,
    compose_sale,
    compose_identity,
    compose_web,
)
"""The parts, in the order in which they are closed."""

# OpenTelemetry's checks cost each request a few microseconds, even if nothing is exported.
NO_OTEL: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
# Its logs would contain what clients sent.
OTEL: Final[TelemetryConfig] = {"auto_configure": True, "logs": False}


def create_app(
    settings: Settings, memory: Memory | None = None, *, also: Sequence[Compose] = ()
) -> FastAPI:
    """Make the application. It connects to nothing before its lifespan begins.

    `database_url` and `jwt_secret` must be set. Rate limits are counted in `memory`, which the
    worker processes share; without it, in memory of this process. `also` composes further parts,
    such as those of tests.
    """
    shared = share(settings, memory)
    parts = [compose(shared) for compose in (*also, *PARTS)]
    app = FastAPI(
        title="ticketing",
        version=__version__,
        description=openapi.description(registration_is_open=settings.registration == "open"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry=OTEL if settings.otel == "on" else NO_OTEL,
        # The redirect would go to any host that the request names.
        redirect_slashes=False,
        lifespan=partial(_lifespan, settings, parts),
        openapi_tags=openapi.TAGS,
    )
    app.state.provided = {type(part.provides): part.provides for part in parts}
    departures = Departures([each for part in parts for each in part.departed])
    app.state.provided[Departures] = departures
    app.state.provided[Entries] = Entries([each for part in parts for each in part.entered])
    service: Service = app.state.provided[Service]
    routes = [route for part in parts for each in part.routes for route in each.declared]
    # The routes themselves, because an included router is matched again, route by route, at every
    # request, which takes a quarter of the request's time.
    app.router.routes.extend(routes)
    app.mount("/static", StaticFiles("/static"))
    app.state.table = RouteTable(routes)
    app.state.webhooks = {name: of for part in parts for name, of in part.webhooks.items()}
    for ended in (Replayed, TicketingError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(ended, handle)
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]
    service.describe = app.openapi
    app.add_middleware(BodyLimit)
    counted_apart = [each for part in parts for each in part.counted_apart]
    app.middleware_stack = _layers(app, shared, counted_apart)
    return app


@asynccontextmanager
async def _lifespan(settings: Settings, parts: Sequence[Part], _: FastAPI) -> AsyncIterator[None]:
    logs.configure(settings)
    # A batch keeps hundreds of requests alive at once, and the default thresholds scan them
    # over and over.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    samples = [sample for part in parts for sample in part.samples]
    sampling = Loop("metrics", partial(metrics.sample, samples), SAMPLE_EVERY)
    async with AsyncExitStack() as stack:
        for part in reversed(parts):
            for close in reversed(part.close):
                stack.push_async_callback(close)
        for loop in (sampling, *(loop for part in parts for loop in part.loops)):
            await stack.enter_async_context(repeating(loop))
        yield


def _layers(app: FastAPI, shared: Shared, counted_apart: Sequence[CountedApart]) -> ASGIApp:
    """Return the application wrapped in its layers; the last one sees a request first."""
    settings = shared.settings
    layer: ASGIApp = DirectRoutes(app, app.build_middleware_stack())
    layer = StreamLimit(layer, shared.streams)
    if shared.limits is not None:
        layer = Throttle(layer, shared.limits, counted_apart)
    layer = Dispatch(layer, app.state.table, app.state.provided)
    if settings.cors_origins:
        layer = cors(layer, settings.cors_origins)
    # Around everything that responds, so that the log has the response that was sent.
    layer = RequestLog(layer)
    if settings.trusted_proxies or settings.root_path:
        layer = TrustedProxies(layer, settings.trusted_proxies, settings.root_path)
    return layer
