"""Every error that the service returns, as a tree of small classes.

    TicketingError
    ├── Invalid            the request itself is wrong
    │   ├── MalformedRequest, RequestTimeout, UrlTooLong, HeadersTooLarge, OriginRefused
    │   ├── HttpVersionNotSupported, TransferCodingNotImplemented, ExpectationFailed
    │   ├── MalformedBody, UnsupportedMediaType, BodyTooLarge, ValidationFailed, InvalidCursor
    │   ├── PasswordTooCommon, InvalidIdempotencyKey, IdempotencyKeyReused, PreconditionRequired
    │   ├── GroupTooLarge, QuantityNotAllowed, TicketTypeRequired
    │   ├── CodeUnknown, CodeNotStarted, CodeExpired, CodeNotApplicable, CodeQuantityNotAllowed
    ├── AnswerLost, PreconditionFailed
    ├── NotAuthenticated (NoCredential), InvalidCredentials, InvalidRefreshToken,
    │   InvalidPasswordToken
    ├── Forbidden, InsufficientScope, WrongPassword, RegistrationClosed, OrganiserRequired
    ├── NotFound
    │   ├── RouteNotFound, EventNotFound, UserNotFound, BookingNotFound, KeyNotFound,
    │   ├── SessionNotFound, MemberNotFound, TicketTypeNotFound, TicketNotFound, QuotaNotFound,
    │   ├── CustomerNotFound, CodeNotFound, WebhookNotFound,
    │   ├── TransferNotFound, ScanNotFound, DoorListNotFound
    ├── MethodNotAllowed
    ├── Conflict
    │   ├── UsernameTaken, AlreadyBooked, AlreadyWaiting, AlreadyOwner, TooManyKeys, LoginExists
    │   ├── SaleNotOpen, SaleClosed, EventState, CapacityBelowTaken, EventHasBookings, OwnsEvents
    │   ├── SoldOut, LimitReached, PaymentRequired, CurrencyMixed, BookingAmbiguous
    │   ├── NameTaken, TicketTypeSold, LastTicketType, TooManyTicketTypes, TooManyQuotas
    │   ├── CurrencyFixed, AlreadyHeld, NotHeld, HoldLimitReached
    │   ├── ReferenceReused, RefundExceedsPaid, BookingFree
    │   ├── CodeUsedUp, CodeTaken, CodeRedeemed, TooManyCodes, TooManyWebhooks
    │   ├── TicketCancelled, TicketUsed, HolderFixed, ScanReused, EventUndated
    ├── HoldExpired
    ├── Later              the request is valid, but can't be served now
    │   ├── RequestInProgress, TooManyRequests
    │   ├── Unavailable
    │   │   ├── Busy, DatabaseUnavailable, OutcomeUnknown, NotReady
    └── InternalError

A class has the HTTP status, a stable code and a sentence. An instance may add members that a
program needs to act. The wire form is RFC 9457 (`application/problem+json`).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from math import ceil
from typing import ClassVar


class TicketingError(Exception):
    """The root: everything below has a status, a code and a detail."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    detail: ClassVar[str] = "The service has a fault. The log has it under this `requestId`."
    headers: ClassVar[dict[str, str]] = {}
    """Headers of every response of this error."""
    example: ClassVar[dict[str, object]] = {}
    """Members of the problem document, for the documentation."""
    example_headers: ClassVar[dict[str, str]] = {}
    """Headers whose values differ from response to response, for the documentation."""

    def __init__(self, **members: object) -> None:
        """Keep `members`, which are added to the problem document under these names."""
        super().__init__(self.detail)
        self.members = members

    def header_fields(self) -> dict[str, str]:
        """Return the headers of the response."""
        return dict(self.headers)

    @classmethod
    def title(cls) -> str:
        """Return the code as a short sentence."""
        return cls.code.replace("_", " ").capitalize()

    @classmethod
    def problem(
        cls, instance: str, request_id: str, members: dict[str, object]
    ) -> dict[str, object]:
        """Return the RFC 9457 document."""
        return {
            "type": f"urn:ticketing:problem:{cls.code}",
            "title": cls.title(),
            "status": cls.status,
            "detail": cls.detail,
            "instance": instance,
            "code": cls.code,
            "requestId": request_id,
            **members,
        }


class InternalError(TicketingError):
    """The service has a fault."""


class Invalid(TicketingError):
    """The request can't be read, or breaks a rule of its route."""

    status, code, detail = 400, "bad_request", "The request could not be read."


class MalformedRequest(Invalid):
    """The request is not HTTP/1.1, or not meant for a server."""

    status, code = 400, "malformed_request"
    detail = "The request is not valid HTTP/1.1, or a header is missing or was sent twice."


