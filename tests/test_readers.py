"""Networks from pandapower and SimBench: their power flow is pandapower's, and what is refused."""

from __future__ import annotations

import builtins
import copy
import logging
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flexlib import DataError, Network, power_flow, read_network
from flexlib.errors import MissingExtra

pp = pytest.importorskip("pandapower")
pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("pandapower").setLevel(logging.ERROR)


def agree(net: Any) -> Network:
    """Compare voltages, currents and loadings with pandapower's own power flow, to 1e-7."""
    network = read_network(net)
    net = copy.deepcopy(net)
    pp.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-9, numba=False, init="dc")
    flow = power_flow(network)
    v_pu, i_a = flow.v_pu[0], np.abs(flow.i_a[0])
    (slack,) = np.flatnonzero(network.buses["v_slack_pu"].notna())
    buses = net.res_bus.dropna(subset="vm_pu")
    theirs = buses["vm_pu"] * np.exp(1j * np.radians(buses["va_degree"]))
    (external,) = net.ext_grid["bus"][net.ext_grid["in_service"]]
    theirs = theirs * np.exp(-1j * np.angle(theirs[external]))
    assert v_pu[slack] == pytest.approx(theirs[external], abs=1e-12)
    position = {bus: k for k, bus in enumerate(network.buses["bus"])}
    named = [bus for bus in buses.index if net.bus.at[bus, "name"] in position]
    at = [position[net.bus.at[bus, "name"]] for bus in named]
    np.testing.assert_allclose(v_pu[at], theirs[named], atol=1e-7)
    apart = np.abs(theirs.to_numpy()[:, None] - v_pu).min(axis=1)  # joined buses, too
    assert apart.max() < 1e-7
    auxiliary = network.buses["bus"].str.startswith("auxiliary").sum()
    assert len(set(at)) + auxiliary == len(network.buses)

    where = {branch: k for k, branch in enumerate(network.branches["branch"])}
    count, seen = len(where), set()
    limits = network.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()
    loading_pct = np.nan_to_num(100 * i_a / limits)
    for element, ends in (
        ("line", ("from", "to")), ("trafo", ("hv", "lv")), ("trafo3w", ("hv", "mv", "lv")),
        ("impedance", ("from", "to")),
    ):  # fmt: skip
        for row, result in net[f"res_{element}"].iterrows():
            branch = str(net[element].at[row, "name"])
            if element == "trafo3w" and f"{branch} hv" in where:
                rows = [where[f"{branch} {end}"] + count * (end != "hv") for end in ends]
            elif branch in where:
                rows = [where[branch], where[branch] + count]
            else:
                assert not result.filter(like="i_").abs().sum() > 0, branch
                continue
            seen |= {row % count for row in rows}
            expected = [1000 * result[f"i_{end}_ka"] for end in ends]
            np.testing.assert_allclose(i_a[rows], np.nan_to_num(expected), atol=1e-4, rtol=1e-7)
            if element != "impedance" and np.isfinite(limits[rows]).all():
                percent = net[element].at[row, "max_loading_percent"]
                share = 1 if np.isnan(percent) else percent / 100
                ours = loading_pct[rows].max() * share
                assert ours == pytest.approx(np.nan_to_num(result["loading_percent"]), abs=1e-5)
    others = network.branches["branch"].isin(["switch 0", "X0"]).sum()
    assert len(seen) + others == count
    return network


# --------------------------------------------------------------------------------------------
# Nets


