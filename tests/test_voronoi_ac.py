"""Activations beside AC: errors in plain numpy, and limits over all buses and ends."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from feeders import Dense, Offered, offered

from flexlib import Comparison, DataError, Infeasible, activate, linearise
from flexlib.certificate import CertificateError


@cache
def compared(seed: int) -> tuple[Offered, Comparison]:
    """First case from a seed on that has an activation by the linear model."""
    while True:
        case = offered(seed, ("up", "both")[seed % 2])
        try:
            found = activate(case.model, case.bids, case.request_kw)
        except Infeasible:
            seed += 1
        else:
            return case, Comparison(case.connected, found)


def by_dense(case: Offered, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voltages (p.u.) and loadings (per cent, zero without a limit) by the second AC model."""
    network = case.connected.activated
    dense = Dense(network)
    v = dense.ac(case.connected.loads_kva(z[None])[0])
    limit = network.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()
    loading = 100 * np.abs(dense.y_end @ v) / limit
    return np.abs(v / dense.u), np.where(np.isnan(limit), 0.0, loading)


SEEDS = range(0, 50, 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_errors_are_those_of_a_second_power_flow(seed: int) -> None:
    case, comparison = compared(seed)
    v_pu, loading = by_dense(case, comparison.activation.z)
    model, count = case.model, len(case.connected.network.branches)
    dv = comparison.activation.v_pu - v_pu[model.bus]
    assert comparison.v_ac_pu == pytest.approx(v_pu[model.bus], abs=1e-9)
    assert comparison.v_mae_pu == pytest.approx(np.mean(np.abs(dv)), abs=1e-9)
    assert comparison.v_rmse_pu == pytest.approx(np.sqrt(np.mean(dv**2)), abs=1e-9)
    ours, theirs = [], []
    for branch in range(count):
        ends = [k for k, end in enumerate(model.end) if end in (branch, branch + count)]
        if ends:
            assert branch in comparison.branch
            ours.append(max(comparison.activation.loading_percent[ends]))
            theirs.append(max(loading[model.end[ends]]))
    di = np.array(ours) - np.array(theirs)
    assert comparison.loading_percent == pytest.approx(np.array(ours))
    assert comparison.loading_ac_percent == pytest.approx(np.array(theirs), abs=1e-4)
    assert comparison.loading_mae_percent == pytest.approx(np.mean(np.abs(di)), abs=1e-4)
    assert comparison.loading_rmse_percent == pytest.approx(np.sqrt(np.mean(di**2)), abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_violations_are_over_all_buses_and_ends(seed: int) -> None:
    case, comparison = compared(seed)
    network = case.connected.network
    v_pu, loading = by_dense(case, comparison.activation.z)
    free = np.setdiff1d(np.arange(len(v_pu)), network.slack)
    low, high = network.buses["v_min_pu"].to_numpy(), network.buses["v_max_pu"].to_numpy()
    worst = max(0.0, *(v_pu - high)[free], *(low - v_pu)[free])
    assert comparison.v_excess_pu == pytest.approx(worst, abs=1e-9)
    over = max(0.0, loading.max() - 100)
    assert comparison.loading_excess_percent == pytest.approx(over, abs=1e-4)


def test_a_screened_model_does_not_hide_violations() -> None:
    """Here every row is left out, and the limits that AC breaks are still found."""
    case, comparison = compared(0)
    z = case.bids.upper
    none = {"bus": [], "end": [], "v_min_pu": [], "v_max_pu": []}
    rows = {name: np.array(value, dtype=int) for name, value in none.items()}
    model = case.model
    blind = replace(
        model,
        v_pu=model.v_pu[:, :0],
        vtdf=model.vtdf[:, :0],
        i_percent=model.i_percent[:, :0],
        di_percent=model.di_percent[:, :0],
        **rows,
    )
    _, loading = by_dense(case, z)
    assert loading.max() > 101
    over = Comparison(case.connected, replace(comparison.activation, model=blind, z=z))
    assert over.loading_excess_percent == pytest.approx(loading.max() - 100, abs=1e-4)
    assert np.isnan(over.v_mae_pu)
    assert np.isnan(over.loading_rmse_percent)
    with pytest.raises(CertificateError, match="AC loadings beyond 100 %"):
        over.certificate.assert_ok()
    branch = case.connected.network.branches["branch"]
    worst = int(np.argmax(loading)) % len(branch)
    assert f"{branch[worst]} at {loading.max():.4f} %" in over.worst()


def test_only_rows_that_can_bind_give_the_same_comparison() -> None:
    for seed in SEEDS:
        case, comparison = compared(seed)
        kept = linearise(case.connected, case.points, only_binding=True)
        found = Comparison(case.connected, activate(kept, case.bids, case.request_kw))
        cost = comparison.activation.cost_eur_per_h
        assert found.activation.cost_eur_per_h == pytest.approx(cost, rel=1e-6, abs=1e-6)
        at_z = Comparison(case.connected, replace(found.activation, z=comparison.activation.z))
        assert at_z.loading_excess_percent == comparison.loading_excess_percent
        assert at_z.v_excess_pu == comparison.v_excess_pu


def test_voltages_beyond_a_limit_fail_the_gate_and_are_named() -> None:
    case, comparison = compared(0)
    network = case.connected.network
    k = int(case.model.bus[0])
    v_pu = by_dense(case, comparison.activation.z)[0][k]
    for column, sign in (("v_max_pu", -1), ("v_min_pu", 1)):
        buses = network.buses.assign(v_min_pu=0.5, v_max_pu=1.5)
        buses.loc[k, column] = v_pu + sign * 0.002
        tight = replace(case.connected, network=replace(network, buses=buses))
        found = Comparison(tight, comparison.activation)
        assert found.v_excess_pu == pytest.approx(0.002, abs=1e-9)
        with pytest.raises(CertificateError, match="AC voltages beyond their limits"):
            found.certificate.assert_ok()
        assert f"{network.buses['bus'][k]} at {v_pu:.5f} p.u." in found.worst()


def test_held_voltages_are_no_violation() -> None:
    for seed in (0, 10, 15):
        case = offered(seed, "up", pv=True)
        network = case.connected.network
        held = [network.slack, *network.pv]
        buses = network.buses.copy()
        buses.loc[held, "v_max_pu"] = 0.95
        buses.loc[held, "v_min_pu"] = 0.5
        tight = replace(case.connected, network=replace(network, buses=buses))
        with pytest.raises(DataError, match="while nothing is activated"):
            linearise(tight, case.points)
        model = linearise(tight, case.points, relief=True)
        assert not set(model.bus) & set(held)
        try:
            found = Comparison(tight, activate(model, case.bids, case.request_kw))
        except Infeasible:
            continue
        rest = np.delete(np.arange(len(buses)), held)
        v_pu = np.abs(found.flow.v_pu[0])
        beyond = np.maximum(v_pu - buses["v_max_pu"], buses["v_min_pu"] - v_pu)[rest].max()
        assert found.v_excess_pu == pytest.approx(max(0.0, beyond), abs=1e-12)
