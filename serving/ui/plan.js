// What answers on this host, what else could, and what was decided since.

import { at, drawer, html, say, table } from "./dom.js";
import { figures, ms, number, percent, time } from "./format.js";

const DECISIONS = 12;

let shown = null; // as GET /plan answered last

const candidates = drawer("Every candidate, and why it was not chosen", () =>
  table(
    "Candidates of the plan",
    ["Candidate", "Accuracy", "p95", "Memory", "Why not"],
    (shown?.candidates ?? []).map((each) => [
      each.id,
      number(each.measurement?.accuracy),
      ms(firstLatency(each.measurement)),
      each.measurement ? `${number(each.measurement.memory_mb)} MB` : "–",
      each.rejected?.reason ?? "chosen",
    ]),
  ),
);
at("plan-more").append(candidates.node);

function firstLatency(measurement) {
  const sizes = Object.keys(measurement?.latency ?? {}).map(Number);
  return sizes.length ? measurement.latency[Math.min(...sizes)].p95_ms : null;
}

function optionsOf(lane) {
  return table(
    `Options of ${lane.lane}`,
    ["Variant", "State", "Accuracy", "Latency over plan", "Last used"],
    lane.options.map((option) => [
      option.variant,
      option.variant === lane.current ? "answers" : option.in_rotation ? "ready" : "paused: failed",
      number(option.accuracy),
      `${number(option.ratio)} times`,
      option.last_used ? time(option.last_used) : "not yet",
    ]),
  );
}

function mixOf(lane) {
  if (!lane.mix) {
    return null;
  }
  const share = percent(lane.mix.share);
  return html("p", {}, `At this rate ${lane.mix.upper} takes ${share}, ${lane.mix.lower} the rest.`);
}

function decision(each) {
  const from = each.from ? `${each.from} → ` : "";
  const told = figures(each.figures);
  return html(
    "li",
    {},
    html("time", { datetime: each.time }, time(each.time)),
    html("span", { class: "tag" }, each.reason),
    html("span", {}, `${from}${each.to ?? "nothing"}: ${each.why}`),
    told ? html("small", {}, told) : null,
  );
}

/** Shows `plan`, as GET /plan answers. */
export function showPlan(plan) {
  shown = plan;
  say(at("name"), plan.policy);
  document.title = `${plan.policy}: scanflow-serve`;
  const goal = plan.objective ? `, to ${plan.objective}` : "";
  say(at("run"), `Runs ${plan.target.run}${goal}.`);
  const rules = plan.rules?.acting ?? [];
  const notes = plan.notes ?? [];
  const place = at("plan-now");
  if (!place.contains(document.activeElement)) {
    place.replaceChildren(
      html("p", {}, "The plan chose ", html("strong", {}, plan.chosen.id), "."),
      ...(plan.pinned
        ? [html("p", { class: "note" }, `Pinned to ${plan.pinned}: nothing else answers until POST /plan/pin unpins it.`)]
        : []),
      ...(rules.length ? [html("p", {}, `Rules that act: ${rules.join(", ")}.`)] : []),
      ...(plan.lanes ?? []).flatMap((lane) => [optionsOf(lane), mixOf(lane)].filter(Boolean)),
      ...notes.map((note) => html("p", { class: "note" }, note)),
    );
  }
  const decisions = (plan.decisions ?? []).slice(-DECISIONS).reverse();
  at("decisions").replaceChildren(
    ...(decisions.length
      ? decisions.map(decision)
      : [html("li", { class: "quiet" }, "None since the start: the plan's choice answers.")]),
  );
  candidates.refresh();
}
