"""Exact prices: value, bound, and what is claimed about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hub_cases import TOL, own_programme, random_benchmark, random_grid, random_hubs
from scipy.sparse import csr_array

from flexlib import DataError, NotProven, pricing_exact
from flexlib.bilevel_solve import solve_bilevel
from flexlib.centralised import Centralised, centralised
from flexlib.hub_bilevel import hub_big_m, priced_hubs
from flexlib.hub_bounds import truncation_bound
from flexlib.hub_instances import reference
from flexlib.pricing_exact import ExactPrices, exact_prices
from flexlib.pricing_inverse import AdderWeights

CAP = 60.0
HEAVY = AdderWeights(2e-3, 7e-3, 5e-3)
FREE = AdderWeights(0.0, 0.0, 0.0)


def benchmark(seed: int, count: int, hours: int) -> Centralised:
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, count, hours)
    return centralised(hubs, random_grid(rng, hubs, rng.uniform(0.5, 0.9)))


def assert_sound(found: ExactPrices) -> None:
    """Both certificates: the hubs' optimality by linear programmes made elsewhere, the bounds."""
    found.certificate.assert_ok()
    prices, weights = found.prices, found.weights
    adder = prices.adder_eur_per_mwh
    assert adder.min() >= 0
    assert adder.max() <= prices.cap_eur_per_mwh
    own = own_programme(prices.benchmark.schedule.programme.hubs)
    assert own.regret(own.of(prices.answer.schedule.x), adder).max() < TOL
    up, across = np.abs(np.diff(adder, axis=1)).sum(), np.abs(np.diff(adder, axis=0)).sum()
    rest = weights.level * adder.sum() + weights.smooth * up + weights.fair * across
    assert found.objective == pytest.approx(prices.congestion_mwh + rest, abs=1e-9)
    assert found.bound <= found.objective + 1e-6
    assert found.bound >= prices.benchmark.bound_mwh
    assert prices.gap_mwh > -TOL


@pytest.mark.parametrize(("level", "value"), [(0.6, 1.59998), (0.5, 6.46093)])
def test_one_hub_in_six_hours_is_proven(level, value):
    found = exact_prices(centralised(*reference(1, 6, level)))
    assert_sound(found)
    assert found.objective == pytest.approx(value, abs=1e-5)
    assert found.proven
    assert found.gap <= 1e-3
    assert found.source == "branch and bound"
    assert found.claim == (f"Objective {value:.4f} is optimal within 0.1 % (branch and bound).")


