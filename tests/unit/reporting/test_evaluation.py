"""The report of an evaluation: what it says of a comparison, and that texts stay texts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows.evaluation_report import lines, markdown, render_report
from flows.evaluation_results import Results, Scoring, Shown, read_results, write_results
from flows.reporting.evaluation import draw_evaluation, facts, verdict_on
from pipeline.errors import EvoloomError
from pipeline.student.evaluation.records import Comparison, EvaluationFile, Interval
from pipeline.student.evaluation.scoring import Bootstrap

HOSTILE = "<script>alert(1)</script> | `x` </td>"
HELD_OUT = EvaluationFile(0, "held_out", "held-out of lora-1", "hash", 30)
TASKS = EvaluationFile(1, "tasks", "superni.jsonl", "hash", 678)


def comparison(
    metric: str, low: float, high: float, *, group: str = "all", file: EvaluationFile = TASKS
) -> Comparison:
    middle = (low + high) / 2
    return Comparison(
        file.number, file.part, file.name, group, metric, 120, 0.25, 0.25 + middle,
        Interval(middle, low, high), {"ties": 3} if metric == "judge" else {},
    )  # fmt: skip


def results(**more: object) -> Results:
    shown = tuple(
        Shown(f"item-{number}", "tasks", "won" if number < 10 else "lost", HOSTILE, "", "right",
              HOSTILE, "line one\n  line two", 0.1, 0.6, None)
        for number in range(20)
    )  # fmt: skip
    values = {
        "run_id": "eval-1", "training": "lora-1", "dataset": "night@2026-11-26.1",
        "base": "smollm2", "method": "lora", "template": "chat", "dtype": "float32",
        "serving": "adapter",
        "proof": {"tokens": 222, "disagreement": 5e-6, "effect": 0.25,
                  "scaled_disagreement": None, "scaled_effect": None},
        "judge": None, "limit": None, "bootstrap": Bootstrap(10_000, 0.95, 0),
        "files": (HELD_OUT, TASKS), "asked": {0: 30, 1: 120}, "contaminated": {0: 0, 1: 2},
        "counts": {"base answers": 150, "base refused": 0, "tuned refused": 1},
        "comparisons": (
            comparison("nll", -0.5, -0.3, file=HELD_OUT),
            comparison("rouge_l", 0.016, 0.076),
            comparison("rouge_l", -0.01, 0.02, group="Title Generation"),
        ),
        "scorings": (Scoring(1, "base", "0123", 120, ("eval-0",), "2026-11-26T22:00:00+00:00"),),
        "examples": shown,
    }  # fmt: skip
    return Results(**{**values, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("rouge_l", 0.01, 0.03, "better"), ("rouge_l", -0.03, -0.01, "worse"),
        ("rouge_l", -0.01, 0.03, "no clear difference"), ("rouge_l", 0.0, 0.03,
                                                          "no clear difference"),
        ("nll", -0.3, -0.1, "better"), ("nll", 0.1, 0.3, "worse"), ("judge", 0.1, 0.3, "better"),
        ("acc", 0.1, 0.3, "better"),
    ],
)  # fmt: skip
def test_what_an_interval_says(metric: str, low: float, high: float, said: str) -> None:
    assert verdict_on(comparison(metric, low, high)) == said


def test_a_benchmark_says_whether_less_is_better() -> None:
    one = replace(comparison("wer", -0.3, -0.1), is_lower_better=True)
    assert verdict_on(one) == "better"
    assert verdict_on(replace(one, interval=Interval(0.2, 0.1, 0.3))) == "worse"


class Texts(HTMLParser):
    """The tags and the visible texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self._cell: str | None = None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag in ("td", "th", "dd", "p"):
            self._cell = ""

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "dd", "p") and self._cell is not None:
            self.cells.append(self._cell)
            self._cell = None


def read(page: bytes) -> Texts:
    texts = Texts()
    texts.feed(page.decode())
    return texts


def test_the_page_has_the_table_the_intervals_the_way_and_the_examples() -> None:
    texts = read(render_report(results()))
    row = texts.cells[texts.cells.index("tasks: superni.jsonl") :]
    assert row[:9] == ["tasks: superni.jsonl", "ROUGE-L", "120", "25.00", "29.60", "4.60", "1.60",
                       "7.60", "better"]  # fmt: skip
    assert "LoRA adapter in vLLM, next to its base" in texts.cells
    assert any("served and PEFT differ by 5e-06" in cell for cell in texts.cells)
    # Twenty examples, whose texts keep their lines and are texts.
    assert texts.cells.count("line one\n  line two") == 20
    assert texts.cells.count(HOSTILE) == 40
    assert texts.tags.count("script") == read(render_report(results(examples=()))).tags.count(
        "script"
    )


def test_perplexity_stands_below_its_loss() -> None:
    texts = read(render_report(results()))
    row = texts.cells[texts.cells.index("perplexity") :]
    assert row[:4] == ["perplexity", "120", "1.28", "0.86"]


def test_each_file_with_groups_has_them() -> None:
    names = [chart.name for chart in draw_evaluation(results())]
    assert names == ["comparison", "groups-1", "contamination", "scorings", "examples"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"serving": "transformers", "proof": None}, "there is nothing to prove"),
        ({"proof": None}, "all answers are recorded ones"),
        ({"proof": {"tokens": 222, "disagreement": 0.06, "effect": 2.0, "rounding": 0.04,
                    "scaled_disagreement": None, "scaled_effect": None}}, "by 0.04, through rounding"),
        ({"proof": {"tokens": 222, "disagreement": 1e-5, "effect": 3e-5,
                    "scaled_disagreement": 2e-5, "scaled_effect": 0.1}}, "a copy scaled by 8"),
    ],
)  # fmt: skip
def test_what_was_proven_is_said(more: dict[str, object], said: str) -> None:
    assert said in dict(facts(results(**more)))["applied"]


def test_the_terminal_says_the_same() -> None:
    text = "\n".join(lines(results()))
    assert "+4.60 [1.60, 7.60]  better" in text
    assert "-0.40 [-0.50, -0.30]  better" in text
    assert "2 of 120 items of superni.jsonl are in the training data" in text


def test_markdown_takes_no_text_for_markup() -> None:
    text = markdown(results())
    assert (
        "| superni.jsonl | ROUGE-L | 120 | 25.00 | 29.60 | +4.60 | 1.60 to 7.60 | better |" in text
    )
    assert "<script>" not in text
    assert text.count("## Won") == text.count("## Lost") == 1
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {9}


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    wanted = replace(results(), judge="teacher")
    write_results(tmp_path, wanted)
    assert asdict(read_results(tmp_path)) == asdict(wanted)
    assert read_results(tmp_path) == wanted
    (tmp_path / "results.json").write_text(json.dumps({"run_id": "x"}))
    with pytest.raises(EvoloomError, match=r"results\.json: cannot be read"):
        read_results(tmp_path)
