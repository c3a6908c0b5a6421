"""The cone model against cuts and against all corners; polygons that close in on the circle."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cvxpy as cp
import numpy as np
import pytest
from feeders import corners_of_set, random_market, small_market
from sets import by_cones, feeder, per_xi, with_set
from test_robust import market_with_a_choice

from flexlib import Circle, Market, Planes, clear
from flexlib.robust_cone import cone_model, corners_in_circle, ellipse_in_circle


def cost_of(problem: cp.Problem) -> float:
    return float(problem.solve(solver="CLARABEL"))


def surface(market: Market) -> np.ndarray:
    """Points of an ellipsoid at which the limited currents lie farthest out, in 48 directions."""
    towards = np.exp(2j * np.pi * np.arange(48) / 48)[:, None]
    root, points = market.uncertainty.root, []
    for columns in per_xi(market):
        u = np.real(np.conj(towards) * (columns @ root))
        points.append(market.uncertainty.omega * u / np.linalg.norm(u, axis=1)[:, None] @ root.T)
    return np.concatenate(points)


def with_voltages(seed: int) -> Market:
    return replace(random_market(seed, 3 + seed % 8, seed % 3, seed % 2, 4), norm=Circle())


@pytest.mark.parametrize("kind", ["box", "ellipsoid"])
@pytest.mark.parametrize("seed", [2, 5, 12, 19, 22])
def test_cones_and_cuts_find_the_same(seed: int, kind: str) -> None:
    market = with_set(feeder(seed), kind)
    problem, by_cuts = cone_model(market), clear(market)
    cost = cost_of(problem)
    assert by_cuts.cost_eur_per_h == pytest.approx(cost, rel=1e-6, abs=1e-6)
    assert cost > 1e-3
    up_kw, down_kw = (problem.var_dict[f"f_{way}_kw"].value for way in ("up", "down"))
    np.testing.assert_allclose(up_kw - down_kw, by_cuts.optimum.net_kw, atol=0.02)
    box = kind == "box"
    points = corners_of_set(market.uncertainty).T if box else surface(market)
    apart = cost - by_cones(market, points)
    assert -1e-6 * cost <= apart <= (1e-6 if box else 1e-4) * cost


@pytest.mark.parametrize("seed", [3, 6, 7, 9])
def test_cones_and_cuts_find_the_same_where_voltages_bind(seed: int) -> None:
    market = with_voltages(seed)
    cost = clear(market).cost_eur_per_h
    assert cost == pytest.approx(cost_of(cone_model(market)), rel=1e-6)
    free = market.network.buses.assign(v_min_pu=0.5, v_max_pu=1.5)
    without = replace(market, network=replace(market.network, buses=free))
    assert clear(without).cost_eur_per_h < cost - 1e-3


# --------------------------------------------------------------------------------------------
# The cones themselves


def least_circle(centre: complex, shape: np.ndarray, box: bool) -> float:
    """Radius of the least circle around 0 that holds an ellipse, or a box's corners."""
    radius, i_a = cp.Variable(), cp.Constant(np.array([centre.real, centre.imag]))
    inside = corners_in_circle if box else ellipse_in_circle
    return cost_of(cp.Problem(cp.Minimize(radius), [inside(i_a, shape, radius)]))


@pytest.mark.parametrize(
    "shape",
    [
        np.array([[1.0, 0.3, 0.2], [-0.4, 2.0, 0.1]]),
        np.array([[1.0, 2.0], [0.5, 1.0]]),  # flat
        np.array([[3.0, 0.0], [0.0, 0.1]]),
        np.zeros((2, 2)),
        np.array([[1.0], [2.0]]),  # one load
    ],
)
@pytest.mark.parametrize("centre", [0j, 1 + 0.5j, 40 - 30j, 2j])
def test_an_ellipse_fits_the_circle_of_its_farthest_point(
    shape: np.ndarray, centre: complex
) -> None:
    angle = np.linspace(0, 2 * np.pi, 100_001)
    turned, axes, _ = np.linalg.svd(shape)
    axes = np.append(axes, [0.0])[:2, None]
    x, y = turned @ (axes * np.array([np.cos(angle), np.sin(angle)]))
    expected = np.abs(centre + x + 1j * y).max()
    assert least_circle(centre, shape, box=False) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_corners_fit_the_circle_of_the_farthest_one() -> None:
    corners = np.array([[1.0, -1, 0.5], [2.0, 0, -3]])
    expected = np.abs([5 + 2j, 3 + 0j, 4.5 - 3j]).max()
    assert least_circle(4 + 0j, corners, box=True) == pytest.approx(expected, rel=1e-7)


# --------------------------------------------------------------------------------------------
# Planes converge to the cone


@pytest.mark.parametrize("kind", ["box", "ellipsoid"])
@pytest.mark.parametrize("seed", [12, 18, 32])
def test_planes_close_in_on_the_circle_with_the_square_of_their_number(
    seed: int, kind: str
) -> None:
    market = with_set(feeder(seed), kind)
    circle, counts = clear(market).cost_eur_per_h, [16, 32, 64, 128, 256]

    def cost(planes: Planes) -> float:
        return clear(replace(market, norm=planes)).cost_eur_per_h

    # Polygons with half as many corners lie within the inscribed ones; those with half as many
    # sides around the circumscribed ones, if a side stays in place.
    within = [cost(Planes(count)) - circle for count in counts]
    around = [circle - cost(Planes(n, inscribed=False, turned="side")) for n in counts]
    # A polygon of N planes lies between circles whose radii differ by cos(pi / N), and the cost is
    # convex in the radius: its slope from 16 planes on bounds all the others.
    less = np.cos(np.pi / 16)
    limits = [f"i_max_{end}_a" for end in ("from", "to")]
    branches = market.network.branches.assign(**market.network.branches[limits] * less)
    smaller = replace(market, network=replace(market.network, branches=branches))
    slope = (clear(smaller).cost_eur_per_h - circle) / (1 - less)
    for apart in (within, around):
        assert min(apart) > -1e-6
        assert all(later <= before + 1e-6 for before, later in pairwise(apart))
        assert (np.array(apart) <= 1.02 * slope * np.pi**2 / 2 / np.array(counts) ** 2 + 1e-6).all()
    assert within[0] > 1e-3
    for planes in (Planes(17, turned="corner"), Planes(23, turned="side")):
        bracket = (cost(replace(planes, inscribed=False)) - 1e-6, cost(planes) + 1e-6)
        assert bracket[0] <= circle <= bracket[1]


# --------------------------------------------------------------------------------------------
# What it does not take


@pytest.mark.parametrize("kind", ["budget", "scenarios"])
def test_other_sets_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="takes a box or an ellipsoid around the baseline"):
        cone_model(with_set(feeder(12), kind))


def test_a_band_on_the_remainder_is_refused() -> None:
    with pytest.raises(ValueError, match="takes a box or an ellipsoid around the baseline"):
        cone_model(replace(feeder(12), band="remainder"))


def test_a_choice_between_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a choice between rows: not a convex model"):
        cone_model(replace(market_with_a_choice((50, 60)), norm=Circle()))


def test_a_market_without_limits_that_bind_costs_nothing() -> None:
    market = small_market(i_max_a=500, norm=Circle())
    problem = cone_model(market)
    assert problem.constraints == []
    assert cost_of(problem) == pytest.approx(0, abs=1e-6)
