"""The printed models of methods A and B, held against the arrays and against the tables."""

from dataclasses import replace

import clarabel
import numpy as np
import pyomo.environ as pyo
import pytest
from hub_cases import random_grid, random_hubs
from scipy.sparse import csc_array, eye_array, vstack

from flexlib import (
    DataError,
    centralised,
    hub_instances,
    no_pricing,
    printed_centralised,
    printed_hubs,
    solve,
)
from flexlib.hub_followers import followers
from flexlib.hub_model import least_cost_at, schedule_of
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import VARIABLES
from flexlib.tariffs import no_tariff

CASES = [(1, 6, 0.5), (2, 6, 0.6), (3, 6, 0.5), (1, 12, 0.6), (3, 24, 0.6), (3, 24, 0.5)]
STORES = ("battery", "backlog", "hydrogen")


def both_stages(hubs, grid):
    """Optimal values of stage 1 and stage 2 by the printed model, and its schedules."""
    m = printed_centralised(hubs, grid)
    first = solve(m).objective
    second = solve(least_cost_at(m, first + 1e-9 * max(1.0, first))).objective
    return first, second, schedule_of(m)


def random_case(seed):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, count=int(rng.integers(1, 4)), hours=int(rng.integers(2, 7)))
    grid = random_grid(rng, hubs, float(rng.uniform(0.4, 0.8)))
    return hubs, replace(grid, substation_weight=float(rng.uniform(0.5, 2)))


def assert_equal_routes(hubs, grid):
    a = no_pricing(hubs)
    assert solve(printed_hubs(hubs)).objective == pytest.approx(a.pays_eur.sum(), rel=1e-8)
    b = centralised(hubs, grid)
    first, second, x = both_stages(hubs, grid)
    assert first == pytest.approx(b.congestion_mwh, rel=1e-7, abs=1e-7)
    cost = b.schedule.cost_eur.sum()
    assert second == pytest.approx(cost, rel=1e-6, abs=1e-5)
    w = x[:, :, VARIABLES.index("m_in")] - x[:, :, VARIABLES.index("m_out")]
    assert grid.congestion_mwh(w) == pytest.approx(first, rel=1e-6, abs=1e-6)
    return first


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_arrays_on_the_reference(case):
    assert_equal_routes(*hub_instances.reference(*case))


def test_equals_the_arrays_on_random_instances():
    congestion = [assert_equal_routes(*random_case(seed)) for seed in range(40)]
    assert 5 < np.count_nonzero(np.array(congestion) > 1e-6) < 40  # some can be cleared, some not


def clarabel_minimum(own):
    """Minimum of a linear programme by the interior-point method of Clarabel."""
    eye = eye_array(len(own.c))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    found = clarabel.DefaultSolver(
        csc_array((len(own.c), len(own.c))),
        own.c,
        csc_array(vstack([own.a, eye, -eye])),
        np.concatenate([own.row_lower, own.upper, -own.lower]),
        [clarabel.ZeroConeT(own.a.shape[0]), clarabel.NonnegativeConeT(2 * len(own.c))],
        settings,
    ).solve()
    assert found.status == clarabel.SolverStatus.Solved
    return found.obj_val


@pytest.mark.parametrize("seed", range(10))
def test_every_hub_alone_costs_as_much_by_a_second_solver(seed):
    hubs, _ = random_case(seed)
    answer = no_pricing(hubs)
    for i in range(len(hubs)):
        one = hubs.only(slice(i, i + 1))
        own = followers(HubProgramme(one), no_tariff(1, hubs.hours))
        assert clarabel_minimum(own) == pytest.approx(answer.pays_eur[i], rel=1e-6, abs=1e-5)
        printed = solve(printed_hubs(one)).objective
        assert printed == pytest.approx(answer.pays_eur[i], rel=1e-8, abs=1e-7)


