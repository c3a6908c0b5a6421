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
from flexlib.errors import DataError, Fault, Infeasible, NotSettled, PowerFlowError
from flexlib.light_model import LightModel, linearise
from flexlib.voronoi import Activation
from flexlib.voronoi_ac import Comparison
from flexlib.voronoi_cells import ROW_TOLERANCE, Search, first_penalty, shared_programme
from flexlib.voronoi_points import merit_order

_FAIR = 0.1  # least part of the promised improvement
_GOOD = 0.75  # part of it from which the radius is doubled
_SMALLEST = 1e-6  # trust radius, in volumes, at which the search gives up
_SETTLED = 1e-9  # promised improvement, relative to the cost, that counts as none
_LESSENED = 0.01  # least part of broken limits that the linear model must hope to mend
_PATIENCE = 6  # steps taken over which this must lessen what is broken
_DEARER = 1e3  # factor on the price of broken limits where it was too low to mend them
_DEAREST = 1e6  # largest factor in all


@dataclass(frozen=True)
class Relinearised:
    """An activation at which the linear model and the AC power flow agree.

    Attributes
    ----------
    comparison : Comparison
        The activation beside AC, with the light model of the last round; where the search ends
        because no step promises more, the one made at the activation, whose errors are zero.
    rounds : pandas.DataFrame
        One row a round: cost_eur_per_h, v_mae_pu, loading_mae_percent, v_excess_pu and
        loading_excess_percent (by AC; NaN where AC has no solution), radius (of the trust region
        in volumes), taken.
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
    gap: float = 1e-5,
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
        Relative distance from the least cost by the linear model of its own point at which an
        admissible activation counts as optimal, once a trust region is needed; and as in
        `flexlib.voronoi.activate`.
    relief : bool
        As in `flexlib.light_model.linearise`.

    Returns
    -------
    Relinearised
        A first-order optimum of the AC problem, admissible by AC. The certificate's gap is to the
        least cost by that light model alone, without the trust region; AC is not convex, so more
        is not claimed.

    Raises
    ------
    DataError
        As `activate` and `linearise`.
    Infeasible
        If limits are broken by AC, and no activation breaks them by noticeably less in the linear
        model around this point; with the numbers.
    NotSettled
        If the rounds do not come to rest; carries their table.
    """
    bids = connected.bids
    bids.assert_request(request_kw)
    if most_rounds < 1:
        raise DataError([Fault("relinearised", "", "most_rounds", f"{most_rounds}", "1 or more")])
    width = np.where(bids.upper > bids.lower, bids.upper - bids.lower, 1.0)
    tiny = gap / 10 if (bids.axes[["min_up", "min_down"]] > 0).any(axis=None) else _SETTLED
    z = merit_order(bids, np.array([request_kw]))[0] if start is None else np.asarray(start, float)
    cost, broken = np.inf, np.inf  # of z; not known of the first, which may miss the request
    penalty, radius = first_penalty(bids), np.inf
    rounds: list[dict[str, Any]] = []
    before: list[float] = []  # what limits were broken by at the last steps taken

    slack = tolerance_percent / 2

    def beyond(percent: float) -> float:
        """What counts of broken limits: not what solvers leave, half of what is accepted."""
        return max(percent - slack, 0.0)

    while len(rounds) < most_rounds and radius > _SMALLEST:
        model = linearise(connected, z[None], request_kw=(request_kw,) * 2, relief=relief)
        reach = None if np.isinf(radius) else radius * width
        found = _step(model, bids, request_kw, reach, gap, penalty)
        if 0 < (1 - _LESSENED) * broken < found.missed:
            _assert_lessened(connected, model, bids, request_kw, gap, broken)
        promised = cost + penalty * (broken - beyond(found.missed)) - found.cost_eur_per_h
        noise = penalty * ROW_TOLERANCE if broken > slack else 0.0  # broken is known no better
        scale = 1 + abs(found.cost_eur_per_h)
        if broken <= slack and (reach is not None or promised <= tiny * scale):
            whole = _step(model, bids, request_kw, None, gap, penalty)
            if promised <= tiny * scale or cost - whole.cost_eur_per_h <= gap * scale:
                at_rest = Comparison(connected, replace(whole, z=z, missed=0.0))
                return Relinearised(at_rest, pd.DataFrame(rounds))
        if promised <= tiny * scale + noise:
            penalty *= _DEARER
            if penalty > _DEAREST * first_penalty(bids):
                break
            continue
        comparison = Comparison(connected, found)
        now = beyond(_broken_percent(comparison))
        gained = cost + penalty * (broken - now) - found.cost_eur_per_h
        step = float((np.abs(found.z - z) / width).max())
        solved = bool(np.isfinite(now))
        taken = solved and (np.isinf(cost) or gained >= _FAIR * promised)
        rounds.append(_row(comparison, radius, taken=taken, solved=solved))
        inside = np.isinf(radius) or step < radius * (1 - 1e-9)
        if inside and now <= slack and _error_percent(comparison) <= tolerance_percent:
            return Relinearised(comparison, pd.DataFrame(rounds))
        if taken:
            z, cost, broken = found.z, found.cost_eur_per_h, now
            before = [*before, broken][-_PATIENCE:]
            stalled = tolerance_percent < (1 - _LESSENED) * before[0] < broken
            if stalled and len(before) == _PATIENCE:
                break
            radius = 2 * radius if gained >= _GOOD * promised else radius
        else:
            radius = step / 4
    raise NotSettled(
        f"{len(rounds)} rounds of re-linearisation, the last with a trust radius of {radius:.2g}; "
        f"limits are broken by {broken:.3g} % by AC",
        pd.DataFrame(rounds),
    )


