"""Bilevel programmes by brute force: the oracle other methods are tested against.

Optimistic: the follower's problem is replaced by its KKT system, and the two sides of every
complementarity pair (multiplier, slack) are tried, one linear programme over the leader's
decisions, the follower's answer and the multipliers for each choice. Choices that are infeasible
or no better than the incumbent are not split further, so the search is exhaustive. No constant M
occurs anywhere.

Pessimistic: for a decision d and an optimal multiplier with support T, the follower's optimal
answers are the feasible points at which the rows of T are tight (and Qx is what it is at one
answer). The worst of them for the leader solves a linear programme over that face; minimising
over d is again an optimistic bilevel programme, one for every T with independent rows.

All functions take a `Bilevel` and are meant for a dozen rows and bounds of the follower.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations, product

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import block_array, csr_array, eye_array, vstack

from flexlib.bilevel import Bilevel, Follower

TOL = 1e-7
TINY = 1e-9


def _nothing() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True)
class Answer:
    """Status (optimal, infeasible, unbounded), the leader's value, d and x, empty if there is none.

    The value is finite where the status is optimal, and only there.
    """

    status: str
    value: float = np.nan
    d: np.ndarray = field(default_factory=_nothing)
    x: np.ndarray = field(default_factory=_nothing)


@dataclass(frozen=True)
class System:
    """KKT system of the follower with the leader's rows, in z = (d, x, multipliers, slacks).

    matrix z lies between low and high, z between z_low and z_high; pair i wants
    z[multiplier[i]] z[slack[i]] = 0.
    """

    cost: np.ndarray
    matrix: csr_array
    low: np.ndarray
    high: np.ndarray
    z_low: np.ndarray
    z_high: np.ndarray
    integer: np.ndarray
    multiplier: np.ndarray
    slack: np.ndarray


def _inequalities(f: Follower, k: int) -> tuple[csr_array, csr_array, np.ndarray]:
    """Rows and finite bounds of the follower as on_x x + on_d d <= right."""
    n = len(f.c)
    unit = csr_array(eye_array(n))
    below, above = np.isfinite(f.lower), np.isfinite(f.upper)
    on_x = csr_array(vstack([csr_array(f.g), -unit[below], unit[above]]))
    bounds = int(below.sum() + above.sum())
    on_d = csr_array(vstack([csr_array(f.g_leader), csr_array((bounds, k))]))
    return on_x, on_d, np.concatenate([f.h, -f.lower[below], f.upper[above]])


def system(problem: Bilevel) -> System:
    """KKT system of a bilevel programme."""
    f, k, n = problem.follower, len(problem.cost), len(problem.follower.c)
    on_x, on_d, right = _inequalities(f, k)
    pairs, equations, rows = len(right), len(f.b), len(problem.limit)
    blocks = [
        [f.c_leader, f.q, f.a.T, on_x.T, csr_array((n, pairs))],
        [f.a_leader, f.a, None, None, None],
        [on_d, on_x, None, None, eye_array(pairs)],
        [problem.rows, problem.rows_follower, None, None, None],
    ]
    sizes = [k, n, equations, pairs, pairs]
    heights = [n, equations, pairs, rows]
    filled = [
        [csr_array((height, width)) if block is None else block
         for block, width in zip(line, sizes, strict=True)]
        for line, height in zip(blocks, heights, strict=True)
    ]  # fmt: skip
    fixed = np.concatenate([-f.c, f.b, right])
    first = k + n + equations
    z_low = np.concatenate([problem.lower, np.full(n + equations, -np.inf), np.zeros(2 * pairs)])
    z_high = np.concatenate([problem.upper, np.full(n + equations + 2 * pairs, np.inf)])
    rest = n + equations + 2 * pairs
    return System(
        cost=np.concatenate([problem.cost, problem.cost_follower, np.zeros(rest - n)]),
        matrix=csr_array(block_array(filled)),
        low=np.concatenate([fixed, np.full(rows, -np.inf)]),
        high=np.concatenate([fixed, problem.limit]),
        z_low=z_low,
        z_high=z_high,
        integer=np.concatenate([problem.integer.astype(int), np.zeros(rest, int)]),
        multiplier=first + np.arange(pairs),
        slack=first + pairs + np.arange(pairs),
    )


def programme(
    cost: np.ndarray,
    matrix: csr_array,
    between: tuple[np.ndarray, np.ndarray],
    bounds: tuple[np.ndarray, np.ndarray],
    integer: np.ndarray,
) -> tuple[str, float, np.ndarray]:
    """Status, value and point of a mixed-integer linear programme; infeasible is not unbounded."""

    def solve(objective: np.ndarray) -> OptimizeResult:
        rows = LinearConstraint(matrix, *between) if matrix.shape[0] else ()
        return milp(objective, constraints=rows, bounds=Bounds(*bounds), integrality=integer)

    result = solve(cost)
    if result.status == 0:
        return "optimal", float(result.fun), result.x
    if result.status == 2:
        return "infeasible", np.nan, _nothing()
    feasible = solve(np.zeros_like(cost))
    if feasible.status not in {0, 2}:
        raise RuntimeError(f"HiGHS: {result.message} / {feasible.message}")
    return ("unbounded" if feasible.status == 0 else "infeasible"), np.nan, _nothing()


def optimistic(problem: Bilevel) -> Answer:
    """Leader's value where the follower breaks ties in the leader's favour."""
    s, k, n = system(problem), len(problem.cost), len(problem.follower.c)
    best = Answer("infeasible", np.inf)
    nodes: list[tuple[np.ndarray, frozenset[int]]] = [(s.z_high, frozenset())]
    while nodes:
        high, settled = nodes.pop()
        status, value, z = programme(s.cost, s.matrix, (s.low, s.high), (s.z_low, high), s.integer)
        if status == "infeasible":
            continue
        if status == "optimal" and value >= best.value - TINY * (1 + abs(value)):
            continue
        open_pairs = [i for i in range(len(s.slack)) if i not in settled]
        if status == "unbounded":
            if not open_pairs:
                return Answer("unbounded", -np.inf)
            branch = open_pairs[0]
        else:
            gaps = [min(z[s.multiplier[i]], z[s.slack[i]]) for i in open_pairs]
            if not gaps or max(gaps) <= TOL:
                best = Answer("optimal", value, z[:k], z[k : k + n])
                continue
            branch = open_pairs[int(np.argmax(gaps))]
        for side in (s.multiplier[branch], s.slack[branch]):
            closed = high.copy()
            closed[side] = 0.0
            nodes.append((closed, settled | {branch}))
    return best if best.status == "optimal" else Answer("infeasible")


def relaxation(problem: Bilevel) -> Answer:
    """Single-level (high-point) relaxation: the follower obeys, without a goal of its own."""
    f, k, n = problem.follower, len(problem.cost), len(problem.follower.c)
    blocks = [[f.a_leader, f.a], [f.g_leader, f.g], [problem.rows, problem.rows_follower]]
    status, value, z = programme(
        np.concatenate([problem.cost, problem.cost_follower]),
        csr_array(block_array(blocks)),
        (
            np.concatenate([f.b, np.full(len(f.h) + len(problem.limit), -np.inf)]),
            np.concatenate([f.b, f.h, problem.limit]),
        ),
        (
            np.concatenate([problem.lower, f.lower]),
            np.concatenate([problem.upper, f.upper]),
        ),
        np.concatenate([problem.integer.astype(int), np.zeros(n, int)]),
    )
    if status != "optimal":
        return Answer(status, -np.inf if status == "unbounded" else np.nan)
    return Answer(status, value, z[:k], z[k:])


def over_answers(problem: Bilevel, d: np.ndarray, goal: np.ndarray, at: np.ndarray) -> Answer:
    """Minimum of goal'x over the follower's optimal answers to d, given one of them.

    x is optimal exactly if it is feasible, Qx = Q at, and (c + C d + Q at)'x is least: linear
    programmes in x alone, without multipliers.
    """
    f = problem.follower
    gradient = f.c + f.c_leader @ d + f.q @ at
    least = gradient @ at
    slack = 1e-8 * (1 + abs(least))
    quadratic = f.q @ at
    flat = 1e-8 * (1 + np.abs(quadratic))
    equal = f.b - f.a_leader @ d
    status, value, x = programme(
        goal,
        csr_array(vstack([f.a, f.g, csr_array(gradient[None, :]), f.q])),
        (
            np.concatenate([equal, np.full(len(f.h), -np.inf), [-np.inf], quadratic - flat]),
            np.concatenate([equal, f.h - f.g_leader @ d, [least + slack], quadratic + flat]),
        ),
        (f.lower, f.upper),
        np.zeros(len(f.c), int),
    )
    return Answer(status, value, d, x)


def follower_gap(problem: Bilevel, d: np.ndarray, x: np.ndarray) -> float:
    """How far x is from answering d optimally: 0 at an optimum, infinite if x is infeasible.

    The follower is convex, so x is optimal exactly if no feasible point has a smaller
    (c + C d + Q x)'x: a linear programme in x alone, without multipliers.
    """
    f = problem.follower
    on_x, on_d, right = _inequalities(f, len(d))
    outside = np.concatenate(
        [on_x @ x + on_d @ d - right, np.abs(f.a @ x + f.a_leader @ d - f.b), [0.0]]
    ).max()
    if outside > 1e-5:
        return np.inf
    gradient = f.c + f.c_leader @ d + f.q @ x
    equal = f.b - f.a_leader @ d
    status, value, _ = programme(
        gradient,
        csr_array(vstack([f.a, f.g])),
        (
            np.concatenate([equal, np.full(len(f.h), -np.inf)]),
            np.concatenate([equal, f.h - f.g_leader @ d]),
        ),
        (f.lower, f.upper),
        np.zeros(len(f.c), int),
    )
    return float(gradient @ x - value) if status == "optimal" else np.inf


def leader_gap(problem: Bilevel, d: np.ndarray, x: np.ndarray) -> float:
    """Largest violation of the leader's rows, bounds and integrality."""
    parts = [problem.rows @ d + problem.rows_follower @ x - problem.limit]
    parts += [problem.lower - d, d - problem.upper, [0.0]]
    parts += [np.abs(d - np.round(d))[problem.integer]]
    return float(np.concatenate(parts).max())


