"""Admittances against dense ones in volts and amperes."""

from __future__ import annotations

import numpy as np
import pytest
from feeders import STABLE, Dense, networks, small_network
from hypothesis import given

from flexlib import Network
from flexlib.admittance import Admittance

networks_drawn = given(networks())


@STABLE
@networks_drawn
def test_branch_end_currents_are_those_of_the_pi_model(network: Network) -> None:
    ours, dense = Admittance(network), Dense(network)
    rng = np.random.default_rng(0)
    v_pu = 1 + 0.1 * (rng.normal(size=len(dense.u)) + 1j * rng.normal(size=len(dense.u)))
    expected = dense.y_end @ (v_pu * dense.u)
    i_a = ours.y_end @ v_pu * ours.ends["i_base_a"]
    np.testing.assert_allclose(i_a, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    bus_a = ours.y_bus @ v_pu * 1000 / np.sqrt(3) / network.buses["v_nom_kv"]
    expected = dense.y_bus @ (v_pu * dense.u)
    np.testing.assert_allclose(bus_a, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@STABLE
@networks_drawn
def test_voltages_solve_the_equations_of_all_buses_but_the_slack(network: Network) -> None:
    ours, dense = Admittance(network), Dense(network)
    rng = np.random.default_rng(1)
    i_pu = rng.normal(size=len(dense.u)) + 1j * rng.normal(size=len(dense.u))
    v_pu = ours.voltages(i_pu)
    assert v_pu[network.slack] == network.buses["v_slack_pu"][network.slack]
    i_base_a = 1000 / np.sqrt(3) / network.buses["v_nom_kv"].to_numpy()
    residual = dense.y_bus @ (v_pu * dense.u) / i_base_a - i_pu
    assert np.abs(residual[dense.free]).max() < 1e-7
    np.testing.assert_allclose(ours.v_no_load_pu, dense.v_idle / dense.u, atol=1e-9)
    response = ours.voltage_response(np.column_stack([i_pu, 2j * i_pu]))
    np.testing.assert_allclose(response[:, 0], v_pu - ours.v_no_load_pu, atol=1e-9)
    np.testing.assert_allclose(response[:, 1], 2j * response[:, 0], atol=1e-9)
    assert not response[network.slack].any()


def test_ends_name_branch_side_bus_and_limit() -> None:
    network = small_network(branches={"i_max_from_a": [75.0, np.nan], "i_max_to_a": [np.nan, 60.0]})
    ends = Admittance(network).ends
    assert ends[["branch", "end", "bus"]].to_numpy().tolist() == [
        ["S-A", "from", "S"],
        ["A-B", "from", "A"],
        ["S-A", "to", "A"],
        ["A-B", "to", "B"],
    ]
    assert ends["i_max_a"].tolist() == [75, np.inf, np.inf, 60]
    np.testing.assert_allclose(ends["i_base_a"], 1000 / (np.sqrt(3) * 10))


def transformer(ratio_pu: float, shift_deg: float) -> Network:
    return small_network(
        buses={"v_nom_kv": [0.4, 10.0, 0.4]},
        branches={"r_ohm": [0.003, 0.01], "x_ohm": [0.01, 0.01]}
        | {"ratio_pu": [ratio_pu, np.nan], "shift_deg": [shift_deg, np.nan]},
    )


def test_ratio_and_shift_lower_and_delay_the_to_end() -> None:
    v_pu = Admittance(transformer(1.05, 30)).v_no_load_pu
    np.testing.assert_allclose(v_pu[[0, 2]], 1 / 1.05 * np.exp(-1j * np.pi / 6), atol=1e-12)


def test_an_ideal_ratio_loses_no_power() -> None:
    network = transformer(0.98, 150)
    ours = Admittance(network)
    v_pu = ours.voltages(np.array([0.02 - 0.1j, 0, -0.3j]))
    i_pu = ours.y_end @ v_pu
    into = v_pu[network.from_bus] * np.conj(i_pu[:2]) + v_pu[network.to_bus] * np.conj(i_pu[2:])
    z_base = network.buses["v_nom_kv"].to_numpy()[network.to_bus] ** 2 * 1000 / 1000
    z_pu = (network.branches["r_ohm"] + 1j * network.branches["x_ohm"]) / z_base
    np.testing.assert_allclose(into, z_pu * np.abs(i_pu[2:]) ** 2, atol=1e-12)


def test_charging_counts_half_at_each_end_and_at_both_in_the_bus() -> None:
    network = small_network(branches={"b_us": [40.0, 0.0]}, buses={"b_us": [0.0, 0.0, 8.0]})
    ours = Admittance(network)
    flat = ours.y_end @ np.ones(3) * ours.ends["i_base_a"]
    one_end = 20e-6 * 10_000 / np.sqrt(3)
    np.testing.assert_allclose(flat, [1j * one_end, 0, 1j * one_end, 0], atol=1e-9)
    assert (ours.y_bus @ np.ones(3))[2] * 1000 / (10 * np.sqrt(3)) == pytest.approx(
        8e-6j * 10_000 / np.sqrt(3)
    )
