"""The certificate of an activation: every line fails when its thing is wrong."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from feeders import (
    STABLE,
    Dense,
    Worst,
    bands,
    market_12,
    markets,
    offers_up,
    random_network,
    small_market,
    small_network,
)
from hypothesis import given, settings
from test_robust import market_with_a_choice

from flexlib import Box, Clearing, Market, clear, power_flow, robust_certificate
from flexlib.certificate import CertificateError, Check
from flexlib.robust_certificate import (
    AcWorstCase,
    State,
    ac_checks,
    ac_worst_case,
    model_checks,
    residuals,
    state_of_activation,
)
from flexlib.robust_limits import lambda_beta


@pytest.fixture(scope="module")
def cleared() -> Clearing:
    return clear(market_12(5, 15))


def failed(market: Market, state: State) -> set[str]:
    checks = model_checks(market, state, lambda_beta(market).error)
    return {check.name for check in checks if not check.ok}


EQUATION_59, EQUATION_62 = "equation (59)", "equation (62)"
EQUATION_63, EQUATION_64 = "equation (63)", "equation (64)"
OFFERS = "activation within the offers"
PLANES = "planes (83), all corners of the box"
CIRCLE = "current magnitude, all corners of the box"
LOW, HIGH = "lower voltage limit over the box", "upper voltage limit over the box"
AC_CURRENT, AC_VOLTAGE = "AC current limit, all corners", "AC voltage limit, all corners"


def test_the_optimum_has_a_certificate_that_holds(cleared: Clearing) -> None:
    cleared.certificate.assert_ok()
    names = [check.name for check in cleared.certificate.checks]
    assert names == [
        EQUATION_59, EQUATION_62, EQUATION_63, EQUATION_64, OFFERS, PLANES, CIRCLE, LOW, HIGH,
        "cost (75) of the activation", "gap between cost and its lower bound", AC_CURRENT,
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
    return Clearing(result.market, result.solution, state)


@pytest.mark.parametrize("share", [0.0, 0.99])
def test_less_activation_breaks_the_planes(cleared: Clearing, share: float) -> None:
    less = with_activation(cleared, share * cleared.state.up_kw)
    assert failed(less.market, less.state) >= {PLANES}
    with pytest.raises(CertificateError, match=r"planes \(83\), all corners of the box: [\d.]+ A"):
        less.certificate.assert_ok()


def test_no_activation_breaks_circle_and_ac_too(cleared: Clearing) -> None:
    none = with_activation(cleared, 0 * cleared.state.up_kw)
    bad = {check.name for check in none.certificate.checks if not check.ok}
    assert {PLANES, CIRCLE, AC_CURRENT} <= bad
    excess = Dense(none.market.network)
    s_kva = none.market.network.s_load_kva + none.market.box.half_width_kva
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
    reach = np.abs(worst.affine.v[0][:, None] + worst.affine.v[2] @ worst.xi)[worst.free]
    extreme = reach.min() if column == "v_min_pu" else reach.max()
    inward = 1 if column == "v_min_pu" else -1
    error = lambda_beta(plain).error
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
        market = replace(plain, network=replace(plain.network, buses=buses), box=plain.box)
        checks = {check.name: check for check in model_checks(market, idle, 0.0)}
        assert checks[LOW].ok is not expected


def test_a_gap_is_seen(cleared: Clearing) -> None:
    solution = replace(cleared.solution, bound=cleared.solution.objective - 0.01)
    broken = Clearing(cleared.market, solution, cleared.state)
    with pytest.raises(CertificateError, match="gap between cost and its lower bound"):
        broken.certificate.assert_ok()
    solution = replace(cleared.solution, bound=np.nan)
    with pytest.raises(CertificateError, match="gap between cost and its lower bound"):
        Clearing(cleared.market, solution, cleared.state).certificate.assert_ok()


def test_a_cost_that_is_not_the_activations_is_seen(cleared: Clearing) -> None:
    wrong = replace(cleared.solution, objective=1.0, bound=1.0)
    certificate = Clearing(cleared.market, wrong, cleared.state).certificate
    assert not certificate.ok


@settings(STABLE, max_examples=15)
@given(markets(uncertain=6))
def test_residuals_of_a_state_of_the_model_vanish(market: Market) -> None:
    offers = market.offers
    state = state_of_activation(
        market, 0.5 * offers["up_max_kw"].to_numpy(), 0.25 * offers["down_max_kw"].to_numpy()
    )
    assert max(residuals(market, state).values()) < 1e-6
    assert set(residuals(market, state)) == {"59", "62", "63", "64"}


# --------------------------------------------------------------------------------------------
# The AC worst case


def no_case(**changes: float) -> AcWorstCase:
    one = np.ones(1)
    return replace(AcWorstCase(-1.0, -1.0, one, one, one, 0.0, 1, True), **changes)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("i_excess_a", 0.01),
        ("i_excess_a", np.nan),
        ("v_excess_pu", 1e-4),
        ("v_excess_pu", np.nan),
        ("mismatch_kva", 0.1),
        ("mismatch_kva", np.nan),
    ],
)
def test_ac_checks_fail(field: str, bad: float) -> None:
    assert all(check.ok for check in ac_checks(no_case()))
    broken: list[Check] = [c for c in ac_checks(no_case(**{field: bad})) if not c.ok]
    assert len(broken) == 1


def test_limits_by_ac_are_evidence_and_not_proof() -> None:
    assert [check.basis for check in ac_checks(no_case())] == ["evidence", "evidence", "exact"]
    assert "by ascent" in ac_checks(no_case(enumerated=False))[0].name  # type: ignore[arg-type]


def enumerated_by_hand(market: Market, net_kw: np.ndarray) -> tuple[float, float, np.ndarray]:
    worst, dense = Worst(market), Dense(market.network)
    activated = market.activated_kva(net_kw, 0 * net_kw)
    i_worst, v_excess = np.zeros(len(dense.at)), -np.inf
    buses, free = market.network.buses, dense.free
    for xi in worst.xi.T:
        s_kva = market.network.s_load_kva + activated
        s_kva[market.box.load] += xi * market.box.half_width_kva
        v = dense.ac(s_kva)
        i_worst = np.maximum(i_worst, np.abs(dense.y_end @ v))
        v_pu = np.abs(v / dense.u)
        over = np.maximum(v_pu - buses["v_max_pu"], buses["v_min_pu"] - v_pu)
        v_excess = max(v_excess, over.to_numpy()[free].max())
    i_max = market.network.branches[["i_max_from_a", "i_max_to_a"]].fillna(np.inf).to_numpy()
    return float((i_worst - i_max.T.ravel()).max()), v_excess, i_worst


def test_the_ac_worst_case_is_the_enumerated_one() -> None:
    for market in (market_12(5, 15), small_market()):
        net_kw = 0.3 * market.offers["up_max_kw"].to_numpy()
        found = ac_worst_case(market, net_kw, 0 * net_kw)
        i_excess_a, v_excess_pu, i_worst_a = enumerated_by_hand(market, net_kw)
        assert found.enumerated
        assert found.cases == 2 ** len(market.box.load)
        assert found.i_excess_a == pytest.approx(i_excess_a, abs=1e-6)
        assert found.v_excess_pu == pytest.approx(v_excess_pu, abs=1e-9)
        np.testing.assert_allclose(found.i_worst_a, i_worst_a, atol=1e-6)


def wide_market(seed: int, count: int = 11) -> Market:
    network = random_network(seed, 14, seed % 2, seed % 3)
    loads = pd.concat([network.loads] * 5, ignore_index=True).head(count)
    loads = loads.assign(load=[f"load {k}" for k in range(count)])
    rng = np.random.default_rng(seed)
    loads["bus"] = rng.choice(network.buses["bus"].to_numpy(), count)
    loads["q_kvar"] = loads["p_kw"] * rng.uniform(-0.5, 0.6, count)
    branches = network.branches.assign(i_max_from_a=rng.uniform(5, 60, len(network.branches)))
    network = replace(network, loads=loads, branches=branches)
    percent = pd.DataFrame({"load": loads["load"], "band_pct": rng.uniform(5, 40, count)})
    return Market(network, offers_up(**{"load 0": 10.0}), Box(network, percent))


@pytest.mark.parametrize("seed", range(8))
def test_ascent_finds_what_enumeration_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    market, still = wide_market(seed), np.zeros(1)
    all_corners = ac_worst_case(market, still, still)
    monkeypatch.setattr(robust_certificate, "_MAX_CORNERS", 1)
    ascent = ac_worst_case(market, still, still)
    assert all_corners.enumerated
    assert not ascent.enumerated
    assert ascent.cases < all_corners.cases
    assert ascent.i_excess_a == pytest.approx(all_corners.i_excess_a, abs=1e-6)
    assert ascent.v_excess_pu == pytest.approx(all_corners.v_excess_pu, abs=1e-8)
    again = ac_worst_case(market, still, still)
    np.testing.assert_array_equal(again.i_worst_a, ascent.i_worst_a)


def test_more_loads_than_can_be_enumerated() -> None:
    market = wide_market(3, count=20)
    found = ac_worst_case(market, np.zeros(1), np.zeros(1))
    assert not found.enumerated
    assert set(np.unique(found.xi_current)) <= {-1.0, 1.0}
    at_it = ac_worst_case(
        Market(market.network, market.offers, market.box), np.zeros(1), np.zeros(1), seed=99
    )
    assert found.i_excess_a == pytest.approx(at_it.i_excess_a, abs=1e-3)
    random = market.box.loads_kva(np.sign(market.box.sample(300, 5)))
    i_a = np.abs(power_flow(market.network, random).i_a)
    i_max_a = market.flow.admittance.ends["i_max_a"].to_numpy()
    assert (i_a - i_max_a).max() <= found.i_excess_a + 1e-9


def test_ac_over_the_limit_is_seen_though_the_linear_model_holds() -> None:
    # Many planes and an optimum: AC differs from the linear model after the activation.
    result = clear(market_12(10, 30, planes=1024))
    bad = {check.name for check in result.certificate.checks if not check.ok}
    assert bad == {AC_CURRENT}
    with pytest.raises(CertificateError, match=r"AC current limit, all corners: 0\.0\d+ A"):
        result.certificate.assert_ok()


def test_a_limit_of_voltage_by_ac() -> None:
    network = small_network(buses={"v_min_pu": [0.9, 0.9, 0.985]})
    market = small_market(network=network, bands=bands(one=10, two=10))
    worst = ac_worst_case(market, np.zeros(2), np.zeros(2))
    assert worst.v_excess_pu > 1e-4
    assert worst.xi_voltage.tolist() == [1, 1]
    assert [c.name for c in ac_checks(worst) if not c.ok] == [AC_VOLTAGE]
