// One evaluation: base against tuned, sample by sample.
import { get } from "../api.js";
import { announce, h, link, set } from "../dom.js";
import { decimal, percent, plural, signed, whole, words } from "../format.js";
import { field, select } from "../forms.js";
import { button, facts, failure, message, named, section } from "../widgets.js";
import { comparisonTable, METRICS } from "./evaluations.js";

const ORDERS = [
  ["file", "as in the file"], ["better", "where the tuned student gained most"], ["worse", "where it lost most"],
];

export async function showEvaluation(page, { signal }, runId) {
  const one = await get(`/v1/dashboard/evaluations/${encodeURIComponent(runId)}`, signal);
  set(page, h("h1", {}, one.run_id),
    facts([
      ["training", link(one.training_run, ["runs", one.training_run])],
      ["dataset", one.dataset ? link(one.dataset, ["runs", one.dataset]) : null],
      ["method", one.method], ["base", one.base_name], ["template", one.template],
      ["served as", `${words(one.serving)}, ${one.dtype}`], ["judge", one.judge_model],
      ["adapter applied", one.proof_disagreement === null ? null
        : `served and trained differ by ${decimal(one.proof_disagreement, 4)} nats a token, served and base by ${decimal(one.proof_effect, 4)}`],
      ["intervals", `${percent(one.confidence)} of ${whole(one.resamples)} resamples, by task and item`],
    ]),
    one.files.map((file) => {
      const rows = one.differences.filter((row) => row.file === file.file);
      const ofAll = rows.filter((row) => row.group_name === "all");
      const groups = rows.filter((row) => row.group_name !== "all");
      return section(`${words(file.part)}: ${file.name}`,
        h("p", { class: "quiet" }, `${whole(file.asked)} of ${plural(file.items, "item")} asked`
          + (file.contaminated === null ? "" : `; ${whole(file.contaminated)} of them are in the training data`)),
        comparisonTable("All items", ofAll.map((row) => ({ ...row, group_name: "all" }))),
        groups.length ? h("details", {}, h("summary", {}, "By category and task"), comparisonTable("By group", groups)) : null);
    }),
    section("Sample by sample", samples(one, signal)));
}

function samples(one, signal) {
  if (!one.files.length) return message("Nothing was asked.");
  const file = select(one.files.map((row) => [row.file, `${words(row.part)}: ${row.name}`]), String(one.files[0].file));
  const order = select(ORDERS, "file");
  const list = h("div", {});
  let round = 0;
  const load = async (after) => {
    const mine = after ? round : (round += 1);
    if (!after) set(list, message("Loading…"));
    const query = new URLSearchParams({ file: file.value, order: order.value, after });
    try {
      const answer = await get(`/v1/dashboard/evaluations/${encodeURIComponent(one.run_id)}/items?${query}`, signal);
      if (mine !== round) return;
      if (!after) set(list);
      list.querySelector(".more")?.remove();
      list.append(...answer.items.map(item));
      if (!answer.items.length && !after) set(list, message("This file has no items."));
      if (answer.next_after !== null) {
        list.append(h("div", { class: "actions more" }, button("Show more", () => load(answer.next_after), "second")));
      }
      if (after) announce(plural(answer.items.length, "more item"));
    } catch (error) {
      if (error.name !== "AbortError") list.append(failure(error));
    }
  };
  for (const control of [file, order]) control.addEventListener("change", () => load(0));
  load(0);
  return [h("div", { class: "fields sides" }, field("file", "File", file), field("order", "Order", order)), list];
}

function item(row) {
  return h("article", { class: "box" },
    h("h3", {}, row.name),
    h("p", { class: "quiet" }, [row.category, row.verdict ? `judge: ${words(row.verdict)}` : null,
      row.is_contaminated ? "in the training data" : null].filter(Boolean).join(", ")),
    row.system ? named("system", row.system) : null,
    named("instruction", row.instruction),
    row.input ? named("input", row.input) : null,
    row.reference_answers.length ? h("details", {}, h("summary", {}, plural(row.reference_answers.length, "good answer")),
      row.reference_answers.map((text) => h("p", { class: "text box" }, text))) : null,
    h("div", { class: "sides" },
      h("div", {}, named(`base${ended(row.base_finish)}`, row.base_answer)),
      h("div", {}, named(`tuned${ended(row.tuned_finish)}`, row.tuned_answer))),
    h("p", { class: "quiet" }, row.scores.map((score) => scoreText(score)).join(" · ")));
}

function ended(reason) {
  return reason && reason !== "stop" ? ` (ended by ${words(reason)})` : "";
}

function scoreText({ metric, base, tuned, difference }) {
  if (metric === "judge") return `judge: ${difference > 0 ? "tuned won" : difference < 0 ? "base won" : "a tie"}`;
  return `${METRICS[metric] ?? metric} ${decimal(base, 3)} → ${decimal(tuned, 3)} (${signed(difference)})`;
}
