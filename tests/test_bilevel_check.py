"""What is found about a bilevel programme before it is solved, against enumeration."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from bilevel_draws import drawn
from bilevel_problems import load
from scipy.optimize import linprog
from scipy.sparse import coo_array, csc_array, csr_array

from flexlib import DataError, Infeasible, Unbounded
from flexlib.bilevel import Bilevel, Follower
from flexlib.bilevel_check import assert_solvable, findings

INF = np.inf


def status(problem: Bilevel, d: np.ndarray, cost: np.ndarray) -> int:
    """Of the follower's rows at a decision with a linear cost, by another solver."""
    f = problem.follower
    return linprog(
        cost, f.g.toarray() if len(f.h) else None, f.h - f.g_leader @ d if len(f.h) else None,
        f.a.toarray() if len(f.b) else None, f.b - f.a_leader @ d if len(f.b) else None,
        bounds=np.column_stack([f.lower, f.upper]),
    ).status  # fmt: skip


def falls(problem: Bilevel, d: np.ndarray) -> bool:
    """Whether the cost falls along a direction that the rows allow for ever."""
    f = problem.follower
    cost = f.c + f.c_leader @ d
    flat = np.vstack([f.a.toarray(), f.q.toarray()])
    low = np.where(np.isfinite(f.lower), 0.0, -1.0)
    high = np.where(np.isfinite(f.upper), 0.0, 1.0)
    found = linprog(
        cost, f.g.toarray() if len(f.h) else None, np.zeros(len(f.h)) if len(f.h) else None,
        flat, np.zeros(len(flat)), bounds=np.column_stack([low, high]),
    )  # fmt: skip
    return bool(found.fun < -1e-7)


def corners(problem: Bilevel) -> list[np.ndarray]:
    return [np.array(d) for d in product(*zip(problem.lower, problem.upper, strict=True))]


def test_decisions_without_an_answer_are_found_exactly_where_there_are_some() -> None:
    seen = {"follower infeasible": 0, "follower unbounded": 0}
    for seed in range(120):
        problem = drawn(seed)
        none = np.zeros(len(problem.follower.c))
        found = {finding.kind: finding for finding in findings(problem)}
        there = {
            "follower infeasible": lambda d, p=problem, z=none: status(p, d, z) == 2,
            "follower unbounded": lambda d, p=problem: falls(p, d),
        }
        for kind, happens in there.items():
            assert (kind in found) == any(happens(d) for d in corners(problem)), (seed, kind)
            if kind in found:
                d = found[kind].d
                assert d is not None
                assert (problem.lower <= d).all()
                assert (d <= problem.upper).all()
                assert happens(d), (seed, kind)
                assert found[kind].names, seed
                seen[kind] += 1
        coupled = np.flatnonzero(abs(problem.rows_follower).sum(axis=1))
        assert ("coupling row" in found) == bool(len(coupled))
        if len(coupled):
            assert found["coupling row"].names == [problem.row_names[j] for j in coupled]
    assert min(seen.values()) >= 5


def test_an_infeasible_corner_says_where_and_which_rows() -> None:
    # 1 <= x <= 3 - 2 d1 + d2: no answer at d = (2, 0); row and bound conflict
    f = Follower(c=np.ones(1), g=csr_array([[1.0]]), h=np.array([3.0]), lower=np.ones(1),
                 g_leader=csr_array([[2.0, -1.0]]), names=["x"], row_names=["room"])  # fmt: skip
    p = Bilevel(f, cost=np.ones(2), upper=np.array([2.0, 5.0]))
    (found,) = findings(p)
    assert found.kind == "follower infeasible"
    assert found.names == ["room", "lower bound of x"]
    np.testing.assert_allclose(found.d, [2, 0])
    assert "d 1 = 2" in found.statement
    assert findings(replace(p, upper=np.array([1.0, 5.0]))) == []


def test_integer_decisions_are_looked_at_where_they_can_be() -> None:
    # x <= 4 - 2 d: no answer from d > 2 on; d <= 2.5 is 2 where it is integer
    f = Follower(c=np.ones(1), g=csr_array([[1.0]]), h=np.array([4.0]),
                 g_leader=csr_array([[2.0]]))  # fmt: skip
    p = Bilevel(f, cost=np.ones(1), upper=np.array([2.5]))
    assert [finding.kind for finding in findings(p)] == ["follower infeasible"]
    assert findings(replace(p, integer=np.array([True]))) == []


