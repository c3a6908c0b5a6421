"""Equations of the chapter on ties, evaluated from data by code apart from the designs.

Schedules to try are corners of the hubs' programmes in random directions, found with SciPy; what
such a schedule costs above the hub's best, by SciPy too, is the epsilon of the inequalities.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import block_array, csr_array, eye_array

from flexlib import (
    hub_followers,
    pricing_band,
    pricing_plan,
    pricing_quadratic_tariff,
    pricing_subscription,
    tariffs,
)
from flexlib.centralised import centralised
from flexlib.hub_instances import reference
from flexlib.hub_programme import HubProgramme
from flexlib.pricing_band import import_band, net_band
from flexlib.pricing_plan import import_plan
from flexlib.pricing_quadratic_tariff import quadratic_tariff
from flexlib.pricing_subscription import capacity_subscription, demand_charges
from flexlib.tariffs import Block, DemandCharge, Tariff, day_parts

PAGE = (Path(__file__).parents[1] / "book" / "ties.md").read_text(encoding="utf-8")
LABELS = set(re.findall(r"^\$\$ \((ties-[\w-]+)\)$", PAGE, re.M))
MODULES = (
    hub_followers, pricing_band, pricing_plan, pricing_quadratic_tariff, pricing_subscription,
    tariffs,
)  # fmt: skip
OVERLOAD = 1000.0
NEAR = 1e-5  # EUR, of two solvers
HUBS, HOURS, LEVEL = 3, 6, 0.5


@cache
def case():
    """Hubs, grid, method B, arrays of the hubs' programmes."""
    hubs, grid = reference(HUBS, HOURS, LEVEL)
    return hubs, grid, centralised(hubs, grid), HubProgramme(hubs)


def least(cost):
    """Schedule of least cost."""
    programme = case()[3]
    bounds = np.column_stack([programme.lower, programme.upper])
    found = linprog(cost, A_eq=programme.a, b_eq=programme.b, bounds=bounds, method="highs")
    assert found.status == 0
    return found.x


@cache
def corners(count=25):
    """Schedules of all hubs: some cheap, some anything."""
    rng, cost = np.random.default_rng(7), case()[3].cost
    scales = rng.choice([3.0, 30.0, 300.0], count)
    return [least(cost + scale * rng.normal(size=len(cost))) for scale in scales]


def own_cost(x):
    return (case()[3].cost * x).reshape(HUBS, -1).sum(axis=1)


def imports(x):
    return x[case()[3].column("m_in")]


def exports(x):
    return x[case()[3].column("m_out")]


def bill(tariff, m, o):
    """ties-bill, term by term."""
    due = np.zeros(HUBS)
    for i in range(HUBS):
        for t in range(HOURS):
            due[i] += tariff.adder_eur_per_mwh[i, t] * m[i, t]
            due[i] += 0.5 * tariff.curvature_eur_per_mwh_per_mw[i, t] * m[i, t] ** 2
            for block in tariff.blocks:
                u = {"import": m, "withdrawal": m - o, "injection": o - m}[block.of][i, t]
                due[i] += block.more_eur_per_mwh[i, t] * max(u - block.above_mw[i, t], 0.0)
        for charge in tariff.charges:
            due[i] += charge.eur_per_mw[i] * max(m[i, t] for t in charge.hours)
    return due


def pays(tariff, x):
    return own_cost(x) + bill(tariff, imports(x), exports(x))


def least_at(price, net=False):
    """L: least cost of each hub at prices of imports or of net withdrawals."""
    programme = case()[3]
    cost = programme.cost.copy()
    cost[programme.column("m_in")] += price
    if net:
        cost[programme.column("m_out")] -= price
    return (cost * least(cost)).reshape(HUBS, -1).sum(axis=1)


def overload(m):
    """Overload in the direction of import, row by row and hour by hour."""
    grid, total = case()[1], 0.0
    for r, row in enumerate(grid.incidence.toarray()):
        for t in range(HOURS):
            load = grid.background[r, t] + sum(row[i] * m[i, t] for i in range(HUBS))
            total += grid.weight[r] * max(load - grid.upper_mw[r], 0.0)
    return total


def rows_of_hub():
    grid = case()[1]
    return np.array([grid.weight @ np.abs(column) for column in grid.incidence.toarray().T])


def pos(values):
    return np.maximum(values, 0.0)


def test_labels_of_the_chapter_are_cited_by_the_modules_that_write_them():
    cited = {
        label
        for module in MODULES
        for label in re.findall(r":eq:`(ties-[\w-]+)`", Path(module.__file__).read_text("utf-8"))
    }
    assert cited == LABELS
    assert len(LABELS) == 8


