"""What the dashboard's pages show beside what the routes of the API answer with: samples of a run,
examples of what it rejected, evaluations of students."""

from __future__ import annotations

import json
from typing import Any

from store.service.reads import Reads
from store.service.statistics import diversity

SAMPLES = 8
EXAMPLES = 3
"""Of each reason."""
_MOST_REASONS = 12


def run_page(reads: Reads, run_id: str) -> dict[str, Any]:
    """A run's diversity, some of what it accepted and, by reason, of what it rejected. The samples
    are drawn by the hash of their ids: all over the run, and the same each time.

    Raises:
        UsageError: nothing has been published yet.
    """
    head = reads.rows(
        "SELECT (manifest ->> '$.config.novelty.threshold')::DOUBLE AS threshold, "
        "(SELECT count(*) FROM seed_tasks AS s WHERE s.run_id = r.run_id) AS seeds "
        "FROM runs AS r WHERE run_id = ?",
        [run_id],
    )
    samples = reads.rows(
        "SELECT i.id, i.text, i.state, i.operator, f.input, f.output FROM instructions AS i "
        "LEFT JOIN instances AS f ON f.id = (SELECT n.id FROM instances AS n WHERE "
        "n.instruction_id = i.id AND n.state = 'accepted' ORDER BY n.\"index\" LIMIT 1) "
        "WHERE i.run_id = ? AND i.state = 'accepted' ORDER BY hash(i.id) LIMIT ?",
        [run_id, SAMPLES],
    )
    return {
        "threshold": head[0]["threshold"] if head and head[0]["seeds"] else None,
        "novelty": diversity(reads, run_id)["novelty"],
        "samples": samples,
        "rejects": [*_rejected_instructions(reads, run_id), *_rejected_instances(reads, run_id)],
    }


def _rejected_instructions(reads: Reads, run_id: str) -> list[dict[str, Any]]:
    rows = reads.rows(
        "SELECT id, text, reason, score, coalesce(blocker_text, evidence) AS evidence, "
        "count(*) OVER (PARTITION BY reason) AS count FROM instructions "
        "WHERE run_id = ? AND state = 'rejected' QUALIFY "
        "row_number() OVER (PARTITION BY reason ORDER BY hash(id)) <= ? ORDER BY count DESC, reason",
        [run_id, EXAMPLES],
    )
    return _by_reason(rows, "instructions")


def _rejected_instances(reads: Reads, run_id: str) -> list[dict[str, Any]]:
    rows = reads.rows(
        "SELECT n.instruction_id AS id, i.text, n.input, n.output, n.reason, n.score, n.evidence, "
        "count(*) OVER (PARTITION BY n.reason) AS count FROM instances AS n "
        "JOIN instructions AS i ON i.id = n.instruction_id "
        "WHERE n.run_id = ? AND n.state = 'rejected' QUALIFY row_number() OVER "
        "(PARTITION BY n.reason ORDER BY hash(n.id)) <= ? ORDER BY count DESC, n.reason",
        [run_id, EXAMPLES],
    )
    return _by_reason(rows, "instances")