def base() -> Any:
    """110/20/0.4 kV: two transformers in parallel, a ring, names for everything."""
    net = pp.create_empty_network(sn_mva=10)
    rng = np.random.default_rng(5)
    hv = pp.create_bus(net, 110, name="HV", min_vm_pu=0.95, max_vm_pu=1.08)
    mv = [pp.create_bus(net, 20, name=f"MV {k}", min_vm_pu=0.9, max_vm_pu=1.1) for k in range(5)]
    lv = [pp.create_bus(net, 0.4, name=f"LV {k}") for k in range(3)]
    pp.create_ext_grid(net, hv, vm_pu=1.01, va_degree=20)
    for k in range(2):
        pp.create_transformer(net, hv, mv[0], "25 MVA 110/20 kV", name=f"T{k}")
    pp.create_transformer(
        net, mv[2], lv[0], "0.63 MVA 20/0.4 kV", name="T2", max_loading_percent=80
    )
    ring = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]
    for k, (one, other) in enumerate(ring):
        pp.create_line(net, mv[one], mv[other], 2 + k, "NA2XS2Y 1x185 RM/25 12/20 kV", name=f"M{k}")
    for k in range(2):
        pp.create_line(net, lv[k], lv[k + 1], 0.2, "NAYY 4x150 SE", name=f"L{k}")
    for k, bus in enumerate([*mv[1:], *lv]):
        size = 1.5 if bus in mv else 0.05
        p_mw = size * rng.uniform(0.3, 1)
        pp.create_load(net, bus, p_mw=p_mw, q_mvar=0.3 * p_mw, name=f"load {k}")
    net.line["max_loading_percent"] = [100.0, 60.0, np.nan, 80.0, 100.0, 100.0, 120.0]
    return net


def bus(net: Any, name: str) -> int:
    return int(net.bus.index[net.bus["name"] == name][0])


def taps(net: Any) -> None:
    columns = ["tap_side", "tap_pos", "tap_step_percent", "tap_step_degree", "tap_changer_type"]
    kinds = [
        ("hv", 3, 1.5, np.nan, "Ratio"), ("hv", 3, 1.5, np.nan, "Ratio"),
        ("lv", -2, 2.5, np.nan, "Ratio"),
    ]  # fmt: skip
    net.trafo["tap_neutral"] = 0.0
    for column, values in zip(columns, zip(*kinds, strict=True), strict=True):
        net.trafo[column] = list(values)


def angle_taps(net: Any) -> None:
    taps(net)
    net.trafo["tap_step_degree"] = [60.0, 60.0, 90.0]
    net.trafo.loc[2, "tap_pos"] = 2


def ideal_shifter(net: Any) -> None:
    net.trafo["tap_changer_type"] = ["Ideal", "Ideal", None]
    net.trafo["tap_step_percent"] = np.nan
    net.trafo["tap_step_degree"] = 2.0
    net.trafo["tap_pos"] = [2, 2, 0]


def circulating(net: Any) -> None:
    """Two transformers in parallel at different taps."""
    taps(net)
    net.trafo.loc[1, "tap_pos"] = -1


def shifts(net: Any) -> None:
    net.trafo["shift_degree"] = [30.0, 30.0, -90.0]


def rated_apart(net: Any) -> None:
    """Rated voltages that are not those of the buses; parallel units, derated."""
    net.trafo["vn_hv_kv"] = [112.0, 112.0, 21.0]
    net.trafo["vn_lv_kv"] = [20.5, 20.5, 0.42]
    net.trafo["parallel"], net.trafo["df"] = [1, 2, 2], [0.9, 1.0, 0.8]
    net.line["parallel"], net.line["df"] = [1, 2, 1, 3, 1, 1, 2], [1, 0.7, 1, 1, 0.9, 1, 1]
    net.line["g_us_per_km"] = 0.4


def shunts(net: Any) -> None:
    pp.create_shunt(net, bus(net, "MV 3"), q_mvar=-0.8, p_mw=0.02, step=2, name="capacitor")
    pp.create_shunt(net, bus(net, "MV 4"), q_mvar=0.5, vn_kv=21.0, name="coil")
    pp.create_shunt(net, bus(net, "MV 1"), q_mvar=9.0, in_service=False)