class HttpVersionNotSupported(Invalid):
    """The request is in another version of HTTP (RFC 9110, section 15.6.6)."""

    status, code = 505, "http_version_not_supported"
    detail = "Send the request as HTTP/1.1."


class TransferCodingNotImplemented(Invalid):
    """The Transfer-Encoding of the body is not supported (RFC 9112, section 6.1)."""

    status, code = 501, "transfer_coding_not_implemented"
    detail = "Send the body with a Content-Length, or with Transfer-Encoding: chunked alone."


class ExpectationFailed(Invalid):
    """The value of the Expect header is unknown (RFC 9110, section 10.1.1)."""

    status, code = 417, "expectation_failed"
    detail = "`Expect` may only be 100-continue. Send the request without it."


class RequestTimeout(Invalid):
    """The rest of a request did not arrive in time."""

    status, code = 408, "request_timeout"
    detail = "The request did not arrive in time. Resend it on a new connection."


class UrlTooLong(Invalid):
    """The URL is longer than the limit."""

    status, code, detail = 414, "url_too_long", "The URL is longer than 8 KiB. Shorten it."


class HeadersTooLarge(Invalid):
    """The header is larger than a limit."""

    status, code = 431, "headers_too_large"
    detail = "The header is larger than 16 KiB, or has more than 100 fields. Send less."


class OriginRefused(Invalid):
    """A page in a browser has an origin that the operator does not allow."""

    status, code = 400, "origin_refused"
    detail = "Pages of this origin may not send this request. Ask the operator to allow the origin."


class MalformedBody(Invalid):
    """The body is not JSON, or not UTF-8."""

    status, code = 400, "malformed_body"
    detail = (
        "The body is empty, is not JSON in UTF-8, begins with a byte order mark, or is nested too"
        " deep."
    )


class UnsupportedMediaType(Invalid):
    """The body is not declared as JSON, or is declared as compressed."""

    status, code = 415, "unsupported_media_type"
    detail = "Send the body with Content-Type: application/json, and not compressed."
    headers: ClassVar[dict[str, str]] = {"Accept-Encoding": "identity"}


class BodyTooLarge(Invalid):
    """The body is larger than the limit."""

    status, code, detail = 413, "body_too_large", "The body is larger than 64 KiB. Send less."


class ValidationFailed(Invalid):
    """A field is missing, unknown or out of range."""

    status, code = 422, "validation_failed"
    detail = "The request breaks rules of this route. `errors` lists them."
    example: ClassVar[dict[str, object]] = {
        "errors": [
            {
                "in": "body",
                "pointer": "#/name",
                "type": "missing",
                "detail": "This field is required",
            }
        ]
    }


class InvalidCursor(Invalid):
    """The cursor does not come from this list."""

    status, code = 422, "invalid_cursor"
    detail = "The cursor does not come from this list. Start at the first page."


class PasswordTooCommon(Invalid):
    """The password is one of the first that an attacker would try."""

    status, code = 422, "password_too_common"
    detail = (
        "This password is very common, or is little more than the username or the service's name."
        " Choose another one."
    )


class InvalidIdempotencyKey(Invalid):
    """The Idempotency-Key is not well formed."""

    status, code = 400, "invalid_idempotency_key"
    detail = (
        "An Idempotency-Key has 1 to 255 visible ASCII characters. In quotes, it has no"
        " quote and no backslash."
    )


class IdempotencyKeyReused(Invalid):
    """The Idempotency-Key was used for a different request."""

    status, code = 422, "idempotency_key_reused"
    detail = (
        "This Idempotency-Key was used for a different request. Use a new key for each new request."
    )


class GroupTooLarge(Invalid):
    """The event never has that many places of this type."""

    status, code = 422, "group_too_large"
    detail = "There are only `capacity` places of this type, so a group of this size can't wait."
    example: ClassVar[dict[str, object]] = {"requested": 5, "capacity": 4}

    def __init__(self, requested: int, capacity: int) -> None:
        """Name both numbers."""
        super().__init__(requested=requested, capacity=capacity)


class QuantityNotAllowed(Invalid):
    """The ticket type is not booked in this quantity."""

    status, code = 422, "quantity_not_allowed"
    detail = "One booking may have from `min` to `max` places of this ticket type."
    example: ClassVar[dict[str, object]] = {"ticketTypeId": 1, "min": 2, "max": 8}

    def __init__(self, ticket_type_id: int, least: int, most: int | None) -> None:
        """Name the type and its limits."""
        super().__init__(ticketTypeId=ticket_type_id, min=least, max=most)


