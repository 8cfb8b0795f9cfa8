"""Facts: what was changed and who changed it, and the one INSERT that records it."""

from typing import Final, NamedTuple
from uuid import UUID


class Origin(NamedTuple):
    """Who makes a change, by which credential, and from where."""

    actor: UUID | None = None
    credential: UUID | None = None
    address: str | None = None
    request_id: str | None = None


COMMAND_LINE: Final = Origin()

ORIGIN_TYPES: Final = {
    "actor": "uuid",
    "credential": "uuid",
    "address": "text",
    "request_id": "text",
}
"""The SQL types of an Origin's fields."""

_BY_PARAMETERS: Final = tuple(f"CAST(:{name} AS {kind})" for name, kind in ORIGIN_TYPES.items())
BY_COLUMNS: Final = tuple(ORIGIN_TYPES)
"""The origin is in columns of the rows that are recorded."""


def recorded(  # noqa: PLR0913 - a record has so many columns
    action: str,
    *,
    of: str,
    event: str = "NULL",
    subject: str = "NULL",
    details: str = "'{}'",
    by: tuple[str, ...] = _BY_PARAMETERS,
) -> str:
    """Return the part of a statement that records each row of `of`, a part that changes something.

    A change and its record are one statement, so no change is without its record. `action` is an
    SQL expression, as the rest are, over the columns of `of`; nothing secret may be in them. Unless
    `by` names columns, the statement takes the fields of an Origin as parameters.

    With `event`, `of` must have the lock of that event's row (FOR NO KEY UPDATE, or its update). A
    record draws its number while it has the lock, so an event's records become visible in the
    order of their numbers, and a program that follows them by number misses none.
    """
    return f"""
    recorded AS (
        INSERT INTO audit_records
            (action, event_id, subject, details, {", ".join(ORIGIN_TYPES)})
        SELECT {action}, CAST({event} AS bigint), CAST({subject} AS uuid),
            CAST({details} AS jsonb), {", ".join(by)}
        FROM {of}
    )
    """  # noqa: S608 - our own text
