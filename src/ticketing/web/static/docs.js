"use strict";

/** Swagger UI in this page, which follows the system's colours. */

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

/** Returns the JSON of a path of this service, or undefined if the service refuses. */
async function ask(path, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { headers }).catch(() => undefined);
  return response?.ok ? response.json() : undefined;
}

/** Returns ids that work in a request: the caller's own, the newest event's and its first type's. */
async function existing(token) {
  const [me, events] = await Promise.all([
    token && ask("api/users/me", token),
    ask("api/events?limit=100"),
  ]);
  const newest = events?.items ?? [];
  const event = newest.find((each) => each.organiserId === me?.id) ?? newest[0];
  return { userId: me?.id, eventId: event?.id, ticketTypeId: event?.ticketTypes[0]?.id };
}

/** Fills the requests with ids that exist, so that the first Execute of each works. */
function Examples() {
  let ids = {};
  let filling = Promise.resolve();

  function fillIn(part) {
    if (part === null || typeof part !== "object") return;
    for (const [name, id] of Object.entries(ids)) {
      if (id === undefined) continue;
      if (part.properties?.[name]) part.properties[name].examples = [id];
      // The example of a whole body.
      if (typeof part[name] === typeof id) part[name] = id;
    }
    if (part.in === "path" && part.name === "eventId") part.example = ids.eventId;
    Object.values(part).forEach(fillIn);
  }

  async function fill({ authSelectors, oas3Actions, oas3Selectors, specActions, specSelectors }) {
    const given = authSelectors.authorized();
    ids = await existing(
      given.getIn(["password", "token", "access_token"]) ?? given.getIn(["bearer", "value"]),
    );
    const opened = specSelectors.specResolvedSubtree([])?.toJS() ?? {};
    const untouched = Object.entries(opened.paths ?? {})
      .flatMap(([path, methods]) => Object.keys(methods).map((method) => [path, method]))
      .filter((operation) => !oas3Selectors.hasUserEditedBody(...operation));
    specActions.updateResolvedSubtree([], opened);
    for (const pathMethod of untouched) {
      oas3Actions.setRequestBodyValue({ pathMethod, value: undefined });
    }
  }

  // One after the other, because the last one knows who is logged in.
  const refill = (system) => (filling = filling.then(() => fill(system.getSystem())));

  return {
    statePlugins: {
      auth: {
        wrapActions: {
          // Each way to log in or out ends with this action.
          persistAuthorizationIfNeeded: (persist, system) => () => {
            persist();
            refill(system);
          },
        },
      },
      spec: {
        wrapActions: {
          updateUrl: (update, system) => (url) => {
            refill(system);
            return update(url);
          },
          updateResolvedSubtree: (update) => (path, value) => {
            fillIn(value);
            return update(path, value);
          },
          setResponse: (set, system) => (path, method, response) => {
            if (path === "/api/events/initialize" && response.status === 201) refill(system);
            return set(path, method, response);
          },
        },
      },
    },
  };
}

/** Lets people log in with a password. The document itself has only the scheme for tokens. */
function Passwords() {
  function withPassword(api) {
    const flow = { tokenUrl: "api/users/token", scopes: {} };
    const password = { type: "oauth2", flows: { password: flow } };
    const paths = structuredClone(api.paths);
    for (const operation of Object.values(paths).flatMap((item) => Object.values(item))) {
      if (operation.security.length > 0) operation.security.unshift({ password: [] });
    }
    const securitySchemes = { password, ...api.components.securitySchemes };
    return { ...api, paths, components: { ...api.components, securitySchemes } };
  }

  const wrapActions = { updateJsonSpec: (update) => (api) => update(withPassword(api)) };
  return { statePlugins: { spec: { wrapActions } } };
}

/** Shows the service's own error detail in the Authorize dialog. */
function Refusals() {
  const inWords = (message) =>
    message
      .replace(/^TypeError: .*/, "The service did not respond. Try again.")
      .replace(/^Error: /, "");

  return {
    wrapComponents: {
      authError: (_, { React }) => ({ error }) =>
        React.createElement("div", { className: "errors", role: "alert" }, error.get("message")),
    },
    statePlugins: {
      err: {
        wrapActions: {
          // A warning appears only in the dialog; an error also appears above the page.
          newAuthErr: (tell) => (error) =>
            tell({ ...error, level: "warning", message: inWords(error.message) }),
        },
      },
    },
  };
}

/**
 * Gives Swagger UI only what it resolves: one operation, and all that this refers to. Whenever a
 * person opens an operation, Swagger UI would read the whole document again, which takes seconds.
 */
function Excerpts({ fn: { resolveSubtree } }) {
  return {
    fn: {
      resolveSubtree: (api, path, options) =>
        resolveSubtree(path.length > 0 ? excerpt(api, path) : api, path, options),
    },
  };
}

/** Returns what is at the path, and at all references from there, at the same places. */
function excerpt({ openapi, info, ...api }, path) {
  const part = { openapi, info };
  const seen = new Set();

  function copy(names) {
    const place = JSON.stringify(names);
    if (seen.has(place)) return;
    seen.add(place);
    const value = names.reduce((from, name) => from?.[name], api);
    if (value === undefined) return;
    let into = part;
    for (const name of names.slice(0, -1)) into = into[name] ??= {};
    into[names.at(-1)] = value;
    follow(value);
  }

  function follow(value) {
    if (typeof value === "string" && value.startsWith("#/")) {
      const names = value.slice(2).split("/");
      copy(names.map((name) => decodeURIComponent(name).replace(/~1/g, "/").replace(/~0/g, "~")));
    } else if (value !== null && typeof value === "object") {
      Object.values(value).forEach(follow);
    }
  }

  copy(path);
  return part;
}

/** Puts the detail of a failed login into the status text, because Swagger UI shows only that. */
function keepDetail(response) {
  if (!response.ok && response.url.endsWith("/api/users/token")) {
    try {
      response.statusText = JSON.parse(response.text).detail;
    } catch {
      // The response comes from a proxy, not from the service.
    }
  }
  return response;
}

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [Examples, Passwords, Refusals, Excerpts],
  responseInterceptor: keepDetail,
});
