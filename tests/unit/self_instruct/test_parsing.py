"""Self-Instruct's parsers: tables of completions, and properties on arbitrary text.

The tables under `completions/` hold one case a line: an id, what the case is about, the
completion, and what it must be read as. 'published' in a note marks behaviour kept from the
released code although a reader might expect better.
"""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.self_instruct.parsing import (
    Numbering,
    ParsedInstance,
    is_classification,
    parse_input_first,
    parse_instructions,
    parse_output_first,
)

COMPLETIONS = Path(__file__).parent / "completions"


def _table(name: str) -> list[Any]:
    with (COMPLETIONS / f"{name}.jsonl").open(encoding="utf-8", newline="\n") as lines:
        return [pytest.param(case, id=case["id"]) for case in map(json.loads, lines)]


def _instructions(text: str, **options: Any) -> list[str]:
    return parse_instructions(
        text,
        first_number=options.get("first_number", 9),
        numbering=options.get("numbering", "plain"),
        published_casing=options.get("published_casing", False),
    )


@pytest.mark.parametrize("case", _table("instructions"))
def test_reads_instructions(case: dict[str, Any]) -> None:
    assert _instructions(case.pop("text"), **case) == case["expected"]


@pytest.mark.parametrize("case", _table("classification"))
def test_reads_classification_answers(case: dict[str, Any]) -> None:
    assert is_classification(case["text"]) is case["expected"]


@pytest.mark.parametrize("case", _table("input_first"))
def test_reads_input_first(case: dict[str, Any]) -> None:
    instances = parse_input_first(case["text"], truncated=case.get("truncated", False))
    assert [[instance.input, instance.output] for instance in instances] == case["expected"]


@pytest.mark.parametrize("case", _table("output_first"))
def test_reads_output_first(case: dict[str, Any]) -> None:
    instances = parse_output_first(case["text"], truncated=case.get("truncated", False))
    assert [[instance.input, instance.output] for instance in instances] == case["expected"]


# ---- properties -------------------------------------------------------------------------------

# Arbitrary text rarely holds a marker, so half of the texts are glued together from them.
FRAGMENTS = (
    *("\n", "\n\n", "\r\n", " ", "\t", "9. ", "\n10. ", "\n10.", "\n1. ", "\n11) ", "10 ."),
    *("\nTask 10: ", "Example 1\n", "\nExample 2:", "Examples", "Output:", "\nOutput 2 :"),
    *("Input:", "\n- Input:", "Class label:", "\nClass Label: ", "**", "__", "**Output:**"),
    *("### ", "```", "\n```\n", "---\n", "<think>", "</think>", "<|im_end|>", "</s>"),
    *("Sure! Here are tasks:\n", "\n\nLet me know about examples.", "Yes", "no", "/", "or"),
    *("write a poem", "图", "\uff11\uff10", "\u2028", "\u00a0", "\x00", "\ud800", "9" * 12),
)
ANY_TEXT = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
NUMBERINGS: st.SearchStrategy[Numbering] = st.sampled_from(("plain", "task"))

# Words that hold none of the markers: a published completion is made of them and of separators.
WORDS = st.builds(
    str.__add__,
    st.text(string.ascii_letters + "éß", min_size=2, max_size=6),
    st.sampled_from(("", "", "", ",", "?", " 3.", " 10. x")),
)
PHRASES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)


@settings(deadline=None)  # a loaded machine may be slow at any moment
@given(ANY_TEXT, st.integers(min_value=1, max_value=20), NUMBERINGS, st.booleans())
def test_instructions_are_clean_on_any_text(
    text: str, first_number: int, numbering: Numbering, casing: bool
) -> None:
    def parse() -> list[str]:
        return parse_instructions(
            text, first_number=first_number, numbering=numbering, published_casing=casing
        )

    instructions = parse()
    assert instructions == parse()
    assert all(item == " ".join(item.split()) for item in instructions)


@pytest.mark.parametrize("parse", [parse_input_first, parse_output_first])
@settings(deadline=None)  # a loaded machine may be slow at any moment
@given(text=ANY_TEXT)
def test_instances_are_trimmed_and_cut_by_one_on_any_text(
    parse: Callable[..., list[ParsedInstance]], text: str
) -> None:
    instances = parse(text, truncated=False)
    assert instances == parse(text, truncated=False)
    assert parse(text, truncated=True) == instances[:-1]
    for instance in instances:
        assert instance.input == instance.input.strip()
        assert instance.output == instance.output.strip()


