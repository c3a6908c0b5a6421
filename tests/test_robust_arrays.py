"""The array route: its rows, names and units beside the printed model's, and its cuts."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from feeders import STABLE, Worst, market_12, markets, offers_up, random_market, small_market
from hypothesis import given, settings
from hypothesis import strategies as st
from test_robust import market_with_a_choice
from test_robust_model import set_state

from flexlib import Budget, Circle, Market, NotSettled, printed_model, robust_arrays, solve
from flexlib.linear_program import LinearProgram
from flexlib.robust_arrays import linear_program, robust_optimum
from flexlib.robust_limits import CURRENT, every_limit, limits_that_can_bind
from flexlib.robust_rows import Rows, current_margins_a, every_plane, first_rows, voltage_rows


def all_rows(market: Market) -> Rows:
    limits = every_limit(market)
    return every_plane(market, limits).and_more(voltage_rows(market, limits))


def whole_program(market: Market) -> LinearProgram:
    """The programme with every plane and every voltage limit."""
    return linear_program(market, every_limit(market), all_rows(market))


def of_current(name: str) -> bool:
    return name.startswith("current limit of branch ")


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6), st.sampled_from(["baseline", "remainder"]))
def test_rows_have_the_slack_of_the_printed_rows(market: Market, band: str) -> None:
    market = replace(market, band=band)
    program, model = whole_program(market), printed_model(market)
    net_kw = 0.3 * market.offers["up_max_kw"].to_numpy() - 0.2 * (
        market.offers["down_max_kw"].to_numpy()
    )
    set_state(model, market, net_kw)
    x = np.zeros(len(program.c))
    x[: len(net_kw)] = np.maximum(net_kw, 0)
    x[len(net_kw) : 2 * len(net_kw)] = np.maximum(-net_kw, 0)
    assert program.c @ x == pytest.approx(pyo.value(model.eq_75))
    slacks = program.row_upper - program.a @ x
    branches, count = market.network.branches, len(market.network.branches)
    planes = market.norm.count
    rated = np.flatnonzero(
        branches[["i_max_from_a", "i_max_to_a"]].notna().to_numpy().T.ravel()
    ).tolist()
    assert len(model.eq_83) == planes * len(rated)
    for r, row in model.eq_83.items():
        end, n = rated[r // planes], r % planes
        degrees = 180 * (2 * n + 1) / planes
        expected = (
            f"current limit of branch {branches['branch'][end % count]} at its "
            f"{'from' if end < count else 'to'} end; line at "
            f"{degrees - 360 * (degrees > 180):.4f} degrees, row {r}"
        )
        assert program.row_names[r] == expected
        assert slacks[r] == pytest.approx(row.uslack(), abs=1e-6)
    buses, first = market.network.buses["bus"], len(model.eq_83)
    for r, row in model.eq_82.items():
        name = program.row_names[first + r]
        side = "upper" if model.voltages.bound[r] > 0 else "lower"
        assert name.startswith(f"{side} voltage limit of bus {buses[model.bus[r]]}; line at ")
        assert name.endswith(f", row {first + r}")
        v_nom_v = 1000 * market.network.buses["v_nom_kv"][model.bus[r]]
        assert slacks[first + r] == pytest.approx(v_nom_v * row.uslack(), abs=1e-5)
    assert len(model.eq_83) + len(model.eq_82) + len(model.eq_82_one) == len(program.row_names)
    assert len(set(program.row_names)) == len(program.row_names)


def test_columns_are_named_and_bounded_by_the_offers() -> None:
    offers = offers_up(POD2=100, POD7=50).assign(down_max_kw=[0, 20], price_down_eur_per_mwh=5)
    program = whole_program(market_12(5, 15, offers=offers))
    assert program.column_names == ["f_up[POD2]", "f_up[POD7]", "f_down[POD2]", "f_down[POD7]"]
    assert program.lower.tolist() == [0, 0, 0, 0]
    assert program.upper.tolist() == [100, 50, 0, 20]
    assert program.c.tolist() == [0.1, 0.1, 0.005, 0.005]
    assert not program.integer.any()


def test_size_follows_the_limits_and_not_the_network() -> None:
    market = market_12(5, 15)
    program = whole_program(market)
    named = "current limit of branch 2-3 at its from end;"
    assert sum(name.startswith(named) for name in program.row_names) == 32
    assert len(program.row_names) == 32 + 11 * 3
    limits = limits_that_can_bind(market)
    rows = first_rows(market, limits)
    small = linear_program(market, limits, rows)
    assert 1 <= len(small.row_names) == len(rows) < 8
    assert all(name.startswith(named) for name in small.row_names)


def test_choices_are_integer_and_one_of_them_must_hold() -> None:
    program = whole_program(market_with_a_choice((50, 60)))
    assert program.integer[4:].all()
    assert not program.integer[:4].any()
    assert program.lower[4:].tolist() == [0] * (len(program.c) - 4)
    assert program.upper[4:].tolist() == [1] * (len(program.c) - 4)
    assert program.c[4:].tolist() == [0] * (len(program.c) - 4)
    one = program.row_names.index("lower voltage limit of bus B; one line")
    row = program.a[[one]].toarray().ravel()
    assert row[:4].tolist() == [0, 0, 0, 0]
    assert row[4:].sum() >= 2
    assert program.row_lower[one] == 1
    assert program.row_upper[one] == np.inf
    assert len(program.row_names) == one + 1


def test_each_choice_relaxes_its_own_rows() -> None:
    market = market_with_a_choice((50, 60))
    limits, rows = every_limit(market), all_rows(market)
    chosen = np.flatnonzero(rows.big_m > 0)
    # A second row of the same line, as a cut adds it, shares the choice of the first.
    program = linear_program(market, limits, rows.and_more(rows.take(chosen[:1])))
    count = 2 * len(market.offers)
    assert program.a.shape[1] == count + len(chosen)
    by_hand = np.zeros((len(rows) + 1, len(chosen)))
    for k, r in enumerate(chosen):
        by_hand[r, k] = rows.big_m[r]
    by_hand[-1, 0] = rows.big_m[chosen[0]]
    np.testing.assert_array_equal(program.a[: len(rows) + 1, count:].toarray(), by_hand)
    room = np.append(rows.room + rows.big_m, rows.room[chosen[0]] + rows.big_m[chosen[0]])
    np.testing.assert_allclose(program.row_upper[:-1], room)


def test_rows_with_other_margins() -> None:
    market = market_12(10, 30)
    limits, rows = every_limit(market), all_rows(market)
    current = limits.kind[rows.limit] == CURRENT
    margins_a = current_margins_a(market)[limits.at[rows.limit[current]]]
    np.testing.assert_allclose(rows.margin[current], margins_a[0], rtol=1e-12)

    def cost(factor: float) -> float:
        room = rows.room + np.where(current, (1 - factor) * rows.margin, 0)
        return solve(linear_program(market, limits, replace(rows, room=room))).objective

    exact = solve(whole_program(market)).objective
    assert cost(1.0) == exact
    assert cost(0.0) < exact < cost(1.2)


def test_the_dual_of_a_current_row_is_the_price_of_an_ampere() -> None:
    market = market_12(10, 30)
    program, step = whole_program(market), 0.01
    solution = solve(program)
    total = sum(
        dual
        for name, dual in zip(program.row_names, solution.row_dual, strict=True)
        if of_current(name)
    )
    branches = market.network.branches.assign(i_max_from_a=np.nan)
    branches.loc[1, "i_max_from_a"] = 117 + step
    eased = market_12(10, 30, network=replace(market.network, branches=branches))
    slope = (solve(whole_program(eased)).objective - solution.objective) / step
    assert slope == pytest.approx(total * market.norm.apothem, rel=1e-6)
    assert slope < -0.1


def test_an_active_row_sits_at_its_worst_vertex() -> None:
    market = random_market(7, 9, 1, 1)
    program = whole_program(market)
    solution = solve(program)
    net_kw = solution.x[: len(market.offers)] - solution.x[len(market.offers) :]
    active = np.flatnonzero(np.abs(solution.row_dual) > 1e-9)
    assert len(active)
    names = [program.row_names[k] for k in active]
    assert all(re.match(r"(current|(upper|lower) voltage) limit of ", name) for name in names)
    ends = market.flow.admittance.ends
    plane_a = Worst(market).plane_a(net_kw)
    for name in names:
        if of_current(name):
            branch, end = re.match(r"current limit of branch (.+) at its (\w+) end;", name).groups()
            e = ends.index[(ends["branch"] == branch) & (ends["end"] == end)][0]
            assert plane_a[e] == pytest.approx(ends["i_max_a"][e], abs=1e-6)


def test_one_rated_end_of_the_small_feeder() -> None:
    program = whole_program(small_market())
    start = "current limit of branch S-A at its from end;"
    assert sum(name.startswith(start) for name in program.row_names) == 32
    assert sum(of_current(name) for name in program.row_names) == 32


# --------------------------------------------------------------------------------------------
# Screening and cuts


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6))
def test_neither_screening_nor_dropping_rows_moves_the_optimum(market: Market) -> None:
    whole = solve(whole_program(market)).objective
    limits = limits_that_can_bind(market)
    scale = 1e-7 * (1 + abs(whole))
    assert robust_optimum(market, limits).solution.objective == pytest.approx(whole, abs=scale)
    plain = robust_optimum(market, limits, lambda program: program)
    assert plain.solution.objective == pytest.approx(whole, abs=scale)
    count = len(market.offers)
    x = plain.solution.x
    np.testing.assert_array_equal(plain.net_kw, x[:count] - x[count : 2 * count])
    assert len(plain.program.row_names) >= len(plain.rows)


@pytest.mark.parametrize("band", ["baseline", "remainder"])
@pytest.mark.parametrize("seed", [1, 3, 5, 8])
def test_an_optimum_with_cuts_keeps_every_limit_at_every_vertex(seed: int, band: str) -> None:
    market = replace(random_market(seed, 9, seed % 2, 1), band=band)
    budget = Budget(
        market.network, market.uncertainty.bands, min(1.5, len(market.uncertainty.load))
    )
    for other in (market, replace(market, uncertainty=budget)):
        found = robust_optimum(other, limits_that_can_bind(other))
        worst, buses = Worst(other), other.network.buses
        i_max_a = other.flow.admittance.ends["i_max_a"].to_numpy()
        assert (worst.plane_a(found.net_kw) - i_max_a).max() < 1e-6
        low, high = worst.norm_low_pu(found.net_kw), worst.norm_high_pu(found.net_kw)
        assert (buses["v_min_pu"] - low)[worst.free].max() < 1e-9
        assert (high - buses["v_max_pu"])[worst.free].max() < 1e-9


def test_rounds_of_cuts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    market = replace(market_12(10, 30), norm=Circle())
    limits, worst = limits_that_can_bind(market), Worst(market)
    found = robust_optimum(market, limits)
    assert len(found.rows) > len(first_rows(market, limits))
    base, per_kw, per_xi = (part[1] for part in worst.affine.i)
    i_a = np.abs(base + per_kw @ found.net_kw + per_xi @ worst.xi)
    assert i_a.max() == pytest.approx(117, abs=1e-6)
    monkeypatch.setattr(robust_arrays, "_MOST_ROUNDS", 1)
    with pytest.raises(NotSettled, match=r"after 1 rounds of cuts .* exceeded by [\d.e-]+ A or V"):
        robust_optimum(market, limits)


@pytest.mark.parametrize(("v_min_pu", "gamma"), [(1.02, 0.5), (1.0, 1.5)])
def test_cuts_of_alternatives_come_to_an_end(v_min_pu: float, gamma: float) -> None:
    plain = market_with_a_choice((50.0, 500.0), v_min_pu)
    offers = plain.offers.assign(up_max_kw=[600.0, 100.0])  # no more than the loads have
    budget = Budget(plain.network, plain.uncertainty.bands, gamma)
    market = replace(plain, offers=offers, uncertainty=budget, band="remainder")
    found = robust_optimum(market, limits_that_can_bind(market))
    low = Worst(market).norm_low_pu(found.net_kw)
    assert low[2] == pytest.approx(v_min_pu, abs=1e-3)
    assert low[2] >= v_min_pu - 1e-9
