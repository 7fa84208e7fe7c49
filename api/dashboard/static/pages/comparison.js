// Two dataset versions beside each other.
import { get } from "../api.js";
import { coloursOf, sunburst } from "../charts/sunburst.js";
import { lengthCharts, noveltyCharts } from "../charts/histogram.js";
import { h, link, set } from "../dom.js";
import { plural, shorten, whole } from "../format.js";
import { message, named, section, table } from "../widgets.js";
import { statisticsOf } from "./dataset.js";
import { NOT_ANALYSED } from "./parts/makings.js";

export async function showComparison(page, { signal }, a, b) {
  if (!a || !b) {
    set(page, h("h1", {}, "Comparison"), message("Choose two versions on the page of datasets."));
    return;
  }
  const names = [a, b].map(encodeURIComponent);
  const all = (address) => Promise.all(names.map((name) => get(address(name), signal)));
  const [difference, statistics, diversity, verbs] = await Promise.all([
    get(`/v1/dashboard/compare?a=${names[0]}&b=${names[1]}`, signal),
    all((name) => `/v1/datasets/${name}/statistics`), all((name) => `/v1/datasets/${name}/diversity`),
    all((name) => `/v1/statistics/verb-noun?dataset=${name}`),
  ]);
  document.title = `${a} and ${b} · Comparison · evoloom`;
  const sides = [difference.a, difference.b];
  const novelty = noveltyCharts(sides.map((name, index) => [name, diversity[index].novelty]));
  const places = coloursOf(...verbs.map((one) => one.top));
  set(page, h("h1", {}, "Comparison of two versions"),
    h("p", {}, "A is ", link(difference.a, ["datasets", difference.a]), ", B is ", link(difference.b, ["datasets", difference.b]), "."),
    difference.equal ? message("Both hold the same instances.", "good") : null,
    section("What they share", counts(difference)),
    section("Statistics", beside(statistics)),
    section("What differs", differences(difference)),
    section("Novelty", novelty ? [h("p", { class: "quiet" }, "In per cent of each."), novelty] : message(NOT_ANALYSED)),
    section("Lengths in words", lengthCharts(sides.map((name, index) => [name, statistics[index].lengths]))),
    section("Verbs and nouns", h("p", { class: "quiet" }, "A verb has the same colour on both sides."),
      h("div", { class: "sides" }, verbs.map((one, index) => h("div", {}, h("h3", {}, `${"AB"[index]}: ${sides[index]}`),
        one.top.some((verb) => verb.nouns.length) ? sunburst(one.top, sides[index], places) : message(NOT_ANALYSED))))));
}

function counts(one) {
  return table("Instructions by text, instances by all they say", [
    { title: "" }, { title: "A", kind: "number" }, { title: "B", kind: "number" }, { title: "in both", kind: "number" },
    { title: "only A", kind: "number" }, { title: "only B", kind: "number" },
  ], [
    ["instructions", whole(one.instructions_a), whole(one.instructions_b), whole(one.instructions_in_both),
      whole(one.only_a_count), whole(one.only_b_count)],
    ["instances", whole(one.instances_a), whole(one.instances_b), whole(one.instances_in_both),
      whole(one.instances_a - one.instances_in_both), whole(one.instances_b - one.instances_in_both)],
  ]);
}

function beside(statistics) {
  const [rowsA, rowsB] = statistics.map(statisticsOf);
  return table("Statistics of both", [{ title: "" }, { title: "A", kind: "number" }, { title: "B", kind: "number" }],
    rowsA.map(([name, text], index) => [name, text, rowsB[index][1]]).filter((row) => row[1] || row[2]));
}

function differences(one) {
  const texts = (title, rows, count) => h("div", {}, h("h3", {}, `${title}: ${plural(count, "instruction")}`),
    rows.length ? h("ul", { class: "list" }, rows.map((text) => h("li", {}, shorten(text, 240)))) : h("p", { class: "quiet" }, "None."),
    count > rows.length ? h("p", { class: "quiet" }, `and ${whole(count - rows.length)} more`) : null);
  return [
    h("div", { class: "sides" }, texts("Only in A", one.only_a, one.only_a_count), texts("Only in B", one.only_b, one.only_b_count)),
    h("h3", {}, `Answered differently: ${whole(one.changed_count)}`),
    one.changed.map((change) => h("details", {}, h("summary", {}, shorten(change.instruction, 200) || "(empty text)"),
      change.input ? named("input", change.input) : null,
      h("div", { class: "sides" }, h("div", {}, named("A", change.outputs_a.join("\n\n"))), h("div", {}, named("B", change.outputs_b.join("\n\n")))))),
  ];
}
