"""The door to the solver: optima, signs, bounds, and what it raises."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
from bilevel_problems import load
from feeders import STABLE
from hypothesis import given
from hypothesis import strategies as st
from programs import INF, diet, program, random_program
from scipy.optimize import linprog
from scipy.sparse import csr_array

from flexlib import Infeasible, NotProven, SolveError, Unbounded, solve, solver
from flexlib.bilevel_big_m import big_m
from flexlib.bilevel_duality import on_menu, with_strong_duality
from flexlib.bilevel_kkt import kkt_system
from flexlib.bilevel_readings import first_value
from flexlib.bilevel_solve import with_reach
from flexlib.linear_program import LinearProgram
from flexlib.solver import conflicting_rows


def test_known_linear_optimum_and_its_duals() -> None:
    solution = solve(diet())
    np.testing.assert_allclose(solution.x, [2, 0, 8], atol=1e-9)
    assert solution.objective == pytest.approx(1000 - 280)
    assert solution.bound == pytest.approx(solution.objective)
    np.testing.assert_allclose(solution.row_dual, [0, -10, -10], atol=1e-9)
    assert all(check.ok for check in solution.checks)


def test_known_integer_optimum() -> None:
    # Knapsack: 3 of weight 4 and value 10, 11, 13 beside one of weight 5: take the value.
    values, weights = [10, 13, 7, 8, 2], [3, 4, 2, 3, 1]
    solution = solve(program([-v for v in values], [weights], [-INF], [7], 0, 1, [True] * 5))
    best = min(
        -sum(values[k] for k in chosen)
        for size in range(6)
        for chosen in combinations(range(5), size)
        if sum(weights[k] for k in chosen) <= 7
    )
    assert solution.objective == pytest.approx(best)
    assert solution.bound == pytest.approx(best)
    assert np.isnan(solution.row_dual).all()


@STABLE
@given(st.integers(0, 2**32 - 1))
def test_optimum_of_another_solver_and_duals_as_slopes(seed: int) -> None:
    problem = random_program(seed)
    ours = solve(problem)
    a = problem.a.toarray()
    both = np.vstack([a, -a]), np.concatenate([problem.row_upper, -problem.row_lower])
    finite = np.isfinite(both[1])
    bounds = np.column_stack([problem.lower, problem.upper])
    other = linprog(problem.c, both[0][finite], both[1][finite], bounds=bounds)
    assert ours.objective == pytest.approx(other.fun + problem.offset, abs=1e-6)
    assert ours.bound == pytest.approx(ours.objective, abs=1e-7)
    # A dual is the change of the objective for one unit more on the row's limits.
    step = 1e-6
    for row in range(len(problem.row_names)):
        shift = np.zeros(len(problem.row_names))
        shift[row] = step
        moved = [
            solve(
                replace(
                    problem,
                    row_lower=problem.row_lower + sign * shift,
                    row_upper=problem.row_upper + sign * shift,
                )
            ).objective
            for sign in (1, -1)
        ]
        assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(ours.row_dual[row], abs=1e-4)


# --------------------------------------------------------------------------------------------
# Refusals


def feasible(problem: LinearProgram, rows: list[int]) -> bool:
    a = problem.a.toarray()[rows]
    both = (
        np.vstack([a, -a]),
        np.concatenate([problem.row_upper[rows], -problem.row_lower[rows]]),
    )
    finite = np.isfinite(both[1])
    bounds = np.column_stack([problem.lower, problem.upper])
    return linprog(0 * problem.c, both[0][finite], both[1][finite], bounds=bounds).status == 0


@STABLE
@given(st.integers(0, 2**32 - 1))
def test_infeasible_names_an_irreducible_set(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain = random_program(seed)
    # Two rows that point against each other, among rows that can hold.
    normal = rng.normal(size=len(plain.c))
    nearly = normal + 0.01 * rng.normal(size=len(normal))
    problem = replace(
        plain,
        a=csr_array(np.vstack([plain.a.toarray(), normal, nearly])),
        row_lower=np.concatenate([plain.row_lower, [1.0, -INF]]),
        row_upper=np.concatenate([plain.row_upper, [INF, -1.0]]),
        row_names=[*plain.row_names, "above", "below"],
    )
    with pytest.raises(Infeasible) as error:
        solve(problem)
    named = [problem.row_names.index(name) for name in error.value.conflict]
    assert named
    assert len(set(named)) == len(named)
    assert not feasible(problem, named)
    for one in named:
        assert feasible(problem, [row for row in named if row != one])
    assert all(name in str(error.value) for name in error.value.conflict[:8])


def test_a_row_against_the_bounds_of_its_variables_is_named() -> None:
    with pytest.raises(Infeasible) as error:
        solve(program([1, 1], [[1, 1], [1, -1]], [5, -INF], [INF, 1], 0, 2))
    assert error.value.conflict == ("row 0",)


def test_an_infeasible_integer_programme() -> None:
    with pytest.raises(Infeasible) as error:
        solve(program([1], [[2.0]], [1], [1], -5, 5, [True]))
    assert error.value.conflict == ("row 0",)


def test_an_integer_conflict_names_no_row_that_plays_no_part() -> None:
    rows = [[2.0, 0.0], [0.0, 1.0]]
    problem = program([1, 1], rows, [1, 0], [1, 3], -5, 5, [True, True])
    with pytest.raises(Infeasible) as error:
        solve(problem)
    assert error.value.conflict == ("row 0",)
    assert conflicting_rows(problem) == ["row 0"]


@pytest.mark.parametrize("integer", [False, True])
def test_unbounded(integer: bool) -> None:
    with pytest.raises(Unbounded):
        solve(program([-1, 0], [[1, -1]], [-INF], [1], 0, INF, [integer] * 2))


@pytest.mark.parametrize("integer", [False, True])
def test_infeasible_though_its_objective_has_no_bound(integer: bool) -> None:
    rows = [[1, -1, 0], [0, 0, 1], [0, 0, 1]]
    with pytest.raises(Infeasible) as error:
        solve(program([-1, 0, 0], rows, [-INF, 2, -INF], [1, INF, 1], 0, INF, [integer] * 3))
    assert set(error.value.conflict) == {"row 1", "row 2"}


def market_split(rows: int = 5, seed: int = 1) -> LinearProgram:
    """Cornuejols and Dawande's market split: small, and far beyond branch and bound."""
    rng = np.random.default_rng(seed)
    columns = 10 * (rows - 1)
    a = rng.integers(0, 100, (rows, columns)).astype(float)
    rhs = a.sum(axis=1) // 2
    slack = np.hstack([np.eye(rows), -np.eye(rows)])
    return program(
        [0.0] * columns + [1.0] * 2 * rows, np.hstack([a, slack]).tolist(), rhs, rhs, 0,
        [1.0] * columns + [INF] * 2 * rows, [True] * columns + [False] * 2 * rows,
    )  # fmt: skip


