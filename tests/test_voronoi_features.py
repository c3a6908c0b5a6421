"""What bids can be beyond a volume and a price, each against a second route.

The second routes take the numbers of the light model and write the programme again: scipy's
linprog for every pattern of bids that are on, cvxpy for complex currents, SLSQP on AC power flows.
"""

from itertools import product

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog, minimize

import flexlib as fx
from flexlib.voronoi_points import merit_order


@pytest.fixture(scope="module")
def grid():
    """Feeder of 0.4 kV with a branch: station-a-b-c, a-d; PV at c, loads elsewhere."""
    buses = pd.DataFrame({"bus": ["station", "a", "b", "c", "d"], "v_nom_kv": 0.4})
    buses["v_slack_pu"] = [1.0, None, None, None, None]
    buses[["v_min_pu", "v_max_pu"]] = [0.96, 1.04]
    lines = pd.DataFrame({"branch": ["s-a", "a-b", "b-c", "a-d"]})
    lines[["from_bus", "to_bus"]] = [["station", "a"], ["a", "b"], ["b", "c"], ["a", "d"]]
    lines["r_ohm"], lines["x_ohm"] = [0.02, 0.03, 0.04, 0.05], [0.015, 0.02, 0.02, 0.02]
    lines["i_max_from_a"] = lines["i_max_to_a"] = [150.0, 120.0, 70.0, 60.0]
    loads = pd.DataFrame({"load": ["A", "B", "C", "D"], "bus": list("abcd")})
    loads["p_kw"], loads["q_kvar"] = [20.0, 15.0, -20.0, 12.0], [8.0, 5.0, 0.0, 5.0]
    return fx.Network(buses, lines, loads, name="five buses")


def bids_at(grid, buses="bccdd", **columns):
    """Bids at the given buses; upward 30 kW at 50 to 90 EUR/MWh unless told otherwise."""
    n = len(buses)
    table = {"bid": [f"{bus}{k}" for k, bus in enumerate(buses)]}
    table |= {"up_max_kw": 30.0, "price_up_eur_per_mwh": [90.0, 50.0, 55.0, 60.0, 70.0][:n]}
    bids = fx.Bids(pd.DataFrame(table | columns))
    return fx.Connected(grid, bids, pd.DataFrame({"bid": table["bid"], "bus": list(buses)}))


def linear_rows(model, cell):
    """Rows of (14d) to (14h) as printed, ``a z <= b``, written from (7), (8) and (9)."""
    p = model.point[cell]
    v0, l0 = model.v_pu[cell], model.loading_percent[cell]
    a = [model.vtdf[cell], -model.vtdf[cell], model.ltdf[cell], -model.ltdf[cell]]
    room = [model.v_max_pu - v0, v0 - model.v_min_pu, 100 - l0, 100 + l0]
    b = [r + d @ p for r, d in zip(room, a, strict=True)]
    for q in np.delete(model.point, cell, axis=0):  # |z - p|^2 <= |z - q|^2
        a.append(2 * (q - p)[None])
        b.append(np.array([q @ q - p @ p]))
    return np.vstack(a), np.concatenate(b)


def best_by_linprog(model, bids, request_kw):
    """Cheapest activation as printed: every cell, every pattern of bids up, down or off."""
    axes, best = bids.axes, (np.inf, None)
    options = [
        [(0.0, 0.0, 0.0)]
        + [(lo, up, price) for lo, up, price in (
            (a.min_up, a.upper, a.price_up), (a.lower, -a.min_down, -a.price_down)
        ) if up > lo or (up == lo != 0)]
        for a in axes.itertuples()
    ]  # fmt: skip
    for cell in range(len(model.point)):
        a_ub, b_ub = linear_rows(model, cell)
        for pattern in product(*options):
            lower, upper, price = np.array(pattern).T
            total = axes["active"].to_numpy(float)
            if not lower @ total - 1e-9 <= request_kw <= upper @ total + 1e-9:
                continue
            bounds = np.column_stack([lower, upper])
            found = linprog(price, a_ub, b_ub, total[None], [request_kw], bounds)
            if found.status == 0 and found.fun < best[0]:
                best = found.fun, found.x
    return best


