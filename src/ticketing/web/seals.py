"""Encrypts stored secrets, so that the database alone can't reveal them."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Seals:
    """Encrypts stored secrets, so that the database alone can't reveal them.

    The key is derived from the signing secret (HKDF, RFC 5869). Seals under `previous` secrets can
    still be opened.
    """

    def __init__(self, secret: str, previous: Sequence[str] = ()) -> None:
        """Seal under `secret`."""
        self._fernet = MultiFernet([Fernet(_seal_key(each)) for each in (secret, *previous)])

    def seal(self, plain: bytes) -> bytes:
        """Return the sealed form, which differs each time."""
        return self._fernet.encrypt(plain)

    def open(self, sealed: bytes) -> bytes | None:
        """Return the plain form, or None if it was sealed under an unknown secret."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            return None


def _seal_key(secret: str) -> bytes:
    derive = HKDF(SHA256(), length=32, salt=None, info=b"ticketing: seal of kept answers").derive
    return base64.urlsafe_b64encode(derive(secret.encode()))
