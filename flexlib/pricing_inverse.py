"""The cheapest adders at which given schedules are optimal: an inverse linear programme.

A schedule is optimal for its hub at an adder exactly when some multipliers of its equations leave
reduced costs of the right sign: not negative at a lower bound, not positive at an upper one, zero
between. In the adder and the multipliers these are linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array, hstack, kron, vstack

from flexlib.hub_programme import HubProgramme
from flexlib.solver import LinearProgram, solve

_AT_BOUND = 1e-7  # MW or MWh


@dataclass(frozen=True)
class AdderWeights:
    """Weights of the leader's regularisation.

    Attributes
    ----------
    level, smooth, fair : float
        Of adders, of their change from hour to hour, and of their difference between a hub and
        the next one of the table.
    """

    level: float = 1e-3
    smooth: float = 5e-4
    fair: float = 5e-4

    def value(self, adder: np.ndarray) -> float:
        """Regularisation of adders of shape (hubs, hours)."""
        smooth = np.abs(np.diff(adder, axis=1)).sum()
        fair = np.abs(np.diff(adder, axis=0)).sum()
        return float(self.level * np.abs(adder).sum() + self.smooth * smooth + self.fair * fair)


def cheapest_adder(
    programme: HubProgramme, x: np.ndarray, cap: float, weights: AdderWeights
) -> np.ndarray:
    """Adders of least regularisation at which schedules are optimal for every hub.

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
    m_in = programme.column("m_in").ravel()
    on_import = coo_array((np.ones(n), (m_in, np.arange(n))), shape=(columns, n))
    at_lower = x <= programme.lower + _AT_BOUND
    at_upper = x >= programme.upper - _AT_BOUND
    differences = [
        (weights.smooth, kron(eye_array(hubs), _steps(hours))),
        (weights.fair, kron(_steps(hubs), eye_array(hours))),
    ]
    sizes = [d.shape[0] for _, d in differences]
    reduced = hstack([on_import, -programme.a.T, csr_array((columns, sum(sizes)))])
    change = vstack([d for _, d in differences])
    size = eye_array(sum(sizes))
    none = csr_array((sum(sizes), rows))
    count = n + rows + sum(sizes)
    solution = solve(
        LinearProgram(
            c=np.concatenate(
                [np.full(n, weights.level), np.zeros(rows)]
                + [np.full(k, w) for k, (w, _) in zip(sizes, differences, strict=True)]
            ),
            a=csr_array(
                vstack([reduced, hstack([change, none, size]), hstack([-change, none, size])])
            ),
            row_lower=np.concatenate(
                [np.where(at_upper, -np.inf, -programme.cost), np.zeros(2 * sum(sizes))]
            ),
            row_upper=np.concatenate(
                [np.where(at_lower, np.inf, -programme.cost), np.full(2 * sum(sizes), np.inf)]
            ),
            lower=np.concatenate([np.zeros(n), np.full(rows, -np.inf), np.zeros(sum(sizes))]),
            upper=np.concatenate([np.full(n, cap), np.full(rows + sum(sizes), np.inf)]),
            row_names=[f"reduced cost of {k}" for k in range(columns)]
            + [f"change {k}" for k in range(2 * sum(sizes))],
            column_names=[f"column {k}" for k in range(count)],
        )
    )
    return solution.x[:n].reshape(hubs, hours)


def _steps(count: int) -> csr_array:
    """Differences of neighbours, shape (count - 1, count)."""
    return csr_array(eye_array(count - 1, count, k=1) - eye_array(count - 1, count))
