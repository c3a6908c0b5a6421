"""Bilevel programmes solved to proven optimality, by the reformulation that one argument names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.sparse import csr_array

from flexlib.bilevel import Bilevel
from flexlib.bilevel_big_m import big_m, up_to
from flexlib.bilevel_check import assert_solvable
from flexlib.bilevel_duality import in_products, is_exact, on_menu, with_strong_duality
from flexlib.bilevel_kkt import GUESSED, BigM, kkt_system, with_binaries
from flexlib.bilevel_multipliers import at_big_m, completed, multipliers
from flexlib.bilevel_readings import first_value, follower_bound, worst_answer
from flexlib.bilevel_sos1 import solve_sos1
from flexlib.certificate import Certificate, Check, largest
from flexlib.errors import DataError, Fault, Infeasible, NotProven, Unbounded
from flexlib.linear_program import LinearProgram
from flexlib.solver import Watch, solve

REFORMULATIONS = ("kkt", "strong duality", "sos1")
_TOLERANCE = 1e-6
_OPTIMALITY = 1e-6  # of the follower, relative to its cost


@dataclass(frozen=True)
class BilevelOptimum:
    """Optimum of a bilevel programme in the optimistic reading.

    Attributes
    ----------
    problem : Bilevel
    d, x : numpy.ndarray, shapes (k,) and (n,)
    bound : float
        Proven lower bound on the leader's objective.
    gap : float
        Relative gap that was asked for.
    alarms : list of str
        Pairs whose multiplier sits at its M: no fault where M is derived, a warning where not; of
        guessed ones also pairs whose slack does.
    guessed : int
        Big-M values without a derivation.
    """

    problem: Bilevel
    d: np.ndarray
    x: np.ndarray
    bound: float
    gap: float
    alarms: list[str]
    guessed: int

    @property
    def value(self) -> float:
        """Leader's objective."""
        return self.problem.value(self.d, self.x)

    @property
    def pessimistic(self) -> float:
        """Leader's objective at the same decision with the follower's worst optimal answer."""
        return self.problem.value(self.d, worst_answer(self.problem, self.d))

    @property
    def certificate(self) -> Certificate:
        """Feasibility, optimality of the follower solved anew, gap, M without derivation."""
        p, d, x = self.problem, self.d, self.x
        f = p.follower
        rows = p.rows @ d + p.rows_follower @ x - p.limit
        bounds = np.concatenate([p.lower - d, d - p.upper, f.lower - x, x - f.upper])
        equations = np.abs(f.a @ x + f.a_leader @ d - f.b)
        own = np.concatenate([equations, f.g @ x + f.g_leader @ d - f.h])
        cost = f.cost(d, x)
        regret = (cost - follower_bound(p, d, x)) / max(1.0, abs(cost))
        gap = abs(self.value - self.bound) / max(1.0, abs(self.value))
        return Certificate(
            (
                Check("leader's rows", max(largest(rows), 0.0), _TOLERANCE, ""),
                Check("follower's rows", max(largest(own), 0.0), _TOLERANCE, ""),
                Check("bounds", max(largest(bounds), 0.0), _TOLERANCE, ""),
                Check("integrality", largest(np.abs(d - np.round(d))[p.integer]), _TOLERANCE, ""),
                Check("follower above its least cost", regret, _OPTIMALITY, "relative"),
                Check("objective above its bound", gap, max(self.gap, _TOLERANCE), "relative"),
                Check("big-M values without a derivation", float(self.guessed), 0.0, ""),
            )
        )  # fmt: skip