def has_ties(problem: Bilevel, d: np.ndarray, x: np.ndarray) -> bool:
    """Whether the follower has more than one optimal answer to d (x is one)."""
    for goal in np.vstack([np.eye(len(x)), -np.eye(len(x))]):
        answer = over_answers(problem, d, goal, x)
        if answer.status == "unbounded" or answer.value < goal @ x - 1e-5:
            return True
    return False


def pessimistic(problem: Bilevel) -> Answer:
    """Infimum of the leader's value where the follower breaks ties against the leader.

    It need not be attained: d and x are the limit of decisions and worst answers. Infeasible
    where the worst answer is unboundedly bad for every decision. Integer decisions are enumerated.

    Raises
    ------
    ValueError
        If rows of the leader contain follower variables: which decisions are then allowed
        depends on all answers, and is not checked here.
    """
    if problem.rows_follower.count_nonzero():
        raise ValueError("rows of the leader contain follower variables")
    chosen = np.flatnonzero(problem.integer)
    ranges = [np.arange(np.ceil(problem.lower[i]), np.floor(problem.upper[i]) + 1) for i in chosen]
    best = Answer("infeasible", np.inf)
    for values in product(*ranges):
        lower, upper = problem.lower.astype(float).copy(), problem.upper.astype(float).copy()
        lower[chosen] = upper[chosen] = values
        none = np.zeros(len(problem.cost), bool)
        fixed = replace(problem, lower=lower, upper=upper, integer=none)
        if relaxation(fixed).status == "infeasible":
            continue
        part = _pessimistic(fixed)
        if part.status == "unbounded":
            return part
        if part.status == "optimal" and part.value < best.value:
            best = part
    return best if best.status == "optimal" else Answer("infeasible")