def _by_reason(rows: list[dict[str, Any]], subject: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        reason, count = str(row.pop("reason")), row.pop("count")
        group = found.setdefault(
            reason, {"subject": subject, "reason": reason, "count": count, "examples": []}
        )
        group["examples"].append(row)
    return list(found.values())[:_MOST_REASONS]


def list_evaluations(reads: Reads) -> list[dict[str, Any]]:
    """Finished evaluations with their main figures, the newest first.

    Raises:
        UsageError: nothing has been published yet.
    """
    if not _has_evaluations(reads):
        return []
    found = reads.rows(
        "SELECT e.run_id, e.training_run, e.dataset, e.base_name, e.method, e.serving, "
        "strftime(r.finished_at, '%Y-%m-%dT%H:%M:%SZ') AS finished_at "
        "FROM evaluations AS e JOIN runs AS r USING (run_id) "
        "ORDER BY r.finished_at DESC NULLS LAST, e.run_id"
    )
    summaries = reads.rows(
        "SELECT run_id, part, file_name, metric, items, base, tuned, difference, low, high, tuned_is "
        "FROM evaluation_summary"
    )
    for row in found:
        row["summary"] = [
            {key: value for key, value in one.items() if key != "run_id"}
            for one in summaries
            if one["run_id"] == row["run_id"]
        ]
    return found


def find_evaluation(reads: Reads, run_id: str) -> dict[str, Any] | None:
    """One evaluation: how it was made, its files, all differences; None where there is none.

    Raises:
        UsageError: nothing has been published yet.
    """
    if not _has_evaluations(reads):
        return None
    found = reads.rows("SELECT * FROM evaluations WHERE run_id = ?", [run_id])
    if not found:
        return None
    files = reads.rows(
        "SELECT file, part, name, items, asked, contaminated FROM evaluation_files "
        "WHERE run_id = ? ORDER BY file",
        [run_id],
    )
    differences = reads.rows(
        "SELECT d.file, d.group_name, d.metric, d.items, d.base, d.tuned, d.difference, d.low, "
        "d.high, d.notes, s.tuned_is FROM evaluation_differences AS d "
        "LEFT JOIN evaluation_files AS f ON f.run_id = d.run_id AND f.file = d.file "
        "LEFT JOIN evaluation_summary AS s ON s.run_id = d.run_id AND s.file_name = f.name "
        "AND s.part = f.part AND s.metric = d.metric AND d.group_name = 'all' "
        "WHERE d.run_id = ? ORDER BY d.file, d.metric, d.group_name <> 'all', d.group_name",
        [run_id],
    )
    for row in differences:
        row["notes"] = json.loads(row["notes"])
    return {**found[0], "files": files, "differences": differences}


def list_items(
    reads: Reads, run_id: str, file: int, after: int, limit: int, order: str
) -> list[dict[str, Any]]:
    """Items of an evaluation's file with both answers and all scores.

    Args:
        after: how many are passed over.
        order: `file`, `better` or `worse`: where the tuned student gained or lost most come first.

    Raises:
        UsageError: nothing has been published yet.
    """
    if not _has_evaluations(reads):
        return []
    # Of nll less is better.
    gain = (
        "(SELECT avg(CASE metric WHEN 'nll' THEN -difference ELSE difference END) "
        "FROM scored WHERE scored.item_id = i.id)"
    )
    by = {"file": "i.item", "better": f"{gain} DESC NULLS LAST, i.item",
          "worse": f"{gain} ASC NULLS LAST, i.item"}[order]  # fmt: skip
    rows = reads.rows(
        "WITH scored AS (SELECT item_id, metric, max(value) FILTER (student = 'base') AS base, "
        "max(value) FILTER (student = 'tuned') AS tuned, coalesce(max(value) FILTER "
        "(student = 'pair'), max(value) FILTER (student = 'tuned') - max(value) FILTER "
        "(student = 'base')) AS difference FROM evaluation_scores WHERE run_id = ? "
        "GROUP BY item_id, metric) "
        "SELECT i.id, i.item, i.name, i.task, i.category, i.is_contaminated, i.system, "
        "i.instruction, i.input, i.reference_answers, i.base_answer, i.tuned_answer, "
        "i.base_finish, i.tuned_finish, i.verdict, "
        "(SELECT to_json(list({metric: metric, base: base, tuned: tuned, difference: difference} "
        "ORDER BY metric)) FROM scored WHERE scored.item_id = i.id) AS scores "
        f"FROM evaluation_items AS i WHERE i.run_id = ? AND i.file = ? ORDER BY {by} "
        "LIMIT ? OFFSET ?",
        [run_id, run_id, file, limit, after],
    )
    for row in rows:
        row["scores"] = json.loads(row["scores"] or "[]")
    return rows


def curation_of(reads: Reads, run_id: str) -> list[dict[str, Any]]:
    """What each step of its recipe left of a dataset version; empty of one that was not curated.

    Raises:
        UsageError: nothing has been published yet.
    """
    rows = reads.rows(
        "SELECT step, name, instructions_in, instances_in, instructions_out, instances_out, reasons "
        "FROM curation_steps WHERE dataset = ? ORDER BY step",
        [run_id],
    )
    for row in rows:
        row["reasons"] = json.loads(row["reasons"] or "{}")
    return rows


def _has_evaluations(reads: Reads) -> bool:
    """A snapshot of an older evoloom has no such tables."""
    return bool(
        reads.rows("SELECT 1 FROM duckdb_tables() WHERE table_name = 'evaluation_differences'")
    )
