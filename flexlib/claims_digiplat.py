"""Our value of every result that DigIPlat D5.2 prints in Table 1, on the stand-in.

Medians over ten draws of bids that consume, activated with the source's three points. The grid is
not the source's, so these values stand beside the published ones and are not held against them.
"""

from __future__ import annotations

from functools import cache

import pandas as pd

from flexlib.bids import Connected
from flexlib.light_model import linearise
from flexlib.stand_in import stand_in
from flexlib.voronoi import activate
from flexlib.voronoi_ac import Comparison
from flexlib.voronoi_points import none_half_all

SEEDS = tuple(range(1, 11))
_DIRECTION = "down"


@cache
def compared(direction: str, seed: int) -> Comparison:
    """One instance of the stand-in, activated with the source's three points, beside AC.

    Parameters
    ----------
    direction : {"down", "up"}
        Bids consume or inject.
    seed : int

    Returns
    -------
    flexlib.voronoi_ac.Comparison
    """
    case = stand_in(direction, seed)
    connected = Connected(case.network, case.bids, case.sites)
    model = linearise(connected, none_half_all(case.bids, direction))
    return Comparison(connected, activate(model, case.bids, case.request_kw))


@cache
def table_1(direction: str) -> pd.DataFrame:
    """The source's Table 1 on the stand-in, one row a draw.

    Parameters
    ----------
    direction : {"down", "up"}

    Returns
    -------
    pandas.DataFrame
        Columns seed, cost_eur_per_h, v_mae_pu, v_rmse_pu, loading_mae_percent,
        loading_rmse_percent (equations (15) and (16)), v_excess_pu and loading_excess_percent (what
        the limits are broken by in AC) and holds (whether the certificate with the AC gate does).
    """
    numbers = [
        "v_mae_pu",
        "v_rmse_pu",
        "loading_mae_percent",
        "loading_rmse_percent",
        "v_excess_pu",
        "loading_excess_percent",
    ]
    rows = []
    for seed in SEEDS:
        c = compared(direction, seed)
        row = {"seed": seed, "cost_eur_per_h": c.activation.cost_eur_per_h}
        rows.append(row | {n: getattr(c, n) for n in numbers} | {"holds": c.certificate.ok})
    return pd.DataFrame(rows)


def ours() -> dict[str, float]:
    """Our value of every claim, by its id."""
    median = table_1(_DIRECTION).median(numeric_only=True)
    columns = {"voltage_pu": "v_{}_pu", "loading_pct": "loading_{}_percent"}
    return {
        f"digiplat-1/{metric}/{column}": float(median[name.format(metric.lower())])
        for metric in ("MAE", "RMSE")
        for column, name in columns.items()
    }
