"""Requests that have one effect, however often they are resent (Idempotency-Key).

Without the framework, which commands of operators would load for nothing.
"""

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
from ticketing.web.asgi import JSON
from ticketing.web.fields import Out
from ticketing.web.seals import Seals

KEY: Final = re.compile(r'"([!#-\[\]-~]{1,255})"|([!#-~][!-~]{0,254})')
"""A Structured Field string (draft-ietf-httpapi-idempotency-key-header), or its text unquoted."""
NAMES: Final = UUID("5d0f9e0e-6b0c-4c53-9a39-0f6a1c1d6f53")
"""The namespace of `owner_of` (RFC 9562, section 6.5)."""


class Rendered(NamedTuple):
    """A response whose body is already serialised."""

    status: int
    body: bytes
    location: str | None = None
    """Path of the new resource."""
    etag: str | None = None
    """The entity tag of the representation (RFC 9110, section 8.8.3)."""
    media: bytes = JSON
    """The media type of the body. Only JSON can be stored."""


def rendered(status: int, body: Out, location: str | None = None) -> Rendered:
    """Return the response with this body."""
    return Rendered(status, body.model_dump_json(by_alias=True).encode(), location)


def nothing(_: object) -> Rendered:
    """Return the response 204, without a body."""
    return Rendered(204, b"")


class Replayed(Exception):
    """The request was carried out before; this has its stored response."""

    def __init__(self, response: Rendered) -> None:
        """Keep the stored response."""
        super().__init__(response)
        self.response = response


class KeyedRequest(NamedTuple):
    """A request with an Idempotency-Key: the key, its owner, and a digest of the request."""

    owner: UUID
    key: str
    digest: bytes
    render: Callable[[Any], Rendered]
    """Makes the stored response from the outcome."""
    seals: Seals | None = None
    """Seals the stored digest and response; None if neither contains a secret."""

    def hidden(self, body: bytes) -> tuple[bytes, bytes]:
        """Return the digest and the body to store. If they are sealed, the body contains both.

        A plain digest of a password could be compared with digests of common passwords.
        """
        if self.seals is None:
            return self.digest, body
        return b"", self.seals.seal(self.digest + body)

    def replayed(self, digest: bytes, response: Rendered) -> Replayed | TicketingError:
        """Return the stored response, or the error if the key was used for a different request."""
        if self.seals is not None and not digest:
            opened = self.seals.open(response.body)
            if opened is None:
                return AnswerLost()
            size = len(self.digest)
            digest, response = opened[:size], response._replace(body=opened[size:])
        return (
            Replayed(response)
            if hmac.compare_digest(digest, self.digest)
            else IdempotencyKeyReused()
        )


def keyed_request(
    owner: UUID,
    key: str | None,
    asked: BaseModel,
    render: Callable[[Any], Rendered],
    seals: Seals | None = None,
) -> KeyedRequest | None:
    """Return the request of this key, or None without a key.

    `asked` contains the whole request, in a class for each route. If the path or the query has
    parameters, they are fields of this class. Raises InvalidIdempotencyKey.
    """
    if key is None:
        return None
    found = KEY.fullmatch(key)
    if found is None:
        raise InvalidIdempotencyKey
    digest = hashlib.sha256(_said(asked).encode()).digest()
    return KeyedRequest(owner, found[1] or found[2], digest, render, seals)


def _said(asked: BaseModel) -> str:
    # As pydantic's `repr`, in half the time. A field that is left out does not count, so that the
    # text stays the same when a route gets a new one.
    given = asked.model_fields_set
    said = asked.__dict__.items()
    fields = ", ".join([f"{name}={value!r}" for name, value in said if name in given])
    return f"{type(asked).__name__}({fields})"


def owner_of(username: str) -> UUID:
    """Return the owner of keys for a username that may not exist yet; case does not count."""
    return uuid5(NAMES, username.lower())


class UnderWay:
    """The keyed requests that are under way in this process.

    If two processes get the same request at once, the database accepts only one of them.
    """

    def __init__(self) -> None:
        self._keys: set[tuple[UUID, str]] = set()

    @contextmanager
    def once(self, request: KeyedRequest) -> Iterator[None]:
        """Mark the request as under way. Raises RequestInProgress if it already is."""
        key = request.owner, request.key
        if key in self._keys:
            raise RequestInProgress
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)
