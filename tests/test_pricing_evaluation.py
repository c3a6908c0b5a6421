"""The evaluator against enumeration: in two hours every answer is a point of a polygon.

Congestion is a convex function of the withdrawals, so its maximum is at a corner, and the corners
are found with programmes of the test's own (`hub_cases`).
"""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from hub_cases import (
    answer_corners,
    grid_congestion,
    most_congested,
    own_programme,
    plan,
    random_case,
    random_grid,
    random_hubs,
)
from scipy.sparse import csr_array

from flexlib import DataError, NotProven, pricing_evaluation
from flexlib.centralised import centralised
from flexlib.hub_followers import answer, near_optimal_answers, no_pricing, optimal_answers
from flexlib.hub_instances import reference
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.pricing import linear_prices
from flexlib.pricing_evaluation import FLOOR_EUR, best, evaluated, worst
from flexlib.tariffs import Block, Tariff, no_tariff

CARELESS = "careless, 0.1 %"
TIE = 1e-8  # EUR by which an answer may miss its best and count as optimal, in enumeration
NEAR = 3e-4  # MWh: the mixed-integer programmes are solved to 1e-4
SEEDS = range(24)


def tiny(seed):
    """One or two hubs in two hours, with adders that make many answers equally good."""
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 1 + seed % 2, 2)
    grid = random_grid(rng, hubs, rng.uniform(0.5, 0.9))
    if seed % 3 == 0:
        grid = replace(grid, line_weight=2.0, substation_weight=0.5)
    tariff = linear_prices(centralised(hubs, grid)).answer.tariff
    if seed % 6 == 1:
        factor = grid.factor.toarray()
        factor[0, 0] = -0.5  # a withdrawal that relieves a line, which only prices refuse
        grid = replace(grid, factor=csr_array(factor))
    if seed % 4 == 0:
        above = rng.uniform(0, 1.5, tariff.shape)
        tariff = Tariff(tariff.adder_eur_per_mwh, (Block(above, rng.uniform(0, 40, above.shape)),))
    if seed % 8 == 4:
        second = Block(tariff.blocks[0].above_mw + 0.5, np.full(tariff.shape, 25.0))
        tariff = replace(tariff, blocks=(*tariff.blocks, second))
    return hubs, grid, tariff


def tolerance(hubs):
    """0.1 % of what a hub pays without pricing, and 0.01 EUR at least."""
    return np.maximum(1e-3 * np.abs(own_programme(hubs).best()), 0.01)


def least_congested(hubs, grid, tariff):
    """Least congestion over the product of the polygons, as weights of their corners."""
    w, limits = [], []
    for k in range(len(hubs)):
        points = answer_corners(hubs, k, tariff, TIE)
        share = cp.Variable(len(points), nonneg=True)
        limits.append(cp.sum(share) == 1)
        w.append(cp.reshape(points.T @ share, (1, 2), order="C"))
    w = cp.vstack(w)
    loading = grid.background_mw + grid.factor.toarray() @ w
    total = cp.sum(w, axis=0)
    cost = grid.line_weight * cp.sum(cp.pos(cp.abs(loading) - grid.limit_mw[:, None]))
    cost += grid.substation_weight * cp.sum(
        cp.pos(total - grid.import_mw) + cp.pos(-total - grid.export_mw)
    )
    problem = cp.Problem(cp.Minimize(cost), limits)
    return problem.solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_enumeration(seed):
    hubs, grid, tariff = tiny(seed)
    table = evaluated(hubs, grid, tariff)
    exact = {
        "optimistic": least_congested(hubs, grid, tariff),
        "pessimistic": most_congested(hubs, grid, tariff, np.full(len(hubs), TIE)),
        CARELESS: most_congested(hubs, grid, tariff, tolerance(hubs)),
    }
    assert list(table.index) == list(exact)
    assert (table["proof"] == "exact").all()
    for name, value in exact.items():
        assert table["congestion_mwh"][name] == pytest.approx(value, abs=NEAR), name
        assert table["at_least_mwh"][name] <= value + 1e-5, name
        assert table["at_most_mwh"][name] >= value - 1e-5, name