def test_decisions_without_bounds_are_not_examined_and_others_are_no_endless_numbers() -> None:
    f = Follower(c=np.ones(1), g=csr_array([[-1.0]]), h=np.array([-5.0]), upper=np.array([4.0]),
                 g_leader=csr_array([[1.0, 0.0]]))  # fmt: skip
    p = Bilevel(f, cost=np.ones(2))
    (found,) = findings(p)
    assert (found.kind, found.names, found.d) == ("not examined", ["d 1"], None)
    (found,) = findings(replace(p, lower=np.array([0.0, -INF]), upper=np.array([1.0, INF])))
    assert found.kind == "follower infeasible"
    assert np.isfinite(found.d).all()


def test_a_follower_without_an_answer_to_any_decision() -> None:
    f = Follower(c=-np.ones(2), names=["x", "y"], upper=np.array([1.0, INF]))
    p = Bilevel(f, cost=np.ones(1), upper=np.ones(1))
    assert [finding.kind for finding in findings(p)] == ["follower unbounded"]
    with pytest.raises(Unbounded, match=r"at any decision: y$"):
        assert_solvable(p)
    # with C the cost of y rises for d > 1 / 2: there is something to solve
    priced = replace(f, c_leader=csr_array([[0.0], [2.0]]))
    assert_solvable(replace(p, follower=priced))
    with pytest.raises(Unbounded):
        assert_solvable(replace(p, follower=priced, upper=np.array([0.4])))


def test_a_curved_cost_ends_what_a_linear_one_does_not() -> None:
    f = Follower(c=-np.ones(2), q=csr_array([[1.0, 0.0], [0.0, 0.0]]), upper=np.array([INF, 2.0]))
    p = Bilevel(f, cost=np.ones(1), upper=np.ones(1))
    assert findings(p) == []
    assert_solvable(p)


def test_levels_without_a_common_point_name_their_rows() -> None:
    f = Follower(c=np.ones(1), g=csr_array([[1.0]]), h=np.array([1.0]), row_names=["most"])
    p = Bilevel(f, cost=np.ones(1), rows=csr_array([[0.0]]), rows_follower=csr_array([[-1.0]]),
                limit=np.array([-2.0]), upper=np.ones(1), row_names=["least"])  # fmt: skip
    with pytest.raises(Infeasible) as error:
        assert_solvable(p)
    assert set(error.value.conflict) == {"most", "least"}


def test_problems_of_the_literature_can_be_looked_at() -> None:
    for name, problem in load().items():
        kinds = {finding.kind for finding in findings(problem.arrays)}
        assert ("coupling row" in kinds) == ("coupling rows" in problem.flags), name


# --------------------------------------------------------------------------------------------
# Arrays


def arrays(**more: Any) -> dict[str, Any]:
    return {
        "c": np.ones(2), "g": csr_array(np.ones((1, 2))), "h": np.ones(1), **more,
    }  # fmt: skip


