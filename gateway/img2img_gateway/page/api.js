/** The gateway's API: requests with the session's token, errors with the sentence that the gateway says. */
import { errors as text } from "./strings.js";

/**
 * A refusal: `message` is for people; `field` and `allowed` are what is wrong, and what to send instead; `errors` all
 * fields that are wrong, where several are.
 */
export class ApiError extends Error {
  constructor(status, said = {}) {
    super(said.detail || text.status(status));
    this.status = status;
    this.field = said.field;
    this.allowed = said.allowed;
    this.errors = said.errors;
  }
}

let csrf = null;
let whenSignedOut = () => {};
let isAway = false;
let whenAway = () => {};

/** Have `listener` told when the session is over. */
export const onSignedOut = (listener) => (whenSignedOut = listener);

/** Have `listener` told whether the gateway is away, whenever that changes. */
export const onAway = (listener) => (whenAway = listener);

/** What the window hears when the gateway answers again: what could not be loaded meanwhile may be there now. */
export const BACK = "gateway-back";

function setAway(next) {
  if (next === isAway) return;
  isAway = next;
  whenAway(next);
  if (!next) dispatchEvent(new Event(BACK));
}

/** What may have taken effect all the same: no answer, a proxy's word for that, and a farm of which nobody knows. */
const UNKNOWN = [0, 502, 503, 504];
/** Milliseconds after which such a call is repeated. */
const PAUSES = [500, 1000, 2000];

/**
 * What the gateway answers: JSON as a value, anything else as a Blob, nothing as null.
 *
 * `body` is sent as JSON; `form` (FormData) or `data` (Blob) as it is. `parse` reads JSON. Throws an ApiError; status 0: no answer.
 * What changes something has a key, by which a repeat takes no further effect and is answered as the first was.
 */
export async function call(method, path, options = {}) {
  if (method === "GET") return callAllowed(method, path, options);
  const headers = { "Idempotency-Key": randomKey(), ...options.headers };
  for (const pause of PAUSES) {
    try {
      return await callAllowed(method, path, { ...options, headers });
    } catch (error) {
      if (!UNKNOWN.includes(error.status)) throw error;
    }
    await new Promise((done) => setTimeout(done, pause));
  }
  return callAllowed(method, path, { ...options, headers });
}

const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

async function callAllowed(method, path, options) {
  const before = csrf;
  try {
    return await callOnce(method, path, options);
  } catch (error) {
    if (error.status !== 403 || method === "GET" || !before) throw error;
    await session(); // another tab has signed in anew
    if (csrf === before) throw error;
    return callOnce(method, path, options);
  }
}

async function callOnce(method, path, { body, form, data, headers = {}, signal, parse = JSON.parse } = {}) {
  const sent = { "X-Page": "1", ...headers };
  if (csrf && method !== "GET") sent["X-CSRF-Token"] = csrf;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  let answer;
  try {
    const content = body === undefined ? (form ?? data) : JSON.stringify(body);
    response = await fetch(path, { method, headers: sent, body: content, signal, credentials: "same-origin" });
    answer = await read(response, parse);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    setAway(true);
    throw new ApiError(0, { detail: text.away });
  }
  setAway(false);
  if (response.ok) return answer;
  if (response.status === 401) whenSignedOut();
  throw new ApiError(response.status, answer instanceof Blob ? {} : (answer ?? {}));
}

async function read(response, parse) {
  if (response.status === 204) return null;
  const kind = response.headers.get("content-type") ?? "";
  return kind.includes("json") ? parse(await response.text()) : response.blob();
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, body, options) => call("POST", path, { ...options, body });
export const put = (path, body, options) => call("PUT", path, { ...options, body });
export const remove = (path, options) => call("DELETE", path, options);

/** Who is signed in: {tenant, owner, csrf, operates, priority}. Throws with status 401 where nobody is. */
export async function session() {
  const found = await get("/v1/session");
  csrf = found.csrf;
  return found;
}

/** Sign in with an API key, or with the operator's user:password; gives what `session` does. */
export async function signIn(secret) {
  const utf8 = String.fromCharCode(...new TextEncoder().encode(secret));
  const authorization = secret.includes(":") ? `Basic ${btoa(utf8)}` : `Bearer ${utf8}`;
  const found = await post("/v1/session", undefined, { headers: { Authorization: authorization } });
  csrf = found.csrf;
  return found;
}

export async function signOut() {
  await remove("/v1/session");
  csrf = null;
  whenSignedOut();
}

/**
 * Follow a stream of server-sent events until the function that is given back is called.
 *
 * `listeners` are by the events' names, and get their data; `onAgain` is called when it goes on after a break, `onError`
 * when it breaks. Nothing is followed while the tab is hidden, since a browser has six connections to a host; `address`
 * is asked again for where to go on.
 */
export function follow(address, listeners, { onAgain = () => {}, onError = () => {} } = {}) {
  let source = null;
  let retry;
  let wasOpen = false;
  let failures = 0;
  const open = () => {
    source = new EventSource(address());
    source.onopen = () => {
      failures = 0;
      setAway(false);
      if (wasOpen) onAgain();
      wasOpen = true;
    };
    source.onerror = () => {
      onError();
      failures += 1;
      // one failure is how a stream ends that has lasted long enough
      if (failures > 1) setAway(true);
      // the browser tries again by itself, but not after an answer that was no stream
      if (source?.readyState !== EventSource.CLOSED) return;
      session().catch(() => {}); // it may have been a key that is no longer good
      retry = setTimeout(reopen, 3000);
    };
    for (const [name, listener] of Object.entries(listeners)) {
      source.addEventListener(name, (event) => listener(JSON.parse(event.data), event.lastEventId));
    }
  };
  const close = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
  };
  const reopen = () => {
    close();
    if (!document.hidden) open();
  };
  document.addEventListener("visibilitychange", reopen);
  reopen();
  return () => {
    document.removeEventListener("visibilitychange", reopen);
    close();
  };
}
