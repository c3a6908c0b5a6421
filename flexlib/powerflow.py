"""AC power flow, one case or a batch, each checked by its own residual.

power-grid-model solves networks without PV buses, lightsim2grid those with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from power_grid_model import (
    ComponentType,
    DatasetType,
    LoadGenType,
    PowerGridModel,
    initialize_array,
)
from power_grid_model.errors import PowerGridError  # type: ignore[attr-defined]
from scipy.sparse import csc_array, csc_matrix, csr_array, diags_array
from scipy.sparse.linalg import splu

from flexlib.admittance import S_BASE_KVA, Admittance
from flexlib.errors import MissingExtra, PowerFlowError
from flexlib.network import Network

_MISMATCH_KVA = 1e-3  # largest accepted power residual at a bus
_STIFF_SOURCE_VA = 1e20  # short-circuit power that makes the slack an ideal source


@dataclass(frozen=True)
class PowerFlow:
    """Bus voltages and branch-end currents of one or several load cases.

    Attributes
    ----------
    admittance : Admittance
        Admittances of the network.
    v_pu : numpy.ndarray of complex, shape (cases, buses)
        Bus voltages, slack angle zero.
    i_a : numpy.ndarray of complex, shape (cases, ends)
        Branch-end currents in the order of `Admittance.ends`, ampere.
    mismatch_kva : float
        Largest power residual at any bus in any case, recomputed from the data.
    """

    admittance: Admittance
    v_pu: np.ndarray
    i_a: np.ndarray
    mismatch_kva: float


def power_flow(network: Network, s_load_kva: np.ndarray | None = None) -> PowerFlow:
    """Solve the AC power flow.

    Parameters
    ----------
    network : Network
        Balanced network; its slack bus and its PV buses hold their voltages (whatever reactive
        power this takes), all loads are constant power.
    s_load_kva : numpy.ndarray of complex, shape (cases, loads), optional
        Complex power consumed by each load in each case. The network's own loads by default.

    Returns
    -------
    PowerFlow

    Raises
    ------
    PowerFlowError
        If a case does not converge, or its bus power residual exceeds 1 VA.
    MissingExtra
        If a network with PV buses needs lightsim2grid and it is not installed.
    """
    s_kva = np.atleast_2d(network.s_load_kva if s_load_kva is None else s_load_kva)
    admittance = Admittance(network)
    s_bus_kva = np.zeros((len(s_kva), len(network.buses)), dtype=complex)
    np.add.at(s_bus_kva.T, network.load_bus, s_kva.T)
    if len(network.pv):
        v_pu = _solve_with_pv(admittance, -s_bus_kva / S_BASE_KVA)
    else:
        v_pu = _solve(network, s_bus_kva)
    injected_pu = v_pu * np.conj((admittance.y_bus @ v_pu.T).T)
    residual_kva = injected_pu * S_BASE_KVA + s_bus_kva
    residual_kva[:, network.pv] = residual_kva[:, network.pv].real  # their Q is free
    residual_kva[:, network.slack] = 0
    mismatch_kva = float(np.abs(residual_kva).max(initial=0.0))
    if not mismatch_kva <= _MISMATCH_KVA:
        raise PowerFlowError(
            f"power flow of {network.name}: bus residual {mismatch_kva:.3g} kVA, "
            f"expected at most {_MISMATCH_KVA:g} kVA"
        )
    i_a = (admittance.y_end @ v_pu.T).T * admittance.i_base_end_a
    return PowerFlow(admittance, v_pu, i_a, mismatch_kva)


def _solve(network: Network, s_bus_kva: np.ndarray) -> np.ndarray:
    """Bus voltages of all cases, from power-grid-model."""
    count = len(network.buses)
    load = initialize_array(DatasetType.update, ComponentType.sym_load, (len(s_bus_kva), count))
    load["id"] = _load_ids(network)
    load["p_specified"] = s_bus_kva.real * 1e3
    load["q_specified"] = s_bus_kva.imag * 1e3
    try:
        result = PowerGridModel(_input(network)).calculate_power_flow(
            update_data={ComponentType.sym_load: load},
            error_tolerance=1e-12,
            max_iterations=50,
            threading=-1,  # one thread
            output_component_types={ComponentType.node: ["u_pu", "u_angle"]},
        )
    except PowerGridError as error:
        raise PowerFlowError(f"power flow of {network.name}: {error}") from error
    node = result[ComponentType.node]
    return np.asarray(node["u_pu"] * np.exp(1j * node["u_angle"]))


def _solve_with_pv(admittance: Admittance, s_pu: np.ndarray) -> np.ndarray:
    """Bus voltages of all cases from injected powers, by lightsim2grid."""
    try:
        from lightsim2grid.algorithm import NR_SparseLU
    except ImportError as error:
        raise MissingExtra("lightsim2grid", "pv") from error
    network = admittance.network
    pq = np.setdiff1d(admittance.free, network.pv)
    held_pu = np.ones(len(network.buses))
    held_pu[network.slack] = abs(admittance.v_slack_pu)
    held_pu[network.pv] = network.v_gen_pu
    start_pu = held_pu * np.exp(1j * _linear_angles(admittance, s_pu.real))
    y_bus = csc_matrix(admittance.y_bus)
    slack = np.array([network.slack])
    weights = np.bincount(slack, minlength=len(network.buses)).astype(float)
    tolerance = 1e-11 * max(1.0, float(np.abs(s_pu).max(initial=0.0)))
    solver, v_pu = NR_SparseLU(), np.empty(s_pu.shape, dtype=complex)
    for case, injected_pu in enumerate(s_pu):
        solver.reset()
        if not solver.compute_pf(
            y_bus, start_pu[case], injected_pu, slack, weights, network.pv, pq, 50, tolerance
        ):
            raise PowerFlowError(f"power flow of {network.name}: case {case}: {solver.get_error()}")
        v_pu[case] = solver.get_V()
    return v_pu


def _linear_angles(admittance: Admittance, p_pu: np.ndarray) -> np.ndarray:
    """Angles of the linear ("DC") power flow: where Newton's method starts, nothing more.

    A branch carries its coupling admittance times the difference of the angles at its ends, less
    its phase shift.
    """
    network = admittance.network
    line = np.arange(len(network.branches))
    coupling_pu = np.abs(np.asarray(admittance.y_end[line, network.to_bus]))
    sign = np.repeat([1.0, -1.0], len(line))
    ends = np.concatenate([network.from_bus, network.to_bus])
    shape = (len(line), len(network.buses))
    difference = csr_array((sign, (np.tile(line, 2), ends)), shape=shape)
    laplacian = difference.T @ diags_array(coupling_pu) @ difference
    shift_rad = np.deg2rad(network.branches["shift_deg"].to_numpy())
    injected_pu = p_pu + difference.T @ (coupling_pu * shift_rad)
    free, angle = admittance.free, np.zeros(p_pu.shape)
    factor = splu(csc_array(csr_array(laplacian)[free][:, free]))
    angle[:, free] = factor.solve(np.ascontiguousarray(injected_pu[:, free].T)).T
    return angle


def _load_ids(network: Network) -> np.ndarray:
    return 2 * len(network.buses) + len(network.branches) + np.arange(len(network.buses))


def _input(network: Network) -> dict[ComponentType, np.ndarray]:
    """The network in power-grid-model's tables: volts, ohms, siemens and watts."""
    buses, branches = (
        {name: frame[name].to_numpy() for name in frame}  # arithmetic of Series is slow
        for frame in (network.buses, network.branches)
    )
    count, lines = len(network.buses), len(network.branches)
    node = initialize_array(DatasetType.input, ComponentType.node, count)
    node["id"] = np.arange(count)
    node["u_rated"] = buses["v_nom_kv"] * 1e3
    shunt = initialize_array(DatasetType.input, ComponentType.shunt, count)
    shunt["id"] = count + np.arange(count)
    shunt["node"], shunt["status"] = node["id"], 1
    shunt["g1"], shunt["b1"] = buses["g_us"] * 1e-6, buses["b_us"] * 1e-6
    branch = initialize_array(DatasetType.input, ComponentType.generic_branch, lines)
    branch["id"] = 2 * count + np.arange(lines)
    branch["from_node"], branch["to_node"] = network.from_bus, network.to_bus
    branch["from_status"], branch["to_status"] = 1, 1
    branch["r1"], branch["x1"] = branches["r_ohm"], branches["x_ohm"]
    branch["g1"], branch["b1"] = branches["g_us"] * 1e-6, branches["b_us"] * 1e-6
    branch["k"], branch["theta"] = branches["ratio_pu"], np.deg2rad(branches["shift_deg"])
    load = initialize_array(DatasetType.input, ComponentType.sym_load, count)
    load["id"], load["node"], load["status"] = _load_ids(network), node["id"], 1
    load["type"], load["p_specified"], load["q_specified"] = LoadGenType.const_power, 0.0, 0.0
    source = initialize_array(DatasetType.input, ComponentType.source, 1)
    source["id"], source["node"], source["status"] = load["id"][-1] + 1, network.slack, 1
    source["u_ref"] = buses["v_slack_pu"][network.slack]
    source["u_ref_angle"], source["sk"] = 0.0, _STIFF_SOURCE_VA
    return {
        ComponentType.node: node,
        ComponentType.shunt: shunt,
        ComponentType.generic_branch: branch,
        ComponentType.sym_load: load,
        ComponentType.source: source,
    }
