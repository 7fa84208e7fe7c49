// Elements. Text becomes text nodes and never markup, whoever wrote it.
const SVG = "http://www.w3.org/2000/svg";

/** An element. Properties that start with "on" are listeners; children are nodes or texts. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, children);
  return element;
}

function put(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replace what an element holds. */
export function set(element, ...children) {
  element.replaceChildren();
  put(element, children);
  return element;
}

/**
 * Replace what an element holds by a newer state of the same: what was open stays open, and where the
 * reader was, he still is.
 */
export function renew(element, ...children) {
  const opened = new Set(Array.from(element.querySelectorAll("details[open] > summary"), nameOf));
  const active = element.contains(document.activeElement) ? nameOf(document.activeElement) : null;
  set(element, ...children);
  for (const summary of element.querySelectorAll("details > summary")) {
    if (opened.has(nameOf(summary))) summary.parentElement.open = true;
  }
  if (active === null) return;
  const same = Array.from(element.querySelectorAll("a, button, select, input, summary, [tabindex]"))
    .find((one) => nameOf(one) === active);
  same?.focus({ preventScroll: true });
}

function nameOf(element) {
  const text = element.tagName === "SELECT" || element.tagName === "svg" ? "" : element.textContent;
  return `${element.tagName} ${element.getAttribute("aria-label") ?? text}`;
}

/** A link within the dashboard: parts of the path, and what comes after "?". */
export function path(parts, query = {}) {
  const address = `#/${parts.map(encodeURIComponent).join("/")}`;
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  return given.length ? `${address}?${new URLSearchParams(given)}` : address;
}

export function link(text, parts, query = {}, properties = {}) {
  return h("a", { href: path(parts, query), ...properties }, text);
}

/** Have screen readers say something. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
