"""Numbers by key, in memory that all workers of a machine share."""

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
    """Computes new numbers and a result from the old numbers and the time in nanoseconds."""

    def __call__(self, numbers: Sequence[int], now: int, /) -> tuple[Sequence[int], ResultT_co]:
        """Compute them, without I/O."""


class Change(Protocol):
    """Reads the numbers of some keys, updates and writes them, as one atomic step."""

    def __call__(self, keys: Sequence[int], update: Update[ResultT]) -> Awaitable[ResultT]:
        """Change them."""


class Cells:
    """Numbers by key, in shared memory that needs no file and ends with the service.

    A number is a time on the machine's monotonic clock, in nanoseconds; once it has passed, the
    number means nothing. A key without room replaces the number that would pass first. If it is
    pickled to a process that is being spawned, that process shares the memory.
    """

    def __init__(self, inherited: Any = None) -> None:  # noqa: ANN401 - multiprocessing's own
        """Make new memory, or use `inherited` memory."""
        self._fd: int = _anonymous() if inherited is None else inherited.detach()
        size = BUCKETS * WAYS * 2 * 8
        if inherited is None:
            os.ftruncate(self._fd, size)
        self.numbers = memoryview(mmap.mmap(self._fd, size)).cast("q")

    def __reduce__(self) -> tuple[type["Cells"], tuple[Any]]:
        """Pass the memory to another process."""
        return Cells, (reduction.DupFd(self._fd),)

    def place(self, key: int) -> int:
        """Return the index of the key's number; a new one is 0."""
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
        """Change the numbers of several keys in one step: see Change."""
        # If the process is killed, the kernel releases the lock.
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
    """Memory that the workers share."""

    counts: Cells
    """Counts of requests, without a lock: if two processes count for one key in the same
    microsecond, one of the counts may be lost."""
    guarded: Cells
    """Exact counts of logins and registrations."""

    @classmethod
    def make(cls) -> "Memory":
        """Make the memory, before the processes start."""
        return cls(Cells(), Cells())
