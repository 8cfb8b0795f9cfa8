"""The contenders: one application, in which each replaces only the object that books.

Therefore routing, authentication, validation, response and server are the service's own in each;
they differ only in how they take a place. `bare` is the exception: it shows what uvicorn alone can
do.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from fastapi import FastAPI
from sqlalchemy import make_url, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from ticketing.app import create_app
from ticketing.db import tables
from ticketing.db.facts import COMMAND_LINE, Origin
from ticketing.db.ids import uuid7
from ticketing.errors import AlreadyBooked, Busy, EventNotFound
from ticketing.sale.inventory.model import Booked, Booking, BookingStatus, Waiting
from ticketing.sale.part import Sale
from ticketing.sale.repositories.bookings import ONE_PLACE, BookingRepository, Lines
from ticketing.settings import Settings
from ticketing.web.replay import KeyedRequest

ASGIApp: TypeAlias = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]

MAX_WAIT: Final = 5.0
"""Seconds until a compare-and-swap that keeps losing gives up; the same as in the service."""
POOL_TIMEOUT: Final = 30.0
"""Seconds to wait for a connection of the pool; SQLAlchemy's default."""


def service(settings: Settings) -> FastAPI:
    """Make the unchanged service."""
    return create_app(settings)


def noop(settings: Settings) -> FastAPI:
    """Make a service that responds to every booking without a database."""
    return _booking_by(settings, NoDatabase())


def rowlock(settings: Settings) -> FastAPI:
    """Make a service with one transaction per request, behind a lock on the event's row."""
    return _booking_by(settings, RowLock(_engine(settings)))


def cas(settings: Settings) -> FastAPI:
    """Make a service with one compare-and-swap per request, tried again until it is won."""
    return _booking_by(settings, CompareAndSwap(_engine(settings)))


