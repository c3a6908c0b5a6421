"""Equations of the chapter on the quadratic follower hold by code apart from the models."""

import re
from functools import cache
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest
from scipy.sparse import csr_array, vstack

from flexlib import (
    Bilevel,
    Follower,
    quadratic_exact,
    quadratic_follower,
    quadratic_pricing,
    quadratic_steps,
)
from flexlib.hub_instances import many_feeders, reference
from flexlib.hubs import VARIABLES
from flexlib.pricing_inverse import AdderWeights
from flexlib.quadratic_follower import QuadraticFollower
from flexlib.quadratic_pricing import (
    QuadraticHubs,
    hub_follower,
    loaded_rows,
    quadratic_prices,
    quadratic_quotas,
)
from flexlib.quadratic_program import solve_quadratic
from flexlib.quadratic_steps import quadratic_objective, with_linearised_steps

PAGE = (Path(__file__).parents[1] / "book" / "quadratic.md").read_text(encoding="utf-8")
LABELS = set(re.findall(r"^\$\$ \(([\w-]+)\)$", PAGE, re.M))
MODULES = (quadratic_follower, quadratic_pricing, quadratic_steps, quadratic_exact)
CAP, SEED = 60.0, 2


def test_labels_of_the_chapter_are_cited_by_the_modules_that_write_them():
    cited = {
        label
        for module in MODULES
        for label in re.findall(
            r":eq:`(quadratic-[\w-]+)`", Path(module.__file__).read_text("utf-8")
        )
    }
    assert cited <= LABELS
    assert LABELS - cited <= {"quadratic-hub"}  # linked from the page alone
    assert "flexlib.quadratic_pricing.hub_follower" in PAGE


@cache
def general():
    """A follower with every part of the form, and an answer with rows and bounds tight."""
    rng = np.random.default_rng(SEED)
    n, k, e, g = 8, 3, 2, 4
    root = rng.normal(size=(n, n))
    x, d = rng.uniform(0.2, 0.8, n), rng.normal(size=k)
    a, b_d, rows, h_d = (rng.normal(size=size) for size in ((e, n), (e, k), (g, n), (g, k)))
    follower = Follower(
        c=rng.normal(size=n) * 4, c_leader=csr_array(rng.normal(size=(n, k))),
        q=csr_array(root @ root.T + np.eye(n)), a=csr_array(a), a_leader=csr_array(b_d),
        b=a @ x + b_d @ d, g=csr_array(rows), g_leader=csr_array(h_d),
        h=rows @ x + h_d @ d + np.array([0.05, 0.05, 0.3, 2.0]),
        lower=np.zeros(n), upper=np.ones(n),
    )  # fmt: skip
    leader = Bilevel(follower, cost=np.zeros(k))
    answer = QuadraticFollower(leader.follower).answer(d)
    answer.certificate.assert_ok()
    assert answer.tight.any()
    assert answer.tight_rows.any()
    return leader.follower, d, answer


def reference_answer(f, d):
    """Answer by Clarabel, from the printed form."""
    x = cp.Variable(len(f.c))
    root = np.linalg.cholesky(f.q.toarray())
    cost = cp.sum_squares(root.T @ x) / 2 + (f.c + f.c_leader @ d) @ x
    limits = [f.a @ x + f.a_leader @ d == f.b, f.g @ x + f.g_leader @ d <= f.h,
              x >= f.lower, x <= f.upper]  # fmt: skip
    problem = cp.Problem(cp.Minimize(cost), [row for row in limits if row.size])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return x.value


def test_follower_answers_what_is_printed():
    f, d, answer = general()
    np.testing.assert_allclose(answer.x, reference_answer(f, d), atol=1e-5)


