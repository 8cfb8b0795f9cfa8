"""Passwords, access tokens, refresh tokens and API keys: what they are, and whom they speak for."""

import asyncio
import base64
import gzip
import hashlib
import os
import re
import secrets
import threading
import time
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any, Final
from uuid import UUID, uuid4

import jwt
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from passlib.context import CryptContext

from ticketing.errors import Busy, NotAuthenticated, PasswordTooCommon
from ticketing.settings import MAX_TOKEN_LIFETIME

ALGORITHM: Final = "HS256"
TOKEN: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{42}[AEIMQUYcgkosw048]", re.ASCII)
"""RFC 7515, section 7.1, of 32 bytes signature; two bits of its last character are not used.

The library passes over those and over what is no base64: one token would be many.
"""
ISSUER: Final = "ticketing"
AUDIENCE: Final = "ticketing"
CLOCKS: Final = 10
"""Seconds by which the clocks of two machines of ours may differ."""
CACHED_TOKENS: Final = 10_000
REVOKED_FOR: Final = MAX_TOKEN_LIFETIME + 60
"""Seconds after which nothing of what was revoked can be remembered anywhere."""

MIN_PASSWORD: Final = 8
CONTEXT: Final = ("ticketing",)
"""Words that come to mind here first, beside the username."""
MAX_WAITING: Final = 25
"""Passwords that may wait for each thread: some seconds of work. The next is refused at once."""
COMMON_PASSWORDS: Final = files("ticketing") / "wordlists" / "common-passwords.txt.gz"

NICE: Final = 15
"""By how much the threads of passwords step back: a flood of logins must not stop a sale, nor a
sale all logins."""

KEY_PREFIX: Final = "tkt_"
KEY: Final = re.compile(r"(tkt_[0-9a-f]{64})_([0-9a-f]{8})")
KEY_REMEMBERED: Final = 60.0
"""Seconds for which a worker takes an API key's word without asking the database again."""


class Passwords:
    """Hashes and verifies passwords in threads of their own.

    bcrypt takes long, and lets go of the interpreter's lock while it does.
    """

    def __init__(self, rounds: int, threads: int = 1) -> None:
        """Hash at a cost of 2 to the power of `rounds`, so many at once as there are `threads`."""
        # bcrypt_sha256 first: bcrypt alone stops at 72 bytes. Dearer hashes stay as they are.
        self._context = CryptContext(
            ["bcrypt_sha256", "bcrypt"],
            deprecated="auto",
            bcrypt_sha256__default_rounds=rounds,
            bcrypt_sha256__min_rounds=rounds,
        )
        self._threads = ThreadPoolExecutor(
            threads, thread_name_prefix="passwords", initializer=_step_back
        )
        self._max_waiting = MAX_WAITING * threads
        self._nobody: str | None = None
        self._waiting = 0
        self._common = frozenset(gzip.decompress(COMMON_PASSWORDS.read_bytes()).decode().split())

    def require_uncommon(self, password: str, username: str) -> None:
        """Raise PasswordTooCommon if it is among the commonest, or is so but for words of here.

        NIST SP 800-63B, section 5.1.1.2. Without the username and the service's name in it, a
        password must still be long enough, and not be one of the commonest.
        """
        folded = normal(password).casefold()
        rest = folded
        for word in (username.casefold(), *CONTEXT):
            rest = rest.replace(word, "")
        is_name = rest != folded and len(rest) < MIN_PASSWORD
        if is_name or folded in self._common or rest in self._common:
            raise PasswordTooCommon

    def require_room(self) -> None:
        """Raise Busy if so many passwords wait that another would be refused.

        To ask this first makes a flood of logins cheap to refuse.
        """
        if self._waiting >= self._max_waiting:
            raise Busy

    async def hash(self, password: str) -> str:
        """Return the hash to keep. Raises Busy."""
        return str(await self._run(self._context.hash, normal(password)))

    async def verify(self, password: str, hashed: str | None) -> tuple[bool, str | None]:
        """Return whether the password fits, and the better hash to keep if the old one is weak.

        With no hash it takes as long and says no. Raises Busy.
        """
        if hashed is None:
            if self._nobody is None:
                self._nobody = await self.hash(uuid4().hex)
            await self._run(self._context.verify_and_update, normal(password), self._nobody)
            return False, None
        fits, better = await self._run(self._context.verify_and_update, normal(password), hashed)
        return bool(fits), better

    async def _run(self, function: Any, *args: str) -> Any:  # noqa: ANN401 - passlib is untyped
        self.require_room()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    # Linux keeps a priority for each thread: a flood of logins leaves the cores to the bookings.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def normal(password: str) -> str:
    """Return the form in which a password is hashed."""
    # NIST SP 800-63B, section 5.1.1.2: the same password may be typed in several encodings.
    return unicodedata.normalize("NFC", password)


class Scope(StrEnum):
    """What an API key may be made for."""

    EVENTS_WRITE = "events:write"
    BOOKINGS_WRITE = "bookings:write"
    BOOKINGS_READ = "bookings:read"


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
    """What this process knows of who may enter: what was revoked, and who is an admin.

    `repositories.access` keeps it up to date, so that no request needs to ask the database.
    """

    def __init__(self) -> None:
        self.revoked: dict[UUID, float] = {}
        """Credentials that ended, in that order, with the monotonic time to forget them at."""
        self.admins: frozenset[UUID] = frozenset()

    def revoke(self, credentials: Iterable[UUID]) -> None:
        """Refuse these credentials from now on."""
        now = time.monotonic()
        for credential in credentials:
            self.revoked.setdefault(credential, now + REVOKED_FOR)
        while self.revoked and next(iter(self.revoked.values())) < now:
            del self.revoked[next(iter(self.revoked))]


