"""Intentions that are carried out once, however often they are sent (Idempotency-Key)."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic import BaseModel

from ticketing.errors import InvalidIdempotencyKey, RequestInProgress

KEY: Final = re.compile(r'"([!#-\[\]-~]{1,255})"|([!#-~][!-~]{0,254})')
"""A Structured Field string, as in draft-ietf-httpapi-idempotency-key-header, or its bare text."""


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


def intent(
    owner: UUID, header: str | None, asked: BaseModel, write: Callable[[Any], Answer]
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
    return Intent(owner, found[1] or found[2], hashlib.sha256(repr(asked).encode()).digest(), write)


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