def test_cost_of_a_hub_is_the_printed_sum():
    hubs, _ = reference(1, 6, 0.6)
    f = hub_follower(QuadraticHubs(hubs, reference(1, 6, 0.6)[1], CAP).programme)
    rng = np.random.default_rng(1)
    x, adder = rng.uniform(size=len(f.c)), rng.uniform(0, CAP, 6)
    powers = dict(zip(VARIABLES, x.reshape(6, -1).T, strict=True))
    costs = hubs.costs.set_index("variable")
    bill = (hubs.buy_eur_per_mwh[0] + adder) @ powers["m_in"]
    bill -= hubs.sell_eur_per_mwh @ powers["m_out"]
    bill += hubs.table["generator_cost_eur_per_mwh"][0] * powers["g"].sum()
    for name in VARIABLES:
        bill += costs.loc[name, "linear_eur_per_mwh"] * powers[name].sum()
        curvature = costs.loc[name, "quadratic_eur_per_mwh_per_mw"]
        bill += 0.5 * curvature * (powers[name] ** 2).sum()
    assert f.cost(adder, x) == pytest.approx(bill, rel=1e-12)


def test_derivative_satisfies_the_differentiated_conditions():
    f, _, answer = general()
    dd = np.random.default_rng(5).normal(size=f.c_leader.shape[1])
    dx, free = answer.forward(dd), ~answer.tight
    np.testing.assert_allclose(dx[answer.tight], 0.0, atol=1e-9)
    np.testing.assert_allclose(f.a @ dx + f.a_leader @ dd, 0.0, atol=1e-9)
    moved = f.g @ dx + f.g_leader @ dd
    np.testing.assert_allclose(moved[answer.tight_rows], 0.0, atol=1e-9)
    equations = vstack([f.a, f.g[answer.tight_rows]]).toarray()[:, free]
    slope = (f.q @ dx + f.c_leader @ dd)[free]
    dy = np.linalg.lstsq(equations.T, slope, rcond=None)[0]
    np.testing.assert_allclose(equations.T @ dy, slope, atol=1e-9)
    assert np.abs(dx).max() > 0.01


def test_derivative_is_that_of_differences_and_its_adjoint():
    f, d, answer = general()
    rng, h = np.random.default_rng(6), 1e-5
    follower = QuadraticFollower(f)
    for _ in range(5):
        dd, a = rng.normal(size=len(d)), rng.normal(size=len(f.c))
        step = answer.forward(dd)
        difference = (follower.answer(d + h * dd).x - follower.answer(d - h * dd).x) / (2 * h)
        np.testing.assert_allclose(step, difference, atol=1e-6)
        assert a @ step == pytest.approx(answer.adjoint(a) @ dd, abs=1e-9)


def test_directional_derivative_is_that_of_one_sided_differences_at_a_kink():
    """Two bounds are weakly active at d = 0, and only one of them holds in each direction."""
    follower = Follower(
        c=np.array([0.0, 0.0, -1.0]), q=csr_array(np.array([[2.0, 1, 0], [1, 2, 0], [0, 0, 1]])),
        c_leader=csr_array(np.array([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])),
        lower=np.zeros(3), upper=np.full(3, 5.0),
    )  # fmt: skip
    f = Bilevel(follower, cost=np.zeros(2)).follower
    at = QuadraticFollower(f).answer(np.zeros(2))
    assert at.weak.sum() == 2
    for dd in (np.array([1.0, 0.0]), np.array([-1.0, 2.0]), np.array([1.0, 1.0]), -np.ones(2)):
        step = (reference_answer(f, 1e-2 * dd) - at.x) / 1e-2
        np.testing.assert_allclose(at.directional(dd), step, atol=1e-5)
    np.testing.assert_allclose(at.forward(np.ones(2)), [0.0, 0.0, -2.0], atol=1e-9)