def test_bill_has_every_part():
    rng = np.random.default_rng(3)
    shape = (HUBS, HOURS)
    tariff = Tariff(
        rng.uniform(0, 30, shape),
        tuple(Block(rng.uniform(0, 1, shape), rng.uniform(0, 50, shape), of)
              for of in ("import", "withdrawal", "injection")),
        tuple(DemandCharge(tuple(part), rng.uniform(0, 90, HUBS)) for part in day_parts(HOURS, 3)),
        rng.uniform(0, 20, shape),
    )  # fmt: skip
    for x in corners():
        ours = bill(tariff, imports(x), exports(x))
        np.testing.assert_allclose(tariff.bill_eur(imports(x), exports(x)), ours, rtol=1e-12)
        assert (ours > 0).all()


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("cap", [25.0, np.inf])
def test_quotas_are_those_of_the_programme_written_out(length, cap):
    _, grid, planner, programme = case()
    parts = day_parts(HOURS, length)
    plan = import_plan(planner, parts, cap, OVERLOAD)
    n, k, rows = HUBS * HOURS, len(parts), len(grid.names)
    part = [next(h for h, members in enumerate(parts) if t in members) for t in range(HOURS)]
    pick = np.zeros((n, len(programme.cost)))
    pick[np.arange(n), programme.column("m_in").ravel()] = 1.0
    share = np.zeros((n, HUBS * k))
    load = np.zeros((rows * HOURS, HUBS * k))
    for t in range(HOURS):
        for i in range(HUBS):
            share[i * HOURS + t, i * k + part[t]] = 1.0
            for r in range(rows):
                load[r * HOURS + t, i * k + part[t]] += grid.incidence.toarray()[r, i]
    room = (grid.upper_mw[:, None] - grid.background).ravel()
    unpriced = not np.isfinite(cap)
    cost = np.concatenate([
        programme.cost, np.full(n, 0.0 if unpriced else cap), np.zeros(HUBS * k),
        OVERLOAD * np.repeat(grid.weight, HOURS),
    ])  # fmt: skip
    matrix = block_array([
        [csr_array(pick), -eye_array(n), csr_array(-share), None],
        [None, None, csr_array(load), -eye_array(len(load))],
    ])  # fmt: skip
    upper = [*programme.upper, *np.full(n, 0.0 if unpriced else np.inf),
             *np.full(HUBS * k + len(load), np.inf)]  # fmt: skip
    bounds = np.column_stack([[*programme.lower, *np.zeros(len(upper) - len(programme.cost))],
                              upper])  # fmt: skip
    equal = csr_array(
        (programme.a.tocoo().data, (programme.a.tocoo().row, programme.a.tocoo().col)),
        shape=(len(programme.b), len(cost)),
    )
    found = linprog(
        cost, A_ub=matrix, b_ub=[*np.zeros(n), *room], A_eq=equal, b_eq=programme.b, bounds=bounds,
        method="highs",
    )  # fmt: skip
    assert found.status == 0
    m = plan.quantity_mw
    fixed = bounds.copy()
    fixed[: len(programme.cost)] = plan.schedule.x[:, None] + [-1e-7, 1e-7]
    again = linprog(
        cost, A_ub=matrix, b_ub=[*np.zeros(n), *room], A_eq=equal, b_eq=programme.b, bounds=fixed,
        method="highs",
    )  # fmt: skip
    assert again.fun == pytest.approx(found.fun, abs=1e-2)  # the plan is one of its optima
    eta = plan.price_eur_per_mwh
    assert (eta >= 0).all()
    assert eta.max() <= cap + 1e-6
    assert eta.max() > 1.0
    gap = own_cost(plan.schedule.x) + (eta * m).sum(axis=1) - least_at(eta)
    np.testing.assert_allclose(gap, 0.0, atol=NEAR)
    y = -found.ineqlin.marginals[n:].reshape(rows, HOURS)
    if length == 1:  # both sums have one term: the price is that of the rows
        priced = (grid.incidence.T @ y)[m > 1e-3].max()
        assert eta.max() <= OVERLOAD * rows
        assert priced >= 0


@pytest.mark.parametrize("kind", ["band", "place", "subscription"])
def test_deviations_and_overload_are_linear_in_what_a_hub_does_not_mind(kind):
    planner = case()[2]
    found = {
        "band": lambda: import_band(planner, kappa_eur_per_mwh=15.0),
        "place": lambda: import_band(planner, kappa_eur_per_mwh=15.0, place=0.3),
        "subscription": lambda: capacity_subscription(
            planner, day_parts(HOURS, 4), kappa_eur_per_mwh=15.0
        ),
    }[kind]()
    eta, delta, quota = (found.plan.price_eur_per_mwh, found.tariff.adder_eur_per_mwh,
                         found.quota_mw)  # fmt: skip
    kappa = found.tariff.blocks[0].more_eur_per_mwh - (eta - delta)
    np.testing.assert_allclose(kappa, 15.0, atol=1e-9)
    plan, floor = found.plan.schedule.x, least_at(eta)
    g = pays(found.tariff, plan) + ((eta - delta) * quota).sum(axis=1) - floor
    np.testing.assert_allclose(g, 0.0, atol=1e-3)
    best = pays(found.tariff, plan) - g  # no schedule costs less: a tighter epsilon is not known
    tight = np.inf
    for x in corners():
        m = imports(x)
        eps = pays(found.tariff, x) - best - g
        side = (kappa * pos(m - quota) + (eta - delta) * pos(quota - m)).sum(axis=1)
        assert (side <= eps + g + NEAR).all()
        tight = min(tight, float(((eps + g - side) / (1 + side)).min()))
        bound = overload(quota) + rows_of_hub() @ ((pos(eps) + pos(g)) / kappa.min(axis=1))
        assert overload(m) <= bound + NEAR
        assert found.bound_mwh(pos(eps)) == pytest.approx(bound, abs=1e-3)
    assert tight < 0.5  # the inequality is not far from some schedule


