// The service: one way to call it, one kind of failure, one way back after the login has ended.

// Milliseconds after which an answer is not waited for any more.
const PATIENCE = 30000;

// "offline" and "online", as far as the last call could tell.
export const connection = new EventTarget();

let isOffline = false;
let csrfToken = "";
let askForLogIn = null;
let logIn = null;

// What went wrong, in sentences for the person at the desk. `code` is the service's word for it, or `offline`.
export class Failure extends Error {
  constructor(code, status, message, hint = "") {
    super(message);
    this.code = code;
    this.status = status;
    this.hint = hint;
  }
}

// Says what lets a person log in again: a function whose promise is kept once they have.
export function whenLoggedOut(ask) {
  askForLogIn = ask;
}

export function rememberToken(token) {
  csrfToken = token || "";
}

function tell(offline) {
  if (offline === isOffline) return;
  isOffline = offline;
  connection.dispatchEvent(new Event(offline ? "offline" : "online"));
}

async function send(method, path, body) {
  const headers = {};
  if (csrfToken && method !== "GET") headers["X-CSRF-Token"] = csrfToken;
  const isFile = body instanceof Blob;
  if (body !== undefined) headers["Content-Type"] = isFile ? body.type || "application/octet-stream" : "application/json";
  const options = { method, headers, cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE) };
  if (body !== undefined) options.body = isFile ? body : JSON.stringify(body);
  let response;
  let text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch {
    tell(true);
    throw new Failure("offline", 0, "连接不上服务", "请检查网络，恢复后会自动重试。");
  }
  tell(false);
  let answer = null;
  try { answer = text ? JSON.parse(text) : null; } catch { /* a proxy's own page: the status speaks below */ }
  if (response.ok) return answer;
  const error = answer && answer.error;
  if (!error) throw new Failure("status_" + response.status, response.status, "服务出错（" + response.status + "）", "请稍后重试。");
  throw new Failure(error.code, response.status, error.message, error.hint);
}

// Calls the service and gives its JSON. Where the login has ended, asks for a new one and then goes on as if nothing had been.
export async function call(method, path, body) {
  for (let renewed = false; ;) {
    try {
      return await send(method, path, body);
    } catch (failure) {
      if (failure.status === 401 && path !== "/v1/login" && askForLogIn) {
        logIn ??= askForLogIn().finally(() => { logIn = null; });
        await logIn;
      } else if (failure.code === "csrf" && !renewed) {
        // Another tab has logged in anew and shares its cookie with this one, but not its token.
        renewed = true;
        rememberToken((await send("GET", "/v1/me")).csrf_token);
      } else {
        throw failure;
      }
    }
  }
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}) => call("POST", path, body);

// Sends a file as it is.
export const upload = (path, file) => call("POST", path, file);

// An address with a query; what is empty is left out.
export function address(path, query) {
  const parts = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(parts).toString();
  return text ? path + "?" + text : path;
}

export const ticketPath = (id, action = "") => "/v1/tickets/" + encodeURIComponent(id) + (action && "/" + action);

// An id that nobody else has. `crypto.randomUUID` is only there on https and on this machine.
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
