"""One test an erratum: the printed form gives the wrong answer, the corrected one the right."""

import ast
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyomo.environ as pyo
import pytest
from poster import small_hubs
from pyomo.core.expr.calculus.derivatives import differentiate
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from flexlib import (
    Activation,
    Bids,
    Box,
    Comparison,
    Connected,
    DataError,
    Infeasible,
    Market,
    Network,
    Planes,
    Tariff,
    Unbounded,
    activate,
    centralised,
    claims,
    clear,
    exact_prices,
    hub_instances,
    linearise,
    no_pricing,
    power_flow,
    printed_centralised,
    printed_hubs,
    printed_milp,
    solve,
    solve_bilevel,
    supply_curve,
)
from flexlib.bilevel_kkt import guessed
from flexlib.certificate import CertificateError
from flexlib.claims import read_errata
from flexlib.claims_de_simone import corrected_clearing, market, published_clearing
from flexlib.hub_bilevel import hub_big_m, priced_hubs
from flexlib.hub_followers import optimal_answers
from flexlib.hub_model import least_cost_at
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import VARIABLES
from flexlib.linear_ac import linear_flow
from flexlib.planes import LambdaBeta, along
from flexlib.pricing_evaluation import best, worst
from flexlib.pricing_inverse import AdderWeights
from flexlib.quadratic_follower import QuadraticFollower
from flexlib.quadratic_pricing import QuadraticHubs, hub_follower, quadratic_prices
from flexlib.replication import (
    clear_with_deviation,
    deviation_by_base_sign_a,
    deviation_unsigned_a,
    uncertain_with_previous_bus_voltage,
)
from flexlib.robust_arrays import robust_optimum
from flexlib.robust_limits import every_limit
from flexlib.robust_rows import current_margins_a
from flexlib.stand_in import stand_in
from flexlib.tables import data_path
from flexlib.voronoi_cells import border_excess, loading_excess
from flexlib.voronoi_model import activation
from flexlib.voronoi_points import none_half_all

HEAD = 1  # position of branch 2-3, from end, on the 12-bus feeder


def chain(loads, limits=None, r_ohm=0.2, x_ohm=0.1, v_min_pu=0.8):
    """Chain of buses 1-2-3-..., 10 kV; loads are (name, bus, p_kw, q_kvar)."""
    limits = limits or {}
    count = max(bus for _, bus, _, _ in loads)
    buses = pd.DataFrame(
        {
            "bus": [str(k) for k in range(1, count + 1)],
            "v_nom_kv": 10.0,
            "v_slack_pu": [1.0] + [np.nan] * (count - 1),
            "v_min_pu": v_min_pu,
            "v_max_pu": 1.2,
        }
    )
    names = [f"{k}-{k + 1}" for k in range(1, count)]
    branches = pd.DataFrame(
        {
            "branch": names,
            "from_bus": [name.split("-")[0] for name in names],
            "to_bus": [name.split("-")[1] for name in names],
            "r_ohm": r_ohm,
            "x_ohm": x_ohm,
            "i_max_from_a": [limits.get(name, np.nan) for name in names],
        }
    )
    table = pd.DataFrame(loads, columns=["load", "bus", "p_kw", "q_kvar"]).astype({"bus": str})
    return Network(buses, branches, table)


def box(network, **bands_pct):
    return Box(
        network, pd.DataFrame({"load": list(bands_pct), "band_pct": list(bands_pct.values())})
    )


def offers(**up_max_kw):
    return pd.DataFrame(
        {
            "load": list(up_max_kw),
            "up_max_kw": list(up_max_kw.values()),
            "price_up_eur_per_mwh": 100.0,
        }
    )


def worst_corner_a(m, i_end_a, end):
    """Largest current magnitude at one branch end over all corners, in the linear model."""
    return np.abs(i_end_a[end] + m.uncertainty.vertices() @ m.uncertain[1][end]).max()


def test_every_erratum_has_a_test_here():
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    here = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    errata = read_errata()
    assert set(errata["test"]) <= here
    assert errata["id"].is_unique
    assert errata["test"].is_unique


def test_no_single_deviation_is_the_maximum():
    net = chain([("a", 2, 300, 200), ("b", 3, 200, -150), ("pv", 3, -400, 0)])
    m = Market(net, offers(a=10), box(net, a=30, b=30, pv=30))
    i_a = m.uncertainty.vertices() @ m.uncertain[1][0]
    added_a = along(m.norm.normals(m.flow.i0_a[0]), i_a[:, None])  # corners, planes
    worst = added_a.argmax(axis=0)
    assert len(set(worst)) > 1
    np.testing.assert_allclose(added_a.max(axis=0), current_margins_a(m)[0], rtol=1e-12)
    for corner in range(len(added_a)):  # whichever corner is called the maximum, a plane is missed
        assert (added_a[corner] < current_margins_a(m)[0] - 1.0).any()


