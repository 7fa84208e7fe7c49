"""The bundled user-oriented evaluation tasks: what docs/EVALUATION_TASKS.md promises of them."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import unicodedata
from collections import Counter

import pytest

from pipeline.seeds import load_seeds, load_shots
from tests.support.cli import ROOT
from tests.support.distances import find_near

TASKS = ROOT / "seeds" / "evaluation" / "user_oriented.jsonl"
SHARED = ROOT.parent / "shared" / "data" / "self_instruct" / "user_oriented_shared_176.jsonl"
FIELDS = ("id", "domain", "instruction", "input", "output")


@pytest.fixture(scope="module")
def tasks() -> list[dict[str, str]]:
    return [json.loads(line) for line in TASKS.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def instructions(tasks: list[dict[str, str]]) -> list[str]:
    return [task["instruction"] for task in tasks]


def find_task(tasks: list[dict[str, str]], words: str) -> dict[str, str]:
    """The one task whose instruction holds `words`."""
    (task,) = [task for task in tasks if words in task["instruction"]]
    return task


def fenced(text: str, language: str) -> str:
    """The code block of an answer."""
    match = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert match is not None
    return match[1]


class TestFile:
    def test_fields(self, tasks):
        for task in tasks:
            assert tuple(task) == FIELDS
            assert all(isinstance(value, str) for value in task.values()), task["id"]
            assert all(value for name, value in task.items() if name != "input"), task["id"]

    def test_numbers_run_on(self, tasks):
        assert len(tasks) >= 80
        assert [task["id"] for task in tasks] == [f"user_{n:03}" for n in range(1, len(tasks) + 1)]

    def test_texts_are_tidy(self, tasks):
        for task in tasks:
            for text in task.values():
                assert text == text.strip(), task["id"]
                assert unicodedata.is_normalized("NFC", text), task["id"]
                unseen = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs")}
                assert unseen <= {"\n"}, task["id"]

    def test_answers_answer(self, tasks):
        for task in tasks:
            assert task["output"] not in (task["input"], task["instruction"]), task["id"]
            assert not task["output"].endswith(":"), task["id"]


class TestVariety:
    def test_domains(self, tasks):
        counts = Counter(task["domain"] for task in tasks)
        assert len(counts) >= 20
        assert max(counts.values()) <= len(tasks) / 10
        # Taken from the top, a part of the file is as mixed as the whole.
        assert len({task["domain"] for task in tasks[: len(counts)]}) == len(counts)

    def test_about_a_quarter_without_input(self, tasks):
        without = sum(not task["input"] for task in tasks)
        assert len(tasks) * 0.2 <= without <= len(tasks) * 0.35

    def test_openings_and_lengths(self, instructions):
        openings = Counter(text.split()[0] for text in instructions)
        assert len(openings) >= len(instructions) / 2
        assert max(openings.values()) <= len(instructions) / 10
        lengths = [len(text.split()) for text in instructions]
        assert min(lengths) <= 8
        assert max(lengths) >= 35


class TestDistance:
    """Rouge_score itself; whoever trains on seeds or their offspring has not seen these."""

    def test_of_one_another(self, instructions):
        assert find_near(instructions) == []

    def test_of_the_seeds_and_shots(self, instructions):
        seeds = [seed.instruction for seed in load_seeds(None)]
        seeds += [row["instruction"] for rows in load_shots(None).values() for row in rows]
        assert find_near(instructions, seeds) == []

    def test_of_the_published_ones(self, instructions):
        if not SHARED.exists():
            pytest.skip("no ../shared")
        rows = [json.loads(line) for line in SHARED.read_text("utf-8").splitlines()]
        found = find_near(instructions, [row["instruction"] for row in rows])
        assert [own for own, _, _ in found] == []  # of theirs nothing is shown


class TestAnswers:
    """Of the answers that a program can check, those a later edit would break most easily."""

    @pytest.mark.parametrize(
        ("words", "limit"),
        [
            ("Eight words or fewer", 8),
            ("Shorten it to 40 words", 40),
            ("no more than 50 words", 50),
            ("a dozen words at most", 12),
            ("take 45 words at most", 45),
            ("in under 80 words", 79),
        ],
    )
    def test_word_limits(self, tasks, words, limit):
        assert len(find_task(tasks, words)["output"].split()) <= limit

    def test_a_post_of_280_characters(self, tasks):
        post = find_task(tasks, "under 280 characters")["output"]
        assert len(post) < 280
        assert post.count("#") == 1
        assert post.split()[-1].startswith("#")

    @pytest.mark.parametrize("words", ["INI file to JSON", "output JSON with", "JSON array of"])
    def test_json(self, tasks, words):
        assert json.loads(find_task(tasks, words)["output"])

    def test_mended_json(self, tasks):
        task = find_task(tasks, "My parser refuses this JSON")
        with pytest.raises(ValueError, match="double quotes"):
            json.loads(task["input"])
        assert json.loads(fenced(task["output"], "json"))["pets"] == ["cat", "dog"]

    def test_csv(self, tasks):
        rows = find_task(tasks, "Produce a CSV file")["output"].splitlines()
        assert [len(row) for row in csv.reader(rows)] == [3, 3, 3, 3]

    def test_sql(self, tasks):
        task = find_task(tasks, "this SQL query returns")
        table, _, query = task["input"].partition("\n\n")
        rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[2:]]
        with sqlite3.connect(":memory:") as database:
            database.execute("CREATE TABLE orders (id INTEGER, customer TEXT, total INTEGER)")
            database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
            found = ["{} | {}".format(*row) for row in database.execute(query)]
        assert task["output"].splitlines()[: len(found) + 2] == ["customer | spent", *found, ""]

    def test_python(self, tasks):
        spaces: dict[str, dict[str, object]] = {}
        for words in ("`initials(name)`", "second call of this Python"):
            spaces[words] = {}
            exec(fenced(find_task(tasks, words)["output"], "python"), spaces[words])
        initials = spaces["`initials(name)`"]["initials"]
        assert [initials(name) for name in ("mia sofia  berg", " ", "")] == ["M.S.B.", "", ""]
        add_guest = spaces["second call of this Python"]["add_guest"]
        assert [add_guest("Ida"), add_guest("Noor")] == [["Ida"], ["Noor"]]

    def test_comprehension(self, tasks):
        task = find_task(tasks, "as one list comprehension")
        found = []
        for source in (task["input"], task["output"]):
            space: dict[str, object] = {"numbers": list(range(-9, 30))}
            exec(source, space)
            found.append(space["odd_squares"])
        assert found[0] == found[1] != []

    def test_savings(self, tasks):
        balance = 0.0
        for _ in range(120):
            balance = balance * 1.0025 + 150
        output = find_task(tasks, "how much of it is interest")["output"]
        assert f"{balance:,.2f}" in output
        assert f"{balance - 18_000:,.2f}" in output
