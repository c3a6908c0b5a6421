"""Certificate of a robust activation: everything recomputed from the data, in volts and amperes.

Nothing here uses the programme that was solved. The equations are evaluated branch by branch and
the box is walked corner by corner. `flexlib.robust_ac` has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyomo.environ as pyo

from flexlib.admittance import S_BASE_KVA
from flexlib.certificate import Check, largest
from flexlib.market import Market


@dataclass(frozen=True)
class State:
    """Values of all variables of the market's model at the baseline of the box.

    Attributes
    ----------
    up_kw, down_kw : numpy.ndarray, shape (offers,)
        Activated flexibility.
    i_load_a : numpy.ndarray of complex, shape (loads,)
        Current consumed by each load.
    i_bus_a : numpy.ndarray of complex, shape (buses,)
        Current injected at each bus.
    v_pu : numpy.ndarray of complex, shape (buses,)
        Bus voltages.
    i_end_a : numpy.ndarray of complex, shape (ends,)
        Branch-end currents.
    """

    up_kw: np.ndarray
    down_kw: np.ndarray
    i_load_a: np.ndarray
    i_bus_a: np.ndarray
    v_pu: np.ndarray
    i_end_a: np.ndarray


def state_of_activation(market: Market, up_kw: np.ndarray, down_kw: np.ndarray) -> State:
    """State of the linear AC model under an activation.

    Parameters
    ----------
    market : Market
    up_kw, down_kw : numpy.ndarray, shape (offers,)

    Returns
    -------
    State
    """
    network, flow = market.network, market.flow
    s_kva = network.s_load_kva + market.activated_kva(up_kw, down_kw)
    i_base_a = market.flow.admittance.i_base_a
    i_load_a = np.conj(s_kva / S_BASE_KVA / flow.v_fixed_pu[network.load_bus])
    i_load_a *= i_base_a[network.load_bus]
    v_pu = flow.v0_pu + market.upward[0] @ (up_kw - down_kw)
    i_end_a = flow.i0_a + market.upward[1] @ (up_kw - down_kw)
    i_bus_a = np.asarray(flow.admittance.y_bus @ v_pu) * i_base_a
    return State(up_kw, down_kw, i_load_a, i_bus_a, v_pu, i_end_a)


def state_of_model(model: pyo.ConcreteModel) -> State:
    """State held by the variables of a solved printed model.

    Parameters
    ----------
    model : pyomo.environ.ConcreteModel
        From `flexlib.robust_model.printed_model`, solved.

    Returns
    -------
    State
    """
    market = model.market

    def values(variable: pyo.Var, count: int) -> np.ndarray:
        return np.array(
            [complex(variable[k, "re"].value, variable[k, "im"].value) for k in range(count)]
        )

    network, i_base_a = market.network, market.flow.admittance.i_base_a
    ends = market.flow.admittance.ends
    return State(
        up_kw=np.array([model.f_up_kw[o].value for o in model.OFFERS]),
        down_kw=np.array([model.f_down_kw[o].value for o in model.OFFERS]),
        i_load_a=values(model.i_load, len(network.loads)) * i_base_a[network.load_bus],
        i_bus_a=values(model.i_bus, len(network.buses)) * i_base_a,
        v_pu=values(model.v, len(network.buses)),
        i_end_a=values(model.i_end, len(ends)) * ends["i_base_a"].to_numpy(),
    )


def branch_currents(market: Market, state: State) -> pd.DataFrame:
    """Branch-end currents of a state: at the baseline, worst over the box, limit.

    Parameters
    ----------
    market : Market
    state : State

    Returns
    -------
    pandas.DataFrame
        Columns branch, end, bus, i_a, i_worst_a (largest magnitude in the linear model, at a
        corner of the box) and i_max_a; one row a branch end.
    """
    reach = zip(state.i_end_a, market.uncertain[1], strict=True)
    worst_a = [np.abs(i_a + market.box.image(di_a)).max(initial=abs(i_a)) for i_a, di_a in reach]
    ends = market.flow.admittance.ends
    return ends[["branch", "end", "bus"]].assign(
        i_a=np.abs(state.i_end_a), i_worst_a=worst_a, i_max_a=ends["i_max_a"]
    )


def residuals(market: Market, state: State) -> dict[str, float]:
    """Largest residual of each equation of the linear AC model, from the data alone.

    Parameters
    ----------
    market : Market
    state : State

    Returns
    -------
    dict of str to float
        Keyed by equation number: "59" (with (60) and (61)) in kVA, "62" to "64" in ampere.
    """
    network = market.network
    v_nom_kv = network.buses["v_nom_kv"].to_numpy()
    v_load_kv = market.flow.v_fixed_pu[network.load_bus] * v_nom_kv[network.load_bus]
    s_kva = network.s_load_kva + market.activated_kva(state.up_kw, state.down_kw)
    power = s_kva - np.sqrt(3) * v_load_kv * np.conj(state.i_load_a)
    consumed_a = np.zeros(len(network.buses), dtype=complex)
    np.add.at(consumed_a, network.load_bus, state.i_load_a)
    injection = (consumed_a + state.i_bus_a)[market.flow.admittance.free]
    branch = _branch_currents_a(market, state.v_pu) - state.i_end_a
    shunt_s = (network.buses["g_us"] + 1j * network.buses["b_us"]).to_numpy() * 1e-6
    leaving_a = shunt_s * state.v_pu * v_nom_kv * 1000 / np.sqrt(3)
    np.add.at(leaving_a, np.concatenate([network.from_bus, network.to_bus]), state.i_end_a)
    balance = state.i_bus_a - leaving_a
    found = {"59": power, "62": injection, "63": branch, "64": balance}
    return {number: largest(np.abs(residual)) for number, residual in found.items()}


def _branch_currents_a(market: Market, v_pu: np.ndarray) -> np.ndarray:
    """Branch-end currents from bus voltages by the pi-model, (26) and (27), in volts and ohms."""
    network = market.network
    branches = network.branches
    v_nom_v = network.buses["v_nom_kv"].to_numpy() * 1000 / np.sqrt(3)
    from_bus, to_bus = network.from_bus, network.to_bus
    tap = branches["ratio_pu"].to_numpy() * np.exp(
        1j * np.deg2rad(branches["shift_deg"].to_numpy())
    )
    v_from = v_pu[from_bus] / tap * v_nom_v[to_bus]
    v_to = v_pu[to_bus] * v_nom_v[to_bus]
    through_a = (v_from - v_to) / (branches["r_ohm"] + 1j * branches["x_ohm"]).to_numpy()
    half_s = (branches["g_us"] + 1j * branches["b_us"]).to_numpy() * 1e-6 / 2
    from_a = (through_a + half_s * v_from) / tap.conj() * v_nom_v[to_bus] / v_nom_v[from_bus]
    return np.concatenate([from_a, half_s * v_to - through_a])


def model_checks(market: Market, state: State, voltage_error: float) -> list[Check]:
    """Checks of a state against the linear model and its limits, exact over the box.

    Parameters
    ----------
    market : Market
    state : State
    voltage_error : float
        Relative error of the norm that stands for the voltage magnitude; it is the tolerance of
        the voltage checks.

    Returns
    -------
    list of Check
    """
    ends = market.flow.admittance.ends
    activated_kw = np.array([state.up_kw, state.down_kw])
    beyond = np.maximum(-activated_kw, activated_kw - market.volume_kw)
    rated = np.flatnonzero(np.isfinite(ends["i_max_a"]))
    i_max_a = ends["i_max_a"].to_numpy()
    plane, circle = np.zeros(len(rated)), np.zeros(len(rated))
    for k, e in enumerate(rated):
        corners = state.i_end_a[e] + market.box.image(market.uncertain[1][e])
        plane[k] = market.planes.project(corners).max() - i_max_a[e] * market.planes.apothem
        circle[k] = np.abs(corners).max() - i_max_a[e]
    low, high = _voltage_violations(market, state)
    return [
        *(
            Check(f"equation ({number})", value, 1e-6, "kVA" if number == "59" else "A")
            for number, value in residuals(market, state).items()
        ),
        Check("activation within the offers", largest(beyond), 1e-6, "kW"),
        Check("planes (83), all corners of the box", largest(plane), 1e-6, "A"),
        Check("current magnitude, all corners of the box", largest(circle), 1e-6, "A"),
        Check("lower voltage limit over the box", low, 1e-6 + voltage_error, "p.u."),
        Check("upper voltage limit over the box", high, 1e-6 + voltage_error, "p.u."),
    ]


def _voltage_violations(market: Market, state: State) -> tuple[float, float]:
    """Largest violations of voltage limits over the box in the linear model.

    The magnitude is convex, so its largest value is at a corner of the zonotope; its least value
    is the zonotope's distance from zero, taken over the corners' edges (zero lies outside, since
    no voltage angle exceeds 45 degrees).
    """
    buses, free = market.network.buses, market.flow.admittance.free
    least, most = np.zeros(len(free)), np.zeros(len(free))
    for k, bus in enumerate(free):
        corners = state.v_pu[bus] + market.box.image(market.uncertain[0][bus])
        least[k], most[k] = _distance_from_zero(corners), np.abs(corners).max()
    low = largest(buses["v_min_pu"].to_numpy()[free] - least)
    return low, largest(most - buses["v_max_pu"].to_numpy()[free])


def _distance_from_zero(corners: np.ndarray) -> float:
    """Distance of a polygon's boundary from zero, edge by edge."""
    step = np.roll(corners, -1) - corners
    length = np.where(np.abs(step) == 0, 1.0, np.abs(step))
    along = np.clip(np.real(-corners * np.conj(step)) / length**2, 0, 1)
    return float(np.abs(corners + along * step).min())
