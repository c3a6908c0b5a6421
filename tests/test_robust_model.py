"""The printed model: its equations evaluated apart from it, and its names."""

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

from flexlib import Budget, Circle, Market, clear, printed_model, robust_model, solve

EQUATIONS = {"59", "60", "61", "62", "63", "64", "82", "83"}


def set_state(model: pyo.ConcreteModel, market: Market, net_kw: np.ndarray) -> None:
    """Write the dense model's state under an activation into the variables."""
    worst, network = Worst(market), market.network
    for o, kw in enumerate(net_kw):
        model.f_up_kw[o].set_value(max(kw, 0.0), skip_validation=True)
        model.f_down_kw[o].set_value(max(-kw, 0.0), skip_validation=True)
    v = worst.affine.v[0] + worst.affine.v[1] @ net_kw
    i = worst.affine.i[0] + worst.affine.i[1] @ net_kw
    s_kva = network.s_load_kva.copy()
    for load, kw in zip(market.offers["load"], net_kw, strict=True):
        k = network.loads["load"].tolist().index(load)
        p, q = network.loads.loc[k, ["p_kw", "q_kvar"]]
        s_kva[k] -= kw * (1 + 1j * (q / p if p else 0))
    base_a = 1000 / np.sqrt(3) / network.buses["v_nom_kv"].to_numpy()
    v_ac = worst.dense.ac(network.s_load_kva) / worst.dense.u
    i_load = np.conj(s_kva / 1000 / v_ac[worst.dense.bus_of])
    i_bus = worst.dense.y_bus @ (v * worst.dense.u) / base_a
    values = (
        (model.v, v),
        (model.i_end, i / base_a[worst.dense.at]),
        (model.i_load, i_load),
        (model.i_bus, i_bus),
    )
    for variable, numbers in values:
        for k, z in enumerate(numbers):
            variable[k, "re"].set_value(z.real, skip_validation=True)
            variable[k, "im"].set_value(z.imag, skip_validation=True)
    for r in model.CHOICES:
        model.holds[r].set_value(0)


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6), st.sampled_from(["baseline", "remainder"]))
def test_every_equation_holds_at_the_dense_models_state(market: Market, band: str) -> None:
    market = replace(market, band=band)
    model, worst = printed_model(market), Worst(market)
    net_kw = 0.4 * market.offers["up_max_kw"].to_numpy()
    set_state(model, market, net_kw)
    for number in ("59", "60", "61", "62", "63", "64"):
        for row in model.component(f"eq_{number}").values():
            assert row.equality
            assert pyo.value(row.body) - pyo.value(row.upper) == pytest.approx(0, abs=1e-8), (
                row.name
            )
    price = market.offers["price_up_eur_per_mwh"].to_numpy()
    assert pyo.value(model.eq_75) == pytest.approx(price @ net_kw / 1000)
    # (83): the slack of every plane is what the worst vertex leaves.
    i = worst.affine.i[0] + worst.affine.i[1] @ net_kw
    i_max_a = market.network.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()
    rated = np.flatnonzero(np.isfinite(i_max_a)).tolist()
    for e in rated:
        left = i_max_a[e] - worst.planes(i[e] + worst.affine.i[2][e] @ worst.left(net_kw)).max(
            axis=0
        )
        for n in range(market.norm.count):
            r = rated.index(e) * market.norm.count + n
            assert model.end[r] == e
            slack_a = model.eq_83[r].uslack() / market.norm.apothem
            assert slack_a == pytest.approx(left[n], abs=1e-6)
    assert len(model.eq_83) == np.isfinite(i_max_a).sum() * market.norm.count


def test_rows_are_named_after_the_equations() -> None:
    model = printed_model(market_with_a_choice((50, 60)))
    names = {row.name for row in model.component_objects(pyo.Constraint)}
    assert {re.match(r"eq_(\d+)", name)[1] for name in names} == EQUATIONS
    assert [o.name for o in model.component_objects(pyo.Objective)] == ["eq_75"]
    for name in ("eq_75", *names):
        (rule,) = [f for f in dir(robust_model) if f.startswith(f"{name}_")][:1]
        number = re.search(r"\d+", name)[0]
        assert f":eq:`robust-{number}`" in getattr(robust_model, rule).__doc__


def test_loads_are_pods_demands_or_generators() -> None:
    market = random_market(11, 12, 1, 1, 3)
    model = printed_model(market)
    pods, demands, generators = (set(s) for s in (model.PODS, model.DEMANDS, model.GENERATORS))
    assert pods == set(market.offer_load) | set(market.uncertainty.load)
    assert demands | generators | pods == set(range(len(market.network.loads)))
    assert all(market.network.loads["p_kw"][k] >= 0 for k in demands)
    assert all(market.network.loads["p_kw"][k] < 0 for k in generators)
    assert not pods & (demands | generators)
    assert not demands & generators


def test_the_linear_model_has_no_binaries() -> None:
    model = printed_model(market_12(5, 15))
    assert not len(model.CHOICES)
    assert not len(model.eq_82_one)
    assert len(model.eq_83) == 32
    assert solve(model).bound == pytest.approx(solve(model).objective)


def test_activations_stay_within_the_offers() -> None:
    market = market_12(10, 30, offers=offers_up(POD2=20, POD4=150, POD7=250))
    model = printed_model(market)
    solve(model)
    assert [v.ub for v in model.f_up_kw.values()] == [20, 150, 250]
    assert [v.ub for v in model.f_down_kw.values()] == [0, 0, 0]
    assert model.f_up_kw[0].value <= 20 + 1e-9
    assert model.f_up_kw[2].value > 1  # POD7 makes up for it


def test_slack_voltage_is_held() -> None:
    plain = small_market()
    buses = plain.network.buses.assign(v_slack_pu=[np.nan, 1.03, np.nan])
    market = small_market(network=replace(plain.network, buses=buses))
    model = printed_model(market)
    solve(model)
    assert model.v[1, "re"].value == 1.03
    assert model.v[1, "im"].value == 0
    assert abs(complex(model.v[0, "re"].value, model.v[0, "im"].value)) < 1.03


def test_the_printed_model_of_a_budget_is_the_array_routes() -> None:
    plain, costs = market_12(10, 30), []
    for gamma in (0.0, 2.5, 7.0):
        budget = Budget(plain.network, plain.uncertainty.bands, gamma)
        market = replace(plain, uncertainty=budget)
        costs.append(solve(printed_model(market)).objective)
        assert costs[-1] == pytest.approx(clear(market).cost_eur_per_h, abs=1e-9)
    assert costs[0] == 0 < costs[1] < costs[2]
    assert costs[2] == pytest.approx(clear(plain).cost_eur_per_h, abs=1e-9)


def test_what_is_no_linear_programme_beforehand_is_refused() -> None:
    plain = small_market()
    with pytest.raises(ValueError, match="needs planes, not the exact circle"):
        printed_model(replace(plain, norm=Circle()))
    budget = Budget(plain.network, plain.uncertainty.bands, 1.5)
    with pytest.raises(ValueError, match="band on what remains for a box only"):
        printed_model(replace(plain, uncertainty=budget, band="remainder"))