class TicketTypeRequired(Invalid):
    """The event has several ticket types, and the request names none."""

    status, code = 422, "ticket_type_required"
    detail = "The event has several ticket types. Name them in `lines`."


class CodeUnknown(Invalid):
    """The event has no such code, or the code was deactivated."""

    status, code = 422, "code_unknown"
    detail = "The event does not have this code, or it was deactivated. Check how it is written."


class CodeNotStarted(Invalid):
    """The code may not be used yet."""

    status, code = 422, "code_not_started"
    detail = "The `code` may be used from `startsAt` on. Try again then, or book without it."
    example: ClassVar[dict[str, object]] = {"startsAt": "2026-11-02T10:00:00Z", "retryAfter": 75}

    def __init__(self, starts_at: datetime, at: datetime) -> None:
        """Name the time, and the seconds until then."""
        seconds = ceil((starts_at - at).total_seconds())
        super().__init__(startsAt=_text(starts_at), retryAfter=seconds)


class CodeExpired(Invalid):
    """The code may not be used any more."""

    status, code = 422, "code_expired"
    detail = "The `code` could be used before `endsAt`. Book without it, or use another one."
    example: ClassVar[dict[str, object]] = {"endsAt": "2026-11-02T12:00:00Z"}

    def __init__(self, ends_at: datetime) -> None:
        """Name the time."""
        super().__init__(endsAt=_text(ends_at))


class CodeNotApplicable(Invalid):
    """The code concerns none of the places that were requested."""

    status, code = 422, "code_not_applicable"
    detail = "The `code` is for none of these ticket types, or they are free. Book without it."


class CodeQuantityNotAllowed(Invalid):
    """One booking would take more tickets of the code than it has, used or not."""

    status, code = 422, "code_quantity_not_allowed"
    detail = "The `code` is for at most `limit` tickets. Book fewer, or book without it."
    example: ClassVar[dict[str, object]] = {"requested": 5, "limit": 1}

    def __init__(self, requested: int, limit: int) -> None:
        """Name the tickets that were requested, and the limit."""
        super().__init__(requested=requested, limit=limit)


class AnswerLost(TicketingError):
    """The stored response is sealed under a signing secret that the service no longer has."""

    status, code = 410, "answer_lost"
    detail = (
        "The request with this Idempotency-Key was done, but its stored response can't be read any"
        " more. Check what was done before you send the request with another key."
    )


class NotAuthenticated(TicketingError):
    """There is no valid bearer token (RFC 6750, section 3.1)."""

    status, code = 401, "not_authenticated"
    detail = (
        "The request needs a valid access token or API key: `Authorization: Bearer ...`."
        " Get a token from POST /api/users/login."
    )
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class NoCredential(NotAuthenticated):
    """There is no bearer token at all, so the header names no error (RFC 6750, section 3.1)."""

    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class InvalidCredentials(TicketingError):
    """The name or the password is wrong. The response does not say which, for security."""

    status, code, detail = 401, "invalid_credentials", "The username or the password is wrong."
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class InvalidRefreshToken(TicketingError):
    """The refresh token is unknown or used, or its session is over."""

    status, code = 401, "invalid_refresh_token"
    detail = "This refresh token is unknown, used or expired. Log in at POST /api/users/login."
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class InvalidPasswordToken(TicketingError):
    """The token sets no password because it is unknown, used, replaced or expired."""

    status, code = 401, "invalid_password_token"
    detail = (
        "This token is unknown, used, replaced by a newer one, or expired. "
        "Ask the operator of this site for a new one."
    )
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class Forbidden(TicketingError):
    """The caller may not do this."""

    status, code = 403, "forbidden"
    detail = (
        "Only the person concerned, a person with the right role at the event, or an admin of the"
        " site may do this. Ask the event's owner for a role."
    )


class InsufficientScope(TicketingError):
    """The API key does not have the scope for this (RFC 6750, section 3.1)."""

    status, code = 403, "insufficient_scope"
    detail = (
        "This API key has none of the `scopes` that this route needs. Make a key with one of them."
        " If the list is empty, no API key may do this: log in."
    )
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    example: ClassVar[dict[str, object]] = {"scopes": ["bookings:write"]}


class WrongPassword(TicketingError):
    """The password that confirms the request is wrong."""

    status, code, detail = 403, "wrong_password", "The given password is not your current one."


class RegistrationClosed(TicketingError):
    """Only the operator makes accounts at this site."""

    status, code = 403, "registration_closed"
    detail = "Registration is closed at this site. Ask its operator for an account."


