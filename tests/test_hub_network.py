"""Grid of a network: H against finite differences of AC, meshes, and the AC check."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from feeders import small_network
from hub_cases import random_hubs

from flexlib.centralised import centralised
from flexlib.errors import DataError
from flexlib.hub_instances import simbench_mv
from flexlib.hub_network import H_LEAST, HubNetwork, ac_check, network_grid
from flexlib.network import Network
from flexlib.powerflow import power_flow
from flexlib.pricing import linear_prices

LIMITS = {"i_max_from_a": [150.0, 100.0], "i_max_to_a": [150.0, 100.0]}


def radial(**changes) -> HubNetwork:
    return site(small_network(branches=LIMITS | changes))


def meshed() -> HubNetwork:
    """Triangle S - A - B: what A withdraws comes by way of B, too, and relieves A - B."""
    ends = {
        "branch": ["S-A", "A-B", "S-B"],
        "from_bus": ["S", "A", "S"],
        "to_bus": ["A", "B", "B"],
        "r_ohm": [0.5, 0.8, 0.6],
        "x_ohm": [0.7, 0.4, 0.5],
    }
    limits = {name: [80.0, 40.0, 80.0] for name in LIMITS}
    return site(small_network(branches=ends | limits))


def site(network: Network) -> HubNetwork:
    """Hubs at A, B and B in three hours."""
    share = np.array([0.5, 1.0, 0.7])
    w_mw = np.array([[0.1, 0.2, -0.1], [0.3, 0.1, 0.2], [0.0, 0.4, 0.1]])
    load_kva = np.outer(share, network.s_load_kva)
    return HubNetwork(network, pd.Series(["A", "B", "B"]), load_kva, w_mw, 0.8)


def test_slopes_are_finite_differences_of_ac():
    for case in (radial(), meshed()):
        hour, step = case.slope_hour, 1e-4
        for hub in range(3):
            ends = []
            for sign in (-1, 1):
                w_mw = case.hub_mw.copy()
                w_mw[hub, hour] += sign * step
                ends.append(case.line_mw(case.with_hubs(w_mw))[:, hour])
            expected = (ends[1] - ends[0]) / (2 * step)
            found = (case.turn[:, None] * case.slope[case.line])[:, hub]
            assert found == pytest.approx(expected, abs=1e-6)


def test_hub_is_a_load_without_reactive_power():
    """Withdrawals added to the loads of the network by hand."""
    case = radial()
    at = {"A": 0, "B": 1}
    s_kva = case.load_kva.copy()
    for hub, bus in enumerate(case.hub_bus):
        s_kva[:, at[bus]] += 1000 * case.hub_mw[hub]
    by_hand = power_flow(case.network, s_kva)
    assert case.flow.v_pu == pytest.approx(by_hand.v_pu, abs=1e-10)


@pytest.mark.parametrize("case", [radial(), meshed()], ids=["radial", "meshed"])
def test_linear_flows_are_ac_at_the_operating_point(case):
    check = ac_check(case, network_grid(case), case.hub_mw)
    assert np.abs(check.error_mw).max() < 1e-9
    other = ac_check(case, network_grid(case), case.hub_mw + 0.3)
    assert np.abs(other.error_mw).max() > 1e-3


@pytest.mark.parametrize("case", [radial(), meshed()], ids=["radial", "meshed"])
def test_error_grows_with_the_square_of_the_step(case):
    grid, hour = network_grid(case), case.slope_hour
    direction = np.random.default_rng(0).uniform(-1, 1, case.hub_mw.shape)
    errors = [
        np.abs(ac_check(case, grid, case.hub_mw + step * direction).error_mw[:, hour]).max()
        for step in (0.1, 0.05, 0.025)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_radial_network_without_losses_has_zeros_and_ones():
    tiny = {"r_ohm": [1e-6, 1e-6], "x_ohm": [1e-6, 1e-6]}
    grid = network_grid(radial(**tiny))
    assert grid.lines == ["S-A", "A-B"]
    assert grid.factor.toarray() == pytest.approx(np.array([[1, 1, 1], [0, 1, 1]]), abs=1e-6)
    assert grid.factor.toarray()[1, 0] == 0  # not merely small


def test_line_is_turned_in_the_direction_of_withdrawals():
    turned = {"from_bus": ["A", "A"], "to_bus": ["S", "B"]}
    case, plain = radial(**turned), radial()
    assert case.turn.tolist() == [-1, 1]
    assert (network_grid(case).factor.toarray()[:, 1:] > 0.9).all()
    lost = plain.line_mw(plain.flow) - case.line_mw(case.flow)  # S-A seen from its other end
    assert (lost[0] > 0).all()
    assert (lost[0] < 0.2).all()
    assert lost[1] == pytest.approx(0, abs=1e-9)


def test_limits_are_currents_at_voltage_and_reactive_power():
    """Loaded at its limit in MW, a line carries its current limit."""
    case = radial()
    grid = network_grid(case)
    flow = case.flow
    at = np.abs(flow.v_pu[:, case.network.from_bus]).T
    rated = np.sqrt(3) * 10 * at * 0.8 * np.array([[150.0], [100.0]]) / 1000
    q = (flow.v_pu[:, case.network.from_bus] * np.conj(flow.i_a[:, :2])).imag.T
    q_mvar = q / flow.admittance.i_base_end_a[:2, None]
    assert (grid.limit_mw <= np.sqrt(rated**2 - q_mvar**2).min(axis=1) + 1e-9).all()
    assert grid.limit_mw == pytest.approx(np.sqrt(rated**2 - q_mvar**2).min(axis=1), rel=0.03)
    assert case.line_percent(flow)[0] == pytest.approx(
        100 * np.abs(flow.i_a[:, [0, 2]]).max(axis=1) / 120, rel=1e-9
    )


def test_branches_without_limit_are_no_lines():
    case = radial(i_max_from_a=[np.nan, 100.0], i_max_to_a=[np.nan, np.nan])
    grid = network_grid(case)
    assert grid.lines == ["A-B"]
    assert np.isfinite(grid.limit_mw).all()
    free = network_grid(site(small_network()))
    assert free.lines == []
    assert free.congestion_mwh(np.full((3, 3), 50.0)) == 0


def test_mesh_has_negative_entries_that_b_takes_and_prices_refuse():
    case = meshed()
    grid = network_grid(case)
    factor = grid.factor.toarray()
    assert factor[grid.lines.index("A-B"), 0] < -H_LEAST
    hubs = random_hubs(np.random.default_rng(3), 3, 3)
    benchmark = centralised(hubs, grid)
    benchmark.certificate.assert_ok()
    assert benchmark.congestion_mwh <= grid.congestion_mwh(np.zeros((3, 3)) + 1) + 1e-9
    with pytest.raises(DataError, match=r"A-B.*hub_1"):
        linear_prices(benchmark)


def test_faults_are_all_named():
    case = radial()
    with pytest.raises(DataError, match="'Q'") as fault:
        replace(case, hub_bus=pd.Series(["A", "Q", "B"]), limit_share=np.inf)
    assert "limit_share" in str(fault.value)
    with pytest.raises(DataError, match="load_kva"):
        replace(case, load_kva=case.load_kva[:, :2])
    broken = case.load_kva.copy()
    broken[1, 2] = np.nan
    with pytest.raises(DataError, match=r"load_kva.*finite"):
        replace(case, load_kva=broken)
    with pytest.raises(DataError, match="hub_mw"):
        replace(case, hub_mw=case.hub_mw[:, :2])
    with pytest.raises(DataError, match="limit_share"):
        replace(case, limit_share=0.0)
    with pytest.raises(ValueError, match="shape"):
        ac_check(case, network_grid(case), case.hub_mw[:2])
    with pytest.raises(DataError, match="import_mw"):
        network_grid(case, import_mw=np.nan)


def test_certificate_finds_a_wrong_grid_and_bad_voltages():
    case = radial()
    grid = network_grid(case)
    good = ac_check(case, grid, case.hub_mw)
    good.certificate.assert_ok()
    wrong = replace(grid, background_mw=grid.background_mw - 0.5)
    bad = ac_check(case, wrong, case.hub_mw).certificate.frame().set_index("check")["holds"]
    assert bad["linear flows against AC"] == "NO"
    tight = case.network.buses.assign(v_min_pu=0.99)
    low = replace(case, network=replace(case.network, buses=tight))
    check = ac_check(low, grid, case.hub_mw)
    v_pu = np.abs(low.flow.v_pu[:, 2])
    assert check.v_excess_pu == pytest.approx(0.99 - v_pu, abs=1e-9)
    assert not check.certificate.ok
    assert good.certificate.ok


def test_overload_that_the_linear_grid_reports_is_none_of_its_faults():
    case = radial()
    case = case.at(case.hub_mw + 1.0)
    check = ac_check(case, network_grid(case), case.hub_mw)
    assert check.ac_percent.max() > 105
    assert (check.frame()["ac_hours_over"] == (check.ac_percent > 100).sum(axis=1)).all()
    beyond = check.certificate.frame().set_index("check")["value"]
    assert beyond["AC current beyond limit and linear loading"] < 1


def test_simbench_feeder_is_congested_and_relieved():
    """AC confirms B at its own operating point, to less than 1 % of the limits."""
    hubs, case = simbench_mv()
    plan = centralised(hubs, network_grid(case)).schedule.w_mw
    case = case.at(plan)
    grid = network_grid(case)
    benchmark = centralised(hubs, grid)
    benchmark.certificate.assert_ok()
    ac_check(case, grid, benchmark.schedule.w_mw).certificate.assert_ok()
    prices = linear_prices(benchmark)
    assert prices.optimal
    ac_check(case, grid, prices.answer.schedule.w_mw).certificate.assert_ok()
