// Rows that checks flagged: images as images, other rows as their values.

import { at, html } from "./dom.js";
import { number, seconds, time } from "./format.js";

const SIDE = 112; // CSS pixels of the longer side
const VALUES = 8; // told of a row that is no image
const PARTS = 3; // told of an explanation
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

function picture(image, label) {
  const { height, width } = image;
  const canvas = html("canvas", { width, height, role: "img", "aria-label": label });
  const shrink = SIDE / Math.max(height, width);
  canvas.style.width = `${width * shrink}px`;
  canvas.style.height = `${height * shrink}px`;
  canvas.getContext("2d").putImageData(new ImageData(rgba(image), width, height), 0, 0);
  return canvas;
}

function valuesOf(input) {
  const first = input.values.slice(0, VALUES).map((each) => (typeof each === "number" ? number(each) : each));
  const rest = input.total > VALUES ? ` … of ${input.total}` : "";
  return html("p", { class: "values" }, `${input.name}: ${first.join(", ")}${rest}`);
}

/** Returns what most of a row's score came from, as GET /checks/{name} explains it. */
function reason({ score, parts }) {
  const told = parts.slice(0, PARTS).map((part) => `${part.name} ${number(part.change)}`);
  return html("small", {}, `Of its score ${number(score)}: ${told.join(", ")}`);
}

function card(row, explanation) {
  const answer = row.label === null ? "" : `answered ${row.label}`;
  const odds = typeof row.p_val === "number" ? `p ${number(row.p_val)}` : "";
  const told = [answer, odds].filter(Boolean).join(", ");
  const inputs = row.inputs.map((input) =>
    input.picture
      ? picture(input.picture, `${input.name}, ${told || "flagged"}`)
      : valuesOf(input),
  );
  return html(
    "li",
    {},
    html("figure", {}, ...inputs, html("figcaption", {}, told)),
    html("small", {}, `${row.check} · ${time(row.at)}`),
    explanation?.parts.length ? reason(explanation) : null,
    html("code", {}, row.id),
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
  const explained = new Map(
    checks.flatMap((check) =>
      (check.explanations ?? []).map((each) => [`${check.name} ${each.id}`, each]),
    ),
  );
  const rows = checks
    .flatMap((check) => known.get(check.name) ?? [])
    .sort((one, other) => seconds(other.at) - seconds(one.at))
    .slice(0, MOST);
  const keys = rows.map((row) => `${row.check} ${row.id}`);
  const ids = keys.map((key) => `${key} ${explained.has(key)}`).join();
  if (ids === shown && ids) {
    return;
  }
  shown = ids;
  at("rows-list").replaceChildren(
    ...(rows.length ? rows.map((row, index) => card(row, explained.get(keys[index]))) : [html("li", { class: "quiet" }, "None so far.")]),
  );
}
