"""Browsing instructions in the snapshot: filters, pages, and one with all that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import duckdb

from store.lineage import tree_of
from store.service.reads import Reads, fetch, utc_text

_PLACE = "i.run_id, i.stage, i.generation, coalesce(i.item, -1), i.id"
_COLUMNS = (
    "i.id, i.run_id, i.stage, i.position, i.text, i.state, i.reason, i.score, "
    "i.is_classification, i.operator, i.round, i.difficulty, i.parent_id, i.text_id"
)
# By the project's own rule.
_NEWEST_PARSER = "SELECT arg_max(parser_version, (first_used_at, parser_version)) FROM parsers"
_VERBS = f"""
JOIN verb_nouns AS v ON v.text_id = i.text_id AND v.method = 'mended'
  AND v.parser_version = ({_NEWEST_PARSER})
"""


@dataclass(frozen=True, slots=True)
class InstructionFilter:
    """Which instructions are wanted; None takes all. `text` is looked for in any case of letters."""

    run_id: str | None = None
    method: str | None = None
    state: str | None = None
    reason: str | None = None
    verb: str | None = None
    noun: str | None = None
    text: str | None = None


def list_instructions(
    reads: Reads, wanted: InstructionFilter, after: list[Any] | None, limit: int
) -> list[dict[str, Any]]:
    """Instructions by run, stage and position, after a place that `place_of` gave.

    Raises:
        UsageError: nothing has been published yet.
    """
    parts: list[str] = []
    values: list[Any] = []
    conditions = (
        ("i.run_id = ?", wanted.run_id),
        ("i.run_id IN (SELECT run_id FROM runs WHERE kind = ?)", wanted.method),
        ("i.state = ?", wanted.state), ("i.reason = ?", wanted.reason), ("v.verb = ?", wanted.verb),
        ("v.noun = ?", wanted.noun),
    )  # fmt: skip
    for condition, value in conditions:
        if value is not None:
            parts.append(condition)
            values.append(value)
    if wanted.text is not None:
        parts.append("contains(lower(i.text), lower(?))")
        values.append(wanted.text)
    if after is not None:
        # The first part alone lets whole row groups be passed over.
        parts += ["i.run_id >= ?", f"({_PLACE}) > (?, ?, ?, ?, ?)"]
        values += [after[0], *after]
    condition = " AND ".join(parts) or "TRUE"
    by_verb = wanted.verb is not None or wanted.noun is not None
    with reads.connection() as connection:
        rows = fetch(
            connection,
            f"SELECT {_COLUMNS} FROM instructions AS i {_VERBS * by_verb} "
            f"WHERE {condition} ORDER BY {_PLACE} LIMIT ?",
            [*values, limit],
        )
        _add_method_and_verb(reads, connection, rows)
    return rows


def _add_method_and_verb(
    reads: Reads, connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]
) -> None:
    # For the page alone: joined to all instructions they would cost several times as much.
    kinds = reads.kinds(connection, {row["run_id"] for row in rows})
    texts = list({row["text_id"] for row in rows})
    marks = ", ".join("?" * len(texts))
    pairs = {}
    if texts:
        pairs = {
            text_id: pair
            for text_id, *pair in connection.execute(
                "SELECT text_id, verb, noun FROM verb_nouns WHERE method = 'mended' "
                f"AND parser_version = ({_NEWEST_PARSER}) AND text_id IN ({marks})",
                texts,
            ).fetchall()
        }
    for row in rows:
        row["method"] = kinds[row["run_id"]]
        row["verb"], row["noun"] = pairs.get(row.pop("text_id"), (None, None))


def place_of(row: dict[str, Any]) -> list[Any]:
    """Where an instruction stands in the order of `list_instructions`."""
    position = [*row["position"], -1]
    return [row["run_id"], row["stage"], position[0], position[1], row["id"]]


def find_instruction(reads: Reads, instruction_id: str) -> dict[str, Any] | None:
    """One instruction with its instances, the completions at its position and its tree.

    Raises:
        UsageError: nothing has been published yet.
    """
    with reads.connection() as connection:
        found = fetch(
            connection,
            f"SELECT {_COLUMNS}, i.evidence, i.blocker_source, i.blocker_reference, "
            "i.blocker_text, i.origin, i.root_id, i.generation, i.item "
            "FROM instructions AS i WHERE i.id = ?",
            [instruction_id],
        )
        if not found:
            return None
        _add_method_and_verb(reads, connection, found)
        row = found[0]
        row["instances"] = fetch(
            connection,
            'SELECT id, "index", input, output, state, reason, system, further_turns '
            # The run and the generation let most of the table be passed over.
            "FROM instances WHERE run_id = ? AND generation = ? AND instruction_id = ?",
            [row["run_id"], row["generation"], instruction_id],
        )
        row["instances"].sort(key=itemgetter("index"))
        row["completions"] = _completions(connection, row)
        row["lineage"] = [
            {"id": node.id, "parent_id": node.parent_id, "level": node.level, "run_id": node.run_id,
             "stage": node.stage, "position": list(node.position), "text": node.text,
             "state": node.state, "reason": node.reason, "operator": node.operator,
             "round": node.round, "difficulty": node.difficulty}
            for node in tree_of(connection, instruction_id)
        ]  # fmt: skip
    return row


def _completions(
    connection: duckdb.DuckDBPyConnection, row: dict[str, Any]
) -> list[dict[str, Any]]:
    """What the teacher was asked for it: the completion that it was parsed from, and its own."""
    item = row["item"]
    rows = fetch(
        connection,
        "SELECT id, stage, position, attempt, state, reason, text, finish_reason, prompt_tokens, "
        "completion_tokens, latency_s, model, item, answered_at FROM completions "
        "WHERE run_id = ? AND generation = ?",
        [row["run_id"], row["generation"]],
    )
    # A position has few; ordered by DuckDB they would cost as much again.
    rows = [one for one in rows if one["item"] in (None, item)]
    rows.sort(
        key=lambda one: (
            -1 if one["item"] is None else one["item"], utc_text(one["answered_at"]) or "",
            one["stage"], one["attempt"],
        )
    )  # fmt: skip
    for one in rows:
        del one["item"], one["answered_at"]
    return rows
