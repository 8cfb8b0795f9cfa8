"""The keys that sign codes of tickets. All workers and replicas share them."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy.ext.asyncio import AsyncEngine

from ticketing.db.statements import Driver, Statement, driver
from ticketing.door.codes import raw
from ticketing.ops import logs
from ticketing.web.seals import Seals

REMEMBERED: Final = 10.0
"""Seconds for which a worker works with the keys that it has read."""
LOCK: Final = Statement("SELECT pg_advisory_xact_lock(hashtext('ticketing: ticket keys'))")
# Not `now()`, which is the time before this waited for a worker that makes a key.
ALL: Final = Statement(
    "SELECT id, public_key, sealed, created_at, signs_from,"
    " signs_from <= clock_timestamp() AS may_sign FROM ticket_keys WHERE public_key <> ''"
    " ORDER BY signs_from, id",
    reads_tables="it has a row for each key, and there are few",
)
MAKE: Final = Statement(
    """
    INSERT INTO ticket_keys (id, public_key, sealed, signs_from)
    SELECT coalesce(max(id), 0) + 1, CAST(:public_key AS bytea), CAST(:sealed AS bytea),
        now() + make_interval(mins => CAST(:minutes AS integer))
    FROM ticket_keys
    RETURNING id, signs_from
    """,
    reads_tables="it has a row for each key, and there are few",
)
# The row stays, so that no later key gets its id: verifiers keep the key that they know by an id.
RETIRE: Final = Statement(
    "UPDATE ticket_keys SET public_key = '', sealed = '' WHERE id = :id AND public_key <> ''"
    " RETURNING id"
)


class TicketKey(NamedTuple):
    """A key as the operator sees it."""

    id: int
    created_at: datetime
    signs_from: datetime
    signs: bool
    """Whether it signs now."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys at one time: all verify, and one signs."""

    public: Mapping[int, Ed25519PublicKey]
    signing_id: int
    signing: Ed25519PrivateKey


class KeyRepository:
    """Reads the keys, and makes the first one."""

    def __init__(self, engine: AsyncEngine, seals: Seals) -> None:
        """Work on `engine`. Private keys are sealed by `seals`."""
        self._engine = engine
        self._seals = seals
        self._keys: Keys | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    async def current(self) -> Keys:
        """Return the keys as they were at most REMEMBERED seconds ago.

        If no key may sign, or the secret that sealed it is not known any more, one is made.
        """
        if self._keys is None or time.monotonic() - self._read_at > REMEMBERED:
            async with self._reading:
                if self._keys is None or time.monotonic() - self._read_at > REMEMBERED:
                    self._keys = await self._read()
                    self._read_at = time.monotonic()
        return self._keys

    async def _read(self) -> Keys:
        async with driver(self._engine) as connection:
            keys = await self._opened(connection)
            if keys is None:
                async with connection.transaction():
                    await LOCK.fetch(connection)
                    # Another worker may have made it meanwhile.
                    keys = await self._opened(connection)
                    if keys is None:
                        await _make(connection, self._seals, minutes=0)
                        keys = await self._opened(connection)
        if keys is None:
            raise RuntimeError("a new key can't be opened")
        return keys

    async def _opened(self, connection: Driver) -> Keys | None:
        rows = await ALL.fetch(connection)
        public = {row["id"]: Ed25519PublicKey.from_public_bytes(row["public_key"]) for row in rows}
        for row in reversed(rows):
            private = self._seals.open(row["sealed"]) if row["may_sign"] else None
            if private is not None:
                return Keys(public, row["id"], Ed25519PrivateKey.from_private_bytes(private))
        return None

    async def every(self) -> list[TicketKey]:
        """Return all keys, the one that signs last first."""
        async with driver(self._engine) as connection:
            rows = await ALL.fetch(connection)
        signing = next((row["id"] for row in reversed(rows) if row["may_sign"]), None)
        return [
            TicketKey(row["id"], row["created_at"], row["signs_from"], row["id"] == signing)
            for row in reversed(rows)
        ]

    async def rotate(self, minutes: int) -> TicketKey:
        """Make a key that verifies at once, and signs after `minutes`."""
        async with driver(self._engine) as connection, connection.transaction():
            await LOCK.fetch(connection)
            made = await _make(connection, self._seals, minutes=minutes)
        logs.log.info("ticket_key.made", keyId=made)
        return next(each for each in await self.every() if each.id == made)

    async def retire(self, key_id: int) -> bool:
        """Delete the key. Codes that it signed are invalid from then on. Return if it existed."""
        async with driver(self._engine) as connection:
            found = bool(await RETIRE.fetch(connection, id=key_id))
        if found:
            logs.log.info("ticket_key.retired", keyId=key_id)
        return found


async def _make(connection: Driver, seals: Seals, *, minutes: int) -> int:
    key = Ed25519PrivateKey.generate()
    (row,) = await MAKE.fetch(
        connection,
        public_key=raw(key.public_key()),
        sealed=seals.seal(key.private_bytes_raw()),
        minutes=minutes,
    )
    number: int = row["id"]
    return number
