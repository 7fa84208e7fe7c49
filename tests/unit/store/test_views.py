"""Every view against the same figures worked out in plain Python from the run directories."""

import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.diversity.statistics import DatasetRow, compute_statistics
from pipeline.records import Batch, InstanceRow, InstructionRow
from store.database import open_live, writer_lock
from store.ingest import ingest
from store.new_run import NewRun
from store.run_directory import runs_directory
from store.run_rows import RunRows, read_run_rows, stage_usage
from store.text import storable
from tests.support.run_directories import SyntheticRun, write_run

PRICES = {"prompt": 0.5, "cached_prompt": 0.1, "completion": 2.0}
OLD, NEW = "parser 1", "parser 2"
SCORED, PARTLY, OUTGROWN = "night", "file", "free"
"""Scored in full; only some instructions; all, but when there was one fewer."""
EDGES = (0.0, 0.05, 0.35, 0.7, 0.999, 1.0, 0.123)
Query = Callable[..., list[tuple[Any, ...]]]
Key = tuple[str, ...]


class Expected:
    """What the run directories hold, looked at without DuckDB."""

    def __init__(self, store: Path) -> None:
        folder = runs_directory(store)
        self.rows = {path.name: read_run_rows(path) for path in sorted(folder.iterdir())}
        self.parses: dict[tuple[str, str, str], tuple[Any, ...]] = {}
        self.scores: dict[str, list[tuple[float, float]]] = {}

    def texts(self, run_id: str) -> list[str]:
        """Distinct texts of accepted instructions in admission order, as DuckDB can hold them."""
        rows = self.rows[run_id].instructions.values()
        return list(dict.fromkeys(storable(row.text) for row in rows if row.state == "accepted"))


def dataset_rows(rows: RunRows) -> list[DatasetRow]:
    """A run's accepted instances, in the order of their instructions."""
    grouped = rows.instances_by_instruction()
    return [
        DatasetRow(instruction.text, item.input, item.output, instruction.is_classification)
        for key, instruction in rows.instructions.items()
        if instruction.state == "accepted"
        for item in grouped.get(key, ())
        if item.state == "accepted"
    ]


def import_batches() -> list[Batch]:
    """An imported file: several instances of an instruction, repeated rows, bad lines, long texts."""
    rng = random.Random(5)
    batches = []
    for number in range(1, 61):
        place = (number,)
        origin = f"file.jsonl line {number}"
        if number % 20 == 0:
            row = InstructionRow(
                "import", place, "{", "rejected", "not_json", "line ends", origin=origin
            )
            batches.append(Batch("import", place, instructions=(row,)))
            continue
        # Texts repeat, as in a file whose instructions were not brought together.
        text = f"Name {number % 25} things\u3000that\x1cmatter."
        known = rng.choice([None, None, True, False])
        instruction = InstructionRow(
            "import", place, text, "accepted", is_classification=known, origin=origin
        )
        instances = tuple(
            InstanceRow(
                "import", place, index, rng.choice(["", " \n", "an input", "x " * 30]),
                "word " * rng.choice([1, 4, 5, 6, 199, 200, 201, 500]), "accepted",
                is_duplicate=index == 2,
            )
            for index in range(rng.randint(1, 3))
        )  # fmt: skip
        batches.append(Batch("import", place, instructions=(instruction,), instances=instances))
    return batches


def write_evolution(store: Path) -> None:
    """An evolution of the import's first instructions, two rounds, and a dataset version of it."""
    with NewRun(store, "evolved") as run:
        for slot in range(3):
            parent = f"file import/{slot + 1}"
            row = InstructionRow("source", (slot,), f"Source {slot}", "accepted", parent=parent)
            run.write([Batch("source", (slot,), instructions=(row,))])
        for place in range(6):
            parent = f"source:{place}" if place < 3 else str(place - 3)
            row = InstructionRow(
                "evolve", (place,), f"Evolved {place}", "rejected" if place == 4 else "accepted",
                "copied" if place == 4 else None, parent=parent, operator="deepen",
                round=place // 3, difficulty=place + 1,
            )  # fmt: skip
            run.write([Batch("evolve", (place,), instructions=(row,))])
        run.finish({"kind": "evol-instruct"})
    with NewRun(store, "nightly@2026-11-21.1") as run:
        for place, parent in enumerate(["evolved evolve/3", "gone import/1"]):
            row = InstructionRow("dataset", (place,), f"Taken {place}", "accepted", parent=parent)
            run.write([Batch("dataset", (place,), instructions=(row,))])
        run.finish(
            {
                "kind": "dataset", "name": "nightly", "version": "2026-11-21.1",
                "content_hash": "ab" * 32, "recipe": {"name": "all-accepted"},
                "inputs": ["evolved", "gone"], "instructions": 2, "instances": 0,
            }
        )  # fmt: skip


