"""Equations of the chapter on scaling hold at solutions that are computed apart from the models."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest

from flexlib import hub_decomposition, hub_parts
from flexlib.centralised import centralised
from flexlib.hub_decomposition import decomposed_bound_mwh, decomposed_prices
from flexlib.hub_instances import many_feeders
from flexlib.hub_parts import part_bound, part_plan, parts
from flexlib.hub_programme import HubProgramme
from flexlib.quadratic_pricing import QuadraticHubs, quadratic_prices

PAGE = (Path(__file__).parents[1] / "book" / "scaling.md").read_text(encoding="utf-8")
LABELS = set(re.findall(r"^\$\$ \(([\w-]+)\)$", PAGE, re.M))
CAP, HOURS = 60.0, 24
MOST = 30  # hubs of a part: a trunk


@cache
def case(level=0.6, share=0.8):
    """Sixty hubs on two trunks, with an import limit that binds, and their parts."""
    hubs, grid = many_feeders(20, level)
    grid = replace(grid, import_mw=share * grid.import_mw)
    return hubs, grid, parts(hubs, grid, MOST)


class Here:
    """Runs the units of a sweep in this process, in place of a client."""


@pytest.fixture
def in_process(monkeypatch):
    def sweep(client, function, units, folder, *, progress):
        assert isinstance(client, Here)
        return {name: function(*arguments) for name, arguments in units.items()}

    monkeypatch.setattr(hub_decomposition, "sweep", sweep)
    return Here()


def dual(price, overload=np.inf, **options):
    """theta and gamma of the page."""
    _, grid, whole = case(**options)
    plans = [part_plan(part, price, CAP, overload) for part in whole]
    value = sum(float(plan["value_eur"]) for plan in plans) - grid.import_mw * price.sum()
    return value, sum(plan["quota_mw"] for plan in plans) - grid.import_mw, plans


def cost_eur(hubs, x):
    own = HubProgramme(hubs)
    return float(own.cost @ x + 0.5 * x @ (own.quadratic * x))


def printed(part, price, overload):
    """A part's term of the dual function as printed, by Clarabel."""
    own, lines = HubProgramme(part.hubs), part.grid
    x = cp.Variable(len(own.cost), bounds=[own.lower, own.upper])
    s = cp.Variable(own.shape[:2], nonneg=True)
    z = cp.Variable(lines.background_mw.shape, nonneg=True)
    m = cp.reshape(x[own.column("m_in").ravel()], own.shape[:2], order="C")
    rows = lines.background_mw + lines.factor @ (m - s) - z <= lines.limit_mw[:, None]
    cost = own.cost @ x + 0.5 * cp.sum(cp.multiply(own.quadratic, cp.square(x)))
    cost += CAP * cp.sum(s) + price @ cp.sum(m - s, axis=0)
    finite = overload if np.isfinite(overload) else 1e5
    cost += finite * lines.line_weight * cp.sum(z)
    problem = cp.Problem(cp.Minimize(cost), [own.a @ x == own.b, rows])
    problem.solve(solver=cp.CLARABEL)
    return problem.value, cp.sum(m - s, axis=0).value


def test_labels_of_the_chapter_are_cited_by_the_modules_that_write_them():
    cited = {
        label
        for module in (hub_decomposition, hub_parts)
        for label in re.findall(r":eq:`(scaling-[\w-]+)`", Path(module.__file__).read_text("utf-8"))
    }
    assert cited == {label for label in LABELS if label.startswith("scaling-")}


@pytest.mark.parametrize("overload", [np.inf, CAP / 2])
def test_a_part_is_what_is_printed(overload):
    level = 0.6 if np.isinf(overload) else 0.5
    part = case(level)[2][1]
    price = np.random.default_rng(3).uniform(0, 20, HOURS)
    value, quota_mw = printed(part, price, overload)
    plan = part_plan(part, price, CAP, overload)
    assert float(plan["value_eur"]) == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(plan["quota_mw"], quota_mw, atol=2e-2)


def test_dual_function_is_below_the_whole_concave_and_gamma_its_slope():
    hubs, grid, _ = case()
    whole = quadratic_prices(hubs, grid, cap_eur_per_mwh=CAP)
    assert whole.congestion_mwh < 1e-3  # so that its cost is the optimal value, without slack
    optimum = cost_eur(hubs, whole.answer.x)
    rng = np.random.default_rng(5)
    prices = [np.zeros(HOURS), *rng.uniform(0, 30, (3, HOURS))]
    values, slopes = zip(*(dual(price)[:2] for price in prices), strict=True)
    assert max(values) <= optimum * (1 + 1e-7)
    for price, value, slope in zip(prices, values, slopes, strict=True):
        tangents = [v + g @ (price - p) for p, v, g in zip(prices, values, slopes, strict=True)]
        assert value <= min(tangents) + 1e-5 * abs(value)
        direction = rng.normal(size=HOURS)
        inside = price + 0.01 * np.abs(direction), price + 0.02 * np.abs(direction)
        rise = (dual(inside[1])[0] - dual(inside[0])[0]) / 0.01
        middle = dual(price + 0.015 * np.abs(direction))[1] @ np.abs(direction)
        assert rise == pytest.approx(middle, rel=1e-2, abs=0.05)
        assert slope.shape == (HOURS,)


