"""Methods A and B of energy hubs, written with what others would use: linopy, cvxpy, Pyomo.

Every side builds the same linear programmes from the tables of hubs and grid and hands them to
HiGHS with one thread, the tolerances of `flexlib.solver` and its choice of method. It returns the
hubs' cost (method A), or the congestion of stage 1 and the cost of stage 2 (method B).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
from pyomo.contrib.solver.solvers.highs import Highs
from pyomo.environ import ConcreteModel

from benchmarks.peers import INSTALL
from flexlib.centralised import centralised
from flexlib.hub_followers import no_pricing
from flexlib.hub_grid import HubGrid
from flexlib.hub_model import least_cost_at, printed_centralised, printed_hubs
from flexlib.hubs import VARIABLES, Hubs

OPTIONS: dict[str, Any] = {
    "threads": 1,
    "random_seed": 0,
    "primal_feasibility_tolerance": 1e-9,
    "dual_feasibility_tolerance": 1e-9,
}
_LARGE = 100_000  # columns from which `flexlib.solver` takes the interior-point method first
_SLACK = 1e-9  # of stage 1 that stage 2 may give up, as in `flexlib.centralised`


def ours(hubs: Hubs, grid: HubGrid | None = None) -> np.ndarray:
    """Return cost of method A; with a grid, congestion and cost of method B."""
    if grid is None:
        return np.array([no_pricing(hubs).schedule.cost_eur.sum()])
    found = centralised(hubs, grid)
    return np.array([found.congestion_mwh, found.schedule.cost_eur.sum()])


def options(hubs: Hubs, grid: HubGrid | None) -> dict[str, Any]:
    """Options of HiGHS, for the size of the programme."""
    rows = 0 if grid is None else len(grid.names)
    columns = hubs.hours * (len(VARIABLES) * len(hubs) + 2 * rows)
    return {**OPTIONS, "solver": "ipm" if columns > _LARGE else "choose"}


def kept(congestion_mwh: float) -> float:
    """Congestion that stage 2 may have."""
    least = max(congestion_mwh, 0.0)
    return least + _SLACK * max(1.0, least)


def bounds(hubs: Hubs) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Bounds of each variable, shapes (hubs, hours)."""
    shape = len(hubs), hubs.hours
    last = np.arange(hubs.hours) == hubs.hours - 1
    t = {name: column(hubs, name) for name in hubs.table.select_dtypes("number")}
    taken, given = hubs.connection_mw.transpose(1, 0, 2)
    battery = np.where(last, t["battery_initial_soc"], t["battery_min_soc"]) * t["battery_mwh"]
    hydrogen = np.where(last, t["h2_initial_fill"] * t["h2_store_mwh"], 0.0)
    upper = {
        "m_in": taken,
        "m_out": given,
        "u": t["flexible_load_mw"] * t["flexible_load_max_factor"],
        "p_ch": t["battery_mw"],
        "p_dis": t["battery_mw"],
        "e": t["battery_mwh"],
        "a": np.where(last, 0.0, t["backlog_max_mwh"]),
        "c_pv": hubs.pv_mw,
        "g": t["generator_mw"],
        "p_el": t["electrolyser_mw"],
        "h_fc": t["fuel_cell_h2_mw"],
        "h": t["h2_store_mwh"],
    }
    lower = dict.fromkeys(VARIABLES, 0.0) | {"e": battery, "h": hydrogen}
    return {
        name: (np.broadcast_to(lower[name], shape), np.broadcast_to(upper[name], shape))
        for name in VARIABLES
    }


def costs(hubs: Hubs) -> dict[str, np.ndarray]:
    """Cost of one unit of each variable that has one, shapes (hubs, hours)."""
    own = hubs.costs.set_index("variable")["linear_eur_per_mwh"]
    cost = {name: np.full((len(hubs), hubs.hours), own[name]) for name in VARIABLES}
    cost["m_in"] += hubs.buy_eur_per_mwh
    cost["m_out"] -= hubs.sell_eur_per_mwh
    cost["g"] += column(hubs, "generator_cost_eur_per_mwh")
    return {name: values for name, values in cost.items() if values.any()}