def test_a_time_limit_carries_bound_and_incumbent() -> None:
    with pytest.raises(NotProven, match=r"time limit of 0\.5 s") as error:
        solve(market_split(), time_limit_s=0.5)
    assert error.value.bound < error.value.incumbent
    assert error.value.bound >= 0
    assert np.isfinite(error.value.incumbent)
    assert f"{error.value.incumbent:.9g}" in str(error.value)


def test_a_time_limit_before_any_point() -> None:
    with pytest.raises(NotProven) as error:
        solve(market_split(), time_limit_s=1e-9)
    assert error.value.incumbent > error.value.bound or error.value.incumbent == INF


def test_not_a_number_in_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="c of x0 is not a number"):
        solve(program([np.nan, 1], [[1, 1]], [1], [2], 0, 5))


def test_the_same_twice() -> None:
    one, two = (solve(random_program(3)) for _ in range(2))
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.row_dual, two.row_dual)


# --------------------------------------------------------------------------------------------
# Pyomo models


def test_pyomo_kinds_of_rows_and_variables() -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-3, 8))
    m.y = pyo.Var(domain=pyo.NonNegativeReals)
    m.n = pyo.Var(domain=pyo.Integers, bounds=(0, 9))
    m.b = pyo.Var(domain=pyo.Binary)
    m.held = pyo.Var(initialize=2.0)
    m.held.fix()
    m.range = pyo.Constraint(expr=pyo.inequality(1, m.x + m.y, 4))
    m.equal = pyo.Constraint(expr=m.y - m.n + 0.5 == m.held)
    m.upper = pyo.Constraint(expr=m.x + 3 * m.held <= 7.5)
    m.lower = pyo.Constraint(expr=m.n + 10 * m.b >= 2.2)
    m.cost = pyo.Objective(expr=-2 * m.x + m.n + 4 * m.b + 5 * m.held + 7)
    solution = solve(m)
    # x <= 1.5, y = n + 1.5, x + y <= 4; n = 0 or 1 need b; b costs 4, n >= 3 makes y >= 4.5.
    best = min(
        (-2 * x + n + 4 * b + 17, x, n, b)
        for n in range(10)
        for b in (0, 1)
        for x in [min(1.5, 4 - (n + 1.5))]
        if n + 10 * b >= 2.2 and x >= -3 and x + n + 1.5 >= 1
    )
    assert solution.objective == pytest.approx(best[0])
    assert [m.x.value, m.n.value, m.b.value] == pytest.approx(best[1:])
    assert m.y.value == pytest.approx(m.n.value + 1.5)
    assert pyo.value(m.cost) == pytest.approx(solution.objective)
    assert m.held.value == 2.0


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_both_sides_of_a_pyomo_range_bind(side: str) -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var()
    m.row = pyo.Constraint(expr=pyo.inequality(-2, m.x, 5))
    m.cost = pyo.Objective(expr=m.x if side == "lower" else -m.x)
    solve(m)
    assert m.x.value == pytest.approx(-2 if side == "lower" else 5)


