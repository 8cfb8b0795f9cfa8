"""Local times of events, read anew when the rules of time zones have changed."""

from contextlib import suppress
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Statement, driver
from ticketing.errors import EventNotFound
from ticketing.sale.details import has_local_times, read_anew
from ticketing.sale.repositories.events import COLUMNS, complete
from ticketing.sale.repositories.revisions import RevisionRepository
from ticketing.sale.rows import Event
from ticketing.sale.times import RULES

BATCH: Final = 100
TURN: Final = 10
"""The batches of one turn, so that a start is not delayed by all events."""

# One look-up of the index, which finds nothing unless the rules changed.
DUE: Final = Statement(
    f"""
    SELECT {COLUMNS}, zone_rules
    FROM (
        SELECT * FROM event_details
        WHERE zone_rules < :rules
            AND (zone_rules, event_id) > (CAST(:after_rules AS text), CAST(:after AS bigint))
        ORDER BY zone_rules, event_id LIMIT :limit
    ) AS details
    CROSS JOIN LATERAL (SELECT * FROM events WHERE events.id = details.event_id LIMIT 1) AS events
    ORDER BY zone_rules, event_id
    """  # noqa: S608 - our own text
)
# The lock keeps out a change of the event, and the revision shows one since the event was read.
# Locks in the same order as a commit, and leaves out locked events.
SETTLE: Final = Statement(
    """
    WITH locked AS (
        SELECT id, revision FROM events WHERE id = ANY(CAST(:ids AS bigint[]))
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ), given AS (
        SELECT * FROM unnest(
            CAST(:ids AS bigint[]), CAST(:revisions AS bigint[]), CAST(:rules AS text[])
        ) AS given(id, revision, rules)
    )
    UPDATE event_details SET zone_rules = given.rules
    FROM given
    WHERE event_id = ANY(ARRAY(SELECT id FROM locked JOIN given USING (id, revision)))
        AND event_id = given.id
    """
)


class LocalTimeRepository:
    """Keeps the instants of local times true to the rules of the time zones."""

    def __init__(self, engine: AsyncEngine, revisions: RevisionRepository) -> None:
        """Work on `engine`. `revisions` changes events."""
        self._engine = engine
        self._revisions = revisions

    async def read_anew(self) -> None:
        """Read the local times that earlier rules read, of a limited number of events.

        Each event whose instants change gets a new revision. Workers with earlier rules leave the
        results of later ones alone, so two versions of the service can run beside each other.
        """
        after_rules, after = "", 0
        for _ in range(TURN):
            async with driver(self._engine) as connection:
                rows = await DUE.fetch(
                    connection, rules=RULES, after_rules=after_rules, after=after, limit=BATCH
                )
                events = await complete(connection, rows)
            if not rows:
                return
            after_rules, after = rows[-1]["zone_rules"], rows[-1]["id"]
            kept = []
            for row in rows:
                if (found := events.get(row["id"])) is None:
                    continue
                if _is_true(found):
                    kept.append(found)
                    continue
                with suppress(EventNotFound):
                    await self._revisions.read_times_anew(found.id, row["zone_rules"])
            async with driver(self._engine) as connection:
                await SETTLE.fetch(
                    connection,
                    ids=[each.id for each in kept],
                    revisions=[each.terms.revision for each in kept],
                    rules=[RULES if _has_local_times(each) else None for each in kept],
                )


def _is_true(event: Event) -> bool:
    """Whether the present rules read its local times as they are."""
    details, definitions = event.details, event.definitions
    return (
        read_anew(details, event.read_at) == details
        and definitions.read_anew(details.timezone, event.read_at) == definitions
    )


def _has_local_times(event: Event) -> bool:
    """Whether a time to come is a local time."""
    return has_local_times(event.details, event.read_at) or event.definitions.have_local_times(
        event.read_at
    )
