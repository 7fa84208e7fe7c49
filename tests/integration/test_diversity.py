"""Parses and novelty in the store, and `evoloom diversity`: real texts, real parsers, real DuckDB."""

from __future__ import annotations

import json
from collections import Counter
from math import isclose, log2
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer

from flows import analysis
from flows.analysis import Step, analyse_after, analyse_store
from flows.import_source import ImportOptions
from flows.importing import import_files
from pipeline.config import resolve
from pipeline.diversity import PARSER_VERSION, analyse
from store.run_directory import read_manifest
from store.snapshot import open_snapshot, read_snapshot
from tests.support import runs

TEXTS = (
    "Draw a map of the harbour.",
    "Sketch a map of the harbour.",
    "Given a list of numbers, sort them.",
    "Can you explain the tides to a child?",
    "What is salt?",
    "Write down the steps to bake bread, then count them.",
    "画一张地图",
)


def import_texts(store: Path, name: str, texts: Any, **more: Any) -> None:
    rows = [{"instruction": text, "input": "", "output": "done", **more} for text in texts]
    file = store.parent / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    import_files(store, [file], ImportOptions(), name)


def query(store: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with open_snapshot(store) as connection:
        return connection.execute(sql, list(parameters)).fetchall()


PARSES = (
    "SELECT text, kind, verb, noun, [(f.verb, f.noun) for f in further], question_word "
    "FROM instructions JOIN verb_nouns USING (text_id) "
    "WHERE run_id = ? AND method = ? AND parser_version = ? ORDER BY position"
)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an import that was analysed; tests that change it take copies."""
    store = tmp_path_factory.mktemp("analysed") / "evoloom.duckdb"
    import_texts(store, "few", TEXTS)
    done = analyse_store(store)
    assert (done.parsed, done.scored, done.at_work) == (len(TEXTS), {"few": len(TEXTS)}, ())
    return store


class TestParses:
    @pytest.mark.parametrize("method", ["mended", "published"])
    def test_are_those_of_the_rule(self, analysed, method):
        found = query(analysed, PARSES, "few", method, PARSER_VERSION)
        assert [
            (text, kind, verb, noun, tuple(map(tuple, further)), word)
            for text, kind, verb, noun, further, word in found
        ] == [
            (text, r.kind, r.verb, r.noun, r.also, r.question_word)
            for text, r in zip(TEXTS, analyse(TEXTS, method), strict=True)
        ]

    def test_the_view_counts_them(self, analysed):
        found = query(
            analysed,
            "SELECT verb, noun, count, share FROM verb_noun_pairs "
            "WHERE run_id = 'few' AND method = 'mended' AND verb = 'sort'",
        )
        assert found == [("sort", "number", 1, 1 / len(TEXTS))]

    def test_a_text_is_parsed_once_whatever_run_it_is_in(self, analysed, tmp_path):
        store = runs.copy_store(analysed, tmp_path / "copy")
        before = read_snapshot(store).generation
        assert analyse_store(store).parsed == 0
        assert read_snapshot(store).generation == before, "nothing was new, and yet published"
        import_texts(store, "more", [*TEXTS, "Draw a house."])
        done = analyse_store(store, ["more"])
        assert (done.parsed, done.scored) == (1, {"more": len(TEXTS) + 1})
        assert len(query(store, PARSES, "more", "mended", PARSER_VERSION)) == len(TEXTS) + 1

    def test_another_version_of_the_parser_parses_again(self, analysed, tmp_path, monkeypatch):
        store = runs.copy_store(analysed, tmp_path / "copy")
        monkeypatch.setattr(analysis, "PARSER_VERSION", "the next one")
        assert analyse_store(store).parsed == len(TEXTS)
        assert len(query(store, "FROM verb_nouns")) == 4 * len(TEXTS)
        assert query(store, "SELECT sum(count) FROM instruction_kinds WHERE method = 'mended'") == [
            (len(TEXTS),)
        ]

    def test_stopped_it_keeps_what_it_has_and_goes_on_there(self, store):
        texts = [f"Draw {n} maps of the harbour in {n % 9} colours." for n in range(600)]
        import_texts(store, "many", texts)

        def stop(step: Step) -> None:
            if step.run_id is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            analyse_store(store, on_step=stop)
        kept = query(store, "SELECT count(DISTINCT text_id) FROM verb_nouns")[0][0]
        assert kept == 512  # a chunk
        steps = []
        assert analyse_store(store, on_step=steps.append).parsed == len(texts) - kept
        assert [step.total for step in steps if step.run_id is None] == [88]


class TestNovelty:
    def test_of_an_import_is_rouge_l_with_the_rest(self, analysed):
        scorer = RougeScorer(["rougeL"])
        rows = query(
            analysed,
            "SELECT i.text, seed_score, pool_score, j.text, pool_size FROM novelty_scores AS n "
            "JOIN instructions AS i ON i.id = n.instruction_id "
            "LEFT JOIN instructions AS j ON j.id = n.pool_id",
        )
        assert len(rows) == len(TEXTS)
        for text, seed_score, score, nearest, size in rows:
            others = [other for other in TEXTS if other != text]
            best = max(scorer.score(text, other)["rougeL"].fmeasure for other in others)
            assert (seed_score, size) == (None, len(TEXTS))
            assert score == best
            assert scorer.score(text, nearest)["rougeL"].fmeasure == best

    def test_of_a_run_is_measured_with_its_seeds(self, undisturbed, tmp_path):
        store = runs.copy_store(undisturbed, tmp_path / "copy")
        accepted = [
            r.text for r in runs.rows_of(store).instructions.values() if r.state == "accepted"
        ]
        assert analyse_store(store).scored == {runs.RUN: len(accepted)}
        scorer = RougeScorer(["rougeL"])
        seeds = {s.id: s.instruction for s in read_manifest(runs.run_path(store)).seeds}
        rows = query(
            store,
            "SELECT text, seed_score, seed_id, pool_score FROM novelty_scores "
            "JOIN instructions ON id = instruction_id ORDER BY position",
        )
        assert [row[0] for row in rows] == accepted
        for text, seed_score, seed_id, pool_score in rows[:8]:
            scores = {
                key: scorer.score(text, seed)["rougeL"].fmeasure for key, seed in seeds.items()
            }
            assert seed_score == max(scores.values()) == scores[seed_id]
            others = [other for other in accepted if other != text]
            assert pool_score == max(scorer.score(text, o)["rougeL"].fmeasure for o in others)

    def test_a_pool_that_has_grown_is_scored_again(self, interrupted, scripted_teacher, tmp_path):
        store = runs.copy_store(interrupted, tmp_path / "copy")
        first = analyse_store(store).scored[runs.RUN]
        teacher = scripted_teacher()
        runs.resume(store, teacher__base_url=teacher.url, caps__tokens=10_000_000)
        assert 0 < first < runs.TARGET
        assert analyse_store(store).scored == {runs.RUN: runs.TARGET}
        assert query(store, "SELECT count(*), min(pool_size) FROM novelty_scores") == [
            (runs.TARGET, runs.TARGET)
        ]

    def test_texts_without_tokens_are_compared_in_their_own_script(self, store):
        import_texts(store, "han", ["画一张地图", "画一张大地图", "写一首关于冬天的诗"])
        analyse_store(store)
        scores = query(store, "SELECT pool_score FROM novelty_scores ORDER BY pool_score DESC")
        assert isclose(scores[0][0], 10 / 11)
        kinds = query(store, "SELECT DISTINCT kind FROM verb_nouns WHERE method = 'mended'")
        assert kinds == [("unparsed",)]


class TestAtTheEndOfARun:
    def test_it_is_analysed(self, scripted_teacher, store):
        result = runs.start(store, scripted_teacher(), store__analyse=True)
        assert result.end.state == "completed"
        assert query(
            store,
            "SELECT count(*) FROM instructions JOIN verb_nouns USING (text_id) "
            "JOIN novelty_scores ON id = instruction_id "
            "WHERE instructions.state = 'accepted' AND method = 'mended'",
        ) == [(runs.TARGET,)]

    def test_a_failure_is_told_and_fails_nothing(self, analysed, tmp_path):
        store = runs.copy_store(analysed, tmp_path / "copy")
        import_texts(store, "more", ["Draw a house."])
        store.with_name(f"{store.name}.analysis.lock").unlink()
        store.with_name(f"{store.name}.analysis.lock").mkdir()
        told: list[str] = []
        settings = resolve({"store.path": store}, flags_only=True).settings
        analyse_after(store, "more", settings, told.append)
        assert len(told) == 1
        assert "more is not analysed" in told[0] and "evoloom store analyse more" in told[0]
        told.clear()
        off = resolve({"store.path": store, "store.analyse": False}, flags_only=True).settings
        analyse_after(store, "more", off, told.append)
        assert told == []

    def test_an_import_by_the_command_is_analysed(self, tmp_path):
        file = tmp_path / "few.jsonl"
        file.write_text('{"instruction": "Draw a map.", "input": "", "output": "done"}\n', "utf-8")
        store = tmp_path / "evoloom.duckdb"
        arguments = ("import", file, "--name", "few", "--store", store)
        done = runs.evoloom(*arguments, env={"EVOLOOM_STORE__ANALYSE": "true"})
        assert done.returncode == 0
        assert query(store, "SELECT method, verb, noun FROM verb_nouns ORDER BY 1") == [
            ("mended", "draw", "map"),
            ("published", "draw", "map"),
        ]
        done = runs.evoloom("store", "analyse", "few", "--store", store, "--json")
        assert json.loads(done.stdout) == {
            "store": str(store), "parsed": 0, "scored": {}, "at_work": [],
        }  # fmt: skip


@pytest.fixture(scope="module")
def two(analysed, tmp_path_factory):
    store = runs.copy_store(analysed, tmp_path_factory.mktemp("two") / "copy")
    questions = ["What is salt?", "Why do bees sleep?", "Draw a map of the harbour."]
    import_texts(store, "other", questions, is_classification=True)
    return store


class TestCommand:
    def test_one_beside_another(self, two):
        done = runs.evoloom("diversity", "few", "--versus", "other", "--store", two, "--json")
        assert done.stderr == ""
        value = json.loads(done.stdout)
        first, second = value["datasets"]
        assert (first["run_id"], second["run_id"]) == ("few", "other")
        assert (first["instructions"], second["instructions"]) == (len(TEXTS), 3)
        assert first["sample"] == second["sample"] == 3
        records = analyse(TEXTS)
        verbs = Counter(r.verb for r in records if r.verb)
        total = verbs.total()
        entropy = -sum(n / total * log2(n / total) for n in verbs.values())
        assert isclose(first["measures"]["verb_entropy"], entropy)
        assert value["difference"]["verb_entropy"] == -first["measures"]["verb_entropy"]
        assert second["question_words"] == {"what": 1 / 3, "why": 1 / 3}
        assert second["kinds"] == {"imperative": 1 / 3, "question": 2 / 3, "unparsed": 0}
        assert second["task_types"] == {"classification": 1, "other": 0, "unknown": 0}
        assert first["languages"] == {"en": 6 / 7, "zh": 1 / 7}
        assert first["top_verbs"][0]["count"] == verbs.most_common(1)[0][1]
        # What was not parsed yet is now, and kept.
        assert len(query(two, PARSES, "other", "mended", PARSER_VERSION)) == 3

    def test_text_for_people(self, two):
        done = runs.evoloom(
            "diversity", "few", "--store", two, "--method", "published", "--top", "3"
        )
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert lines[0] == "A  few"
        rows = {line[:34].strip(): line[34:].split() for line in lines}
        assert rows["distinct instructions"] == ["7"]
        assert rows["question"] == ["0.0%"]  # the published rule knows none
        assert "dispersion" not in done.stdout

    def test_spread_of_embeddings(self, two):
        done = runs.evoloom(
            "diversity", "few", "--versus", "other", "--embeddings", "--store", two, "--json"
        )
        assert done.returncode == 0, done.stderr
        first, second = (item["measures"] for item in json.loads(done.stdout)["datasets"])
        assert 0.3 < first["dispersion"] < 1.1 and 0.3 < second["dispersion"] < 1.1

    @pytest.mark.parametrize(
        ("arguments", "wanted"),
        [
            (("diversity", "nothing"), "no run 'nothing'"),
            (("diversity", "few", "--versus", "nothing"), "no run 'nothing'"),
            (("diversity", "few", "--method", "guessed"), "mended or published"),
            (("store", "analyse", "nothing"), "no run 'nothing'"),
        ],
    )
    def test_what_cannot_be_is_told(self, two, arguments, wanted):
        done = runs.evoloom(*arguments, "--store", two)
        assert done.returncode == 2
        assert wanted in done.stderr and "Traceback" not in done.stderr
