"""How runs end: target and surplus, the ceiling."""

from __future__ import annotations

from pathlib import Path

from flows.execution import exit_code
from store.queries import show_run
from tests.support import runs
from tests.support.teachers import TeacherFactory


def test_the_target_is_met_exactly_and_surplus_stays_out_of_the_export(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    runs.start(store, scripted_teacher(), teacher__concurrency=64)
    rows = runs.rows_of(store)
    accepted = [row for row in rows.instructions.values() if row.state == "accepted"]
    surplus = [row for row in rows.instructions.values() if row.state == "surplus"]
    assert len(accepted) == runs.TARGET
    assert surplus
    assert min(row.position for row in surplus) > max(row.position for row in accepted)
    exported = runs.export_bytes(store).decode()
    kept = [row for row in rows.instances.values() if row.state == "accepted"]
    assert len(exported.splitlines()) == len(kept)
    assert {row.position for row in kept} == {row.position for row in accepted}
    shown = show_run(store, runs.RUN).summary
    assert (shown.accepted, shown.surplus) == (runs.TARGET, len(surplus))


def test_one_without_instances_is_stored_with_its_reason_and_not_counted(undisturbed: Path) -> None:
    rows = runs.rows_of(undisturbed).instructions.values()
    without = [row for row in rows if row.state == "without_instances"]
    assert without
    assert all(row.reason for row in without)


def test_a_low_ceiling_ends_the_run_and_what_there_is_can_be_exported(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher()
    result = runs.start(
        store, teacher, run__ceiling=1, run__window=3, filters__min_words=10, run_id="poor"
    )
    assert (result.end.state, exit_code(result.end)) == ("ceiling", 1)
    asked = [row for row in teacher.requests() if row["stage"] == "generate"]
    assert len(asked) == runs.TARGET
    rows = runs.rows_of(store, "poor")
    accepted = [row for row in rows.instructions.values() if row.state == "accepted"]
    assert 0 < len(accepted) < runs.TARGET
    assert not [row for row in rows.instructions.values() if row.state in ("pending", "surplus")]
    exported = runs.export_bytes(store, "poor")
    kept = [row for row in rows.instances.values() if row.state == "accepted"]
    assert len(exported.splitlines()) == len(kept) > 0
    again = runs.resume(store, run_id="poor")
    assert (again.end.state, runs.export_bytes(store, "poor")) == ("ceiling", exported)
