// What the teacher was asked, and what that cost.
import { h } from "../../dom.js";
import { decimal, duration, whole, words } from "../../format.js";
import { bar, figures, key, message, table } from "../../widgets.js";

export function usage(rows) {
  if (!rows.length) return message("No teacher was asked.");
  const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
  const costs = rows.filter((row) => row.cost !== null);
  const tokens = (row) => (row.prompt_tokens ?? 0) + (row.completion_tokens ?? 0);
  const most = Math.max(1, ...rows.map(tokens));
  return h("div", {},
    figures([
      [whole(sum("requests")), "requests"],
      [whole(sum("prompt_tokens")), "prompt tokens"],
      [whole(sum("cached_tokens")), "of them cached"],
      [whole(sum("completion_tokens")), "completion tokens"],
      [costs.length ? decimal(sum("cost"), 4) : "not known", costs.length ? "cost" : "cost: no prices are set"],
    ]),
    key([["prompt", "prompt"], ["cached", "prompt, cached"], ["completion", "completion"]]),
    h("table", { class: "bars" }, h("caption", {}, "Tokens by stage"), h("tbody", {}, rows.map((row) => h("tr", {},
      h("th", { scope: "row" }, words(row.stage)),
      h("td", { class: "bar" }, bar([
        { count: (row.prompt_tokens ?? 0) - (row.cached_tokens ?? 0), fill: "prompt" },
        { count: row.cached_tokens ?? 0, fill: "cached" },
        { count: row.completion_tokens ?? 0, fill: "completion" },
      ], most)),
      h("td", { class: "number" }, whole(tokens(row))))))),
    table("The teacher by stage", [
      { title: "stage" }, { title: "model" }, { title: "requests", kind: "number" }, { title: "refusals", kind: "number" },
      { title: "prompt", kind: "number" }, { title: "cached", kind: "number" },
      { title: "completion", kind: "number" }, { title: "cost", kind: "number" },
      { title: "each accepted", kind: "number" },
      { title: "latency p50", kind: "number" }, { title: "p90", kind: "number" },
    ], rows.map((row) => [
      words(row.stage), row.model ?? "", whole(row.requests), whole(row.refusals), whole(row.prompt_tokens),
      whole(row.cached_tokens), whole(row.completion_tokens), decimal(row.cost, 4),
      decimal(row.cost_per_accepted, 4),
      duration(row.latency_p50_s), duration(row.latency_p90_s),
    ])));
}