@settings(deadline=None)  # a loaded machine may be slow at any moment
@given(ANY_TEXT)
def test_a_classification_answer_is_missing_only_where_nothing_is_said(text: str) -> None:
    answer = is_classification(text)
    if text.strip() in {"Yes", "yes", "YES"}:
        assert answer is True
    if not text.strip():
        assert answer is None
    if answer is None:
        assert not any(character.isalpha() for character in text) or "<" in text


@settings(deadline=None)  # a loaded machine may be slow at any moment
@given(st.lists(PHRASES, min_size=1, max_size=7), st.integers(1, 20), NUMBERINGS, st.booleans())
def test_a_rendered_list_is_read_back(
    items: list[str], first_number: int, numbering: Numbering, chat: bool
) -> None:
    labels = [
        f"{number}." if numbering == "plain" else f"Task {number}:"
        for number in range(first_number, first_number + len(items))
    ]
    lines = [f"{label} {item}" for label, item in zip(labels, items, strict=True)]
    text = "\n".join(lines)
    if not chat:  # a completion goes on behind the prompt's last label
        text = text.removeprefix(labels[0])
    assert (
        parse_instructions(
            text, first_number=first_number, numbering=numbering, published_casing=False
        )
        == items
    )


@settings(deadline=None)  # a loaded machine may be slow at any moment
@given(st.lists(st.tuples(PHRASES, PHRASES), min_size=1, max_size=5))
def test_rendered_examples_are_read_back(pairs: list[tuple[str, str]]) -> None:
    text = "\n".join(
        f"Example {number}\nSentence: {given_}\nOutput: {output}"
        for number, (given_, output) in enumerate(pairs, 1)
    )
    assert parse_input_first(text, truncated=False) == [
        ParsedInstance(f"Sentence: {given_}", output) for given_, output in pairs
    ]


@settings(deadline=None)  # a loaded machine may be slow at any moment
@given(st.lists(st.tuples(st.one_of(st.just(""), PHRASES), PHRASES), min_size=1, max_size=5))
def test_rendered_class_labels_are_read_back(pairs: list[tuple[str, str]]) -> None:
    text = "\n".join(
        f"Class label: {label}\nSentence: {given_}" if given_ else f"Class label: {label}"
        for given_, label in pairs
    )
    assert parse_output_first(text, truncated=False) == [
        ParsedInstance(f"Sentence: {given_}" if given_ else "", label) for given_, label in pairs
    ]


RUNAWAYS = {
    "blanks": " ",
    "newlines": "\n",
    "blank lines": " \n",
    "no colon": "Output" + " " * 200,
    "digits": "Output" + "1" * 200,
    "labels out of turn": "a\n1) ",
    "rules": "\n\n---",
    "stars": "**a",
    "stars in lines": "\n**Output: a*",
    "examples": "Example 1\n",
    "class labels": "Class label: a\n",
    "fences": "```\n",
    "end tokens": "<|a|>",
    "thoughts": "<think>",
    "bold fields": "**Output:** x\n**a",
}


@pytest.mark.timeout(120)  # against patterns that take quadratic time: they need far longer
@pytest.mark.parametrize("unit", RUNAWAYS.values(), ids=RUNAWAYS)
def test_an_endless_loop_of_the_teacher_does_not_hang_the_parsers(unit: str) -> None:
    # Some hundred times the length of a real completion.
    text = unit * (100_000 // len(unit))
    for tail in ("", "x"):
        _instructions(text + tail)
        is_classification(text + tail)
        parse_input_first(text + tail, truncated=False)
        parse_output_first(text + tail, truncated=False)


@pytest.mark.timeout(120)
def test_a_run_of_blanks_after_a_marker_does_not_hang_the_parsers() -> None:
    for marker in (
        "Output",
        "Output 1",
        "\n10",
        "Example 1",
        "\n\n---",
        "**Output:",
        "Yes",
        "\n- ",
    ):
        text = marker + " " * 200_000 + "x" + "\n" * 1_000
        _instructions(text)
        is_classification(text)
        parse_input_first(text, truncated=False)
        parse_output_first(text, truncated=False)
