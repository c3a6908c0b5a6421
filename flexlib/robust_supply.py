"""The second objective: what can be offered upstream without a violation, price against volume.

De Simone (2025), introduction to chapter 2, after Nebuloni et al. (2023): what is left after local
relief is offered to the system operator, so the market asks for the most that can be activated in
one direction. Between the two extremes lies a convex, piecewise linear curve of cost against
volume; all of its corners are found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, vstack

from flexlib.errors import Infeasible
from flexlib.linear_program import LinearProgram, without_redundant_rows
from flexlib.market import Market
from flexlib.planes import Planes
from flexlib.powerflow import power_flow
from flexlib.robust import Clearing, explained
from flexlib.robust_arrays import robust_optimum
from flexlib.robust_limits import Limits, limits_that_can_bind
from flexlib.solver import solve

_SAME_KW = 1e-6
_FIXED_KW = 1e-8  # around a volume that is asked for
_SAME_EUR = 1e-7
_BENT_EUR = 1e-3  # off by which a chord of a bent curve may be


@dataclass(frozen=True)
class SupplyCurve:
    """Least cost of every net volume that is safe for the whole set.

    Attributes
    ----------
    market : Market
    corners : tuple of Clearing
        Least costly activation at each corner of the curve, by rising volume. Every volume
        between two corners costs the mean of both, weighted, and is safe as well.
    """

    market: Market
    corners: tuple[Clearing, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """The curve: volume_kw, cost_eur_per_h and price_eur_per_mwh up to the corner.

        A negative volume is net downward flexibility; ``at_slack_kw`` is what the AC power flow
        of the baseline loads finds to arrive at the slack bus, losses included.
        """
        volume_kw = np.array([corner.optimum.net_kw.sum() for corner in self.corners])
        cost = np.array([corner.cost_eur_per_h for corner in self.corners])
        price = 1000 * np.diff(cost, prepend=np.nan) / np.diff(volume_kw, prepend=np.nan)
        return pd.DataFrame(
            {
                "volume_kw": volume_kw,
                "cost_eur_per_h": cost,
                "price_eur_per_mwh": price,
                "at_slack_kw": self._at_slack_kw(),
            }
        )

    def _at_slack_kw(self) -> np.ndarray:
        market, slack = self.market, self.market.network.slack
        net_kw = [np.zeros(len(market.offers)), *(c.optimum.net_kw for c in self.corners)]
        none = np.zeros((1, len(market.uncertainty.load)))
        loads_kva = np.concatenate([market.loads_kva(none, net) for net in net_kw])
        flow = power_flow(market.network, loads_kva)
        at_slack = market.flow.admittance.y_bus[[slack]] @ flow.v_pu.T
        drawn_kw = 1000 * np.real(flow.v_pu[:, slack] * np.conj(at_slack.ravel()))
        drawn_kw += loads_kva[:, market.network.load_bus == slack].real.sum(axis=1)
        return np.asarray(drawn_kw[0] - drawn_kw[1:])


def supply_curve(market: Market) -> SupplyCurve:
    """Find all corners of the curve of cost against volume, :eq:`day-supply`.

    At a price upstream the operator offers the volume at which cost less revenue is least. A
    chord of the curve is a price; either no volume is better than both its ends, and the curve
    is straight between them, or the best one is a corner. With exact circles the curve is bent;
    its corners then are points between which no chord is off by more than 0.001 EUR/h.

    Parameters
    ----------
    market : Market

    Returns
    -------
    SupplyCurve
        Its ends are the extremes of programmes whose rows every safe activation keeps, so that
        none has a volume beyond them by more than what the solver lets pass. The activation at
        an end is cleared there, and breaks no limit of the linear model by more than 1e-8 A
        or V, or 1e-9 of it if that is more.

    Raises
    ------
    Infeasible
        If no activation that is offered is safe, not even for local relief.
    NotSettled
        See `flexlib.robust_arrays.robust_optimum`.
    """
    limits = limits_that_can_bind(market)
    way = _net_upward(market)
    try:
        low = _cheapest(market, limits, lambda _: way)
        high = _cheapest(market, limits, lambda _: -way)
    except Infeasible as error:
        raise explained(market, error) from error
    if _kw(high) - _kw(low) < _SAME_KW:
        return SupplyCurve(market, (low,))
    return SupplyCurve(market, (low, *_between(market, limits, low, high), high))


def _between(market: Market, limits: Limits, left: Clearing, right: Clearing) -> list[Clearing]:
    """Corners strictly between two points of the curve."""
    if _kw(right) - _kw(left) < _SAME_KW:
        return []
    price = (right.cost_eur_per_h - left.cost_eur_per_h) / (_kw(right) - _kw(left))
    way = _net_upward(market)
    middle = _cheapest(market, limits, lambda cost: cost - price * way)
    gained = left.cost_eur_per_h - middle.cost_eur_per_h - price * (_kw(left) - _kw(middle))
    straight_eur = _SAME_EUR if isinstance(market.norm, Planes) else _BENT_EUR
    inside = _kw(left) + _SAME_KW < _kw(middle) < _kw(right) - _SAME_KW
    if gained < straight_eur or not inside:
        return []
    return [
        *_between(market, limits, left, middle),
        middle,
        *_between(market, limits, middle, right),
    ]


def _kw(clearing: Clearing) -> float:
    return float(clearing.optimum.net_kw.sum())


def _net_upward(market: Market) -> np.ndarray:
    """Net upward volume as coefficients of upward and downward activations."""
    return np.repeat([1.0, -1.0], len(market.offers))


def _cheapest(
    market: Market, limits: Limits, objective: Callable[[np.ndarray], np.ndarray]
) -> Clearing:
    """Least costly activation of the net volume at which an objective is least.

    The volume is found anew with every round of rows: one that was found with fewer of them can
    lie outside the others by what a row may be broken by, and then has no activation.

    Parameters
    ----------
    market : Market
    limits : Limits
    objective : callable
        Makes the objective's coefficients of the activations from those of the cost.
    """
    way = _net_upward(market)

    def at_best_volume(program: LinearProgram) -> LinearProgram:
        kept = without_redundant_rows(program)
        c, row = np.zeros(len(kept.c)), np.zeros(len(kept.c))
        c[: len(way)], row[: len(way)] = objective(kept.c[: len(way)]), way
        volume_kw = float(row @ solve(replace(kept, c=c)).x)
        return replace(
            kept,
            a=csr_array(vstack([kept.a, csr_array(row[None])])),
            row_lower=np.append(kept.row_lower, volume_kw - _FIXED_KW),
            row_upper=np.append(kept.row_upper, volume_kw + _FIXED_KW),
            row_names=[*kept.row_names, "net volume; kW"],
        )

    return Clearing(market, robust_optimum(market, limits, at_best_volume))
