"""Intentions that are carried out once, however often they are sent (Idempotency-Key)."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

from pydantic import BaseModel

from ticketing.errors import (
    AnswerLost,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    RequestInProgress,
    TicketingError,
)
from ticketing.security import Seals

KEY: Final = re.compile(r'"([!#-\[\]-~]{1,255})"|([!#-~][!-~]{0,254})')
"""A Structured Field string, as in draft-ietf-httpapi-idempotency-key-header, or its bare text."""
NAMES: Final = UUID("5d0f9e0e-6b0c-4c53-9a39-0f6a1c1d6f53")
"""The namespace of `owner_of` (RFC 9562, section 6.5)."""


class Answer(NamedTuple):
    """What a request is answered with: JSON that is written already."""

    status: int
    body: bytes
    location: str | None = None
    """Where to find what was made."""


class Replayed(Exception):
    """The intention was carried out before: this is what was answered."""

    def __init__(self, answer: Answer) -> None:
        """Carry the answer."""
        super().__init__(answer)
        self.answer = answer


class Intent(NamedTuple):
    """What somebody wants to happen once: their key, and what it stood for first."""

    owner: UUID
    key: str
    digest: bytes
    write: Callable[[Any], Answer]
    """Makes the answer that is kept, from the outcome."""
    seals: Seals | None = None
    """What hides both request and answer where they are kept; None where neither is a secret."""

    def hidden(self, body: bytes) -> tuple[bytes, bytes]:
        """Return the digest and the body as they are kept: in the body both, if it is sealed.

        A plain digest of a password could be tried against a list of them.
        """
        if self.seals is None:
            return self.digest, body
        return b"", self.seals.seal(self.digest + body)

    def answered(self, digest: bytes, answer: Answer) -> Replayed | TicketingError:
        """Return how to answer it again, from what was kept."""
        if self.seals is not None and not digest:
            opened = self.seals.open(answer.body)
            if opened is None:
                return AnswerLost()
            size = len(self.digest)
            digest, answer = opened[:size], answer._replace(body=opened[size:])
        return (
            Replayed(answer) if hmac.compare_digest(digest, self.digest) else IdempotencyKeyReused()
        )


def intent(
    owner: UUID,
    header: str | None,
    asked: BaseModel,
    write: Callable[[Any], Answer],
    seals: Seals | None = None,
) -> Intent | None:
    """Return the intention that a header names, if there is one.

    `asked` is what all its requests say, by a class of its own for each route. Raises
    InvalidIdempotencyKey.
    """
    if header is None:
        return None
    found = KEY.fullmatch(header)
    if found is None:
        raise InvalidIdempotencyKey
    digest = hashlib.sha256(_said(asked).encode()).digest()
    return Intent(owner, found[1] or found[2], digest, write, seals)


def _said(asked: BaseModel) -> str:
    # As pydantic's `repr` says it, which takes twice as long.
    fields = ", ".join([f"{name}={value!r}" for name, value in asked.__dict__.items()])
    return f"{type(asked).__name__}({fields})"


def owner_of(username: str) -> UUID:
    """Return who has the keys of a name that nobody may have yet, whatever its case."""
    return uuid5(NAMES, username.lower())


def done(_: object) -> Answer:
    """Make the answer of what has nothing to show."""
    return Answer(204, b"")


class UnderWay:
    """The intentions that this process is carrying out.

    Of two that are sent to two processes at once, the database lets one be written.
    """

    def __init__(self) -> None:
        self._keys: set[tuple[UUID, str]] = set()

    @contextmanager
    def once(self, intent: Intent) -> Iterator[None]:
        """Carry out the intention. Raises RequestInProgress if that is under way."""
        key = intent.owner, intent.key
        if key in self._keys:
            raise RequestInProgress
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)
