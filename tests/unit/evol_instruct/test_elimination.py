"""The published conditions, one table each, with near misses."""

from __future__ import annotations

import pytest

from pipeline.evol_instruct.deriving import judge_response
from pipeline.evol_instruct.elimination import leaked_phrase, says_nothing, short_apology
from pipeline.evol_instruct.settings import EvolInstructSettings
from pipeline.records import Completion

SETTINGS = EvolInstructSettings()
LONG = " ".join(["word"] * 78)


@pytest.mark.parametrize(
    ("child", "parent", "found"),
    [
        ("Improve the given prompt by two rules.", "Improve it.", "given prompt"),
        ("#Rewritten Prompt#: Name a river.", "Name a river.", "rewritten prompt"),
        ("Here is the REWRITTEN\n prompt: go", "Go.", "rewritten prompt"),
        ("The created prompt asks for rain.", "Rain.", "created prompt"),
        ("Write a story for the given prompt in 50 words.", "Write a story for the given prompt.",
         None),
        ("Give the prompt answer that was given promptly.", "Answer.", None),
        ("Explain forgiven prompts.", "Explain.", None),
        ("Discuss a prompt that was rewritten.", "Discuss.", None),
        ("", "", None),
    ],
)  # fmt: skip
def test_words_of_the_prompt(child: str, parent: str, found: str | None) -> None:
    assert leaked_phrase(child, parent, SETTINGS.leak_phrases) == found


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("I'm sorry, but I can't.", "5 words"),
        ("SORRY!", "1 words"),
        (f"Sorry {LONG}", "79 words"),
        (f"Sorry {LONG} word", None),
        ("A sorrylike plant.", None),
        ("I regret that I cannot.", None),
    ],
)
def test_short_apology(response: str, found: str | None) -> None:
    assert short_apology(response, SETTINGS.sorry_below_words) == found


@pytest.mark.parametrize(
    "response", ["", " \n", "...", "?!", "It is what it is.", "And so on -- and so on!", "Don't.",
                 "Don\u2019t you?", "\u3002\u3001"]
)  # fmt: skip
def test_says_nothing(response: str) -> None:
    assert says_nothing(response) is not None


@pytest.mark.parametrize(
    "response", ["Paris", "7", "It is 7.", "No", "Yes.", "None.", "Both", "Never!", "\u597d",
                 "\U0001f600", "x", "to be named", "\u0e01\u0e34\u0e19"]
)  # fmt: skip
def test_says_something(response: str) -> None:
    assert says_nothing(response) is None


@pytest.mark.parametrize(
    ("text", "finish", "settings", "reason"),
    [
        ("The Rhine.", "stop", {}, None),
        ("I am sorry.", "stop", {}, "sorry"),
        ("I am sorry.", "stop", {"sorry_below_words": 3}, None),
        ("It is.", "stop", {}, "nothing_said"),
        ("The Rhine and", "length", {}, "response_truncated"),
        ("The Rhine and", "length", {"truncated_responses": "keep"}, None),
        ("The Rhine", "content_filter", {}, "response_content_filter"),
    ],
)
def test_a_response(text: str, finish: str, settings: dict[str, object], reason: str) -> None:
    kept, failure = judge_response(
        EvolInstructSettings(**settings), Completion(f" {text}\n", finish, None)
    )
    assert kept == text
    assert (failure.reason if failure else None) == reason
