// Forms whose fields carry the names that the service's problems use for them.
import { announce, h, set } from "./dom.js";

let made = 0;

/**
 * A field: `name` is what the service calls it, such as `instances[0].output`; `control` an input,
 * a select or a textarea.
 */
export function field(name, label, control, hint = "") {
  const id = `field-${(made += 1)}`;
  control.id = id;
  control.dataset.field = name;
  const about = hint ? h("span", { class: "hint", id: `${id}-hint` }, hint) : null;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  const wrong = h("span", { class: "wrong", id: `${id}-wrong` });
  const isCheck = control.type === "checkbox";
  return h("div", { class: isCheck ? "field check" : "field" },
    isCheck ? [control, h("label", { for: id }, label), about]
      : [h("label", { for: id }, label), about, control], wrong);
}

export function input(properties = {}) {
  return h("input", { type: "text", autocomplete: "off", ...properties });
}

export function number(properties = {}) {
  return h("input", { type: "number", inputmode: "decimal", autocomplete: "off", ...properties });
}

/** Choices: [value, text]. */
export function select(choices, value = "") {
  const control = h("select", {}, choices.map(([one, text]) => h("option", { value: one }, text)));
  control.value = value;
  return control;
}

/** A form. `send` does its work; what it throws is shown beside the fields that it names. */
export function form(title, children, sendText, send, more = []) {
  const summary = h("div", {});
  const submit = h("button", { type: "submit" }, sendText);
  const element = h("form", { "aria-label": title, novalidate: true }, children, summary,
    h("div", { class: "actions" }, submit, more));
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear(element, summary);
    submit.disabled = true;
    try {
      const said = await send();
      if (said) show(summary, said, "good");
    } catch (error) {
      showProblem(element, summary, error);
    } finally {
      submit.disabled = false;
    }
  });
  return element;
}

function show(summary, said, kind) {
  set(summary, h("div", { class: `message ${kind}` }, said));
  announce(summary.textContent);
}

function clear(element, summary) {
  set(summary);
  for (const control of element.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    const hint = `${control.id}-hint`;
    if (document.getElementById(hint)) control.setAttribute("aria-describedby", hint);
    else control.removeAttribute("aria-describedby");
    set(document.getElementById(`${control.id}-wrong`));
  }
}

/** Each error beside the field that it names; the others, and what it is about, below the form. */
export function showProblem(element, summary, error) {
  const controls = Array.from(element.querySelectorAll("[data-field]"));
  const rest = [];
  let first = null;
  for (const one of error.errors ?? []) {
    const control = findControl(controls, one.field);
    const place = control && document.getElementById(`${control.id}-wrong`);
    if (!place) {
      rest.push(`${one.line ? `line ${one.line}, ` : ""}${one.field}: ${one.message}`);
      continue;
    }
    // A field that stands for a list says which of it is meant.
    const where = one.line ? `line ${one.line}, ${one.field}: `
      : control.dataset.field === one.field ? "" : `${one.field}: `;
    place.append(h("span", { class: "text" }, `${where}${one.message}`, nearest(one)), " ");
    control.setAttribute("aria-invalid", "true");
    const described = control.getAttribute("aria-describedby") ?? "";
    if (!described.includes(place.id)) {
      control.setAttribute("aria-describedby", `${described} ${place.id}`.trim());
    }
    for (let up = control.closest("details"); up; up = up.parentElement.closest("details")) up.open = true;
    first ??= control;
  }
  if (!first || rest.length) {
    const id = error.requestId ? ` (request ${error.requestId})` : "";
    set(summary, h("div", { class: "message error", role: "alert" }, `${error.message}${id}`,
      rest.length > 1 ? h("ul", { class: "list" }, rest.map((text) => h("li", {}, text))) : null));
  } else {
    announce(error.message);
  }
  first?.focus();
}

function nearest(one) {
  return one.nearest?.instruction ? `: “${one.nearest.instruction}”` : "";
}

/** The control of a field, or of the nearest part of its name that has one. */
function findControl(controls, name) {
  let part = name;
  while (part) {
    const found = controls.find((control) => control.dataset.field === part);
    if (found) return found;
    const end = Math.max(part.lastIndexOf("."), part.lastIndexOf("["));
    part = end > 0 ? part.slice(0, end) : "";
  }
  // A text that stands for a whole upload takes all errors about it.
  return controls.find((control) => control.dataset.field === "*") ?? null;
}
