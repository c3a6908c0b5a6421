"""Linearised and gradient steps: shares, a feeder's programme, gradients, never worse."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import cvxpy as cp
import numpy as np
import pytest
from hub_cases import grid_congestion, random_grid, random_hubs

from flexlib import quadratic_steps
from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import reference
from flexlib.hubs import Hubs
from flexlib.pricing_inverse import AdderWeights
from flexlib.quadratic_pricing import QuadraticHubs, QuadraticPrices, quadratic_prices
from flexlib.quadratic_steps import (
    congestion_gradient,
    quadratic_objective,
    with_gradient_steps,
    with_linearised_steps,
)
from flexlib.solver import solve

CAP = 60.0
TOL = 1e-6
POSTER, HEAVY = AdderWeights(), AdderWeights(2e-3, 7e-3, 5e-3)
SEEDS = range(6)


@cache
def case(seed: int) -> tuple[Hubs, HubGrid]:
    """Four hubs over four hours: on one feeder, on two or on three; lines carry any of them."""
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 4, 4)
    feeder = (list("aaaa"), list("aabb"), list("abbc"))[seed % 3]
    hubs = replace(hubs, table=hubs.table.assign(feeder=feeder))
    grid = random_grid(rng, hubs, rng.uniform(0.4, 0.8))
    weights = rng.uniform(0.5, 2, 2)
    return hubs, replace(
        grid, export_mw=0.5 * grid.export_mw, line_weight=weights[0], substation_weight=weights[1]
    )


@cache
def priced(seed: int) -> QuadraticHubs:
    return QuadraticHubs(*case(seed), CAP)


def at(seed: int, rng: np.random.Generator) -> QuadraticPrices:
    """Some adders, some of them 0 or D."""
    kind = rng.random((4, 4))
    adder = rng.uniform(0, 30, (4, 4)) * (kind > 0.2)
    adder[kind > 0.9] = CAP
    return priced(seed)(adder)


def whole(prices: QuadraticPrices, weights: AdderWeights) -> float:
    """Leader's objective, term by term."""
    adder, feeder = prices.adder_eur_per_mwh, prices.hubs.table["feeder"].tolist()
    total = grid_congestion(prices.grid, prices.schedule.w_mw)
    for i in range(len(adder)):
        for t in range(adder.shape[1]):
            total += weights.level * adder[i, t]
            total += weights.smooth * abs(adder[i, t] - adder[i, t - 1]) if t else 0.0
            if i and feeder[i] == feeder[i - 1]:
                total += weights.fair * abs(adder[i, t] - adder[i - 1, t])
    return total


@pytest.mark.parametrize("seed", SEEDS)
def test_objective_term_by_term(seed):
    prices = at(seed, np.random.default_rng(seed))
    for weights in (POSTER, HEAVY, AdderWeights(1.0, 0.0, 0.0)):
        assert quadratic_objective(prices, weights) == pytest.approx(whole(prices, weights))


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_of_feeders_sum_to_no_less_than_the_whole(seed):
    """Equal to it where one stands, wherever else a step leads; overloads both ways."""
    rng, above, weights = np.random.default_rng(seed), 0, HEAVY
    for _ in range(4):
        prices = at(seed, rng)
        feeders = quadratic_steps._feeders(prices, weights)
        assert sorted(np.concatenate([f.hubs for f in feeders])) == list(range(4))
        room = quadratic_steps._room(prices, feeders)
        for size in (0.0, 0.1, 3.0, 60.0):
            move = size * rng.normal(size=(4, 4))
            tried = priced(seed)(np.clip(prices.adder_eur_per_mwh + move, 0, CAP))
            parts = [quadratic_steps._part(tried, prices, f, room, weights) for f in feeders]
            gap = sum(parts) - whole(tried, weights)
            assert gap > -1e-9
            if size == 0:
                assert gap < 1e-9
            above += gap > 1e-3
    assert (above > 0) == (len(feeders) > 1)


