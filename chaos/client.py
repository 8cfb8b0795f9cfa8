"""A small HTTP client: one connection, one request at a time, and nothing is ever resent.

A library's client would resend requests without a response, and hide what the harness must see.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


class Unanswered(Exception):
    """There was no complete response in time, so the outcome is unknown."""


class NotSent(Exception):
    """There was no connection, so the request was not sent."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response."""

    status: int
    headers: dict[str, str]
    body: Any
    port: int
    """The port of the service that responded."""

    @property
    def code(self) -> str:
        """The problem's code; empty if the response is not a problem."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


class Client:
    """A client with a connection to a service."""

    def __init__(self, ports: Sequence[int], *, patience: float) -> None:
        """Connect to any of the current `ports`, and wait `patience` seconds for a response."""
        self._ports = ports
        self._patience = patience
        self._port = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        key: str = "",
        leave_after: float | None = None,
    ) -> Response:
        """Send the request once. Raises NotSent or Unanswered.

        With `leave_after`, close the connection that many seconds after it was sent.
        """
        sent = False
        try:
            async with asyncio.timeout(self._patience if leave_after is None else leave_after):
                if self._writer is None:
                    self._port = random.choice(self._ports)
                    opened = await asyncio.open_connection("127.0.0.1", self._port)
                    self._reader, self._writer = opened
                sent = True
                self._writer.write(_request(method, path, body, token, key))
                await self._writer.drain()
                response = await self._answer()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            raise (Unanswered if sent else NotSent) from error
        except BaseException:
            self.close()
            raise
        if response.headers.get("connection") == "close":
            self.close()
        return response

    async def _answer(self) -> Response:
        if self._reader is None:
            raise EOFError
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in pairs}
        content = await self._reader.readexactly(int(headers.get("content-length", "0")))
        body = json.loads(content) if content else None
        return Response(int(head[0].split()[1]), headers, body, self._port)

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.transport.abort()
        self._reader = self._writer = None


def _request(method: str, path: str, body: object, token: str, key: str) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    if content:
        lines.append("Content-Type: application/json")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if key:
        lines.append(f"Idempotency-Key: {key}")
    return "\r\n".join([*lines, "", ""]).encode() + content
