"""Derived M: no derivation rule may cut an optimum off, and none is made up."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from bilevel_brute import Answer, optimistic, programme
from bilevel_draws import drawn
from scipy.sparse import csr_array, hstack, vstack

from flexlib import Infeasible
from flexlib.bilevel import Bilevel, Follower
from flexlib.bilevel_big_m import NoBigM, big_m, dual_corners, up_to
from flexlib.bilevel_kkt import BigM, guessed, pairs
from flexlib.bilevel_solve import solve_bilevel

DRAWS = 120


@cache
def best_of(seed: int) -> Answer:
    """Optimum of a draw by brute force, found once."""
    return optimistic(drawn(seed))


def derived(problem: Bilevel, cutoff: float = np.inf) -> BigM | None:
    try:
        return big_m(problem, cutoff)
    except (NoBigM, Infeasible):
        return None


def decisions(problem: Bilevel, rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Corners of the bounds and points between them that the leader's own rows allow."""
    spread = problem.upper - problem.lower
    points = problem.lower + spread * rng.random((count, len(spread)))
    points[::2] = problem.lower + spread * rng.integers(0, 2, (len(points[::2]), len(spread)))
    points = np.where(problem.integer, np.round(points), points)
    own = abs(problem.rows_follower).sum(axis=1) == 0
    return [d for d in points if (problem.rows @ d <= problem.limit + 1e-9)[own].all()]


def answer(problem: Bilevel, d: np.ndarray) -> np.ndarray | None:
    """An optimal answer at a decision, by brute force."""
    fixed = replace(problem, lower=d, upper=d, integer=np.zeros(len(d), bool),
                    rows=csr_array((0, 0)), rows_follower=csr_array((0, 0)),
                    limit=np.zeros(0), row_names=[])  # fmt: skip
    found = optimistic(fixed)
    return found.x if found.status == "optimal" else None


def fits(problem: Bilevel, d: np.ndarray, x: np.ndarray, m: BigM) -> bool:
    """Whether some optimal multipliers at (d, x) lie within M: a linear programme of its own."""
    f, pair = problem.follower, pairs(problem)
    count = len(f.b)
    tight = pair.slack(d, x) <= 1e-6
    gradient = f.c + f.c_leader @ d + f.q @ x
    most = np.where(tight, m.multiplier * (1 + 1e-7) + 1e-7, 0.0)
    if not len(f.b) + len(tight):
        return bool(np.abs(gradient).max() <= 1e-7)
    status, _, _ = programme(
        np.zeros(count + len(tight)),
        csr_array(hstack([f.a.T, -pair.slack_x.T])),
        (gradient - 1e-7, gradient + 1e-7),
        (
            np.append(np.full(count, -np.inf), np.zeros(len(most))),
            np.append(np.full(count, np.inf), most),
        ),
        np.zeros(count + len(tight), int),
    )
    return status == "optimal"


def test_derived_m_never_cuts_the_optimum_off() -> None:
    solved = 0
    for seed in range(DRAWS):
        problem = drawn(seed)
        expected = best_of(seed)
        if expected.status == "optimal":
            try:
                found = solve_bilevel(problem)
            except NoBigM:
                continue
            assert found.value == pytest.approx(expected.value, rel=1e-5, abs=1e-5), seed
            assert found.certificate.ok, seed
            solved += 1
    assert solved > DRAWS / 2


def test_optimal_multipliers_and_slacks_are_within_the_derived_ones() -> None:
    seen = 0
    for seed in range(DRAWS):
        problem, rng = drawn(seed), np.random.default_rng(seed)
        m = derived(problem)
        for d in decisions(problem, rng, 4) if m else ():
            x = answer(problem, d)
            if x is None or (problem.rows @ d + problem.rows_follower @ x > problem.limit).any():
                continue
            assert fits(problem, d, x, m), seed
            assert (pairs(problem).slack(d, x) <= m.slack + 1e-6).all(), seed
            seen += 1
    assert seen > DRAWS


