"""Sensitivities against differences of independent power flows and a dense Jacobian."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feeders import STABLE, Dense, networks, random_network, small_network
from hypothesis import given
from hypothesis import strategies as st
from test_readers import base, circulating, gens, shifts, shunts, switches, trafo3w, wards

from flexlib import Network, power_flow, read_network, sensitivity
from flexlib.admittance import Admittance
from flexlib.errors import PowerFlowError
from flexlib.sensitivity import OperatingPoint, along, operating_points
from flexlib.stand_in import stand_in

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("pandapower").setLevel(logging.ERROR)


def point(network: Network) -> OperatingPoint:
    (found,) = operating_points(network)
    return found


def positions(network: Network, names: list[str]) -> np.ndarray:
    at = {name: k for k, name in enumerate(network.buses["bus"])}
    return np.array([at[name] for name in names])


# --------------------------------------------------------------------------------------------
# Differences of pandapower's power flow of the net itself


def with_names(net: Any) -> Any:
    for element in ("bus", "line", "trafo"):
        net[element]["name"] = [f"{element} {k}" for k in net[element].index]
    return net


def radial() -> Any:
    pp = pytest.importorskip("pandapower")
    return with_names(pp.networks.create_cigre_network_lv())


def meshed() -> Any:
    net = base()
    for change in (circulating, shunts):
        change(net)
    return net


def shifted() -> Any:
    net = base()
    for change in (shifts, trafo3w, wards, switches):
        change(net)
    return net


def generators() -> Any:
    net = base()
    gens(net)
    return net


def transmission() -> Any:
    pp = pytest.importorskip("pandapower")
    return with_names(pp.networks.case30())


def public_grid() -> Any:
    """The stand-in, made of its tables with lines and transformers of pandapower."""
    pp = pytest.importorskip("pandapower")
    network = stand_in("down").network
    buses, branches = network.buses, network.branches
    net = pp.create_empty_network(sn_mva=1)
    pp.create_buses(net, len(buses), vn_kv=buses["v_nom_kv"].to_numpy(), name=buses["bus"])
    pp.create_ext_grid(net, network.slack)
    rows = branches.assign(f=network.from_bus, t=network.to_bus)
    for row in rows.itertuples():
        v_from, v_to = buses["v_nom_kv"][row.f], buses["v_nom_kv"][row.t]
        if v_from == v_to:
            c_nf = row.b_us * 1e3 / (2 * np.pi * 50)
            pp.create_line_from_parameters(
                net, row.f, row.t, 1, row.r_ohm, row.x_ohm, c_nf, 1, name=row.branch,
                g_us_per_km=row.g_us,
            )  # fmt: skip
            continue
        z_ohm, y_s = t_model(complex(row.r_ohm, row.x_ohm), complex(row.g_us, row.b_us) * 1e-6 / 2)
        z_pct, s_mva = 100 * z_ohm / v_to**2, y_s * v_to**2  # of 1 MVA
        pp.create_transformer_from_parameters(
            net, row.f, row.t, 1.0, v_from, v_to, z_pct.real, abs(z_pct), s_mva.real * 1e3,
            100 * abs(s_mva), shift_degree=row.shift_deg, name=row.branch,
        )  # fmt: skip
    at = network.load_bus
    power = network.loads[["p_kw", "q_kvar"]].to_numpy().T / 1000
    pp.create_loads(net, at, p_mw=power[0], q_mvar=power[1], name=network.loads["load"])
    return net


def t_model(z: complex, half: complex) -> tuple[complex, complex]:
    """Series impedance and shunt of the T with equal halves that is this symmetric pi."""
    y = half * (2 + z * half)
    return (2 * z * half / y if y else z), y


class Differences:
    """Central differences of a net's power flow, extrapolated from two steps."""

    def __init__(self, net: Any, network: Network) -> None:
        self.pp = pytest.importorskip("pandapower")
        self.net, self.network = copy.deepcopy(net), network
        self.sgen = self.pp.create_sgen(self.net, net.bus.index[0], 0.0, name="step")
        self.solve(init="dc")

    def solve(self, init: str = "results") -> None:
        self.pp.runpp(
            self.net, calculate_voltage_angles=True, tolerance_mva=1e-10, numba=False, init=init
        )

    def state(self, bus: int, s_mva: complex) -> tuple[np.ndarray, np.ndarray]:
        """Voltages (p.u.) of the named buses, currents (A) at both ends of the named branches."""
        net = self.net
        net.sgen.loc[self.sgen, ["bus", "p_mw", "q_mvar"]] = [bus, s_mva.real, s_mva.imag]
        self.solve()
        v_pu = net.res_bus["vm_pu"] * np.exp(1j * np.radians(net.res_bus["va_degree"]))
        (external,) = net.ext_grid["bus"]
        back = np.exp(-1j * np.angle(v_pu[external]))
        ends = []
        for element, sides in (("line", ("from", "to")), ("trafo", ("hv", "lv"))):
            for side in sides if len(net[element]) else ():
                result = net[f"res_{element}"]
                angle = np.exp(1j * np.radians(result[f"va_{side}_degree"]))
                v_kv = result[f"vm_{side}_pu"] * angle * back
                v_kv = v_kv * net.bus["vn_kv"][net[element][f"{side}_bus"]].to_numpy()
                s = result[f"p_{side}_mw"] + 1j * result[f"q_{side}_mvar"]
                ends.append(np.conj(s / (np.sqrt(3) * v_kv)).to_numpy() * 1e3)
        return (v_pu * back).to_numpy(), np.concatenate(ends)

    def ours(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the net's buses that the network has, theirs in it, rows of the branch ends."""
        place = {bus: k for k, bus in enumerate(self.network.buses["bus"])}
        branch = {name: k for k, name in enumerate(self.network.branches["branch"])}
        known = np.array([name in place for name in self.net.bus["name"]])
        buses = np.array([place[name] for name in self.net.bus["name"][known]])
        ends = []
        for element in ("line", "trafo"):
            at = np.array([branch.get(name, -1) for name in self.net[element]["name"]], dtype=int)
            if len(at):
                ends += [at, np.where(at < 0, -1, at + len(branch))]
        return np.flatnonzero(known), buses, np.concatenate(ends)

    def derivative(self, bus: int, kva: complex) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of v, i, |v| and |i| by one unit of `kva`: value and difference of the two steps.

        Steps are small against the loads, and large against what pandapower rounds.
        """
        v_kv = self.net.bus.at[bus, "vn_kv"]
        step_mva = 2e-4 if v_kv < 1 else 0.02 if v_kv < 60 else 0.5
        found = []
        for step in (step_mva, step_mva / 2):
            s_mva = step * kva / abs(kva)
            up, down = self.state(bus, s_mva), self.state(bus, -s_mva)
            width = 2 * step * 1000 / abs(kva)
            parts = [(a - b) / width for a, b in zip(up, down, strict=True)]
            parts += [(np.abs(a) - np.abs(b)) / width for a, b in zip(up, down, strict=True)]
            found.append(parts)
        return [((4 * b - a) / 3, b - a) for a, b in zip(*found, strict=True)]


NETS: dict[str, Callable[[], Any]] = {
    "low voltage, radial": radial,
    "meshed, taps, shunts": meshed,
    "shifts, three windings, wards, switches": shifted,
    "generators in a distribution grid": generators,
    "transmission case": transmission,
    "stand-in": public_grid,
}


@pytest.mark.parametrize("name", NETS)
def test_differences_of_pandapower(name: str) -> None:
    net = NETS[name]()
    network = read_network(net)
    ours = point(network)
    differences = Differences(net, network)
    rows, buses, ends = differences.ours()
    live = ends >= 0
    rng = np.random.default_rng(0)
    # At a bus without load the current may be zero, where its magnitude has no derivative.
    loaded = np.setdiff1d(network.load_bus, [*network.pv, network.slack])
    names = set(network.buses["bus"].iloc[loaded])
    loaded_rows = [k for k in rows if net.bus["name"].iloc[k] in names]
    chosen = rng.choice(loaded_rows, min(6, len(loaded_rows)), replace=False)
    for kva in (1.0, 1j, 1 - 0.4j):
        at = positions(network, net.bus["name"].iloc[chosen].tolist())
        dv_pu, di_a = ours.response(at, np.full(len(at), kva, dtype=complex))
        for column, k in enumerate(chosen):
            v, i, size_v, size_i = differences.derivative(int(net.bus.index[k]), kva)
            for mine, (theirs, change), pick, all_of in (
                (dv_pu[buses, column], v, rows, dv_pu[:, column]),
                (di_a[ends[live], column], i, live, di_a[:, column]),
                (ours.vtdf(dv_pu)[buses, column], size_v, rows, dv_pu[:, column]),
                (ours.ltdf_a(di_a)[ends[live], column], size_i, live, di_a[:, column]),
            ):
                scale = np.abs(all_of).max()
                # Extrapolation beats the halving; where steps do not matter, rounding does.
                error = np.abs(mine - theirs[pick])
                assert (error <= 0.1 * np.abs(change[pick]) + 5e-8 * scale).all(), error / scale


def test_the_nets_are_of_different_kinds() -> None:
    read = {name: read_network(make()) for name, make in NETS.items()}
    radial_net, mesh = read["low voltage, radial"], read["meshed, taps, shunts"]
    assert radial_net.is_radial
    assert not mesh.is_radial
    assert (mesh.branches["ratio_pu"] != 1).sum() >= 2
    assert (mesh.buses["b_us"] != 0).any()
    shifts_deg = read["shifts, three windings, wards, switches"].branches["shift_deg"]
    assert len(set(shifts_deg.round(6))) >= 3
    assert len(read["generators in a distribution grid"].pv) == 2
    assert len(read["transmission case"].pv) == 5
    assert len(read["stand-in"].buses) == 456


def test_the_stand_in_of_pandapower_parts_has_the_same_power_flow() -> None:
    """Its transformers are given by other data than ours, so this is no tautology."""
    net = public_grid()
    differences = Differences(net, stand_in("down").network)
    v_pu, i_a = differences.state(0, 0j)
    flow = power_flow(stand_in("down").network)
    _, buses, ends = differences.ours()
    np.testing.assert_allclose(v_pu, flow.v_pu[0][buses], atol=1e-9)
    np.testing.assert_allclose(i_a, flow.i_a[0][ends], atol=1e-4)


# --------------------------------------------------------------------------------------------
# Differences of power-grid-model, and a Jacobian in rectangular coordinates


@STABLE
@given(networks())
def test_differences_of_power_grid_model(network: Network) -> None:
    ours, h = point(network), 2.0
    bus = network.load_bus
    for kva in (1.0, 1j):
        step = h * kva * np.eye(len(bus))
        flows = [
            power_flow(network, network.s_load_kva - share * step) for share in (1, -1, 0.5, -0.5)
        ]
        dv_pu, di_a = ours.response(bus, np.full(len(bus), kva, dtype=complex))
        for mine, at, tolerance in (
            (dv_pu, [flow.v_pu.T for flow in flows], 1e-10),
            (di_a, [flow.i_a.T for flow in flows], 1e-8),
        ):
            wide, narrow = (at[0] - at[1]) / (2 * h), (at[2] - at[3]) / h
            error = np.abs((4 * narrow - wide) / 3 - mine)
            assert error.max() <= tolerance + 1e-6 * np.abs(mine).max()


def dense_response(network: Network, v_pu: np.ndarray, bus: int, kva: complex) -> np.ndarray:
    """dv of one injection: the power balance differentiated in real and imaginary parts."""
    dense = Dense(network)
    u = v_pu * dense.u
    size, pv = len(u), network.pv
    rows, right = [], []
    eye = np.eye(size)
    current = np.conj(dense.y_bus @ u)
    for k in range(size):
        real = current[k] * eye[k] + u[k] * np.conj(dense.y_bus[k])  # by Re u
        imag = 1j * (current[k] * eye[k] - u[k] * np.conj(dense.y_bus[k]))  # by Im u
        power = np.concatenate([real, imag])
        s_va = kva * 1000 / 3 * (k == bus)
        if k == dense.slack:
            pairs = [
                (np.concatenate([eye[k], 0 * eye[k]]), 0),
                (np.concatenate([0 * eye[k], eye[k]]), 0),
            ]
        elif k in pv:
            pairs = [
                (power.real, s_va.real),
                (np.concatenate([u.real * eye[k], u.imag * eye[k]]), 0),
            ]
        else:
            pairs = [(power.real, s_va.real), (power.imag, s_va.imag)]
        rows += [row for row, _ in pairs]
        right += [value for _, value in pairs]
    solution = np.linalg.solve(np.array(rows), np.array(right, dtype=float))
    return (solution[:size] + 1j * solution[size:]) / dense.u


def with_generators(network: Network, count: int, seed: int) -> Network:
    """Let some buses hold the voltage that they have."""
    rng = np.random.default_rng(seed)
    v_pu = np.abs(power_flow(network).v_pu[0])
    free = np.flatnonzero(network.buses["v_slack_pu"].isna())
    held = rng.choice(free, min(count, len(free) - 1), replace=False)
    v_gen_pu = np.full(len(v_pu), np.nan)
    v_gen_pu[held] = np.clip(v_pu[held] + rng.uniform(-0.005, 0.005, len(held)), 0.8, 1.2)
    return replace(network, buses=network.buses.assign(v_gen_pu=v_gen_pu))


@STABLE
@given(networks(), st.integers(0, 3), st.integers(0, 1000))
def test_the_jacobian_in_rectangular_coordinates(network: Network, count: int, seed: int) -> None:
    network = with_generators(network, count, seed)
    ours = point(network)
    rng = np.random.default_rng(seed)
    bus = rng.integers(0, len(network.buses), 11)
    kva = rng.uniform(-2, 2, 11) + 1j * rng.uniform(-2, 2, 11)
    dv_pu, di_a = ours.response(bus, kva)
    expected = np.array(
        [dense_response(network, ours.v_pu, *one) for one in zip(bus, kva, strict=True)]
    ).T
    np.testing.assert_allclose(dv_pu, expected, atol=1e-9 * np.abs(expected).max() + 1e-15)
    dense = Dense(network)
    di = dense.y_end @ (expected * dense.u[:, None])
    np.testing.assert_allclose(di_a, di, atol=1e-8 * np.abs(di).max() + 1e-12)


def test_the_jacobian_is_that_of_the_injected_powers() -> None:
    """By complex-step differences of p and q in polar coordinates."""
    network = with_generators(random_network(3, 9, 1, 1), 2, 0)
    ours, y = point(network), Admittance(network).y_bus.toarray()
    angle, size = np.angle(ours.v_pu), np.abs(ours.v_pu)
    free = np.setdiff1d(np.arange(9), network.slack)
    magnitude = np.setdiff1d(free, network.pv)
    g, b = y.real, y.imag

    def powers(angle: np.ndarray, size: np.ndarray) -> np.ndarray:
        apart = angle[:, None] - angle
        p = size * ((g * np.cos(apart) + b * np.sin(apart)) @ size)
        q = size * ((g * np.sin(apart) - b * np.cos(apart)) @ size)
        return np.concatenate([p[free], q[magnitude]])

    h, eye = 1e-30, np.eye(9)
    columns = [powers(angle + 1j * h * eye[k], size + 0j).imag / h for k in free]
    columns += [powers(angle + 0j, size + 1j * h * eye[k]).imag / h for k in magnitude]
    np.testing.assert_allclose(ours.jacobian.toarray(), np.array(columns).T, atol=1e-9, rtol=1e-12)


# --------------------------------------------------------------------------------------------
# Properties


@cache
def held() -> Network:
    return with_generators(random_network(11, 14, 2, 1), 3, 1)


def test_reactive_power_has_no_effect_where_the_voltage_is_held() -> None:
    ours, pv = point(held()), held().pv
    dv_pu, di_a = ours.response(pv, np.full(len(pv), 1j))
    assert len(pv) == 3
    assert not dv_pu.any()
    assert not di_a.any()
    active, _ = ours.response(pv, np.ones(len(pv)))
    both, _ = ours.response(pv, np.full(len(pv), 1 + 5j))
    np.testing.assert_array_equal(active, both)
    assert np.abs(active).max() > 0
    assert np.abs(ours.vtdf(active)[pv]).max() < 1e-15
    assert not active[held().slack].any()


def test_injections_at_the_slack_have_no_effect() -> None:
    ours = point(held())
    dv_pu, di_a = ours.response(np.array([held().slack]), np.array([3 + 1j]))
    assert not dv_pu.any()
    assert not di_a.any()


@contextmanager
def chunks_of(size: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "_CHUNK", size)
        patch.setattr(sensitivity, "_IN_CACHE", 1)
        yield


@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 100])
def test_chunks_do_not_matter(size: int) -> None:
    ours, rng = point(held()), np.random.default_rng(2)
    bus = rng.integers(0, 14, 17)
    kva = rng.normal(size=17) + 1j * rng.normal(size=17)
    whole = ours.response(bus, kva)
    with chunks_of(size):
        parts = ours.response(bus, kva)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14 * np.abs(a).max())
    assert [part.shape for part in parts] == [(14, 17), (2 * len(held().branches), 17)]


def test_no_injection_gives_no_columns() -> None:
    dv_pu, di_a = point(held()).response(np.array([], dtype=int), np.array([], dtype=complex))
    assert dv_pu.shape == (14, 0)
    assert di_a.shape == (2 * len(held().branches), 0)


def test_superposition_at_one_bus() -> None:
    ours = point(held())
    bus = np.full(3, int(held().load_bus[0]))
    dv_pu, di_a = ours.response(bus, np.array([2, 3j, 2 + 3j]))
    np.testing.assert_allclose(dv_pu[:, 0] + dv_pu[:, 1], dv_pu[:, 2], atol=1e-15)
    np.testing.assert_allclose(di_a[:, 0] + di_a[:, 1], di_a[:, 2], atol=1e-11)


def test_currents_are_those_of_the_power_flow() -> None:
    flow, ours = power_flow(held()), point(held())
    np.testing.assert_array_equal(ours.v_pu, flow.v_pu[0])
    np.testing.assert_allclose(ours.i_a, flow.i_a[0], rtol=1e-12)


def test_an_operating_point_for_each_case() -> None:
    network = random_network(4, 8)
    s_kva = np.array([network.s_load_kva, 0.5 * network.s_load_kva])
    one, other = operating_points(network, s_kva)
    np.testing.assert_array_equal(one.v_pu, power_flow(network, s_kva[0]).v_pu[0])
    np.testing.assert_array_equal(other.v_pu, power_flow(network, s_kva[1]).v_pu[0])
    assert one.admittance is other.admittance
    with pytest.raises(PowerFlowError):
        operating_points(network, 1e4 * s_kva)


def test_a_current_of_zero_has_no_derivative_of_its_magnitude() -> None:
    """The end of a feeder without load: its current is the rounding of a difference."""
    network = small_network(
        branches={"ratio_pu": [1.0, 1.0137], "shift_deg": [0.0, 30.0]},
        loads={"bus": ["A", "A", "A"]},
    )
    ours = point(network)
    dv_pu, di_a = ours.response(positions(network, ["B", "A"]), np.ones(2))
    ltdf_a = ours.ltdf_a(di_a)
    assert 0 < np.abs(ours.i_a[[1, 3]]).max() < 1e-9
    assert not ltdf_a[[1, 3]].any()
    assert np.abs(di_a[1, 0]) > 0.05
    assert np.abs(ltdf_a[[0, 2]]).min() > 0.05
    assert ours.vtdf(dv_pu)[positions(network, ["B"]), 0] > 0


def test_a_small_current_through_a_short_line_has_one() -> None:
    """A watt through a milliohm: far below the loads of a grid, far above rounding."""
    network = small_network(
        branches={"r_ohm": [1e-3, 1e-3], "x_ohm": [1e-3, 1e-3]},
        loads={"p_kw": [0.0, 1e-3, 0.0], "q_kvar": [0.0, 0.0, 0.0]},
    )
    ours = point(network)
    assert np.abs(ours.i_a) == pytest.approx(1e-3 / (np.sqrt(3) * 10), rel=1e-3)
    _, di_a = ours.response(positions(network, ["B"]), np.ones(1))
    np.testing.assert_allclose(ours.ltdf_a(di_a)[:, 0], -1 / (np.sqrt(3) * 10), rtol=1e-3)


def test_change_of_a_magnitude() -> None:
    z, dz = np.array([3 + 4j, 0, -2]), np.array([[1 + 0j, 1j], [1, 1], [1, 1j]])
    np.testing.assert_allclose(along(z, dz), [[0.6, 0.8], [0, 0], [-1, 0]], atol=1e-15)


def test_units_by_hand() -> None:
    """One line: dv = z* ds / v in p.u., di = ds / (sqrt(3) v)."""
    frames = small_network(loads={"p_kw": [0.0, 0.0, 0.0], "q_kvar": [0.0, 0.0, 0.0]})
    ours = point(frames)
    at = positions(frames, ["A", "B"])
    dv_pu, di_a = ours.response(at[1:], np.array([1 + 0.5j]))
    z_ohm = np.array([0.5 + 0.7j, 1.3 + 1.1j])
    np.testing.assert_allclose(dv_pu[at, 0], z_ohm * (1 - 0.5j) / (10**2 * 1000), rtol=1e-9)
    expected_a = (1 - 0.5j) / (np.sqrt(3) * 10)
    np.testing.assert_allclose(di_a[:, 0], expected_a * np.array([-1, -1, 1, 1]), rtol=1e-9)
    assert isinstance(ours.admittance.ends, pd.DataFrame)
