"""Access tokens (JWT), and a cache of verified credentials."""

import hashlib
import re
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

import jwt

from ticketing.errors import NotAuthenticated
from ticketing.identity.callers import AccessList, Caller

ALGORITHM: Final = "HS256"
TOKEN: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{42}[AEIMQUYcgkosw048]", re.ASCII)
"""RFC 7515, section 7.1, with a signature of 32 bytes. Two bits of its last character are unused.

The library ignores those bits, and characters that are not base64. So one token would have many
spellings.
"""
ISSUER: Final = "ticketing"
AUDIENCE: Final = "ticketing"
CLOCKS: Final = 10
"""Seconds by which the clocks of two of the service's machines may differ."""
CACHED_TOKENS: Final = 10_000


class Tokens:
    """Issues and verifies access tokens (JWT, RFC 7519), and remembers verified credentials.

    A token names its secret in `kid` (RFC 7515, section 4.1.4). Tokens of the `previous` secrets
    are still accepted, so that a new secret logs nobody out.
    """

    def __init__(
        self,
        secret: str,
        lifetime: int,
        *,
        previous: Sequence[str] = (),
        access: AccessList | None = None,
    ) -> None:
        """Sign with `secret`. Tokens are valid for `lifetime` seconds, unless `access` says no."""
        self.lifetime = lifetime
        self._secret = secret
        self._keys = {key_id(each): each for each in (*previous, secret)}
        self._revoked = (access or AccessList()).revoked
        self._verified: dict[str, Caller] = {}

    def issue(self, user_id: UUID, session_id: UUID, lifetime: int | None = None) -> str:
        """Return a token for the user, valid until it expires or the session ends."""
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
        """Return the caller of a token that was verified before and is still valid.

        Verifying a signature costs as much as the rest of a request.
        """
        caller = self._verified.get(token)
        if caller is None:
            return None
        if caller.credential in self._revoked or caller.expires_at <= time.time():
            self._verified.pop(token, None)
            return None
        return caller

    def verify(self, token: str) -> Caller:
        """Return the access token's caller. Raises NotAuthenticated."""
        return self.remember(token, self._decode(token))

    def named(self, token: str, *, ended: bool) -> Caller:
        """Return the access token's caller, for a logout.

        Accepts a token that is not valid yet, because the clock of the machine that issued it may
        be ahead. With `ended`, also accepts one whose session has ended. Raises NotAuthenticated if
        it is no access token, or has expired.
        """
        caller = self._decode(token, early=True)
        if caller.expires_at <= time.time() or (not ended and caller.credential in self._revoked):
            raise NotAuthenticated
        return caller

    def remember(self, token: str, caller: Caller) -> Caller:
        """Cache the credential. Raises NotAuthenticated if it has expired or was revoked."""
        if caller.credential in self._revoked or caller.expires_at <= time.time():
            raise NotAuthenticated
        if len(self._verified) >= CACHED_TOKENS:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = caller
        return caller

    def _decode(self, token: str, *, early: bool = False) -> Caller:
        if not TOKEN.fullmatch(token):
            raise NotAuthenticated
        try:
            claims = jwt.decode(
                token,
                self._keys[jwt.get_unverified_header(token)["kid"]],
                [ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                # For `iat` and `nbf`. `exp` is checked at each use, without leeway.
                leeway=CLOCKS,
                options={
                    "require": ["sub", "sid", "iss", "aud", "iat", "exp", "jti"],
                    "verify_iat": not early,
                    "verify_nbf": not early,
                },
            )
            return Caller(UUID(claims["sub"]), UUID(claims["sid"]), float(claims["exp"]))
        except (
            *(jwt.InvalidTokenError, KeyError, TypeError, AttributeError),
            *(ValueError, OverflowError, RecursionError),
        ) as error:
            raise NotAuthenticated from error


def key_id(secret: str) -> str:
    """Return the short public name of a signing secret."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]
