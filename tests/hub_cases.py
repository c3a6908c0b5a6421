"""Random small instances of hubs for tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import limited
from flexlib.hubs import VARIABLES, Hubs


def random_hubs(rng: np.random.Generator, count: int = 3, hours: int = 5) -> Hubs:
    """Hubs of random sizes, prices and profiles."""
    table = pd.DataFrame({"hub": [f"hub_{k + 1}" for k in range(count)]})
    ranges = {
        "demand_peak_mw": (0.2, 2), "pv_mwp": (0, 2), "flexible_load_mw": (0, 0.6),
        "flexible_load_max_factor": (1, 3), "backlog_max_mwh": (0, 1.5), "battery_mw": (0, 1.5),
        "battery_mwh": (0.2, 3), "battery_min_soc": (0, 0.3), "battery_initial_soc": (0.3, 0.9),
        "battery_eff_charge": (0.8, 1), "battery_eff_discharge": (0.8, 1),
        "electrolyser_mw": (0.5, 1.2), "electrolyser_eff": (0.5, 0.8), "fuel_cell_h2_mw": (0, 0.5),
        "fuel_cell_eff": (0.3, 0.6), "h2_store_mwh": (0.5, 3), "h2_initial_fill": (0.2, 0.9),
        "h2_offtake_mw": (0, 0.2), "generator_mw": (0, 0.5),
        "generator_cost_eur_per_mwh": (80, 200), "base_tariff_eur_per_mwh": (10, 30),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        table[name] = rng.uniform(low, high, count)
    table["feeder"] = "feeder"
    table["demand_profile"], table["pv_profile"] = "demand", "pv"
    buy = rng.uniform(30, 140, hours)
    profiles = pd.DataFrame(
        {
            "hour": np.arange(hours),
            "buy_eur_per_mwh": buy,
            "sell_eur_per_mwh": buy - rng.uniform(3, 15, hours),
            "demand": rng.uniform(0.4, 1, hours),
            "pv": rng.uniform(0, 1, hours),
        }
    )
    costs = pd.DataFrame({"variable": list(VARIABLES)})
    linear = {"p_ch": 4, "p_dis": 4, "a": 1.5, "c_pv": 5, "p_el": 3, "h_fc": 6}
    costs["linear_eur_per_mwh"] = costs["variable"].map(linear).fillna(0.0)
    costs["quadratic_eur_per_mwh_per_mw"] = 4.0
    return Hubs(table, profiles, costs)


def random_grid(rng: np.random.Generator, hubs: Hubs, level: float) -> HubGrid:
    """Tree of lines over the hubs, limited below what they load it with alone."""
    count = len(hubs)
    factor = np.vstack([np.ones(count), rng.random((2, count)) < 0.5, np.eye(count)]).astype(float)
    factor = factor[factor.any(axis=1)]
    rows = [f"line {k + 1}" for k in range(len(factor))]
    background = rng.uniform(0, 1, (len(rows), hubs.hours))
    grid = HubGrid(rows, csr_array(factor), background, np.full(len(rows), np.inf), np.inf, np.inf)
    return limited(hubs, grid, level)