def wards(net: Any) -> None:
    pp.create_ward(net, bus(net, "MV 1"), ps_mw=0.3, qs_mvar=0.1, pz_mw=0.2, qz_mvar=-0.1)
    pp.create_ward(net, bus(net, "MV 1"), 3, 1, 2, 1, in_service=False)
    pp.create_xward(net, bus(net, "MV 3"), 0.4, 0.1, 0.1, 0.05, 0.5, 2.0, 1.0, name="X0")
    pp.create_xward(net, bus(net, "MV 2"), 4, 1, 1, 1, 1, 2, 1.0, in_service=False, name="X1")


def trafo3w(net: Any) -> None:
    extra = [pp.create_bus(net, kv, name=f"E{kv}") for kv in (20, 10)]
    pp.create_transformer3w(
        net, bus(net, "HV"), *extra, "63/25/38 MVA 110/20/10 kV", name="three", tap_pos=2,
        max_loading_percent=90,
    )  # fmt: skip
    net.trafo3w["shift_mv_degree"], net.trafo3w["shift_lv_degree"] = 30.0, -30.0
    pp.create_load(net, extra[0], 12, 3, name="E20 load")
    pp.create_load(net, extra[1], 8, -2, name="E10 load")
    pp.create_transformer3w(
        net, bus(net, "HV"), *extra, "63/25/38 MVA 110/20/10 kV", name="off", in_service=False
    )


def switches(net: Any) -> None:
    """Open at a line's end, at a transformer, in a busbar; closed ones that join three buses."""
    line = {name: k for k, name in net.line["name"].items()}
    pp.create_switch(net, bus(net, "MV 3"), line["M2"], et="l", closed=False)
    pp.create_switch(net, bus(net, "MV 4"), line["M3"], et="l", closed=True)
    pp.create_switch(net, bus(net, "MV 0"), 1, et="t", closed=False)
    joint = pp.create_bus(net, 20, name="joint", type="n")
    nodes = [pp.create_bus(net, 20, name=f"node {k}", type="b") for k in range(2)]
    pp.create_switch(net, bus(net, "MV 4"), joint, et="b", closed=True)
    pp.create_switch(net, joint, nodes[0], et="b", closed=True, z_ohm=0.0)
    pp.create_switch(net, bus(net, "MV 1"), nodes[1], et="b", closed=True, z_ohm=0.4)
    pp.create_switch(net, nodes[0], nodes[1], et="b", closed=False)
    for k, node in enumerate([joint, *nodes]):
        pp.create_load(net, node, 0.2, 0.05, name=f"at node {k}")


def out_of_service(net: Any) -> None:
    """Elements, then a bus with a line, a load and a generator at it."""
    net.line.loc[net.line["name"] == "M4", "in_service"] = False
    net.trafo.loc[0, "in_service"] = False
    net.load.loc[1, "in_service"] = False
    net.bus.loc[bus(net, "MV 3"), "in_service"] = False
    pp.create_gen(net, bus(net, "MV 3"), 1.0, name="dead")
    pp.create_gen(net, bus(net, "MV 1"), 1.0, name="off", in_service=False, slack=True)
    pp.create_ext_grid(net, bus(net, "MV 1"), in_service=False)


def island(net: Any) -> None:
    """Buses with load and generation that nothing connects."""
    far = [pp.create_bus(net, 20, name=f"far {k}") for k in range(2)]
    pp.create_line(net, *far, 1, "NA2XS2Y 1x185 RM/25 12/20 kV", name="far line")
    pp.create_load(net, far[0], 1, 0.2, name="far load")
    pp.create_sgen(net, far[1], 1, name="far sgen")
    pp.create_gen(net, far[1], 1, name="far gen")
    pp.create_bus(net, 20, name="alone")


def infeeds(net: Any) -> None:
    pp.create_sgen(net, bus(net, "MV 2"), 0.9, 0.3, name="PV", scaling=0.5)
    pp.create_sgen(
        net, bus(net, "MV 4"), 0.9, 0.6, name="wind", min_q_mvar=-0.1, max_q_mvar=0.1,
        controllable=True,
    )  # fmt: skip
    pp.create_storage(net, bus(net, "LV 1"), p_mw=-0.02, max_e_mwh=1, q_mvar=0.01, name="battery")
    pp.create_motor(net, bus(net, "LV 2"), pn_mech_mw=0.02, cos_phi=0.8, efficiency_percent=90)
    pp.create_motor(net, bus(net, "LV 2"), pn_mech_mw=2, cos_phi=0.8, in_service=False)
    net.load["scaling"] = np.linspace(0.5, 1.3, len(net.load))


