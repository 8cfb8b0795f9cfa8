"""What the routes of this part work with."""

from dataclasses import dataclass

from ticketing.identity.callers import AccessList
from ticketing.identity.passwords import Passwords
from ticketing.identity.repositories.keys import KeyRepository
from ticketing.identity.repositories.sessions import SessionRepository
from ticketing.identity.repositories.team import TeamRepository
from ticketing.identity.repositories.users import UserRepository
from ticketing.identity.tokens import Tokens
from ticketing.limits.limits import Limits
from ticketing.web.seals import Seals


@dataclass(frozen=True, slots=True)
class Identity:
    """What the routes of this part work with, and who asks whether somebody may."""

    users: UserRepository
    sessions: SessionRepository
    keys: KeyRepository
    team: TeamRepository
    passwords: Passwords
    tokens: Tokens
    access: AccessList
    seals: Seals
    limits: Limits | None
