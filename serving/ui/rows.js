// Rows that checks flagged or refused: images as images, other rows as their values.

import { at, html } from "./dom.js";
import { number, seconds, time } from "./format.js";
import { heatLayer, partBars } from "./heat.js";

const SIDE = 112; // CSS pixels of the longer side
const VALUES = 8; // told of a row that is no image
const PARTS = 3; // told of an image's explanation: its heat shows the rest
const MOST = 24;

/** Returns the pixels of a picture, grey or coloured, as RGBA bytes. */
export function rgba({ height, width, channels, pixels }) {
  const bytes = new Uint8ClampedArray(height * width * 4);
  for (let pixel = 0; pixel < height * width; pixel += 1) {
    for (let colour = 0; colour < 3; colour += 1) {
      bytes[pixel * 4 + colour] = pixels[pixel * channels + (channels === 3 ? colour : 0)];
    }
    bytes[pixel * 4 + 3] = 255;
  }
  return bytes;
}

function picture(image, label, heat) {
  const { height, width } = image;
  const canvas = html("canvas", { width, height, role: "img", "aria-label": label });
  const shrink = SIDE / Math.max(height, width);
  canvas.style.width = `${width * shrink}px`;
  canvas.style.height = `${height * shrink}px`;
  canvas.getContext("2d").putImageData(new ImageData(rgba(image), width, height), 0, 0);
  const layers = heat ? [heatLayer(heat, width * shrink, height * shrink)] : [];
  return html("div", { class: "picture" }, canvas, ...layers);
}

function valuesOf(input) {
  const first = input.values
    .slice(0, VALUES)
    .map((each) => (typeof each === "number" ? number(each) : String(each ?? "–")));
  const rest = input.total > VALUES ? ` … of ${input.total}` : "";
  return html("p", { class: "values" }, `${input.name}: ${first.join(", ")}${rest}`);
}

/** Returns what most of a row's score came from, as text and, without an image, as bars. */
function reason(explanation) {
  const score = `Of its score ${number(explanation.score)}: `;
  if (!explanation.heat.length) {
    return [html("small", {}, score), partBars(explanation)];
  }
  const told = explanation.parts.slice(0, PARTS).map(({ name, change }) => `${name} ${number(change)}`);
  return [html("small", {}, score + told.join(", "))];
}

function toldOf(row) {
  const answer = row.label === null ? "" : `answered ${row.label}`;
  const odds = typeof row.p_val === "number" ? `p ${number(row.p_val)}` : "";
  return [row.refused ? "refused" : answer, odds].filter(Boolean).join(", ");
}

function card(row) {
  const told = toldOf(row);
  const { explanation } = row;
  const inputs = row.inputs.map((input) =>
    input.picture
      ? picture(
          input.picture,
          `${input.name}, ${told || "flagged"}`,
          explanation?.heat.find((heat) => heat.input === input.name),
        )
      : valuesOf(input),
  );
  return html(
    "li",
    { class: row.refused ? "refused" : "" },
    html("figure", {}, ...inputs, html("figcaption", {}, told)),
    row.why ? html("p", { class: "broke" }, row.why) : null,
    html("small", {}, `${row.check} · ${time(row.at)}`),
    ...(explanation?.parts.length ? reason(explanation) : []),
    row.refused ? null : html("code", {}, row.id), // nobody was told the id of what was refused
  );
}

const known = new Map(); // check -> its rows, newest first
let shown = "";

/** Returns the path of what is not known yet of a check's rows. */
export function rowsPath(check) {
  const after = known.get(check)?.[0]?.id ?? "";
  return `checks/${encodeURIComponent(check)}/rows?after=${encodeURIComponent(after)}`;
}

/** Takes what `rowsPath` answered with: new rows of `check`; null where it has none. */
export function takeRows(check, answer) {
  const rows = (answer?.rows ?? []).map((row) => ({ ...row, check }));
  known.set(check, [...rows, ...(known.get(check) ?? [])].slice(0, MOST));
}

/** Shows the latest rows of the checks that GET /checks answered with, newest first. */
export function showRows(checks) {
  const rows = checks
    .flatMap((check) => known.get(check.name) ?? [])
    .sort((one, other) => seconds(other.at) - seconds(one.at))
    .slice(0, MOST);
  const ids = JSON.stringify(rows.map((row) => [row.check, row.id]));
  if (ids === shown) {
    return;
  }
  shown = ids;
  at("rows-heat").hidden = !rows.some((row) => row.explanation?.heat.length);
  at("rows-list").replaceChildren(
    ...(rows.length ? rows.map(card) : [html("li", { class: "quiet" }, "None so far.")]),
  );
}

at("rows-heat-on").addEventListener("change", (event) => {
  at("rows-list").classList.toggle("plain", !event.target.checked);
});