def add_analysis(store: Path, expected: Expected) -> None:
    """Parses of every text by two parsers and both rules; scores of one run and of half another."""
    rng = random.Random(3)
    for text in sorted({text for run in expected.rows for text in expected.texts(run)}):
        for method in ("mended", "published"):
            for parser in (OLD, NEW):
                kind = rng.choice(["imperative", "imperative", "question", "unparsed"])
                is_verb = kind == "imperative"
                verb = rng.choice(["write", "sort"]) if is_verb else None
                noun = rng.choice(["list", "poem", None]) if is_verb else None
                word = rng.choice(["what", "how"]) if kind == "question" else None
                expected.parses[text, method, parser] = (kind, verb, noun, word)
    with writer_lock(store, "test"), open_live(store) as connection:
        # The newer parser is the one used later, not the one whose name sorts last.
        connection.execute(
            "INSERT INTO parsers VALUES (?, '2026-11-22 00:00:00'), (?, '2026-11-21 00:00:00')",
            [NEW, OLD],
        )
        for (text, method, parser), parse in expected.parses.items():
            connection.execute(
                "INSERT INTO verb_nouns VALUES (md5(?)::UUID, ?, ?, ?, ?, ?, ?, [])",
                [text, method, parser, *parse],
            )
        for run_id in (SCORED, PARTLY, OUTGROWN):
            rows = expected.rows[run_id].instructions
            accepted = {key: row for key, row in rows.items() if row.state == "accepted"}
            size = len(accepted) - (run_id == OUTGROWN)
            for number, (key, row) in enumerate(accepted.items()):
                if run_id == PARTLY and row.position[0] > 30:
                    continue
                score = (EDGES[number % len(EDGES)], rng.random())
                expected.scores.setdefault(run_id, []).append(score)
                connection.execute(
                    "INSERT INTO novelty_scores VALUES (?, ?, ?, 'seed_1', ?, NULL, ?)",
                    [key, run_id, *score, size],
                )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "evoloom.duckdb"
    manifest = {"config": {"prices": PRICES}}
    write_run(path, SyntheticRun("night", positions=40, target=30, manifest=manifest))
    free = {"config": {"prices": {"prompt": 0.0, "cached_prompt": None, "completion": 0.0}}}
    write_run(path, SyntheticRun("free", seed=8, positions=6, manifest=free))
    mixed = {
        "model": "dear",
        "stage_models": {"classify": {"model": 'org/cheap-1.5 "x"', "api": "chat"}},
        "config": {"prices": {
            "prompt": 10.0, "cached_prompt": None, "completion": 0.0,
            "models": {'org/cheap-1.5 "x"': {
                "prompt": 1.0, "cached_prompt": None, "completion": 3.0}},
        }},
    }  # fmt: skip
    write_run(path, SyntheticRun("mixed", seed=9, positions=12, manifest=mixed))
    write_run(path, SyntheticRun("empty", positions=0))
    with NewRun(path, "file") as run:
        run.write(import_batches())
        run.finish({"kind": "import"})
    write_evolution(path)
    ingest(path)
    return path


@pytest.fixture(scope="module")
def expected(store: Path) -> Expected:
    found = Expected(store)
    add_analysis(store, found)
    return found


@pytest.fixture(scope="module")
def query(store: Path, expected: Expected) -> Iterator[Query]:
    with duckdb.connect(store, read_only=True) as connection:

        def run(sql: str, *values: object) -> list[tuple[Any, ...]]:
            return connection.execute(sql, list(values)).fetchall()

        yield run