def _pessimistic(problem: Bilevel) -> Answer:
    """Infimum without integer decisions: the best over all supports of a multiplier."""
    best, s = Answer("infeasible", np.inf), system(problem)
    k, n = len(problem.cost), len(problem.follower.c)
    on_x, _, right = _inequalities(problem.follower, k)
    for size in range(min(n, len(right)) + 1):
        for tight in combinations(range(len(right)), size):
            columns = on_x[list(tight)].toarray()
            if size and np.linalg.matrix_rank(columns) < size:
                continue
            if not _has_support(s, tight):
                continue
            answer = optimistic(_worst_on_face(problem, tight))
            if answer.status == "unbounded":
                return Answer("unbounded", -np.inf)
            if answer.status == "optimal" and answer.value < best.value:
                best = Answer("optimal", answer.value, answer.d[:k], answer.x)
    return best


def _has_support(s: System, tight: tuple[int, ...]) -> bool:
    """Whether some decision has an optimal multiplier that is positive exactly on these rows."""
    inside = np.zeros(len(s.slack), bool)
    inside[list(tight)] = True
    high = s.z_high.copy()
    high[s.multiplier[~inside]] = 0.0
    high[s.slack[inside]] = 0.0
    above = csr_array(
        (np.ones(inside.sum()), (np.arange(inside.sum()), s.multiplier[inside])),
        shape=(inside.sum(), len(high)),
    )
    blocks = [
        [s.matrix, csr_array((s.matrix.shape[0], 1))],
        [above, csr_array(-np.ones((inside.sum(), 1)))],
    ]
    matrix = csr_array(block_array(blocks if inside.any() else blocks[:1]))
    status, value, _ = programme(
        np.append(np.zeros(len(high)), -1.0),
        matrix,
        (
            np.append(s.low, np.zeros(inside.sum())),
            np.append(s.high, np.full(inside.sum(), np.inf)),
        ),
        (np.append(s.z_low, 0.0), np.append(high, 1.0)),
        np.append(s.integer, 0),
    )
    return status == "optimal" and -value > 1e-6


