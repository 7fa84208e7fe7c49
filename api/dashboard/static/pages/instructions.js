// The instruction browser.
import { get } from "../api.js";
import { announce, h, link, path, set } from "../dom.js";
import { decimal, plural, shorten, words } from "../format.js";
import { field, form, input, select } from "../forms.js";
import { button, failure, instructionLink, message, state, table } from "../widgets.js";

const STATES = ["accepted", "rejected", "without_instances", "surplus", "left_out", "pending"];
const FILTERS = ["run", "state", "reason", "text", "verb", "noun", "method"];

export async function showInstructions(page, { signal, query, go }) {
  const runs = await get("/v1/runs?limit=200", signal);
  const list = h("div", {});
  const choices = [["", "all"], ...runs.items.map((run) => [run.run_id, run.run_id])];
  const asked = query.get("run") ?? "";
  if (asked && !choices.some(([id]) => id === asked)) choices.push([asked, asked]);
  const kinds = [...new Set(runs.items.map((run) => run.kind))].sort();
  const controls = {
    run: select(choices, asked),
    state: select([["", "any"], ...STATES.map((name) => [name, words(name)])], query.get("state") ?? ""),
    reason: input({ value: query.get("reason") ?? "", maxlength: 100 }),
    text: input({ type: "search", value: query.get("text") ?? "", maxlength: 1000 }),
    verb: input({ value: query.get("verb") ?? "", maxlength: 100 }),
    noun: input({ value: query.get("noun") ?? "", maxlength: 100 }),
    method: select([["", "any"], ...kinds.map((name) => [name, name])], query.get("method") ?? ""),
  };
  const labels = {
    run: "Run or dataset", state: "State", reason: "Reason of rejection", text: "Words of the text",
    verb: "Verb", noun: "Noun", method: "Kind of run",
  };
  set(page, h("h1", {}, "Instructions"),
    form("Filter", h("div", { class: "fields" }, FILTERS.map((name) =>
      field(name, labels[name], controls[name], name === "reason" ? "Such as not_novel." : ""))),
    "Show", async () => {
      go(path(["instructions"], Object.fromEntries(FILTERS.map((name) => [name, controls[name].value.trim()]))));
    }, [link("Clear", ["instructions"])]), list);
  const given = new URLSearchParams(FILTERS.map((name) => [name, query.get(name) ?? ""]).filter(([, value]) => value));
  const rows = [];
  const load = async (cursor) => {
    const address = new URLSearchParams(given);
    if (cursor) address.set("cursor", cursor);
    const answer = await get(`/v1/instructions?${address}`, signal);
    rows.push(...answer.items);
    const more = button("Show more", async () => {
      more.disabled = true;
      try {
        await load(answer.next_cursor);
        announce(`${rows.length} are shown`);
      } catch (error) {
        list.append(failure(error));
      }
    }, "second");
    set(list, rows.length ? listOf(rows, Boolean(answer.next_cursor)) : message(given.size
      ? "No instruction is like this." : "There are no instructions yet: they come with the first run or import."),
    answer.next_cursor ? h("div", { class: "actions" }, more) : null);
  };
  await load(null);
}

function listOf(rows, isMore) {
  return table(`${plural(rows.length, "instruction")}${isMore ? " so far; there are more" : ""}`, [
    { title: "instruction", kind: "long" }, { title: "state" }, { title: "score", kind: "number roomy" },
    { title: "verb, noun", kind: "roomy" }, { title: "run", kind: "roomy long" },
  ], rows.map((row) => [
    instructionLink(row.id, shorten(row.text, 300)),
    state(row.state, row.reason),
    row.score === null ? null : decimal(row.score, 3),
    row.verb ? `${words(row.verb)} ${row.noun ?? ""}` : null,
    link(row.run_id, ["runs", row.run_id]),
  ]));
}
