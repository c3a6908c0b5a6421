"""Joint steps: never worse than their start, and what they reach on cases that are proven."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hub_cases import TOL, own_programme, random_benchmark, random_grid, random_hubs

from flexlib import DataError
from flexlib.centralised import Centralised, centralised
from flexlib.hub_instances import reference
from flexlib.pricing import Prices, linear_prices, priced
from flexlib.pricing_inverse import AdderWeights, cheapest_adder
from flexlib.pricing_steps import objective, with_joint_steps

CAP = 60.0
POSTER, HEAVY = AdderWeights(), AdderWeights(2e-3, 7e-3, 5e-3)


def benchmark(seed: int, count: int, hours: int) -> Centralised:
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, count, hours)
    return centralised(hubs, random_grid(rng, hubs, rng.uniform(0.5, 0.9)))


def assert_sound(prices: Prices) -> None:
    """Certificate, adders up to the cap, no regret by linear programmes made elsewhere."""
    prices.certificate.assert_ok()
    adder = prices.adder_eur_per_mwh
    assert adder.min() >= 0
    assert adder.max() <= prices.cap_eur_per_mwh
    own = own_programme(prices.benchmark.schedule.programme.hubs)
    assert own.regret(own.of(prices.answer.schedule.x), adder).max() < TOL
    assert prices.congestion_mwh >= prices.benchmark.bound_mwh - TOL


def test_objective_is_congestion_and_regularisation():
    b = random_benchmark(3)
    hubs, hours, _ = b.schedule.programme.shape
    adder = np.random.default_rng(0).uniform(0, CAP, (hubs, hours))
    prices = priced(b, CAP, adder)
    up, across = np.abs(np.diff(adder, axis=1)).sum(), np.abs(np.diff(adder, axis=0)).sum()
    assert hubs > 1
    value = prices.congestion_mwh + 2e-3 * adder.sum() + 7e-3 * up + 5e-3 * across
    assert objective(prices, HEAVY) == pytest.approx(value, abs=1e-9)


def test_steps_are_never_worse_and_often_better():
    better = 0
    for seed in range(7):
        b = random_benchmark(seed)
        for weights in (POSTER, HEAVY):
            start = linear_prices(b, cap_eur_per_mwh=CAP, weights=weights)
            first = objective(start, weights)
            found = with_joint_steps(start, weights)
            assert_sound(found)
            assert objective(found, weights) <= first, seed
            x, programme = found.answer.schedule.x, b.schedule.programme
            pairs = programme.hubs.neighbours
            cheapest = weights.value(cheapest_adder(programme, x, CAP, weights), pairs)
            value = weights.value(found.adder_eur_per_mwh, pairs)
            assert value == pytest.approx(cheapest, abs=1e-6), seed
            better += objective(found, weights) < first - 1e-3
    assert better >= 4


def test_steps_reach_the_proven_optimum_of_one_hub_in_twelve_hours():
    b = centralised(*reference(1, 12, 0.6))
    start = linear_prices(b)
    assert objective(start, POSTER) > 2.89
    found = with_joint_steps(start)
    assert_sound(found)
    assert objective(found, POSTER) == pytest.approx(2.55275, abs=1e-6)
    again = with_joint_steps(start)
    np.testing.assert_array_equal(again.adder_eur_per_mwh, found.adder_eur_per_mwh)
    np.testing.assert_array_equal(again.answer.schedule.x, found.answer.schedule.x)


def test_a_step_that_is_rejected_is_tried_again_nearer():
    """Three hubs in a day: congestion is proven to be 0 before and after, prices are cheaper."""
    start = linear_prices(centralised(*reference(3, 24, 0.6)))
    found = with_joint_steps(start)
    assert start.optimal
    assert found.optimal
    assert objective(start, POSTER) > 0.6715
    assert objective(found, POSTER) < 0.6670


def test_prices_that_are_optimal_stay_as_they_are():
    start = linear_prices(centralised(*reference(1, 6, 0.6)))
    assert with_joint_steps(start) is start
    b = random_benchmark(1)
    wide = replace(b.grid, limit_mw=100 * b.grid.limit_mw, import_mw=100.0, export_mw=100.0)
    nothing = linear_prices(centralised(b.schedule.programme.hubs, wide))
    assert objective(nothing, POSTER) == pytest.approx(0.0, abs=1e-9)
    assert with_joint_steps(nothing) is nothing


def test_steps_lead_down_from_any_prices():
    """From adders that nobody chose for the instance, under weights they were not made for."""
    b = random_benchmark(7)
    shape = b.schedule.programme.shape[:2]
    rng = np.random.default_rng(2)
    for adder in (np.zeros(shape), np.full(shape, CAP), rng.uniform(0, CAP, shape)):
        start = priced(b, CAP, adder)
        for weights in (HEAVY, AdderWeights(0.0, 0.0, 0.0)):
            found = with_joint_steps(start, weights)
            assert_sound(found)
            assert objective(found, weights) <= objective(start, weights)
            assert found.cap_eur_per_mwh == CAP
    light, heavy = (linear_prices(b, cap_eur_per_mwh=CAP, weights=w) for w in (POSTER, HEAVY))
    best = [objective(with_joint_steps(start, HEAVY), HEAVY) for start in (light, heavy)]
    assert best[0] <= objective(light, HEAVY)
    assert best[1] <= objective(heavy, HEAVY)


def test_steps_of_the_default_weights_are_the_posters():
    start = linear_prices(random_benchmark(2), cap_eur_per_mwh=CAP, weights=HEAVY)
    default, given = with_joint_steps(start), with_joint_steps(start, POSTER)
    np.testing.assert_array_equal(default.adder_eur_per_mwh, given.adder_eur_per_mwh)


@pytest.mark.parametrize(("count", "hours"), [(1, 1), (1, 4), (3, 1)])
def test_hubs_without_neighbours_or_a_second_hour(count, hours):
    """Nothing to smooth, nobody to be fair to: the empty sums."""
    b = benchmark(3, count, hours)
    found = with_joint_steps(linear_prices(b, cap_eur_per_mwh=CAP, weights=HEAVY), HEAVY)
    assert_sound(found)
    assert len(b.schedule.programme.hubs.neighbours) == count - 1
    start = linear_prices(b, cap_eur_per_mwh=CAP, weights=HEAVY)
    assert objective(found, HEAVY) <= objective(start, HEAVY)


def test_weights_below_zero_are_named():
    start = linear_prices(random_benchmark(1), cap_eur_per_mwh=CAP)
    with pytest.raises(DataError, match="priced_hubs, column smooth: found -1"):
        with_joint_steps(start, AdderWeights(0.0, -1.0, 0.0))
