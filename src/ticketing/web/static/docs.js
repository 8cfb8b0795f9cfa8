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

/** Returns the ids with which a request works: the caller's own, and the newest event's. */
async function existing(token) {
  const [me, events] = await Promise.all([
    token && ask("api/users/me", token),
    ask("api/events?limit=100"),
  ]);
  const newest = events?.items ?? [];
  const event = newest.find((each) => each.organiserId === me?.id) ?? newest[0];
  return { userId: me?.id, eventId: event?.id };
}

/** Fills the requests with ids that exist, so that the first Execute of each works. */
function Examples() {
  let ids = {};
  let filling = Promise.resolve();

  function fillIn(part) {
    if (part === null || typeof part !== "object") return;
    for (const [name, id] of Object.entries(ids)) {
      if (id !== undefined && part.properties?.[name]) part.properties[name].examples = [id];
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

  // One after the other: the last one knows best who is logged in.
  const refill = (system) => (filling = filling.then(() => fill(system.getSystem())));

  return {
    statePlugins: {
      auth: {
        wrapActions: {
          // What each way to log in, and to log out, ends with.
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

/** Lets people log in with a password. Programs have one scheme only: the token that they have. */
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

/** Says in the Authorize dialog why the service refused, in the words of the service. */
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
          // A warning is shown in the dialog only; an error, above the page as well.
          newAuthErr: (tell) => (error) =>
            tell({ ...error, level: "warning", message: inWords(error.message) }),
        },
      },
    },
  };
}

/** Has a refusal to log in keep its detail, of which Swagger UI shows the status' text only. */
function keepDetail(response) {
  if (!response.ok && response.url.endsWith("/api/users/token")) {
    try {
      response.statusText = JSON.parse(response.text).detail;
    } catch {
      // It is not of the service, but of a proxy before it.
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
  plugins: [Examples, Passwords, Refusals],
  responseInterceptor: keepDetail,
});