class OrganiserRequired(TicketingError):
    """The caller may not create events: only organisers and admins may do that at this site."""

    status, code = 403, "organiser_required"
    detail = (
        "Only organisers may create events at this site. Ask an admin to make you an organiser."
    )


class NotFound(TicketingError):
    """Something that the request names does not exist."""

    status, code = 404, "not_found"
    detail = "No route has this path. `/openapi.json` lists all paths."


class RouteNotFound(NotFound):
    """No route has this path."""


class EventNotFound(NotFound):
    """No event has this id."""

    status, code, detail = 404, "event_not_found", "No event has this id. Check the id."


class UserNotFound(NotFound):
    """No user has this id."""

    status, code, detail = 404, "user_not_found", "No user has this id. Check the id."


class BookingNotFound(NotFound):
    """The person never booked this event."""

    status, code = 404, "booking_not_found"
    detail = "This person never booked this event."


class KeyNotFound(NotFound):
    """The caller has no API key of this id."""

    status, code = 404, "key_not_found"
    detail = "You have no API key with this id. `GET /api/users/me/keys` lists your keys."


class WebhookNotFound(NotFound):
    """The caller has no webhook of this id."""

    status, code = 404, "webhook_not_found"
    detail = "You have no webhook with this id. `GET /api/webhooks` lists your webhooks."


class SessionNotFound(NotFound):
    """The caller has no session of this id."""

    status, code = 404, "session_not_found"
    detail = "You have no session with this id. `GET /api/users/me/sessions` lists your sessions."


class MemberNotFound(NotFound):
    """The person has no role at the event."""

    status, code = 404, "member_not_found"
    detail = "This person has no role at this event. `GET /api/events/{eventId}/team` lists roles."


class TicketTypeNotFound(NotFound):
    """The event has no such ticket type, or only its team may see it."""

    status, code = 404, "ticket_type_not_found"
    detail = "The event has no such ticket type. Its types are in `GET /api/events/{eventId}`."


class TicketNotFound(NotFound):
    """There is no such ticket, or the booking has no such ticket."""

    status, code = 404, "ticket_not_found"
    detail = (
        "There is no such ticket. `GET /api/bookings/{bookingId}/tickets` lists those of a booking."
    )


class TransferNotFound(NotFound):
    """The token passes no ticket on."""

    status, code = 404, "transfer_not_found"
    detail = (
        "This token is unknown, used, replaced by a newer one, or expired. Ask the holder of the"
        " ticket for a new one."
    )


class ScanNotFound(NotFound):
    """The event has no scan of this id."""

    status, code = 404, "scan_not_found"
    detail = "The event has no such scan. `GET /api/events/{eventId}/check-ins` lists its scans."


class DoorListNotFound(NotFound):
    """The event has no check-in list of this name."""

    status, code = 404, "door_list_not_found"
    detail = (
        "The event has no check-in list of this name. `GET /api/events/{eventId}/door` has its"
        " lists."
    )


class QuotaNotFound(NotFound):
    """The event has no shared quota of this id, or the caller may not see it."""

    status, code = 404, "quota_not_found"
    detail = "This event has no quota with this id. `GET /api/events/{eventId}/quotas` lists them."


class CustomerNotFound(NotFound):
    """No customer has this id. The customer may have been erased."""

    status, code = 404, "customer_not_found"
    detail = "No customer has this id. `GET /api/customers` lists customers."


class CodeNotFound(NotFound):
    """The event has no code with this id."""

    status, code = 404, "code_not_found"
    detail = "The event has no code with this id. List its codes to see their ids."