def test_unsigned_sum_cancels():
    loads = [("load", 2, 500, 0), ("pv", 2, -300, 0), ("flexible", 2, 200, 0)]
    net = chain(loads, {"1-2": 30})
    m = Market(net, offers(flexible=200), box(net, load=20, pv=33))
    printed = clear_with_deviation(m, deviation_unsigned_a(m))
    assert printed.cost_eur_per_h == pytest.approx(0.0, abs=1e-9)
    assert worst_corner_a(m, printed.state.i_end_a, 0) > 30.0 + 2.0
    assert not printed.certificate.ok
    right = clear(m)
    assert worst_corner_a(m, right.state.i_end_a, 0) <= 30.0
    assert right.cost_eur_per_h > 1.0


def test_base_sign_fails_when_flow_reverses():
    loads = [("head", 2, 900, 0), ("flexible", 3, 400, 0), ("pv", 3, -350, 0)]
    net = chain(loads, {"1-2": 45, "2-3": 20})
    dearer_at_head = offers(flexible=400, head=900).assign(price_up_eur_per_mwh=[100.0, 200.0])
    m = Market(net, dearer_at_head, box(net, flexible=40))
    printed = clear_with_deviation(m, deviation_by_base_sign_a(m))
    assert m.flow.i0_a[1].real > 0  # towards the load at the baseline ...
    assert printed.state.i_end_a[1].real < 0  # ... and back towards the slack when activated
    assert worst_corner_a(m, printed.state.i_end_a, 1) > 20.0 + 2.0
    right = clear(m)
    assert worst_corner_a(m, right.state.i_end_a, 1) <= 20.0
    assert right.cost_eur_per_h > printed.cost_eur_per_h + 1.0


def test_printed_lower_voltage_check_raises_the_voltage():
    m = market(3)
    dv_pu, _ = m.uncertain
    delta_v_min = np.abs(-dv_pu).sum(axis=1)  # as printed below (54)
    printed = np.abs(m.flow.v0_pu + delta_v_min)
    assert (printed[1:] > np.abs(m.flow.v0_pu)[1:]).all()
    v_pu = m.flow.v0_pu[:, None] + dv_pu @ m.uncertainty.vertices().T
    lowest = np.abs(v_pu).min(axis=1)
    limit = 0.996
    assert printed[-1] > limit > lowest[-1]
    published = pd.read_csv(data_path("published/de-simone-table-2-8.csv"))
    assert (published["v_case3_pu"][1:] < published["v0_pu"][1:]).all()


def test_full_admittance_matrix_is_singular():
    net = chain([("a", 2, 100, 50), ("b", 3, 100, 50)])
    flow = linear_flow(net)
    full = flow.admittance.y_bus.toarray()
    assert np.linalg.matrix_rank(full, tol=1e-9 * np.abs(full).max()) == len(full) - 1
    np.testing.assert_allclose(flow.v0_pu, power_flow(net).v_pu[0], atol=1e-12)


def test_deviation_needs_the_conjugate():
    net = chain([("a", 2, 300, 200), ("b", 3, 200, 100)])
    m = Market(net, offers(a=10), box(net, a=10, b=10))
    step = 1e-4
    cases = m.uncertainty.loads_kva(np.vstack([step * np.eye(2), -step * np.eye(2)]))
    i_a = power_flow(net, cases).i_a
    ac = (i_a[:2] - i_a[2:]).T / (2 * step)
    right = m.uncertain[1]
    bus = net.load_bus[m.uncertainty.load]
    d_printed = -m.uncertainty.delta_kva / m.flow.v_fixed_pu[bus]  # (42) without the conjugate
    injected = np.zeros((3, 2), dtype=complex)
    injected[bus, [0, 1]] = d_printed / 1000
    dv = m.flow.admittance.voltage_response(injected)
    printed = (m.flow.admittance.y_end @ dv) * m.flow.admittance.ends["i_base_a"].to_numpy()[
        :, None
    ]
    assert np.abs(right - ac).max() < 0.02 * np.abs(ac).max()
    assert np.abs(printed - ac).max() > 0.5 * np.abs(ac).max()


def test_max_min_is_not_min_max():
    two_way = offers(store=700).assign(down_max_kw=700.0, price_down_eur_per_mwh=100.0)

    def net(p_kw):
        return chain([("wind", 2, p_kw, 0), ("store", 2, 0, 0)], {"1-2": 10})

    # with hindsight, each corner of the box is served at a finite cost ...
    hindsight = [
        clear(Market(net(p_kw), two_way, box(net(p_kw), wind=0))).cost_eur_per_h
        for p_kw in (-800.0, 0.0)
    ]
    assert max(hindsight) < 100.0
    # ... but no activation serves both, and a robust market must say so
    base = net(-400.0)
    with pytest.raises(Infeasible, match="current limit of branch 1-2"):
        clear(Market(base, two_way, box(base, wind=100)))