def best_by_cvxpy(model, bids, request_kw):
    """Cheapest activation with magnitudes of complex currents, one point, divisible bids."""
    axes, p = bids.axes, model.point[0]
    up, down = cp.Variable(len(axes), nonneg=True), cp.Variable(len(axes), nonneg=True)
    z = up - down
    v = model.v_pu[0] + model.vtdf[0] @ (z - p)
    i = [
        part(model.i_percent[0]) + part(model.di_percent[0]) @ (z - p)
        for part in (np.real, np.imag)
    ]
    rows = [up <= bids.upper, down <= -bids.lower, cp.norm(cp.vstack(i), axis=0) <= 100]
    rows += [100 * v <= 100 * model.v_max_pu, 100 * v >= 100 * model.v_min_pu]
    rows += [cp.sum(z[np.flatnonzero(bids.active)]) == request_kw]
    cost = axes["price_up"].to_numpy() @ up + axes["price_down"].to_numpy() @ down
    problem = cp.Problem(cp.Minimize(cost), rows)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return problem.value


LEAST = {
    "least activations": {"min_up_kw": [10.0, 12.0, 15.0, 20.0, 8.0]},
    "blocks": {"min_up_kw": [0.0, 30.0, 30.0, 0.0, 30.0]},
    "both ways": {
        "min_up_kw": [5.0, 25.0, 30.0, 0.0, 9.0],
        "down_max_kw": [10.0, 20.0, 0.0, 15.0, 0.0],
        "min_down_kw": [10.0, 12.0, 0.0, 3.0, 0.0],
        "price_down_eur_per_mwh": [-40.0, 10.0, 0.0, -60.0, 0.0],
    },
}


@pytest.mark.parametrize("case", LEAST)
@pytest.mark.parametrize("request_kw", [31.0, 62.0])
@pytest.mark.parametrize("shares", [(0.4,), (0.0, 0.5, 1.0)])
def test_least_activations_and_blocks_are_those_of_all_patterns(grid, case, request_kw, shares):
    connected = bids_at(grid, **LEAST[case])
    bids = connected.bids
    model = fx.linearise(connected, np.outer(shares, bids.upper))
    cost, z = best_by_linprog(model, bids, request_kw)
    if z is None:
        with pytest.raises(fx.Infeasible):
            fx.activate(model, bids, request_kw, printed=True)
        return
    found = fx.activate(model, bids, request_kw, printed=True)
    found.certificate.assert_ok()
    assert found.cost_eur_per_h == pytest.approx(cost, rel=2e-6, abs=1e-6)


def test_least_activations_change_the_answer(grid):
    """Else the tests above would say nothing."""
    costs, partial = {}, {}
    for name, columns in {"divisible": {}, **LEAST}.items():
        connected = bids_at(grid, **columns)
        bids = connected.bids
        model = fx.linearise(connected, 0.4 * bids.upper[None])
        found = fx.activate(model, bids, 47.0, printed=True)
        costs[name] = found.cost_eur_per_h
        least = bids.axes["min_up"].to_numpy()
        partial[name] = (found.z > 1e-6) & (found.z < least - 1e-6)
        assert not partial[name].any()
    assert costs["least activations"] > costs["divisible"] + 1e-3
    assert costs["blocks"] > costs["divisible"] + 1e-3
    assert costs["both ways"] < costs["blocks"]


ASYMMETRIC = {
    "up_max_kw": [30.0, 20.0, 0.0, 12.0, 25.0],
    "down_max_kw": [5.0, 40.0, 30.0, 0.0, 18.0],
    "price_up_eur_per_mwh": [90.0, 60.0, None, -20.0, 45.0],
    "price_down_eur_per_mwh": [30.0, -40.0, 15.0, None, -45.0],
}


