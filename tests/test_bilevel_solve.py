"""Every reformulation against published optima, brute force and one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from bilevel_brute import over_answers
from bilevel_brute import pessimistic as worst_case
from bilevel_problems import Problem, load, random_problem
from scipy.sparse import csr_array
from test_bilevel_problems import enumerated

from flexlib import Infeasible, NotProven, SolveError, Unbounded
from flexlib.bilevel import Bilevel, Follower
from flexlib.bilevel_big_m import NoBigM, big_m
from flexlib.bilevel_duality import in_products, is_exact, on_menu, with_strong_duality
from flexlib.bilevel_kkt import guessed, kkt_system, pairs
from flexlib.bilevel_readings import (
    best_answer,
    first_value,
    follower_bound,
    pessimistic,
    worst_answer,
)
from flexlib.bilevel_solve import (
    REFORMULATIONS,
    BilevelOptimum,
    duality_bound,
    solve_bilevel,
    with_reach,
)
from flexlib.errors import DataError

PROBLEMS = load()
# Pairs whose slack has no end at objectives up to that of a first answer, since both levels can
# move away together; all other problems have a finite M.
WITHOUT_M = {
    "bard_1991_ex1": {"row 1", "lower bound of y1"},
    "mersha_dempe_2006_ex2": {"row 1", "row 2"},
    "hatz_2013": {"lower bound of y1", "lower bound of y2"},
    "outrata_cervinka_2009": {"row 1", "row 2", "upper bound of y2"},
    "clark_westerberg_1988_unbounded": {"row 1", "row 2"},
    "hatz_2013_unbounded": {"lower bound of y1", "lower bound of y2"},
    "moore_bard_1990_unbounded": {"row 1", "row 2"},
    "tuy_2007_ex3": {
        *(f"row {j}" for j in range(1, 8)),
        *(f"lower bound of y{j}" for j in range(1, 7)),
    },
}


def each(keep: Callable[[Problem], bool] = lambda p: True) -> pytest.MarkDecorator:
    chosen = {name: p for name, p in PROBLEMS.items() if keep(p)}
    return pytest.mark.parametrize("problem", chosen.values(), ids=chosen)


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-5, abs=1e-6)


def assert_optimum(found: BilevelOptimum, value: float | None) -> None:
    assert found.certificate.ok, [c for c in found.certificate.checks if not c.ok]
    assert value is None or found.value == near(value)
    assert found.bound <= found.value + 1e-6 * max(1.0, abs(found.value))
    assert found.guessed == 0


def integer_products(problem: Bilevel) -> bool:
    used = in_products(problem)
    low, high = problem.lower[used], problem.upper[used]
    finite = np.isfinite(low) & np.isfinite(high)
    return bool((problem.integer[used] & finite | (low == high)).all())


OPTIMAL = each(lambda p: p.status == "optimal" or p.status is None)


# --------------------------------------------------------------------------------------------
# Problems of the literature


@OPTIMAL
def test_published_optimum_by_big_m(problem: Problem) -> None:
    if problem.name in WITHOUT_M:
        with pytest.raises(NoBigM) as error:
            solve_bilevel(problem.arrays)
        assert set(error.value.why) == WITHOUT_M[problem.name]
        assert all("slack has no bound" in why for why in error.value.why.values())
        return
    assert_optimum(solve_bilevel(problem.arrays), problem.value)


@OPTIMAL
def test_published_optimum_by_special_ordered_sets(problem: Problem) -> None:
    assert_optimum(solve_bilevel(problem.arrays, "sos1"), problem.value)


@OPTIMAL
@pytest.mark.parametrize("reformulation", ["kkt", "sos1"])
def test_published_optimum_with_strong_duality_as_a_cut(
    problem: Problem, reformulation: str
) -> None:
    p = problem.arrays
    try:
        m = big_m(p, first_value(p))
        with_strong_duality(with_reach(kkt_system(p, m), p), p)
    except (NoBigM, DataError):
        # no M, a curved follower, or a factor that may be anything: the cut does not apply
        with pytest.raises((NoBigM, DataError)):
            solve_bilevel(p, reformulation, cut=True)
        return
    assert_optimum(solve_bilevel(p, reformulation, cut=True), problem.value)


def test_the_cut_applies_to_most_problems() -> None:
    count = 0
    for p in PROBLEMS.values():
        try:
            solve_bilevel(p.arrays, cut=True, time_limit_s=20)
            count += 1
        except (NoBigM, DataError, Infeasible, Unbounded):
            continue
    assert count >= 40


@each(lambda p: integer_products(p.arrays) and not p.arrays.follower.q.nnz)
def test_strong_duality_where_it_is_exact(problem: Problem) -> None:
    if problem.status == "infeasible":
        with pytest.raises((Infeasible, Unbounded)):
            solve_bilevel(problem.arrays, "strong duality")
    elif problem.name in WITHOUT_M:
        with pytest.raises(NoBigM):
            solve_bilevel(problem.arrays, "strong duality")
    else:
        assert_optimum(solve_bilevel(problem.arrays, "strong duality"), problem.value)


@each(lambda p: not integer_products(p.arrays) and p.status == "optimal")
def test_strong_duality_is_refused_where_it_is_not_exact(problem: Problem) -> None:
    with pytest.raises(DataError, match="strong duality is exact for these alone") as error:
        solve_bilevel(problem.arrays, "strong duality")
    named = {fault.row for fault in error.value.faults}
    assert named <= {problem.arrays.names[j] for j in in_products(problem.arrays)}


@each(lambda p: p.status in ("infeasible", "unbounded"))
@pytest.mark.parametrize("reformulation", ["kkt", "sos1"])
def test_what_has_no_optimum_says_so(problem: Problem, reformulation: str) -> None:
    expected: tuple[type[Exception], ...] = (Infeasible,)
    if problem.status == "unbounded":
        expected = (Unbounded,)
    elif "follower_unbounded" in problem.name:
        expected = (Unbounded,)  # of the follower
    if problem.name in WITHOUT_M and reformulation == "kkt":
        expected = (NoBigM,)
    with pytest.raises(expected):
        solve_bilevel(problem.arrays, reformulation)


@OPTIMAL
def test_strong_duality_relaxed_is_a_bound(problem: Problem) -> None:
    try:
        bound = duality_bound(problem.arrays)
    except (NoBigM, DataError, Unbounded):
        return
    assert problem.value is None or bound <= problem.value + 1e-5 * max(1, abs(problem.value))


@pytest.mark.parametrize("price", [1.0, 2.0])
def test_an_objective_without_a_bound_that_scip_does_not_see(price: float) -> None:
    # where d1 = d2 the follower does not mind how much it takes, and the leader wants it endless
    f = Follower(c=np.zeros(1), c_leader=csr_array([[price, -1.0]]), g=csr_array([[-1.0]]),
                 h=np.array([-3.0]), g_leader=csr_array([[-1.0, 0.0]]))  # fmt: skip
    p = Bilevel(f, cost=np.ones(2), cost_follower=-np.ones(1), upper=np.full(2, 2.0))
    with pytest.raises(SolveError) as error:  # Unbounded, or SCIP's answer refuted
        solve_bilevel(p, "sos1")
    assert not isinstance(error.value, Infeasible)


# --------------------------------------------------------------------------------------------
# Menus


MENUS = {
    "dempe_2015_integer": 1, "moore_bard_1990_leader_integer": 1, "yue_2019_toy2_leader_integer": 1,
    "bard_falk_1982_ex1": 5, "clark_westerberg_1990": 9, "dempe_2012": 7, "liu_hart_1994": 5,
}  # fmt: skip


@pytest.mark.parametrize("name", MENUS)
def test_a_menu_is_solved_exactly_by_strong_duality(name: str) -> None:
    p = PROBLEMS[name].arrays
    entries = {}
    for j in range(len(p.cost)):
        low, high = p.lower[j], min(p.upper[j], p.lower[j] + 12.0)
        integer = p.integer[j]
        entries[j] = np.arange(low, high + 1) if integer else np.linspace(low, high, MENUS[name])
    menu, value = on_menu(p, entries)
    assert is_exact(menu)
    best = np.inf
    for index in np.ndindex(*(len(v) for v in entries.values())):
        d = np.array([entries[j][i] for j, i in enumerate(index)])
        if (p.rows @ d > p.limit + 1e-9)[abs(p.rows_follower).sum(axis=1) == 0].any():
            continue
        try:
            best = min(best, p.value(d, best_answer(p, d)))
        except Infeasible:
            continue
    found = solve_bilevel(menu, "strong duality")
    assert_optimum(found, best)
    d = value @ found.d
    assert any(np.allclose(d[j], v) for j in entries for v in entries[j])
    assert p.value(d, found.x) == near(found.value)
    for other in ("kkt", "sos1"):
        assert_optimum(solve_bilevel(menu, other), best)


def test_a_menu_holds_values_that_are_allowed() -> None:
    p = PROBLEMS["yue_2019_toy2_leader_integer"].arrays
    with pytest.raises(DataError) as error:
        on_menu(p, {0: np.array([p.lower[0] - 1, p.lower[0] + 0.5, p.lower[0]])})
    assert len(error.value.faults) == 2


@pytest.mark.parametrize(("cost", "value"), [(1.0, 1.0), (-1.0, -2.0)])
def test_a_menu_means_exactly_one_of_its_entries(cost: float, value: float) -> None:
    f = Follower(c=np.ones(1), c_leader=csr_array([[1.0]]), upper=np.ones(1))
    p = Bilevel(f, cost=np.array([cost]), upper=np.array([3.0]))
    menu, _ = on_menu(p, {0: np.array([1.0, 2.0])})
    for reformulation in REFORMULATIONS:
        assert_optimum(solve_bilevel(menu, reformulation), value)


def test_integer_decisions_with_bounds_that_are_none() -> None:
    # x <= 4 - d, follower wants x large, leader d small: d = 1, not 0.5
    f = Follower(c=-np.ones(1), g=csr_array([[1.0]]), h=np.array([4.0]),
                 g_leader=csr_array([[1.0]]))  # fmt: skip
    p = Bilevel(f, cost=np.ones(1), cost_follower=np.full(1, 0.1), lower=np.array([0.5]),
                upper=np.array([2.5]), integer=np.array([True]))  # fmt: skip
    for reformulation in REFORMULATIONS:
        assert_optimum(solve_bilevel(p, reformulation), 1.3)


# --------------------------------------------------------------------------------------------
# Random programmes


def random_one(seed: int) -> Bilevel:
    """Draws of two kinds: costs that move with the decision, and costs that do not."""
    p = random_problem(np.random.default_rng(seed), follower=2 + seed % 2, rows=2 + seed % 3)
    fixed = replace(p.follower, c_leader=csr_array((len(p.follower.c), 2)))
    return p if seed % 2 else replace(p, follower=fixed)


@pytest.mark.parametrize("seed", range(60))
def test_random_programmes_in_both_readings(seed: int) -> None:
    p = random_one(seed)
    best, worst = enumerated(p)
    ways: list[tuple[str, bool]] = [(r, False) for r in REFORMULATIONS]
    ways += [("kkt", True), ("sos1", True)] if seed % 4 == 0 else []
    for reformulation, cut in ways:
        if best.status == "infeasible":
            with pytest.raises(Infeasible):
                solve_bilevel(p, reformulation, cut=cut)
            continue
        try:
            found = solve_bilevel(p, reformulation, cut=cut)
        except NoBigM:
            # the follower has no answer to some decisions: no point is always allowed
            assert p.follower.g_leader.nnz
            assert reformulation != "sos1"
            continue
        assert_optimum(found, best.value)
        x = worst_answer(p, found.d)
        expected = over_answers(p, found.d, -p.cost_follower, found.x)
        assert found.pessimistic == near(p.value(found.d, expected.x))
        assert follower_bound(p, found.d) == near(p.follower.cost(found.d, x))
    if seed % 2 == 0 and worst.status == "optimal":
        transformed = pessimistic(p)
        assert solve_bilevel(transformed, "sos1").value == near(worst.value)
        try:
            assert solve_bilevel(transformed).value == near(worst.value)
        except NoBigM:
            assert abs(transformed.follower.g_leader).sum() > 0


def test_random_programmes_have_m_more_often_than_not() -> None:
    count = 0
    for seed in range(0, 60, 4):
        try:
            big_m(random_one(seed))
            count += 1
        except (NoBigM, Infeasible):
            continue
    assert count >= 10


@each(lambda p: "pessimistic differs" in p.flags and not p.arrays.follower.q.nnz)
def test_pessimistic_optimum_of_the_literature(problem: Problem) -> None:
    p = problem.arrays
    if p.follower.c_leader.nnz:
        with pytest.raises(DataError, match="costs linear in x alone"):
            pessimistic(p)
        return
    expected = worst_case(p)
    if expected.status == "optimal":
        assert solve_bilevel(pessimistic(p), "sos1").value == near(expected.value)


@each(lambda p: "coupling rows" in p.flags)
def test_the_pessimistic_reading_names_coupling_rows(problem: Problem) -> None:
    p = problem.arrays
    named = {p.row_names[j] for j in np.flatnonzero(abs(p.rows_follower).sum(axis=1))}
    for refused in (pessimistic, lambda p: worst_answer(p, np.zeros(len(p.cost)))):
        with pytest.raises(DataError) as error:
            refused(p)
        assert {fault.row for fault in error.value.faults} == named


def test_the_pessimistic_optimum_of_a_curved_follower_is_refused() -> None:
    p = random_problem(np.random.default_rng(1), quadratic=True)
    p = replace(p, follower=replace(p.follower, c_leader=csr_array((2, 2))))
    with pytest.raises(DataError, match="costs linear in x alone"):
        pessimistic(p)


def test_best_and_worst_answer_of_a_tie() -> None:
    problem = PROBLEMS["shimizu_1997_ex1512"]
    p, d = problem.arrays, problem.d
    assert p.value(d, best_answer(p, d)) == near(problem.value)
    assert p.value(d, worst_answer(p, d)) == near(problem.worst)


@pytest.mark.parametrize("seed", range(6))
def test_best_and_worst_answer_of_a_curved_follower(seed: int) -> None:
    # flat along x1 - x2: the whole segment x1 + x2 = t is optimal
    rng = np.random.default_rng(seed)
    t = float(rng.integers(1, 4))
    f = Follower(c=np.full(2, -t), q=csr_array(np.ones((2, 2))), upper=np.full(2, 5.0))
    p = Bilevel(f, cost=np.zeros(1), cost_follower=np.array([1.0, -1.0]), upper=np.ones(1))
    d = np.zeros(1)
    np.testing.assert_allclose(best_answer(p, d), [0, t], atol=1e-5)
    np.testing.assert_allclose(worst_answer(p, d), [t, 0], atol=1e-5)


# --------------------------------------------------------------------------------------------
# Starts, limits, guesses


@pytest.mark.parametrize("reformulation", REFORMULATIONS)
def test_a_right_start_gives_the_same_optimum(reformulation: str) -> None:
    p = PROBLEMS["yue_2019_toy2_leader_integer"].arrays
    starts = []
    for value in np.arange(p.lower[0], p.upper[0] + 1):
        d = np.array([value])
        try:
            starts.append((d, best_answer(p, d)))
        except Infeasible:
            continue
    starts.sort(key=lambda start: p.value(*start))
    for start in (starts[0], starts[-1]):
        assert_optimum(solve_bilevel(p, reformulation, start=start), -20.0)


@pytest.mark.parametrize("reformulation", REFORMULATIONS)
def test_a_start_that_is_no_optimal_answer_is_refused(reformulation: str) -> None:
    p = PROBLEMS["yue_2019_toy2_leader_integer"].arrays
    found = solve_bilevel(p, "sos1")
    d, x = found.d, found.x
    wrong = {
        "follower above its least cost": (d, None),
        "follower's rows": (d, x + 1e3),
        "bounds": (d, x - 1e3),
        "integrality": (d + 1e-3, x),
        "leader's rows": (p.upper + 1e3, x),
        "shapes": (np.append(d, 0.0), x),
    }
    for what, (decision, answer) in wrong.items():
        if answer is None:  # allowed, but the dearest for the follower
            own = replace(p.follower, c=-p.follower.c, c_leader=-p.follower.c_leader)
            answer = best_answer(replace(p, follower=own), d)
        with pytest.raises(DataError, match="column start") as error:
            solve_bilevel(p, reformulation, start=(decision, answer))
        assert what in str(error.value)


def test_a_start_below_all_that_can_be_reached_is_refused_and_not_taken_for_a_cutoff() -> None:
    p = PROBLEMS["bard_falk_1982_ex1"].arrays
    with pytest.raises(DataError, match="column start"):
        solve_bilevel(p, start=(p.lower, np.full(len(p.follower.c), 1e4)))


def test_a_limit_carries_the_start_as_incumbent() -> None:
    drawn = random_problem(np.random.default_rng(7), follower=14, rows=9)
    own = drawn.follower
    own = replace(own, g_leader=csr_array((9, 2)), h=own.h + 9)  # feasible at all decisions
    p = replace(drawn, follower=own, integer=np.zeros(2, bool))
    d = np.zeros(2)
    x = best_answer(p, d)
    m = big_m(p)
    optimum = solve_bilevel(p, "sos1").value
    with pytest.raises(NotProven) as error:
        solve_bilevel(p, m=m, start=(d, x), time_limit_s=0.02)
    stopped = error.value
    assert stopped.bound <= optimum + 1e-6
    assert stopped.x is not None
    assert len(stopped.x) == len(d) + len(x)
    assert optimum - 1e-6 <= stopped.incumbent <= p.value(d, x) + 1e-6
    assert p.value(stopped.x[:2], stopped.x[2:]) == near(stopped.incumbent)


def test_bound_and_incumbent_are_watched() -> None:
    p = PROBLEMS["yue_2019_toy2_leader_integer"].arrays
    seen: list[tuple[float, float]] = []
    found = solve_bilevel(p, watch=lambda bound, incumbent: seen.append((bound, incumbent)))
    assert seen
    assert all(bound <= found.value + 1e-6 for bound, _ in seen)


@pytest.mark.parametrize("name", ["pineda_morales_2019", "pineda_morales_2019_scaled"])
def test_a_guessed_m_can_be_wrong_unseen(name: str) -> None:
    problem = PROBLEMS[name]
    p = problem.arrays
    for m, value in problem.big_m.items():
        found = solve_bilevel(p, m=guessed(p, m))
        assert found.value == near(value)
        failed = [c.name for c in found.certificate.checks if not c.ok]
        assert failed == ["big-M values without a derivation"]  # the follower is optimal each time
        assert found.guessed == len(pairs(p).limit)
        # what sits at its M warns; the scaled row loses its optimum without any sign of it
        assert bool(found.alarms) == (m == 50 and not name.endswith("scaled"))
    assert problem.as_printed(solve_bilevel(p).value) == near(102.0)
    assert_optimum(solve_bilevel(p), problem.value)


def test_a_guess_counts_in_every_reformulation() -> None:
    p = PROBLEMS["yue_2019_toy2_leader_integer"].arrays
    for reformulation in REFORMULATIONS:
        found = solve_bilevel(p, reformulation, m=guessed(p, 1e3))
        assert found.value == near(-20.0)
        assert not found.certificate.ok


def test_certificates_fail_where_something_is_wrong() -> None:
    found = solve_bilevel(PROBLEMS["yue_2019_toy2_leader_integer"].arrays)
    p = found.problem
    own = replace(p.follower, c=-p.follower.c, c_leader=-p.follower.c_leader)
    dearest = best_answer(replace(p, follower=own), found.d)
    changed = {
        "leader's rows": replace(found, problem=replace(
            p, rows=csr_array(np.ones((1, 1))), rows_follower=csr_array((1, len(found.x))),
            limit=found.d - 1e-4, row_names=["row"])),
        "follower's rows": replace(found, x=found.x + 1e3),
        "bounds": replace(found, problem=replace(p, upper=found.d - 1e-4)),
        "integrality": replace(found, d=found.d + 1e-4),
        "follower above its least cost": replace(found, x=dearest),
        "objective above its bound": replace(found, bound=found.value - 1e-3 * 20),
    }  # fmt: skip
    for name, wrong in changed.items():
        checks = {c.name: c for c in wrong.certificate.checks}
        assert not checks[name].ok, name
    above = replace(found, bound=found.value + 1e-3 * 20)  # a bound that cannot be one
    assert not above.certificate.ok


def test_an_unknown_reformulation_is_named() -> None:
    with pytest.raises(DataError, match="'mpec'"):
        solve_bilevel(PROBLEMS["bard_1983"].arrays, "mpec")
