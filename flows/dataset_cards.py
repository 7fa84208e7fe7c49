"""Dataset cards: what a dataset is, written by evoloom from what it knows, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flows.curation_card import curation_sections
from pipeline.diversity.statistics import DatasetRow, DatasetStatistics, compute_statistics
from pipeline.records import InstanceRow, InstructionRow
from store.dataset_rows import Collected, InputCount
from store.exporting.rows import ExportRow
from store.run_rows import RunRows


def version_card(
    run_id: str,
    collected: Collected,
    recipe: Mapping[str, Any],
    curation: Mapping[str, Any] | None = None,
) -> str:
    """The card of a dataset version.

    Args:
        curation: what a recipe's steps did, as the manifest keeps it.
    """
    statistics = compute_statistics(
        _row(instruction, instance)
        for instruction, instances in collected.rows
        for instance in instances
    )
    name = recipe["name"]
    return "\n".join([
        *_head(run_id, statistics),
        "## Where it comes from",
        "",
        *_inputs(collected.inputs),
        "",
        f"Recipe: `{name}`: {recipe['description']}",
        "",
        *(curation_sections(curation) if curation else ()),
        *_statistics(statistics),
        *_closing(),
        "## Identity",
        "",
        f"Content hash: `{collected.content_hash}`. It says which instances there are, whatever "
        "their order and whichever runs they come from; this version never changes.",
        "",
    ])  # fmt: skip


def run_card(run: RunRows, rows: Sequence[ExportRow]) -> str:
    """The card of a run's export."""
    statistics = compute_statistics(_row(row.instruction, row.instance) for row in rows)
    manifest = run.manifest
    count = InputCount(
        manifest.run_id, manifest.kind, manifest.raw.get("model"),
        len({row.key for row in rows}), len(rows), 0, 0,
    )  # fmt: skip
    return "\n".join([
        *_head(manifest.run_id, statistics),
        "## Where it comes from",
        "",
        *_inputs([count], with_new=False),
        "",
        *_statistics(statistics),
        *_closing(),
    ])  # fmt: skip


def _row(instruction: InstructionRow, instance: InstanceRow) -> DatasetRow:
    return DatasetRow(
        instruction.text, instance.input, instance.output, instruction.is_classification
    )


def _head(name: str, statistics: DatasetStatistics) -> list[str]:
    return [
        f"# {name}",
        "",
        f"{statistics.instructions:,} instructions with {statistics.instances:,} instances for "
        "instruction tuning, made with evoloom.",
        "",
    ]


def _inputs(counts: Iterable[InputCount], *, with_new: bool = True) -> list[str]:
    head = ["Run", "Kind", "Teacher", "Instructions", "Instances"]
    head += ["New instructions", "New instances"] if with_new else []
    lines = [_table_row(head), _table_row(["---"] * len(head))]
    for count in counts:
        cells = [
            f"`{count.run_id}`", count.kind, count.model or "none",
            f"{count.instructions:,}", f"{count.instances:,}",
        ]  # fmt: skip
        cells += [f"{count.new_instructions:,}", f"{count.new_instances:,}"] if with_new else []
        lines.append(_table_row(cells))
    return lines


def _statistics(statistics: DatasetStatistics) -> list[str]:
    """The rows of the Self-Instruct paper's Table 1."""
    rows = [
        ("Instructions", f"{statistics.instructions:,}"),
        ("of them classification tasks", f"{statistics.classification:,}"),
        ("of them other tasks", f"{statistics.not_classification:,}"),
        ("of them not known which", f"{statistics.unknown:,}"),
        ("Instances", f"{statistics.instances:,}"),
        ("of them with an empty input", f"{statistics.empty_inputs:,}"),
        ("Mean length of an instruction in words", _mean(statistics.mean_instruction_words)),
        ("Mean length of a non-empty input in words", _mean(statistics.mean_input_words)),
        ("Mean length of an output in words", _mean(statistics.mean_output_words)),
    ]
    table = [_table_row(row) for row in rows]
    return ["## Statistics", "", _table_row(("What", "How much")), "|---|---|", *table, ""]


def _closing() -> list[str]:
    return [
        "## Fields",
        "",
        "`instruction` says what is to be done, `input` what with (empty where nothing is needed), "
        "`output` the answer. Where they are exported, `is_classification` is empty where nobody "
        "has asked, `difficulty` is a rating from 1 to 10 by the teacher, `system` and "
        "`further_turns` are of conversations.",
        "",
        "## Limits",
        "",
        "What a teacher wrote was filtered by form and novelty, not checked for truth or harm.",
        "",
        "## Licence",
        "",
        "To be filled in by whoever publishes this: it depends on the teacher's terms and on what "
        "was imported.",
        "",
    ]


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
