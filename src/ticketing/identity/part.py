"""The objects that the routes of this part work with."""

from dataclasses import dataclass
from uuid import UUID

from ticketing.identity.callers import AccessList
from ticketing.identity.passwords import Passwords
from ticketing.identity.repositories.customers import CustomerRepository
from ticketing.identity.repositories.keys import KeyRepository
from ticketing.identity.repositories.organisers import OrganiserRepository
from ticketing.identity.repositories.password_tokens import PasswordTokenRepository
from ticketing.identity.repositories.sessions import SessionRepository
from ticketing.identity.repositories.team import TeamRepository
from ticketing.identity.repositories.users import UserRepository
from ticketing.identity.tokens import Tokens
from ticketing.limits.limits import Limits
from ticketing.web.seals import Seals


@dataclass(frozen=True, slots=True)
class Identity:
    """The objects that the routes of this part, and checks of permissions, work with."""

    users: UserRepository
    sessions: SessionRepository
    keys: KeyRepository
    team: TeamRepository
    organisers: OrganiserRepository
    password_tokens: PasswordTokenRepository
    customers: CustomerRepository
    passwords: Passwords
    tokens: Tokens
    access: AccessList
    seals: Seals
    limits: Limits | None
    registration_is_open: bool
    """Whether people may register themselves."""
    everybody_organises: bool
    """Whether everybody may create events. If not, only organisers and admins may."""

    def may_create_events(self, user_id: UUID) -> bool:
        """Whether the person may create events, as far as this process knows."""
        access = self.access
        return self.everybody_organises or user_id in access.organisers or user_id in access.admins