def gens(net: Any) -> None:
    pp.create_gen(net, bus(net, "MV 3"), p_mw=2.0, vm_pu=1.02, name="G1", scaling=0.8)
    pp.create_gen(net, bus(net, "MV 3"), p_mw=0.5, vm_pu=1.02, name="G2")
    pp.create_gen(net, bus(net, "MV 1"), p_mw=1.0, vm_pu=1.01, name="G3", max_q_mvar=0.01)
    pp.create_gen(net, bus(net, "HV"), p_mw=9.0, vm_pu=1.01, name="at the slack")
    pp.create_sgen(net, bus(net, "MV 3"), 0.3, 0.1, name="beside")


def impedances(net: Any) -> None:
    new = pp.create_bus(net, 20, name="behind")
    pp.create_impedance(net, bus(net, "MV 2"), new, 0.01, 0.03, sn_mva=5, name="Z", gf_pu=0.001,
                        bf_pu=0.01, gt_pu=0.001, bt_pu=0.01)  # fmt: skip
    pp.create_load(net, new, 0.7, 0.2, name="behind it")
    pp.create_impedance(net, bus(net, "MV 2"), new, 0.1, 0.3, 5, name="Z off", in_service=False)


def impedance_between_voltages(net: Any) -> None:
    low = pp.create_bus(net, 10, name="low")
    pp.create_impedance(net, bus(net, "MV 2"), low, 0.01, 0.06, sn_mva=5, name="Z")
    pp.create_load(net, low, 0.7, 0.2, name="low load")


def indices(net: Any) -> None:
    """Indices with gaps and in no order."""
    pp.toolbox.reindex_buses(net, dict(zip(net.bus.index, [40, 7, 3, 99, 12, 5, 61, 2, 8])))  # noqa: B905
    net.bus = net.bus.sort_index()
    net.line.index = [30, 4, 9, 1, 77, 6, 5]
    net.trafo.index = [8, 2, 5]
    pp.create_switch(net, bus(net, "MV 3"), 9, et="l", closed=False)


KINDS: list[Callable[[Any], None]] = [
    taps, angle_taps, ideal_shifter, circulating, shifts, rated_apart, shunts, wards, trafo3w,
    switches, out_of_service, island, infeeds, gens, impedances, impedance_between_voltages,
    indices,
]  # fmt: skip


@pytest.mark.parametrize("change", [lambda net: None, *KINDS], ids=lambda f: f.__name__)
def test_a_net_of_each_kind(change: Callable[[Any], None]) -> None:
    plain, net = base(), base()
    change(net)
    network = agree(net)
    if change in KINDS and change is not island:
        before = read_network(plain)
        same = network.buses.equals(before.buses) and network.branches.equals(before.branches)
        assert not (same and network.loads.equals(before.loads))


def test_everything_at_once() -> None:
    net = base()
    for change in (
        shifts, circulating, shunts, wards, trafo3w, switches, island, infeeds, impedances,
    ):  # fmt: skip
        change(net)
    pp.create_gen(net, bus(net, "MV 2"), p_mw=1.0, vm_pu=1.0, name="G")
    agree(net)


@pytest.mark.parametrize("code", ["1-LV-semiurb4--2-sw", "1-MV-comm--1-no_sw"])
def test_simbench(code: str) -> None:
    agree(pytest.importorskip("simbench").get_simbench_net(code))


