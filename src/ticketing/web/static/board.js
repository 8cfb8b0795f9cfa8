"use strict";

/**
 * The board of an event: what it has sold, and how fast. Numbers arrive by a live stream. Without an
 * event in its address, the page shows the events of the person.
 */

const event = location.pathname.match(/\/board\/(\d+)$/)?.[1];
const api = (path) => new URL(`../api/${path}`, location.href);
const part = (id) => document.getElementById(id);
const number = new Intl.NumberFormat();
const STATES = {
  draft: "Draft",
  scheduled: "Scheduled",
  open: "On sale",
  paused: "Paused",
  soldOut: "Sold out",
  closed: "Closed",
  ended: "Ended",
  cancelled: "Cancelled",
};
const STATS_EVERY = 5_000;
const MINUTES = 60;

/** The response was an error. */
class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? "The service did not respond as expected.");
    this.status = status;
  }
}

/** The tokens of this tab. They are gone when it is closed. */
const session = {
  get tokens() {
    return JSON.parse(sessionStorage.getItem("session") ?? "null");
  },
  set tokens(given) {
    if (given === null) sessionStorage.removeItem("session");
    else sessionStorage.setItem("session", JSON.stringify(given));
  },
};

async function send(path, { method = "GET", body, token, signal, key } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const response = await fetch(api(path), {
    method,
    headers,
    body: body && JSON.stringify(body),
    signal,
    cache: "no-store",
  });
  if (response.ok) return response;
  throw new Refused(response.status, await response.json().catch(() => undefined));
}

/** A tab that was copied has the same refresh token. With the same key both get the next one. */
async function keyOf(text) {
  if (!crypto.subtle) return undefined;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

let refreshing;

function refresh() {
  refreshing ??= (async () => {
    const { refreshToken } = session.tokens ?? {};
    if (!refreshToken) throw new Refused(401);
    const key = await keyOf(refreshToken);
    const options = { method: "POST", body: { refreshToken }, key };
    const given = await (await send("users/refresh", options)).json();
    session.tokens = { token: given.token, refreshToken: given.refreshToken };
  })().finally(() => (refreshing = undefined));
  return refreshing;
}

/** Sends a request as the person, with a new token if this one has expired. */
async function ask(path, options = {}) {
  const used = session.tokens?.token;
  try {
    return await send(path, { ...options, token: used });
  } catch (error) {
    if (error.status !== 401) throw error;
    if (session.tokens?.token === used) await refresh();
    return send(path, { ...options, token: session.tokens?.token });
  }
}

const shown = { live: undefined, stats: undefined, name: "" };

function put(id, text) {
  // Unchanged text is left alone, so that screen readers do not say it again.
  if (part(id).textContent !== text) part(id).textContent = text;
}

function row(head, cells) {
  const made = document.createElement("tr");
  const first = document.createElement("th");
  first.scope = "row";
  first.textContent = head;
  made.append(first);
  for (const cell of cells) made.insertCell().textContent = number.format(cell);
  return made;
}

function money(amount, currency) {
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
  return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
}

/** The types as the last statistics have them, with the numbers that the stream has. */
function types() {
  const live = new Map(shown.live?.ticketTypes);
  return shown.stats.ticketTypes.map((type) => {
    const now = live.get(type.ticketTypeId);
    if (!now) return type;
    const sold = Math.max(0, now.taken - type.held - type.offered);
    return { ...type, sold, waiting: now.waiting, available: now.available };
  });
}

function showState(state) {
  if (part("state").dataset.state !== state) {
    if (part("state").dataset.state) put("said", `The sale is now: ${STATES[state] ?? state}.`);
    part("state").dataset.state = state;
  }
  put("state", STATES[state] ?? state);
  part("state").className = state;
  part("state").hidden = false;
  const button = part("switch");
  button.hidden = !["open", "soldOut", "scheduled", "paused"].includes(state);
  button.dataset.to = state === "paused" ? "resume" : "pause";
  put("switch", state === "paused" ? "Resume the sale" : "Pause the sale");
}

function show() {
  const { live, stats } = shown;
  if (!stats) return;
  const all = types();
  const sum = (name) => all.reduce((total, type) => total + type[name], 0);
  showState(live?.state ?? stats.state);
  put("sold", number.format(sum("sold")));
  put("left", number.format(live?.availableTickets ?? stats.availableTickets));
  put("waiting", number.format(sum("waiting")));
  showOffers(stats.offers);
  const earns = stats.currency !== null && all.every((type) => type.revenue !== null);
  part("earned").hidden = !earns;
  if (earns) put("revenue", money(sum("revenue"), stats.currency));
  part("types").replaceChildren(
    ...all.map((type) =>
      row(
        type.name,
        ["sold", "held", "offered", "waiting", "available", "checkedIn"].map((name) => type[name]),
      ),
    ),
  );
  const at = new Date(live?.at ?? stats.at);
  part("at").dateTime = at.toISOString();
  put("at", at.toLocaleTimeString());
}

function showOffers({ open, ending, nextEndsAt }) {
  put("offers", number.format(open));
  let words = "";
  if (nextEndsAt) {
    const minutes = Math.max(0, Math.ceil((new Date(nextEndsAt) - Date.now()) / 60_000));
    words = `${number.format(ending)} end within ten minutes, the next in ${minutes} min`;
  }
  put("ending", words);
  part("ending").className = ending ? "soon" : "";
}

function showChart({ series, at }) {
  const steps = new Map(series.map((step) => [new Date(step.at).getTime(), step]));
  const now = Math.floor(new Date(at) / 60_000) * 60_000;
  const minutes = Array.from({ length: MINUTES }, (_, back) => {
    const begins = now - (MINUTES - 1 - back) * 60_000;
    return { begins, bookings: 0, cancels: 0, waiting: 0, ...steps.get(begins) };
  });
  const most = Math.max(1, ...minutes.map((minute) => minute.bookings));
  part("bars").replaceChildren(
    ...minutes.map(({ bookings }, place) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const height = (150 * bookings) / most;
      const numbers = { x: place * 10 + 1, y: 160 - height, width: 8, height };
      for (const [name, value] of Object.entries(numbers)) bar.setAttribute(name, value);
      return bar;
    }),
  );
  const total = minutes.reduce((sum, minute) => sum + minute.bookings, 0);
  // This minute has only begun, and the one before may be from before the sale.
  put("rate", number.format(Math.max(minutes.at(-1).bookings, minutes.at(-2).bookings)));
  put("chart-said", `${number.format(total)} in this hour, at most ${number.format(most)} a minute`);
  part("minutes").replaceChildren(
    ...minutes
      .slice(-10)
      .reverse()
      .map(({ begins, bookings, cancels, waiting }) =>
        row(new Date(begins).toLocaleTimeString([], { timeStyle: "short" }), [
          bookings,
          cancels,
          waiting,
        ]),
      ),
  );
}

