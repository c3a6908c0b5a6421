"""Payments by hand, prices and costs of bands by what the market would cost otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from feeders import corners_of_set, offers_up, random_market, small_market, small_network
from sets import by_planes, feeder, with_set
from test_robust import market_with_a_choice

from flexlib import (
    Box,
    Budget,
    Circle,
    Clearing,
    Ellipsoid,
    Market,
    Planes,
    Scenarios,
    clear,
    settle,
)
from flexlib.robust_arrays import robust_optimum
from flexlib.robust_limits import limits_that_can_bind
from flexlib.settlement import band_costs_eur_per_h, locational_prices_eur_per_mwh

PLANES = Planes(32)


def cleared(seed: int, kind: str = "box", band: str = "baseline") -> Clearing:
    return clear(replace(with_set(feeder(seed), kind), norm=PLANES, band=band))


def with_voltages(seed: int) -> Market:
    return random_market(seed, 3 + seed % 8, seed % 3, seed % 2, 4)


# --------------------------------------------------------------------------------------------
# Locational prices


@pytest.mark.parametrize("case", ["box", "budget", "ellipsoid", "remainder", "voltages", "choice"])
@pytest.mark.parametrize("seed", [2, 5, 9, 18])
def test_no_offer_is_paid_less_than_it_asks_and_no_other_would_be(seed: int, case: str) -> None:
    if case in ("voltages", "choice"):
        choice = market_with_a_choice((20.0 + seed, 30.0))
        result = clear(choice if case == "choice" else with_voltages(seed))
    else:
        band = "remainder" if case == "remainder" else "baseline"
        result = cleared(seed, "box" if case == "remainder" else case, band)
    price, offers = locational_prices_eur_per_mwh(result), result.market.offers
    rent = 0.0
    for way, sign in (("up", 1), ("down", -1)):
        kw, most = getattr(result.state, f"{way}_kw"), offers[f"{way}_max_kw"].to_numpy()
        gain = sign * price - offers[f"price_{way}_eur_per_mwh"].to_numpy()
        assert (gain[kw < most - 1e-5] < 1e-5).all()
        assert (gain[kw > 1e-5] > -1e-5).all()
        rent += np.maximum(gain, 0) @ most / 1000
    # By duality the payments at locational prices are cost and rent.
    paid = price @ result.optimum.net_kw / 1000
    assert paid == pytest.approx(result.cost_eur_per_h + rent, abs=1e-6)


@pytest.mark.parametrize(("kind", "band"), [("box", "baseline"), ("budget", "remainder")])
@pytest.mark.parametrize("seed", [2, 9, 18, 22])
def test_a_kilowatt_for_nothing_saves_the_locational_price(seed: int, kind: str, band: str) -> None:
    result = cleared(seed, kind, band)
    market, points = result.market, corners_of_set(result.market.uncertainty).T
    smooth, step_kw = 0, 1e-2
    for o, price in enumerate(locational_prices_eur_per_mwh(result)):
        free_kw = step_kw * np.eye(len(market.offers))[o]
        less = by_planes(market, points, PLANES, free_kw).fun - result.cost_eur_per_h
        more = by_planes(market, points, PLANES, -free_kw).fun - result.cost_eur_per_h
        # The cost is convex, so that the price lies between both slopes.
        before, after = -1000 * less / step_kw, 1000 * more / step_kw
        assert before - 1e-2 <= price <= after + 1e-2
        smooth += after - before < 1e-2
    assert smooth


@pytest.mark.parametrize("seed", [3, 6, 9])
def test_prices_where_voltages_bind(seed: int) -> None:
    market = replace(with_voltages(seed), norm=Circle())
    result, limits = clear(market), limits_that_can_bind(market)
    for o, price in enumerate(locational_prices_eur_per_mwh(result)):
        cost = {}
        for kw in (-1e-2, 1e-2):
            moved = replace(limits, base=limits.base + kw * limits.per_kw[:, o])
            cost[kw] = robust_optimum(market, moved).solution.objective
        assert price == pytest.approx(1000 * (cost[-1e-2] - cost[1e-2]) / 2e-2, abs=1e-2)


@pytest.mark.parametrize("prices", [(50.0, 500.0), (500.0, 50.0)])
def test_prices_of_the_alternative_that_was_chosen(prices: tuple[float, float]) -> None:
    market = market_with_a_choice(prices)
    result, limits = clear(market), limits_that_can_bind(market)
    assert result.optimum.program.integer.any()
    way = "up" if prices[0] < prices[1] else "down"
    price = locational_prices_eur_per_mwh(result)
    assert price[0] == pytest.approx(50 if way == "up" else -50, abs=1e-6)
    cost = [
        robust_optimum(
            market, replace(limits, base=limits.base + kw * limits.per_kw[:, 1])
        ).solution.objective
        for kw in (-1.0, 1.0)
    ]
    assert price[1] == pytest.approx(1000 * (cost[0] - cost[1]) / 2, rel=1e-4)


def test_nothing_binds_nothing_is_worth_anything() -> None:
    result = clear(small_market(i_max_a=500))
    assert not locational_prices_eur_per_mwh(result).any()
    assert not band_costs_eur_per_h(result)["cost_eur_per_h"].any()
    assert not len(settle({pd.Timestamp("2016-01-01"): result}, 1.0))


# --------------------------------------------------------------------------------------------
# Costs of bands


def widened(market: Market, load: int, share: float) -> Market:
    """The market with the deviations of one uncertain load grown by a share."""
    one, factor = market.uncertainty, 1 + share * np.eye(len(market.uncertainty.load))[load]
    if isinstance(one, Box | Budget):
        table = one.bands.assign(band_pct=one.bands["band_pct"] * factor)
        return replace(market, uncertainty=replace(one, bands=table))
    if isinstance(one, Ellipsoid):
        grown = one.covariance_kw2 * np.outer(factor, factor)
        return replace(market, uncertainty=replace(one, covariance_kw2=grown))
    grown = one.errors_kw * factor
    return replace(market, uncertainty=Scenarios(market.network, grown, one.risk, one.radius))


@pytest.mark.parametrize(
    ("kind", "band"),
    [
        ("box", "baseline"),
        ("box", "remainder"),
        ("budget", "remainder"),
        ("ellipsoid", "baseline"),
        ("ellipsoid", "remainder"),
        ("scenarios", "baseline"),
    ],
)
@pytest.mark.parametrize(("seed", "norm"), [(12, Circle()), (18, PLANES)])
def test_costs_of_bands_are_slopes_of_the_cost(
    seed: int, kind: str, band: str, norm: Planes | Circle
) -> None:
    market = replace(with_set(feeder(seed), kind), norm=norm, band=band)
    found = band_costs_eur_per_h(clear(market))
    names = market.network.loads["load"].to_numpy()[market.uncertainty.load]
    assert found["load"].tolist() == names.tolist()
    step = 2e-4
    slopes = [
        (
            clear(widened(market, k, step)).cost_eur_per_h
            - clear(widened(market, k, -step)).cost_eur_per_h
        )
        / (2 * step)
        for k in range(len(names))
    ]
    np.testing.assert_allclose(found["cost_eur_per_h"], slopes, atol=5e-3, rtol=2e-3)
    assert max(slopes) > 0.1


# --------------------------------------------------------------------------------------------
# Payments


def test_payments_of_two_periods_by_hand() -> None:
    up = clear(small_market(offers=offers_up(one=300, two=600)))
    network = small_network(
        loads={"p_kw": [100.0, 100.0, -1200.0], "q_kvar": [30.0, 30.0, 0.0]},
        branches={"i_max_from_a": [np.nan] * 2, "i_max_to_a": [55.0, np.nan]},
    )
    offers = offers_up(sun=0, two=0).assign(
        down_max_kw=[100.0, 300], price_down_eur_per_mwh=[40, 90]
    )
    down = clear(small_market(network=network, offers=offers))
    assert down.state.down_kw[0] == pytest.approx(100)  # in full
    assert 10 < down.state.down_kw[1] < 290
    times = pd.date_range("2016-07-01 12:00", periods=2, freq="15min")
    table = settle(dict(zip(times, (up, down), strict=True)), 0.25)
    assert table["start"].tolist() == [times[0], times[1], times[1]]
    assert table["load"].tolist() == ["two", "sun", "two"]
    assert table["way"].tolist() == ["up", "down", "down"]
    kw = np.array([up.state.up_kw[1], *down.state.down_kw])
    np.testing.assert_allclose(table["energy_kwh"], kw / 4)
    np.testing.assert_allclose(table["offer_eur_per_mwh"], [100, 40, 90])
    np.testing.assert_allclose(table["as_bid_eur"], kw / 4000 * [100, 40, 90])
    location = -locational_prices_eur_per_mwh(down)
    np.testing.assert_allclose(table["location_eur_per_mwh"], [100, *location])
    np.testing.assert_allclose(table["locational_eur"], kw / 4000 * [100, *location])
    assert location[1] == pytest.approx(90)
    assert location[0] > 41
    by_period = table.groupby("start")["as_bid_eur"].sum()
    np.testing.assert_allclose(by_period, [0.25 * r.cost_eur_per_h for r in (up, down)])
    assert (table["locational_eur"] >= table["as_bid_eur"] - 1e-9).all()