class Tokens:
    """Issues and verifies access tokens (JWT, RFC 7519), and remembers verified credentials.

    A token names its key by `kid` (RFC 7515, section 4.1.4): tokens of the `previous` secrets are
    still taken, so that changing the secret logs nobody out.
    """

    def __init__(
        self,
        secret: str,
        lifetime: int,
        *,
        previous: Sequence[str] = (),
        access: AccessList | None = None,
    ) -> None:
        """Sign with `secret`; tokens live for `lifetime` seconds, or until `access` says no."""
        self.lifetime = lifetime
        self._secret = secret
        self._keys = {key_id(each): each for each in (*previous, secret)}
        self._revoked = (access or AccessList()).revoked
        self._verified: dict[str, Caller] = {}

    def issue(self, user_id: UUID, session_id: UUID, lifetime: int | None = None) -> str:
        """Return a token that speaks for the user until the session ends, or its own time is up."""
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "sid": str(session_id),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + (self.lifetime if lifetime is None else lifetime),
            "jti": uuid4().hex,
        }
        return jwt.encode(claims, self._secret, ALGORITHM, {"kid": key_id(self._secret)})

    def known(self, token: str) -> Caller | None:
        """Return whom a token speaks for that was verified before, and is still good.

        Checking a signature costs as much as all else that a request does.
        """
        caller = self._verified.get(token)
        if caller is None:
            return None
        if caller.credential in self._revoked or caller.expires_at <= time.time():
            self._verified.pop(token, None)
            return None
        return caller

    def verify(self, token: str) -> Caller:
        """Return whom the access token speaks for. Raises NotAuthenticated."""
        return self.remember(token, self._decode(token))

    def named(self, token: str) -> Caller:
        """Return whom the access token speaks for, or did until its session was ended.

        Raises NotAuthenticated if it is none, or if its own time is up.
        """
        caller = self._decode(token)
        if caller.expires_at <= time.time():
            raise NotAuthenticated
        return caller

    def remember(self, token: str, caller: Caller) -> Caller:
        """Know the credential from now on. Raises NotAuthenticated if it is good no more."""
        if caller.credential in self._revoked or caller.expires_at <= time.time():
            raise NotAuthenticated
        if len(self._verified) >= CACHED_TOKENS:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = caller
        return caller

    def _decode(self, token: str) -> Caller:
        if not TOKEN.fullmatch(token):
            raise NotAuthenticated
        try:
            claims = jwt.decode(
                token,
                self._keys[jwt.get_unverified_header(token)["kid"]],
                [ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                # For `iat` and `nbf`: `exp` is checked without it, at each use.
                leeway=CLOCKS,
                options={"require": ["sub", "sid", "iss", "aud", "iat", "exp", "jti"]},
            )
            return Caller(UUID(claims["sub"]), UUID(claims["sid"]), float(claims["exp"]))
        except (
            *(jwt.InvalidTokenError, KeyError, TypeError, AttributeError),
            *(ValueError, OverflowError, RecursionError),
        ) as error:
            raise NotAuthenticated from error


class Seals:
    """Seals what is kept and holds a secret, so that the database by itself tells none.

    The key is derived from the signing secret (HKDF, RFC 5869); what was sealed under one of the
    `previous` secrets is still opened.
    """

    def __init__(self, secret: str, previous: Sequence[str] = ()) -> None:
        """Seal under `secret`."""
        self._fernet = MultiFernet([Fernet(_seal_key(each)) for each in (secret, *previous)])

    def seal(self, plain: bytes) -> bytes:
        """Return the sealed form, which is another each time."""
        return self._fernet.encrypt(plain)

    def open(self, sealed: bytes) -> bytes | None:
        """Return what was sealed; None if that was under no secret that is known."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            return None


def _seal_key(secret: str) -> bytes:
    derive = HKDF(SHA256(), length=32, salt=None, info=b"ticketing: seal of kept answers").derive
    return base64.urlsafe_b64encode(derive(secret.encode()))


def key_id(secret: str) -> str:
    """Return the short public name of a signing secret."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def new_refresh_token() -> str:
    """Return 256 bits that nobody can guess."""
    return secrets.token_urlsafe(32)


def new_api_key() -> str:
    """Return a fresh key: a prefix that secret scanners know, 256 random bits, a check sum."""
    body = KEY_PREFIX + secrets.token_hex(32)
    return f"{body}_{_check(body)}"


def is_api_key(text: str) -> bool:
    """Whether the text is a key that may exist: the check sum keeps typos off the database."""
    found = KEY.fullmatch(text)
    return found is not None and found[2] == _check(found[1])


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def digest(credential: str) -> bytes:
    """Return the form in which refresh tokens and API keys are kept.

    A fast hash is enough: nobody can try 256 random bits.
    """
    return hashlib.sha256(credential.encode()).digest()


def password_threads() -> int:
    """Return how many passwords to work on at once, so that a flood of logins leaves cores free."""
    return max(1, (os.cpu_count() or 1) // 2)
