"""Who may do what: one table, which the routes ask and a test walks."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final


class Scope(StrEnum):
    """What an API key may be made for."""

    EVENTS_WRITE = "events:write"
    BOOKINGS_WRITE = "bookings:write"
    BOOKINGS_READ = "bookings:read"


class Role(StrEnum):
    """What somebody is to what a request names: an event, a person, or the site."""

    NOBODY = "nobody"
    """There is no credential."""
    ANYBODY = "anybody"
    """Logged in, and nothing more."""
    SELF = "self"
    """The person whom the request is about."""
    STAFF = "staff"
    MANAGER = "manager"
    OWNER = "owner"
    """Who made the event."""
    ADMIN = "admin"
    """Of the site."""


class Action(StrEnum):
    """What can be asked for: the operation ids of the API."""

    WELCOME = "welcome"
    LIVEZ = "livez"
    READYZ = "readyz"
    REGISTER = "register"
    SET_PASSWORD = "setPassword"  # a name  # noqa: S105  # nosec B105
    LOGIN = "login"
    REFRESH = "refresh"
    LOGOUT = "logout"
    GET_ME = "getMe"
    DELETE_ME = "deleteMe"
    CHANGE_PASSWORD = "changePassword"  # a name  # noqa: S105  # nosec B105
    LIST_SESSIONS = "listSessions"
    END_SESSION = "endSession"
    LIST_MY_BOOKINGS = "listMyBookings"
    MAKE_KEY = "makeKey"
    LIST_KEYS = "listKeys"
    REVOKE_KEY = "revokeKey"
    INITIALIZE_EVENT = "initializeEvent"
    GET_EVENT = "getEvent"
    LIST_EVENTS = "listEvents"
    RENAME_EVENT = "renameEvent"
    BOOK_TICKET = "bookTicket"
    CANCEL_TICKET = "cancelTicket"
    LIST_EVENT_BOOKINGS = "listEventBookings"
    LIST_TEAM = "listTeam"
    GRANT_ROLE = "grantRole"
    REVOKE_ROLE = "revokeRole"
    LIST_TRAIL = "listTrail"
    GRANT_ORGANISER = "grantOrganiser"
    REVOKE_ORGANISER = "revokeOrganiser"


@dataclass(frozen=True)
class Rule:
    """Who may: people in one of `roles`, and of their API keys those made for one of `scopes`."""

    roles: frozenset[Role]
    scopes: frozenset[Scope] = frozenset()

    @cached_property
    def of_oneself(self) -> bool:
        """Whether everybody may do this to themself."""
        return Role.SELF in self.roles


_PUBLIC: Final = frozenset(Role)
_LOGGED_IN: Final = _PUBLIC - {Role.NOBODY}
_ADMINS: Final = frozenset({Role.ADMIN})
_OWNERS: Final = _ADMINS | {Role.OWNER}
_MANAGERS: Final = _OWNERS | {Role.MANAGER}
_STAFF: Final = _MANAGERS | {Role.STAFF}

_EVENTS: Final = frozenset({Scope.EVENTS_WRITE})
_BOX_OFFICE: Final = frozenset({Scope.BOOKINGS_WRITE})
_LISTS: Final = frozenset({Scope.BOOKINGS_READ})

RULES: Final[dict[Action, Rule]] = {
    Action.WELCOME: Rule(_PUBLIC),
    Action.LIVEZ: Rule(_PUBLIC),
    Action.READYZ: Rule(_PUBLIC),
    # The settings may close it.
    Action.REGISTER: Rule(_PUBLIC),
    Action.SET_PASSWORD: Rule(_PUBLIC),
    Action.LOGIN: Rule(_PUBLIC),
    Action.REFRESH: Rule(_PUBLIC),
    # About oneself. No program manages credentials or the account.
    Action.LOGOUT: Rule(_LOGGED_IN),
    Action.GET_ME: Rule(_LOGGED_IN, frozenset(Scope)),
    Action.DELETE_ME: Rule(_LOGGED_IN),
    Action.CHANGE_PASSWORD: Rule(_LOGGED_IN),
    Action.LIST_SESSIONS: Rule(_LOGGED_IN),
    Action.END_SESSION: Rule(_LOGGED_IN),
    Action.LIST_MY_BOOKINGS: Rule(_LOGGED_IN, _LISTS),
    Action.MAKE_KEY: Rule(_LOGGED_IN),
    Action.LIST_KEYS: Rule(_LOGGED_IN),
    Action.REVOKE_KEY: Rule(_LOGGED_IN),
    # About events, which are public. The settings may leave making them to organisers and admins.
    Action.INITIALIZE_EVENT: Rule(_LOGGED_IN, _EVENTS),
    Action.GET_EVENT: Rule(_PUBLIC),
    Action.LIST_EVENTS: Rule(_PUBLIC),
    Action.RENAME_EVENT: Rule(_MANAGERS, _EVENTS),
    # About places: one's own, and the box office's.
    Action.BOOK_TICKET: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.CANCEL_TICKET: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.LIST_EVENT_BOOKINGS: Rule(_STAFF, _LISTS),
    # About who works on an event. No program gives rights away.
    Action.LIST_TEAM: Rule(_STAFF),
    Action.GRANT_ROLE: Rule(_OWNERS),
    Action.REVOKE_ROLE: Rule(_OWNERS | {Role.SELF}),
    Action.LIST_TRAIL: Rule(_MANAGERS, _LISTS),
    # About who may create events at all.
    Action.GRANT_ORGANISER: Rule(_ADMINS),
    Action.REVOKE_ORGANISER: Rule(_ADMINS),
}

BY_NAME: Final[dict[str, Rule]] = {str(action): rule for action, rule in RULES.items()}
"""By operation ids as they are written."""
