"""Method D as a bilevel programme: intervals of multipliers, two solvers, sampled adders."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import piqp
import pytest
from hub_cases import TOL, Own, grid_congestion, lp, own_programme
from poster import small_hubs
from scipy.sparse import csc_matrix, csr_array, diags_array, eye_array, hstack
from test_hub_bilevel import CAP, HEAVY, case, regularisation, unusual

from flexlib import Infeasible
from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import BigM, guessed, pairs
from flexlib.bilevel_readings import best_answer
from flexlib.bilevel_solve import BilevelOptimum, solve_bilevel
from flexlib.hub_bilevel import hub_big_m, multiplier_intervals, priced_hubs
from flexlib.hub_grid import HubGrid
from flexlib.hubs import VARIABLES, Hubs
from flexlib.pricing_inverse import AdderWeights

GROWTH = "quadratic_eur_per_mwh_per_mw"


def curved(hubs: Hubs, growth: dict[str, float] | float) -> Hubs:
    """The same hubs with other quadratic costs, 0 where none is given."""
    costs = hubs.costs.copy()
    costs[GROWTH] = (
        costs["variable"].map(growth).fillna(0.0) if isinstance(growth, dict) else growth
    )
    return replace(hubs, costs=costs)


def no_grid(hubs: Hubs) -> HubGrid:
    """A grid without lines, and a substation without limit."""
    count = len(hubs)
    return HubGrid([], csr_array((0, count)), np.zeros((0, hubs.hours)), np.zeros(0), 1e6, 1e6)


def growth_of(own: Own) -> np.ndarray:
    """Diagonal of Q in the order of the columns of `Own`."""
    of_variable = own.hubs.costs.set_index("variable")[GROWTH][list(VARIABLES)].to_numpy()
    count, hours = own.size
    return np.tile(np.repeat(of_variable, hours), count)


class Follower:
    """The hubs' answers by PIQP, on arrays made from the tables.

    Optimal adders put hubs where a bound begins to matter. There an answer is known to the root of
    the tolerance alone.
    """

    def __init__(self, hubs: Hubs, tolerance: float = 1e-13) -> None:
        self.own = own_programme(hubs)
        _, a, b, lower, upper = self.own.arrays
        self.q = growth_of(self.own)
        self.solver = piqp.SparseSolver()
        for kind in ("", "duality_gap_"):
            for size in ("abs", "rel"):
                setattr(self.solver.settings, f"eps_{kind}{size}", tolerance)
        no_rows = csc_matrix((0, len(lower))), np.zeros(0), np.zeros(0)
        self.solver.setup(
            csc_matrix(diags_array(self.q)), self.own.cost(), csc_matrix(a), b, *no_rows,
            lower, upper,
        )  # fmt: skip

    def answer(self, adder: np.ndarray) -> np.ndarray:
        """Answer to an adder."""
        self.solver.update(c=self.own.cost(adder))
        assert self.solver.solve() == piqp.PIQP_SOLVED
        return np.array(self.solver.result.x)

    def objective(self, grid: HubGrid, weights: AdderWeights, adder: np.ndarray) -> float:
        """Leader's objective of adders."""
        w = self.own.withdrawal(self.answer(adder))
        return grid_congestion(grid, w) + regularisation(weights, adder)


def growing(seed: int, hubs: Hubs) -> Hubs:
    """Hubs with quadratic costs drawn at random, some of them 0."""
    rng = np.random.default_rng(1000 + seed)
    sizes = rng.choice([0.0, 0.1, 4.0, 60.0], len(VARIABLES), p=[0.1, 0.2, 0.5, 0.2])
    return curved(hubs, dict(zip(VARIABLES, sizes, strict=True)))


def most_of_dual(own: Own, slope: np.ndarray, m: BigM, low: np.ndarray, high: np.ndarray):
    """Dual objective of each hub at given marginal costs, all multipliers within M; its values."""
    _, a, b, lower, upper = own.arrays
    down, up = (own.of(part) for part in np.split(m.multiplier, 2))
    eye, n = eye_array(len(slope)), len(slope)
    dual = lp(
        -np.concatenate([b, lower, -upper]),
        np.concatenate([low, np.zeros(2 * n)]),
        np.concatenate([high, down + 1e-6, up + 1e-6]),
        a_eq=csr_array(hstack([a.T, eye, -eye])),
        b_eq=slope,
    )
    y, p, q = np.split(dual.x, [len(b), len(b) + n])
    of_hub = y.reshape(own.size[0], -1) * b.reshape(own.size[0], -1)
    return of_hub.sum(axis=1) + own.sums(lower * p - upper * q)


