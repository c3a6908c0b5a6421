"""The printed models of energy hubs: methods A and B, one function an equation, with Pyomo.

In MW and MWh, periods of one hour. Read it beside the chapter. Everything is written from the
tables of hubs and grid; `flexlib.hub_programme` and `flexlib.centralised` make the same programmes
as arrays, much faster, and share the tables with this module and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyomo.environ as pyo

from flexlib.hub_grid import HubGrid
from flexlib.hubs import VARIABLES, Hubs


def printed_hubs(hubs: Hubs) -> pyo.ConcreteModel:
    """Build method A: every hub for itself, at least cost.

    Imports and exports have no upper bound here: the balance bounds their difference.

    Parameters
    ----------
    hubs : Hubs

    Returns
    -------
    pyomo.environ.ConcreteModel
        Sets H of hubs and T of hours; the twelve variables by their name in `VARIABLES`, MW and
        MWh; constraints named after their equations; objective own_cost, EUR.
    """
    m = pyo.ConcreteModel(name="energy hubs")
    m.hubs = hubs
    m.table = hubs.table.to_dict("records")
    m.cost = hubs.costs.set_index("variable")["linear_eur_per_mwh"].to_dict()
    m.H = pyo.RangeSet(0, len(hubs) - 1)
    m.T = pyo.RangeSet(0, hubs.hours - 1)
    m.m_in = pyo.Var(m.H, m.T, bounds=(0, None))
    m.m_out = pyo.Var(m.H, m.T, bounds=(0, None))
    m.u = pyo.Var(m.H, m.T, bounds=_served)
    m.p_ch = pyo.Var(m.H, m.T, bounds=_up_to("battery_mw"))
    m.p_dis = pyo.Var(m.H, m.T, bounds=_up_to("battery_mw"))
    m.e = pyo.Var(m.H, m.T, bounds=_battery_content)
    m.a = pyo.Var(m.H, m.T, bounds=_waiting)
    m.c_pv = pyo.Var(m.H, m.T, bounds=_available_pv)
    m.g = pyo.Var(m.H, m.T, bounds=_up_to("generator_mw"))
    m.p_el = pyo.Var(m.H, m.T, bounds=_up_to("electrolyser_mw"))
    m.h_fc = pyo.Var(m.H, m.T, bounds=_up_to("fuel_cell_h2_mw"))
    m.h = pyo.Var(m.H, m.T, bounds=_hydrogen_content)
    m.w = pyo.Expression(m.H, m.T, rule=eq_withdrawal)
    m.balance = pyo.Constraint(m.H, m.T, rule=eq_balance)
    m.battery = pyo.Constraint(m.H, m.T, rule=eq_battery)
    m.backlog = pyo.Constraint(m.H, m.T, rule=eq_backlog)
    m.hydrogen = pyo.Constraint(m.H, m.T, rule=eq_hydrogen)
    m.own_cost = pyo.Objective(rule=eq_own_cost)
    return m


def printed_centralised(hubs: Hubs, grid: HubGrid) -> pyo.ConcreteModel:
    """Build stage 1 of method B: one planner, least congestion.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid

    Returns
    -------
    pyomo.environ.ConcreteModel
        `printed_hubs` with a set L of lines, line flows f with the poster's sign, the substation's
        import S, overloads z_plus, z_minus and y, MW, and the objective congestion, MWh, in place
        of own_cost.

    Raises
    ------
    DataError
        If the grid is for other hubs or hours.
    """
    grid.assert_fits(hubs)
    m = printed_hubs(hubs)
    m.own_cost.deactivate()
    m.grid = grid
    m.factor = grid.factor.toarray()
    m.L = pyo.RangeSet(0, len(grid.lines) - 1)
    m.z_plus = pyo.Var(m.L, m.T, bounds=(0, None))
    m.z_minus = pyo.Var(m.L, m.T, bounds=(0, None))
    m.y = pyo.Var(m.T, bounds=(0, None))
    m.f = pyo.Expression(m.L, m.T, rule=eq_flow)
    m.S = pyo.Expression(m.T, rule=eq_substation)
    m.overload_plus = pyo.Constraint(m.L, m.T, rule=eq_overload_plus)
    m.overload_minus = pyo.Constraint(m.L, m.T, rule=eq_overload_minus)
    m.overload_import = pyo.Constraint(m.T, rule=eq_overload_import)
    m.overload_export = pyo.Constraint(m.T, rule=eq_overload_export)
    m.congestion = pyo.Objective(rule=eq_congestion)
    return m


def least_cost_at(m: pyo.ConcreteModel, congestion_mwh: float) -> pyo.ConcreteModel:
    """Turn stage 1 of method B into stage 2: least cost at a congestion, :eq:`hubs-least-cost`.

    Parameters
    ----------
    m : pyomo.environ.ConcreteModel
        Of `printed_centralised`; it is changed.
    congestion_mwh : float
        What stage 1 has found, and the rounding that is granted.

    Returns
    -------
    pyomo.environ.ConcreteModel
        The same, with the constraint kept and the objective own_cost.
    """
    m.congestion.deactivate()
    m.own_cost.activate()
    m.kept = pyo.Constraint(expr=m.congestion.expr <= congestion_mwh)
    return m


def schedule_of(m: pyo.ConcreteModel) -> np.ndarray:
    """Return a solved model's schedules, shape (hubs, hours, variables of `VARIABLES`)."""
    return np.array(
        [[[pyo.value(getattr(m, v)[i, t]) for v in VARIABLES] for t in m.T] for i in m.H]
    )


