// One dataset version.
import { get, save } from "../api.js";
import { lengthCharts } from "../charts/histogram.js";
import { h, link, set } from "../dom.js";
import { decimal, moment, percent, whole, words } from "../format.js";
import { select } from "../forms.js";
import { bars, facts, message, section, table, workButton } from "../widgets.js";
import { makings } from "./parts/makings.js";
import { FORMATS } from "./run.js";

export async function showDataset(page, { signal }, name) {
  const one = await get(`/v1/datasets/${encodeURIComponent(name)}`, signal);
  const id = encodeURIComponent(one.dataset);
  const about = [
    h("h1", {}, one.dataset),
    facts([
      ["instructions", whole(one.instructions)],
      ["instances", whole(one.instances)],
      ["of", one.inputs.map((run, index) => [index ? ", " : "", link(run, ["runs", run])])],
      ["made", moment(one.created_at)],
      ["content", one.content_hash],
    ]),
    actions(one, id),
  ];
  set(page, about, message("Loading…"));
  let parts;
  try {
    parts = await Promise.all([
      get(`/v1/datasets/${id}/statistics`, signal), get(`/v1/datasets/${id}/diversity`, signal),
      get(`/v1/dashboard/runs/${id}`, signal), get(`/v1/dashboard/datasets/${id}`, signal),
      get(`/v1/statistics/verb-noun?dataset=${id}`, signal),
    ]);
  } catch (error) {
    if (error.code !== "not_published") throw error;
    set(page, about, message("It is not in the published snapshot yet; it will be in a moment. Open the page again then."));
    return;
  }
  const [statistics, diversity, shown, { curation }, verbs] = parts;
  set(page, about,
    section("Statistics", facts(statisticsOf(statistics)),
      h("details", {}, h("summary", {}, "Lengths in words"), lengthCharts([["count", statistics.lengths]]))),
    curation.length ? section("Curation", steps(curation)) : null,
    diversity.kinds.length ? section("Kinds of instructions", kinds(diversity.kinds)) : null,
    makings(one.dataset, shown, verbs));
}

/** [name, text] of the rows of Self-Instruct's Table 1. */
export function statisticsOf(one) {
  return [
    ["instructions", whole(one.instructions)],
    ["classification", whole(one.classification)],
    ["not classification", whole(one.not_classification)],
    ["not known", one.unknown ? whole(one.unknown) : null],
    ["instances", whole(one.instances)],
    ["duplicates", one.duplicates ? whole(one.duplicates) : null],
    ["with empty input", `${whole(one.empty_inputs)} (${percent(one.empty_input_share)})`],
    ["mean words of an instruction", decimal(one.mean_instruction_words, 1)],
    ["mean words of an input", decimal(one.mean_input_words, 1)],
    ["mean words of an output", decimal(one.mean_output_words, 1)],
  ];
}

function actions(one, id) {
  const place = h("div", {});
  const format = select(FORMATS.map((name) => [name, name]), "alpaca");
  format.setAttribute("aria-label", "Format of the download");
  return [h("div", { class: "actions" },
    link("Browse its instructions", ["instructions"], { run: one.dataset }),
    link("Compare it", ["datasets"]),
    h("span", {}, format, " ", workButton("Download", place, () =>
      save(`/v1/datasets/${id}/export?format=${format.value}`, one.dataset)))), place];
}

function steps(rows) {
  return table("What each step of the recipe left", [
    { title: "step" }, { title: "instances in", kind: "number" }, { title: "out", kind: "number" },
    { title: "instructions out", kind: "number" }, { title: "rejected", kind: "long" },
  ], rows.map((row) => [
    `${row.step}. ${words(row.name)}`, whole(row.instances_in), whole(row.instances_out), whole(row.instructions_out),
    Object.entries(row.reasons).map(([reason, count]) => `${words(reason)}: ${whole(count)}`).join(", ") || null,
  ]));
}

function kinds(rows) {
  return bars("Distinct instructions", rows.map((row) => ({
    label: words(row.question_word ?? row.kind) + (row.question_word ? " (question)" : ""),
    count: row.count, fill: "first", note: `${whole(row.count)} (${percent(row.share)})`,
  })));
}
