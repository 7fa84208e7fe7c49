"""What a run is, as the head of its report says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.progress import duration
from store.report_data import Head, ReportData

Fact = tuple[str, str]
"""Name and text."""


def describe(data: ReportData) -> list[Fact]:
    """The facts on a run, in the order shown."""
    head = data.head
    facts = [("kind", head.kind), ("state", _state(head))]
    facts += _origin(head.kind, head.manifest)
    facts.append(("accepted", _accepted(data)))
    if head.surplus:
        facts.append(("surplus", f"{head.surplus:,} beyond the target"))
    if head.models:
        facts.append(("teacher", ", ".join(head.models)))
    if data.usage.height:
        facts += [("tokens", _tokens(data)), ("cost", _cost(data))]
    if head.run_seed is not None:
        facts.append(("run seed", str(head.run_seed)))
    facts.append(("when (UTC)", _when(head)))
    return facts


def _state(head: Head) -> str:
    return head.state if head.reason is None else f"{head.state}: {head.reason}"


def _accepted(data: ReportData) -> str:
    head = data.head
    target = f" of {head.target:,}" if head.target else ""
    return f"{head.accepted:,}{target} instructions, {data.statistics.instances:,} instances"


def _origin(kind: str, manifest: Mapping[str, Any]) -> list[Fact]:
    """Where the instructions come from, as far as the manifest of each kind says it."""
    source = manifest.get("source")
    facts: list[Fact] = []
    if kind == "import" and isinstance(source, dict):
        facts.append(("imported from", str(source.get("name"))))
        if manifest.get("import_format"):
            facts.append(("format", str(manifest["import_format"])))
    elif isinstance(source, dict) and source.get("name"):
        facts.append(("source", str(source["name"])))
    if kind == "dataset":
        if inputs := manifest.get("inputs"):
            facts.append(("made from", ", ".join(map(str, inputs))))
        if digest := manifest.get("content_hash"):
            facts.append(("content hash", str(digest)))
    if manifest.get("rederived_from"):
        facts.append(("re-derived from", str(manifest["rederived_from"])))
    return facts


def _tokens(data: ReportData) -> str:
    usage = data.usage
    prompt, cached, completion = (
        int(usage[name].fill_null(0).sum())
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens")
    )
    return f"{prompt:,} prompt ({cached:,} of them cached), {completion:,} completion"


def _cost(data: ReportData) -> str:
    costs = data.usage["cost"].drop_nulls()
    if not len(costs):
        return "not known: no prices are set"
    each = f", {costs.sum() / data.head.accepted:.4f} an accepted instruction" \
        if data.head.accepted else ""  # fmt: skip
    return f"{costs.sum():,.4f}{each}"


def _when(head: Head) -> str:
    start = head.started_at or head.created_at
    said = f"{start:%Y-%m-%d %H:%M:%S}" if start else "unknown"
    if head.finished_at:
        said += f" to {head.finished_at:%Y-%m-%d %H:%M:%S}"
    return f"{said}, {duration(head.elapsed_s)} of work" if head.elapsed_s else said
