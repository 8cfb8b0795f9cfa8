"""Where a change comes from, for its record."""

from typing import Final, NamedTuple
from uuid import UUID


class Origin(NamedTuple):
    """Who makes a change, by which credential, and from where."""

    actor: UUID | None = None
    credential: UUID | None = None
    address: str | None = None
    request_id: str | None = None


COMMAND_LINE: Final = Origin()
