"""Teachers that fail: one address for ever, all for a while, for good."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from flows.execution import exit_code
from flows.runs import RunResult
from pipeline.errors import UsageError
from pipeline.records import Address, Refusal
from store.run_writer import PROGRESS
from tests.support import runs
from tests.support.children import wait_until
from tests.support.teachers import TeacherFactory, TeacherProcess

PATIENT = {"teacher__stuck_after": 6, "teacher__pause_after": 1000}


class TestStuckAddress:
    @pytest.fixture
    def address(self, undisturbed: Path) -> Address:
        return runs.classify_prompt_of(undisturbed, 3)[0]

    @pytest.fixture
    def stuck(
        self, undisturbed: Path, store: Path, address: Address, scripted_teacher: TeacherFactory
    ) -> RunResult:
        """A run that was interrupted since one address failed for ever; its teacher is as bad."""
        _, pattern = runs.classify_prompt_of(undisturbed, 3)
        return runs.start(store, scripted_teacher("--stuck", pattern), **PATIENT)

    def test_it_is_given_up_by_name(
        self, undisturbed: Path, store: Path, address: Address, stuck: RunResult
    ) -> None:
        assert (stuck.end.reason, exit_code(stuck.end)) == (f"stuck at {address}", 75)
        assert runs.state_of(store).reason == f"stuck at {address}"
        for other, message in [("generate/0", "in the journal"), ("generate/900", "not waiting")]:
            with pytest.raises(UsageError, match=message):
                runs.resume(store, give_up=(other,))
            assert runs.state_of(store).reason == f"stuck at {address}"
        assert runs.resume(store, give_up=(str(address),), **PATIENT).end.state == "completed"
        (entry,) = [item for item in runs.journal_of(store) if item.address == address]
        assert isinstance(entry.outcome, Refusal)
        rows = runs.rows_of(store)
        (row,) = [item for item in rows.instructions.values() if item.position == address.position]
        assert (row.state, row.reason) == ("without_instances", "classification_given_up")
        assert len(runs.export_bytes(store)) > 0
        assert runs.export_bytes(store) != runs.export_bytes(undisturbed)
        with pytest.raises(UsageError, match="nothing to give up"):
            runs.resume(store, give_up=(str(address),))

    def test_a_resume_asks_it_again(
        self, undisturbed: Path, store: Path, address: Address, stuck: RunResult,
        scripted_teacher: TeacherFactory,
    ) -> None:  # fmt: skip
        assert stuck.end.state == "interrupted"
        # With nothing else left to ask this cannot be told from an outage; it is named either way.
        again = runs.resume(
            store, teacher__stuck_after=6, teacher__pause_after=3, teacher__outage_limit_s=0.2
        )
        assert again.end.reason in ("outage", stuck.end.reason)
        assert exit_code(again.end) == 75
        assert f"--give-up {address}" in str(again.end.error)
        assert runs.resume(store, teacher__base_url=scripted_teacher().url).end.state == "completed"
        assert runs.export_bytes(store) == runs.export_bytes(undisturbed)


class TestOutage:
    def test_the_run_pauses_and_goes_on_when_the_teacher_is_back(
        self, undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher("--latency", "0.01", "0.05")

        def interfere() -> None:
            wait_until(lambda: len(teacher.requests()) >= 20, "the run is under way")
            teacher.kill()
            wait_until(lambda: "paused" in states(store), "the run pauses")
            teacher.start()

        result = meanwhile(interfere, store, teacher, teacher__pause_after=3)
        assert result.end.state == "completed"
        seen = states(store)
        assert "running" in seen[seen.index("paused") :]
        assert runs.export_bytes(store) == runs.export_bytes(undisturbed)

    def test_an_outage_too_long_interrupts_the_run(
        self, undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher("--latency", "0.01", "0.05")

        def interfere() -> None:
            wait_until(lambda: len(teacher.requests()) >= 20, "the run is under way")
            teacher.kill()

        result = meanwhile(
            interfere, store, teacher, teacher__pause_after=3, teacher__outage_limit_s=0.2
        )
        assert (result.end.reason, exit_code(result.end)) == ("outage", 75)
        assert runs.state_of(store).reason == "outage"
        teacher.start()
        assert runs.resume(store).end.state == "completed"
        assert runs.export_bytes(store) == runs.export_bytes(undisturbed)


class TestRefusals:
    MESSAGE = "This model's maximum context length is 2048 tokens"

    def test_one_about_a_single_request_is_journaled_and_the_run_goes_on(
        self, undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        address, pattern = runs.classify_prompt_of(undisturbed, 2)
        teacher = scripted_teacher(
            "--fault-prompt", pattern, "--fault-status", "400", "--fault-message", self.MESSAGE
        )
        assert runs.start(store, teacher).end.state == "completed"
        (refused,) = [
            entry for entry in runs.journal_of(store) if isinstance(entry.outcome, Refusal)
        ]
        assert refused.address == address
        assert refused.outcome == Refusal("context_length", self.MESSAGE)
        rows = runs.rows_of(store).instructions.values()
        (row,) = [item for item in rows if item.position == address.position]
        assert row.reason == "classification_context_length"
        assert row.is_classification is None

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_any_other_stops_the_run_and_journals_nothing(
        self, undisturbed: Path, store: Path, scripted_teacher: TeacherFactory, status: int
    ) -> None:
        options = ["--fault-status", str(status), "--fault-message", "no such thing"]
        never = runs.start(store, scripted_teacher("--fail-after", "0", *options), run_id="never")
        assert exit_code(never.end) == 2
        assert runs.journal_of(store, "never") == []
        teacher = scripted_teacher("--fail-after", "12", *options)
        later = runs.start(store, teacher, teacher__concurrency=1)
        assert exit_code(later.end) == 75
        assert str(status) in str(later.end.error)
        assert len(runs.journal_of(store)) == 12
        if status == 400:
            teacher.kill()
            teacher.start()
            assert runs.resume(store, teacher__concurrency=16).end.state == "completed"
            assert runs.export_bytes(store) == runs.export_bytes(undisturbed)


def states(store: Path) -> list[str]:
    """The states that the run's progress went through, one a record."""
    path = runs.run_path(store) / PROGRESS
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["state"] for line in lines if line.endswith("}")]


def meanwhile(
    interfere: object, store: Path, teacher: TeacherProcess, **flags: object
) -> RunResult:
    """Start a run, with something else going on beside it."""
    thread = threading.Thread(target=interfere)  # type: ignore[arg-type]
    thread.start()
    try:
        return runs.start(store, teacher, **flags)
    finally:
        thread.join()