def test_published_deviation_uses_previous_bus_voltage():
    _, di_a = uncertain_with_previous_bus_voltage(market(3))
    published = pd.read_csv(data_path("published/de-simone-table-2-7.csv")).set_index("branch")
    row = published.loc["2-3"]
    wrong, right = di_a.sum(axis=1)[HEAD], deviation_unsigned_a(market(3))[HEAD]
    assert wrong.real == pytest.approx(row["dI_re_model_A"], abs=0.5e-4)
    assert abs(right.real - row["dI_re_model_A"]) > 30e-4
    shift_kw = corrected_clearing(2).state.up_kw - published_clearing(2).state.up_kw
    assert shift_kw[1] == pytest.approx(0.035, abs=0.001)


def test_independent_draws_do_not_reach_the_published_ac_values():
    m = market(3)
    published = pd.read_csv(data_path("published/de-simone-table-2-7.csv")).set_index("branch")
    drawn_kva = m.uncertainty.loads_kva(m.uncertainty.sample(20_000, seed=1))
    i_a = power_flow(m.network, drawn_kva).i_a[:, HEAD]
    reached = (i_a - m.flow.i0_a[HEAD]).real.max()
    together = np.repeat(np.linspace(-1, 1, 2001)[:, None], len(m.uncertainty.load), axis=1)
    i_a = power_flow(m.network, m.uncertainty.loads_kva(together)).i_a[:, HEAD]
    reached_together = (i_a - m.flow.i0_a[HEAD]).real.max()
    assert reached < 18.5 < published.loc["2-3", "dI_re_acpf_A"] < reached_together


def test_case_2_activates_pod4():
    published = pd.read_csv(data_path("published/de-simone-table-2-9.csv"))
    case_2 = published[published["case"] == 2].set_index("pod")["f_up_kw"]
    assert case_2[2] == 0 < case_2[4]
    activation = corrected_clearing(2).activation.set_index("load")["up_kw"]
    assert activation["POD2"] == pytest.approx(0, abs=1e-6)
    assert activation["POD4"] > 50


def test_currents_on_both_sides_of_bus_2_are_equal():
    published = pd.read_csv(data_path("published/de-simone-table-2-7.csv")).set_index("branch")
    column = published["dI_im_acpf_A"]
    assert column["2-1"] != -column["2-3"]
    m = market(3)
    i_a = power_flow(m.network, m.uncertainty.loads_kva(m.uncertainty.vertices())).i_a
    to_1_2 = len(m.network.branches)  # the to end of branch 1-2
    np.testing.assert_allclose(i_a[:, to_1_2], -i_a[:, HEAD], atol=1e-9)


def test_printed_index_limits_nothing():
    branches = market(1).network.branches
    assert not (branches["from_bus"] == branches["to_bus"]).any()
    net = market(1).network
    with pytest.raises(DataError, match="another bus"):
        Network(net.buses, branches.assign(to_bus=branches["from_bus"]), net.loads)


def test_activation_order_is_not_apparent_power():
    # the line carries mostly capacitive current; "inductive" has the larger |S| per kW
    loads = [("bulk", 2, 100, -800), ("inductive", 2, 300, 300), ("resistive", 2, 300, -60)]
    net = chain(loads, {"1-2": 50})
    m = Market(net, offers(inductive=300, resistive=300), box(net, bulk=10))
    assert abs(m.direction[0]) > abs(m.direction[1])
    activation = clear(m).activation.set_index("load")["up_kw"]
    assert activation["inductive"] == pytest.approx(0, abs=1e-6)
    assert activation["resistive"] > 10


def test_reactive_power_of_one_kilowatt_at_pod_5():
    inputs = pd.read_csv(data_path("published/de-simone-table-2-3.csv")).set_index("bus").loc[7]
    printed = pd.read_csv(data_path("published/de-simone-table-2-10.csv")).set_index("pod").loc[5]
    widest = np.array([67.315, 67.325]) / inputs["p_kw"]  # all values that round to 67.32
    assert printed["q_kvar"] == 0.4799
    assert (widest.round(4) == 0.4800).all()


def test_more_planes_break_the_limit_in_ac():
    m = market(3)
    printed = clear(m)
    assert printed.ac.i_excess_a < 0
    many = clear(Market(m.network, m.offers, m.uncertainty, Planes(1024)))
    assert many.ac.i_excess_a > 0.01
    with pytest.raises(Exception, match="AC current limit"):
        many.certificate.assert_ok()


def test_lambda_beta_is_the_minimax():
    band = np.deg2rad(10)
    norm = LambdaBeta(band)
    angle = np.linspace(0, band, 2001)

    def error(alpha, beta):
        return np.abs(alpha * np.cos(angle) + beta * np.sin(angle) - 1).max()

    assert error(norm.alpha, norm.beta) == pytest.approx(norm.error, rel=1e-6)
    around = np.linspace(-2e-3, 2e-3, 41)
    for d_alpha in around:
        for d_beta in around:
            assert error(norm.alpha + d_alpha, norm.beta + d_beta) >= norm.error - 1e-9


