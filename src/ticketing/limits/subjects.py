"""Keys of what is counted, which clients can't choose or predict."""

from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from typing import Final

from ticketing.limits.cells import KEYS

REMEMBERED: Final = 65_536
"""Keys of addresses that are cached."""


class Subjects:
    """Makes keys of what is counted, which clients can't choose or predict.

    The keys are the same in all processes with the same secret.
    """

    def __init__(self, secret: str) -> None:
        """Derive the keys from `secret`."""
        self._secret = blake2b(secret.encode(), person=b"rate limits").digest()
        self.of_address = lru_cache(REMEMBERED)(self._of_address)

    def of(self, *named: str) -> int:
        """Return the key for these names."""
        text = "\0".join(named).encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(text, digest_size=8, key=self._secret).digest()) & KEYS

    def _of_address(self, address: str) -> int:
        return self.of("address", network(address))


def network(address: str) -> str:
    """Return the network of one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
