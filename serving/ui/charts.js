// Charts as SVG at the size of their place, coloured by the style sheet. Each has a name that a
// screen reader says; the figures stand in a table beside it.

import { svg } from "./dom.js";
import { hour, number } from "./format.js";

const MARGIN = { top: 10, right: 10, bottom: 22, left: 46 };
const LINE_HEIGHT = 170;
const BARS_HEIGHT = 120;
const NARROWEST = 240;
const DECADES = 5; // below a threshold that a logarithmic axis shows

const drawn = new WeakMap(); // place -> what is drawn there: what somebody reads stays in place

function isDrawn(place, what) {
  const told = JSON.stringify([place.clientWidth, what]);
  const same = drawn.get(place) === told;
  drawn.set(place, told);
  return same;
}

/** Returns at most about `count` round values that span `low` to `high`. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) {
    found.push(value);
  }
  return found;
}

function decades(low, high) {
  const found = [];
  const step = Math.max(1, Math.round(Math.log10(high / low) / 5));
  for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power += step) {
    found.push(10 ** power);
  }
  return found;
}

function scale(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** Returns the value axis of `values`, from 0; logarithmic below a threshold. */
function valueAxis(values, threshold, logarithmic, bottom, top) {
  const most = Math.max(...values, threshold ?? 0);
  if (!logarithmic || !(threshold > 0)) {
    const high = most > 0 ? most * 1.08 : 1;
    return { place: scale(0, high, bottom, top), marks: ticks(0, high, 4) };
  }
  const low = threshold / 10 ** DECADES;
  const high = Math.max(most, threshold) * 3;
  const linear = scale(Math.log10(low), Math.log10(high), bottom, top);
  return {
    place: (value) => linear(Math.log10(Math.max(value, low))),
    marks: decades(low, high),
  };
}

/** Returns the `d` of a path through points; where a value is missing the line is interrupted. */
function path(points, x, y) {
  let pen = "M";
  let drawn = "";
  for (const [at, value] of points) {
    if (typeof value !== "number") {
      pen = "M";
      continue;
    }
    drawn += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  }
  return drawn;
}

function frame(place, height, label) {
  const width = Math.max(NARROWEST, place.clientWidth);
  const drawing = svg("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": label,
  });
  return { width, drawing };
}

function timeAxis(drawing, x, from, to, width, bottom) {
  const count = Math.max(1, Math.floor(width / 130));
  const seen = new Set();
  for (let index = 0; index <= count; index += 1) {
    const at = from + ((to - from) * index) / count;
    const text = hour(at);
    if (!seen.has(text)) {
      seen.add(text);
      const anchor = index === 0 ? "start" : index === count ? "end" : "middle";
      drawing.append(svg("text", { x: x(at), y: bottom + 16, "text-anchor": anchor }, text));
    }
  }
}

/** Draws lines over time into `place`: `series` of {name, style, points: [[Unix s, value]]}. */
export function lines(place, what) {
  if (isDrawn(place, what)) {
    return;
  }
  const { label, series, threshold = null, logarithmic = false } = what;
  const { width, drawing } = frame(place, LINE_HEIGHT, label);
  const bottom = LINE_HEIGHT - MARGIN.bottom;
  const right = width - MARGIN.right;
  const points = series.flatMap((each) => each.points).filter((each) => each[1] !== null);
  const times = points.map((each) => each[0]);
  const [from, to] = times.length ? [Math.min(...times), Math.max(...times)] : [0, 1];
  const x = scale(from, to, MARGIN.left, right);
  const values = points.map((each) => each[1]);
  const axis = valueAxis(values, threshold, logarithmic, bottom, MARGIN.top);
  for (const mark of times.length || threshold !== null ? axis.marks : []) {
    const y = axis.place(mark);
    drawing.append(
      svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y, y2: y }),
      svg("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, number(mark)),
    );
  }
  if (times.length) {
    timeAxis(drawing, x, from, to, right - MARGIN.left, bottom);
  } else {
    const middle = { x: width / 2, y: LINE_HEIGHT / 2, "text-anchor": "middle" };
    drawing.append(svg("text", middle, "Nothing yet"));
  }
  if (threshold !== null) {
    const y = axis.place(threshold);
    drawing.append(
      svg("line", { class: "threshold", x1: MARGIN.left, x2: right, y1: y, y2: y }),
      svg("text", { class: "threshold", x: MARGIN.left + 4, y: y - 5 }, "threshold"),
    );
  }
  for (const each of series) {
    drawing.append(svg("path", { class: `line ${each.style}`, d: path(each.points, x, axis.place) }));
    const known = each.points.filter((point) => typeof point[1] === "number");
    if (known.length) {
      const [at, value] = known[known.length - 1];
      const dot = { class: `dot ${each.style}`, cx: x(at), cy: axis.place(value), r: 3 };
      drawing.append(svg("circle", dot));
    }
  }
  place.replaceChildren(drawing);
}

/** Draws two histograms over the same `edges` into `place`: shares before, and after. */
export function bars(place, what) {
  if (isDrawn(place, what)) {
    return;
  }
  const { label, edges, before, after } = what;
  const { width, drawing } = frame(place, BARS_HEIGHT, label);
  const bottom = BARS_HEIGHT - MARGIN.bottom;
  const high = Math.max(...before, ...after, 1e-9);
  const y = scale(0, high, bottom, MARGIN.top);
  // Bins of like shares differ in width by orders of magnitude: each gets the same place.
  const step = (width - MARGIN.left - MARGIN.right) / before.length;
  for (const share of ticks(0, high, 2)) {
    const text = `${number(share * 100)} %`;
    drawing.append(
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(share), y2: y(share) }),
      svg("text", { x: MARGIN.left - 6, y: y(share) + 4, "text-anchor": "end" }, text),
    );
  }
  before.forEach((share, index) => {
    const left = MARGIN.left + index * step;
    drawing.append(
      bar("before", left + step * 0.08, step * 0.4, y(share), bottom),
      bar("after", left + step * 0.52, step * 0.4, y(after[index]), bottom),
    );
  });
  const places = [0, Math.floor(edges.length / 2), edges.length - 1];
  places.forEach((index, order) => {
    const anchor = ["start", "middle", "end"][order];
    const at = { x: MARGIN.left + index * step, y: bottom + 16, "text-anchor": anchor };
    drawing.append(svg("text", at, number(edges[index])));
  });
  place.replaceChildren(drawing);
}

function bar(style, x, width, top, bottom) {
  return svg("rect", { class: style, x, width, y: top, height: Math.max(0, bottom - top) });
}
