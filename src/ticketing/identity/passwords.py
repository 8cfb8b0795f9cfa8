"""Hash and verify passwords, and refuse common ones."""

import asyncio
import gzip
import os
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final
from uuid import uuid4

from passlib.context import CryptContext

from ticketing.errors import Busy, PasswordTooCommon

MIN_PASSWORD: Final = 8
CONTEXT: Final = ("ticketing",)
"""Words that people are likely to use in a password here, besides the username."""
MAX_WAITING: Final = 25
"""Passwords that may wait for each thread: a few seconds of work. Further ones are refused."""
COMMON_PASSWORDS: Final = files("ticketing.identity") / "wordlists" / "common-passwords.txt.gz"

NICE: Final = 15
"""Nice value of the password threads. A flood of logins must not stop a sale, and a sale must not
stop all logins."""


class Passwords:
    """Hashes and verifies passwords in separate threads.

    bcrypt is slow, and releases the interpreter's lock while it works.
    """

    def __init__(self, rounds: int, threads: int = 1) -> None:
        """Hash at a cost of 2 to the power of `rounds`, in `threads` threads."""
        # bcrypt_sha256 first, because bcrypt ignores what follows 72 bytes. More expensive hashes
        # are kept.
        self._context = CryptContext(
            ["bcrypt_sha256", "bcrypt"],
            deprecated="auto",
            bcrypt_sha256__default_rounds=rounds,
            bcrypt_sha256__min_rounds=rounds,
        )
        self._threads = ThreadPoolExecutor(
            threads, thread_name_prefix="passwords", initializer=_step_back
        )
        self._max_waiting = MAX_WAITING * threads
        self._nobody: str | None = None
        self._waiting = 0
        self._common = frozenset(gzip.decompress(COMMON_PASSWORDS.read_bytes()).decode().split())

    def require_uncommon(self, password: str, username: str) -> None:
        """Raise PasswordTooCommon if the password is one of the most common ones.

        The username and the service's name are removed from it first. The rest must still be long
        enough, and not be a common password (NIST SP 800-63B, section 5.1.1.2).
        """
        folded = normal(password).casefold()
        rest = folded
        for word in (username.casefold(), *CONTEXT):
            rest = rest.replace(word, "")
        is_name = rest != folded and len(rest) < MIN_PASSWORD
        if is_name or folded in self._common or rest in self._common:
            raise PasswordTooCommon

    def require_room(self) -> None:
        """Raise Busy if another password would be refused because too many wait.

        Checking this first makes it cheap to refuse a flood of logins.
        """
        if self._waiting >= self._max_waiting:
            raise Busy

    async def hash(self, password: str) -> str:
        """Return the hash to store. Raises Busy."""
        return str(await self._run(self._context.hash, normal(password)))

    async def verify(self, password: str, hashed: str | None) -> tuple[bool, str | None]:
        """Return whether the password is right, and a stronger hash if the stored one is weak.

        Without a hash it takes as long, and the password is wrong. Raises Busy.
        """
        if hashed is None:
            if self._nobody is None:
                self._nobody = await self.hash(uuid4().hex)
            await self._run(self._context.verify_and_update, normal(password), self._nobody)
            return False, None
        fits, better = await self._run(self._context.verify_and_update, normal(password), hashed)
        return bool(fits), better

    async def _run(self, function: Any, *args: str) -> Any:  # noqa: ANN401 - passlib is untyped
        self.require_room()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Stop the threads without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    # Linux has a priority for each thread, so bookings go first in a flood of logins.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def normal(password: str) -> str:
    """Return the form in which a password is hashed."""
    # NIST SP 800-63B, section 5.1.1.2: the same password may be typed in several encodings.
    return unicodedata.normalize("NFC", password)


def password_threads() -> int:
    """Return the number of threads for passwords. A flood of logins leaves half the cores free."""
    return max(1, (os.cpu_count() or 1) // 2)
