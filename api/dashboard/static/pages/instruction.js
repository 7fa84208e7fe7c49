// One instruction with all that belongs to it.
import { get } from "../api.js";
import { h, link, set } from "../dom.js";
import { decimal, duration, shorten, whole, words } from "../format.js";
import { facts, message, named, section, state } from "../widgets.js";
import { lineage } from "./parts/lineage.js";

export async function showInstruction(page, { signal }, id) {
  const one = await get(`/v1/instructions/${encodeURIComponent(id)}`, signal);
  document.title = `${shorten(one.text, 60)} · Instruction · evoloom`;
  set(page,
    h("h1", { class: "unseen" }, "Instruction"),
    h("div", { class: "box" }, h("p", { class: "label" }, "instruction"), h("p", { class: "text" }, one.text)),
    facts([
      ["state", state(one.state, one.reason)],
      ["run", link(one.run_id, ["runs", one.run_id])],
      ["made by", `${one.method}, ${words(one.stage)} ${one.position.join(".")}`],
      ["operator", one.operator ? words(one.operator) : null],
      ["round", one.round],
      ["difficulty", one.difficulty],
      ["classification task", one.is_classification === null ? null : one.is_classification ? "yes" : "no"],
      ["verb and noun", one.verb ? `${words(one.verb)} ${one.noun ?? ""}` : null],
      ["score", one.score === null ? null : decimal(one.score, 3)],
      ["came from", one.origin],
      ["id", one.id],
    ]),
    one.state === "rejected" && (one.blocker_text || one.evidence) ? h("div", { class: "box" },
      one.blocker_text ? named(`kept out by this ${words(one.blocker_source)}`, one.blocker_text) : null,
      one.evidence ? named("because of", one.evidence) : null) : null,
    section("Instances", one.instances.length ? one.instances.map((instance) => h("div", { class: "box" },
      h("p", { class: "quiet" }, `instance ${instance.index + 1} `, state(instance.state, instance.reason)),
      instance.system ? named("system", instance.system) : null,
      instance.input ? named("input", instance.input) : null,
      named("output", instance.output),
      instance.further_turns ? named("further turns", instance.further_turns) : null))
      : message("It has none.")),
    section("Lineage", lineage(one.lineage, one.id)),
    section("What the teacher answered", one.completions.length ? one.completions.map(completion)
      : message("No teacher was asked for it.")));
}

function completion(one) {
  const title = `${words(one.stage)} ${one.position.join(".")}`
    + `${one.attempt ? `, asked again (${one.attempt})` : ""}: ${words(one.state)}${one.reason ? `, ${words(one.reason)}` : ""}`;
  return h("details", {}, h("summary", {}, title),
    h("p", { class: "quiet" }, [
      one.model, one.finish_reason ? `ended by ${one.finish_reason}` : null,
      one.prompt_tokens === null ? null : `${whole(one.prompt_tokens)} + ${whole(one.completion_tokens)} tokens`,
      duration(one.latency_s),
    ].filter(Boolean).join(", ")),
    one.text === null ? message("It was refused.") : h("p", { class: "text box" }, one.text));
}
