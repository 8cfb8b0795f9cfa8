"""The routes that read a body, and a valid body for each."""

from typing import Any

from tests.people import Person

NOBODY = "019938a5-7d10-7b3c-8a44-0e5b6f9c2d11"
BODIED = [
    "/api/users/register",
    "/api/users/login",
    "/api/events/initialize",
    "/api/events/book",
    "/api/events/cancel",
    "/api/users/refresh",
    "/api/users/logout",
    "/api/users/me/password",
    "/api/users/me/keys",
    "/api/users/me/delete",
    "/api/users/password",
    "/api/events",
    "/api/events/1/copies",
    "/api/events/1/owner",
    "/api/events/1",
    "/api/events/1/ticket-types",
    "/api/events/1/ticket-types/1",
    "/api/events/1/quotas",
    "/api/events/1/quotas/1",
    "/api/events/1/codes",
    "/api/events/1/codes/check",
    "/api/events/1/codes/1",
    "/api/holds",
    f"/api/holds/{NOBODY}/confirm",
    f"/api/holds/{NOBODY}/extend",
    f"/api/bookings/{NOBODY}/payments",
    f"/api/bookings/{NOBODY}/refunds",
    f"/api/bookings/{NOBODY}/cancel",
    f"/api/customers/{NOBODY}",
    f"/api/users/me/sessions/{NOBODY}/end",
    f"/api/events/1/team/{NOBODY}",
]
METHODS = {
    "/api/events/1": "PATCH",
    "/api/events/1/owner": "PUT",
    "/api/events/1/ticket-types/1": "PATCH",
    "/api/events/1/quotas/1": "PATCH",
    "/api/events/1/codes/1": "PATCH",
    BODIED[-1]: "PUT",
    BODIED[-3]: "PATCH",
}
"""The methods of routes that have a body and are not POST."""


def body_of(person: Person, path: str) -> dict[str, Any]:
    """Return a body that the route accepts."""
    bodies: dict[str, dict[str, Any]] = {
        "/api/users/register": {"username": "newcomer", "password": "correct horse"},
        "/api/users/login": {"username": "newcomer", "password": "correct horse"},
        "/api/events/initialize": {"name": "A concert", "totalTickets": 1},
        "/api/events/book": {"eventId": 1, "userId": person.id},
        "/api/events/cancel": {"eventId": 1, "userId": person.id},
        "/api/users/refresh": {"refreshToken": person.refresh_token},
        "/api/users/logout": {"everywhere": True},
        "/api/users/me/password": {
            "currentPassword": "correct horse",
            "newPassword": "another horse",
        },
        "/api/users/me/keys": {"name": "A program", "scopes": ["bookings:read"]},
        "/api/users/me/delete": {"password": "correct horse"},
        "/api/users/password": {"token": "unknown", "newPassword": "another horse"},
        "/api/events": {"name": "A concert", "capacity": 1},
        "/api/events/1/copies": {"startsAt": ["2027-06-01T19:30:00Z"]},
        "/api/events/1/owner": {"userId": person.id},
        "/api/events/1": {"name": "Another concert"},
        "/api/events/1/ticket-types": {"name": "Balcony"},
        "/api/events/1/ticket-types/1": {"name": "Balcony"},
        "/api/events/1/quotas": {"name": "Seats", "capacity": 1},
        "/api/events/1/quotas/1": {"name": "Seats"},
        "/api/events/1/codes": {"kind": "discount", "percent": 20, "codes": ["SUMMER26"]},
        "/api/events/1/codes/check": {"code": "SUMMER26"},
        "/api/events/1/codes/1": {"active": False},
        BODIED[-6]: {"reference": "order-18", "amount": 2500},
        BODIED[-5]: {"reference": "refund-18", "amount": 2500},
        "/api/holds": {"eventId": 1, "userId": person.id},
        BODIED[-8]: {},
        BODIED[-7]: {"expiresAt": "2031-01-01T00:00:00Z"},
        BODIED[-4]: {"ticketIds": [NOBODY]},
        BODIED[-3]: {"name": "Ada Lovelace"},
        BODIED[-2]: {"password": "correct horse"},
        BODIED[-1]: {"role": "staff"},
    }
    return bodies[path]