def test_enumerated_cases_are_not_trivial():
    """In some of them the followers differ by much."""
    spread = []
    for seed in SEEDS:
        hubs, grid, tariff = tiny(seed)
        spread.append(
            [
                least_congested(hubs, grid, tariff),
                most_congested(hubs, grid, tariff, np.full(len(hubs), TIE)),
                most_congested(hubs, grid, tariff, tolerance(hubs)),
            ]
        )
    apart = np.diff(spread, axis=1) > 0.05
    assert apart[:, 0].sum() >= 5
    assert apart[:, 1].sum() >= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_bracket_contains_the_exact_value(seed, monkeypatch):
    hubs, grid, tariff = tiny(seed)
    monkeypatch.setattr(pricing_evaluation, "_MOST_BINARIES", 0)
    table = evaluated(hubs, grid, tariff)
    for name, eps in (("pessimistic", np.full(len(hubs), TIE)), (CARELESS, tolerance(hubs))):
        value = most_congested(hubs, grid, tariff, eps)
        row = table.loc[name]
        assert row["at_least_mwh"] <= value + 1e-5
        assert row["at_most_mwh"] >= value - 1e-5
        assert row["congestion_mwh"] == row["at_least_mwh"]
        meet = row["at_most_mwh"] - row["at_least_mwh"] <= 2e-4 * max(1.0, row["at_most_mwh"])
        assert row["proof"] == ("exact" if meet else "bracket")


def test_brackets_are_often_narrow_and_sometimes_open(monkeypatch):
    monkeypatch.setattr(pricing_evaluation, "_MOST_BINARIES", 0)
    tables = [evaluated(*tiny(seed)).loc[["pessimistic", CARELESS]] for seed in SEEDS]
    proofs = [proof for table in tables for proof in table["proof"]]
    assert 0 < proofs.count("bracket") < len(proofs)


@pytest.mark.parametrize("way", ["import", "export"])
def test_ascent_finds_much_in_either_direction(way, monkeypatch):
    """With one limit and one hub, what is found without binaries is most of what there is."""
    monkeypatch.setattr(pricing_evaluation, "_MOST_BINARIES", 0)
    found, exact = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        hubs = random_hubs(rng, 1, 2)
        grid = random_grid(rng, hubs, 1.0)
        ends = {"import_mw": np.inf, "export_mw": np.inf, f"{way}_mw": 0.1}
        grid = replace(grid, limit_mw=np.full(len(grid.lines), np.inf), **ends)
        near = near_optimal_answers(HubProgramme(hubs), no_tariff(1, 2), np.array([5.0]))
        found.append(worst(near, HubProgramme(hubs), grid).least_mwh)
        exact.append(most_congested(hubs, grid, no_tariff(1, 2), np.array([5.0])))
    assert (np.array(found) <= np.array(exact) + 1e-5).all()
    assert sum(exact) > 1
    assert sum(found) > 0.9 * sum(exact)


@pytest.mark.parametrize("binaries", [0, 300])
def test_bounds_do_not_lean_on_the_ascent(binaries, monkeypatch):
    """With the least congested answer in place of what the ascent finds."""
    monkeypatch.setattr(
        pricing_evaluation,
        "_ascent",
        lambda answers, programme, grid, starts: best(answers, programme, grid).x,
    )
    monkeypatch.setattr(pricing_evaluation, "_MOST_BINARIES", binaries)
    apart, exports = 0, 0
    for seed in range(12):
        hubs, grid, tariff = tiny(seed)
        if seed % 2:
            grid = replace(grid, export_mw=0.5 * grid.export_mw, limit_mw=0.5 * grid.limit_mw)
        if seed % 3 == 0:
            grid = replace(grid, factor=csr_array(-grid.factor), background_mw=-grid.background_mw)
        programme = HubProgramme(hubs)
        eps = np.full(len(hubs), 5.0)
        found = worst(near_optimal_answers(programme, tariff, eps), programme, grid)
        exact = most_congested(hubs, grid, tariff, eps)
        assert found.most_mwh >= exact - 1e-4, seed
        if binaries:
            assert found.congestion_mwh == pytest.approx(exact, abs=NEAR * max(1, exact)), seed
        apart += found.most_mwh > found.least_mwh + 0.01
        exports += exact > 0.01 and -grid.loading_mw(programme.withdrawal_mw(found.x)).min() > 0.1
    assert (apart > 5) == (binaries == 0)
    assert exports >= 2


def test_falls_back_to_the_bracket_where_nothing_is_proven(monkeypatch):
    original, asked = pricing_evaluation.solve, []

    def unproven(problem, **options):
        if problem.integer.any():
            asked.append(options)
            raise NotProven("time limit", -np.inf, 0.0)
        return original(problem, **options)

    hubs, grid = reference(3, 6, 0.5)
    tariff = linear_prices(centralised(hubs, grid)).answer.tariff
    exact = evaluated(hubs, grid, tariff)
    monkeypatch.setattr(pricing_evaluation, "solve", unproven)
    table = evaluated(hubs, grid, tariff)
    assert asked
    open_ = table["proof"] == "bracket"
    assert open_.any()
    assert (table["at_least_mwh"] <= exact["congestion_mwh"] + NEAR).all()
    assert (table["at_most_mwh"] >= exact["congestion_mwh"] - NEAR).all()
    assert (table["at_most_mwh"] > table["at_least_mwh"])[open_].all()


