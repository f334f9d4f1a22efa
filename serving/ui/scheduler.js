// What the scheduler does: the variant that answers, what waits, and what came too late.

import { lines } from "./charts.js";
import { at, drawer, html, table, tiles } from "./dom.js";
import { number, percent, time } from "./format.js";

const STYLES = ["c1", "c2", "c3"]; // one line each for the variants that answer most
const OTHERS = "c4";
const RECENT_S = 300;
const ROWS = 12;

const latest = { points: [], interval: 1, shown: [] };
const figures = drawer("Figures as a table", () =>
  table(
    "Answers by variant, newest first",
    ["Until", ...latest.shown.map((each) => `${each}, per s`), "Waiting", "Missed deadlines"],
    latest.points
      .slice(-ROWS)
      .reverse()
      .map((point) => [
        time(point.at),
        ...latest.shown.map((each) => number((point.variants[each] ?? 0) / latest.interval)),
        number(point.queued),
        number(point.missed),
      ]),
  ),
);
at("scheduler-table").append(figures.node);

/** Returns the variants of `points`, the one that answered most first. */
function busiest(points) {
  const totals = new Map();
  for (const { variants } of points) {
    for (const [name, count] of Object.entries(variants)) {
      totals.set(name, (totals.get(name) ?? 0) + count);
    }
  }
  return [...totals].sort((one, other) => other[1] - one[1]).map(([name]) => name);
}

function seriesOf(points, interval) {
  const names = busiest(points);
  const own = names.slice(0, STYLES.length);
  const rest = names.slice(STYLES.length);
  const sum = (point, wanted) =>
    wanted.reduce((total, name) => total + (point.variants[name] ?? 0), 0) / interval;
  const line = (name, style, wanted) => ({
    name,
    style,
    points: points.map((point) => [point.at, sum(point, wanted)]),
  });
  const series = own.map((name, index) => line(name, STYLES[index], [name]));
  return rest.length ? [...series, line(`${rest.length} others`, OTHERS, rest)] : series;
}

function key(series) {
  return series.map(({ name, style }) =>
    html("span", { class: "entry" }, html("b", { class: `k${style.slice(1)}` }), name),
  );
}

/** Shows who answered, what waited and what came too late, of `stats` as GET /stats answers. */
export function showScheduler(stats) {
  const { points, interval_s: interval } = stats;
  const series = seriesOf(points, interval);
  Object.assign(latest, { points, interval, shown: busiest(points).slice(0, STYLES.length) });
  at("variants-key").replaceChildren(...key(series));
  const last = points[points.length - 1];
  const now = latest.shown.filter((name) => last?.variants[name]).join(", ") || "nothing";
  lines(at("variants-chart"), {
    label: `Requests per second by variant over time; now ${now} answers`,
    series,
  });
  lines(at("queue-chart"), {
    label: `Requests that wait, and missed deadlines, over time; now ${number(last?.queued)} wait`,
    series: [
      { name: "waiting", style: "c1", points: points.map((p) => [p.at, p.queued]) },
      { name: "missed", style: "c3", points: points.map((p) => [p.at, p.missed]) },
    ],
  });
  figures.refresh();
}

function missedOf(stats) {
  const points = stats?.points ?? [];
  const since = (points[points.length - 1]?.at ?? 0) - RECENT_S;
  const recent = points.filter((point) => point.at > since);
  const missed = recent.reduce((total, point) => total + point.missed, 0);
  const all = recent.reduce((total, point) => total + point.requests + point.failed, 0);
  return { missed, share: all ? missed / all : null };
}

/** Shows how the scheduler does now; of `plan` and `stats` each may be null still. */
export function showSchedulerNow(plan, stats) {
  const { queued, running, max_queue: most } = plan?.queue ?? {};
  const lane = plan?.lanes?.[0];
  const current = lane?.options.find((option) => option.variant === lane.current);
  const { missed, share } = missedOf(stats);
  const memory = plan?.memory;
  tiles(at("scheduler"), [
    ["Waiting", number(queued), most ? `of at most ${number(most)}` : ""],
    ["Calls running", number(running), lane ? `${number(lane.rows_per_s)} rows/s come` : ""],
    ["Missed deadlines", number(missed), share ? `${percent(share)} in five minutes` : "in five minutes"],
    ["Latency over plan", current ? `${number(current.ratio)} times` : "–", "of what answers"],
    ["Memory", memory ? `${number(memory.loaded_mb)} MB` : "–", memory ? `of ${number(memory.budget_mb)} MB` : ""],
    ["Pinned", plan?.pinned ?? "no", plan?.pinned ? "by an operator" : "the scheduler chooses"],
  ]);
}
