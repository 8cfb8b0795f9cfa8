"""Every error that the service answers with, as a tree of small classes.

    TicketingError
    ├── Invalid            the request itself is wrong
    │   ├── MalformedRequest, RequestTimeout, UrlTooLong, HeadersTooLarge, OriginRefused
    │   ├── HttpVersionNotSupported, TransferCodingNotImplemented, ExpectationFailed
    │   ├── MalformedBody, UnsupportedMediaType, BodyTooLarge, ValidationFailed, InvalidCursor
    │   ├── PasswordTooCommon, InvalidIdempotencyKey, IdempotencyKeyReused
    ├── AnswerLost
    ├── NotAuthenticated (NoCredential), InvalidCredentials, InvalidRefreshToken,
    │   InvalidPasswordToken
    ├── Forbidden, InsufficientScope, WrongPassword, RegistrationClosed, OrganiserRequired
    ├── NotFound
    │   ├── RouteNotFound, EventNotFound, UserNotFound, BookingNotFound, KeyNotFound,
    │   ├── SessionNotFound, MemberNotFound
    ├── MethodNotAllowed
    ├── Conflict
    │   ├── UsernameTaken, AlreadyBooked, AlreadyWaiting, AlreadyOwner, TooManyKeys
    ├── Later              nothing is wrong with the request, but its time
    │   ├── RequestInProgress, TooManyRequests
    │   ├── Unavailable
    │   │   ├── Busy, DatabaseUnavailable, OutcomeUnknown, NotReady
    └── InternalError

A class carries the HTTP status, a stable code and a sentence; an instance may add members that
a program needs to act. The wire form is RFC 9457 (`application/problem+json`).
"""

from collections.abc import Iterable
from typing import ClassVar


class TicketingError(Exception):
    """The root: everything below has a status, a code and a detail."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    detail: ClassVar[str] = "The service failed. The log has the rest under this request id."
    headers: ClassVar[dict[str, str]] = {}
    """Sent with every response of this error."""
    example: ClassVar[dict[str, object]] = {}
    """Members of the problem document, for the documentation."""
    example_headers: ClassVar[dict[str, str]] = {}
    """Headers whose values differ from response to response, for the documentation."""

    def __init__(self, **members: object) -> None:
        """Keep `members`, which join the problem document in camelCase as given."""
        super().__init__(self.detail)
        self.members = members

    def header_fields(self) -> dict[str, str]:
        """Return the headers of this response."""
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
    """A fault of ours."""


class Invalid(TicketingError):
    """The request can't be read or breaks a rule of its route."""

    status, code, detail = 400, "bad_request", "The request could not be read."


class MalformedRequest(Invalid):
    """What arrived is not HTTP/1.1, or not meant for a server."""

    status, code = 400, "malformed_request"
    detail = "This is not a valid HTTP/1.1 request, or a header is missing or came twice."


class HttpVersionNotSupported(Invalid):
    """The request is in another version of HTTP (RFC 9110, section 15.6.6)."""

    status, code = 505, "http_version_not_supported"
    detail = "Send the request as HTTP/1.1."


class TransferCodingNotImplemented(Invalid):
    """The body is sent in a way that is not understood (RFC 9112, section 6.1)."""

    status, code = 501, "transfer_coding_not_implemented"
    detail = "Send the body with a Content-Length, or with Transfer-Encoding: chunked alone."


class ExpectationFailed(Invalid):
    """The Expect header asks for something unknown (RFC 9110, section 10.1.1)."""

    status, code = 417, "expectation_failed"
    detail = "The only known expectation is 100-continue. Send the request without Expect."


class RequestTimeout(Invalid):
    """The rest of a request did not arrive in time."""

    status, code = 408, "request_timeout"
    detail = "The request did not arrive in time. Send it again on a new connection."


class UrlTooLong(Invalid):
    """The address passes the limit."""

    status, code, detail = 414, "url_too_long", "The address is over 8 KiB."


class HeadersTooLarge(Invalid):
    """The header passes a limit."""

    status, code = 431, "headers_too_large"
    detail = "The header is over 16 KiB, or has over 100 fields."


class OriginRefused(Invalid):
    """A browser asks for a page of another origin that the operator did not name."""

    status, code = 400, "origin_refused"
    detail = "Pages of this origin may not send this request."


