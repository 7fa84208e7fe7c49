"""Decontamination finds what was planted, and nothing else."""

from __future__ import annotations

import gzip
import json
import random
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.curation import Candidate
from pipeline.curation.context import Context
from pipeline.curation.evaluation_files import (
    EvaluationFile,
    EvaluationItem,
    bundled_files,
    read_file,
)
from pipeline.curation.overlap import EvaluationIndex, words_of
from pipeline.curation.steps.decontamination import DecontaminationStep
from pipeline.errors import UsageError
from tests.unit.curation.candidates import candidates

SHARED = Path(__file__).parents[4] / "shared" / "data"
FILLER = (
    "Before anything else is said, consider where the river bends and the old mill used to stand. "
)
TAIL = (
    " Afterwards the miller's daughter counted the sacks and locked the heavy oak door behind her."
)


def verbatim(text: str, rng: random.Random) -> str:
    return text


def cut(text: str, rng: random.Random) -> str:
    """Two thirds of it, from anywhere; whole where that is less than eight words."""
    words = text.split()
    size = max(8, -(-2 * len(words) // 3))
    start = rng.randint(0, max(0, len(words) - size))
    return " ".join(words[start : start + size])


def recased(text: str, rng: random.Random) -> str:
    return "".join(rng.choice((letter.upper(), letter.lower())) for letter in text)


def repunctuated(text: str, rng: random.Random) -> str:
    words = re.sub(f"[{re.escape(string.punctuation)}]", " ", text.replace("'", "")).split()
    return "".join(
        word + rng.choice((", ", "; ", " - ", "... ", " ", "!\n", "\t")) for word in words
    )


def embedded(text: str, rng: random.Random) -> str:
    return FILLER * rng.randint(1, 4) + text + TAIL * rng.randint(1, 4)


KINDS: tuple[Callable[[str, random.Random], str], ...] = (
    verbatim, cut, recased, repunctuated, embedded,
)  # fmt: skip


def plant(text: str, number: int) -> Candidate:
    """A text in one of an instance's places, altered in one of the ways."""
    rng = random.Random(f"plant/{number}")
    altered = KINDS[number % len(KINDS)](text, rng)
    places: dict[str, Any] = {"instruction": "Carry on with this.", "input": "", "output": "Done."}
    if KINDS[number % len(KINDS)] is verbatim:
        places["instruction"] = altered
    elif number % 3:
        places["input"] = altered
    elif number % 2:
        places["output"] = altered
    else:
        places["further_turns"] = json.dumps([[altered, "Well."]])
    return Candidate(number, number, **places)


def prompts_of(*files: EvaluationFile) -> list[str]:
    return [item.prompt for file in files for item in file.items if len(words_of(item.prompt)) >= 5]


def find_all(planted: list[Candidate], files: tuple[Path, ...] = ()) -> list[int]:
    outcome = DecontaminationStep(files=files).apply(planted, Context())
    return [item.number for item in outcome.kept]


def test_two_hundred_planted_bundled_tasks_are_all_found() -> None:
    prompts = prompts_of(*bundled_files())
    assert len(prompts) >= 80
    planted = [plant(prompts[number % len(prompts)], number) for number in range(200)]
    assert find_all(planted) == []


def test_two_hundred_planted_tasks_of_public_evaluations_are_all_found() -> None:
    if not SHARED.exists():
        pytest.skip("no ../shared")
    paths = (
        SHARED / "self_instruct" / "user_oriented_shared_176.jsonl",
        SHARED / "ifeval" / "input_data.jsonl",
        SHARED / "evol_instruct" / "wizardlm_testset_218.jsonl",
        SHARED / "superni" / "instances_shared.jsonl.gz",
    )
    for path in paths:
        prompts = prompts_of(read_file(path))
        planted = [plant(prompts[number % len(prompts)], number) for number in range(200)]
        assert find_all(planted, (path,)) == [], path.name


def test_what_people_and_models_wrote_elsewhere_is_not_flagged() -> None:
    if not SHARED.exists():
        pytest.skip("no ../shared")
    with gzip.open(SHARED / "dolly" / "dolly_alpagasus_filtered_2996.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    clean = candidates(*((row["instruction"], row["input"], row["output"]) for row in rows))
    assert len(find_all(clean)) == len(rows)
    evaluation = SHARED / "self_instruct" / "user_oriented_shared_176.jsonl"
    assert len(find_all(clean, (evaluation,))) >= len(rows) - 1


CLEAN = (
    ("Explain how bread rises.", "", "Yeast eats sugar and gives off gas, which dough holds."),
    ("Sort these numbers.", "4, 2, 9", "2, 4, 9"),
    ("Write a polite reply to this email.", "Could we meet on Monday at ten?", "Gladly. See you."),
    ("What is the tallest mountain?", "", "Mount Everest, at 8,849 metres above the sea."),
    ("Sum up the text below in a sentence or two for someone who has no time to read it.",
     "The council met. Nothing was decided.", "Nothing was decided at the council's meeting."),
)  # fmt: skip


def test_clean_texts_are_not_flagged() -> None:
    assert find_all(candidates(*CLEAN)) == [0, 1, 2, 3, 4]


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl.gz"
    data = bytearray(gzip.compress(b'{"prompt": "Name three rivers of Europe."}\n' * 40))
    data[10] ^= 0xFF  # the first byte of what is compressed
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"tasks\.jsonl\.gz: cannot be read: "):
        read_file(path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            '{"prompt": "Name a river."}\n{"prompt": ' + "[" * 100_000 + "\n",
            "line 2: not valid JSON",
        ),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_json_that_is_nested_too_deeply_is_refused_by_line(
    tmp_path: Path, text: str, place: str
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"tasks\.jsonl: {place}: "):
        read_file(path)


class TestRules:
    ITEM = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"

    def find(self, text: str, item: str = ITEM, *others: str) -> list[tuple[str, float]]:
        file = EvaluationFile("f", "", (EvaluationItem(1, "1", item, others),))
        index = EvaluationIndex([file], 13, 8, 0.5)
        return [(match.rule, match.share) for match in index.find([text], [text])]

    def words(self, first: int, last: int) -> str:
        return " ".join(self.ITEM.split()[first - 1 : last])

    def test_thirteen_words_in_a_row(self) -> None:
        assert self.find(f"x {self.words(2, 14)} y") == [("shared_ngram", round(13 / 14, 4))]

    def test_more_than_half_in_eights(self) -> None:
        assert self.find(f"x {self.words(1, 8)} y") == [("overlap", round(8 / 14, 4))]
        longer = f"{self.ITEM} fifteen sixteen"
        assert self.find(self.words(1, 8), longer) == []  # exactly half
        assert self.find(self.words(1, 9), longer) == [("overlap", round(9 / 16, 4))]

    def test_seven_in_a_row_are_none(self) -> None:
        assert self.find(f"{self.words(1, 7)} x {self.words(8, 14)}") == []

    def test_two_overlaps_of_one_instance_count_together(self) -> None:
        item = f"{self.ITEM} {' '.join(f'w{n}' for n in range(10))}"  # 24 words
        apart = f"{self.words(1, 8)} and w0 w1 w2 w3 w4 w5 w6 w7"
        assert self.find(apart, item) == [("overlap", round(16 / 24, 4))]

    def test_references_count_by_thirteen_only(self) -> None:
        assert self.find(self.words(1, 9), "Say.", self.ITEM) == []
        assert self.find(self.words(1, 13), "Say.", self.ITEM) == [("shared_ngram", 0.0)]

    def test_short_prompts_count_as_a_whole(self) -> None:
        assert self.find("TELL me a joke!", "Tell me a joke.") == [("whole_prompt", 1.0)]
        assert self.find("Please tell me a joke about cats", "Tell me a joke.") == []
        five = "Tell me a good joke"
        assert self.find("Please tell me a good joke about cats", five) == [("whole_prompt", 1.0)]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("Don't stop—it’s 3.5%!", ["dont", "stop", "its", "3", "5"]),
            ("snake_case, CamelCase", ["snake", "case", "camelcase"]),
            ("Ｆｕｌｌ Straße", ["full", "strasse"]),
            ("把句子 translate", ["把", "句", "子", "translate"]),
            ("", []),
        ],
    )
    def test_words(self, text: str, words: list[str]) -> None:
        assert words_of(text) == words


