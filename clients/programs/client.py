"""Three people and an event with one place, with a client of openapi-python-client."""

import sys
from uuid import uuid4

from ticketing_client import AuthenticatedClient, Client
from ticketing_client.api.bookings import (
    book_ticket,
    cancel_ticket,
    list_event_bookings,
    list_my_bookings,
)
from ticketing_client.api.door import check_in
from ticketing_client.api.events import initialize_event
from ticketing_client.api.feed import read_event_feed
from ticketing_client.api.holds import confirm_hold, create_hold
from ticketing_client.api.keys import make_key
from ticketing_client.api.sessions import login
from ticketing_client.api.tickets import (
    get_ticket,
    get_ticket_png,
    get_ticket_svg,
    get_tickets_pdf,
    list_tickets,
)
from ticketing_client.api.users import register
from ticketing_client.api.webhooks import create_webhook
from ticketing_client.models import (
    AttendancePage,
    Booking,
    BookingPage,
    BookingStatus,
    BookTicket,
    BookTicketProblem,
    BookTicketProblemCode,
    CancelTicket,
    CheckIn,
    CreateHold,
    CreateWebhook,
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
    Scope,
    TicketDetails,
    Tickets,
    Token,
    User,
    Verdict,
)
from ticketing_client.types import File

url = sys.argv[1]
nobody = Client(base_url=url)
people: list[tuple[AuthenticatedClient, User]] = []
for name in ("python-ada", "python-bob", "python-cleo"):
    password = "correct horse battery"
    user = register.sync(client=nobody, body=Register(username=name, password=password))
    assert isinstance(user, User), user
    token = login.sync(client=nobody, body=Login(username=name, password=password))
    assert isinstance(token, Token), token
    people.append((AuthenticatedClient(base_url=url, token=token.token), user))
(ada, ada_user), (bob, _) = people[:2]

event = initialize_event.sync(client=ada, body=InitializeEvent(name="A concert", total_tickets=1))
assert isinstance(event, Event), event
event_id = event.id


def book(client: AuthenticatedClient, user: User) -> Booking:
    made = book_ticket.sync(client=client, body=BookTicket(event_id=event_id, user_id=user.id))
    assert isinstance(made, Booking), made
    return made


booked = book(ada, ada_user)
assert (booked.status, booked.position, booked.promoted) == (
    BookingStatus.BOOKING_STATUS_BOOKED,
    None,
    None,
)
for place, (client, user) in enumerate(people[1:], start=1):
    waiting = book(client, user)
    assert (waiting.status, waiting.position) == (BookingStatus.BOOKING_STATUS_WAITING, place)

first = list_event_bookings.sync(event_id, client=ada, limit=2)
assert isinstance(first, AttendancePage), first
assert len(first.items) == 2
assert isinstance(first.next_cursor, str)
rest = list_event_bookings.sync(event_id, client=ada, limit=2, cursor=first.next_cursor)
assert isinstance(rest, AttendancePage), rest
assert [each.username for each in rest.items] == ["python-cleo"]
assert rest.next_cursor is None

again = BookTicket(event_id=event_id, user_id=ada_user.id)
refused = book_ticket.sync(client=ada, body=again)
assert isinstance(refused, BookTicketProblem), refused
assert refused.code is BookTicketProblemCode.BOOK_TICKET_ALREADY_BOOKED

cancel = CancelTicket(event_id=event_id, user_id=ada_user.id)
cancelled = cancel_ticket.sync(client=ada, body=cancel)
assert isinstance(cancelled, Booking), cancelled
assert (cancelled.status, cancelled.promoted) == (BookingStatus.BOOKING_STATUS_CANCELLED, 1)
mine = list_my_bookings.sync(client=bob)
assert isinstance(mine, BookingPage), mine
assert [each.status for each in mine.items] == [BookingStatus.BOOKING_STATUS_BOOKED]

answers = [
    book_ticket.sync_detailed(client=ada, body=again, idempotency_key="python-again")
    for _ in range(2)
]
assert [each.status_code for each in answers] == [202, 202]
assert answers[0].parsed == answers[1].parsed
assert [each.headers.get("Idempotency-Replayed") for each in answers] == [None, "true"]

key = make_key.sync(client=ada, body=MakeKey(name="A program", scopes=[Scope.SCOPE_BOOKINGS_READ]))
assert isinstance(key, IssuedApiKey), key
listed = list_my_bookings.sync(client=AuthenticatedClient(base_url=url, token=key.key))
assert isinstance(listed, BookingPage), listed
assert len(listed.items) == 2

play = initialize_event.sync(client=ada, body=InitializeEvent(name="A play", total_tickets=9))
assert isinstance(play, Event), play
wanted = CreateWebhook(
    url="https://shop.example/ticketing",
    event_id=play.id,
    types=[FeedEventType.FEED_EVENT_TYPE_REFUND_RECORDED],
)
webhook = create_webhook.sync(client=ada, body=wanted)
assert isinstance(webhook, IssuedWebhook), webhook
assert webhook.secret.startswith("whsec_")

hold = create_hold.sync(client=ada, body=CreateHold(event_id=play.id))
assert isinstance(hold, Hold), hold
assert hold.status is BookingStatus.BOOKING_STATUS_HELD
assert hold.expires_at is not None
assert hold.expires_at > hold.server_time
confirmed = confirm_hold.sync(hold.id, client=ada)
assert isinstance(confirmed, Booking), confirmed
assert (confirmed.id, confirmed.status) == (hold.id, BookingStatus.BOOKING_STATUS_BOOKED)

happened: list[FeedEventType] = []
feed = read_event_feed.sync(play.id, client=ada, limit=1)
while FeedEventType.FEED_EVENT_TYPE_BOOKING_CONFIRMED not in happened:
    assert isinstance(feed, Feed), feed
    assert isinstance(feed.next_cursor, str)
    happened += [each.type_ for each in feed.items]
    feed = read_event_feed.sync(play.id, client=ada, limit=1, cursor=feed.next_cursor, wait=5)
assert happened == [
    FeedEventType.FEED_EVENT_TYPE_EVENT_CREATED,
    FeedEventType.FEED_EVENT_TYPE_BOOKING_HELD,
    FeedEventType.FEED_EVENT_TYPE_BOOKING_CONFIRMED,
]

tickets = list_tickets.sync(hold.id, client=ada)
assert isinstance(tickets, Tickets), tickets
ticket = get_ticket.sync(tickets.items[0].id, client=ada)
assert isinstance(ticket, TicketDetails), ticket
for picture, begin in (
    (get_ticket_svg.sync(ticket.id, client=ada), b"<"),
    (get_ticket_png.sync(ticket.id, client=ada), b"\x89PNG"),
    (get_tickets_pdf.sync(hold.id, client=ada), b"%PDF"),
):
    assert isinstance(picture, File)
    assert picture.payload.read(len(begin)) == begin

for verdict in (Verdict.VERDICT_ADMITTED, Verdict.VERDICT_ALREADY_USED):
    scan = RecordScan(scan_id=uuid4(), code=ticket.code)
    scanned = check_in.sync(play.id, client=ada, body=scan)
    assert isinstance(scanned, CheckIn), scanned
    assert scanned.verdict is verdict
