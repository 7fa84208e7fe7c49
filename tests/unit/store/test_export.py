import io
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.records import Batch, InstanceRow, InstructionRow
from store.export import InvalidRowError, export_run
from store.run_directory import spool_path
from store.run_rows import read_run_rows
from tests.support.run_directories import SyntheticRun, append_batches, write_run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "evoloom.duckdb"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def hand_made(store: Path, *, state: str) -> Path:
    """Positions 0 to 3: item 1.1 is rejected, 2.0 has no instances, 3.0 is still open."""

    def instance(position: tuple[int, int], index: int, state: Any = "accepted") -> InstanceRow:
        return InstanceRow("generate", position, index, f"in {index}", f"out {position}", state)

    def settled(position: tuple[int, int], state: Any, *rows: InstanceRow) -> Batch:
        text = f"text {position}"
        return Batch(
            "settle", position,
            instructions=(InstructionRow("generate", position, text, state),), instances=rows,
        )  # fmt: skip

    def parsed(g: int, *states: Any) -> Batch:
        rows = tuple(
            InstructionRow("generate", (g, i), f"text {(g, i)}", state)
            for i, state in enumerate(states)
        )
        return Batch("generate", (g,), instructions=rows)

    run_dir = write_run(store, SyntheticRun("night", positions=0), state=state)
    append_batches(
        run_dir,
        [
            parsed(0, "pending", "pending"),
            parsed(1, "pending", "rejected"),
            parsed(2, "pending"),
            parsed(3, "pending"),
            settled((0, 0), "accepted", instance((0, 0), 0), instance((0, 0), 1, "rejected"),
                    instance((0, 0), 2)),
            settled((0, 1), "accepted", instance((0, 1), 0)),
            settled((1, 0), "surplus", instance((1, 0), 0, "surplus")),
            settled((2, 0), "without_instances"),
        ],
    )  # fmt: skip
    return run_dir


