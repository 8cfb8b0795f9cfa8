"""Numbers by key, in memory that all worker processes of a machine share."""

import fcntl
import mmap
import os
import sys
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from tempfile import TemporaryFile
from typing import Any, Final, Protocol, TypeVar

WAYS: Final = 4
BUCKETS: Final = 1 << 16
KEYS: Final = (1 << 62) - 1

ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Update(Protocol[ResultT_co]):
    """What to do about some numbers at a moment, in nanoseconds: new ones, and a result."""

    def __call__(self, numbers: Sequence[int], now: int, /) -> tuple[Sequence[int], ResultT_co]:
        """Work them out; without I/O."""


class Change(Protocol):
    """Reads the numbers of some keys, updates them, and writes: with nobody in between."""

    def __call__(self, keys: Sequence[int], update: Update[ResultT]) -> Awaitable[ResultT]:
        """Change them."""


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

    async def change(self, keys: Sequence[int], update: Update[ResultT]) -> ResultT:
        """Change the numbers of several keys as one: see Change."""
        # The kernel lets go of it for a process that is killed.
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            before = [self.numbers[self.place(key)] for key in keys]
            after, result = update(before, time.monotonic_ns())
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
