"""Margins over the box against all its vertices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import STABLE, Worst, bands, markets, offers_up, small_market, small_network
from hypothesis import given
from test_robust import market_with_a_choice

from flexlib import Market
from flexlib.errors import VoltageAngleError
from flexlib.robust_limits import current_margins_a, lambda_beta, slack, voltage_limits


@STABLE
@given(markets())
def test_current_margins_are_those_of_the_worst_vertex(market: Market) -> None:
    worst = Worst(market)
    expected = worst.margins() * market.norm.apothem
    scale = 1 + np.abs(expected).max()
    np.testing.assert_allclose(current_margins_a(market), expected, atol=1e-7 * scale)


def test_no_band_no_margin() -> None:
    assert not current_margins_a(small_market(bands=bands(one=0, two=0))).any()


def corners_of_offers(market: Market) -> np.ndarray:
    """Net activations at which every offer is used fully upward or downward, (offers, corners)."""
    ends = market.offers[["up_max_kw", "down_max_kw"]].to_numpy() * [1, -1]
    return np.array(np.meshgrid(*ends, indexing="ij")).reshape(len(ends), -1)


@STABLE
@given(markets(uncertain=8))
def test_the_band_holds_every_reachable_angle(market: Market) -> None:
    worst = Worst(market)
    band = lambda_beta(market).angle_band_rad
    v = worst.v[0][:, None] + worst.v[1] @ corners_of_offers(market)
    angle = max(
        np.abs(np.angle(v[:, [k]] + worst.v[2] @ worst.xi)).max() for k in range(v.shape[1])
    )
    assert angle <= band + 1e-12
    assert band <= 1.5 * angle + 0.02  # and is no wild guess


@STABLE
@given(markets(uncertain=8))
def test_rows_say_what_the_vertices_say(market: Market) -> None:
    worst, rows = Worst(market), voltage_limits(market)
    rng = np.random.default_rng(0)
    up_kw, down_kw = (market.offers[f"{way}_max_kw"].to_numpy() for way in ("up", "down"))
    for _ in range(5):
        net_kw = rng.uniform(-down_kw, up_kw)
        v = worst.affine.v[0] + worst.affine.v[1] @ net_kw
        low, high = worst.norm_low_pu(net_kw), worst.norm_high_pu(net_kw)
        slacks: dict[tuple[int, int], list[float]] = {}
        for row in rows:
            base, per_kw = slack(market, row)
            value = base + per_kw @ net_kw
            along = np.real(row.w * (v[row.bus] + worst.affine.v[2][row.bus] @ worst.xi))
            by_vertex = (row.sign * (row.limit_pu - along)).min()
            assert value == pytest.approx(by_vertex, abs=1e-9)
            slacks.setdefault((row.bus, row.sign), []).append(value)
            assert value >= -row.big_m_pu - 1e-12 or row.big_m_pu == 0
        buses = market.network.buses
        for bus in worst.free:
            # Upper: every row must hold. Lower: one of the alternatives.
            room = buses["v_max_pu"].iloc[bus] - high[bus]
            assert min(slacks[bus, 1]) == pytest.approx(room, abs=1e-9)
            room = low[bus] - buses["v_min_pu"].iloc[bus]
            ours = max(slacks[bus, -1])
            assert ours <= room + 1e-9
            if len(slacks[bus, -1]) > 1 or room < 0:
                assert ours == pytest.approx(room, abs=1e-9)


@pytest.mark.parametrize("v_min_pu", [0.9945, 1.0])
def test_big_m_is_the_largest_miss_over_all_activations(v_min_pu: float) -> None:
    market = market_with_a_choice((50.0, 50.0), v_min_pu)
    chosen = [row for row in voltage_limits(market) if row.big_m_pu > 0]
    assert len(chosen) >= 2
    assert {row.sign for row in chosen} == {-1}
    corners = corners_of_offers(market)
    for row in chosen:
        base, per_kw = slack(market, row)
        assert row.big_m_pu == pytest.approx(-(base + per_kw @ corners).min(), rel=1e-9)


def test_the_slack_bus_has_no_rows() -> None:
    market = small_market()
    assert {row.bus for row in voltage_limits(market)} == {0, 2}


def test_limits_of_both_sides_at_every_bus() -> None:
    rows = voltage_limits(small_market())
    for bus in (0, 2):
        here = [row for row in rows if row.bus == bus]
        assert sum(row.sign == 1 for row in here) == 2
        assert {row.limit_pu for row in here if row.sign == 1} == {1.1}
        assert {row.limit_pu for row in here if row.sign == -1} == {0.9}


def test_a_phase_shift_turns_limits_along() -> None:
    plain = small_market()
    branches = plain.network.branches.assign(shift_deg=[150.0, 0.0])
    network = replace(plain.network, branches=branches)
    turned = small_market(network=network)
    assert lambda_beta(turned).angle_band_rad == pytest.approx(lambda_beta(plain).angle_band_rad)
    for a, b in zip(voltage_limits(plain), voltage_limits(turned), strict=True):
        assert slack(plain, a)[0] == pytest.approx(slack(turned, b)[0], abs=1e-9)
        assert a.margin_pu == pytest.approx(b.margin_pu, abs=1e-9)


def test_angles_beyond_the_norm_are_refused() -> None:
    network = small_network(branches={"x_ohm": [40.0, 0.4]}, loads={"p_kw": [100.0, 100, -100]})
    market = small_market(network=network, offers=offers_up(one=20_000))
    with pytest.raises(VoltageAngleError, match=r"bus \S+ can reach \d+ degrees"):
        lambda_beta(market)


def test_a_slope_between_the_ends_can_be_the_best() -> None:
    market = market_with_a_choice((50.0, 50.0))
    worst, rows, between = Worst(market), voltage_limits(market), 0.0
    for kw in np.linspace(-400, 400, 81):
        net_kw = np.array([kw, 0.0])
        low = worst.norm_low_pu(net_kw)
        for bus in worst.free:
            slacks = [
                slack(market, row)[0] + slack(market, row)[1] @ net_kw
                for row in rows
                if (row.bus, row.sign) == (bus, -1)
            ]
            room = low[bus] - market.network.buses["v_min_pu"].iloc[bus]
            if len(slacks) > 1:
                assert max(slacks) == pytest.approx(room, abs=1e-9)
                z = worst.v[0][bus] + worst.v[1][bus] @ net_kw + worst.v[2][bus] @ worst.xi
                w = worst.alpha - 1j * worst.beta * np.array([[1.0], [-1.0]])
                ends = np.real(w * z).min(axis=1).max()
                between = max(between, low[bus] - ends)
    assert between > 1e-4
