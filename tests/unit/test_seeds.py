"""Seeds and shots: what the bundled ones promise, and what is said of a broken file."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from pipeline.config import resolve
from pipeline.errors import UsageError
from pipeline.records import Instance, SeedTask
from pipeline.seeds import load_seeds, load_shots, validate_seed_file
from pipeline.self_instruct.filter_settings import InstanceFilters, InstructionFilters
from pipeline.self_instruct.filters import reject_reason
from pipeline.self_instruct.manifest import build_manifest, check_seeds
from tests.support.cli import ROOT
from tests.support.distances import find_near

SEEDS = ROOT / "seeds" / "seed_tasks.jsonl"
SHARED = ROOT.parent / "shared" / "data" / "self_instruct" / "seed_tasks.jsonl"
# Verbs that open a task, as a dictionary would list them. A seed's main verb is the first of its
# words that is one of them; a question has none, unless it asks for something as well.
VERBS = """abridge account add adapt address adjust advise analyse analyze anonymise answer apologise
apply argue arrange assess assign balance brainstorm break brief build calculate caption categorise
categorize change check choose cite clarify classify combine comment compare complete compose
compress compute condense construct continue contrast convert correct count cover create critique
cut debug decide decline decode decorate deduce define derive describe design detect determine
develop devise diagnose disagree discuss distinguish divide draft edit elaborate eliminate encode
estimate evaluate examine expand explain express extract fact-check fill filter find finish fit fix
flag format formulate gauge generate give grade greet group guess help hypothesise identify
illustrate imagine implement improve infer insert interpret introduce invent join judge justify
label lay lengthen list locate make mark match measure merge modernise modify move name negotiate
normalise offer optimise optimize order organise organize outline paraphrase parse persuade pick
plan point polish portion predict prepare present price prioritise produce pronounce proofread
propose prove provide punctuate put quiz quote rank rate read rearrange recast reconcile recommend
record redact reduce refactor refute remove rename render reorder rephrase replace reply report
rephrase resolve respond restate restore retell return reverse review revise reword rewrite rhyme
round say scale schedule score separate settle shorten show simplify sketch solve sort spell split
standardise state strip structure suggest summarise summarize supply swap tabulate tag teach tell
tidy tighten total trace transcribe transform translate transliterate transpose trim turn type
unpick unscramble untangle update verify vote walk warn weigh work write""".split()


@pytest.fixture(scope="module")
def seeds() -> list[SeedTask]:
    return load_seeds(None)


@pytest.fixture(scope="module")
def texts(seeds) -> dict[str, list[str]]:
    """Instructions by kind of row."""
    shots = {name: [row["instruction"] for row in rows] for name, rows in load_shots(None).items()}
    return {"seeds": [seed.instruction for seed in seeds], **shots}


class TestBundledSeeds:
    def test_counts(self, seeds):
        assert Counter(seed.is_classification for seed in seeds) == {True: 25, False: 150}
        without_input = sum(not seed.instances[0].input for seed in seeds)
        assert 50 <= without_input <= 67  # about a third
        assert all(len(seed.instances) == 1 for seed in seeds)

    def test_all_distinct(self, seeds):
        for values in zip(*((s.id, s.name, s.instruction.lower()) for s in seeds), strict=True):
            assert len(set(values)) == 175

    def test_every_line_is_sound(self):
        tasks, problems = validate_seed_file(SEEDS)
        assert (len(tasks), problems) == (175, [])

    def test_loaded_as_they_stand(self, seeds):
        rows = [json.loads(line) for line in SEEDS.read_text("utf-8").splitlines()]
        assert [seed.to_json() for seed in seeds] == rows

    def test_texts_are_tidy(self, seeds):
        for seed in seeds:
            for text in (
                seed.instruction,
                *(t for i in seed.instances for t in (i.input, i.output)),
            ):
                assert text == text.strip(), seed.id
                assert "\r" not in text, seed.id

    def test_no_filter_rejects_one(self, seeds):
        for seed in seeds:
            assert reject_reason(seed.instruction, InstructionFilters()) is None, seed.id
            for item in seed.instances:
                assert item.output, seed.id
                assert item.input != item.output, seed.id
                assert not item.output.endswith(":"), seed.id
                assert not item.input.endswith(":"), seed.id
        assert InstanceFilters().drop_trailing_colons

    def test_classification_labels_are_varied(self, seeds):
        labels = [seed.instances[0].output for seed in seeds if seed.is_classification]
        assert len(set(labels)) >= 20
        assert all(len(label.split()) <= 12 for label in labels)

    def test_at_least_sixty_main_verbs(self, seeds):
        verbs = set()
        for seed in seeds:
            words = re.findall(r"[a-z][a-z-]*", seed.instruction.lower())
            verbs |= set([word for word in words if word in VERBS][:1])
        assert len(verbs) >= 60, sorted(verbs)

    def test_lengths_vary(self, seeds):
        lengths = [len(seed.instruction.split()) for seed in seeds]
        assert min(lengths) <= 8
        assert max(lengths) >= 35


class TestBundledShots:
    def test_counts(self):
        shots = load_shots(None)
        kinds = Counter(row["is_classification"] for row in shots["shots_classification"])
        assert kinds == {True: 12, False: 19}
        assert len(shots["shots_input_first"]) == 11
        assert len(shots["shots_output_first"]) == 16

    def test_labels_as_published(self):
        examples = [row["examples"] for row in load_shots(None)["shots_output_first"]]
        counts = Counter(map(len, examples))
        assert sum(map(len, examples)) == 34
        assert (counts[4], counts[3]) == (1, 2)
        assert sum(all(not item["input"] for item in row) for row in examples) == 2

    def test_shapes_as_published(self):
        examples = [row["examples"] for row in load_shots(None)["shots_input_first"]]
        direct = [row for row in examples if not row[0]["input"]]
        assert len(direct) == 4
        assert all(len(row) == 1 for row in direct)
        assert Counter(len(row) for row in examples if row[0]["input"]) == {1: 3, 2: 4}
        for row in examples:
            for item in row:
                assert all(
                    re.match(r"[A-Z][A-Za-z ]*: ?", item["input"]) for _ in [0] if item["input"]
                )


class TestDistance:
    """No seed is near another, nor a shot near a row of another kind (rouge_score itself)."""

    def test_seeds(self, texts):
        assert find_near(texts["seeds"]) == []

    def test_across_kinds(self, texts):
        for one, other in combinations(texts, 2):
            assert find_near(texts[one], texts[other]) == [], (one, other)

    def test_the_measure_itself(self):
        assert find_near(["Name the river.", "Sort it."]) == []
        assert len(find_near(["Name the long river.", "Name the short river."])) == 1
        assert len(find_near(["a b c d"], ["a b e f"])) == 1  # exactly 0.5


class TestAuthorsFile:
    def test_passes(self):
        if not SHARED.exists():
            pytest.skip("no ../shared")
        tasks, problems = validate_seed_file(SHARED)
        assert (len(tasks), problems) == (175, [])


def row(**changes: object) -> dict[str, object]:
    values = {
        "id": "a", "name": "n", "instruction": "Sing a song.",
        "instances": [{"input": "", "output": "La."}], "is_classification": False,
    }  # fmt: skip
    values.update(changes)
    return {key: value for key, value in values.items() if value is not ...}


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("{", "line 1: not valid JSON"),
            ("[1]", "line 1: a JSON object is expected, not list"),
            ("1" * 5000, "line 1: not valid JSON"),
            ("[" * 100_000, "line 1: not valid JSON"),
            (row(id=...), "line 1, field 'id': missing"),
            (row(id=7), "line 1, field 'id': a text is expected, not a number"),
            (row(name=None), "line 1, field 'name': a text is expected, not null"),
            (row(instruction=" "), "line 1, field 'instruction': must not be empty"),
            (row(instruction="\ud83d"), "line 1, field 'instruction': holds half of a surrogate"),
            (row(is_classification=...), "line 1, field 'is_classification': missing"),
            (row(is_classification="no"), "field 'is_classification': true or false is expected"),
            (row(is_classification=0), "true or false is expected, not a number"),
            (row(instances=...), "line 1, field 'instances': missing"),
            (row(instances=[]), "field 'instances': a list of at least one instance"),
            (row(instances={}), "field 'instances': a list of at least one instance"),
            (row(instances=["a"]), "field 'instances[0]': an object with input and output"),
            (row(instances=[{"output": "a"}]), "field 'instances[0].input': a text is expected"),
            (row(instances=[{"input": ""}]), "field 'instances[0].output': a text is expected"),
            (row(instances=[{"input": "", "output": " "}]), "[0].output': must not be empty"),
            (row(instances=[{"input": "\ud800", "output": "a"}]), "[0].input': holds half"),
            (row(instances=[{"input": "", "output": "a", "x": 1}]), "[0].x': unknown field"),
            (row(extra=1), "line 1, field 'extra': unknown field; the fields are id, name"),
        ],
    )
    def test_line_field_and_remedy(self, tmp_path, line, problem):
        path = tmp_path / "s.jsonl"
        path.write_text((line if isinstance(line, str) else json.dumps(line)) + "\n")
        tasks, problems = validate_seed_file(path)
        assert tasks == []
        assert len(problems) == 1
        assert problem in str(problems[0])
        with pytest.raises(UsageError) as caught:
            load_seeds(path)
        assert problem in str(caught.value)
        assert str(path) in str(caught.value)

    def test_every_problem_of_every_line(self, tmp_path):
        path = tmp_path / "s.jsonl"
        lines = [
            json.dumps(row()), "", "{", json.dumps(row(id="b", instruction="Other.", name=3, x=1)),
            json.dumps(row()), json.dumps(row(id="c", instruction="Third one.")),
        ]  # fmt: skip
        path.write_text("\r\n".join(lines))
        tasks, problems = validate_seed_file(path)
        assert [(p.line, p.field) for p in problems] == [
            (3, None), (4, "name"), (4, "x"), (5, "id"), (5, "instruction"),
        ]  # fmt: skip
        assert "stands on line 1" in problems[-1].message
        assert [task.id for task in tasks] == ["a", "c"]

    def test_a_few_are_shown_and_the_rest_counted(self, tmp_path):
        path = tmp_path / "s.jsonl"
        path.write_text("{\n" * 9)
        with pytest.raises(UsageError) as caught:
            load_seeds(path)
        message = str(caught.value)
        assert "9 problem(s)" in message
        assert message.count("not valid JSON") == 5
        assert "and 4 more" in message
        assert "evoloom seeds validate" in message

    @pytest.mark.parametrize(
        ("data", "part"),
        [
            (None, "No such file"),
            (b"\xff", "not UTF-8"),
            (b"", "holds no task"),
            (b"\n\n", "no task"),
        ],
    )
    def test_file_as_a_whole(self, tmp_path, data, part):
        path = tmp_path / "s.jsonl"
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(UsageError) as caught:
            load_seeds(path)
        assert part in str(caught.value)
        assert f"seed file {path}" in str(caught.value)

    def test_directory(self, tmp_path):
        with pytest.raises(UsageError, match="Is a directory"):
            load_seeds(tmp_path)

    def test_byte_order_mark_and_line_separators_inside_texts(self, tmp_path):
        path = tmp_path / "s.jsonl"
        text = json.dumps(row(instruction="One\u2028two\u0085three."), ensure_ascii=False)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
        assert [task.instruction for task in load_seeds(path)] == ["One\u2028two\u0085three."]


class TestPool:
    def few(self, count: int, classification: int = 0) -> list[SeedTask]:
        return [
            SeedTask(str(n), "n", f"Task {n}", (Instance("", "x"),), n < classification)
            for n in range(count)
        ]

    @pytest.mark.parametrize(
        ("count", "flags", "passes"),
        [
            (8, {}, True),
            (7, {}, False),
            (7, {"self_instruct.shots": 7}, True),
            (12, {"self_instruct.classification_seeds_only": True}, False),
        ],
    )
    def test_too_few_for_a_prompt(self, count, flags, passes):
        settings = resolve(flags).settings
        seeds = self.few(count, classification=5)
        if passes:
            check_seeds(seeds, settings)
            return
        with pytest.raises(UsageError) as caught:
            check_seeds(seeds, settings)
        usable = 5 if flags else count
        for part in (f"{usable} ", "fewer than the 8 shots", "seeds.file", "self_instruct.shots"):
            assert part in str(caught.value)
        assert ("classification" in str(caught.value)) is bool(flags)

    def test_own_file_is_what_the_manifest_holds(self, tmp_path):
        path = tmp_path / "s.jsonl"
        rows = [seed.to_json() for seed in self.few(8)]
        path.write_text("".join(json.dumps(item) + "\n" for item in rows))
        settings = resolve({"seeds.file": path}).settings
        assert build_manifest("r", settings, "m")["seeds"] == rows


class TestOwnShots:
    @pytest.mark.parametrize(
        ("file", "line", "parts"),
        [
            (
                "shots_classification",
                {"instruction": "a"},
                ["'is_classification'", "true or false"],
            ),
            ("shots_classification", {"is_classification": True}, ["'instruction'", "text"]),
            ("shots_input_first", {"instruction": "a"}, ["'examples'", "input and output"]),
            ("shots_input_first", {"instruction": "a", "examples": []}, ["'examples'"]),
            ("shots_output_first", {"instruction": "a", "examples": [{"input": "x"}]}, ["label"]),
            ("shots_output_first", [1], ["object"]),
        ],
    )
    def test_line_and_field_are_named(self, tmp_path: Path, file, line, parts):
        path = tmp_path / f"{file}.jsonl"
        path.write_text("\n" + json.dumps(line) + "\n")
        with pytest.raises(UsageError) as caught:
            load_shots(tmp_path)
        for part in [str(path), "line 2", *parts]:
            assert part in str(caught.value)

    def test_missing_directory(self, tmp_path):
        with pytest.raises(UsageError, match=r"seeds.shots_directory: .* is not a directory"):
            load_shots(tmp_path / "nosuch")

    def test_others_fall_back(self, tmp_path):
        bundled = load_shots(None)
        mine = {"instruction": "a", "is_classification": True}
        (tmp_path / "shots_classification.jsonl").write_text(json.dumps(mine))
        assert load_shots(tmp_path) == {**bundled, "shots_classification": [mine]}
