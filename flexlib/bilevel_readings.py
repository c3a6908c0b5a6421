"""Answers of a follower to a decision, in the optimistic and in the pessimistic reading.

Where several answers are optimal for the follower, the leader may count on the best of them for
itself, or has to fear the worst. Of one decision both are linear programmes over the follower's
optimal face. The best decision in the pessimistic reading is found as an optimistic programme,
:eq:`bilevel-pessimistic`: the leader also chooses an x that the follower could choose, and the new
follower is the adversary, who may take any answer that costs the follower no more than that x.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, hstack, vstack

from flexlib.bilevel import Bilevel, Follower
from flexlib.errors import DataError, Fault, Infeasible, Unbounded
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve

_FACE = 1e-9  # relative width of a face of optimal answers
_CURVED = 1e-7  # the same where the follower is quadratic


def follower_bound(problem: Bilevel, d: np.ndarray, x: np.ndarray | None = None) -> float:
    """Least cost of the follower at a decision, solved anew: a proven lower bound.

    Parameters
    ----------
    problem : Bilevel
    d : numpy.ndarray, shape (k,)
    x : numpy.ndarray, shape (n,), optional
        An answer within tolerances: limits that it exceeds are moved to it, else a decision at the
        edge of what leaves the follower an answer may leave it none.
    """
    own = problem.follower.at(d)
    if x is None:
        return _least(problem, own)[1]
    rows, equations = own.a @ x, len(problem.follower.b)
    below, above = np.minimum(own.row_lower, rows), np.maximum(own.row_upper, rows)
    below[:equations] = above[:equations] = rows[:equations]
    lower, upper = np.minimum(own.lower, x), np.maximum(own.upper, x)
    moved = replace(own, row_lower=below, row_upper=above, lower=lower, upper=upper)
    return _least(problem, moved)[1]


def _least(problem: Bilevel, own: LinearProgram) -> tuple[np.ndarray, float]:
    """An optimal answer and the proven bound on its cost."""
    f = problem.follower
    if not f.q.nnz:
        found = solve(own)
        return found.x, found.bound
    import cvxpy as cp  # slow to import, needed for curved costs only

    x = cp.Variable(len(f.c))
    low, up = np.isfinite(own.lower), np.isfinite(own.upper)
    rows = [x[low] >= own.lower[low], x[up] <= own.upper[up]]
    if len(f.b):
        rows.append(f.a @ x == own.row_upper[: len(f.b)])
    if len(f.h):
        rows.append(f.g @ x <= own.row_upper[len(f.b) :])
    curved = 0.5 * cp.quad_form(x, cp.psd_wrap(f.q.toarray()))
    bound = solve(cp.Problem(cp.Minimize(own.c @ x + curved), rows)).bound
    return np.asarray(x.value, dtype=float), bound


def _face(problem: Bilevel, d: np.ndarray) -> LinearProgram:
    """Optimal answers to a decision: of equal cost and, where it is quadratic, equal slope."""
    f, own = problem.follower, problem.follower.at(d)
    x, least = _least(problem, own)
    if not f.q.nnz:
        rows, middle, width = (
            csr_array(own.c[None]),
            np.array([least]),
            _FACE * max(1.0, abs(least)),
        )
    else:
        rows = csr_array(vstack([csr_array(own.c[None]), f.q]))
        middle = rows @ x
        width = _CURVED * max(1.0, float(np.abs(middle).max()))
    return replace(
        own,
        a=csr_array(vstack([own.a, rows])),
        row_lower=np.concatenate([own.row_lower, middle - width]),
        row_upper=np.concatenate([own.row_upper, middle + width]),
        row_names=[*own.row_names, *["optimal face"] * len(middle)],
    )


def best_answer(problem: Bilevel, d: np.ndarray) -> np.ndarray:
    """The optimal answer that is best for the leader and allowed by its rows.

    Raises
    ------
    Infeasible
        If no optimal answer is allowed, or the follower has none.
    """
    face = _face(problem, d)
    room = problem.limit - problem.rows @ d
    return solve(
        replace(
            face,
            c=problem.cost_follower,
            a=csr_array(vstack([face.a, problem.rows_follower])),
            row_lower=np.concatenate([face.row_lower, np.full(len(room), -np.inf)]),
            row_upper=np.concatenate([face.row_upper, room]),
            row_names=[*face.row_names, *problem.row_names],
        )
    ).x


def worst_answer(problem: Bilevel, d: np.ndarray) -> np.ndarray:
    """The optimal answer that is worst for the leader.

    Raises
    ------
    DataError
        Naming the leader's rows that hold variables of the follower: whether a decision is allowed
        then depends on the answer, which this reading does not define.
    """
    _assert_uncoupled(problem)
    return solve(replace(_face(problem, d), c=-problem.cost_follower)).x


def first_value(problem: Bilevel) -> float:
    """Leader's objective at the best decision for a follower that obeys; infinite if none."""
    try:
        d = solve(problem.high_point()).x[: len(problem.cost)]
        d = np.where(problem.integer, np.round(d), d)
        return problem.value(d, best_answer(problem, d))
    except (Infeasible, Unbounded):
        return np.inf


