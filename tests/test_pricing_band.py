"""The theorems on bands, each on more than 500 random instances, and without each condition.

What a band promises is written out from tables and arrays, not with the library's own bound; the
answers that try to break it are the most overloaded of all within a tolerance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hub_cases import lp, own_programme
from scipy.sparse import csr_array
from tie_cases import CLEAR, SEEDS, batch, planner, pushed, quantity

from flexlib import DataError
from flexlib.centralised import centralised
from flexlib.hub_followers import Schedule, near_optimal_answers, optimal_answers
from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import many_feeders, reference
from flexlib.pricing_band import Band, import_band, net_band
from flexlib.pricing_evaluation import careless_eur, evaluated, worst
from flexlib.pricing_plan import Plan
from flexlib.tariffs import Block, Tariff, day_parts, no_tariff


def banded(seed, net, rng, parts=None):
    """A batch and a band with random kappa and place."""
    case = batch(seed, tight=net, signed=net and seed % 2 == 1)
    b = planner(seed, net, net and seed % 2 == 1)
    kappa, place = float(rng.uniform(0.5, 40)), float(rng.choice([0.0, 0.3, 1.0]))
    if net:
        return case, net_band(b, kappa_eur_per_mwh=kappa, place=place)
    return case, import_band(b, kappa_eur_per_mwh=kappa, place=place, parts=parts)


def promised(case, band, eps, rows=None, margin=None, regret=None):
    """Bound of each instance, written out."""
    more, less = band.margin_eur_per_mwh
    least = np.minimum(more, less) if band.plan.net else more
    margin = least.min(axis=1) if margin is None else margin
    rows = case.rows_of_hub() if rows is None else rows
    room = eps + (band.regret_eur if regret is None else regret)
    return case.overload(band.quota_mw, band.plan.net) + case.of_each(rows * room / margin)


def beyond(case, band, eps, seed, rows=None, margin=None, regret=None, net=None):
    """Largest excess over the promise, over instances and the answers that try."""
    near = near_optimal_answers(case.programme, band.tariff, eps)
    net = band.plan.net if net is None else net
    bound = promised(case, band, eps, rows, margin, regret)
    return max(
        (case.overload(quantity(case, x, net), net) - bound).max()
        for x in pushed(case, near, np.random.default_rng(seed), net)
    )


# --------------------------------------------------------------------------------------------
# The theorem


@pytest.mark.parametrize("kind", ["hours", "parts", "net"])
def test_no_answer_breaks_the_bound(kind):
    tight = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        net = kind == "net"
        hours = batch(seed, net, net and seed % 2 == 1).hubs.hours
        case, band = banded(seed, net, rng, day_parts(hours, 2) if kind == "parts" else None)
        band.certificate.assert_ok()
        assert not band.failed
        eps = rng.choice([0.0, 0.01, 1.0, 20.0], len(case.hubs)) * rng.random(len(case.hubs))
        near = near_optimal_answers(case.programme, band.tariff, eps)
        bound = promised(case, band, eps)
        assert bound.sum() == pytest.approx(band.bound_mwh(eps), abs=1e-5)
        more, less = band.margin_eur_per_mwh
        for x in pushed(case, near, rng, net):
            q = quantity(case, x, net)
            above, under = np.maximum(q - band.quota_mw, 0), np.maximum(band.quota_mw - q, 0)
            used = (more * above + less * under).sum(axis=1)
            assert (used <= eps + band.regret_eur + 1e-5).all(), seed
            over = case.overload(q, net)
            assert (over <= bound + 1e-5).all(), seed
            room = bound - case.overload(band.quota_mw, net)
            tight += list((over[room > 0.01] - bound[room > 0.01] + room[room > 0.01])
                          / room[room > 0.01])  # fmt: skip
    # it is no empty promise: some answers use up nearly all of it
    assert max(tight) > 0.9
    assert np.mean(np.array(tight) > 0.2) > 0.05


def test_net_bands_are_tried_on_exports():
    """Limits against the direction of import have prices, and some are exceeded by the plan."""
    paid, reverse = 0, 0
    for seed in SEEDS[:4]:
        case, b = batch(seed, True, seed % 2 == 1), planner(seed, True, seed % 2 == 1)
        band = net_band(b)
        paid += (band.plan.price_eur_per_mwh < -1).sum()
        both, one = (case.overload(band.quota_mw, ways).sum() for ways in (True, False))
        reverse += both - one
        assert band.planned_mwh == pytest.approx(both, abs=1e-9)
    assert paid > 20
    assert reverse > 1


def test_plans_are_optimal_at_their_prices_by_another_solver():
    for seed in (0, 1, 2):
        for net in (False, True):
            case = batch(seed, net, False)
            b = planner(seed, net, False)
            plan = (net_band(b) if net else import_band(b)).plan
            own = own_programme(case.hubs)
            c = own.cost(plan.price_eur_per_mwh)
            if net:
                c[own.at("m_out")] -= plan.price_eur_per_mwh
            x = own.of(plan.schedule.x)
            np.testing.assert_allclose(own.sums(c * x), own.sums(c * own.minimum(c)), atol=1e-5)
            np.testing.assert_allclose(plan.least_eur, own.sums(c * x), atol=1e-4)


def test_the_plan_costs_least_by_another_solver():
    """Hourly quotas: least cost and overloads with rows that count imports alone."""
    for seed in range(5):
        case, b = batch(seed), planner(seed)
        plan = import_band(b, overload_eur_per_mwh=300.0).plan
        own = own_programme(case.hubs)
        c, a, rhs, lower, upper = own.arrays
        hours = own.size[1]
        flow, room = [], []
        for t in range(hours):
            flow.append(case.grid.factor.toarray() @ own.pick("m_in").toarray()[t::hours])
            room.append(case.grid.limit_mw - case.grid.background_mw[:, t])
        flow, room = np.vstack(flow), np.concatenate(room)
        count = len(room)
        least = lp(
            np.append(c, np.full(count, 300 * case.grid.line_weight)),
            np.append(lower, np.zeros(count)), np.append(upper, np.full(count, np.inf)),
            csr_array(np.hstack([flow, -np.eye(count)])), room,
            csr_array(np.hstack([a.toarray(), np.zeros((len(rhs), count))])), rhs,
        ).fun  # fmt: skip
        over = case.overload(plan.schedule.m_in_mw).sum()
        assert plan.schedule.cost_eur.sum() + 300 * over == pytest.approx(least, abs=1e-4)


def test_place_moves_money_and_not_the_plan():
    hubs, grid = reference(3, 24, 0.6)
    b = centralised(hubs, grid)
    revenue = {}
    for place in (0.0, 0.5, 1.0):
        band = net_band(b, kappa_eur_per_mwh=60, place=place)
        assert band.bound_mwh(1.0) == pytest.approx(
            net_band(b, kappa_eur_per_mwh=60).bound_mwh(1.0)
        )
        face, _, _ = optimal_answers(b.schedule.programme, band.tariff)
        found = worst(face, b.schedule.programme, grid)
        assert found.most_mwh == pytest.approx(b.congestion_mwh, abs=1e-4)
        plan = Schedule(b.schedule.programme, found.x)
        revenue[place] = band.tariff.bill_eur(plan.m_in_mw, plan.m_out_mw).sum()
    assert revenue[0.0] == pytest.approx(0, abs=1e-5)
    assert revenue[1.0] == pytest.approx(2 * revenue[0.5], rel=1e-6)
    assert revenue[1.0] > 100


# --------------------------------------------------------------------------------------------
# Without each condition


def worst_excess(mutated, net=False, eps=0.0, **promise):
    """Largest excess of a mutated band over its promise, over some batches."""
    excess = []
    for seed in SEEDS[:8]:
        case = batch(seed, net, False)
        band = mutated(planner(seed, net, False))
        each = np.full(len(case.hubs), eps)
        mistaken = {key: value(case, band) for key, value in promise.items()}
        excess.append(beyond(case, band, each, seed, **mistaken))
    return max(excess)


def with_tariff(band, adder=0.0, kappa=0.0):
    """The band with its adder and the price of its first block raised."""
    first, *others = band.tariff.blocks
    block = replace(first, more_eur_per_mwh=np.maximum(first.more_eur_per_mwh + kappa, 0))
    return replace(band, tariff=Tariff(band.tariff.adder_eur_per_mwh + adder, (block, *others)))


def positive(case, band):
    """Least margin that is not below 0.5, as if the condition held."""
    return np.maximum(band.least_margin_eur_per_mwh, 0.5)


@pytest.mark.parametrize("net", [False, True])
def test_top_price_below_the_plans_price(net):
    design = net_band if net else import_band

    def mutated(b):
        return with_tariff(design(b, kappa_eur_per_mwh=5.0, place=0.0), kappa=-15.0)

    assert worst_excess(mutated, net, margin=positive) > CLEAR
    band = mutated(planner(0, net, False))
    assert band.failed == ["top price above the plan's price"]
    assert band.bound_mwh() == np.inf
    assert "No bound is claimed. Not met: top price above the plan's price" in band.claim
    kept = with_tariff(design(planner(0, net, False), kappa_eur_per_mwh=5.0), kappa=-4.9)
    assert not kept.failed


@pytest.mark.parametrize("net", [False, True])
def test_top_price_at_the_plans_price(net):
    design = net_band if net else import_band
    band = design(planner(0, net, False), kappa_eur_per_mwh=0.0)
    assert "top price above the plan's price" in band.failed
    assert worst_excess(lambda b: design(b, kappa_eur_per_mwh=0.0), net, margin=positive) > CLEAR


def test_low_price_above_the_plans_price():
    def mutated(b):
        band = import_band(b, kappa_eur_per_mwh=5.0)
        chance = np.random.default_rng(0).random(band.quota_mw.shape) < 0.3
        return with_tariff(band, adder=np.where(chance, 30.0, 0.0), kappa=0.0)

    assert worst_excess(mutated) > CLEAR
    assert mutated(planner(0)).failed == ["low price at most the plan's price"]


def test_net_band_without_its_lower_side():
    def mutated(b):
        band = net_band(b, kappa_eur_per_mwh=5.0, place=0.0)
        above, below = band.tariff.blocks
        below = replace(below, more_eur_per_mwh=0 * below.more_eur_per_mwh)
        return replace(band, tariff=Tariff(band.tariff.adder_eur_per_mwh, (above, below)))

    assert worst_excess(mutated, net=True, margin=positive) > CLEAR
    assert mutated(planner(0, True, False)).failed == ["low price at most the plan's price"]


def test_a_row_that_a_withdrawal_relieves():
    """A band on imports does not keep hubs from importing less."""
    excess = []
    for seed in SEEDS[:8]:
        case, b = batch(seed), planner(seed)
        band = import_band(b, kappa_eur_per_mwh=5.0)
        factor = case.grid.factor.toarray()
        full = case.grid.limit_mw[:, None] + factor @ band.quota_mw  # at its limit by the plan
        turned = replace(case.grid, factor=csr_array(-factor), background_mw=full)
        other = replace(case, grid=turned)
        band = replace(band, plan=replace(band.plan, grid=turned))
        excess.append(beyond(other, band, np.zeros(len(case.hubs)), seed))
        assert "no withdrawal relieves a row" in band.failed
        with pytest.raises(DataError, match="relieves a line"):
            import_band(replace(b, grid=turned))
    assert max(excess) > CLEAR


def test_rows_that_credit_exports():
    """A band on imports around a plan that counts on exports does not hold net withdrawals."""

    def mutated(b):
        price = np.maximum(b.grid.incidence.T @ b.import_shadow, 0.0)
        block = Block(b.schedule.m_in_mw, np.full(price.shape, 5.0))
        return Band(Plan(b.grid, b.schedule, price), Tariff(price, (block,)), b)

    excess, regret = [], []
    for seed in SEEDS[:8]:
        case, b = batch(seed, True, False), planner(seed, True, False)
        band, nothing = mutated(b), np.zeros(len(case.hubs))
        near = near_optimal_answers(case.programme, band.tariff, nothing)
        credited = case.overload(b.schedule.w_mw)  # import side of the plan, exports credited
        found = pushed(case, near, np.random.default_rng(seed), net=True)
        over = np.max([case.overload(quantity(case, x, True)) for x in found], axis=0)
        excess.append((over - credited).max())
        regret.append(band.regret_eur.max())
    assert max(excess) > CLEAR
    assert max(regret) > 0.1  # which the certificate sees: the plan is no answer to such a tariff


def test_number_of_rows_dropped():
    def one(case, band):
        return np.full(len(case.hubs), case.grid.line_weight)

    def design(b):
        return import_band(b, kappa_eur_per_mwh=5.0)

    assert worst_excess(design, eps=2.0) < 1e-5
    assert worst_excess(design, eps=2.0, rows=one) > CLEAR


def uneven(b):
    """A band whose margin is larger in every other hour, and for every other hub."""
    band = import_band(b, cap_eur_per_mwh=np.inf)
    hub, hour = np.indices(band.quota_mw.shape)
    block = replace(band.tariff.blocks[0], more_eur_per_mwh=3.0 * (1 + hub % 2 + 2 * (hour % 2)))
    return replace(band, tariff=Tariff(band.tariff.adder_eur_per_mwh, (block,)))


def test_least_margin_is_per_hub_and_over_its_hours():
    def largest_of_hours(case, band):
        return band.margin_eur_per_mwh[0].max(axis=1)

    def largest_of_hubs(case, band):
        return np.full(len(case.hubs), band.least_margin_eur_per_mwh.max())

    assert worst_excess(uneven, eps=2.0) < 1e-5
    assert worst_excess(uneven, eps=2.0, margin=largest_of_hours) > CLEAR
    assert worst_excess(uneven, eps=2.0, margin=largest_of_hubs) > CLEAR
    case, band = batch(0), uneven(planner(0))
    least_of_all = band.least_margin_eur_per_mwh.min()
    assert promised(case, band, 2.0).sum() < promised(case, band, 2.0, margin=least_of_all).sum()
    assert band.bound_mwh(2.0) == pytest.approx(promised(case, band, 2.0).sum())


@pytest.mark.parametrize("net", [False, True])
def test_gap_of_the_plan_ignored(net):
    """A plan that is no optimum at its prices: the bound counts that, and must."""
    design = net_band if net else import_band

    def mutated(b):
        band = design(b, kappa_eur_per_mwh=20.0, place=0.0)
        free = optimal_answers(b.schedule.programme, no_tariff(*band.quota_mw.shape))[1]
        x = (3 * band.plan.schedule.x + free) / 4
        plan = replace(band.plan, schedule=replace(band.plan.schedule, x=x))
        w = plan.quantity_mw
        blocks = [replace(block, above_mw=sign * w)
                  for block, sign in zip(band.tariff.blocks, (1, -1), strict=False)]  # fmt: skip
        return replace(band, plan=plan, tariff=Tariff(band.tariff.adder_eur_per_mwh, tuple(blocks)))

    def none(case, band):
        return np.zeros(len(case.hubs))

    assert worst_excess(mutated, net) < 1e-5
    assert worst_excess(mutated, net, regret=none) > CLEAR
    case, band = batch(0, net, False), mutated(planner(0, net, False))
    assert not band.certificate.ok
    bound = promised(case, band, 1.0).sum()
    assert band.bound_mwh(1.0) == pytest.approx(bound)
    assert bound > promised(case, band, 1.0, regret=none(case, band)).sum() + 1


# --------------------------------------------------------------------------------------------
# The reference instance, the design's time, bad input


@pytest.mark.parametrize("level", [0.6, 0.5])
@pytest.mark.parametrize("design", [import_band, net_band])
def test_reference(design, level):
    hubs, grid = reference(3, 24, level)
    b = centralised(hubs, grid)
    band = design(b, kappa_eur_per_mwh=60.0)
    band.certificate.assert_ok()
    table = evaluated(hubs, grid, band.tariff)
    bound = band.bound_mwh(careless_eur(hubs))
    exports = 0.0 if design is net_band else 0.05  # which a band on imports does not see
    assert (table["proof"] == "exact").all()
    assert table["at_most_mwh"]["pessimistic"] <= b.bound_mwh + 1e-4 + exports
    assert table["at_most_mwh"]["careless, 0.1 %"] <= bound + 1e-4 + exports
    assert table["congestion_mwh"]["careless, 0.1 %"] > b.bound_mwh + 0.05
    assert (band.tariff.adder_eur_per_mwh <= 60).all()
    top = band.plan.price_eur_per_mwh + 60
    assert (top.max() > 120) == (level == 0.5)  # the block's price is not held to the cap


def test_thirty_hubs():
    hubs, grid = many_feeders(10, 0.6)
    b = centralised(hubs, grid)
    programme = b.schedule.programme
    x = optimal_answers(programme, no_tariff(30, 24))[1]
    unpriced = grid.congestion_mwh(programme.withdrawal_mw(x))
    assert unpriced > 200
    band = net_band(b, kappa_eur_per_mwh=60.0)
    band.certificate.assert_ok()
    assert band.bound_mwh() <= 1e-3 * unpriced
    assert "at most 0.000 MWh" in band.claim


def test_largest_top_price_is_kept():
    b = planner(0)
    band = import_band(b, kappa_eur_per_mwh=20.0, top_eur_per_mwh=45.0)
    top = band.tariff.adder_eur_per_mwh + band.tariff.blocks[0].more_eur_per_mwh
    assert top.max() == pytest.approx(45)
    assert band.plan.price_eur_per_mwh.max() == pytest.approx(25)
    assert not band.failed
    assert band.planned_mwh > import_band(b, kappa_eur_per_mwh=20.0).planned_mwh + 0.1
    band.certificate.assert_ok()


@pytest.mark.parametrize(
    ("options", "column"),
    [
        ({"kappa_eur_per_mwh": -1.0}, "kappa_eur_per_mwh"),
        ({"kappa_eur_per_mwh": np.inf}, "kappa_eur_per_mwh"),
        ({"kappa_eur_per_mwh": np.nan}, "kappa_eur_per_mwh"),
        ({"place": 1.01}, "place"),
        ({"place": -0.01}, "place"),
        ({"cap_eur_per_mwh": -1.0}, "cap_eur_per_mwh"),
        ({"top_eur_per_mwh": 19.0}, "top_eur_per_mwh"),
        ({"top_eur_per_mwh": np.nan}, "top_eur_per_mwh"),
        ({"overload_eur_per_mwh": -1.0}, "overload_eur_per_mwh"),
        ({"overload_eur_per_mwh": np.inf}, "overload_eur_per_mwh"),
        ({"parts": ((0, 1), (1, 2))}, "parts"),
        ({"parts": ((0, 99),)}, "parts"),
    ],
)
def test_what_a_band_refuses(options, column):
    with pytest.raises(DataError) as error:
        import_band(planner(0), **options)
    assert {fault.column for fault in error.value.faults} == {column}
    if column in ("kappa_eur_per_mwh", "place", "cap_eur_per_mwh"):
        with pytest.raises(DataError):
            net_band(planner(0), **options)


def test_a_band_of_another_form_is_refused():
    band, net = import_band(planner(0)), net_band(planner(0))
    zeros = np.zeros(band.quota_mw.shape)
    for other in (
        Tariff(zeros),
        net.tariff,
        replace(band.tariff, curvature_eur_per_mwh_per_mw=zeros + 1),
    ):
        with pytest.raises(DataError, match="and an adder, no more"):
            replace(band, tariff=other)
    with pytest.raises(DataError, match="and an adder, no more"):
        replace(net, tariff=band.tariff)
    assert isinstance(band.plan.grid, HubGrid)