@pytest.mark.parametrize("cap", [3.0, CAP, 500.0])
@pytest.mark.parametrize("kind", range(8))
def test_some_multipliers_of_the_answer_are_within_the_bounds(kind, cap):
    """At the marginal costs of the answer, the dual with all bounds in it reaches its cost."""
    count = 6
    for seed in range(kind, 48 if cap == CAP else 16, 8):
        hubs = growing(seed, unusual(seed, count))
        follower = Follower(hubs, tolerance=1e-9)  # of many hubs, some without curvature
        own, rng = follower.own, np.random.default_rng(seed)
        adder = rng.uniform(0, cap, own.size) * (rng.random(own.size) < 0.7)
        adder[rng.random(own.size) < 0.1] = cap
        x = follower.answer(adder)
        slope = own.cost(adder) + follower.q * x
        low, high = multiplier_intervals(hubs, cap, quadratic=True)
        problem = priced_hubs(hubs, no_grid(hubs), cap, quadratic=True)
        m = hub_big_m(problem, hubs, cap)
        np.testing.assert_array_equal(m.equation_low, low)
        np.testing.assert_array_equal(m.equation_high, high)
        up = own.of(m.multiplier[len(slope) :])
        assert not up[own.at("m_in")].any()
        assert not up[own.at("m_out")].any()
        value = most_of_dual(own, slope, m, low, high)
        np.testing.assert_allclose(
            value, own.sums(slope * x), rtol=1e-6, atol=2e-5, err_msg=f"seed {seed}"
        )


STORES = {
    "demand_peak_mw": 1.0, "flexible_load_mw": 1.0, "flexible_load_max_factor": 2.0,
    "backlog_max_mwh": 3.0, "battery_mw": 2.0, "battery_mwh": 4.0, "battery_min_soc": 0.25,
    "battery_initial_soc": 0.5, "battery_eff_charge": 0.5, "battery_eff_discharge": 0.8,
    "electrolyser_mw": 3.0, "electrolyser_eff": 0.5, "fuel_cell_h2_mw": 2.0, "fuel_cell_eff": 0.25,
    "h2_store_mwh": 5.0, "h2_initial_fill": 0.4, "generator_mw": 1.0,
    "base_tariff_eur_per_mwh": 7.0,
}  # fmt: skip


def stores(e: float, h: float) -> Hubs:
    """One hub for two hours, all its marginal costs different."""
    linear = {
        "m_in": 3.0, "m_out": 2.0, "p_ch": 4.0, "p_dis": 5.0, "e": e, "p_el": 6.0, "h_fc": 8.0,
        "h": h, "u": 9.0, "a": 30.0,
    }  # fmt: skip
    growth = {
        "m_in": 1.0, "m_out": 2.0, "u": 3.0, "p_ch": 4.0, "p_dis": 5.0, "e": 6.0, "a": 7.0,
        "p_el": 8.0, "h_fc": 9.0, "h": 10.0,
    }  # fmt: skip
    return curved(small_hubs([50.0, 80.0], [40.0, 60.0], STORES, costs=linear), growth)


def test_intervals_of_multipliers_by_hand():
    """All that can run at once: 8 MW in, 3.5 MW out."""
    intervals = multiplier_intervals(stores(e=1.0, h=10.0), 100.0, quadratic=True)
    low, high = (end.reshape(2, 4) for end in intervals)
    # power: sold for 40 - 2 - 2 3.5 and 20 more, bought for 50 + 7 + 3 + 100 + 8 and 30 more
    np.testing.assert_allclose(low[:, 0], [31, 51])
    np.testing.assert_allclose(high[:, 0], [168, 198])
    # battery: an hour costs 1 + 6 1 to 1 + 6 4, the second 1 + 6 2 to 1 + 6 4. Least: worth nothing
    # after the last hour, less the most for holding until then. Most: in for 2 (168 + 4 + 4 2) and
    # 2 (198 + 12); kept from the first to the second hour for 25, or saved in the first for 7
    np.testing.assert_allclose(-high[:, 1], [-50, -25])
    np.testing.assert_allclose(-low[:, 1], [420 - 7, 420])
    # backlog: served for 9 + 31 in the first hour, or 51 less in the second; for 9 + 3 2 + 198 in
    # the second, or 51 more in the first
    np.testing.assert_allclose(low[:, 2], [40, 40 - 51])
    np.testing.assert_allclose(high[:, 2], [213 + 51, 213])
    # hydrogen: 10 to 60 for the first hour, 10 + 10 2 to 60 for the second; in for
    # 2 (168 + 6 + 8 3) and 2 (198 + 30)
    np.testing.assert_allclose(-high[:, 3], [-120, -60])
    np.testing.assert_allclose(-low[:, 3], [456 - 10, 456])


