"""Base45 (RFC 9285): bytes in the characters that a QR code stores most densely."""

import struct
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_NONE: Final = 255
_VALUES: Final = bytes(
    ALPHABET.index(chr(byte)) if chr(byte) in ALPHABET else _NONE for byte in range(256)
)
"""By byte of the text: the value of the digit, or `_NONE`."""
_BASE: Final = 45


def encode(data: bytes) -> str:
    """Return the text: three characters for two bytes, and two for a last one."""
    text = []
    for place in range(0, len(data), 2):
        pair = data[place : place + 2]
        value = int.from_bytes(pair)
        for _ in range(len(pair) + 1):
            value, digit = divmod(value, _BASE)
            text.append(ALPHABET[digit])
    return "".join(text)


def decode(text: str) -> bytes:
    """Return the bytes. Raises ValueError if the text is not what `encode` returns for any."""
    digits = text.encode().translate(_VALUES)
    rest = len(digits) % 3
    if _NONE in digits or rest == 1:
        raise ValueError("not base45")
    pairs = len(digits) // 3
    values = [
        low + middle * _BASE + high * _BASE**2
        for low, middle, high in zip(digits[0::3], digits[1::3], digits[2::3], strict=False)
    ]
    last = [digits[-2] + digits[-1] * _BASE] if rest else []
    try:
        return struct.pack(f">{pairs}H{len(last)}B", *values, *last)
    except struct.error as error:
        raise ValueError("not base45") from error
