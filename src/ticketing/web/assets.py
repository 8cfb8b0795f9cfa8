"""Responses that are the same for every client: identified by an ETag, and compressed once."""

import asyncio
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ticketing.web.asgi import ASGIScope, Receive, Send

STATIC: Final = Path(__file__).parent / "static"
LEAST: Final = 1024
"""Bytes. A shorter body is not compressed, because the header would cost more."""
LEVEL: Final = 6
PIECE: Final = 64 * 1024
"""Bytes sent at a time, so that a slow client holds no more memory than that."""
TAG: Final = re.compile(r'"[^"]*"')
ZERO: Final = re.compile(r"0(\.0*)?")


class Asset:
    """A body that never changes while the process lives. It holds no secret (BREACH)."""

    def __init__(
        self, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Serve `body`, with these `headers` too."""
        self.body: Final = body
        self._type = media_type
        self._headers = dict(headers or {})
        self._digest = hashlib.sha256(body).hexdigest()[:32]
        self._gzipped: bytes | None = None if len(body) >= LEAST else b""
        """None: not compressed yet. Empty: compressing gains too little."""
        self._compressing = asyncio.Lock()

    async def response(self, asked: Headers) -> Response:
        """Return the response to a GET with the request headers `asked`: 200 or 304."""
        zipped = (
            await self._compressed()
            if takes_gzip(",".join(asked.getlist("accept-encoding")))
            else b""
        )
        tag = f'"{self._digest}-gzip"' if zipped else f'"{self._digest}"'
        # A 304 has all of them too, because they replace those of the cached response.
        headers = {**self._headers, "ETag": tag}
        if self._gzipped != b"":
            headers["Vary"] = "Accept-Encoding"
        known = ",".join(asked.getlist("if-none-match"))
        if known.strip() == "*" or tag in TAG.findall(known):
            return Response(None, 304, headers)
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return _InPieces(zipped or self.body, 200, headers, self._type)

    async def _compressed(self) -> bytes:
        if self._gzipped is None:
            async with self._compressing:
                if self._gzipped is None:
                    zipped = await asyncio.to_thread(gzip.compress, self.body, LEVEL, mtime=0)
                    self._gzipped = zipped if len(zipped) < 0.9 * len(self.body) else b""
        return self._gzipped


def takes_gzip(accepted: str) -> bool:
    """Whether this Accept-Encoding allows gzip (RFC 9110, section 12.5.3)."""
    weights = {}
    for each in accepted.lower().split(","):
        coding, _, parameter = each.partition(";")
        name, _, weight = parameter.partition("=")
        weights[coding.strip()] = weight.strip() if name.strip() == "q" else "1"
    return not ZERO.fullmatch(weights.get("gzip", weights.get("*", "0")))


class _InPieces(Response):
    """A response that sends each piece after the client has read the one before."""

    async def __call__(self, _scope: ASGIScope, _receive: Receive, send: Send) -> None:
        """Send the response."""
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        for begin in range(0, len(self.body), PIECE):
            piece = self.body[begin : begin + PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@cache
def file(name: str, policy: str | None = None, **texts: str) -> Asset:
    """Return a file of `static/`, with the Content-Security-Policy `policy` if it is given.

    Names of `texts` in it are replaced by the texts.
    """
    content = (STATIC / name).read_bytes()
    for text, value in texts.items():
        content = content.replace(text.encode(), value.encode())
    media_type, _ = mimetypes.guess_type(name)
    headers = {} if policy is None else {"Content-Security-Policy": policy}
    return Asset(content, media_type or "text/plain", headers)


class StaticFiles:
    """The ASGI application that serves each file of `static/` below a path."""

    def __init__(self, at: str) -> None:
        """Serve them at `at` and below."""
        found = (
            path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()
        )
        self._names = {f"{at}/{name}": name for name in found}

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises HTTPException if there is no such file or method."""
        if scope["method"] != "GET":
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        name = self._names.get(scope["path"])
        if name is None:
            raise HTTPException(404)
        response = await file(name).response(Headers(scope=scope))
        await response(scope, receive, send)
