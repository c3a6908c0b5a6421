"""Certificate of a robust activation: everything recomputed from the data, in volts and amperes.

Nothing here uses the programme that was solved. The equations are evaluated branch by branch and
the image of the set is bounded by its supporting lines. `flexlib.robust_ac` has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyomo.environ as pyo

from flexlib.admittance import S_BASE_KVA
from flexlib.certificate import Check, largest
from flexlib.market import Market
from flexlib.planes import Planes, along
from flexlib.robust_rows import farthest

_TOLERANCE_A = 1e-9


@dataclass(frozen=True)
class State:
    """Values of all variables of the market's model at the baseline of the set.

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
    """Branch-end currents of a state: at the baseline, worst over the set, limit.

    Parameters
    ----------
    market : Market
    state : State

    Returns
    -------
    pandas.DataFrame
        Columns branch, end, bus, i_a, i_worst_a (largest magnitude in the linear model, at a
        corner of the set) and i_max_a; one row a branch end.
    """
    columns = market.uncertain[1] * market.remains(state.up_kw - state.down_kw)
    worst_a = [
        farthest(market.uncertainty, i_a, di_a, _TOLERANCE_A)[1]
        for i_a, di_a in zip(state.i_end_a, columns, strict=True)
    ]
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
    """Checks of a state against the linear model and its limits, exact over the set.

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
    plane, circle = _current_violations(market, state)
    tolerance_a = 1e-6
    if isinstance(market.norm, Planes) and not market.norm.inscribed:
        i_max_a = market.flow.admittance.ends["i_max_a"]
        tolerance_a += market.norm.error * i_max_a[np.isfinite(i_max_a)].max()
    low, high = _voltage_violations(market, state)
    return [
        *(
            Check(f"equation ({number})", value, 1e-6, "kVA" if number == "59" else "A")
            for number, value in residuals(market, state).items()
        ),
        *(Check("planes (83) over the set", value, 1e-6, "A") for value in plane),
        Check("current magnitude over the set", circle, tolerance_a, "A"),
        Check("lower voltage limit over the set", low, 1e-6 + voltage_error, "p.u."),
        Check("upper voltage limit over the set", high, 1e-6 + voltage_error, "p.u."),
    ]


def _current_violations(market: Market, state: State) -> tuple[list[float], float]:
    """Largest violations of planes, if the norm has any, and of the circle over the set."""
    i_max_a = market.flow.admittance.ends["i_max_a"].to_numpy()
    columns = market.uncertain[1] * market.remains(state.up_kw - state.down_kw)
    apothem = market.norm.apothem if isinstance(market.norm, Planes) else 1.0
    plane, circle = [-np.inf], [-np.inf]
    for end in np.flatnonzero(np.isfinite(i_max_a)):
        i_a, di_a = state.i_end_a[end], columns[end]
        if abs(i_a) + np.abs(di_a) @ market.uncertainty.reach <= apothem * i_max_a[end]:
            continue
        most_a = farthest(market.uncertainty, i_a, di_a, _TOLERANCE_A)[1]
        circle.append(most_a - i_max_a[end])
        if isinstance(market.norm, Planes):
            normals = market.norm.normals(market.flow.i0_a[end])
            most = along(normals, i_a) + market.uncertainty.support(along(normals[:, None], di_a))
            plane.append(float(most.max()) - i_max_a[end] * apothem)
    has_planes = isinstance(market.norm, Planes)
    return [largest(np.array(plane))] if has_planes else [], largest(np.array(circle))


def _voltage_violations(market: Market, state: State) -> tuple[float, float]:
    """Largest violations of voltage limits over the set in the linear model.

    The magnitude is convex, so its largest value is bounded by the supporting lines; its least
    value is at least the distance of the supporting line across the direction of the nearest
    boundary point from zero.
    """
    buses, free = market.network.buses, market.flow.admittance.free
    columns = market.uncertain[0] * market.remains(state.up_kw - state.down_kw)
    reach = np.abs(columns) @ market.uncertainty.reach
    v_min, v_max = buses["v_min_pu"].to_numpy(), buses["v_max_pu"].to_numpy()
    low, high = [-np.inf], [-np.inf]
    for bus in free:
        v_pu, dv_pu = state.v_pu[bus], columns[bus]
        if not abs(v_pu) + reach[bus] <= v_max[bus]:  # nor if it is not a number
            high.append(farthest(market.uncertainty, v_pu, dv_pu, 1e-9)[1] - v_max[bus])
        if not abs(v_pu) - reach[bus] >= v_min[bus]:
            nearest = _nearest_to_zero(v_pu + market.uncertainty.image(dv_pu))
            towards = nearest / abs(nearest)
            drop = market.uncertainty.support(-along(towards, dv_pu))
            low.append(v_min[bus] - float(along(towards, v_pu) - drop))
    return largest(np.array(low)), largest(np.array(high))


def _nearest_to_zero(corners: np.ndarray) -> complex:
    """Point of a polygon's boundary nearest to zero, edge by edge."""
    step = np.roll(corners, -1) - corners
    length = np.where(np.abs(step) == 0, 1.0, np.abs(step))
    share = np.clip(np.real(-corners * np.conj(step)) / length**2, 0, 1)
    points = corners + share * step
    return complex(points[np.abs(points).argmin()])
