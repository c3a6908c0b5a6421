"""Instances: the reference feeder in its cases, and larger ones drawn once from a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.sparse import block_diag, csr_array, kron, vstack

from flexlib.hub_followers import no_pricing
from flexlib.hub_grid import HubGrid, read_grid, read_limits
from flexlib.hubs import Hubs, read_hubs
from flexlib.tables import data_path

_REFERENCE = "hubs/reference-3"
_WINDOWS = {24: slice(0, 24), 12: slice(10, 22), 6: slice(16, 22)}
_SIZES = [
    "flexible_load_mw", "backlog_max_mwh", "battery_mw", "battery_mwh", "electrolyser_mw",
    "fuel_cell_h2_mw", "h2_store_mwh", "h2_offtake_mw", "generator_mw",
]  # fmt: skip
_TRUNK_FEEDERS = 10
_TRUNK_BACKGROUND = 0.9


def reference(hubs: int = 3, hours: int = 24, level: float = 0.6) -> tuple[Hubs, HubGrid]:
    """Case of the reference instance: three hubs on one feeder, made for this book.

    Parameters
    ----------
    hubs : int
        The first of the three.
    hours : {24, 12, 6}
        Hours 0 to 23, 10 to 21 or 16 to 21.
    level : {0.6, 0.5}
        Limits of lines and of the import as a share of what method A loads them with.

    Returns
    -------
    hubs : Hubs
    grid : HubGrid

    Raises
    ------
    DataError
        If there is no such case.
    """
    folder = data_path(_REFERENCE)
    limits = read_limits(folder, hubs=hubs, hours=hours, fl=level)
    case = read_hubs(folder).only(slice(0, hubs), _WINDOWS[hours])
    return case, read_grid(folder, case, limits)


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
    table["feeder"] = [
        f"{feeder} of {k + 1}" for k in range(feeders) for feeder in hubs.table["feeder"]
    ]
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
    names = [f"{row} of {k + 1}" for k in range(feeders) for row in grid.lines]
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
    loading = grid.loading_mw(no_pricing(hubs).schedule.w_mw)
    most, least = loading.max(axis=1), loading.min(axis=1)
    largest = float(most[-1])
    return replace(
        grid,
        limit_mw=level * np.abs(loading[:-1]).max(axis=1),
        import_mw=level * largest,
        export_mw=max(0.95 * -float(least[-1]), 0.095 * largest),
    )