def solve_bilevel(
    problem: Bilevel,
    reformulation: str = "kkt",
    *,
    m: BigM | None = None,
    cut: bool = False,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    gap: float = 1e-6,
    time_limit_s: float = 600.0,
    watch: Watch | None = None,
) -> BilevelOptimum:
    """Solve to proven optimality or raise.

    Parameters
    ----------
    problem : Bilevel
    reformulation : {"kkt", "strong duality", "sos1"}
        KKT conditions with big-M, by HiGHS; strong duality where it is exact, for integer decisions
        in all products, by HiGHS; KKT conditions with special ordered sets, by SCIP.
    m : BigM, optional
        Derived by `flexlib.bilevel_big_m.big_m` where it is needed and not given.
    cut : bool
        Whether strong duality is added to the KKT conditions as a cut.
    start : tuple of numpy.ndarray, optional
        Decision d and an optimal answer x to it, to start from.
    gap : float
        Relative gap at which the optimum counts as proven.
    time_limit_s : float
        Of branch and bound: time that passes with HiGHS, CPU time with SCIP.
    watch : callable, optional
        Called with bound and incumbent as the solver finds them.

    Returns
    -------
    BilevelOptimum

    Raises
    ------
    Infeasible, Unbounded
        Of the programme or of its follower, which is looked at first.
    NoBigM
        Naming the pairs for which no M follows.
    DataError
        If strong duality is not exact, naming the decisions; if the start is not an optimal answer.
    NotProven
        With bound, incumbent and its d and x as ``x``.
    """
    if reformulation not in REFORMULATIONS:
        expected = "one of " + ", ".join(map(repr, REFORMULATIONS))
        raise DataError(
            [Fault("solve_bilevel", "", "reformulation", repr(reformulation), expected)]
        )
    assert_solvable(problem)
    if start is not None:
        start = _assert_answer(problem, *start)
    if reformulation == "strong duality":
        _assert_integer(problem)
        by, needed = partial(_by_duality, problem), problem.follower.g_leader.nnz > 0
    else:
        by, needed = partial(_by_kkt, problem, reformulation, cut), cut or reformulation == "kkt"
    solved = partial(by, start=start, gap=gap, time_limit_s=time_limit_s, watch=watch)
    if m is not None or not needed:
        return solved(m=m)
    return _with_derived_m(
        problem, solved, problem.value(*start) if start else first_value(problem)
    )


def _with_derived_m(
    problem: Bilevel, solved: Callable[..., BilevelOptimum], cutoff: float
) -> BilevelOptimum:
    """With M for what is up to a value, and without it where there is nothing.

    The value of an answer is known within tolerances only, and may be out of reach.
    """
    most = up_to(cutoff)
    if np.isfinite(most):
        try:
            found = solved(m=big_m(problem, cutoff))
            if found.bound <= most:
                return found
        except Infeasible:
            pass
        except NotProven as error:
            if error.bound <= most:
                raise
    return solved(m=big_m(problem))


def _by_kkt(
    problem: Bilevel,
    reformulation: str,
    cut: bool,
    *,
    m: BigM | None,
    start: tuple[np.ndarray, np.ndarray] | None,
    gap: float,
    time_limit_s: float,
    watch: Watch | None,
) -> BilevelOptimum:
    """KKT conditions, with complementarity by big-M or by special ordered sets."""
    system = kkt_system(problem, m)
    if cut:
        system = with_strong_duality(with_reach(system, problem), problem)
    point = None if start is None else completed(problem, system, *start)
    try:
        if reformulation == "sos1":
            x, bound = solve_sos1(
                system, problem, gap=gap, time_limit_s=time_limit_s, start=point, watch=watch
            )
        else:
            assert m is not None
            if point is not None:
                point = np.append(point, multipliers(problem, point)[m.open] > _TOLERANCE)
            program = with_binaries(system, problem, m)
            found = solve(program, gap=gap, time_limit_s=time_limit_s, start=point, watch=watch)
            x, bound = found.x, found.bound
    except NotProven as error:
        raise _of_both_levels(error, problem) from None
    d, answer = _both_levels(problem, x)
    alarms = at_big_m(problem, m, d, answer, multipliers(problem, x)) if m is not None else []
    return BilevelOptimum(problem, d, answer, bound, gap, alarms, _guessed(m))


def _by_duality(
    problem: Bilevel,
    *,
    m: BigM | None,
    start: tuple[np.ndarray, np.ndarray] | None,
    gap: float,
    time_limit_s: float,
    watch: Watch | None,
) -> BilevelOptimum:
    """Strong duality, decisions in products by binaries: one for every integer value."""
    low = np.where(problem.integer, np.ceil(problem.lower), problem.lower)
    high = np.where(problem.integer, np.floor(problem.upper), problem.upper)
    menu = {}
    if not is_exact(problem):
        menu = {int(j): np.arange(low[j], high[j] + 1) for j in in_products(problem)}
    chosen, value = on_menu(problem, menu)
    system = with_strong_duality(with_reach(kkt_system(chosen, m), chosen), chosen)
    point = None
    if start is not None:
        d = [
            menu[j] == start[0][j] if j in menu else start[0][j : j + 1]
            for j in range(len(problem.cost))
        ]
        point = completed(chosen, system, np.concatenate(d).astype(float), start[1])
    try:
        found = solve(system, gap=gap, time_limit_s=time_limit_s, start=point, watch=watch)
    except NotProven as error:
        raise _of_both_levels(error, chosen, value) from None
    entries, x = _both_levels(chosen, found.x)
    return BilevelOptimum(problem, value @ entries, x, found.bound, gap, [], _guessed(m))