class MethodNotAllowed(TicketingError):
    """The path exists, but not with this method."""

    status, code = 405, "method_not_allowed"
    detail = "This path does not have this method. The `Allow` header lists its methods."

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Name the methods that the path has."""
        super().__init__()
        self._allowed = ", ".join(allowed)

    def header_fields(self) -> dict[str, str]:
        """Return Allow."""
        return {"Allow": self._allowed} if self._allowed else {}


class Conflict(TicketingError):
    """The request conflicts with the current state."""

    status, code, detail = 409, "conflict", "The request conflicts with the current state."


class UsernameTaken(Conflict):
    """Another user has this name; upper and lower case are the same."""

    status, code, detail = 409, "username_taken", "This username is taken. Choose another one."


class AlreadyBooked(Conflict):
    """The person already has a place."""

    status, code, detail = 409, "already_booked", "This person already has a place."


class AlreadyWaiting(Conflict):
    """The person is already on the waiting list."""

    status, code = 409, "already_waiting"
    detail = "This person is already on the waiting list."


class AlreadyHeld(Conflict):
    """Places are already kept for the person."""

    status, code = 409, "already_held"
    detail = (
        "Places are already kept for this person at this event, until `expiresAt`. Confirm or"
        " release that hold or offer first: `bookingId` is its id."
    )
    example: ClassVar[dict[str, object]] = {
        "bookingId": "0193a5c8-7a36-7c3e-9b1e-3f2d8c5a6b70",
        "expiresAt": "2026-12-01T10:10:00Z",
    }

    def __init__(self, booking_id: object, expires_at: datetime) -> None:
        """Name the hold, and when it ends."""
        super().__init__(bookingId=str(booking_id), expiresAt=_text(expires_at))


class NotHeld(Conflict):
    """The booking is not a hold or an offer."""

    status, code = 409, "not_held"
    detail = "This booking keeps no places: its `status` says why. Only a hold or an offer can."
    example: ClassVar[dict[str, object]] = {"state": "waiting"}

    def __init__(self, state: str) -> None:
        """Name the status of the booking."""
        super().__init__(state=state)


class HoldLimitReached(Conflict):
    """The hold can't last longer."""

    status, code = 409, "hold_limit_reached"
    detail = "This hold can't be extended beyond `expiresAt`. Only the event's team may do that."
    example: ClassVar[dict[str, object]] = {"expiresAt": "2026-12-01T10:30:00Z"}

    def __init__(self, expires_at: datetime) -> None:
        """Name the latest end."""
        super().__init__(expiresAt=_text(expires_at))


class HoldExpired(TicketingError):
    """The hold or offer is over, and its places can't be had again."""

    status, code = 410, "hold_expired"
    detail = (
        "This hold or offer is over. `reason` says why its places can't be had again: `released`"
        " (it was given back), `sold_out`, `waiting_list` (others wait for them), `sale` (the sale"
        " is not open), `limit` (the person has other bookings now), or `code` (its code is used up"
        " or gone). `over` means that it can't be extended, but perhaps still be confirmed."
    )
    example: ClassVar[dict[str, object]] = {"reason": "sold_out"}

    def __init__(self, reason: str) -> None:
        """Say why its places can't be had again."""
        super().__init__(reason=reason)


class AlreadyOwner(Conflict):
    """The person owns the event and needs no role."""

    status, code = 409, "already_owner"
    detail = "This person owns the event and needs no role."


class SoldOut(Conflict):
    """Too few places are left, and a booking of several types or of a priced one can't wait."""

    status, code = 409, "sold_out"
    detail = (
        "Too few places of the type `ticketTypeId` are `available`, and this booking can't wait."
        " Book fewer, or another type. If a shared quota lacks places, `quotaId` names it."
    )
    example: ClassVar[dict[str, object]] = {
        "requested": 2,
        "available": 1,
        "ticketTypeId": 1,
        "quotaId": None,
    }

    def __init__(
        self, requested: int, available: int, ticket_type_id: int, quota_id: int | None
    ) -> None:
        """Name the type, its numbers, and the quota that lacks places, if it is a shared one."""
        super().__init__(
            requested=requested,
            available=available,
            ticketTypeId=ticket_type_id,
            quotaId=quota_id,
        )


class LimitReached(Conflict):
    """The event does not allow one person that many bookings or tickets."""

    status, code = 409, "limit_reached"
    detail = (
        "The event allows one person at most `limit` bookings or tickets: see `limits`. This person"
        " has `has`, and asked for `requested` more."
    )
    example: ClassVar[dict[str, object]] = {
        "limits": "tickets",
        "limit": 10,
        "has": 8,
        "requested": 4,
    }

    def __init__(self, limits: str, limit: int, has: int, requested: int) -> None:
        """Name what is limited, `bookings` or `tickets`, and the numbers."""
        super().__init__(limits=limits, limit=limit, has=has, requested=requested)


class PaymentRequired(Conflict):
    """The booking has a price, and the caller can't say that it was paid."""

    status, code = 409, "payment_required"
    detail = (
        "This booking costs `amount`, in the minor unit of `currency`. Only the event's owner and"
        " managers may make or confirm it, after they have taken the money. A person can hold the"
        " places until then."
    )
    example: ClassVar[dict[str, object]] = {"amount": 2500, "currency": "EUR"}

    def __init__(self, amount: int, currency: str) -> None:
        """Name the price, in the minor unit of the currency."""
        super().__init__(amount=amount, currency=currency)


