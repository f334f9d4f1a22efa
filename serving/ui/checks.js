// Each check: its state, its score against its threshold over time, and the evidence of an alarm.

import { actions } from "./actions.js";
import { bars, lines } from "./charts.js";
import { at, drawer, html, say, table } from "./dom.js";
import { date, number, percent, seconds, time } from "./format.js";

const SIGNS = { off: "○", ok: "✓", warn: "△", alarm: "✕", acknowledged: "◐" };
const ROWS = 12;

const cards = new Map(); // name -> Card
let made = 0; // names may hold blanks; ids may not

/** The place of one check on the page. */
class Card {
  constructor(check, changed) {
    this.check = check;
    this.points = [];
    this.pill = html("p", { class: "pill" });
    this.facts = html("p", { class: "facts" });
    this.chart = html("div", { class: "chart" });
    this.evidence = html("div");
    this.features = new Map(); // name -> place of its histogram
    this.drawn = ""; // the evidence as it is on the page
    this.actions = actions(check.name, changed);
    this.table = drawer("Score over time as a table", () => this.history());
    made += 1;
    const title = `check-${made}`;
    this.node = html(
      "article",
      { "aria-labelledby": title },
      html("div", { class: "head" }, html("h3", { id: title }, check.name), this.pill),
      this.facts,
      this.chart,
      this.table.node,
      this.evidence,
      this.actions.node,
    );
  }

  show(check, points) {
    this.check = check;
    this.points = points ?? this.points;
    this.pill.className = `pill ${check.state}`;
    say(this.pill, `${SIGNS[check.state] ?? ""} ${check.state}`);
    say(this.facts, facts(check));
    this.draw();
    this.table.refresh();
    this.explain(check.evidence);
    this.actions.show(check);
  }

  draw() {
    const { name, score, threshold } = this.check;
    const against = typeof threshold === "number" ? ` against a threshold of ${number(threshold)}` : "";
    lines(this.chart, {
      label: `Score of ${name} over time; now ${number(score)}${against}`,
      series: [{ name: "score", style: "c1", points: this.points.map((p) => [seconds(p.at), p.score]) }],
      threshold: typeof threshold === "number" ? threshold : null,
      logarithmic: typeof threshold === "number" && threshold > 1,
    });
  }

  history() {
    const rows = this.points.slice(-ROWS).reverse();
    return table(
      `Score of ${this.check.name}, newest first`,
      ["At", "Rows seen", "Score", "p", "State"],
      rows.map((p) => [time(p.at), number(p.rows), number(p.score), number(p.p_val), p.state]),
    );
  }

  explain(evidence) {
    const told = JSON.stringify(evidence ?? null);
    if (told !== this.drawn && !this.evidence.contains(document.activeElement)) {
      this.drawn = told;
      this.features.clear();
      this.evidence.replaceChildren(...(evidence ? this.reasons(evidence) : []));
    }
    this.drawFeatures(evidence);
  }

  reasons(evidence) {
    const since = date(evidence.since_at) ? ` since about ${time(evidence.since_at)}` : "";
    const cause = evidence.detector ? `What moved most: ${evidence.detector}${since}.` : "";
    const features = evidence.features ?? [];
    const rows = evidence.rows ?? [];
    const ids = drawer(`The ${rows.length} rows that tell most`, () =>
      html("ul", { class: "ids" }, ...rows.map((id) => html("li", {}, html("code", {}, id)))),
    );
    return [
      html("h4", {}, "Why"),
      cause ? html("p", {}, cause) : null,
      ...features.map((feature) => this.feature(feature)),
      rows.length ? ids.node : null,
    ].filter(Boolean);
  }

  feature(feature) {
    const caption = `${feature.name}: moved ${percent(feature.moved)}`;
    if (!feature.edges || !feature.before || !feature.after) {
      return html("p", {}, caption);
    }
    const place = html("div", { class: "chart" });
    this.features.set(feature.name, place);
    const shares = drawer("Shares as a table", () =>
      table(
        `Shares of ${feature.name} before and after`,
        ["Range", "Before", "After"],
        feature.before.map((share, index) => [
          `${number(feature.edges[index])} to ${number(feature.edges[index + 1])}`,
          percent(share),
          percent(feature.after[index]),
        ]),
      ),
    );
    const key = html("span", { class: "key" });
    key.append(html("b", { class: "k1" }), "before ", html("b", { class: "k2" }), "after");
    return html("figure", {}, html("figcaption", {}, `${caption} `, key), place, shares.node);
  }

  drawFeatures(evidence) {
    for (const feature of evidence?.features ?? []) {
      const place = this.features.get(feature.name);
      if (place) {
        const label = `Histograms of ${feature.name} before and after; it moved ${percent(feature.moved)}`;
        bars(place, { ...feature, label });
      }
    }
  }
}

function facts(check) {
  const told = [check.type === check.name ? null : check.type];
  if (check.phase !== "armed") {
    told.push(check.phase);
  }
  told.push(`score ${number(check.score)}`);
  if (typeof check.threshold === "number") {
    told.push(`threshold ${number(check.threshold)}`);
  }
  if (typeof check.p_val === "number") {
    told.push(`p ${number(check.p_val)}`);
  }
  if (date(check.since)) {
    told.push(`${check.state} since ${time(check.since)}`);
  }
  if (check.acknowledged) {
    const { who, reason } = check.acknowledged;
    told.push(`acknowledged by ${who}: ${reason}`);
  }
  return [told.filter(Boolean).join(" · "), check.why].filter(Boolean).join(". ");
}

/** Shows `checks`, as GET /checks answers; null where the policy has none. */
export function showChecks(checks, histories, changed) {
  const list = checks?.checks ?? [];
  const place = at("checks-list");
  for (const [name, card] of cards) {
    if (!list.some((check) => check.name === name)) {
      card.node.remove();
      cards.delete(name);
    }
  }
  if (!list.length) {
    place.replaceChildren(html("p", { class: "quiet" }, "The policy has no checks."));
    say(at("checks-said"), "");
    return;
  }
  place.querySelector(".quiet")?.remove();
  for (const check of list) {
    let card = cards.get(check.name);
    if (!card) {
      card = new Card(check, changed);
      cards.set(check.name, card);
      place.append(card.node);
    }
    card.show(check, histories.get(check.name));
  }
  const alarms = list.filter((check) => check.state === "alarm").map((check) => check.name);
  say(at("checks-said"), alarms.length ? `In alarm: ${alarms.join(", ")}` : "No check is in alarm");
}
