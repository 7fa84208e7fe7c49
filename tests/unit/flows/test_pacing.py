import random

import pytest

from flows.pacing import SHARE, Pace


def schedule(interval_s: float, run_s: float, costs: list[float]) -> tuple[list[float], float]:
    """When the ingests of a run begin, and the seconds that they and the one at its end take."""
    pace = Pace(interval_s)
    now = spent = 0.0
    begins = []
    for cost in costs:
        now += pace.pause(now)
        if now >= run_s:
            break
        begins.append(now)
        now += cost
        spent += cost
        pace.add(cost)
    return begins, spent + costs[len(begins)]


def test_a_cheap_ingest_comes_at_the_interval_and_at_no_other_time() -> None:
    begins, _ = schedule(30.0, 600.0, [0.01] * 100)
    assert begins == pytest.approx([30 + number * 30.01 for number in range(19)])
    assert len(schedule(60.0, 600.0, [0.01] * 100)[0]) == 9


@pytest.mark.parametrize("cost_s", [0.001, 0.1, 0.9, 1.1, 5.0, 60.0])
@pytest.mark.parametrize("interval_s", [0.05, 1.0, 30.0])
def test_all_ingests_and_the_last_one_take_a_twentieth_at_any_size(
    interval_s: float, cost_s: float
) -> None:
    run_s = max(40 * cost_s, 100.0) + 2 * interval_s
    begins, spent = schedule(interval_s, run_s, [cost_s] * 100_000)
    assert begins
    assert spent <= SHARE * (run_s + cost_s)


def test_a_store_that_grows_while_the_run_goes_on_stays_under_it() -> None:
    rng = random.Random(5)
    costs = [0.2 * 1.02**number * rng.uniform(0.8, 1.2) for number in range(400)]
    begins, spent = schedule(1.0, 3_600.0, costs)
    assert len(begins) > 20
    assert spent <= SHARE * 3_600.0


def test_one_dear_ingest_is_paid_off_before_the_next() -> None:
    pace = Pace(1.0)
    pace.add(10.0)
    assert pace.pause(elapsed_s=11.0) == pytest.approx((10 + 2 * 10) / SHARE - 11)
    assert pace.pause(elapsed_s=10_000.0) == 1.0