@pytest.mark.parametrize("request_kw", [-60.0, -20.0, 0.0, 25.0, 50.0])
def test_asymmetric_bids_are_those_of_an_independent_programme(grid, request_kw):
    connected = bids_at(grid, **ASYMMETRIC)
    bids = connected.bids
    model = fx.linearise(connected, 0.1 * (bids.upper + bids.lower)[None])
    cost, _ = best_by_linprog(model, bids, request_kw)
    printed = fx.activate(model, bids, request_kw, printed=True)
    complex_ = fx.activate(model, bids, request_kw)
    for found in (printed, complex_):
        found.certificate.assert_ok()
    assert printed.cost_eur_per_h == pytest.approx(cost, abs=1e-7)
    other = best_by_cvxpy(model, bids, request_kw)
    assert complex_.cost_eur_per_h == pytest.approx(other, abs=1e-5)


def test_each_direction_has_its_own_price(grid):
    bids = bids_at(grid, **ASYMMETRIC).bids
    z = np.array([10.0, -30.0, 0.0, 12.0, -18.0])
    by_hand = 10 * 0.09 + 30 * -0.04 + 12 * -0.02 + 18 * -0.045
    assert bids.cost_eur_per_h(z) == pytest.approx(by_hand, abs=1e-12)


def test_negative_prices_can_make_a_request_of_nothing_pay(grid):
    """Bidders that pay are activated against each other: d3 up pays, d4 down pays."""
    connected = bids_at(grid, **ASYMMETRIC)
    model = fx.linearise(connected, np.zeros((1, 5)))
    found = fx.activate(model, connected.bids, 0.0)
    found.certificate.assert_ok()
    assert found.cost_eur_per_h < -0.5
    assert found.z[3] == pytest.approx(12)
    assert found.z[4] < -6


@pytest.mark.parametrize(
    ("up", "down", "pumps"), [(-20, 10, True), (-20, 20, False), (40, -41, True)]
)
def test_a_pair_of_prices_that_pays_for_both_directions_is_refused(grid, up, down, pumps):
    columns = {"price_up_eur_per_mwh": up, "price_down_eur_per_mwh": down, "down_max_kw": 5.0}
    if pumps:
        with pytest.raises(fx.DataError, match=f"at least {-up}.*pays for both directions"):
            bids_at(grid, "c", **columns)
    else:
        bids_at(grid, "c", **columns)


def test_a_pump_of_one_way_bids_is_no_pump(grid):
    """Volume in one direction only: nothing to be paid for twice."""
    bids_at(grid, "c", price_up_eur_per_mwh=-20.0, price_down_eur_per_mwh=10.0)


@pytest.mark.parametrize("price", [0.0, 0.05, 8.0])
def test_free_reactive_power_is_that_of_an_independent_programme(grid, price):
    connected = bids_at(grid, q_max_kvar=[0.0, 20.0, 20.0, 0.0, 15.0], price_q_eur_per_mvarh=price)
    bids = connected.bids
    assert bids.active.tolist() == [True, True, False, True, False, True, True, False]
    model = fx.linearise(connected, 0.3 * merit_order(bids, np.array([60.0])))
    found = fx.activate(model, bids, 60.0)
    found.certificate.assert_ok()
    assert found.cost_eur_per_h == pytest.approx(best_by_cvxpy(model, bids, 60.0), abs=1e-5)


def test_reactive_power_is_bought_while_it_is_worth_it(grid):
    """At no price it saves most, at a high price none is taken and the cost is that without."""
    costs, kvar = [], []
    for price in (0.0, 0.05, 8.0):
        connected = bids_at(grid, q_max_kvar=20.0, price_q_eur_per_mvarh=price)
        point = merit_order(connected.bids, np.array([60.0]))
        found = fx.activate(fx.linearise(connected, point), connected.bids, 60.0)
        costs.append(found.cost_eur_per_h)
        kvar.append(np.abs(found.z[~connected.bids.active]).sum())
    point = merit_order(bids_at(grid).bids, np.array([60.0]))
    model = fx.linearise(bids_at(grid), point)
    without = fx.activate(model, bids_at(grid).bids, 60.0).cost_eur_per_h
    assert costs == sorted(costs)
    assert costs[0] < without - 5e-3
    assert kvar == sorted(kvar, reverse=True)
    assert kvar[1] > 0.1
    assert kvar[-1] < 1e-6
    assert costs[-1] == pytest.approx(without, abs=1e-6)


