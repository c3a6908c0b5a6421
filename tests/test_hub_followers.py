"""Followers: bounds that any dual vector proves, and the sets of their optimal answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from feeders import STABLE
from hub_cases import random_hubs
from hypothesis import given
from hypothesis import strategies as st
from poster import arrays, least_cost, small_hubs
from scipy.optimize import linprog

from flexlib.certificate import CertificateError
from flexlib.hub_followers import (
    Answer,
    answer,
    answered,
    followers,
    near_optimal_answers,
    no_pricing,
    optimal_answers,
)
from flexlib.hub_programme import EQUATIONS, HubProgramme
from flexlib.hubs import Hubs
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve
from flexlib.tariffs import Block, Tariff, no_tariff


def drawn_tariff(
    rng: np.random.Generator, hubs: int, hours: int, blocks: int, cap: float = 60
) -> Tariff:
    return Tariff(
        rng.choice([0.0, 1.0], (hubs, hours)) * rng.uniform(0, cap, (hubs, hours)),
        tuple(
            Block(rng.uniform(0, 1.5, (hubs, hours)), rng.uniform(0, cap, (hubs, hours)))
            for _ in range(blocks)
        ),
    )


def case(seed: int, blocks: int = 0, hubs: int = 3, hours: int = 4) -> tuple[HubProgramme, Tariff]:
    rng = np.random.default_rng(seed)
    programme = HubProgramme(random_hubs(rng, hubs, hours))
    return programme, drawn_tariff(rng, hubs, hours, blocks)


def least_with_blocks(hubs: Hubs, hub: int, tariff: Tariff) -> float:
    """Least payment of one hub by another solver: its arrays and a column for each step."""
    own = arrays(hubs, hub)
    n, hours = len(own["cost"]), hubs.hours
    cost, lower, upper = own["cost"].copy(), own["lower"], own["upper"]
    cost[::12] += tariff.adder_eur_per_mwh[hub]  # m_in is the first variable of an hour
    steps = len(tariff.blocks) * hours
    a_ub, b_ub = np.zeros((steps, n + steps)), np.zeros(steps)
    more = np.zeros(steps)
    for k, (block, t) in enumerate(product(tariff.blocks, range(hours))):
        a_ub[k, 12 * t], a_ub[k, n + k] = 1, -1
        b_ub[k], more[k] = block.above_mw[hub, t], block.more_eur_per_mwh[hub, t]
    found = linprog(
        np.concatenate([cost, more]), a_ub if steps else None, b_ub if steps else None,
        np.hstack([own["a"], np.zeros((len(own["b"]), steps))]), own["b"],
        np.vstack([np.column_stack([lower, upper]), np.tile([0, np.inf], (steps, 1))]),
    )  # fmt: skip
    assert found.status == 0
    return float(found.fun)


# --------------------------------------------------------------------------------------------
# Answers and their bounds


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_answers_by_another_solver(seed: int, blocks: int) -> None:
    programme, tariff = case(seed, blocks)
    found = answer(programme.hubs, tariff)
    found.certificate.assert_ok()
    least = [least_with_blocks(programme.hubs, k, tariff) for k in range(3)]
    np.testing.assert_allclose(found.pays_eur, least, atol=1e-6)
    np.testing.assert_allclose(found.least_eur, least, atol=1e-6)
    own = (programme.cost * found.schedule.x).reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(found.schedule.cost_eur, own)
    bill = tariff.bill_eur(found.schedule.m_in_mw)
    np.testing.assert_allclose(found.pays_eur, own + bill)
    np.testing.assert_allclose(found.gap_eur, found.pays_eur - found.least_eur)


def test_no_pricing_is_the_least_cost_of_each_hub() -> None:
    hubs = random_hubs(np.random.default_rng(5), 4, 6)
    found = no_pricing(hubs)
    least = [least_cost(hubs, k) for k in range(4)]
    np.testing.assert_allclose(found.pays_eur, least, rtol=1e-8)
    np.testing.assert_allclose(found.schedule.cost_eur, found.pays_eur)
    assert not found.tariff.adder_eur_per_mwh.any()


@STABLE
@given(st.integers(0, 2**32 - 1), st.integers(0, 2), st.floats(0.01, 100))
def test_any_dual_vector_bounds_what_each_hub_pays(seed: int, blocks: int, size: float) -> None:
    programme, tariff = case(seed, blocks, hubs=2, hours=3)
    own = followers(programme, tariff)
    best = solve(own)
    least = answered(programme, tariff, best.x, best.row_dual).pays_eur
    rng = np.random.default_rng(seed)
    for dual in (
        best.row_dual,
        best.row_dual + size * rng.normal(size=len(best.row_dual)),
        size * rng.normal(size=len(best.row_dual)),
        -best.row_dual,
        np.zeros(len(best.row_dual)),
    ):
        for sign in (dual, np.where(np.isinf(own.row_lower), -np.abs(dual), dual)):
            found = answered(programme, tariff, best.x, sign)
            assert (found.least_eur <= least + 1e-6).all()
            assert (found.gap_eur >= -1e-6).all()


def test_a_wrong_dual_of_one_hub_spoils_the_bound_of_that_hub_alone() -> None:
    programme, tariff = case(7, 1)
    best = solve(followers(programme, tariff))
    right = answered(programme, tariff, best.x, best.row_dual)
    hours = programme.shape[1]
    equations = len(programme.b)
    for hub in range(3):
        for first, width in ((0, hours * len(EQUATIONS)), (equations, hours)):
            dual = best.row_dual.copy()
            dual[first + hub * width : first + (hub + 1) * width] -= 13.0
            wrong = answered(programme, tariff, best.x, dual)
            spoilt = right.least_eur - wrong.least_eur
            assert spoilt[hub] > 1e-3
            assert np.abs(np.delete(spoilt, hub)).max() < 1e-9
            with pytest.raises(CertificateError, match="follower optimality"):
                wrong.certificate.assert_ok()


def test_the_gap_of_the_certificate_is_that_of_the_worst_hub() -> None:
    programme, tariff = case(8)
    best = solve(followers(programme, tariff))
    found = answered(programme, tariff, best.x, best.row_dual)
    off = np.array([3.0, 0.5, 1.0]) * np.maximum(np.abs(found.pays_eur), 1)
    worse = replace(found, least_eur=found.pays_eur - off)
    assert worse.certificate.checks[-1].value == pytest.approx(3)
    # beyond the optimum is no better than below it: a bound above the cost is wrong data
    beyond = replace(found, least_eur=found.pays_eur + 2e-6 * off)
    assert not beyond.certificate.ok
    small = replace(found, pays_eur=np.array([0.0, 3.0, 50.0]))
    small = replace(small, least_eur=small.pays_eur - [0.5e-6, 2.7e-6, 40e-6])
    assert small.certificate.checks[-1].ok  # below 1 EUR a gap counts in EUR, above as a share
    assert small.certificate.checks[-1].value == pytest.approx(0.9e-6)
    nothing = replace(found, least_eur=found.pays_eur - [np.inf, 0, 0])
    assert not nothing.certificate.ok


def test_a_tariff_for_others_is_refused() -> None:
    programme, _ = case(1)
    for shape in ((2, 4), (3, 5), (4, 3)):
        with pytest.raises(ValueError, match=r"not \(3, 4\)"):
            followers(programme, no_tariff(*shape))
        with pytest.raises(ValueError, match="hubs and hours"):
            answer(programme.hubs, no_tariff(*shape))


# --------------------------------------------------------------------------------------------
# The certificate of a schedule that was tampered with


MOVES = {
    "m_in": {"balance"},
    "m_out": {"balance"},
    "c_pv": {"balance"},
    "g": {"balance"},
    "u": {"balance", "backlog"},
    "p_ch": {"balance", "battery"},
    "p_dis": {"balance", "battery"},
    "p_el": {"balance", "hydrogen"},
    "h_fc": {"balance", "hydrogen"},
    "e": {"battery"},
    "a": {"backlog"},
    "h": {"hydrogen"},
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("step", [1e-3, -1e-3])
def test_a_moved_variable_breaks_its_equations(name: str, step: float) -> None:
    programme, tariff = case(3)
    best = solve(followers(programme, tariff))
    middle = (programme.lower + programme.upper) / 2
    k = programme.column(name)[1, 2]
    assert programme.upper[k] - programme.lower[k] > 1e-2
    x = best.x.copy()
    low, high = programme.lower[k] + 2e-3, programme.upper[k] - 2e-3
    x[k] += step if low <= x[k] <= high else 1e-3 * np.sign(middle[k] - x[k])
    checks = answered(programme, tariff, x, best.row_dual).schedule.checks()
    failed = {check.name for check in checks if not check.ok}
    assert failed == MOVES[name]


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_a_variable_beyond_its_bound_is_seen(side: str) -> None:
    programme, tariff = case(3)
    best = solve(followers(programme, tariff))
    x = best.x.copy()
    # import and export grow together: the balance holds
    pair = [programme.column(name)[2, 1] for name in ("m_in", "m_out")]
    off = programme.upper[pair] - x[pair] if side == "upper" else -x[pair]
    x[pair] += (np.max(off) if side == "upper" else np.min(off)) * (1 + 1e-4)
    found = answered(programme, tariff, x, best.row_dual)
    failed = {check.name for check in found.schedule.checks() if not check.ok}
    assert failed == {"bounds of the variables"}
    with pytest.raises(CertificateError, match="bounds of the variables"):
        found.certificate.assert_ok()


@pytest.mark.parametrize("seed", range(4))
def test_a_schedule_that_is_not_the_cheapest_is_seen(seed: int) -> None:
    programme, tariff = case(seed, 1)
    own = followers(programme, tariff)
    best = solve(own)
    rng = np.random.default_rng(seed)
    other = solve(replace(own, c=rng.normal(size=len(own.c))))
    found = answered(programme, tariff, other.x, best.row_dual)
    failed = {check.name for check in found.certificate.checks if not check.ok}
    assert failed == {"follower optimality, worst hub"}


def test_a_schedule_with_no_number_is_seen() -> None:
    programme, tariff = case(3)
    best = solve(followers(programme, tariff))
    x = best.x.copy()
    x[5] = np.nan
    assert not answered(programme, tariff, x, best.row_dual).certificate.ok


# --------------------------------------------------------------------------------------------
# The face of optimal answers


def corners(programme: HubProgramme) -> np.ndarray:
    """All basic feasible points of a tiny programme, by trying every basis."""
    a, b = programme.a.toarray(), programme.b
    free = np.flatnonzero(programme.upper > programme.lower)
    fixed = programme.lower.copy()
    b = b - a @ np.where(programme.upper > programme.lower, 0, fixed)
    a = a[:, free]
    rows = [k for k in range(len(b)) if np.abs(a[k]).any()]
    a, b = a[rows], b[rows]
    low, high = programme.lower[free], programme.upper[free]
    found = []
    for basis in combinations(range(len(free)), len(rows)):
        if abs(np.linalg.det(a[:, basis])) < 1e-9:
            continue
        rest = [k for k in range(len(free)) if k not in basis]
        at = np.array(list(product(*zip(low[rest], high[rest], strict=True))))
        x = np.zeros((len(at), len(free)))
        x[:, rest] = at
        x[:, basis] = np.linalg.solve(a[:, basis], b[:, None] - a[:, rest] @ at.T).T
        found.append(x[((x >= low - 1e-9) & (x <= high + 1e-9)).all(axis=1)])
    points = np.unique(np.vstack(found).round(9), axis=0)
    whole = np.tile(fixed, (len(points), 1))
    whole[:, free] = points
    return whole


TIES = {
    # charging at one price and selling at another that differ by the losses alone
    "battery": ([36.0, 50.0], [30.0, 50.0], {
        "battery_mw": 1.0, "battery_mwh": 2.0, "battery_initial_soc": 0.5,
        "battery_eff_charge": 0.9, "battery_eff_discharge": 0.8,
    }),
    # two hours of one price for a load that may wait
    "flexible": ([50.0, 50.0, 70.0], [0.0] * 3, {
        "flexible_load_mw": 1.0, "flexible_load_max_factor": 2.0, "backlog_max_mwh": 0.7,
    }),
    # a generator that costs what exports bring, in one of two hours
    "generator": ([90.0, 90.0], [60.0, 50.0], {
        "generator_mw": 0.5, "generator_cost_eur_per_mwh": 60.0, "demand_peak_mw": 0.2,
    }),
    # no tie: one answer
    "electrolyser": ([50.0, 40.0], [0.0] * 2, {
        "electrolyser_mw": 1.0, "electrolyser_eff": 0.5, "h2_store_mwh": 1.0,
        "h2_offtake_mw": 0.2,
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", TIES)
def test_the_face_is_the_hull_of_the_cheapest_corners(name: str) -> None:
    buy, sell, device = TIES[name]
    programme = HubProgramme(small_hubs(buy, sell, device))
    points = corners(programme)
    cost = points @ programme.cost
    cheapest = points[cost <= cost.min() + 1e-7]
    assert (len(cheapest) == 1) == (name == "electrolyser")
    face, x, dual = optimal_answers(programme, no_tariff(1, len(buy)))
    assert programme.cost @ x == pytest.approx(cost.min())
    assert dual.shape == programme.b.shape
    rng = np.random.default_rng(1)
    for _ in range(30):
        slope = rng.normal(size=len(programme.cost))
        found = solve(replace(face, c=slope))
        assert found.objective == pytest.approx((cheapest @ slope).min(), abs=1e-6)


@STABLE
@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_the_face_holds_every_answer_that_costs_the_least_and_no_other(
    seed: int, blocks: int
) -> None:
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 2, 3)
    # few prices, so that there are ties
    level = rng.choice([50.0, 60.0], 3)
    profiles = hubs.profiles.assign(buy_eur_per_mwh=level, sell_eur_per_mwh=level)
    hubs = replace(hubs, profiles=profiles, costs=hubs.costs.assign(linear_eur_per_mwh=0.0))
    programme = HubProgramme(hubs)
    tariff = Tariff(
        rng.choice([0.0, 10.0], (2, 3)),
        tuple(Block(np.full((2, 3), 0.5), rng.choice([0.0, 10.0], (2, 3))) for _ in range(blocks)),
    )
    own = followers(programme, tariff)
    best = solve(own)
    face, x, _ = optimal_answers(programme, tariff)
    assert own.c @ x == pytest.approx(best.objective)
    equal = near_optimal_answers(programme, tariff, np.zeros(2))
    for _ in range(3):
        slope = rng.normal(size=len(own.c))
        one, other = solve(replace(face, c=slope)), solve(replace(equal, c=slope))
        assert own.c @ one.x == pytest.approx(best.objective, abs=1e-5)
        assert one.objective == pytest.approx(other.objective, abs=1e-5)


def test_a_row_with_a_multiplier_holds_in_the_face() -> None:
    # the import meets the block's quantity: 50 below it, 50 + 30 above, the generator at 70
    own = {"demand_peak_mw": 1.0, "generator_mw": 0.8, "generator_cost_eur_per_mwh": 70.0}
    programme = HubProgramme(small_hubs([50.0], [40.0], own))
    tariff = Tariff(np.zeros((1, 1)), (Block(np.array([[0.6]]), np.array([[30.0]])),))
    face, x, _ = optimal_answers(programme, tariff)
    for sign in (1, -1):
        cost = np.zeros(len(face.c))
        cost[programme.column("m_in")] = sign
        found = solve(replace(face, c=cost)).x
        assert found[programme.column("m_in")[0, 0]] == pytest.approx(0.6)
        assert found[programme.column("g")[0, 0]] == pytest.approx(0.4)
    assert x[-1] == pytest.approx(0)


# --------------------------------------------------------------------------------------------
# Answers that are nearly optimal


def spread(problem: LinearProgram, cost: np.ndarray) -> float:
    """Most of a cost over a set."""
    return -solve(replace(problem, c=-cost)).objective


@pytest.mark.parametrize("blocks", [0, 1])
def test_near_optimal_answers_use_their_tolerance_and_no_more(blocks: int) -> None:
    programme, tariff = case(21, blocks)
    eps = np.array([0.5, 2.0, 0.0])
    near = near_optimal_answers(programme, tariff, eps)
    own = followers(programme, tariff)
    best = answer(programme.hubs, tariff).pays_eur
    of_column = np.repeat(range(3), programme.shape[1] * 12)
    for hub in range(3):
        cost = np.zeros(len(own.c))
        cost[: len(of_column)] = np.where(of_column == hub, own.c[: len(of_column)], 0)
        hours = programme.shape[1]
        for k in range(blocks):
            at = len(of_column) + (3 * k + hub) * hours
            cost[at : at + hours] = own.c[at : at + hours]
        assert spread(near, cost) == pytest.approx(best[hub] + eps[hub], abs=1e-6)
    assert near.row_names[-3:] == ["cost of hub_1", "cost of hub_2", "cost of hub_3"]
    assert near.row_names[:-3] == own.row_names
    # they are answers: each schedule holds, and costs what its row says
    rng = np.random.default_rng(2)
    for _ in range(5):
        x = solve(replace(near, c=rng.normal(size=len(own.c)))).x
        found = answered(programme, tariff, x, np.zeros(len(own.row_names)))
        assert all(check.ok for check in found.schedule.checks())
        assert (found.pays_eur <= best + eps + 1e-6).all()


def test_answers_with_a_wide_tolerance_are_all_schedules() -> None:
    programme, tariff = case(22)
    near = near_optimal_answers(programme, tariff, np.full(3, 1e6))
    own = followers(programme, tariff)
    slope = np.random.default_rng(3).normal(size=len(own.c))
    everything = solve(replace(own, c=slope)).objective
    assert solve(replace(near, c=slope)).objective == pytest.approx(everything)


# --------------------------------------------------------------------------------------------
# Blocks


def flat(adder: float, *blocks: tuple[float, float]) -> Tariff:
    """One hub, one hour."""
    return Tariff(
        np.array([[adder]]), tuple(Block(np.array([[q]]), np.array([[p]])) for q, p in blocks)
    )


@pytest.mark.parametrize(
    ("tariff", "m_in", "pays"),
    [
        # demand 1; generator of 0.9 MW at 70; grid at 50
        (flat(0), 1.0, 50),
        (flat(25), 0.1, 0.9 * 70 + 0.1 * 75),
        (flat(0, (0.6, 30)), 0.6, 0.6 * 50 + 0.4 * 70),
        (flat(10, (0.6, 15)), 0.6, 0.6 * 60 + 0.4 * 70),
        (flat(0, (0.6, 15)), 1.0, 50 + 0.4 * 15),
        (flat(0, (0.3, 12), (0.6, 12)), 0.6, 0.6 * 50 + 0.3 * 12 + 0.4 * 70),
        (flat(0, (0.0, 30)), 0.1, 0.9 * 70 + 0.1 * 80),
        (flat(5, (2.0, 90)), 1.0, 55),
    ],
)
def test_blocks_by_hand(tariff: Tariff, m_in: float, pays: float) -> None:
    own = {"demand_peak_mw": 1.0, "generator_mw": 0.9, "generator_cost_eur_per_mwh": 70.0}
    found: Answer = answer(small_hubs([50.0], [40.0], own), tariff)
    found.certificate.assert_ok()
    assert found.schedule.m_in_mw[0, 0] == pytest.approx(m_in)
    assert found.pays_eur[0] == pytest.approx(pays)


def test_a_block_is_an_adder_where_it_begins_at_0() -> None:
    programme, tariff = case(31)
    block = Block(np.zeros((3, 4)), tariff.adder_eur_per_mwh)
    other = answer(programme.hubs, Tariff(np.zeros((3, 4)), (block,)))
    np.testing.assert_allclose(other.pays_eur, answer(programme.hubs, tariff).pays_eur)


def test_names_of_rows_and_columns_of_blocks() -> None:
    programme, tariff = case(32, 2, hubs=2, hours=2)
    own = followers(programme, tariff)
    assert (len(own.row_names), len(own.column_names)) == own.a.shape
    assert len(set(own.column_names)) == len(own.column_names)
    assert own.row_names[-8] == own.column_names[-8] == "block 1 of hub_1 hour 0"
    assert own.row_names[-1] == own.column_names[-1] == "block 2 of hub_2 hour 1"
    assert len(own.integer) == len(own.c)
    assert not own.integer.any()