@pytest.mark.parametrize("seed", range(9))
def test_both_reformulations_prove_the_same(seed):
    """Bounds of each run stay below what the other finds, and duality's below both."""
    b = benchmark(40 + seed, 1 + seed % 2, 1 + seed % 3)
    weights = (None, HEAVY, FREE)[seed // 3]
    runs = [
        exact_prices(b, weights=weights, gap=1e-6, reformulation=way, cut=cut, search=False)
        for way, cut in (("kkt", seed % 2 == 0), ("sos1", seed % 2 == 1))
    ]
    runs.append(exact_prices(b, weights=weights, time_limit_s=0))
    for found in runs:
        assert_sound(found)
    assert runs[0].proven
    assert runs[1].proven
    assert runs[0].objective == pytest.approx(runs[1].objective, abs=TOL)
    best = min(found.objective for found in runs)
    assert max(found.bound for found in runs) <= best + TOL
    assert runs[2].objective >= best - TOL
    assert runs[2].source != "branch and bound"


def test_branch_and_bound_improves_where_the_steps_stop_short():
    """A start that is not optimal: the incumbent of branch and bound takes its place."""
    improved = 0
    for seed in (2, 4):
        b = benchmark(seed, 2, 3)
        first = exact_prices(b, time_limit_s=0, gap=1e-6)
        for search in (False, True):
            last = exact_prices(b, gap=1e-6, search=search)
            assert_sound(last)
            assert last.proven
            assert last.objective <= first.objective
            improved += last.objective < first.objective - 1e-4
    assert improved >= 2


def test_what_is_found_by_the_time_limit_is_returned_with_its_bound():
    found = exact_prices(centralised(*reference(2, 6, 0.6)), time_limit_s=2.0)
    assert_sound(found)
    assert not found.proven
    assert 0.2327 < found.objective < 0.2371
    assert 0.05 < found.bound < 0.2328
    assert found.gap == pytest.approx(1 - found.bound / found.objective)
    assert found.claim.startswith(f"Optimality is not claimed: objective {found.objective:.4f}, ")
    assert f"gap {100 * found.gap:.0f} %" in found.claim
    assert found.prices.optimal  # of congestion, which is another claim
    assert not found.alarms


@pytest.mark.parametrize("point", [True, False])
def test_bound_and_incumbent_of_a_run_that_was_cut_short_are_used(monkeypatch, point):
    """Branch and bound that stops at a limit, with or without an incumbent."""
    b = benchmark(4, 2, 3)
    hubs, grid = b.schedule.programme.hubs, b.grid
    problem = priced_hubs(hubs, grid, CAP)
    best = solve_bilevel(problem, m=hub_big_m(problem, hubs, CAP))
    plain = exact_prices(b, time_limit_s=0)
    bound = 0.5 * (plain.bound + best.value)

    def stopped(*_, **choices):
        assert choices["time_limit_s"] == 7.0
        x = np.concatenate([best.d, best.x]) if point else None
        raise NotProven("time limit", bound, best.value, x)

    monkeypatch.setattr(pricing_exact, "solve_bilevel", stopped)
    found = exact_prices(b, search=False, time_limit_s=7.0)
    assert_sound(found)
    assert found.bound == bound
    assert found.source == "branch and bound"
    assert not found.proven
    assert plain.objective > best.value + 1e-4
    expected = best.value if point else plain.objective
    assert found.objective == pytest.approx(expected, abs=1e-6)


def test_a_worse_bound_or_incumbent_changes_nothing(monkeypatch):
    b = benchmark(4, 2, 3)
    plain = exact_prices(b, time_limit_s=0)

    def stopped(problem, *_, **__):
        x = np.full(len(problem.cost) + len(problem.follower.c), 2 * CAP)
        raise NotProven("time limit", -np.inf, np.inf, x)

    monkeypatch.setattr(pricing_exact, "solve_bilevel", stopped)
    found = exact_prices(b, search=False)
    assert_sound(found)
    assert (found.objective, found.bound) == (plain.objective, plain.bound)
    assert found.source == plain.source


def test_truncated_adders_bound_best_at_the_lesser_of_shadow_prices_and_adders():
    b = centralised(*reference(2, 6, 0.6))
    found = exact_prices(b, time_limit_s=0)
    shadow = truncation_bound(b)
    least = np.minimum(shadow.reference, found.prices.adder_eur_per_mwh)
    assert found.source == "truncated adders"
    assert found.bound > shadow.value + 0.01
    assert found.bound == pytest.approx(truncation_bound(b, reference=least).value, abs=1e-9)
    assert found.bound < found.objective


def test_nothing_overloaded_is_proven_at_once():
    """The objective is 0: optimal, and no gap relative to nothing."""
    hubs, grid = reference(2, 6, 0.6)
    wide = replace(grid, limit_mw=10 * grid.limit_mw, import_mw=100.0, export_mw=100.0)
    found = exact_prices(centralised(hubs, wide))
    assert_sound(found)
    assert found.objective == pytest.approx(0.0, abs=1e-9)
    assert found.gap == pytest.approx(0.0, abs=1e-6)
    assert found.proven
    assert found.claim.startswith("Objective 0.0000 is optimal within 0.1 %")
    assert found.prices.adder_eur_per_mwh.max() < 1e-9


def test_gap_is_relative_to_the_objective_or_to_a_thousandth():
    found = exact_prices(benchmark(40, 1, 1), time_limit_s=0)
    value = found.objective
    assert value > 0.01
    below = replace(found, bound=0.9 * value)
    assert below.gap == pytest.approx(0.1)
    assert not below.proven
    assert not replace(below, gap_asked=0.0999).proven
    assert replace(below, gap_asked=0.1).proven
    tiny = replace(found, prices=replace(found.prices, congestion_mwh=0.0), weights=FREE)
    assert replace(tiny, bound=-1e-4).gap == pytest.approx(0.1)
    assert replace(tiny, bound=-1e-7).proven
    above = replace(found, bound=1.1 * value)
    assert above.proven
    assert not above.certificate.ok
    assert [c.name for c in above.certificate.checks if not c.ok] == ["bound above the objective"]


def test_prices_that_are_proven_before_branch_and_bound_are_returned(monkeypatch):
    """Without regularisation, congestion equal to the benchmark's is the whole proof."""
    monkeypatch.delattr(pricing_exact, "solve_bilevel")
    monkeypatch.delattr(pricing_exact, "with_neighbourhoods")
    b = centralised(*reference(2, 6, 0.6))
    found = exact_prices(b, weights=FREE)
    assert_sound(found)
    assert found.proven
    assert found.bound == pytest.approx(b.bound_mwh, abs=1e-9)
    assert found.objective == pytest.approx(0.0, abs=1e-9)


def test_a_small_cap_is_kept():
    b = benchmark(40, 1, 2)
    caps = (1e-3, 1.0, CAP)
    runs = [exact_prices(b, cap_eur_per_mwh=cap, gap=1e-6) for cap in caps]
    for found, cap in zip(runs, caps, strict=True):
        assert_sound(found)
        assert found.proven
        assert found.prices.cap_eur_per_mwh == cap
    assert runs[2].objective < runs[1].objective + TOL
    assert runs[1].objective < runs[0].objective + TOL
    assert runs[2].objective < runs[0].objective - 0.01


def test_search_comes_before_branch_and_bound(monkeypatch):
    """The neighbourhood's prices are the start of branch and bound, or proven without it."""
    b = benchmark(4, 2, 3)
    best, calls = exact_prices(b, gap=1e-6), []

    def searched(prices, weights, *, time_limit_s):
        calls.append(time_limit_s)
        return best.prices

    def stopped(problem, *_, start, **__):
        assert problem.value(*start) == pytest.approx(best.objective, abs=1e-9)
        raise NotProven("time limit", -np.inf, np.inf)

    monkeypatch.setattr(pricing_exact, "with_neighbourhoods", searched)
    monkeypatch.setattr(pricing_exact, "solve_bilevel", stopped)
    found = exact_prices(b, time_limit_s=11.0)
    assert found.objective == best.objective
    assert not found.proven
    monkeypatch.delattr(pricing_exact, "solve_bilevel")
    assert exact_prices(b, time_limit_s=11.0, gap=0.99).proven
    assert set(calls) == {11.0}
    count = len(calls)
    assert not exact_prices(b, time_limit_s=0).proven
    assert len(calls) == count


def test_watch_sees_bound_and_incumbent():
    seen = []
    found = exact_prices(
        benchmark(4, 2, 3),
        search=False,
        gap=1e-6,
        watch=lambda bound, value: seen.append((bound, value)),
    )
    assert found.proven
    assert seen
    assert max(bound for bound, _ in seen) <= found.objective + TOL
    assert min(value for _, value in seen) >= found.objective - TOL


def test_alarms_name_multipliers_at_their_m():
    """Power that is exported is worth no more: the generator beside it could not be further off."""
    b = benchmark(63, 1, 2)
    found = exact_prices(b, gap=1e-6)
    assert_sound(found)
    assert found.source == "branch and bound"
    assert found.alarms == ["lower bound of g of hub_1 hour 0"]
    assert found.prices.answer.schedule.m_out_mw[0, 0] > 0.01
    assert not exact_prices(b, gap=1e-6, reformulation="sos1").alarms  # no M
    assert not exact_prices(b, time_limit_s=0).alarms


@pytest.mark.parametrize(
    ("choices", "column"),
    [
        ({"reformulation": "strong duality"}, "reformulation"),
        ({"reformulation": "KKT"}, "reformulation"),
        ({"gap": -1e-3}, "gap"),
        ({"gap": np.nan}, "gap"),
        ({"time_limit_s": -1.0}, "time_limit_s"),
        ({"cap_eur_per_mwh": 0.0}, "cap_eur_per_mwh"),
        ({"cap_eur_per_mwh": np.inf}, "cap_eur_per_mwh"),
        ({"weights": AdderWeights(level=-1.0)}, "level"),
        ({"weights": AdderWeights(fair=np.nan)}, "fair"),
    ],
)
def test_choices_that_cannot_be_are_named_before_anything_is_solved(monkeypatch, choices, column):
    b = random_benchmark(1)
    monkeypatch.delattr(pricing_exact, "linear_prices")
    with pytest.raises(DataError) as error:
        exact_prices(b, **choices)
    assert [fault.column for fault in error.value.faults] == [column]


def test_a_withdrawal_that_relieves_a_line_is_refused_by_name():
    b = random_benchmark(1)
    factor = b.grid.factor.toarray()
    factor[0, 0] = -1.0
    grid = replace(b.grid, factor=csr_array(factor))
    with pytest.raises(DataError, match=f"row {grid.names[0]}"):
        exact_prices(centralised(b.schedule.programme.hubs, grid))
