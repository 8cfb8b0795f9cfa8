"""Requests that have one effect, however often they are sent (Idempotency-Key)."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID, uuid5

from fastapi import Header
from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from ticketing.errors import (
    AnswerLost,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    RequestInProgress,
    TicketingError,
)
from ticketing.web.fields import Out
from ticketing.web.seals import Seals

KEY: Final = re.compile(r'"([!#-\[\]-~]{1,255})"|([!#-~][!-~]{0,254})')
"""A Structured Field string, as in draft-ietf-httpapi-idempotency-key-header, or its bare text."""
NAMES: Final = UUID("5d0f9e0e-6b0c-4c53-9a39-0f6a1c1d6f53")
"""The namespace of `owner_of` (RFC 9562, section 6.5)."""

IdempotencyKey = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        description="Names the intention: sent again with the same key and body, the request has "
        "no second effect, and the first answer comes again.",
        # Documented, not checked: `keyed_request` has an error of its own for it.
        json_schema_extra={"pattern": f"^({KEY.pattern})$", "examples": ["8e03978e-40d5-43dd"]},
    ),
]


class Rendered(NamedTuple):
    """A response with JSON that is written already."""

    status: int
    body: bytes
    location: str | None = None
    """Where to find what was made."""


def rendered(status: int, body: Out, location: str | None = None) -> Rendered:
    """Return the response that has this body."""
    return Rendered(status, body.model_dump_json(by_alias=True).encode(), location)


def nothing(_: object) -> Rendered:
    """Return the response of what has nothing to show."""
    return Rendered(204, b"")


def as_response(answer: Rendered, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response as the framework sends it, with more headers."""
    more = {} if answer.location is None else {"Location": answer.location}
    media_type = "application/json" if answer.body else None
    return Response(answer.body, answer.status, {**more, **(headers or {})}, media_type)


class Replayed(Exception):
    """The request was carried out before: this is the stored response."""

    def __init__(self, response: Rendered) -> None:
        """Carry the response."""
        super().__init__(response)
        self.response = response


class KeyedRequest(NamedTuple):
    """A request that has one effect: whose key it has, and what the key stood for first."""

    owner: UUID
    key: str
    digest: bytes
    render: Callable[[Any], Rendered]
    """Makes the response that is stored, from the outcome."""
    seals: Seals | None = None
    """What hides both request and response where they are stored; None if neither is a secret."""

    def hidden(self, body: bytes) -> tuple[bytes, bytes]:
        """Return the digest and the body as they are stored: in the body both, if it is sealed.

        A plain digest of a password could be tried against a list of them.
        """
        if self.seals is None:
            return self.digest, body
        return b"", self.seals.seal(self.digest + body)

    def replayed(self, digest: bytes, response: Rendered) -> Replayed | TicketingError:
        """Return how to answer the request again, from what was stored."""
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

    `asked` is all that the request says, by a class of its own for each route: where the path or
    the query says something too, the class has it as a field. Raises InvalidIdempotencyKey.
    """
    if key is None:
        return None
    found = KEY.fullmatch(key)
    if found is None:
        raise InvalidIdempotencyKey
    digest = hashlib.sha256(_said(asked).encode()).digest()
    return KeyedRequest(owner, found[1] or found[2], digest, render, seals)


def _said(asked: BaseModel) -> str:
    # As pydantic's `repr` says it, which takes twice as long.
    fields = ", ".join([f"{name}={value!r}" for name, value in asked.__dict__.items()])
    return f"{type(asked).__name__}({fields})"


def owner_of(username: str) -> UUID:
    """Return who has the keys of a name that nobody may have yet, whatever its case."""
    return uuid5(NAMES, username.lower())


class UnderWay:
    """The keyed requests that this process is carrying out.

    Of two that are sent to two processes at once, the database lets one be written.
    """

    def __init__(self) -> None:
        self._keys: set[tuple[UUID, str]] = set()

    @contextmanager
    def once(self, request: KeyedRequest) -> Iterator[None]:
        """Carry out the request. Raises RequestInProgress if that is under way."""
        key = request.owner, request.key
        if key in self._keys:
            raise RequestInProgress
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)
