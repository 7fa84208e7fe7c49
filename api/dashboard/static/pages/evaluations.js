// Evaluations of students.
import { get } from "../api.js";
import { interval, reachOf } from "../charts/intervals.js";
import { h, link, set } from "../dom.js";
import { decimal, moment, signed, whole, words } from "../format.js";
import { message, table } from "../widgets.js";

export async function showEvaluations(page, { signal }) {
  const { items } = await get("/v1/dashboard/evaluations", signal);
  set(page, h("h1", {}, "Student"),
    h("p", { class: "quiet" }, "Students fine-tuned on a dataset version, against the base model they come from."),
    items.length ? items.map((one) => h("section", {},
      h("h2", {}, link(one.run_id, ["evaluations", one.run_id])),
      h("p", { class: "quiet" }, `${one.method} on ${one.dataset ?? "an unnamed dataset"}, base ${one.base_name}, training ${one.training_run}, ${moment(one.finished_at)}`),
      comparisonTable("Tuned against base, all items of a file", one.summary)))
      : message("No student has been evaluated in this store. evoloom train fine-tunes one on a dataset version, evoloom "
        + "evaluate compares it with its base; what that says is shown here."));
}

export const METRICS = {
  rouge_l: "ROUGE-L", exact_match: "exact match", nll: "loss (less is better)", judge: "judge: won",
};

export function comparisonTable(caption, rows) {
  if (!rows.length) return message("Nothing could be compared.");
  // Each metric has a reach of its own: nats and shares cannot share one.
  const reach = new Map();
  for (const row of rows) reach.set(row.metric, reachOf(rows.filter((one) => one.metric === row.metric)));
  return table(caption, [
    { title: "what", kind: "long" }, { title: "metric" }, { title: "items", kind: "number roomy" }, { title: "base", kind: "number" },
    { title: "tuned", kind: "number" }, { title: "difference", kind: "number" }, { title: "interval", kind: "roomy" },
    { title: "tuned is" },
  ], rows.map((row) => [
    row.group_name ?? `${words(row.part)}: ${row.file_name}`, METRICS[row.metric] ?? row.metric, whole(row.items),
    decimal(row.base, 3), decimal(row.tuned, 3),
    `${signed(row.difference)} [${signed(row.low)}, ${signed(row.high)}]`, interval(row, reach.get(row.metric)),
    row.tuned_is ?? verdict(row),
  ]));
}

function verdict({ low, high, metric }) {
  if (low <= 0 && high >= 0) return "no clear difference";
  return (low > 0) !== (metric === "nll") ? "better" : "worse";
}
