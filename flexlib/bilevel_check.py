"""What is wrong or worth knowing about a bilevel programme before it is solved.

The decisions at which the follower has an allowed answer are a polyhedron, and so are those at
which its cost has a lower bound (its dual is feasible). All decisions between the leader's bounds
are in it exactly when all corners of the bounds are. The corner that is farthest outside is the
optimum of a mixed-integer programme: a certificate times a corner, exact with 0-1 decisions. With
no decision inside, there is nothing to solve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, eye_array, hstack, vstack

from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import pairs
from flexlib.errors import Infeasible, Unbounded
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve

_OUTSIDE = 1e-7


@dataclass(frozen=True)
class Finding:
    """A finding about a bilevel programme.

    Attributes
    ----------
    kind : str
        "follower infeasible", "follower unbounded", "coupling row" or "not examined".
    statement : str
    names : list of str
        Of the rows or variables concerned.
    d : numpy.ndarray or None
        A decision between the leader's bounds at which it happens.
    """

    kind: str
    statement: str
    names: list[str]
    d: np.ndarray | None = None


def findings(problem: Bilevel) -> list[Finding]:
    """Decisions that leave the follower without an answer, and rows that couple the levels.

    Such decisions are not errors: in both readings the leader must not choose them.

    Parameters
    ----------
    problem : Bilevel

    Returns
    -------
    list of Finding
        Empty if the follower has an optimal answer whatever the leader decides between its bounds,
        and sees all rows in which its variables occur.
    """
    found = [*_infeasible_at(problem), *_unbounded_at(problem)]
    coupled = np.flatnonzero(abs(problem.rows_follower).sum(axis=1))
    if len(coupled):
        names = [problem.row_names[j] for j in coupled]
        what = (
            "the leader's rows hold variables of the follower: an answer that breaks them is lost "
        )
        found.append(Finding("coupling row", f"{what}to the leader, and the follower does not care",
                             names))  # fmt: skip
    return found


def assert_solvable(problem: Bilevel) -> None:
    """Raise if leader and follower have no common point, or the follower's cost never has a bound.

    Raises
    ------
    Infeasible
        Naming rows of leader and follower that cannot hold together.
    Unbounded
        Naming the follower's variables that run away at all decisions.
    """
    whole = problem.high_point()
    solve(LinearProgram(
        np.zeros(len(whole.c)), whole.a, whole.row_lower, whole.row_upper, whole.lower, whole.upper,
        whole.row_names, whole.column_names, whole.integer,
    ))  # fmt: skip
    f, pair, k = problem.follower, pairs(problem), len(problem.cost)
    system = hstack([f.c_leader, f.q, -f.a.T, pair.slack_x.T])  # d, Qx, y, mu
    n, e, p = len(f.c), len(f.b), len(pair.limit)
    free = np.full(n + e, np.inf)
    try:
        solve(LinearProgram(
            np.zeros(k + n + e + p), csr_array(system), -f.c, -f.c,
            np.concatenate([problem.lower, -free, np.zeros(p)]),
            np.concatenate([problem.upper, free, np.full(p, np.inf)]), f.names, [],
        ))  # fmt: skip
    except Infeasible as error:
        names = ", ".join(error.conflict)
        raise Unbounded(
            f"the follower's cost has no lower bound at any decision: {names}"
        ) from error


def _infeasible_at(problem: Bilevel) -> list[Finding]:
    """Farkas' certificate (y, mu) of the corner that breaks the follower's rows most."""
    f, pair = problem.follower, pairs(problem)
    certificate = LinearProgram(
        np.concatenate([-f.b, pair.limit]), csr_array(hstack([f.a.T, -pair.slack_x.T])),
        np.zeros(len(f.c)), np.zeros(len(f.c)),
        np.concatenate([np.full(len(f.b), -1.0), np.zeros(len(pair.limit))]),
        np.ones(len(f.b) + len(pair.limit)), f.names, [],
    )  # fmt: skip
    product = csr_array(hstack([f.a_leader.T, -pair.slack_d.T]))
    what = "the follower has no allowed answer at some decisions, for example"
    return _farthest(problem, certificate, product, "follower infeasible", what,
                     [*f.equation_names, *pair.names])  # fmt: skip


def _unbounded_at(problem: Bilevel) -> list[Finding]:
    """Ray along which the follower's cost falls most at some corner."""
    f, pair = problem.follower, pairs(problem)
    n, p = len(f.c), len(pair.limit)
    zero = np.zeros(len(f.b) + n)
    ray = LinearProgram(
        f.c, csr_array(vstack([f.a, f.q, pair.slack_x])),
        np.concatenate([zero, np.full(p, -np.inf)]), np.concatenate([zero, np.zeros(p)]),
        -np.ones(n), np.ones(n), [""] * (len(zero) + p), f.names,
    )  # fmt: skip
    what = "the follower's cost has no lower bound at some decisions, for example"
    return _farthest(problem, ray, csr_array(f.c_leader.T), "follower unbounded", what, f.names)


