// What a run or a dataset version holds: verbs and nouns, novelty, samples, rejects.
import { sunburst } from "../../charts/sunburst.js";
import { noveltyCharts } from "../../charts/histogram.js";
import { h, link } from "../../dom.js";
import { decimal, plural, whole, words } from "../../format.js";
import { instructionLink, message, named, section } from "../../widgets.js";

export const NOT_ANALYSED = "It has not been analysed yet. The service does so after a run; by hand: "
  + "evoloom store analyse.";

/** `page`: novelty, threshold, samples, rejects; `verbs`: the answer of /v1/statistics/verb-noun. */
export function makings(runId, page, verbs, isAtWork = false) {
  const missing = isAtWork ? "That is worked out when the run has ended." : NOT_ANALYSED;
  return [
    section("Verbs and nouns", verbs.top.some((verb) => verb.nouns.length) ? [
      h("p", { class: "quiet" }, `The ${verbs.top.length} most frequent verbs of what was accepted, and the nouns that are most `
        + `often their objects: of ${plural(verbs.pairs, "different pair")} and ${plural(verbs.verbs, "verb")}.`),
      sunburst(verbs.top, runId),
    ] : message(missing)),
    section("Novelty", h("p", { class: "quiet" }, "How near each accepted instruction is to the nearest seed, and to the nearest "
      + "other one."), noveltyCharts([["instructions", page.novelty]], page.threshold) ?? message(missing)),
    section("Samples", page.samples.length ? [
      h("p", { class: "quiet" }, "Some of what was accepted, drawn from all of it."), page.samples.map(sample),
      link("All that was accepted", ["instructions"], { run: runId, state: "accepted" }),
    ] : message("Nothing has been accepted.")),
    section("Rejects", page.rejects.length ? page.rejects.map((group) => rejects(runId, group))
      : message("Nothing was rejected.")),
  ];
}

function sample(row) {
  return h("div", { class: "box" }, h("h3", {}, instructionLink(row.id, row.text)),
    row.input ? named("input", row.input) : null,
    row.output === null ? h("p", { class: "quiet" }, "It has no instance.") : named("output", row.output));
}

function rejects(runId, group) {
  return h("details", {}, h("summary", {}, `${words(group.reason)}: ${whole(group.count)} ${group.subject}`),
    group.examples.map((row) => h("div", { class: "box" },
      h("p", {}, instructionLink(row.id, row.text)),
      row.input ? named("input", row.input) : null,
      row.output == null ? null : named("output", row.output),
      row.score === null ? null : h("p", { class: "quiet" }, `score ${decimal(row.score, 3)}`),
      row.evidence ? named(row.output == null ? "kept out by" : "because of", row.evidence) : null)),
    group.subject === "instructions"
      ? link("All of these", ["instructions"], { run: runId, state: "rejected", reason: group.reason }) : null);
}