class MalformedBody(Invalid):
    """The body is not JSON, or not UTF-8."""

    status, code = 400, "malformed_body"
    detail = (
        "The body is empty, begins with a byte order mark, is not JSON in UTF-8, or nests too deep."
    )


class UnsupportedMediaType(Invalid):
    """The body is not declared as JSON, or as compressed."""

    status, code = 415, "unsupported_media_type"
    detail = "Send the body with Content-Type: application/json, and not compressed."
    headers: ClassVar[dict[str, str]] = {"Accept-Encoding": "identity"}


class BodyTooLarge(Invalid):
    """The body passes the limit."""

    status, code, detail = 413, "body_too_large", "The body is over 64 KiB."


class ValidationFailed(Invalid):
    """A field is missing, unknown or out of range."""

    status, code = 422, "validation_failed"
    detail = "The request breaks the rules of this route. See `errors`."
    example: ClassVar[dict[str, object]] = {
        "errors": [
            {
                "in": "body",
                "pointer": "#/name",
                "type": "missing",
                "detail": "Field required",
            }
        ]
    }


class InvalidCursor(Invalid):
    """The cursor was not made by this list."""

    status, code = 422, "invalid_cursor"
    detail = "The cursor is not one that this list gave out."


class PasswordTooCommon(Invalid):
    """The password is among the first that anybody would try."""

    status, code = 422, "password_too_common"
    detail = "This password is among the commonest, or little more than the username or our name."


class InvalidIdempotencyKey(Invalid):
    """The Idempotency-Key can't be one."""

    status, code = 400, "invalid_idempotency_key"
    detail = (
        "An Idempotency-Key has 1 to 255 visible ASCII characters; in quotes, none of them a"
        " quote or a backslash."
    )


class IdempotencyKeyReused(Invalid):
    """The Idempotency-Key was used for something else."""

    status, code = 422, "idempotency_key_reused"
    detail = "This Idempotency-Key was used for another request: each intention has its own."


class AnswerLost(TicketingError):
    """The secret that the answer was sealed under is known no more."""

    status, code = 410, "answer_lost"
    detail = (
        "What this Idempotency-Key stands for was done, but its answer can't be read any more. "
        "Look for what was done before you send it with another key."
    )


class NotAuthenticated(TicketingError):
    """There is no valid bearer token (RFC 6750, section 3.1)."""

    status, code = 401, "not_authenticated"
    detail = "Send a valid bearer token: log in at POST /api/users/login."
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class NoCredential(NotAuthenticated):
    """There is no bearer token at all, so nothing is said to be wrong with one."""

    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class InvalidCredentials(TicketingError):
    """The name or the password is wrong; which of them is not said."""

    status, code, detail = 401, "invalid_credentials", "The username or the password is wrong."
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class InvalidRefreshToken(TicketingError):
    """The refresh token was never given out, has been used, or its session is over."""

    status, code = 401, "invalid_refresh_token"
    detail = "This refresh token opens nothing (any more): log in at POST /api/users/login."
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class InvalidPasswordToken(TicketingError):
    """The token sets no password: it was never given out, was used or replaced, or has expired."""

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
        " site may do this."
    )


class InsufficientScope(TicketingError):
    """The API key was not made for this (RFC 6750, section 3.1)."""

    status, code = 403, "insufficient_scope"
    detail = "This API key has none of the `scopes` that open this route; without any, log in."
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    example: ClassVar[dict[str, object]] = {"scopes": ["bookings:write"]}


class WrongPassword(TicketingError):
    """Who is logged in gave a wrong password for what needs it again."""

    status, code, detail = 403, "wrong_password", "This is not your password."


class RegistrationClosed(TicketingError):
    """The operator makes the accounts of this site."""

    status, code = 403, "registration_closed"
    detail = "Registration is closed at this site. Ask its operator for an account."


class OrganiserRequired(TicketingError):
    """The caller may not create events: only organisers and admins may at this site."""

    status, code = 403, "organiser_required"
    detail = "Only organisers create events at this site. Ask an admin to make you an organiser."


class NotFound(TicketingError):
    """Something that the request names does not exist."""

    status, code, detail = 404, "not_found", "There is nothing here."


class RouteNotFound(NotFound):
    """No route has this path."""


class EventNotFound(NotFound):
    """No event has this id."""

    status, code, detail = 404, "event_not_found", "There is no such event."


