"""The composition root: settings -> engine -> repositories -> routers, and the error handlers."""

import gc
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ticketing import __version__, database, metrics, openapi, telemetry
from ticketing.errors import (
    BodyTooLarge,
    InternalError,
    MalformedBody,
    MethodNotAllowed,
    OriginRefused,
    RouteNotFound,
    TicketingError,
    Unavailable,
    UnsupportedMediaType,
    ValidationFailed,
)
from ticketing.proxies import TrustedProxies
from ticketing.rates import Cells, Guard, Keys, Limit, Memory, Meter, Rates
from ticketing.repositories import commits, idempotency
from ticketing.repositories.access import AccessRepository
from ticketing.repositories.audit import AuditRepository
from ticketing.repositories.bookings import BookingRepository
from ticketing.repositories.books import BooksRepository
from ticketing.repositories.events import EventRepository
from ticketing.repositories.keys import KeyRepository
from ticketing.repositories.listings import ListingRepository
from ticketing.repositories.rates import RateRepository
from ticketing.repositories.sessions import SessionRepository
from ticketing.repositories.team import TeamRepository
from ticketing.repositories.users import UserRepository
from ticketing.routers import bookings, events, keys, my_sessions, pages, sessions, team, users
from ticketing.routers.dependencies import MAX_BODY, PROBLEM_JSON, Parts
from ticketing.routers.direct import DirectRoutes
from ticketing.security import AccessList, Passwords, Seals, Tokens, password_threads
from ticketing.settings import Settings
from ticketing.telemetry import ASGIApp, Message, Receive, RequestLog, Scope, Send
from ticketing.throttle import Throttle
from ticketing.workers import repeating

LEARN_EVERY: Final = 1.0
"""Seconds in which a worker learns what others have revoked."""
CLEAN_EVERY: Final = 60.0
PUBLISH_EVERY: Final = 1.0
"""Seconds in which a worker publishes what it has counted."""

# Its checks cost a request a few microseconds, whether or not anybody listens.
NO_OTEL: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
# Its logs would have what people have sent.
OTEL: Final[TelemetryConfig] = {"auto_configure": True, "logs": False}

DECLARED_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
MAX_FAILURES: Final = 20
"""Failing fields that one answer names."""

STATUS_ERRORS: Final[dict[int, type[TicketingError]]] = {
    400: MalformedBody,
    404: RouteNotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
}
"""What the framework itself refuses."""


def create_app(
    settings: Settings, memory: Memory | None = None, counts: metrics.Counts | None = None
) -> FastAPI:
    """Make the application; nothing is connected before its lifespan begins.

    `database_url` and `jwt_secret` must be set: the command line sees to that. Rate limits are
    counted in `memory`, which the worker processes share; without it, in memory of this one's own.
    Without `counts`, what is done is not counted.
    """
    service = _compose(settings, memory, counts)
    app = FastAPI(
        title="ticketing",
        version=__version__,
        description=openapi.DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry=OTEL if settings.otel == "on" else NO_OTEL,
        # The redirect would go to whatever host the request names.
        redirect_slashes=False,
        lifespan=partial(_lifespan, settings, service, counts),
        openapi_tags=openapi.TAGS,
    )
    app.state.parts = service.parts
    app.state.counts = counts
    app.state.stopping = False
    # The routes themselves: an included router is matched anew, route by route, at every request,
    # and takes a quarter of its time. What a sale calls comes first.
    sale = (bookings.sale, events.sale, events.router)
    identity = (
        *(users.keyed, users.router, sessions.keyed, sessions.router, my_sessions.router),
        *(keys.keyed, keys.router),
    )
    for router in (*sale, bookings.router, team.router, *identity, pages.router):
        app.router.routes.extend(router.routes)
    app.mount("/static", StaticFiles(packages=[("ticketing", "static")]))
    for refused in (TicketingError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(refused, _refuse)
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]
    # The framework would write it anew for each who asks, and nothing limits how often.
    app.state.document = cache(lambda: orjson.dumps(app.openapi()))
    app.add_middleware(BodyLimit)
    app.middleware_stack = _layers(app, settings, service.parts.rates, counts)
    return app


Loop: TypeAlias = tuple[str, Callable[[], Awaitable[None]], float]
"""What a worker does by itself: its name, the work, and after how many seconds again."""


@dataclass(frozen=True, slots=True)
class _Service:
    """What is behind the routes."""

    parts: Parts
    books: BooksRepository
    close: Sequence[Callable[[], Awaitable[None]]]
    loops: Sequence[Loop]


