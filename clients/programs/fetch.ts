// Three people and an event with one place, with a client of openapi-generator (typescript-fetch).
import assert from "node:assert/strict";
import {
  BookingStatus,
  BookingsApi,
  BookTicketProblemCode,
  BookTicketProblemFromJSON,
  Configuration,
  DoorApi,
  EventsApi,
  FeedApi,
  FeedEventType,
  HoldsApi,
  KeysApi,
  ResponseError,
  Scope,
  SessionsApi,
  TicketsApi,
  UsersApi,
  Verdict,
  WebhooksApi,
} from "./generated/index.js";

const basePath = process.argv[2]!;
const as = (accessToken: string) => new Configuration({ basePath, accessToken });
const nobody = new Configuration({ basePath });
const people: { of: Configuration; bookings: BookingsApi; userId: string }[] = [];
for (const username of ["fetch-ada", "fetch-bob", "fetch-cleo"]) {
  const password = "correct horse battery";
  const user = await new UsersApi(nobody).register({ register: { username, password } });
  const { token } = await new SessionsApi(nobody).login({ login: { username, password } });
  people.push({ of: as(token), bookings: new BookingsApi(as(token)), userId: user.id });
}
const [ada, bob] = [people[0]!, people[1]!];

const event = await new EventsApi(ada.of).initializeEvent({
  initializeEvent: { name: "A concert", totalTickets: 1 },
});
const eventId = event.id;
for (const [place, { bookings, userId }] of people.entries()) {
  const answer = await bookings.bookTicketRaw({ bookTicket: { eventId, userId } });
  const booking = await answer.value();
  assert.equal(answer.raw.status, place === 0 ? 201 : 202);
  assert.equal(booking.status, place === 0 ? BookingStatus.BOOKING_STATUS_BOOKED : BookingStatus.BOOKING_STATUS_WAITING);
  assert.equal(booking.position, place === 0 ? null : place);
}

const first = await ada.bookings.listEventBookings({ eventId, limit: 2 });
assert.equal(first.items.length, 2);
const rest = await ada.bookings.listEventBookings({ eventId, limit: 2, cursor: first.nextCursor! });
assert.deepEqual([rest.items.length, rest.nextCursor], [1, null]);

const bookTicket = { eventId, userId: ada.userId };
try {
  await ada.bookings.bookTicket({ bookTicket });
  assert.fail("booked twice");
} catch (refused) {
  assert(refused instanceof ResponseError);
  assert.equal(refused.response.status, 409);
  const problem = BookTicketProblemFromJSON(await refused.response.json());
  assert.equal(problem.code, BookTicketProblemCode.BOOK_TICKET_ALREADY_BOOKED);
}

const cancelled = await ada.bookings.cancelTicket({ cancelTicket: bookTicket });
assert.deepEqual([cancelled.status, cancelled.promoted], [BookingStatus.BOOKING_STATUS_CANCELLED, 1]);
assert.equal((await bob.bookings.listMyBookings()).items[0]!.status, BookingStatus.BOOKING_STATUS_BOOKED);

const one = await ada.bookings.bookTicket({ bookTicket, idempotencyKey: "fetch-again" });
const two = await ada.bookings.bookTicketRaw({ bookTicket, idempotencyKey: "fetch-again" });
assert.deepEqual(await two.value(), one);
assert.equal(two.raw.headers.get("Idempotency-Replayed"), "true");

const makeKey = { name: "A program", scopes: [Scope.SCOPE_BOOKINGS_READ] };
const { key } = await new KeysApi(ada.of).makeKey({ makeKey });
assert.equal((await new BookingsApi(as(key)).listMyBookings()).items.length, 2);

const play = await new EventsApi(ada.of).initializeEvent({
  initializeEvent: { name: "A play", totalTickets: 9 },
});
const url = "https://shop.example/ticketing";
const types = [FeedEventType.FEED_EVENT_TYPE_REFUND_RECORDED];
const webhook = await new WebhooksApi(ada.of).createWebhook({ createWebhook: { url, types, eventId: play.id } });
assert(webhook.secret.startsWith("whsec_"));

const hold = await new HoldsApi(ada.of).createHold({ createHold: { eventId: play.id } });
assert.equal(hold.status, BookingStatus.BOOKING_STATUS_HELD);
assert(hold.expiresAt! > hold.serverTime);
const confirmed = await new HoldsApi(ada.of).confirmHold({ bookingId: hold.id });
assert.deepEqual([confirmed.id, confirmed.status], [hold.id, BookingStatus.BOOKING_STATUS_BOOKED]);

const happened: FeedEventType[] = [];
let cursor: string | undefined;
while (!happened.includes(FeedEventType.FEED_EVENT_TYPE_BOOKING_CONFIRMED)) {
  const page = await new FeedApi(ada.of).readEventFeed({ eventId: play.id, limit: 1, wait: 5, cursor });
  happened.push(...page.items.map((each) => each.type));
  cursor = page.nextCursor!;
}

const tickets = new TicketsApi(ada.of);
const ticketId = (await tickets.listTickets({ bookingId: hold.id })).items[0]!.id;
const { code } = await tickets.getTicket({ ticketId });
assert((await (await tickets.getTicketSvg({ ticketId })).text()).includes("<svg"));
assert.equal(await (await tickets.getTicketPng({ ticketId })).slice(1, 4).text(), "PNG");
assert.equal(await (await tickets.getTicketsPdf({ bookingId: hold.id })).slice(0, 4).text(), "%PDF");

for (const verdict of [Verdict.VERDICT_ADMITTED, Verdict.VERDICT_ALREADY_USED]) {
  const recordScan = { scanId: crypto.randomUUID(), code };
  const scanned = await new DoorApi(ada.of).checkIn({ eventId: play.id, recordScan });
  assert.equal(scanned.verdict, verdict);
}
