"""Permissions in one table. The routes read it, and a test tries every entry."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final


class Scope(StrEnum):
    """A set of actions that an API key can be limited to."""

    EVENTS_WRITE = "events:write"
    BOOKINGS_WRITE = "bookings:write"
    BOOKINGS_READ = "bookings:read"
    CUSTOMERS_WRITE = "customers:write"
    CUSTOMERS_READ = "customers:read"
    WEBHOOKS_WRITE = "webhooks:write"
    DOOR = "door"


class Role(StrEnum):
    """The caller's relation to the event, person or site that a request names."""

    NOBODY = "nobody"
    """The request has no credential."""
    ANYBODY = "anybody"
    """Logged in, without another role."""
    SELF = "self"
    """The person the request is about."""
    STAFF = "staff"
    MANAGER = "manager"
    OWNER = "owner"
    """The person who created the event."""
    ADMIN = "admin"
    """An admin of the site."""


class Action(StrEnum):
    """An operation id of the API."""

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
    GET_MY_CALENDAR = "getMyCalendar"
    MAKE_KEY = "makeKey"
    LIST_KEYS = "listKeys"
    REVOKE_KEY = "revokeKey"
    INITIALIZE_EVENT = "initializeEvent"
    CREATE_EVENT = "createEvent"
    LIST_MY_EVENTS = "listMyEvents"
    GET_EVENT = "getEvent"
    GET_EVENT_CALENDAR = "getEventCalendar"
    FOLLOW_EVENT = "followEvent"
    GET_STATS = "getStats"
    LIST_EVENTS = "listEvents"
    UPDATE_EVENT = "updateEvent"
    PUBLISH_EVENT = "publishEvent"
    PAUSE_SALE = "pauseSale"
    RESUME_SALE = "resumeSale"
    COPY_EVENT = "copyEvent"
    LIST_TICKET_TYPES = "listTicketTypes"
    CREATE_TICKET_TYPE = "createTicketType"
    GET_TICKET_TYPE = "getTicketType"
    UPDATE_TICKET_TYPE = "updateTicketType"
    DELETE_TICKET_TYPE = "deleteTicketType"
    LIST_QUOTAS = "listQuotas"
    CREATE_QUOTA = "createQuota"
    GET_QUOTA = "getQuota"
    UPDATE_QUOTA = "updateQuota"
    DELETE_QUOTA = "deleteQuota"
    CREATE_CODES = "createCodes"
    LIST_CODES = "listCodes"
    GET_CODE = "getCode"
    CHECK_CODE = "checkCode"
    UPDATE_CODE = "updateCode"
    DELETE_CODE = "deleteCode"
    EXPORT_CODES = "exportCodes"
    CANCEL_EVENT = "cancelEvent"
    DELETE_EVENT = "deleteEvent"
    CHANGE_OWNER = "changeOwner"
    BOOK_TICKET = "bookTicket"
    CANCEL_TICKET = "cancelTicket"
    CREATE_HOLD = "createHold"
    CONFIRM_HOLD = "confirmHold"
    EXTEND_HOLD = "extendHold"
    RELEASE_HOLD = "releaseHold"
    GET_BOOKING = "getBooking"
    FOLLOW_BOOKING = "followBooking"
    LIST_TICKETS = "listTickets"
    CANCEL_BOOKING = "cancelBooking"
    RECORD_PAYMENT = "recordPayment"
    LIST_PAYMENTS = "listPayments"
    RECORD_REFUND = "recordRefund"
    LIST_REFUNDS = "listRefunds"
    GET_SETTLEMENT = "getSettlement"
    LIST_EVENT_BOOKINGS = "listEventBookings"
    GET_TICKET = "getTicket"
    UPDATE_TICKET = "updateTicket"
    REISSUE_TICKET = "reissueTicket"
    CREATE_TRANSFER = "createTransfer"
    ACCEPT_TRANSFER = "acceptTransfer"
    GET_TICKET_SVG = "getTicketSvg"
    GET_TICKET_PNG = "getTicketPng"
    GET_TICKETS_PDF = "getTicketsPdf"
    LIST_TICKET_KEYS = "listTicketKeys"
    GET_DOOR = "getDoor"
    UPDATE_DOOR = "updateDoor"
    CHECK_IN = "checkIn"
    UPLOAD_CHECK_INS = "uploadCheckIns"
    UNDO_CHECK_IN = "undoCheckIn"
    LIST_CHECK_INS = "listCheckIns"
    GET_DOOR_MANIFEST = "getDoorManifest"
    EXPORT_ATTENDEES = "exportAttendees"
    LIST_ATTENDEES = "listAttendees"
    LIST_TEAM = "listTeam"
    GRANT_ROLE = "grantRole"
    REVOKE_ROLE = "revokeRole"
    LIST_TRAIL = "listTrail"
    READ_EVENT_FEED = "readEventFeed"
    READ_FEED = "readFeed"
    CREATE_WEBHOOK = "createWebhook"
    LIST_WEBHOOKS = "listWebhooks"
    GET_WEBHOOK = "getWebhook"
    UPDATE_WEBHOOK = "updateWebhook"
    ROTATE_SECRET = "rotateSecret"  # a name  # noqa: S105  # nosec B105
    REPLAY_WEBHOOK = "replayWebhook"
    TEST_WEBHOOK = "testWebhook"
    LIST_DELIVERIES = "listDeliveries"
    DELETE_WEBHOOK = "deleteWebhook"
    GRANT_ORGANISER = "grantOrganiser"
    REVOKE_ORGANISER = "revokeOrganiser"
    LIST_CUSTOMERS = "listCustomers"
    GET_CUSTOMER = "getCustomer"
    UPDATE_CUSTOMER = "updateCustomer"
    MAKE_LOGIN_TOKEN = "makeLoginToken"  # a name  # noqa: S105  # nosec B105
    ERASE_CUSTOMER = "eraseCustomer"