def _step(
    model: LightModel,
    bids: Bids,
    request_kw: float,
    reach: np.ndarray | None,
    gap: float,
    penalty: float | None,
) -> Activation:
    """Cheapest activation by the model of one point, within reach of it.

    Limits are missed at a penalty; without one, by as little as can be at any cost.
    """
    (z,) = model.point
    within = None if reach is None else np.array([z - reach, z + reach])
    shared = shared_programme(bids, request_kw, within)
    if penalty is None:
        shared, penalty = replace(shared, c=np.zeros_like(shared.c)), 1.0
    search = Search(model, bids, shared, elastic=True, gap=gap / 10, penalty=penalty)
    cell, bounds = search.best()
    return Activation(
        model, bids, request_kw, False, gap, cell.z, 0, bounds, cell.missed, cell.penalty
    )


def _assert_lessened(
    connected: Connected,
    model: LightModel,
    bids: Bids,
    request_kw: float,
    gap: float,
    broken_percent: float,
) -> None:
    """Raise `Infeasible` where the model of a point has no activation much better than it."""
    least = _step(model, bids, request_kw, None, gap, None)
    if least.missed >= (1 - _LESSENED) * broken_percent:
        raise Infeasible(
            f"by AC the limits are broken by {broken_percent:.4g} %, and by the linear model there "
            f"no other activation breaks them by less than {least.missed:.4g} %; "
            + "; ".join(Comparison(connected, replace(least, z=model.point[0])).worst())
        )


def _broken_percent(comparison: Comparison) -> float:
    """What limits are broken by in AC: per cent of nominal voltage, or of a current's limit.

    Infinite where AC has no solution.
    """
    try:
        return max(100 * comparison.v_excess_pu, comparison.loading_excess_percent)
    except PowerFlowError:
        return np.inf


def _error_percent(comparison: Comparison) -> float:
    """Largest difference between the linear model and AC."""
    dv = 100 * np.abs(comparison.v_pu - comparison.v_ac_pu)
    di = np.abs(comparison.loading_percent - comparison.loading_ac_percent)
    return max(largest(dv), largest(di))


def _row(comparison: Comparison, radius: float, *, taken: bool, solved: bool) -> dict[str, Any]:
    errors = ("v_mae_pu", "loading_mae_percent", "v_excess_pu", "loading_excess_percent")
    return {
        "cost_eur_per_h": comparison.activation.cost_eur_per_h,
        **{name: getattr(comparison, name) if solved else np.nan for name in errors},
        "radius": radius,
        "taken": taken,
    }