def test_a_cutoff_keeps_what_is_no_worse() -> None:
    tighter = 0
    for seed in range(DRAWS):
        problem = drawn(seed)
        best = best_of(seed)
        if best.status != "optimal":
            continue
        m, free = derived(problem, best.value), derived(problem)
        if m is None:
            assert free is None, seed
            continue
        assert fits(problem, best.d, best.x, m), seed
        assert (pairs(problem).slack(best.d, best.x) <= m.slack + 1e-6).all(), seed
        tighter += free is not None and bool((m.slack < free.slack - 1e-6).any())
    assert tighter > DRAWS / 20


def test_cutoffs_have_a_tolerance_of_their_own_size() -> None:
    assert up_to(0.0) == pytest.approx(1e-6)
    assert up_to(-2000.0) == pytest.approx(-2000 + 2e-3)
    assert up_to(np.inf) == np.inf


def test_a_cutoff_below_the_optimum_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    # the value of a curved follower's answer is known to some 1e-5 only
    for seed in range(12):
        problem, best = drawn(seed), best_of(seed)
        if best.status != "optimal" or derived(problem) is None:
            continue
        for off in (1e-4, 0.5):
            monkeypatch.setattr("flexlib.bilevel_solve.first_value", lambda _: best.value - off)  # noqa: B023
            assert solve_bilevel(problem).value == pytest.approx(best.value, abs=1e-5), seed


# --------------------------------------------------------------------------------------------
# Each rule by hand


def one(c: float, **more: object) -> Bilevel:
    """One variable between 0 and 4, one decision between 0 and 2."""
    return Bilevel(
        Follower(c=np.array([c]), upper=np.array([4.0]), **more),  # type: ignore[arg-type]
        cost=np.ones(1), upper=np.array([2.0]),
    )  # fmt: skip


def test_slack_is_the_most_that_both_can_leave() -> None:
    # x <= 5 - 2 d and 0 <= x <= 4: slack of the row is at most 5, of the bounds 4
    row = {"g": csr_array([[1.0]]), "h": np.array([5.0]), "g_leader": csr_array([[2.0]])}
    m = big_m(one(-3.0, **row))
    np.testing.assert_allclose(m.slack[:1], 5 - 1.0, atol=1e-6)  # no dearer: x >= 1
    np.testing.assert_allclose(m.slack[1:], [4, 3], atol=1e-6)
    np.testing.assert_allclose(m.multiplier, [3, 0, 3], atol=1e-6)  # corners: one carries all of 3
    assert list(m.table.index) == ["row 1", "lower bound of x 1", "upper bound of x 1"]


def test_multiplier_of_a_quadratic_follower_by_a_point_with_slack() -> None:
    # min x^2 / 2 - 6 x on [0, 4]: x = 4, multiplier 2 of the upper bound
    m = big_m(one(-6.0, q=csr_array([[1.0]])))
    assert m.multiplier[1] >= 2
    assert "above the least" in m.how[1]


def test_costs_that_move_with_the_decision_widen_the_multiplier() -> None:
    # c = 1 - 3 d for d in [0, 2]: multiplier 1 of the lower bound, up to 5 of the upper
    m = big_m(one(1.0, c_leader=csr_array([[-3.0]])))
    np.testing.assert_allclose(m.multiplier, [1, 5])


def test_a_direction_without_any_row_leaves_no_zero_multipliers() -> None:
    # x1 + x2 = 1 by two rows, both free: no dual corner uses a basis of full size
    both = np.array([[1.0, 1.0], [-1.0, -1.0]])
    free = np.full(2, np.inf)
    problem = Bilevel(
        Follower(c=-np.ones(2), g=csr_array(both), h=np.array([1.0, 0.0]), lower=-free, upper=free),
        cost=np.ones(1), cost_follower=np.array([1.0, 1.0]), upper=np.ones(1),
    )  # fmt: skip
    m = big_m(problem)
    np.testing.assert_allclose(m.multiplier, [1, 0])
    assert solve_bilevel(problem).value == pytest.approx(1.0)


