"""Caps and prices."""

from __future__ import annotations

import pytest

from pipeline.records import Usage
from pipeline.run.ledger import Ledger, cost_of
from pipeline.sections import CapSettings, Prices, PriceSettings

PRICES = PriceSettings(prompt=2.0, cached_prompt=0.5, completion=10.0)


@pytest.mark.parametrize(
    ("usage", "prices", "cost"),
    [
        (Usage(1_000_000, 0), PRICES, 2.0),
        (Usage(1_000_000, 0, 1_000_000), PRICES, 0.5),
        (Usage(1_000_000, 100_000, 500_000), PRICES, 1.0 + 0.25 + 1.0),
        (Usage(1_000_000, 0, 1_000_000), PriceSettings(prompt=2.0), 2.0),
        (Usage(1_000_000, 1_000_000), PriceSettings(), 0.0),
    ],
)
def test_cost(usage: Usage, prices: PriceSettings, cost: float) -> None:
    assert cost_of(usage, prices) == pytest.approx(cost)


def test_a_cap_counts_what_is_spent_what_is_reserved_and_what_is_asked_for() -> None:
    ledger = Ledger(CapSettings(tokens=100), PriceSettings())
    one = ledger.price(30, 20)
    assert ledger.fits(one)
    ledger.reserve(one)
    assert ledger.fits(ledger.price(30, 20))
    assert not ledger.fits(ledger.price(30, 21))
    ledger.spend("generate", Usage(5, 5), one)
    ledger.release(one)
    assert ledger.spent_tokens == 10
    assert ledger.fits(ledger.price(45, 45))
    assert not ledger.fits(ledger.price(45, 46))


def test_a_cost_cap_prices_a_reservation_in_full() -> None:
    ledger = Ledger(CapSettings(cost=1.0), PRICES)
    assert ledger.fits(ledger.price(250_000, 50_000))
    assert not ledger.fits(ledger.price(250_001, 50_000))


def test_an_answer_without_usage_is_booked_as_its_reservation() -> None:
    ledger = Ledger(CapSettings(), PRICES)
    reservation = ledger.price(100, 50)
    ledger.spend("generate", None, reservation)
    assert ledger.spent_tokens == 150
    assert ledger.spent_cost == pytest.approx(reservation.cost)
    assert ledger.usage == Usage()


def test_without_caps_everything_fits() -> None:
    assert Ledger(CapSettings(), PRICES).fits(Ledger(CapSettings(), PRICES).price(10**12, 10**12))


def test_a_model_has_its_own_price_in_reservations_and_in_what_is_spent() -> None:
    prices = PriceSettings(
        prompt=2.0, completion=10.0, models={"org/cheap-1.5": Prices(prompt=0.2, completion=1.0)}
    )
    ledger = Ledger(CapSettings(cost=1.0), prices)
    assert not ledger.fits(ledger.price(600_000, 0, "dear"))
    cheap = ledger.price(600_000, 0, "org/cheap-1.5")
    assert cheap.cost == pytest.approx(0.12)
    assert ledger.fits(cheap)
    ledger.spend("classify", Usage(500_000, 10_000), cheap)
    ledger.spend("generate", Usage(100_000, 10_000), ledger.price(100_000, 10_000, "dear"))
    ledger.spend("generate", None, ledger.price(1_000, 1_000, "dear"))
    ledger.refused("generate")
    assert ledger.stages["classify"].cost == pytest.approx(0.11)
    assert ledger.stages["generate"].cost == pytest.approx(0.3 + 0.012)
    assert ledger.spent_cost == pytest.approx(0.11 + 0.312)
    assert [ledger.stages[stage].requests for stage in ("classify", "generate")] == [1, 3]
    assert ledger.stages["generate"].usage == Usage(100_000, 10_000)
