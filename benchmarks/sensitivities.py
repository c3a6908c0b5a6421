"""Sensitivities of voltages and branch currents, ours and by differences of power flows.

Every side returns complex changes for one kW injected: of bus voltages (p.u.) and of currents at
branch ends (A), from which VTDF and LTDF follow.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from power_grid_model import (
    CalculationMethod,
    ComponentType,
    DatasetType,
    PowerGridModel,
    initialize_array,
)

from benchmarks import pandapower_side
from benchmarks.grids import SEMI_URBAN, semi_urban
from flexlib import Network, power_flow
from flexlib.admittance import Admittance
from flexlib.bids import Connected
from flexlib.powerflow import _input
from flexlib.sensitivity import operating_points
from flexlib.stand_in import stand_in

STEP_KW = 1.0
PGM_MODES = {
    "power-grid-model batch, Newton": CalculationMethod.newton_raphson,
    "power-grid-model batch, iterative current": CalculationMethod.iterative_current,
}
PANDAPOWER_MODES = {
    "pandapower, numba": pandapower_side.DEFAULT,
    "pandapower, numba, recycled": pandapower_side.NUMBA,
    "pandapower, lightsim2grid, recycled": pandapower_side.LIGHTSIM,
}


@dataclass(frozen=True)
class Injections:
    """Injections at loads of a network, which pandapower has too.

    Attributes
    ----------
    network : Network
    load : numpy.ndarray of int, shape (n,)
        Positions of the loads at whose buses power is injected.
    net : pandapower.pandapowerNet
        The same network; its loads come first in the order of ours.
    net_bus : numpy.ndarray of int, shape (buses,)
        Position of each bus in the net, -1 for those that pandapower adds inside.
    """

    network: Network
    load: np.ndarray
    net: Any
    net_bus: np.ndarray

    @property
    def bus(self) -> np.ndarray:
        """Buses of the injections."""
        return self.network.load_bus[self.load]

    @property
    def shared(self) -> tuple[np.ndarray, np.ndarray]:
        """Buses, and branch ends between buses, that pandapower's results have."""
        one, other = self.net_bus[self.network.from_bus], self.net_bus[self.network.to_bus]
        return self.net_bus >= 0, np.tile((one >= 0) & (other >= 0), 2)

    def ours(self) -> tuple[np.ndarray, np.ndarray]:
        """Power flow, factorisation and response, all from the network's tables."""
        (state,) = operating_points(self.network)
        return state.response(self.bus, np.ones(len(self.load), dtype=complex))

    def net_in(self, mode: dict[str, Any]) -> Any:
        """A net of its own for a mode, solved in full."""
        net = deepcopy(self.net)
        pandapower_side.prepare(net, mode)
        return net


def of_the_stand_in() -> Injections:
    """The stand-in's bids: 456 buses, 241 injections."""
    instance = stand_in("down")
    bus = Connected(instance.network, instance.bids, instance.sites).bus
    load = np.array([np.flatnonzero(instance.network.load_bus == k)[0] for k in bus])
    net = pandapower_side.pandapower_net(instance.network, pandapower_side.DEFAULT)
    return Injections(instance.network, load, net, np.arange(len(instance.network.buses)))


def of_the_semi_urban_grid(count: int = 1000, seed: int = 1) -> Injections:
    """SimBench's semi-urban grid of 9,105 buses, injections at drawn loads."""
    import simbench

    network = semi_urban()
    net = simbench.get_simbench_net(SEMI_URBAN)
    loads = int(net.load["in_service"].sum())
    load = np.sort(np.random.default_rng(seed).choice(loads, count, replace=False))
    at = {name: k for k, name in enumerate(net.bus["name"])}
    net_bus = np.array([at.get(name, -1) for name in network.buses["bus"]])
    return Injections(network, load, net, net_bus)


def central_differences(injections: Injections, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivities to some injections by power flows one step up and one step down."""
    network = injections.network
    up, down = (np.tile(network.s_load_kva, (len(some), 1)) for _ in range(2))
    up[np.arange(len(some)), injections.load[some]] -= STEP_KW
    down[np.arange(len(some)), injections.load[some]] += STEP_KW
    over, under = power_flow(network, up), power_flow(network, down)
    dv_pu = (over.v_pu - under.v_pu).T / (2 * STEP_KW)
    return dv_pu, (over.i_a - under.i_a).T / (2 * STEP_KW)


def by_power_grid_model(
    injections: Injections, method: CalculationMethod
) -> tuple[np.ndarray, np.ndarray]:
    """Forward differences of one batch; each case updates the active power of one load.

    The model is built anew, as ours is, and keeps its default tolerance. One thread.
    """
    network, bus = injections.network, injections.bus
    s_kva = np.zeros(len(network.buses), dtype=complex)
    np.add.at(s_kva, network.load_bus, network.s_load_kva)
    tables = _input(network)
    load = tables[ComponentType.sym_load]
    load["p_specified"], load["q_specified"] = s_kva.real * 1e3, s_kva.imag * 1e3
    changed = np.append(bus[0], bus)  # first the base case
    update = initialize_array(DatasetType.update, ComponentType.sym_load, len(changed))
    update["id"] = load["id"][changed]
    update["p_specified"] = load["p_specified"][changed]
    update["p_specified"][1:] -= STEP_KW * 1e3
    sparse = {"indptr": np.arange(len(changed) + 1), "data": update}
    node = PowerGridModel(tables).calculate_power_flow(
        update_data={ComponentType.sym_load: sparse},
        calculation_method=method,
        max_iterations=100,
        threading=-1,
        output_component_types={ComponentType.node: ["u_pu", "u_angle"]},
    )[ComponentType.node]
    v_pu = node["u_pu"] * np.exp(1j * node["u_angle"])
    return _with_currents(network, np.ascontiguousarray(((v_pu[1:] - v_pu[0]) / STEP_KW).T))


def by_pandapower(
    injections: Injections, some: np.ndarray, net: Any, mode: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Forward differences for some injections, one power flow each and one before."""
    pandapower_side.run(net, mode)
    base_pu = pandapower_side.solution(net)
    dv_pu = np.empty((len(base_pu), len(some)), dtype=complex)
    column = net.load.columns.get_loc("p_mw")
    for k, load in enumerate(injections.load[some]):
        before_mw = net.load.iat[load, column]
        net.load.iat[load, column] = before_mw - STEP_KW / 1e3
        pandapower_side.run(net, mode)
        dv_pu[:, k] = (pandapower_side.solution(net) - base_pu) / STEP_KW
        net.load.iat[load, column] = before_mw
    return _with_currents(injections.network, dv_pu[injections.net_bus])


def _with_currents(network: Network, dv_pu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Changes of voltages, and of the currents that follow from them."""
    admittance = Admittance(network)
    i_base_a = admittance.ends["i_base_a"].to_numpy()[:, None]
    return dv_pu, (admittance.y_end @ dv_pu) * i_base_a