def test_keeps_the_bound_of_a_programme_that_is_stopped(monkeypatch):
    """What branch and bound had proven when it stopped is tighter than the bound without it."""
    original, bounds = pricing_evaluation.solve, []

    def stopped(problem, **options):
        if not problem.integer.any():
            return original(problem, **options)
        solution = original(problem, **options)
        if np.isfinite(floor):
            bounds.append(solution.bound - 0.01)
            raise NotProven("time limit", solution.bound - 0.01, 0.0)
        raise NotProven("time limit", floor, 0.0)

    hubs, grid = reference(3, 6, 0.5)
    tariff = linear_prices(centralised(hubs, grid)).answer.tariff
    programme, eps = HubProgramme(hubs), np.full(3, 1.0)
    answers = near_optimal_answers(programme, tariff, eps)
    exact = worst(answers, programme, grid)
    monkeypatch.setattr(pricing_evaluation, "solve", stopped)
    floor = -np.inf
    without = worst(answers, programme, grid)
    floor = 0.0
    found = worst(answers, programme, grid)
    assert bounds
    assert found.most_mwh == pytest.approx(-bounds[0], abs=1e-12)
    assert exact.congestion_mwh - NEAR <= found.most_mwh < without.most_mwh


@pytest.mark.parametrize("seed", range(12))
def test_costs_and_revenue_are_those_of_optimal_answers(seed):
    hubs, grid = random_case(seed)
    own, programme = own_programme(hubs), HubProgramme(hubs)
    rng = np.random.default_rng(seed)
    adder = rng.uniform(0, 40, own.size)
    if seed % 2:
        adder = linear_prices(centralised(hubs, grid)).adder_eur_per_mwh
    tariff = Tariff(adder)
    table = evaluated(hubs, grid, tariff)
    least = own.best(adder).sum()
    paid = table["hub_cost_eur"] + table["revenue_eur"]
    assert paid["optimistic"] == pytest.approx(least, abs=1e-4)
    assert paid["pessimistic"] == pytest.approx(least, abs=1e-4)
    assert least - 1e-4 <= paid[CARELESS] <= least + tolerance(hubs).sum() + 1e-4
    face, _, _ = optimal_answers(programme, tariff)
    for name, find in (("optimistic", best), ("pessimistic", worst)):
        found = find(face, programme, grid)
        x = own.of(found.x)
        imports = x[own.at("m_in")]
        assert own.regret(x, adder).max() < 1e-4
        assert table["congestion_mwh"][name] == pytest.approx(
            grid_congestion(grid, own.withdrawal(x)), abs=1e-9
        )
        assert table["hub_cost_eur"][name] == pytest.approx(own.arrays[0] @ x, abs=1e-6)
        assert table["revenue_eur"][name] == pytest.approx((adder * imports).sum(), abs=1e-6)


def test_a_careless_hub_of_no_cost_accepts_the_floor():
    """Without any device or demand a hub costs nothing: 0.1 % of it would be nothing."""
    rng = np.random.default_rng(5)
    hubs = random_hubs(rng, 1, 2)
    table = hubs.table.copy()
    table.loc[0, ["demand_peak_mw", "pv_mwp", "flexible_load_mw", "h2_offtake_mw"]] = 0.0
    table.loc[0, ["generator_mw", "fuel_cell_h2_mw"]] = 0.0
    table.loc[0, "battery_mw"] = 0.0
    hubs = Hubs(table, hubs.profiles, hubs.costs)
    grid = random_grid(rng, hubs, 0.5)
    grid = replace(grid, limit_mw=0 * grid.limit_mw, background_mw=0 * grid.background_mw)
    tariff = no_tariff(1, 2)
    assert own_programme(hubs).best()[0] == pytest.approx(0, abs=1e-9)
    found = evaluated(hubs, grid, tariff)
    exact = most_congested(hubs, grid, tariff, np.array([FLOOR_EUR]))
    assert exact > 1e-5
    assert found["congestion_mwh"][CARELESS] == pytest.approx(exact, rel=0.01)
    assert found["hub_cost_eur"][CARELESS] == pytest.approx(FLOOR_EUR, rel=0.01)


