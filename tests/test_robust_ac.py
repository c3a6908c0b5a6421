"""The AC worst case of an activation: enumerated where it can be, found by ascent beyond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from feeders import (
    Dense,
    Worst,
    bands,
    market_12,
    offers_up,
    random_network,
    small_market,
    small_network,
)

from flexlib import Box, Clearing, Market, clear, power_flow, uncertainty
from flexlib.certificate import CertificateError, Check
from flexlib.robust_ac import AcWorstCase, ac_checks, ac_worst_case

AC_CURRENT, AC_VOLTAGE = "AC current limit, all corners", "AC voltage limit, all corners"


@pytest.fixture(scope="module")
def cleared() -> Clearing:
    return clear(market_12(5, 15))


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
        s_kva[market.uncertainty.load] += xi * market.uncertainty.delta_kva
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
        assert found.cases == 2 ** len(market.uncertainty.load)
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
    monkeypatch.setattr(uncertainty, "_MOST_VERTICES", 1)
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
        Market(market.network, market.offers, market.uncertainty), np.zeros(1), np.zeros(1), seed=99
    )
    assert found.i_excess_a == pytest.approx(at_it.i_excess_a, abs=1e-3)
    random = market.uncertainty.loads_kva(np.sign(market.uncertainty.sample(300, 5)))
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
