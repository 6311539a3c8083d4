// Calls the service: the key, errors as problem details, and what a key is needed for.

const KEY = "relevance.key";

export const config = { keys: { score: false, metrics: false, admin: false }, admin: false, reports: false, loading: false };

/** An answer that is not 2xx: `status`, `reason` and a message for people. */
export class ServiceError extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** The key of this tab; null where there is none. */
export const key = {
  get value() {
    return sessionStorage.getItem(KEY);
  },
  set value(secret) {
    if (secret) sessionStorage.setItem(KEY, secret);
    else sessionStorage.removeItem(KEY);
    document.dispatchEvent(new Event("key"));
  },
};

/** Read what the page must know before its first request. */
export async function readConfig() {
  Object.assign(config, await (await fetch("page/config")).json());
}

/**
 * Call a route. `scope` says which key it needs; without such a key nothing is sent, and people are asked for one.
 * Returns `{ data, headers, milliseconds }`; `data` is parsed JSON, or text. Throws ServiceError.
 */
export async function call(path, { scope = "score", method = "GET", body, headers = {}, signal } = {}) {
  if (config.keys[scope] && !key.value) {
    ask(`A key of scope ${scope} is needed here.`);
    throw new ServiceError(401, "unauthorized", `A key of scope ${scope} is needed here.`);
  }
  const sent = { ...headers };
  if (key.value) sent.Authorization = `Bearer ${key.value}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const began = performance.now();
  const answer = await reach(path, { method, headers: sent, body: body && JSON.stringify(body), signal });
  const isJson = /json/.test(answer.headers.get("content-type") ?? "");
  const data = isJson ? await answer.json() : await answer.text();
  if (!answer.ok) throw refused(answer, data);
  return { data, headers: answer.headers, milliseconds: performance.now() - began };
}

async function reach(path, options) {
  try {
    return await fetch(path, { ...options, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "unreachable", "The service cannot be reached.");
  }
}

function refused(answer, data) {
  const error = new ServiceError(answer.status, data.reason ?? "unknown", data.detail ?? `Status ${answer.status}`);
  if (answer.status === 401) {
    key.value = null;
    ask(`${error.message}.`);
  }
  return error;
}

function ask(why) {
  document.dispatchEvent(new CustomEvent("key-needed", { detail: why }));
}
