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
"""Wrong passwords from one address that cause no delay, because people mistype."""
LONGEST: Final = 30
"""Seconds. The delay doubles up to this."""
FORGIVEN: Final = 900 * SECOND
"""Time after the last wrong password until the count starts again from 0."""
KNOWN: Final = 30 * 86_400 * SECOND
"""Time for which an address is known after a login from it."""
COUNTED: Final = 255


class Guard:
    """Slows down clients that guess passwords or make hundreds of accounts.

    A wrong password delays the next try from the same address for the same account: not at first,
    then by 1, 2, 4 seconds, up to LONGEST. In addition there is a limit for wrong passwords for one
    account from all addresses, and one for wrong passwords from one address for all accounts. These
    do not apply if this address logged in to this account before. Names without an account are
    counted in the same way.
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
        """Store the counts with `change`."""
        self._change = change
        self._subjects = subjects
        self._logins = logins
        self._address_logins = address_logins
        self._registrations = registrations

    async def register(self, address: str) -> None:
        """Count a new account. Raises TooManyRequests."""

        def update(numbers: Sequence[int], now: int) -> tuple[Sequence[int], int]:
            left = self._registrations.left(numbers[0], now)
            return (numbers if left < 0 else [now + self._registrations.span - left]), left

        key = self._subjects.of(self._registrations.name, network(address))
        left = await self._change([key], update)
        if left < 0:
            raise TooManyRequests(seconds(-left))

    @asynccontextmanager
    async def password(self, account: str, address: str) -> AsyncIterator[None]:
        """Allow one try of a password inside the context. Raises TooManyRequests.

        The try counts as wrong until the context ends, so that many tries at once gain nothing. It
        stays counted if the context ends with InvalidCredentials, InvalidPasswordToken,
        WrongPassword or IdempotencyKeyReused; the last one shows that the password differs from the
        first request's.
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
    """Return the nanoseconds until the next password may be tried.

    `number` is the time at which the count starts again from 0, with the count in its last byte.
    """
    wrong = number & COUNTED
    if number <= now or wrong < FREE:
        return 0
    longest = min(1 << (wrong - FREE), LONGEST) * SECOND
    return max(0, (number & ~COUNTED) - FORGIVEN + longest - now)


def _one_more(number: int, now: int) -> int:
    wrong = number & COUNTED if number > now else 0
    return (now + FORGIVEN) & ~COUNTED | min(wrong + 1, COUNTED)
