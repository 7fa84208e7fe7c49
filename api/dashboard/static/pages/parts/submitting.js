// Forms that submit seed tasks.
import { post } from "../../api.js";
import { h, set } from "../../dom.js";
import { decimal, plural, words } from "../../format.js";
import { field, form, input } from "../../forms.js";
import { button } from "../../widgets.js";

/** One task. `submitted` is called when it is in the pool. */
export function taskForm(submitted) {
  const name = input({ maxlength: 200 });
  const instruction = h("textarea", { rows: 3 });
  const isClassification = h("input", { type: "checkbox" });
  const instances = h("div", {});
  const pairs = [];
  const draw = () => set(instances, pairs.map((pair, index) => h("fieldset", {},
    h("legend", {}, `Instance ${index + 1}`),
    field(`instances[${index}].input`, "Input", pair.input, "Empty where none is needed."),
    field(`instances[${index}].output`, "Output", pair.output),
    pairs.length > 1 ? button(`Remove instance ${index + 1}`, () => { pairs.splice(index, 1); draw(); }, "second") : null)));
  const add = () => {
    pairs.push({ input: h("textarea", { rows: 2 }), output: h("textarea", { rows: 2 }) });
    draw();
  };
  add();
  return form("Submit a seed task", [
    field("name", "Name", name, "A short name for people."),
    field("instruction", "Instruction", instruction),
    field("is_classification", "Its outputs are labels out of a fixed few (a classification task)", isClassification),
    instances,
  ], "Submit the task", async () => {
    const { value } = await post("/v1/seed-tasks", {
      name: name.value, instruction: instruction.value, is_classification: isClassification.checked,
      instances: pairs.map((pair) => ({ input: pair.input.value, output: pair.output.value })),
    });
    name.value = instruction.value = "";
    isClassification.checked = false;
    pairs.length = 0;
    add();
    submitted();
    return `Stored as ${value.ids[0]}.`;
  }, [button("Add an instance", () => { add(); pairs[pairs.length - 1].input.focus(); }, "second")]);
}

/** Many tasks: a list in JSON, or JSON Lines. */
export function uploadForm(submitted) {
  const text = h("textarea", { rows: 6, spellcheck: "false" });
  const file = h("input", { type: "file", accept: ".json,.jsonl,.ndjson" });
  const isSkipped = h("input", { type: "checkbox" });
  file.addEventListener("change", async () => { if (file.files[0]) text.value = await file.files[0].text(); });
  return form("Submit many seed tasks", [
    field("file", "File", file, "JSON, or JSON Lines in the schema of Self-Instruct's seed tasks."),
    field("*", "Its text", text, 'One a line: {"name": …, "instruction": …, "instances": [{"input": …, "output": …}], "is_classification": false}'),
    field("skip_duplicates", "Leave out what is too near to another, instead of refusing all", isSkipped),
  ], "Submit them", async () => {
    // A list is JSON; anything else is taken line by line.
    const type = text.value.trimStart().startsWith("[") ? "application/json" : "application/x-ndjson";
    const { value } = await post(`/v1/seed-tasks?skip_duplicates=${isSkipped.checked}`, text.value, type);
    text.value = file.value = "";
    submitted();
    return [`${plural(value.stored, "task")} stored.`, value.skipped.length ? h("ul", { class: "list" }, value.skipped.map((one) =>
      h("li", {}, `number ${one.index + 1}: ${words(one.code)}${one.score === null ? "" : ` (${decimal(one.score, 3)})`}`,
        one.nearest_instruction ? `, nearest: “${one.nearest_instruction}”` : ""))) : null];
  });
}
