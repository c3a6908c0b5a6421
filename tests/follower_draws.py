"""Random quadratic followers for tests: general Q, equations, rows, the leader in all of it."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
from scipy.sparse import csr_array, vstack

from flexlib.bilevel import Bilevel, Follower
from flexlib.quadratic_follower import QuadraticAnswer
from flexlib.solver import solve


def filled(follower: Follower, decisions: int) -> Follower:
    """The follower as a `Bilevel` fills it in."""
    return Bilevel(follower, cost=np.zeros(decisions)).follower


def drawn(seed: int, decisions: int = 3) -> tuple[Follower, np.ndarray]:
    """A follower and a decision at which it has an answer; some variables free, some fixed."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(3, 9)), decisions
    e, p = int(rng.integers(0, 3)), int(rng.integers(0, 5))
    root = rng.normal(size=(n, n))
    a, g = rng.normal(size=(e, n)), rng.normal(size=(p, n)) * (rng.random((p, n)) < 0.7)
    b_leader, h_leader = 0.3 * rng.normal(size=(e, k)), 0.3 * rng.normal(size=(p, k))
    inside, d = rng.uniform(-0.5, 0.5, n), rng.normal(size=k)
    free = rng.random(n) < 0.2
    lower = np.where(free, -np.inf, rng.uniform(-1.5, -0.7, n))
    upper = np.where(free, np.inf, rng.uniform(0.7, 1.5, n))
    if seed % 4 == 0:
        lower[0] = upper[0] = inside[0]
    follower = Follower(
        c=2 * rng.normal(size=n),
        a=csr_array(a),
        b=a @ inside + b_leader @ d,
        g=csr_array(g),
        h=g @ inside + h_leader @ d + rng.uniform(0.05, 0.6, p),
        lower=lower,
        upper=upper,
        c_leader=csr_array(2 * rng.normal(size=(n, k))),
        a_leader=csr_array(b_leader),
        g_leader=csr_array(h_leader),
        q=csr_array(root @ root.T + 0.3 * np.eye(n)),
    )
    return filled(follower, k), d


def by_clarabel(follower: Follower, d: np.ndarray) -> np.ndarray:
    """Answer by another solver, through its own modelling."""
    f, x = follower, cp.Variable(len(follower.c))
    root = np.linalg.cholesky(f.q.toarray()).T
    cost = (f.c + f.c_leader @ d) @ x + 0.5 * cp.sum_squares(root @ x)
    bounded = np.isfinite(f.lower)
    rows = [x[bounded] >= f.lower[bounded], x[bounded] <= f.upper[bounded]]
    if len(f.b):
        rows.append(f.a.toarray() @ x == f.b - f.a_leader @ d)
    if len(f.h):
        rows.append(f.g.toarray() @ x <= f.h - f.g_leader @ d)
    solve(cp.Problem(cp.Minimize(cost), rows))
    return np.array(x.value)


def with_kinks(answer: QuadraticAnswer, seed: int) -> tuple[Follower, dict[str, np.ndarray]]:
    """The follower with bounds and rows moved to its answer: active there, multipliers of 0.

    Tight bounds and rows stay independent of each other, so that multipliers are unique.

    Returns
    -------
    follower : Follower
        Of the same answer.
    kinks : dict
        Masks "lower" and "upper" over variables, "rows" over rows.
    """
    f, x, rng = answer.follower, answer.x, np.random.default_rng(seed)
    inside = ~answer.tight
    kind = rng.choice(["lower", "upper", ""], len(x), p=[0.3, 0.3, 0.4])
    spare = int(inside.sum() - len(f.b) - answer.tight_rows.sum())
    inside[np.flatnonzero(inside)[max(spare - 1, 0) :]] = False
    lower, upper = inside & (kind == "lower"), inside & (kind == "upper")
    if spare < 1:
        return f, {"lower": lower, "upper": upper, "rows": np.zeros(len(f.h), dtype=bool)}
    extra = csr_array(rng.normal(size=(1, len(x))))
    moved = csr_array(0.3 * rng.normal(size=(1, len(answer.d))))
    more = extra @ x + moved @ answer.d
    other = replace(
        f,
        lower=np.where(lower, x, f.lower),
        upper=np.where(upper, x, f.upper),
        g=csr_array(vstack([f.g, extra])),
        h=np.append(f.h, more),
        g_leader=csr_array(vstack([f.g_leader, moved])),
        row_names=[*f.row_names, "kink"],
    )
    rows = np.arange(len(other.h)) == len(f.h)
    return other, {"lower": lower, "upper": upper, "rows": rows}