def test_a_code_is_read_like_its_net(monkeypatch: pytest.MonkeyPatch) -> None:
    simbench = pytest.importorskip("simbench")
    net, asked = base(), []
    monkeypatch.setattr(simbench, "get_simbench_net", lambda code: asked.append(code) or net)
    network = read_network("1-HVMV-urban-2.203-0-no_sw")
    assert (network.name, asked) == ("1-HVMV-urban-2.203-0-no_sw", ["1-HVMV-urban-2.203-0-no_sw"])
    assert network.buses.equals(read_network(net).buses)


@pytest.mark.parametrize(
    "name", ["create_cigre_network_mv", "create_cigre_network_hv", "case14", "case33bw", "iceland"]
)
def test_nets_of_pandapower(name: str) -> None:
    net = getattr(pp.networks, name)()
    for element in ("bus", "line", "trafo"):
        net[element]["name"] = [f"{element} {k}" for k in net[element].index]
        if element != "bus" and "max_loading_percent" not in net[element]:
            net[element]["max_loading_percent"] = np.nan
    agree(net)


# --------------------------------------------------------------------------------------------
# Tables


def test_reading_leaves_the_net_as_it_is() -> None:
    net = base()
    for change in (taps, shunts, wards, trafo3w, switches, infeeds, gens):
        change(net)
    net.shunt.loc[0, "vn_kv"] = np.nan  # the converter would fill this in
    before = copy.deepcopy(net)
    read_network(net)
    assert set(net) == set(before)
    for key, value in before.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(net[key], value, obj=key)
        elif not key.startswith("_"):
            assert net[key] == value, key
    for lookup in ("bus", "branch", "gen"):
        assert net._pd2ppc_lookups[lookup] is None


def test_limits_are_rated_currents_times_the_admitted_loading() -> None:
    net = base()
    trafo3w(net)
    rated_apart(net)
    network = read_network(net)
    limits = network.branches.set_index("branch")[["i_max_from_a", "i_max_to_a"]]
    line = 1000 * net.line["max_i_ka"]
    assert limits.loc["M1"].tolist() == pytest.approx([line[1] * 0.6 * 2 * 0.7] * 2)
    assert limits.loc["M2"].tolist() == pytest.approx([line[2]] * 2)  # empty: 100 %
    share = 0.8 * 2 * 0.8 * 630 / np.sqrt(3)
    assert limits.loc["T2"].tolist() == pytest.approx([share / 21, share / 0.42])
    windings = limits.loc[["three hv", "three mv", "three lv"]].to_numpy()
    expected = 0.9 * 1000 / np.sqrt(3) * np.array([63 / 110, 25 / 20, 38 / 10])
    np.testing.assert_allclose(windings[[0, 1, 2], [0, 1, 1]], expected)
    assert np.isnan(windings[[0, 1, 2], [1, 0, 0]]).all()


def test_no_limit_is_no_limit() -> None:
    net = base()
    net.line.loc[0, "max_i_ka"], net.line.loc[1, "max_i_ka"] = 99999.0, 0.0
    del net.trafo["max_loading_percent"]
    limits = read_network(net).branches.set_index("branch")["i_max_from_a"]
    assert limits[["M0", "M1"]].isna().all()
    assert limits["T2"] == pytest.approx(630 / np.sqrt(3) / 20)


def test_voltage_limits() -> None:
    net = base()
    net.bus.loc[bus(net, "MV 1"), ["min_vm_pu", "max_vm_pu"]] = [0.0, 2.0]
    limits = read_network(net).buses.set_index("bus")[["v_min_pu", "v_max_pu"]]
    assert limits.loc["HV"].tolist() == [0.95, 1.08]
    assert limits.loc["LV 1"].tolist() == [0.9, 1.1]  # none given
    assert limits.loc["MV 1"].tolist() == [0.9, 1.1]  # none, as pandapower writes it
    del net.bus["min_vm_pu"], net.bus["max_vm_pu"]
    assert read_network(net).buses["v_min_pu"].eq(0.9).all()