def test_band_stays_on_the_baseline():
    m = market(3)
    cleared = corrected_clearing(3)
    assert cleared.state.up_kw[1] == pytest.approx(150)  # POD4 is curtailed to zero
    k = list(m.network.loads["load"]).index("POD4")
    loads_kva = m.uncertainty.loads_kva(m.uncertainty.vertices()) + m.activated_kva(
        cleared.state.up_kw, cleared.state.down_kw
    )
    assert np.ptp(loads_kva[:, k].real) == pytest.approx(2 * 0.10 * 150)
    # without the band of the curtailed POD less has to be activated
    bands = m.uncertainty.bands.assign(
        band_pct=m.uncertainty.bands["band_pct"].where(m.uncertainty.bands["load"] != "POD4", 0.0)
    )
    less = clear(Market(m.network, m.offers, Box(m.network, bands), m.norm))
    assert less.cost_eur_per_h < cleared.cost_eur_per_h - 0.5


def test_limit_at_both_ends_activates_more():
    m = market(2)
    branches = m.network.branches
    both = branches.assign(i_max_to_a=branches["i_max_from_a"])
    net = Network(m.network.buses, both, m.network.loads)
    cleared = clear(Market(net, m.offers, Box(net, m.uncertainty.bands), m.norm))
    more_kw = cleared.state.up_kw[1] - corrected_clearing(2).state.up_kw[1]
    assert 0.2 < more_kw < 0.6


def test_largest_cost_is_not_the_largest_volume():
    net = chain([("pump", 2, 100.0, 75.0), ("oven", 2, 100.0, 0.0)], {"1-2": 20.0})
    offers = pd.DataFrame({"load": ["pump", "oven"], "up_max_kw": 0.0, "down_max_kw": 150.0})
    offers["price_up_eur_per_mwh"], offers["price_down_eur_per_mwh"] = 0.0, [100.0, 60.0]
    certain = Box(net, pd.DataFrame({"load": ["pump"], "band_pct": [0.0]}))
    m = Market(net, offers, certain)
    largest_cost = robust_optimum(m, every_limit(m), lambda program: replace(program, c=-program.c))
    most_kw = -supply_curve(m).frame["volume_kw"].min()
    assert -largest_cost.net_kw.sum() < 0.8 * most_kw
    assert most_kw > 100


# DigIPlat D5.2: bids and Voronoi cells


def offered(direction, volume_kw, price_eur_per_mwh, **more):
    return Bids(
        pd.DataFrame(
            {
                "bid": [f"bid {k + 1}" for k in range(len(volume_kw))],
                f"{direction}_max_kw": volume_kw,
                f"price_{direction}_eur_per_mwh": price_eur_per_mwh,
                **more,
            }
        )
    )


def connected(network, bids, buses):
    return Connected(network, bids, pd.DataFrame({"bid": bids.table["bid"], "bus": buses}))


def three_points(direction="up", price_eur_per_mwh=(50.0, 100.0), **limits):
    """Two bids of 100 kW on a chain, and the light model of the source's three points."""
    net = chain([("a", 2, 50, 10), ("b", 3, 50, 10)], limits)
    bids = offered(direction, [100.0, 100.0], price_eur_per_mwh)
    grid = connected(net, bids, ["2", "3"])
    return linearise(grid, none_half_all(bids, direction)), bids


@cache
def compared(direction, seed=1, printed=False):
    """An instance of the stand-in, activated with the source's three points, beside AC."""
    case = stand_in(direction, seed)
    grid = Connected(case.network, case.bids, case.sites)
    model = linearise(grid, none_half_all(case.bids, direction))
    return Comparison(grid, activate(model, case.bids, case.request_kw, printed=printed))


def test_request_row_needs_the_binary():
    model, bids = three_points()
    right = printed_milp(model, bids, 100.0)
    assert solve(right).objective == pytest.approx(activate(model, bids, 100.0).cost_eur_per_h)
    with pytest.raises(Infeasible):
        solve(printed_milp(model, bids, 100.0, corrected=False))
    # each point would have to make up for the activation of the two others
    everything = model.point.sum()
    for point in model.point:
        assert not 0 <= point.sum() + 100.0 - everything <= 200.0 or point.sum() == 200.0
    # the last would have to deliver nothing, far from its cell
    assert 200.0 + 100.0 - everything == 0.0
    assert border_excess(model, 2, np.zeros(2)).max() > 100.0


def test_printed_products_are_not_linear():
    model, bids = three_points()
    m = printed_milp(model, bids, 100.0)
    price = bids.axes["price_up"]
    cost = sum(
        price[k] * (model.point[i, k] + m.dp[i, k]) * m.b[i] for i in m.POINTS for k in m.AXES
    )
    border = m.eq_14h[0, 1].body * m.b[0]
    assert cost.polynomial_degree() == border.polynomial_degree() == 2
    assert m.eq_14a.expr.polynomial_degree() == m.eq_14h[0, 1].body.polynomial_degree() == 1
    solve(m)
    assert pyo.value(cost) == pytest.approx(pyo.value(m.eq_14a), rel=1e-9)
    for i, j in m.eq_14h:
        for k in m.AXES:
            m.dp[i, k].set_value(0.0)  # as (14b) and (14c) make it where b is zero
        half = ((model.point[i] - model.point[j]) ** 2).sum() / 2
        row = m.eq_14h[i, j]
        assert pyo.value(row.body) - pyo.value(row.lower) == pytest.approx(half)
        assert half > 0


