"""Published optima of bilevel problems against brute force, and brute force against enumeration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from bilevel_brute import (
    Answer,
    follower_gap,
    has_ties,
    leader_gap,
    optimistic,
    over_answers,
    pessimistic,
    programme,
    relaxation,
    system,
)
from bilevel_problems import PATH, Problem, load, random_problem, read, terms
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack, vstack

from flexlib.bilevel import Bilevel

PROBLEMS = load()


def each(keep: Callable[[Problem], bool] = lambda p: True) -> pytest.MarkDecorator:
    """Parametrise over the problems that are kept."""
    chosen = {name: p for name, p in PROBLEMS.items() if keep(p)}
    return pytest.mark.parametrize("problem", chosen.values(), ids=chosen)


def near(value: float | None) -> object:
    return pytest.approx(value, rel=1e-5, abs=1e-6)


@cache
def found(name: str) -> Answer:
    """Optimum by brute force, found once."""
    return optimistic(PROBLEMS[name].arrays)


def test_the_collection_covers_every_kind() -> None:
    def count(flag: str) -> int:
        return sum(flag in p.flags for p in PROBLEMS.values())

    published = [p for p in PROBLEMS.values() if p.status == "optimal" and not p.change]
    assert len(published) >= 24
    for flag, least in (("ties", 5), ("relaxation differs", 5), ("quadratic", 4)):
        assert sum(flag in p.flags for p in published) >= least
    assert count("pessimistic differs") >= 3
    assert min(count("infeasible"), count("unbounded"), count("integer")) >= 3
    assert sum("infeasible" in p.flags and not p.change for p in PROBLEMS.values()) >= 3


def test_every_problem_says_where_it_is_from() -> None:
    data = read()
    assert all(source["cite"] and source["checked"] for source in data["sources"].values())
    named = {key for p in data["problems"] for key in (*p["source"], *p["read_in"])}
    assert named == set(data["sources"])
    assert len(PROBLEMS) == len(data["problems"])
    for p in data["problems"]:
        assert p["source"], p["name"]
        assert p["where"], p["name"]
        assert p["read_in"] or p["change"], p["name"]
        assert "correct" not in p or p["correct"]["said_by"] in {"here", *p["read_in"]}, p["name"]


def test_the_readme_lists_the_values_that_are_wrong() -> None:
    lines = (PATH.parent / "README.md").read_text(encoding="utf-8").splitlines()
    listed = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert sorted(listed) == sorted(p["name"] for p in read()["problems"] if "correct" in p)


@each()
def test_published_optimum_is_that_of_brute_force(problem: Problem) -> None:
    answer = found(problem.name)
    assert answer.status == (problem.status or "optimal")
    if problem.value is not None:
        assert answer.value == near(problem.value)
    if answer.status == "optimal":
        assert follower_gap(problem.arrays, answer.d, answer.x) < 1e-6
        assert leader_gap(problem.arrays, answer.d, answer.x) < 1e-6
        assert problem.arrays.value(answer.d, answer.x) == near(answer.value)


@each(lambda p: p.d is not None and p.x is not None)
def test_published_point_is_an_answer_of_the_published_value(problem: Problem) -> None:
    assert follower_gap(problem.arrays, problem.d, problem.x) < problem.rounded
    assert leader_gap(problem.arrays, problem.d, problem.x) < problem.rounded
    assert problem.arrays.value(problem.d, problem.x) == near(problem.value)


@each(lambda p: p.claim is not None)
def test_published_optimum_said_to_be_wrong_is_wrong(problem: Problem) -> None:
    answer = found(problem.name)
    if problem.claimed_x is None:
        assert answer.status == "unbounded" or answer.value < problem.claim - 1e-3
        return
    gap = follower_gap(problem.arrays, problem.claimed_d, problem.claimed_x)
    assert gap > 1e-3 or answer.value < problem.claim - 1e-3


@each()
def test_flags_say_what_the_arrays_are(problem: Problem) -> None:
    p, flags = problem.arrays, problem.flags
    assert ("quadratic" in flags) == bool(p.follower.q.count_nonzero())
    assert ("coupling rows" in flags) == bool(p.rows_follower.count_nonzero())
    assert ("integer" in flags) == bool(p.integer.any())
    answer, loose = found(problem.name), relaxation(p)
    assert answer.status == next((f for f in ("infeasible", "unbounded") if f in flags), "optimal")
    if answer.status == "optimal":
        differs = loose.status == "unbounded" or loose.value < answer.value - 1e-6
        assert ("relaxation differs" in flags) == differs
        at = (answer.d, answer.x)
        if problem.d is not None and problem.x is not None:
            at = (problem.d, problem.x)
        if follower_gap(p, *at) < 1e-6:
            assert ("ties" in flags) == has_ties(p, *at)


@each(lambda p: "coupling rows" in p.flags)
def test_pessimistic_value_is_refused_with_coupling_rows(problem: Problem) -> None:
    with pytest.raises(ValueError, match="follower variables"):
        pessimistic(problem.arrays)


@each(lambda p: not p.flags & {"coupling rows", "infeasible", "unbounded"})
def test_pessimistic_value_is_no_better_and_differs_where_said(problem: Problem) -> None:
    p = problem.arrays
    best, worst = found(problem.name), pessimistic(p)
    differs = worst.status == "infeasible" or worst.value > best.value + 1e-6
    assert worst.status == "infeasible" or worst.value >= best.value - 1e-6
    assert ("pessimistic differs" in problem.flags) == differs


def test_published_worst_answer() -> None:
    problem = PROBLEMS["shimizu_1997_ex1512"]
    p = problem.arrays
    worst = over_answers(p, problem.d, -p.cost_follower, problem.x)
    assert p.value(problem.d, worst.x) == near(problem.worst)


def test_published_relaxation() -> None:
    problem = PROBLEMS["kleinert_2021_example1"]
    assert relaxation(problem.arrays).value == near(problem.relaxation)


@each(lambda p: bool(p.big_m))
def test_a_constant_too_small_cuts_the_optimum_off_unseen(problem: Problem) -> None:
    given = {m: big_m(problem.arrays, m) for m in problem.big_m}
    assert {status for status, _ in given.values()} == {"optimal"}
    for m, (_, value) in given.items():
        assert value == near(problem.big_m[m])
    assert len(set(problem.big_m.values())) == len(given)


@each(lambda p: p.status == "unbounded")
def test_unbounded_problems_have_answers_of_ever_lower_cost(problem: Problem) -> None:
    values = []
    for cap in (1e2, 1e3, 1e4):
        box = np.full(len(problem.arrays.cost), cap)
        boxed = replace(
            problem.arrays,
            lower=np.maximum(problem.arrays.lower, -box),
            upper=np.minimum(problem.arrays.upper, box),
        )
        answer = optimistic(boxed)
        assert follower_gap(problem.arrays, answer.d, answer.x) < 1e-6
        assert leader_gap(problem.arrays, answer.d, answer.x) < 1e-6
        values.append(answer.value)
    assert values[1] < 5 * values[0] < 0
    assert values[2] < 5 * values[1]


@pytest.mark.parametrize("seed", range(8))
def test_brute_force_is_enumeration_where_the_leader_is_integer(seed: int) -> None:
    problem = random_problem(np.random.default_rng(seed))
    best, worst = enumerated(problem)
    assert_same(optimistic(problem), best)
    assert_same(pessimistic(problem), worst)


@pytest.mark.parametrize("seed", range(8))
def test_brute_force_is_the_closed_form_of_a_separable_quadratic_follower(seed: int) -> None:
    problem = random_problem(np.random.default_rng(seed), rows=0, quadratic=True)
    f, values = problem.follower, []
    for d in decisions(problem):
        x = np.clip(-(f.c + f.c_leader @ d) / f.q.diagonal(), f.lower, f.upper)
        assert follower_gap(problem, d, x) < 1e-9
        values.append(problem.value(d, x))
    assert optimistic(problem).value == near(min(values))
    assert pessimistic(problem).value == near(min(values))


@pytest.mark.parametrize("seed", range(8))
def test_brute_force_is_enumeration_with_a_quadratic_follower_under_rows(seed: int) -> None:
    problem = random_problem(np.random.default_rng(seed), follower=3, rows=3, quadratic=True)
    f, values = problem.follower, []
    for d in decisions(problem):
        answer = optimistic(replace(problem, lower=d, upper=d))
        if answer.status == "infeasible":
            right = f.h - f.g_leader @ d
            bounds = np.column_stack([f.lower, f.upper])
            assert linprog(np.zeros(len(f.c)), f.g.toarray(), right, bounds=bounds).status == 2
            continue
        assert follower_gap(problem, d, answer.x) < 1e-6
        assert not has_ties(problem, d, answer.x)
        values.append(answer.value)
    assert optimistic(problem).value == near(min(values))
    assert pessimistic(problem).value == near(min(values))


@pytest.mark.parametrize("seed", range(100, 112))
def test_no_decision_of_a_grid_is_better_than_brute_force(seed: int) -> None:
    problem = random_problem(np.random.default_rng(seed))
    # One decision, without bounds in between: values are piecewise linear in it.
    lower, upper = np.array([0.0, 1.0]), np.array([3.0, 1.0])
    problem = replace(problem, lower=lower, upper=upper, integer=np.zeros(2, bool))
    best, worst = optimistic(problem), pessimistic(problem)
    points = np.linspace(0, 3, 61)
    for answer, low in ((best, True), (worst, False)):
        around = np.clip(answer.d[0] + np.array([-1e-5, 0, 1e-5]), 0, 3)
        values = [reaction(problem, np.array([t, 1.0]), low).value for t in (*points, *around)]
        assert np.nanmin(values) >= answer.value - 1e-5
        assert np.nanmin(values[-3:]) <= answer.value + 1e-3


def test_polynomials_are_read() -> None:
    expected = [(2.0, ("x",)), (-0.5, ("y1", "y1")), (-1.0, ("x", "y1")), (7.0, ())]
    assert terms("2 x - 0.5 y1^2 - x y1 + 7") == expected
    with pytest.raises(ValueError, match="not a polynomial"):
        terms("2 x <= 3")


def big_m(problem: Bilevel, m: float) -> tuple[str, float]:
    """KKT programme with one constant M in every complementarity row."""
    s = system(problem)
    pairs, width = len(s.slack), len(s.cost)
    eye = csr_array(np.eye(pairs))

    def pick(columns: np.ndarray) -> csr_array:
        return csr_array((np.ones(pairs), (np.arange(pairs), columns)), shape=(pairs, width))

    matrix = vstack(
        [
            hstack([s.matrix, csr_array((s.matrix.shape[0], pairs))]),
            hstack([pick(s.multiplier), -m * eye]),
            hstack([pick(s.slack), m * eye]),
        ]
    )
    status, value, _ = programme(
        np.append(s.cost, np.zeros(pairs)),
        csr_array(matrix),
        (
            np.concatenate([s.low, np.full(2 * pairs, -np.inf)]),
            np.concatenate([s.high, np.zeros(pairs), np.full(pairs, m)]),
        ),
        (np.append(s.z_low, np.zeros(pairs)), np.append(s.z_high, np.ones(pairs))),
        np.append(s.integer, np.ones(pairs, int)),
    )
    return status, value


def decisions(problem: Bilevel) -> list[np.ndarray]:
    """Integer decisions within the leader's rows."""
    ends = zip(problem.lower, problem.upper, strict=True)
    points = [np.array(d) for d in product(*(np.arange(low, high + 1) for low, high in ends))]
    return [d for d in points if (problem.rows @ d <= problem.limit + 1e-9).all()]


