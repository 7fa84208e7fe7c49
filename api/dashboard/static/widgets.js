// What several pages are made of.
import { h, link, s, set } from "./dom.js";
import { NONE, whole, words } from "./format.js";

const STATES = {
  completed: "good", accepted: "good", used: "good", running: "busy", queued: "waiting",
  paused: "waiting", pending: "waiting", interrupted: "bad", cancelled: "bad", failed: "bad",
  ceiling: "bad", rejected: "bad", discarded: "bad", surplus: "more",
};

/** A state in words, with a dot in its colour. */
export function state(name, reason) {
  const kind = STATES[name] ?? "";
  return h("span", { class: `state ${kind}` }, words(name) + (reason ? `: ${words(reason)}` : ""));
}

export function message(text, kind = "") {
  return h("p", { class: `message ${kind}` }, text);
}

/** An error in words; problems of the service say what is wrong. */
export function failure(error) {
  const id = error.requestId ? ` (request ${error.requestId})` : "";
  return h("p", { class: "message error", role: "alert" }, `${error.message}${id}`);
}

/** A part of a page under its heading. */
export function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), ...children);
}

export function facts(pairs) {
  return h("dl", {}, pairs.filter(([, value]) => value != null && value !== "")
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export function figures(pairs) {
  return h("div", { class: "figures" }, pairs.map(([value, name]) =>
    h("div", {}, h("b", {}, value), h("span", {}, name))));
}

/**
 * A table that scrolls within itself. Columns: {title, kind} with kind "number", "long", "roomy" (left
 * out where the page is narrow). Rows: lists of texts or nodes.
 */
export function table(caption, columns, rows) {
  const kind = (column) => column.kind || undefined;
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map((column) =>
        h("th", { scope: "col", class: kind(column) }, column.title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, index) =>
        h(index ? "td" : "th", { scope: index ? undefined : "row", class: kind(columns[index]) },
          cell ?? NONE)))))));
}

/** Bars with their numbers: rows of {label, count, fill, note}. */
export function bars(caption, rows, total = Math.max(1, ...rows.map((row) => row.count))) {
  return h("table", { class: "bars" },
    h("caption", {}, caption),
    h("tbody", {}, rows.map((row) => h("tr", {},
      h("th", { scope: "row" }, row.label),
      h("td", { class: "bar" }, bar([row], total)),
      h("td", { class: "number" }, row.note ?? whole(row.count))))));
}

/** One bar of parts {count, fill} against a total. */
export function bar(parts, total) {
  let at = 0;
  return s("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    parts.map((part) => {
      const width = (100 * part.count) / (total || 1);
      const drawn = s("rect", { x: at, y: 0, width, height: 10, class: `fill-${part.fill}` });
      at += width;
      return drawn;
    }));
}

/** What the colours mean: [fill, text]. */
export function key(pairs) {
  return h("ul", { class: "key" }, pairs.map(([fill, text]) => h("li", {},
    s("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" },
      s("rect", { width: 10, height: 10, class: `fill-${fill}` })), text)));
}

export function progressBar(accepted, target, name) {
  if (!target) return whole(accepted);
  return h("span", {},
    h("progress", { max: target, value: Math.min(accepted ?? 0, target), "aria-label": name }), " ",
    `${whole(accepted ?? 0)} of ${whole(target)}`);
}

/** An instruction as a link to its page; a text of nothing but spaces still can be clicked. */
export function instructionLink(id, text) {
  return link(String(text).trim() ? text : "(empty text)", ["instructions", id], {}, { class: "text" });
}

/** A text of a model, with its name above it. */
export function named(name, text) {
  return [h("p", { class: "label" }, name),
    h("p", { class: "text" }, text === "" ? h("span", { class: "quiet" }, "(empty)") : text)];
}

export function button(text, onclick, kind = "") {
  return h("button", { type: "button", class: kind, onclick }, text);
}

/** A button whose work takes a while: it cannot be pressed twice, and errors are shown in a place. */
export function workButton(text, place, work, kind = "second") {
  const made = button(text, async () => {
    made.disabled = true;
    set(place);
    try {
      await work();
    } catch (error) {
      set(place, failure(error));
    } finally {
      made.disabled = false;
    }
  }, kind);
  return made;
}