def bare(_: Settings) -> ASGIApp:
    """Make an ASGI application that responds to every request with the bytes of a booking."""
    body = (
        b'{"id":"019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa","eventId":1,'
        b'"userId":"019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa","status":"booked",'
        b'"createdAt":"2026-11-23T10:00:00.000000Z"}'
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", b"019938a53c6b7f0eb7a253f0c9d1e6aa"),
    ]

    async def answer(
        scope: MutableMapping[str, Any],
        _receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 201, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return answer


FACTORIES: Final[dict[str, Callable[[Settings], FastAPI | ASGIApp]]] = {
    "service": service,
    "noop": noop,
    "bare": bare,
    "rowlock": rowlock,
    "cas": cas,
}


def _booking_by(settings: Settings, bookings: BookingRepository) -> FastAPI:
    app = create_app(settings)
    app.state.provided[Sale] = replace(app.state.provided[Sale], bookings=bookings)
    return app


def _engine(settings: Settings) -> AsyncEngine:
    """Make an engine like the service's, except for the timeout of its pool."""
    if settings.database_url is None:
        raise ValueError("database_url must be set")
    return create_async_engine(
        make_url(settings.database_url.get_secret_value()).set(drivername="postgresql+asyncpg"),
        pool_size=settings.pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT,
        connect_args={"server_settings": {"timezone": "UTC", "jit": "off"}},
    )


def _booking(event_id: int, user_id: UUID, status: BookingStatus) -> Booking:
    return Booking(uuid7(), event_id, user_id, status, datetime.now(UTC))


def _row(booking: Booking) -> tables.Booking:
    return tables.Booking(
        id=booking.id,
        event_id=booking.event_id,
        user_id=booking.user_id,
        status=booking.status,
        created_at=booking.created_at,
    )


class NoDatabase(BookingRepository):
    """Responds as if it booked, but does nothing."""

    def __init__(self) -> None:  # pylint: disable=super-init-not-called
        """Need no engine."""

    async def book(  # noqa: PLR0913 - as the repository
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,  # noqa: ARG002
        keyed: KeyedRequest | None = None,  # noqa: ARG002
        *,
        lines: Lines = ONE_PLACE,  # noqa: ARG002
        by_team: bool = False,  # noqa: ARG002
        code: str | None = None,  # noqa: ARG002
    ) -> Booked | Waiting:
        """Respond at once."""
        return Booked(_booking(event_id, user_id, BookingStatus.BOOKED))


class RowLock(BookingRepository):
    """The textbook way: lock the event's row, read, write, commit; one transaction per request."""

    def __init__(self, engine: AsyncEngine) -> None:  # pylint: disable=super-init-not-called
        """Work on `engine`."""
        self._engine = engine

    async def book(  # noqa: PLR0913 - as the repository
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,  # noqa: ARG002
        keyed: KeyedRequest | None = None,  # noqa: ARG002
        *,
        lines: Lines = ONE_PLACE,  # noqa: ARG002
        by_team: bool = False,  # noqa: ARG002
        code: str | None = None,  # noqa: ARG002
    ) -> Booked | Waiting:
        """Take a place, or a position on the waiting list."""
        try:
            async with AsyncSession(self._engine) as session, session.begin():
                event = await session.get(tables.Event, event_id, with_for_update=True)
                if event is None:
                    raise EventNotFound
                event.version += 1
                if event.available_tickets:
                    event.available_tickets -= 1
                    booking = _booking(event_id, user_id, BookingStatus.BOOKED)
                    session.add(_row(booking))
                    return Booked(booking)
                event.waiting_list_count += 1
                position = event.waiting_list_count
                booking = _booking(event_id, user_id, BookingStatus.WAITING)
                session.add(_row(booking))
                return Waiting(booking, position)
        except IntegrityError as error:
            raise AlreadyBooked from error
        except PoolTimeoutError as error:
            raise Busy from error


class CompareAndSwap(BookingRepository):
    """The other textbook way: read, swap if the version is the same, else wait and try again."""

    def __init__(self, engine: AsyncEngine) -> None:  # pylint: disable=super-init-not-called
        """Work on `engine`."""
        self._engine = engine

    async def book(  # noqa: PLR0913 - as the repository
        self,
        event_id: int,
        user_id: UUID,
        origin: Origin = COMMAND_LINE,  # noqa: ARG002
        keyed: KeyedRequest | None = None,  # noqa: ARG002
        *,
        lines: Lines = ONE_PLACE,  # noqa: ARG002
        by_team: bool = False,  # noqa: ARG002
        code: str | None = None,  # noqa: ARG002
    ) -> Booked | Waiting:
        """Take a place, or a position on the waiting list."""
        deadline = time.monotonic() + MAX_WAIT
        pause = 0.005
        while time.monotonic() < deadline:
            outcome = await self._try(event_id, user_id)
            if outcome is not None:
                return outcome
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(pause * 2, 0.2)
        raise Busy

    async def _try(self, event_id: int, user_id: UUID) -> Booked | Waiting | None:
        try:
            async with AsyncSession(self._engine) as session, session.begin():
                event = await session.get(tables.Event, event_id)
                if event is None:
                    raise EventNotFound
                has_place = event.available_tickets > 0
                position = event.waiting_list_count + 1
                swap = (
                    update(tables.Event)
                    .where(tables.Event.id == event_id, tables.Event.version == event.version)
                    .values(
                        version=event.version + 1,
                        available_tickets=event.available_tickets - has_place,
                        waiting_list_count=event.waiting_list_count + (not has_place),
                    )
                    .returning(tables.Event.id)
                    .execution_options(synchronize_session=False)
                )
                if await session.scalar(swap) is None:
                    return None
                status = BookingStatus.BOOKED if has_place else BookingStatus.WAITING
                booking = _booking(event_id, user_id, status)
                session.add(_row(booking))
                return Booked(booking) if has_place else Waiting(booking, position)
        except IntegrityError as error:
            raise AlreadyBooked from error
        except PoolTimeoutError as error:
            raise Busy from error