def test_redundant_equations_and_fixed_columns_keep_their_corners() -> None:
    # x1 + x2 = 2 twice, x3 fixed: cost x1 - x2, x2 <= 1.5: multiplier 2 on it
    a = csr_array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    problem = Bilevel(
        Follower(c=np.array([1.0, -1.0, 5.0]), a=a, b=np.array([2.0, 4.0]),
                 lower=np.array([0.0, 0.0, 1.0]), upper=np.array([9.0, 1.5, 1.0])),
        cost=np.ones(1), upper=np.ones(1),
    )  # fmt: skip
    m = big_m(problem)
    pair = pairs(problem)
    corner = dual_corners(problem, pair, np.array([[0.0], [1.0]]))
    assert corner is not None
    np.testing.assert_allclose(corner[pair.names.index("upper bound of x 2")], 2, atol=1e-9)
    tight = [m.names[j] for j in range(len(m.names)) if m.how[j] == "always tight"]
    assert {"lower bound of x 3", "upper bound of x 3"} <= set(tight)
    assert not set(tight) & {m.names[j] for j in m.open}


def test_rows_of_very_different_units_keep_their_corners() -> None:
    # the same follower with a row in units of 1e-7: its multiplier is 1e7 times larger
    row = {"g": csr_array([[1e-7]]), "h": np.array([3e-7])}
    problem = one(-3.0, **row)
    corner = dual_corners(problem, pairs(problem), np.array([[0.0], [2.0]]))
    assert corner is not None
    np.testing.assert_allclose(corner, [3e7, 0, 3], rtol=1e-9)


def test_pairs_without_m_are_named_with_the_reason() -> None:
    # x >= d, no upper bound, and the leader would have it large: its slack has no end
    problem = Bilevel(
        Follower(c=np.ones(1), g=csr_array([[-1.0]]), h=np.zeros(1), g_leader=csr_array([[1.0]]),
                 q=csr_array([[0.0]])),
        cost=np.ones(1), upper=np.full(1, np.inf),
    )  # fmt: skip
    with pytest.raises(NoBigM, match="no finite M follows") as error:
        big_m(problem)
    assert set(error.value.why) == {"row 1", "lower bound of x 1"}
    assert all("slack has no bound" in why for why in error.value.why.values())
    assert all(name in str(error.value) for name in error.value.why)


def test_a_curved_follower_without_a_point_for_all_decisions_has_no_m() -> None:
    # x = d + 0 and cost x^2: the point would have to move with the decision
    f = Follower(c=np.zeros(1), a=csr_array([[1.0]]), b=np.zeros(1), a_leader=csr_array([[-1.0]]),
                 upper=np.array([4.0]), q=csr_array([[1.0]]))  # fmt: skip
    with pytest.raises(NoBigM, match="an equation of the follower moves with the decision"):
        big_m(Bilevel(f, cost=np.ones(1), upper=np.array([2.0])))
    row = csr_array(vstack([csr_array([[1.0]]), csr_array([[-1.0]])]))
    move = csr_array([[-1.0], [1.0]])
    f = replace(f, a=csr_array((0, 0)), b=np.zeros(0), a_leader=csr_array((0, 0)), g=row,
                h=np.zeros(2), g_leader=move)  # fmt: skip
    with pytest.raises(NoBigM, match="no point is the follower's to choose"):
        big_m(Bilevel(f, cost=np.ones(1), upper=np.array([2.0])))


def test_a_guess_is_marked_as_one() -> None:
    m = guessed(one(1.0), 7.0)
    assert set(m.how) == {"guessed"}
    assert (m.slack == 7).all()
    assert (m.multiplier == 7).all()