def test_request_is_a_number():
    model, bids = three_points()
    asked_kw = np.array([30.0, 70.0])
    m = printed_milp(model, bids, asked_kw.sum())
    least = solve(m).objective
    m.eq_14j.deactivate()
    m.vector = pyo.Constraint(
        m.AXES,
        rule=lambda m, k: (
            sum(model.point[i, k] * m.b[i] + m.dp[i, k] for i in m.POINTS) == asked_kw[k]
        ),
    )
    solve(m)
    np.testing.assert_allclose(activation(m)[0], asked_kw, atol=1e-9)  # nothing is left to choose
    assert pyo.value(m.eq_14a) > least + 1.0


def test_price_times_a_signed_volume_buys_the_dearest():
    model, bids = three_points("down")
    m = printed_milp(model, bids, -100.0)
    solve(m)
    np.testing.assert_allclose(activation(m)[0], [-100.0, 0.0], atol=1e-6)
    m.eq_14a.deactivate()
    price = bids.axes["price_down"]
    m.printed = pyo.Objective(
        expr=sum(
            price[k] * (model.point[i, k] * m.b[i] + m.dp[i, k]) for i in m.POINTS for k in m.AXES
        )
    )
    solve(m)
    np.testing.assert_allclose(activation(m)[0], [0.0, -100.0], atol=1e-6)


def test_borders_belong_to_no_printed_cell():
    model, bids = three_points()
    z = activate(model, bids, 150.0).z  # with equal volumes all of (14j) is the border
    distance = np.linalg.norm(model.point - z, axis=1)
    assert distance[1] == pytest.approx(distance[2], rel=1e-12)
    strictly = [
        all(distance[i] < distance[j] * (1 - 1e-12) for j in range(3) if j != i) for i in range(3)
    ]
    assert not any(strictly)
    assert border_excess(model, 1, z).max() < 1e-9  # (14h) is closed and holds it


def test_fixed_load_of_a_point_is_no_choice():
    bids = offered("down", [400.0, 400.0], [50.0, 100.0])
    grids = [
        connected(chain([("far", 3, p_kw, 0)], {"2-3": 40}), bids, ["3", "2"])
        for p_kw in (100.0, 600.0)
    ]
    points = none_half_all(bids, "down")[[0, 2]]
    light, heavy = (linearise(grid, points, relief=True) for grid in grids)
    names = ("v_pu", "vtdf", "i_percent", "di_percent")
    mixed = replace(  # the second point made at another fixed load than the first
        light, **{n: np.stack([getattr(light, n)[0], getattr(heavy, n)[1]]) for n in names}
    )
    chosen = activate(mixed, bids, -200.0)
    assert chosen.cell == 0
    true = Comparison(grids[1], chosen)
    assert true.loading_excess_percent > 10.0
    right = Comparison(grids[1], activate(heavy, bids, -200.0))
    assert right.loading_excess_percent < 1.0
    assert right.activation.cost_eur_per_h > chosen.cost_eur_per_h + 1.0


def test_signed_loading_misjudges_a_reversed_flow():
    printed, right = compared("up", 6, printed=True), compared("up", 6)
    printed.activation.certificate.assert_ok()
    assert printed.loading_excess_percent > 5.0
    # the complex current at the same point sees it
    of_current = loading_excess(
        printed.activation.model, printed.activation.cell, printed.activation.z, printed=False
    )
    assert of_current.max() > 5.0
    right.certificate.assert_ok()
    assert right.activation.cost_eur_per_h > printed.activation.cost_eur_per_h


def test_values_at_the_point_are_known_not_their_changes():
    model, _ = three_points()
    for i, point in enumerate(model.point):
        change = model.vtdf[i] @ (point - model.point[i])
        assert not change.any()  # known without any computation, and useless
        np.testing.assert_array_equal(model.voltages_pu(i, point), model.v_pu[i])


def test_maps_lead_to_totals_not_to_changes():
    net = chain([("a", 2, 50, 10), ("b", 3, 50, 10)])
    s_kva = net.s_load_kva
    v_pu, changed_pu = np.abs(power_flow(net, np.array([s_kva, 1.1 * s_kva])).v_pu)
    assert (v_pu > 0.9).all()  # the image of no change at all
    assert 0 < np.abs(changed_pu - v_pu).max() < 1e-2


