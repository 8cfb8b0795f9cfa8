"""Who calls, and what this process knows of who may enter."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ticketing.identity.permissions import Scope
from ticketing.settings import MAX_TOKEN_LIFETIME

REVOKED_FOR: Final = MAX_TOKEN_LIFETIME + 60
"""Seconds after which nothing of what was revoked can be remembered anywhere."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a verified credential speaks for, until `expires_at` (seconds since the epoch).

    `credential` is the id of the session or the API key; `scopes` is None for a session, which
    may do whatever the person may.
    """

    id: UUID
    credential: UUID
    expires_at: float
    scopes: frozenset[Scope] | None = None


class AccessList:
    """What this process knows of who may enter: what was revoked, and who is admin or organiser.

    `repositories.access` keeps it up to date, so that no request needs to ask the database.
    """

    def __init__(self) -> None:
        self.revoked: dict[UUID, float] = {}
        """Credentials that ended, in that order, with the monotonic time to forget them at."""
        self.admins: frozenset[UUID] = frozenset()
        self.organisers: frozenset[UUID] = frozenset()
        """People who were granted the right to create events."""

    def revoke(self, credentials: Iterable[UUID]) -> None:
        """Refuse these credentials from now on."""
        now = time.monotonic()
        for credential in credentials:
            self.revoked.setdefault(credential, now + REVOKED_FOR)
        while self.revoked and next(iter(self.revoked.values())) < now:
            del self.revoked[next(iter(self.revoked))]