def test_solution_of_the_programme_has_the_printed_conditions():
    hubs, grid = reference(3, 24, 0.6)
    prices = quadratic_prices(hubs, grid)
    programme, none = prices.schedule.programme, np.zeros((3, 24))
    found = solve_quadratic(*quadratic_quotas(programme, grid, none, CAP, 40.0))
    n = len(programme.cost)
    x, s, z = found.x[:n], found.x[n : n + 72].reshape(3, 24), found.x[n + 72 :].reshape(-1, 24)
    carry = loaded_rows(grid)
    m = x[programme.column("m_in")]
    excess = grid.incidence[carry] @ (m - s) - z + grid.background[carry]
    excess -= grid.upper_mw[carry][:, None]
    assert excess.max() < 1e-6
    mu = -found.row_dual[len(programme.b) :].reshape(-1, 24)
    assert mu.min() > -1e-7
    assert mu.max() > 1.0
    assert np.abs(mu * excess).max() < 1e-4
    value = programme.cost @ x + 0.5 * programme.quadratic @ x**2 + CAP * s.sum()
    value += 40.0 * (grid.weight[carry] @ z).sum()
    assert found.objective == pytest.approx(value, rel=1e-9)
    adder = grid.incidence[carry].T @ mu
    f = prices.answer.follower
    np.testing.assert_allclose(x, reference_answer(f, adder.ravel()), atol=1e-3)
    first = solve_quadratic(*quadratic_quotas(programme, grid, none, CAP))
    mu = -first.row_dual[len(programme.b) :].reshape(-1, 24)
    adder = grid.incidence[carry].T @ mu
    np.testing.assert_allclose(adder, prices.adder_eur_per_mwh, atol=1e-6)


def test_step_is_the_best_on_the_tangent():
    hubs, grid = reference(3, 6, 0.5)
    start = np.random.default_rng(2).uniform(0, 40, (3, 6))
    prices = QuadraticHubs(hubs, grid, CAP)(start)
    stepped = with_linearised_steps(prices, steps=1)
    now = prices.adder_eur_per_mwh
    radius = np.abs(stepped.adder_eur_per_mwh - now).max()
    assert 0.5 < radius < 1.0 + 1e-9
    columns = prices.schedule.programme.column("m_in"), prices.schedule.programme.column("m_out")

    def tangent(adder):
        moved = prices.answer.forward((adder - now).ravel())
        w = prices.schedule.w_mw + moved[columns[0]] - moved[columns[1]]
        return grid.congestion_mwh(w) + AdderWeights().value(adder, hubs.neighbours)

    best = tangent(stepped.adder_eur_per_mwh)
    rng = np.random.default_rng(9)
    for size in (0.01, 0.1, 1.0):
        for _ in range(30):
            other = stepped.adder_eur_per_mwh + size * rng.uniform(-1, 1, now.shape)
            other = np.clip(np.clip(other, now - 1.0, now + 1.0), 0.0, CAP)
            assert tangent(other) >= best - 1e-7
    assert best < tangent(now) - 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_shares_bound_the_objective_and_agree_where_one_stands(seed):
    hubs, grid = many_feeders(3, 0.5)
    priced_at, weights = QuadraticHubs(hubs, grid, CAP), AdderWeights()
    rng = np.random.default_rng(seed)
    start = priced_at(rng.uniform(0, 30, (len(hubs), 24)))
    feeder = hubs.table["feeder"].to_numpy()
    names, incidence = list(dict.fromkeys(feeder)), grid.incidence.toarray()
    on = np.array([(incidence[:, feeder == name] != 0).any(axis=1) for name in names])
    count = on.sum(axis=0)
    assert count.max() == 3
    loading = grid.loading_mw(start.schedule.w_mw)

    def shared(tried):
        total = 0.0
        for name, rows in zip(names, on, strict=True):
            own = feeder == name
            change = (tried.schedule.w_mw - start.schedule.w_mw)[own]
            more = incidence[np.ix_(rows, own)] @ change
            up = (grid.upper_mw[rows, None] - loading[rows]) / count[rows, None]
            down = (grid.lower_mw[rows, None] + loading[rows]) / count[rows, None]
            over = np.maximum(more - up, 0) + np.maximum(-more - down, 0)
            total += (grid.weight[rows] @ over).sum()
            adder = tried.adder_eur_per_mwh[own]
            pairs = np.array([[k, k + 1] for k in range(own.sum() - 1)])
            total += weights.value(adder, pairs)
        return total

    assert shared(start) == pytest.approx(quadratic_objective(start, weights), rel=1e-9)
    slack = []
    for size in (0.5, 5.0, 30.0):
        adder = np.clip(start.adder_eur_per_mwh + size * rng.uniform(-1, 1, (9, 24)), 0, CAP)
        tried = priced_at(adder)
        slack.append(shared(tried) - quadratic_objective(tried, weights))
    assert min(slack) > -1e-7
    assert max(slack) > 0.01