def test_reactive_power_dominates_every_other_error():
    grid, z = compared("down").connected, compared("down").activation.z
    table = grid.bids.table.assign(kvar_per_kw=np.tan(np.arccos(0.95)))
    lagging = Connected(grid.network, Bids(table), grid.sites)
    ignored = replace(compared("down"), connected=lagging)
    assert 1e-2 < ignored.v_mae_pu < 3e-2
    assert ignored.v_mae_pu > 50 * compared("down").v_mae_pu
    points = z * np.array([[0.9], [1.0]])
    known = Comparison(lagging, activate_fixed(linearise(lagging, points), lagging.bids, z))
    assert known.v_mae_pu < 1e-4


def activate_fixed(model, bids, z):
    """An activation given, by the model of its nearest point."""
    cell = model.nearest(z)
    return Activation(model, bids, z.sum(), False, 1e-6, z, cell, np.zeros(len(model.point)))


def test_averages_depend_on_what_is_averaged():
    c = compared("down")
    error = np.abs(c.loading_percent - c.loading_ac_percent)
    critical = np.argsort(-c.loading_ac_percent)[:12]
    assert error[critical].mean() > 2.5 * c.loading_mae_percent


def test_half_of_the_bids_can_be_read_in_two_ways():
    case = stand_in("down", 1)
    grid = compared("down").connected
    points = none_half_all(case.bids, "down")
    every_second = points[2] * (np.arange(len(case.bids.axes)) % 2)
    model = linearise(grid, np.array([points[0], every_second, points[2]]))
    other = Comparison(grid, activate(model, case.bids, case.request_kw))
    assert other.v_mae_pu > 5 * compared("down").v_mae_pu


def test_small_averages_do_not_mean_that_limits_hold():
    c = compared("down")
    assert c.v_mae_pu < 2e-4
    assert c.loading_mae_percent < 0.1
    assert c.loading_excess_percent > 0.1
    with pytest.raises(CertificateError, match="AC loadings"):
        c.certificate.assert_ok()


def test_shared_matrices_give_the_tree_away():
    c = compared("down")
    model, grid = c.activation.model, c.connected
    network, count = grid.network, len(grid.network.branches)
    assert count == len(network.buses) - 1
    seen, exact = 0, 0
    for e in np.flatnonzero(model.end < count):  # from ends: a row for each branch
        row = np.abs(model.ltdf[1, e])
        recovered = set(np.flatnonzero(row > row.max() / 2).tolist())
        others = np.arange(count) != model.end[e]
        at = (network.from_bus[others], network.to_bus[others])
        without = csr_array((np.ones(count - 1), at), (count + 1, count + 1))
        _, part = connected_components(without, directed=False)
        downstream = set(np.flatnonzero(part[grid.bus] != part[network.slack]).tolist())
        if downstream:
            seen, exact = seen + 1, exact + (recovered == downstream)
    assert seen > 200
    assert exact == seen


def hub_values(m, name):
    """Values of one variable of a solved printed model of hubs, shape (hubs, hours)."""
    variable = getattr(m, name)
    return np.array([[pyo.value(variable[i, t]) for t in m.T] for i in m.H])


def test_without_an_equation_for_the_backlog_no_flexible_load_is_served():
    hubs, _ = hub_instances.reference()
    m = printed_hubs(hubs)
    cost = solve(m).objective
    arrives = hubs.table["flexible_load_mw"].to_numpy() * hubs.hours
    np.testing.assert_allclose(hub_values(m, "u").sum(axis=1), arrives, atol=1e-6)
    assert hub_values(m, "g").sum() > 0.1
    m.backlog.deactivate()
    assert solve(m).objective < cost - 1000
    np.testing.assert_allclose(hub_values(m, "u"), 0.0, atol=1e-9)
    for i, t in m.balance:  # g supplies: 1 MW of it is 1 MW less of import
        body = m.balance[i, t].body
        slope = {
            name: differentiate(body, wrt=getattr(m, name)[i, t], mode="reverse_symbolic")
            for name in ("g", "m_in")
        }
        assert slope["g"] == slope["m_in"] == 1


def test_without_an_end_condition_stores_are_emptied():
    hubs, _ = hub_instances.reference()
    m = printed_hubs(hubs)
    cost = solve(m).objective
    last = m.T.last()
    table = hubs.table
    half = (table["battery_initial_soc"] * table["battery_mwh"]).to_numpy()
    assert (hub_values(m, "e")[:, last] >= half - 1e-6).all()
    for i in m.H:
        m.e[i, last].setlb(table["battery_min_soc"][i] * table["battery_mwh"][i])
        m.h[i, last].setlb(0.0)
    assert solve(m).objective < cost - 300
    lowest = (table["battery_min_soc"] * table["battery_mwh"]).to_numpy()
    np.testing.assert_allclose(hub_values(m, "e")[:, last], lowest, atol=1e-6)
    np.testing.assert_allclose(hub_values(m, "h")[:, last], 0.0, atol=1e-6)