def test_adders_are_answered_exactly_at_every_price():
    """Third statement of the theorem, at prices that are not optimal."""
    _, _, whole = case()
    price = np.random.default_rng(6).uniform(0, 40, HOURS)
    for part, plan in zip(whole, dual(price)[2], strict=True):
        adder = plan["adder_eur_per_mwh"]
        assert adder.min() >= 0
        assert adder.max() <= CAP
        assert (adder >= price - 1e-9).all()
        answer = QuadraticHubs(part.hubs, part.grid, CAP)(adder)
        uncapped = adder.max(axis=0) < CAP - 1e-3
        assert uncapped.sum() > HOURS / 2
        assert part.grid.overload_mw(answer.schedule.w_mw)[:, uncapped].max() < 1e-3
        imports = answer.schedule.m_in_mw.sum(axis=0)
        np.testing.assert_allclose(imports[uncapped], plan["quota_mw"][uncapped], atol=1e-2)


def test_at_the_best_price_the_parts_are_the_whole(in_process, tmp_path):
    hubs, grid, _ = case()
    found = decomposed_prices(in_process, hubs, grid, tmp_path, most_hubs=MOST, progress=False)
    found.certificate.assert_ok()
    whole = quadratic_prices(hubs, grid, cap_eur_per_mwh=CAP)
    np.testing.assert_allclose(found.w_mw, whole.schedule.w_mw, atol=1e-2)
    price = found.substation_eur_per_mwh
    assert price.min() >= 0
    assert 1.0 < price.max() < CAP
    value, slope, _ = dual(price)
    assert value == pytest.approx(cost_eur(hubs, whole.answer.x), rel=1e-6)
    room = 1e-3 * grid.import_mw
    assert (slope < room).all()
    assert (slope[price > 0.1] > -room).all()
    nearby = np.clip(price + np.random.default_rng(8).normal(size=(3, HOURS)), 0, CAP)
    assert all(dual(other)[0] <= value + 1e-6 * abs(value) for other in nearby)


def test_newton_step_is_the_best_of_its_model():
    rng = np.random.default_rng(9)
    root = rng.normal(size=(HOURS, HOURS))
    curvature, gradient = root @ root.T + np.eye(HOURS), 20 * rng.normal(size=HOURS)
    price, most = rng.uniform(0, 5, HOURS), 6.0
    moved = hub_decomposition._newton(price, gradient, curvature, most)

    def model(at):
        return gradient @ (at - price) - 0.5 * (at - price) @ curvature @ (at - price)

    assert moved.min() >= -1e-9
    assert moved.max() <= most + 1e-9
    assert ((moved < 1e-6) | (moved > most - 1e-6)).any()
    for _ in range(50):
        other = np.clip(moved + 0.1 * rng.normal(size=HOURS), 0, most)
        assert model(other) <= model(moved) + 1e-6


def test_shares_of_the_import_limit_majorise_the_overload():
    _, grid, whole = case()
    rng = np.random.default_rng(10)
    tight = 0
    for _ in range(500):
        w_mw = rng.normal(1.0, 2.0, (len(case()[0]), HOURS))
        room = hub_decomposition._shares(whole, grid, w_mw)
        moved = w_mw + rng.choice([0.0, 0.1, 5.0]) * rng.normal(size=w_mw.shape)
        true = np.maximum(moved.sum(axis=0) - grid.import_mw, 0.0)
        shared = sum(
            np.maximum(moved[part.members].sum(axis=0) - most, 0.0)
            for part, most in zip(whole, room, strict=True)
        )
        assert (true <= shared + 1e-9).all()
        if np.array_equal(moved, w_mw):
            np.testing.assert_allclose(true, shared, atol=1e-9)
            tight += 1
    assert tight > 50


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_bound_in_parts_is_below_method_b_at_any_price(share, in_process, tmp_path):
    hubs, grid, whole = case(0.5, share)
    least = centralised(hubs, grid).bound_mwh
    rng = np.random.default_rng(11)
    for price in (np.zeros(HOURS), rng.uniform(0, grid.substation_weight, HOURS)):
        total = sum(float(part_bound(part, price)["bound_mwh"]) for part in whole)
        assert total - price.sum() * grid.import_mw <= least + 1e-6 * max(1.0, least)
    found = decomposed_bound_mwh(in_process, hubs, grid, tmp_path, most_hubs=MOST, progress=False)
    assert 0.9 * least - 1e-6 <= found <= least + 1e-6 * max(1.0, least)


def test_a_price_above_the_weight_proves_nothing():
    """The condition of the bound: without it the same sum exceeds what is reached."""
    hubs, grid, whole = case(0.5, 0.3)
    least = centralised(hubs, grid).bound_mwh
    price = np.full(HOURS, 5.0 * grid.substation_weight)
    total = sum(float(part_bound(part, price)["bound_mwh"]) for part in whole)
    assert total - price.sum() * grid.import_mw > least
