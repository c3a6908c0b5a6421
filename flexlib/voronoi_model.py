"""The printed model of DigIPlat D5.2: one function an equation, (14a) to (14j), with Pyomo.

In kW, per cent and per unit, one linear model for each point. Read it beside the chapter. Where
the source has to be corrected the function says how; `flexlib.voronoi` solves the same programme
much faster.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from flexlib.bids import Bids
from flexlib.light_model import LightModel


def printed_milp(
    model: LightModel, bids: Bids, request_kw: float, *, corrected: bool = True
) -> pyo.ConcreteModel:
    """Build the mixed-integer programme (14).

    Parameters
    ----------
    model : LightModel
    bids : Bids
        Each in one direction, without least activations or free reactive power: the source has
        no others.
    request_kw : float
        P_E of (14j), upward positive.
    corrected : bool
        Whether (14j) has the binaries that it needs; as printed it lacks them.

    Returns
    -------
    pyomo.environ.ConcreteModel
        Constraints carry the number of their equation in their name.

    Raises
    ------
    ValueError
        For bids that the source does not have.
    """
    axes = bids.axes
    if ((axes["lower"] < 0) & (axes["upper"] > 0)).any() or not axes["active"].all():
        raise ValueError("the printed model has bids in one direction, without free reactive power")
    if (axes[["min_up", "min_down"]] > 0).any(axis=None):
        raise ValueError("the printed model has no least activations")
    m = pyo.ConcreteModel(name="activation with Voronoi cells")
    m.light, m.bids, m.request_kw = model, bids, request_kw
    m.POINTS = pyo.RangeSet(0, len(model.point) - 1)
    m.AXES = pyo.RangeSet(0, len(axes) - 1)
    m.BUSES = pyo.RangeSet(0, len(model.bus) - 1)
    m.ENDS = pyo.RangeSet(0, len(model.end) - 1)
    m.dp = pyo.Var(m.POINTS, m.AXES)
    m.b = pyo.Var(m.POINTS, domain=pyo.Binary)
    m.v = pyo.Expression(m.POINTS, m.BUSES, rule=eq_7_voltage)
    m.loading = pyo.Expression(m.POINTS, m.ENDS, rule=eq_8_loading)
    m.eq_14a = pyo.Objective(rule=eq_14a_cost)
    m.eq_14b = pyo.Constraint(m.POINTS, m.AXES, rule=eq_14b_least)
    m.eq_14c = pyo.Constraint(m.POINTS, m.AXES, rule=eq_14c_most)
    m.eq_14d = pyo.Constraint(m.POINTS, m.ENDS, rule=eq_14d_loading_lower)
    m.eq_14e = pyo.Constraint(m.POINTS, m.ENDS, rule=eq_14e_loading_upper)
    m.eq_14f = pyo.Constraint(m.POINTS, m.BUSES, rule=eq_14f_voltage_lower)
    m.eq_14g = pyo.Constraint(m.POINTS, m.BUSES, rule=eq_14g_voltage_upper)
    m.eq_14h = pyo.Constraint(m.POINTS, m.POINTS, rule=eq_14h_border)
    m.eq_14i = pyo.Constraint(rule=eq_14i_one_point)
    m.eq_14j = pyo.Constraint(rule=eq_14j_request if corrected else eq_14j_as_printed)
    return m


def activation(m: pyo.ConcreteModel) -> tuple[np.ndarray, int]:
    """Return a solved model's activation (kW upward, shape (axes,)) and its point."""
    cell = int(np.argmax([pyo.value(m.b[i]) for i in m.POINTS]))
    change = np.array([pyo.value(m.dp[cell, k]) for k in m.AXES])
    return m.light.point[cell] + change, cell


def eq_7_voltage(m: pyo.ConcreteModel, i: int, v: int) -> pyo.Expression:
    """Voltage by the linear model of a point, :eq:`voronoi-7`, p.u."""
    return m.light.v_pu[i, v] + _sum(m.light.vtdf[i, v], m.dp, i)


def eq_8_loading(m: pyo.ConcreteModel, i: int, e: int) -> pyo.Expression:
    """Loading by the linear model of a point, :eq:`voronoi-8`, per cent."""
    return m.light.loading_percent[i, e] + _sum(m.light.ltdf[i, e], m.dp, i)