def _assert_integer(problem: Bilevel) -> None:
    """Strong duality is exact where decisions in products are integer between bounds, or fixed."""
    used = in_products(problem)
    low, high = problem.lower[used], problem.upper[used]
    whole = problem.integer[used] & np.isfinite(low) & np.isfinite(high)
    faults = [
        Fault("leader", problem.names[j], "", "a decision that is not integer between bounds",
              "an integer one, or one on a menu: strong duality is exact for these alone")
        for j in used[~(whole | (low == high))]
    ]  # fmt: skip
    if faults:
        raise DataError(faults)


def _assert_answer(problem: Bilevel, d: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A start, its integers rounded, if it is an optimal answer to an allowed decision."""
    expected, k, n = "an optimal answer of the follower", len(problem.cost), len(problem.follower.c)
    if np.shape(d) != (k,) or np.shape(x) != (n,):
        found, expected = f"shapes {np.shape(d)} and {np.shape(x)}", f"shapes {(k,)} and {(n,)}"
    else:
        try:
            given = BilevelOptimum(problem, d, x, problem.value(d, x), 0.0, [], 0).certificate
            found = "; ".join(f"{c.name} {c.value:.3g}" for c in given.checks if not c.ok)
        except (Infeasible, Unbounded) as error:
            found = f"a decision that leaves the follower without an answer: {error}"
        if not found:
            return np.where(problem.integer, np.round(d), d), x
    raise DataError([Fault("solve_bilevel", "", "start", found, expected)])


def duality_bound(problem: Bilevel, m: BigM | None = None, time_limit_s: float = 600.0) -> float:
    """Lower bound on the leader's objective by strong duality with McCormick's envelopes.

    Parameters
    ----------
    problem : Bilevel
    m : BigM, optional
        Derived where a decision is in the follower's rows.
    time_limit_s : float
    """
    if m is None and problem.follower.g_leader.nnz:
        m = big_m(problem)
    system = with_reach(kkt_system(problem, m), problem)
    return solve(with_strong_duality(system, problem), time_limit_s=time_limit_s).bound


def with_reach(system: LinearProgram, problem: Bilevel) -> LinearProgram:
    """Bounds of what is in products, at most the reach of both levels together."""
    whole = replace(problem.high_point(), integer=np.zeros(0, dtype=bool))
    k = len(problem.cost)
    products = np.flatnonzero(abs(problem.follower.c_leader).sum(axis=1)) + k
    lower, upper = system.lower.copy(), system.upper.copy()
    for j in [*in_products(problem), *products]:
        unit = np.zeros(len(whole.c))
        unit[j] = 1.0
        for sign, limit, tighter in ((1.0, lower, np.maximum), (-1.0, upper, np.minimum)):
            try:
                limit[j] = tighter(limit[j], sign * solve(replace(whole, c=sign * unit)).bound)
            except Unbounded:
                continue
    whole_low, whole_high = np.ceil(lower - _TOLERANCE), np.floor(upper + _TOLERANCE)
    lower = np.where(system.integer, whole_low, lower)
    return replace(system, lower=lower, upper=np.where(system.integer, whole_high, upper))


def _both_levels(problem: Bilevel, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decision, integers rounded, and answer in a point of a system."""
    k, n = len(problem.cost), len(problem.follower.c)
    return np.where(problem.integer, np.round(x[:k]), x[:k]), x[k : k + n]


def _of_both_levels(
    error: NotProven, problem: Bilevel, value: csr_array | None = None
) -> NotProven:
    """The same error with d and x of the incumbent alone."""
    if error.x is not None:
        d, x = _both_levels(problem, error.x)
        error.x = np.concatenate([d if value is None else value @ d, x])
    return error


def _guessed(m: BigM | None) -> int:
    return m.how.count(GUESSED) if m is not None else 0