def test_loads_keep_their_names_and_add_up() -> None:
    net = base()
    infeeds(net)
    wards(net)
    gens(net)
    loads = read_network(net).loads.set_index("load")
    assert loads.loc["PV", ["p_kw", "q_kvar"]].tolist() == [-450, -150]
    assert loads.loc["wind", ["p_kw", "q_kvar"]].tolist() == [-900, -600]
    assert loads.loc["battery", "p_kw"] == -20
    assert loads.loc["G1", ["p_kw", "q_kvar"]].tolist() == [-1600, 0]
    assert loads.loc["others at MV 1", "p_kw"] == pytest.approx(300)
    assert loads.loc["others at LV 2", "p_kw"] == pytest.approx(20 / 0.9)
    assert "at the slack" not in loads.index
    assert len(loads) == len(net.load) + 2 + 1 + 3 + 1 + 3


@pytest.mark.parametrize("names", [[None] * 7, ["", *"abcdef"], list("aabcdef"), [" ", *"abcdef"]])
def test_names_that_are_missing_or_doubled_give_way_to_indices(names: list[Any]) -> None:
    net = base()
    net.line["name"] = names
    net.load["name"] = names
    network = read_network(net)
    assert network.branches["branch"].tolist() == [*map(str, range(7)), "T0", "T1", "T2"]
    assert network.loads["load"].tolist() == [*map(str, range(7))]


def test_numeric_names_are_text() -> None:
    net = base()
    net.bus["name"] = np.arange(10, 19)
    net.load["name"] = [1, "1", *range(2, 7)]  # the same text twice
    network = read_network(net)
    assert network.buses["bus"].tolist() == [*map(str, range(10, 19))]
    assert network.loads["load"].tolist() == [*map(str, range(7))]


def test_names_that_two_tables_share_have_the_table_in_front() -> None:
    net = base()
    infeeds(net)
    net.sgen["name"] = ["load 0", "other"]
    net.trafo["name"] = ["M0", "T", "TT"]
    network = read_network(net)
    assert {"load load 0", "sgen load 0", "sgen other"} <= set(network.loads["load"])
    assert {"line M0", "trafo M0", "trafo T"} <= set(network.branches["branch"])


def test_a_bus_of_several_is_named_after_its_busbar() -> None:
    net = base()
    switches(net)
    network = read_network(net)
    assert {"MV 4", "node 1"} <= set(network.buses["bus"])
    assert not {"joint", "node 0"} & set(network.buses["bus"])
    at = network.loads.set_index("load")["bus"]
    assert at[["at node 0", "at node 1", "at node 2"]].tolist() == ["MV 4", "MV 4", "node 1"]
    assert (network.branches["branch"] == "switch 0").sum() == 1


def test_coordinates() -> None:
    net = base()
    assert read_network(net).buses[["x", "y"]].isna().all().all()
    net.bus["geo"] = None
    net.bus.loc[bus(net, "MV 1"), "geo"] = '{"coordinates": [8.5, 53.25], "type": "Point"}'
    buses = read_network(net).buses.set_index("bus")
    assert buses.loc["MV 1", ["x", "y"]].tolist() == [8.5, 53.25]
    assert np.isnan(buses.loc["MV 2", "x"])


def test_a_generator_may_be_the_slack() -> None:
    net = base()
    external = read_network(net)
    net.ext_grid["in_service"] = False
    pp.create_gen(net, bus(net, "HV"), p_mw=99.0, vm_pu=1.01, slack=True, name="slack")
    network = read_network(net)
    pd.testing.assert_frame_equal(network.buses, external.buses)
    pd.testing.assert_frame_equal(network.loads, external.loads)


def test_two_external_grids_at_one_bus_are_one() -> None:
    net = base()
    before = read_network(net)
    pp.create_ext_grid(net, bus(net, "HV"), vm_pu=1.01, va_degree=20)
    pd.testing.assert_frame_equal(read_network(net).buses, before.buses)


# --------------------------------------------------------------------------------------------
# Refusals


def constant_impedance(net: Any) -> None:
    net.load.loc[2, "const_z_p_percent"] = 30.0
    net.load.loc[3, "const_i_q_percent"] = 10.0


