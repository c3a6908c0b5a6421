"""Quotas and charges for parts of the day, each on more than 500 random instances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hub_cases import lp, own_programme
from scipy.sparse import csr_array, eye_array, hstack
from tie_cases import CLEAR, SEEDS, batch, planner, pushed, quantity

from flexlib import DataError
from flexlib.centralised import centralised
from flexlib.hub_followers import optimal_answers
from flexlib.hub_instances import reference
from flexlib.pricing_band import import_band
from flexlib.pricing_evaluation import evaluated
from flexlib.pricing_plan import import_plan
from flexlib.pricing_subscription import capacity_subscription, demand_charges
from flexlib.tariffs import DemandCharge, Tariff, day_parts


def least_bill(case, tariff):
    """Least payment of each hub under demand charges, by another solver."""
    own = own_programme(case.hubs)
    c, a, b, lower, upper = own.arrays
    n, _ = own.size
    rows, charge = [], []
    for k, part in enumerate(tariff.charges):
        charge.append(part.eur_per_mw)
        for t in part.hours:
            pick = own.pick("m_in")[t :: case.hubs.hours]
            peak = [csr_array((n, n))] * k + [-eye_array(n)]
            peak += [csr_array((n, n))] * (len(tariff.charges) - k - 1)
            rows.append(hstack([pick, *peak]))
    more = np.concatenate(charge)
    found = lp(
        np.append(c, more), np.append(lower, 0 * more), np.append(upper, np.inf + more),
        csr_array(np.vstack([row.toarray() for row in rows])),
        np.zeros(sum(row.shape[0] for row in rows)),
        csr_array(hstack([a, csr_array((len(b), len(more)))])), b,
    ).x  # fmt: skip
    peaks = (more * found[len(c) :]).reshape(-1, n).sum(axis=0)
    return own.sums(c * found[: len(c)]) + peaks


def test_the_plan_is_an_optimal_answer_to_its_charges():
    some = 0
    for seed in SEEDS:
        case, b = batch(seed), planner(seed)
        parts = day_parts(case.hubs.hours, int(np.random.default_rng(seed).integers(1, 4)))
        found = demand_charges(b, parts)
        found.certificate.assert_ok()
        schedule = found.plan.schedule
        pays = schedule.cost_eur + found.tariff.bill_eur(schedule.m_in_mw)
        np.testing.assert_allclose(pays, found.reply.pays_eur, atol=1e-5)
        if seed < 4:
            np.testing.assert_allclose(pays, least_bill(case, found.tariff), atol=1e-4)
        peaks = np.array([schedule.m_in_mw[:, list(hours)].max(axis=1) for hours in parts])
        assert (found.planned_mwh, case.overload(schedule.m_in_mw).sum()) == pytest.approx(
            (case.overload(schedule.m_in_mw).sum(),) * 2
        )
        some += sum((charge.eur_per_mw > 1).sum() for charge in found.tariff.charges)
        assert peaks.shape == (len(parts), len(case.hubs))
        assert "Nothing is claimed of the others" in found.claim
    assert some > 250


def test_charges_of_another_size_lose_the_plan():
    for factor in (0.5, 2.0):
        lost = []
        for seed in SEEDS[:4]:
            found = demand_charges(planner(seed), day_parts(batch(seed).hubs.hours, 2))
            charges = tuple(
                DemandCharge(c.hours, factor * c.eur_per_mw) for c in found.tariff.charges
            )
            other = replace(found, tariff=Tariff(found.tariff.adder_eur_per_mwh, charges=charges))
            lost.append(other.regret_eur.max())
            assert other.claim == "Nothing is claimed: the plan is not an optimal answer."
        assert max(lost) > 1


def test_charges_have_ties_and_quotas_have_none():
    worst_charge, worst_quota = [], []
    for seed in SEEDS[:8]:
        case, b = batch(seed), planner(seed)
        parts = day_parts(case.hubs.hours, 2)
        charges, quotas = demand_charges(b, parts), capacity_subscription(b, parts)
        for found, worst in ((charges, worst_charge), (quotas, worst_quota)):
            face, _, _ = optimal_answers(case.programme, found.tariff)
            most = case.overload(quotas.quota_mw)
            for x in pushed(case, face, np.random.default_rng(seed), False):
                worst.append((case.overload(quantity(case, x, False)) - most).max())
    assert max(worst_charge) > CLEAR
    assert max(worst_quota) < 1e-5


def test_a_subscription_is_one_quota_for_a_part_without_an_adder():
    case, b = batch(3), planner(3)
    parts = day_parts(case.hubs.hours, 2)
    found = capacity_subscription(b, parts, kappa_eur_per_mwh=7.0)
    assert not found.tariff.adder_eur_per_mwh.any()
    for hours in parts:
        assert (np.ptp(found.quota_mw[:, list(hours)], axis=1) == 0).all()
    assert (found.quota_mw >= found.plan.schedule.m_in_mw).all()
    np.testing.assert_allclose(found.least_margin_eur_per_mwh, 7.0)
    band = import_band(b, kappa_eur_per_mwh=7.0, place=0.0)
    assert found.plan.schedule.cost_eur.sum() >= band.plan.schedule.cost_eur.sum() - 1e-6
    # quotas are what the grid can carry at once
    np.testing.assert_allclose(case.overload(found.quota_mw).sum(), found.planned_mwh)


def test_shadow_prices_of_a_part_are_those_of_its_rows():
    """What one MW more for a hub in one part would save, by difference."""
    case, b = batch(2), planner(2)
    parts = day_parts(case.hubs.hours, 2)
    plan = import_plan(b, parts, np.inf, 1000.0)
    own = own_programme(case.hubs)
    charge = np.array([plan.price_eur_per_mwh[:, list(hours)].sum(axis=1) for hours in parts])
    assert charge.max() > 1
    # a hub's cost with its own quotas has the charges as subgradients
    c, a, rhs, lower, upper = own.arrays
    n, hours = own.size
    quota = np.zeros((n, hours))
    for part in parts:
        quota[:, list(part)] = plan.schedule.m_in_mw[:, list(part)].max(axis=1, keepdims=True)
    for k, part in enumerate(parts):
        for sign in (-1.0, 1.0):
            step = np.zeros((n, hours))
            step[:, list(part)] = sign * 1e-3
            high = upper.copy()
            high[own.at("m_in")] = np.minimum(high[own.at("m_in")], np.maximum(quota + step, 0))
            try:
                x = lp(c, lower, high, a_eq=a, b_eq=rhs).x
            except ValueError:
                continue  # some hub cannot do with less
            saved = own.sums(c * own.of(plan.schedule.x)) - own.sums(c * x)
            assert (saved <= charge[k] * sign * 1e-3 + 1e-6).all()


def test_reference():
    hubs, grid = reference(3, 24, 0.6)
    b = centralised(hubs, grid)
    found = capacity_subscription(b, day_parts(24, 4), kappa_eur_per_mwh=60.0)
    found.certificate.assert_ok()
    table = evaluated(hubs, grid, found.tariff)
    assert table["at_most_mwh"]["pessimistic"] < 1e-4
    assert 0.05 < table["congestion_mwh"]["careless, 0.1 %"] < 0.35
    assert (table["hub_cost_eur"] > b.schedule.cost_eur.sum() + 50).all()  # dearer than hours


@pytest.mark.parametrize("design", [capacity_subscription, demand_charges])
def test_parts_that_are_no_partition_are_refused(design):
    hours = batch(0).hubs.hours
    for parts in (((0,),), ((*range(hours), 0),), (tuple(range(hours + 1)),)):
        with pytest.raises(DataError) as error:
            design(planner(0), parts)
        assert {fault.column for fault in error.value.faults} == {"parts"}
    turned = replace(planner(0), grid=replace(planner(0).grid, factor=-planner(0).grid.factor))
    with pytest.raises(DataError, match="relieves a line"):
        design(turned, day_parts(hours, 1))
    with pytest.raises(DataError, match="overload_eur_per_mwh"):
        design(planner(0), day_parts(hours, 1), overload_eur_per_mwh=-1.0)
