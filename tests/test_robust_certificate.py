"""The certificate of an activation: every line fails when its thing is wrong."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from feeders import (
    STABLE,
    Dense,
    Worst,
    market_12,
    markets,
    small_market,
)
from hypothesis import given, settings
from test_robust import market_with_a_choice

from flexlib import Clearing, Market, clear
from flexlib.certificate import CertificateError
from flexlib.robust_arrays import Optimum
from flexlib.robust_certificate import (
    State,
    model_checks,
    residuals,
    state_of_activation,
)
from flexlib.robust_limits import reach


@pytest.fixture(scope="module")
def cleared() -> Clearing:
    return clear(market_12(5, 15))


def saying(market: Market, state: State, optimum: Optimum | None = None) -> Clearing:
    """A clearing that says that this is its state."""
    clearing = Clearing(market, optimum)
    clearing.__dict__["state"] = state
    return clearing


def failed(market: Market, state: State) -> set[str]:
    checks = model_checks(market, state, reach(market).voltage_norm.error)
    both = (*saying(market, state).offer_checks, *checks)
    return {check.name for check in both if not check.ok}


EQUATION_59, EQUATION_62 = "equation (59)", "equation (62)"
EQUATION_63, EQUATION_64 = "equation (63)", "equation (64)"
OFFERS = "activation within the offers"
PLANES, CIRCLE = "planes (83) over the set", "current magnitude over the set"
LOW, HIGH = "lower voltage limit over the set", "upper voltage limit over the set"
COST = "cost (75) of the activation"
AC_CURRENT, AC_VOLTAGE = "AC current limit, all corners", "AC voltage limit, all corners"


def test_the_optimum_has_a_certificate_that_holds(cleared: Clearing) -> None:
    cleared.certificate.assert_ok()
    names = [check.name for check in cleared.certificate.checks]
    assert names == [
        OFFERS, EQUATION_59, EQUATION_62, EQUATION_63, EQUATION_64, PLANES, CIRCLE, LOW, HIGH,
        COST, "gap between cost and its lower bound", AC_CURRENT,
        AC_VOLTAGE, "AC power balance of every bus",
    ]  # fmt: skip


@pytest.mark.parametrize("factor", [1.01, 0.99, 1 + 1e-5])
@pytest.mark.parametrize(
    ("name", "equations"),
    [
        ("up_kw", {EQUATION_59}),
        ("i_load_a", {EQUATION_59, EQUATION_62}),
        ("i_bus_a", {EQUATION_62, EQUATION_64}),
        ("v_pu", {EQUATION_63}),
        ("i_end_a", {EQUATION_63, EQUATION_64}),
    ],
)
def test_a_field_off_by_a_little(
    cleared: Clearing, name: str, equations: set[str], factor: float
) -> None:
    state = cleared.state
    value = getattr(state, name).copy()
    at_slack = name == "i_bus_a" and np.arange(len(value)) == cleared.market.network.slack
    value[np.argmax(np.where(at_slack, 0, np.abs(value)))] *= factor
    assert equations <= failed(cleared.market, replace(state, **{name: value}))


@pytest.mark.parametrize("name", [field.name for field in fields(State)])
@pytest.mark.parametrize("bad", [np.nan, 0.1])
def test_every_entry_of_every_field_is_watched(cleared: Clearing, name: str, bad: float) -> None:
    state = cleared.state
    for k in range(len(getattr(state, name))):
        value = getattr(state, name).copy()
        value[k] += bad
        assert failed(cleared.market, replace(state, **{name: value})), (name, k)


def test_phase_is_watched_and_not_the_magnitude_alone(cleared: Clearing) -> None:
    state = cleared.state
    for name in ("i_load_a", "i_bus_a", "v_pu", "i_end_a"):
        for change in (np.conj, lambda z: z * np.exp(1e-3j), np.negative):
            tampered = replace(state, **{name: change(getattr(state, name))})
            assert failed(cleared.market, tampered), name


def test_not_a_number_passes_no_check(cleared: Clearing) -> None:
    state, market = cleared.state, cleared.market
    nowhere = replace(state, i_end_a=state.i_end_a * np.nan)
    assert {EQUATION_63, EQUATION_64, PLANES, CIRCLE} <= failed(market, nowhere)
    nowhere = replace(state, v_pu=state.v_pu * np.nan)
    assert {EQUATION_63, LOW, HIGH} <= failed(market, nowhere)
    nowhere = replace(state, up_kw=state.up_kw * np.nan)
    assert {EQUATION_59, OFFERS} <= failed(market, nowhere)


def with_activation(result: Clearing, up_kw: np.ndarray) -> Clearing:
    state = state_of_activation(result.market, up_kw, 0 * up_kw)
    return saying(result.market, state, result.optimum)


@pytest.mark.parametrize("share", [0.0, 0.99])
def test_less_activation_breaks_the_planes(cleared: Clearing, share: float) -> None:
    less = with_activation(cleared, share * cleared.state.up_kw)
    assert failed(less.market, less.state) >= {PLANES}
    with pytest.raises(CertificateError, match=r"planes \(83\) over the set: [\d.]+ A"):
        less.certificate.assert_ok()


def test_no_activation_breaks_circle_and_ac_too(cleared: Clearing) -> None:
    none = with_activation(cleared, 0 * cleared.state.up_kw)
    bad = {check.name for check in none.certificate.checks if not check.ok}
    assert {PLANES, CIRCLE, AC_CURRENT} <= bad
    excess = Dense(none.market.network)
    s_kva = none.market.network.s_load_kva + none.market.uncertainty.delta_kva
    i_a = np.abs(excess.y_end @ excess.ac(s_kva))[1]
    assert none.ac.i_excess_a == pytest.approx(i_a - 117, abs=1e-3)


@pytest.mark.parametrize(("way", "kw"), [("up", -1.0), ("up", 151.0), ("down", 1.0)])
def test_activation_outside_the_offers(cleared: Clearing, way: str, kw: float) -> None:
    up_kw, down_kw = np.array([0, 54.4, 0]), np.zeros(3)
    (up_kw if way == "up" else down_kw)[1] = kw
    assert OFFERS in failed(cleared.market, state_of_activation(cleared.market, up_kw, down_kw))


@pytest.mark.parametrize(("column", "name"), [("v_min_pu", LOW), ("v_max_pu", HIGH)])
def test_voltage_limits_over_the_box(column: str, name: str) -> None:
    """The reach of the voltage, enumerated; limits just inside and outside of it."""
    plain = small_market(i_max_a=1000)
    worst = Worst(plain)
    v_pu = np.abs(worst.affine.v[0][:, None] + worst.affine.v[2] @ worst.xi)[worst.free]
    extreme = v_pu.min() if column == "v_min_pu" else v_pu.max()
    inward = 1 if column == "v_min_pu" else -1
    error = reach(plain).voltage_norm.error
    for beyond, expected in ((-1e-5, False), (error + 1e-5, True)):
        limit = float(extreme + inward * beyond)
        buses = plain.network.buses.assign(**{column: limit})
        market = small_market(network=replace(plain.network, buses=buses))
        state = state_of_activation(market, np.zeros(2), np.zeros(2))
        assert (name in failed(market, state)) is expected


def test_the_lowest_voltage_can_lie_between_two_corners() -> None:
    plain = market_with_a_choice((50.0, 50.0))
    idle = state_of_activation(plain, np.array([120.0, 0.0]), np.zeros(2))
    worst = Worst(plain)
    inner = np.random.default_rng(0).uniform(-1, 1, (3, 200_000))
    at_b = idle.v_pu[2] + worst.affine.v[2][2] @ inner
    corner = np.abs(idle.v_pu[2] + worst.affine.v[2][2] @ worst.xi).min()
    assert np.abs(at_b).min() < corner - 1e-5
    for limit, expected in ((corner - 5e-6, True), (np.abs(at_b).min() - 2e-4, False)):
        buses = plain.network.buses.assign(v_min_pu=[0.5, 0.5, limit])
        market = replace(
            plain, network=replace(plain.network, buses=buses), uncertainty=plain.uncertainty
        )
        checks = {check.name: check for check in model_checks(market, idle, 0.0)}
        assert checks[LOW].ok is not expected


def test_a_gap_is_seen(cleared: Clearing) -> None:
    solution = replace(cleared.solution, bound=cleared.solution.objective - 0.01)
    broken = Clearing(cleared.market, replace(cleared.optimum, solution=solution))
    with pytest.raises(CertificateError, match="gap between cost and its lower bound"):
        broken.certificate.assert_ok()
    solution = replace(cleared.solution, bound=np.nan)
    with pytest.raises(CertificateError, match="gap between cost and its lower bound"):
        Clearing(
            cleared.market, replace(cleared.optimum, solution=solution)
        ).certificate.assert_ok()


def test_a_cost_that_is_not_the_activations_is_seen(cleared: Clearing) -> None:
    wrong = replace(cleared.solution, objective=1.0, bound=1.0)
    certificate = Clearing(cleared.market, replace(cleared.optimum, solution=wrong)).certificate
    assert {check.name for check in certificate.checks if not check.ok} == {COST}


def test_the_state_is_that_of_the_activation_found(cleared: Clearing) -> None:
    x = cleared.solution.x + 1.0
    other = Clearing(
        cleared.market, replace(cleared.optimum, solution=replace(cleared.solution, x=x))
    )
    expected = state_of_activation(cleared.market, x[:3], x[3:6])
    for field in fields(State):
        np.testing.assert_allclose(getattr(other.state, field.name), getattr(expected, field.name))
    assert {OFFERS, COST} <= {check.name for check in other.certificate.checks if not check.ok}


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6))
def test_residuals_of_a_state_of_the_model_vanish(market: Market) -> None:
    offers = market.offers
    state = state_of_activation(
        market, 0.5 * offers["up_max_kw"].to_numpy(), 0.25 * offers["down_max_kw"].to_numpy()
    )
    assert max(residuals(market, state).values()) < 1e-6
    assert set(residuals(market, state)) == {"59", "62", "63", "64"}
