// The page at the door: it scans, decides with or without network, and uploads what happened.

import { read } from "./code.js";
import { judge, passed } from "./rules.js";
import { open, remove } from "./store.js";

const EVERY = 5000; // milliseconds between two looks for changes
const PATIENCE = 2500; // milliseconds for the answer to a scan
const AGAIN = 3000; // milliseconds for which the same code in front of the camera is one scan
const AT_ONCE = 150; // scans of an upload
const SHOWN = 20; // people who are shown by name
const WORDS = { admitted: "Welcome", left: "Goodbye", already_used: "Used", not_inside: "Not inside" };
// The person at the gate has only the key, and asks the organiser.
const KEY_REFUSED = {
  401: "This API key is unknown, expired or revoked. Ask the event's organiser for another key.",
  403: "This API key is not for the door of this event. Ask its organiser for a key with the scope door.",
};
const TONES = { admitted: [880, 0.12], used: [440, 0.35], refused: [180, 0.6] };

const on = (id) => document.getElementById(id);
const event = location.pathname.split("/").at(-1);
const api = new URL(`../api/events/${event}/`, location.href);
const state = { about: null, tickets: new Map(), journal: new Map(), ahead: 0 };
let store;
let key;
let sounds;

async function call(path, body) {
  const response = await fetch(new URL(path, api), {
    method: body ? "POST" : "GET",
    headers: { Authorization: `Bearer ${key}`, ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(path === "check-ins" ? PATIENCE : 30000),
  });
  const document = await response.json();
  if (response.ok) return document;
  const { status } = response;
  throw Object.assign(new Error(KEY_REFUSED[status] ?? document.detail), { status });
}

/** Whether the service refused. Otherwise it can't be reached, or has too much to do. */
const isRefusal = (error) => error.status >= 400 && error.status < 500 && error.status !== 429;

// What the device knows.

async function take(given) {
  const { items, ...about } = given;
  state.about = about;
  state.ahead = Date.now() / 1000 - about.now;
  await store.write("tickets", (tickets) => items.forEach((each) => tickets.put(each)));
  items.forEach((each) => state.tickets.set(each.id, each));
  // The service does not know yet what is in the journal.
  for (const each of state.journal.values()) apply(each);
}

async function load() {
  const isFirst = !state.isLoaded;
  if (isFirst) {
    let given = await call("door-manifest");
    await take(given);
    while (!given.isComplete) {
      given = await call(`door-manifest?page=${given.nextPage}`);
      await take(given);
    }
    state.isLoaded = true;
  }
  try {
    do {
      await take(await call(`door-manifest?since=${state.about.version}`));
    } while (!state.about.isComplete);
  } catch (error) {
    if (isFirst || error.status !== 422) throw error;
    // The database was restored from a backup, so all that the device knows may be wrong.
    await store.write("tickets", (tickets) => tickets.clear());
    state.tickets.clear();
    state.isLoaded = false;
    await load();
    return;
  }
  await store.set("about", state.about);
}

/** Let a scan of the journal count for this device. */
function apply({ ticketId, list, direction, gate, verdict, at }) {
  const ticket = state.tickets.get(ticketId);
  if (!ticket || !(verdict === "admitted" || verdict === "left")) return;
  state.tickets.set(ticketId, passed(ticket, { name: list }, direction, at, gate));
}

// Scans.

async function scan(what) {
  const rules = state.about.lists.find((each) => each.name === on("list").value);
  const direction = on("direction").value;
  const gate = (await store.get("gate")) || undefined;
  const asked = { scanId: crypto.randomUUID(), ...what, direction, list: rules.name, gate };
  asked.scannedAt = new Date().toISOString();
  if (navigator.onLine && state.online) {
    try {
      const told = await call("check-ins", asked);
      show(told.verdict, told.name, told.first && { ...told.first, at: Date.parse(told.first.at) });
      refresh();
      return;
    } catch (error) {
      if (isRefusal(error)) {
        show("refused", "", null, error.message);
        return;
      }
      mark(false);
    }
  }
  await decide(asked, rules);
}

/** Decide without network, and keep the scan for the upload. */
async function decide(asked, rules) {
  const { direction, gate } = asked;
  const at = Date.now() / 1000 - state.ahead;
  const code = asked.code === undefined ? null : await read(asked.code, state.about.keys);
  const ticket = state.tickets.get(asked.ticketId ?? code?.ticket) ?? null;
  const { event: of } = state.about;
  const isOurs = asked.code === undefined || code !== null;
  const verdict = isOurs
    ? judge({ event: of, rules, ticket, code, direction, at, offline: true })
    : "invalid_code";
  const entry = { ...asked, verdict };
  await store.write("journal", (journal) => journal.put({ ...entry, at, of: ticket?.id }));
  state.journal.set(entry.scanId, { ...entry, at, ticketId: ticket?.id });
  const use = ticket?.uses[rules.name];
  apply(state.journal.get(entry.scanId));
  show(verdict, ticket?.name, verdict === "already_used" && use && { ...use, at: use.at * 1000 });
  count();
}

async function upload() {
  while (state.journal.size) {
    const entries = [...state.journal.values()].slice(0, AT_ONCE);
    const items = (await store.all("journal"))
      .filter(({ scanId }) => entries.some((each) => each.scanId === scanId))
      .map(({ at: _at, of: _of, ...item }) => item);
    const { items: told } = await call("check-ins/bulk", { sentAt: new Date().toISOString(), items });
    const bad = told.filter((each) => each.error);
    const recorded = told.filter((each) => each.checkIn);
    const conflicts = recorded.filter((each) => each.checkIn.conflict);
    // The others stay on the device, and are sent again when the page is opened again.
    await store.write("journal", (journal) =>
      recorded.forEach(({ scanId }) => journal.delete(scanId)),
    );
    told.forEach(({ scanId }) => state.journal.delete(scanId));
    if (bad.length || conflicts.length) {
      on("conflicts").textContent =
        `${conflicts.length} uploaded scans conflict with others, ${bad.length} were not recorded.`;
    }
  }
}

// What people see and hear.

function show(verdict, who, first, more) {
  const kind = ["admitted", "left"].includes(verdict)
    ? "admitted"
    : ["already_used", "not_inside"].includes(verdict)
      ? "used"
      : "refused";
  const result = on("result");
  result.dataset.kind = kind;
  result.dataset.verdict = verdict;
  on("word").textContent = WORDS[verdict] ?? "Refused";
  on("who").textContent = who ?? "";
  const when = first
    ? ` ${new Date(first.at).toLocaleTimeString()}${first.gate ? `, ${first.gate}` : ""}.`
    : "";
  on("say").textContent = (more ?? state.about.say[verdict] ?? "") + when;
  beep(TONES[kind]);
}

function beep([frequency, seconds]) {
  if (!sounds) return;
  const tone = sounds.createOscillator();
  tone.frequency.value = frequency;
  tone.connect(sounds.destination);
  tone.start();
  tone.stop(sounds.currentTime + seconds);
}

function mark(online) {
  state.online = online;
  on("network").textContent = online ? "Online." : "No network.";
  on("network").dataset.online = online;
}

function count() {
  const list = on("list").value;
  const tickets = [...state.tickets.values()].filter((each) => each.status === "valid");
  const used = tickets.filter((each) => each.uses[list]).length;
  on("counts").textContent = `${used} of ${tickets.length} came in.`;
  const waiting = state.journal.size;
  const scans = waiting === 1 ? "1 scan waits" : `${waiting} scans wait`;
  on("waiting").textContent = waiting ? `${scans} for network.` : "";
}

function find() {
  const wanted = on("name").value.trim().toLowerCase();
  const found = wanted
    ? [...state.tickets.values()].filter((each) => each.name?.toLowerCase().includes(wanted))
    : [];
  on("found").replaceChildren(
    ...found.slice(0, SHOWN).map((each) => {
      const item = document.createElement("li");
      const type = state.about.ticketTypes.find(({ id }) => id === each.type);
      const button = document.createElement("button");
      button.textContent = "Let in";
      button.onclick = () => scan({ ticketId: each.id });
      item.append(`${each.name}, ${type?.name ?? ""}`, button);
      return item;
    }),
  );
}

function present() {
  const { about } = state;
  on("event").textContent = about.event.name;
  document.title = `Door: ${about.event.name}`;
  const names = about.lists.map((each) => each.name);
  const known = [...on("list").options].map((each) => each.value);
  // A list that somebody is choosing from stays as it is.
  if (String(names) !== String(known)) {
    on("list").replaceChildren(...names.map((name) => new Option(name, name)));
  }
  const unknown = about.notJudgedOffline.map((each) => each.replace(" after `version`", ""));
  on("limits").textContent = `Without network this device does not learn of: ${unknown.join(", ")}.`;
  count();
}

// The camera.

async function watch() {
  const video = on("camera");
  try {
    const facing = { video: { facingMode: "environment" } };
    video.srcObject = await navigator.mediaDevices.getUserMedia(facing);
    await video.play();
  } catch {
    video.hidden = true;
    on("no-camera").hidden = false;
    return;
  }
  const detect = "BarcodeDetector" in window ? native() : drawn();
  let last = { code: "", at: 0 };
  for (;;) {
    const code = await detect(video).catch(() => null);
    const isNew = code && (code !== last.code || Date.now() - last.at > AGAIN);
    if (code) last = { code, at: Date.now() };
    if (isNew) await scan({ code });
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

function native() {
  const detector = new BarcodeDetector({ formats: ["qr_code"] });
  return async (video) => (await detector.detect(video))[0]?.rawValue;
}

function drawn() {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return async (video) => {
    if (!video.videoWidth) return null;
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    context.drawImage(video, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    return jsQR(data, canvas.width, canvas.height)?.data;
  };
}

// From the first load on.

let refreshing = null;

/** Upload and look for changes, one at a time. */
function refresh() {
  refreshing ??= (async () => {
    try {
      await upload();
      await load();
      mark(true);
      present();
    } catch (error) {
      mark(false);
      if (isRefusal(error)) on("network").textContent = error.message;
    }
    refreshing = null;
  })();
  return refreshing;
}

async function start() {
  on("setup").hidden = true;
  on("scanner").hidden = false;
  localStorage.setItem("door", event);
  present();
  setInterval(refresh, EVERY);
  addEventListener("online", refresh);
  addEventListener("offline", () => mark(false));
  // Browsers play sounds only after somebody has touched the page.
  addEventListener("pointerdown", () => (sounds ??= new AudioContext()), { once: true });
  watch();
}

async function begin() {
  if (event === "last") {
    const known = localStorage.getItem("door");
    if (known) location.replace(`./${known}`);
    return;
  }
  navigator.serviceWorker?.register("./worker.js");
  store = await open(event);
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.get("key")) {
    await store.set("key", given.get("key"));
    if (given.get("gate")) await store.set("gate", given.get("gate"));
    history.replaceState(null, "", location.pathname);
  }
  key = await store.get("key");
  // It is written when everything is loaded.
  state.about = (await store.get("about")) ?? null;
  state.isLoaded = state.about !== null;
  for (const each of await store.all("tickets")) state.tickets.set(each.id, each);
  for (const each of await store.all("journal")) {
    state.journal.set(each.scanId, { ...each, ticketId: each.of });
    apply({ ...each, ticketId: each.of });
  }
  if (key && state.about) {
    await start();
    await refresh();
  } else if (key) {
    await enter();
  } else {
    on("setup").hidden = false;
  }
}

/** Load everything with the key for the first time. */
async function enter() {
  try {
    await load();
    await store.set("key", key);
    mark(true);
    await start();
  } catch (error) {
    on("setup").hidden = false;
    on("failure").textContent = error.message;
  }
}

on("setup").onsubmit = async (submitted) => {
  submitted.preventDefault();
  key = on("key").value.trim();
  await store.set("gate", on("gate").value.trim());
  await enter();
};
on("name").oninput = find;
on("list").onchange = count;
on("leave").onclick = async () => {
  if (state.journal.size && !confirm("Scans were not uploaded yet. Remove them?")) return;
  store.close();
  await remove(event);
  localStorage.removeItem("door");
  location.reload();
};
begin();
