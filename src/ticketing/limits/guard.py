"""Protection of passwords from guessing, and of the service from floods of new accounts."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ticketing.errors import (
    IdempotencyKeyReused,
    InvalidCredentials,
    InvalidPasswordToken,
    TooManyRequests,
    WrongPassword,
)
from ticketing.limits.cells import Change, Update
from ticketing.limits.meter import SECOND, Meter, seconds
from ticketing.limits.subjects import Subjects, network

FREE: Final = 3
"""Wrong passwords from one address that delay nothing: anybody mistypes."""
LONGEST: Final = 30
"""Seconds; the delay doubles up to it."""
FORGIVEN: Final = 900 * SECOND
"""After the last wrong password the count begins anew."""
KNOWN: Final = 30 * 86_400 * SECOND
"""For how long an address from which somebody logged in is theirs."""
COUNTED: Final = 255


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
        subjects: Subjects,
        *,
        logins: Meter,
        address_logins: Meter,
        registrations: Meter,
    ) -> None:
        """Keep the counts by `change`."""
        self._change = change
        self._subjects = subjects
        self._logins = logins
        self._address_logins = address_logins
        self._registrations = registrations

    async def register(self, address: str) -> None:
        """Count an account that is made. Raises TooManyRequests."""

        def update(numbers: Sequence[int], now: int) -> tuple[Sequence[int], int]:
            left = self._registrations.left(numbers[0], now)
            return (numbers if left < 0 else [now + self._registrations.span - left]), left

        key = self._subjects.of(self._registrations.name, network(address))
        left = await self._change([key], update)
        if left < 0:
            raise TooManyRequests(seconds(-left))

    @asynccontextmanager
    async def password(self, account: str, address: str) -> AsyncIterator[None]:
        """Let a password be tried inside, or raise TooManyRequests.

        It counts as wrong from the start, so that many tries at once gain nothing, until the
        inside has ended: with InvalidCredentials, InvalidPasswordToken or WrongPassword it was
        wrong, and what IdempotencyKeyReused tells is that it is not the one of before.
        """
        account, address = account.lower(), network(address)
        keys = [
            self._subjects.of("password", account, address),
            self._subjects.of("known", account, address),
            self._subjects.of(self._logins.name, account),
            self._subjects.of(self._address_logins.name, address),
        ]
        wait, is_stranger = await self._change(keys, self._begin)
        if wait > 0:
            raise TooManyRequests(seconds(wait))
        try:
            yield
        except (InvalidCredentials, InvalidPasswordToken, WrongPassword, IdempotencyKeyReused):
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

    def _given_back(self, *, is_stranger: bool, fits: bool) -> Update[None]:
        def update(numbers: Sequence[int], now: int) -> tuple[Sequence[int], None]:
            pair, known, account, crowd = numbers
            if is_stranger:
                account -= self._logins.cost
                crowd -= self._address_logins.cost
            if fits:
                pair, known = 0, now + KNOWN
            elif pair & COUNTED:
                pair -= 1
            return [pair, known, account, crowd], None

        return update


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
