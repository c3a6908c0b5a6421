"""Followers under every part of a tariff, and the readings of the evaluator for curved bills.

The bill is written out for another solver, with positive parts, squares and largest imports.
"""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from hub_cases import Own, grid_congestion, own_programme, random_grid, random_hubs

from flexlib import pricing_evaluation
from flexlib.hub_followers import answer, answered, near_optimal_answers, optimal_answers
from flexlib.hub_programme import HubProgramme
from flexlib.pricing_evaluation import best, careless_eur, evaluated, worst, worst_within
from flexlib.solver import solve
from flexlib.tariffs import Block, DemandCharge, Tariff


def drawn(rng, own, curved):
    """A tariff with blocks on all quantities, two demand charges and perhaps a quadratic part."""
    shape = own.size
    blocks = tuple(
        Block(rng.uniform(low, 1.0, shape), rng.uniform(0, 40, shape), of)
        for of, low in (("import", 0.0), ("withdrawal", -1.0), ("injection", -1.0))
    )
    charges = tuple(
        DemandCharge(hours, rng.uniform(0, 60, shape[0])) for hours in ((0, 1), (1, 2, 3))
    )
    rho = rng.uniform(5, 40, shape) * (rng.random(shape) < 0.7) if curved else np.zeros(shape)
    return Tariff(rng.uniform(0, 30, shape), blocks, charges, rho)


def bill(own, tariff, x, k):
    """Bill of one hub as an expression of cvxpy."""
    m_in, m_out = x[own.at("m_in")[k]], x[own.at("m_out")[k]]
    total = tariff.adder_eur_per_mwh[k] @ m_in
    total += tariff.curvature_eur_per_mwh_per_mw[k] / 2 @ cp.square(m_in)
    for block in tariff.blocks:
        q = {"import": m_in, "withdrawal": m_in - m_out, "injection": m_out - m_in}[block.of]
        total += block.more_eur_per_mwh[k] @ cp.pos(q - block.above_mw[k])
    for charge in tariff.charges:
        total += charge.eur_per_mw[k] * cp.max(m_in[list(charge.hours)])
    return total


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_answers_by_another_solver(seed, curved):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 2, 4)
    own = own_programme(hubs)
    tariff = drawn(rng, own, curved)
    reply = answer(hubs, tariff)
    reply.certificate.assert_ok()
    c, a, b, lower, upper = own.arrays
    x = cp.Variable(len(c))
    for k in range(2):
        cost = np.where(own.hub == k, c, 0.0) @ x + bill(own, tariff, x, k)
        least = cp.Problem(cp.Minimize(cost), [a @ x == b, x >= lower, x <= upper])
        value = least.solve(solver=cp.CLARABEL)
        assert reply.pays_eur[k] == pytest.approx(value, abs=1e-4)
        assert reply.least_eur[k] == pytest.approx(value, abs=1e-3)
        assert reply.least_eur[k] <= value + 1e-5
        y = own.of(reply.schedule.x)
        paid = (np.where(own.hub == k, c, 0.0) @ y) + bill(own, tariff, y, k).value
        assert reply.pays_eur[k] == pytest.approx(paid, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_any_dual_vector_proves_a_bound(seed):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 2, 4)
    own, programme = own_programme(hubs), HubProgramme(hubs)
    tariff = drawn(rng, own, True)
    reply = answer(hubs, tariff)
    _, x, dual = optimal_answers(programme, tariff)
    for _ in range(10):
        found = answered(programme, tariff, x, dual + rng.normal(0, 1, len(dual)))
        assert (found.least_eur <= reply.pays_eur + 1e-9).all()
        assert (found.least_eur < reply.least_eur).all()


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_all_optimal_answers_pay_the_same(seed, curved):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 2, 4)
    own, programme = own_programme(hubs), HubProgramme(hubs)
    tariff = drawn(rng, own, curved)
    reply = answer(hubs, tariff)
    face, _, _ = optimal_answers(programme, tariff)
    for _ in range(6):
        x = solve(replace(face, c=rng.normal(size=len(face.c)))).x[: len(programme.cost)]
        m_in, m_out = (x[programme.column(name)] for name in ("m_in", "m_out"))
        pays = (programme.cost * x).reshape(2, -1).sum(axis=1) + tariff.bill_eur(m_in, m_out)
        np.testing.assert_allclose(pays, reply.pays_eur, atol=1e-4)


def true_worst(own: Own, grid, tariff, eps, rng, directions=12):
    """Much congestion within a tolerance, by random directions on the true convex sets."""
    c, a, b, lower, upper = own.arrays
    x = cp.Variable(len(c))
    slope = cp.Parameter(len(c))
    limits = [a @ x == b, x >= lower, x <= upper]
    for k in range(len(own.which)):
        cost = np.where(own.hub == k, c, 0.0) @ x + bill(own, tariff, x, k)
        least = cp.Problem(cp.Minimize(cost), limits[:3]).solve(solver=cp.CLARABEL)
        limits.append(cost <= least + eps[k])
    problem = cp.Problem(cp.Maximize(slope @ x), limits)
    found = []
    for _ in range(directions):
        side = rng.normal(size=grid.background_mw.shape) * 1.0
        for _ in range(2):
            way = grid.factor.toarray().T @ side
            value = np.zeros(len(c))
            value[own.at("m_in")], value[own.at("m_out")] = way, -way
            slope.value = value
            problem.solve(solver=cp.CLARABEL)
            w = own.withdrawal(x.value)
            found.append(grid_congestion(grid, w))
            load = grid.background_mw + grid.factor.toarray() @ w
            limit = grid.limit_mw[:, None]
            side = 1.0 * (load > limit) - (-load > limit) + 1e-3 * rng.random(load.shape)
    return max(found)


