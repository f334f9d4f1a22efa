// Talks to the server that served this page: JSON, and the stream of events; with a key where the
// policy asks for keys. Paths are relative, so that a proxy may put the server below a prefix.

const KEY = "scanflow-key"; // in the tab's session only: closing it forgets the key
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
const PATIENCE_MS = 15_000; // with an answer
const SILENCE_MS = 45_000; // of a stream; the server says something every 15 s

/** An answer that is no 2xx. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Keeps the key for this tab; an empty one forgets it. */
export function useKey(key) {
  if (key) {
    sessionStorage.setItem(KEY, key);
  } else {
    sessionStorage.removeItem(KEY);
  }
}

function headers(more) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

async function refusal(reply) {
  const text = await reply.text();
  try {
    const told = JSON.parse(text);
    return new Refused(reply.status, told.detail ?? told.error ?? text);
  } catch {
    return new Refused(reply.status, text || `The server answered ${reply.status}.`);
  }
}

async function ask(path, options) {
  const reply = await fetch(path, { cache: "no-store", ...options });
  if (!reply.ok) {
    throw await refusal(reply);
  }
  return reply;
}

/** Returns the JSON at `path`; throws Refused, or TypeError where the server can't be reached. */
export async function get(path, signal) {
  const asked = new AbortController();
  const stop = () => asked.abort();
  signal?.addEventListener("abort", stop, { once: true });
  const timer = setTimeout(stop, PATIENCE_MS);
  try {
    const sent = headers({ accept: "application/json" });
    return await (await ask(path, { headers: sent, signal: asked.signal })).json();
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/** Returns the JSON at `path`, null where the server has no such thing. */
export async function getIfAny(path, signal) {
  try {
    return await get(path, signal);
  } catch (error) {
    if (error instanceof Refused && error.status === 404) {
      return null;
    }
    throw error;
  }
}

/** Posts JSON and returns the JSON that is answered. */
export async function post(path, value) {
  const body = JSON.stringify(value);
  const sent = headers({ "content-type": "application/json" });
  return (await ask(path, { method: "POST", headers: sent, body })).json();
}

/** Returns what `pieces` reads next; gives up on a connection that died without a word. */
async function heard(pieces) {
  const timer = setTimeout(() => pieces.cancel(), SILENCE_MS);
  try {
    return await pieces.read();
  } finally {
    clearTimeout(timer);
  }
}

/** Yields the `data` of server-sent events, parsed, from `path`; ends with the stream. */
async function* messages(path, after, signal) {
  const sent = headers({ accept: "text/event-stream", "last-event-id": String(after) });
  const reply = await ask(path, { headers: sent, signal });
  const pieces = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await heard(pieces);
    if (done) {
      return;
    }
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) {
        yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
      }
    }
  }
}

// EventSource can't send a key; this can. It comes back by itself, later each time in vain.
/** Calls `take` with each event after the id `after`, until `signal` ends it. */
export async function follow(path, after, take, signal) {
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    try {
      for await (const event of messages(path, after, signal)) {
        after = event.id;
        wait = FIRST_WAIT_MS;
        take(event);
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Refused && error.status < 500)) {
        return;
      }
    }
    await pause(wait, signal);
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
  }
}

/** Returns after `ms`, or at once when `signal` ends. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}
