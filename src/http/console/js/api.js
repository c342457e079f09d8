// Asking the REST API: one request with a deadline, errors sorted by what a person can do about them.

const TIMEOUT_MS = 8000;
const TOKEN_KEY = "streamward.token";

let token = readToken();
/** How many tokens were given since the page was opened. */
let given = 0;

function readToken() {
  try {
    return sessionStorage.getItem(TOKEN_KEY) ?? "";
  } catch {
    return "";
  }
}

export const currentToken = () => token;

/** Uses `next` as bearer token from now on; it is kept for this browser tab only. */
export function useToken(next) {
  token = next.trim();
  given += 1;
  try {
    sessionStorage.setItem(TOKEN_KEY, token);
  } catch {
    // Without storage the token holds until the page is closed.
  }
}

/**
 * `kind`: unreachable (no answer), unauthorized (401), forbidden (403), missing (404), refused (409, 422), failed (any other status or a bad body).
 * `faults`: `[{field, message}]`, which fields of the body were refused; a field within an object as `backoff.max`.
 * `refused`: of an unauthorized request which token it had: 0 none, else the number of the token, those of this page counted from 2.
 */
export class ApiError extends Error {
  constructor(kind, path, message, { faults = [], refused = 0 } = {}) {
    super(message);
    this.kind = kind;
    this.path = path;
    this.faults = faults;
    this.refused = refused;
  }
}

const KINDS = { 401: "unauthorized", 403: "forbidden", 404: "missing", 409: "refused", 422: "refused" };

/** The JSON body of `GET path`. */
export const get = (path, options) => call("GET", path, undefined, options);

/** The JSON body of an answer to `method path`; `content` is sent as JSON. */
export const call = (method, path, content, options) => callWith(method, path, content === undefined ? undefined : JSON.stringify(content), options);

/** As `call`, with a body that is JSON text already. `alsoGood` is a status of which the body is an answer as well. */
export async function callWith(method, path, text, { timeoutMs = TIMEOUT_MS, alsoGood = null } = {}) {
  const refused = token ? given + 1 : 0;
  const response = await send(method, path, text, timeoutMs);
  const body = await response.json().catch(() => null);
  if (!response.ok && response.status !== alsoGood) throw new ApiError(KINDS[response.status] ?? "failed", path, describe(response, body), { faults: faultsOf(body), refused });
  if (body === null || typeof body !== "object") throw new ApiError("failed", path, "The answer is not JSON.");
  return body;
}

async function send(method, path, text, timeoutMs) {
  const headers = { Accept: "application/json" };
  if (text !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    return await fetch(path, { method, headers, body: text, cache: "no-store", signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    const reason = error.name === "TimeoutError" ? `no answer within ${timeoutMs / 1000} s` : "no connection";
    throw new ApiError("unreachable", path, reason);
  }
}

/** The problem+json text of an error answer, else its status. */
function describe(response, body) {
  if (Array.isArray(body?.detail)) return body.detail.map(({ msg }) => msg).join("; ");
  const text = [body?.title, body?.detail].filter((part) => typeof part === "string").join(": ");
  return text || `status ${response.status}`;
}

const faultsOf = (body) => (Array.isArray(body?.detail) ? body.detail.map(({ loc, msg }) => ({ field: loc.slice(1).join("."), message: msg })) : []);