def by_clarabel(
    prices: QuadraticPrices, radius: float, weights: AdderWeights
) -> tuple[float, np.ndarray]:
    """Least objective on the tangent of all hubs' answers, within the trust region."""
    hubs, grid, now = prices.hubs, prices.grid, prices.adder_eur_per_mwh
    n, hours = now.shape
    columns = prices.schedule.programme.column
    slope = prices.answer.forward(np.eye(now.size))
    w = slope[columns("m_in").ravel()] - slope[columns("m_out").ravel()]
    adder = cp.Variable(now.size)
    moved = w @ (adder - now.ravel())
    incidence = np.vstack([grid.factor.toarray(), np.ones(n)])
    background = np.vstack([grid.background_mw, np.zeros(hours)])
    fixed = background + incidence @ prices.schedule.w_mw
    cost = weights.level * cp.sum(adder)
    for t in range(hours):
        loading = fixed[:, t] + incidence @ moved[t::hours]
        over = cp.pos(loading - grid.upper_mw) + cp.pos(-loading - grid.lower_mw)
        cost += grid.weight @ over
    for i in range(n):
        own = adder[i * hours : (i + 1) * hours]
        cost += weights.smooth * cp.norm1(own[1:] - own[:-1])
        if i and hubs.table["feeder"][i] == hubs.table["feeder"][i - 1]:
            cost += weights.fair * cp.norm1(own - adder[(i - 1) * hours : i * hours])
    low, high = np.maximum(now - radius, 0).ravel(), np.minimum(now + radius, CAP).ravel()
    found = solve(cp.Problem(cp.Minimize(cost), [adder >= low, adder <= high]))
    return found.objective, adder.value


def on_the_tangent(prices: QuadraticPrices, adder: np.ndarray, weights: AdderWeights) -> float:
    """The same objective of some adders."""
    columns = prices.schedule.programme.column
    moved = prices.answer.forward((adder - prices.adder_eur_per_mwh).ravel())
    w = prices.schedule.w_mw + moved[columns("m_in")] - moved[columns("m_out")]
    regularisation = weights.value(adder, prices.hubs.neighbours)
    return grid_congestion(prices.grid, w) + regularisation


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("radius", [0.3, 3.0, 30.0])
def test_a_feeders_step_is_the_best_on_the_tangent(seed, radius):
    rng = np.random.default_rng(seed)
    for weights in (POSTER, HEAVY):
        prices = at(seed, rng)
        (feeder,) = quadratic_steps._feeders(prices, weights)
        room, slopes = quadratic_steps._room(prices, [feeder]), quadratic_steps._slopes(prices)
        adder = quadratic_steps._step(prices, feeder, room, slopes, radius, weights)
        now = prices.adder_eur_per_mwh
        assert np.abs(adder - now).max() < radius + TOL
        assert adder.min() > -TOL
        assert adder.max() < CAP + TOL
        least, _ = by_clarabel(prices, radius, weights)
        assert on_the_tangent(prices, adder, weights) == pytest.approx(least, abs=1e-5)
        assert least < on_the_tangent(prices, now, weights) - 1e-4


@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_steps_of_several_feeders_lie_between_standing_still_and_the_best(seed):
    rng = np.random.default_rng(seed)
    for radius in (0.5, 5.0):
        prices = at(seed, rng)
        feeders = quadratic_steps._feeders(prices, HEAVY)
        room, slopes = quadratic_steps._room(prices, feeders), quadratic_steps._slopes(prices)
        adder = prices.adder_eur_per_mwh.copy()
        for f in feeders:
            adder[f.hubs] = quadratic_steps._step(prices, f, room, slopes, radius, HEAVY)
        least, _ = by_clarabel(prices, radius, HEAVY)
        value = on_the_tangent(prices, adder, HEAVY)
        assert least - 1e-5 < value < on_the_tangent(prices, prices.adder_eur_per_mwh, HEAVY)


