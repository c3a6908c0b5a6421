"""Prices from one linear programme: what is computed, what is claimed and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hub_cases import (
    TOL,
    grid_congestion,
    least_priced_congestion,
    own_programme,
    plan,
    random_benchmark,
    random_case,
    random_grid,
    random_hubs,
)
from scipy.sparse import csr_array

from flexlib import DataError
from flexlib.centralised import centralised
from flexlib.hub_followers import no_pricing
from flexlib.hub_instances import reference
from flexlib.hub_programme import HubProgramme
from flexlib.pricing import best_answer, conditions, linear_prices, quota_adder
from flexlib.pricing_inverse import AdderWeights, cheapest_adder
from flexlib.tariffs import Tariff, no_tariff

CAP = 60.0


@pytest.mark.parametrize("seed", range(30))
def test_prices_are_bilevel_feasible_and_bounded_by_b(seed):
    benchmark = random_benchmark(seed)
    prices = linear_prices(benchmark, cap_eur_per_mwh=CAP)
    prices.certificate.assert_ok()
    own = own_programme(benchmark.schedule.programme.hubs)
    x, adder = own.of(prices.answer.schedule.x), prices.adder_eur_per_mwh
    assert adder.min() >= 0
    assert adder.max() <= CAP + 1e-9
    assert own.regret(x, adder).max() < TOL
    congestion = grid_congestion(benchmark.grid, own.withdrawal(x))
    assert prices.congestion_mwh == pytest.approx(congestion, abs=1e-9)
    least = plan(own, benchmark.grid, 0 * own.cost(), 1.0).congestion
    assert prices.gap_mwh == pytest.approx(congestion - least, abs=TOL)
    assert prices.gap_mwh > -TOL
    assert prices.optimal == (prices.gap_mwh <= 1e-6 * max(1, congestion))
    assert ("is optimal" in prices.claim) == prices.optimal
    free = benchmark.grid.congestion_mwh(own.withdrawal(own.minimum(own.cost())))
    assert congestion <= free + TOL


def test_adders_are_cheaper_than_those_of_the_quotas_and_cheapest_for_their_schedules():
    """Quotas that reach the bound at once: the descent starts from them, for all weights."""
    weights = AdderWeights(), AdderWeights(0.1, 2.0, 3.0)
    compared, cheaper = 0, 0
    for seed in range(30):
        benchmark = random_benchmark(seed)
        programme, grid = benchmark.schedule.programme, benchmark.grid
        first = quota_adder(programme, grid, np.zeros(programme.shape[:2]), CAP, 1000.0)
        reply = best_answer(programme, grid, Tariff(first))
        if grid.congestion_mwh(reply.schedule.w_mw) > benchmark.bound_mwh + 1e-9:
            continue
        prices = [
            linear_prices(benchmark, cap_eur_per_mwh=CAP, weights=w) for w in (None, weights[1])
        ]
        found = [price.adder_eur_per_mwh for price in prices]
        for w, price in zip(weights, prices, strict=True):
            x, pair = price.answer.schedule.x, programme.hubs.neighbours
            least = w.value(cheapest_adder(programme, x, CAP, w), pair)
            assert w.value(price.adder_eur_per_mwh, pair) == pytest.approx(least, abs=1e-6), seed
        for w, ours, other in zip(weights, found, reversed(found), strict=True):
            values = [w.value(adder, programme.hubs.neighbours) for adder in (ours, other, first)]
            assert values[0] <= values[2] + 1e-6, seed
            cheaper += values[0] < min(values[1:]) - 0.01
        compared += 1
    assert compared >= 10
    assert cheaper >= 5


def test_answers_cost_nothing_where_the_grid_is_wide():
    hubs, grid = reference(2, 6, 0.6)
    wide = replace(grid, limit_mw=10 * grid.limit_mw, import_mw=100.0, export_mw=100.0)
    prices = linear_prices(centralised(hubs, wide))
    assert prices.optimal
    np.testing.assert_allclose(prices.adder_eur_per_mwh, 0, atol=1e-9)


@pytest.mark.parametrize(("cap", "least_claimed"), [(CAP, 8), (30.0, 3)])
def test_against_enumeration_in_one_hour(cap, least_claimed):
    """Prices are never better than the best of all adders, and equal it where that is claimed."""
    claimed, priced = 0, 0
    for seed in range(25):
        rng = np.random.default_rng(1000 + seed)
        hubs = random_hubs(rng, 2, 1)
        grid = random_grid(rng, hubs, rng.uniform(0.6, 0.95))
        prices = linear_prices(centralised(hubs, grid), cap_eur_per_mwh=cap)
        least = least_priced_congestion(hubs, grid, cap)
        assert prices.congestion_mwh >= least - TOL, seed
        if prices.optimal:
            assert prices.congestion_mwh == pytest.approx(least, abs=TOL), seed
            claimed += 1
        priced += prices.adder_eur_per_mwh.max() > 0.1
    assert claimed >= least_claimed
    assert priced >= 3


def test_answer_is_the_best_of_all_that_are_optimal():
    for seed in range(20):
        hubs, grid = random_case(seed)
        own = own_programme(hubs)
        adder = linear_prices(random_benchmark(seed), cap_eur_per_mwh=CAP).adder_eur_per_mwh
        reply = best_answer(HubProgramme(hubs), grid, Tariff(adder))
        reply.certificate.assert_ok()
        rows = np.where(own.hub == np.arange(len(hubs))[:, None], own.cost(adder), 0.0)
        best = own.best(adder)
        least = plan(own, grid, 0 * own.cost(), 1.0, cut=(rows, best + 1e-8)).congestion
        assert grid.congestion_mwh(reply.schedule.w_mw) == pytest.approx(least, abs=1e-4)
        np.testing.assert_allclose(reply.pays_eur, best, atol=TOL)
        np.testing.assert_allclose(reply.least_eur, best, atol=TOL)


def test_conditions_are_read_off_the_benchmark():
    failed = dict.fromkeys(conditions(random_benchmark(0), CAP).index, 0)
    for seed in range(60):
        benchmark = random_benchmark(seed)
        table = conditions(benchmark, CAP)
        incidence = np.vstack(
            [benchmark.grid.factor.toarray(), np.ones(benchmark.grid.factor.shape[1])]
        )
        adder, reverse = (
            incidence.T @ shadow for shadow in (benchmark.import_shadow, benchmark.export_shadow)
        )
        own = own_programme(benchmark.schedule.programme.hubs)
        exports = own.of(benchmark.schedule.x)[own.at("m_out")]
        expected = [0.0, adder.max(), np.abs(reverse).max(), (adder * exports).sum()]
        np.testing.assert_allclose(table["value"], expected, rtol=1e-9, atol=1e-9)
        assert table["most"].tolist() == [0.0, CAP, 0.0, 0.0]
        for name, value, most in zip(table.index, expected, table["most"], strict=True):
            assert (table["holds"][name] == "yes") == (value <= most + 1e-6)
            failed[name] += value > most + 1e-6
    assert failed.pop("no withdrawal relieves a row") == 0
    assert min(failed.values()) >= 2


def test_a_claim_names_what_is_not_met():
    benchmark = centralised(*reference(3, 24, 0.5))
    prices = linear_prices(benchmark, cap_eur_per_mwh=CAP)
    assert not prices.optimal
    assert prices.gap_mwh > 0.1
    assert "the cap does not bind" in prices.claim
    assert f"{prices.congestion_mwh:.3f}" in prices.claim
    assert f"{benchmark.bound_mwh:.3f}" in prices.claim
    assert prices.conditions.loc["the cap does not bind", "holds"] == "NO"
    assert prices.conditions.loc["the cap does not bind", "value"] > CAP
    assert prices.conditions.loc["no withdrawal relieves a row", "holds"] == "yes"


def test_bound_is_reached_at_the_reference_case_where_conditions_fail():
    """Sufficient, not necessary: the reverse condition fails, and yet other adders reach B."""
    benchmark = centralised(*reference(3, 24, 0.6))
    prices = linear_prices(benchmark, cap_eur_per_mwh=CAP)
    prices.certificate.assert_ok()
    assert prices.optimal
    assert prices.congestion_mwh == pytest.approx(0, abs=1e-6)
    assert prices.conditions.loc["no reverse limit binds", "holds"] == "NO"
    own = own_programme(benchmark.schedule.programme.hubs)
    x = own.of(prices.answer.schedule.x)
    assert own.regret(x, prices.adder_eur_per_mwh).max() < TOL
    assert grid_congestion(benchmark.grid, own.withdrawal(x)) < 1e-6


def test_cap_in_the_certificate():
    prices = linear_prices(random_benchmark(1), cap_eur_per_mwh=CAP)
    assert prices.adder_eur_per_mwh.max() > 1
    assert prices.certificate.ok
    assert not replace(prices, cap_eur_per_mwh=0.5).certificate.ok


def test_follower_optimality_in_the_certificate():
    prices = linear_prices(random_benchmark(1), cap_eur_per_mwh=CAP)
    dear = replace(prices.answer, least_eur=prices.answer.least_eur - 1)
    assert not replace(prices, answer=dear).certificate.ok


def test_negative_entry_of_the_grid_is_refused():
    hubs, grid = reference()
    factor = grid.factor.toarray()
    factor[2, 0] = -0.3
    benchmark = centralised(hubs, replace(grid, factor=csr_array(factor)))
    with pytest.raises(DataError, match=r"line_3.*hub_1.*-0.3"):
        linear_prices(benchmark)
    table = conditions(benchmark, CAP)
    assert table.loc["no withdrawal relieves a row", "value"] == pytest.approx(0.3)
    assert table.loc["no withdrawal relieves a row", "holds"] == "NO"


@pytest.mark.parametrize("cap", [0.0, -1.0, np.inf, np.nan])
def test_cap_that_is_no_positive_number_is_refused(cap):
    with pytest.raises(DataError, match="cap_eur_per_mwh"):
        linear_prices(random_benchmark(0), cap_eur_per_mwh=cap)


def test_answer_without_adder_is_method_a():
    hubs, grid = reference()
    free = best_answer(HubProgramme(hubs), grid, no_tariff(3, 24))
    cost = no_pricing(hubs).schedule.cost_eur
    np.testing.assert_allclose(free.schedule.cost_eur, cost, atol=TOL)
    assert grid.congestion_mwh(free.schedule.w_mw) == pytest.approx(34.105, abs=1e-3)
