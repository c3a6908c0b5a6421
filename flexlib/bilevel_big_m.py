"""Big-M values of a follower's KKT conditions, each derived from data or refused.

Slack: the most that a row or bound can leave, by a linear programme over all that leader and
follower could do together. Multiplier, the smaller of two bounds:

- by a point with slack, :eq:`bilevel-point-with-slack`: for any x_bar that the follower may choose
  whatever the leader decides, and any multipliers mu of an optimal answer x,

      sum_j mu_j slack_j(x_bar)  <=  f(d, x_bar) - f(d, x),

  so mu_j is at most the largest such difference of costs over the slack of x_bar in pair j;
- by corners: a linear follower has optimal multipliers at a corner of its dual polyhedron, so mu_j
  is at most the largest there, where the corners are few enough to be counted.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from scipy.linalg import null_space, orth
from scipy.sparse import csr_array, vstack

from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import TIGHT, BigM, Pairs, pairs
from flexlib.errors import FlexlibError, Infeasible, Unbounded
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve

_ZERO = 1e-9
_LEAST_SLACK = 1e-6  # of a point, to divide by
_LEAST = 1e-4  # M that solvers can tell, unless it can only be zero
_CUTOFF, _DEARER = 1e-6, 1e-7  # relative widths: thinner sets, solvers may find empty
_MOST_CORNERS = 20_000
_SINGULAR, _DOUBTFUL = 1e-12, 1e-9  # least singular value of a basis of unit rows
_RANK = 1e-10


class NoBigM(FlexlibError):
    """Pairs for which no finite M follows from the data.

    Parameters
    ----------
    why : dict
        What is missing, by the name of the row or bound.
    """

    def __init__(self, why: dict[str, str]) -> None:
        self.why = why
        lines = [f"no finite M follows from the data for {len(why)} of the follower's conditions:"]
        super().__init__("\n".join([*lines, *(f"  {name}: {what}" for name, what in why.items())]))


def big_m(problem: Bilevel, cutoff: float = np.inf) -> BigM:
    """Derive M for every pair.

    Parameters
    ----------
    problem : Bilevel
    cutoff : float
        Value of the leader's objective that is known to be reached: worse is not looked at.

    Returns
    -------
    BigM

    Raises
    ------
    NoBigM
        Naming every pair for which none follows, and why.
    """
    pair, f, k = pairs(problem), problem.follower, len(problem.cost)
    whole = _together(problem, cutoff)
    span = np.array(
        [[-_most(whole, -unit), _most(whole, unit)] for unit in np.eye(k, len(whole.c))]
    )
    span = span.reshape(k, 2).T
    point = _PointWithSlack(problem, pair, whole, span)
    whole = point.whole = _no_dearer(whole, problem, point)
    corner = dual_corners(problem, pair, span)
    slack, multiplier, how, why = [], [], [], {}
    for j, name in enumerate(pair.names):
        row = np.concatenate([pair.slack_d[[j]].toarray()[0], pair.slack_x[[j]].toarray()[0]])
        slack.append(max(pair.limit[j] + _most(whole, -row), 0.0))
        if slack[-1] <= TIGHT:
            multiplier.append(np.inf if corner is None else corner[j])
            how.append("always tight")
            continue
        if not np.isfinite(slack[-1]):
            why[name] = "its slack has no bound: leader and follower can move away without end"
            continue
        most, way = point.bound(j, slack[-1])
        slack[-1] = max(slack[-1], _LEAST)
        if corner is not None and corner[j] < most:
            most, way = corner[j], "largest corner of the dual polyhedron"
        multiplier.append(max(most, _LEAST) if most else 0.0)
        how.append(way)
        if not np.isfinite(most):
            why[name] = f"its multiplier has no bound: {way}"
    if why:
        raise NoBigM(why)
    none = np.full(len(f.b), np.inf)
    return BigM(np.array(slack), np.array(multiplier), -none, none, how, pair.names)


def up_to(cutoff: float) -> float:
    """Largest objective that is looked at: the cutoff and its tolerance."""
    return cutoff + _CUTOFF * max(1.0, abs(cutoff)) if np.isfinite(cutoff) else cutoff


def _together(problem: Bilevel, cutoff: float) -> LinearProgram:
    """All that leader and follower could do together at an objective up to the cutoff."""
    whole = replace(problem.high_point(), integer=np.zeros(0, dtype=bool))
    return _with_row(whole, whole.c, up_to(cutoff), "cutoff") if np.isfinite(cutoff) else whole


def _no_dearer(whole: LinearProgram, problem: Bilevel, point: _PointWithSlack) -> LinearProgram:
    """With a row that holds for optimal answers: no dearer than a point that is always allowed.

    Where the cost does not move with the decision; by its tangent where it is curved.
    """
    f = problem.follower
    if point.missing or f.c_leader.nnz:
        return whole
    try:
        x_bar = solve(replace(point.always, c=f.c)).x
    except Unbounded:
        return whole
    slope = f.c + f.q @ x_bar
    most = float(slope @ x_bar)
    row = np.concatenate([np.zeros(len(problem.cost)), slope])
    return _with_row(whole, row, most + _DEARER * max(1.0, abs(most)), "no dearer")


def _with_row(program: LinearProgram, row: np.ndarray, most: float, name: str) -> LinearProgram:
    return replace(
        program,
        a=csr_array(vstack([program.a, csr_array(row[None])])),
        row_lower=np.append(program.row_lower, -np.inf),
        row_upper=np.append(program.row_upper, most),
        row_names=[*program.row_names, name],
    )


def _most(program: LinearProgram, of: np.ndarray) -> float:
    """Largest value of a linear function over a feasible set, infinite if there is none."""
    try:
        return -solve(replace(program, c=-of)).bound
    except Unbounded:
        return math.inf


class _PointWithSlack:
    """Bounds on multipliers by points that the follower may choose at all decisions."""

    def __init__(
        self, problem: Bilevel, pair: Pairs, whole: LinearProgram, span: np.ndarray
    ) -> None:
        f = problem.follower
        self.problem, self.whole, self.span = problem, whole, span
        worst, none = np.zeros(len(pair.limit)), np.zeros(len(f.c))
        for j in np.flatnonzero(abs(pair.slack_d).sum(axis=1)):
            worst[j] = _most(whole, np.concatenate([pair.slack_d[[j]].toarray()[0], none]))
        self.rows, self.room = pair.slack_x, pair.limit - worst
        self.missing = ""
        if f.a_leader.nnz:
            self.missing = "an equation of the follower moves with the decision"
        elif not np.isfinite(worst).all():
            self.missing = "a row of the follower moves with a decision that has no bound"
        self.always = LinearProgram(
            np.zeros(len(f.c)), csr_array(vstack([f.a, self.rows])),
            np.concatenate([f.b, np.full(len(self.room), -np.inf)]),
            np.concatenate([f.b, np.where(np.isfinite(worst), self.room, 0.0)]),
            f.lower, f.upper, [*f.equation_names, *pair.names], f.names,
        )  # fmt: skip
        try:
            solve(self.always)
        except Infeasible:
            self.missing = self.missing or "no point is the follower's to choose at all decisions"

    def bound(self, j: int, most_slack: float) -> tuple[float, str]:
        """Largest multiplier of pair j, and how it follows or what is missing."""
        if self.missing:
            return math.inf, self.missing
        row = self.rows[[j]].toarray()[0]
        best, how = math.inf, "no point has slack in it at all decisions"
        for cap in (most_slack, math.inf):  # of the point's slack
            least = self.always.row_lower.copy()
            least[len(least) - len(self.room) + j] = self.room[j] - cap
            try:
                x_bar = solve(replace(self.always, c=row, row_lower=least)).x
            except (Infeasible, Unbounded):
                continue
            slack = float(self.room[j] - row @ x_bar)
            if slack <= _LEAST_SLACK:
                continue
            most = self._cost_range(x_bar)
            if most / slack < best:
                best, how = most / slack, f"costs {most:.4g} above the least, slack {slack:.4g}"
            elif best == math.inf:
                how = "the follower's cost can fall without end below that of a point"
        return best, how

    def _cost_range(self, x_bar: np.ndarray) -> float:
        """Most of f(d, x_bar) - f(d, x) <= (c + C d + Q x_bar)'(x_bar - x)."""
        f, none = self.problem.follower, np.zeros(len(self.problem.cost))
        gradient = f.c + f.q @ x_bar
        most = gradient @ x_bar + _most(self.whole, np.concatenate([none, -gradient]))
        for i in np.flatnonzero(abs(f.c_leader).sum(axis=0)):
            column = f.c_leader[:, [i]].toarray().ravel()
            up = column @ x_bar + _most(self.whole, np.concatenate([none, -column]))
            down = column @ x_bar - _most(self.whole, np.concatenate([none, column]))
            most += max(d * by if d and by else 0.0 for d in self.span[:, i] for by in (up, down))
        return max(float(most), 0.0)


