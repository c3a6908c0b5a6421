"""The AC power flow against pandapower, a fixed-point iteration and its own residual."""

from __future__ import annotations

import builtins
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feeders import STABLE, Dense, networks, random_market, random_network, small_network
from hypothesis import given

from flexlib import DataError, Market, Network, power_flow, read_network
from flexlib.admittance import Admittance
from flexlib.errors import MissingExtra, PowerFlowError
from flexlib.powerflow import _linear_angles


@STABLE
@given(networks())
def test_voltages_are_those_of_a_fixed_point_iteration(network: Network) -> None:
    flow, dense = power_flow(network), Dense(network)
    v = dense.ac(network.s_load_kva)
    np.testing.assert_allclose(flow.v_pu[0], v / dense.u, atol=1e-9)
    i_a = dense.y_end @ v
    np.testing.assert_allclose(flow.i_a[0], i_a, atol=1e-6 * (1 + np.abs(i_a).max()))


@STABLE
@given(networks())
def test_power_balances_at_every_bus_but_the_slack(network: Network) -> None:
    flow, dense = power_flow(network), Dense(network)
    v = flow.v_pu[0] * dense.u
    leaving_kva = 3 * v * np.conj(dense.y_bus @ v) / 1000
    np.add.at(leaving_kva, dense.bus_of, network.s_load_kva)
    worst = np.abs(leaving_kva[dense.free]).max()
    assert worst < 1e-3
    assert flow.mismatch_kva == pytest.approx(worst, abs=1e-5)
    assert flow.v_pu[0, network.slack] == pytest.approx(
        network.buses["v_slack_pu"][network.slack], abs=1e-12
    )


