"""The public stand-in for the Bergwald grid: SimBench grids, drawn bids, a request.

The grid of DigIPlat D5.2 is not public. Ours has its counts (241 bids, a request of 1.8 MW) and
nothing else of it: no number computed here is a reproduction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from flexlib.bids import Bids
from flexlib.errors import DataError, Fault
from flexlib.network import Network
from flexlib.readers import read_network
from flexlib.tables import data_path

BIDS = 241
VOLUME_KW = 3600.0
REQUEST_KW = 1800.0
_BASE_SHARE = {"up": 0.3, "down": 0.1}  # of the peak loads
_CHEAP_WHEN_UP = ("LV2", "LV3", "LV5")  # so that the cheapest bids are not admissible
_CHEAP = 0.45
_SPREAD = 0.4


@dataclass(frozen=True)
class StandIn:
    """One instance of the stand-in.

    Attributes
    ----------
    network : Network
        Grid with its base loads.
    bids : Bids
    sites : pandas.DataFrame
        Bus of each bid, columns of `flexlib.bids.SITES`.
    request_kw : float
        Upward positive.
    """

    network: Network
    bids: Bids
    sites: pd.DataFrame
    request_kw: float


def stand_in(direction: str, seed: int = 1) -> StandIn:
    """Draw an instance.

    Bids stand at 241 of the 420 load buses; volumes are proportional to the peak load times a
    lognormal factor (sigma 0.4) and add up to 3.6 MW; prices are uniform from 50 to 150 EUR/MWh.
    Upward, three of the six grids bid at 0.45 of that, so that the cheapest activation is not
    admissible.

    Parameters
    ----------
    direction : {"down", "up"}
        Bids consume (base loads at 0.1 of the peak) or inject (at 0.3).
    seed : int
        Seed of the draw.

    Returns
    -------
    StandIn

    Raises
    ------
    DataError
        If the direction is another word.
    """
    if direction not in _BASE_SHARE:
        expected = " or ".join(repr(word) for word in _BASE_SHARE)
        raise DataError([Fault("stand_in", "", "direction", repr(direction), expected)])
    peak = read_network(data_path("feeders/simbench-lv-6"))
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(len(peak.loads), BIDS, replace=False))
    at = peak.loads.iloc[drawn].reset_index(drop=True)
    volume_kw = at["p_kw"].to_numpy() * rng.lognormal(0.0, _SPREAD, BIDS)
    volume_kw *= VOLUME_KW / volume_kw.sum()
    price = rng.uniform(50.0, 150.0, BIDS)
    if direction == "up":
        price = np.where(at["bus"].str[:3].isin(_CHEAP_WHEN_UP), _CHEAP, 1.0) * price
    bid = [f"bid {k + 1}" for k in range(BIDS)]
    table = {"bid": bid, f"{direction}_max_kw": volume_kw, f"price_{direction}_eur_per_mwh": price}
    power = peak.loads[["p_kw", "q_kvar"]] * _BASE_SHARE[direction]
    return StandIn(
        replace(peak, loads=peak.loads.assign(**power), name=f"stand-in, bids {direction}"),
        Bids(pd.DataFrame(table)),
        pd.DataFrame({"bid": bid, "bus": at["bus"]}),
        REQUEST_KW if direction == "up" else -REQUEST_KW,
    )