def residuals(hubs, x):
    """Each equation of a hub evaluated from the tables, by neither of the two routes."""
    v = {name: x[:, :, k] for k, name in enumerate(VARIABLES)}
    t = {name: hubs.table[name].to_numpy()[:, None] for name in hubs.table.select_dtypes("number")}
    demand = t["demand_peak_mw"] * np.array(
        [hubs.profiles[name].to_numpy() for name in hubs.table["demand_profile"]]
    )
    pv = t["pv_mwp"] * np.array(
        [hubs.profiles[name].to_numpy() for name in hubs.table["pv_profile"]]
    )
    supply = v["m_in"] + v["p_dis"] + v["g"] + t["fuel_cell_eff"] * v["h_fc"] + pv - v["c_pv"]
    taken = v["m_out"] + v["p_ch"] + v["p_el"] + v["u"] + demand
    e0 = t["battery_initial_soc"] * t["battery_mwh"]
    h0 = t["h2_initial_fill"] * t["h2_store_mwh"]
    gained = {
        "e": t["battery_eff_charge"] * v["p_ch"] - v["p_dis"] / t["battery_eff_discharge"],
        "a": t["flexible_load_mw"] - v["u"],
        "h": t["electrolyser_eff"] * v["p_el"] - v["h_fc"] - t["h2_offtake_mw"],
    }
    held = {name: np.cumsum(gained[name], axis=1) for name in gained}
    served = t["flexible_load_max_factor"] * t["flexible_load_mw"]
    most = {
        "u": served, "p_ch": t["battery_mw"], "p_dis": t["battery_mw"], "e": t["battery_mwh"],
        "a": t["backlog_max_mwh"], "c_pv": pv, "g": t["generator_mw"], "p_el": t["electrolyser_mw"],
        "h_fc": t["fuel_cell_h2_mw"], "h": t["h2_store_mwh"],
    }  # fmt: skip
    broken = {
        "balance": np.abs(supply - taken).max(),
        "battery": np.abs(v["e"] - e0 - held["e"]).max(),
        "backlog": np.abs(v["a"] - held["a"]).max(),
        "hydrogen": np.abs(v["h"] - h0 - held["h"]).max(),
        "least": -x.min(),
        "most": max((v[name] - limit).max() for name, limit in most.items()),
        "lowest content": (t["battery_min_soc"] * t["battery_mwh"] - v["e"]).max(),
        "battery at the end": (e0[:, 0] - v["e"][:, -1]).max(),
        "hydrogen at the end": (h0[:, 0] - v["h"][:, -1]).max(),
        "backlog at the end": np.abs(v["a"][:, -1]).max(),
    }
    own = hubs.costs.set_index("variable")["linear_eur_per_mwh"]
    buy = hubs.profiles["buy_eur_per_mwh"].to_numpy() + t["base_tariff_eur_per_mwh"]
    cost = (buy * v["m_in"] - hubs.profiles["sell_eur_per_mwh"].to_numpy() * v["m_out"]).sum()
    cost += (t["generator_cost_eur_per_mwh"] * v["g"]).sum()
    return broken, cost + sum(own[name] * v[name].sum() for name in VARIABLES)


@pytest.mark.parametrize("method", ["A", "B", "B, printed"])
@pytest.mark.parametrize("case", [*CASES, "random 3", "random 7"], ids=str)
def test_every_equation_holds_at_the_solution_evaluated_from_the_tables(case, method):
    if isinstance(case, str):
        hubs, grid = random_case(int(case.split()[1]))
    else:
        hubs, grid = hub_instances.reference(*case)
    if method == "B, printed":
        _, expected, x = both_stages(hubs, grid)
    else:
        schedule = (no_pricing(hubs) if method == "A" else centralised(hubs, grid)).schedule
        x, expected = schedule.x.reshape(schedule.programme.shape), schedule.cost_eur.sum()
    broken, cost = residuals(hubs, x)
    for equation, residual in broken.items():
        assert residual < 1e-6, equation
    assert cost == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_flows_and_overloads_hold_at_the_solution_evaluated_from_the_tables():
    hubs, grid = hub_instances.reference(3, 24, 0.5)
    m = printed_centralised(hubs, grid)
    least = solve(m).objective
    x = schedule_of(m)
    w = x[:, :, 0] - x[:, :, 1]
    # line 1 carries all hubs and line 2 the first two, each beside its background
    shape = hubs.profiles["background"].to_numpy()
    flow = {0: -(3.0 * shape + w.sum(axis=0)), 1: -(1.8 * shape + w[0] + w[1])}
    for k, expected in flow.items():
        found = [pyo.value(m.f[k, t]) for t in m.T]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose([pyo.value(m.S[t]) for t in m.T], w.sum(axis=0), atol=1e-9)
    f = np.array([[pyo.value(m.f[k, t]) for t in m.T] for k in m.L])
    line = np.maximum(np.abs(f) - grid.limit_mw[:, None], 0.0)
    sub = np.maximum(w.sum(axis=0) - grid.import_mw, 0) + np.maximum(
        -w.sum(axis=0) - grid.export_mw, 0
    )
    z = np.array([[m.z_plus[k, t].value + m.z_minus[k, t].value for t in m.T] for k in m.L])
    np.testing.assert_allclose(z, line, atol=1e-6)
    np.testing.assert_allclose([m.y[t].value for t in m.T], sub, atol=1e-6)
    assert least == pytest.approx(line.sum() + sub.sum(), abs=1e-6)
    assert least > 0.3


