"""Linear programmes as arrays: bounds from dual vectors, rows that cannot bind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import STABLE
from hypothesis import given
from hypothesis import strategies as st
from programs import INF, diet, program, random_program
from scipy.sparse import block_diag, csr_array

from flexlib import Infeasible, solve, solver
from flexlib.linear_program import (
    LinearProgram,
    dual_bound,
    dual_terms,
    independent_parts,
    without_redundant_rows,
)


@STABLE
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_any_duals_prove_a_lower_bound(seed: int, size: float) -> None:
    problem, rng = random_program(seed), np.random.default_rng(seed)
    best = solve(problem)
    wrong = best.row_dual + size * rng.normal(size=len(best.row_dual))
    assert dual_bound(problem, wrong) <= best.objective + 1e-7
    assert dual_bound(problem, -best.row_dual) <= best.objective + 1e-7
    assert dual_bound(problem, 0 * wrong) <= best.objective + 1e-7


def test_a_bound_from_an_infinite_limit_is_no_bound() -> None:
    assert dual_bound(diet(), np.array([1.0, 0, 0])) == -INF
    assert dual_bound(diet(), np.zeros(3)) == -INF


def side_by_side(parts: list[LinearProgram], order: np.random.Generator) -> LinearProgram:
    """One programme of several that share nothing, its rows and columns shuffled."""
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("c", "row_lower", "row_upper", "lower", "upper", "row_names", "column_names")
    }
    rows = order.permutation(len(joined["row_lower"]))
    columns = order.permutation(len(joined["c"]))
    a = csr_array(block_diag([part.a for part in parts]))[rows][:, columns]
    return LinearProgram(
        joined["c"][columns], a, joined["row_lower"][rows], joined["row_upper"][rows],
        joined["lower"][columns], joined["upper"][columns],
        [f"{k}" for k in rows], [f"{k}" for k in columns], offset=sum(p.offset for p in parts),
    )  # fmt: skip


@STABLE
@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_terms_of_a_block_bound_its_part(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    parts = [random_program(seed + k) for k in range(3)]
    whole = side_by_side(parts, rng)
    of_row = np.repeat(range(3), [len(p.row_lower) for p in parts])[np.int_(whole.row_names)]
    of_column = np.repeat(range(3), [len(p.c) for p in parts])[np.int_(whole.column_names)]
    best = solve(whole)
    bounds = {}
    for name, off in {"optimal": 0.0, "wrong": size}.items():
        dual = best.row_dual + off * rng.normal(size=len(best.row_dual))
        # Keep away from limits that are infinite: there the bound is none at all.
        dual = np.where(np.isinf(np.where(dual > 0, whole.row_lower, whole.row_upper)), 0, dual)
        rows, columns = dual_terms(whole, dual)
        bounds[name] = np.bincount(of_row, rows) + np.bincount(of_column, columns)
        total = bounds[name].sum() + whole.offset
        assert dual_bound(whole, dual) == pytest.approx(total, abs=1e-9)
    least = np.array([solve(p).objective - p.offset for p in parts])
    np.testing.assert_allclose(bounds["optimal"], least, atol=1e-6)
    assert (bounds["wrong"] <= least + 1e-6).all()


def test_terms_by_hand() -> None:
    # min 2 x - y, 1 <= x + y <= 3, -x + y >= -1, x in [0, 4], y in [-1, 5]; duals (-2, 0.5)
    problem = program([2, -1], [[1, 1], [-1, 1]], [1, -1], [3, INF], [0, -1], [4, 5])
    rows, columns = dual_terms(problem, np.array([-2.0, 0.5]))
    # reduced costs 2 + 2 + 0.5 = 4.5 at x = 0 and -1 + 2 - 0.5 = 0.5 at y = -1
    np.testing.assert_allclose(rows, [-6, -0.5])
    np.testing.assert_allclose(columns, [0, -0.5])
    rows, columns = dual_terms(problem, np.array([1.0, 0.0]))  # reduced costs 1 and -2
    np.testing.assert_allclose(rows, [1, 0])
    np.testing.assert_allclose(columns, [0, -10])
    assert dual_bound(replace(problem, offset=3.0), np.array([1.0, 0.0])) == pytest.approx(-6)


def test_rounding_at_an_infinite_limit_does_not_cost_the_bound() -> None:
    # x without upper bound: a reduced cost of -1e-9 is rounding, one of -1e-3 is not
    problem = program([1.0, 1.0], [[1.0, 0.0]], [2], [INF])
    assert dual_bound(problem, np.array([1.0 + 1e-9])) == pytest.approx(2)
    assert dual_bound(problem, np.array([1.0 + 1e-3])) == -INF
    # a multiplier of 1e-10 against an infinite row limit likewise
    two = program([1.0, 1.0], [[1.0, 0.0], [0.0, 1.0]], [2, -5], [INF, INF])
    assert dual_bound(two, np.array([1.0, -1e-10])) == pytest.approx(2)
    assert dual_bound(two, np.array([1.0, -1e-3])) == -INF


def test_rounding_at_a_finite_limit_counts() -> None:
    # the same small reduced cost, -5e-8, with up to 1e6 of x: what it may be worth is taken off
    problem = program([1.0, 1.0], [[1.0, 0.0]], [2], [INF], 0, [1e6, INF])
    assert dual_bound(problem, np.array([1.0 + 5e-8])) == pytest.approx(2 - 0.05, abs=1e-6)


def test_rounding_where_large_terms_cancel() -> None:
    # 1e-4 is rounding beside a cost of 1e9
    problem = program([1e9 - 1e-4, 0.0], [[1.0, 0.0]], [2], [INF])
    assert dual_bound(problem, np.array([1e9])) == pytest.approx(2e9)
    # without a cost, 1e-4 is less than 1e-12 of the terms of 1e9 that it is the difference of
    problem = program([0.0, 0.0], [[1.0, 0.0], [1.0, 0.0]], [2, 2], [2, 2])
    assert dual_bound(problem, np.array([1e9 + 1e-4, -1e9])) == pytest.approx(2e-4, abs=1e-6)
    turned = program([0.0, 0.0], [[1.0, 0.0], [-1.0, 0.0]], [2, -2], [2, -2])
    assert dual_bound(turned, np.array([1e9 + 1e-4, 1e9])) == pytest.approx(2e-4, abs=1e-6)


def test_no_column_is_integer_unless_said() -> None:
    plain = diet()
    again = LinearProgram(
        plain.c, plain.a, plain.row_lower, plain.row_upper, plain.lower, plain.upper,
        plain.row_names, plain.column_names,
    )  # fmt: skip
    assert again.integer.dtype == bool
    np.testing.assert_array_equal(again.integer, [False] * 3)
    assert again.offset == 0


@pytest.mark.parametrize("seed", range(20))
def test_redundant_rows_are_those_that_no_point_can_break(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, low, high = rng.normal(size=(40, 3)), rng.uniform(-2, 0, 3), rng.uniform(0, 2, 3)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1)
    most, least = (a @ corners).max(axis=1), (a @ corners).min(axis=1)
    row_upper = most * (1 + 1e-3 * rng.choice([-1, 1], 40))  # just within or beyond reach
    row_lower = least - 1e-3 * rng.choice([-1, 1], 40)
    problem = program(rng.normal(size=3), a, row_lower, row_upper, low, high)
    kept = without_redundant_rows(problem)
    can_break = (most > row_upper) | (least < row_lower)
    assert kept.row_names == [f"row {k}" for k in np.flatnonzero(can_break)]
    assert solve(kept).objective == pytest.approx(solve(problem).objective, abs=1e-9)


def test_a_row_over_an_infinite_box_is_kept() -> None:
    problem = program([1.0, 1.0], [[1, -1], [1, 1], [0, 1]], [-INF, 0, 0], [5, INF, 7])
    # x + y >= 0 holds over the box x, y >= 0; x - y <= 5 and y <= 7 can be broken
    assert without_redundant_rows(problem).row_names == ["row 0", "row 2"]


@pytest.mark.parametrize("name", ["c", "row_lower", "row_upper", "lower", "upper"])
def test_what_is_not_a_number_is_refused_by_name(name):
    good = program([1.0, 2.0], [[1.0, 1.0], [0.0, 1.0]], [0.0, 0.0], [4.0, 4.0])
    values = getattr(good, name).copy()
    values[1] = np.nan
    meant = (good.row_names if name.startswith("row") else good.column_names)[1]
    with pytest.raises(ValueError, match=f"{name} of {meant} is not a number"):
        replace(good, **{name: values})


def test_matrix_with_what_is_not_a_number_is_refused():
    good = program([1.0, 2.0], [[1.0, 1.0], [0.0, 1.0]], [0.0, 0.0], [4.0, 4.0])
    with pytest.raises(ValueError, match="matrix"):
        replace(good, a=good.a * np.nan)


def test_parts_are_solved_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    parts = [random_program(seed) for seed in range(12)]
    whole = replace(side_by_side(parts, rng), offset=3.5)
    at_once = solve(whole)
    found = independent_parts(whole, 6)
    assert len(found) > 4
    assert sorted(np.concatenate([row for row, _, _ in found])) == list(range(len(whole.row_names)))
    assert sorted(np.concatenate([column for _, column, _ in found])) == list(range(len(whole.c)))
    monkeypatch.setattr(solver, "_PART", 6)
    in_parts = solve(whole)
    assert in_parts.objective == pytest.approx(at_once.objective, abs=1e-7)
    assert in_parts.bound == pytest.approx(at_once.bound, abs=1e-7)
    assert dual_bound(whole, in_parts.row_dual) == pytest.approx(at_once.objective, abs=1e-6)


def test_part_without_a_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, 0, 0], [0, 1, 1], [0, 1, 0]]
    whole = program([1, 1, 1], rows, [0, 5, -INF], [1, 5, 1], [0, 0, 0], [1, 9, 2])
    monkeypatch.setattr(solver, "_PART", 1)
    with pytest.raises(Infeasible, match="row 1") as error:
        solve(whole)
    assert "row 0" not in error.value.conflict
