"""Adders for given schedules: two inverse linear programmes.

A schedule is optimal for its hub at an adder exactly when some multipliers of its equations leave
reduced costs of the right sign: not negative at a lower bound, not positive at an upper one, zero
between. In the adder and the multipliers these are linear. What a schedule costs its hub more than
the best one is the sum of reduced costs times distances from the bounds they point to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array, hstack, kron, vstack

from flexlib.hub_programme import HubProgramme
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve

_AT_BOUND = 1e-7  # MW or MWh
_LEAST_EUR = 1e-4  # weight of an adder of 1 EUR/MWh beside the regret in EUR


@dataclass(frozen=True)
class AdderWeights:
    """Weights of the leader's regularisation.

    Attributes
    ----------
    level, smooth, fair : float
        Of adders, of their change from hour to hour, and of their difference between neighbours
        on a feeder, in units of weighted congestion, MWh, for one EUR/MWh.
    """

    level: float = 1e-3
    smooth: float = 5e-4
    fair: float = 5e-4

    def value(self, adder: np.ndarray, neighbours: np.ndarray) -> float:
        """Regularisation in :eq:`prices-bilevel` of adders (hubs, hours); `neighbours`: `Hubs`."""
        smooth = np.abs(np.diff(adder, axis=1)).sum()
        fair = np.abs(adder[neighbours[:, 1]] - adder[neighbours[:, 0]]).sum()
        return float(self.level * np.abs(adder).sum() + self.smooth * smooth + self.fair * fair)


def cheapest_adder(
    programme: HubProgramme, x: np.ndarray, cap: float, weights: AdderWeights
) -> np.ndarray:
    """Adders of least regularisation at which schedules are optimal, :eq:`prices-inverse`.

    Parameters
    ----------
    programme : HubProgramme
    x : numpy.ndarray, shape (columns,)
    cap : float
        Largest adder.
    weights : AdderWeights

    Returns
    -------
    numpy.ndarray, shape (hubs, hours)

    Raises
    ------
    Infeasible
        If no adders from 0 to the cap make the schedules optimal.
    """
    hubs, hours, _ = programme.shape
    n, columns, rows = hubs * hours, len(programme.cost), len(programme.b)
    at_lower = x <= programme.lower + _AT_BOUND
    at_upper = x >= programme.upper - _AT_BOUND
    change, weight = adder_changes(programme, weights)
    count = len(weight)
    reduced = hstack([on_import(programme), -programme.a.T, csr_array((columns, count))])
    size, none = eye_array(count), csr_array((count, rows))
    solution = solve(
        LinearProgram(
            c=np.concatenate([np.full(n, weights.level), np.zeros(rows), weight]),
            a=csr_array(
                vstack([reduced, hstack([change, none, size]), hstack([-change, none, size])])
            ),
            row_lower=np.concatenate(
                [np.where(at_upper, -np.inf, -programme.cost), np.zeros(2 * count)]
            ),
            row_upper=np.concatenate(
                [np.where(at_lower, np.inf, -programme.cost), np.full(2 * count, np.inf)]
            ),
            lower=np.concatenate([np.zeros(n), np.full(rows, -np.inf), np.zeros(count)]),
            upper=np.concatenate([np.full(n, cap), np.full(rows + count, np.inf)]),
            row_names=[f"reduced cost of {name}" for name in programme.names()[1]]
            + [f"change {k}" for k in range(2 * count)],
            column_names=[f"column {k}" for k in range(n + rows + count)],
        )
    )
    return solution.x[:n].reshape(hubs, hours)


def closest_adder(programme: HubProgramme, x: np.ndarray, cap: float) -> np.ndarray:
    """Adders at which schedules cost the hubs least more than their best, :eq:`prices-regret`.

    Parameters
    ----------
    programme : HubProgramme
    x : numpy.ndarray, shape (columns,)
        Feasible; of a planner, for example.
    cap : float
        Largest adder.

    Returns
    -------
    numpy.ndarray, shape (hubs, hours)
        Of several such the least in sum. If the schedules are optimal at some adders from 0 to the
        cap, they cost at most 1e-4 EUR more than the best at these, for each EUR/MWh of those.
    """
    n, columns, rows = np.prod(programme.shape[:2]), len(programme.cost), len(programme.b)
    above = np.maximum(x - programme.lower, 0.0)
    below = np.maximum(programme.upper - x, 0.0)
    regret = [np.where(distance > _AT_BOUND, distance, 0.0) for distance in (above, below)]
    eye = eye_array(columns)
    solution = solve(
        LinearProgram(
            c=np.concatenate([np.full(n, _LEAST_EUR), np.zeros(rows), *regret]),
            a=csr_array(hstack([on_import(programme), -programme.a.T, -eye, eye])),
            row_lower=-programme.cost,
            row_upper=-programme.cost,
            lower=np.concatenate([np.zeros(n), np.full(rows, -np.inf), np.zeros(2 * columns)]),
            upper=np.concatenate([np.full(n, cap), np.full(rows + 2 * columns, np.inf)]),
            row_names=[f"reduced cost of {name}" for name in programme.names()[1]],
            column_names=[f"column {k}" for k in range(n + rows + 2 * columns)],
        )
    )
    return solution.x[:n].reshape(programme.shape[:2])


def adder_changes(programme: HubProgramme, weights: AdderWeights) -> tuple[csr_array, np.ndarray]:
    """Changes of adders from hour to hour and between neighbours, and the weight of each.

    Returns
    -------
    change : scipy.sparse.csr_array, shape (changes, hubs x hours)
    weight : numpy.ndarray, shape (changes,)
    """
    return changes_between(programme.hubs.neighbours, programme.shape[:2], weights)


def changes_between(
    neighbours: np.ndarray, shape: tuple[int, int], weights: AdderWeights
) -> tuple[csr_array, np.ndarray]:
    """As `adder_changes`, for given pairs of neighbours and number of hubs and hours."""
    hubs, hours = shape
    later = kron(eye_array(hubs), _differences(_following(hours), hours))
    beside = kron(_differences(neighbours, hubs), eye_array(hours))
    weight = np.repeat([weights.smooth, weights.fair], [later.shape[0], beside.shape[0]])
    return csr_array(vstack([later, beside])), weight


def on_import(programme: HubProgramme) -> csr_array:
    """Matrix that puts adders on the imports' columns, shape (columns, hubs x hours)."""
    m_in = programme.column("m_in").ravel()
    n, columns = len(m_in), len(programme.cost)
    return csr_array(coo_array((np.ones(n), (m_in, np.arange(n))), shape=(columns, n)))


def _differences(pairs: np.ndarray, count: int) -> csr_array:
    """Matrix of the second less the first of each pair, shape (pairs, count)."""
    row = np.arange(len(pairs))
    entries = np.repeat([-1.0, 1.0], len(pairs))
    places = np.tile(row, 2), pairs.T.ravel()
    return csr_array(coo_array((entries, places), shape=(len(pairs), count)))


def _following(count: int) -> np.ndarray:
    """Pairs of neighbours in a line."""
    return np.column_stack([np.arange(count - 1), np.arange(1, count)])