def reaction(problem: Bilevel, d: np.ndarray, low: bool) -> Answer:
    """Leader's value at d with ties broken for (low) or against the leader, by two programmes."""
    f = problem.follower
    cost, right = f.c + f.c_leader @ d, f.h - f.g_leader @ d
    bounds = np.column_stack([f.lower, f.upper])
    first = linprog(cost, f.g.toarray(), right, bounds=bounds)
    if first.status == 2:
        return Answer("infeasible")
    sign = 1 if low else -1
    second = linprog(
        sign * problem.cost_follower,
        np.vstack([f.g.toarray(), cost]),
        np.append(right, first.fun + 1e-9),
        bounds=bounds,
    )
    assert second.status == 0
    return Answer("optimal", problem.value(d, second.x), d, second.x)


def enumerated(problem: Bilevel) -> tuple[Answer, Answer]:
    """Best values over all decisions, optimistic and pessimistic."""
    best = []
    for low in (True, False):
        answers = [reaction(problem, d, low) for d in decisions(problem)]
        solved = [a for a in answers if a.status == "optimal"]
        best.append(min(solved, key=lambda a: a.value, default=Answer("infeasible")))
    return best[0], best[1]


def assert_same(answer: Answer, expected: Answer) -> None:
    assert answer.status == expected.status
    if expected.status == "optimal":
        assert answer.value == near(expected.value)
