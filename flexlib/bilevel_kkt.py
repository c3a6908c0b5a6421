"""The follower's KKT conditions, and with big-M values the whole as one mixed-integer programme.

    c + C d + Q x - A'y + K'mu = 0            stationarity, :eq:`bilevel-stationarity`
    slack = limit - K_d d - K x >= 0, mu >= 0
    mu_j = 0 or slack_j = 0                   complementarity, :eq:`bilevel-complementarity`

K holds the follower's rows and bounds, one pair of slack and multiplier each. A binary chooses in
every pair, :eq:`bilevel-big-m`: ``mu <= M b`` and ``slack <= L (1 - b)``. Pairs whose slack or
multiplier can only be zero need none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, diags_array, eye_array, hstack, vstack

from flexlib.bilevel import Bilevel
from flexlib.linear_program import LinearProgram

GUESSED = "guessed"
TIGHT = 1e-7  # slack up to which a pair counts as always tight


@dataclass(frozen=True)
class Pairs:
    """Rows and finite bounds of a follower: ``slack_d d + slack_x x <= limit``.

    Attributes
    ----------
    slack_d, slack_x : scipy.sparse.csr_array, shapes (pairs, k) and (pairs, n)
    limit : numpy.ndarray, shape (pairs,)
    names : list of str
    """

    slack_d: csr_array
    slack_x: csr_array
    limit: np.ndarray
    names: list[str]

    def slack(self, d: np.ndarray, x: np.ndarray) -> np.ndarray:
        """What is left up to each limit, shape (pairs,)."""
        return np.asarray(self.limit - self.slack_d @ d - self.slack_x @ x)


def pairs(problem: Bilevel) -> Pairs:
    """Rows of the follower, then its finite lower and its finite upper bounds."""
    f = problem.follower
    low, up = np.flatnonzero(np.isfinite(f.lower)), np.flatnonzero(np.isfinite(f.upper))
    eye = csr_array(eye_array(len(f.c)))
    none = csr_array((len(low) + len(up), len(problem.cost)))
    return Pairs(
        csr_array(vstack([f.g_leader, none])),
        csr_array(vstack([f.g, -eye[low], eye[up]])),
        np.concatenate([f.h, -f.lower[low], f.upper[up]]),
        [
            *f.row_names,
            *(f"lower bound of {f.names[j]}" for j in low),
            *(f"upper bound of {f.names[j]}" for j in up),
        ],
    )


@dataclass(frozen=True)
class BigM:
    """Largest slack and multiplier of each pair.

    Attributes
    ----------
    slack, multiplier : numpy.ndarray, shape (pairs,)
        In the order of `pairs`; a multiplier may be infinite where the pair is always tight.
    equation_low, equation_high : numpy.ndarray, shape (equations,)
        Bounds on the multipliers of the equations, infinite where none are known.
    how : list of str
        How each pair's values follow from the data.
    names : list of str
        Of the pairs.
    """

    slack: np.ndarray
    multiplier: np.ndarray
    equation_low: np.ndarray
    equation_high: np.ndarray
    how: list[str]
    names: list[str]

    @property
    def table(self) -> pd.DataFrame:
        """One row a pair, index the pair: slack, multiplier, how they follow from the data."""
        columns = {"slack": self.slack, "multiplier": self.multiplier, "how": self.how}
        return pd.DataFrame(columns, index=pd.Index(self.names, name="pair"))

    @property
    def open(self) -> np.ndarray:
        """Pairs that need a binary: neither slack nor multiplier can only be zero."""
        return np.flatnonzero((self.slack > TIGHT) & (self.multiplier > 0))


def guessed(problem: Bilevel, m: float) -> BigM:
    """One M for all slacks and multipliers, without a derivation: for comparison only."""
    pair = pairs(problem)
    same, free = np.full(len(pair.limit), float(m)), np.full(len(problem.follower.b), np.inf)
    return BigM(same, same, -free, free, [GUESSED] * len(same), pair.names)


def kkt_system(problem: Bilevel, m: BigM | None = None) -> LinearProgram:
    """All of the single-level programme but complementarity, a linear programme.

    Parameters
    ----------
    problem : Bilevel
    m : BigM, optional
        Bounds slacks and multipliers.

    Returns
    -------
    LinearProgram
        Columns d, x, y (multipliers of the equations), mu (of the pairs). Rows: stationarity, the
        follower's equations, its pairs, the leader's rows.
    """
    f, pair = problem.follower, pairs(problem)
    n, e, p, r = len(f.c), len(f.b), len(pair.limit), len(problem.limit)
    blocks = [
        hstack([f.c_leader, f.q, -f.a.T, pair.slack_x.T]),
        hstack([f.a_leader, f.a, csr_array((e, e + p))]),
        hstack([pair.slack_d, pair.slack_x, csr_array((p, e + p))]),
        hstack([problem.rows, problem.rows_follower, csr_array((r, e + p))]),
    ]
    free = np.full(e, np.inf)
    y = (m.equation_low, m.equation_high) if m else (-free, free)
    least = pair.limit - m.slack if m else np.full(p, -np.inf)
    return LinearProgram(
        c=np.concatenate([problem.cost, problem.cost_follower, np.zeros(e + p)]),
        a=csr_array(vstack(blocks)),
        row_lower=np.concatenate([-f.c, f.b, least, np.full(r, -np.inf)]),
        row_upper=np.concatenate([-f.c, f.b, pair.limit, problem.limit]),
        lower=np.concatenate([problem.lower, f.lower, y[0], np.zeros(p)]),
        upper=np.concatenate(
            [problem.upper, f.upper, y[1], m.multiplier if m else np.full(p, np.inf)]
        ),
        row_names=[
            *(f"stationarity of {name}" for name in f.names),
            *f.equation_names,
            *pair.names,
            *problem.row_names,
        ],
        column_names=[
            *problem.names,
            *f.names,
            *(f"multiplier of {name}" for name in [*f.equation_names, *pair.names]),
        ],
        integer=np.concatenate([problem.integer, np.zeros(n + e + p, dtype=bool)]),
    )


def with_binaries(system: LinearProgram, problem: Bilevel, m: BigM) -> LinearProgram:
    """Complementarity by big-M, :eq:`bilevel-big-m`: a binary for every open pair, last columns.

    Parameters
    ----------
    system : LinearProgram
        Whose first columns are those of `kkt_system`.
    problem : Bilevel
    m : BigM
    """
    pair, chosen = pairs(problem), m.open
    p, q, columns = len(pair.limit), len(chosen), len(system.c)
    first = len(problem.cost) + len(problem.follower.c) + len(problem.follower.b)
    pick = csr_array(eye_array(p))[chosen]
    rest = csr_array((q, columns - first - p))
    mu = hstack([csr_array((q, first)), pick, rest])
    used = hstack([pair.slack_d, pair.slack_x]).tocsr()[chosen]
    slack = hstack([-used, csr_array((q, columns - used.shape[1]))])
    blocks = [
        hstack([system.a, csr_array((system.a.shape[0], q))]),
        hstack([slack, diags_array(m.slack[chosen], shape=(q, q))]),
        hstack([mu, -diags_array(m.multiplier[chosen], shape=(q, q))]),
    ]
    names = [pair.names[j] for j in chosen]
    return replace(
        system,
        c=np.append(system.c, np.zeros(q)),
        a=csr_array(vstack(blocks)),
        row_lower=np.append(system.row_lower, np.full(2 * q, -np.inf)),
        row_upper=np.concatenate([system.row_upper, (m.slack - pair.limit)[chosen], np.zeros(q)]),
        lower=np.append(system.lower, np.zeros(q)),
        upper=np.append(system.upper, np.ones(q)),
        row_names=[
            *system.row_names,
            *(f"slack of {name}" for name in names),
            *(f"multiplier of {name}" for name in names),
        ],
        column_names=[*system.column_names, *(f"{name} is tight" for name in names)],
        integer=np.append(system.integer, np.ones(q, dtype=bool)),
    )