def test_model_is_nothing_but_its_equations():
    hubs, grid = hub_instances.reference(2, 6, 0.6)
    parts = (pyo.Constraint, pyo.Objective)
    m = printed_hubs(hubs)
    assert {c.local_name for c in m.component_objects(pyo.Var)} == set(VARIABLES)
    assert {c.local_name for c in m.component_objects(parts)} == {"balance", *STORES, "own_cost"}
    m = printed_centralised(hubs, grid)
    added = {c.local_name for c in m.component_objects(parts)} - {"balance", *STORES, "own_cost"}
    rows = {f"overload_{way}" for way in ("plus", "minus", "import", "export")}
    assert added == {*rows, "congestion"}
    assert len(m.balance) == len(m.hydrogen) == 12
    assert len(m.overload_plus) == 6 * len(grid.lines)
    assert len(m.overload_import) == 6


def test_rows_without_a_limit_are_left_out():
    hubs, grid = hub_instances.reference(2, 6, 0.6)
    limit = grid.limit_mw.copy()
    limit[0] = np.inf
    free = replace(grid, limit_mw=limit, export_mw=np.inf)
    m = printed_centralised(hubs, free)
    assert len(m.overload_plus) == len(m.overload_minus) == 6 * (len(grid.lines) - 1)
    assert len(m.overload_export) == 0
    assert solve(m).objective == pytest.approx(centralised(hubs, free).congestion_mwh, abs=1e-7)


def missed(constraint):
    """Largest amount by which the rows of a constraint are missed."""
    rows = list(constraint.values())
    below = [pyo.value(r.lower) - pyo.value(r.body) for r in rows if r.has_lb()]
    above = [pyo.value(r.body) - pyo.value(r.upper) for r in rows if r.has_ub()]
    return max(below + above)


@pytest.mark.parametrize(
    ("constraint", "variable", "change"),
    [
        ("balance", "m_in", 0.1), ("balance", "g", 0.1), ("battery", "e", 0.1),
        ("battery", "p_dis", 0.1), ("backlog", "u", 0.1), ("hydrogen", "h_fc", 0.1),
        ("overload_minus", "m_in", 9.0), ("overload_plus", "m_out", 19.0),
        ("overload_import", "m_in", 9.0), ("overload_export", "m_out", 9.0),
    ],
)  # fmt: skip
def test_every_constraint_rejects_what_breaks_it(constraint, variable, change):
    hubs, grid = hub_instances.reference(2, 6, 0.6)
    m = printed_centralised(hubs, grid)
    solve(m)
    assert missed(getattr(m, constraint)) < 1e-6
    at = getattr(m, variable)[1, 2]
    at.set_value(at.value + change, skip_validation=True)
    assert missed(getattr(m, constraint)) > 0.05


def test_grid_for_other_hubs_is_refused():
    hubs, _ = hub_instances.reference(2, 6, 0.6)
    _, other = hub_instances.reference(3, 6, 0.6)
    with pytest.raises(DataError, match="3 hubs"):
        printed_centralised(hubs, other)
