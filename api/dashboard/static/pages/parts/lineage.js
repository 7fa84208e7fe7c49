// The tree that an instruction stands in.
import { h, link } from "../../dom.js";
import { plural, shorten, words } from "../../format.js";
import { message, state } from "../../widgets.js";

const MOST = 500;
/** Deeper levels stand below each other: a page has no room for more steps to the right. */
const DEEPEST = 12;

/** `nodes`: each before its children, with its level; `meant`: the id of the one whose page it is. */
export function lineage(nodes, meant) {
  const root = h("ul", { class: "tree" });
  const open = [root];
  let last = null;
  for (const node of nodes.slice(0, MOST)) {
    const level = Math.min(node.level, DEEPEST);
    while (open.length - 1 > level) open.pop();
    if (open.length - 1 < level && last) {
      const below = h("ul", {});
      last.append(below);
      open.push(below);
    }
    last = h("li", {}, nodeOf(node, node.id === meant));
    open[open.length - 1].append(last);
  }
  return h("div", {},
    h("p", { class: "quiet" }, nodes.length === 1
      ? "It stands alone: it was evolved from nothing, and nothing from it."
      : `${plural(nodes.length, "instruction")} in this tree; the one of this page has a thick edge.`),
    root,
    nodes.length > MOST ? message(`${nodes.length - MOST} more are not shown; evoloom lineage shows all.`) : null);
}

function nodeOf(node, isMeant) {
  const made = [
    node.operator ? words(node.operator) : words(node.stage),
    node.round === null ? null : `round ${node.round}`,
    node.difficulty === null ? null : `difficulty ${node.difficulty}`,
    node.level > DEEPEST ? `level ${node.level}` : null,
  ].filter(Boolean).join(", ");
  const text = shorten(node.text, 280) || "(empty text)";
  return h("div", { class: isMeant ? "node meant" : "node" },
    h("div", { class: "quiet" }, made, " ", state(node.state, node.reason)),
    isMeant ? h("b", { class: "text", "aria-current": "true" }, text) : link(text, ["instructions", node.id]));
}
