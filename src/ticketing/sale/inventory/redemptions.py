"""The uses of codes in one decision."""

from collections.abc import Iterable
from datetime import datetime

from ticketing.errors import TicketingError
from ticketing.sale.inventory.codes import Code, Redeemed, Redemption, check_limits, usable
from ticketing.sale.inventory.model import Booking


class Redemptions:
    """The codes that were read for a decision, and by how much it changes their counters."""

    __slots__ = ("_codes", "_read", "changes")

    def __init__(self, read: Iterable[Code], changes: dict[int, Redemption]) -> None:
        """Start from the codes as they were read. `changes` by id of the code are written to."""
        self._read = {code.id: code for code in read}
        self._codes = dict(self._read)
        self.changes = changes

    def usable(self, folded: str, at: datetime) -> Code:
        """Return the code of this form. Raises the errors of `usable`."""
        found = next((each for each in self._codes.values() if each.folded == folded), None)
        return usable(found, at)

    def has_uses(self, expired: Booking) -> bool:
        """Whether the code of an expired hold, if it had one, may be used for it again."""
        if expired.code_id is None:
            return True
        code = self._codes.get(expired.code_id)
        if code is None:
            return False
        try:
            check_limits(code, expired.code_tickets)
        except TicketingError:
            return False
        return True

    def take(self, taken: Redeemed) -> None:
        """Count one more use of a code that was read. The decision rests on its counters."""
        self._count(taken.code_id, 1, taken.tickets)
        counted = self.changes[taken.code_id]
        self.changes[taken.code_id] = counted._replace(read=self._read[taken.code_id])

    def give_back(self, held: Booking) -> None:
        """Give back what the booking took of its code, if it had one."""
        if held.code_id is not None:
            self._count(held.code_id, -1, -held.code_tickets)

    def _count(self, code_id: int, uses: int, tickets: int) -> None:
        before = self.changes.get(code_id, Redemption())
        self.changes[code_id] = before._replace(
            uses=before.uses + uses, tickets=before.tickets + tickets
        )
        if code_id in self._codes:
            code = self._codes[code_id]
            self._codes[code_id] = code._replace(
                uses=code.uses + uses, tickets=code.tickets + tickets
            )
