"""The poster's hub written out one equation at a time, and small hubs for tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from flexlib.hubs import VARIABLES, Hubs

NOTHING = {
    "feeder": "feeder", "demand_peak_mw": 0.0, "demand_profile": "demand", "pv_mwp": 0.0,
    "pv_profile": "pv", "flexible_load_mw": 0.0, "flexible_load_max_factor": 1.0,
    "backlog_max_mwh": 0.0, "battery_mw": 0.0, "battery_mwh": 0.0, "battery_min_soc": 0.0,
    "battery_initial_soc": 0.0, "battery_eff_charge": 1.0, "battery_eff_discharge": 1.0,
    "electrolyser_mw": 0.0, "electrolyser_eff": 1.0, "fuel_cell_h2_mw": 0.0,
    "fuel_cell_eff": 1.0, "h2_store_mwh": 0.0, "h2_initial_fill": 0.0, "h2_offtake_mw": 0.0,
    "generator_mw": 0.0, "generator_cost_eur_per_mwh": 0.0, "base_tariff_eur_per_mwh": 0.0,
}  # fmt: skip


def small_hubs(
    buy: list[float],
    sell: list[float],
    *devices: dict[str, object],
    costs: dict[str, float] | None = None,
    **profiles: list[float],
) -> Hubs:
    """Hubs that have nothing but the devices given, one dictionary a hub."""
    rows = [{"hub": f"hub_{k + 1}", **NOTHING, **own} for k, own in enumerate(devices)]
    hours = len(buy)
    shapes = {"demand": [1.0] * hours, "pv": [1.0] * hours} | profiles
    frame = pd.DataFrame(
        {"hour": range(hours), "buy_eur_per_mwh": buy, "sell_eur_per_mwh": sell, **shapes}
    )
    table = pd.DataFrame({"variable": list(VARIABLES)})
    table["linear_eur_per_mwh"] = table["variable"].map(costs or {}).fillna(0.0)
    table["quadratic_eur_per_mwh_per_mw"] = np.arange(len(VARIABLES)) / 10
    return Hubs(pd.DataFrame(rows), frame, table)


Rows = list[tuple[dict[tuple[int, str], float], float]]


def equations(hubs: Hubs, hub: int) -> tuple[Rows, dict[tuple[int, str], list[float]]]:
    """Rows (coefficients by hour and variable, right-hand side) and [low, high, cost] of a hub."""
    own, table = hubs.table.iloc[hub], hubs.profiles
    rows: Rows = []
    columns = {}
    last = len(table) - 1
    cost = dict(zip(hubs.costs["variable"], hubs.costs["linear_eur_per_mwh"], strict=True))
    battery_start = own["battery_initial_soc"] * own["battery_mwh"]
    h2_start = own["h2_initial_fill"] * own["h2_store_mwh"]
    for t in range(len(table)):
        hour = table.iloc[t]
        demand = own["demand_peak_mw"] * hour[own["demand_profile"]]
        pv = own["pv_mwp"] * hour[own["pv_profile"]]
        flexible = own["flexible_load_mw"]
        # common physical balance, as the poster prints it
        balance = {
            "m_in": 1, "m_out": -1, "p_dis": 1, "p_ch": -1, "g": 1, "h_fc": own["fuel_cell_eff"],
            "p_el": -1, "u": -1, "c_pv": -1,
        }  # fmt: skip
        rows.append(({(t, name): k for name, k in balance.items()}, demand - pv))
        # e_t = e_(t-1) + eta_ch p_ch - p_dis / eta_dis
        row = {(t, "e"): 1, (t, "p_ch"): -own["battery_eff_charge"]}
        row[t, "p_dis"] = 1 / own["battery_eff_discharge"]
        # a_t = a_(t-1) + arrival - u_t
        late = {(t, "a"): 1, (t, "u"): 1}
        # h_t = h_(t-1) + eta_el p_el - h_fc - offtake
        store = {(t, "h"): 1, (t, "p_el"): -own["electrolyser_eff"], (t, "h_fc"): 1}
        if t:
            row[t - 1, "e"] = late[t - 1, "a"] = store[t - 1, "h"] = -1
        rows.append((row, 0 if t else battery_start))
        rows.append((late, flexible))
        rows.append((store, (0 if t else h2_start) - own["h2_offtake_mw"]))
        served = own["flexible_load_max_factor"] * flexible
        cell = own["fuel_cell_eff"] * own["fuel_cell_h2_mw"]
        high = {
            "m_in": demand + served + own["battery_mw"] + own["electrolyser_mw"],
            "m_out": pv + own["battery_mw"] + own["generator_mw"] + cell,
            "u": served, "p_ch": own["battery_mw"], "p_dis": own["battery_mw"],
            "e": own["battery_mwh"], "a": 0 if t == last else own["backlog_max_mwh"],
            "c_pv": pv, "g": own["generator_mw"], "p_el": own["electrolyser_mw"],
            "h_fc": own["fuel_cell_h2_mw"], "h": own["h2_store_mwh"],
        }  # fmt: skip
        low = dict.fromkeys(VARIABLES, 0.0)
        low["e"] = battery_start if t == last else own["battery_min_soc"] * own["battery_mwh"]
        low["h"] = h2_start if t == last else 0
        price = {
            "m_in": hour["buy_eur_per_mwh"] + own["base_tariff_eur_per_mwh"],
            "m_out": -hour["sell_eur_per_mwh"],
            "g": own["generator_cost_eur_per_mwh"],
        }
        for name in VARIABLES:
            columns[t, name] = [low[name], high[name], cost[name] + price.get(name, 0)]
    return rows, columns


def arrays(hubs: Hubs, hub: int) -> dict[str, np.ndarray]:
    """A, b, lower, upper and cost of one hub, dense, from `equations`."""
    rows, columns = equations(hubs, hub)
    at = {key: k for k, key in enumerate(columns)}
    a = np.zeros((len(rows), len(at)))
    for k, (row, _) in enumerate(rows):
        for key, value in row.items():
            a[k, at[key]] = value
    lower, upper, cost = np.array(list(columns.values()), dtype=float).T
    return {
        "a": a, "b": np.array([b for _, b in rows], dtype=float),
        "lower": lower, "upper": upper, "cost": cost,
    }  # fmt: skip


def least_cost(hubs: Hubs, hub: int, more: np.ndarray | None = None) -> float | None:
    """Least cost of one hub by another solver's interface, None if it has no schedule."""
    own = arrays(hubs, hub)
    bounds = np.column_stack([own["lower"], own["upper"]])
    if (bounds[:, 0] > bounds[:, 1]).any():
        return None
    cost = own["cost"] if more is None else own["cost"] + more
    found = linprog(cost, A_eq=own["a"], b_eq=own["b"], bounds=bounds)
    assert found.status in (0, 2), found.message
    return float(found.fun) if found.status == 0 else None
