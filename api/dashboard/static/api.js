// The REST service: requests with the key of this tab, problems as exceptions, events.
const KEY = "evoloom-key";
let spare = null; // where storage is forbidden the key lasts as long as the page

export function getKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return spare;
  }
}

export function setKey(value) {
  spare = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Kept in the page alone.
  }
}

/** An error that the service answered with (RFC 9457), or that kept it from answering. */
export class Problem extends Error {
  constructor(status, value) {
    super(value.detail || value.title || `the service answered with ${status}`);
    this.status = status;
    this.code = value.code || "";
    this.errors = Array.isArray(value.errors) ? value.errors : [];
    this.requestId = value.request_id || "";
  }
}

const known = new Map(); // address -> [ETag, value]: what has not changed is not sent again

/** A JSON answer. The same object comes back where nothing has changed. */
export async function get(address, signal) {
  const earlier = known.get(address);
  const response = await ask(address, {
    signal, cache: "no-store", headers: earlier ? { "If-None-Match": earlier[0] } : {},
  });
  if (response.status === 304) return earlier[1];
  const value = await response.json();
  const etag = response.headers.get("ETag");
  if (etag) {
    if (known.size > 200) known.clear();
    known.set(address, [etag, value]);
  }
  return value;
}

const unsettled = new Map(); // what was sent without an answer -> its Idempotency-Key

/**
 * Send a value as JSON, or a text as it is; gives the answer's value and its status. Sent again after
 * a broken connection it has the same Idempotency-Key, and does its work once.
 */
export async function post(address, value, type = "application/json") {
  const body = typeof value === "string" ? value : JSON.stringify(value ?? {});
  const what = `${address}\n${body}`;
  if (!unsettled.has(what)) unsettled.set(what, randomText());
  const headers = { "Content-Type": type, "Idempotency-Key": unsettled.get(what) };
  try {
    const response = await ask(address, { method: "POST", headers, body });
    const answer = { value: await response.json(), status: response.status };
    unsettled.delete(what);
    return answer;
  } catch (error) {
    if (error instanceof Problem && error.status >= 400 && error.status < 500) unsettled.delete(what);
    throw error;
  }
}

/** Forget answers; with another key they may be others. */
export function forget() {
  known.clear();
}

export async function ask(address, options = {}) {
  const key = getKey();
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(address, { ...options, headers, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the service does not answer: is it running?", code: "offline" });
  }
  if (response.ok || response.status === 304) return response;
  let value = {};
  try {
    value = await response.json();
  } catch {
    // No problem details: a proxy's answer, say.
  }
  throw new Problem(response.status, value);
}

/**
 * Follow a run's events until it ends or the signal says so. The page's own reader, since
 * EventSource cannot send a key.
 */
export async function follow(runId, handlers, signal) {
  let last = null;
  let pause = 1000;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const address = `/v1/runs/${encodeURIComponent(runId)}/events`;
      const response = await ask(address, { signal, headers, cache: "no-store" });
      for await (const event of readEvents(response.body)) {
        pause = 1000;
        if (event.id) last = event.id;
        const value = event.data ? JSON.parse(event.data) : null;
        handlers[event.name]?.(value);
        if (event.name === "end") return;
      }
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500) return;
    }
    await wait(pause, signal);
    pause = Math.min(2 * pause, 15000);
  }
}

async function* readEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n\r\n|\n\n/u);
    rest = lines.pop();
    yield* lines.map(readEvent);
  }
}

function readEvent(block) {
  const event = { name: "message", id: "", data: "" };
  for (const line of block.split(/\r\n|\n/u)) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const value = line.slice(at + 1).replace(/^ /u, "");
    if (line.slice(0, at) === "event") event.name = value;
    else if (line.slice(0, at) === "id") event.id = value;
    else if (line.slice(0, at) === "data") event.data += value;
  }
  return event;
}

/** Wait, or less where the signal comes. */
export function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

/** Have the browser save an answer as a file; a plain link could not send the key. */
export async function save(address, fallbackName) {
  const response = await ask(address);
  const said = /filename="?([^";]+)"?/u.exec(response.headers.get("Content-Disposition") || "");
  const url = URL.createObjectURL(await response.blob());
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = said ? said[1] : fallbackName;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

function randomText() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
