"""What is limited: linear functions, discs and screening against the dense model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import (
    STABLE,
    Worst,
    corners_of_offers,
    market_12,
    markets,
    offers_up,
    random_market,
    small_market,
    small_network,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from flexlib import Budget, Circle, Market, Planes, robust_limits
from flexlib.errors import VoltageAngleError
from flexlib.robust_limits import (
    CURRENT,
    LOWER,
    UPPER,
    Limits,
    closest_limits,
    every_limit,
    in_words,
    limits_that_can_bind,
    reach,
    relinearised,
)

BAND = st.sampled_from(["baseline", "remainder"])


def limits_of(market: Market) -> list[tuple[str, int, float]]:
    """Every limit of the tables: kind, place, value in ampere or volt."""
    buses, branches = market.network.buses, market.network.branches
    i_max_a = [*branches["i_max_from_a"], *branches["i_max_to_a"]]
    listed = [(CURRENT, e, limit) for e, limit in enumerate(i_max_a) if limit > 0]
    for kind, column in ((UPPER, "v_max_pu"), (LOWER, "v_min_pu")):
        for bus, row in buses.iterrows():
            if np.isnan(row["v_slack_pu"]):
                listed.append((kind, bus, 1000 * row["v_nom_kv"] * row[column]))
    return listed


def places(limits: Limits) -> list[tuple[str, int]]:
    return list(zip(limits.kind.tolist(), limits.at.tolist(), strict=True))


def by_dense(worst: Worst, kind: str, at: int) -> list[np.ndarray]:
    """Base, per kW and per xi of one quantity, ampere or volt."""
    if kind == CURRENT:
        return [part[at] for part in worst.affine.i]
    return [part[at] * 1000 * worst.market.network.buses["v_nom_kv"][at] for part in worst.v]


# --------------------------------------------------------------------------------------------
# The linear functions


@STABLE
@given(markets())
def test_functions_are_those_of_the_dense_model(market: Market) -> None:
    limits, worst, expected = every_limit(market), Worst(market), limits_of(market)
    assert places(limits) == [(kind, at) for kind, at, _ in expected]
    np.testing.assert_allclose(limits.limit, [limit for _, _, limit in expected], rtol=1e-12)
    for q, (kind, at, limit) in enumerate(expected):
        ours = limits.base[q], limits.per_kw[q], limits.per_xi[q]
        for one, other in zip(ours, by_dense(worst, kind, at), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9 * (1 + limit))


@settings(STABLE, max_examples=10)
@given(markets(uncertain=6), st.integers(0, 99), BAND)
def test_each_quantity_around_its_own_voltages(market: Market, seed: int, band: str) -> None:
    market = replace(market, band=band)
    limits, rng, worst = every_limit(market), np.random.default_rng(seed), Worst(market)
    shape = (len(limits.kind), len(market.network.buses))
    off = rng.uniform(0.95, 1.05, shape) * np.exp(1j * rng.uniform(-0.1, 0.1, shape))
    v_fixed_pu = market.flow.v_fixed_pu * off
    facing = np.exp(1j * rng.uniform(-1, 1, len(limits.kind)))
    again = relinearised(market, limits, v_fixed_pu, facing)
    for name in ("kind", "at", "limit", "voltage_norm"):
        assert np.all(getattr(again, name) == getattr(limits, name))
    np.testing.assert_array_equal(again.facing, facing)
    up_kw, down_kw = market.volume_kw
    net_kw = rng.uniform(-down_kw, up_kw)
    xi = rng.uniform(-1, 1, again.per_xi.shape)
    values = again.values(market, xi, net_kw)
    s0_kva, dense = market.network.s_load_kva, worst.dense
    width_pct = market.uncertainty.bands["band_pct"].to_numpy()
    position = {load: k for k, load in enumerate(market.network.loads["load"])}
    uncertain = [position[load] for load in market.uncertainty.bands["load"]]
    offered = [position[load] for load in market.offers["load"]]
    for q, (kind, at) in enumerate(places(again)):
        s_kva = s0_kva.copy()
        s_kva[uncertain] *= 1 + xi[q] * width_pct / 100 * worst.share(net_kw)
        s_kva[offered] -= net_kw * s0_kva[offered] / s0_kva[offered].real
        v = dense.linear(s_kva, v_fixed_pu[q] * dense.u)
        if kind == CURRENT:
            expected = dense.y_end[at] @ v
        else:
            expected = v[at] * np.sqrt(3) * np.exp(-1j * np.angle(dense.v_idle[at]))
        assert values[q] == pytest.approx(expected, rel=1e-8, abs=1e-7)


def test_a_limit_in_words() -> None:
    market = small_market()
    assert in_words(market, CURRENT, 0) == "current limit of branch S-A at its from end"
    assert in_words(market, CURRENT, 3) == "current limit of branch A-B at its to end"
    assert in_words(market, UPPER, 2) == "upper voltage limit of bus B"
    assert in_words(market, LOWER, 0) == "lower voltage limit of bus A"


def test_the_slack_bus_has_no_limits() -> None:
    limits = every_limit(small_market())
    assert set(limits.at[limits.kind != CURRENT].tolist()) == {0, 2}


def test_limits_of_both_sides_at_every_bus() -> None:
    limits = every_limit(small_market())
    for bus in (0, 2):
        for kind, limit_v in ((UPPER, 11_000), (LOWER, 9_000)):
            here = limits.limit[(limits.kind == kind) & (limits.at == bus)]
            assert here.tolist() == pytest.approx([limit_v])


# --------------------------------------------------------------------------------------------
# What can be reached


@STABLE
@given(markets(uncertain=8), BAND)
def test_the_band_holds_every_reachable_angle(market: Market, band: str) -> None:
    market = replace(market, band=band)
    worst, angle = Worst(market), 0.0
    limit = reach(market).voltage_norm.angle_band_rad
    for net_kw in corners_of_offers(market).T:
        v = (worst.v[0] + worst.v[1] @ net_kw)[:, None] + worst.v[2] @ worst.left(net_kw)
        angle = max(angle, np.abs(np.angle(v)).max())
    assert angle <= limit + 1e-12
    assert limit <= 1.5 * angle + 0.02  # and is no wild guess


def discs(market: Market) -> dict[str, np.ndarray]:
    """Discs around the value at half of the offers, from the dense model."""
    worst, parts = Worst(market), {}
    offers = market.offers
    up_kw, down_kw = offers["up_max_kw"].to_numpy(), offers["down_max_kw"].to_numpy()
    most = np.max([worst.share(net_kw) for net_kw in corners_of_offers(market).T], axis=0)
    steps = np.abs(worst.xi).max(axis=1) * most
    v_nom_v = 1000 * market.network.buses["v_nom_kv"].to_numpy()
    for name, (base, per_kw, per_xi) in (("i", worst.affine.i), ("v", worst.affine.v)):
        scale = 1.0 if name == "i" else v_nom_v
        parts[f"{name}_centre"] = scale * (base + per_kw @ (up_kw - down_kw) / 2)
        by_offers = np.abs(per_kw) @ (up_kw + down_kw) / 2
        parts[f"{name}_radius"] = scale * (by_offers + np.abs(per_xi) @ steps)
    return parts


@STABLE
@given(markets(uncertain=6), BAND)
def test_discs_are_those_of_the_dense_model(market: Market, band: str) -> None:
    market = replace(market, band=band)
    disc, expected = reach(market), discs(market)
    for name, unit in (("i", "a"), ("v", "v")):
        for part in ("centre", "radius"):
            ours, other = getattr(disc, f"{name}_{part}_{unit}"), expected[f"{name}_{part}"]
            scale = 1e-9 * (1 + np.abs(expected[f"{name}_centre"]).max())
            np.testing.assert_allclose(ours, other, rtol=1e-8, atol=10 * scale)


def test_the_budget_narrows_the_discs_only_below_one_load() -> None:
    plain = random_market(3, 9, 1, 1, uncertain=4)
    radius = {}
    for gamma in (0.0, 0.25, 1.0, 4.0):
        budget = Budget(plain.network, plain.uncertainty.bands, gamma)
        market = replace(plain, uncertainty=budget)
        radius[gamma] = reach(market).i_radius_a
        np.testing.assert_allclose(radius[gamma], discs(market)["i_radius"], rtol=1e-8, atol=1e-9)
    assert radius[0.0].max() < radius[0.25].max() < radius[1.0].max()
    np.testing.assert_allclose(radius[1.0], radius[4.0])


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_discs_do_not_depend_on_how_many_loads_are_summed_at_once(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = random_market(5, 12, 1, 1, uncertain=7)
    whole = reach(market)
    monkeypatch.setattr(robust_limits, "_CHUNK", chunk)
    parts = reach(market)
    for name in ("i_centre_a", "i_radius_a", "v_centre_v", "v_radius_v"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)
    assert parts.voltage_norm.angle_band_rad == pytest.approx(whole.voltage_norm.angle_band_rad)


def test_a_phase_shift_turns_angles_along() -> None:
    plain = small_market()
    branches = plain.network.branches.assign(shift_deg=[150.0, 0.0])
    turned = small_market(network=replace(plain.network, branches=branches))
    one, other = reach(plain), reach(turned)
    assert other.voltage_norm.angle_band_rad == pytest.approx(one.voltage_norm.angle_band_rad)
    np.testing.assert_allclose(other.v_radius_v, one.v_radius_v)


def test_angles_beyond_the_norm_are_refused() -> None:
    network = small_network(branches={"x_ohm": [40.0, 0.4]}, loads={"p_kw": [100.0, 100, -100]})
    market = small_market(network=network, offers=offers_up(one=20_000))
    for refused in (reach, every_limit, limits_that_can_bind):
        with pytest.raises(VoltageAngleError, match=r"bus \S+ can reach \d+ degrees"):
            refused(market)


# --------------------------------------------------------------------------------------------
# Screening


def with_limits_at_the_discs(market: Market, kind: str, factor: float) -> Market:
    """Limits of a kind that each disc just meets, moved outward by a factor; no other limits."""
    disc, network, count = discs(market), market.network, len(market.network.branches)
    error, v_nom_v = reach(market).voltage_norm.error, 1000 * network.buses["v_nom_kv"]
    branches = network.branches.assign(i_max_from_a=np.nan, i_max_to_a=np.nan)
    buses = network.buses.assign(v_min_pu=0.5, v_max_pu=1.5)
    free = buses["v_slack_pu"].isna()
    if kind == CURRENT:
        apothem = getattr(market.norm, "apothem", 1.0)
        i_max_a = factor * (np.abs(disc["i_centre"]) + disc["i_radius"]) / apothem
        i_max_a[i_max_a < 1e-6] = np.nan
        branches = branches.assign(i_max_from_a=i_max_a[:count], i_max_to_a=i_max_a[count:])
    elif kind == UPPER:
        high = (np.abs(disc["v_centre"]) + disc["v_radius"]) * (1 + error) / v_nom_v
        buses.loc[free, "v_max_pu"] = factor * high[free]
    else:
        low = (np.abs(disc["v_centre"]) - disc["v_radius"]) * (1 - error) / v_nom_v
        buses.loc[free, "v_min_pu"] = low[free] / factor
    return replace(market, network=replace(network, buses=buses, branches=branches))


@settings(STABLE, max_examples=8)
@given(markets(uncertain=5), BAND, st.sampled_from([None, Circle(), Planes(8, inscribed=False)]))
def test_a_limit_is_left_out_just_where_its_disc_lies_within(
    market: Market, band: str, norm: Planes | Circle | None
) -> None:
    market = replace(market, band=band, norm=norm or market.norm)
    for kind in (CURRENT, UPPER, LOWER):
        for factor, spare, kept in (
            (1 - 1e-5, 1e-6, True), (1 + 1e-5, 1e-6, False), (1.04, 0.05, True), (1.06, 0.05, False)
        ):  # fmt: skip
            tight = with_limits_at_the_discs(market, kind, factor)
            expected = [(one, at) for one, at, _ in limits_of(tight) if one == kind]
            assert places(limits_that_can_bind(tight, spare)) == (expected if kept else [])


@settings(STABLE, max_examples=20)
@given(markets(uncertain=6), BAND)
def test_no_case_breaks_a_limit_that_is_left_out(market: Market, band: str) -> None:
    market = replace(market, band=band)
    limits, kept = every_limit(market), limits_that_can_bind(market)
    where = [places(limits).index(place) for place in places(kept)]
    for name in ("limit", "base", "per_kw", "per_xi"):
        np.testing.assert_allclose(getattr(kept, name), getattr(limits, name)[where], rtol=1e-9)
    worst, norm = Worst(market), limits.voltage_norm
    plane_a, low, high = [], [], []
    for net_kw in corners_of_offers(market).T:
        plane_a.append(worst.plane_a(net_kw))
        low.append(worst.norm_low_pu(net_kw))
        high.append(worst.norm_high_pu(net_kw))
    assert (kept.voltage_norm.alpha, kept.voltage_norm.beta) == (norm.alpha, norm.beta)
    v_nom_v = 1000 * market.network.buses["v_nom_kv"].to_numpy()
    for kind, at, limit in set(limits_of(market)):
        if (kind, at) in places(kept):
            continue
        if kind == CURRENT:
            assert max(plane[at] for plane in plane_a) <= limit
        elif kind == UPPER:
            assert max(v_pu[at] for v_pu in high) * v_nom_v[at] <= limit
        else:
            assert min(v_pu[at] for v_pu in low) * v_nom_v[at] >= limit


def test_most_limits_of_a_feeder_are_left_out() -> None:
    kept = limits_that_can_bind(market_12(10, 30))
    assert places(kept) == [(CURRENT, 1)]
    assert len(places(every_limit(market_12(10, 30)))) == 1 + 2 * 11


@settings(STABLE, max_examples=8)
@given(markets(uncertain=5), BAND)
def test_the_limits_that_come_closest(market: Market, band: str) -> None:
    market = replace(market, band=band)
    disc, error = discs(market), reach(market).voltage_norm.error
    i_a = (np.abs(disc["i_centre"]) + disc["i_radius"]) / market.norm.apothem
    high_v = (np.abs(disc["v_centre"]) + disc["v_radius"]) * (1 + error)
    low_v = (np.abs(disc["v_centre"]) - disc["v_radius"]) * (1 - error)
    share = {}
    for kind, at, limit in limits_of(market):
        value = limit / low_v[at] if kind == LOWER else (i_a if kind == CURRENT else high_v)[at]
        share[kind, at] = value if kind == LOWER else value / limit
    for count in (1, 4, 1000):
        closest = places(closest_limits(market, count))
        others = [share[place] for place in share.keys() - set(closest)]
        assert min(count, sum(value > 1e-9 for value in share.values())) <= len(closest)
        least = min(share[place] for place in closest)
        assert sum(share[place] > least + 1e-9 for place in closest) < count
        assert max(others, default=0.0) <= least + 1e-9
