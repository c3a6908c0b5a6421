"""Method D's convex programme: its theorem on random hubs, what breaks it, claims, bad input."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import cvxpy as cp
import numpy as np
import pytest
from hub_cases import (
    TOL,
    grid_congestion,
    limit_rows,
    own_programme,
    random_benchmark,
    random_case,
)
from poster import small_hubs
from scipy.sparse import csr_array, vstack
from test_hub_bilevel_quadratic import Follower, curved, growth_of

from flexlib import DataError, quadratic_pricing
from flexlib.hub_followers import Schedule
from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import many_feeders, reference
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import VARIABLES, Hubs
from flexlib.quadratic_follower import QuadraticFollower
from flexlib.quadratic_pricing import (
    QuadraticHubs,
    hub_follower,
    loaded_rows,
    quadratic_prices,
    quadratic_quotas,
)
from flexlib.quadratic_program import QuadraticSolution, solve_quadratic
from flexlib.solver import solve

CAP = 60.0
FINE = 1e-5  # MW between answers of two interior-point methods


@cache
def case(seed: int) -> tuple[Hubs, HubGrid]:
    """A random case; every second with curvatures of its own for each variable."""
    hubs, grid = random_case(seed)
    if seed % 2:
        sizes = np.random.default_rng(seed).choice([0.3, 4.0, 40.0], len(VARIABLES))
        hubs = curved(hubs, dict(zip(VARIABLES, sizes, strict=True)))
    return hubs, grid


KEPT = "adders up to the cap keep imports within the limits"


def instance(k: int) -> tuple[Hubs, HubGrid, float]:
    """Of every random case three: lines as they are, narrower and wider, each with its own cap."""
    hubs, grid = case(k // 3)
    size = np.random.default_rng(k).uniform(0.8, 1.1, len(grid.lines)) if k % 3 else 1.0
    return hubs, replace(grid, limit_mw=grid.limit_mw * size), (CAP, 5.0, 300.0)[k % 3]


def programme_of(
    hubs: Hubs, grid: HubGrid, exports: np.ndarray, cap: float, rho: float = np.inf
) -> tuple[QuadraticSolution, np.ndarray, Schedule, np.ndarray]:
    """The programme's solution, adders made from its duals here, schedules, slack s."""
    programme = HubProgramme(hubs)
    solution = solve_quadratic(*quadratic_quotas(programme, grid, exports, cap, rho))
    n, columns, hours = exports.size, len(programme.cost), hubs.hours
    dual = -solution.row_dual[len(programme.b) :].reshape(-1, hours)
    assert dual.min(initial=0.0) > -1e-6
    adder = grid.incidence.toarray()[loaded_rows(grid)].T @ dual
    slack = solution.x[columns : columns + n].reshape(exports.shape)
    return solution, adder, Schedule(programme, solution.x[:columns]), slack


def answers(hubs: Hubs, adder: np.ndarray) -> np.ndarray:
    """The hubs' answers from arrays made from the tables, in the library's order."""
    own = Follower(hubs)
    return own.own.back(own.answer(adder))


def import_overload(grid: HubGrid, w_mw: np.ndarray) -> float:
    loading = grid.background + grid.incidence.toarray() @ w_mw
    return float(np.maximum(loading - grid.upper_mw[:, None], 0.0).sum())


def test_theorem_on_210_random_instances():
    """Adders from 0 to D, schedules the hubs' answers, and no overload without slack."""
    cleared = bound = 0
    for seed in range(210):
        hubs, grid, cap = instance(seed)
        rng = np.random.default_rng(seed)
        shape = len(hubs), hubs.hours
        exports = rng.uniform(0, 1, shape) * (rng.random(shape) < 0.3) * (seed % 4 == 3)
        rho = np.inf if seed % 5 else cap * rng.uniform(0.2, 2)
        _, adder, schedule, slack = programme_of(hubs, grid, exports, cap, rho)
        assert adder.min() > -TOL
        assert adder.max() < cap + TOL
        x = answers(hubs, adder)
        w = Schedule(schedule.programme, x).w_mw
        np.testing.assert_allclose(schedule.x, x, atol=2e-3, err_msg=f"seed {seed}")
        free = adder < cap - 1e-3  # slack costs D: where the adder is less there is none
        assert slack[free].max(initial=0.0) < 1e-4
        if free.all() and rho == np.inf:
            answered = Schedule(schedule.programme, x).m_out_mw
            credit = grid.incidence @ np.maximum(exports - answered, 0.0)
            beyond = import_overload(grid, w)
            assert beyond <= credit.sum() + 1e-3
            cleared += not exports.any()
            bound += not exports.any() and adder.max() > 0.1
            if not exports.any():
                assert beyond < 1e-3
    assert cleared > 30
    assert bound > 20


