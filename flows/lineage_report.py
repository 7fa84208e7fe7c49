"""A lineage as lines of text: a tree with what each operator added to its parent."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from store.lineage import Lineage, LineageNode

_WIDTH = 160


def tree_lines(lineage: Lineage) -> Iterator[str]:
    """The lines of a tree; what was asked for is marked with `*`."""
    by_id = {node.id: node for node in lineage.nodes}
    last_children = {node.parent_id: node.id for node in lineage.nodes}
    below = [""]
    """What stands before the lines below a node, by level."""
    for node in lineage.nodes:
        above = below[node.level - 1] if node.level else ""
        is_last = last_children[node.parent_id] == node.id
        lead = f"{above}{'`-- ' if is_last else '|-- '}" if node.level else ""
        own = f"{above}{'    ' if is_last else '|   '}" if node.level else ""
        below[node.level :] = [own]
        mark = "* " if node.id in lineage.meant else ""
        yield f"{lead}{mark}{_head(node)}"
        parent = by_id.get(node.parent_id or "") if node.level else None
        for text in _body(node, parent):
            yield f"{own}    {text}"


def _head(node: LineageNode) -> str:
    place = f"{node.stage}/{'.'.join(map(str, node.position))}"
    rated = f", difficulty {node.difficulty}" if node.difficulty is not None else ""
    if node.operator is not None and node.round is not None:
        name = f"round {node.round + 1}, {node.operator}"
    else:
        name = node.stage if node.stage in ("source", "dataset", "import") else "instruction"
    state = node.state if node.reason is None else f"{node.state}: {node.reason}"
    return f"{name} ({node.id[:12]}, {node.run_id} {place}, {state}{rated})"


def _body(node: LineageNode, parent: LineageNode | None) -> Iterator[str]:
    if parent is None or node.stage != "evolve":
        if parent is None or node.text != parent.text:
            yield _short(node.text)
        if node.input:
            yield f"input: {_short(node.input)}"
    elif node.operator == "breadth":
        yield f"new: {_short(node.text)}"
    else:
        added, removed = changed_words(f"{parent.text}\n{parent.input}", node.text)
        yield f"added: {_short(added) or '-'}"
        if removed:
            yield f"removed: {_short(removed)}"


def changed_words(before: str, after: str) -> tuple[str, str]:
    """The words that `after` has and `before` lacks, and the other way round; ' ... ' stands
    between stretches."""
    old, new = before.split(), after.split()
    added, removed = [], []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind in ("insert", "replace"):
            added.append(" ".join(new[c:d]))
        if kind in ("delete", "replace"):
            removed.append(" ".join(old[a:b]))
    return " ... ".join(added), " ... ".join(removed)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _WIDTH else flat[: _WIDTH - 1] + "…"
