"""Instances: the reference feeder in its cases, many feeders like it, and a SimBench grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
from scipy.sparse import block_diag, csr_array, kron, vstack

from flexlib.errors import DataError, Fault
from flexlib.hub_grid import HubGrid, read_grid, read_limits
from flexlib.hub_network import HubNetwork
from flexlib.hubs import Hubs, read_hubs
from flexlib.profiles import ASSIGNMENT, power_profiles
from flexlib.readers import read_network
from flexlib.tables import check_table, data_path, number_column, read_text_table, text_column

SIZES = [
    "flexible_load_mw", "backlog_max_mwh", "battery_mw", "battery_mwh", "electrolyser_mw",
    "fuel_cell_h2_mw", "h2_store_mwh", "h2_offtake_mw", "generator_mw",
]  # fmt: skip
DRAWN = pa.DataFrameSchema(
    {
        "feeder": number_column("number of the feeder", "", 1, 1e6),
        "hub": text_column("hub of the reference instance that is repeated"),
        "size": number_column("factor of its devices", "", 0, 10),
        "demand": number_column("factor of its fixed demand", "", 0, 10),
        "pv": number_column("factor of its PV", "", 0, 10),
    }
)
SITES = pa.DataFrameSchema(
    {"hub": text_column("hub", unique=True), "bus": text_column("bus of the network")}
)
_REFERENCE = "hubs/reference-3"
_FEEDERS = {"hubs/feeders-1000": 1, "hubs/feeders-9000": 1001}  # first feeder of each draw
_LAST = 10_000
_SIMBENCH = "hubs/simbench-mv"
_OPEN_RING = 0.5
_WINDOWS = {24: slice(0, 24), 12: slice(10, 22), 6: slice(16, 22)}
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


def many_feeders(feeders: int, level: float) -> tuple[Hubs, HubGrid]:
    """Feeders like that of the reference instance, side by side, each hub drawn anew.

    The draw and what the hubs withdraw without pricing (method A) are stored: the limits do not
    depend on which of its least-cost answers a solver finds.

    Parameters
    ----------
    feeders : int
        The first of 10,000; each has three hubs and five lines. A trunk line carries every ten.
    level : float
        Limit of each line, and of the import, as a share of its largest loading by method A.

    Returns
    -------
    hubs : Hubs
        24 hours.
    grid : HubGrid

    Raises
    ------
    DataError
        If there are not as many feeders.
    """
    if not 1 <= feeders <= _LAST:
        fault = Fault("many_feeders", "", "feeders", f"{feeders}", f"a number from 1 to {_LAST}")
        raise DataError([fault])
    one, feeder = reference()
    hours = [f"hour_{t}" for t in range(one.hours)]
    schema = pa.DataFrameSchema(
        {name: DRAWN.columns[name] for name in ("feeder", "hub")}
        | {name: number_column("net withdrawal by method A", "MW", -1e6, 1e6) for name in hours}
    )
    folders = [data_path(name) for name, first in _FEEDERS.items() if first <= feeders]
    factors = pd.concat([read_drawn(folder / "hubs.csv", DRAWN) for folder in folders])
    w_mw = pd.concat([read_drawn(folder / "withdrawals.csv", schema) for folder in folders])
    factors, w_mw = factors[factors["feeder"] <= feeders], w_mw[w_mw["feeder"] <= feeders]
    grid = limited(side_by_side(feeder, feeders), w_mw[hours].to_numpy(), level)
    return repeated(one, factors), grid


def simbench_mv() -> tuple[Hubs, HubNetwork]:
    """Eight hubs on a feeder of a SimBench medium-voltage grid, in 24 hours of 2016-01-27.

    Grid, loads, generators and profiles are SimBench's ("1-MV-rural--0-no_sw"), on the day of its
    largest residual load; a hub stands in for each of the eight largest loads of its longest
    feeder. Devices are those of the reference instance in proportion to the loads; prices are that
    instance's, too. Lines and transformers may be used to half of their rating: the feeders are
    halves of open rings and the transformers two, and each must be able to carry the other's load.
    Flows are linear around hubs that withdraw the rated power of these loads in every hour.

    Returns
    -------
    hubs : Hubs
    site : HubNetwork
        See `flexlib.hub_network.network_grid` for its grid, `flexlib.hub_network.ac_check` for its
        AC check.
    """
    folder = data_path(_SIMBENCH)
    hubs, network = read_hubs(folder), read_network(folder)
    follows = read_drawn(folder / "assignment.csv", ASSIGNMENT)
    sites = read_drawn(folder / "sites.csv", SITES).set_index("hub")["bus"]
    p_kw = power_profiles(network, hubs.profiles, follows).to_numpy()
    load_kva = p_kw * network.kva_per_kw
    bus = sites[hubs.table["hub"]].reset_index(drop=True)
    rated_mw = np.repeat(hubs.table[["demand_peak_mw"]].to_numpy(), hubs.hours, axis=1)
    return hubs, HubNetwork(network, bus, load_kva, rated_mw, _OPEN_RING)


def repeated(hubs: Hubs, factors: pd.DataFrame) -> Hubs:
    """Hubs like given ones, of other sizes.

    Parameters
    ----------
    hubs : Hubs
    factors : pandas.DataFrame
        Columns of `DRAWN`, one row for each hub that is to be: its devices (power, energy and
        hydrogen offtake), its fixed demand and its PV are scaled by one factor each.

    Returns
    -------
    Hubs
        Named "hub_1 of 7", on "feeder_1 of 7".
    """
    table = hubs.table.set_index("hub", drop=False).loc[factors["hub"]].reset_index(drop=True)
    number = factors["feeder"].astype(int).astype(str).to_numpy()
    for name in ("hub", "feeder"):
        table[name] = table[name] + " of " + number
    table[SIZES] = table[SIZES].mul(factors["size"].to_numpy(), axis=0)
    table["demand_peak_mw"] *= factors["demand"].to_numpy()
    table["pv_mwp"] *= factors["pv"].to_numpy()
    return replace(hubs, table=table)


def side_by_side(grid: HubGrid, feeders: int) -> HubGrid:
    """Grid of several feeders alike, without limits.

    Parameters
    ----------
    grid : HubGrid
        One feeder.
    feeders : int

    Returns
    -------
    HubGrid
        The lines of each feeder, then a trunk line for every ten of them with 0.9 of the sum of
        their largest backgrounds.
    """
    trunks = -(-feeders // _TRUNK_FEEDERS)
    place = np.arange(feeders) // _TRUNK_FEEDERS, np.arange(feeders)
    member = csr_array((np.ones(feeders), place), shape=(trunks, feeders))
    of_feeder = np.tile(grid.background_mw.max(axis=0), (feeders, 1))
    names = [f"{row} of {k + 1}" for k in range(feeders) for row in grid.lines]
    names += [f"trunk {k + 1}" for k in range(trunks)]
    lines = block_diag([grid.factor] * feeders)
    return HubGrid(
        names,
        csr_array(vstack([lines, kron(member, np.ones((1, grid.factor.shape[1])))])),
        np.vstack(
            [np.tile(grid.background_mw, (feeders, 1)), _TRUNK_BACKGROUND * (member @ of_feeder)]
        ),
        np.full(len(names), np.inf),
        np.inf,
        np.inf,
    )


def limited(grid: HubGrid, w_mw: np.ndarray, level: float) -> HubGrid:
    """Limit a grid by shares of what given withdrawals load it with.

    Parameters
    ----------
    grid : HubGrid
        Its limits are not used.
    w_mw : numpy.ndarray, shape (hubs, hours)
        Withdrawals by method A.
    level : float

    Returns
    -------
    HubGrid
        Lines and the import limited at `level` times their largest loading; the export at 0.95 of
        the largest export, or 0.095 of the largest import if that is more.
    """
    loading = grid.loading_mw(w_mw)
    most, least = loading.max(axis=1), loading.min(axis=1)
    largest = max(float(most[-1]), 0.0)
    return replace(
        grid,
        limit_mw=level * np.abs(loading[:-1]).max(axis=1),
        import_mw=level * largest,
        export_mw=max(0.95 * -float(least[-1]), 0.095 * largest),
    )


def read_drawn(path: Path, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Read a table of the stored draw, raising `DataError` with every fault."""
    text, faults = read_text_table(path)
    if not faults:
        table, faults = check_table(text, schema, path.stem)
    if faults:
        raise DataError(faults)
    return table
