"""The array route: its rows, names and units, beside the printed model's."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from feeders import STABLE, Worst, market_12, markets, offers_up, random_market, small_market
from hypothesis import given, settings
from test_robust import market_with_a_choice
from test_robust_model import set_state

from flexlib import Market, printed_model, solve
from flexlib.robust_arrays import linear_program
from flexlib.robust_limits import current_margins_a


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6))
def test_rows_have_the_slack_of_the_printed_rows(market: Market) -> None:
    program, model = linear_program(market), printed_model(market)
    net_kw = 0.3 * market.offers["up_max_kw"].to_numpy() - 0.2 * (
        market.offers["down_max_kw"].to_numpy()
    )
    set_state(model, market, net_kw)
    x = np.zeros(len(program.c))
    x[: len(net_kw)] = np.maximum(net_kw, 0)
    x[len(net_kw) : 2 * len(net_kw)] = np.maximum(-net_kw, 0)
    assert program.c @ x == pytest.approx(pyo.value(model.eq_75))
    slacks = dict(zip(program.row_names, program.row_upper - program.a @ x, strict=True))
    ends = market.flow.admittance.ends
    count = 0
    for (e, n), row in model.eq_83.items():
        name = f"eq_83[{ends['branch'][e]},{ends['end'][e]},{n}]"
        assert slacks[name] == pytest.approx(row.uslack(), abs=1e-6)
        count += 1
    v_nom_v = market.network.buses["v_nom_kv"] * 1000
    voltage = [name for name in program.row_names if re.match(r"eq_82\[", name)]
    assert len(voltage) == len(model.eq_82)
    for name, (r, row) in zip(voltage, model.eq_82.items(), strict=True):
        limit = model.limits[r]
        side = "upper" if limit.sign > 0 else "lower"
        assert name == f"eq_82[{market.network.buses['bus'][limit.bus]},{side},{r}]"
        in_v = row.lslack() * v_nom_v[limit.bus]
        assert slacks[name] == pytest.approx(in_v, abs=1e-5)
        count += 1
    assert count + len(model.eq_82_one) == len(program.row_names)


def test_columns_are_named_and_bounded_by_the_offers() -> None:
    offers = offers_up(POD2=100, POD7=50).assign(down_max_kw=[0, 20], price_down_eur_per_mwh=5)
    program = linear_program(market_12(5, 15, offers=offers))
    assert program.column_names == ["f_up[POD2]", "f_up[POD7]", "f_down[POD2]", "f_down[POD7]"]
    assert program.lower.tolist() == [0, 0, 0, 0]
    assert program.upper.tolist() == [100, 50, 0, 20]
    assert program.c.tolist() == [0.1, 0.1, 0.005, 0.005]
    assert not program.integer.any()


def test_size_follows_the_limits_and_not_the_network() -> None:
    program = linear_program(market_12(5, 15))
    current = [name for name in program.row_names if name.startswith("eq_83[2-3,from,")]
    assert len(current) == 32
    assert len(program.row_names) == 32 + 11 * 3


def test_choices_are_integer_and_one_of_them_must_hold() -> None:
    program = linear_program(market_with_a_choice((50, 60)))
    assert program.integer[4:].all()
    assert not program.integer[:4].any()
    one = program.row_names.index("eq_82_one[B]")
    row = program.a[[one]].toarray().ravel()
    assert row[:4].tolist() == [0, 0, 0, 0]
    assert row[4:].sum() >= 2
    assert program.row_lower[one] == 1


def test_given_margins_take_the_place_of_the_exact_ones() -> None:
    market = market_12(10, 30)
    exact = solve(linear_program(market)).objective
    assert solve(linear_program(market, current_margins_a(market))).objective == exact
    none = solve(linear_program(market, 0 * current_margins_a(market))).objective
    double = solve(linear_program(market, 1.2 * current_margins_a(market))).objective
    assert none < exact < double


def test_the_dual_of_a_current_row_is_the_price_of_an_ampere() -> None:
    market = market_12(10, 30)
    program, step = linear_program(market), 0.01
    solution = solve(program)
    total = sum(
        dual
        for name, dual in zip(program.row_names, solution.row_dual, strict=True)
        if name.startswith("eq_83")
    )
    branches = market.network.branches.assign(i_max_from_a=np.nan)
    branches.loc[1, "i_max_from_a"] = 117 + step
    eased = market_12(10, 30, network=replace(market.network, branches=branches))
    slope = (solve(linear_program(eased)).objective - solution.objective) / step
    assert slope == pytest.approx(total * market.norm.apothem, rel=1e-6)
    assert slope < -0.1


def test_an_active_row_sits_at_its_worst_vertex() -> None:
    market = random_market(7, 9, 1, 1)
    program = linear_program(market)
    solution = solve(program)
    net_kw = solution.x[: len(market.offers)] - solution.x[len(market.offers) :]
    active = np.flatnonzero(np.abs(solution.row_dual) > 1e-9)
    assert len(active)
    names = [program.row_names[k] for k in active]
    assert all(name.startswith("eq_8") for name in names)
    ends = market.flow.admittance.ends
    plane_a = Worst(market).plane_a(net_kw)
    for name in names:
        if name.startswith("eq_83"):
            branch, end, _ = name[6:-1].split(",")
            e = ends.index[(ends["branch"] == branch) & (ends["end"] == end)][0]
            assert plane_a[e] == pytest.approx(ends["i_max_a"][e], abs=1e-6)


def test_one_rated_end_of_the_small_feeder() -> None:
    program = linear_program(small_market())
    assert sum(name.startswith("eq_83[S-A,from,") for name in program.row_names) == 32
    assert not any(name.startswith("eq_83[A-B") for name in program.row_names)
