"""Trail records: the INSERT that records a change and who made it."""

from typing import Final, NamedTuple
from uuid import UUID


class Origin(NamedTuple):
    """The person who makes a change, their credential, address and request.

    All are None for the command line.
    """

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
"""For `recorded`: the rows that are recorded have the origin in columns."""


def recorded(  # noqa: PLR0913 - one argument per column
    action: str,
    *,
    of: str,
    event: str = "NULL",
    subject: str = "NULL",
    details: str = "'{}'",
    whole: str = "",
    by: tuple[str, ...] = _BY_PARAMETERS,
) -> str:
    """Return a CTE that inserts a trail record for each row of `of`, a CTE that changes rows.

    A change and its record are one statement, so no change lacks its record. All arguments are SQL
    expressions over the columns of `of`, and must not contain secrets. Unless `by` names columns,
    the statement has the fields of an Origin as parameters. `whole` is the object after the change,
    for those who follow the changes. Bookings need none: see `feed.told`.

    With `event`, `of` must hold the lock of that event's row (FOR NO KEY UPDATE, or its update). A
    record gets its number while the row is locked. So an event's records become visible in the
    order of their numbers, and a program that follows them by number misses none.
    """
    column, value = (", whole", f", CAST({whole} AS jsonb)") if whole else ("", "")
    return f"""
    recorded AS (
        INSERT INTO audit_records
            (action, event_id, subject, details, {", ".join(ORIGIN_TYPES)} {column})
        SELECT {action}, CAST({event} AS bigint), CAST({subject} AS uuid),
            CAST({details} AS jsonb), {", ".join(by)} {value}
        FROM {of}
    )
    """  # noqa: S608 - our own text
