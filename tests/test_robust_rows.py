"""Rows over the whole set against all its vertices: planes, voltage norm, cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from feeders import (
    STABLE,
    Worst,
    bands,
    corners_of_offers,
    markets,
    random_market,
    small_market,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_robust import market_with_a_choice

from flexlib import Budget, Circle, Ellipsoid, Market, Planes, Scenarios
from flexlib.robust_limits import CURRENT, LOWER, UPPER, Limits, every_limit
from flexlib.robust_rows import (
    Rows,
    current_margins_a,
    current_rows,
    cuts,
    every_plane,
    farthest,
    first_rows,
    robust_rows,
    voltage_rows,
    worst_deviations,
)

BAND = st.sampled_from(["baseline", "remainder"])


def slack(rows: Rows, net_kw: np.ndarray) -> np.ndarray:
    return rows.room - rows.per_kw @ net_kw


def at_vertices(worst: Worst, limits: Limits, q: int, net_kw: np.ndarray) -> np.ndarray:
    """Value of a quantity at every vertex, ampere or volt."""
    kind, at = limits.kind[q], limits.at[q]
    base, per_kw, per_xi = worst.affine.i if kind == CURRENT else worst.v
    z = base[at] + per_kw[at] @ net_kw + per_xi[at] @ worst.left(net_kw)
    return z if kind == CURRENT else z * 1000 * worst.market.network.buses["v_nom_kv"][at]


def activations(market: Market, count: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    up_kw, down_kw = market.volume_kw
    return rng.uniform(-down_kw, up_kw, (count, len(market.offers)))


def with_budget(market: Market, gamma: float) -> Market:
    gamma = min(gamma, float(len(market.uncertainty.load)))
    return replace(market, uncertainty=Budget(market.network, market.uncertainty.bands, gamma))


# --------------------------------------------------------------------------------------------
# Margins and planes


@STABLE
@given(markets())
def test_current_margins_are_those_of_the_worst_vertex(market: Market) -> None:
    worst = Worst(market)
    expected = worst.margins() * market.norm.apothem
    scale = 1 + np.abs(expected).max()
    np.testing.assert_allclose(current_margins_a(market), expected, atol=1e-7 * scale)


def test_no_band_no_margin() -> None:
    assert not current_margins_a(small_market(bands=bands(one=0, two=0))).any()


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6), BAND)
def test_every_plane_has_the_slack_of_the_worst_vertex(market: Market, band: str) -> None:
    market = replace(market, band=band)
    worst, limits = Worst(market), every_limit(market)
    rows, count = every_plane(market, limits), market.norm.count
    current = np.flatnonzero(limits.kind == CURRENT)
    assert rows.limit.tolist() == np.repeat(current, count).tolist()
    assert not rows.big_m.any()
    for net_kw in activations(market):
        for k, q in enumerate(current):
            along = worst.planes(at_vertices(worst, limits, q, net_kw)).max(axis=0)
            left_a = (limits.limit[q] - along) * market.norm.apothem
            ours = slack(rows, net_kw)[count * k : count * (k + 1)]
            np.testing.assert_allclose(ours, left_a, atol=1e-7 * (1 + limits.limit[q]))


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6), BAND, st.sampled_from([0.0, 0.4, 1.0, 2.5]))
def test_rows_of_a_budget_hold_at_its_vertices(market: Market, band: str, gamma: float) -> None:
    market = with_budget(replace(market, band=band), gamma)
    worst, limits = Worst(market), every_limit(market)
    before, count = every_plane(market, limits), market.norm.count
    for net_kw in activations(market, 3):
        again = robust_rows(market, limits, before.limit, before.normal, before.bound, net_kw)
        for k, q in enumerate(np.flatnonzero(limits.kind == CURRENT)):
            along = worst.planes(at_vertices(worst, limits, q, net_kw)).max(axis=0)
            left_a = (limits.limit[q] - along) * market.norm.apothem
            part, scale = slice(count * k, count * (k + 1)), 1e-7 * (1 + limits.limit[q])
            # Made for this activation a row is exact; made for another it is never stricter.
            np.testing.assert_allclose(slack(again, net_kw)[part], left_a, atol=scale)
            assert (slack(before, net_kw)[part] >= left_a - scale).all()
            if band == "baseline":
                np.testing.assert_allclose(slack(before, net_kw)[part], left_a, atol=scale)


def of_any_set(kind: str, market: Market, seed: int = 0) -> Market:
    """The market with its box replaced by another set of the same loads."""
    names = market.uncertainty.bands["load"].tolist()
    rng = np.random.default_rng(seed)
    sigma_kw = np.abs(market.network.s_load_kva.real[market.uncertainty.load]) * 0.1
    if kind == "ellipsoid":
        root = rng.normal(size=(len(names), len(names))) * sigma_kw[:, None]
        covariance = pd.DataFrame(root @ root.T, names, names)
        return replace(market, uncertainty=Ellipsoid(market.network, covariance, 1.5))
    errors_kw = pd.DataFrame(rng.normal(0.3, 1, (60, len(names))) * sigma_kw, columns=names)
    return replace(market, uncertainty=Scenarios(market.network, errors_kw, 0.1, 0.02))


@pytest.mark.parametrize("kind", ["ellipsoid", "scenarios"])
@pytest.mark.parametrize("band", ["baseline", "remainder"])
def test_margins_of_other_sets_are_their_support(kind: str, band: str) -> None:
    market = replace(of_any_set(kind, random_market(4, 9, 1, 1)), band=band)
    limits, columns = every_limit(market), market.uncertain[1]
    rows, uncertainty = every_plane(market, limits), market.uncertainty
    for net_kw in activations(market):
        again = robust_rows(market, limits, rows.limit, rows.normal, rows.bound, net_kw)
        moved = columns * market.remains(net_kw)
        i_a = market.flow.i0_a + market.upward[1] @ net_kw
        for r in range(len(rows)):
            a, end = rows.normal[r], limits.at[rows.limit[r]]
            most = uncertainty.support(np.real(np.conj(a) * moved[end]))
            left_a = rows.bound[r] - np.real(np.conj(a) * i_a[end]) - most
            assert slack(again, net_kw)[r] == pytest.approx(left_a, abs=1e-7)
            assert slack(rows, net_kw)[r] >= left_a - 1e-7
            margin = again.margin[r] + again.margin_per_kw[r] @ net_kw
            assert margin == pytest.approx(most, abs=1e-9)


# --------------------------------------------------------------------------------------------
# Planes that nothing can reach


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6), BAND)
def test_planes_that_are_left_out_cannot_be_reached(market: Market, band: str) -> None:
    market = replace(market, band=band)
    limits = every_limit(market)
    every, rows = every_plane(market, limits), current_rows(market, limits)
    lines = list(zip(every.limit, every.normal, strict=True))
    kept = [lines.index(line) for line in zip(rows.limit, rows.normal, strict=True)]
    assert kept == sorted(set(kept))
    for name in ("bound", "per_kw", "room", "margin", "margin_per_kw", "big_m"):
        np.testing.assert_allclose(getattr(rows, name), getattr(every, name)[kept], atol=1e-9)
    out = every.take(np.setdiff1d(np.arange(len(every)), kept))
    for net_kw in corners_of_offers(market).T:
        assert (slack(out, net_kw) >= 0).all()


@pytest.mark.parametrize("band", ["baseline", "remainder"])
def test_planes_are_kept_up_to_the_disc(band: str) -> None:
    """A plane goes out where the disc of everything that moves lies on its inner side."""
    for seed in range(12):
        market = replace(random_market(seed, 9, seed % 2, seed % 3), band=band)
        limits = every_limit(market)
        every, rows = every_plane(market, limits), current_rows(market, limits)
        worst, expected = Worst(market), set()
        up_kw, down_kw = market.volume_kw
        share = np.max([worst.share(net_kw) for net_kw in corners_of_offers(market).T], axis=0)
        for limit, normal, bound in zip(every.limit, every.normal, every.bound, strict=True):
            base, per_kw, per_xi = (part[limits.at[limit]] for part in worst.affine.i)
            middle = np.real(np.conj(normal) * (base + per_kw @ (up_kw - down_kw) / 2))
            radius = np.abs(per_kw) @ (up_kw + down_kw) / 2 + np.abs(per_xi) @ share
            if middle + radius > bound:
                expected.add((limit, normal))
        assert set(zip(rows.limit, rows.normal, strict=True)) == expected
        assert len(expected) < len(every) or not len(every)


# --------------------------------------------------------------------------------------------
# Voltages


@STABLE
@given(markets(uncertain=8), BAND)
def test_rows_say_what_the_vertices_say(market: Market, band: str) -> None:
    market = replace(market, band=band)
    limits, worst = every_limit(market), Worst(market)
    rows = voltage_rows(market, limits)
    buses = market.network.buses
    for net_kw in activations(market):
        v_nom_v = 1000 * buses["v_nom_kv"].to_numpy()
        low, high = worst.norm_low_pu(net_kw), worst.norm_high_pu(net_kw)
        slacks: dict[tuple[int, str], list[float]] = {}
        for r, value in enumerate(slack(rows, net_kw)):
            q, sign = rows.limit[r], -1 if limits.kind[rows.limit[r]] == LOWER else 1
            assert rows.bound[r] == sign * limits.limit[q]
            along = np.real(np.conj(rows.normal[r]) * at_vertices(worst, limits, q, net_kw))
            assert value == pytest.approx((rows.bound[r] - along).min(), abs=1e-9 * limits.limit[q])
            slacks.setdefault((limits.at[q], limits.kind[q]), []).append(value)
            assert value >= -rows.big_m[r] - 1e-8 or rows.big_m[r] == 0
        for bus in worst.free:
            # Upper: every row must hold. Lower: one of the alternatives.
            room = (buses["v_max_pu"][bus] - high[bus]) * v_nom_v[bus]
            tolerance = 1e-9 * v_nom_v[bus]
            assert min(slacks[bus, UPPER]) == pytest.approx(room, abs=tolerance)
            room = (low[bus] - buses["v_min_pu"][bus]) * v_nom_v[bus]
            ours = max(slacks[bus, LOWER])
            assert ours <= room + tolerance
            if len(slacks[bus, LOWER]) > 1 or room < 0:
                assert ours == pytest.approx(room, abs=tolerance)


def least_slack(market: Market, rows: Rows) -> np.ndarray:
    return np.array([slack(rows, net_kw) for net_kw in corners_of_offers(market).T]).min(axis=0)


@pytest.mark.parametrize("v_min_pu", [0.9945, 1.0])
def test_big_m_is_the_largest_miss_over_all_activations(v_min_pu: float) -> None:
    market = market_with_a_choice((50.0, 50.0), v_min_pu)
    limits = every_limit(market)
    rows = voltage_rows(market, limits)
    chosen = np.flatnonzero(rows.big_m > 0)
    assert len(chosen) >= 2
    assert set(limits.kind[rows.limit[chosen]]) == {LOWER}
    np.testing.assert_allclose(rows.big_m[chosen], -least_slack(market, rows)[chosen], rtol=1e-9)


@pytest.mark.parametrize("v_min_pu", [0.9945, 1.0, 1.02])
@pytest.mark.parametrize("kind", ["budget", "ellipsoid", "scenarios"])
def test_big_m_covers_cuts_as_well(kind: str, v_min_pu: float) -> None:
    """Over other sets, with the band on the remainder, a cut can be missed by more than its row."""
    plain = market_with_a_choice((50.0, 50.0), v_min_pu)
    offers = plain.offers.assign(up_max_kw=[600.0, 100.0])  # no more than the loads have
    plain = replace(plain, offers=offers, band="remainder")
    market = with_budget(plain, 1.5) if kind == "budget" else of_any_set(kind, plain)
    limits = every_limit(market)
    rows = voltage_rows(market, limits)
    rows = rows.take(np.flatnonzero(rows.big_m > 0))
    assert len(rows) >= 2
    first = least = np.zeros(len(rows))
    for net_kw in corners_of_offers(market).T:
        exact = robust_rows(market, limits, rows.limit, rows.normal, rows.bound, net_kw)
        first, least = (
            np.minimum(first, slack(rows, net_kw)),
            np.minimum(least, slack(exact, net_kw)),
        )
    assert (least >= -rows.big_m).all()
    if kind == "budget":
        assert (least < first - 1.0).any()


def test_the_slack_bus_has_no_rows() -> None:
    market = small_market()
    limits = every_limit(market)
    rows = voltage_rows(market, limits)
    assert set(limits.at[rows.limit].tolist()) == {0, 2}


def test_rows_of_both_sides_at_every_bus() -> None:
    market = small_market()
    limits = every_limit(market)
    rows = voltage_rows(market, limits)
    for bus in (0, 2):
        here = rows.take(np.flatnonzero(limits.at[rows.limit] == bus))
        kind = limits.kind[here.limit]
        assert (kind == UPPER).sum() == 2
        assert here.bound[kind == UPPER].tolist() == pytest.approx([11_000] * 2)
        assert here.bound[kind == LOWER].tolist() == pytest.approx([-9_000] * (kind == LOWER).sum())
        assert (kind == LOWER).any()


def test_a_phase_shift_turns_limits_along() -> None:
    plain = small_market()
    branches = plain.network.branches.assign(shift_deg=[150.0, 0.0])
    turned = small_market(network=replace(plain.network, branches=branches))
    a, b = (voltage_rows(market, every_limit(market)) for market in (plain, turned))
    assert len(a) == len(b) > 4
    for name in ("room", "margin", "per_kw", "normal"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("band", ["baseline", "remainder"])
def test_a_slope_between_the_ends_can_be_the_best(band: str) -> None:
    market = market_with_a_choice((50.0, 50.0))
    offers = market.offers.assign(up_max_kw=[600.0, 100.0])  # no more than the loads have
    market = replace(market, offers=offers, band=band)
    limits, worst, between = every_limit(market), Worst(market), 0.0
    rows = voltage_rows(market, limits)
    for kw in np.linspace(-400, 400, 81):
        net_kw = np.array([kw, 0.0])
        low = worst.norm_low_pu(net_kw)
        for bus in worst.free:
            of_bus = (limits.at[rows.limit] == bus) & (limits.kind[rows.limit] == LOWER)
            slacks = slack(rows, net_kw)[of_bus] / 10_000
            room = low[bus] - market.network.buses["v_min_pu"].iloc[bus]
            if len(slacks) > 1:
                assert max(slacks) == pytest.approx(room, abs=1e-9)
                z = (
                    worst.v[0][bus]
                    + worst.v[1][bus] @ net_kw
                    + worst.v[2][bus] @ worst.left(net_kw)
                )
                w = worst.alpha - 1j * worst.beta * np.array([[1.0], [-1.0]])
                ends = np.real(w * z).min(axis=1).max()
                between = max(between, low[bus] - ends)
    assert between > 1e-4


def test_limits_that_know_where_they_face_have_one_row_each() -> None:
    market = random_market(2, 8, 1, 1)
    limits, rng = every_limit(market), np.random.default_rng(1)
    facing = np.exp(1j * rng.uniform(-0.3, 0.3, len(limits.kind)))
    limits, worst = replace(limits, facing=facing), Worst(market)
    rows = voltage_rows(market, limits)
    voltage = np.flatnonzero(limits.kind != CURRENT)
    assert rows.limit.tolist() == voltage.tolist()
    assert not rows.big_m.any()
    for net_kw in activations(market):
        for r, q in enumerate(voltage):
            out = np.real(np.conj(facing[q]) * at_vertices(worst, limits, q, net_kw))
            upper = limits.kind[q] == UPPER
            room = limits.limit[q] - out.max() if upper else out.min() - limits.limit[q]
            assert slack(rows, net_kw)[r] == pytest.approx(room, abs=1e-5)


# --------------------------------------------------------------------------------------------
# The exact circle


def sets_of(market: Market) -> list[Market]:
    return [
        market,
        with_budget(market, 1.5),
        of_any_set("ellipsoid", market),
        of_any_set("scenarios", market),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_the_farthest_point_is_found_and_bounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for market in sets_of(random_market(seed, 8, uncertain=6)):
        uncertainty = market.uncertainty
        columns = rng.normal(size=(len(uncertainty.load), 2)) @ [1, 1j]
        columns[0] *= rng.choice([0.0, 1.0])
        for centre in (0j, *(rng.normal(size=(3, 2)) @ [1, 1j]), 1e3 + 0j, columns[-1] * 1e-9):
            xi, bound = farthest(uncertainty, centre, columns, 1e-7)
            found = abs(centre + columns @ xi)
            assert found - 1e-12 * found <= bound <= found + 1e-7
            # It is a point of the set, and no direction reaches farther than the bound.
            towards = np.exp(1j * rng.uniform(0, 2 * np.pi, 2000))
            lines = np.real(np.conj(towards)[:, None] * columns)
            points = centre + uncertainty.worst(lines) @ columns
            assert np.abs(points).max() <= bound + 1e-12
            probe = rng.normal(size=(200, len(columns)))
            assert (probe @ xi <= uncertainty.support(probe) + 1e-9).all()


def test_the_farthest_point_of_a_box_is_a_vertex() -> None:
    market = random_market(5, 9, uncertain=8)
    columns = np.random.default_rng(3).normal(size=(8, 2)) @ [1, 1j]
    for narrow in (1, 1e-3 + 1j, 1j):  # a long and thin image as well
        thin = columns.real * 1e-3 + 1j * columns.imag if narrow == 1j else columns * narrow
        thin = thin[: len(market.uncertainty.load)]
        for centre in (0j, 0.5 + 0.1j, -4j):
            xi, bound = farthest(market.uncertainty, centre, thin, 1e-9)
            expected = np.abs(centre + market.uncertainty.vertices() @ thin).max()
            assert abs(centre + thin @ xi) == pytest.approx(expected, abs=1e-9)
            assert bound == pytest.approx(expected, abs=2e-9)


def test_a_set_that_is_a_point() -> None:
    market = small_market(bands=bands(one=0, two=0))
    xi, bound = farthest(market.uncertainty, 3 + 4j, np.zeros(2, dtype=complex), 1e-9)
    assert bound == pytest.approx(5, abs=1e-9)
    assert xi.shape == (2,)


def test_first_rows_of_a_circle_lie_around_it() -> None:
    market = replace(random_market(4, 9, 1, 1), norm=Circle())
    limits = every_limit(market)
    around = every_plane(replace(market, norm=Planes(32, inscribed=False)), limits)
    rows = current_rows(market, limits)
    np.testing.assert_allclose(rows.bound, limits.limit[rows.limit])
    lines = list(zip(around.limit, around.normal, strict=True))
    kept = [lines.index(line) for line in zip(rows.limit, rows.normal, strict=True)]
    np.testing.assert_allclose(rows.room, around.room[kept], atol=1e-9)
    with pytest.raises(ValueError, match="needs planes, not the exact circle"):
        every_plane(market, limits)
    with pytest.raises(ValueError, match="needs planes, not the exact circle"):
        current_margins_a(market)


def largest_current(market: Market, limits: Limits, net_kw: np.ndarray) -> np.ndarray:
    """Largest magnitude of every limited current over the set, by a fine sweep of directions."""
    towards = np.exp(2j * np.pi * np.arange(4000) / 4000)
    most = np.full(len(limits.kind), -np.inf)
    for q in np.flatnonzero(limits.kind == CURRENT):
        columns = limits.per_xi[q] * market.remains(net_kw)
        xi = market.uncertainty.worst(np.real(np.conj(towards)[:, None] * columns))
        most[q] = np.abs(limits.base[q] + limits.per_kw[q] @ net_kw + xi @ columns).max()
    return most


@pytest.mark.parametrize("band", ["baseline", "remainder"])
@pytest.mark.parametrize("seed", range(4))
def test_cuts_of_a_circle_are_tangents_at_its_worst_points(seed: int, band: str) -> None:
    added = 0
    for market in sets_of(replace(random_market(seed, 9, seed % 2), norm=Circle(), band=band)):
        limits = every_limit(market)
        rows = first_rows(market, limits)
        current = limits.kind == CURRENT
        assert current[rows.limit].sum() == len(current_rows(market, limits))
        assert len(rows) == len(current_rows(market, limits)) + len(voltage_rows(market, limits))
        for net_kw in activations(market, 2):
            most = largest_current(market, limits, net_kw)
            limit = replace(limits, limit=np.where(current, 0.999 * most, limits.limit))
            start = first_rows(market, limit)
            new = cuts(market, limit, start, net_kw)
            for r in np.flatnonzero(current[new.limit]):
                q = new.limit[r]
                assert new.bound[r] == limit.limit[q]
                assert abs(new.normal[r]) == pytest.approx(1)
                added += 1
            # The activation breaks each circle by a thousandth, so that each has a row it breaks.
            both = start.and_more(new)
            for q in np.flatnonzero(current):
                beyond = -slack(both, net_kw)[both.limit == q].min()
                assert beyond == pytest.approx(0.001 * most[q], rel=1e-3, abs=1e-9)
            # No activation that keeps the circles is cut off.
            for other_kw in activations(market, 5)[2:]:
                within = largest_current(market, limit, other_kw) <= 0.999999 * limit.limit
                keeps = (within & current)[new.limit]
                assert (slack(new, other_kw)[keeps] >= -1e-7).all()
            roomy = replace(limits, limit=np.where(current, 1.001 * most, limits.limit))
            again = cuts(market, roomy, first_rows(market, roomy), net_kw)
            assert not current[again.limit].any()
    assert added > 6


@pytest.mark.parametrize("kind", ["budget", "ellipsoid", "scenarios"])
def test_cuts_where_the_worst_deviation_has_changed(kind: str) -> None:
    """Planes with the band on the remainder: what the first rows miss, the cuts say exactly."""
    added = 0
    for seed in range(8):
        plain = replace(random_market(seed, 9, seed % 2), band="remainder")
        market = with_budget(plain, 1.5) if kind == "budget" else of_any_set(kind, plain)
        limits = every_limit(market)
        rows = first_rows(market, limits)
        for net_kw in activations(market, 3):
            new = cuts(market, limits, rows, net_kw)
            exact = robust_rows(market, limits, rows.limit, rows.normal, rows.bound, net_kw)
            left, had = slack(exact, net_kw), slack(rows, net_kw)
            missing = left < np.minimum(had, 0) - np.maximum(1e-8, 1e-9 * np.abs(rows.bound))
            assert new.limit.tolist() == rows.limit[missing].tolist()
            np.testing.assert_allclose(slack(new, net_kw), left[missing], atol=1e-9)
            np.testing.assert_array_equal(new.big_m, rows.big_m[missing])
            added += missing.sum()
            both = rows.and_more(new)
            assert not len(cuts(market, limits, both.take(np.arange(len(rows), len(both))), net_kw))
    assert added > 5


def test_a_box_and_a_band_on_the_baseline_need_no_cuts() -> None:
    for market in (random_market(1, 9), with_budget(random_market(1, 9), 1.5)):
        limits = every_limit(market)
        for net_kw in corners_of_offers(market).T:
            assert not len(cuts(market, limits, first_rows(market, limits), net_kw))
    box = replace(random_market(1, 9), band="remainder")
    for net_kw in corners_of_offers(box).T:
        assert not len(cuts(box, every_limit(box), first_rows(box, every_limit(box)), net_kw))


# --------------------------------------------------------------------------------------------
# Where each quantity is worst


@pytest.mark.parametrize("band", ["baseline", "remainder"])
@pytest.mark.parametrize("gamma", [None, 1.5])
@pytest.mark.parametrize("seed", range(6))
def test_worst_deviations_are_the_enumerated_ones(
    seed: int, gamma: float | None, band: str
) -> None:
    market = replace(random_market(seed, 10, seed % 2, seed % 3, uncertain=4), band=band)
    market = market if gamma is None else with_budget(market, gamma)
    limits, worst = every_limit(market), Worst(market)
    net_kw = 0.5 * (market.volume_kw[0] - market.volume_kw[1])
    xi = worst_deviations(market, limits, net_kw)
    assert (np.abs(xi).sum(axis=1) <= (gamma or len(xi.T)) + 1e-9).all()
    found = np.abs(limits.values(market, xi, net_kw))
    for q, kind in enumerate(limits.kind):
        z = np.abs(at_vertices(worst, limits, q, net_kw))
        expected = z.min() if kind == LOWER else z.max()
        assert found[q] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("net_kw", [(-1300.0, 1000.0), (0.0, 0.0), (450.0, -400.0)])
def test_a_worst_low_voltage_is_no_higher_than_at_any_vertex(net_kw: tuple[float, float]) -> None:
    market = market_with_a_choice((50.0, 50.0), 1.0)
    limits, worst, at = every_limit(market), Worst(market), np.array(net_kw)
    found = np.abs(limits.values(market, worst_deviations(market, limits, at), at))
    for q in np.flatnonzero(limits.kind == LOWER):
        assert found[q] <= np.abs(at_vertices(worst, limits, q, at)).min() + 1e-6
