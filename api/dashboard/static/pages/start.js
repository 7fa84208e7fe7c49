// Starting a run.
import { get, post } from "../api.js";
import { h, link, path, set } from "../dom.js";
import { whole } from "../format.js";
import { field, form, input, number, select } from "../forms.js";

const ENDED = ["completed", "ceiling", "interrupted", "cancelled"];

export async function showStart(page, { signal, query, go }) {
  const [sets, runs] = await Promise.all([get("/v1/seed-sets?limit=200", signal), get("/v1/runs?limit=200", signal)]);
  const sources = runs.items.filter((run) => ENDED.includes(run.state) && run.accepted);
  const method = select([["self-instruct", "Self-Instruct: new instructions from seed tasks"],
    ["evol-instruct", "Evol-Instruct: harder and rarer ones from what there is"]], "self-instruct");
  const controls = {
    seed_set: select([["", "the service's own seeds"], ...sets.items.map((one) => [one.name, `${one.name} (${whole(one.active)} tasks)`])],
      query.get("set") ?? ""),
    target: number({ min: 1, step: 1, placeholder: "as configured" }),
    source: select([["", "choose one"], ...sources.map((run) => [run.run_id, `${run.run_id} (${whole(run.accepted)} accepted)`])],
      query.get("source") ?? ""),
    rounds: number({ min: 1, step: 1, placeholder: "as configured" }),
    limit: number({ min: 1, step: 1, placeholder: "all" }),
    run_id: input({ maxlength: 128, placeholder: "the service gives one" }),
    seed: number({ min: 0, step: 1, placeholder: "a fresh one" }),
    "settings.novelty.threshold": number({ min: 0, max: 1, step: 0.01, placeholder: "as configured" }),
    "settings.caps.tokens": number({ min: 1, step: 1, placeholder: "none" }),
    "settings.caps.cost": number({ min: 0, step: 0.01, placeholder: "none" }),
  };
  const own = {
    "self-instruct": h("div", { class: "fields" },
      field("seed_set", "Seed set", controls.seed_set, "What it starts from."), field("target", "Target", controls.target, "Accepted instructions wanted.")),
    "evol-instruct": h("div", { class: "fields" },
      field("source", "Source", controls.source, "Its accepted instructions are evolved."),
      field("rounds", "Rounds", controls.rounds, "Evolutions of each instruction."), field("limit", "Limit", controls.limit, "Source instructions, the first ones.")),
  };
  const names = {
    "self-instruct": ["seed_set", "target"], "evol-instruct": ["source", "rounds", "limit"],
  };
  const choose = () => {
    for (const [name, part] of Object.entries(own)) part.hidden = name !== method.value;
  };
  method.addEventListener("change", choose);
  choose();
  set(page, h("h1", {}, "Start a run"),
    h("p", { class: "quiet" }, "It is executed by a process of its own, in its turn, and goes on if this page is closed. ",
      link("Seed tasks and sets", ["seeds"]), " are made on their own page."),
    form("Start a run", [
      field("method", "Method", method), own["self-instruct"], own["evol-instruct"],
      h("details", {}, h("summary", {}, "Further settings"), h("div", { class: "fields" },
        field("run_id", "Id", controls.run_id, "Names the run."),
        field("seed", "Seed", controls.seed, "Of every random draw."),
        field("settings.novelty.threshold", "Novelty threshold", controls["settings.novelty.threshold"], "ROUGE-L, 0 to 1: what is nearer is rejected."),
        field("settings.caps.tokens", "Cap on tokens", controls["settings.caps.tokens"]),
        field("settings.caps.cost", "Cap on cost", controls["settings.caps.cost"], "In the currency of the prices that are configured."))),
    ], "Start", async () => {
      const body = { method: method.value, settings: {} };
      for (const name of [...names[method.value], "run_id", "seed"]) add(body, name, controls[name]);
      for (const name of Object.keys(controls).filter((one) => one.startsWith("settings."))) {
        const [, part, key] = name.split(".");
        const value = valueOf(controls[name]);
        if (value !== null) body.settings[part] = { ...body.settings[part], [key]: value };
      }
      const { value } = await post("/v1/runs", body);
      go(path(["runs", value.run_id]));
    }));
}

function add(body, name, control) {
  const value = valueOf(control);
  if (value !== null) body[name] = value;
}

function valueOf(control) {
  const text = control.value.trim();
  if (control.type === "number" && control.validity.badInput) return "not a number";
  if (!text) return null;
  return control.type === "number" ? Number(text) : text;
}