@pytest.mark.parametrize("seed", SEEDS)
def test_slopes_are_differences_of_withdrawals(seed):
    """Of each hub by its own adders, hour by hour; away from kinks."""
    rng, met = np.random.default_rng(seed), 0
    prices, step = at(seed, rng), 1e-3
    slopes = quadratic_steps._slopes(prices)
    assert slopes.shape == (4, 4, 4)
    for t in range(4):
        move = np.zeros((4, 4))
        move[:, t] = step
        up = priced(seed)(prices.adder_eur_per_mwh + move)
        down = priced(seed)(prices.adder_eur_per_mwh - move)
        same = (up.answer.tight == down.answer.tight).reshape(4, -1).all(axis=1)
        found = (up.schedule.w_mw - down.schedule.w_mw) / 2 / step
        np.testing.assert_allclose(slopes[same][:, :, t], found[same], atol=1e-5)
        met += same.sum()
    assert met > 8


@pytest.mark.parametrize("seed", SEEDS)
def test_linearised_steps_are_never_worse_and_their_prices_hold(seed):
    rng, fallen = np.random.default_rng(seed), 0
    starts = [quadratic_prices(*case(seed)), *(at(seed, rng) for _ in range(2))]
    for start in starts:
        for weights in (None, HEAVY):
            found = with_linearised_steps(start, steps=6, weights=weights)
            found.certificate.assert_ok()
            before, after = (whole(p, weights or POSTER) for p in (start, found))
            assert after <= before + 1e-9
            fallen += after < before - 1e-3
            fresh = priced(seed)(found.adder_eur_per_mwh)
            assert fresh.congestion_mwh == pytest.approx(found.congestion_mwh, abs=TOL)
    assert fallen > 2


@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_steps_of_some_feeders_are_kept_where_others_are_not(seed, monkeypatch):
    """The first feeder is told that it got worse: its adders stay, and all answer their own."""
    start = at(seed, np.random.default_rng(seed))
    own = quadratic_steps._part

    def part(tried, prices, feeder, room, weights):
        worse = 1e3 if feeder.hubs[0] == 0 and tried is not prices else 0.0
        return own(tried, prices, feeder, room, weights) + worse

    monkeypatch.setattr(quadratic_steps, "_part", part)
    found = with_linearised_steps(start, steps=1)
    first = (start.hubs.table["feeder"] == "a").to_numpy()
    np.testing.assert_array_equal(found.adder_eur_per_mwh[first], start.adder_eur_per_mwh[first])
    assert np.abs(found.adder_eur_per_mwh - start.adder_eur_per_mwh)[~first].max() > 0.1
    found.certificate.assert_ok()
    fresh = priced(seed)(found.adder_eur_per_mwh)
    np.testing.assert_allclose(fresh.answer.x, found.answer.x, atol=TOL)


def test_no_steps_and_steps_that_cannot_help_leave_prices_as_they_are():
    start = at(0, np.random.default_rng(0))
    assert with_linearised_steps(start, steps=0) is start
    hubs, grid = case(0)
    wide = replace(grid, limit_mw=np.full(len(grid.lines), 1e3), import_mw=1e3, export_mw=1e3)
    idle = QuadraticHubs(hubs, wide, CAP)(np.zeros((4, 4)))
    assert with_linearised_steps(idle, steps=30) is idle


def test_steps_at_the_reference_instance():
    hubs, grid = reference(3, 24)
    start = quadratic_prices(hubs, grid)
    found = with_linearised_steps(start)
    found.certificate.assert_ok()
    assert quadratic_objective(found, POSTER) < quadratic_objective(start, POSTER) - 1e-4
    assert found.congestion_mwh < 1e-3
    none = QuadraticHubs(hubs, grid, CAP)(np.zeros((3, 24)))
    assert quadratic_objective(with_linearised_steps(none, steps=3), POSTER) < 20


