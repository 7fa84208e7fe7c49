// What came in, what became of it, and why. Completions, instructions and instances are counted apart:
// one completion holds several instructions, one instruction has several instances.
import { h } from "../dom.js";
import { share, whole, words } from "../format.js";
import { bars } from "../widgets.js";

const SUBJECTS = [
  ["completions", "Requests to the teacher"],
  ["instructions", "Instructions"],
  ["instances", "Instances"],
];
const FILLS = {
  used: "accepted", accepted: "accepted", admitted: "accepted", rejected: "rejected",
  discarded: "rejected", without_instances: "rejected", left_out: "rejected", surplus: "surplus",
  pending: "unsettled",
};
const TOTALS = ["requested", "parsed"];
const STAGES = ["source", "import", "dataset", "generate", "evolve", "judge", "respond", "rate", "classify", "instances"];
/** Parts of what was admitted, in another way. */
const ASIDE = ["classification", "not_classification", "unclassified"];

export function funnel(rows) {
  return SUBJECTS.map(([subject, title]) => {
    const found = rows.filter((row) => row.subject === subject);
    if (!found.length) return null;
    const stages = [...new Set(found.map((row) => row.stage))].sort((a, b) => rank(a) - rank(b));
    return h("div", {}, h("h3", {}, title), stages.map((stage) =>
      stageBars(found.filter((row) => row.stage === stage), stage)));
  });
}

function rank(stage) {
  const place = STAGES.indexOf(stage);
  return place < 0 ? STAGES.length : place;
}

function stageBars(rows, stage) {
  const total = rows.filter((row) => TOTALS.includes(row.outcome))
    .reduce((sum, row) => sum + row.count, 0);
  return bars(words(stage), rows.map((row) => ({
    label: words(row.outcome) + (row.reason ? `: ${words(row.reason)}` : ""),
    count: row.count,
    fill: ASIDE.includes(row.outcome) ? "neutral" : FILLS[row.outcome] ?? "first",
    note: TOTALS.includes(row.outcome) ? whole(row.count)
      : `${whole(row.count)} (${share(row.count, total)})`,
  })), total || undefined);
}
