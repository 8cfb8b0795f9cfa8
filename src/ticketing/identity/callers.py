"""Callers, and this process's copy of the access data."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ticketing.identity.permissions import Scope
from ticketing.settings import MAX_TOKEN_LIFETIME

REVOKED_FOR: Final = MAX_TOKEN_LIFETIME + 60
"""Seconds after which no process can still remember a revoked credential."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The person whom a verified credential identifies.

    The credential is valid until `expires_at` (seconds since the epoch). `credential` is the id of
    the session or the API key. `scopes` is None for a session: it may do whatever the person may.
    """

    id: UUID
    credential: UUID
    expires_at: float
    scopes: frozenset[Scope] | None = None


class AccessList:
    """This process's copy of the revoked credentials, the admins and the organisers.

    `repositories.access` keeps it up to date, so that requests need not read the database.
    """

    def __init__(self) -> None:
        self.revoked: dict[UUID, float] = {}
        """Revoked credentials in order of revocation, and the monotonic time to forget each."""
        self.admins: frozenset[UUID] = frozenset()
        self.organisers: frozenset[UUID] = frozenset()
        """People who were granted the right to create events."""

    def revoke(self, credentials: Iterable[UUID]) -> None:
        """Refuse these credentials from now on, in this process."""
        now = time.monotonic()
        for credential in credentials:
            self.revoked.setdefault(credential, now + REVOKED_FOR)
        while self.revoked and next(iter(self.revoked.values())) < now:
            del self.revoked[next(iter(self.revoked))]