def _farthest(
    problem: Bilevel, own: LinearProgram, product: csr_array, kind: str, what: str, names: list[str]
) -> list[Finding]:
    """Least of c v + d'(product)v over v and corners d of the bounds; below 0 a finding."""
    used = np.flatnonzero(abs(product).sum(axis=1))
    low = np.where(problem.integer, np.ceil(problem.lower), problem.lower)[used]
    high = np.where(problem.integer, np.floor(problem.upper), problem.upper)[used]
    endless = [problem.names[j] for j in used[~(np.isfinite(low) & np.isfinite(high))]]
    if endless:
        return [Finding("not examined", f"{kind}: decisions without bounds", endless)]
    table = product[used].tocoo()
    k, v, count = len(used), len(own.c), len(table.data)
    row, column = table.coords
    # w = z v, exact for z in {0, 1}: own.lower z <= w <= own.upper z, v - upper (1 - z) <= w <= ...
    at = np.arange(count)
    z = coo_array((np.ones(count), (at, row)), shape=(count, k))
    of = coo_array((np.ones(count), (at, column)), shape=(count, v))
    least, most, eye = (
        diags_array(own.lower[column]),
        diags_array(own.upper[column]),
        eye_array(count),
    )
    blocks = [
        hstack([own.a, csr_array((own.a.shape[0], k + count))]),
        hstack([csr_array((count, v)), least @ z, -eye]),
        hstack([csr_array((count, v)), -most @ z, eye]),
        hstack([-of, -least @ z, eye]),
        hstack([of, most @ z, -eye]),
    ]
    above = [np.zeros(2 * count), -own.lower[column], own.upper[column]]
    result = solve(
        LinearProgram(
            np.concatenate([own.c + product[used].T @ low, np.zeros(k),
                            table.data * (high - low)[row]]),
            csr_array(vstack(blocks)),
            np.concatenate([own.row_lower, np.full(4 * count, -np.inf)]),
            np.concatenate([own.row_upper, *above]),
            np.concatenate([own.lower, np.zeros(k), np.full(count, -np.inf)]),
            np.concatenate([own.upper, np.ones(k), np.full(count, np.inf)]),
            [""] * (own.a.shape[0] + 4 * count), [],
            np.concatenate([np.zeros(v, bool), np.ones(k, bool), np.zeros(count, bool)]),
        )
    )  # fmt: skip
    if result.objective > -_OUTSIDE:
        return []
    concerned = [names[j] for j in np.flatnonzero(np.abs(result.x[:v]) > _OUTSIDE)]
    d = np.clip(0.0, problem.lower, problem.upper)
    d[used] = np.where(result.x[v : v + k] > 0.5, high, low)
    where = ", ".join(f"{problem.names[j]} = {d[j]:g}" for j in used) or "all"
    return [Finding(kind, f"{what} {where}", concerned, d)]
