"""Turn errors of the database into the service's own errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ticketing.errors import (
    Busy,
    DatabaseUnavailable,
    InvalidRefreshToken,
    TicketingError,
    UsernameTaken,
    UserNotFound,
)

CONSTRAINTS: Final[dict[str, type[TicketingError]]] = {
    "uq_users_username": UsernameTaken,
    "fk_events_organiser_id": UserNotFound,
    "fk_bookings_user_id": UserNotFound,
    "fk_ticket_details_holder_id": UserNotFound,
    # The session ended while its token was being used.
    "fk_refresh_tokens_session_id": InvalidRefreshToken,
}
"""The error to raise if a constraint refuses a write."""

UNAVAILABLE: Final = ("08", "53", "57P", "25006", "25P03")
"""Beginnings of SQLSTATEs that mean: no connection, no resources, starting or shutting down, a
replica that accepts no writes, a transaction that was idle for too long."""

BUSY: Final = {"40001", "40P01", "55P03", "57014"}
"""SQLSTATEs of a statement that was aborted without a change: a conflict, a deadlock, a timeout of
a lock, a cancelled statement."""


def constraint_of(error: Exception) -> str | None:
    """Return the name of the constraint that refused a write, if one did."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    name = getattr(cause, "constraint_name", None)
    return str(name) if name is not None else None


NOT_CONNECTED: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


@asynccontextmanager
async def domain_errors() -> AsyncIterator[None]:
    """Turn errors of the database into errors that the caller can act on.

    A violated constraint becomes its entry in CONSTRAINTS. A lost connection or a database that
    does not respond becomes DatabaseUnavailable. An exhausted pool, or a statement that was
    aborted because of another, becomes Busy.
    """
    try:
        yield
    except (IntegrityError, asyncpg.IntegrityConstraintViolationError) as error:
        known = CONSTRAINTS.get(constraint_of(error) or "")
        if known is None:
            raise
        raise known from error
    except PoolTimeoutError as error:
        raise Busy from error
    except (
        OperationalError,
        InterfaceError,
        asyncpg.InterfaceError,
        # The server has announced that it closes the connection, which is still open.
        asyncpg.InternalClientError,
        OSError,  # TimeoutError is one.
    ) as error:
        raise DatabaseUnavailable from error
    except (DBAPIError, asyncpg.PostgresError) as error:
        from_driver = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(from_driver, "sqlstate", None) or ""
        if state in BUSY:
            raise Busy from error
        was_lost = isinstance(error, DBAPIError) and (
            # Connecting failed: no host is a primary, or the database refuses the role or its
            # password.
            error.statement is None
            or error.connection_invalidated
            or isinstance(from_driver and from_driver.__cause__, NOT_CONNECTED)
        )
        if not was_lost and not state.startswith(UNAVAILABLE):
            raise
        raise DatabaseUnavailable from error