def pessimistic(problem: Bilevel) -> Bilevel:
    """The programme whose optimistic optimum is the given one's pessimistic optimum.

    Its decisions are those of the given programme, then x; its follower is the adversary.

    Raises
    ------
    DataError
        If the leader's rows hold variables of the follower, or if the follower's cost holds
        decisions or squares: the adversary's limit on costs would not be linear.
    """
    _assert_uncoupled(problem)
    f, k, n = problem.follower, len(problem.cost), len(problem.follower.c)
    for name, part in (("c_leader", f.c_leader), ("q", f.q)):
        if part.nnz:
            expected = "none: the pessimistic reading is solved for costs linear in x alone"
            raise DataError([Fault("follower", "", name, f"{part.nnz} entries", expected)])
    rows = [
        hstack([problem.rows, problem.rows_follower]),
        hstack([f.a_leader, f.a]),
        hstack([-f.a_leader, -f.a]),
        hstack([f.g_leader, f.g]),
    ]
    adversary = Follower(
        c=-problem.cost_follower,
        a=f.a, b=f.b, g=csr_array(vstack([f.g, csr_array(f.c[None])])), h=np.append(f.h, 0.0),
        lower=f.lower, upper=f.upper,
        a_leader=csr_array(hstack([f.a_leader, csr_array((len(f.b), n))])),
        g_leader=csr_array(
            vstack([hstack([f.g_leader, csr_array((len(f.h), n))]),
                    csr_array(np.concatenate([np.zeros(k), -f.c])[None])])
        ),
        names=[f"{name} of the adversary" for name in f.names],
        equation_names=f.equation_names,
        row_names=[*f.row_names, "no dearer than the follower's answer"],
    )  # fmt: skip
    return Bilevel(
        adversary,
        cost=np.concatenate([problem.cost, np.zeros(n)]),
        cost_follower=problem.cost_follower,
        lower=np.concatenate([problem.lower, f.lower]),
        upper=np.concatenate([problem.upper, f.upper]),
        rows=csr_array(vstack(rows)),
        limit=np.concatenate([problem.limit, f.b, -f.b, f.h]),
        integer=np.concatenate([problem.integer, np.zeros(n, dtype=bool)]),
        names=[*problem.names, *f.names],
        row_names=[*problem.row_names, *f.equation_names * 2, *f.row_names],
    )


def _assert_uncoupled(problem: Bilevel) -> None:
    coupled = np.flatnonzero(abs(problem.rows_follower).sum(axis=1))
    faults = [
        Fault("leader", problem.row_names[j], "", "variables of the follower",
              "decisions only: the pessimistic reading does not define more")
        for j in coupled
    ]  # fmt: skip
    if faults:
        raise DataError(faults)