class CurrencyMixed(Conflict):
    """Other prices of the event are in another currency."""

    status, code = 409, "currency_mixed"
    detail = (
        "All prices of an event have one currency. Use the `currency` of the other prices, or make"
        " them free first."
    )
    example: ClassVar[dict[str, object]] = {"currency": "EUR"}

    def __init__(self, currency: str | None = None) -> None:
        """Name the currency of the other prices, if it is known."""
        super().__init__(**({} if currency is None else {"currency": currency}))


class BookingAmbiguous(Conflict):
    """The person has several bookings at the event."""

    status, code = 409, "booking_ambiguous"
    detail = (
        "This person has several bookings at the event. Cancel one by"
        " `POST /api/bookings/{bookingId}/cancel`."
    )
    example: ClassVar[dict[str, object]] = {"bookingIds": ["0193a5c8-7a36-7c3e-9b1e-3f2d8c5a6b70"]}

    def __init__(self, booking_ids: Sequence[object]) -> None:
        """Name the bookings."""
        super().__init__(bookingIds=[str(each) for each in booking_ids])


class LoginExists(Conflict):
    """The customer has a username and a password already."""

    status, code = 409, "login_exists"
    detail = "This customer already has a login. Only the operator of this site can replace it."


class SaleNotOpen(Conflict):
    """The sale is not open now. `state` says why. `opensAt` is when it opens, if this is known."""

    status, code = 409, "sale_not_open"
    detail = (
        "Places are not on sale now: see `state`. If there is an `opensAt`, try again then. A"
        " `ticketTypeId` means that this is about the sale of this type alone."
    )
    example: ClassVar[dict[str, object]] = {
        "state": "scheduled",
        "opensAt": "2026-11-02T10:00:00Z",
        "retryAfter": 75,
    }

    def __init__(
        self,
        state: str,
        opens_at: datetime | None,
        at: datetime,
        ticket_type_id: int | None = None,
    ) -> None:
        """Name the state and, if it is known, the time of opening and the seconds until then.

        Also name the ticket type, if this is about its sale alone.
        """
        when = _about(ticket_type_id)
        if opens_at is not None:
            when["opensAt"] = _text(opens_at)
            when["retryAfter"] = ceil((opens_at - at).total_seconds())
        super().__init__(state=state, **when)


class SaleClosed(Conflict):
    """The sale is over. `state` says why."""

    status, code = 409, "sale_closed"
    detail = (
        "The sale is over: see `state`. If it is `closed`, bookings can still be cancelled. A"
        " `ticketTypeId` means that this is about the sale of this type alone."
    )
    example: ClassVar[dict[str, object]] = {"state": "closed"}

    def __init__(self, state: str, ticket_type_id: int | None = None) -> None:
        """Name the state, `closed`, `ended` or `cancelled`, and the ticket type as SaleNotOpen."""
        super().__init__(state=state, **_about(ticket_type_id))


def _text(at: datetime) -> str:
    """Return a time in UTC as in responses."""
    return at.isoformat().replace("+00:00", "Z")


def _about(ticket_type_id: int | None) -> dict[str, object]:
    return {} if ticket_type_id is None else {"ticketTypeId": ticket_type_id}


class EventState(Conflict):
    """The state of the event does not allow this."""

    status, code = 409, "event_state"
    detail = "The event's `state` does not allow this change. Read the event again."
    example: ClassVar[dict[str, object]] = {"state": "cancelled"}

    def __init__(self, state: str) -> None:
        """Name the state."""
        super().__init__(state=state)


class CapacityBelowTaken(Conflict):
    """More places are taken than the new capacity has."""

    status, code = 409, "capacity_below_taken"
    detail = "More places are taken than you requested. Cancel bookings, or send at least `taken`."
    example: ClassVar[dict[str, object]] = {"requested": 16, "taken": 44}

    def __init__(
        self,
        requested: int,
        taken: int,
        *,
        quota_id: int | None = None,
        ticket_type_id: int | None = None,
    ) -> None:
        """Name both numbers of places, and the quota or ticket type if it is not the event."""
        of = {"quotaId": quota_id, "ticketTypeId": ticket_type_id}
        named = {name: value for name, value in of.items() if value is not None}
        super().__init__(requested=requested, taken=taken, **named)


class EventHasBookings(Conflict):
    """The event can't be deleted, because it is not a draft or was booked."""

    status, code = 409, "event_has_bookings"
    detail = "Only a draft that was never booked can be deleted. Cancel the event instead."


class NameTaken(Conflict):
    """Another ticket type, or another quota, of the event has this name."""

    status, code = 409, "name_taken"
    detail = "Another ticket type or quota of this event has this `name`. Choose another one."
    example: ClassVar[dict[str, object]] = {"name": "Balcony"}

    def __init__(self, name: str) -> None:
        """Name the name."""
        super().__init__(name=name)


