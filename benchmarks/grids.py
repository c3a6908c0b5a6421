"""Grids and bids of several sizes for activation, drawn like the stand-in's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from flexlib import Network, read_network
from flexlib.bids import Bids, Connected
from flexlib.errors import PowerFlowError
from flexlib.sensitivity import operating_points
from flexlib.stand_in import StandIn, stand_in

SEMI_URBAN = "1-MVLV-semiurb-all-0-sw"  # SimBench: 9,105 buses
_V_PU = (0.95, 1.05)
_BASE_SHARE = 0.1  # of the loads and generators, as the stand-in has it for bids that consume
_SPREAD = 0.4
_ALL_PERCENT = 150.0  # largest loading with all bids activated
_HALVINGS = 12


@cache
def semi_urban(buses: int | None = None) -> Network:
    """The medium-voltage grid of SimBench and its low-voltage grids, the smallest first.

    Parameters
    ----------
    buses : int, optional
        As many low-voltage grids as fit in; all by default.

    Returns
    -------
    Network
        Voltage limits as in the stand-in.
    """
    network = read_network(SEMI_URBAN)
    if buses is not None:
        network = _part(network, buses)
    limits = dict(zip(("v_min_pu", "v_max_pu"), _V_PU, strict=True))
    return replace(network, buses=network.buses.assign(**limits))


def _part(network: Network, buses: int) -> Network:
    low = network.buses["v_nom_kv"].to_numpy() < 1
    one, other = network.from_bus, network.to_bus
    inside = low[one] & low[other]
    ends = (one[inside], other[inside])
    links = coo_array((np.ones(inside.sum()), ends), (len(low), len(low)))
    grid = connected_components(links, directed=False)[1]
    number, size = np.unique(grid[low], return_counts=True)
    order = np.argsort(size, kind="stable")
    fitting = number[order[np.cumsum(size[order]) <= buses - np.count_nonzero(~low)]]
    kept = ~low | np.isin(grid, fitting)
    return Network(
        network.buses[kept].reset_index(drop=True),
        network.branches[kept[one] & kept[other]].reset_index(drop=True),
        network.loads[kept[network.load_bus]].reset_index(drop=True),
        name=f"{network.name}, {np.count_nonzero(kept)} buses",
    )


def drawn(network: Network, count: int, seed: int = 1) -> StandIn:
    """Bids that consume, drawn as the stand-in's are, at low-voltage loads of any grid.

    Volumes are proportional to the peak load times a lognormal factor, and so large that all
    bids together load one branch to 150 per cent in AC: the cheapest half of the volume breaks
    limits, another half does not. The request is half of the volume.

    Parameters
    ----------
    network : Network
        With its peak loads.
    count : int
        Bids.
    seed : int
    """
    rng = np.random.default_rng(seed)
    low = network.buses["v_nom_kv"].to_numpy()[network.load_bus] < 1
    there = np.flatnonzero(low & (network.loads["p_kw"].to_numpy() > 0))
    at = network.loads.iloc[np.sort(rng.choice(there, count, replace=False))]
    volume_kw = at["p_kw"].to_numpy() * rng.lognormal(0.0, _SPREAD, count)
    price = rng.uniform(50.0, 150.0, count)
    bid = [f"bid {k + 1}" for k in range(count)]
    sites = pd.DataFrame({"bid": bid, "bus": at["bus"].to_numpy()})
    power = network.loads[["p_kw", "q_kvar"]] * _BASE_SHARE
    base = replace(network, loads=network.loads.assign(**power))

    def bids(factor: float) -> Bids:
        table = {"bid": bid, "down_max_kw": factor * volume_kw, "price_down_eur_per_mwh": price}
        return Bids(pd.DataFrame(table))

    def light(factor: float) -> bool:
        return _loading_percent(Connected(base, bids(factor), sites)) < _ALL_PERCENT

    least, most = 0.0, 1.0
    while light(most):
        least, most = most, 2 * most
    for _ in range(_HALVINGS):
        factor = (least + most) / 2
        least, most = (factor, most) if light(factor) else (least, factor)
    return StandIn(base, bids(least), sites, -least * volume_kw.sum() / 2)


def _loading_percent(connected: Connected) -> float:
    """Largest loading in AC with all bids activated; infinite where there is no power flow."""
    everything = connected.bids.lower[None]
    try:
        (state,) = operating_points(connected.activated, connected.loads_kva(everything))
    except PowerFlowError:
        return np.inf
    return float(100 * np.max(np.abs(state.i_a) / state.admittance.ends["i_max_a"]))


@cache
def instance(buses: int, count: int) -> StandIn:
    """Instance of a size: the stand-in itself at 456 buses and 241 bids."""
    if buses == 456:
        return stand_in("down")
    return drawn(semi_urban(None if buses == 9105 else buses), count)
