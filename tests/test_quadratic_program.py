"""Quadratic programmes: against Clarabel, closed forms, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from programs import INF, program
from scipy.sparse import csr_array, diags_array, eye_array

from flexlib import DataError, Infeasible, NotProven, SolveError, Unbounded, quadratic_program
from flexlib.linear_program import LinearProgram
from flexlib.quadratic_program import solve_quadratic
from flexlib.solver import solve

TOL = 1e-5  # of optima of some units


def drawn(seed: int) -> tuple[LinearProgram, csr_array]:
    """Equations, rows with one limit, two or none, free columns, and Q of any rank."""
    rng = np.random.default_rng(seed)
    columns, rows = int(rng.integers(3, 9)), int(rng.integers(1, 7))
    a = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.7)
    inside = rng.uniform(-1, 1, columns)
    kind = rng.choice(["equal", "two", "upper", "lower"], rows)
    kind[2:][kind[2:] == "equal"] = "two"
    room = rng.uniform(0.0, 1.0, (2, rows))
    low = np.where(kind == "upper", -INF, a @ inside - room[0] * (kind != "equal"))
    high = np.where(kind == "lower", INF, a @ inside + room[1] * (kind != "equal"))
    high[kind == "equal"] = low[kind == "equal"]
    rank = int(rng.integers(1, columns + 1)) if seed % 3 else columns
    root = rng.normal(size=(columns, rank))
    free = rng.random(columns) < (0.3 if rank == columns else 0.0)
    lower = np.where(free, -INF, rng.uniform(-2, -1, columns))
    upper = np.where(free, INF, rng.uniform(1, 2, columns))
    return program(
        list(2 * rng.normal(size=columns)), a.tolist(), list(low), list(high), list(lower),
        list(upper), offset=rng.normal(),
    ), csr_array(root @ root.T)  # fmt: skip


def by_clarabel(problem: LinearProgram, q: csr_array) -> tuple[float, np.ndarray]:
    """Least objective and a point of it."""
    x, a = cp.Variable(len(problem.c)), problem.a.toarray()
    rows = []
    for matrix, low, high in (
        (a, problem.row_lower, problem.row_upper),
        (np.eye(len(problem.c)), problem.lower, problem.upper),
    ):
        below, above = np.isfinite(low), np.isfinite(high)
        rows += [matrix[k] @ x >= low[k] for k in np.flatnonzero(below)]
        rows += [matrix[k] @ x <= high[k] for k in np.flatnonzero(above)]
    value, vectors = np.linalg.eigh(q.toarray())
    root = np.sqrt(np.maximum(value, 0.0))[:, None] * vectors.T
    cost = problem.c @ x + 0.5 * cp.sum_squares(root @ x) + problem.offset
    found = solve(cp.Problem(cp.Minimize(cost), rows))
    return found.objective, x.value


@pytest.mark.parametrize("seed", range(45))
def test_against_clarabel(seed, monkeypatch):
    """Also with rows split into sums of two, several times over."""
    problem, q = drawn(seed)
    value, x = by_clarabel(problem, q)
    for long in (300, 3):
        monkeypatch.setattr(quadratic_program, "_LONG", long)
        found = solve_quadratic(problem, q)
        assert found.objective == pytest.approx(value, abs=TOL)
        assert found.bound == pytest.approx(found.objective, abs=TOL)
        assert found.x.shape == problem.c.shape
        assert found.row_dual.shape == problem.row_lower.shape
        if np.linalg.eigvalsh(q.toarray())[0] > 0.1:
            np.testing.assert_allclose(found.x, x, atol=1e-4)
        cost = problem.c @ found.x + 0.5 * found.x @ q @ found.x + problem.offset
        assert found.objective == pytest.approx(cost, abs=1e-9)
        assert all(check.ok for check in found.checks)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("long", [300, 3])
def test_duals_are_slopes_of_the_least_objective(seed, long, monkeypatch):
    """The least objective is convex in the limits of a row: a dual is between two differences."""
    monkeypatch.setattr(quadratic_program, "_LONG", long)
    problem, q = drawn(seed)
    found, step = solve_quadratic(problem, q), 1e-3
    for k in range(len(problem.row_lower)):
        values = []
        for way in (-step, step):
            moved = np.zeros(len(problem.row_lower))
            moved[k] = way
            other = replace(
                problem, row_lower=problem.row_lower + moved, row_upper=problem.row_upper + moved
            )
            try:
                values.append(solve_quadratic(other, q).objective)
            except Infeasible:
                values.append(INF)
        low, high = (found.objective - values[0]) / step, (values[1] - found.objective) / step
        assert low - TOL / step * 1e-2 <= found.row_dual[k] <= high + TOL / step * 1e-2
        row = float((problem.a @ found.x)[k])
        if row < problem.row_upper[k] - 1e-3:  # of an upper limit of a minimisation: at most 0
            assert found.row_dual[k] > -1e-4
        if row > problem.row_lower[k] + 1e-3:
            assert found.row_dual[k] < 1e-4


def of_rows(sums: np.ndarray, count: int) -> tuple[LinearProgram, csr_array, np.ndarray]:
    """Strictly convex programme with equations over all columns, and its point in closed form."""
    rng = np.random.default_rng(count)
    q, c = rng.uniform(1, 3, count), rng.normal(size=count)
    a = rng.uniform(0.5, 1.5, (len(sums), count))
    dual = np.linalg.solve((a / q) @ a.T, sums + (a / q) @ c)
    x = (a.T @ dual - c) / q
    problem = LinearProgram(
        c, csr_array(a), sums, sums, np.full(count, -100.0), np.full(count, 100.0),
        [f"row {k}" for k in range(len(sums))], [f"x{k}" for k in range(count)],
    )  # fmt: skip
    assert np.abs(x).max() < 100
    return problem, csr_array(diags_array(q)), np.append(x, dual)


@pytest.mark.parametrize("count", [299, 300, 301, 599, 700, 90_000])
def test_long_rows_closed_form(count):
    """90,000 entries are 301 sums of 299, which are too many again."""
    sums = np.array([20.0]) if count == 90_000 else np.array([20.0, -5.0])
    problem, q, expected = of_rows(sums, count)
    found = solve_quadratic(problem, q)
    np.testing.assert_allclose(found.x, expected[:count], atol=1e-5)
    np.testing.assert_allclose(found.row_dual, expected[count:], atol=1e-5)


@pytest.mark.parametrize("long", [3, 5, 40])
def test_partial_sums_say_the_same_with_short_rows(long, monkeypatch):
    """Every point fulfils both, and no row is left that is long."""
    monkeypatch.setattr(quadratic_program, "_LONG", long)
    rng = np.random.default_rng(long)
    a = rng.normal(size=(6, 83)) * (
        rng.random((6, 83)) < np.array([1, 0.5, 0.1, 0, 0.8, 0.3])[:, None]
    )
    problem = program([1.0] * 83, a.tolist(), list(rng.uniform(-2, -1, 6)), [INF, 1, 2, 3, 4, 5])
    short = quadratic_program._with_short_rows(problem)
    assert np.diff(short.a.indptr).max() <= long
    x = rng.normal(size=83)
    solved = np.linalg.lstsq(short.a[6:, 83:].toarray(), -(short.a[6:, :83] @ x), rcond=None)[
        0
    ]  # the sums that x has
    np.testing.assert_allclose((short.a @ np.append(x, solved))[:6], a @ x, atol=1e-9)
    np.testing.assert_allclose((short.a @ np.append(x, solved))[6:], 0.0, atol=1e-9)
    np.testing.assert_array_equal(short.row_lower[:6], problem.row_lower)
    np.testing.assert_array_equal(short.row_upper[:6], problem.row_upper)
    assert not short.row_lower[6:].any()
    assert not short.row_upper[6:].any()


def at(problem: LinearProgram, q: csr_array, x: np.ndarray, dual: np.ndarray) -> float:
    """Bound that x and duals prove."""
    return quadratic_program._checked(problem, q, x, dual).bound


@pytest.mark.parametrize("seed", range(45))
def test_any_point_and_any_duals_bound_from_below(seed, monkeypatch):
    problem, q = drawn(seed)
    found = solve_quadratic(problem, q)
    monkeypatch.setattr(quadratic_program, "_ACCEPTED", np.inf)
    rng = np.random.default_rng(seed)
    assert at(problem, q, found.x, found.row_dual) == found.bound
    wrong = 0
    for size in (1e-4, 1e-2, 1.0, 10.0):
        x = found.x + size * rng.normal(size=len(found.x))
        dual = found.row_dual + size * rng.normal(size=len(found.row_dual))
        for point, y in ((x, found.row_dual), (found.x, dual), (x, dual)):
            bound = at(problem, q, point, y)
            assert bound <= found.objective + TOL
            wrong += bound < found.objective - TOL
    assert wrong > 3


@pytest.mark.parametrize("seed", range(20))
def test_a_wrong_point_or_wrong_duals_do_not_survive(seed):
    problem, q = drawn(seed)
    found = solve_quadratic(problem, q)
    quadratic_program._checked(problem, q, found.x, found.row_dual)
    if np.abs(found.row_dual).max() > 0.1:
        for wrong in (-found.row_dual, 0 * found.row_dual, 1.1 * found.row_dual):
            with pytest.raises(SolveError, match="gap between objective and bound"):
                quadratic_program._checked(problem, q, found.x, wrong)
    k = np.abs(found.row_dual).argmax()
    normal = problem.a[[k]].toarray()[0]
    beyond = problem.row_upper if np.isfinite(problem.row_upper[k]) else problem.row_lower
    away = 1e-3 if beyond is problem.row_upper else -1e-3
    x = found.x + (beyond[k] + away - normal @ found.x) / (normal @ normal) * normal
    if ((x >= problem.lower) & (x <= problem.upper)).all():
        with pytest.raises(SolveError, match="rows of the programme"):
            quadratic_program._checked(problem, q, x, found.row_dual)


def test_a_point_that_is_not_best_does_not_survive():
    problem = program([-1.0, -1.0], [[1.0, 1.0]], [-INF], [1.0], 0.0, 5.0)
    eye = csr_array(eye_array(2))
    good = solve_quadratic(problem, eye)
    np.testing.assert_allclose(good.x, [0.5, 0.5], atol=1e-7)
    np.testing.assert_allclose(good.row_dual, [-0.5], atol=1e-7)
    with pytest.raises(SolveError, match="gap"):
        quadratic_program._checked(problem, eye, np.array([0.51, 0.49]), good.row_dual)


def test_free_columns_whose_slopes_vanish():
    """At the optimum cost and slope of the quadratic part cancel, and nothing bounds the column."""
    for scale in (1e-3, 1.0, 1e4):
        problem = program([-scale / 3, 2 * scale], [], [], [], -INF, INF)
        q = np.array([[3.0, 1.3], [1.3, 7.7]])
        found = solve_quadratic(problem, csr_array(q))
        np.testing.assert_allclose(found.x, np.linalg.solve(q, -problem.c), rtol=1e-6)
        assert found.bound == pytest.approx(found.objective, rel=1e-5)
    loose = program([-1.0, 2.0], [[1.0, 1.0]], [-INF], [5.0], -INF, INF)
    np.testing.assert_allclose(solve_quadratic(loose, csr_array(eye_array(2))).x, [1, -2])


def test_a_slope_that_is_nearly_zero_counts_where_a_limit_is_far(monkeypatch):
    """A finite limit is taken as it is: the bound does not pass the optimum of -1/2."""
    problem = program([-1.0], [], [], [], -1e6, 1e6)
    monkeypatch.setattr(quadratic_program, "_ACCEPTED", np.inf)
    bound = at(problem, csr_array([[1.0]]), np.array([1 - 5e-8]), np.zeros(0))
    assert bound == pytest.approx(-0.55, abs=1e-6)


def test_without_curvature_it_is_the_linear_programme():
    problem = program([-1.5, 2.0], [[1.0, 1.0]], [-INF], [2.0], 0.0, 5.0, offset=3.0)
    found, linear = solve_quadratic(problem, csr_array((2, 2))), solve(problem)
    assert found.objective == pytest.approx(linear.objective, abs=1e-6)
    np.testing.assert_allclose(found.row_dual, linear.row_dual, atol=1e-6)


def test_infeasible_names_the_rows_in_conflict():
    rows = [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]
    eye = csr_array(eye_array(2))
    wrong = program([-1.0, 2.0], rows, [10, -INF, -INF, -INF], [INF, 1, 1, 50], -INF, INF)
    with pytest.raises(Infeasible) as error:
        solve_quadratic(wrong, eye)
    assert set(error.value.conflict) == {"row 0", "row 1", "row 2"}
    with pytest.raises(Infeasible) as error:
        solve_quadratic(program([1.0], [[1.0]], [3.0], [2.0]), csr_array([[1.0]]))
    assert error.value.conflict == ("row 0",)


def test_infeasible_comes_before_unbounded():
    """A ray of falling cost in the second column, and no point to start from."""
    one = csr_array(np.diag([1.0, 0.0]))
    nowhere = program([-1.0, 2.0], [[1.0, 0.0], [1.0, 0.0]], [10, -INF], [INF, 1], -INF, INF)
    with pytest.raises(Infeasible) as error:
        solve_quadratic(nowhere, one)
    assert set(error.value.conflict) == {"row 0", "row 1"}
    with pytest.raises(Unbounded):
        solve_quadratic(program([-1.0, 2.0], [[1.0, 1.0]], [-INF], [5.0], -INF, INF), one)


def test_long_rows_in_conflict_are_named_by_their_own_name():
    problem, q, _ = of_rows(np.array([20.0]), 700)
    wrong = replace(problem, row_lower=np.array([1e6]), row_upper=np.array([1e6]))
    with pytest.raises(Infeasible) as error:
        solve_quadratic(wrong, q)
    assert error.value.conflict == ("row 0",)


def test_what_q_must_be_is_named():
    problem = program([1.0, 1.0], [[1.0, 1.0]], [1.0], [INF])
    for q, match in (
        ([[1.0, 2.0], [2.0, 1.0]], "eigenvalue of -1 with x0"),
        ([[1.0, 0.0], [0.0, -2.0]], "eigenvalue of -2 with x1"),
        ([[1.0, 0.5], [0.0, 1.0]], "not symmetric"),
        ([[1.0]], r"shape \(1, 1\), expected shape \(2, 2\)"),
        ([[1.0, 0.0], [0.0, np.nan]], "no finite number"),
    ):
        with pytest.raises(DataError, match=match):
            solve_quadratic(problem, csr_array(np.array(q)))


def test_a_solver_that_stops_early_or_fails_is_told(monkeypatch):
    problem, q = drawn(0)
    stand_in = quadratic_program._run

    def run(status):
        monkeypatch.setattr(quadratic_program, "_run", lambda *args: (status, *stand_in(*args)[1:]))

    run(quadratic_program.piqp.PIQP_MAX_ITER_REACHED)
    with pytest.raises(NotProven, match="largest number of iterations"):
        solve_quadratic(problem, q)
    for status in ("NUMERICS", "PRIMAL_INFEASIBLE"):  # the second is not true
        run(getattr(quadratic_program.piqp, f"PIQP_{status}"))
        with pytest.raises(SolveError, match=status):
            solve_quadratic(problem, q)


@pytest.mark.parametrize("slack", [5.0, 1.0, -2.0])
def test_parts_and_a_long_row_over_them(slack, monkeypatch):
    """Parts tied by entries of Q or by one long row: as if solved at once, by the duals too."""
    rng = np.random.default_rng(7)
    blocks, n = 12, 5
    parts = [drawn_block(rng, n) for _ in range(blocks)]
    x_alone = []
    for a, b, q, c in parts:
        alone = program(c, a, [b], [b], [-4] * n, [4] * n)
        x_alone.append(solve_quadratic(alone, csr_array(q)).x)
    total = float(np.concatenate(x_alone).sum())
    a = np.zeros((blocks + 1, blocks * n))
    q = np.zeros((blocks * n, blocks * n))
    for k, (row, _, square, _) in enumerate(parts):
        a[k, k * n : (k + 1) * n] = row
        q[k * n : (k + 1) * n, k * n : (k + 1) * n] = square
    a[-1] = 1.0
    q[0, 2 * n] = q[2 * n, 0] = 0.1  # the first and the third share an entry of Q
    b = [b for _, b, _, _ in parts]
    c = np.concatenate([c for *_, c in parts])
    whole = program(c, a, [*b, -INF], [*b, total + slack], [-4] * (blocks * n), [4] * (blocks * n))
    once = solve_quadratic(whole, csr_array(q))
    monkeypatch.setattr(quadratic_program, "_LONG", 20)
    monkeypatch.setattr(quadratic_program, "_PART", 2 * n)
    found = solve_quadratic(whole, csr_array(q))
    np.testing.assert_allclose(found.x, once.x, atol=1e-6)
    np.testing.assert_allclose(found.row_dual, once.row_dual, atol=1e-5)
    assert (abs(found.row_dual[-1]) > 1e-3) == (slack < 0)
    assert found.objective == pytest.approx(by_clarabel(whole, csr_array(q))[0], abs=1e-6)


def drawn_block(rng, n):
    root = rng.normal(size=(n, n))
    return rng.normal(size=(1, n)), rng.normal(), root @ root.T + np.eye(n), rng.normal(size=n)


def test_parts_share_neither_a_column_nor_an_entry_of_q():
    a = np.kron(np.eye(6), np.ones((1, 2)))
    q = np.eye(12)
    q[1, 6] = q[6, 1] = 0.5  # the first and the fourth
    problem = program(np.zeros(12), a, [1] * 6, [1] * 6, [0] * 12, [1] * 12)
    found = quadratic_program.independent_quadratic_parts(problem, csr_array(q), 2)
    columns = sorted(np.concatenate([part[1] for part in found]))
    assert columns == list(range(12))
    for rows, own, part, square in found:
        assert (0 in own) == (6 in own)
        np.testing.assert_array_equal(part.a.toarray(), a[rows][:, own])
        np.testing.assert_array_equal(square.toarray(), q[np.ix_(own, own)])
        assert not np.delete(a[rows], own, axis=1).any()
        assert part.row_names == [problem.row_names[k] for k in rows]
    assert len(found) == 5


def test_an_integer_column_is_refused_by_name():
    problem = program([1.0, 1.0], [[1.0, 1.0]], [1.5], [INF], integer=[False, True])
    with pytest.raises(ValueError, match=f"{problem.column_names[1]} is integer"):
        solve_quadratic(problem, csr_array(np.eye(2)))
