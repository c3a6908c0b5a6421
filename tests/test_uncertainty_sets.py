"""What every set promises, and the budget: corners, support, and what it costs the market."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from feeders import STABLE, bands, corners_of_set, small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial import ConvexHull
from sets import KINDS, budget_of, by_cones, faults_of, feeder, with_set
from test_uncertainty import box_of

from flexlib import Box, Budget, clear

whole = st.integers(-3, 3).map(float)  # zero and equal columns come up often
columns_of_five = st.lists(whole | st.floats(-5, 5), min_size=5, max_size=5)


@cache
def budget(count: int, gamma: float) -> Budget:
    box = box_of(count)
    return Budget(box.network, box.bands, gamma)


# --------------------------------------------------------------------------------------------
# Every set


@pytest.mark.parametrize("kind", KINDS)
def test_support_and_worst_point_belong_together(kind: str) -> None:
    one, rng = with_set(feeder(12), kind).uncertainty, np.random.default_rng(1)
    n = len(one.load)
    rows = rng.normal(size=(40, 3, n)) * (rng.random((40, 3, n)) < 0.7)
    xi, most = one.worst(rows), one.support(rows)
    assert xi.shape == rows.shape
    assert most.shape == (40, 3)
    np.testing.assert_allclose((rows * xi).sum(axis=-1), most, atol=1e-12)
    np.testing.assert_allclose(one.support(rows[5, 1]), most[5, 1], atol=1e-12)
    # Every worst point is in the set: no direction sees one beyond its own support.
    probe = rng.normal(size=(200, n))
    assert (xi.reshape(-1, n) @ probe.T <= one.support(probe) + 1e-9).all()
    # Sublinear, and 0 for no function at all.
    assert (one.support(rows[:20] + rows[20:]) <= most[:20] + most[20:] + 1e-12).all()
    np.testing.assert_allclose(one.support(2.5 * rows), 2.5 * most, atol=1e-12)
    assert one.support(np.zeros(n)) == 0
    assert np.isfinite(one.worst(np.zeros((2, n)))).all()
    each = [max(one.support(sign * unit) for sign in (1, -1)) for unit in np.eye(n)]
    np.testing.assert_allclose(one.reach, each, atol=1e-15)


@pytest.mark.parametrize("kind", ["box", "budget", "ellipsoid"])
def test_samples_lie_in_the_set_and_come_near_its_boundary(kind: str) -> None:
    one = with_set(feeder(12), kind).uncertainty
    xi, probe = one.sample(4000, 3), np.random.default_rng(0).normal(size=(50, len(one.load)))
    share = (xi @ probe.T) / one.support(probe)
    assert share.max() <= 1 + 1e-12
    assert share.max(axis=0).min() > 0.6
    np.testing.assert_array_equal(xi, one.sample(4000, 3))
    np.testing.assert_allclose(xi.mean(axis=0), 0, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_image_is_drawn_once_around(kind: str, seed: int) -> None:
    one, rng = with_set(feeder(12), kind).uncertainty, np.random.default_rng(seed)
    columns = rng.normal(size=(len(one.load), 2)) @ [1, 1j]
    drawn = one.image(columns)
    step = np.roll(drawn, -1) - drawn
    area = np.imag(np.conj(drawn) * np.roll(drawn, -1)).sum() / 2  # > 0: counter-clockwise
    assert area == pytest.approx(ConvexHull(np.column_stack([drawn.real, drawn.imag])).volume)
    towards = np.exp(2j * np.pi * (np.arange(100) + 0.5) / 100)
    most = one.support(np.real(np.conj(towards)[:, None] * columns))
    out = np.real(np.conj(towards)[:, None] * drawn).max(axis=1)
    np.testing.assert_allclose(out, most, rtol=1e-4)
    turn = np.imag(np.conj(step[:-1]) * step[1:])
    assert turn.min() > -1e-12


# --------------------------------------------------------------------------------------------
# The budget


@settings(STABLE, max_examples=40)
@given(columns_of_five, st.sampled_from([0, 0.3, 1, 1.5, 2, 3.999, 4.25, 5]))
def test_support_and_corners_are_those_of_a_linear_programme(
    columns: list[float], gamma: float
) -> None:
    # xi = p - m, with |xi| <= 1 and sum |xi| <= gamma.
    c, one = np.array(columns), budget(5, gamma)
    found = linprog(np.append(-c, c), np.ones((1, 10)), [gamma], bounds=(0, 1))
    assert one.support(c) == pytest.approx(-found.fun, abs=1e-9)
    corners = one.vertices()
    assert (corners @ c).max() == pytest.approx(-found.fun, abs=1e-9)
    xi = one.worst(c)
    for point in (xi[None], corners):
        assert np.abs(point).max() <= 1
        assert np.abs(point).sum(axis=1).max() <= gamma + 1e-12
    assert c @ xi == pytest.approx(-found.fun, abs=1e-9)
    assert budget(5, gamma).reach.tolist() == pytest.approx([min(1, gamma)] * 5)


@pytest.mark.parametrize(
    ("count", "gamma", "corners"),
    [(3, 0, 1), (3, 0.5, 6), (3, 1, 6), (3, 1.5, 24), (3, 2, 12), (3, 2.5, 24), (3, 3, 8)],
)
def test_every_corner_comes_once(count: int, gamma: float, corners: int) -> None:
    found = budget(count, gamma).vertices()
    assert found.shape == (corners, count)
    assert len({tuple(row) for row in found}) == corners
    np.testing.assert_allclose(np.abs(found).sum(axis=1), gamma)
    # None of them lies between others: each alone is best in its own direction.
    tilted = found * (1 + np.abs(found) + 0.1 * (np.abs(found) % 1 > 0))
    if gamma:
        np.testing.assert_allclose((tilted @ found.T).argmax(axis=1), np.arange(corners))


def test_more_corners_than_are_listed() -> None:
    assert len(budget(14, 14).vertices()) == 2**14
    assert budget(15, 15).vertices() is None
    assert len(budget(8, 4.5).vertices()) == 70 * 16 * 8
    assert budget(9, 4.5).vertices() is None  # 126 * 16 * 10


def test_budgets_at_the_door() -> None:
    network = small_network()
    for gamma, found in ((-0.1, "-0.1"), (2.01, "2.01"), (np.nan, "nan"), (np.inf, "inf")):
        assert faults_of(lambda gamma=gamma: Budget(network, bands(one=5, two=5), gamma)) == [
            f"budget, column gamma: found {found}, expected a budget from 0 to 2, "
            "the number of uncertain loads"
        ]
    assert faults_of(lambda: Budget(network, bands(one=101, nobody=5), 1)) == [
        "frame bands, row 0, column band_pct: found 101, expected a number from 0 to 100 %",
        "frame bands, row 1, column load: found 'nobody', expected a load of small",
    ]


def test_a_budget_moves_p_and_q_together() -> None:
    one = Budget(small_network(), bands(sun=50, one=10), 1.5)
    np.testing.assert_allclose(one.delta_kva, [-100, 60 + 20j])
    np.testing.assert_allclose(one.loads_kva(np.array([[0.5, 1.0]]))[0, [0, 2]], [660 + 220j, -250])
    assert not budget(3, 0).sample(50, 1).any()
    assert np.abs(budget(3, 0.6).sample(50, 1)).sum(axis=1).max() == pytest.approx(0.6)


# --------------------------------------------------------------------------------------------
# The market over a budget


@pytest.mark.parametrize("seed", [2, 12, 18, 32])
def test_no_budget_is_certainty_and_a_full_one_the_box(seed: int) -> None:
    market = feeder(seed)
    widths, cost = market.uncertainty.bands, []
    steps = [0, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4]
    for gamma in steps:
        cost.append(clear(replace(market, uncertainty=budget_of(market, gamma))).cost_eur_per_h)
    certain = Box(market.network, widths.assign(band_pct=0.0))
    exact = {"rel": 1e-7, "abs": 1e-7}
    assert cost[0] == pytest.approx(
        clear(replace(market, uncertainty=certain)).cost_eur_per_h, **exact
    )
    assert cost[-1] == pytest.approx(clear(market).cost_eur_per_h, **exact)
    assert all(less <= more + 1e-7 for less, more in pairwise(cost))
    assert cost[-1] > cost[0] + 1e-3
    # What a limit keeps free grows by less and less: by the next smaller column.
    column = np.random.default_rng(seed).normal(size=len(widths))
    kept = [budget_of(market, gamma).support(column) for gamma in np.arange(0, 4.01, 0.25)]
    assert (np.diff(kept, 2) <= 1e-12).all()


@pytest.mark.parametrize("gamma", [0.4, 1.0, 1.5, 2.75])
@pytest.mark.parametrize("seed", [12, 19, 32])
def test_a_budget_is_safe_at_each_corner_and_no_more(seed: int, gamma: float) -> None:
    market = replace(feeder(seed), uncertainty=budget_of(feeder(seed), gamma))
    corners = corners_of_set(market.uncertainty).T
    for points in (corners, market.uncertainty.vertices()):
        assert clear(market).cost_eur_per_h == pytest.approx(by_cones(market, points), rel=1e-6)