/** Takes a message of the stream. */
function take(name, data) {
  if (name === "availability") {
    shown.live = { ...data, ticketTypes: data.ticketTypes.map((type) => [type.id, type]) };
  } else if (name === "change" && shown.live) {
    const changed = new Map(shown.live.ticketTypes);
    for (const type of data.ticketTypes) changed.set(type.id, type);
    shown.live = { ...shown.live, ...data, ticketTypes: [...changed] };
  }
  show();
}

/** Follows the stream until it ends. Returns the milliseconds after which to come back. */
async function listen(signal) {
  const response = await ask(`events/${event}/live`, { signal });
  put("trouble", "");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let retry = 3_000;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return retry;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block.split("\n").map((line) => [line.split(":", 1)[0], line.replace(/^[^:]*: ?/, "")]),
      );
      if (fields.retry) retry = Number(fields.retry);
      if (fields.data) take(fields.event, JSON.parse(fields.data));
    }
  }
}

async function readStats() {
  shown.stats = await (await ask(`events/${event}/stats?interval=minute`)).json();
  show();
  showChart(shown.stats);
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Repeats the work until the board is left. After an error it waits longer each time. */
async function repeat(work, signal) {
  let failures = 0;
  while (!signal.aborted) {
    let wait;
    try {
      wait = await work();
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      if ([401, 403, 404].includes(error.status)) return leave(error.message);
      failures += 1;
      wait = Math.min(30_000, 1_000 * 2 ** failures);
      put("trouble", "No connection to the service. The numbers are old.");
    }
    await pause(wait);
  }
}

/** Lets the person choose one of the events that they own or work on. */
async function choose() {
  const { items } = await (await ask("users/me/events?limit=100")).json();
  part("mine").replaceChildren(
    ...items.map(({ id, name, startsAt, sale }) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = id;
      link.textContent = name;
      const day = startsAt && new Date(startsAt).toLocaleDateString(undefined, { dateStyle: "medium" });
      item.append(link, ` ${[day, STATES[sale.state] ?? sale.state].filter(Boolean).join(", ")}`);
      return item;
    }),
  );
  part("none").hidden = items.length > 0;
  put("trouble", "");
  part("events").hidden = part("controls").hidden = false;
}

let running;

async function open() {
  const now = (running = new AbortController());
  part("login").hidden = true;
  if (!event) return choose().catch((error) => leave(error.message));
  try {
    const found = await (await ask(`events/${event}`)).json();
    await readStats();
    put("name", found.name);
    document.title = `ticketing: ${found.name}`;
  } catch (error) {
    return leave(error.message);
  }
  put("trouble", "");
  part("board").hidden = part("controls").hidden = false;
  repeat(() => listen(now.signal), now.signal);
  repeat(async () => {
    // Nobody looks at a tab in the background.
    if (document.visibilityState === "visible") await readStats();
    return STATS_EVERY;
  }, now.signal);
}

/** Shows the form to log in, with a reason. */
function leave(reason) {
  running?.abort();
  session.tokens = null;
  shown.live = shown.stats = undefined;
  part("board").hidden = part("controls").hidden = part("state").hidden = true;
  part("events").hidden = true;
  part("login").hidden = false;
  put("name", "Board");
  put("trouble", reason ?? "");
  part("username").focus();
}

part("login").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const button = submitted.target.querySelector("button");
  button.disabled = true;
  const body = { username: part("username").value, password: part("password").value };
  try {
    const given = await (await send("users/login", { method: "POST", body })).json();
    session.tokens = { token: given.token, refreshToken: given.refreshToken };
    part("password").value = "";
    await open();
  } catch (error) {
    put("trouble", error instanceof Refused ? error.message : "The service did not respond.");
  }
  button.disabled = false;
});

part("switch").addEventListener("click", async ({ currentTarget }) => {
  currentTarget.disabled = true;
  try {
    await ask(`events/${event}/${currentTarget.dataset.to}`, { method: "POST" });
    put("trouble", "");
  } catch (error) {
    put("trouble", error.message);
  }
  currentTarget.disabled = false;
});

part("logout").addEventListener("click", async () => {
  await ask("users/logout", { method: "POST", body: {} }).catch(() => undefined);
  leave();
});

if (session.tokens) open();
else leave();
