"""The public stand-in: its files made again, its draws, and what all bids at once do to it."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from test_sensitivity import public_grid

from flexlib import DataError, data_path, power_flow, read_network
from flexlib.stand_in import StandIn, stand_in

pytestmark = pytest.mark.filterwarnings("ignore")
FOLDER = data_path("feeders/simbench-lv-6")


def test_the_files_are_what_the_package_of_simbench_gives() -> None:
    pytest.importorskip("simbench")
    from make_stand_in import texts

    for name, text in texts().items():
        assert (FOLDER / f"{name}.csv").read_bytes() == text.encode(), name


def test_counts_and_totals() -> None:
    network = read_network(FOLDER)
    v_nom_kv = network.buses["v_nom_kv"].to_numpy()
    transformers = v_nom_kv[network.from_bus] != v_nom_kv[network.to_bus]
    assert (len(network.buses), transformers.sum(), (~transformers).sum()) == (456, 6, 449)
    assert network.is_radial
    assert len(network.loads) == network.loads["bus"].nunique() == 420
    assert network.loads["p_kw"].sum() == pytest.approx(1706, abs=0.5)
    assert (network.loads["p_kw"] > 0).all()
    assert (network.branches["shift_deg"][transformers] != 0).all()
    assert (network.branches["ratio_pu"] == 1).all()
    assert network.branches[["i_max_from_a", "i_max_to_a"]].notna().all().all()
    assert network.buses["bus"].iloc[network.slack] == "substation"
    assert set(v_nom_kv) == {0.4, 20.0}


def test_it_can_be_drawn() -> None:
    """Lines are about as long as they are drawn, on a feeder whose stations are apart."""
    network = read_network(FOLDER)
    at_km = network.buses[["x", "y"]].to_numpy()
    assert np.isfinite(at_km).all()
    alike = network.buses[["x", "y"]].duplicated(keep=False)
    stations = network.buses["bus"][alike & (network.buses["v_nom_kv"] == 20)]
    assert alike.sum() == 2 * len(stations)  # some stand on the bus that they feed
    drawn_km = np.linalg.norm(at_km[network.from_bus] - at_km[network.to_bus], axis=1)
    low = network.buses["v_nom_kv"].to_numpy()[network.from_bus] < 1
    assert drawn_km[low].max() < 0.5
    assert drawn_km.max() < 3


@pytest.mark.parametrize("direction", ["down", "up"])
def test_an_instance(direction: str) -> None:
    case, peak = stand_in(direction, 3), read_network(FOLDER)
    other = {"down": "up", "up": "down"}[direction]
    table = case.bids.table
    assert len(table) == len(case.sites) == case.sites["bus"].nunique() == 241
    assert set(case.sites["bus"]) <= set(peak.loads["bus"])
    assert table[f"{direction}_max_kw"].sum() == pytest.approx(3600)
    assert table[f"{other}_max_kw"].sum() == 0
    assert case.request_kw == {"down": -1800.0, "up": 1800.0}[direction]
    share = {"down": 0.1, "up": 0.3}[direction]
    np.testing.assert_allclose(case.network.s_load_kva, share * peak.s_load_kva)
    factor = table[f"{direction}_max_kw"] / case.sites["bus"].map(
        peak.loads.set_index("bus")["p_kw"]
    )
    assert np.log(factor).std() == pytest.approx(0.4, abs=0.05)
    price = table[f"price_{direction}_eur_per_mwh"]
    cheap = case.sites["bus"].str[:3].isin(["LV2", "LV3", "LV5"]) & (direction == "up")
    assert price[~cheap].between(50, 150).all()
    assert price[~cheap].mean() == pytest.approx(100, abs=10)
    if direction == "up":
        assert price[cheap].between(22.5, 67.5).all()
        assert price[cheap].mean() == pytest.approx(45, abs=5)
        assert cheap.sum() > 50


def checksum(case: StandIn) -> str:
    """Of the tables to nine digits."""
    tables = (case.bids.table, case.sites, case.network.loads)
    text = "".join(table.to_csv(index=False, float_format="%.9g") for table in tables)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_draws_are_the_same_everywhere() -> None:
    found = {
        (way, seed): checksum(stand_in(way, seed)) for way in ("down", "up") for seed in (1, 2)
    }
    assert found == {
        ("down", 1): "d39e4d4e4562bdfc",
        ("down", 2): "e7f7f5edace3df40",
        ("up", 1): "c601e8662db923f0",
        ("up", 2): "b67f360893d36d06",
    }
    assert checksum(stand_in("down")) == found["down", 1]


def test_seeds_differ() -> None:
    assert set(stand_in("down", 1).sites["bus"]) != set(stand_in("down", 2).sites["bus"])
    assert stand_in("down", 1).sites.equals(stand_in("up", 1).sites)


@pytest.mark.parametrize(
    ("direction", "overloaded", "most_pct", "v_min_pu", "v_max_pu"),
    [("down", 39, 202.6, 0.8873, 1.0), ("up", 15, 152.1, 1.0, 1.0614)],
)
def test_all_bids_at_once_by_pandapower(
    direction: str, overloaded: int, most_pct: float, v_min_pu: float, v_max_pu: float
) -> None:
    pp = pytest.importorskip("pandapower")
    case, net = stand_in(direction), public_grid()
    power = case.network.loads[["p_kw", "q_kvar"]].to_numpy() / 1000
    net.load["p_mw"], net.load["q_mvar"] = power.T
    sign = {"down": -1, "up": 1}[direction]
    position = {bus: k for k, bus in enumerate(net.bus["name"])}
    volume_mw = case.bids.table[f"{direction}_max_kw"].to_numpy() / 1000
    for bus, p_mw in zip(case.sites["bus"], volume_mw, strict=True):
        pp.create_sgen(net, position[bus], sign * p_mw)
    pp.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-9, numba=False, init="dc")
    limits = case.network.branches.set_index("branch")[["i_max_from_a", "i_max_to_a"]]
    loading_pct = []
    for element, ends in (("line", ("from", "to")), ("trafo", ("hv", "lv"))):
        result = net[f"res_{element}"][[f"i_{end}_ka" for end in ends]].to_numpy() * 1000
        loading_pct.append((100 * result / limits.loc[net[element]["name"]]).max(axis=1))
    loading = pd.concat(loading_pct)
    v_pu = net.res_bus["vm_pu"]
    assert (loading > 100).sum() == overloaded
    assert loading.max() == pytest.approx(most_pct, abs=0.05)
    assert v_pu.min() == pytest.approx(v_min_pu, abs=5e-4)
    assert v_pu.max() == pytest.approx(v_max_pu, abs=5e-4)

    loads = pd.DataFrame(
        {"load": case.sites["bid"], "bus": case.sites["bus"]}
        | {"p_kw": -sign * 1000 * volume_mw, "q_kvar": 0.0}
    )
    network = read_network(FOLDER)
    network = type(network)(network.buses, network.branches, pd.concat([case.network.loads, loads]))
    flow = power_flow(network)
    np.testing.assert_allclose(np.abs(flow.v_pu[0]), v_pu, atol=1e-9)
    ours = 100 * np.abs(flow.i_a[0]) / limits.to_numpy().T.ravel()
    ours_pct = pd.Series(ours.reshape(2, -1).max(axis=0), limits.index)
    np.testing.assert_allclose(ours_pct[loading.index], loading, atol=1e-6)


def test_another_direction_is_refused() -> None:
    with pytest.raises(DataError, match="found 'upwards', expected 'up' or 'down'"):
        stand_in("upwards")