def _compose(settings: Settings, memory: Memory | None, counts: metrics.Counts | None) -> _Service:
    if settings.database_url is None or settings.jwt_secret is None:
        raise ValueError("database_url and jwt_secret must be set")
    url = settings.database_url.get_secret_value()
    secret = settings.jwt_secret.get_secret_value()
    previous = [each.get_secret_value() for each in settings.jwt_previous_secrets]
    engine = database.connect(url, pool_size=settings.pool_size)
    # Each has one connection, and holds it: for commits, for reads of single events, and for the
    # lock of the audits.
    committing = database.connect(url, pool_size=1)
    reading = database.connect(url, pool_size=1)
    auditing = database.connect(url, pool_size=1)
    access = AccessList()
    known = AccessRepository(engine, access)
    rates, shared = _rates(settings, secret, memory, partial(RateRepository, engine))
    parts = Parts(
        users=UserRepository(engine, access),
        sessions=SessionRepository(
            engine, access, idle=settings.refresh_lifetime, longest=settings.session_lifetime
        ),
        keys=KeyRepository(engine, access),
        events=EventRepository(engine, reading, counts),
        bookings=BookingRepository(engine, committing, counts),
        listings=ListingRepository(engine),
        team=TeamRepository(engine),
        audit=AuditRepository(engine),
        passwords=Passwords(settings.bcrypt_rounds, password_threads()),
        tokens=Tokens(
            secret,
            settings.token_lifetime,
            previous=previous,
            access=access,
        ),
        seals=Seals(secret, previous),
        access=access,
        is_ready=partial(database.is_migrated, engine),
        rates=rates,
    )
    loops: list[Loop] = [
        ("access", known.refresh, LEARN_EVERY),
        ("cleaning of sessions", known.clean, CLEAN_EVERY),
        ("cleaning of keys", partial(idempotency.clean, engine), CLEAN_EVERY),
        ("cleaning of commits", partial(commits.clean, engine), CLEAN_EVERY),
    ]
    if shared is not None:
        loops += [
            ("rates", shared.exchange, LEARN_EVERY),
            ("cleaning of rates", shared.clean, CLEAN_EVERY),
        ]
    if counts is not None:
        loops.append(("metrics", counts.publish, PUBLISH_EVERY))
        pools = (
            ("requests", engine, settings.pool_size),
            ("commits", committing, 1),
            ("reads", reading, 1),
        )
        for name, pool, size in pools:
            counts.gauge(metrics.POOL_USED, name, read=partial(database.pool_use, pool))
            counts.gauge(metrics.POOL_SIZE, name, read=partial(float, size))
    books = BooksRepository(auditing, counts)
    close = [pool.dispose for pool in (auditing, reading, committing, engine)]
    return _Service(parts, books, close, loops)


@asynccontextmanager
async def _lifespan(
    settings: Settings, service: _Service, counts: metrics.Counts | None, _: FastAPI
) -> AsyncIterator[None]:
    telemetry.configure(settings.log_dir, settings.log_level)
    # A batch keeps hundreds of requests alive at once, and the default thresholds scan them
    # over and over.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    async with AsyncExitStack() as stack:
        if counts is not None:
            stack.push_async_callback(counts.conclude)
        for name, work, every in service.loops:
            await stack.enter_async_context(repeating(name, work, every=every))
        if every := settings.audit_every:
            audit = service.books.audit_in_turn
            await stack.enter_async_context(repeating("audit", audit, every=every, at_once=False))
        yield
    parts = service.parts
    for repository in (parts.bookings, parts.events, parts.team, parts.keys):
        await repository.close()
    parts.passwords.close()
    for close in service.close:
        await close()


def _layers(
    app: FastAPI, settings: Settings, rates: Rates | None, counts: metrics.Counts | None
) -> ASGIApp:
    """Return the application in what is around it."""
    layer: ASGIApp = DirectRoutes(app, app.build_middleware_stack(), app.routes, refusal)
    if rates is not None:
        layer = Throttle(layer, rates, lambda scope, error: refusal(Request(scope), error))
    if settings.cors_origins:
        layer = Cors(
            layer,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
            expose_headers=[
                *("Idempotency-Replayed", "Location", "RateLimit", "RateLimit-Policy"),
                *("Retry-After", "X-Request-ID"),
            ],
        )
    # Around all that answers: what is logged is what was answered.
    layer = RequestLog(layer, ClientDisconnect, counts)
    if settings.trusted_proxies:
        layer = TrustedProxies(layer, settings.trusted_proxies)
    return layer


