"""The novelty index on real texts: against rouge_score, on a long stream, in Chinese, by command."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import typer
from rouge_score.rouge_scorer import _score_lcs
from rouge_score.tokenizers import DefaultTokenizer
from typer.testing import CliRunner

from flows.commands.novelty import novelty
from pipeline.errors import UsageError
from pipeline.novelty import Admission, NoveltyIndex
from pipeline.novelty.index import Implementation
from pipeline.novelty.rouge import Rule

LONG = 63
FAST: list[Implementation] = ["tree", "fallback"]


@pytest.fixture
def shared(checkout: Path) -> Path:
    folder = checkout.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared")
    return folder


def instructions(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["instruction"]


def mixed(shared: Path, size: int, long: int) -> list[str]:
    """Real instructions with empty, Chinese, repeated-token, near-copied and very long ones."""
    random = Random(size)
    real = list(instructions(shared / "self_instruct/gpt3_generated_instances_5k.jsonl.gz"))
    texts = real[: size - long]
    words = " ".join(texts).split()
    for i in range(0, len(texts), 9):
        tokens = texts[random.randrange(len(texts))].split()
        for j in range(len(tokens)):
            if random.random() < 0.2:
                tokens[j] = random.choice(words)
        texts[i] = " ".join(tokens)
    odd = [
        "",
        "?!",
        "写一首关于3只猫的诗",
        "列出5种水果",
        "a a a a a a a",
        "a a a a",
        "no no no no no",
    ]
    for i, text in enumerate(odd * (1 + size // 500)):
        texts[31 * i + 5] = text
    draft: list[str] = []
    for i in range(long):
        # Most are near the short end: the library's table for a pair of the longest takes seconds.
        count = round(LONG * (3000 / LONG) ** (i / max(1, long - 1)) ** 3)
        if i % 3 == 1:
            tokens = draft[:count] + random.choices(words, k=max(0, count - len(draft)))
            for _ in range(count // 10):
                tokens[random.randrange(count)] = random.choice(words)
        else:
            tokens = draft = random.choices(words, k=count)
        texts.insert(random.randrange(len(texts)), " ".join(tokens))
    return texts


def judged_by_the_library(texts: list[str], rule: Rule) -> list[Admission]:
    """The published filter with rouge_score's own table, on tokens it is given once.

    A long text is compared only where the length bound, tested by brute force elsewhere, allows a
    match.
    """
    tokenizer = DefaultTokenizer()
    pool: list[tuple[str, list[str]]] = []
    admissions = []
    for text in texts:
        tokens = tokenizer.tokenize(text)
        blocker = None
        for entry, (_, other) in enumerate(pool):
            m, n = len(tokens), len(other)
            if max(m, n) >= LONG and (not m or not rule.span(m)[0] <= n <= rule.span(m)[1]):
                continue
            score = _score_lcs(other, tokens).fmeasure
            if rule.fires(score):
                blocker = entry, score
                break
        if blocker is None:
            admissions.append(Admission(True, entry=len(pool)))
            pool.append((text, tokens))
        else:
            admissions.append(Admission(False, pool[blocker[0]][0], blocker[1], blocker[0]))
    return admissions


def compare_with_the_library(texts: list[str]) -> None:
    expected = judged_by_the_library(texts, Rule(0.7, "reject"))
    assert 50 < sum(not admission.admitted for admission in expected) < len(texts) // 2
    for kind in FAST:
        assert NoveltyIndex(implementation=kind).admit(texts) == expected


def test_real_texts_are_judged_as_the_library_judges_them(shared: Path) -> None:
    compare_with_the_library(mixed(shared, 500, 20))


@pytest.mark.verify_novelty
def test_5000_real_texts_are_judged_as_the_library_judges_them(shared: Path) -> None:
    compare_with_the_library(mixed(shared, 5000, 120))


def near_copies(texts: list[str], size: int) -> list[str]:
    """A stream of `size`: the texts in a drawn order, then copies with 5 to 35% changed mixed in."""
    random = Random(7)
    random.shuffle(texts)
    words = " ".join(texts[:3000]).split()
    stream = texts[:size]
    originals = len(stream)
    while len(stream) < size:
        tokens = texts[random.randrange(originals)].split()
        share = random.uniform(0.05, 0.35)
        stream.append(
            " ".join(random.choice(words) if random.random() < share else t for t in tokens)
        )
    tail = stream[originals // 2 :]
    random.shuffle(tail)
    return stream[: originals // 2] + tail


def test_fallback_and_tree_agree_on_a_stream(shared: Path) -> None:
    texts = list(instructions(shared / "self_instruct/gpt3_generated_instances_5k.jsonl.gz"))
    stream = near_copies(texts, 6000)
    results = [NoveltyIndex(implementation=kind).admit(stream) for kind in FAST]
    assert results[0] == results[1]
    assert sum(not admission.admitted for admission in results[0]) > 500


@pytest.mark.verify_novelty
def test_fallback_and_tree_agree_on_66000(shared: Path) -> None:
    files = ("self_instruct/gpt3_generated_instances_5k", "alpaca/alpaca_data_52002",
             "dolly/dolly_alpagasus_filtered_2996")  # fmt: skip
    texts = [text for name in files for text in instructions(shared / f"{name}.jsonl.gz")]
    stream = near_copies(texts, 66_000)
    results = [NoveltyIndex(implementation=kind).admit(stream) for kind in FAST]
    assert results[0] == results[1]
    assert sum(not admission.admitted for admission in results[0]) > 3000


class TestChinese:
    # Translated for this test: near-copies of each other, and different tasks that share a number.
    NEAR = (
        ("请写一首关于秋天落叶的短诗。", "请写一首关于秋天落叶的小诗。"),
        ("解释为什么天空是蓝色的。", "请解释为什么天空是蓝色的？"),
        ("列出3种可以在室内进行的运动", "列出3种可以在室内进行的活动"),
        ("把下面的句子翻译成英文。", "把下面这个句子翻译成英文"),
    )
    DIFFERENT = (
        "列出5种有益健康的水果。",
        "用5个词描述一座城市",
        "给我讲一个5分钟能读完的故事",
        "为5岁的孩子解释重力。",
    )

    def test_near_copies_are_rejected(self) -> None:
        index = NoveltyIndex(tokenizer="multilingual")
        for original, copy in self.NEAR:
            first, second = index.admit([original, copy])
            assert first.admitted
            assert second.blocker == original

    def test_tasks_that_share_a_number_are_not(self) -> None:
        admissions = NoveltyIndex(tokenizer="multilingual").admit(self.DIFFERENT)
        assert all(admission.admitted for admission in admissions)
        # The default tokenizer sees nothing but the number.
        admissions = NoveltyIndex().admit(self.DIFFERENT)
        assert [admission.admitted for admission in admissions] == [True, False, False, False]

    def test_fallback_and_tree_agree(self) -> None:
        texts = [text for pair in self.NEAR for text in pair] + list(self.DIFFERENT)
        results = [
            NoveltyIndex(tokenizer="multilingual", implementation=kind).admit(texts)
            for kind in (*FAST, "plain")
        ]
        assert results[0] == results[1] == results[2]


class TestCommand:
    @pytest.fixture
    def app(self) -> typer.Typer:
        app = typer.Typer()
        app.command("novelty")(novelty)
        return app

    def run(self, app: typer.Typer, *arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments))

    @pytest.mark.parametrize("form", ["txt", "jsonl", "json", "jsonl.gz"])
    def test_every_form_of_file(self, app: typer.Typer, tmp_path: Path, form: str) -> None:
        texts = ["Write a poem about rain.", "Write a poem about the rain.", "Name a river."]
        rows = [{"instruction": text} for text in texts]
        lines = "\n".join(json.dumps(row) for row in rows)
        data = {"txt": "\n".join(texts), "json": json.dumps(rows)}.get(form, lines).encode()
        path = tmp_path / f"file.{form}"
        path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
        pool = tmp_path / "pool.txt"
        pool.write_text("Name a large river")
        report = json.loads(self.run(app, str(path), "--against", str(pool), "--json").stdout)
        assert (report["instructions"], report["admitted"], report["pool"]) == (3, 1, 1)
        assert [(row["number"], row["blocker"]) for row in report["rejected"]] == [
            (2, "Write a poem about rain."),
            (3, "Name a large river"),
        ]
        assert sum(row["rejected"] for row in report["histogram"]) == len(report["rejected"])
        assert "Write a poem about rain." in self.run(app, str(path)).stdout

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('{"instruction": "a"}\n{"text": "b"}', "line 2: the field 'instruction' is missing"),
            ('{"instruction": 3}', "line 1: the field 'instruction' is not a string"),
            ('{"instruction": "a"}\n{"instr', "line 2: not valid JSON"),
            ('[{"instruction": "a"}, 7]', "item 2: expected an object"),
            (b"good\n\xff", "line 2: not UTF-8"),
        ],
    )
    def test_bad_input_is_named(
        self, app: typer.Typer, tmp_path: Path, content: str | bytes, said: str
    ) -> None:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        result = self.run(app, str(path))
        assert isinstance(result.exception, UsageError)
        assert str(path) in str(result.exception)
        assert said in str(result.exception)
