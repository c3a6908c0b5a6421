"""Equations of the bilevel chapter hold at solutions that are computed apart from the models."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog, milp
from scipy.sparse import csr_array

from flexlib import (
    Bilevel,
    Follower,
    bilevel,
    bilevel_big_m,
    bilevel_duality,
    bilevel_kkt,
    bilevel_readings,
    centralised,
    exact_prices,
    hub_bilevel,
    hub_bounds,
    pricing_steps,
)
from flexlib.bilevel_duality import with_strong_duality
from flexlib.bilevel_kkt import kkt_system, pairs, with_binaries
from flexlib.bilevel_readings import pessimistic, worst_answer
from flexlib.bilevel_solve import solve_bilevel
from flexlib.hub_bilevel import decision, hub_big_m, multiplier_intervals, priced_hubs
from flexlib.hub_instances import reference
from flexlib.hubs import VARIABLES

PAGE = (Path(__file__).parents[1] / "book" / "bilevel.md").read_text(encoding="utf-8")
LABELS = set(re.findall(r"^\$\$ \(([\w-]+)\)$", PAGE, re.M))
MODULES = (
    bilevel, bilevel_kkt, bilevel_big_m, bilevel_duality, bilevel_readings, hub_bilevel,
    hub_bounds, pricing_steps,
)  # fmt: skip
CAP = 60.0


@cache
def case():
    """One hub and six hours: programme, decision and answer of method C, multipliers by SciPy."""
    hubs, grid = reference(1, 6, 0.6)
    problem = priced_hubs(hubs, grid, CAP)
    prices = exact_prices(centralised(hubs, grid)).prices
    d, x = decision(grid, prices.adder_eur_per_mwh, prices.answer.schedule)
    y, mu = multipliers(problem, d)
    return hubs, problem, d, x, y, mu


def multipliers(problem, d):
    """Multipliers of the equations and of all pairs of a follower with bounds alone."""
    f = problem.follower
    found = linprog(
        f.c + f.c_leader @ d, A_eq=f.a, b_eq=f.b - f.a_leader @ d,
        bounds=np.column_stack([f.lower, f.upper]), method="highs",
    )  # fmt: skip
    assert found.status == 0
    low, up = np.isfinite(f.lower), np.isfinite(f.upper)
    mu = np.concatenate([found.lower.marginals[low], -found.upper.marginals[up]])
    return found.eqlin.marginals, np.maximum(mu, 0.0)


def test_labels_of_the_chapter_are_cited_by_the_modules_that_write_them():
    cited = {
        label
        for module in MODULES
        for label in re.findall(r":eq:`(bilevel-[\w-]+)`", Path(module.__file__).read_text("utf-8"))
    }
    assert cited <= LABELS
    ours = {label for label in LABELS if label.startswith("bilevel-")}
    assert ours - cited == set()


def test_follower_and_leader_are_what_is_printed():
    hubs, problem, d, x, _, _ = case()
    f, adder = problem.follower, d[:6]
    own = hubs.costs.set_index("variable")["linear_eur_per_mwh"]
    powers = dict(zip(VARIABLES, x.reshape(6, -1).T, strict=True))
    bill = (hubs.buy_eur_per_mwh[0] + adder) @ powers["m_in"]
    bill -= hubs.sell_eur_per_mwh @ powers["m_out"]
    bill += hubs.table["generator_cost_eur_per_mwh"][0] * powers["g"].sum()
    bill += sum(own[name] * powers[name].sum() for name in VARIABLES)
    assert f.cost(d, x) == pytest.approx(bill, rel=1e-12)
    np.testing.assert_allclose(f.a @ x + f.a_leader @ d, f.b, atol=1e-7)
    grid = reference(1, 6, 0.6)[1]
    congestion = grid.congestion_mwh((powers["m_in"] - powers["m_out"])[None])
    regular = 1e-3 * adder.sum() + 5e-4 * np.abs(np.diff(adder)).sum()
    assert problem.value(d, x) == pytest.approx(congestion + regular, abs=1e-9)
    assert (problem.rows @ d + problem.rows_follower @ x <= problem.limit + 1e-7).all()


def test_stationarity_and_complementarity_vanish_with_the_multipliers_of_another_solver():
    _, problem, d, x, y, mu = case()
    f, pair = problem.follower, pairs(problem)
    assert mu.max() > 1.0
    gradient = f.c + f.c_leader @ d + f.q @ x
    residual = gradient - f.a.T @ y + pair.slack_x.T @ mu
    np.testing.assert_allclose(residual, 0.0, atol=1e-8)
    np.testing.assert_allclose(mu * pair.slack(d, x), 0.0, atol=1e-5)
    system = kkt_system(problem)
    point = np.concatenate([d, x, y, mu])
    value = system.a @ point
    assert (value <= system.row_upper + 1e-7).all()
    assert (value >= system.row_lower - 1e-7).all()


def test_reduced_costs_are_those_printed_line_by_line():
    hubs, problem, d, _, y, _ = case()
    source = re.search(r"```\{code-cell\} ipython3\n(def reduced_costs.*?)```", PAGE, re.S)
    assert source
    known = {"np": np, "VARIABLES": VARIABLES}
    exec(source[1], known)
    printed = known["reduced_costs"](hubs, d[:6], y.reshape(6, 4)).ravel()
    f = problem.follower
    np.testing.assert_allclose(printed, f.c + f.c_leader @ d - f.a.T @ y, atol=1e-9)


def test_big_m_rows_admit_the_solution_and_no_other_pairing():
    hubs, problem, d, x, _, _ = case()
    m = hub_big_m(problem, hubs, CAP)
    program = with_binaries(kkt_system(problem, m), problem, m)
    k, n = len(problem.cost), len(x)
    lower, upper = program.lower.copy(), program.upper.copy()
    lower[: k + n] = d.tolist() + x.tolist()
    upper[: k + n] = lower[: k + n]
    rows = np.column_stack([program.row_lower - 1e-7, program.row_upper + 1e-7])

    def feasible(low, high):
        return milp(
            np.zeros(len(program.c)), integrality=program.integer.astype(int),
            bounds=(low, high), constraints=(program.a, rows[:, 0], rows[:, 1]),
        ).status == 0  # fmt: skip

    assert feasible(lower, upper)
    slack = pairs(problem).slack(d, x)[m.open]
    loose = int(slack.argmax())
    lower[len(lower) - len(m.open) + loose] = 1.0  # said to be tight, and is not
    assert slack[loose] > 0.1
    assert not feasible(lower, upper)


@pytest.mark.parametrize("adder", [0.0, 17.0, 60.0])
def test_anchors_hold_some_optimal_multipliers(adder):
    hubs, problem, d, *_ = case()
    f, low_high = problem.follower, multiplier_intervals(hubs, CAP)
    posted = np.where(np.arange(len(d)) < 6, adder, 0.0)
    cost = f.c + f.c_leader @ posted
    bounds = np.column_stack([f.lower, f.upper])
    least = linprog(cost, A_eq=f.a, b_eq=f.b, bounds=bounds, method="highs").fun
    # the dual with y in the intervals: max b'y + l'mu_low - u'mu_up
    n, e = len(f.c), len(f.b)
    dual = linprog(
        np.concatenate([-f.b, -f.lower, f.upper]),
        A_eq=np.hstack([f.a.toarray().T, np.eye(n), -np.eye(n)]), b_eq=cost,
        bounds=[*zip(*low_high, strict=True), *[(0, None)] * (2 * n)], method="highs",
    )  # fmt: skip
    assert dual.status == 0
    assert -dual.fun == pytest.approx(least, rel=1e-9)
    narrow = [(low, low) for low in low_high[0]]  # an interval that is too small loses them
    assert linprog(
        dual.x * 0 + np.concatenate([-f.b, -f.lower, f.upper]),
        A_eq=np.hstack([f.a.toarray().T, np.eye(n), -np.eye(n)]), b_eq=cost,
        bounds=[*narrow, *[(0, None)] * (2 * n)], method="highs",
    ).fun > -least + 1.0  # fmt: skip
    assert e == len(narrow)


def test_multipliers_times_the_slack_of_a_point_are_at_most_the_difference_of_costs():
    _, problem, d, x, _, mu = case()
    f, pair = problem.follower, pairs(problem)
    x_bar = 0.5 * (x + case_of_no_price(problem))  # allowed at all adders
    slack = pair.slack(d, x_bar)
    assert (slack >= -1e-7).all()
    assert mu @ slack > 1e-3
    assert mu @ slack <= f.cost(d, x_bar) - f.cost(d, x) + 1e-6


def case_of_no_price(problem):
    """An optimal answer to no adders."""
    f = problem.follower
    return linprog(
        f.c, A_eq=f.a, b_eq=f.b, bounds=np.column_stack([f.lower, f.upper]), method="highs"
    ).x


def test_largest_corner_holds_a_multiplier_of_every_decision():
    problem = tied()
    pair = pairs(problem)
    most = bilevel_big_m.dual_corners(problem, pair, np.array([[0.0], [1.0]]))
    f = problem.follower
    for d in np.linspace(0, 1, 7):
        limit = pair.limit - pair.slack_d @ [d]
        within = linprog(
            limit, A_eq=pair.slack_x.toarray().T, b_eq=-f.c,
            bounds=[(0, value + 1e-9) for value in most],
        )  # fmt: skip
        least = linprog(f.c, A_ub=f.g, b_ub=f.h - f.g_leader @ [d], bounds=(0, None)).fun
        assert within.status == 0
        assert -within.fun == pytest.approx(least, abs=1e-7)


def test_strong_duality_is_an_equality_at_the_solution_and_mccormick_holds_the_products():
    hubs, problem, d, x, y, mu = case()
    f, pair = problem.follower, pairs(problem)
    dual = (f.b - f.a_leader @ d) @ y - (pair.limit - pair.slack_d @ d) @ mu
    assert f.cost(d, x) == pytest.approx(dual, rel=1e-9)
    system = kkt_system(problem, hub_big_m(problem, hubs, CAP))
    with_products = with_strong_duality(system, problem)
    entry = f.c_leader.tocoo()
    products = d[entry.col] * x[entry.row]
    assert products.max() > 10
    low, high = multiplier_intervals(hubs, CAP)
    inside = np.clip(y, low, high)
    if np.allclose(inside, y):
        point = np.concatenate([d, x, y, mu, products])
        value = with_products.a @ point
        assert (value <= with_products.row_upper + 1e-5).all()
    d_low, d_high, v_low, v_high = 0.0, CAP, 0.0, f.upper[entry.row]
    d_at, v_at = d[entry.col], x[entry.row]
    for below in (d_low * v_at + v_low * d_at - d_low * v_low,
                  d_high * v_at + v_high * d_at - d_high * v_high):  # fmt: skip
        assert (products >= below - 1e-9).all()
    for above in (d_high * v_at + v_low * d_at - d_high * v_low,
                  d_low * v_at + v_high * d_at - d_low * v_high):  # fmt: skip
        assert (products <= above + 1e-9).all()


def tied():
    """An example of Shimizu, Ishizuka and Bard: the answer to x = 0 is not unique."""
    return Bilevel(
        Follower(
            c=-np.ones(2), g=csr_array([[1.0, 0], [0, 1], [1, 1]]), h=np.ones(3),
            g_leader=csr_array([[1.0], [1], [0]]),
        ),
        cost=-np.ones(1), cost_follower=np.array([10.0, -2.0]), upper=np.ones(1),
    )  # fmt: skip


def test_pessimistic_programme_is_the_least_of_the_worst_answers():
    problem = tied()
    worst = {d: problem.value(np.array([d]), worst_answer(problem, np.array([d])))
             for d in np.linspace(0, 1, 21)}  # fmt: skip
    found = solve_bilevel(pessimistic(problem))
    assert found.value == pytest.approx(min(worst.values()), abs=1e-6)
    assert found.d[0] == pytest.approx(min(worst, key=worst.get), abs=1e-6)
    assert worst[0.0] == pytest.approx(10.0, abs=1e-6)


def test_joint_step_is_the_tangent_of_the_penalised_objective():
    _, problem, d, x, y, mu = case()
    f, pair = problem.follower, pairs(problem)
    rng = np.random.default_rng(6)

    def merit(decision_, answer, penalty):
        bill = f.cost(decision_, answer)
        dual = f.b @ y - pair.limit @ mu
        return problem.value(decision_, answer) + penalty * (bill - dual)

    def tangent(decision_, answer, penalty):
        bill = (f.c + f.c_leader @ d) @ answer + (f.c_leader @ decision_) @ x
        dual = f.b @ y - pair.limit @ mu
        constant = (f.c_leader @ d) @ x
        return problem.value(decision_, answer) + penalty * (bill - constant - dual)

    move_d, move_x = rng.normal(size=len(d)), rng.normal(size=len(x))
    assert merit(d, x, 0.3) == pytest.approx(tangent(d, x, 0.3), rel=1e-12)
    for step in (1e-1, 1e-2, 1e-3):
        moved = d + step * move_d, x + step * move_x
        gap = merit(*moved, 0.3) - tangent(*moved, 0.3)
        assert gap == pytest.approx(0.3 * step**2 * (f.c_leader @ move_d) @ move_x, abs=1e-9)


def test_truncated_adders_explain_the_answer_as_well_as_a_reference():
    _, problem, d, x, _, _ = case()
    f, adder = problem.follower, d[:6]
    m_in = np.flatnonzero(f.c_leader.toarray().any(axis=1))
    m_out = m_in + VARIABLES.index("m_out") - VARIABLES.index("m_in")
    bounds = np.column_stack([f.lower, f.upper])

    def least(imports, exports):
        cost = f.c.copy()
        cost[m_in] += imports
        cost[m_out] -= exports
        return linprog(cost, A_eq=f.a, b_eq=f.b, bounds=bounds, method="highs").fun

    rng = np.random.default_rng(6)
    strict = 0
    for _ in range(10):
        pi, kappa = rng.uniform(0, 80, 6), rng.uniform(0, 10, 6)
        t = np.minimum(adder, pi)
        left = least(t, 0.0) - t @ x[m_in]
        right = least(pi, kappa) - pi @ x[m_in] + kappa @ x[m_out]
        assert left >= right - 1e-6
        strict += left > right + 1.0
    assert strict > 0
    at = least(adder, 0.0) - adder @ x[m_in]  # an equality where the reference is the adder
    assert at == pytest.approx(f.c @ x, rel=1e-9)
