"""How often something may be done: counts in memory that all worker processes share.

A count is one number, the theoretical arrival time of GCRA (ITU-T I.371, annex A; ATM Forum TM 4.0,
section 4.4.2): the moment at which everything taken so far has been given back. So a quota comes
back evenly, and nothing has to be reset.
"""

import fcntl
import math
import mmap
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from multiprocessing import reduction
from tempfile import TemporaryFile
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from ticketing.errors import (
    IdempotencyKeyReused,
    InvalidCredentials,
    TooManyRequests,
    WrongPassword,
)

LIMIT: Final = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,4})s")
SECOND: Final = 1_000_000_000
"""Nanoseconds."""

WAYS: Final = 4
BUCKETS: Final = 1 << 16
KEYS: Final = (1 << 62) - 1
REMEMBERED: Final = 65_536
"""Keys of addresses that a worker need not make again."""

FREE: Final = 3
"""Wrong passwords from one address that delay nothing: anybody mistypes."""
LONGEST: Final = 30
"""Seconds; the delay doubles up to it."""
FORGIVEN: Final = 900 * SECOND
"""After the last wrong password the count begins anew."""
KNOWN: Final = 30 * 86_400 * SECOND
"""For how long an address from which somebody logged in is theirs."""
COUNTED: Final = 255

ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Limit:
    """So many within so many seconds; all of them may come at once."""

    quota: int
    window: int

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read the form `60/60s`. Raises ValueError."""
        found = LIMIT.fullmatch(text.strip())
        if found is None:
            raise ValueError("must look like 60/60s: how many, and in how many seconds")
        return cls(int(found[1]), int(found[2]))


class Cells:
    """Numbers by key, in memory that outlives no process of the service and needs no file.

    Numbers are times on the machine's monotonic clock in nanoseconds, after which they mean
    nothing. A key that finds no room takes that of the number that would end first. Pickled to a
    process that is being spawned, it is the same memory there.
    """

    def __init__(self, inherited: Any = None) -> None:  # noqa: ANN401 - multiprocessing's own
        """Make new memory, or take what was inherited."""
        self._fd: int = _anonymous() if inherited is None else inherited.detach()
        size = BUCKETS * WAYS * 2 * 8
        if inherited is None:
            os.ftruncate(self._fd, size)
        self.numbers = memoryview(mmap.mmap(self._fd, size)).cast("q")

    def __reduce__(self) -> tuple[type["Cells"], tuple[Any]]:
        """Hand the memory on."""
        return Cells, (reduction.DupFd(self._fd),)

    def place(self, key: int) -> int:
        """Return where the number of the key is; one that was not there is 0."""
        numbers = self.numbers
        first = key % BUCKETS * (WAYS * 2)
        for place in range(first, first + WAYS * 2, 2):
            if numbers[place] == key:
                return place + 1
        number = min(range(first + 1, first + WAYS * 2, 2), key=numbers.__getitem__)
        numbers[number] = 0
        numbers[number - 1] = key
        return number

    async def change(self, keys: Sequence[int], decide: "Decision[ResultT]") -> ResultT:
        """Change the numbers of several keys as one: see Change."""
        # The kernel lets go of it for a process that is killed.
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            before = [self.numbers[self.place(key)] for key in keys]
            after, result = decide(before, time.monotonic_ns())
            for key, number in zip(keys, after, strict=True):
                self.numbers[self.place(key)] = number
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
        return result


def _anonymous() -> int:
    if sys.platform == "linux":
        return os.memfd_create("ticketing-rates")
    with TemporaryFile() as file:
        return os.dup(file.fileno())


class Decision(Protocol[ResultT_co]):
    """What to do about some numbers at a moment, in nanoseconds: new ones, and a result."""

    def __call__(self, numbers: Sequence[int], now: int, /) -> tuple[Sequence[int], ResultT_co]:
        """Decide; without I/O."""


class Change(Protocol):
    """Reads the numbers of some keys, decides, and writes: with nobody in between."""

    def __call__(self, keys: Sequence[int], decide: Decision[ResultT]) -> Awaitable[ResultT]:
        """Change them."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the worker processes share."""

    counts: Cells
    """Of every request, without a lock: when two processes count on one key within the same
    microsecond, one of the two may be forgotten."""
    guarded: Cells
    """Of logins and registrations, exactly."""

    @classmethod
    def make(cls) -> "Memory":
        """Make it, before the processes are started."""
        return cls(Cells(), Cells())


