"""What a dataset version takes from its runs, and what its hash says."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.records import Batch, InstanceRow, InstructionRow, row_id
from store.dataset_rows import Collected, collect_accepted, content_hash
from store.exporting.rows import InvalidRowError
from store.run_directory import runs_directory
from tests.support.run_directories import SyntheticRun, append_batches, write_run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "evoloom.duckdb"


Pair = tuple[InstructionRow, list[InstanceRow]]


def task(
    number: int, text: str, *pairs: tuple[str, str], stage: str = "import", **more: Any
) -> Pair:
    """An instruction with instances (input, output)."""
    row = InstructionRow(stage, (number,), text, "accepted", **more)
    return row, [
        InstanceRow(stage, (number,), index, given, output, "accepted")
        for index, (given, output) in enumerate(pairs)
    ]


def write(store: Path, run_id: str, *tasks: Pair, kind: str = "import", **more: Any) -> None:
    manifest = {"kind": kind, **more}
    run_dir = write_run(store, SyntheticRun(run_id, positions=0, manifest=manifest))
    append_batches(run_dir, [
        Batch(row.stage, row.position, instructions=(row,), instances=tuple(instances))
        for row, instances in tasks
    ])  # fmt: skip


def collect(store: Path, *run_ids: str) -> Collected:
    return collect_accepted(runs_directory(store), run_ids)


def texts(collected: Collected) -> dict[str, list[tuple[int, str, str]]]:
    return {
        row.text: [(item.index, item.input, item.output) for item in instances]
        for row, instances in collected.rows
    }


class TestRows:
    def test_equal_texts_become_one_instruction_and_an_instance_of_two_runs_is_taken_once(
        self, store: Path
    ) -> None:
        write(store, "one", task(0, "Add.", ("1", "1"), ("2", "2"), ("2", "2")), task(3, "Sort."
              , ("b a", "a b")))  # fmt: skip
        write(store, "two", task(0, "Name one.", ("", "A")),
              task(1, "Add.", ("2", "2"), ("3", "3"), ("2", "2")))  # fmt: skip
        found = collect(store, "one", "two")
        assert texts(found) == {
            # What one run has twice it keeps twice; what both have is taken from the first.
            "Add.": [(0, "1", "1"), (1, "2", "2"), (2, "2", "2"), (3, "3", "3")],
            "Sort.": [(0, "b a", "a b")],
            "Name one.": [(0, "", "A")],
        }
        counts = [
            (c.run_id, c.instructions, c.instances, c.new_instructions, c.new_instances)
            for c in found.inputs
        ]
        assert counts == [("one", 2, 4, 2, 4), ("two", 2, 4, 1, 2)]
        for number, (row, instances) in enumerate(found.rows):
            assert (row.stage, row.position, row.state) == ("dataset", (number,), "accepted")
            assert {(item.stage, item.position) for item in instances} == {("dataset", (number,))}

    def test_where_an_instruction_was_taken_from_and_what_is_known_of_it(self, store: Path) -> None:
        write(store, "one", task(5, "Add.", ("", "1"), origin="a.csv row 6"))
        write(store, "two", task(2, "Add.", ("", "2"), is_classification=True, difficulty=4))
        write(store, "three", task(7, "Add.", ("", "3"), is_classification=False, difficulty=9))
        ((row, _),) = collect(store, "one", "two", "three").rows
        assert row.parent == "one import/5"
        assert row.root == row_id("one", "import", (5,))
        assert row.origin == "a.csv row 6"
        assert (row.is_classification, row.difficulty) == (True, 4)  # the first that knows

    def test_rejected_and_surplus_rows_are_left_out(self, store: Path) -> None:
        row, instances = task(0, "Add.", ("", "1"), ("", "2"))
        other, more = task(1, "Sort.", ("", "3"))
        write(store, "one", (row, [instances[0], replace(instances[1], state="rejected")]),
              (replace(other, state="surplus"), more))  # fmt: skip
        assert texts(collect(store, "one")) == {"Add.": [(0, "", "1")]}

    def test_conversations_and_flags_come_along(self, store: Path) -> None:
        row, (instance,) = task(0, "Add.", ("", "1"))
        talk = replace(
            instance, system="Be brief.", further_turns='[["a", "b"]]', is_duplicate=True
        )
        write(store, "one", (row, [instance, replace(talk, index=1)]))
        ((_, rows),) = collect(store, "one").rows
        assert rows[1] == replace(talk, stage="dataset", index=1)

    def test_lineages_that_meet_in_a_text_are_one_from_there_on(self, store: Path) -> None:
        """'Add.' was made twice, and each was evolved: all of it must stay on one side of a split."""
        for name in ("one", "two"):
            write(
                store, name,
                task(0, "Add.", ("", "1"), stage="source", parent=f"gone {name}/0"),
                task(0, f"Add {name}.", ("", "1"), stage="evolve", parent="source:0"),
                kind="evol-instruct",
            )  # fmt: skip
            run_dir = runs_directory(store) / name
            append_batches(run_dir, [Batch("evolve", (9,))])  # settled: every position counts
        found = collect(store, "one", "two")
        assert [row.text for row, _ in found.rows] == ["Add.", "Add one.", "Add two."]
        assert {row.root for row, _ in found.rows} == {row_id("gone", "one", (0,))}
        assert found.is_shuffled

    def test_a_dataset_version_is_an_input_like_any_other(self, store: Path) -> None:
        name = "base@2026-11-21.1"
        write(store, name, task(0, "Add.", ("", "1"), stage="dataset", parent="gone import/4",
                                root="r00t"), kind="dataset", shuffled=False)  # fmt: skip
        found = collect(store, name)
        ((row, _),) = found.rows
        assert (row.parent, row.root, found.is_shuffled) == (f"{name} dataset/0", "r00t", False)


class TestRefused:
    @pytest.mark.parametrize("state", ["interrupted", "running", "failed", "queued", "cancelled"])
    def test_a_run_that_has_not_ended(self, store: Path, state: str) -> None:
        write_run(store, SyntheticRun("night"), state=state)
        with pytest.raises(UsageError, match=f"run night is {state}.*evoloom resume night"):
            collect(store, "night")

    def test_a_run_at_its_ceiling_is_taken(self, store: Path) -> None:
        write_run(store, SyntheticRun("night"), state="ceiling")
        assert collect(store, "night").instances > 20

    def test_nothing_accepted(self, store: Path) -> None:
        write(store, "empty")
        with pytest.raises(UsageError, match="nothing was accepted in empty"):
            collect(store, "empty")

    def test_a_row_that_trainers_choke_on_names_its_run(self, store: Path) -> None:
        write(store, "one", task(0, "Add.", ("", "1")), task(1, "Sort.", ("", " ")))
        with pytest.raises(
            InvalidRowError, match=r"^run one, instance 0 of instruction import/1: "
        ):
            collect(store, "one")


class TestHash:
    BASE = (("Add.", ("1", "1"), ("2", "2")), ("Sort.", ("b a", "a b")))

    def write(self, store: Path, run_id: str, *rows: tuple[Any, ...], **more: Any) -> str:
        tasks = [task(number, text, *pairs, **more) for number, (text, *pairs) in enumerate(rows)]
        write(store, run_id, *tasks)
        return collect(store, run_id).content_hash

    def test_it_is_the_same_for_the_same_instances_whatever_their_run_and_order(
        self, store: Path
    ) -> None:
        one = self.write(store, "one", *self.BASE)
        assert one == self.write(
            store, "two", ("Sort.", ("b a", "a b")), ("Add.", ("2", "2"), ("1", "1")), origin="file"
        )
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", one)
        self.write(store, "half", ("Add.", ("2", "2")))
        self.write(store, "rest", ("Sort.", ("b a", "a b")), ("Add.", ("1", "1")))
        assert collect(store, "half", "rest").content_hash == one
        assert collect(store, "rest", "half").content_hash == one

    def test_it_is_what_the_documentation_says(self) -> None:
        """Computed here from the words of docs/DATASETS.md, so that it never changes unnoticed."""
        import hashlib

        row, instances = task(0, "Löse 1+1.", ("", "2"), is_classification=False)
        line = b'["L\\u00f6se 1+1.",false,null,null,"","2",[]]'
        inner = hashlib.sha256(line).digest()
        expected = hashlib.sha256(b"evoloom dataset 1\n" + inner).hexdigest()
        assert content_hash([(row, instances)]) == f"sha256:{expected}"

    @pytest.mark.parametrize(
        "change",
        [{"text": "Add!"}, {"is_classification": True}, {"difficulty": 3}, {"input": "3"},
         {"output": "3"}, {"system": "s"}, {"further_turns": '[["a","b"]]'}],
    )  # fmt: skip
    def test_whatever_a_trainer_can_see_changes_it(self, change: dict[str, Any]) -> None:
        row, instances = task(0, "Add.", ("1", "1"), ("2", "2"))
        before = content_hash([(row, instances)])
        of_row = {"text", "is_classification", "difficulty"} & set(change)
        if of_row:
            after = content_hash([(replace(row, **change), instances)])
        else:
            after = content_hash([(row, [instances[0], replace(instances[1], **change)])])
        assert after != before

    def test_how_often_an_instance_occurs_counts(self) -> None:
        row, instances = task(0, "Add.", ("1", "1"), ("1", "1"))
        assert content_hash([(row, instances)]) != content_hash([(row, instances[:1])])

    def test_the_writing_of_further_turns_does_not_matter(self) -> None:
        row, (instance,) = task(0, "Add.", ("1", "1"))
        hashes = {
            content_hash([(row, [replace(instance, further_turns=text)])])
            for text in ('[["\u00e4","b"]]', '[ ["\\u00e4", "b"] ]')
        }
        assert len(hashes) == 1
