"""The report of an evaluation: the table, the intervals, how it was served, wins and losses alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from flows.evaluation_results import Results, Shown
from flows.reporting import palette
from flows.reporting.chart import Cell, Chart, Table, plain, shorten
from flows.reporting.head import Fact
from pipeline.student.evaluation.records import Comparison, EvaluationFile

PARTS: Mapping[str, str] = {
    "held_out": "held-out instructions",
    "tasks": "tasks",
    "user_oriented": "user-oriented tasks",
    "benchmark": "benchmarks",
}
SERVING: Mapping[str, str] = {
    "adapter": "LoRA adapter in vLLM, next to its base",
    "merged": "merged checkpoint in vLLM; its base in vLLM too",
    "transformers": "through Transformers in the evaluating process, base and tuned alike",
}
_ROW = 34


class Measure(NamedTuple):
    """A metric as it is shown: its name, and what its values are multiplied by."""

    name: str
    factor: float
    is_lower_better: bool = False


_MEASURES = {
    "rouge_l": Measure("ROUGE-L", 100),
    "exact_match": Measure("exact match, %", 100),
    "nll": Measure("loss, nats a token", 1, True),
    "judge": Measure("judged better, % of pairs", 100),
}


def measure_of(comparison: Comparison) -> Measure:
    """How a comparison's metric is shown; a benchmark's own is shown as the harness gives it for a
    document, and is better where the harness says so."""
    own = Measure(comparison.metric, 1, comparison.is_lower_better)
    return _MEASURES.get(comparison.metric, own)


def verdict_on(comparison: Comparison) -> str:
    """What the interval says: `better`, `worse` or `no clear difference`."""
    interval = comparison.interval
    if interval.low <= 0.0 <= interval.high:
        return "no clear difference"
    is_up = interval.low > 0.0
    return "better" if is_up != measure_of(comparison).is_lower_better else "worse"


def table_of(results: Results, comparisons: Sequence[Comparison], caption: str) -> Table:
    """Comparisons as rows: base, tuned, difference and its interval."""
    percent = f"{100 * results.bootstrap.confidence:g}%"
    rows: list[tuple[Cell, ...]] = []
    for one in comparisons:
        name, factor, _ = measure_of(one)
        interval = one.interval
        rows.append((
            _label(one), name, one.items, one.base * factor, one.tuned * factor,
            interval.difference * factor, interval.low * factor, interval.high * factor,
            verdict_on(one),
        ))  # fmt: skip
        if one.metric == "nll":
            rows.append((_label(one), "perplexity", one.items, exp(one.base), exp(one.tuned),
                         exp(one.tuned) - exp(one.base), None, None, ""))  # fmt: skip
    columns = ("what", "metric", "items", "base", "tuned", "difference", f"{percent} from",
               f"{percent} to", "tuned is")  # fmt: skip
    return Table(caption, columns, rows)


def _label(one: Comparison) -> str:
    where = f"{PARTS[one.part]}: {one.name}"
    return where if one.group == "all" else f"{where}, {one.group}"


def headlines(results: Results) -> list[Comparison]:
    """The comparisons over all items of each file."""
    return [one for one in results.comparisons if one.group == "all"]


def facts(results: Results) -> list[Fact]:
    """What was evaluated, for the head of the page."""
    found = [
        ("training", results.training),
        ("dataset", results.dataset),
        ("base", results.base),
        ("method", results.method),
        ("served as", SERVING[results.serving]),
        ("applied", applied(results)),
        ("prompt template", results.template),
        ("number format", results.dtype),
        ("decoding", "greedy, base and tuned on the same prompts"),
    ]
    if results.judge:
        found.append(("judge", f"{results.judge}, asked in both orders"))
    if results.limit is not None:
        found.append(("limit", f"at most {results.limit:,} items of each file"))
    return found


def applied(results: Results) -> str:
    """What the proof found, in a sentence."""
    proof = results.proof
    if proof is None:
        if results.serving == "transformers":
            return "the student is computed by PEFT itself; there is nothing to prove"
        return "all answers are recorded ones, whose evaluation has proven it"
    text = (
        f"proven on {proof['tokens']} fixed tokens: served and PEFT differ by "
        f"{proof['disagreement']:.2g} nats a token, served and base by {proof['effect']:.2g}"
    )
    if proof.get("rounding") is not None:
        text += f" (the base, served and not, by {proof['rounding']:.2g}, through rounding)"
    if proof["scaled_effect"] is not None:
        text += (
            f"; a copy scaled by 8 differs by {proof['scaled_disagreement']:.2g} and "
            f"{proof['scaled_effect']:.2g}"
        )
    return text


def draw_evaluation(results: Results) -> list[Chart]:
    """The parts of the report, in the order shown."""
    charts = [_summary(results)]
    for file in results.files:
        more = [one for one in results.of(file) if one.group != "all"]
        if more:
            charts.append(_breakdown(results, file, more))
    charts.append(_contamination(results))
    charts.append(_scorings(results))
    charts += _examples(results)
    return charts


def _summary(results: Results) -> Chart:
    chosen = headlines(results)
    bootstrap = results.bootstrap
    notes = [
        f"Intervals hold {100 * bootstrap.confidence:g}% of {bootstrap.resamples:,} paired bootstrap "
        f"resamples, drawn by task, then by item, with seed {bootstrap.seed}. An interval that holds "
        "zero shows no clear difference.",
    ]
    for one in chosen:
        if one.metric == "judge":
            said = ", ".join(f"{count} {name}" for name, count in one.notes.items())
            notes.append(
                f"Judge on {one.name}: {said}. A pair whose two orders disagree is inconsistent and "
                "counts as a tie, as does one with a verdict that could not be read."
            )
    refused = {
        name: count for name, count in results.counts.items() if count and "answers" not in name
    }
    if refused:
        notes.append(
            "Answers: " + ", ".join(f"{name} {count}" for name, count in refused.items()) + "."
        )
    shown = [one for one in chosen if measure_of(one).factor == 100]
    summary = "; ".join(
        f"{_label(one)}, {measure_of(one).name}: {verdict_on(one)}" for one in chosen
    )
    return Chart(
        "comparison", "Tuned student against its base", tuple(notes),
        difference_figure(shown) if shown else None, summary,
        (table_of(results, chosen, "Base against tuned"),),
    )  # fmt: skip


def difference_figure(comparisons: Sequence[Comparison]) -> go.Figure:
    """Each difference as a point with its interval, in points of 100; zero is marked."""
    names = [f"{plain(shorten(_label(one), 60))}<br>{measure_of(one).name}" for one in comparisons]
    figure = make_subplots(rows=1, cols=1)
    values = [100 * one.interval.difference for one in comparisons]
    figure.add_trace(
        go.Scatter(
            x=values,
            y=names,
            mode="markers",
            marker={"color": palette.DATASETS[0], "size": 11},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [100 * one.interval.high - value
                          for one, value in zip(comparisons, values, strict=True)],
                "arrayminus": [value - 100 * one.interval.low
                               for one, value in zip(comparisons, values, strict=True)],
                "color": palette.DATASETS[0],
            },
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
            showlegend=False,
        )
    )  # fmt: skip
    figure.add_vline(0, line={"color": palette.MUTED, "width": 2})
    height = 120 + _ROW * 2 * len(comparisons)
    figure.update_layout(**palette.layout(height, margin={"l": 330, "r": 30, "t": 20, "b": 60}))
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    figure.update_xaxes(
        title=palette.axis_title("tuned minus base, points of 100"), gridcolor=palette.GRID,
        zeroline=False,
    )  # fmt: skip
    return figure


def _breakdown(results: Results, file: EvaluationFile, more: Sequence[Comparison]) -> Chart:
    title = f"{PARTS[file.part].capitalize()} of {file.name}, in groups"
    notes: tuple[str, ...] = ()
    if file.part == "tasks":
        notes = (
            "The metric of a category is the published one: exact match for textual entailment, cause "
            "effect classification, coreference resolution, dialogue act recognition, answerability "
            "classification and word analogy, ROUGE-L elsewhere.",
        )
    return Chart(
        f"groups-{file.number}", title, notes,
        tables=(table_of(results, more, f"{file.name} in groups"),),
    )  # fmt: skip


def _contamination(results: Results) -> Chart:
    rows: list[tuple[Cell, ...]] = [
        (file.name, PARTS[file.part], file.items, results.asked[file.number],
         results.contaminated.get(file.number))
        for file in results.files
    ]  # fmt: skip
    return Chart(
        "contamination", "Evaluation files, and what of them is in the training data",
        ("An item is contaminated where a training example shares 13 words in a row with it, or has "
         "more than half of its words in runs of 8. Where there are such items, the scores without "
         "them are among the groups above. Benchmarks are not looked into.",),
        tables=(Table("Evaluation files", ("file", "part", "items", "asked", "contaminated"), rows),),
    )  # fmt: skip


def _scorings(results: Results) -> Chart:
    names = {file.number: file.name for file in results.files}
    rows: list[tuple[Cell, ...]] = [
        (names[one.file], one.student, one.items,
         ", ".join(one.recorded_from) or "asked now", one.key)
        for one in results.scorings
    ]  # fmt: skip
    return Chart(
        "scorings", "Log of scorings",
        ("A configuration (base, adapter, decoding) scores a file once: what an earlier evaluation "
         "was answered is taken from there.",),
        tables=(Table("Scorings", ("file", "student", "items", "answers", "key"), rows),),
    )  # fmt: skip


def _examples(results: Results) -> list[Chart]:
    tables = tuple(_example(number, one) for number, one in enumerate(results.examples, 1))
    if not tables:
        return []
    counts = {name: sum(one.outcome == name for one in results.examples)
              for name in ("won", "lost", "tied")}  # fmt: skip
    note = (
        f"The clearest wins and losses of the tuned student, all parts taking turns: {counts['won']} "
        f"won, {counts['lost']} lost, {counts['tied']} tied. By the judge's verdict where there is "
        "one, else by ROUGE-L."
    )
    return [Chart("examples", "Examples, wins and losses alike", (note,), tables=tables)]


def _example(number: int, one: Shown) -> Table:
    scores = f"ROUGE-L {100 * one.base:.1f} to {100 * one.tuned:.1f}"
    if one.verdict is not None:
        said = {1: "tuned", 0: "neither", -1: "base"}[one.verdict]
        scores += f", judge: {said}"
    rows: list[tuple[Cell, ...]] = [("instruction", one.instruction)]
    if one.input:
        rows.append(("input", one.input))
    rows += [
        ("reference", one.reference),
        ("base", one.base_answer or "(empty)"),
        ("tuned", one.tuned_answer or "(empty)"),
    ]
    caption = f"{number}. {one.outcome}: {PARTS[one.part]}, {one.name}. {scores}"
    return Table(caption, ("", "text"), rows)