def test_prices_on_120_random_instances():
    """What `quadratic_prices` gives: the hubs' own answer, congestion recomputed, true claims."""
    optimal = capped = 0
    for seed in range(120):
        hubs, grid, cap = instance(seed)
        prices = quadratic_prices(hubs, grid, cap_eur_per_mwh=cap)
        prices.certificate.assert_ok()
        adder = prices.adder_eur_per_mwh
        assert adder.shape == (len(hubs), hubs.hours)
        assert adder.min() >= 0
        assert adder.max() <= cap
        x = answers(hubs, adder)
        np.testing.assert_allclose(prices.answer.x, x, atol=FINE, err_msg=f"seed {seed}")
        congestion = grid_congestion(grid, Schedule(HubProgramme(hubs), x).w_mw)
        assert prices.congestion_mwh == pytest.approx(congestion, abs=1e-3)
        least = 0.0 if seed % 3 else random_benchmark(seed // 3).bound_mwh
        assert congestion > least - 1e-3
        missed = prices.conditions["holds"] == "NO"
        if "is optimal" in prices.claim(least):
            optimal += 1
            assert congestion < least + 1e-3
        else:
            assert prices.congestion_mwh > least
        over = grid.loading_mw(prices.schedule.w_mw) - grid.upper_mw[:, None]
        assert missed[KEPT] == (over.max() > 1e-6)
        capped += missed[KEPT]
        assert not missed["no withdrawal relieves a row"]
        alone = QuadraticHubs(hubs, grid, cap)(np.zeros_like(adder))
        assert prices.congestion_mwh <= alone.congestion_mwh + 1e-6
    assert optimal > 40
    assert capped > 20


@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_the_programme_against_clarabel_on_arrays_of_its_own(seed):
    """Least cost, and schedules where they are unique, with and without overloads in it."""
    hubs, grid = case(seed)
    grid = replace(grid, line_weight=1.7, substation_weight=0.6)
    own = own_programme(hubs)
    c, a, b, lower, upper = own.arrays
    room = limit_rows(own, grid, imports_only=True)[1]
    q, rng = growth_of(own), np.random.default_rng(seed)
    credit = rng.uniform(0, 0.5, own.size)
    incidence = np.vstack([grid.factor.toarray(), np.ones(len(hubs))])
    room = room.reshape(hubs.hours, -1) + (incidence @ credit).T
    weight = np.append(np.full(len(grid.lines), grid.line_weight), grid.substation_weight)
    for rho in (np.inf, CAP / 3):
        x, s, z = cp.Variable(len(c)), cp.Variable(own.size), cp.Variable(room.shape)
        imports = cp.vstack([x[own.at("m_in")[k]] for k in range(len(hubs))])
        rows = [a @ x == b, x >= lower, x <= upper, s >= 0, z >= 0]
        rows.append((imports - s).T @ incidence.T - z <= room)
        beyond = rho * cp.sum(z @ weight) if np.isfinite(rho) else 0.0
        rows += [] if np.isfinite(rho) else [z == 0]
        cost = c @ x + 0.5 * cp.sum_squares(cp.multiply(np.sqrt(q), x)) + CAP * cp.sum(s) + beyond
        found = solve(cp.Problem(cp.Minimize(cost), rows))
        solution, *_ = programme_of(hubs, grid, credit, CAP, rho)
        assert solution.objective == pytest.approx(found.objective, rel=1e-6, abs=1e-4)
        np.testing.assert_allclose(
            own.of(solution.x[: len(c)]), x.value, atol=5e-3, err_msg=f"seed {seed}"
        )


def test_overloads_dearer_than_the_cap_are_not_used():
    """With rows of zeros and ones: slack of one hub relieves what an overload does, or more."""
    used = 0
    for seed in range(40):
        hubs, grid = case(seed)
        grid = replace(grid, line_weight=1.0, substation_weight=1.0)
        none = np.zeros((len(hubs), hubs.hours))
        hard = programme_of(hubs, grid, none, 5.0)[0]
        for rho in (5.0, 7.0, 500.0):
            soft = programme_of(hubs, grid, none, 5.0, rho)[0]
            assert soft.objective == pytest.approx(hard.objective, rel=1e-6)
            count = len(HubProgramme(hubs).cost)
            np.testing.assert_allclose(soft.x[:count], hard.x[:count], atol=1e-3)
        cheap = programme_of(hubs, grid, none, 5.0, 1.0)[0].objective
        used += cheap < hard.objective - 1e-3
    assert used > 10


def test_a_withdrawal_that_relieves_a_row_breaks_the_theorem(monkeypatch):
    """Refused by name; forced through, there are adders below 0 or schedules nobody answers."""
    broken = 0
    for seed in range(1, 40):
        hubs, grid = case(seed)
        if len(hubs) < 2:
            continue
        factor = grid.factor.toarray()
        factor[0] = np.where(np.arange(len(hubs)) == 0, -1.0, 1.0)
        limit = np.full(len(grid.lines), 1e3)
        limit[0] = 0.3
        other = replace(grid, factor=csr_array(factor), limit_mw=limit, import_mw=1e3)
        name = f"row {grid.lines[0]}, column factor of {hubs.table['hub'][0]}: found -1"
        with pytest.raises(DataError, match=name):
            quadratic_prices(hubs, other)
        with monkeypatch.context() as patch:
            patch.setattr(quadratic_pricing, "assert_nonnegative", lambda *_: None)
            none = np.zeros((len(hubs), hubs.hours))
            _, adder, schedule, _ = programme_of(hubs, other, none, CAP)
        prices = QuadraticHubs(hubs, other, CAP)(np.clip(adder, 0.0, CAP))
        assert prices.conditions.loc["no withdrawal relieves a row", "holds"] == "NO"
        broken += adder.min() < -1.0 and np.abs(schedule.x - prices.answer.x).max() > 1e-2
    assert broken > 5


def test_credit_for_exports_that_are_not_answered_breaks_the_theorem():
    """No slack, and rows overloaded by what was promised: see the first test for how much."""
    broken = 0
    for seed in range(60):
        hubs, grid = case(seed)
        exports = np.full((len(hubs), hubs.hours), 0.5)
        _, adder, schedule, slack = programme_of(hubs, grid, exports, CAP)
        if slack.max() < 1e-6 and adder.max() < CAP - 1e-3:
            broken += import_overload(grid, schedule.w_mw) > 0.1
    assert broken > 10


def test_a_low_cap_withdraws_the_claim():
    broken = named = 0
    for seed in range(40):
        hubs, grid = case(seed)
        least = random_benchmark(seed).bound_mwh
        enough = quadratic_prices(hubs, grid, cap_eur_per_mwh=300.0)
        if "is optimal" not in enough.claim(least):
            continue
        peak = float(enough.adder_eur_per_mwh.max())
        if peak < 1.0:
            continue
        low = quadratic_prices(hubs, grid, cap_eur_per_mwh=peak / 4)
        if low.congestion_mwh > least + 1e-3:
            broken += 1
            assert low.claim(least).startswith("Optimality is not claimed")
            named += f"Not met: {KEPT}" in low.claim(least)
    assert broken > 10
    assert named > 0.8 * broken  # where nothing but reverse limits is exceeded, these are named


def test_a_reverse_limit_is_not_priced_and_said_so():
    """Exports beyond the limit: no adder on imports helps, and the condition is not met."""
    hubs, grid = reference(3, 24)
    narrow = replace(grid, export_mw=0.1)
    prices = quadratic_prices(hubs, narrow)
    loading = narrow.loading_mw(prices.schedule.w_mw)[-1]
    assert (-loading).max() > 0.2
    row = prices.conditions.loc["no reverse limit is exceeded"]
    assert row["holds"] == "NO"
    assert row["value"] == pytest.approx((-loading).max() - 0.1, abs=1e-6)
    assert "no reverse limit is exceeded" in prices.claim()


@pytest.mark.parametrize("seed", range(8))
def test_no_adders_of_a_grid_of_prices_beat_a_claim(seed):
    """One hub, two or three hours: every adder from 0 to D in steps."""
    hubs, grid = random_case(1000 + seed)
    hubs = hubs.only(slice(0, 1), slice(0, 2 + seed % 2))
    rng = np.random.default_rng(seed)
    tight = replace(
        grid, factor=csr_array(np.ones((1, 1))), lines=["line"],
        background_mw=rng.uniform(0, 0.2, (1, hubs.hours)), limit_mw=np.ones(1) * 1e3,
    )  # fmt: skip
    alone = QuadraticHubs(hubs, tight, CAP)
    none = alone(np.zeros((1, hubs.hours)))
    tight = replace(tight, import_mw=float(none.schedule.w_mw.max()) * (0.9 if seed % 4 else 0.5))
    alone, prices = QuadraticHubs(hubs, tight, CAP), quadratic_prices(hubs, tight)
    step = np.linspace(0, CAP, 13 if hubs.hours == 2 else 7)
    least = min(
        alone(np.array([adder])).congestion_mwh
        for adder in itertools.product(step, repeat=hubs.hours)
    )
    if not prices.conditions["holds"].eq("NO").any():
        assert prices.congestion_mwh < 1e-6
    if "is optimal" in prices.claim():
        assert least >= prices.congestion_mwh - 1e-6
    # A hub's imports of two hours cannot be ordered: at most a step of the grid is missed.
    assert prices.congestion_mwh <= least + 0.05 * max(none.congestion_mwh, 1e-3)


def test_rows_without_hubs_or_without_limit_change_nothing_but_the_congestion():
    hubs, grid = case(4)
    other = replace(
        grid,
        lines=[*grid.lines, "through", "endless"],
        factor=csr_array(vstack([grid.factor, csr_array((1, len(hubs))), grid.factor[[0]]])),
        background_mw=np.vstack([grid.background_mw, np.ones(hubs.hours), np.ones(hubs.hours)]),
        limit_mw=np.append(grid.limit_mw, [0.75, np.inf]),
    )
    assert set(range(len(grid.lines) + 3)) - set(loaded_rows(other)) == {
        len(grid.lines), len(grid.lines) + 1
    }  # fmt: skip
    first, second = quadratic_prices(hubs, grid), quadratic_prices(hubs, other)
    assert first.congestion_mwh < 1e-5
    np.testing.assert_allclose(second.schedule.w_mw, first.schedule.w_mw, atol=1e-3)
    more = 0.25 * hubs.hours * grid.line_weight
    assert second.congestion_mwh == pytest.approx(more, abs=1e-3)
    assert "is optimal" in second.claim(second.congestion_mwh)
    assert "is optimal" not in second.claim()


def test_hubs_as_one_follower():
    """Equations, bounds and costs of the tables; the adders on imports alone."""
    hubs, _ = case(3)
    programme, own = HubProgramme(hubs), own_programme(hubs)
    f = hub_follower(programme)
    np.testing.assert_allclose(own.of(f.c), own.arrays[0])
    np.testing.assert_allclose(own.of(f.lower), own.arrays[3])
    np.testing.assert_allclose(own.of(f.upper), own.arrays[4])
    np.testing.assert_allclose(own.of(f.q.diagonal()), growth_of(own))
    assert f.q.nnz == len(f.c)
    adder = np.random.default_rng(0).uniform(0, 9, (len(hubs), hubs.hours))
    np.testing.assert_allclose(own.of(f.c + f.c_leader @ adder.ravel()), own.cost(adder))
    assert not len(f.h)


@pytest.mark.parametrize(("level", "unpriced"), [(0.6, 21.2), (0.5, 44.7)])
def test_the_reference_instance(level, unpriced):
    hubs, grid = reference(3, 24, level)
    prices = quadratic_prices(hubs, grid)
    prices.certificate.assert_ok()
    none = QuadraticHubs(hubs, grid, CAP)(np.zeros((3, 24)))
    assert round(none.congestion_mwh, 1) == unpriced
    if level == 0.6:
        assert prices.congestion_mwh < 1e-6
        assert (prices.conditions["holds"] == "yes").all()
        assert "is optimal" in prices.claim()
    else:
        assert 0.3459 < prices.congestion_mwh < 0.1 * unpriced
        assert prices.claim(0.3459).startswith("Optimality is not claimed")


def test_twenty_feeders():
    """Rows of sixty hubs, trunks and a substation."""
    hubs, grid = many_feeders(20, 0.6)
    prices = quadratic_prices(hubs, grid)
    prices.certificate.assert_ok()
    none = QuadraticHubs(hubs, grid, CAP)(np.zeros((60, 24)))
    assert none.congestion_mwh > 100
    assert prices.congestion_mwh < 1e-3 * none.congestion_mwh
    x = answers(hubs, prices.adder_eur_per_mwh)
    np.testing.assert_allclose(prices.answer.x, x, atol=FINE)


def test_the_certificate_fails_for_adders_out_of_range_and_other_answers():
    hubs, grid = case(2)
    prices = quadratic_prices(hubs, grid)
    good = prices.adder_eur_per_mwh

    def failed(**parts: object) -> list[str]:
        return [c.name for c in replace(prices, **parts).certificate.checks if not c.ok]

    assert not failed()
    assert failed(adder_eur_per_mwh=good - good - 1e-3) == ["adder outside 0 and the cap"]
    assert failed(adder_eur_per_mwh=good + CAP) == ["adder outside 0 and the cap"]
    assert failed(cap_eur_per_mwh=float(good.max()) / 2) == ["adder outside 0 and the cap"]
    column = HubProgramme(hubs).column("u")[0, 0]
    x = prices.answer.x.copy()
    x[column] += 1e-3
    assert "balance" in failed(answer=replace(prices.answer, x=x))


def test_bad_input_is_named():
    hubs, grid = case(2)
    for cap, found in ((0.0, "0"), (-3.0, "-3"), (np.nan, "nan"), (np.inf, "inf")):
        with pytest.raises(DataError, match=f"cap_eur_per_mwh: found {found}, expected a number"):
            quadratic_prices(hubs, grid, cap_eur_per_mwh=cap)
    flat = curved(hubs, dict.fromkeys(VARIABLES, 4.0) | {"p_ch": 0.0})
    with pytest.raises(DataError, match="curvature 0 of p_ch of hub_1 hour 0, expected above 0"):
        quadratic_prices(flat, grid)
    with pytest.raises(DataError, match="quadratic_eur_per_mwh_per_mw"):
        curved(hubs, dict.fromkeys(VARIABLES, 4.0) | {"p_ch": -1.0})  # at the door of the hubs
    longer = case(3 if len(case(3)[0]) != len(hubs) else 4)[1]
    with pytest.raises(DataError, match="as in the hubs"):
        quadratic_prices(hubs, longer)


def test_without_curvature_uniqueness_would_be_false():
    """What the refusal guards: two answers of one hub to the same adders."""
    hubs, grid = case(2)
    flat = curved(hubs, dict.fromkeys(VARIABLES, 0.0))
    with pytest.raises(DataError, match="without curvature the answer need not be unique"):
        QuadraticHubs(flat, grid, CAP)
    with pytest.raises(DataError):
        QuadraticFollower(hub_follower(HubProgramme(flat)))
    load = {"flexible_load_mw": 1.0, "flexible_load_max_factor": 2.0, "backlog_max_mwh": 3.0}
    own = own_programme(curved(small_hubs([50.0] * 2, [40.0] * 2, load), 0.0))
    early, late = np.zeros(24), np.zeros(24)
    early[own.at("m_in")[0]], late[own.at("m_in")[0]] = [0.0, 1e-3], [1e-3, 0.0]
    first, second = (own.minimum(own.cost(7.0) + way) for way in (early, late))
    assert own.cost(7.0) @ first == pytest.approx(own.cost(7.0) @ second)
    np.testing.assert_allclose(first[own.at("m_in")[0]], [1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(second[own.at("m_in")[0]], [0.0, 2.0], atol=1e-6)
