"""The printed model of the robust market: one function an equation, (75) to (83), with Pyomo.

In per unit inside. Read it beside the chapter: every constraint carries the number of its
equation in De Simone, powers are consumption (the source writes them as injections).
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from flexlib.admittance import S_BASE_KVA
from flexlib.market import Market
from flexlib.robust_limits import every_limit
from flexlib.robust_rows import Rows, every_plane, voltage_rows
from flexlib.uncertainty import Box


def printed_model(market: Market) -> pyo.ConcreteModel:
    """Build the model as the source prints it, (75) to (83), in per unit with Pyomo.

    Parameters
    ----------
    market : Market

    Returns
    -------
    pyomo.environ.ConcreteModel
        Constraints carry the number of their equation in their name.

    Raises
    ------
    ValueError
        For the exact circle, and for a band on what remains of a set that is not a box: neither
        is a linear programme known beforehand.
    """
    if market.band == "remainder" and not isinstance(market.uncertainty, Box):
        raise ValueError("the printed model has the band on what remains for a box only")
    network, ends = market.network, market.flow.admittance.ends
    m = pyo.ConcreteModel(name=f"robust market on {network.name}")
    limits = every_limit(market)
    m.market = market
    m.currents, m.voltages = every_plane(market, limits), voltage_rows(market, limits)
    m.end, m.bus = limits.at[m.currents.limit].tolist(), limits.at[m.voltages.limit].tolist()
    pods = set(market.offer_load.tolist()) | set(market.uncertainty.load.tolist())
    fixed = [k for k in range(len(network.loads)) if k not in pods]
    consumes = network.s_load_kva.real >= 0

    m.PODS = pyo.Set(initialize=sorted(pods))
    m.DEMANDS = pyo.Set(initialize=[k for k in fixed if consumes[k]])
    m.GENERATORS = pyo.Set(initialize=[k for k in fixed if not consumes[k]])
    m.LOADS = m.PODS | m.DEMANDS | m.GENERATORS
    m.OFFERS = pyo.RangeSet(0, len(market.offers) - 1)
    m.BUSES = pyo.RangeSet(0, len(network.buses) - 1)
    m.ENDS = pyo.RangeSet(0, len(ends) - 1)
    m.PLANES = pyo.RangeSet(0, len(m.currents) - 1)
    m.LIMITS = pyo.RangeSet(0, len(m.voltages) - 1)
    m.CHOICES = pyo.Set(initialize=np.flatnonzero(m.voltages.big_m > 0).tolist())
    m.PARTS = pyo.Set(initialize=["re", "im"])

    m.f_up_kw = pyo.Var(m.OFFERS, bounds=lambda m, o: (0, market.offers["up_max_kw"][o]))
    m.f_down_kw = pyo.Var(m.OFFERS, bounds=lambda m, o: (0, market.offers["down_max_kw"][o]))
    m.i_load = pyo.Var(m.LOADS, m.PARTS)
    m.i_bus = pyo.Var(m.BUSES, m.PARTS)
    m.v = pyo.Var(m.BUSES, m.PARTS)
    m.i_end = pyo.Var(m.ENDS, m.PARTS)
    m.holds = pyo.Var(m.CHOICES, domain=pyo.Binary)
    m.v[network.slack, "re"].fix(market.flow.admittance.v_slack_pu.real)
    m.v[network.slack, "im"].fix(0.0)

    m.eq_75 = pyo.Objective(rule=eq_75_cost)
    m.eq_59 = pyo.Constraint(m.PODS, m.PARTS, rule=eq_59_pod_current)
    m.eq_60 = pyo.Constraint(m.DEMANDS, m.PARTS, rule=eq_60_demand_current)
    m.eq_61 = pyo.Constraint(m.GENERATORS, m.PARTS, rule=eq_61_generator_current)
    m.eq_62 = pyo.Constraint(m.BUSES - [network.slack], m.PARTS, rule=eq_62_bus_injection)
    m.eq_63 = pyo.Constraint(m.ENDS, m.PARTS, rule=eq_63_branch_current)
    m.eq_64 = pyo.Constraint(m.BUSES, m.PARTS, rule=eq_64_bus_balance)
    m.eq_82 = pyo.Constraint(m.LIMITS, rule=eq_82_voltage_limit)
    m.eq_82_one = pyo.Constraint(m.BUSES, rule=eq_82_one_row_holds)
    m.eq_83 = pyo.Constraint(m.PLANES, rule=eq_83_current_limit)
    return m


def eq_75_cost(m: pyo.ConcreteModel) -> pyo.Expression:
    """Cost of the activated flexibility, :eq:`robust-75`, EUR per hour."""
    offers = m.market.offers
    return sum(
        offers["price_up_eur_per_mwh"][o] / 1000 * m.f_up_kw[o]
        + offers["price_down_eur_per_mwh"][o] / 1000 * m.f_down_kw[o]
        for o in m.OFFERS
    )


def eq_59_pod_current(m: pyo.ConcreteModel, k: int, part: str) -> pyo.Expression:
    """Power of a POD at the fixed voltage, activation included, :eq:`robust-59`."""
    saved = sum(
        _part(m.market.direction[o], part) * (m.f_up_kw[o] - m.f_down_kw[o]) / S_BASE_KVA
        for o in np.flatnonzero(m.market.offer_load == k).tolist()
    )
    return _part(m.market.network.s_load_kva[k], part) / S_BASE_KVA - saved == _power(m, k, part)


def eq_60_demand_current(m: pyo.ConcreteModel, k: int, part: str) -> pyo.Expression:
    """Power of a fixed load at the fixed voltage, :eq:`robust-60`."""
    return _part(m.market.network.s_load_kva[k], part) / S_BASE_KVA == _power(m, k, part)


def eq_61_generator_current(m: pyo.ConcreteModel, k: int, part: str) -> pyo.Expression:
    """Power of a fixed generator (negative consumption), :eq:`robust-61`."""
    return eq_60_demand_current(m, k, part)


def eq_62_bus_injection(m: pyo.ConcreteModel, b: int, part: str) -> pyo.Expression:
    """Current injected at a bus, minus what its loads consume, :eq:`robust-62`."""
    loads = np.flatnonzero(m.market.network.load_bus == b).tolist()
    return -sum(m.i_load[k, part] for k in loads) == m.i_bus[b, part]


def eq_63_branch_current(m: pyo.ConcreteModel, e: int, part: str) -> pyo.Expression:
    """Current into a branch at one of its ends, :eq:`robust-63`."""
    y_end = m.market.flow.admittance.y_end[[e]].tocoo()
    terms = zip(y_end.coords[1].tolist(), y_end.data.tolist(), strict=True)
    return m.i_end[e, part] == sum(_times(y, m.v, b, part) for b, y in terms)


def eq_64_bus_balance(m: pyo.ConcreteModel, b: int, part: str) -> pyo.Expression:
    """Injected current leaves through branches and the bus shunt, :eq:`robust-64`."""
    admittance = m.market.flow.admittance
    ends = np.flatnonzero(admittance.ends["bus"] == m.market.network.buses["bus"][b]).tolist()
    shunt = _times(complex(admittance.y_shunt[b]), m.v, b, part)
    return m.i_bus[b, part] == sum(m.i_end[e, part] for e in ends) + shunt


def eq_82_voltage_limit(m: pyo.ConcreteModel, r: int) -> pyo.Expression:
    """Voltage magnitude for every load in the set, :eq:`robust-82`, per unit."""
    rows, bus = m.voltages, m.bus[r]
    v_nom_v = 1000 * float(m.market.network.buses["v_nom_kv"][bus])
    turned = rows.normal[r].conj() * m.market.flow.admittance.turn_back[bus]
    missed = rows.big_m[r] / v_nom_v * (1 - m.holds[r]) if r in m.CHOICES else 0.0
    value = _times(turned, m.v, bus, "re") + _margin(m, rows, r) / v_nom_v
    return value <= rows.bound[r] / v_nom_v + missed


def eq_82_one_row_holds(m: pyo.ConcreteModel, b: int) -> pyo.Expression:
    """Of alternative rows for one lower limit, one holds, :eq:`robust-82`."""
    rows = [r for r in m.CHOICES if m.bus[r] == b]
    return sum(m.holds[r] for r in rows) >= 1 if rows else pyo.Constraint.Skip


def eq_83_current_limit(m: pyo.ConcreteModel, r: int) -> pyo.Expression:
    """Current along one plane for every load in the set, :eq:`robust-83`, ampere."""
    rows, end = m.currents, m.end[r]
    i_base_a = m.market.flow.admittance.ends["i_base_a"][end]
    along_a = _times(rows.normal[r].conj(), m.i_end, end, "re") * i_base_a
    return along_a + _margin(m, rows, r) <= rows.bound[r]


def _part(z: complex, part: str) -> float:
    return float(z.real if part == "re" else z.imag)


def _times(y: complex, z: pyo.Var, index: int, part: str) -> pyo.Expression:
    """Real or imaginary part of a constant times a complex variable."""
    y_re, y_im = float(y.real), float(y.imag)
    if part == "re":
        return y_re * z[index, "re"] - y_im * z[index, "im"]
    return y_re * z[index, "im"] + y_im * z[index, "re"]


def _margin(m: pyo.ConcreteModel, rows: Rows, r: int) -> pyo.Expression:
    """Largest value that the set adds along a row; linear where the band is on what remains."""
    per_kw = rows.margin_per_kw[r]
    changed = (per_kw[o] * (m.f_up_kw[o] - m.f_down_kw[o]) for o in np.flatnonzero(per_kw).tolist())
    return rows.margin[r] + sum(changed)


def _power(m: pyo.ConcreteModel, k: int, part: str) -> pyo.Expression:
    """Power consumed at the fixed voltage: v conj(i)."""
    market = m.market
    v = complex(market.flow.v_fixed_pu[market.network.load_bus[k]])
    sign = 1 if part == "re" else -1  # v conj(i) is the conjugate of conj(v) i
    return sign * _times(v.conjugate(), m.i_load, k, part)
