// The service worker of the door page: the page and what it loads work without network.

const CACHE = "door-1";
const PAGE = "./last";
const FILES = [
  PAGE,
  ...["app.js", "rules.js", "code.js", "store.js", "door.css", "app.webmanifest", "icon.svg"].map(
    (name) => `../static/door/${name}`,
  ),
  "../static/jsqr/jsQR.js",
  "../static/swagger-ui/favicon-32x32.png",
];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  const isOurs = origin === self.location.origin && /\/(door|static)\//.test(pathname);
  if (request.method !== "GET" || !isOurs) return;
  event.respondWith(newest(request));
});

/** Return the file from the service, or without network the one that was stored last. */
async function newest(request) {
  const stored = request.mode === "navigate" ? PAGE : request;
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(stored, response.clone());
    return response;
  } catch {
    return (await cache.match(stored, { ignoreVary: true })) ?? Response.error();
  }
}