def test_hubs_alone_leave_their_congestion_open():
    hubs, grid = hub_instances.reference()
    found = no_pricing(hubs)
    face, _, _ = optimal_answers(found.schedule.programme, found.tariff)
    ends = [of(face, found.schedule.programme, grid) for of in (best, worst)]
    for end in ends:  # both are optimal for every hub
        own = (found.schedule.programme.cost * end.x).reshape(len(hubs), -1).sum(axis=1)
        np.testing.assert_allclose(own, found.pays_eur, rtol=1e-9)
    assert ends[1].congestion_mwh - ends[0].congestion_mwh == pytest.approx(0.6135, abs=1e-3)


def test_background_and_withdrawals_load_a_line_in_the_same_direction():
    hubs, grid = hub_instances.reference()
    w = no_pricing(hubs).schedule.w_mw
    turned = replace(grid, background_mw=-grid.background_mw)  # f_bg read as a consumption
    hour = int(w.sum(axis=0).argmax())
    more = w + 1.0 * (np.arange(24) == hour)
    for read, grows in ((grid, True), (turned, False)):
        flow = read.flow_mw(np.zeros_like(w))[:, hour]
        assert (np.abs(read.flow_mw(0.1 * more)[:, hour]) > np.abs(flow)).all() == grows
    m = printed_centralised(hubs, grid)
    solve(m)
    f = np.array([[pyo.value(m.f[k, t]) for t in m.T] for k in m.L])
    np.testing.assert_allclose(f, grid.flow_mw(hub_values(m, "w")), atol=1e-9)
    assert grid.congestion_mwh(w) > 3 * turned.congestion_mwh(w)


def test_one_substation_overload_needs_two_rows():
    hubs, grid = hub_instances.reference()
    x = no_pricing(hubs).schedule.x.reshape(3, 24, -1)
    total = (x[:, :, 0] - x[:, :, 1]).sum(axis=0)
    over = np.maximum(total - grid.import_mw, 0), np.maximum(-total - grid.export_mw, 0)
    assert (np.minimum(*over) == 0).all()
    counted = []
    for rows in (("import", "export"), ("import",)):
        m = printed_centralised(hubs, grid)
        for name in ("balance", "battery", "backlog", "hydrogen"):  # they hold, and all is fixed
            getattr(m, name).deactivate()
        for k, name in enumerate(VARIABLES):
            for i, t in getattr(m, name):
                getattr(m, name)[i, t].fix(x[i, t, k])
        if "export" not in rows:
            m.overload_export.deactivate()
        solve(m)
        counted.append(np.array([m.y[t].value for t in m.T]))
    np.testing.assert_allclose(counted[0], over[0] + over[1], atol=1e-6)
    assert counted[0].sum() > counted[1].sum() + 0.04


def test_stage_1_alone_leaves_the_cost_open():
    hubs, grid = hub_instances.reference()
    m = printed_centralised(hubs, grid)
    least = solve(m).objective
    least_cost = solve(least_cost_at(m, least + 1e-9)).objective
    for i, t in m.m_in:
        m.m_in[i, t].setub(hubs.connection_mw[i, 0, t])
        m.m_out[i, t].setub(hubs.connection_mw[i, 1, t])
    m.dearest = pyo.Objective(expr=-m.own_cost.expr)
    m.own_cost.deactivate()
    assert -solve(m).objective > least_cost + 1000


def test_benchmark_bounds_only_with_the_leaders_weights():
    hubs, grid = hub_instances.reference(3, 24, 0.5)
    grid = replace(grid, import_mw=0.5 * grid.import_mw)
    right = centralised(hubs, replace(grid, line_weight=0.1)).congestion_mwh
    m = printed_centralised(hubs, grid)  # all alike, as printed
    unweighted = solve(m).objective
    assert right < unweighted - 1  # which is no bound on weighted congestion
    least_cost_at(m, unweighted + 1e-9)
    m.own_cost.deactivate()
    lines = sum(m.z_plus[k, t] + m.z_minus[k, t] for k in m.L for t in m.T)
    m.weighted = pyo.Objective(expr=0.1 * lines + sum(m.y[t] for t in m.T))
    assert solve(m).objective > right + 0.05  # nor is any of its schedules the best


def test_change_in_time_does_not_see_unequal_hubs():
    hubs, _ = hub_instances.reference()
    one_pays = np.zeros((3, 24))
    one_pays[0] = 60.0
    as_printed = np.abs(np.diff(one_pays, axis=1)).sum()
    assert as_printed == 0.0
    fair = AdderWeights(level=0.0, smooth=0.0, fair=1.0)
    assert fair.value(one_pays, hubs.neighbours) == pytest.approx(24 * 60.0)
    assert fair.value(np.full((3, 24), 60.0), hubs.neighbours) == 0.0


def test_an_adder_below_the_spread_pays_without_end():
    hubs, _ = hub_instances.reference()
    spread = (hubs.buy_eur_per_mwh - hubs.sell_eur_per_mwh).min(axis=1)
    for adder, bounded in ((-spread.min() + 0.5, True), (-spread.min() - 0.5, False)):
        m = printed_hubs(hubs)
        i = int(spread.argmin())
        m.own_cost.expr += adder * sum(m.m_in[i, t] for t in m.T)
        if bounded:
            assert np.isfinite(solve(m).objective)
        else:
            with pytest.raises(Unbounded):
                solve(m)
    with pytest.raises(DataError, match="a number from 0"):
        Tariff(np.full((3, 24), -1.0))


