"""Method D exactly: what the cut keeps and cuts off, and the optimum against other ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hub_cases import TOL
from test_hub_bilevel import CAP, HEAVY, case
from test_hub_bilevel_quadratic import Follower, curved, growing

from flexlib import DataError, Infeasible, NotProven
from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import kkt_system
from flexlib.bilevel_solve import solve_bilevel
from flexlib.hub_bilevel import decision, hub_big_m, priced_hubs
from flexlib.hub_followers import Schedule
from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import reference
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.pricing_inverse import AdderWeights
from flexlib.quadratic_exact import exact_quadratic_prices, quadratic_bound, with_tangents
from flexlib.solver import solve

ROOM = 1e-6  # MW or MWh, in which an answer is held


def allowed(problem: Bilevel, hubs: Hubs, d: np.ndarray, x: np.ndarray, tangents: int) -> bool:
    """Whether some multipliers and squares make a point of the cut with given d and x."""
    system = with_tangents(kkt_system(problem, hub_big_m(problem, hubs, CAP)), problem, tangents)
    both = np.concatenate([d, x])
    lower, upper = system.lower.copy(), system.upper.copy()
    lower[: len(both)], upper[: len(both)] = both - ROOM, both + ROOM
    lower[: len(d)], upper[: len(d)] = d, np.maximum(d, d + ROOM * (d > 0))
    try:
        solve(replace(system, c=np.zeros(len(system.c)), lower=lower, upper=upper))
    except Infeasible:
        return False
    return True


@pytest.mark.parametrize("seed", range(8))
def test_answers_are_kept_and_what_no_hub_would_do_is_cut_off(seed):
    """Adders at 0 or the cap, where envelopes are exact; each hub in turn answers the opposite."""
    rng = np.random.default_rng(seed)
    hubs, grid = case(600 + seed, 1 + seed % 3, 2)
    hubs = growing(seed, hubs) if seed > 4 else hubs
    problem = priced_hubs(hubs, grid, CAP, quadratic=True)
    follower, shape = Follower(hubs), (len(hubs), 2)
    adder = CAP * rng.integers(0, 2, shape)
    x = follower.own.back(follower.answer(adder))
    d, _ = decision(grid, adder, Schedule(HubProgramme(hubs), x))
    for tangents in (2, 9, 65):
        assert allowed(problem, hubs, d, x, tangents)
    moved = 0
    for hub in range(len(hubs)):
        other = adder.copy()
        other[hub] = CAP - other[hub]
        y = follower.own.back(follower.answer(other))
        d, _ = decision(grid, adder, Schedule(HubProgramme(hubs), y))
        f = problem.follower
        regret = f.cost(d, y) - f.cost(d, x)
        if regret > 1.0:  # EUR
            moved += 1
            assert not allowed(problem, hubs, d, y, 257)
    assert moved or seed == 4  # whose answers are the same at both ends


@pytest.mark.parametrize("seed", range(8))
def test_against_method_d_without_the_cut(seed):
    hubs, grid = case(700 + seed, 1 + seed % 2, 1 + seed // 2 % 3)
    hubs = growing(seed, hubs) if seed % 2 else hubs
    weights = (HEAVY, AdderWeights(), AdderWeights(0.0, 0.0, 0.0))[seed % 3]
    found = exact_quadratic_prices(hubs, grid, cap_eur_per_mwh=CAP, weights=weights, gap=1e-6)
    found.certificate.assert_ok()
    problem = priced_hubs(hubs, grid, CAP, weights, quadratic=True)
    other = solve_bilevel(problem, m=hub_big_m(problem, hubs, CAP))
    assert found.value == pytest.approx(other.value, abs=TOL)
    assert quadratic_bound(hubs, grid, cap_eur_per_mwh=CAP, weights=weights) < found.value + TOL


def test_tangents_touch_squares_from_bound_to_bound():
    """With three of them: at both bounds and in the middle, furthest away between these."""
    hubs, grid = case(1, 2, 2)
    problem = priced_hubs(hubs, grid, CAP, quadratic=True)
    f, k = problem.follower, len(problem.cost)
    system = with_tangents(kkt_system(problem, hub_big_m(problem, hubs, CAP)), problem, 3)
    n = len(f.c)
    assert f.q.nnz == n
    tail = slice(len(system.row_names) - 3 * n, None)
    assert system.row_names[tail] == 3 * system.column_names[-n:]
    assert system.column_names[-1] == f"square of {f.names[-1]}"
    np.testing.assert_array_equal(system.a[tail, -n:].toarray(), np.vstack([np.eye(n)] * 3))
    slope, span = system.a[tail, k : k + n], f.upper - f.lower
    for share, less in ((0.0, 0.0), (0.25, 0.25), (0.5, 0.0), (0.75, 0.25), (1.0, 0.0)):
        x = f.lower + share * span
        least = (system.row_lower[tail] - slope @ x).reshape(3, n).max(axis=0)
        np.testing.assert_allclose(least, x**2 - (less * span) ** 2, atol=1e-12)


def test_more_tangents_bound_more():
    hubs, grid = reference(1, 6, 0.6)
    problem = priced_hubs(hubs, grid, CAP, quadratic=True)
    system = kkt_system(problem, hub_big_m(problem, hubs, CAP))
    bounds = [solve(with_tangents(system, problem, n)).bound for n in (2, 3, 9, 65)]
    assert (np.diff(bounds) > 0).all()
    assert bounds[-1] - bounds[-2] < 0.1 * (bounds[1] - bounds[0])


@pytest.mark.parametrize("level", [0.6, 0.5])
def test_one_hub_and_six_hours(level):
    """Exact D and both bounds; HiGHS with M finds the same. D is near C's 1.5999 at 0.6."""
    hubs, grid = reference(1, 6, level)
    found = exact_quadratic_prices(hubs, grid)
    found.certificate.assert_ok()
    problem = priced_hubs(hubs, grid, CAP, quadratic=True)
    by_m = solve_bilevel(problem, m=hub_big_m(problem, hubs, CAP), gap=1e-3)
    assert by_m.value == pytest.approx(found.value, rel=2e-3)
    if level == 0.6:
        assert round(found.value, 4) == 1.5955
    assert 0.85 * found.value < quadratic_bound(hubs, grid) < found.bound + TOL