def by_slsqp(connected, request_kw, start):
    """Local optimum of the AC problem, by power flows and finite differences alone."""
    bids, grid = connected.bids, connected.network
    n = len(bids.axes)

    i_max_a = grid.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()
    step = 1e-3

    def limits(x):
        x = np.atleast_2d(x)
        flow = fx.power_flow(connected.activated, connected.loads_kva(x[:, :n] - x[:, n:]))
        v, loading = np.abs(flow.v_pu[:, 1:]), np.abs(flow.i_a) / i_max_a
        return np.hstack([10 * (1.04 - v), 10 * (v - 0.96), 1 - loading])

    def slopes(x):
        both = [limits(x + way * step * np.eye(2 * n)) for way in (1, -1)]
        return (both[0] - both[1]).T / (2 * step)

    price = np.concatenate([bids.axes["price_up"], bids.axes["price_down"]])
    total = np.tile(bids.active.astype(float), 2) * np.repeat([1, -1], n)
    found = minimize(
        lambda x: price @ x,
        np.concatenate([np.maximum(start, 0), np.maximum(-start, 0)]),
        jac=lambda x: price,
        bounds=[(0, b) for b in (*bids.upper, *-bids.lower)],
        constraints=[
            {"type": "ineq", "fun": lambda x: limits(x)[0], "jac": slopes},
            {"type": "eq", "fun": lambda x: total @ x - request_kw, "jac": lambda x: total},
        ],
        method="SLSQP",
        options={"ftol": 1e-10, "maxiter": 300},
    )
    assert found.success
    assert limits(found.x).min() > -1e-6
    return found.fun


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"kvar_per_kw": 0.3},
        {"kvar_per_kw": -0.3},
        {"q_max_kvar": [0.0, 20.0, 20.0, 0.0, 15.0], "price_q_eur_per_mvarh": 8.0},
        ASYMMETRIC,
    ],
    ids=["plain", "injects kvar", "absorbs kvar", "free kvar", "asymmetric"],
)
def test_relinearised_is_the_optimum_that_power_flows_alone_find(grid, columns):
    connected = bids_at(grid, **columns)
    request_kw = 35.0 if columns is ASYMMETRIC else 60.0
    r = fx.relinearised(connected, request_kw)
    r.comparison.certificate.assert_ok()
    start = merit_order(connected.bids, np.array([request_kw]))[0]
    other = by_slsqp(connected, request_kw, start)
    assert r.activation.cost_eur_per_h == pytest.approx(other, abs=2e-5)


def test_printed_loadings_never_cost_more_and_break_complex_limits_here(grid):
    """A magnitude lies above its tangents: what the printed row admits can exceed the limit."""
    columns = {"up_max_kw": 90.0, "price_up_eur_per_mwh": [50.0, 90.0], "kvar_per_kw": 0.5}
    connected = bids_at(grid, "cd", **columns)
    bids, request_kw = connected.bids, 60.0
    model = fx.linearise(connected, np.zeros((1, 2)))
    printed = fx.activate(model, bids, request_kw, printed=True)
    complex_ = fx.activate(model, bids, request_kw)
    assert printed.cost_eur_per_h < complex_.cost_eur_per_h - 1e-3
    excess = np.abs(model.currents_percent(0, printed.z)).max() - 100
    assert excess > 0.1
    assert np.abs(model.currents_percent(0, complex_.z)).max() <= 100 + 1e-6
    assert best_by_linprog(model, bids, request_kw)[0] == pytest.approx(printed.cost_eur_per_h)
    assert best_by_cvxpy(model, bids, request_kw) == pytest.approx(
        complex_.cost_eur_per_h, abs=1e-6
    )


def test_activation_with_ignored_reactive_power_is_refused_by_ac(grid):
    """The light model is made without the bids' kvar; the AC gate sees them."""
    without = fx.relinearised(bids_at(grid), 60.0).activation
    truth = bids_at(grid, kvar_per_kw=0.4)
    compared = fx.Comparison(truth, without)
    assert compared.v_mae_pu > 1e-3
    assert not compared.certificate.ok