def eq_withdrawal(m: pyo.ConcreteModel, i: int, t: int) -> pyo.Expression:
    """Net grid withdrawal, :eq:`hubs-withdrawal`, MW."""
    return m.m_in[i, t] - m.m_out[i, t]


def eq_balance(m: pyo.ConcreteModel, i: int, t: int) -> pyo.Expression:
    """Power balance of a hub, :eq:`hubs-balance`, MW."""
    demand, pv = float(m.hubs.demand_mw[i, t]), float(m.hubs.pv_mw[i, t])
    supply = m.w[i, t] + m.p_dis[i, t] - m.p_ch[i, t] + m.g[i, t]
    fuel_cell = m.table[i]["fuel_cell_eff"] * m.h_fc[i, t]
    return supply + fuel_cell - m.p_el[i, t] - m.u[i, t] - m.c_pv[i, t] == demand - pv


def eq_battery(m: pyo.ConcreteModel, i: int, t: int) -> pyo.Expression:
    """Content of the battery at the end of an hour, :eq:`hubs-battery`, MWh."""
    hub = m.table[i]
    before = m.e[i, t - 1] if t > 0 else hub["battery_initial_soc"] * hub["battery_mwh"]
    charged = hub["battery_eff_charge"] * m.p_ch[i, t]
    return m.e[i, t] == before + charged - m.p_dis[i, t] / hub["battery_eff_discharge"]


def eq_backlog(m: pyo.ConcreteModel, i: int, t: int) -> pyo.Expression:
    """Flexible load that waits at the end of an hour, :eq:`hubs-backlog`, MWh."""
    before = m.a[i, t - 1] if t > 0 else 0.0
    return m.a[i, t] == before + m.table[i]["flexible_load_mw"] - m.u[i, t]


def eq_hydrogen(m: pyo.ConcreteModel, i: int, t: int) -> pyo.Expression:
    """Content of the hydrogen store at the end of an hour, :eq:`hubs-hydrogen`, MWh."""
    hub = m.table[i]
    before = m.h[i, t - 1] if t > 0 else hub["h2_initial_fill"] * hub["h2_store_mwh"]
    made = hub["electrolyser_eff"] * m.p_el[i, t]
    return m.h[i, t] == before + made - m.h_fc[i, t] - hub["h2_offtake_mw"]


def eq_own_cost(m: pyo.ConcreteModel) -> pyo.Expression:
    """Cost of all hubs, :eq:`hubs-cost`, EUR: it falls apart into one cost a hub."""
    profiles = m.hubs.profiles
    buy, sell = profiles["buy_eur_per_mwh"].tolist(), profiles["sell_eur_per_mwh"].tolist()
    exchange = sum(
        (buy[t] + m.table[i]["base_tariff_eur_per_mwh"]) * m.m_in[i, t] - sell[t] * m.m_out[i, t]
        for i in m.H
        for t in m.T
    )
    fuel = sum(m.table[i]["generator_cost_eur_per_mwh"] * m.g[i, t] for i in m.H for t in m.T)
    wear = sum(m.cost[v] * getattr(m, v)[i, t] for v in VARIABLES for i in m.H for t in m.T)
    return exchange + fuel + wear


