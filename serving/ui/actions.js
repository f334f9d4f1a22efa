// What people say to a check: that they have seen its alarm, or that it is to learn anew.

import { post } from "./api.js";
import { at, html, say } from "./dom.js";

let made = 0; // names may hold blanks; ids may not

function field(label, attributes) {
  made += 1;
  const id = `field-${made}`;
  return [html("label", { for: id }, label), html("input", { id, maxlength: 1000, required: true, ...attributes })];
}

/** Asks whether to rebase check `name`; returns the answer. */
function confirmed(name) {
  const dialog = at("confirm");
  say(at("confirm-title"), `Let ${name} learn normal times anew?`);
  say(
    at("confirm-what"),
    `It forgets what it takes for normal, its alarm and its evidence, and takes the next rows of
    live traffic for normal instead. Until it has enough of them it raises no alarm, and what is
    wrong with them now it will never tell. This can't be taken back.`.replace(/\s+/g, " "),
  );
  say(at("confirm-yes"), `Let ${name} learn anew`);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Returns the node by which people act on check `name`, and what shows it for a state. */
export function actions(name, changed) {
  const said = html("p", { role: "status" });
  const seen = html("button", { type: "submit", value: "ack" }, "Acknowledge the alarm");
  const anew = html("button", { type: "submit", value: "rebase", class: "grave" }, "Rebase…");
  const form = html(
    "form",
    {},
    ...field("Your name", { name: "who", autocomplete: "name" }),
    ...field("What it was", { name: "reason" }),
    html("p", { class: "buttons" }, seen, anew),
    said,
  );
  const summary = html("summary", {}, "Acknowledge or rebase");
  const node = html("details", { class: "actions" }, summary, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const what = event.submitter?.value ?? "ack";
    const value = Object.fromEntries(new FormData(form));
    if (what === "rebase" && !(await confirmed(name))) {
      return;
    }
    try {
      await post(`checks/${encodeURIComponent(name)}/${what}`, value);
      form.reset();
      say(said, "");
      node.open = false;
      summary.focus();
      changed();
    } catch (error) {
      say(said, error.message);
    }
  });
  return { node, show: shower(node, summary, seen, anew) };
}

function shower(node, summary, seen, anew) {
  let before = "";
  return (check) => {
    const alarming = check.state === "alarm";
    seen.hidden = !alarming;
    anew.hidden = check.inline; // its schema is for people to correct
    node.hidden = seen.hidden && anew.hidden;
    const choices = [alarming ? "Acknowledge" : "", check.inline ? "" : "rebase"].filter(Boolean);
    const text = choices.join(" or ");
    say(summary, text.charAt(0).toUpperCase() + text.slice(1));
    if (check.state !== before && (alarming || before === "alarm")) {
      node.open = alarming; // opened and closed by the alarm; else as people leave it
    }
    before = check.state;
  };
}
