"""One test an erratum: the printed form gives the wrong answer, the corrected one the right."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flexlib import (
    Box,
    DataError,
    Infeasible,
    Market,
    Network,
    Planes,
    clear,
    power_flow,
    supply_curve,
)
from flexlib.claims import read_errata
from flexlib.claims_de_simone import corrected_clearing, market, published_clearing
from flexlib.linear_ac import linear_flow
from flexlib.planes import LambdaBeta, along
from flexlib.replication import (
    clear_with_deviation,
    deviation_by_base_sign_a,
    deviation_unsigned_a,
    uncertain_with_previous_bus_voltage,
)
from flexlib.robust_arrays import robust_optimum
from flexlib.robust_limits import every_limit
from flexlib.robust_rows import current_margins_a
from flexlib.tables import data_path

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