class TicketTypeSold(Conflict):
    """The ticket type can't be deleted, because somebody booked it or waited for it."""

    status, code = 409, "ticket_type_sold"
    detail = (
        "Somebody booked this ticket type or waited for it, so it can't be deleted. Close it:"
        ' `PATCH` it with `{"closed": true}`.'
    )


class LastTicketType(Conflict):
    """The ticket type can't be deleted, because the event has no other."""

    status, code = 409, "last_ticket_type"
    detail = "An event needs a ticket type, and this is its last one. Change it instead."


class TooManyTicketTypes(Conflict):
    """The event has as many ticket types as it may have."""

    status, code = 409, "too_many_ticket_types"
    detail = "An event has at most 100 ticket types. Delete one first."


class TooManyQuotas(Conflict):
    """The event has as many shared quotas as it may have."""

    status, code = 409, "too_many_quotas"
    detail = "An event has at most 100 quotas. Delete one first."


class CurrencyFixed(Conflict):
    """Tickets were sold in another currency."""

    status, code = 409, "currency_fixed"
    detail = "Tickets of this event were sold in `currency`. Its prices can't have another one."
    example: ClassVar[dict[str, object]] = {"currency": "EUR"}

    def __init__(self, currency: str) -> None:
        """Name the currency in which tickets were sold."""
        super().__init__(currency=currency)


class ReferenceReused(Conflict):
    """The booking has a payment or a refund with this reference and another amount."""

    status, code = 409, "reference_reused"
    detail = (
        "This `reference` was recorded with another `amount`, which is given here. Use a new"
        " reference for each payment and each refund."
    )
    example: ClassVar[dict[str, object]] = {"amount": 2500}

    def __init__(self, amount: int) -> None:
        """Name the amount that was recorded."""
        super().__init__(amount=amount)


class RefundExceedsPaid(Conflict):
    """All refunds would be more than what was paid."""

    status, code = 409, "refund_exceeds_paid"
    detail = (
        "With this refund of `amount`, more would be `refunded` than was `paid`. Refund at most"
        " `paid` - `refunded`. If a payment is not recorded yet, record it first."
    )
    example: ClassVar[dict[str, object]] = {"amount": 2500, "paid": 2500, "refunded": 1000}

    def __init__(self, amount: int, paid: int, refunded: int) -> None:
        """Name what was asked for, and what was paid and refunded before."""
        super().__init__(amount=amount, paid=paid, refunded=refunded)


class BookingFree(Conflict):
    """The booking never had a price, so it has no currency."""

    status, code = 409, "booking_free"
    detail = "This booking is free. Nothing can be paid for it."


class CodeUsedUp(Conflict):
    """The code has too few uses or tickets left."""

    status, code = 409, "code_used_up"
    detail = (
        "The `code` is used up: `limits` says whether too few `uses` (bookings) or `tickets` are"
        " left of the `limit`. Some come back when holds end or bookings are cancelled."
    )
    example: ClassVar[dict[str, object]] = {
        "limits": "uses",
        "limit": 10,
        "has": 10,
        "requested": 1,
    }

    def __init__(self, limits: str, limit: int, has: int, requested: int) -> None:
        """Name the limit, what of it is used, and what was requested."""
        super().__init__(limits=limits, limit=limit, has=has, requested=requested)


class CodeTaken(Conflict):
    """The event has one of the new codes already."""

    status, code = 409, "code_taken"
    detail = (
        "The event has the code `name` already, perhaps in another case or with other spaces. None"
        " of the codes was made."
    )
    example: ClassVar[dict[str, object]] = {"name": "SUMMER26"}

    def __init__(self, name: str) -> None:
        """Name the first of them."""
        super().__init__(name=name)


class CodeRedeemed(Conflict):
    """The code can't be deleted, because a booking or a hold was made with it."""

    status, code = 409, "code_redeemed"
    detail = (
        "A booking or a hold was made with this code, so it can't be deleted. Deactivate it:"
        ' `PATCH` it with `{"active": false}`.'
    )


class TooManyCodes(Conflict):
    """The event would have too many codes."""

    status, code = 409, "too_many_codes"
    detail = "An event has at most 100,000 codes. Delete some that were never used."


class TicketCancelled(Conflict):
    """The ticket is cancelled, so it has no code and no holder."""

    status, code = 409, "ticket_cancelled"
    detail = "This ticket is cancelled."


class TicketUsed(Conflict):
    """Somebody came in with the ticket."""

    status, code = 409, "ticket_used"
    detail = "Somebody came in with this ticket. It can't be passed on any more."


