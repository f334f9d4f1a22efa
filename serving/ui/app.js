// The dashboard: asks the server for what it shows, and again when something happens. It rests
// while nobody looks at it.

import { Refused, follow, get, getIfAny, pause, useKey } from "./api.js";
import { showChecks } from "./checks.js";
import { at, say } from "./dom.js";
import { hearEvent, showEvents } from "./events.js";
import { showPlan } from "./plan.js";
import { rowsPath, showRows, takeRows } from "./rows.js";
import { showScheduler, showSchedulerNow } from "./scheduler.js";
import { showNow, showTraffic } from "./traffic.js";

const SHORT_MS = 2_000; // between two looks at traffic and checks
const LONG_EVERY = 5; // looks: then plan and histories too, and at once after an event
const SETTLE_MS = 150; // events come in swarms: one look for all of them will do
const POINTS = 720; // of traffic: an hour
const HISTORY = 512; // points of a check

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

/** Returns the points known by now, the latest `most` of them. */
function grown(known, added, most) {
  return [...(known ?? []), ...added].slice(-most);
}

/** Returns what asks for points later than the known ones. */
function since(points) {
  return points?.length ? `?after=${encodeURIComponent(points[points.length - 1].at)}` : "";
}

async function lookShort(signal) {
  const [stats, checks] = await Promise.all([
    get(`stats${since(world.stats?.points)}`, signal),
    getIfAny("checks", signal),
  ]);
  const points = grown(world.stats?.points, stats.points, POINTS);
  Object.assign(world, { stats: { ...stats, points }, checks });
}

function names() {
  return (world.checks?.checks ?? []).map((check) => check.name);
}

function historyPath(name) {
  return `checks/${encodeURIComponent(name)}/history${since(world.histories.get(name))}`;
}

async function lookLong(signal) {
  const [plan, ...answers] = await Promise.all([
    get("plan", signal),
    ...names().map(async (name) => [
      name,
      await getIfAny(historyPath(name), signal),
      await getIfAny(rowsPath(name), signal),
    ]),
  ]);
  world.plan = plan;
  for (const [name, history, rows] of answers) {
    world.histories.set(name, grown(world.histories.get(name), history?.points ?? [], HISTORY));
    takeRows(name, rows);
  }
}

function show(long) {
  showTraffic(world.stats);
  showScheduler(world.stats);
  showSchedulerNow(world.plan, world.stats);
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

/** Returns the events so far, as soon as the server tells them; null if `signal` ends it first. */
async function firstEvents(signal) {
  while (!signal.aborted) {
    try {
      return (await getIfAny("events", signal)) ?? { events: [], latest: 0 };
    } catch {
      await pause(SHORT_MS, signal); // what fails here fails in `watch`, which tells
    }
  }
  return null;
}

async function listen(signal) {
  let settling = null;
  const first = await firstEvents(signal);
  if (first === null) {
    return;
  }
  showEvents(first.events);
  await follow(
    "events",
    first.latest,
    (event) => {
      hearEvent(event);
      settling ??= setTimeout(() => {
        settling = null;
        wake();
      }, SETTLE_MS);
    },
    signal,
  );
}

function start() {
  stop();
  round = new AbortController();
  const { signal } = round;
  watch(signal);
  listen(signal);
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
