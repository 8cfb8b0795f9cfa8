"""Seals: what the database keeps and must not be able to tell by itself."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


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
