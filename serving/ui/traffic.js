// Traffic and latency over time, and the tiles at the top.

import { lines } from "./charts.js";
import { at, drawer, table, tiles } from "./dom.js";
import { ms, number, time } from "./format.js";

const ROWS = 12; // of the table; the chart has all

const latest = { points: [], interval: 1 };
const figures = drawer("Figures as a table", () =>
  table(
    "Traffic and latency, newest first",
    ["Until", "Requests/s", "Rows/s", "Refused/s", "p50", "p95", "p99"],
    latest.points
      .slice(-ROWS)
      .reverse()
      .map((point) => [
        time(point.at),
        number(point.requests / latest.interval),
        number(point.rows / latest.interval),
        number(point.failed / latest.interval),
        ms(point.p50_ms),
        ms(point.p95_ms),
        ms(point.p99_ms),
      ]),
  ),
);
at("traffic-table").append(figures.node);

/** Shows `stats`, as GET /stats answers. */
export function showTraffic(stats) {
  latest.points = stats.points;
  latest.interval = stats.interval_s;
  const series = (name, style, value) => ({
    name,
    style,
    points: stats.points.map((point) => [point.at, value(point)]),
  });
  const rate = (key) => (point) => point[key] / stats.interval_s;
  const last = stats.points[stats.points.length - 1] ?? {};
  lines(at("traffic-chart"), {
    label: `Requests per second over time; now ${number((last.requests ?? 0) / stats.interval_s)}`,
    series: [
      series("answered", "c1", rate("requests")),
      series("refused or failed", "c3", rate("failed")),
    ],
  });
  lines(at("latency-chart"), {
    label: `Latency over time; now p50 ${ms(last.p50_ms)}, p95 ${ms(last.p95_ms)}`,
    series: [
      series("p50", "c1", (point) => point.p50_ms),
      series("p95", "c2", (point) => point.p95_ms),
      series("p99", "c3", (point) => point.p99_ms),
    ],
  });
  figures.refresh();
}

/** Shows the tiles; of `stats`, `plan` and `checks` each may be null still. */
export function showNow(stats, plan, checks) {
  const point = stats?.points[stats.points.length - 1];
  const main = plan?.lanes?.[0];
  const current = (main?.current ?? plan?.chosen?.id.split(":").pop() ?? "–").split("+");
  const [model, how] = current[0].split("/");
  const more = [how, current.length > 1 ? `and ${current.length - 1} more` : "", plan?.pinned ? "pinned" : ""];
  tiles(at("now"), [
    ["Requests/s", point ? number(point.requests / stats.interval_s) : "–"],
    ["Latency p95", point ? ms(point.p95_ms) : "–"],
    ["Answers", model, more.filter(Boolean).join(", ")],
    ["Checks", checks?.checks.length ? checks.state : "none"],
  ]);
}