@pytest.mark.parametrize("seed", range(5))
def test_careless_answers_to_a_curved_bill_are_bracketed(seed):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 1 + seed % 2, 3)
    grid = random_grid(rng, hubs, 0.6)
    own, programme = own_programme(hubs), HubProgramme(hubs)
    tariff = Tariff(
        rng.uniform(0, 30, own.size),
        curvature_eur_per_mwh_per_mw=rng.uniform(5, 40, own.size),
    )
    eps = np.full(len(hubs), 1.0)
    found = worst_within(programme, grid, tariff, eps)
    tried = true_worst(own, grid, tariff, eps, rng)
    assert tried <= found.most_mwh + 1e-4
    assert found.most_mwh - found.least_mwh < 0.06 * found.most_mwh + 1e-3
    assert tried > 0.9 * found.least_mwh - 1e-3
    # what is found is an answer within the tolerance, and congested as it is said
    w, reply = programme.withdrawal_mw(found.x), answer(hubs, tariff)
    y = found.x
    pays = (programme.cost * y).reshape(len(hubs), -1).sum(axis=1)
    pays = pays + tariff.bill_eur(y[programme.column("m_in")])
    assert (pays <= reply.pays_eur + eps + 1e-9).all()
    assert np.abs(programme.a @ y - programme.b).max() < 1e-6
    assert grid.congestion_mwh(w) == pytest.approx(found.least_mwh, abs=1e-9)
    # without tangents at the worst answers the bound is looser, never lower
    once = worst(near_optimal_answers(programme, tariff, eps), programme, grid)
    assert once.most_mwh >= tried - 1e-4
    assert once.most_mwh >= found.most_mwh - 1e-3


def test_table_of_a_curved_tariff():
    rng = np.random.default_rng(1)
    hubs = random_hubs(rng, 2, 3)
    grid = random_grid(rng, hubs, 0.6)
    tariff = Tariff(np.full((2, 3), 5.0), curvature_eur_per_mwh_per_mw=np.full((2, 3), 20.0))
    table = evaluated(hubs, grid, tariff)
    reply = answer(hubs, tariff)
    paid = table["hub_cost_eur"] + table["revenue_eur"]
    assert paid["optimistic"] == pytest.approx(reply.pays_eur.sum(), abs=1e-4)
    assert paid["pessimistic"] == pytest.approx(reply.pays_eur.sum(), abs=1e-4)
    most = reply.pays_eur.sum() + careless_eur(hubs).sum()
    assert paid["careless, 0.1 %"] <= most + 1e-9
    assert (table["at_least_mwh"] <= table["at_most_mwh"] + 1e-8).all()
    assert set(table["proof"]) <= {"exact", "bracket"}
    assert table["at_most_mwh"].is_monotonic_increasing


@pytest.mark.parametrize("of", ["withdrawal", "injection"])
def test_a_block_below_everything_is_a_price_of_net_exchange(of):
    rng = np.random.default_rng(2)
    hubs = random_hubs(rng, 2, 4)
    own = own_programme(hubs)
    sign, below = (1.0 if of == "withdrawal" else -1.0), 50.0  # MW, beyond any connection
    nothing = np.zeros(own.size)
    tariff = Tariff(nothing, (Block(nothing - below, nothing + 4.0, of),))
    c = own.cost()
    c[own.at("m_in")] += sign * 4.0
    c[own.at("m_out")] -= sign * 4.0
    reply = answer(hubs, tariff)
    least = own.sums(c * own.minimum(c)) + 4.0 * below * 4
    np.testing.assert_allclose(reply.pays_eur, least, atol=1e-4)
    reply.certificate.assert_ok()


@pytest.mark.parametrize("seed", range(4))
def test_near_optimal_answers_use_their_tolerance_hub_by_hub(seed):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 3, 4)
    programme = HubProgramme(hubs)
    tariff = drawn(rng, own_programme(hubs), curved=False)
    least, eps = answer(hubs, tariff).pays_eur, np.array([0.0, 2.0, 7.0])
    near = near_optimal_answers(programme, tariff, eps)
    used = []
    for _ in range(8):
        x = solve(replace(near, c=rng.normal(size=len(near.c)))).x[: len(programme.cost)]
        m_in, m_out = (x[programme.column(name)] for name in ("m_in", "m_out"))
        pays = (programme.cost * x).reshape(3, -1).sum(axis=1) + tariff.bill_eur(m_in, m_out)
        used.append(pays - least)
    assert (np.array(used) <= eps + 1e-5).all()
    np.testing.assert_allclose(np.max(used, axis=0), eps, atol=0.02)


@pytest.mark.parametrize("seed", range(2))
def test_bound_on_careless_answers_does_not_lean_on_what_is_found(seed, monkeypatch):
    """With the least congested answer in place of the ascent's, and no binaries."""
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 2, 3)
    grid = random_grid(rng, hubs, 0.6)
    own, programme = own_programme(hubs), HubProgramme(hubs)
    rho = rng.uniform(5, 40, own.size)
    tariff = Tariff(rng.uniform(0, 30, own.size), curvature_eur_per_mwh_per_mw=rho)
    eps = np.full(2, 1.0)
    tried = true_worst(own, grid, tariff, eps, rng)
    monkeypatch.setattr(
        pricing_evaluation,
        "_ascent",
        lambda answers, programme, grid, starts: best(answers, programme, grid).x,
    )
    monkeypatch.setattr(pricing_evaluation, "_MOST_BINARIES", 0)
    found = worst_within(programme, grid, tariff, eps)
    assert found.least_mwh < tried - 0.05
    assert found.most_mwh >= tried - 1e-4
