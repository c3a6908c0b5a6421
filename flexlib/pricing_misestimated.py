"""What tariffs are worth when the hubs are not what the DSO believes.

Tariffs are designed for hubs as they are estimated, and posted once; the true hubs are drawn
around the estimate, and each tariff is evaluated on all of them, on the same grid.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from flexlib.errors import DataError, Fault
from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import repeated
from flexlib.hubs import Hubs
from flexlib.pricing_evaluation import evaluated
from flexlib.tariffs import Tariff

_WIDEST = 3.0  # standard deviations at which a draw is cut off


def true_hubs(estimated: Hubs, share: float, rng: np.random.Generator) -> Hubs:
    """Hubs around estimated ones: devices, demand and PV of each off by a factor of their own.

    Parameters
    ----------
    estimated : Hubs
    share : float
        Standard deviation of each factor around 1, of a normal distribution that is cut off at
        three of them; from 0, below 1/3.
    rng : numpy.random.Generator

    Returns
    -------
    Hubs

    Raises
    ------
    DataError
        If the share is out of range.
    """
    if not 0 <= share < 1 / _WIDEST:
        expected = "a number from 0, below 1/3"
        raise DataError([Fault("true_hubs", "", "share", f"{share:g}", expected)])
    off = np.clip(rng.standard_normal((len(estimated), 3)), -_WIDEST, _WIDEST)
    factors = pd.DataFrame(1 + share * off, columns=["size", "demand", "pv"])
    factors["feeder"], factors["hub"] = 0, estimated.table["hub"].to_numpy()
    return repeated(estimated, factors)


def misestimated(
    estimated: Hubs,
    grid: HubGrid,
    tariffs: Mapping[str, Tariff],
    *,
    share: float = 0.05,
    draws: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Evaluate tariffs, designed for estimated hubs, on true ones.

    Parameters
    ----------
    estimated : Hubs
    grid : HubGrid
        Its limits hold for the true hubs, too.
    tariffs : mapping of str to Tariff
        Each is evaluated on the same draws.
    share : float
        See `true_hubs`.
    draws : int
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row for each draw, tariff and kind of followers (the index), with the columns of
        `flexlib.pricing_evaluation.evaluated`.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for draw in range(draws):
        hubs = true_hubs(estimated, share, rng)
        for name, tariff in tariffs.items():
            found[draw, name] = evaluated(hubs, grid, tariff)
    return pd.concat(found, names=["draw", "tariff", "followers"])


def mean_and_range(table: pd.DataFrame) -> pd.DataFrame:
    """Congestion over the draws: index tariff and followers; columns mean, least, most, MWh.

    Parameters
    ----------
    table : pandas.DataFrame
        By `misestimated`; least_mwh is over the proven lower, most_mwh over the proven upper
        bounds, and the mean is that of the answers found.
    """
    groups = table.groupby(level=["tariff", "followers"], sort=False)
    return pd.DataFrame(
        {
            "mean_mwh": groups["congestion_mwh"].mean(),
            "least_mwh": groups["at_least_mwh"].min(),
            "most_mwh": groups["at_most_mwh"].max(),
        }
    )
