// The pool of seed tasks: submit, look through, make sets of them.
import { get, post } from "../api.js";
import { announce, h, link, set } from "../dom.js";
import { moment, plural, whole } from "../format.js";
import { field, form, input, select } from "../forms.js";
import { button, failure, message, section, table, workButton } from "../widgets.js";
import { taskForm, uploadForm } from "./parts/submitting.js";

export async function showSeeds(page, { signal }) {
  const pool = h("div", {});
  const sets = h("div", {});
  const chosen = new Set();
  const text = input({ type: "search", maxlength: 1000 });
  const look = async () => {
    await loadPool(pool, text.value.trim(), chosen, signal, look);
  };
  const lookAtSets = async () => {
    const { items } = await get("/v1/seed-sets?limit=200", signal);
    set(sets, items.length ? table(plural(items.length, "seed set"), [
      { title: "set", kind: "long" }, { title: "tasks", kind: "number" }, { title: "description", kind: "long roomy" },
      { title: "made", kind: "roomy" }, { title: "" },
    ], items.map((one) => [
      one.name, one.active === one.size ? whole(one.size) : `${whole(one.active)} of ${whole(one.size)}`,
      one.description || null, moment(one.created_at), link("Start a run", ["start"], { set: one.name }),
    ])) : message("There are no seed sets yet."));
  };
  const submitted = () => look().catch((error) => set(pool, failure(error)));
  await Promise.all([look(), lookAtSets()]);
  set(page, h("h1", {}, "Seed tasks"),
    h("p", { class: "quiet" }, "Tasks written by people, which a Self-Instruct run starts from. One that is too near to another in the pool is refused."),
    section("Submit a seed task", taskForm(submitted)),
    section("Submit many", uploadForm(submitted)),
    section("The pool", form("Look through the pool", field("text", "Words of the instruction", text), "Look", look), pool),
    section("Seed sets", sets, setForm(chosen, lookAtSets)));
}

async function loadPool(place, text, chosen, signal, again) {
  const rows = [];
  const load = async (cursor) => {
    const query = new URLSearchParams({ ...(text ? { text } : {}), ...(cursor ? { cursor } : {}) });
    const answer = await get(`/v1/seed-tasks?${query}`, signal);
    rows.push(...answer.items);
    const problems = h("div", {});
    set(place, rows.length ? poolTable(rows, Boolean(answer.next_cursor), chosen, problems, again)
      : message(text ? "No seed task has these words." : "There are no seed tasks yet: submit the first above."), problems,
    answer.next_cursor ? h("div", { class: "actions" }, button("Show more",
      () => load(answer.next_cursor).catch((error) => set(problems, failure(error))), "second")) : null);
  };
  await load(null);
}

function poolTable(rows, isMore, chosen, problems, again) {
  return table(`${plural(rows.length, "seed task")}${isMore ? " so far; there are more" : ""}`, [
    { title: "task", kind: "long" }, { title: "instruction", kind: "long" }, { title: "instances", kind: "number roomy" },
    { title: "submitted", kind: "roomy" }, { title: "" },
  ], rows.map((row) => {
    const box = h("input", { type: "checkbox", checked: chosen.has(row.id), "aria-label": `Choose ${row.name}`,
      onchange: () => (box.checked ? chosen.add(row.id) : chosen.delete(row.id)) });
    return [
      h("label", {}, box, row.name), row.instruction, whole(row.instances.length), moment(row.submitted_at),
      workButton("Retract", problems, async () => {
        await post(`/v1/seed-tasks/${encodeURIComponent(row.id)}/retract`);
        chosen.delete(row.id);
        announce(`${row.name} was retracted`);
        await again();
      }),
    ];
  }));
}

function setForm(chosen, made) {
  const name = input({ maxlength: 100 });
  const description = input({ maxlength: 2000 });
  const which = select([["all", "all tasks of the pool"], ["chosen", "the tasks chosen above"]], "all");
  which.dataset.field = "seed_task_ids";
  const whichField = field("seed_task_ids", "Of", which);
  return form("Make a seed set", [h("h3", {}, "Make a set"),
    h("div", { class: "fields" }, field("name", "Name", name, "Letters, digits, dots, dashes."), whichField,
      field("description", "Description", description))], "Make the set", async () => {
    const selection = which.value === "all" ? { filter: {} } : { seed_task_ids: [...chosen] };
    const body = { name: name.value.trim(), description: description.value, ...selection };
    const { value } = await post("/v1/seed-sets", body);
    await made();
    return [`Seed set ${value.name} with ${plural(value.size, "task")} was made. `, link("Start a run from it", ["start"], { set: value.name })];
  });
}
