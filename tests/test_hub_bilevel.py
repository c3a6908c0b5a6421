"""Method C as a bilevel programme: against enumeration, and the bounds on multipliers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hub_cases import (
    TOL,
    breakpoints,
    grid_congestion,
    lp,
    own_programme,
    plan,
    random_grid,
    random_hubs,
)
from poster import small_hubs
from scipy.sparse import csr_array, eye_array, hstack

from flexlib import DataError
from flexlib.bilevel_duality import on_menu
from flexlib.bilevel_solve import duality_bound, solve_bilevel
from flexlib.hub_bilevel import decision, hub_big_m, multiplier_intervals, priced_hubs
from flexlib.hub_followers import answer
from flexlib.hub_grid import HubGrid
from flexlib.hubs import Hubs
from flexlib.pricing_inverse import AdderWeights
from flexlib.tariffs import Tariff

CAP = 60.0
HEAVY = AdderWeights(2e-3, 7e-3, 5e-3)  # beside which changes and differences are not noise


def case(seed: int, count: int, hours: int) -> tuple[Hubs, HubGrid]:
    """Random hubs on two feeders and lines that are too narrow for them."""
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, count, hours)
    grid = random_grid(rng, hubs, rng.uniform(0.5, 0.9))
    weights = rng.uniform(0.5, 2, 2)
    return hubs, replace(grid, line_weight=weights[0], substation_weight=weights[1])


def regularisation(weights: AdderWeights, adder: np.ndarray) -> float:
    """Level, smoothness and fairness of adders of hubs on one feeder, term by term."""
    hubs, hours = adder.shape
    total = 0.0
    for i, t in itertools.product(range(hubs), range(hours)):
        total += weights.level * adder[i, t]
        total += weights.smooth * abs(adder[i, t] - adder[i, t - 1]) if t else 0.0
        total += weights.fair * abs(adder[i, t] - adder[i - 1, t]) if i else 0.0
    return total


def objective(hubs: Hubs, grid: HubGrid, weights: AdderWeights, adder: np.ndarray) -> float:
    """Leader's objective of adders: the best of the hubs' optimal answers by linear programmes."""
    own = own_programme(hubs)
    c = own.cost(adder)
    rows = np.where(own.hub[None] == np.arange(len(hubs))[:, None], c, 0.0)
    least = plan(own, grid, 0 * c, 1.0, cut=(rows, own.best(adder) + 1e-8)).congestion
    return least + regularisation(weights, adder)


def unusual(seed: int, count: int) -> Hubs:
    """Hubs of eight kinds: as they come, and with prices, costs and devices at their limits."""
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, count, 1 + seed // 8 % 6)
    table, profiles, costs = hubs.table.copy(), hubs.profiles.copy(), hubs.costs.copy()
    own, kind = "linear_eur_per_mwh", seed % 8
    if kind == 1:  # negative prices
        profiles[["buy_eur_per_mwh", "sell_eur_per_mwh"]] -= 90
    elif kind == 2:
        costs[own] = 0.0
    elif kind == 3:
        costs[own] = rng.uniform(-30, 30, len(costs))
        profiles["sell_eur_per_mwh"] -= 60
    elif kind == 4:
        devices = ["pv_mwp", "flexible_load_mw", "battery_mw", "battery_mwh", "fuel_cell_h2_mw",
                   "h2_offtake_mw", "generator_mw", "electrolyser_mw", "h2_store_mwh"]  # fmt: skip
        for name in devices:
            table[name] *= rng.random(count) < 0.5
        table["electrolyser_mw"] += 2 * table["h2_offtake_mw"]
    elif kind == 5:  # efficiencies of almost nothing, and of 1
        names = ["battery_eff_charge", "battery_eff_discharge", "fuel_cell_eff"]
        table[names] = rng.choice([0.02, 1.0], (count, 3))
    elif kind == 6:  # imports for the price of exports
        profiles["sell_eur_per_mwh"] = profiles["buy_eur_per_mwh"]
        table["base_tariff_eur_per_mwh"], costs[own] = 0.0, 0.0
    elif kind == 7:  # stores that start empty or full, and pay or cost while they hold
        table["battery_min_soc"] = table["battery_initial_soc"] = rng.choice([0.0, 1.0], count)
        table["h2_initial_fill"] = rng.choice([0.0, 1.0], count)
        costs.loc[costs["variable"].isin(["e", "h", "a"]), own] = rng.uniform(-20, 20, 3)
    return Hubs(table, profiles, costs)


@pytest.mark.parametrize("cap", [3.0, CAP, 500.0])
@pytest.mark.parametrize("kind", range(8))
def test_some_optimal_multipliers_are_within_the_bounds(kind, cap):
    """Dual programme with every bound of the library in it: it still reaches the least cost.

    Twelve hubs in every draw; columns and rows of the dual are made from the tables, not by the
    library. Reduced costs at the caps of imports and exports are held to zero.
    """
    count = 12
    for seed in range(kind, 48, 8):
        hubs = unusual(seed, count)
        own = own_programme(hubs)
        rng = np.random.default_rng(seed)
        adder = rng.uniform(0, cap, own.size) * (rng.random(own.size) < 0.7)
        adder[rng.random(own.size) < 0.1] = cap
        _, a, b, lower, upper = own.arrays
        c = own.cost(adder)
        low, high = multiplier_intervals(hubs, cap)
        grid = HubGrid([], csr_array((0, count)), np.zeros((0, hubs.hours)), np.zeros(0), 1.0, 1.0)
        m = hub_big_m(priced_hubs(hubs, grid, cap), hubs, cap)
        down, up = (own.of(part) for part in np.split(m.multiplier, 2))
        assert not up[own.at("m_in")].any()
        assert not up[own.at("m_out")].any()
        np.testing.assert_array_equal(own.back(upper - lower), m.slack[: len(c)])
        eye = eye_array(len(c))
        dual = lp(
            -np.concatenate([b, lower, -upper]),
            np.concatenate([low, np.zeros(2 * len(c))]),
            np.concatenate([high, down, up]),
            a_eq=csr_array(hstack([a.T, eye, -eye])),
            b_eq=c,
        )
        y, p, q = np.split(dual.x, [len(b), len(b) + len(c)])
        of_hub = y.reshape(count, -1) * b.reshape(count, -1)
        value = of_hub.sum(axis=1) + own.sums(lower * p - upper * q)
        least = own.best(adder)
        np.testing.assert_allclose(value, least, rtol=1e-7, atol=1e-6, err_msg=f"seed {seed}")


def two_hours(e: float, h: float) -> Hubs:
    """One hub with costs and efficiencies that differ, and what holding costs."""
    return small_hubs(
        [50.0, 80.0],
        [40.0, 60.0],
        {
            "battery_eff_charge": 0.5,
            "battery_eff_discharge": 0.8,
            "electrolyser_eff": 0.5,
            "fuel_cell_eff": 0.25,
            "base_tariff_eur_per_mwh": 7.0,
        },
        costs={
            "m_in": 3.0, "m_out": 2.0, "p_ch": 4.0, "p_dis": 5.0, "e": e, "p_el": 6.0,
            "h_fc": 8.0, "h": h, "u": 9.0, "a": 30.0,
        },
    )  # fmt: skip


def test_intervals_of_multipliers_by_hand():
    """Every end is the least or largest of a few prices."""
    hubs = two_hours(e=1.0, h=10.0)
    low, high = (end.reshape(2, 4) for end in multiplier_intervals(hubs, 100.0))
    # power: sold for 40 - 2 and 60 - 2, bought for 50 + 7 + 3 + 100 and 80 + 7 + 3 + 100
    np.testing.assert_allclose(low[:, 0], [38, 58])
    np.testing.assert_allclose(high[:, 0], [160, 190])
    # battery, less 1 an hour for holding: in for 2 (38 + 4), 2 (58 + 4) - 1 up to 2 (160 + 4),
    # 2 (190 + 4) - 1; out for 0.8 (38 - 5), ... up to 0.8 (190 - 5) - 1; -2 after the last hour
    np.testing.assert_allclose(-high[:, 1], [-2, -1])
    np.testing.assert_allclose(-low[:, 1], [387, 388])
    # backlog: served in the first hour for 9 + 38 to 9 + 160, in the second for 30 more
    np.testing.assert_allclose(low[:, 2], [47, 17])
    np.testing.assert_allclose(high[:, 2], [229, 199])
    # hydrogen, less 10 an hour: in for 2 (190 + 6) - 10 at most, out for 0.25 38 - 8 at least;
    # -20 after the last hour
    np.testing.assert_allclose(-high[:, 3], [-20, -10])
    np.testing.assert_allclose(-low[:, 3], [382, 392])


def test_intervals_of_stores_that_pay_while_they_hold():
    """Taking out early is worth least: 0.8 (38 - 5) and 0.25 38 - 8; putting in late costs most."""
    ends = multiplier_intervals(two_hours(e=-50.0, h=-100.0), 100.0)
    low, high = (end.reshape(2, 4) for end in ends)
    np.testing.assert_allclose(-high[:, 1], [26.4, 26.4 - 50])
    np.testing.assert_allclose(-low[:, 1], [388 + 50, 388])
    np.testing.assert_allclose(-high[:, 3], [1.5, 1.5 - 100])
    np.testing.assert_allclose(-low[:, 3], [392 + 100, 392])


def test_bounds_of_reduced_costs_by_hand():
    """A hub that only buys and generates: reduced costs are differences of prices."""
    device = {"generator_mw": 2.0, "generator_cost_eur_per_mwh": 90.0, "demand_peak_mw": 1.5}
    hubs = small_hubs([50.0], [40.0], device)
    grid = HubGrid([], csr_array((0, 1)), np.zeros((0, 1)), np.zeros(0), 1.0, 1.0)
    table = hub_big_m(priced_hubs(hubs, grid, 100.0), hubs, 100.0).table
    # power is worth 40 to 150; imports cost 50 to 150, generation 90, exports earn 40
    expected = {"m_in": (110.0, 0.0), "m_out": (110.0, 0.0), "g": (50.0, 60.0)}
    for name, (down, up) in expected.items():
        assert table["multiplier"][f"lower bound of {name} of hub_1 hour 0"] == down
        assert table["multiplier"][f"upper bound of {name} of hub_1 hour 0"] == up
    slack = {"m_in": 1.5, "m_out": 2.0, "g": 2.0, "u": 0.0}
    for name, most in slack.items():
        assert table["slack"][f"upper bound of {name} of hub_1 hour 0"] == most
    how = table["how"]
    assert how["upper bound of m_in of hub_1 hour 0"].startswith("never tight")
    assert how["upper bound of m_out of hub_1 hour 0"].startswith("never tight")
    assert how["upper bound of g of hub_1 hour 0"] == how["lower bound of m_in of hub_1 hour 0"]
    assert how["upper bound of g of hub_1 hour 0"].startswith("reduced cost by intervals")


@pytest.mark.parametrize("seed", range(12))
def test_adders_and_answers_are_points_of_the_programme_with_the_same_value(seed):
    rng = np.random.default_rng(seed)
    hubs, grid = case(seed, 1 + seed % 3, 1 + seed % 4)
    adder = rng.uniform(0, CAP, (len(hubs), hubs.hours))
    schedule = answer(hubs, Tariff(adder)).schedule
    problem = priced_hubs(hubs, grid, CAP, HEAVY)
    d, x = decision(grid, adder, schedule)
    np.testing.assert_array_equal(d[: adder.size], adder.ravel())
    np.testing.assert_array_equal(x, schedule.x)
    assert (problem.rows @ d + problem.rows_follower @ x - problem.limit).max() < 1e-9
    assert (d >= problem.lower).all()
    assert (d <= problem.upper).all()
    own = own_programme(hubs)
    congestion = grid_congestion(grid, own.withdrawal(own.of(x)))
    assert congestion > 0
    value = congestion + regularisation(HEAVY, adder)
    assert problem.value(d, x) == pytest.approx(value, abs=1e-9)
    assert problem.follower.cost(d, x) == pytest.approx(own.best(adder).sum(), abs=TOL)
    for j in range(adder.size, len(d)):  # and no change or overload could be less
        less = d.copy()
        less[j] -= 1e-6
        broken = (problem.rows @ less + problem.rows_follower @ x - problem.limit).max() > 1e-7
        assert broken or less[j] < problem.lower[j], problem.names[j]


def test_decisions_are_named_and_in_order():
    hubs, grid = case(1, 2, 2)
    problem = priced_hubs(hubs, grid, CAP)
    assert problem.names[:4] == [
        f"adder of {hub} hour {t}" for hub in ("hub_1", "hub_2") for t in range(2)
    ]
    assert problem.names[4:8] == [f"change {k}" for k in (1, 2, 3, 4)]
    assert problem.names[8].startswith("overload, import limit of line 1 hour 0")
    assert problem.names[-1] == "overload, export limit of substation hour 1"
    assert not problem.integer.any()
    assert (problem.upper[:8] == CAP).all()
    assert np.isinf(problem.upper[8:]).all()
    np.testing.assert_allclose(problem.cost[:4], 1e-3)  # the poster's weights by default
    np.testing.assert_allclose(problem.cost[4:8], 5e-4)


@pytest.mark.parametrize("seed", range(8))
def test_against_all_adders_in_one_hour(seed):
    """Answers change at breakpoints alone: with those of all hubs, every optimum is on the list."""
    hubs, grid = case(seed, 2, 1)
    each = [breakpoints(own_programme(hubs, k), CAP) for k in range(2)]
    adders = [np.array(pair)[:, None] for pair in itertools.product(sorted({*each[0], *each[1]}),
                                                                    repeat=2)]  # fmt: skip
    least = min(objective(hubs, grid, HEAVY, adder) for adder in adders)
    problem = priced_hubs(hubs, grid, CAP, HEAVY)
    found = solve_bilevel(problem, m=hub_big_m(problem, hubs, CAP))
    found.certificate.assert_ok()
    assert found.value == pytest.approx(least, abs=TOL)
    assert objective(hubs, grid, HEAVY, found.d[:2, None]) == pytest.approx(least, abs=TOL)


@pytest.mark.parametrize(
    ("seed", "count", "hours", "menu"),
    [
        (0, 1, 2, (0, 5, 15, 30, 45, 60)),
        (1, 1, 2, (0, 5, 15, 30, 45, 60)),
        (2, 1, 3, (0, 12, 35, 60)),
        (3, 1, 3, (0, 12, 35, 60)),
        (4, 2, 2, (0, 20, 60)),
        (5, 2, 2, (0, 20, 60)),
    ],
)
def test_on_a_menu_of_adders_against_trying_all(seed, count, hours, menu):
    """Strong duality and KKT conditions on the menu; with all adders it is never worse."""
    hubs, grid = case(seed, count, hours)
    problem = priced_hubs(hubs, grid, CAP, HEAVY)
    n, m = count * hours, hub_big_m(problem, hubs, CAP)
    tried = {
        entry: objective(hubs, grid, HEAVY, np.array(entry, dtype=float).reshape(count, hours))
        for entry in itertools.product(menu, repeat=n)
    }
    least = min(tried.values())
    assert least < tried[(0,) * n] - 0.01
    chosen, value = on_menu(problem, {j: np.array(menu) for j in range(n)})
    for found in (solve_bilevel(chosen, "strong duality"), solve_bilevel(chosen, m=m)):
        found.certificate.assert_ok()
        assert found.value == pytest.approx(least, abs=TOL)
        best = tuple(int(v) for v in np.round((value @ found.d)[:n]))
        assert tried[best] == pytest.approx(least, abs=TOL)
    free = solve_bilevel(problem, m=m)
    assert free.value <= least + TOL
    adder = free.d[:n].reshape(count, hours)
    assert objective(hubs, grid, HEAVY, adder) == pytest.approx(free.value, abs=1e-4)
    assert duality_bound(problem, m) <= free.value + TOL


@pytest.mark.parametrize("seed", range(20))
def test_derived_m_loses_nothing_that_special_ordered_sets_keep(seed):
    """SCIP without any M finds the same optimum; weights of all sizes."""
    hubs, grid = case(100 + seed, 1 + seed % 2, 1 + seed // 2 % 3)
    weights = (HEAVY, AdderWeights(), AdderWeights(0.0, 0.0, 0.0))[seed % 3]
    problem = priced_hubs(hubs, grid, CAP, weights)
    m = hub_big_m(problem, hubs, CAP)
    by_m = solve_bilevel(problem, m=m)
    by_sets = solve_bilevel(problem, "sos1", m=m if seed % 4 == 0 else None, cut=seed % 4 == 0)
    assert by_m.value == pytest.approx(by_sets.value, abs=TOL)
    assert by_m.guessed == 0
    for found in (by_m, by_sets):
        found.certificate.assert_ok()
    assert duality_bound(problem, m) <= by_sets.value + TOL


@pytest.mark.parametrize("seed", [140, 201, 215, 274])
def test_optima_that_tight_tolerances_lose(seed):
    """HiGHS 1.15, asked for 1e-9, calls these infeasible or proves another optimum."""
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, int(rng.integers(1, 3)), int(rng.integers(1, 4)))
    problem = priced_hubs(hubs, random_grid(rng, hubs, rng.uniform(0.5, 0.95)), CAP)
    by_m = solve_bilevel(problem, m=hub_big_m(problem, hubs, CAP))
    assert by_m.value == pytest.approx(solve_bilevel(problem, "sos1").value, abs=TOL)


def test_what_is_no_cap_or_weight_is_named():
    hubs, grid = case(0, 1, 2)
    for cap in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(DataError, match="priced_hubs, column cap_eur_per_mwh"):
            priced_hubs(hubs, grid, cap)
    with pytest.raises(DataError) as error:
        priced_hubs(hubs, grid, CAP, AdderWeights(-1e-3, np.nan, np.inf))
    assert [fault.column for fault in error.value.faults] == ["level", "smooth", "fair"]
    with pytest.raises(DataError, match="found 1 hubs, expected 2"):
        priced_hubs(random_hubs(np.random.default_rng(0), 2, 2), grid, CAP)


def test_exports_dearer_than_imports_for_which_caps_would_be_needed_are_refused():
    """The only hubs whose caps would have multipliers; adders from 0 do not make any."""
    with pytest.raises(DataError, match="sell_eur_per_mwh"):
        small_hubs([50.0], [51.5], {}, costs={"m_in": 1.0})
    hubs = small_hubs([50.0], [51.0], {}, costs={"m_in": 1.0})
    low, high = multiplier_intervals(hubs, CAP)
    assert low[0] <= high[0] - CAP
