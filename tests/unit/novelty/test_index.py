from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.novelty import Admission, NoveltyIndex
from pipeline.novelty import index as index_module
from pipeline.novelty.index import Implementation
from pipeline.novelty.rouge import f_measure

EVERY: list[Implementation] = ["tree", "fallback", "plain"]
STREAMS = st.lists(
    st.lists(st.sampled_from("abcdefg"), max_size=9).map(" ".join), min_size=1, max_size=30
)
KIND = st.sampled_from(EVERY)


@pytest.fixture(params=EVERY)
def index(request: pytest.FixtureRequest) -> NoveltyIndex:
    return NoveltyIndex(implementation=request.param)


class TestAdmit:
    def test_names_the_earliest_blocker_and_its_score(self, index: NoveltyIndex) -> None:
        index.add(["x y z", "a b c d", "a b c d e"])
        assert index.admit(["a b c d e"]) == [Admission(False, "a b c d", f_measure(4, 4, 5), 1)]

    def test_an_admitted_text_joins_before_the_next_is_judged(self, index: NoveltyIndex) -> None:
        first, second = index.admit(["write a poem", "Write a poem!"])
        assert first == Admission(True, entry=0)
        assert second == Admission(False, "write a poem", 1.0, 0)
        assert len(index) == 1

    def test_texts_without_tokens_are_admitted_and_never_block(self, index: NoveltyIndex) -> None:
        assert [a.admitted for a in index.admit(["", "...", "", "天气", "天气"])] == [True] * 5
        assert index.untokenized == 2

    def test_a_retracted_text_stops_blocking(self, index: NoveltyIndex) -> None:
        index.add(["a b c", "a b c d"])
        index.retract(0)
        assert index.check("a b c").blocker_entry == 1
        index.retract(1)
        assert index.check("a b c").admitted
        assert len(index) == 0
        assert index.text(0) == "a b c"
        with pytest.raises(KeyError):
            index.retract(2)

    def test_ties_follow_the_option(self) -> None:
        # l = 7, m = n = 10: F is exactly 0.7 in floats.
        pool, text = "a b c d e f g h i j", "a b c d e f g x y z"
        for kind in EVERY:
            for at_threshold, admitted in (("reject", False), ("admit", True)):
                index = NoveltyIndex(0.7, at_threshold, implementation=kind)  # type: ignore[arg-type]
                index.add([pool])
                assert index.check(text).admitted is admitted

    def test_one_text_is_no_list_of_texts(self, index: NoveltyIndex) -> None:
        with pytest.raises(TypeError, match="list"):
            index.admit("write a poem")


class TestProperties:
    @settings(deadline=None, max_examples=60)
    @given(STREAMS, st.lists(st.integers(0, 30), max_size=4), KIND, KIND)
    def test_batches_do_not_matter(
        self, texts: list[str], cuts: list[int], one: Implementation, other: Implementation
    ) -> None:
        whole = NoveltyIndex(implementation=one).admit(texts)
        index = NoveltyIndex(implementation=other)
        bounds = [0, *sorted(min(cut, len(texts)) for cut in cuts), len(texts)]
        parts = [index.admit(texts[a:b]) for a, b in pairwise(bounds)]
        assert [a for part in parts for a in part] == whole

    @settings(deadline=None, max_examples=60)
    @given(STREAMS, KIND)
    def test_check_then_add_equals_admit(self, texts: list[str], kind: Implementation) -> None:
        admitting = NoveltyIndex(implementation=kind)
        checking = NoveltyIndex(implementation=kind)
        for text in texts:
            found = checking.check(text)
            assert checking.check(text) == found
            entry = checking.add([text])[0] if found.admitted else None
            expected = admitting.admit([text])[0]
            assert (found.admitted, found.blocker, found.score, found.blocker_entry, entry) == (
                expected.admitted,
                expected.blocker,
                expected.score,
                expected.blocker_entry,
                expected.entry,
            )

    @settings(deadline=None, max_examples=60)
    @given(STREAMS, KIND)
    def test_a_text_in_the_pool_is_rejected(self, texts: list[str], kind: Implementation) -> None:
        index = NoveltyIndex(implementation=kind)
        index.add(texts)
        assert all(not index.check(text).admitted for text in texts if text)

    @settings(deadline=None, max_examples=30)
    @given(STREAMS, STREAMS, KIND, KIND, st.sets(st.integers(0, 3)))
    def test_saved_and_loaded_decides_the_same(
        self,
        pool: list[str],
        texts: list[str],
        one: Implementation,
        other: Implementation,
        gone: set[int],
    ) -> None:
        index = NoveltyIndex(implementation=one)
        index.add(pool)
        for entry in gone & set(range(len(pool))):
            index.retract(entry)
        with TemporaryDirectory() as folder:
            index.save(Path(folder) / "pool")
            loaded = NoveltyIndex.load(Path(folder) / "pool", implementation=other)
        assert len(loaded) == len(index)
        assert loaded.admit(texts) == index.admit(texts)