def stores(hubs: Hubs, x: dict[str, Any], times: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """What leaves each store, what it starts with and what comes in each hour, (hubs, hours).

    Parameters
    ----------
    hubs : Hubs
    x : dict
        Variables of a side, by name.
    times : callable
        Product of values of shape (hubs, 1) and a variable, entry by entry.
    """
    t = {name: column(hubs, name) for name in hubs.table.select_dtypes("number")}
    discharged = times(1 / t["battery_eff_discharge"], x["p_dis"])
    first = np.arange(hubs.hours) == 0
    charge, fill = t["battery_initial_soc"] * t["battery_mwh"], t["h2_initial_fill"]
    return {
        "e": (discharged - times(t["battery_eff_charge"], x["p_ch"]), first * charge),
        "a": (x["u"], np.repeat(t["flexible_load_mw"], hubs.hours, axis=1)),
        "h": (
            x["h_fc"] - times(t["electrolyser_eff"], x["p_el"]),
            first * fill * t["h2_store_mwh"] - t["h2_offtake_mw"],
        ),
    }


def column(hubs: Hubs, name: str) -> np.ndarray:
    """Return a column of the hubs' table, shape (hubs, 1)."""
    return hubs.table[name].to_numpy()[:, None]


def by_linopy(hubs: Hubs, grid: HubGrid | None = None) -> np.ndarray:
    """Both methods with linopy: sparse, without names, handed to HiGHS without a file.

    Raises
    ------
    ModuleNotFoundError
        If linopy is not installed; with the command that installs it.
    """
    try:
        import linopy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"linopy is not installed: {INSTALL}") from error
    linopy.options["semantics"] = "v1"
    model = linopy.Model(sparse=True)
    way = {"solver_name": "highs", "io_api": "direct", "output_flag": False}
    way |= options(hubs, grid)
    x, cost = _linopy_hubs(model, hubs)
    if grid is None:
        model.add_objective(cost)
        model.solve(**way)
        return np.array([model.objective.value])
    congestion = _linopy_congestion(model, x, grid)
    model.add_objective(congestion)
    model.solve(**way)
    least = model.objective.value
    model.add_constraints(congestion <= kept(least))
    model.add_objective(cost, overwrite=True)
    model.solve(**way)
    return np.array([least, model.objective.value])


def _linopy_hubs(model: Any, hubs: Hubs) -> tuple[dict[str, Any], Any]:
    """Variables and equations of the hubs; the variables, and their cost."""
    from xarray import DataArray

    places = {"hub": np.arange(len(hubs)), "hour": np.arange(hubs.hours)}

    def table(values: np.ndarray) -> DataArray:
        whole = np.broadcast_to(values, (len(hubs), hubs.hours))
        return DataArray(whole, dims=tuple(places), coords=places)

    def times(values: np.ndarray, variable: Any) -> Any:
        return table(values) * variable

    x = {
        name: model.add_variables(table(lower), table(upper), name=name)
        for name, (lower, upper) in bounds(hubs).items()
    }
    balance = x["m_in"] - x["m_out"] + x["p_dis"] - x["p_ch"] + x["g"] - x["p_el"] - x["u"]
    balance = balance - x["c_pv"] + times(column(hubs, "fuel_cell_eff"), x["h_fc"])
    model.add_constraints(balance == table(hubs.demand_mw - hubs.pv_mw))
    first, later = {"hour": [0]}, {"hour": slice(1, None)}
    for name, (leaves, comes) in stores(hubs, x, times).items():
        change, comes = x[name] + leaves, table(comes)
        before = x[name].isel(hour=slice(0, -1)).assign_coords(hour=places["hour"][1:])
        model.add_constraints(change.isel(first) == comes.isel(first))
        model.add_constraints(change.isel(later) - before == comes.isel(later))
    return x, sum(times(values, x[name]).sum() for name, values in costs(hubs).items())


