"""The theorem on quadratic tariffs, on more than 500 random instances, and without its conditions.

The programme is held against one of another solver, written with the tables' arrays.
"""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from hub_cases import own_programme
from scipy.sparse import csr_array
from tie_cases import CLEAR, SEEDS, batch, planner, pushed, quantity

from flexlib import DataError
from flexlib.centralised import centralised
from flexlib.hub_followers import answer, near_optimal_answers, optimal_answers
from flexlib.hub_instances import reference
from flexlib.pricing_evaluation import _drawn_back, careless_eur, worst, worst_within
from flexlib.pricing_quadratic_tariff import quadratic_tariff
from flexlib.solver import solve


def designed(seed, **options):
    """A batch and a quadratic tariff with random curvatures."""
    rng = np.random.default_rng(seed)
    case = batch(seed)
    shape = case.programme.shape[:2]
    rho = rng.uniform(0.5, 60, shape) if seed % 2 else np.full(shape, float(rng.uniform(1, 60)))
    return case, quadratic_tariff(planner(seed), rho_eur_per_mwh_per_mw=rho, **options)


def ends_of_imports(case, answers, rng):
    """Largest difference of imports between answers, over random directions."""
    m_in = case.programme.column("m_in")
    ends = []
    for sign in (1.0, -1.0):
        cost = np.zeros(len(answers.c))
        cost[m_in] = sign * rng.choice([-1.0, 1.0], m_in.shape)
        ends += [solve(replace(answers, c=c)).x[m_in] for c in (cost, -cost)]
    return np.ptp(ends, axis=0)


def test_imports_are_unique_and_relieve_the_grid():
    cleared = 0
    for seed in SEEDS:
        case, found = designed(seed, cap_eur_per_mwh=1e4)
        found.certificate.assert_ok()
        assert not found.failed
        assert found.beyond_mwh < 1e-5
        face, x, _ = optimal_answers(case.programme, found.tariff)
        m_in = case.programme.column("m_in")
        plan = found.plan.schedule.m_in_mw
        # sqrt of the gap that interior-point solutions leave
        np.testing.assert_allclose(x[m_in], plan, atol=2e-3)
        assert ends_of_imports(case, face, np.random.default_rng(seed)).max() < 1e-5
        # where the programme can clear the import side, every answer does
        over = case.overload(x[m_in])
        assert over.sum() <= found.planned_mwh + 1e-3
        near = [case.overload(quantity(case, y, False))
                for y in pushed(case, face, np.random.default_rng(seed), False, 1)]  # fmt: skip
        np.testing.assert_allclose(near, [over] * len(near), atol=1e-4)
        cleared += (over < 1e-3).sum()
    assert cleared > 250


def test_no_answer_within_a_tolerance_is_further_than_the_root():
    tight = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        case, found = designed(seed)
        rho = found.tariff.curvature_eur_per_mwh_per_mw
        eps = rng.choice([0.01, 1.0, 20.0], len(case.hubs)) * rng.random(len(case.hubs))
        start = answer(case.hubs, found.tariff)
        outer = near_optimal_answers(case.programme, found.tariff, eps)
        for x in pushed(case, outer, rng, False, 1):
            # the set with tangents contains the answers; on the way back to the best, one of them
            y = _drawn_back(x, start, eps)
            m = quantity(case, y, False)
            bill = (found.tariff.adder_eur_per_mwh * m + rho * m**2 / 2).sum(axis=1)
            own = (case.programme.cost * y).reshape(len(case.hubs), -1).sum(axis=1)
            assert (own + bill <= start.pays_eur + eps + 1e-9).all()
            away = m - found.plan.quantity_mw
            # regret: what the interior-point method leaves, of 1e-6 EUR
            room = eps + np.maximum(found.regret_eur, 0) + 1e-5
            assert ((rho * away**2).sum(axis=1) / 2 <= room).all(), seed
            far = np.sqrt((away**2).sum(axis=1))
            assert (far <= np.sqrt(2 * room / rho.min(axis=1))).all()
            assert (far <= found.deviation_mw(eps) + 1e-3).all()
            tight += list(far / found.deviation_mw(eps))
            over = case.overload(m)
            more = case.rows_of_hub() * np.sqrt(2 * room * (1 / rho).sum(axis=1))
            bound = case.overload(found.plan.quantity_mw) + case.of_each(more)
            assert (over <= bound + 1e-6).all()
            assert bound.sum() == pytest.approx(found.bound_mwh(eps), rel=1e-2, abs=0.05)
    assert max(tight) > 0.9
    assert np.mean(np.array(tight) > 0.3) > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_the_programme_by_another_solver(seed):
    case, found = designed(seed, cap_eur_per_mwh=40.0, overload_eur_per_mwh=200.0)
    own = own_programme(case.hubs)
    c, a, b, lower, upper = own.arrays
    rho = found.tariff.curvature_eur_per_mwh_per_mw
    x = cp.Variable(len(c), bounds=[lower, upper])
    s = cp.Variable(own.size, nonneg=True)
    z = cp.Variable(case.grid.background_mw.shape, nonneg=True)
    m = cp.reshape(x[own.at("m_in").ravel()], own.size, order="C")
    factor = case.grid.factor.toarray()
    cost = c @ x + cp.sum(cp.multiply(rho / 2, cp.square(m))) + 40 * cp.sum(s)
    cost += 200 * case.grid.line_weight * cp.sum(z)
    room = case.grid.limit_mw[:, None] - case.grid.background_mw
    rows = factor @ (m - s) - z <= room
    problem = cp.Problem(cp.Minimize(cost), [a @ x == b, rows])
    least = problem.solve(solver=cp.CLARABEL)
    plan = found.plan.schedule
    over = case.grid.loading_mw(plan.m_in_mw)  # with s at its best, as the plan's own rows say
    assert over.shape[0] == len(factor) + 1
    np.testing.assert_allclose(plan.m_in_mw, m.value, atol=2e-3)
    np.testing.assert_allclose(found.beyond_mwh, s.value.sum(), atol=1e-2)
    assert (found.tariff.adder_eur_per_mwh <= 40 + 1e-9).all()
    assert least >= plan.cost_eur.sum() + (rho * plan.m_in_mw**2).sum() / 2 - 1e-3 * abs(least)
    # the adders are the shadow prices: at those of the other solver the same imports are best
    adder = factor.T @ rows.dual_value
    other = replace(found.tariff, adder_eur_per_mwh=np.clip(adder, 0, 40))
    np.testing.assert_allclose(answer(case.hubs, other).schedule.m_in_mw, m.value, atol=5e-3)