WRONG = {
    "shape": ({"g": csr_array(np.ones((2, 2)))}, {}, "g", "shape (2, 2)"),
    "short": ({"lower": np.zeros(3)}, {}, "lower", "shape (3,)"),
    "leader's columns": ({"c_leader": csr_array(np.ones((2, 3)))}, {}, "c_leader", "shape (2, 3)"),
    "not a number": ({"c": np.array([1.0, np.nan])}, {}, "c", "nan"),
    "endless cost": ({"c": np.array([1.0, INF])}, {}, "c", "inf"),
    "endless row": ({"h": np.array([INF])}, {}, "h", "inf"),
    "entry": ({"g": csr_array([[1.0, np.nan]])}, {}, "g", "nan"),
    "bound": ({"upper": np.array([1.0, np.nan])}, {}, "upper", "nan"),
    "crossed": ({"lower": np.array([0.0, 2.0]), "upper": np.ones(2)}, {}, "lower", "2"),
    "endless lower": ({"lower": np.array([0.0, INF])}, {}, "lower", "inf"),
    "leader crossed": ({}, {"lower": np.ones(1), "upper": np.zeros(1)}, "lower", "1"),
    "leader's limit": ({}, {"limit": np.array([np.nan])}, "limit", "nan"),
    "leader's rows": ({}, {"limit": np.ones(2), "rows": csr_array((1, 1))}, "rows", "shape (1, 1)"),
    "names": ({"names": ["x"]}, {}, "names", "shape (1,)"),
    "unsymmetric": ({"q": csr_array([[1.0, 1.0], [0.0, 1.0]])}, {}, "q", "not symmetric"),
    "concave": ({"q": csr_array([[1.0, 0.0], [0.0, -1.0]])}, {}, "q", "an eigenvalue of -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_named(case: str) -> None:
    follower, leader, column, found = WRONG[case]
    with pytest.raises(DataError) as error:
        Bilevel(Follower(**arrays(**follower)), **{"cost": np.ones(1), **leader})
    assert [fault.column for fault in error.value.faults] == [column]
    assert found in error.value.faults[0].value


def test_every_wrong_array_is_named_at_once() -> None:
    with pytest.raises(DataError) as error:
        Bilevel(Follower(**arrays(c=np.full(2, np.nan), h=np.full(1, INF))), cost=np.full(1, INF))
    assert [fault.column for fault in error.value.faults] == ["c", "h", "cost"]


@pytest.mark.parametrize("kind", [np.asarray, csc_array, coo_array, csr_array])
def test_dense_and_sparse_arrays_are_the_same(kind: Any) -> None:
    problem = drawn(7)
    f = problem.follower
    matrices = ("a", "g", "q", "c_leader", "a_leader", "g_leader")
    same = Bilevel(
        replace(f, **{name: kind(getattr(f, name).toarray()) for name in matrices}),
        cost=list(problem.cost), cost_follower=problem.cost_follower, lower=problem.lower,
        upper=problem.upper, rows=kind(problem.rows.toarray()), limit=problem.limit,
        rows_follower=kind(problem.rows_follower.toarray()),
        integer=problem.integer.astype(int),
    )  # fmt: skip
    for one, two in ((same.high_point(), problem.high_point()),):
        np.testing.assert_array_equal(one.a.toarray(), two.a.toarray())
        np.testing.assert_array_equal(one.integer, two.integer)
        assert one.integer.dtype == bool
    d, x = np.ones(len(problem.cost)), np.arange(len(f.c), dtype=float)
    assert same.value(d, x) == problem.value(d, x)
    assert same.follower.cost(d, x) == f.cost(d, x)


def test_zeros_that_are_written_out_do_not_count() -> None:
    zeros = csr_array((np.zeros(1), ([0], [0])), shape=(2, 1))
    problem = Bilevel(Follower(**arrays(c_leader=zeros)), cost=np.ones(1))
    assert problem.follower.c_leader.nnz == 0
    assert zeros.nnz == 1  # the caller's own array is left alone


def test_what_is_left_out_does_not_occur() -> None:
    p = Bilevel(Follower(c=np.ones(2)), cost=np.ones(1))
    assert p.follower.names == ["x 1", "x 2"]
    np.testing.assert_array_equal(p.follower.lower, 0)
    np.testing.assert_array_equal(p.follower.upper, INF)
    assert p.high_point().a.shape == (0, 3)


@pytest.mark.parametrize("seed", range(60))
def test_the_follower_at_a_decision(seed: int) -> None:
    problem = drawn(seed)
    f = problem.follower
    d = np.arange(1, len(problem.cost) + 1, dtype=float)
    own = f.at(d)
    np.testing.assert_allclose(own.c, f.c + f.c_leader.toarray() @ d)
    e = len(f.b)
    np.testing.assert_allclose(own.row_upper[:e], f.b - f.a_leader.toarray() @ d)
    np.testing.assert_allclose(own.row_lower[:e], own.row_upper[:e])
    np.testing.assert_allclose(own.row_upper[e:], f.h - f.g_leader.toarray() @ d)
    assert np.isneginf(own.row_lower[e:]).all()
    x = np.linspace(-1, 2, len(f.c))
    assert f.cost(d, x) == pytest.approx(own.c @ x + 0.5 * x @ f.q.toarray() @ x)
    whole = problem.high_point()
    point = np.concatenate([d, x])
    rows = [f.a @ x + f.a_leader @ d, f.g @ x + f.g_leader @ d,
            problem.rows @ d + problem.rows_follower @ x]  # fmt: skip
    np.testing.assert_allclose(whole.a @ point, np.concatenate(rows))
    assert whole.c @ point == pytest.approx(problem.value(d, x))