def test_net_bands_bound_both_directions():
    _, grid, planner, _ = case()
    found = net_band(planner, kappa_eur_per_mwh=15.0, place=0.5)
    pi, delta, quota = (found.plan.price_eur_per_mwh, found.tariff.adder_eur_per_mwh,
                        found.quota_mw)  # fmt: skip
    np.testing.assert_allclose(
        pi, grid.incidence.T @ (planner.import_shadow - planner.export_shadow), atol=1e-12
    )
    above, below = (block.more_eur_per_mwh for block in found.tariff.blocks)
    more, less = delta + above - pi, below + pi - delta
    assert min(more.min(), less.min()) == pytest.approx(15.0)
    floor = least_at(pi, net=True)
    plan = found.plan.schedule.x
    g = pays(found.tariff, plan) + ((pi - delta) * quota).sum(axis=1) - floor
    np.testing.assert_allclose(g, 0.0, atol=1e-3)
    for x in corners():
        w = imports(x) - exports(x)
        eps = pays(found.tariff, x) - pays(found.tariff, plan)
        side = (more * pos(w - quota) + less * pos(quota - w)).sum(axis=1)
        assert (side <= eps + g + NEAR).all()
        margin = np.minimum(more, less).min(axis=1)
        bound = grid.congestion_mwh(quota) + rows_of_hub() @ ((pos(eps) + pos(g)) / margin)
        assert grid.congestion_mwh(w) <= bound + NEAR
        assert found.bound_mwh(pos(eps)) == pytest.approx(bound, abs=1e-3)


def test_quadratic_tariff_is_stationary_and_holds_by_the_root():
    planner, rho = case()[2], 12.0
    found = quadratic_tariff(planner, rho_eur_per_mwh_per_mw=rho)
    m_hat, delta = found.plan.quantity_mw, found.tariff.adder_eur_per_mwh
    marginal = delta + rho * m_hat
    plan = found.plan.schedule.x
    g = own_cost(plan) + (marginal * m_hat).sum(axis=1) - least_at(marginal)
    np.testing.assert_allclose(g, 0.0, atol=1e-3)  # the plan minimises the tangent of its bill
    assert (delta >= 0).all()
    assert 1.0 < delta.max() <= 60 + 1e-9
    for x in corners():
        m = imports(x)
        eps = pays(found.tariff, x) - pays(found.tariff, plan)
        side = 0.5 * rho * ((m - m_hat) ** 2).sum(axis=1)
        assert (side <= eps + g + 1e-3).all()
        spread = np.sqrt(2 * (pos(eps) + pos(g)) * HOURS / rho)
        assert overload(m) <= overload(m_hat) + rows_of_hub() @ spread + NEAR
        assert found.bound_mwh(pos(eps)) == pytest.approx(
            overload(m_hat) + rows_of_hub() @ spread, abs=1e-2
        )


def test_charges_sum_the_prices_and_the_plan_is_an_answer():
    programme, parts = case()[3], day_parts(HOURS, 4)
    found = demand_charges(case()[2], parts)
    eta = found.plan.price_eur_per_mwh
    for charge, members in zip(found.tariff.charges, parts, strict=True):
        np.testing.assert_allclose(charge.eur_per_mw, eta[:, list(members)].sum(axis=1))
    n, peaks = len(programme.cost), HUBS * len(parts)
    cost = np.concatenate([programme.cost, *(charge.eur_per_mw for charge in found.tariff.charges)])
    rows, columns, values = [], [], []
    for h, members in enumerate(parts):
        for i in range(HUBS):
            for t in members:
                row = len(rows) // 2
                rows += [row, row]
                columns += [programme.column("m_in")[i, t], n + h * HUBS + i]
                values += [1.0, -1.0]
    matrix = csr_array((values, (rows, columns)), shape=(HUBS * HOURS, n + peaks))
    equal = block_array([[programme.a, csr_array((len(programme.b), peaks))]])
    bounds = np.column_stack([[*programme.lower, *np.zeros(peaks)],
                              [*programme.upper, *np.full(peaks, np.inf)]])  # fmt: skip
    best = linprog(cost, A_ub=matrix, b_ub=np.zeros(HUBS * HOURS), A_eq=equal, b_eq=programme.b,
                   bounds=bounds, method="highs")  # fmt: skip
    assert best.status == 0
    assert pays(found.tariff, found.plan.schedule.x).sum() == pytest.approx(best.fun, abs=NEAR)
    assert sum(charge.eur_per_mw.max() for charge in found.tariff.charges) > 1.0
