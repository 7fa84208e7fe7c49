"""A run through every fault that passes ends with the bytes of an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import runs
from tests.support.chaos import FULL, SMALL, Chaos, Survival, run_through
from tests.support.chaotic_teacher import FAULTS


def check(survival: Survival, reference: bytes, chaos: Chaos) -> None:
    """All of it happened, nothing is missing, nothing was paid twice."""
    print(survival.table())
    print(survival.summary())
    assert survival.exit_code == 0, survival.errors
    assert reference
    assert survival.export == reference
    assert {name for name in FAULTS if survival.fates[name]["survived"]} == set(FAULTS)
    assert survival.fates["outage"]["times"] == len(chaos.outage_at)
    assert survival.paid_twice() == []
    # What was answered whole is in the journal, whether it was needed in the end or not.
    assert set(survival.whole) == survival.journaled
    assert survival.early_repeats() == []
    assert survival.summary()["pauses"] >= len(chaos.outage_at)


def test_transient_faults_change_no_byte_and_pay_nothing_twice(
    undisturbed: Path, tmp_path: Path
) -> None:
    check(run_through(tmp_path / "chaos", SMALL), runs.export_bytes(undisturbed), SMALL)


@pytest.mark.verify_operations
def test_a_large_run_through_latencies_of_three_orders_and_two_outages(tmp_path: Path) -> None:
    reference = run_through(tmp_path / "faultless", FULL, faultless=True)
    check(run_through(tmp_path / "chaos", FULL), reference.export, FULL)
