// Makes elements. Text is always text: nothing a client or a policy says is read as markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const LONG = 18; // characters, above which a tile's value is set smaller
const SHORT = 14; // characters of a cell, up to which its line is not broken

/** Returns an HTML element; attributes that are null or false are left out. */
export function html(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Returns an SVG element. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** Returns what stands at `id` in the page. */
export function at(id) {
  return document.getElementById(id);
}

/** Sets the text, but only where it differs: a live region then speaks of changes alone. */
export function say(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

function short(cell) {
  return typeof cell === "string" && cell.length <= SHORT ? "short" : null;
}

/** Returns a table that a screen reader can read: a caption, headed columns, headed rows. */
export function table(caption, columns, rows) {
  const head = html("tr", {}, ...columns.map((each) => html("th", { scope: "col" }, each)));
  const body = rows.map(([first, ...rest]) =>
    html(
      "tr",
      {},
      html("th", { scope: "row", class: short(first) }, first),
      ...rest.map((cell) => html("td", { class: short(cell) }, cell)),
    ),
  );
  // Focusable, because it scrolls where the screen is narrow.
  return html(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    html(
      "table",
      {},
      html("caption", {}, caption),
      html("thead", {}, head),
      html("tbody", {}, ...body),
    ),
  );
}

/** Fills a `dl` with tiles: [name, value, note], a note may be empty. */
export function tiles(place, entries) {
  const told = JSON.stringify(entries);
  if (place.dataset.told === told) {
    return; // what somebody reads stays where it is
  }
  place.dataset.told = told;
  place.replaceChildren(
    ...entries.map(([name, value, note]) =>
      html(
        "div",
        {},
        html("dt", {}, name),
        html(
          "dd",
          {},
          html("span", { class: value.length > LONG ? "long" : null }, value),
          note ? html("small", {}, note) : null,
        ),
      ),
    ),
  );
}

/** Returns a section that opens; `fill` makes its content, and only while it is open. */
export function drawer(summary, fill) {
  const inside = html("div");
  const node = html("details", {}, html("summary", {}, summary), inside);
  const refresh = () => {
    // What somebody reads or has focused is left as it is until they go on.
    if (node.open && !inside.contains(document.activeElement)) {
      inside.replaceChildren(...[fill()].flat());
    }
  };
  node.addEventListener("toggle", refresh);
  return { node, refresh };
}
