"""Password hashing and access tokens."""

import asyncio
import os
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import jwt
from passlib.context import CryptContext

from ticketing.errors import Busy, NotAuthenticated

ALGORITHM: Final = "HS256"
ISSUER: Final = "ticketing"
AUDIENCE: Final = "ticketing"
CACHED_TOKENS: Final = 10_000
MAX_WAITING: Final = 50
"""Passwords that may wait for a thread: some seconds of work. The next is refused at once."""


class Passwords:
    """Hashes and verifies passwords in threads of their own.

    bcrypt takes long, and lets go of the interpreter's lock while it does.
    """

    def __init__(self, rounds: int) -> None:
        """Hash at a cost of 2 to the power of `rounds`."""
        # bcrypt_sha256 first: bcrypt alone stops at 72 bytes.
        self._context = CryptContext(
            ["bcrypt_sha256", "bcrypt"],
            deprecated="auto",
            bcrypt_sha256__rounds=rounds,
            bcrypt__rounds=rounds,
        )
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="passwords")
        self._nobody: str | None = None
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return the hash to keep. Raises Busy."""
        return str(await self._run(self._context.hash, _normal(password)))

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether the password fits; with no hash it takes as long and says no. Raises Busy."""
        if hashed is None:
            if self._nobody is None:
                self._nobody = await self.hash(uuid4().hex)
            await self._run(self._context.verify, _normal(password), self._nobody)
            return False
        return bool(await self._run(self._context.verify, _normal(password), hashed))

    async def _run(self, function: Any, *args: str) -> Any:  # noqa: ANN401 - passlib is untyped
        if self._waiting >= MAX_WAITING:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _normal(password: str) -> str:
    # NIST SP 800-63B, section 5.1.1.2: the same password may be typed in several encodings.
    return unicodedata.normalize("NFC", password)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a verified token speaks for, until `expires_at` (seconds since the epoch)."""

    id: UUID
    expires_at: float


class Tokens:
    """Issues and verifies access tokens (JWT, RFC 7519, signed with HS256)."""

    def __init__(self, secret: str, lifetime: int) -> None:
        """Sign with `secret`; tokens live for `lifetime` seconds."""
        self.lifetime = lifetime
        self._secret = secret
        self._verified: dict[str, Caller] = {}

    def issue(self, user_id: UUID) -> str:
        """Return a token that speaks for the user."""
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + self.lifetime,
            "jti": uuid4().hex,
        }
        return jwt.encode(claims, self._secret, ALGORITHM)

    def verify(self, token: str) -> Caller:
        """Return whom the token speaks for.

        A token that was verified before is remembered until it expires, for checking a signature
        costs as much as all else that a request does. Raises NotAuthenticated.
        """
        caller = self._verified.get(token)
        if caller is None:
            caller = self._decode(token)
            if len(self._verified) >= CACHED_TOKENS:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = caller
        if caller.expires_at <= time.time():
            self._verified.pop(token, None)
            raise NotAuthenticated
        return caller

    def _decode(self, token: str) -> Caller:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                [ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["sub", "iss", "aud", "iat", "exp", "jti"]},
            )
            return Caller(UUID(claims["sub"]), float(claims["exp"]))
        except (jwt.InvalidTokenError, ValueError, OverflowError, RecursionError) as error:
            raise NotAuthenticated from error
