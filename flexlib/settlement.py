"""Who is paid what for which activation, and whose uncertainty it is that costs.

Two rules: each activation at the price of its own offer, as the objective (75) counts it, or at
the locational price, what one more kilowatt there would save. By duality the second never pays
less than the offer asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from flexlib.planes import along
from flexlib.robust import Clearing
from flexlib.solver import solve

_PAID_KW = 1e-6


def settle(clearings: Mapping[pd.Timestamp, Clearing], duration_h: float) -> pd.DataFrame:
    """Payments for every activation of several periods by both rules, :eq:`day-paid`.

    Parameters
    ----------
    clearings : mapping of pandas.Timestamp to Clearing
        Result of each period, by its start.
    duration_h : float
        Length of a period.

    Returns
    -------
    pandas.DataFrame
        One row for each activation: start, load, way ("up" or "down"), energy_kwh,
        offer_eur_per_mwh, location_eur_per_mwh, as_bid_eur, locational_eur.
    """
    rows = []
    for start, clearing in clearings.items():
        offers, state = clearing.market.offers, clearing.state
        location = locational_prices_eur_per_mwh(clearing)
        for way, sign, kw in (("up", 1, state.up_kw), ("down", -1, state.down_kw)):
            for o in np.flatnonzero(kw > _PAID_KW):
                mwh = kw[o] * duration_h / 1000
                asked = offers[f"price_{way}_eur_per_mwh"][o]
                row = (start, offers["load"][o], way, 1000 * mwh, asked, sign * location[o])
                rows.append((*row, asked * mwh, sign * location[o] * mwh))
    names = ["start", "load", "way", "energy_kwh", "offer_eur_per_mwh", "location_eur_per_mwh"]
    return pd.DataFrame(rows, columns=[*names, "as_bid_eur", "locational_eur"])


def locational_prices_eur_per_mwh(clearing: Clearing) -> np.ndarray:
    """What one more MWh of upward flexibility at each offer's load would save, :eq:`day-location`.

    Parameters
    ----------
    clearing : Clearing

    Returns
    -------
    numpy.ndarray, shape (offers,)
        Not above the price of an offer that is not activated, equal to that of one activated
        in part, not below that of one activated in full; negative where downward flexibility
        is worth something. What it pays above the cost are rents, :eq:`day-rent`.
    """
    return np.asarray(1000 * _duals(clearing) @ clearing.optimum.rows.per_kw)


def band_costs_eur_per_h(clearing: Clearing) -> pd.DataFrame:
    """Share of the cost that each load's uncertainty causes, at the margin, :eq:`day-causes`.

    Parameters
    ----------
    clearing : Clearing

    Returns
    -------
    pandas.DataFrame
        Columns load and cost_eur_per_h: the change of the cost if the load's deviations grew by
        a small share, divided by that share. With the part of the baseline they add up to what
        is paid at locational prices, :eq:`day-balance`.
    """
    market, optimum = clearing.market, clearing.optimum
    duals = _duals(clearing)
    active = np.flatnonzero(duals)
    rows = optimum.rows.take(active)
    remains = market.remains(optimum.net_kw)
    columns = along(rows.normal[:, None], optimum.limits.per_xi[rows.limit]) * remains
    added = columns * market.uncertainty.worst(columns)
    loads = market.network.loads["load"].to_numpy()[market.uncertainty.load]
    return pd.DataFrame({"load": loads, "cost_eur_per_h": -duals[active] @ added})


def _duals(clearing: Clearing) -> np.ndarray:
    """Dual value of each row of the optimum, EUR/h per ampere or volt; at most 0.

    Where alternative rows were chosen between, for the choice that was made.
    """
    optimum = clearing.optimum
    program, solution = optimum.program, optimum.solution
    if program.integer.any():
        chosen = np.where(program.integer, np.round(solution.x), np.nan)
        fixed = replace(
            program,
            lower=np.where(program.integer, chosen, program.lower),
            upper=np.where(program.integer, chosen, program.upper),
            integer=np.zeros(len(program.c), dtype=bool),
        )
        solution = solve(fixed)
    dual = dict(zip(program.row_names, solution.row_dual, strict=True))
    return np.array([dual.get(name, 0.0) for name in optimum.row_names(clearing.market)])