class TestReports:
    def test_nearest_and_mean_are_those_of_comparing_with_all(self) -> None:
        texts = [f"write a {w} story about {v}" for w in ("sad", "new", "odd") for v in "abcd"]
        results = []
        for kind in EVERY:
            index = NoveltyIndex(implementation=kind)
            index.add([*texts, "", "..."])
            index.retract(3)
            questions = ["write an odd story about b", "", "nothing known"]
            results.append((index.nearest(questions, 4), index.mean_similarity(questions)))
            everything = index.nearest(questions, 100)[0]
            assert len(everything) == len(index) == 13
            assert sum(n.score for n in everything) / 13 == pytest.approx(results[-1][1][0])
        assert results[0] == results[1] == results[2]
        for kind in EVERY:
            index = NoveltyIndex(implementation=kind)
            assert index.nearest(["a text"], 3) == [[]]
            index.add(["..."])
            assert [(n.entry, n.score) for n in index.nearest(["a text"], 3)[0]] == [(0, 0.0)]
            index.add(["a text that came later"])
            assert [n.entry for n in index.nearest(["a text"], 3)[0]] == [1, 0]
        best = results[0][0][0]
        assert best[0].text == "write a odd story about b"
        assert [n.score for n in best] == sorted((n.score for n in best), reverse=True)


class TestPersistence:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"threshold": 0.6}, "threshold"),
            ({"at_threshold": "admit"}, "at_threshold"),
            ({"tokenizer": "multilingual"}, "tokenizer"),
        ],
    )
    def test_other_settings_are_refused_by_name(
        self, tmp_path: Path, options: dict[str, object], named: str
    ) -> None:
        NoveltyIndex().save(tmp_path / "pool")
        with pytest.raises(UsageError, match=rf"{named} is"):
            NoveltyIndex.load(tmp_path / "pool", **options)  # type: ignore[arg-type]

    def test_another_version_of_a_tokenizer_is_refused(self, tmp_path: Path) -> None:
        def letters(text: str) -> list[str]:
            return list(text)

        NoveltyIndex(tokenizer=letters).save(tmp_path / "pool")
        NoveltyIndex.load(tmp_path / "pool", tokenizer=letters)
        letters.version = "2"  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match="tokenizer_version"):
            NoveltyIndex.load(tmp_path / "pool", tokenizer=letters)

    def test_any_text_survives(self, tmp_path: Path) -> None:
        texts = ["", "a\nb", "天\u2028气", json.loads('"\\ud800 lone"'), "\0 nul"]
        index = NoveltyIndex()
        index.add(texts)
        index.save(tmp_path / "pool")
        loaded = NoveltyIndex.load(tmp_path / "pool")
        assert [loaded.text(i) for i in range(5)] == texts

    def test_a_cut_file_is_refused(self, tmp_path: Path) -> None:
        index = NoveltyIndex()
        index.add(["some text"] * 3)
        index.save(tmp_path / "pool")
        (tmp_path / "pool").write_bytes((tmp_path / "pool").read_bytes()[:-1])
        with pytest.raises(UsageError, match="damaged"):
            NoveltyIndex.load(tmp_path / "pool")
        (tmp_path / "pool").write_text("no pool")
        with pytest.raises(UsageError, match="not a novelty pool"):
            NoveltyIndex.load(tmp_path / "pool")


def test_a_growing_pool_moves_to_the_tree_without_a_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_module, "TREE_FROM", 20)
    texts = [f"task {i % 23} of {i % 5} about {i}" for i in range(60)] + ["天气"]
    index = NoveltyIndex()
    index.add(texts[:3])
    index.retract(1)
    found = [admission for text in texts for admission in index.admit([text])]
    assert type(index._engine).__name__ == "TreeEngine"
    other = NoveltyIndex(implementation="plain")
    other.add(texts[:3])
    other.retract(1)
    assert found == other.admit(texts)
    assert index.untokenized == other.untokenized == 1


def test_readers_see_a_sound_pool_while_a_writer_adds() -> None:
    texts = [" ".join(f"w{(i * 7 + j * j) % 97}" for j in range(9)) for i in range(3000)]
    index = NoveltyIndex(implementation="tree")
    index.add(texts[:50])
    wrong: list[object] = []
    done = False

    def read(first: int) -> None:
        i = first
        while not done:
            found = index.check(texts[i % 50])
            # Texts of the pool are known, whatever is added meanwhile, and the earliest is named.
            if found.admitted or found.blocker_entry is None or found.blocker_entry > i % 50:
                wrong.append((i, found))
            i += 1

    readers = [Thread(target=read, args=(i,)) for i in range(3)]
    for reader in readers:
        reader.start()
    try:
        for start in range(50, 3000, 59):
            index.admit(texts[start : start + 59])
    finally:
        done = True
        for reader in readers:
            reader.join()
    assert wrong == []