class TestDatasetStatistics:
    def test_are_those_of_plain_python(self, query: Query, expected: Expected) -> None:
        view = query(
            "SELECT run_id, instructions, classification, not_classification, unknown, instances, "
            "empty_inputs, mean_instruction_words, mean_input_words, mean_output_words "
            "FROM dataset_statistics"
        )
        assert [row[0] for row in view] == list(expected.rows)
        for run_id, *found in view:
            rows = dataset_rows(expected.rows[run_id])
            if run_id in ("evolved", "nightly@2026-11-21.1"):  # instructions without instances
                continue
            computed = compute_statistics(rows)
            assert found == [pytest.approx(getattr(computed, name)) if name.startswith("mean") and rows
                             else getattr(computed, name) for name in computed.__slots__]  # fmt: skip

    def test_the_rows_compared_hold_every_case(self, expected: Expected) -> None:
        found = compute_statistics(dataset_rows(expected.rows["file"]))
        assert min(found.classification, found.not_classification, found.unknown) > 1
        assert found.empty_inputs > 10
        accepted = [r for r in expected.rows["file"].instructions.values() if r.state == "accepted"]
        assert len(accepted) > found.instructions == 25

    def test_share_and_duplicates(self, query: Query, expected: Expected) -> None:
        ((share, empty, instances, duplicates),) = query(
            "SELECT empty_input_share, empty_inputs, instances, duplicates FROM dataset_statistics "
            "WHERE run_id = 'file'"
        )
        assert share == empty / instances
        items = expected.rows["file"].instances.values()
        assert duplicates == sum(item.is_duplicate for item in items) > 3

    def test_of_nothing_are_zero_and_null(self, query: Query) -> None:
        assert query("SELECT * FROM dataset_statistics WHERE run_id = 'empty'") == [
            ("empty", 0, 0, 0, 0, 0, 0, 0, None, None, None, None)
        ]


class TestVerbNouns:
    @pytest.mark.parametrize("run_id", ["night", "file"])
    def test_pairs(self, query: Query, expected: Expected, run_id: str) -> None:
        texts = expected.texts(run_id)
        counts: Counter[Key] = Counter()
        examples: dict[Key, str] = {}
        for method in ("mended", "published"):
            for text in texts:
                _, verb, noun, _ = expected.parses[text, method, NEW]
                if verb and noun:
                    counts[method, verb, noun] += 1
                    examples.setdefault((method, verb, noun), text)
        view = query("SELECT * EXCLUDE (run_id) FROM verb_noun_pairs WHERE run_id = ?", run_id)
        assert len(view) == len(counts) > 5
        for method, verb, noun, count, share, example in view:
            assert count == counts[method, verb, noun]
            assert share == pytest.approx(count / len(texts))
            assert example == examples[method, verb, noun]

    def test_kinds(self, query: Query, expected: Expected) -> None:
        texts = expected.texts("file")
        counts: Counter[Any] = Counter()
        for method in ("mended", "published"):
            for text in texts:
                kind, _, _, word = expected.parses[text, method, NEW]
                counts[method, kind, word] += 1
        view = query("SELECT * EXCLUDE (run_id) FROM instruction_kinds WHERE run_id = 'file'")
        assert {row[:3]: row[3:] for row in view} == {
            key: (count, pytest.approx(count / len(texts))) for key, count in counts.items()
        }
        assert sum(row[4] for row in view) == pytest.approx(2)


class TestNoveltyDistribution:
    def test_bins(self, query: Query, expected: Expected) -> None:
        scores = expected.scores[SCORED]
        for side, against in enumerate(("seed", "pool")):
            view = query(
                "SELECT score_from, score_to, count, share FROM novelty_distribution "
                "WHERE run_id = ? AND against = ?", SCORED, against,
            )  # fmt: skip
            assert [row[0] for row in view] == [pytest.approx(n / 20) for n in range(20)]
            for low, high, count, share in view:
                inside = [score[side] for score in scores
                          if low <= score[side] < high or score[side] == high == 1]  # fmt: skip
                assert (count, share) == (len(inside), pytest.approx(len(inside) / len(scores)))
        assert sum(row[2] for row in view) == len(scores) == 30

    def test_of_a_run_that_is_not_scored_as_it_is_now_is_null(self, query: Query) -> None:
        for run_id in (PARTLY, OUTGROWN, "evolved"):
            assert query(
                "SELECT count(*), count(count), count(share) FROM novelty_distribution "
                "WHERE run_id = ?", run_id,
            ) == [(40, 0, 0)]  # fmt: skip

    def test_of_a_run_without_instructions_has_no_rows(self, query: Query) -> None:
        assert query("SELECT * FROM novelty_distribution WHERE run_id = 'empty'") == []