class EventUndated(Conflict):
    """The event has no start, so a calendar can't show it."""

    status, code = 409, "event_undated"
    detail = "This event has no start yet, so it is in no calendar. Its team sets `startsAt`."


class HolderFixed(Conflict):
    """The deadline for changes of holders is over."""

    status, code = 409, "holder_fixed"
    detail = (
        "It is too late to change this ticket. The event's owner and managers still can: ask them."
    )


class ScanReused(Conflict):
    """The event has a scan of this id with another ticket, list or direction."""

    status, code = 409, "scan_reused"
    detail = "This `scanId` was used for another scan. Make a new one for each scan."


class OwnsEvents(Conflict):
    """The user owns events with active bookings that are not over."""

    status, code = 409, "owns_events"
    detail = "You own events with active bookings. Give them another owner, or cancel them."
    example: ClassVar[dict[str, object]] = {"eventIds": [1]}

    def __init__(self, event_ids: Sequence[int]) -> None:
        """Name the events."""
        super().__init__(eventIds=list(event_ids))


class PreconditionRequired(Invalid):
    """A change of an event needs the ETag of the version that it changes."""

    status, code = 428, "precondition_required"
    detail = "Read the event, and send its ETag as `If-Match`."


class PreconditionFailed(TicketingError):
    """The event was changed since the client read it."""

    status, code = 412, "precondition_failed"
    detail = "The event was changed since you read it. Read it again, and repeat your change."


class TooManyKeys(Conflict):
    """The person already has the largest number of API keys."""

    status, code, detail = 409, "too_many_keys", "You have 50 API keys. Revoke one first."


class TooManyWebhooks(Conflict):
    """The person already has the largest number of webhooks."""

    status, code = 409, "too_many_webhooks"
    detail = "You have 50 webhooks. Delete one first."


class Later(TicketingError):
    """The request is valid: resend it after `retryAfter` seconds."""

    example: ClassVar[dict[str, object]] = {"retryAfter": 1}
    example_headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    def __init__(self, seconds: int = 1) -> None:
        """Name the seconds to wait, in the document and in the header."""
        super().__init__(retryAfter=seconds)
        self._seconds = seconds

    def header_fields(self) -> dict[str, str]:
        """Return Retry-After too."""
        return {**self.headers, "Retry-After": str(self._seconds)}


class RequestInProgress(Later):
    """The first request with this Idempotency-Key is not finished."""

    status, code = 409, "request_in_progress"
    detail = (
        "A request with this Idempotency-Key is under way. Resend it later to get its response."
    )


class TooManyRequests(Later):
    """The account or the address reached a rate limit."""

    status, code = 429, "too_many_requests"
    detail = "Too many requests. Nothing was changed. Resend after `Retry-After` seconds."
    example: ClassVar[dict[str, object]] = {"retryAfter": 2}
    example_headers: ClassVar[dict[str, str]] = {
        "Retry-After": "2",
        "RateLimit-Policy": '"requests";q=6000;w=60',
        "RateLimit": '"requests";r=0;t=2',
    }


class Unavailable(Later):
    """The service can't respond now."""

    status, code = 503, "unavailable"
    detail = "The service can't respond now. Resend the request after `Retry-After` seconds."


class Busy(Unavailable):
    """Too many requests are under way. Nothing was changed."""

    status, code = 503, "busy"
    detail = (
        "Too many requests are under way. Nothing was changed. Resend after `Retry-After` seconds."
    )


class DatabaseUnavailable(Unavailable):
    """The database can't be reached, or the connection to it broke."""

    status, code = 503, "database_unavailable"
    detail = (
        "The database can't be reached. The change may or may not have been made."
        " Resend the request with its Idempotency-Key."
    )


class OutcomeUnknown(Unavailable):
    """The connection was lost during the commit, and the result could not be looked up."""

    status, code = 503, "outcome_unknown"
    detail = (
        "The change may or may not have been made. Resend the request with its Idempotency-Key."
    )


class NotReady(Unavailable):
    """The service can't serve now, for this `reason`."""

    status, code = 503, "not_ready"
    detail = (
        "`reason` is `stopping`; or `database`, if that is not migrated or accepts no writes; or"
        " `connections`, if the database had no room for one in the last seconds."
    )
    example: ClassVar[dict[str, object]] = {**Later.example, "reason": "database"}

    def __init__(self, reason: str) -> None:
        """Name the reason."""
        super().__init__()
        self.members["reason"] = reason


class StartupError(Exception):
    """The command can't go on. The message is one line that names the cause."""
