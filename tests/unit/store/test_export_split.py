"""Splits never part a lineage, come as near to the share as they can, and depend on the seed alone."""

import random
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.records import Batch, InstanceRow, InstructionRow, row_id
from store.exporting.splitting import split_rows
from store.roots import Roots
from store.run_rows import read_run_rows
from tests.support.run_directories import SyntheticRun, append_batches, write_run


def drawn_rows(rng: random.Random) -> tuple[list[str], list[str]]:
    """Roots and texts of some rows; some texts occur under several roots."""
    rows = [
        (f"root {rng.randrange(6)}", rng.choice(["same", "other", *map(str, range(90))]))
        for _ in range(rng.randrange(8, 30))
    ]
    return [root for root, _ in rows], [text for _, text in rows]


def components(roots: list[str], texts: list[str]) -> list[set[int]]:
    """Rows that a root or a text connects, worked out by repeated merging."""
    found = [{row} for row in range(len(roots))]
    for names in (roots, texts):
        for name in set(names):
            rows = {row for row, other in enumerate(names) if other == name}
            met = [group for group in found if group & rows]
            found = [group for group in found if not group & rows] + [set().union(*met)]
    return found


@pytest.mark.parametrize("draw", range(60))
def test_a_lineage_is_never_parted_and_no_other_split_is_nearer(draw: int) -> None:
    rng = random.Random(draw)
    roots, texts = drawn_rows(rng)
    groups = components(roots, texts)
    share = rng.randrange(1, 100) / 100
    if len(groups) < 2:
        with pytest.raises(UsageError, match="at least two lineages"):
            split_rows(roots, texts, share, 0)
        return
    split = split_rows(roots, texts, share, 0)
    taken = [group for group in groups if group & split.validation]
    assert set().union(*taken) == split.validation
    assert (len(groups) - len(taken), len(taken)) == (split.training_roots, split.validation_roots)
    assert 0 < len(taken) < len(groups)
    wanted = Fraction(str(share)) * len(roots)
    nearest = min(
        abs(sum(map(len, some)) - wanted)
        for size in range(1, len(groups))
        for some in combinations(groups, size)
    )
    assert abs(len(split.validation) - wanted) == nearest


def test_sizes_that_first_come_first_served_would_miss_are_reached() -> None:
    roots = [name for name in "abc" for _ in range(5)] + ["d"] * 3 + ["e"] * 4
    assert len(roots) == 22
    found = {
        len(split_rows(roots, list(map(str, range(22))), 7 / 22, seed).validation)
        for seed in range(20)
    }
    assert found == {7}  # only the three and the four together


def test_another_seed_draws_another_split_and_the_same_seed_the_same() -> None:
    roots = [str(row) for row in range(300)]
    splits = [split_rows(roots, roots, 0.1, seed).validation for seed in (0, 1, 0)]
    assert splits[0] == splits[2] != splits[1]
    assert len(splits[0]) == len(splits[1]) == 30


def test_the_ids_of_roots_do_not_matter() -> None:
    """They hold run ids, and no data may depend on one."""
    numbers = [row % 40 for row in range(200)]
    texts = list(map(str, range(200)))
    one = split_rows([f"a{number}" for number in numbers], texts, 0.2, 5)
    other = split_rows([f"{97 - number}b" for number in numbers], texts, 0.2, 5)
    assert one == other


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        split_rows(["a", "b"], ["a", "b"], share, 0)


class TestRoots:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        return tmp_path / "evoloom.duckdb"

    def write(
        self, store: Path, run_id: str, kind: str, *rows: InstructionRow
    ) -> dict[str, InstructionRow]:
        run = SyntheticRun(run_id, positions=0, manifest={"kind": kind})
        batches = [
            Batch(row.stage, row.position, instructions=(row,),
                  instances=(InstanceRow(row.stage, row.position, 0, "", "out", "accepted"),))
            for row in rows
        ]  # fmt: skip
        append_batches(write_run(store, run), batches)
        return {f"{row.stage}/{row.position[0]}": row for row in rows}

    def roots(self, store: Path, run_id: str) -> dict[str, str]:
        runs_dir = store.with_name("evoloom.duckdb.runs")
        rows = read_run_rows(runs_dir / run_id).instructions.values()
        finder = Roots(runs_dir)
        return {row.text: finder.root_of(run_id, row) for row in rows}

    def source(self, number: int, text: str, parent: str | None = None) -> InstructionRow:
        return InstructionRow("source", (number,), text, "accepted", parent=parent)

    def evolved(self, number: int, text: str, parent: str) -> InstructionRow:
        return InstructionRow("evolve", (number,), text, "accepted", parent=parent)

    def test_they_are_found_within_a_run_and_across_runs(self, store: Path) -> None:
        self.write(
            store, "day", "self-instruct", InstructionRow("generate", (4, 1), "a", "accepted")
        )
        self.write(
            store, "first", "evol-instruct", self.source(0, "a", "day generate/4.1"),
            self.source(1, "b"), self.evolved(0, "a+", "source:0"), self.evolved(1, "a++", "0"),
            self.evolved(2, "b+", "source:1"),
        )  # fmt: skip
        self.write(
            store, "second", "evol-instruct", self.source(0, "a++", "first evolve/1"),
            self.evolved(0, "a+++", "source:0"),
        )  # fmt: skip
        a, b = row_id("day", "generate", (4, 1)), row_id("first", "source", (1,))
        assert self.roots(store, "first") == {"a": a, "b": b, "a+": a, "a++": a, "b+": b}
        assert self.roots(store, "second") == {"a++": a, "a+++": a}

    def test_a_run_that_is_gone_ends_the_search_at_the_last_id_known(self, store: Path) -> None:
        for run_id in ("first", "second"):
            self.write(store, run_id, "evol-instruct", self.source(0, "a", "gone evolve/7"))
        known = row_id("gone", "evolve", (7,))
        assert self.roots(store, "first") == self.roots(store, "second") == {"a": known}

    def test_a_dataset_version_says_what_its_roots_are(self, store: Path) -> None:
        row = InstructionRow("dataset", (0,), "a", "accepted", parent="gone evolve/7", root="r00t")
        self.write(store, "nightly@2026-11-21.1", "dataset", row)
        self.write(
            store, "first", "evol-instruct",
            self.source(0, "a", "nightly@2026-11-21.1 dataset/0"), self.evolved(0, "b", "source:0"),
        )  # fmt: skip
        assert self.roots(store, "first") == {"a": "r00t", "b": "r00t"}

    def test_a_circle_is_no_reason_to_hang(self, store: Path) -> None:
        self.write(
            store, "first", "evol-instruct", self.evolved(0, "a", "1"), self.evolved(1, "b", "0")
        )
        assert len(set(self.roots(store, "first").values())) == 1
