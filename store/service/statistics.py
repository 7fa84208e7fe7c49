"""Statistics of runs and dataset versions in the snapshot, as the service answers them."""

from __future__ import annotations

from typing import Any

from store.service.reads import Reads


def verb_nouns(reads: Reads, run_id: str, method: str, verbs: int, nouns: int) -> dict[str, Any]:
    """The most frequent verbs of what a run has accepted, with the most frequent nouns of each
    (Self-Instruct, section 3.4: the 20 most common root verbs and their top 4 direct objects).

    Raises:
        UsageError: nothing has been published yet.
    """
    rows = reads.rows(
        "SELECT verb, noun, count, share, example FROM verb_noun_pairs "
        "WHERE run_id = ? AND method = ? ORDER BY count DESC, verb, noun",
        [run_id, method],
    )
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row.pop("verb"), []).append(row)
    totals = [
        {
            "verb": verb,
            "count": sum(pair["count"] for pair in pairs),
            "share": sum(pair["share"] for pair in pairs),
            "nouns": pairs[:nouns],
        }
        for verb, pairs in grouped.items()
    ]
    totals.sort(key=lambda item: (-item["count"], item["verb"]))
    return {"pairs": len(rows), "verbs": len(totals), "top": totals[:verbs]}


def run_numbers(reads: Reads, run_id: str) -> dict[str, Any] | None:
    """A run's funnel, teacher usage and counts; None where the snapshot has nothing of it.

    Raises:
        UsageError: nothing has been published yet.
    """
    counts = reads.rows("SELECT accepted, surplus FROM runs WHERE run_id = ?", [run_id])
    if not counts:
        return None
    funnel = reads.rows(
        "SELECT step, subject, stage, outcome, reason, count FROM funnel WHERE run_id = ? "
        "ORDER BY step, stage, count DESC, reason",
        [run_id],
    )
    usage = reads.rows(
        "SELECT stage, requests, answers, refusals, without_usage, prompt_tokens, cached_tokens, "
        "completion_tokens, cost, latency_p50_s, latency_p90_s, latency_p99_s, model, cached_share, "
        "cost_per_accepted FROM teacher_usage "
        "WHERE run_id = ? ORDER BY first_answered_at, stage",
        [run_id],
    )
    return {**counts[0], "funnel": funnel, "usage": usage}


def accepted_counts(reads: Reads) -> dict[str, tuple[int, int]]:
    """(accepted, surplus) of every run in the snapshot.

    Raises:
        UsageError: nothing has been published yet.
    """
    rows = reads.rows("SELECT run_id, accepted, surplus FROM runs")
    return {row["run_id"]: (row["accepted"], row["surplus"]) for row in rows}


def dataset_numbers(reads: Reads, run_id: str) -> dict[str, Any] | None:
    """The row of `dataset_statistics`, and how long the texts are; None where the snapshot has
    nothing of it.

    Raises:
        UsageError: nothing has been published yet.
    """
    rows = reads.rows("SELECT * FROM dataset_statistics WHERE run_id = ?", [run_id])
    if not rows:
        return None
    lengths = reads.rows(
        "SELECT part, words_from, words_to, count FROM length_distribution WHERE run_id = ?",
        [run_id],
    )
    return {**rows[0], "lengths": lengths}


def diversity(reads: Reads, run_id: str) -> dict[str, Any]:
    """Kinds of instructions, and how near they are to the seeds and to each other.

    Raises:
        UsageError: nothing has been published yet.
    """
    kinds = reads.rows(
        "SELECT kind, question_word, count, share FROM instruction_kinds "
        "WHERE run_id = ? AND method = 'mended' ORDER BY count DESC, kind, question_word",
        [run_id],
    )
    novelty = reads.rows(
        "SELECT against, score_from, score_to, count, share FROM novelty_distribution "
        "WHERE run_id = ? ORDER BY against, score_from",
        [run_id],
    )
    return {"kinds": kinds, "novelty": novelty}