def test_pyomo_bounds_are_kept() -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var([1, 2], bounds=lambda m, k: (-k, None))
    m.row = pyo.Constraint(expr=m.x[1] + m.x[2] >= -100)
    m.cost = pyo.Objective(expr=m.x[1] + m.x[2])
    assert solve(m).objective == pytest.approx(-3)


def test_pyomo_names_its_rows_in_a_conflict() -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var([1, 2])
    m.high = pyo.Constraint([1, 2], rule=lambda m, k: m.x[k] >= 3)
    m.low = pyo.Constraint(expr=m.x[2] <= 2)
    m.cost = pyo.Objective(expr=m.x[1])
    with pytest.raises(Infeasible) as error:
        solve(m)
    assert set(error.value.conflict) == {"high[2]", "low"}


def test_a_pyomo_row_of_fixed_variables_that_does_not_hold() -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 1))
    m.held = pyo.Var()
    m.held.fix(5)
    m.row = pyo.Constraint(expr=m.held <= 2)
    m.other = pyo.Constraint(expr=m.x >= 0.5)
    m.cost = pyo.Objective(expr=m.x)
    with pytest.raises(Infeasible, match="row"):
        solve(m)


def test_a_pyomo_maximisation_is_not_taken_for_a_minimisation() -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 4))
    m.row = pyo.Constraint(expr=2 * m.x <= 6)
    m.gain = pyo.Objective(expr=5 * m.x + 1, sense=pyo.maximize)
    try:
        solution = solve(m)
    except (ValueError, TypeError, SolveError):
        return  # refused: only minimisations are promised
    assert m.x.value == pytest.approx(3)
    assert solution.objective == pytest.approx(16)


def test_a_wider_gap_is_accepted_and_stated() -> None:
    problem = market_split(rows=3)
    exact, loose = solve(problem), solve(problem, gap=0.5)
    assert loose.objective >= exact.objective
    gaps = [check for check in loose.checks if "gap" in check.name]
    assert gaps[0].tolerance == 0.5
    assert gaps[0].value <= 0.5