def test_prices_of_c_are_good_for_some_optimal_answers_only():
    hubs, grid = hub_instances.reference(1, 6, 0.6)
    found = exact_prices(centralised(hubs, grid))
    assert found.proven
    programme = found.prices.answer.schedule.programme
    face, _, _ = optimal_answers(programme, found.prices.answer.tariff)
    ends = [of(face, programme, grid) for of in (best, worst)]
    price = found.prices.adder_eur_per_mwh
    bills = [programme.cost @ e.x + (price * e.x[programme.column("m_in")]).sum() for e in ends]
    assert bills[0] == pytest.approx(bills[1], rel=1e-9)
    assert ends[0].congestion_mwh == pytest.approx(found.prices.congestion_mwh, abs=1e-6)
    assert ends[0].congestion_mwh < 1.45
    assert ends[1].congestion_mwh > 5.0


def test_a_guessed_big_m_gives_a_wrong_optimum_unseen():
    hubs, grid = hub_instances.reference(1, 6, 0.6)
    problem = priced_hubs(hubs, grid, 60.0)
    right = solve_bilevel(problem, m=hub_big_m(problem, hubs, 60.0), gap=1e-3)
    right.certificate.assert_ok()
    wrong = solve_bilevel(problem, m=guessed(problem, 210.0), gap=1e-3)
    assert wrong.value > 3 * right.value
    assert wrong.alarms == []
    failed = [check.name for check in wrong.certificate.checks if not check.ok]
    assert failed == ["big-M values without a derivation"]  # the hub itself is optimal


def test_without_curvature_in_each_variable_answers_are_not_unique():
    hubs = small_hubs(
        [100.0, 100.0], [0.0, 0.0],
        {"flexible_load_mw": 1.0, "flexible_load_max_factor": 2.0, "backlog_max_mwh": 1.0},
    )  # fmt: skip
    table = hubs.costs.assign(quadratic_eur_per_mwh_per_mw=1.0 * (hubs.costs["variable"] == "g"))
    generator_alone = replace(hubs, costs=table)
    programme = HubProgramme(generator_alone)
    bills, over = [], []
    for served in ([1.0, 1.0], [0.0, 2.0]):
        x = np.zeros(len(programme.cost))
        x[programme.column("m_in")] = x[programme.column("u")] = served
        x[programme.column("a")] = np.cumsum(1.0 - np.array(served))
        np.testing.assert_allclose(programme.a @ x, programme.b)
        assert (x >= programme.lower).all()
        assert (x <= programme.upper).all()
        bills.append(programme.cost @ x + 0.5 * programme.quadratic @ x**2)
        over.append(np.maximum(np.array(served) - 1.0, 0.0).sum())
    assert bills[0] == bills[1] == pytest.approx(no_pricing(hubs).least_eur.sum())
    assert over == [0.0, 1.0]
    with pytest.raises(DataError, match="curvature 0 of m_in"):
        QuadraticFollower(hub_follower(programme))


def test_an_adder_on_all_variables_prices_relief_as_well():
    hubs, _ = hub_instances.reference(3, 24, 0.6)
    programme = HubProgramme(hubs)
    own = hub_follower(programme)
    n, generator = len(own.c), programme.column("g")
    imports = own.c_leader @ np.full(own.c_leader.shape[1], 30.0)
    made = [
        QuadraticFollower(replace(own, c=own.c + adder)).answer(np.zeros(72)).x[generator].sum()
        for adder in (np.zeros(n), imports, np.full(n, 30.0))
    ]
    assert made[1] > made[0] + 1.0  # a dear import is replaced
    assert made[2] < made[1] - 1.0  # unless what replaces it is charged as well


def test_prices_of_d_promise_what_linear_hubs_do_not_do():
    hubs, grid = hub_instances.reference(3, 24, 0.6)
    prices = quadratic_prices(hubs, grid)
    assert prices.congestion_mwh < 1e-3
    programme = prices.schedule.programme
    left = [
        best(optimal_answers(programme, Tariff(adder))[0], programme, grid).congestion_mwh
        for adder in (np.zeros((3, 24)), prices.adder_eur_per_mwh)
    ]
    assert left[1] == pytest.approx(14.07, abs=0.01)
    unpriced = QuadraticHubs(hubs, grid, 60.0)(np.zeros((3, 24))).congestion_mwh
    assert 1 - unpriced / left[0] == pytest.approx(0.38, abs=0.005)


def test_poster_has_errata_and_no_claims():
    assert len(read_errata("hub-poster")) >= 10
    ledger = claims.ledger("hub-poster")
    assert ledger.empty
    assert claims.totals(ledger).empty
    assert "hub-poster" not in set(claims.read_claims()["source"])