class Meter:
    """One limit, named as in the RateLimit headers."""

    def __init__(
        self, name: str, limit: Limit, cells: Cells, pending: dict[int, int] | None = None
    ) -> None:
        """Count in `cells`, and in `pending` what others must be told of."""
        self.name = name
        self.cost = math.ceil(limit.window * SECOND / limit.quota)
        self.span = self.cost * limit.quota
        self.policy = f'"{name}";q={limit.quota};w={limit.window}'.encode()
        self._remaining = f'"{name}";r=%d;t=1'.encode()
        self._rest = self.span - self.cost
        # One subject has a key in every limit.
        self._salt = int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) & KEYS
        self._place = cells.place
        self._numbers = cells.numbers
        self._pending = pending

    def left(self, number: int, now: int) -> int:
        """Return how much is left when one more is taken; less than nothing means not yet."""
        return self._rest - (number - now if number > now else 0)

    def take(self, key: int) -> int:
        """Take one for the subject of `key` if there is one, and return what is `left`."""
        key ^= self._salt
        numbers = self._numbers
        first = key % BUCKETS * (WAYS * 2)
        place = first + 1 if numbers[first] == key else self._place(key)
        now = time.monotonic_ns()
        number = numbers[place]
        left = self._rest - (number - now if number > now else 0)
        if left >= 0:
            numbers[place] = now + self.span - left
            if self._pending is not None:
                self._pending[key] = self._pending.get(key, 0) + self.cost
        return left

    def state(self, left: int) -> bytes:
        """Return the RateLimit item: how many remain, and in how many seconds there is another."""
        if self.cost <= SECOND:
            return self._remaining % (left // self.cost if left >= 0 else 0)
        remaining, part = divmod(left, self.cost) if left >= 0 else (0, left + self.cost)
        return f'"{self.name}";r={remaining};t={seconds(self.cost - part)}'.encode()


def seconds(nanoseconds: int) -> int:
    """Return whole seconds that are not too short."""
    return max(1, -(-nanoseconds // SECOND))


Taken = tuple[Meter, int]
"""A limit that a request came under, and what it left."""
TAKEN: Final = "rates"
"""Where in an ASGI scope the list of them is, for the headers of the answer."""


class Keys:
    """What is counted, as a number that nobody outside can choose.

    The same in each process that has the same secret.
    """

    def __init__(self, secret: str) -> None:
        """Derive from `secret`."""
        self._secret = blake2b(secret.encode(), person=b"rate limits").digest()
        self.of_address = lru_cache(REMEMBERED)(self._of_address)

    def of(self, *named: str) -> int:
        """Return the key of what is so named."""
        text = "\0".join(named).encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(text, digest_size=8, key=self._secret).digest()) & KEYS

    def _of_address(self, address: str) -> int:
        return self.of("address", network(address))


def network(address: str) -> str:
    """Return what one client has: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"


class Guard:
    """Slows whoever guesses passwords or makes accounts by the hundred, and no one else for long.

    A wrong password delays the next try from the same address on the same account: not at all at
    first, then by 1, 2, 4 seconds, up to LONGEST. Beside that, the wrong passwords from all
    addresses on one account, and from one address on all accounts, have a limit each; it does not
    bind whoever logged in from this address to this account before. What is counted is the name
    that was given, whether or not anybody has it.
    """

    def __init__(
        self,
        change: Change,
        keys: Keys,
        *,
        logins: Meter,
        address_logins: Meter,
        registrations: Meter,
    ) -> None:
        """Keep the counts by `change`."""
        self._change = change
        self._keys = keys
        self._logins = logins
        self._address_logins = address_logins
        self._registrations = registrations

    async def register(self, address: str) -> None:
        """Count an account that is made. Raises TooManyRequests."""

        def decide(numbers: Sequence[int], now: int) -> tuple[Sequence[int], int]:
            left = self._registrations.left(numbers[0], now)
            return (numbers if left < 0 else [now + self._registrations.span - left]), left

        key = self._keys.of(self._registrations.name, network(address))
        left = await self._change([key], decide)
        if left < 0:
            raise TooManyRequests(seconds(-left))

    @asynccontextmanager
    async def password(self, account: str, address: str) -> AsyncIterator[None]:
        """Let a password be tried inside, or raise TooManyRequests.

        It counts as wrong from the start, so that many tries at once gain nothing, until the
        inside has ended: with InvalidCredentials or WrongPassword it was wrong, and what
        IdempotencyKeyReused tells is that it is not the one of before.
        """
        account, address = account.lower(), network(address)
        keys = [
            self._keys.of("password", account, address),
            self._keys.of("known", account, address),
            self._keys.of(self._logins.name, account),
            self._keys.of(self._address_logins.name, address),
        ]
        wait, is_stranger = await self._change(keys, self._begin)
        if wait > 0:
            raise TooManyRequests(seconds(wait))
        try:
            yield
        except (InvalidCredentials, WrongPassword, IdempotencyKeyReused):
            raise
        except Exception:
            await self._change(keys, self._given_back(is_stranger=is_stranger, fits=False))
            raise
        await self._change(keys, self._given_back(is_stranger=is_stranger, fits=True))

    def _begin(self, numbers: Sequence[int], now: int) -> tuple[Sequence[int], tuple[int, bool]]:
        pair, known, account, crowd = numbers
        is_stranger = known <= now
        wait = delay(pair, now)
        if is_stranger:
            of_account = self._logins.left(account, now)
            of_address = self._address_logins.left(crowd, now)
            wait = max(wait, -of_account, -of_address)
            account = now + self._logins.span - of_account
            crowd = now + self._address_logins.span - of_address
        if wait > 0:
            return numbers, (wait, is_stranger)
        return [_one_more(pair, now), known, account, crowd], (0, is_stranger)

    def _given_back(self, *, is_stranger: bool, fits: bool) -> Decision[None]:
        def decide(numbers: Sequence[int], now: int) -> tuple[Sequence[int], None]:
            pair, known, account, crowd = numbers
            if is_stranger:
                account -= self._logins.cost
                crowd -= self._address_logins.cost
            if fits:
                pair, known = 0, now + KNOWN
            elif pair & COUNTED:
                pair -= 1
            return [pair, known, account, crowd], None

        return decide


def delay(number: int, now: int) -> int:
    """Return for how many nanoseconds no password is tried.

    The number is the time at which wrong passwords are forgiven, with their count in the last byte.
    """
    wrong = number & COUNTED
    if number <= now or wrong < FREE:
        return 0
    longest = min(1 << (wrong - FREE), LONGEST) * SECOND
    return max(0, (number & ~COUNTED) - FORGIVEN + longest - now)


def _one_more(number: int, now: int) -> int:
    wrong = number & COUNTED if number > now else 0
    return (now + FORGIVEN) & ~COUNTED | min(wrong + 1, COUNTED)


@dataclass(frozen=True, slots=True)
class Rates:
    """Every limit of the service."""

    keys: Keys
    guard: Guard
    bookings: Meter
    """Bookings and cancels of an account."""
    address_bookings: Meter
    requests: Meter
    """All else of an address."""

    def book(self, account: UUID, taken: list[Taken]) -> None:
        """Count a booking or a cancel of an account into `taken`. Raises TooManyRequests."""
        # Most of an id is random already.
        left = self.bookings.take(account.int & KEYS)
        taken.append((self.bookings, left))
        if left < 0:
            raise TooManyRequests(seconds(-left))
