"""Re-linearisation: the light model made anew at its own solution until AC agrees.

Sequential linear programming with a trust region on an exact penalty: a step is taken if the AC
power flow confirms a fair part of the improvement that the linear model promised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from flexlib.bids import Bids, Connected
from flexlib.certificate import largest
from flexlib.errors import Infeasible, NotSettled
from flexlib.light_model import LightModel, linearise
from flexlib.voronoi import Activation
from flexlib.voronoi_ac import Comparison
from flexlib.voronoi_cells import Search, shared_programme
from flexlib.voronoi_points import merit_order

_FAIR = 0.1  # least part of the promised improvement
_GOOD = 0.75  # part of it from which the radius is doubled
_SMALLEST = 1e-6  # trust radius, in volumes, at which the search gives up
_SETTLED = 1e-9  # promised improvement, relative to the cost, that counts as none


@dataclass(frozen=True)
class Relinearised:
    """An activation at which the linear model and the AC power flow agree.

    Attributes
    ----------
    comparison : Comparison
        The activation with the model of the last round, beside AC.
    rounds : pandas.DataFrame
        One row a round: cost_eur_per_h, v_mae_pu, loading_mae_percent, v_excess_pu and
        loading_excess_percent (by AC), radius (of the trust region in volumes), taken.
    """

    comparison: Comparison
    rounds: pd.DataFrame

    @property
    def activation(self) -> Activation:
        """The activation."""
        return self.comparison.activation


def relinearised(
    connected: Connected,
    request_kw: float,
    *,
    start: np.ndarray | None = None,
    tolerance_percent: float = 1e-6,
    most_rounds: int = 30,
    gap: float = 1e-6,
    relief: bool = False,
) -> Relinearised:
    """Activate bids, re-linearising at the solution until limits hold by AC.

    Parameters
    ----------
    connected : Connected
    request_kw : float
        Upward positive.
    start : numpy.ndarray, shape (axes,), optional
        First point; the merit order without a grid by default.
    tolerance_percent : float
        Accepted difference between model and AC: per cent of a current's limit, and of the
        nominal voltage.
    most_rounds : int
    gap : float
        As in `flexlib.voronoi.activate`.
    relief : bool
        As in `flexlib.light_model.linearise`.

    Returns
    -------
    Relinearised
        A first-order optimum of the AC problem, admissible by AC. Without least activations its
        cost is the global optimum of the linear model of its own point; AC is not convex, so
        more is not claimed.

    Raises
    ------
    DataError
        As `activate` and `linearise`.
    Infeasible
        If no step near the last point lessens what limits are broken by, with what remains.
    NotSettled
        If the rounds do not come to rest; carries their table.
    """
    bids = connected.bids
    bids.assert_request(request_kw)
    width = np.where(bids.upper > bids.lower, bids.upper - bids.lower, 1.0)
    tiny = gap if (bids.axes[["min_up", "min_down"]] > 0).any(axis=None) else _SETTLED
    z = merit_order(bids, np.array([request_kw]))[0] if start is None else np.asarray(start, float)
    merit, radius = np.inf, np.inf
    rounds: list[dict[str, Any]] = []
    while len(rounds) < most_rounds and radius > _SMALLEST:
        model = linearise(connected, z[None], request_kw=(request_kw,) * 2, relief=relief)
        found = _step(model, bids, request_kw, None if np.isinf(radius) else radius * width, gap)
        comparison = Comparison(connected, found)
        broken = _broken_percent(comparison)
        promised = merit - found.cost_eur_per_h - found.penalty * found.missed
        if promised <= tiny * (1 + abs(found.cost_eur_per_h)):
            return _at_rest(connected, replace(found, z=z), rounds, tolerance_percent)
        now = found.cost_eur_per_h + found.penalty * broken
        step = float((np.abs(found.z - z) / width).max())
        taken = np.isinf(merit) or merit - now >= _FAIR * promised
        rounds.append(_row(comparison, radius, taken=taken))
        inside = np.isinf(radius) or step < radius * (1 - 1e-9)
        if max(broken, _error_percent(comparison)) <= tolerance_percent and inside:
            return Relinearised(comparison, pd.DataFrame(rounds))
        if taken:
            z, radius = found.z, 2 * radius if merit - now >= _GOOD * promised else radius
            merit = now
        else:
            radius = step / 4
    raise NotSettled(
        f"{len(rounds)} rounds of re-linearisation, the last with a trust radius of {radius:.2g} "
        f"and {broken:.3g} % beyond the limits by AC",
        pd.DataFrame(rounds),
    )


def _step(
    model: LightModel, bids: Bids, request_kw: float, reach: np.ndarray | None, gap: float
) -> Activation:
    """Cheapest activation by the model of one point, within reach of it; limits at a penalty."""
    (z,) = model.point
    within = None if reach is None else np.array([z - reach, z + reach])
    shared = shared_programme(bids, request_kw, within)
    cell, bounds = Search(model, bids, shared, elastic=True, gap=gap).best()
    return Activation(
        model, bids, request_kw, False, gap, cell.z, 0, bounds, cell.missed, cell.penalty
    )


def _at_rest(
    connected: Connected, last: Activation, rounds: list[dict[str, Any]], tolerance_percent: float
) -> Relinearised:
    """Result where no step promises to be better."""
    comparison = Comparison(connected, last)
    broken = _broken_percent(comparison)
    if broken > tolerance_percent:
        raise Infeasible(
            f"by AC the limits are broken by {broken:.4g} %, and no step nearby lessens it; "
            + "; ".join(comparison.worst())
        )
    return Relinearised(comparison, pd.DataFrame(rounds))


def _broken_percent(comparison: Comparison) -> float:
    """What limits are broken by in AC: per cent of nominal voltage, or of a current's limit."""
    return max(100 * comparison.v_excess_pu, comparison.loading_excess_percent)


def _error_percent(comparison: Comparison) -> float:
    """Largest difference between the linear model and AC."""
    dv = 100 * np.abs(comparison.v_pu - comparison.v_ac_pu)
    di = np.abs(comparison.loading_percent - comparison.loading_ac_percent)
    return max(largest(dv), largest(di))


def _row(comparison: Comparison, radius: float, *, taken: bool) -> dict[str, Any]:
    return {
        "cost_eur_per_h": comparison.activation.cost_eur_per_h,
        "v_mae_pu": comparison.v_mae_pu,
        "loading_mae_percent": comparison.loading_mae_percent,
        "v_excess_pu": comparison.v_excess_pu,
        "loading_excess_percent": comparison.loading_excess_percent,
        "radius": radius,
        "taken": taken,
    }