def dual_corners(problem: Bilevel, pair: Pairs, span: np.ndarray) -> np.ndarray | None:
    """Largest multiplier of each pair over all dual corners, None where they cannot be counted.

    A corner of :eq:`bilevel-corners`, a basic solution of stationarity along the null space of A:
    ``N'(c + C d + K'mu) = 0`` and mu >= 0. It is linear in d and counts unless some mu is negative
    at all d.

    Parameters
    ----------
    problem : Bilevel
    pair : Pairs
    span : numpy.ndarray, shape (2, k)
        Least and largest decisions.
    """
    f, count = problem.follower, len(pair.limit)
    slope = f.c_leader.toarray()
    coupled = np.flatnonzero(slope.any(axis=0))
    low, high = span[:, coupled]
    if f.q.nnz or not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    along = null_space(f.a.toarray(), rcond=_RANK).T if len(f.b) else np.eye(len(f.c))
    gradient = pair.slack_x.toarray().T
    length = np.linalg.norm(gradient, axis=0)
    gradient = along @ (gradient / np.where(length > 0, length, 1.0))
    independent = orth(gradient, rcond=_RANK).T if gradient.size else np.zeros((0, len(along)))
    size = len(independent)
    if math.comb(count, size) > _MOST_CORNERS:
        return None
    along, gradient = independent @ along, independent @ gradient
    middle = -along @ (f.c + slope[:, coupled] @ ((low + high) / 2))
    half = along @ (slope[:, coupled] * ((high - low) / 2))
    most, zero = np.zeros(count), -_ZERO * max(1.0, float(np.abs(f.c).max(initial=0.0)))
    for basis in itertools.combinations(range(count), size) if size else ():
        matrix = gradient[:, basis]
        least = np.linalg.svd(matrix, compute_uv=False)[-1]
        if least < _SINGULAR:
            continue
        if least < _DOUBTFUL:
            return None
        inverse = np.linalg.inv(matrix * length[list(basis)])
        mu = inverse @ middle + np.abs(inverse @ half).sum(axis=1)
        if (mu >= zero).all():
            most[list(basis)] = np.maximum(most[list(basis)], mu)
    return most