def test_careless_answers_tend_to_the_pessimistic_one():
    for seed in (1, 3, 5):
        hubs, grid, tariff = tiny(seed)
        programme = HubProgramme(hubs)
        face, _, _ = optimal_answers(programme, tariff)
        limit = worst(face, programme, grid).congestion_mwh
        values = []
        for eps in (1.0, 0.1, 1e-2, 1e-4, 1e-6):
            near = near_optimal_answers(programme, tariff, np.full(len(hubs), eps))
            values.append(worst(near, programme, grid).congestion_mwh)
        assert (np.diff(values) <= NEAR).all()
        assert values[-1] == pytest.approx(limit, abs=NEAR)
        assert values[0] > limit + 1e-3


@pytest.mark.parametrize("seed", range(20))
def test_order_of_the_followers_and_of_their_bounds(seed):
    hubs, grid = random_case(seed)
    tariff = linear_prices(centralised(hubs, grid)).answer.tariff
    table = evaluated(hubs, grid, tariff)
    assert table["congestion_mwh"].is_monotonic_increasing or (
        np.diff(table["congestion_mwh"]).min() > -NEAR
    )
    assert (table["at_least_mwh"] <= table["congestion_mwh"] + 1e-9).all()
    assert (table["at_most_mwh"] >= table["congestion_mwh"] - 1e-9).all()
    own = own_programme(hubs)
    rows = np.where(own.hub == np.arange(len(hubs))[:, None],
                    own.cost(tariff.adder_eur_per_mwh), 0.0)  # fmt: skip
    bill = own.best(tariff.adder_eur_per_mwh) + TIE
    least = plan(own, grid, 0 * own.cost(), 1.0, cut=(rows, bill)).congestion
    assert table["congestion_mwh"]["optimistic"] == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_followers_of_blocks_equal_a_convex_programme(seed):
    """The bill written with the positive part, solved by an interior-point method for cones."""
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 2, 4)
    own = own_programme(hubs)
    blocks = [(rng.uniform(0, 1, own.size), rng.uniform(0, 60, own.size)) for _ in range(2)]
    tariff = Tariff(rng.uniform(0, 30, own.size), tuple(Block(*block) for block in blocks))
    reply = answer(hubs, tariff)
    reply.certificate.assert_ok()
    c, a, b, lower, upper = own.arrays
    x = cp.Variable(len(c))
    for k in range(2):
        m_in = x[own.at("m_in")[k]]
        bill = tariff.adder_eur_per_mwh[k] @ m_in
        for above, more in blocks:
            bill += more[k] @ cp.pos(m_in - above[k])
        cost = cp.Minimize(np.where(own.hub == k, c, 0.0) @ x + bill)
        least = cp.Problem(cost, [a @ x == b, x >= lower, x <= upper]).solve(solver=cp.CLARABEL)
        assert reply.pays_eur[k] == pytest.approx(least, abs=1e-4)
        assert reply.least_eur[k] <= least + 1e-4
        assert reply.least_eur[k] == pytest.approx(least, abs=1e-4)
    imports = own.of(reply.schedule.x)[own.at("m_in")]
    bill = (tariff.adder_eur_per_mwh * imports).sum()
    bill += sum((more * np.maximum(imports - above, 0)).sum() for above, more in blocks)
    table = evaluated(hubs, random_grid(rng, hubs, 0.8), tariff)
    total = table["hub_cost_eur"] + table["revenue_eur"]
    assert total["pessimistic"] == pytest.approx(reply.pays_eur.sum(), abs=1e-4)
    assert reply.pays_eur.sum() == pytest.approx(own.arrays[0] @ own.of(reply.schedule.x) + bill)


def test_hubs_that_fit_their_tariff_only():
    hubs, grid = reference(3, 6, 0.6)
    with pytest.raises(ValueError, match="tariff for"):
        evaluated(hubs, grid, no_tariff(2, 6))
    _, other = reference(2, 6, 0.6)
    with pytest.raises(DataError, match="hub"):
        evaluated(hubs, other, no_tariff(3, 6))


def test_no_tariff_is_method_a():
    hubs, grid = reference(3, 6, 0.6)
    table = evaluated(hubs, grid, no_tariff(3, 6))
    assert (table["revenue_eur"] == 0).all()
    cost = no_pricing(hubs).schedule.cost_eur.sum()
    assert table["hub_cost_eur"]["optimistic"] == pytest.approx(cost, rel=1e-8)
    assert table["hub_cost_eur"]["pessimistic"] == pytest.approx(cost, rel=1e-8)