# --------------------------------------------------------------------------------------------
# Without each condition


def test_without_curvature_nothing_is_unique():
    apart, excess = [], []
    for seed in SEEDS[:6]:
        case, b = batch(seed), planner(seed)
        found = quadratic_tariff(b, rho_eur_per_mwh_per_mw=0.0, cap_eur_per_mwh=1e4)
        face, _, _ = optimal_answers(case.programme, found.tariff)
        apart.append(ends_of_imports(case, face, np.random.default_rng(seed)).max())
        planned = case.overload(found.plan.quantity_mw)
        for x in pushed(case, face, np.random.default_rng(seed), False):
            excess.append((case.overload(quantity(case, x, False)) - planned).max())
        assert found.failed == ["curvature above 0"]
        assert found.bound_mwh() == np.inf
        assert np.isinf(found.deviation_mw(1.0)).all()
        assert "Neither uniqueness nor a bound is claimed. Not met: curvature" in found.claim
    assert max(apart) > 0.1
    assert max(excess) > CLEAR


def test_curvature_in_some_hours_alone():
    rho = np.full(batch(0).programme.shape[:2], 10.0)
    rho[0, 0] = 0.0
    found = quadratic_tariff(planner(0), rho_eur_per_mwh_per_mw=rho)
    assert found.failed == ["curvature above 0"]
    assert np.isinf(found.deviation_mw(1.0)).tolist() == [True] + [False] * (len(rho) - 1)


def test_a_cap_that_binds_leaves_overload():
    """And the claim says that it binds."""
    found = quadratic_tariff(planner(1), rho_eur_per_mwh_per_mw=5.0, cap_eur_per_mwh=1.0)
    free = quadratic_tariff(planner(1), rho_eur_per_mwh_per_mw=5.0, cap_eur_per_mwh=1e4)
    assert found.beyond_mwh > 0.1
    assert found.planned_mwh > free.planned_mwh + 0.1
    assert "The cap binds" in found.claim
    assert "The cap does not bind" in free.claim
    assert found.tariff.adder_eur_per_mwh.max() == pytest.approx(1.0, abs=1e-6)


def test_a_row_that_a_withdrawal_relieves():
    b = planner(0)
    turned = replace(b, grid=replace(b.grid, factor=csr_array(-b.grid.factor)))
    with pytest.raises(DataError, match="relieves a line"):
        quadratic_tariff(turned)
    found = quadratic_tariff(b)
    other = replace(found, plan=replace(found.plan, grid=turned.grid))
    assert other.failed == ["no withdrawal relieves a row"]
    assert other.bound_mwh() == np.inf


def test_another_tariff_than_the_plans():
    """The certificate is of this tariff: adders that were changed are seen."""
    found = quadratic_tariff(planner(0))
    other = replace(found.tariff, adder_eur_per_mwh=found.tariff.adder_eur_per_mwh + 1)
    assert not replace(found, tariff=other).certificate.ok
    assert replace(found, tariff=other).bound_mwh(1.0) == np.inf


# --------------------------------------------------------------------------------------------
# The reference instance, bad input


def test_reference():
    hubs, grid = reference(3, 24, 0.6)
    b = centralised(hubs, grid)
    found = quadratic_tariff(b, rho_eur_per_mwh_per_mw=50.0)
    found.certificate.assert_ok()
    assert found.planned_mwh < 1e-4
    programme = b.schedule.programme
    face, _, _ = optimal_answers(programme, found.tariff)
    pessimistic = worst(face, programme, grid)
    # exports beyond their limits are not priced, see the theorem
    assert pessimistic.exact
    assert pessimistic.most_mwh < 0.1
    careless = worst_within(programme, grid, found.tariff, careless_eur(hubs))
    assert pessimistic.most_mwh + 0.2 < careless.least_mwh <= careless.most_mwh
    assert careless.most_mwh < min(3.0, found.bound_mwh(careless_eur(hubs)))


@pytest.mark.parametrize(
    ("options", "column"),
    [
        ({"rho_eur_per_mwh_per_mw": -1.0}, "curvature_eur_per_mwh_per_mw"),
        ({"rho_eur_per_mwh_per_mw": np.nan}, "curvature_eur_per_mwh_per_mw"),
        ({"cap_eur_per_mwh": -1.0}, "cap_eur_per_mwh"),
        ({"cap_eur_per_mwh": np.inf}, "cap_eur_per_mwh"),
        ({"overload_eur_per_mwh": -1.0}, "overload_eur_per_mwh"),
    ],
)
def test_what_it_refuses(options, column):
    with pytest.raises(DataError) as error:
        quadratic_tariff(planner(0), **options)
    assert {fault.column for fault in error.value.faults} == {column}