def eq_14a_cost(m: pyo.ConcreteModel) -> pyo.Expression:
    """Cost, :eq:`voronoi-14a`, EUR/h: linear, since (14b) and (14c) make dp zero where b is."""
    return sum(
        _price(m, k) * (m.light.point[i, k] * m.b[i] + m.dp[i, k]) for i in m.POINTS for k in m.AXES
    )


def eq_14b_least(m: pyo.ConcreteModel, i: int, k: int) -> pyo.Expression:
    """No bid below its volume, :eq:`voronoi-14b`."""
    return m.dp[i, k] >= (m.bids.lower[k] - m.light.point[i, k]) * m.b[i]


def eq_14c_most(m: pyo.ConcreteModel, i: int, k: int) -> pyo.Expression:
    """No bid above its volume, :eq:`voronoi-14c`."""
    return m.dp[i, k] <= (m.bids.upper[k] - m.light.point[i, k]) * m.b[i]


def eq_14d_loading_lower(m: pyo.ConcreteModel, i: int, e: int) -> pyo.Expression:
    """Loading from -100 %, a flow turned around, :eq:`voronoi-14d`."""
    return m.loading[i, e] >= -100 * m.b[i] + m.light.loading_percent[i, e] * (1 - m.b[i])


def eq_14e_loading_upper(m: pyo.ConcreteModel, i: int, e: int) -> pyo.Expression:
    """Loading up to 100 %, :eq:`voronoi-14e`."""
    return m.loading[i, e] <= 100 * m.b[i] + m.light.loading_percent[i, e] * (1 - m.b[i])


def eq_14f_voltage_lower(m: pyo.ConcreteModel, i: int, v: int) -> pyo.Expression:
    """Voltage above its lower limit, :eq:`voronoi-14f`."""
    return m.v[i, v] >= m.light.v_min_pu[v] * m.b[i] + m.light.v_pu[i, v] * (1 - m.b[i])


def eq_14g_voltage_upper(m: pyo.ConcreteModel, i: int, v: int) -> pyo.Expression:
    """Voltage below its upper limit, :eq:`voronoi-14g`."""
    return m.v[i, v] <= m.light.v_max_pu[v] * m.b[i] + m.light.v_pu[i, v] * (1 - m.b[i])


def eq_14h_border(m: pyo.ConcreteModel, i: int, j: int) -> pyo.Expression:
    """Activation on the chosen point's side of each border, :eq:`voronoi-14h`.

    Without the binary: where b is zero so is dp, and H is half the squared distance.
    """
    if i == j:
        return pyo.Constraint.Skip
    towards = m.light.point[i] - m.light.point[j]
    return _sum(towards, m.dp, i) + float(towards @ towards) / 2 >= 0


def eq_14i_one_point(m: pyo.ConcreteModel) -> pyo.Expression:
    """One point, :eq:`voronoi-14i`."""
    return sum(m.b[i] for i in m.POINTS) == 1


def eq_14j_request(m: pyo.ConcreteModel) -> pyo.Expression:
    """Sum of the chosen point's activation, :eq:`voronoi-14j`."""
    change = sum(m.dp[i, k] for i in m.POINTS for k in m.AXES)
    return sum(float(m.light.point[i].sum()) * m.b[i] for i in m.POINTS) + change == m.request_kw


def eq_14j_as_printed(m: pyo.ConcreteModel) -> pyo.Expression:
    """Sum over all points, chosen or not, as printed; the erratum says what follows."""
    change = sum(m.dp[i, k] for i in m.POINTS for k in m.AXES)
    return float(m.light.point.sum()) + change == m.request_kw


def _price(m: pyo.ConcreteModel, k: int) -> float:
    """EUR/h for one unit of the signed axis: paid for downward units, too."""
    axes = m.bids.axes
    return float(axes["price_up"][k] if axes["upper"][k] > 0 else -axes["price_down"][k])


def _sum(row: np.ndarray, dp: pyo.Var, i: int) -> pyo.Expression:
    return pyo.quicksum(float(row[k]) * dp[i, k] for k in np.flatnonzero(row).tolist())
