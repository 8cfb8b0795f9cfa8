"""Base45 (RFC 9285): bytes in the characters that a QR code stores most densely."""

from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUES: Final = {character: value for value, character in enumerate(ALPHABET)}
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
    data = bytearray()
    for place in range(0, len(text), 3):
        digits = text[place : place + 3]
        if len(digits) == 1 or not _VALUES.keys() >= set(digits):
            raise ValueError("not base45")
        value = sum(_VALUES[digit] * _BASE**power for power, digit in enumerate(digits))
        size = len(digits) - 1
        if value >= 1 << 8 * size:
            raise ValueError("not base45")
        data += value.to_bytes(size)
    return bytes(data)
