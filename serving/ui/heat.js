// Where a score comes from: over an image as heat, of other rows as bars.

import { html } from "./dom.js";
import { number } from "./format.js";

const STRONGEST = 0.75; // opacity of the part that changes the score most
const FAINTEST = 0.06; // of the largest: below, a part is left clear
const PARTS = 6;

/** Returns a layer to be laid over a picture `width` by `height` CSS pixels large. */
export function heatLayer(heat, width, height) {
  const layer = html("canvas", { class: "heat", width, height, "aria-hidden": "true" });
  layer.style.width = `${width}px`;
  layer.style.height = `${height}px`;
  const style = getComputedStyle(document.documentElement);
  const [raises, lowers] = ["--raises", "--lowers"].map((name) => style.getPropertyValue(name));
  const most = Math.max(...heat.changes.map(Math.abs)) || 1;
  const brush = layer.getContext("2d");
  const across = heat.columns.length - 1;
  heat.changes.forEach((change, place) => {
    const part = Math.abs(change) / most;
    if (part < FAINTEST) {
      return;
    }
    const row = Math.floor(place / across);
    const column = place % across;
    const x = (heat.columns[column] / heat.width) * width;
    const y = (heat.rows[row] / heat.height) * height;
    brush.globalAlpha = STRONGEST * part;
    brush.fillStyle = change > 0 ? raises : lowers;
    brush.fillRect(
      x,
      y,
      (heat.columns[column + 1] / heat.width) * width - x,
      (heat.rows[row + 1] / heat.height) * height - y,
    );
  });
  return layer;
}

/** Returns the parts that change the score most as a list of bars. */
export function partBars(explanation) {
  const parts = explanation.parts.slice(0, PARTS);
  const most = Math.max(...parts.map((part) => Math.abs(part.change))) || 1;
  const lines = parts.map(({ name, change }) => {
    const bar = html("span", { class: change > 0 ? "bar raises" : "bar lowers", "aria-hidden": "true" });
    bar.style.width = `${(Math.abs(change) / most) * 100}%`;
    return html("li", {}, html("span", {}, `${name} ${number(change)}`), bar);
  });
  return html("ul", { class: "parts" }, ...lines);
}