def test_intervals_of_stores_that_pay_while_they_hold():
    """Holding earns 26 to 44 in the first hour, 26 to 38 in the second; hydrogen less."""
    intervals = multiplier_intervals(stores(e=-50.0, h=-100.0), 100.0, quadratic=True)
    low, high = (end.reshape(2, 4) for end in intervals)
    # out for 0.8 (31 - 5 - 5 2) in the first hour, and so much less 44 in the second; in for 420 in
    # the second hour, and 44 more in the first
    np.testing.assert_allclose(-high[:, 1], [12.8, 12.8 - 44])
    np.testing.assert_allclose(-low[:, 1], [420 + 44, 420])
    # out for 0.25 31 - 8 - 9 2, in for 456; the first hour earns 50 to 100, the second 50 to 80
    np.testing.assert_allclose(-high[:, 3], [-18.25, -18.25 - 100])
    np.testing.assert_allclose(-low[:, 3], [456 + 100, 456])


def test_bounds_of_reduced_costs_by_hand():
    """At its lower bound a variable has its least marginal cost, at its upper one its most."""
    device = {"generator_mw": 2.0, "generator_cost_eur_per_mwh": 90.0, "demand_peak_mw": 1.5}
    hubs = curved(small_hubs([50.0], [40.0], device), {"m_in": 4.0, "m_out": 2.0, "g": 10.0})
    table = hub_big_m(priced_hubs(hubs, no_grid(hubs), 100.0, quadratic=True), hubs, 100.0).table
    # power is worth 40 - 2 2 to 150 + 4 1.5
    expected = {"m_in": (150 - 36, 0), "m_out": (156 - 40, 0), "g": (90 - 36, 156 - 90 - 20)}
    for name, (down, up) in expected.items():
        assert table["multiplier"][f"lower bound of {name} of hub_1 hour 0"] == down
        assert table["multiplier"][f"upper bound of {name} of hub_1 hour 0"] == up


def test_the_linear_intervals_do_not_hold_with_quadratic_costs():
    """A hub that must import 2 MW: power is worth what the second MW costs."""
    hubs = curved(small_hubs([50.0], [40.0], {"demand_peak_mw": 2.0}), {"m_in": 4.0})
    problem = priced_hubs(hubs, no_grid(hubs), CAP, quadratic=True)
    linear = hub_big_m(priced_hubs(hubs, no_grid(hubs), CAP), hubs, CAP)
    assert linear.equation_high[0] == 50 + CAP
    assert hub_big_m(problem, hubs, CAP).equation_high[0] == 50 + CAP + 8
    dear = replace(problem, lower=np.where(problem.upper == CAP, CAP, 0.0))
    found = solve_bilevel(dear, m=hub_big_m(problem, hubs, CAP))
    assert found.x[0] == pytest.approx(2.0)
    with pytest.raises(Infeasible):
        solve_bilevel(dear, m=linear)


def test_without_growth_it_is_method_c():
    hubs, grid = case(3, 2, 2)
    flat = curved(hubs, 0.0)
    linear, same = priced_hubs(hubs, grid, CAP), priced_hubs(flat, grid, CAP, quadratic=True)
    assert same.follower.q.nnz == linear.follower.q.nnz == 0
    for one, other in ((linear, same), (linear.follower, same.follower)):
        for name, value in vars(one).items():
            if isinstance(value, csr_array):
                np.testing.assert_array_equal(value.toarray(), vars(other)[name].toarray())
            elif isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, vars(other)[name])
    one, other = (hub_big_m(p, h, CAP) for p, h in ((linear, hubs), (same, flat)))
    np.testing.assert_array_equal(one.multiplier, other.multiplier)
    np.testing.assert_array_equal(one.equation_low, other.equation_low)
    np.testing.assert_array_equal(one.equation_high, other.equation_high)


def test_the_diagonal_is_that_of_the_costs():
    hubs, grid = case(1, 2, 3)
    hubs = curved(hubs, {name: 1.0 + k for k, name in enumerate(VARIABLES)})
    q = priced_hubs(hubs, grid, CAP, quadratic=True).follower.q
    np.testing.assert_array_equal(q.toarray(), np.diag(np.tile(np.arange(1.0, 13.0), 6)))


