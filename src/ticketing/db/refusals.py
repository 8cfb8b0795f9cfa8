"""What the database refuses, as the service's own errors."""

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
    # The session ended while its token was being used.
    "fk_refresh_tokens_session_id": InvalidRefreshToken,
}
"""What it means to the caller that a constraint refused a write."""

UNAVAILABLE: Final = ("08", "53", "57P", "25006", "25P03")
"""How SQLSTATEs begin that say: no connection, no resources, starting or shutting down, a replica
that takes no writes, a transaction that idled for too long."""

BUSY: Final = {"40001", "40P01", "55P03", "57014"}
"""SQLSTATEs of a statement that was given up, with nothing changed: a conflict, a deadlock, a lock
that did not come in time, a cancel."""


def constraint_of(error: Exception) -> str | None:
    """Return the name of the constraint that refused a write, if one did."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    name = getattr(cause, "constraint_name", None)
    return str(name) if name is not None else None


NOT_CONNECTED: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


@asynccontextmanager
async def domain_errors() -> AsyncIterator[None]:
    """Turn what the database raises inside into the error that the caller can act on.

    A violated constraint becomes its entry in CONSTRAINTS; a lost connection or a database that
    does not answer becomes DatabaseUnavailable; an exhausted pool, or a statement that was given
    up for another's sake, becomes Busy.
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
        # The server has said that it ends the connection, which is not closed yet.
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
            # No connection came about, for example because no host is a primary.
            error.connection_invalidated
            or isinstance(from_driver and from_driver.__cause__, NOT_CONNECTED)
        )
        if not was_lost and not state.startswith(UNAVAILABLE):
            raise
        raise DatabaseUnavailable from error