def _linopy_congestion(model: Any, x: dict[str, Any], grid: HubGrid) -> Any:
    """Limits of the grid; the weighted overloads."""
    from xarray import DataArray

    rows, hubs = np.arange(len(grid.names)), np.arange(grid.factor.shape[1])
    places = {"row": rows, "hour": np.arange(grid.hours)}

    def table(values: np.ndarray) -> DataArray:
        whole = np.broadcast_to(values, (len(rows), grid.hours))
        return DataArray(whole, dims=tuple(places), coords=places)

    factor = grid.incidence.toarray()
    factor = DataArray(factor, dims=("row", "hub"), coords={"row": rows, "hub": hubs})
    flow = (x["m_in"] - x["m_out"]) @ factor
    over, reverse = (model.add_variables(0.0, coords=places) for _ in range(2))
    upper, lower = grid.upper_mw[:, None], grid.lower_mw[:, None]
    model.add_constraints(flow - over <= table(upper - grid.background))
    model.add_constraints(-flow - reverse <= table(lower + grid.background))
    return ((over + reverse) * table(grid.weight[:, None])).sum()


def by_cvxpy(hubs: Hubs, grid: HubGrid | None = None) -> np.ndarray:
    """Both methods with cvxpy: whole matrices of variables at once, bounds kept as bounds.

    Its default backend, the fastest of the three here.
    """
    shape = len(hubs), hubs.hours
    x = {
        name: cp.Variable(shape, name, bounds=[lower, upper])
        for name, (lower, upper) in bounds(hubs).items()
    }

    def times(values: np.ndarray, variable: cp.Variable) -> cp.Expression:
        return cp.multiply(np.broadcast_to(values, shape), variable)

    def solved(objective: cp.Expression, constraints: list[cp.Constraint]) -> float:
        problem = cp.Problem(cp.Minimize(objective), constraints)
        problem.solve(
            solver=cp.HIGHS, canon_backend=cp.SCIPY_CANON_BACKEND, highs_options=dict(way)
        )
        return float(problem.value)

    balance = x["m_in"] - x["m_out"] + x["p_dis"] - x["p_ch"] + x["g"] - x["p_el"] - x["u"]
    balance = balance - x["c_pv"] + times(column(hubs, "fuel_cell_eff"), x["h_fc"])
    rows = [balance == hubs.demand_mw - hubs.pv_mw]
    for name, (leaves, comes) in stores(hubs, x, times).items():
        change = x[name] + leaves
        rows.append(change[:, :1] == comes[:, :1])
        rows.append(change[:, 1:] - x[name][:, :-1] == comes[:, 1:])
    cost = sum(cp.sum(times(values, x[name])) for name, values in costs(hubs).items())
    way = options(hubs, grid)
    if grid is None:
        return np.array([solved(cost, rows)])
    flow = grid.incidence @ (x["m_in"] - x["m_out"])
    over, reverse = (cp.Variable(grid.background.shape, bounds=[0.0, None]) for _ in range(2))
    rows.append(flow - over <= grid.upper_mw[:, None] - grid.background)
    rows.append(-flow - reverse <= grid.lower_mw[:, None] + grid.background)
    congestion = cp.sum(grid.weight @ (over + reverse))
    least = solved(congestion, rows)
    return np.array([least, solved(cost, [*rows, congestion <= kept(least)])])


def by_pyomo(hubs: Hubs, grid: HubGrid | None = None) -> np.ndarray:
    """Both methods as printed (`flexlib.hub_model`), by Pyomo's own interface to HiGHS.

    Of the solution nothing is loaded.
    """
    way = options(hubs, grid)

    def solved(model: ConcreteModel) -> float:
        result = Highs().solve(model, threads=1, load_solutions=False, solver_options=way)
        return float(result.incumbent_objective)

    if grid is None:
        return np.array([solved(printed_hubs(hubs))])
    model = printed_centralised(hubs, grid)
    least = solved(model)
    return np.array([least, solved(least_cost_at(model, kept(least)))])
