"""What a teacher refuses for good, stage by stage: refusals that stop a run, and those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.execution import exit_code
from pipeline.records import Completion, Refusal
from tests.support import runs
from tests.support.children import run_child
from tests.support.teachers import TeacherFactory

STAGES = ("generate", "classify", "instances")
SAID = {
    400: "unrecognised request argument",
    401: "invalid key",
    403: "this key may not use this model",
    404: "no such model",
}
REFUSALS = {
    "context_length": "This model's maximum context length is 2048 tokens",
    "content_policy": "content_policy_violation: refused by our safety system",
}
ONE_BY_ONE: dict[str, Any] = {"teacher__concurrency": 1}


def counts(store: Path) -> dict[str, int]:
    """Journal entries by stage."""
    found = dict.fromkeys(STAGES, 0)
    for entry in runs.journal_of(store):
        assert isinstance(entry.outcome, Completion)
        found[entry.address.stage] += 1
    return found


@pytest.mark.parametrize("status", SAID)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("answered", "code"), [(0, 2), (3, 75)])
def test_the_run_stops_and_nothing_of_it_is_journaled(
    store: Path, scripted_teacher: TeacherFactory,
    status: int, stage: str, answered: int, code: int,
) -> None:  # fmt: skip
    teacher = scripted_teacher(
        "--fault-stage", stage, "--fault-skip", str(answered),
        "--fault-status", str(status), "--fault-message", SAID[status],
    )  # fmt: skip
    end = runs.start(store, teacher, **ONE_BY_ONE).end
    assert exit_code(end) == code
    assert end.state == "interrupted"
    assert counts(store)[stage] == answered
    refused = [row for row in teacher.requests() if row["status"] == status]
    assert len(refused) == 1  # not asked again
    message = str(end.error)
    for part in (str(status), SAID[status], f"{stage}/"):
        assert part in message
    assert ("teacher.base_url" in message) == (code == 2)
    assert ("evoloom resume" in message) == (code == 75)


@pytest.mark.parametrize("stage", STAGES)
def test_when_it_is_mended_a_resume_completes_to_the_same_bytes(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory, stage: str
) -> None:
    bad = scripted_teacher("--fault-stage", stage, "--fault-skip", "2", "--fault-status", "403")
    assert exit_code(runs.start(store, bad).end) == 75
    good = scripted_teacher()
    assert runs.resume(store, teacher__base_url=good.url).end.state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    paid = [row["seed"] for teacher in (bad, good) for row in teacher.requests()
            if row["status"] == 200]  # fmt: skip
    assert len(paid) == len(set(paid))


def test_the_command_says_what_is_wrong_and_what_to_do(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--fail-after", "0", "--fault-status", "401", "--fault-message",
                               SAID[401])  # fmt: skip
    child = run_child(store.parent, *runs.run_command(store, teacher), "--quiet")
    assert child.wait() == 2
    assert "the teacher answered 401: invalid key" in child.errors()
    assert "Traceback" not in child.errors()


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("first", [True, False])
def test_a_refusal_of_single_requests_is_journaled_and_the_run_goes_on(
    store: Path, scripted_teacher: TeacherFactory, kind: str, stage: str, first: bool
) -> None:
    teacher = scripted_teacher(
        "--fault-stage", stage, "--fault-skip", "0" if first else "1", "--fault-times", "2",
        "--fault-status", "400", "--fault-message", REFUSALS[kind],
    )  # fmt: skip
    end = runs.start(store, teacher, **ONE_BY_ONE, run__target=8).end
    assert end.state == "completed"
    refused = [entry for entry in runs.journal_of(store) if isinstance(entry.outcome, Refusal)]
    assert [entry.address.stage for entry in refused] == [stage, stage]
    assert {entry.outcome for entry in refused} == {Refusal(kind, REFUSALS[kind])}
    reasons = {
        (row.stage, row.position): row.reason for row in runs.rows_of(store).completions.values()
    }
    assert {reasons[item.address.stage, item.address.position] for item in refused} == {kind}
