"""The supply curve against a programme for every volume, and what arrives at the slack bus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from feeders import Dense, bands, corners_of_set, offers_up, small_market, small_network
from scipy.optimize import linprog
from sets import KINDS, budget_of, by_planes, feeder, price_of, with_set

from flexlib import (
    Box,
    Circle,
    Infeasible,
    Market,
    Planes,
    SupplyCurve,
    clear,
    data_path,
    read_bands,
    read_network,
    read_offers,
    supply_curve,
)
from flexlib.robust_rows import cuts

PLANES = Planes(16)


def curve_of(seed: int, kind: str = "box", band: str = "baseline") -> SupplyCurve:
    return supply_curve(replace(with_set(feeder(seed), kind), norm=PLANES, band=band))


@pytest.mark.parametrize(("kind", "band"), [("box", "baseline"), ("budget", "remainder")])
@pytest.mark.parametrize("seed", [0, 5, 9])
def test_the_curve_is_the_least_cost_of_every_volume(seed: int, kind: str, band: str) -> None:
    curve = curve_of(seed, kind, band)
    market, frame = curve.market, curve.frame
    points, count = corners_of_set(market.uncertainty).T, len(market.offers)
    way = np.repeat([1.0, -1.0], count)
    low, high = (by_planes(market, points, PLANES, cost=sign * way) for sign in (1, -1))
    assert frame["volume_kw"].iloc[0] == pytest.approx(low.fun, abs=1e-5)
    assert frame["volume_kw"].iloc[-1] == pytest.approx(-high.fun, abs=1e-5)
    assert len(frame) == len(curve.corners) >= 3
    # Between the corners the cost is interpolated; within a milliwatt costs may differ by slope.
    price = frame["price_eur_per_mwh"].to_numpy()[1:]
    grid = np.linspace(low.fun, -high.fun, 31)[1:-1]
    found = np.interp(grid, frame["volume_kw"], frame["cost_eur_per_h"])
    for volume_kw, cost in zip(grid, found, strict=True):
        expected = by_planes(market, points, PLANES, A_eq=way[None], b_eq=[volume_kw])
        assert cost == pytest.approx(expected.fun, abs=1e-8 * np.abs(price).max() + 1e-6)
    assert (np.diff(price) > 1e-6).all()  # convex, and every corner is one
    assert frame["cost_eur_per_h"].min() == pytest.approx(clear(market).cost_eur_per_h, abs=1e-5)
    for corner, row in zip(curve.corners, frame.itertuples(), strict=True):
        net_kw = corner.optimum.net_kw
        assert row.volume_kw == pytest.approx(net_kw.sum())
        paid = price_of(market) @ np.append(np.maximum(net_kw, 0), np.maximum(-net_kw, 0))
        assert row.cost_eur_per_h == pytest.approx(paid, abs=1e-6)


def test_steep_curves_are_found_as_well() -> None:
    price = curve_of(14).frame["price_eur_per_mwh"].to_numpy()[1:]
    assert (np.diff(price) > 1e-6).all()


def corners_break_no_limit(curve: SupplyCurve) -> None:
    for corner in curve.corners:
        exact = [check for check in corner.certificate.checks if check.basis == "exact"]
        assert all(check.ok for check in exact)


def test_every_corner_is_safe_for_circles_and_ellipsoids() -> None:
    curve = supply_curve(with_set(feeder(9), "ellipsoid"))
    assert len(curve.corners) >= 3
    corners_break_no_limit(curve)


@pytest.mark.parametrize("band", ["baseline", "remainder"])
@pytest.mark.parametrize("norm", [PLANES, Circle()], ids=["planes", "circle"])
@pytest.mark.parametrize("kind", [*KINDS, "budget of 2.5"])
def test_ends_are_the_last_volumes_that_are_safe(
    kind: str, norm: Planes | Circle, band: str
) -> None:
    folder = data_path("feeders/de-simone-12")
    network = read_network(folder)
    box = read_bands(network, folder / "uncertainty-case-3.csv")
    market = Market(network, read_offers(folder / "offers.csv"), box, norm, band)
    if kind == "budget of 2.5":
        market = replace(market, uncertainty=budget_of(market, 2.5))
    market = with_set(market, kind)
    curve = supply_curve(market)
    corners_break_no_limit(curve)
    assert len(market.offers["price_up_eur_per_mwh"].unique()) == 1  # least volume, least cost
    volume_kw = curve.frame["volume_kw"].to_numpy()
    assert volume_kw[0] == pytest.approx(clear(market).optimum.net_kw.sum(), abs=1e-5)
    assert volume_kw[-1] == pytest.approx(market.volume_kw.sum(), abs=1e-5)
    way = np.repeat([1.0, -1.0], len(market.offers))
    bounds = np.column_stack([np.zeros(len(way)), market.volume_kw.ravel()])
    for corner, sign in ((curve.corners[0], 1), (curve.corners[-1], -1)):
        rows = corner.optimum.rows
        assert not len(cuts(market, corner.optimum.limits, rows, corner.optimum.net_kw))
        beyond = linprog(
            sign * way, np.hstack([rows.per_kw, -rows.per_kw]), rows.room, bounds=bounds
        )
        assert sign * beyond.fun == pytest.approx(corner.optimum.net_kw.sum(), abs=1e-6)


def four_loads(i_max_a: float = np.nan, **offer: object) -> Market:
    network = small_network(
        loads={"load": list("abcd"), "bus": list("AABB"), "p_kw": [300.0] * 4, "q_kvar": [0.0] * 4},
        branches={"i_max_from_a": [i_max_a, np.nan]},
    )
    table = {"load": list("abcd"), "up_max_kw": 0.0, "price_up_eur_per_mwh": 0.0, **offer}
    return Market(network, pd.DataFrame(table), Box(network, bands(a=10, d=5)), PLANES)


def test_without_limits_the_curve_is_the_merit_order() -> None:
    up = {"up_max_kw": 100.0, "price_up_eur_per_mwh": [30.0, 10.0, 20.0, 20.0]}
    frame = supply_curve(four_loads(**up)).frame
    np.testing.assert_allclose(frame["volume_kw"], [0, 100, 300, 400], atol=1e-5)
    np.testing.assert_allclose(frame["cost_eur_per_h"], [0, 1, 5, 8], atol=1e-6)
    np.testing.assert_allclose(frame["price_eur_per_mwh"], [np.nan, 10, 20, 30], atol=1e-4)
    down = {"down_max_kw": 100.0, "price_down_eur_per_mwh": [30.0, 10.0, 20.0, 20.0]}
    frame = supply_curve(four_loads(**down)).frame
    np.testing.assert_allclose(frame["volume_kw"], [-400, -300, -100, 0], atol=1e-5)
    np.testing.assert_allclose(frame["cost_eur_per_h"], [8, 5, 1, 0], atol=1e-6)
    np.testing.assert_allclose(frame["price_eur_per_mwh"], [np.nan, -30, -20, -10], atol=1e-4)
    frame = supply_curve(four_loads(**up, **down)).frame
    assert len(frame) == 7
    np.testing.assert_allclose(frame["volume_kw"].iloc[[0, 3, -1]], [-400, 0, 400], atol=1e-5)


def test_local_relief_comes_first_and_what_is_left_is_offered() -> None:
    offers = {"up_max_kw": [100.0, 0, 0, 100], "price_up_eur_per_mwh": [10.0, 0, 0, 50]}
    market = four_loads(68.0, **offers)
    frame = supply_curve(market).frame
    relief = clear(market)
    assert frame["volume_kw"].iloc[0] == pytest.approx(relief.optimum.net_kw.sum(), abs=0.5)
    assert frame["volume_kw"].iloc[0] > 10
    assert frame["volume_kw"].iloc[-1] == pytest.approx(200, abs=1e-5)


def test_a_curve_of_one_corner() -> None:
    for market in (four_loads(), small_market(i_max_a=500, offers=offers_up(one=0, two=0))):
        frame = supply_curve(market).frame
        assert len(frame) == 1
        assert frame["volume_kw"][0] == pytest.approx(0, abs=1e-5)
        assert frame["cost_eur_per_h"][0] == pytest.approx(0, abs=1e-6)
        assert np.isnan(frame["price_eur_per_mwh"][0])
        assert frame["at_slack_kw"][0] == pytest.approx(0, abs=1e-5)


def from_upstream_kw(market: Market, net_kw: np.ndarray) -> float:
    """Active power that the source at the slack bus delivers, by the second model."""
    dense, loads = Dense(market.network), market.network.loads
    s_kva = (loads["p_kw"] + 1j * loads["q_kvar"]).to_numpy()
    for load, kw in zip(market.offers["load"], net_kw, strict=True):
        k = loads["load"].tolist().index(load)
        s_kva[k] -= kw * s_kva[k] / s_kva[k].real
    v = dense.ac(s_kva)
    lost_kw = 3 * np.real(v @ np.conj(dense.y_bus @ v)) / 1000
    return float(lost_kw + s_kva.real.sum())


@pytest.mark.parametrize(
    "seed",
    [
        9,
        0,
        4,
    ],
)
def test_at_the_slack_bus_arrives_what_an_ac_power_flow_finds(seed: int) -> None:
    curve = curve_of(seed)
    before_kw = from_upstream_kw(curve.market, np.zeros(len(curve.market.offers)))
    frame = curve.frame
    for corner, arrives_kw in zip(curve.corners, frame["at_slack_kw"], strict=True):
        after_kw = from_upstream_kw(curve.market, corner.optimum.net_kw)
        assert arrives_kw == pytest.approx(before_kw - after_kw, abs=1e-4)
    assert (frame["at_slack_kw"] - frame["volume_kw"]).abs().max() > 0.01  # losses


def test_no_relief_no_curve() -> None:
    market = small_market(offers=offers_up(one=10))
    with pytest.raises(Infeasible, match=r"current limit of branch S-A.* fall short") as error:
        supply_curve(market)
    assert error.value.conflict
