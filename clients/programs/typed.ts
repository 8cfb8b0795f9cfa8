// Three people and an event with one place, with openapi-fetch and types of openapi-typescript.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated.js";

type Problem = components["schemas"]["BookTicketProblem"];
const baseUrl = process.argv[2]!;
const nobody = createClient<paths>({ baseUrl });
const as = (credential: string) =>
  createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${credential}` } });
const people: { api: ReturnType<typeof as>; userId: string }[] = [];
for (const username of ["typed-ada", "typed-bob", "typed-cleo"]) {
  const body = { username, password: "correct horse battery" };
  const user = await nobody.POST("/api/users/register", { body });
  const login = await nobody.POST("/api/users/login", { body });
  people.push({ api: as(login.data!.token), userId: user.data!.id });
}
const [ada, bob] = [people[0]!, people[1]!];

const made = await ada.api.POST("/api/events/initialize", {
  body: { name: "A concert", totalTickets: 1 },
});
const eventId = made.data!.id;
for (const [place, { api, userId }] of people.entries()) {
  const { data, response } = await api.POST("/api/events/book", { body: { eventId, userId } });
  const booking: components["schemas"]["Booking"] = data!;
  assert.equal(response.status, place === 0 ? 201 : 202);
  assert.equal(booking.status, place === 0 ? "booked" : "waiting");
  assert.equal(booking.position, place === 0 ? null : place);
}

const path = { eventId };
const first = await ada.api.GET("/api/events/{eventId}/bookings", {
  params: { path, query: { limit: 2 } },
});
assert.equal(first.data!.items.length, 2);
const rest = await ada.api.GET("/api/events/{eventId}/bookings", {
  params: { path, query: { limit: 2, cursor: first.data!.nextCursor! } },
});
assert.deepEqual([rest.data!.items.length, rest.data!.nextCursor], [1, null]);

const body = { eventId, userId: ada.userId };
const refused = await ada.api.POST("/api/events/book", { body });
assert.equal(refused.response.status, 409);
// The compiler knows every possible code, so that a misspelt one does not compile.
const already: Problem["code"] = "already_booked";
assert.equal(refused.error!.code, already);
switch (refused.error!.code) {
  case "already_booked":
    break;
  default:
    assert.fail();
}

const cancelled = await ada.api.POST("/api/events/cancel", { body });
assert.deepEqual([cancelled.data!.status, cancelled.data!.promoted], ["cancelled", 1]);
const mine = await bob.api.GET("/api/users/me/bookings");
assert.equal(mine.data!.items[0]!.status, "booked");

const params = { header: { "Idempotency-Key": "typed-again" } };
const one = await ada.api.POST("/api/events/book", { body, params });
const two = await ada.api.POST("/api/events/book", { body, params });
assert.deepEqual(two.data, one.data);
assert.equal(two.response.headers.get("Idempotency-Replayed"), "true");

const key = await ada.api.POST("/api/users/me/keys", {
  body: { name: "A program", scopes: ["bookings:read"] },
});
assert.equal((await as(key.data!.key).GET("/api/users/me/bookings")).data!.items.length, 2);

const play = await ada.api.POST("/api/events/initialize", { body: { name: "A play", totalTickets: 9 } });
const playPath = { eventId: play.data!.id };
const webhook = await ada.api.POST("/api/webhooks", {
  body: { url: "https://shop.example/ticketing", types: ["refund.recorded"], ...playPath },
});
assert(webhook.data!.secret.startsWith("whsec_"));

const { data: hold } = await ada.api.POST("/api/holds", { body: playPath });
assert.equal(hold!.status, "held");
assert(new Date(hold!.expiresAt!) > new Date(hold!.serverTime));
const bookingPath = { bookingId: hold!.id };
const confirmed = await ada.api.POST("/api/holds/{bookingId}/confirm", { params: { path: bookingPath } });
assert.deepEqual([confirmed.data!.id, confirmed.data!.status], [hold!.id, "booked"]);

const happened: components["schemas"]["FeedEventType"][] = [];
let cursor: string | undefined;
while (!happened.includes("booking.confirmed")) {
  const query = { limit: 1, wait: 5, cursor };
  const page = await ada.api.GET("/api/events/{eventId}/feed", { params: { path: playPath, query } });
  happened.push(...page.data!.items.map((each) => each.type));
  cursor = page.data!.nextCursor!;
}

const listed = await ada.api.GET("/api/bookings/{bookingId}/tickets", { params: { path: bookingPath } });
const ticketPath = { ticketId: listed.data!.items[0]!.id };
const ticket = await ada.api.GET("/api/tickets/{ticketId}", { params: { path: ticketPath } });
const svg = await ada.api.GET("/api/tickets/{ticketId}/code.svg", {
  params: { path: ticketPath },
  parseAs: "text",
});
assert(svg.data!.includes("<svg"));
const pdf = await ada.api.GET("/api/bookings/{bookingId}/tickets.pdf", {
  params: { path: bookingPath },
  parseAs: "blob",
});
assert.equal(await pdf.data!.slice(0, 4).text(), "%PDF");

for (const verdict of ["admitted", "already_used"]) {
  const scanned = await ada.api.POST("/api/events/{eventId}/check-ins", {
    params: { path: playPath },
    body: { scanId: crypto.randomUUID(), code: ticket.data!.code },
  });
  assert.equal(scanned.data!.verdict, verdict);
}