def eq_flow(m: pyo.ConcreteModel, k: int, t: int) -> pyo.Expression:
    """Line flow, :eq:`hubs-flow`, MW: positive against the direction of import."""
    background = -float(m.grid.background_mw[k, t])
    return background - sum(float(m.factor[k, i]) * m.w[i, t] for i in m.H if m.factor[k, i])


def eq_substation(m: pyo.ConcreteModel, t: int) -> pyo.Expression:
    """Import of all hubs through the substation, :eq:`hubs-substation`, MW."""
    return sum(m.w[i, t] for i in m.H)


def eq_overload_plus(m: pyo.ConcreteModel, k: int, t: int) -> pyo.Expression:
    """Overload of a line whose flow is positive, :eq:`hubs-overload`, by :eq:`hubs-epigraph`."""
    return _within(m.f[k, t] - m.z_plus[k, t], m.grid.limit_mw[k])


def eq_overload_minus(m: pyo.ConcreteModel, k: int, t: int) -> pyo.Expression:
    """Overload of a line whose flow is negative, :eq:`hubs-overload`, by :eq:`hubs-epigraph`."""
    return _within(-m.f[k, t] - m.z_minus[k, t], m.grid.limit_mw[k])


def eq_overload_import(m: pyo.ConcreteModel, t: int) -> pyo.Expression:
    """Overload by imports, :eq:`hubs-overload-substation`, by :eq:`hubs-epigraph`."""
    return _within(m.S[t] - m.y[t], m.grid.import_mw)


def eq_overload_export(m: pyo.ConcreteModel, t: int) -> pyo.Expression:
    """Overload by exports, :eq:`hubs-overload-substation`, by :eq:`hubs-epigraph`."""
    return _within(-m.S[t] - m.y[t], m.grid.export_mw)


def eq_congestion(m: pyo.ConcreteModel) -> pyo.Expression:
    """Weighted sum of all overloads, :eq:`hubs-congestion`, MWh."""
    lines = sum(m.z_plus[k, t] + m.z_minus[k, t] for k in m.L for t in m.T)
    return m.grid.line_weight * lines + m.grid.substation_weight * sum(m.y[t] for t in m.T)


def _within(expression: pyo.Expression, limit_mw: float) -> pyo.Expression:
    limit = float(limit_mw)
    return expression <= limit if np.isfinite(limit) else pyo.Constraint.Skip


def _up_to(column: str) -> Callable[[pyo.ConcreteModel, int, int], tuple[float, float]]:
    def bounds(m: pyo.ConcreteModel, i: int, t: int) -> tuple[float, float]:
        return 0.0, m.table[i][column]

    return bounds


def _served(m: pyo.ConcreteModel, i: int, t: int) -> tuple[float, float]:
    hub = m.table[i]
    return 0.0, hub["flexible_load_max_factor"] * hub["flexible_load_mw"]


def _waiting(m: pyo.ConcreteModel, i: int, t: int) -> tuple[float, float]:
    """Bounds of the backlog: none is left at the end."""
    return 0.0, (m.table[i]["backlog_max_mwh"] if t < m.T.last() else 0.0)


def _available_pv(m: pyo.ConcreteModel, i: int, t: int) -> tuple[float, float]:
    return 0.0, float(m.hubs.pv_mw[i, t])


def _battery_content(m: pyo.ConcreteModel, i: int, t: int) -> tuple[float, float]:
    """Bounds of a battery's content: at the end at least as full as it began."""
    hub = m.table[i]
    least = hub["battery_min_soc"] if t < m.T.last() else hub["battery_initial_soc"]
    return least * hub["battery_mwh"], hub["battery_mwh"]


def _hydrogen_content(m: pyo.ConcreteModel, i: int, t: int) -> tuple[float, float]:
    """Bounds of the hydrogen store's content: at the end at least as full as it began."""
    hub = m.table[i]
    least = 0.0 if t < m.T.last() else hub["h2_initial_fill"] * hub["h2_store_mwh"]
    return least, hub["h2_store_mwh"]
