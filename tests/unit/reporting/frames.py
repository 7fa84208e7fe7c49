"""Frames as the store's views give them, of made-up runs; each test counts them again by itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from flows.reporting.chart import Side
from store.report_data import Head, ReportData, Statistics

AT = datetime(2026, 11, 21, 3, 47)  # noqa: DTZ001 - UTC without a zone, as DuckDB gives it
FUNNEL = [
    (1, "completions", "generate", "requested", None, 60),
    (2, "completions", "generate", "used", None, 50),
    (3, "completions", "generate", "discarded", "truncated", 9),
    (3, "completions", "generate", "discarded", "refused:context_length", 1),
    (1, "completions", "classify", "requested", None, 70),
    (2, "completions", "classify", "used", None, 70),
    (11, "instructions", "generate", "parsed", None, 200),
    (12, "instructions", "generate", "rejected", "not_novel", 100),
    (12, "instructions", "generate", "rejected", "keyword", 30),
    (13, "instructions", "generate", "admitted", None, 70),
    (14, "instructions", "generate", "classification", None, 20),
    (15, "instructions", "generate", "not_classification", None, 50),
    (19, "instructions", "generate", "without_instances", "no_instances", 8),
    (20, "instructions", "generate", "surplus", None, 2),
    (21, "instructions", "generate", "accepted", None, 60),
    (31, "instances", "generate", "parsed", None, 100),
    (32, "instances", "generate", "rejected", "ends_in_colon", 11),
    (34, "instances", "generate", "accepted", None, 89),
]


def pairs(rows: Sequence[tuple[str | None, str | None, int, str]]) -> pl.DataFrame:
    """verb, noun, count, example as `verb_noun_pairs` has them."""
    schema = {"verb": pl.String, "noun": pl.String, "count": pl.Int64, "share": pl.Float64,
              "example": pl.String}  # fmt: skip
    total = sum(row[2] for row in rows) or 1
    return pl.DataFrame(
        [(verb, noun, count, count / total, text) for verb, noun, count, text in rows],
        schema=schema, orient="row",
    )  # fmt: skip


def drawn_pairs(seed: int, verbs: int = 40, nouns: int = 12) -> pl.DataFrame:
    """Many pairs, with ties, verbs without a noun, and nouns that are verbs elsewhere."""
    rng = random.Random(seed)
    names = [f"verb{number}" for number in range(verbs)]
    rows = {
        (rng.choice(names), rng.choice([*names[:3], *(f"noun{n}" for n in range(nouns)), None]))
        for _ in range(300)
    }
    ordered = sorted(rows, key=str)
    rng.shuffle(ordered)
    return pairs([(verb, noun, rng.randint(1, 9), f"{verb} it") for verb, noun in ordered])


def kinds(rows: Sequence[tuple[str, str | None, int]]) -> pl.DataFrame:
    schema = {"kind": pl.String, "question_word": pl.String, "count": pl.Int64, "share": pl.Float64}
    total = sum(row[2] for row in rows) or 1
    return pl.DataFrame([(*row, row[2] / total) for row in rows], schema=schema, orient="row")


def novelty(rows: Sequence[tuple[str, float, int]]) -> pl.DataFrame:
    """against, lower end of the bin, count."""
    schema = {"against": pl.String, "score_from": pl.Float64, "score_to": pl.Float64,
              "count": pl.Int64}  # fmt: skip
    return pl.DataFrame(
        [(key, start, start + 0.05, count) for key, start, count in rows],
        schema=schema,
        orient="row",
    )


def lengths(rows: Sequence[tuple[str, int, int | None, int]]) -> pl.DataFrame:
    schema = {"part": pl.String, "words_from": pl.Int64, "words_to": pl.Int64, "count": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def funnel(rows: Sequence[tuple[int, str, str, str, str | None, int]]) -> pl.DataFrame:
    schema = {"step": pl.Int32, "subject": pl.String, "stage": pl.String, "outcome": pl.String,
              "reason": pl.String, "count": pl.Int64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def difficulty(rows: Sequence[tuple[int | None, int, int]]) -> pl.DataFrame:
    schema = {"round": pl.Int32, "difficulty": pl.Int32, "count": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def usage(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """stage, requests, prompt, cached and completion tokens, cost."""
    schema = {"stage": pl.String, "requests": pl.Int64, "answers": pl.Int64, "refusals": pl.Int64,
              "without_usage": pl.Int64,
              "prompt_tokens": pl.Int64, "cached_tokens": pl.Int64, "completion_tokens": pl.Int64,
              "cost": pl.Float64, "latency_p50_s": pl.Float64, "latency_p90_s": pl.Float64,
              "latency_p99_s": pl.Float64, "model": pl.String, "cached_share": pl.Float64,
              "cost_per_accepted": pl.Float64}  # fmt: skip
    return pl.DataFrame(
        [(stage, requests, requests, 0, 0, prompt, cached, completion, cost, 0.5, 1.0, 2.0,
          f"{stage}-model", cached / prompt, cost and cost / 60)
         for stage, requests, prompt, cached, completion, cost in rows],
        schema=schema, orient="row",
    )  # fmt: skip


def side(name: str = "night-1", head: dict[str, Any] | None = None, **changes: Any) -> Side:
    """A run with something in every part; `head` and `changes` replace fields."""
    facts = Head(
        run_id=name, kind="self-instruct", state="completed", reason=None, target=60, accepted=60,
        surplus=2, run_seed=7, rederived_from=None, created_at=AT, started_at=AT, finished_at=AT,
        elapsed_s=12.5, seeds=12, models=("teacher",), threshold=0.7, manifest={},
    )  # fmt: skip
    data = ReportData(
        head=replace(facts, **(head or {})),
        generation=3,
        taken_at=AT,
        statistics=Statistics(60, 20, 40, 0, 89, 30, 11.5, 7.25, None),
        funnel=funnel(FUNNEL),
        pairs=pairs([("write", "story", 20, "Write a story."), ("sort", "list", 10, "Sort it.")]),
        kinds=kinds(
            [("imperative", None, 40), ("question", "what", 12), ("question", "yes_no", 8)]
        ),
        is_scored=True,
        novelty=novelty([("seed", 0.2, 40), ("seed", 0.25, 20), ("pool", 0.5, 60)]),
        lengths=lengths(
            [
                ("instruction", 11, 15, 60),
                ("input", 0, 0, 30),
                ("input", 1, 5, 59),
                ("output", 201, None, 89),
            ]
        ),
        usage=usage([("generate", 60, 1000, 300, 500, None), ("classify", 70, 700, 0, 70, None)]),
        difficulty=difficulty([]),
    )
    return Side(name, replace(data, **changes))