class TestRows:
    def test_accepted_instances_of_accepted_instructions_in_admission_order(
        self, store: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.jsonl"
        report = export_run(hand_made(store, state="interrupted"), "alpaca", out)
        assert lines(out) == [
            {"instruction": "text (0, 0)", "input": "in 0", "output": "out (0, 0)"},
            {"instruction": "text (0, 0)", "input": "in 2", "output": "out (0, 0)"},
            {"instruction": "text (0, 1)", "input": "in 0", "output": "out (0, 1)"},
        ]
        assert (report.rows, report.instructions) == (3, 2)

    def test_positions_sort_as_numbers(self, store: Path, tmp_path: Path) -> None:
        run = SyntheticRun("night", positions=30, target=60)
        export_run(write_run(store, run), "alpaca", tmp_path / "out.jsonl")
        rows = read_run_rows(store.with_name("evoloom.duckdb.runs") / "night")
        places = [row.position for row in rows.instructions.values()]
        assert places == sorted(places) and places[-1][0] > 10

    def test_a_run_of_the_same_rows_under_another_name_exports_the_same_bytes(
        self, store: Path, tmp_path: Path
    ) -> None:
        for name in ("a", "b"):
            export_run(write_run(store, SyntheticRun(name)), "alpaca", tmp_path / name)
        data = (tmp_path / "a").read_bytes()
        assert data == (tmp_path / "b").read_bytes()
        assert len(data.splitlines()) > 20

    def test_every_row_is_readable_text(self, store: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.jsonl"
        export_run(write_run(store, SyntheticRun("night", positions=60, target=99)), "alpaca", out)
        rows = [json.loads(line) for line in out.read_text().split("\n")[:-1]]
        assert all(list(row) == ["instruction", "input", "output"] for row in rows)
        assert any(row["instruction"] == "Explain \ufffd briefly" for row in rows)
        assert any(row["instruction"] == "Sort\nthese lines" for row in rows)

    @pytest.mark.parametrize("output", ["", " \n", None])
    def test_a_row_that_trainers_choke_on_is_refused(
        self, store: Path, tmp_path: Path, output: Any
    ) -> None:
        run_dir = hand_made(store, state="completed")
        row = InstanceRow("generate", (0, 1), 9, "", output, "accepted")
        append_batches(run_dir, [Batch("settle", (9, 9), instances=(row,))])
        out = tmp_path / "out.jsonl"
        with pytest.raises(
            InvalidRowError, match=r"instance 9 of instruction generate/0\.1: output"
        ):
            export_run(run_dir, "alpaca", out)
        assert not out.exists()

    def test_an_accepted_instruction_without_instances_is_refused(
        self, store: Path, tmp_path: Path
    ) -> None:
        run_dir = hand_made(store, state="completed")
        row = InstructionRow("generate", (3, 0), "bare", "accepted")
        append_batches(run_dir, [Batch("settle", (3, 0), instructions=(row,))])
        with pytest.raises(InvalidRowError, match=r"generate/3\.0 is accepted and has no"):
            export_run(run_dir, "alpaca", tmp_path / "out.jsonl")


class TestPrefix:
    @pytest.mark.parametrize(
        "state", ["queued", "running", "paused", "interrupted", "cancelled", "failed"]
    )
    def test_an_open_run_gives_its_longest_complete_prefix(
        self, store: Path, tmp_path: Path, state: str
    ) -> None:
        report = export_run(hand_made(store, state=state), "alpaca", tmp_path / "out")
        assert (report.state, report.complete_positions, report.is_partial) == (state, 3, True)

    def test_what_is_accepted_behind_an_open_position_is_left_out(
        self, store: Path, tmp_path: Path
    ) -> None:
        run = SyntheticRun("night", has_settled=False, target=999)
        report = export_run(write_run(store, run, state="interrupted"), "alpaca", tmp_path / "part")
        whole = export_run(
            write_run(store, SyntheticRun("whole", target=999)), "alpaca", tmp_path / "whole"
        )
        part = (tmp_path / "part").read_bytes()
        assert (tmp_path / "whole").read_bytes().startswith(part)
        assert 0 < report.complete_positions < whole.complete_positions == run.positions
        rows = read_run_rows(store.with_name("evoloom.duckdb.runs") / "night").instructions.values()
        pending = [row.position[0] for row in rows if row.state == "pending"]
        assert min(pending) == report.complete_positions

    @pytest.mark.parametrize("state", ["completed", "ceiling"])
    def test_a_settled_run_gives_all_that_is_accepted(
        self, store: Path, tmp_path: Path, state: str
    ) -> None:
        run_dir = hand_made(store, state=state)
        row = InstructionRow("generate", (0, 2), "beyond the target", "pending")
        append_batches(run_dir, [Batch("generate", (4,), instructions=(row,))])
        report = export_run(run_dir, "alpaca", tmp_path / "out")
        assert (report.rows, report.complete_positions, report.is_partial) == (3, 5, False)

    def test_a_run_that_has_not_begun_exports_nothing(self, store: Path, tmp_path: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night", positions=0), state="queued")
        spool_path(run_dir).unlink()
        out = tmp_path / "out.json"
        assert export_run(run_dir, "alpaca", out).rows == 0
        assert json.loads(out.read_text()) == []


class TestOut:
    def test_json_is_one_array_of_the_same_rows(self, store: Path, tmp_path: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night"))
        export_run(run_dir, "alpaca", tmp_path / "out.json")
        export_run(run_dir, "alpaca", tmp_path / "out.jsonl")
        assert json.loads((tmp_path / "out.json").read_text()) == lines(tmp_path / "out.jsonl")

    def test_a_dash_is_standard_output(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_dir = write_run(store, SyntheticRun("night"))
        export_run(run_dir, "alpaca", tmp_path / "out.jsonl")
        stream = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr("sys.stdout", stream)
        export_run(run_dir, "alpaca", Path("-"))
        assert stream.buffer.getvalue() == (tmp_path / "out.jsonl").read_bytes()

    def test_a_failed_write_leaves_the_old_file(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out.jsonl"
        out.write_text("old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        run_dir = write_run(store, SyntheticRun("night"))
        monkeypatch.setattr("store.checked_lines.os.fsync", full)
        with pytest.raises(UsageError, match=r"out\.jsonl: cannot be written: No space left"):
            export_run(run_dir, "alpaca", out)
        assert out.read_text() == "old"

    @pytest.mark.parametrize("name", ["no/such/folder.jsonl", "file/below.jsonl", "folder"])
    def test_an_unwritable_out_is_a_usage_error(
        self, store: Path, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        with pytest.raises(UsageError, match=name):
            export_run(write_run(store, SyntheticRun("night")), "alpaca", tmp_path / name)

    def test_a_link_is_written_through(self, store: Path, tmp_path: Path) -> None:
        (tmp_path / "latest.jsonl").symlink_to("night.jsonl")
        export_run(write_run(store, SyntheticRun("night")), "alpaca", tmp_path / "latest.jsonl")
        assert (tmp_path / "latest.jsonl").is_symlink()
        assert lines(tmp_path / "night.jsonl")

    def test_a_device_is_written_to_not_replaced(self, store: Path) -> None:
        export_run(write_run(store, SyntheticRun("night")), "alpaca", Path("/dev/null"))
        assert Path("/dev/null").is_char_device()

    def test_a_missing_run_lists_those_there_are(self, store: Path, tmp_path: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night"))
        with pytest.raises(UsageError, match=r"no run 'day'.*there: night"):
            export_run(run_dir.with_name("day"), "alpaca", tmp_path / "out")

    def test_an_unknown_format_is_a_usage_error(self, store: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="known: alpaca"):
            export_run(write_run(store, SyntheticRun("night")), "xml", tmp_path / "out")  # type: ignore[arg-type]  # what a caller may send
