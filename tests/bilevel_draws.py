"""Random bilevel programmes with all that `flexlib.bilevel` allows."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from flexlib.bilevel import Bilevel, Follower


def drawn(seed: int) -> Bilevel:
    """Up to two decisions and four variables, small integers: ties and degenerate corners.

    Equations (some redundant, some that move with the decision), rows (some in opposed pairs),
    free, fixed and one-sided columns, costs that move with the decision, semidefinite Q, integer
    decisions, rows of the leader with and without variables of the follower.
    """
    rng = np.random.default_rng(seed)

    def draw(low: int, high: int, *shape: int) -> np.ndarray:
        return rng.integers(low, high + 1, shape).astype(float)

    def sometimes(share: float, values: np.ndarray) -> np.ndarray:
        return values if rng.random() < share else 0 * values

    k, n = int(rng.integers(1, 3)), int(rng.integers(1, 5))
    equations, rows = min(int(rng.choice([0, 0, 0, 1, 1, 2])), n - 1), int(rng.integers(0, 4))
    x, d = draw(0, 3, n), draw(0, 2, k)  # a point that all rows allow
    a, a_leader = draw(-1, 2, equations, n), sometimes(0.3, draw(-1, 1, equations, k))
    if rng.random() < 0.3:
        a, a_leader = np.vstack([a, 2 * a[:1]]), np.vstack([a_leader, 2 * a_leader[:1]])
    g, g_leader = draw(-1, 2, rows, n), sometimes(0.6, draw(-1, 1, rows, k))
    h = g @ x + g_leader @ d + draw(0, 3, rows)
    if rng.random() < 0.2:
        g, g_leader = np.vstack([g, -g[:1]]), np.vstack([g_leader, -g_leader[:1]])
        h = np.append(h, -h[:1])
    kind = rng.integers(0, 8, n)
    lower = np.select([kind == 0, kind == 2, kind == 3], [-np.inf, x, -3.0], 0.0)
    upper = np.select([kind <= 1, kind == 2], [np.inf, x], 4.0)
    half = sometimes(0.25, draw(-1, 1, n, n))
    follower = Follower(
        c=draw(-2, 2, n), a=csr_array(a), b=a @ x + a_leader @ d, g=csr_array(g), h=h,
        lower=lower, upper=upper, q=csr_array(half @ half.T),
        c_leader=csr_array(sometimes(0.5, draw(-1, 1, n, k))),
        a_leader=csr_array(a_leader), g_leader=csr_array(g_leader),
    )  # fmt: skip
    own = draw(-1, 1, int(rng.integers(0, 3)), k)
    coupled = sometimes(0.4, draw(-1, 1, len(own), n))
    least = draw(-1, 0, k)
    return Bilevel(
        follower, cost=draw(-3, 3, k), cost_follower=draw(-3, 3, n), lower=least,
        upper=least + draw(1, 3, k), rows=csr_array(own), rows_follower=csr_array(coupled),
        limit=own @ d + coupled @ x + draw(0, 3, len(own)), integer=rng.random(k) < 0.4,
    )  # fmt: skip