def _rates(
    settings: Settings, secret: str, memory: Memory | None, share: Callable[[Cells], RateRepository]
) -> tuple[Rates | None, RateRepository | None]:
    """Return the limits, if there are any, and what shares them with other machines, if it should.

    Without `memory` they are counted in some of this process's own.
    """
    if settings.rate_limits == "off":
        return None, None
    memory = memory or Memory.make()
    shared = share(memory.counts) if settings.rate_limit_store == "postgresql" else None
    pending = shared.pending if shared is not None else None

    def counting(name: str, limit: Limit) -> Meter:
        return Meter(name, limit, memory.counts, pending)

    subjects = Keys(secret)
    guard = Guard(
        shared.change if shared is not None else memory.guarded.change,
        subjects,
        logins=counting("logins", settings.limit_logins),
        address_logins=counting("address-logins", settings.limit_address_logins),
        registrations=counting("registrations", settings.limit_registrations),
    )
    rates = Rates(
        subjects,
        guard,
        bookings=counting("bookings", settings.limit_bookings),
        address_bookings=counting("address-bookings", settings.limit_address_bookings),
        requests=counting("requests", settings.limit_requests),
    )
    return rates, shared


class Cors(CORSMiddleware):
    """Starlette's, whose refusals are problem documents too."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer what a browser asks before a request to another origin."""
        response = super().preflight_response(request_headers)
        if response.status_code == OriginRefused.status:
            error = OriginRefused()
            document = error.problem("", telemetry.request_id.get(), error.members)
            return Response(orjson.dumps(document), error.status, media_type=PROBLEM_JSON)
        return response


class BodyLimit:
    """Refuses bodies over MAX_BODY, by their declared length or as they arrive."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((v for k, v in scope["headers"] if k == b"content-length"), b"")
        declared = int(given) if DECLARED_LENGTH.fullmatch(given) else None
        if declared is not None and declared <= MAX_BODY:
            # The server reads no more than was declared.
            await self._app(scope, receive, send)
            return
        received = declared or 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(BodyTooLarge.status)
            return message

        await self._app(scope, limited, send)


def _problem(request: Request, error: TicketingError) -> Response:
    counts = request.app.state.counts
    if counts is not None and isinstance(error, Unavailable):
        counts.add(metrics.SHED, error.code)
    # Not request.url: that is made with the Host header, which may be anything.
    instance = quote(request.scope["path"], telemetry.PATH_CHARACTERS, errors="replace")
    document = error.problem(instance, telemetry.request_id.get(), error.members)
    return Response(
        orjson.dumps(document), error.status, error.header_fields(), media_type=PROBLEM_JSON
    )


def refusal(request: Request, error: Exception) -> Response:
    """Return the problem document that answers an exception: our own, the framework's, any."""
    if isinstance(error, TicketingError):
        return _problem(request, error)
    if isinstance(error, RequestValidationError):
        return _invalid_request(request, error)
    if isinstance(error, HTTPException):
        response = _problem(request, STATUS_ERRORS.get(error.status_code, InternalError)())
        response.headers.update(error.headers or {})
        if error.status_code == MethodNotAllowed.status:
            _name_allowed_methods(request, response)
        return response
    return _problem(request, InternalError())


async def _refuse(request: Request, error: Exception) -> Response:
    return refusal(request, error)


def _name_allowed_methods(request: Request, response: Response) -> None:
    """Name those of all routes with this path; the framework knows the first alone, and no HEAD."""
    path = request.scope["route"].path if "route" in request.scope else None
    allowed = {
        method
        for route in request.app.router.routes
        if isinstance(route, APIRoute) and route.path == path and route.include_in_schema
        for method in route.methods or ()
    }
    if "GET" in allowed:
        allowed.add("HEAD")
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))


def _invalid_request(request: Request, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):
        # FastAPI hands on the bytes of a body that it was not told is JSON.
        return _problem(request, UnsupportedMediaType())
    failures = error.errors()
    if any(failure["type"] == "json_invalid" for failure in failures):
        return _problem(request, MalformedBody())
    # What may be left out may be None too, but nobody can send that in a query.
    wrong = [each for each in failures if each["type"] != "none_required"]
    named = [_failure(each) for each in wrong[:MAX_FAILURES]]
    return _problem(request, ValidationFailed(errors=named))


def _failure(failure: dict[str, Any]) -> dict[str, str]:
    """Say which field is wrong, by JSON pointer (RFC 6901), and never what was in it."""
    where, *path = failure["loc"]
    if where == "query":
        del path[1:]  # Names of types: a parameter has no parts.
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return {
        "in": str(where),
        "pointer": "#" + "".join("/" + step for step in steps),
        "type": str(failure["type"]),
        "detail": str(failure["msg"]),
    }
