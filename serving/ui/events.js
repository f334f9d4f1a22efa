// What happened, newest first.

import { at, html, say } from "./dom.js";
import { figures, time } from "./format.js";

const MOST = 100;
const SPEAK_MS = 8_000; // at most once: a swarm of events is no use read out one by one

let newest = -1;
let unsaid = [];
let speaking = null;

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

function speak() {
  const last = unsaid[unsaid.length - 1];
  speaking = null;
  if (last) {
    const more = unsaid.length > 1 ? `${unsaid.length} events. The latest: ` : "";
    say(at("events-said"), `${more}${last.source}: ${last.text}`);
    unsaid = [];
    speaking = setTimeout(speak, SPEAK_MS);
  }
}

/** Puts one event on top, unless it is there already, and lets it be read out. */
export function hearEvent(event) {
  if (event.id > newest) {
    unsaid.push(event);
    showEvent(event);
    speaking ?? speak();
  }
}

function showEvent(event) {
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
}