def test_a_time_limit_leaves_bound_incumbent_decision_and_answer():
    hubs, grid = reference(2, 6, 0.6)
    seen = []
    with pytest.raises(NotProven) as error:
        exact_quadratic_prices(
            hubs, grid, time_limit_s=2.0, watch=lambda bound, best: seen.append((bound, best))
        )
    problem = priced_hubs(hubs, grid, CAP, quadratic=True)
    assert quadratic_bound(hubs, grid) - TOL < error.value.bound <= error.value.incumbent
    assert seen
    if error.value.x is not None:
        d, x = np.split(error.value.x, [len(problem.cost)])
        assert len(x) == len(problem.follower.c)
        assert problem.value(d, x) == pytest.approx(error.value.incumbent, abs=TOL)


def test_hubs_without_growth_have_method_c():
    hubs, grid = case(3, 1, 3)
    flat, linear = curved(hubs, 0.0), priced_hubs(hubs, grid, CAP, HEAVY)
    found = exact_quadratic_prices(flat, grid, weights=HEAVY, gap=1e-6)
    c = solve_bilevel(linear, m=hub_big_m(linear, hubs, CAP))
    assert found.value == pytest.approx(c.value, abs=TOL)


def test_what_is_no_cap_or_weight_or_grid_is_named():
    hubs, grid = case(0, 1, 2)
    other: HubGrid = case(0, 2, 2)[1]
    for wrong in ({"cap_eur_per_mwh": -1.0}, {"weights": AdderWeights(level=-1.0)}):
        with pytest.raises(DataError, match="priced_hubs"):
            exact_quadratic_prices(hubs, grid, **wrong)
        with pytest.raises(DataError, match="priced_hubs"):
            quadratic_bound(hubs, grid, **wrong)
    with pytest.raises(DataError, match=r"found 2 hubs, expected 1"):
        exact_quadratic_prices(hubs, other)