class UserNotFound(NotFound):
    """No user has this id."""

    status, code, detail = 404, "user_not_found", "There is no such user."


class BookingNotFound(NotFound):
    """The person never booked this event."""

    status, code = 404, "booking_not_found"
    detail = "This person never booked this event."


class KeyNotFound(NotFound):
    """The caller has no API key of this id."""

    status, code, detail = 404, "key_not_found", "You have no such API key."


class SessionNotFound(NotFound):
    """The caller has no session of this id."""

    status, code, detail = 404, "session_not_found", "You have no such session."


class MemberNotFound(NotFound):
    """The person has no role at the event."""

    status, code, detail = 404, "member_not_found", "This person has no role at this event."


class MethodNotAllowed(TicketingError):
    """The route exists, the method does not."""

    status, code = 405, "method_not_allowed"
    detail = "This route does not have this method. See the Allow header."

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Say which methods the route has."""
        super().__init__()
        self._allowed = ", ".join(allowed)

    def header_fields(self) -> dict[str, str]:
        """Return Allow."""
        return {"Allow": self._allowed} if self._allowed else {}


class Conflict(TicketingError):
    """The request contradicts what is there."""

    status, code, detail = 409, "conflict", "The request contradicts what is there."


class UsernameTaken(Conflict):
    """Another user has this name, in whatever case."""

    status, code, detail = 409, "username_taken", "This username is taken."


class AlreadyBooked(Conflict):
    """The person holds a place already."""

    status, code, detail = 409, "already_booked", "This person already has a place."


class AlreadyWaiting(Conflict):
    """The person is on the waiting list already."""

    status, code = 409, "already_waiting"
    detail = "This person is already on the waiting list."


class AlreadyOwner(Conflict):
    """The person owns the event, and needs no role."""

    status, code = 409, "already_owner"
    detail = "This person owns the event, and may do everything already."


class TooManyKeys(Conflict):
    """The person has as many API keys as one may have."""

    status, code, detail = 409, "too_many_keys", "You have 50 API keys: revoke one first."


class Later(TicketingError):
    """Nothing is wrong with the request: try again after `retryAfter` seconds."""

    example: ClassVar[dict[str, object]] = {"retryAfter": 1}
    example_headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    def __init__(self, seconds: int = 1) -> None:
        """Say when to try again, in the document as in the header."""
        super().__init__(retryAfter=seconds)
        self._seconds = seconds

    def header_fields(self) -> dict[str, str]:
        """Return Retry-After too."""
        return {**self.headers, "Retry-After": str(self._seconds)}


class RequestInProgress(Later):
    """The first request with this Idempotency-Key is still being carried out."""

    status, code = 409, "request_in_progress"
    detail = "A request with this Idempotency-Key is under way. Ask again for its answer."


class TooManyRequests(Later):
    """The caller, or their address, did this too often."""

    status, code = 429, "too_many_requests"
    detail = "This was tried too often. Nothing was changed: wait as long as `Retry-After` says."
    example: ClassVar[dict[str, object]] = {"retryAfter": 2}
    example_headers: ClassVar[dict[str, str]] = {
        "Retry-After": "2",
        "RateLimit-Policy": '"requests";q=6000;w=60',
        "RateLimit": '"requests";r=0;t=2',
    }


class Unavailable(Later):
    """The service can't answer now."""

    status, code, detail = 503, "unavailable", "The service can't answer now."


class Busy(Unavailable):
    """Too much is under way; nothing was changed."""

    status, code = 503, "busy"
    detail = "Too many requests are under way. Nothing was changed."


class DatabaseUnavailable(Unavailable):
    """The database can't be reached, or the connection broke half-way."""

    status, code = 503, "database_unavailable"
    detail = (
        "The database can't be reached. A change that was under way may or may not have been made."
    )


class OutcomeUnknown(Unavailable):
    """The database was lost during the commit, and has not come back to say what became of it."""

    status, code = 503, "outcome_unknown"
    detail = "The change may or may not have been made. Send it again with its Idempotency-Key."


class NotReady(Unavailable):
    """The service is stopping, or the database is not migrated or takes no writes."""

    status, code = 503, "not_ready"
    detail = "The service is stopping, or its database is not migrated or takes no writes."


class StartupError(Exception):
    """The service can't start; the message is one line that names the cause."""
