"""Larger instances of hubs on feeders, drawn once from a seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import block_diag, csr_array, kron, vstack

from flexlib.hub_grid import HubGrid
from flexlib.hub_planning import alone
from flexlib.hubs import Hubs

_SIZES = [
    "flexible_load_mw", "backlog_max_mwh", "battery_mw", "battery_mwh", "electrolyser_mw",
    "fuel_cell_h2_mw", "h2_store_mwh", "h2_offtake_mw", "generator_mw",
]  # fmt: skip
_TRUNK_FEEDERS = 10
_TRUNK_BACKGROUND = 0.9


def many_feeders(
    hubs: Hubs, grid: HubGrid, feeders: int, level: float, seed: int = 1
) -> tuple[Hubs, HubGrid]:
    """Repeat a feeder with its hubs, each drawn anew, and limit it by what method A makes of it.

    All sizes of a hub are scaled by one factor from 0.8 to 1.2, its demand by 0.93 to 1.07, its
    PV by 0.9 to 1. A trunk line carries every ten feeders and 0.9 of their background.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
        The feeder; its limits are not used.
    feeders : int
    level : float
        Limit of each line, and of the import, as a share of its largest loading by method A.
    seed : int

    Returns
    -------
    hubs : Hubs
    grid : HubGrid
    """
    rng = np.random.default_rng(seed)
    table = pd.concat([hubs.table] * feeders, ignore_index=True)
    table["hub"] = [f"{hub} of {k + 1}" for k in range(feeders) for hub in hubs.table["hub"]]
    table[_SIZES] = table[_SIZES].mul(rng.uniform(0.8, 1.2, len(table)), axis=0)
    table["demand_peak_mw"] *= rng.uniform(0.93, 1.07, len(table))
    table["pv_mwp"] *= rng.uniform(0.9, 1.0, len(table))
    many = Hubs(table, hubs.profiles, hubs.costs)
    lines = csr_array(block_diag([grid.factor] * feeders))
    trunks = -(-feeders // _TRUNK_FEEDERS)
    member = csr_array(
        (np.ones(feeders), (np.arange(feeders) // _TRUNK_FEEDERS, np.arange(feeders))),
        shape=(trunks, feeders),
    )
    background = np.tile(grid.background_mw, (feeders, 1))
    largest = grid.background_mw.max(axis=0)
    names = [f"{row} of {k + 1}" for k in range(feeders) for row in grid.row]
    factor = vstack([lines, kron(member, np.ones((1, len(hubs))))])
    unlimited = HubGrid(
        [*names, *(f"trunk {k + 1}" for k in range(trunks))],
        csr_array(factor),
        np.vstack([background, _TRUNK_BACKGROUND * (member @ np.tile(largest, (feeders, 1)))]),
        np.full(len(names) + trunks, np.inf),
        np.inf,
        np.inf,
    )
    return many, limited(many, unlimited, level)


def limited(hubs: Hubs, grid: HubGrid, level: float) -> HubGrid:
    """Limit a grid by shares of what method A loads it with."""
    from dataclasses import replace

    loading = grid.loading_mw(alone(hubs).w_mw)
    most, least = loading.max(axis=1), loading.min(axis=1)
    largest = float(most[-1])
    return replace(
        grid,
        limit_mw=level * np.abs(loading[:-1]).max(axis=1),
        import_mw=level * largest,
        export_mw=max(0.95 * -float(least[-1]), 0.095 * largest),
    )
