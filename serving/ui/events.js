// What happened, newest first.

import { at, html } from "./dom.js";
import { figures, time } from "./format.js";

const MOST = 100;

let newest = -1;

function line(event) {
  const told = figures(event.figures);
  return html(
    "li",
    { class: event.kind },
    html("time", { datetime: event.time }, time(event.time)),
    html("span", { class: "tag" }, event.kind),
    html("span", {}, `${event.source}: ${event.text}`),
    told ? html("small", {}, told) : null,
  );
}

/** Puts one event on top, unless it is there already. */
export function showEvent(event) {
  if (event.id <= newest) {
    return;
  }
  newest = event.id;
  const list = at("events-list");
  list.querySelector(".quiet")?.remove();
  list.prepend(line(event));
  while (list.children.length > MOST) {
    list.lastElementChild.remove();
  }
}

/** Shows events, oldest first, as GET /events answers. */
export function showEvents(events) {
  events.forEach(showEvent);
  const list = at("events-list");
  if (!list.children.length) {
    list.append(html("li", { class: "quiet" }, "Nothing has happened since the start."));
  }
  at("events-log").removeAttribute("aria-busy"); // only what comes from now on is read out
}