def by_pandapower(network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bus voltages (complex, p.u.) and current magnitudes (A) at from and to ends."""
    pp = pytest.importorskip("pandapower")
    net = pp.create_empty_network(f_hz=50, sn_mva=1)
    buses = network.buses
    for bus in buses.itertuples():
        at = pp.create_bus(net, vn_kv=bus.v_nom_kv)
        y_ms = complex(bus.g_us, -bus.b_us) * 1e-6
        s_mva = y_ms * bus.v_nom_kv**2
        pp.create_shunt(net, at, p_mw=s_mva.real, q_mvar=s_mva.imag)
    pp.create_ext_grid(net, network.slack, vm_pu=buses["v_slack_pu"][network.slack])
    for load in network.loads.assign(at=network.load_bus).itertuples():
        pp.create_load(net, load.at, p_mw=load.p_kw / 1000, q_mvar=load.q_kvar / 1000)
    kinds = []
    for line, one, other in zip(
        network.branches.itertuples(), network.from_bus, network.to_bus, strict=True
    ):
        v_from, v_to = buses["v_nom_kv"][one], buses["v_nom_kv"][other]
        if v_from == v_to and line.ratio_pu == 1 and line.shift_deg == 0:
            c_nf = line.b_us * 1e3 / (2 * np.pi * 50)
            pp.create_line_from_parameters(
                net, one, other, 1, line.r_ohm, line.x_ohm, c_nf, 1, g_us_per_km=line.g_us
            )
            kinds.append("line")
            continue
        z_pct = 100 * complex(line.r_ohm, line.x_ohm) / v_to**2
        pp.create_transformer_from_parameters(
            net, one, other, sn_mva=1, vn_hv_kv=v_from * line.ratio_pu, vn_lv_kv=v_to,
            vkr_percent=z_pct.real, vk_percent=abs(z_pct), pfe_kw=0, i0_percent=0,
            shift_degree=line.shift_deg,
        )  # fmt: skip
        kinds.append("trafo")
    pp.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-9, numba=False, init="dc")
    v_pu = net.res_bus.vm_pu * np.exp(1j * np.radians(net.res_bus.va_degree))
    lines, trafos = net.res_line.itertuples(), net.res_trafo.itertuples()
    ends = [
        (row.i_from_ka, row.i_to_ka) if kind == "line" else (row.i_hv_ka, row.i_lv_ka)
        for kind, row in ((kind, next(lines if kind == "line" else trafos)) for kind in kinds)
    ]
    return v_pu.to_numpy(), *(1000 * np.array(ends).T)


@pytest.mark.parametrize(
    ("seed", "size", "chords", "transformers"),
    [(1, 5, 0, 0), (2, 12, 3, 0), (3, 8, 0, 1), (4, 20, 2, 2), (5, 30, 3, 2), (6, 9, 1, 2)],
)
def test_pandapower_finds_the_same(seed: int, size: int, chords: int, transformers: int) -> None:
    network = random_network(seed, size, chords, transformers)
    # Its start, a DC flow, divides by reactances.
    branches = network.branches.assign(x_ohm=network.branches["x_ohm"].clip(lower=0.01))
    network = replace(network, branches=branches)
    v_pu, from_a, to_a = by_pandapower(network)
    flow = power_flow(network)
    np.testing.assert_allclose(flow.v_pu[0], v_pu, atol=1e-7)
    np.testing.assert_allclose(np.abs(flow.i_a[0]), [*from_a, *to_a], atol=1e-3)


def test_the_cases_for_pandapower_have_what_they_are_for() -> None:
    network = random_network(4, 20, 2, 2)
    assert not network.is_radial
    assert (network.branches["ratio_pu"] != 1).sum() == 2
    assert (random_network(5, 30, 3, 2).branches["shift_deg"] != 0).any()
    assert (network.buses["b_us"] != 0).any()
    assert (network.loads["p_kw"] < 0).any() or (random_network(5, 30).loads["p_kw"] < 0).any()


def test_a_batch_is_its_cases_one_by_one() -> None:
    network = random_network(8, 10, 1, 1)
    rng = np.random.default_rng(0)
    s_kva = network.s_load_kva * rng.uniform(-1, 1, (5, len(network.loads)))
    batch = power_flow(network, s_kva)
    assert batch.v_pu.shape == (5, 10)
    assert batch.i_a.shape == (5, 2 * len(network.branches))
    for case in range(5):
        one = power_flow(network, s_kva[case])
        np.testing.assert_allclose(batch.v_pu[case], one.v_pu[0], atol=1e-10)


def test_loads_at_one_bus_add_up() -> None:
    loads = {"load": ["a", "b"], "p_kw": [300.0, 500.0], "q_kvar": [100.0, -20.0]}
    split = small_network(loads=loads | {"bus": ["B", "B"]})
    split = replace(split, loads=split.loads.query("load in ['a', 'b']"))
    whole = small_network(loads={"load": ["a"], "bus": ["B"], "p_kw": [800.0], "q_kvar": [80.0]})
    np.testing.assert_allclose(power_flow(split).v_pu, power_flow(whole).v_pu, atol=1e-12)


def test_consumption_lowers_and_generation_raises_the_voltage() -> None:
    for sign in (1, -1):
        network = small_network(loads={"p_kw": [sign * 500.0] * 3, "q_kvar": [0.0] * 3})
        v_pu = np.abs(power_flow(network).v_pu[0])
        assert sign * (v_pu[1] - v_pu[2]) > 0.01


def test_a_load_beyond_the_limit_of_the_network_raises() -> None:
    network = small_network(loads={"p_kw": [600.0, 90_000.0, 0.0]})
    with pytest.raises(PowerFlowError, match="power flow of small"):
        power_flow(network)


def test_one_impossible_case_of_a_batch_raises() -> None:
    network = small_network()
    s_kva = np.array([network.s_load_kva, 1e3 * network.s_load_kva])
    with pytest.raises(PowerFlowError, match="power flow of small"):
        power_flow(network, s_kva)


def test_nan_in_a_load_raises() -> None:
    network = small_network()
    s_kva = network.s_load_kva.copy()
    s_kva[0] = np.nan
    with pytest.raises(PowerFlowError, match="power flow of small"):
        power_flow(network, s_kva)


# --------------------------------------------------------------------------------------------
# PV buses


CASES = ["case9", "case14", "case30", "case57", "case118", "case300", "case1354pegase"]


def case(name: str) -> tuple[Any, Network]:
    pp = pytest.importorskip("pandapower")
    logging.getLogger("pandapower").setLevel(logging.ERROR)
    net = getattr(pp.networks, name)()
    net.bus["name"] = net.bus.index.astype(str)
    return net, read_network(net)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_pandapower_finds_the_same_with_generators(name: str) -> None:
    pp = pytest.importorskip("pandapower")
    net, network = case(name)
    pp.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-8, numba=False, init="dc")
    theirs = net.res_bus["vm_pu"] * np.exp(1j * np.radians(net.res_bus["va_degree"]))
    (external,) = net.ext_grid["bus"]
    theirs = theirs * np.exp(-1j * np.angle(theirs[external]))
    flow = power_flow(network)
    at = [int(bus) for bus in network.buses["bus"]]
    assert len(network.pv) > 1
    np.testing.assert_allclose(flow.v_pu[0], theirs[at], atol=1e-9)
    np.testing.assert_allclose(np.abs(flow.v_pu[0][network.pv]), network.v_gen_pu, atol=1e-14)
    # Reactive power that the generators give: what the balance of the network leaves at them.
    injected_mva = flow.v_pu[0] * np.conj(Admittance(network).y_bus @ flow.v_pu[0])
    given_mvar = pd.Series(injected_mva.imag, at)
    np.add.at(given_mvar.to_numpy(), network.load_bus, network.loads["q_kvar"] / 1000)
    expected = -net.res_bus["q_mvar"].copy()
    for element, sign in (("load", -1), ("sgen", 1), ("shunt", -1)):
        result = net[f"res_{element}"]["q_mvar"]
        if element != "load":  # shunts are part of the network here, of the bus there
            expected -= sign * result.groupby(net[element]["bus"]).sum().reindex(at).fillna(0)
    expected += net.res_load["q_mvar"].groupby(net.load["bus"]).sum().reindex(at).fillna(0)
    pv = [at[k] for k in network.pv]
    np.testing.assert_allclose(given_mvar[pv], expected[pv], atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_power_balances_where_generators_hold_the_voltage(name: str) -> None:
    _, network = case(name)
    flow, dense = power_flow(network), Dense(network)
    v = flow.v_pu[0] * dense.u
    leaving_kva = 3 * v * np.conj(dense.y_bus @ v) / 1000
    np.add.at(leaving_kva, dense.bus_of, network.s_load_kva)
    others = np.setdiff1d(dense.free, network.pv)
    worst = max(np.abs(leaving_kva[others]).max(), np.abs(leaving_kva[network.pv].real).max())
    assert worst < 1e-3
    assert flow.mismatch_kva == pytest.approx(worst, abs=3e-5)
    assert np.abs(leaving_kva[network.pv].imag).max() > 1e3


def held(v_pu: float = 1.0, **changes: Any) -> Network:
    """The small feeder with a generator at its end, by itself at its bus."""
    v_gen_pu = {"v_gen_pu": [np.nan, np.nan, v_pu]}
    loads = {"bus": ["A", "A", "A"]}
    return small_network(buses=v_gen_pu, loads=loads, **changes)


def test_a_generator_at_a_bus_without_load_holds_the_voltage_by_reactive_power_alone() -> None:
    network = held(1.01)
    flow, dense = power_flow(network), Dense(network)
    v = flow.v_pu[0] * dense.u
    given_kva = 3 * v[2] * np.conj(dense.y_bus[2] @ v) / 1000
    assert abs(flow.v_pu[0, 2]) == pytest.approx(1.01, abs=1e-14)
    assert given_kva.real == pytest.approx(0, abs=1e-6)
    q_kvar = given_kva.imag
    plain = replace(network, buses=network.buses.assign(v_gen_pu=np.nan))
    loads = pd.concat(
        [plain.loads, pd.DataFrame({"load": ["q"], "bus": "B", "p_kw": 0.0, "q_kvar": [-q_kvar]})]
    )
    same = power_flow(replace(plain, loads=loads))
    np.testing.assert_allclose(flow.v_pu, same.v_pu, atol=1e-10)
    np.testing.assert_allclose(flow.i_a, same.i_a, atol=1e-6)


def test_a_batch_with_generators_is_its_cases_one_by_one() -> None:
    rng = np.random.default_rng(1)
    network = random_network(8, 12, 1, 1)
    v_gen_pu = np.where(np.isin(np.arange(12), [3, 7]), 1.01, np.nan)
    v_gen_pu[network.slack] = np.nan
    network = replace(network, buses=network.buses.assign(v_gen_pu=v_gen_pu))
    s_kva = network.s_load_kva * rng.uniform(-1, 2, (6, len(network.loads)))
    batch = power_flow(network, s_kva)
    assert batch.v_pu.shape == (6, 12)
    assert np.ptp(np.angle(batch.v_pu[:, 0])) > 1e-3
    for k in range(6):
        np.testing.assert_allclose(batch.v_pu[k], power_flow(network, s_kva[k]).v_pu[0], atol=1e-10)
    np.testing.assert_allclose(np.abs(batch.v_pu[:, network.pv]), 1.01, atol=1e-14)


def test_a_batch_of_no_case() -> None:
    for network in (held(), small_network()):
        flow = power_flow(network, np.empty((0, 3), dtype=complex))
        assert (flow.v_pu.shape, flow.mismatch_kva) == ((0, 3), 0.0)


def test_the_start_has_nearly_the_angles_of_the_solution() -> None:
    network = held(branches={"r_ohm": [0.0, 0.0], "shift_deg": [30.0, -10.0]})
    share = np.array([[1.0], [-2.0]])
    angle = _linear_angles(Admittance(network), -share * [1.5, 0.0, 0.0])  # at bus A, MW
    flow = power_flow(network, share * [1500.0, 0.0, 0.0])
    np.testing.assert_allclose(angle, np.angle(flow.v_pu), atol=2e-3)
    assert np.abs(angle[0] - angle[1]).max() > 0.02


def test_phase_shifts_before_generators() -> None:
    """The start counts angles with the shift; without it Newton would be far off."""
    for shift_deg in (30.0, 150.0, -150.0, 180.0):
        network = held(branches={"shift_deg": [shift_deg, 0.0]})
        flow, plain = power_flow(network), power_flow(held())
        turn = np.exp(-1j * np.deg2rad(shift_deg)) * np.array([1, np.nan, 1])
        expected = (plain.v_pu[0] * turn)[[0, 2]]
        np.testing.assert_allclose(flow.v_pu[0][[0, 2]], expected, atol=1e-10)


def test_a_case_with_generators_that_has_no_solution_is_named() -> None:
    network = held()
    s_kva = np.array([network.s_load_kva, 1e3 * network.s_load_kva])
    with pytest.raises(PowerFlowError, match="power flow of small: case 1: "):
        power_flow(network, s_kva)
    s_kva[1] = np.nan
    with pytest.raises(PowerFlowError, match="power flow of small"):
        power_flow(network, s_kva)


def test_lightsim2grid_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "lightsim2grid":
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra) as error:
        power_flow(held())
    assert str(error.value) == "lightsim2grid is not installed: pip install 'flexlib[pv]'"
    assert power_flow(small_network()).mismatch_kva < 1e-3  # not needed there


def test_markets_refuse_generators_that_hold_the_voltage() -> None:
    market = random_market(1)
    v_gen_pu = np.full(len(market.network.buses), np.nan)
    v_gen_pu[(market.network.slack + 1) % len(v_gen_pu)] = 1.0
    network = replace(market.network, buses=market.network.buses.assign(v_gen_pu=v_gen_pu))
    with pytest.raises(DataError, match=r"column v_gen_pu: found 1 PV buses, expected none"):
        Market(network, market.offers, market.uncertainty, market.norm).flow  # noqa: B018
