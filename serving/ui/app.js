// The dashboard: asks the server for what it shows, and again when something happens. It rests
// while nobody looks at it.

import { Refused, follow, get, getIfAny, pause, useKey } from "./api.js";
import { showChecks } from "./checks.js";
import { at, say } from "./dom.js";
import { showEvent, showEvents } from "./events.js";
import { showPlan } from "./plan.js";
import { rowsPath, showRows, takeRows } from "./rows.js";
import { showNow, showTraffic } from "./traffic.js";

const SHORT_MS = 2_000; // between two looks at traffic and checks
const LONG_EVERY = 5; // looks: then plan and histories too, and at once after an event
const SETTLE_MS = 150; // events come in swarms: one look after the last of them will do

const world = { stats: null, plan: null, checks: null, histories: new Map() };
let round = null; // AbortController of what runs while somebody looks
let wake = () => {};

function linked(text, state) {
  const pill = at("link");
  pill.className = `pill ${state}`;
  say(pill, text);
}

function trouble(text) {
  const note = at("trouble");
  note.hidden = !text;
  say(note, text);
}

async function lookShort(signal) {
  const [stats, checks] = await Promise.all([get("stats", signal), getIfAny("checks", signal)]);
  Object.assign(world, { stats, checks });
}

function names() {
  return (world.checks?.checks ?? []).map((check) => check.name);
}

async function lookLong(signal) {
  const [plan, ...answers] = await Promise.all([
    get("plan", signal),
    ...names().map(async (name) => [
      name,
      await getIfAny(`checks/${encodeURIComponent(name)}/history`, signal),
      await getIfAny(rowsPath(name), signal),
    ]),
  ]);
  world.plan = plan;
  for (const [name, history, rows] of answers) {
    world.histories.set(name, history?.points ?? []);
    takeRows(name, rows);
  }
}

function show(long) {
  showTraffic(world.stats);
  showChecks(world.checks, world.histories, () => wake());
  showNow(world.stats, world.plan, world.checks);
  if (long) {
    showPlan(world.plan);
    showRows(world.checks?.checks ?? []);
  }
}

/** Looks again and again until `signal` ends it. */
async function watch(signal) {
  let due = 0;
  for (let looks = 0; !signal.aborted; looks += 1) {
    const long = looks >= due;
    try {
      await lookShort(signal);
      if (long) {
        await lookLong(signal);
        due = looks + LONG_EVERY;
      }
      linked("live", "ok");
      trouble("");
      show(long);
    } catch (error) {
      if (signal.aborted || failed(error)) {
        return;
      }
    }
    const woken = new Promise((resolve) => {
      wake = () => {
        due = looks + 1;
        resolve();
      };
    });
    await Promise.race([pause(SHORT_MS, signal), woken]);
  }
}

/** Tells what went wrong; returns whether to stop and wait for a key. */
function failed(error) {
  if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
    linked("needs a key", "warn");
    askForKey(error);
    return true;
  }
  linked("not connected", "alarm");
  const why = error instanceof Refused ? error.message : "The server does not answer.";
  trouble(`${why} The figures below are the last ones known.`);
  return false;
}

function askForKey(error) {
  stop();
  const known = error.status === 403 || sessionStorage.length > 0;
  if (known) {
    say(at("key-why"), error.message);
  }
  if (!at("key").open) {
    at("key").showModal();
  }
}

at("key-form").addEventListener("submit", () => {
  useKey(at("key-field").value.trim());
  at("key-field").value = "";
  start();
});

async function listen(signal) {
  let settling = null;
  const { events, latest } = (await getIfAny("events", signal)) ?? { events: [], latest: 0 };
  showEvents(events);
  await follow(
    "events",
    latest,
    (event) => {
      showEvent(event);
      clearTimeout(settling);
      settling = setTimeout(() => wake(), SETTLE_MS);
    },
    signal,
  );
}

function start() {
  stop();
  round = new AbortController();
  const { signal } = round;
  watch(signal);
  listen(signal).catch(() => {}); // what fails here fails in `watch`, which tells
}

function stop() {
  round?.abort();
  round = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stop();
    linked("paused", "off");
  } else if (!at("key").open) {
    start();
  }
});
addEventListener("resize", () => {
  if (world.stats) {
    show(false);
  }
});
start();
