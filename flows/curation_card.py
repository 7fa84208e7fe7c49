"""What a dataset card says of curation: the steps, contamination, the training preset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def curation_sections(curation: Mapping[str, Any]) -> list[str]:
    """Sections in Markdown, of what a version's manifest keeps under `curation`."""
    return [
        *_steps(curation["steps"]),
        *_contamination(curation["steps"]),
        *_training(curation["training"]),
    ]


def step_lines(steps: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """The funnel of a recipe: text, count, depth of indentation."""
    lines: list[tuple[str, int, int]] = []
    for step in steps:
        lines.append((f"{step['number']}. {step['step']}: instances in", step["instances_in"], 0))
        lines += [(f"kept out: {reason}", count, 1) for reason, count in step["reasons"].items()]
        for file in step["details"].get("files", ()):
            if file["items_found"]:
                lines.append((f"items of {file['file']} found", file["items_found"], 1))
    return lines


def _steps(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            str(step["number"]),
            f"`{step['step']}`",
            _parameters(step["parameters"]),
            f"{step['instances_in']:,}",
            f"{step['instances_out']:,}",
            ", ".join(f"{reason} {count:,}" for reason, count in step["reasons"].items()) or "-",
        )
        for step in steps
    ]
    lines = [
        "## Curation",
        "",
        "Each step took the instances that the one before it left. What was kept out is in the store, "
        "with the step, the reason and the score (view `curation_rejects`).",
        "",
        *_table(("Step", "What", "Parameters", "In", "Out", "Kept out"), rows),
        "",
    ]
    if any(step["step"] == "lima" for step in steps):
        lines += [
            "The step `lima` applies the mechanical rules of LIMA (arXiv 2305.11206) only; the paper's "
            "examples were chosen by hand and by the votes of the sites they come from.",
            "",
        ]
    return lines


def _contamination(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    files = [file for step in steps if step["step"] == "decontamination"
             for file in step["details"]["files"]]  # fmt: skip
    if not files:
        return []
    rows = [
        (
            f"`{file['file']}`", f"{file['items']:,}", f"{file['items_found']:,}",
            f"{file['share_found']:.1%}", f"{file['rejected']:,}",
        )
        for file in files
    ]  # fmt: skip
    return [
        "Evaluation files, items of them that the sources held, and instances that went for it:",
        "",
        *_table(("File", "Items", "Found", "Share", "Kept out"), rows),
        "",
    ]


def _training(preset: Mapping[str, Any]) -> list[str]:
    if not preset:
        return []
    rows = [(f"`training.{key}`", f"`{json.dumps(value)}`") for key, value in preset.items()]
    return [
        "## How it is meant to be trained on",
        "",
        *_table(("Setting", "Value"), rows),
        "",
    ]


def _parameters(values: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    text = ", ".join(f"{key} {_value(value)}" for key, value in shown.items() if value is not None)
    return text.replace("|", "\\|") or "-"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return (
        {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