def test_gradient_against_differences():
    """Where no row is near its limit and no hub near a kink."""
    met = 0
    for seed in SEEDS:
        rng = np.random.default_rng(100 + seed)
        for _ in range(3):
            prices, step = at(seed, rng), 1e-4
            gradient = congestion_gradient(prices)
            assert gradient.shape == (4, 4)
            way = rng.normal(size=(4, 4))
            up, down = (priced(seed)(prices.adder_eur_per_mwh + k * step * way) for k in (1, -1))
            grid = prices.grid
            sides = [
                (np.sign(p.grid.loading_mw(p.schedule.w_mw) - grid.upper_mw[:, None]),
                 np.sign(p.grid.loading_mw(p.schedule.w_mw) + grid.lower_mw[:, None]))
                for p in (up, down)
            ]  # fmt: skip
            if not np.array_equal(*sides) or (up.answer.tight != down.answer.tight).any():
                continue
            slope = (up.congestion_mwh - down.congestion_mwh) / 2 / step
            assert (gradient * way).sum() == pytest.approx(slope, abs=1e-6)
            met += abs(slope) > 1e-3
    assert met > 6


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_gradient_of_overloads_in_either_direction(side):
    """Lines beyond their limits in every hour: the sum of what the hubs on them would withdraw."""
    hubs, grid = case(0)
    rng = np.random.default_rng(0)
    over = replace(
        grid, background_mw=side * 1e3 + 0 * grid.background_mw, limit_mw=0 * grid.limit_mw,
        import_mw=1e3, export_mw=1e3,
    )  # fmt: skip
    prices = QuadraticHubs(hubs, over, CAP)(rng.uniform(0, 20, (4, 4)))
    on = side * grid.line_weight * grid.factor.toarray().sum(axis=0)
    expected = on[:, None] * quadratic_steps._slopes(prices).sum(axis=1)
    np.testing.assert_allclose(congestion_gradient(prices), expected, atol=1e-9)
    assert np.abs(expected).max() > 1e-3


def test_a_row_just_at_its_limit_counts_as_not_overloaded():
    hubs, grid = case(0)
    none = np.zeros(len(grid.lines))
    prices = QuadraticHubs(hubs, grid, CAP)(np.full((4, 4), 5.0))
    level = prices.grid.loading_mw(prices.schedule.w_mw)
    for way in (1, -1):
        t = int(np.argmax(way * level[-1]))
        most = max(way * float(level[-1, t]), 0.0)
        wide = {"limit_mw": none + 1e3, "import_mw": 1e3, "export_mw": 1e3}
        wide["import_mw" if way == 1 else "export_mw"] = most
        at_limit = replace(prices, grid=replace(grid, **wide))
        assert not congestion_gradient(at_limit).any()


@pytest.mark.parametrize("adam", [False, True])
def test_gradient_steps_stay_in_range_and_are_those_of_the_formula(adam):
    cap = 5.0
    start = QuadraticHubs(*case(1), cap)(np.full((4, 4), 1.0))
    path = with_gradient_steps(start, steps=12, rate_eur_per_mwh=4.0, adam=adam)
    assert path[0] is start
    assert len(path) == 13
    mean = square = 0.0
    for k, (before, after) in enumerate(itertools.pairwise(path), start=1):
        gradient = congestion_gradient(before)
        move = gradient / max(np.abs(gradient).max(), 1e-12)
        if adam:
            mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
            move = mean / (1 - 0.9**k) / (np.sqrt(square / (1 - 0.99**k)) + 1e-8)
        expected = np.clip(before.adder_eur_per_mwh - 4.0 / np.sqrt(k) * move, 0, cap)
        np.testing.assert_allclose(after.adder_eur_per_mwh, expected, atol=1e-9)
        after.certificate.assert_ok()
    assert any((p.adder_eur_per_mwh == cap).any() for p in path)
    assert min(p.congestion_mwh for p in path) < start.congestion_mwh


def test_a_gradient_that_vanishes_moves_nothing():
    """The reason why they stall: nothing is overloaded, or nothing imported moves."""
    hubs, grid = case(0)
    wide = replace(grid, limit_mw=np.full(len(grid.lines), 1e3), import_mw=1e3, export_mw=1e3)
    idle = QuadraticHubs(hubs, wide, CAP)(np.ones((4, 4)))
    assert not congestion_gradient(idle).any()
    for adam in (False, True):
        path = with_gradient_steps(idle, steps=3, rate_eur_per_mwh=5.0, adam=adam)
        np.testing.assert_allclose(path[-1].adder_eur_per_mwh, 1.0)
