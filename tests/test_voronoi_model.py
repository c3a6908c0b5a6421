"""The printed mixed-integer programme, held against the search through its cells."""

import itertools

import numpy as np
import pandas as pd
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexlib import (
    Bids,
    Connected,
    Infeasible,
    Network,
    activate,
    linearise,
    printed_milp,
    solve,
)
from flexlib.stand_in import stand_in
from flexlib.voronoi_cells import border_excess
from flexlib.voronoi_model import activation
from flexlib.voronoi_points import latin_hypercube, none_half_all


def street(count, i_max_a=(np.nan, np.nan), v_max_pu=1.05):
    """A 0.4 kV street of three buses with bids at the last two by turns."""
    buses = pd.DataFrame({"bus": ["station", "near", "far"], "v_nom_kv": 0.4})
    buses["v_slack_pu"], buses["v_min_pu"] = [1.02, np.nan, np.nan], 0.95
    buses["v_max_pu"] = v_max_pu
    lines = pd.DataFrame({"branch": ["a", "b"], "from_bus": ["station", "near"]})
    lines["to_bus"], lines["r_ohm"], lines["x_ohm"] = ["near", "far"], 0.03, 0.015
    lines["i_max_from_a"] = i_max_a
    loads = pd.DataFrame({"load": ["house"], "bus": ["near"], "p_kw": [10.0], "q_kvar": [3.0]})
    names = [f"bid {k + 1}" for k in range(count)]
    at = list(itertools.islice(itertools.cycle(["near", "far"]), count))
    return Network(buses, lines, loads), pd.DataFrame({"bid": names, "bus": at})


def offered(direction, volume_kw, price):
    table = pd.DataFrame({"bid": [f"bid {k + 1}" for k in range(len(volume_kw))]})
    table[f"{direction}_max_kw"] = volume_kw
    return Bids(table.assign(**{f"price_{direction}_eur_per_mwh": price}))


def instance(direction="up", volumes=(120.0, 120.0), prices=(90.0, 60.0), points=3, seed=1):
    network, sites = street(len(volumes), (200.0, 140.0))
    bids = offered(direction, volumes, prices)
    drawn = latin_hypercube(bids, points, seed, direction)
    return linearise(Connected(network, bids, sites), drawn), bids


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.sampled_from(["up", "down"]),
    st.lists(st.integers(5, 90), min_size=2, max_size=5),
    st.integers(1, 6),
    st.integers(0, 10_000),
    st.floats(0.1, 0.9),
)
def test_equals_the_search_through_the_cells(direction, volumes, points, seed, share):
    prices = np.random.default_rng(seed).uniform(10, 150, len(volumes))
    model, bids = instance(direction, [float(v) for v in volumes], prices, points, seed)
    request_kw = share * sum(volumes) * (1 if direction == "up" else -1)
    m = printed_milp(model, bids, request_kw)
    try:
        fast = activate(model, bids, request_kw, printed=True)
    except Infeasible:
        with pytest.raises(Infeasible):
            solve(m)
        return
    assert solve(m).objective == pytest.approx(fast.cost_eur_per_h, rel=1e-6, abs=1e-6)
    z, cell = activation(m)
    assert bids.cost_eur_per_h(z) == pytest.approx(fast.cost_eur_per_h, rel=1e-6, abs=1e-6)
    assert border_excess(model, cell, z).max() < 1e-6
    assert fast.cell_bound_eur_per_h[cell] <= fast.cost_eur_per_h + 1e-6


def test_equals_the_search_on_the_stand_in():
    case = stand_in("up", 1)
    grid = Connected(case.network, case.bids, case.sites)
    points, range_kw = none_half_all(case.bids, "up"), (case.request_kw,) * 2
    few = linearise(grid, points, request_kw=range_kw, only_binding=True)
    whole = linearise(grid, points)
    assert len(few.bus) < 0.5 * len(whole.bus)
    fast = activate(whole, case.bids, case.request_kw, printed=True)
    m = printed_milp(few, case.bids, case.request_kw)
    assert solve(m).objective == pytest.approx(fast.cost_eur_per_h, rel=1e-7)
    z, cell = activation(m)
    assert cell == fast.cell
    np.testing.assert_allclose(z, fast.z, atol=1e-4)


def values(model, z, cell):
    """Changes and choices that belong to an activation."""
    b = np.arange(len(model.point)) == cell
    return np.where(b[:, None], z - model.point, 0.0), b.astype(float)


def missed(constraint):
    """Largest amount by which the rows of a constraint are missed."""
    rows = list(constraint.values())
    below = [pyo.value(r.lower) - pyo.value(r.body) for r in rows if r.has_lb()]
    above = [pyo.value(r.body) - pyo.value(r.upper) for r in rows if r.has_ub()]
    return max(below + above)


