"""The hubs' grid from a network's own AC power flows and sensitivities."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from flexlib.errors import DataError, Fault
from flexlib.hub_grid import HubGrid
from flexlib.network import Network
from flexlib.sensitivity import OperatingPoint, operating_points

_NEGLIGIBLE = 1e-9  # MW on a line for one MW withdrawn


def network_grid(
    network: Network,
    hub_bus: pd.Series,
    load_share: np.ndarray,
    *,
    import_mw: float,
    export_mw: float,
) -> HubGrid:
    """Active power flows of a network, linear in what hubs withdraw.

    Parameters
    ----------
    network : Network
        Its loads are the background where their share is 1.
    hub_bus : pandas.Series of str
        Bus of each hub, in the order of the hubs.
    load_share : numpy.ndarray, shape (hours,)
        Share of the loads in each hour.
    import_mw, export_mw : float
        Limits of the substation for the hubs.

    Returns
    -------
    HubGrid
        Lines with a current limit that a hub loads, at their from end and turned so that the
        first hub's withdrawal is positive; limits in MW at the nominal voltage and power factor
        1. Background by AC in every hour, H by the AC Jacobian in the hour of the highest load.

    Raises
    ------
    DataError
        Naming hubs at buses that the network does not have.
    """
    position = {bus: k for k, bus in enumerate(network.buses["bus"])}
    faults = [
        Fault("hub_bus", str(row), "bus", repr(bus), f"a bus of {network.name}")
        for row, bus in enumerate(hub_bus)
        if bus not in position
    ]
    if faults:
        raise DataError(faults)
    states = operating_points(network, np.outer(load_share, network.s_load_kva))
    count, ends = len(network.branches), states[0].admittance.ends
    background = np.array([from_power_kw(state, count) for state in states]).T / 1000
    state = states[int(np.argmax(load_share))]
    at = np.array([position[bus] for bus in hub_bus])
    dv, di = state.response(at, -np.ones(len(at), dtype=complex))
    factor = power_slopes(state, count, dv, di)
    limit_mw = ends["i_max_a"].to_numpy()[:count] / ends["i_base_a"].to_numpy()[:count]
    kept = np.isfinite(limit_mw) & (np.abs(factor) > _NEGLIGIBLE).any(axis=1)
    sign = np.where(factor.sum(axis=1) < 0, -1.0, 1.0)[kept]
    factor = np.where(np.abs(factor) > _NEGLIGIBLE, factor, 0.0)[kept] * sign[:, None]
    return HubGrid(
        network.branches["branch"][kept].tolist(),
        csr_array(factor),
        background[kept] * sign[:, None],
        limit_mw[kept],
        import_mw,
        export_mw,
    )


def from_power_kw(state: OperatingPoint, count: int) -> np.ndarray:
    """Active power into each branch at its from end, kW, shape (branches,)."""
    i_pu = state.admittance.y_end[:count] @ state.v_pu
    v_pu = state.v_pu[state.admittance.network.from_bus]
    return np.asarray((v_pu * np.conj(i_pu)).real * 1000.0)


def power_slopes(
    state: OperatingPoint, count: int, dv_pu: np.ndarray, di_a: np.ndarray
) -> np.ndarray:
    """Its change for one unit of each injection, kW, shape (branches, n)."""
    base_a = state.admittance.ends["i_base_a"].to_numpy()[:count, None]
    start = state.admittance.network.from_bus
    i_pu = (state.admittance.y_end[:count] @ state.v_pu)[:, None]
    v_pu = state.v_pu[start, None]
    change = dv_pu[start] * np.conj(i_pu) + v_pu * np.conj(di_a[:count] / base_a)
    return np.asarray(change.real * 1000.0)
