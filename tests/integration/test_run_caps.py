"""Caps on tokens and cost: nothing is sent that does not fit, and a higher cap goes on."""

from __future__ import annotations

from pathlib import Path

from flows.execution import exit_code
from tests.support import runs
from tests.support.children import run_child
from tests.support.teachers import TeacherFactory


def test_a_cap_ends_the_run_with_a_prefix_and_a_higher_cap_with_the_whole(
    undisturbed: Path, interrupted: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    store = runs.copy_store(interrupted, tmp_path / "copy")
    journaled = runs.journal_of(store)
    assert 0 < runs.tokens_of(journaled) <= 30_000
    whole, part = runs.export_bytes(undisturbed), runs.export_bytes(store)
    assert part
    assert whole.startswith(part)
    assert part != whole
    teacher = scripted_teacher()
    result = runs.resume(store, teacher__base_url=teacher.url, caps__tokens=10_000_000)
    assert result.end.state == "completed"
    assert runs.export_bytes(store) == whole
    assert not runs.sampling_seeds(journaled) & {row["seed"] for row in teacher.requests()}


def test_the_prefix_is_the_longest_complete_one(interrupted: Path) -> None:
    rows = runs.rows_of(interrupted)
    open_positions = {
        row.position[0] for row in rows.instructions.values() if row.state == "pending"
    }
    accepted = [row for row in rows.instructions.values() if row.state == "accepted"]
    complete = [row for row in accepted if row.position[0] < min(open_positions)]
    kept = sum(
        row.state == "accepted"
        for row in rows.instances.values()
        if row.position[0] < min(open_positions)
    )
    assert complete
    assert len(runs.export_bytes(interrupted).splitlines()) == kept


def test_the_command_line_exits_with_75_and_says_how_to_go_on(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    arguments = runs.run_command(store, scripted_teacher(), caps__tokens=12_000)
    child = run_child(store.parent, *arguments, "--quiet")
    assert child.wait() == 75
    assert f"evoloom resume {runs.RUN}" in child.errors()
    state = runs.state_of(store)
    assert (state.state, state.reason) == ("interrupted", "cap")


def test_a_cap_too_small_for_one_request_sends_none(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher()
    result = runs.start(store, teacher, caps__tokens=10)
    assert (result.end.reason, exit_code(result.end)) == ("cap", 75)
    assert teacher.requests() == []
    assert runs.export_bytes(store) == b""


def test_a_cap_on_cost(undisturbed: Path, store: Path, scripted_teacher: TeacherFactory) -> None:
    teacher = scripted_teacher()
    prices = {"prices__prompt": 1.0, "prices__completion": 4.0}
    result = runs.start(store, teacher, caps__cost=0.03, **prices)
    assert (result.end.reason, exit_code(result.end)) == ("cap", 75)
    usages = [entry.outcome.usage for entry in runs.journal_of(store)]  # type: ignore[union-attr]
    cost = sum(usage.prompt_tokens + 4 * usage.completion_tokens for usage in usages if usage) / 1e6
    assert 0.01 < cost <= 0.03
    assert runs.resume(store, caps__cost=100.0).end.state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)


def test_answers_without_usage_keep_their_reservations(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--no-usage")
    assert runs.start(store, teacher, caps__tokens=30_000).end.reason == "cap"
    entries = runs.journal_of(store)
    assert 0 < sum(entry.reserved_tokens for entry in entries) <= 30_000
    asked = len(teacher.requests())
    assert asked == len(entries)
    assert runs.resume(store, caps__tokens=30_000).end.reason == "cap"
    assert len(teacher.requests()) == asked
    assert runs.resume(store, caps__tokens=10_000_000).end.state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