@pytest.mark.parametrize("kind", ["kInfeasible", "kUnboundedOrInfeasible"])
def test_an_undecided_status_without_a_cost_is_infeasible(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # HiGHS may leave it open; the second look, without a cost, must not ask again for ever
    problem = program([-1], [[1], [1]], [2, -INF], [INF, 1])
    run = solver._run

    def undecided(problem: LinearProgram, *rest):  # type: ignore[no-untyped-def]
        highs, status = run(problem, *rest)
        infeasible = highspy.HighsModelStatus.kInfeasible
        return highs, getattr(highspy.HighsModelStatus, kind) if status == infeasible else status

    monkeypatch.setattr(solver, "_run", undecided)
    with pytest.raises(Infeasible) as error:
        solve(problem)
    assert set(error.value.conflict) == {"row 0", "row 1"}


# --------------------------------------------------------------------------------------------
# Starts, what is watched, and answers of HiGHS that are wrong


def knapsack(size: int = 60, seed: int = 3) -> LinearProgram:
    """Several capacities, so that proof takes a while; nothing taken is feasible."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(10, 60, (5, size)).astype(float)
    values = weights.sum(axis=0) + rng.integers(0, 20, size)
    return program(
        -values, weights.tolist(), [-INF] * 5, weights.sum(axis=1) // 3, 0, 1, [True] * size
    )  # fmt: skip


def greedy(problem: LinearProgram) -> np.ndarray:
    """Items in order as long as they fit."""
    x, a = np.zeros(len(problem.c)), problem.a.toarray()
    for j in np.argsort(problem.c / a.sum(axis=0)):
        x[j] = 1.0
        if (a @ x > problem.row_upper).any():
            x[j] = 0.0
    return x


def test_a_start_is_used() -> None:
    problem = knapsack()
    x = greedy(problem)
    # without a start, no time gives no incumbent
    with pytest.raises(NotProven) as error:
        solve(problem, time_limit_s=1e-9)
    assert error.value.incumbent == INF
    assert error.value.x is None
    with pytest.raises(NotProven) as error:
        solve(problem, time_limit_s=1e-9, start=x)
    assert error.value.incumbent <= problem.c @ x + 1e-6
    assert error.value.bound <= error.value.incumbent
    assert problem.c @ error.value.x == pytest.approx(error.value.incumbent)
    assert (problem.a @ error.value.x <= problem.row_upper + 1e-6).all()


def test_a_start_does_not_move_the_optimum() -> None:
    problem = knapsack(size=20)
    best = solve(problem)
    for x in (np.zeros(20), greedy(problem), best.x):
        assert solve(problem, start=x).objective == pytest.approx(best.objective)


def test_bound_and_incumbent_are_watched() -> None:
    problem = knapsack(size=45)
    seen: list[tuple[float, float]] = []
    found = solve(problem, watch=lambda bound, incumbent: seen.append((bound, incumbent)))
    assert len(seen) > 1
    bounds, incumbents = np.array(seen).T
    assert (np.diff(bounds[np.isfinite(bounds)]) >= -1e-6).all()
    assert (np.diff(incumbents) <= 1e-6).all()
    assert bounds[-1] <= found.objective + 1e-6
    assert incumbents[-1] >= found.objective - 1e-6


def test_what_is_not_proven_carries_its_point() -> None:
    with pytest.raises(NotProven) as error:
        solve(market_split(), time_limit_s=0.5)
    x, problem = error.value.x, market_split()
    assert x is not None
    assert problem.c @ x == pytest.approx(error.value.incumbent)
    np.testing.assert_allclose(problem.a @ x, problem.row_lower, atol=1e-5)


def test_a_feasible_programme_that_presolve_finds_infeasible_is_solved() -> None:
    # Binaries with upper bounds below 1, as come from bounds on products: HiGHS 1.15 with presolve
    # says infeasible. The programme is Yue et al. 2019, by strong duality on a menu: optimum -20.
    p = load()["yue_2019_toy2_leader_integer"].arrays
    menu, _ = on_menu(p, {0: np.arange(p.lower[0], p.upper[0] + 1)})
    system = with_reach(kkt_system(menu, big_m(menu, first_value(menu))), menu)
    upper = system.upper.copy()
    upper[11:15] = [0.90909091, 0.83333333, 0.76923077, 0.71428571]
    problem = with_strong_duality(replace(system, upper=upper), menu)
    assert problem.integer[11:15].all()
    rounded = np.where(problem.integer, np.floor(problem.upper), problem.upper)
    for same in (problem, replace(problem, upper=rounded)):
        assert solve(same).objective == pytest.approx(-20, abs=1e-5)