@pytest.mark.parametrize("seed", range(12))
def test_derived_m_loses_nothing_that_special_ordered_sets_keep(seed):
    """SCIP without any M finds the same optimum, and PIQP the same answer to its adders."""
    hubs, grid = case(300 + seed, 1 + seed % 2, 1 + seed // 2 % 3)
    hubs = hubs if seed % 3 else growing(seed, hubs)
    weights = (HEAVY, AdderWeights(), AdderWeights(0.0, 0.0, 0.0))[seed % 3]
    problem = priced_hubs(hubs, grid, CAP, weights, quadratic=True)
    by_m = solve_bilevel(problem, m=hub_big_m(problem, hubs, CAP))
    by_sets = solve_bilevel(problem, "sos1")
    assert by_m.value == pytest.approx(by_sets.value, abs=TOL)
    assert by_m.guessed == 0
    adders = len(hubs) * hubs.hours
    for found in (by_m, by_sets):
        found.certificate.assert_ok()
        if seed % 3:  # with no growth of some costs the answer may be one of several
            adder = found.d[:adders].reshape(len(hubs), -1)
            again = Follower(hubs).objective(grid, weights, adder)
            assert again == pytest.approx(found.value, abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_no_sampled_adders_are_better_and_some_come_near(seed):
    """One hub, three hours: 729 adders, then finer grids around the best one."""
    hubs, grid = case(400 + seed, 1, 3)
    problem = priced_hubs(hubs, grid, CAP, HEAVY, quadratic=True)
    found = solve_bilevel(problem, m=hub_big_m(problem, hubs, CAP))
    follower, step = Follower(hubs), CAP / 8
    tried = {
        adder: follower.objective(grid, HEAVY, np.array([adder]))
        for adder in itertools.product(np.linspace(0, CAP, 9), repeat=3)
    }
    assert min(tried.values()) < tried[0.0, 0.0, 0.0] - 0.01
    while step > 0.01:
        best = min(tried, key=tried.__getitem__)
        step *= 0.6
        for move in itertools.product((-step, 0.0, step), repeat=3):
            adder = tuple(np.clip(np.add(best, move), 0.0, CAP))
            tried[adder] = follower.objective(grid, HEAVY, np.array([adder]))
    least = min(tried.values())
    assert least > found.bound - TOL
    assert least < found.value + 2e-3


def test_answer_is_unique_where_linear_hubs_are_tied():
    """Leaders of any slope at method C's optimal adders: best and worst answer are one."""
    hubs, grid = case(2, 2, 3)
    linear = priced_hubs(hubs, grid, CAP)
    d = solve_bilevel(linear, m=hub_big_m(linear, hubs, CAP), gap=1e-3).d
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=(6, len(linear.follower.c)))
    for quadratic in (False, True):
        follower = priced_hubs(hubs, grid, CAP, quadratic=quadratic).follower
        spread = []
        for slope in slopes:
            free = Bilevel(
                follower, cost=linear.cost, cost_follower=slope, lower=linear.lower,
                upper=linear.upper, names=linear.names,
            )  # fmt: skip
            x = best_answer(free, d)
            optimum = BilevelOptimum(free, d, x, free.value(d, x), 0.0, [], 0)
            spread.append(optimum.pessimistic - optimum.value)
        assert (max(spread) < 1e-3) == quadratic
        assert quadratic or max(spread) > 0.1


def test_a_guessed_m_is_counted_and_one_that_is_too_small_is_seen_only_at_times():
    """The derived M are nearly all needed: with 0.9 of them the optimum is lost, silently."""
    hubs, grid = case(7, 1, 3)
    problem = priced_hubs(hubs, grid, CAP, HEAVY, quadratic=True)
    m = hub_big_m(problem, hubs, CAP)
    right = solve_bilevel(problem, m=m)
    assert not right.alarms
    for size, more in ((1e3, 0.0), (200.0, 0.69)):
        found = solve_bilevel(problem, m=guessed(problem, size))
        assert found.value == pytest.approx(right.value + more, abs=0.01)
        assert found.guessed == len(pairs(problem).names)
        failed = [check.name for check in found.certificate.checks if not check.ok]
        assert failed == ["big-M values without a derivation"]
    for share, alarmed in ((0.9, False), (0.7, True)):
        found = solve_bilevel(problem, m=replace(m, multiplier=share * m.multiplier))
        assert found.value > right.value + 0.5
        assert bool(found.alarms) == alarmed


@pytest.mark.parametrize("seed", range(6))
def test_as_growth_vanishes_the_optimum_is_no_less_than_method_c(seed):
    """The graph of optimal answers is closed; what is lost is of the order of the growth."""
    hubs, grid = case(500 + seed, 1, 1 + seed % 3)
    linear = priced_hubs(hubs, grid, CAP, HEAVY)
    c = solve_bilevel(linear, m=hub_big_m(linear, hubs, CAP)).value
    for growth, less in ((1e-1, 0.3), (1e-3, 0.003)):
        few = curved(hubs, growth)
        problem = priced_hubs(few, grid, CAP, HEAVY, quadratic=True)
        assert solve_bilevel(problem, m=hub_big_m(problem, few, CAP)).value > c - less
