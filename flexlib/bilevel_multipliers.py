"""Multipliers that fit a decision and an answer: to complete a start, and to look at their M."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack, vstack

from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import GUESSED, BigM, kkt_system, pairs
from flexlib.errors import DataError, Fault, Infeasible
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve

_TOLERANCE = 1e-6
_AT_M = 1e-6  # relative distance from M that raises an alarm


def _held(problem: Bilevel, system: LinearProgram, d: np.ndarray, x: np.ndarray) -> LinearProgram:
    """The system with given d and x, and multipliers complementary to them."""
    both = np.concatenate([d, x])
    value = system.a[:, : len(both)] @ both
    room = np.where(
        abs(system.a[:, len(both) :]).sum(axis=1) == 0, _TOLERANCE * (1 + np.abs(value)), 0.0
    )  # rows that multipliers cannot meet more exactly
    lower, upper = system.lower.copy(), system.upper.copy()
    lower[: len(both)] = upper[: len(both)] = both
    first, pair = len(both) + len(problem.follower.b), pairs(problem)
    loose = pair.slack(d, x) > _TOLERANCE * (1 + np.abs(pair.limit))
    upper[first : first + len(loose)][loose] = 0.0
    return replace(
        system, lower=lower, upper=upper, integer=np.zeros(0, bool),
        row_lower=system.row_lower - room, row_upper=system.row_upper + room,
    )  # fmt: skip


def completed(problem: Bilevel, system: LinearProgram, d: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A point of the system with given d and x."""
    try:
        return solve(_held(problem, system, d, x)).x
    except Infeasible as error:
        found = "no multipliers within their bounds; in conflict: " + ", ".join(error.conflict[:8])
        raise DataError(
            [Fault("solve_bilevel", "", "start", found, "an optimal answer of the follower")]
        ) from error


def multipliers(problem: Bilevel, x: np.ndarray) -> np.ndarray:
    """Multipliers of the pairs in a point of a system."""
    first = len(problem.cost) + len(problem.follower.c) + len(problem.follower.b)
    return x[first : first + len(pairs(problem).limit)]


def at_big_m(problem: Bilevel, m: BigM, d: np.ndarray, x: np.ndarray, mu: np.ndarray) -> list[str]:
    """Pairs whose multiplier must sit at its M, or whose slack sits at a guessed one.

    Multipliers are not unique: those that stay farthest below their M are looked at.
    """
    limited = np.flatnonzero(np.isfinite(m.multiplier) & (m.multiplier > 0))
    held = _held(problem, kkt_system(problem, m), d, x)
    first, size = len(held.c) - len(mu), len(limited)
    rows = hstack(
        [
            csr_array((size, first)),
            csr_array(eye_array(len(mu)))[limited],
            csr_array(-m.multiplier[limited][:, None]),
        ]
    )
    farthest = replace(
        held,
        c=np.append(np.zeros_like(held.c), 1.0),
        a=csr_array(vstack([hstack([held.a, csr_array((held.a.shape[0], 1))]), rows])),
        row_lower=np.append(held.row_lower, np.full(size, -np.inf)),
        row_upper=np.append(held.row_upper, np.zeros(size)),
        lower=np.append(held.lower, 0.0),
        upper=np.append(held.upper, 1.0),
        row_names=[*held.row_names, *(f"share of M of {m.names[j]}" for j in limited)],
        column_names=[*held.column_names, "largest share of M"],
        integer=np.zeros(0, dtype=bool),
    )
    with suppress(Infeasible):  # within tolerances: then those of the solver
        mu = solve(farthest).x[first:-1]
    at = np.isfinite(m.multiplier) & (m.multiplier > 0) & (mu >= m.multiplier * (1 - _AT_M))
    slack = pairs(problem).slack(d, x)
    at |= (np.array(m.how) == GUESSED) & (slack >= m.slack * (1 - _AT_M))
    return [m.names[j] for j in np.flatnonzero(at)]
