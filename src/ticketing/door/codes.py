"""The code of a ticket: what it says, signed with Ed25519 (RFC 8032). `docs/ticket-code.md`."""

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ticketing.door import base45

PREFIX: Final = "TKT1:"
VERSION: Final = 1
_FIELDS: Final = struct.Struct(">BHQ16sIII")
SIGNATURE: Final = 64
SIZE: Final = _FIELDS.size + SIGNATURE
LENGTH: Final = len(PREFIX) + SIZE // 2 * 3 + SIZE % 2 * 2
"""Characters of every code."""
LAST: Final = 2**32 - 1
"""The last time that a code can say, in 2106."""
CONTEXT: Final = b"ticketing: ticket code\n"
"""Comes before what is signed, so that no signature made for another purpose fits."""


class Claims(NamedTuple):
    """What a code says. A time is in seconds since the epoch; 0 follows the event."""

    key: int
    event_id: int
    ticket_id: UUID
    generation: int
    valid_from: int = 0
    valid_until: int = 0


def write(claims: Claims, key: Ed25519PrivateKey) -> str:
    """Return the code, which is always the same for the same claims and key."""
    key_id, event_id, ticket_id, *rest = claims
    said = _FIELDS.pack(VERSION, key_id, event_id, ticket_id.bytes, *rest)
    return PREFIX + base45.encode(said + key.sign(CONTEXT + said))


def read(code: str, keys: Mapping[int, Ed25519PublicKey]) -> Claims | None:
    """Return what the code says, or None unless one of `keys` signed exactly this text."""
    if len(code) != LENGTH or not code.startswith(PREFIX):
        return None
    try:
        data = base45.decode(code.removeprefix(PREFIX))
    except ValueError:
        return None
    said, signature = data[: _FIELDS.size], data[_FIELDS.size :]
    version, key_id, event_id, ticket, *rest = _FIELDS.unpack(said)
    key = keys.get(key_id)
    if version != VERSION or key is None:
        return None
    try:
        key.verify(signature, CONTEXT + said)
    except InvalidSignature:
        return None
    return Claims(key_id, event_id, UUID(bytes=ticket), *rest)


def raw(key: Ed25519PublicKey) -> bytes:
    """Return the 32 bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
