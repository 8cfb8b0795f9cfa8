"""Bodies of requests: how much of them is read, and which media types are JSON."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from ticketing.errors import BodyTooLarge, UnsupportedMediaType
from ticketing.web.asgi import JSON, ASGIApp, ASGIScope, Message, Receive, Send

MAX_BODY: Final = 64 * 1024
"""Bytes."""
IDENTITY: Final = b"identity"
DECLARED_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


class BodyLimit:
    """Refuses bodies larger than MAX_BODY, by their declared length or while they arrive."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((v for k, v in scope["headers"] if k == b"content-length"), b"")
        declared = int(given) if DECLARED_LENGTH.fullmatch(given) else None
        if declared is not None and declared <= MAX_BODY:
            # The server reads at most the declared length.
            await self._app(scope, receive, send)
            return
        received = declared or 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(BodyTooLarge.status)
            return message

        await self._app(scope, limited, send)


class JsonRequest(Request):
    """A request whose body is JSON in UTF-8, at most 200 deep."""

    async def json(self) -> Any:  # noqa: ANN401 - JSON
        """Return the body's JSON value."""
        # Not the standard library's parser, which accepts UTF-16 and has no limit on nesting.
        return from_json(await self.body())


async def read(receive: Receive) -> bytes:
    """Return the whole body. Raises BodyTooLarge, or ClientDisconnect."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > MAX_BODY:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return body


def has_body(headers: Mapping[bytes, bytes]) -> bool:
    """Whether there is a body (RFC 9112, section 6.3)."""
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedMediaType unless a body is declared as JSON, and not as compressed."""
    if not is_json(headers.get(b"content-type", b"")) or not is_plain(headers):
        raise UnsupportedMediaType


def is_plain(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body is sent without encoding (RFC 9110, section 8.4)."""
    return headers.get(b"content-encoding", IDENTITY).strip().lower() in {b"", IDENTITY}


def is_json(content_type: bytes) -> bool:
    """Whether a body of this type is JSON (RFC 6839, section 3.1)."""
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == JSON or (kind.startswith(b"application/") and kind.endswith(b"+json"))