def _worst_on_face(problem: Bilevel, tight: tuple[int, ...]) -> Bilevel:
    """Leader chooses (d, x0, multipliers on the tight rows), x is the worst answer on the face."""
    f, k, n = problem.follower, len(problem.cost), len(problem.follower.c)
    on_x, on_d, right = _inequalities(f, k)
    rows_x, rows_d, values = on_x[list(tight)], on_d[list(tight)], right[list(tight)]
    m, equations, size = len(right), len(f.b), len(tight)
    width = k + n + equations + size

    def wide(
        d: csr_array | None = None,
        x0: csr_array | None = None,
        nu: csr_array | None = None,
        mu: csr_array | None = None,
        height: int = 0,
    ) -> csr_array:
        parts = zip((d, x0, nu, mu), (k, n, equations, size), strict=True)
        blocks = [csr_array((height, w)) if part is None else part for part, w in parts]
        return csr_array(block_array([blocks]))

    stationary = wide(f.c_leader, f.q, csr_array(f.a.T), csr_array(rows_x.T), n)
    equal = vstack([stationary, wide(f.a_leader, f.a, height=equations),
                    wide(rows_d, rows_x, height=size)])  # fmt: skip
    equal_to = np.concatenate([-f.c, f.b, values])
    rows = vstack([equal, -equal, wide(on_d, on_x, height=m),
                   wide(problem.rows, height=len(problem.limit))])  # fmt: skip
    follower = Follower(
        c=-problem.cost_follower,
        a=csr_array(vstack([f.a, rows_x, f.q])),
        b=np.concatenate([f.b, values, np.zeros(n)]),
        g=f.g,
        h=f.h,
        lower=f.lower,
        upper=f.upper,
        c_leader=csr_array((n, width)),
        a_leader=csr_array(vstack([wide(f.a_leader, height=equations), wide(rows_d, height=size),
                                   wide(x0=-f.q, height=n)])),
        g_leader=wide(f.g_leader, height=len(f.h)),
        q=csr_array((n, n)),
    )  # fmt: skip
    free = np.full(n + equations, np.inf)
    return Bilevel(
        follower=follower,
        cost=np.concatenate([problem.cost, np.zeros(width - k)]),
        cost_follower=problem.cost_follower,
        lower=np.concatenate([problem.lower, -free, np.zeros(size)]),
        upper=np.concatenate([problem.upper, free, np.full(size, np.inf)]),
        rows=csr_array(rows),
        rows_follower=csr_array((rows.shape[0], n)),
        limit=np.concatenate([equal_to, -equal_to, right, problem.limit]),
        integer=np.zeros(width, bool),
    )