@dataclass(frozen=True)
class Rule:
    """People in one of `roles` may do it, and their API keys if they have one of `scopes`."""

    roles: frozenset[Role]
    scopes: frozenset[Scope] = frozenset()

    @cached_property
    def is_public(self) -> bool:
        """Whether no credential is needed."""
        return Role.NOBODY in self.roles

    @cached_property
    def of_oneself(self) -> bool:
        """Whether everybody may do this for themself."""
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
_WEBHOOKS: Final = frozenset({Scope.WEBHOOKS_WRITE})
_CUSTOMERS: Final = frozenset({Scope.CUSTOMERS_WRITE})
_CUSTOMER_LISTS: Final = frozenset({Scope.CUSTOMERS_READ})
_DOOR: Final = frozenset({Scope.DOOR})

RULES: Final[dict[Action, Rule]] = {
    Action.WELCOME: Rule(_PUBLIC),
    Action.LIVEZ: Rule(_PUBLIC),
    Action.READYZ: Rule(_PUBLIC),
    # A setting can close it.
    Action.REGISTER: Rule(_PUBLIC),
    Action.SET_PASSWORD: Rule(_PUBLIC),
    Action.LOGIN: Rule(_PUBLIC),
    Action.REFRESH: Rule(_PUBLIC),
    # About the caller. API keys manage neither credentials nor the account.
    Action.LOGOUT: Rule(_LOGGED_IN),
    Action.GET_ME: Rule(_LOGGED_IN, frozenset(Scope)),
    Action.DELETE_ME: Rule(_LOGGED_IN),
    Action.CHANGE_PASSWORD: Rule(_LOGGED_IN),
    Action.LIST_SESSIONS: Rule(_LOGGED_IN),
    Action.END_SESSION: Rule(_LOGGED_IN),
    Action.LIST_MY_BOOKINGS: Rule(_LOGGED_IN, _LISTS),
    Action.GET_MY_CALENDAR: Rule(_LOGGED_IN, _LISTS),
    Action.MAKE_KEY: Rule(_LOGGED_IN),
    Action.LIST_KEYS: Rule(_LOGGED_IN),
    Action.REVOKE_KEY: Rule(_LOGGED_IN),
    # About events, which are public. A setting can let only organisers and admins create them.
    Action.INITIALIZE_EVENT: Rule(_LOGGED_IN, _EVENTS),
    Action.CREATE_EVENT: Rule(_LOGGED_IN, _EVENTS),
    Action.LIST_MY_EVENTS: Rule(_LOGGED_IN, _EVENTS | _LISTS),
    # A draft is shown to its team alone: see the route.
    Action.GET_EVENT: Rule(_PUBLIC),
    Action.GET_EVENT_CALENDAR: Rule(_PUBLIC),
    Action.FOLLOW_EVENT: Rule(_PUBLIC),
    # Revenue is shown to managers alone: see the route.
    Action.GET_STATS: Rule(_STAFF, _LISTS),
    Action.LIST_EVENTS: Rule(_PUBLIC),
    Action.UPDATE_EVENT: Rule(_MANAGERS, _EVENTS),
    Action.PUBLISH_EVENT: Rule(_MANAGERS, _EVENTS),
    Action.PAUSE_SALE: Rule(_MANAGERS, _EVENTS),
    Action.RESUME_SALE: Rule(_MANAGERS, _EVENTS),
    Action.COPY_EVENT: Rule(_MANAGERS, _EVENTS),
    # Hidden ticket types are shown to the event's team alone: see the routes.
    Action.LIST_TICKET_TYPES: Rule(_PUBLIC),
    Action.CREATE_TICKET_TYPE: Rule(_MANAGERS, _EVENTS),
    Action.GET_TICKET_TYPE: Rule(_PUBLIC),
    Action.UPDATE_TICKET_TYPE: Rule(_MANAGERS, _EVENTS),
    Action.DELETE_TICKET_TYPE: Rule(_MANAGERS, _EVENTS),
    Action.LIST_QUOTAS: Rule(_PUBLIC),
    Action.CREATE_QUOTA: Rule(_MANAGERS, _EVENTS),
    Action.GET_QUOTA: Rule(_PUBLIC),
    Action.UPDATE_QUOTA: Rule(_MANAGERS, _EVENTS),
    Action.DELETE_QUOTA: Rule(_MANAGERS, _EVENTS),
    # Codes open hidden ticket types and reduce prices.
    Action.CREATE_CODES: Rule(_MANAGERS, _EVENTS),
    Action.LIST_CODES: Rule(_MANAGERS, _EVENTS),
    Action.GET_CODE: Rule(_MANAGERS, _EVENTS),
    # It shows what a booking with the code would get.
    Action.CHECK_CODE: Rule(_PUBLIC),
    Action.UPDATE_CODE: Rule(_MANAGERS, _EVENTS),
    Action.DELETE_CODE: Rule(_MANAGERS, _EVENTS),
    Action.EXPORT_CODES: Rule(_MANAGERS, _EVENTS),
    Action.CANCEL_EVENT: Rule(_OWNERS, _EVENTS),
    Action.DELETE_EVENT: Rule(_OWNERS, _EVENTS),
    Action.CHANGE_OWNER: Rule(_OWNERS),
    # About places: the caller's own, and those that a box office books.
    Action.BOOK_TICKET: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.CANCEL_TICKET: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.CREATE_HOLD: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    # What has a price is confirmed by managers alone: see the route.
    Action.CONFIRM_HOLD: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.EXTEND_HOLD: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.RELEASE_HOLD: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.GET_BOOKING: Rule(_STAFF | {Role.SELF}, _LISTS),
    Action.FOLLOW_BOOKING: Rule(_STAFF | {Role.SELF}, _LISTS),
    Action.LIST_TICKETS: Rule(_STAFF | {Role.SELF}, _LISTS),
    Action.CANCEL_BOOKING: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    # About money. Only the team says that it came.
    Action.RECORD_PAYMENT: Rule(_MANAGERS, _BOX_OFFICE),
    Action.LIST_PAYMENTS: Rule(_MANAGERS | {Role.SELF}, _LISTS),
    Action.RECORD_REFUND: Rule(_MANAGERS, _BOX_OFFICE),
    Action.LIST_REFUNDS: Rule(_MANAGERS | {Role.SELF}, _LISTS),
    Action.GET_SETTLEMENT: Rule(_MANAGERS, _LISTS),
    Action.LIST_EVENT_BOOKINGS: Rule(_STAFF, _LISTS),
    # About tickets: their holder's, the buyer's, and those that the team looks at.
    Action.GET_TICKET: Rule(_STAFF | {Role.SELF}, _LISTS | _DOOR),
    Action.UPDATE_TICKET: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.REISSUE_TICKET: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.CREATE_TRANSFER: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.ACCEPT_TRANSFER: Rule(_MANAGERS | {Role.SELF}, _BOX_OFFICE),
    Action.GET_TICKET_SVG: Rule(_STAFF | {Role.SELF}, _LISTS | _DOOR),
    Action.GET_TICKET_PNG: Rule(_STAFF | {Role.SELF}, _LISTS | _DOOR),
    Action.GET_TICKETS_PDF: Rule(_STAFF | {Role.SELF}, _LISTS | _DOOR),
    Action.LIST_TICKET_KEYS: Rule(_PUBLIC),
    # About the door of an event.
    Action.GET_DOOR: Rule(_STAFF, _LISTS | _DOOR),
    Action.UPDATE_DOOR: Rule(_MANAGERS, _EVENTS),
    Action.CHECK_IN: Rule(_STAFF, _DOOR),
    Action.UPLOAD_CHECK_INS: Rule(_STAFF, _DOOR),
    Action.UNDO_CHECK_IN: Rule(_STAFF, _DOOR),
    Action.LIST_CHECK_INS: Rule(_STAFF, _LISTS | _DOOR),
    Action.GET_DOOR_MANIFEST: Rule(_STAFF, _DOOR),
    # About everybody who has a ticket, with names and addresses.
    Action.EXPORT_ATTENDEES: Rule(_MANAGERS, _LISTS),
    Action.LIST_ATTENDEES: Rule(_MANAGERS, _LISTS),
    # About the team of an event. API keys grant no roles.
    Action.LIST_TEAM: Rule(_STAFF),
    Action.GRANT_ROLE: Rule(_OWNERS),
    Action.REVOKE_ROLE: Rule(_OWNERS | {Role.SELF}),
    Action.LIST_TRAIL: Rule(_MANAGERS, _LISTS),
    # About what happens at events. The second route shows the events that the first one would.
    Action.READ_EVENT_FEED: Rule(_MANAGERS, _LISTS),
    Action.READ_FEED: Rule(_LOGGED_IN, _LISTS),
    # About the caller's own webhooks. One for an event is made by its owner and managers.
    Action.CREATE_WEBHOOK: Rule(_LOGGED_IN, _WEBHOOKS),
    Action.LIST_WEBHOOKS: Rule(_LOGGED_IN, _WEBHOOKS),
    Action.GET_WEBHOOK: Rule(_LOGGED_IN, _WEBHOOKS),
    Action.UPDATE_WEBHOOK: Rule(_LOGGED_IN, _WEBHOOKS),
    Action.ROTATE_SECRET: Rule(_LOGGED_IN, _WEBHOOKS),
    Action.REPLAY_WEBHOOK: Rule(_LOGGED_IN, _WEBHOOKS),
    Action.TEST_WEBHOOK: Rule(_LOGGED_IN, _WEBHOOKS),
    Action.LIST_DELIVERIES: Rule(_LOGGED_IN, _WEBHOOKS),
    Action.DELETE_WEBHOOK: Rule(_LOGGED_IN, _WEBHOOKS),
    # About the right to create events.
    Action.GRANT_ORGANISER: Rule(_ADMINS),
    Action.REVOKE_ORGANISER: Rule(_ADMINS),
    # About the customers of an organiser, who is their owner. A manager of any event of the
    # organiser is a manager of the customers too.
    Action.LIST_CUSTOMERS: Rule(_MANAGERS, _CUSTOMER_LISTS),
    Action.GET_CUSTOMER: Rule(_MANAGERS, _CUSTOMER_LISTS),
    Action.UPDATE_CUSTOMER: Rule(_MANAGERS, _CUSTOMERS),
    Action.MAKE_LOGIN_TOKEN: Rule(_MANAGERS, _CUSTOMERS),
    Action.ERASE_CUSTOMER: Rule(_MANAGERS, _CUSTOMERS),
}

BY_NAME: Final[dict[str, Rule]] = {str(action): rule for action, rule in RULES.items()}
"""The rules by operation id."""
