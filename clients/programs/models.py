"""Three people and an event with one place, with httpx and models of datamodel-code-generator."""

import sys
from uuid import uuid4

import httpx
from ticketing_models import (
    AttendancePage,
    Booking,
    BookingPage,
    BookingStatus,
    BookTicketProblem,
    BookTicketProblemCode,
    CheckIn,
    Event,
    Feed,
    FeedEventType,
    Hold,
    InitializeEvent,
    IssuedApiKey,
    IssuedWebhook,
    Login,
    MakeKey,
    RecordScan,
    Register,
    TicketDetails,
    Tickets,
    Token,
    User,
    Verdict,
)

client = httpx.Client(base_url=sys.argv[1])


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


people: list[tuple[dict[str, str], User]] = []
for name in ("models-ada", "models-bob", "models-cleo"):
    password = "correct horse battery"
    account = Register(username=name, password=password).model_dump()
    user = User.model_validate(client.post("/api/users/register", json=account).json())
    given = Login(username=name, password=password).model_dump()
    token = Token.model_validate(client.post("/api/users/login", json=given).json())
    people.append((bearer(token.token), user))
(ada, ada_user), (bob, _) = people[:2]

wanted = InitializeEvent(name="A concert", totalTickets=1).model_dump()
made = client.post("/api/events/initialize", json=wanted, headers=ada)
event = Event.model_validate(made.json())


def book(headers: dict[str, str], user: User) -> httpx.Response:
    body = {"eventId": event.id, "userId": str(user.id)}
    return client.post("/api/events/book", json=body, headers=headers)


answers = [book(*person) for person in people]
assert [each.status_code for each in answers] == [201, 202, 202]
bookings = [Booking.model_validate(each.json()) for each in answers]
assert [each.position for each in bookings] == [None, 1, 2]
assert [each.status for each in bookings[:2]] == [
    BookingStatus.BOOKING_STATUS_BOOKED,
    BookingStatus.BOOKING_STATUS_WAITING,
]

asked: dict[str, str | int] = {"limit": 2}
pages: list[AttendancePage] = []
while not pages or pages[-1].nextCursor is not None:
    shown = client.get(f"/api/events/{event.id}/bookings", params=asked, headers=ada)
    pages.append(AttendancePage.model_validate(shown.json()))
    asked["cursor"] = pages[-1].nextCursor or ""
assert [len(page.items) for page in pages] == [2, 1]

problem = BookTicketProblem.model_validate(book(ada, ada_user).json())
assert problem.code is BookTicketProblemCode.BOOK_TICKET_ALREADY_BOOKED

body = {"eventId": event.id, "userId": str(ada_user.id)}
given_up = client.post("/api/events/cancel", json=body, headers=ada)
cancelled = Booking.model_validate(given_up.json())
assert (cancelled.status, cancelled.promoted) == (BookingStatus.BOOKING_STATUS_CANCELLED, 1)
mine = BookingPage.model_validate(client.get("/api/users/me/bookings", headers=bob).json())
assert [each.status for each in mine.items] == [BookingStatus.BOOKING_STATUS_BOOKED]

keyed = ada | {"Idempotency-Key": "models-again"}
twice = [book(keyed, ada_user) for _ in range(2)]
assert Booking.model_validate(twice[0].json()) == Booking.model_validate(twice[1].json())
assert twice[1].headers["Idempotency-Replayed"] == "true"

program = MakeKey.model_validate({"name": "A program", "scopes": ["bookings:read"]})
issued = client.post("/api/users/me/keys", json=program.model_dump(mode="json"), headers=ada)
key = IssuedApiKey.model_validate(issued.json())
listed = client.get("/api/users/me/bookings", headers=bearer(key.key))
assert len(BookingPage.model_validate(listed.json()).items) == 2

wanted = InitializeEvent(name="A play", totalTickets=9).model_dump()
made = client.post("/api/events/initialize", json=wanted, headers=ada)
play = Event.model_validate(made.json())
to_call = {
    "url": "https://shop.example/ticketing",
    "eventId": play.id,
    "types": ["refund.recorded"],
}
webhook = IssuedWebhook.model_validate(
    client.post("/api/webhooks", json=to_call, headers=ada).json()
)
assert webhook.secret.startswith("whsec_")

kept = client.post("/api/holds", json={"eventId": play.id}, headers=ada)
hold = Hold.model_validate(kept.json())
assert hold.status is BookingStatus.BOOKING_STATUS_HELD
assert hold.expiresAt is not None
assert hold.expiresAt > hold.serverTime
now = Booking.model_validate(client.post(f"/api/holds/{hold.id}/confirm", headers=ada).json())
assert (now.id, now.status) == (hold.id, BookingStatus.BOOKING_STATUS_BOOKED)

happened: list[FeedEventType] = []
following: dict[str, str | int] = {"limit": 1, "wait": 5}
while FeedEventType.FEED_EVENT_TYPE_BOOKING_CONFIRMED not in happened:
    shown = client.get(f"/api/events/{play.id}/feed", params=following, headers=ada)
    feed = Feed.model_validate(shown.json())
    happened += [each.type for each in feed.items]
    assert feed.nextCursor is not None
    following["cursor"] = feed.nextCursor

owned = client.get(f"/api/bookings/{hold.id}/tickets", headers=ada)
ticket_id = Tickets.model_validate(owned.json()).items[0].id
ticket = TicketDetails.model_validate(client.get(f"/api/tickets/{ticket_id}", headers=ada).json())
for verdict in (Verdict.VERDICT_ADMITTED, Verdict.VERDICT_ALREADY_USED):
    scan = RecordScan.model_validate({"scanId": uuid4(), "code": ticket.code})
    sent = scan.model_dump(mode="json", exclude_unset=True)
    passed = client.post(f"/api/events/{play.id}/check-ins", json=sent, headers=ada)
    assert CheckIn.model_validate(passed.json()).verdict is verdict
