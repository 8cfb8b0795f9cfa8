// Three people and an event with one place, with a client of openapi-generator (typescript-fetch).
import assert from "node:assert/strict";
import {
  BookingStatus,
  BookingsApi,
  BookTicketProblemCode,
  BookTicketProblemFromJSON,
  Configuration,
  EventsApi,
  KeysApi,
  ResponseError,
  Scope,
  SessionsApi,
  UsersApi,
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
