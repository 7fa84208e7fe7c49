// Dataset versions: which there are, two of them compared, a new one.
import { get, post } from "../api.js";
import { h, link, path, set } from "../dom.js";
import { moment, plural, whole } from "../format.js";
import { field, form, input, select } from "../forms.js";
import { message, section, table } from "../widgets.js";

const ENDED = ["completed", "ceiling", "interrupted", "cancelled"];

export async function showDatasets(page, { signal, query, go }) {
  const [found, runs] = await Promise.all([get("/v1/datasets?limit=200", signal), get("/v1/runs?limit=200", signal)]);
  const versions = [...found.items].reverse();
  set(page, h("h1", {}, "Datasets"),
    versions.length ? table(plural(versions.length, "version"), [
      { title: "version", kind: "long" }, { title: "instructions", kind: "number" }, { title: "instances", kind: "number" },
      { title: "of", kind: "long roomy" }, { title: "made", kind: "roomy" },
    ], versions.map((one) => [
      link(one.dataset, ["datasets", one.dataset]), whole(one.instructions), whole(one.instances),
      one.inputs.join(", "), moment(one.created_at),
    ])) : message("There are no dataset versions yet."),
    section("Compare two versions", versions.length < 2
      ? message("There must be two of them.") : comparison(versions, go)),
    section("Make a version", newVersion(runs.items, query.get("of"), go)));
}

function comparison(versions, go) {
  const names = versions.map((one) => [one.dataset, one.dataset]);
  const a = select(names, names[1][0]);
  const b = select(names, names[0][0]);
  return form("Compare two versions", h("div", { class: "fields" }, field("a", "A", a), field("b", "B", b)),
    "Compare", async () => {
      if (a.value === b.value) {
        throw Object.assign(new Error("A and B are the same version."),
          { errors: [{ field: "b", message: "Choose another than A." }] });
      }
      go(path(["compare", a.value, b.value]));
    });
}

function newVersion(runs, asked, go) {
  const fit = runs.filter((run) => ENDED.includes(run.state) && run.accepted);
  if (!fit.length) return message("There is no run that has ended with anything accepted.");
  const name = input({ maxlength: 100 });
  const boxes = fit.map((run) => {
    const box = h("input", { type: "checkbox", value: run.run_id, checked: run.run_id === asked });
    return h("div", {}, h("label", { class: "choice" }, box, `${run.run_id} `,
      h("span", { class: "quiet" }, `${run.kind}, ${whole(run.accepted)} accepted`)));
  });
  const inputs = h("fieldset", { id: "inputs", "data-field": "inputs" },
    h("legend", {}, "Of"), boxes, h("span", { class: "wrong", id: "inputs-wrong" }));
  return form("Make a version", [field("name", "Name", name, "The version is added: NAME@YYYY-MM-DD.K."), h("div", { class: "field" }, inputs)],
    "Make it", async () => {
      const chosen = boxes.map((box) => box.querySelector("input")).filter((box) => box.checked).map((box) => box.value);
      const { value } = await post("/v1/datasets", { name: name.value.trim(), inputs: chosen });
      go(path(["datasets", value.dataset]));
    });
}
