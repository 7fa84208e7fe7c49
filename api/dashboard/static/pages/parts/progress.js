// A run while it goes on.
import { h } from "../../dom.js";
import { decimal, duration, percent, whole, words } from "../../format.js";
import { bars, figures, message, progressBar, section, table } from "../../widgets.js";

/** `record`: the newest progress of a run; null before the first. */
export function progress(record, run) {
  if (!record) {
    return section("Progress", message(run.state === "queued"
      ? "It waits for its turn." : "It starts; there is no progress to show yet."));
  }
  const stages = Object.entries(record.stages ?? {});
  const rejected = Object.entries(record.rejected ?? {}).sort((a, b) => b[1] - a[1]);
  return section("Progress",
    h("p", {}, progressBar(record.accepted, record.target, "Accepted"), " accepted"),
    figures([
      [percent(record.share_done), "done"],
      [duration(record.elapsed_s), "so far"],
      [duration(record.remaining_s), "to go"],
      [decimal(record.tokens_per_s, 1), "tokens a second"],
      [whole(record.prompt_tokens), "prompt tokens"],
      [whole(record.completion_tokens), "completion tokens"],
      [decimal(record.cost, 4), "cost"],
    ]),
    (record.warnings ?? []).map((warning) => message(warningText(warning), "error")),
    stages.length ? table("Requests by stage", [
      { title: "stage" }, { title: "done", kind: "number" }, { title: "in flight", kind: "number" },
      { title: "known", kind: "number" },
    ], stages.map(([name, one]) => [words(name), whole(one.done), whole(one.in_flight), whole(one.known)])) : null,
    rejected.length ? bars("Rejected so far", rejected.map(([reason, count]) =>
      ({ label: words(reason), count, fill: "rejected" }))) : null);
}

function warningText(warning) {
  return typeof warning === "string" ? warning : warning?.message ?? JSON.stringify(warning);
}