class TestFiles:
    def test_each_file_is_reported(self, tmp_path: Path) -> None:
        words = [" ".join(f"{letter}{n}" for n in range(20)) for letter in "abc"]
        first = tmp_path / "first.jsonl"
        first.write_text("".join(json.dumps({"id": f"i{n}", "instruction": text, "output": "x"}) + "\n"
                                 for n, text in enumerate(words[:2])))  # fmt: skip
        second = tmp_path / "second.json"
        second.write_text(json.dumps([{"question": words[2]}, {"question": "nothing like it"}]))
        third = tmp_path / "third.txt"
        third.write_text("one item a line\n\n" + words[2] + "\n")
        given = candidates(
            (words[0], "", "x"), ("y", words[0], "x"), ("z", "", f"{words[2]} {words[1]}"),
            ("clean", "", "x"),
        )  # fmt: skip
        step = DecontaminationStep(files=(Path("first.jsonl"), second, third))
        outcome = step.apply(given, Context(folder=tmp_path))
        assert [item.number for item in outcome.kept] == [3]
        assert outcome.rejected[0].evidence == (
            "first.jsonl item i0: a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12"
        )
        reports = {file["file"]: file for file in outcome.details["files"]}
        found = {name: (file["items"], file["items_found"], file["rejected"], file["shared_ngram"])
                 for name, file in reports.items() if not name.startswith("bundled")}  # fmt: skip
        assert found == {
            "first.jsonl": (2, 2, 3, 3), "second.json": (2, 1, 1, 1), "third.txt": (2, 1, 1, 1),
        }  # fmt: skip
        assert reports["first.jsonl"]["share_found"] == 1.0
        assert any(name.startswith("bundled") for name in reports)

    def test_the_bundled_tasks_are_looked_for_whatever_else_is_named(self, tmp_path: Path) -> None:
        other = tmp_path / "other.txt"
        other.write_text("something else altogether that nobody ever asks\n")
        (task, *_) = prompts_of(*bundled_files())
        assert find_all(candidates((task, "", "x")), (other,)) == []

    @pytest.mark.parametrize(
        ("name", "data", "said"),
        [
            ("no.jsonl", None, "no.jsonl: cannot be read: No such file"),
            ("bad.jsonl", b'{"a": "b"}\n{"a": \n', "bad.jsonl: line 2: not valid JSON"),
            ("bad.json", b'[{"a": ', "bad.json: not valid JSON"),
            ("latin.txt", b"one\ncaf\xe9\n", "latin.txt: line 2: not UTF-8"),
            ("empty.jsonl", b"\n", "empty.jsonl: holds no item"),
            ("bad.jsonl.gz", b"no gzip", "bad.jsonl.gz: cannot be read"),
        ],
    )
    def test_a_file_that_cannot_be_used_is_told_before_any_work(
        self, tmp_path: Path, name: str, data: bytes | None, said: str
    ) -> None:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError) as caught:
            DecontaminationStep(files=(Path(name),)).check(Context(folder=tmp_path))
        assert said in str(caught.value)