class TestTeacherUsage:
    @pytest.mark.parametrize("run_id", ["night", "free"])
    def test_is_the_run_directorys(self, query: Query, expected: Expected, run_id: str) -> None:
        rows = expected.rows[run_id]
        view = {row[0]: row[1:] for row in query(
            "SELECT * EXCLUDE (run_id, first_answered_at, last_answered_at, model, cached_share, "
            "cost_per_accepted) FROM teacher_usage "
            "WHERE run_id = ?", run_id)}  # fmt: skip
        stages = {item.stage: item for item in stage_usage(rows)}
        assert view.keys() == stages.keys() == {"generate", "classify", "instances"}
        for stage, found in view.items():
            item, usage = stages[stage], stages[stage].usage
            mine = [row for row in rows.completions.values() if row.stage == stage]
            answers = sum(row.text is not None for row in mine)
            cost = (
                (usage.prompt_tokens - usage.cached_tokens) * PRICES["prompt"]
                + usage.cached_tokens * PRICES["cached_prompt"]
                + usage.completion_tokens * PRICES["completion"]
            ) / 1e6
            assert found[:4] == (item.requests, answers, len(mine) - answers, item.without_usage)
            assert found[4:7] == (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
            assert found[7] == (pytest.approx(cost) if run_id == "night" else None)
            hundredths = statistics.quantiles(
                [r.latency_s for r in mine], n=100, method="inclusive"
            )
            assert found[8:] == tuple(pytest.approx(hundredths[n - 1]) for n in (50, 90, 99))

    def test_each_stage_has_the_price_of_its_model(self, query: Query, expected: Expected) -> None:
        rows = expected.rows["mixed"]
        usages = {item.stage: item.usage for item in stage_usage(rows)}
        accepted = sum(row.state == "accepted" for row in rows.instructions.values())
        view = query(
            "SELECT stage, model, cost, cached_share, cost_per_accepted FROM teacher_usage "
            "WHERE run_id = 'mixed' ORDER BY stage"
        )
        cheap = usages["classify"]
        costs = {
            "classify": (cheap.prompt_tokens + 3 * cheap.completion_tokens) / 1e6,
            "generate": usages["generate"].prompt_tokens * 10 / 1e6,
            "instances": usages["instances"].prompt_tokens * 10 / 1e6,
        }
        assert [row[:2] for row in view] == [
            ("classify", 'org/cheap-1.5 "x"'), ("generate", "dear"), ("instances", "dear")
        ]  # fmt: skip
        for stage, _, cost, share, each in view:
            usage = usages[stage]
            assert cost == pytest.approx(costs[stage])
            assert share == pytest.approx(usage.cached_tokens / usage.prompt_tokens)
            assert each == pytest.approx(costs[stage] / accepted)

    def test_times_are_utc(self, query: Query) -> None:
        ((first, last),) = query(
            "SELECT DISTINCT first_answered_at, last_answered_at FROM teacher_usage"
        )
        assert str(first) == str(last) == "2026-11-20 23:15:00"

    def test_of_an_import_there_is_none(self, query: Query) -> None:
        assert query("SELECT * FROM teacher_usage WHERE run_id = 'file'") == []


def test_lengths_are_counted_in_bins(query: Query, expected: Expected) -> None:
    def bin_of(text: str) -> tuple[int, int | None]:
        words = len(text.split())
        if words == 0:
            return 0, 0
        low = (words - 1) // 5 * 5 + 1
        return (201, None) if words > 200 else (low, low + 4)

    for run_id in ("night", "file"):
        accepted = dataset_rows(expected.rows[run_id])
        parts = {
            "instruction": expected.texts(run_id),
            "input": [row.input for row in accepted],
            "output": [row.output for row in accepted],
        }
        counts = Counter((part, *bin_of(text)) for part, texts in parts.items() for text in texts)
        view = query("SELECT * EXCLUDE (run_id) FROM length_distribution WHERE run_id = ?", run_id)
        assert {row[:3]: row[3] for row in view} == counts
    assert {row[1] for row in view if row[0] == "output"} >= {1, 6, 196, 201}


def test_datasets_are_listed_with_recipe_and_inputs(query: Query) -> None:
    ((*found, created_at),) = query("SELECT * EXCLUDE (created_at), created_at FROM datasets")
    assert found == [
        "nightly@2026-11-21.1", "nightly", "2026-11-21.1", "ab" * 32, 2, 0, ["evolved", "gone"],
        '{"name":"all-accepted"}',
    ]  # fmt: skip
    assert isinstance(created_at, datetime)


def test_the_funnel_of_an_import_shows_why_lines_are_bad(query: Query) -> None:
    found = query(
        "SELECT subject, outcome, reason, count FROM funnel WHERE run_id = 'file' "
        "AND subject = 'instructions' AND outcome IN ('parsed', 'rejected', 'accepted')"
    )
    assert found == [
        ("instructions", "parsed", None, 60),
        ("instructions", "rejected", "not_json", 3),
        ("instructions", "accepted", None, 57),
    ]


class TestLineage:
    def test_is_that_of_the_parents(self, query: Query, expected: Expected) -> None:
        """Climbs parent by parent, over runs."""
        rows = {
            row_key: (row, run_id)
            for run_id, run in expected.rows.items()
            for row_key, row in run.instructions.items()
        }
        parents = dict(query("SELECT id, parent_id FROM instructions"))
        view = query("SELECT id, root_id, depth, run_id, state FROM lineage")
        assert len(view) == len(rows)
        for key, root, depth, run_id, state in view:
            above, steps = key, 0
            while parents[above] in rows:
                steps += rows[above][0].stage not in ("source", "dataset")
                above = parents[above]
            assert (root, depth) == (above, steps)
            assert (run_id, state) == (rows[key][1], rows[key][0].state)

    def test_goes_over_runs_and_counts_evolutions_only(self, query: Query) -> None:
        view = {row[0]: row[1:] for row in query(
            "SELECT line.text, root.text, depth, parent_text FROM lineage AS line "
            "JOIN instructions AS root ON root.id = line.root_id "
            "WHERE line.run_id IN ('evolved', 'nightly@2026-11-21.1')")}  # fmt: skip
        first = "Name 1 things\u3000that\x1cmatter."
        assert view["Source 0"] == (first, 0, first)
        assert view["Evolved 0"] == (first, 1, "Source 0")
        assert view["Evolved 3"] == (first, 2, "Evolved 0")
        assert view["Taken 0"] == (first, 2, "Evolved 3")
        assert view["Taken 1"] == ("Taken 1", 0, None)  # its run is not in this store


def test_evolution_and_difficulty(query: Query) -> None:
    assert query("SELECT * EXCLUDE (run_id) FROM evolution WHERE operator IS NOT NULL") == [
        (0, "deepen", 3, 3, 0, 2.0),
        (1, "deepen", 3, 2, 1, 5.0),
    ]
    assert query("SELECT round, difficulty, count FROM difficulty") == [
        (place // 3, place + 1, 1) for place in range(6) if place != 4
    ]


def test_shots_are_shown_with_their_texts(query: Query, expected: Expected) -> None:
    rows = expected.rows["night"]
    texts = {".".join(map(str, row.position)): row.text for row in rows.instructions.values()}
    seeds = {seed.id: seed.instruction for seed in rows.manifest.seeds}
    found = query("SELECT source, reference, text FROM shot_texts WHERE run_id = 'night'")
    assert len(found) == 40 * 8
    for source, reference, text in found:
        assert text.replace("\ufffd", "?") == storable(
            (seeds if source == "seed" else texts)[reference]
        )