def uneven_impedance(net: Any) -> None:
    ends = bus(net, "MV 1"), bus(net, "MV 3")
    pp.create_impedance(net, *ends, 0.01, 0.02, 5, rtf_pu=0.03, xtf_pu=0.02, bf_pu=0.5, bt_pu=0.0)


def asymmetric(net: Any) -> None:
    pp.create_asymmetric_load(net, bus(net, "LV 1"), p_a_mw=0.01)
    pp.create_asymmetric_load(net, bus(net, "LV 1"), p_a_mw=0.01, in_service=False)
    pp.create_asymmetric_sgen(net, bus(net, "LV 1"), p_a_mw=0.01)


def power_electronics(net: Any) -> None:
    pp.create_dcline(net, bus(net, "MV 1"), bus(net, "MV 3"), 1, 1, 0.01, 1.0, 1.0)
    pp.create_svc(net, bus(net, "MV 1"), 1, -10, 1.0, 90)
    pp.create_ssc(net, bus(net, "MV 1"), 0, 10, 1.0)
    pp.create_tcsc(net, bus(net, "MV 1"), bus(net, "MV 2"), 1, -10, 5, 90)


def uneven_leakage(net: Any) -> None:
    net.trafo["leakage_resistance_ratio_hv"] = 0.5
    net.trafo["leakage_reactance_ratio_hv"] = [0.5, 0.5, 0.7]


def two_slacks(net: Any) -> None:
    pp.create_ext_grid(net, bus(net, "MV 4"))


def slack_and_gen(net: Any) -> None:
    pp.create_gen(net, bus(net, "MV 4"), 1, slack=True)


def no_slack(net: Any) -> None:
    net.ext_grid["in_service"] = False
    pp.create_gen(net, bus(net, "MV 4"), 1, slack=True, in_service=False)


def dead_slack(net: Any) -> None:
    net.bus.loc[bus(net, "HV"), "in_service"] = False


def unequal_setpoints(net: Any) -> None:
    for vm_pu in (1.0, 1.02):
        pp.create_gen(net, bus(net, "MV 4"), 1, vm_pu=vm_pu)


def negative_star(net: Any) -> None:
    trafo3w(net)
    net.trafo3w["vkr_mv_percent"] = 0.01
    net.trafo3w["vkr_hv_percent"] = 0.01
    net.trafo3w["vkr_lv_percent"] = 1.0


