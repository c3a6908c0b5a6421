"""The linear AC model: its baseline, its slope, and what it leaves out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import STABLE, Dense, networks, random_network
from hypothesis import given
from hypothesis import strategies as st

from flexlib import DataError, Network
from flexlib.linear_ac import LinearFlow, linear_flow
from flexlib.powerflow import power_flow


def with_loads(network: Network, s_kva: np.ndarray) -> Network:
    loads = network.loads.assign(p_kw=s_kva.real, q_kvar=s_kva.imag)
    return replace(network, loads=loads)


@STABLE
@given(networks())
def test_baseline_is_the_ac_power_flow(network: Network) -> None:
    flow, ac = linear_flow(network), power_flow(network)
    np.testing.assert_allclose(flow.v0_pu, ac.v_pu[0], atol=1e-9)
    np.testing.assert_allclose(flow.i0_a, ac.i_a[0], atol=1e-6 * (1 + np.abs(ac.i_a).max()))


@STABLE
@given(networks(), st.integers(0, 2**32 - 1))
def test_response_is_the_slope_of_the_linear_model(network: Network, seed: int) -> None:
    flow, rng = linear_flow(network), np.random.default_rng(seed)
    load = rng.integers(0, len(network.loads), 3)
    ds_kva = 100 * (rng.normal(size=3) + 1j * rng.normal(size=3))
    dv_pu, di_a = flow.response(load, ds_kva)
    dense = Dense(network)
    for column in range(3):
        step = np.zeros(len(network.loads), dtype=complex)
        step[load[column]] = ds_kva[column]
        up, down = (
            LinearFlow(with_loads(network, network.s_load_kva + sign * step), flow.v_fixed_pu)
            for sign in (1, -1)
        )
        np.testing.assert_allclose(dv_pu[:, column], (up.v0_pu - down.v0_pu) / 2, atol=1e-10)
        slope_a = (up.i0_a - down.i0_a) / 2
        np.testing.assert_allclose(
            di_a[:, column], slope_a, atol=1e-7 * (1 + np.abs(slope_a).max())
        )
        by_hand = dense.z @ dense.injected(step, flow.v_fixed_pu * dense.u) / dense.u
        np.testing.assert_allclose(dv_pu[:, column], by_hand, atol=1e-9)
    assert not dv_pu[network.slack].any()


def error_of_slope(network: Network, share: float) -> float:
    """Largest relative error of the response against central differences of the AC flow."""
    base = with_loads(network, share * network.s_load_kva)
    worst = 0.0
    for k in range(len(network.loads)):
        if network.load_bus[k] == network.slack:
            continue
        step = np.zeros(len(network.loads), dtype=complex)
        step[k] = 1.0 + 0.5j
        v_pu = power_flow(base, np.array([base.s_load_kva + step, base.s_load_kva - step])).v_pu
        slope = (v_pu[0] - v_pu[1]) / 2
        ours = linear_flow(base).response(np.array([k]), step[[k]])[0][:, 0]
        worst = max(worst, float(np.abs(ours - slope).max() / np.abs(slope).max()))
    return worst


def test_slope_approaches_the_ac_slope_as_loads_vanish() -> None:
    for seed, chords, transformers in ((1, 0, 0), (2, 2, 0), (3, 0, 2), (4, 2, 1)):
        network = random_network(seed, 8, chords, transformers)
        full, tenth, none = (error_of_slope(network, share) for share in (1.0, 0.1, 0.0))
        assert full < 0.3
        assert tenth < 0.2 * full
        assert none < 1e-4


def test_a_load_at_the_slack_moves_nothing() -> None:
    network = random_network(5, 6)
    loads = network.loads.copy()
    loads.loc[0, "bus"] = network.buses["bus"][network.slack]
    network = replace(network, loads=loads)
    dv_pu, di_a = linear_flow(network).response(np.array([0]), np.array([100 + 50j]))
    assert not dv_pu.any()
    assert not di_a.any()


def test_no_load_asked_gives_no_column() -> None:
    network = random_network(6, 6)
    dv_pu, di_a = linear_flow(network).response(np.zeros(0, dtype=int), np.zeros(0, dtype=complex))
    assert dv_pu.shape == (6, 0)
    assert di_a.shape == (2 * len(network.branches), 0)


def test_voltages_that_generators_hold_are_refused() -> None:
    network = random_network(7, 6)
    v_gen_pu = np.where(np.arange(6) == (network.slack + 1) % 6, 1.0, np.nan)
    network = replace(network, buses=network.buses.assign(v_gen_pu=v_gen_pu))
    with pytest.raises(DataError) as error:
        linear_flow(network)
    assert [str(fault) for fault in error.value.faults] == [
        "random 7, column v_gen_pu: found 1 PV buses, expected none in this model"
    ]
