"""Re-linearisation: the light model made anew at its own solution until AC agrees.

Sequential linear programming with a trust region on an exact penalty: a step is taken if the AC
power flow confirms a fair part of the improvement that the linear model promised.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from flexlib.bids import Connected
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
        is not claimed. With least activations it stays open where a cheaper pattern lies beyond
        the trust region.

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
    z = merit_order(bids, np.array([request_kw]))[0] if start is None else np.asarray(start, float)
    descent = _Descent(
        connected, request_kw, tolerance_percent, gap, relief, z, first_penalty(bids)
    )
    while len(descent.rounds) < most_rounds and descent.radius > _SMALLEST:
        if end := descent.next_round():
            return Relinearised(end, pd.DataFrame(descent.rounds))
    raise descent.not_settled()


@dataclass
class _Descent:
    """The search between two rounds.

    Attributes
    ----------
    connected, request_kw, tolerance_percent, gap, relief
        As in `relinearised`.
    z : numpy.ndarray, shape (axes,)
        Where it stands.
    penalty : float
        Price of broken limits, EUR/h for one per cent.
    cost, broken : float
        Cost of z in EUR/h, and what counts of what limits are broken by there by AC, per cent;
        infinite for the first point, which may miss the request.
    radius : float
        Of the trust region, in volumes.
    rounds : list of dict
        Rows of `Relinearised.rounds`.
    before : list of float
        What limits were broken by at the last steps taken.
    """

    connected: Connected
    request_kw: float
    tolerance_percent: float
    gap: float
    relief: bool
    z: np.ndarray
    penalty: float
    cost: float = np.inf
    broken: float = np.inf
    radius: float = np.inf
    rounds: list[dict[str, Any]] = field(default_factory=list)
    before: list[float] = field(default_factory=list)

    @cached_property
    def width(self) -> np.ndarray:
        """Volume of each axis."""
        bids = self.connected.bids
        return np.where(bids.upper > bids.lower, bids.upper - bids.lower, 1.0)

    @cached_property
    def tiny(self) -> float:
        """Promised improvement, relative to the cost, that counts as none."""
        switched = self.connected.bids.axes[["min_up", "min_down"]] > 0
        return self.gap / 10 if switched.any(axis=None) else _SETTLED

    @property
    def slack(self) -> float:
        """Broken limits below which nothing counts: what solvers leave, half of the tolerance."""
        return self.tolerance_percent / 2

    def next_round(self) -> Comparison | None:
        """Linearise, step, and look at the step by AC; return where the search ends."""
        model = linearise(
            self.connected, self.z[None], request_kw=(self.request_kw,) * 2, relief=self.relief
        )
        found = self._step(model, self.penalty, within=self.radius)
        if 0 < (1 - _LESSENED) * self.broken < found.missed:
            self._assert_lessened(model)
        missed = max(found.missed - self.slack, 0.0)
        promised = self.cost + self.penalty * (self.broken - missed) - found.cost_eur_per_h
        noise = (
            self.penalty * ROW_TOLERANCE if self.broken > self.slack else 0.0
        )  # not known better
        none = self.tiny * (1 + abs(found.cost_eur_per_h))
        if self.broken <= self.slack and (np.isfinite(self.radius) or promised <= none):
            whole = self._step(model, self.penalty)
            near = self.gap * (1 + abs(found.cost_eur_per_h))
            if promised <= none or self.cost - whole.cost_eur_per_h <= near:
                return Comparison(self.connected, replace(whole, z=self.z, missed=0.0))
        if promised <= none + noise:
            self.penalty *= _DEARER
            if self.penalty > _DEAREST * first_penalty(self.connected.bids):
                raise self.not_settled()
            return None
        return self._try(found, promised)

    def not_settled(self) -> NotSettled:
        """The error of a search that ends here."""
        return NotSettled(
            f"{len(self.rounds)} rounds of re-linearisation, the last with a trust radius of "
            f"{self.radius:.2g}; limits are broken by {self.broken:.3g} % by AC",
            pd.DataFrame(self.rounds),
        )

    def _try(self, found: Activation, promised: float) -> Comparison | None:
        """Take a step if AC confirms it, and set the radius; return it if it is the last one."""
        comparison = Comparison(self.connected, found)
        now = max(_broken_percent(comparison) - self.slack, 0.0)
        gained = self.cost + self.penalty * (self.broken - now) - found.cost_eur_per_h
        step = float((np.abs(found.z - self.z) / self.width).max())
        solved = bool(np.isfinite(now))
        taken = solved and (np.isinf(self.cost) or gained >= _FAIR * promised)
        self.rounds.append(_row(comparison, self.radius, taken=taken, solved=solved))
        inside = np.isinf(self.radius) or step < self.radius * (1 - 1e-9)
        if inside and now <= self.slack and _error_percent(comparison) <= self.tolerance_percent:
            return self._with_bounds_of_all(comparison)
        if not taken:
            self.radius = step / 4
            return None
        self.z, self.cost, self.broken = found.z, found.cost_eur_per_h, now
        self.before = [*self.before, now][-_PATIENCE:]
        stalled = self.tolerance_percent < (1 - _LESSENED) * self.before[0] < now
        if stalled and len(self.before) == _PATIENCE:
            raise self.not_settled()
        if gained >= _GOOD * promised:
            self.radius *= 2
        return None

    def _with_bounds_of_all(self, comparison: Comparison) -> Comparison:
        """Replace bounds that hold within the trust region alone.

        Inside it the best activation is the best of all without least activations only.
        """
        if np.isinf(self.radius):
            return comparison
        found = comparison.activation
        whole = self._step(found.model, self.penalty)
        bound = whole.cell_bound_eur_per_h
        return Comparison(self.connected, replace(found, cell_bound_eur_per_h=bound))

    def _step(
        self, model: LightModel, penalty: float | None, *, within: float = np.inf
    ) -> Activation:
        """Cheapest activation by the model of z, within a radius of it.

        Limits are missed at a penalty; without one, by as little as can be at any cost.
        """
        bids, reach = self.connected.bids, within * self.width
        region = None if np.isinf(within) else np.array([self.z - reach, self.z + reach])
        shared = shared_programme(bids, self.request_kw, region)
        if penalty is None:
            shared, penalty = replace(shared, c=np.zeros_like(shared.c)), 1.0
        search = Search(model, bids, shared, elastic=True, gap=self.gap / 10, penalty=penalty)
        cell, bounds = search.best()
        return Activation(
            model, bids, self.request_kw, False, self.gap, cell.z, 0, bounds, cell.missed,
            cell.penalty,
        )  # fmt: skip

    def _assert_lessened(self, model: LightModel) -> None:
        """Raise `Infeasible` where the model of z has no activation much better than it."""
        least = self._step(model, None)
        if least.missed >= (1 - _LESSENED) * self.broken:
            at_z = Comparison(self.connected, replace(least, z=self.z))
            raise Infeasible(
                f"by AC the limits are broken by {self.broken:.4g} %, and by the linear model "
                f"there no other activation breaks them by less than {least.missed:.4g} %; "
                + "; ".join(at_z.worst())
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
