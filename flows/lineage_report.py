"""A lineage as lines of text: a tree with what each operator added to its parent."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from store.lineage import LineageNode

_WIDTH = 160


def tree_lines(root: LineageNode, meant: frozenset[str]) -> Iterator[str]:
    """The lines of a tree; what was asked for is marked with `*`."""
    yield from _node(root, None, "", "", meant)


def _node(
    node: LineageNode, parent: LineageNode | None, lead: str, below: str, meant: frozenset[str]
) -> Iterator[str]:
    mark = "* " if node.id in meant else ""
    place = f"{node.stage}/{'.'.join(map(str, node.position))}"
    rated = f", difficulty {node.difficulty}" if node.difficulty is not None else ""
    if node.operator is not None and node.round is not None:
        head = f"round {node.round + 1}, {node.operator}"
    else:
        head = "source" if node.stage == "source" else "instruction"
    state = node.state if node.reason is None else f"{node.state}: {node.reason}"
    yield f"{lead}{mark}{head} ({node.id[:12]}, {node.run_id} {place}, {state}{rated})"
    if parent is None or node.stage != "evolve":
        yield f"{below}    {_short(node.text)}"
    elif node.operator == "breadth":
        yield f"{below}    new: {_short(node.text)}"
    else:
        added, removed = changed_words(parent.text, node.text)
        yield f"{below}    added: {_short(added) or '-'}"
        if removed:
            yield f"{below}    removed: {_short(removed)}"
    for number, child in enumerate(node.children):
        is_last = number == len(node.children) - 1
        yield from _node(
            child, node, f"{below}{'`-- ' if is_last else '|-- '}",
            f"{below}{'    ' if is_last else '|   '}", meant,
        )  # fmt: skip


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
