// Which page is shown, the theme, the key.
import { forget, getKey, Problem, setKey } from "./api.js";
import { announce, h, set } from "./dom.js";
import { field, form, input } from "./forms.js";
import { failure, message } from "./widgets.js";
import { showComparison } from "./pages/comparison.js";
import { showDataset } from "./pages/dataset.js";
import { showDatasets } from "./pages/datasets.js";
import { showEvaluation } from "./pages/evaluation.js";
import { showEvaluations } from "./pages/evaluations.js";
import { showInstruction } from "./pages/instruction.js";
import { showInstructions } from "./pages/instructions.js";
import { showRun } from "./pages/run.js";
import { showRuns } from "./pages/runs.js";
import { showSeeds } from "./pages/seeds.js";
import { showStart } from "./pages/start.js";

const PAGES = {
  runs: ["Runs", showRuns, showRun],
  datasets: ["Datasets", showDatasets, showDataset],
  compare: ["Comparison", showComparison, showComparison],
  instructions: ["Instructions", showInstructions, showInstruction],
  evaluations: ["Student", showEvaluations, showEvaluation],
  seeds: ["Seed tasks", showSeeds, showSeeds],
  start: ["Start a run", showStart, showStart],
};
const main = document.getElementById("main");
const about = await readAbout();
let leaving = new AbortController();

addEventListener("hashchange", () => open(true));
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof Problem || event.reason?.name === "AbortError") event.preventDefault();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which page it is
  main.focus();
  main.scrollIntoView();
});
setUpTheme();
await open(false);

/** Show the page that the address names; what the last one had begun is given up. */
async function open(isMoved) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [address, query] = location.hash.replace(/^#\/?/u, "").split("?");
  const [name = "", ...rest] = address.split("/").filter(Boolean).map(decode);
  document.getElementById("key-link").hidden = about?.auth !== "keys";
  const [title, showAll, showOne] = PAGES[name || "runs"] ?? [null];
  mark(name || "runs");
  if (name === "key" || (title && about?.auth === "keys" && !getKey())) return askForKey(name === "key");
  const page = h("div", {});
  set(main, page);
  if (!title) {
    document.title = "Not found · evoloom";
    set(page, h("h1", {}, "There is no such page"), message("The pages are in the list above."));
    return undefined;
  }
  document.title = `${rest.length ? `${rest[0]} · ` : ""}${title} · evoloom`;
  set(page, h("h1", {}, rest[0] ?? title), message("Loading…"));
  const context = { signal, query: new URLSearchParams(query ?? ""), about, go };
  try {
    await (rest.length ? showOne(page, context, ...rest) : showAll(page, context));
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return undefined;
    if (error instanceof Problem && error.status === 401) return askForKey(false, error);
    set(page, h("h1", {}, rest[0] ?? title), failure(error));
  }
  if (isMoved && !signal.aborted) focusOn(page);
  return undefined;
}

function go(address) {
  if (location.hash === address) open(true);
  else location.hash = address;
}

/** Where the reader is after another page was opened: at its heading. */
function focusOn(page) {
  const heading = page.querySelector("h1");
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  scrollTo(0, 0);
  announce(document.title);
}

function mark(name) {
  const of = { compare: "datasets" }[name] ?? name;
  for (const link of document.querySelectorAll("nav a, #key-link")) {
    if (link.getAttribute("href") === `#/${of}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function askForKey(isAsked, error = null) {
  document.title = "Key · evoloom";
  const control = input({ type: "password", spellcheck: "false" });
  const page = set(main, h("h1", {}, "Key"),
    h("p", {}, "The service asks for a key of `evoloom keys create`. It is kept in this tab alone, "
      + "until the tab is closed."),
    error ? failure(error) : null,
    form("Key", [field("key", "Key", control, "It begins with evk_.")], "Use this key", async () => {
      const value = control.value.trim();
      if (!value) throw Object.assign(new Error("Enter a key."),
        { errors: [{ field: "key", message: "Enter a key." }] });
      setKey(value);
      forget();
      if (isAsked) go("#/runs");
      else await open(true);
    }, getKey() ? [h("button", { type: "button", class: "second", onclick: () => {
      setKey(null);
      forget();
      open(true);
    } }, "Forget the key")] : []));
  if (error) control.focus();
  return page;
}

function setUpTheme() {
  const chooser = document.getElementById("theme");
  chooser.value = document.documentElement.dataset.theme;
  chooser.addEventListener("change", () => {
    document.documentElement.dataset.theme = chooser.value;
    try {
      localStorage.setItem("evoloom-theme", chooser.value);
    } catch {
      // It lasts as long as the page.
    }
  });
}

/** Whether the service asks for keys; null where it does not answer. */
async function readAbout() {
  try {
    return await (await fetch("/dashboard/about.json", { credentials: "omit" })).json();
  } catch {
    return null;
  }
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