def odd_values(net: Any) -> None:
    net.load.loc[1, "p_mw"] = np.nan
    net.line.loc[2, "length_km"] = 0.0
    net.bus.loc[bus(net, "MV 2"), "min_vm_pu"] = 1.3


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (
            constant_impedance,
            [
                "net.load, row 2, column const_z_p_percent: found 30, expected 0: constant power",
                "net.load, row 3, column const_i_q_percent: found 10, expected 0: constant power",
            ],
        ),
        (
            uneven_impedance,
            [
                "net.impedance, row 0, column rtf_pu: found 0.03, "
                "expected the value of rft_pu (0.01)",
                "net.impedance, row 0, column bt_pu: found 0, expected the value of bf_pu (0.5)",
            ],
        ),
        (
            asymmetric,
            [
                "net.asymmetric_load, row 0, column in_service: found True, "
                "expected balanced loads",
                "net.asymmetric_sgen, row 0, column in_service: found True, "
                "expected balanced generators",
            ],
        ),
        (
            power_electronics,
            [
                f"net.{element}, row 0, column in_service: found True, expected no {word}"
                for element, word in (
                    ("svc", "static var compensator"),
                    ("tcsc", "series compensator"),
                    ("ssc", "static synchronous compensator"),
                    ("dcline", "direct-current line"),
                )
            ],
        ),
        (
            uneven_leakage,
            [
                "net.trafo, row 2, column leakage_reactance_ratio_hv: found 0.7, "
                "expected 0.5: equal halves"
            ],
        ),
        (
            two_slacks,
            ["net.ext_grid, column bus: found 2 in service (HV, MV 4), expected exactly one"],
        ),
        (
            slack_and_gen,
            ["net.ext_grid, column bus: found 2 in service (HV, MV 4), expected exactly one"],
        ),
        (no_slack, ["net.ext_grid: found none in service, expected exactly one"]),
        (
            dead_slack,
            [
                "net: found 'No reference bus is available. Either add an ext_grid or a gen with "
                "slack=True', expected a net that pandapower can convert"
            ],
        ),
        (
            unequal_setpoints,
            [
                "net: found 'Voltage controlling elements, i.e. generators, external grids, or DC "
                "lines, at the same bus have different setpoints.', "
                "expected a net that pandapower can convert"
            ],
        ),
        (
            odd_values,
            [
                "pandapower net, buses, row MV 2, column v_min_pu: found 1.3, "
                "expected a number from 0.5 to 1.1 p.u.",
                "pandapower net, branches, row M2, column r_ohm, x_ohm: found 0 and 0, "
                "expected a series impedance above zero",
                "pandapower net, loads, row load 1, column p_kw: found an empty cell, "
                "expected a number from -1e+08 to 1e+08 kW",
                "pandapower net, buses, row MV 2, column v_min_pu: found 1.3, "
                "expected at most v_max_pu (1.1)",
            ],
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_represented_is_named(
    change: Callable[[Any], None], faults: list[str]
) -> None:
    net = base()
    change(net)
    with pytest.raises(DataError) as error:
        read_network(net)
    assert {str(fault) for fault in error.value.faults} <= set(faults)
    assert {str(fault).split(":")[0] for fault in error.value.faults} == {
        fault.split(":")[0] for fault in faults
    }


def test_a_star_with_a_negative_resistance() -> None:
    net = base()
    negative_star(net)
    with pytest.raises(DataError) as error:
        read_network(net)
    (fault,) = error.value.faults
    assert (fault.file, fault.row) == ("pandapower net, branches", "three mv")
    assert fault.column == "r_ohm"
    assert float(fault.value) < 0


def test_what_is_not_in_service_is_not_refused() -> None:
    net = base()
    before = read_network(net)
    asymmetric(net)
    power_electronics(net)
    uneven_impedance(net)
    for element in ("asymmetric_load", "asymmetric_sgen", "dcline", "svc", "ssc", "tcsc"):
        net[element]["in_service"] = False
    net.impedance["in_service"] = False
    pp.create_load(net, bus(net, "MV 1"), 1, const_z_p_percent=50, in_service=False, name="z")
    network = read_network(net)
    assert network.loads.equals(before.loads)
    assert len(network.branches) == len(before.branches)


def test_a_net_of_one_bus() -> None:
    net = pp.create_empty_network(name="lonely")
    pp.create_ext_grid(net, pp.create_bus(net, 20))
    with pytest.raises(DataError) as error:
        read_network(net)
    assert [str(fault) for fault in error.value.faults] == [
        "lonely, branches: found no rows, expected at least one row",
        "lonely, loads: found no rows, expected at least one row",
    ]


@pytest.mark.parametrize("source", [None, 3, {}, {"bus": 1}])
def test_a_source_that_is_none(source: Any) -> None:
    with pytest.raises(DataError, match="expected a folder, a SimBench code or a pandapower net"):
        read_network(source)


def test_a_code_that_simbench_does_not_have() -> None:
    pytest.importorskip("simbench")
    with pytest.raises(DataError, match=r"SimBench: found '1-LV-rural9--0-sw', expected one of"):
        read_network("1-LV-rural9--0-sw")


@pytest.mark.parametrize("missing", ["simbench", "pandapower"])
def test_a_missing_package_is_named_with_its_command(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "1-LV-rural1--0-sw" if missing == "simbench" else base()
    for module in [m for m in sys.modules if m.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, module)
    original = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("flexlib.readers.import_module", without)
    with pytest.raises(MissingExtra) as error:
        read_network(source)
    assert str(error.value) == f"{missing} is not installed: pip install 'flexlib[readers]'"