def test_equations_hold_at_the_solution_by_code_apart_from_the_model():
    model, bids = instance()
    m = printed_milp(model, bids, 130.0)
    cost = solve(m).objective
    dp = np.array([[m.dp[i, k].value for k in m.AXES] for i in m.POINTS])
    b = np.array([m.b[i].value for i in m.POINTS])
    flex = model.point
    loading = model.loading_percent + np.einsum("iek,ik->ie", model.ltdf, dp)  # (8)
    v_pu = model.v_pu + np.einsum("ivk,ik->iv", model.vtdf, dp)  # (7)
    chosen, kept = b[:, None], 1 - b[:, None]
    worst = {
        "14b": (chosen * (bids.lower - flex) - dp).max(),
        "14c": (dp - chosen * (bids.upper - flex)).max(),
        "14d": (-100 * chosen + model.loading_percent * kept - loading).max(),
        "14e": (loading - 100 * chosen - model.loading_percent * kept).max(),
        "14f": (model.v_min_pu * chosen + model.v_pu * kept - v_pu).max(),
        "14g": (v_pu - model.v_max_pu * chosen - model.v_pu * kept).max(),
        "14h": max(
            -(flex[i] - flex[j]) @ (flex[i] + dp[i] - (flex[i] + flex[j]) / 2)
            for i, j in itertools.permutations(range(len(flex)), 2)
        ),
        "14i": abs(b.sum() - 1),
        "14j": abs((flex * chosen + dp).sum() - 130.0),
    }
    for equation, violation in worst.items():
        assert violation < 1e-6, equation
    price = bids.axes["price_up"].to_numpy()
    assert cost == pytest.approx(((flex * chosen + dp) @ price).sum(), rel=1e-9)
    assert max(worst[e] for e in ("14e", "14g")) > -1e-6  # a limit binds


def test_model_is_nothing_but_its_equations():
    model, bids = instance()
    m = printed_milp(model, bids, 130.0)
    components = {c.local_name for c in m.component_objects((pyo.Constraint, pyo.Objective))}
    assert components == {f"eq_14{letter}" for letter in "abcdefghij"}
    assert len(m.eq_14h) == 6


@pytest.mark.parametrize("letter", "bcdefghij")
def test_every_constraint_rejects_what_breaks_it(letter):
    """What breaks an equation is refused by the constraint of its name, what breaks none is not."""
    model, bids = instance(points=2)
    m = printed_milp(model, bids, 130.0)
    solve(m)
    assert missed(getattr(m, f"eq_14{letter}")) < 1e-6
    z, cell = activation(m)
    dp, b = values(model, z, cell)
    other = 1 - cell
    if letter == "i":
        b = b * 0.0
    elif letter == "j":
        dp[cell] += 1.0
    elif letter in "bc":
        dp[other, 0] = -1.0 if letter == "b" else 1.0
    elif letter == "h":
        dp[cell] = 1.2 * (model.point[other] - model.point[cell])
    else:
        dp[cell] += {"d": -1, "e": 1, "f": -1, "g": 1}[letter] * 400.0
    for (i, k), value in np.ndenumerate(dp):
        m.dp[i, k].set_value(value)
    for i, value in enumerate(b):
        m.b[i].set_value(value)
    assert missed(getattr(m, f"eq_14{letter}")) > 1e-4


def test_bids_that_consume_are_paid_for_what_they_consume():
    model, bids = instance("down")
    m = printed_milp(model, bids, -60.0)
    assert solve(m).objective == pytest.approx(0.06 * 60.0, rel=1e-9)
    np.testing.assert_allclose(activation(m)[0], [0.0, -60.0], atol=1e-6)


def test_as_printed_cannot_be_met():
    network, sites = street(2)
    bids = offered("up", [120.0, 120.0], [90.0, 60.0])
    model = linearise(Connected(network, bids, sites), none_half_all(bids, "up"))
    solve(printed_milp(model, bids, 60.0))
    with pytest.raises(Infeasible):
        solve(printed_milp(model, bids, 60.0, corrected=False))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"down_max_kw": 5.0, "price_down_eur_per_mwh": 10.0}, "one direction"),
        ({"q_max_kvar": 5.0, "price_q_eur_per_mvarh": 1.0}, "free reactive power"),
        ({"min_up_kw": 1.0}, "least activations"),
    ],
)
def test_bids_that_the_source_does_not_have_are_refused(columns, message):
    network, sites = street(2)
    bids = Bids(offered("up", [120.0, 120.0], [90.0, 60.0]).table.assign(**columns))
    model = linearise(Connected(network, bids, sites), np.zeros((1, len(bids.axes))))
    with pytest.raises(ValueError, match=message):
        printed_milp(model, bids, 60.0)
