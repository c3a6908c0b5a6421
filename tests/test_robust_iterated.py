"""Voltages iterated on the worst case: at rest the linear model agrees with AC at every corner."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from feeders import (
    Dense,
    corners_of_set,
    market_12,
    offers_up,
    random_market,
    small_market,
    small_network,
)
from feeders import bands as bands_of
from sets import feeder, with_set

from flexlib import (
    Box,
    Circle,
    Infeasible,
    Market,
    NotSettled,
    clear,
    clear_iterated,
    robust_iterated,
)
from flexlib.robust_iterated import IteratedClearing
from flexlib.robust_limits import CURRENT, LOWER


@cache
def settled(seed: int, band: str = "baseline") -> IteratedClearing:
    market = random_market(seed, 3 + seed % 8, seed % 3, seed % 2, 4)
    return clear_iterated(replace(market, norm=Circle(), band=band))


def at_corners(market: Market, net_kw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AC currents (A) and voltages (p.u.) at every corner of a box, by the second model."""
    dense, loads = Dense(market.network), market.network.loads
    s0_kva = (loads["p_kw"] + 1j * loads["q_kvar"]).to_numpy()
    where = {load: k for k, load in enumerate(loads["load"])}
    offered = [where[load] for load in market.offers["load"]]
    i_a, v_pu = [], []
    for xi in corners_of_set(market.uncertainty).T:
        part = np.zeros(len(loads))
        part[[where[load] for load in market.uncertainty.bands["load"]]] = (
            xi * market.uncertainty.bands["band_pct"] / 100
        )
        left = np.ones(len(loads))
        left[offered] -= net_kw / s0_kva[offered].real
        kept = left if market.band == "remainder" else np.ones(len(loads))
        v = dense.ac(s0_kva * (left + part * kept))
        i_a.append(np.abs(dense.y_end @ v))
        v_pu.append(np.abs(v / dense.u))
    return np.array(i_a), np.array(v_pu)


def excess(market: Market, net_kw: np.ndarray) -> tuple[float, float]:
    """Largest violation of a current limit (A) and of a voltage limit (p.u.) at any corner."""
    i_a, v_pu = at_corners(market, net_kw)
    i_max_a = market.network.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()
    free = market.network.buses["v_slack_pu"].isna().to_numpy()
    low, high = market.network.buses.loc[free, ["v_min_pu", "v_max_pu"]].to_numpy().T
    beyond_pu = max((v_pu[:, free] - high).max(), (low - v_pu[:, free]).max())
    return float(np.nanmax(i_a - i_max_a)), float(beyond_pu)


@pytest.mark.parametrize("band", ["baseline", "remainder"])
@pytest.mark.parametrize("seed", [3, 4, 7, 9])
def test_every_limit_holds_by_ac_at_every_corner(seed: int, band: str) -> None:
    result = settled(seed, band)
    over_a, over_pu = excess(result.market, result.optimum.net_kw)
    assert over_a < 1e-3
    assert over_pu < 1e-6
    assert max(over_a, 1e3 * over_pu) > -1e-3  # and one is met
    assert result.cost_eur_per_h > 1e-3
    result.certificate.assert_ok()


def test_a_corner_that_is_worse_by_ac_than_that_of_the_linear_model_is_reported() -> None:
    market = replace(random_market(117, 12, 0, 1, 5), norm=Circle())
    result = clear_iterated(market)
    over_a, _ = excess(market, result.optimum.net_kw)  # 0.07 A of 78.6 A
    assert over_a > 0.05
    assert [check.name for check in result.certificate.checks if not check.ok] == [
        "AC current limit, all corners"
    ]
    assert result.ac.i_excess_a == pytest.approx(over_a, abs=1e-6)


@pytest.mark.parametrize("band", ["baseline", "remainder"])
@pytest.mark.parametrize("seed", [3, 4, 7, 9, 11])
def test_at_rest_the_linear_value_of_each_worst_case_is_that_of_ac(seed: int, band: str) -> None:
    result = settled(seed, band)
    market, limits, net_kw = result.market, result.optimum.limits, result.optimum.net_kw
    i_a, v_pu = at_corners(market, net_kw)
    nominal_v = 1000 * market.network.buses["v_nom_kv"].to_numpy()
    assert len(limits.kind)
    for q, (kind, at) in enumerate(zip(limits.kind, limits.at, strict=True)):
        z = limits.base[q] + limits.per_kw[q] @ net_kw
        moved = limits.per_xi[q] * market.remains(net_kw)
        linear = np.abs(z + moved @ corners_of_set(market.uncertainty))
        corner = linear.argmin() if kind == LOWER else linear.argmax()
        ac = i_a[corner, at] if kind == CURRENT else nominal_v[at] * v_pu[corner, at]
        assert linear[corner] == pytest.approx(ac, rel=2e-6)


def test_voltages_of_the_baseline_break_a_current_by_ac_and_iterated_ones_do_not() -> None:
    market = replace(market_12(10, 30), norm=Circle())
    fixed, result = clear(market), clear_iterated(market)
    assert excess(market, fixed.optimum.net_kw)[0] > 0.02
    assert excess(market, result.optimum.net_kw)[0] == pytest.approx(0, abs=1e-4)
    assert not fixed.certificate.ok
    assert result.certificate.ok
    assert result.cost_eur_per_h > fixed.cost_eur_per_h


@pytest.mark.parametrize("kind", ["budget", "ellipsoid", "scenarios"])
def test_other_sets_come_to_rest_within_their_limits(kind: str) -> None:
    market = with_set(feeder(18), kind)
    result = clear_iterated(market)
    xi = market.uncertainty.worst(np.random.default_rng(0).normal(size=(300, 4)))
    dense = Dense(market.network)
    i_max_a = market.network.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()
    for s_kva in market.loads_kva(xi, result.optimum.net_kw):
        assert np.nanmax(np.abs(dense.y_end @ dense.ac(s_kva)) - i_max_a) < 1e-3
    assert result.ac.i_excess_a == pytest.approx(0, abs=1e-4)
    result.certificate.assert_ok()


# --------------------------------------------------------------------------------------------
# Voltage limits by hand


@pytest.mark.parametrize("kind", ["upper", "lower"])
def test_a_voltage_limit_is_met_exactly(kind: str) -> None:
    if kind == "lower":
        network = small_network(buses={"v_min_pu": [0.9, 0.9, 0.987]})
        offers = offers_up(two=900)
    else:
        network = small_network(
            loads={"p_kw": [100.0, 100.0, -3000.0], "q_kvar": [30.0, 30.0, 0.0]},
            buses={"v_max_pu": [1.1, 1.1, 1.03]},
        )
        offers = offers_up(sun=0).assign(down_max_kw=3000, price_down_eur_per_mwh=10)
    box = Box(network, bands_of(one=10, two=10, sun=20))
    result = clear_iterated(Market(network, offers, box, Circle()))
    _, v_pu = at_corners(result.market, result.optimum.net_kw)
    at_b = v_pu[:, 2]
    met = at_b.max() - 1.03 if kind == "upper" else at_b.min() - 0.987
    assert met == pytest.approx(0, abs=1e-7)
    assert result.cost_eur_per_h > 0.1
    result.certificate.assert_ok()


# --------------------------------------------------------------------------------------------
# Rounds, and what goes wrong


def test_rounds_are_recorded_and_come_to_rest() -> None:
    result = settled(9)
    rounds = result.rounds
    assert list(rounds.columns) == ["cost_eur_per_h", "step_kw", "misfit"]
    assert len(rounds) >= 3
    assert rounds["cost_eur_per_h"].iloc[-1] == result.cost_eur_per_h
    assert rounds["cost_eur_per_h"].iloc[0] == pytest.approx(clear(result.market).cost_eur_per_h)
    assert rounds["step_kw"].iloc[0] == pytest.approx(
        np.abs(clear(result.market).optimum.net_kw).max()
    )
    assert (rounds["misfit"].diff()[1:] < 0).all()
    assert rounds["misfit"].iloc[-1] < 1e-6
    assert rounds["step_kw"].iloc[-1] < 1e-3


def test_no_rest_within_the_rounds_says_so_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust_iterated, "_MOST_ROUNDS", 1)
    number = r"\d[\d.e+-]*"
    with pytest.raises(NotSettled) as error:
        clear_iterated(small_market(norm=Circle()))
    pattern = (
        rf"small: the voltages do not settle in 1 rounds; the last steps of the activation were "
        rf"{number} kW, and the linear values differed from AC by {number} of their limits"
    )
    assert pd.Series([str(error.value)]).str.fullmatch(pattern).all()


def test_no_rest_within_the_rounds_carries_them(monkeypatch: pytest.MonkeyPatch) -> None:
    market = small_market(norm=Circle())
    rounds = clear_iterated(market).rounds
    assert len(rounds) >= 3
    monkeypatch.setattr(robust_iterated, "_MOST_ROUNDS", len(rounds) - 1)
    with pytest.raises(NotSettled) as error:
        clear_iterated(market)
    pd.testing.assert_frame_equal(error.value.rounds, rounds.iloc[:-1])
    shown = ", ".join(f"{step:.3g}" for step in error.value.rounds["step_kw"].iloc[-4:])
    assert f"were {shown} kW" in str(error.value)


def test_where_nothing_is_safe_the_limits_in_conflict_are_named() -> None:
    with pytest.raises(Infeasible, match=r"current limit of branch S-A at its from end") as error:
        clear_iterated(small_market(offers=offers_up(one=10), norm=Circle()))
    assert "least addition: " in str(error.value)


def test_a_market_whose_limits_are_far_rests_at_once() -> None:
    result = clear_iterated(small_market(i_max_a=500, norm=Circle()))
    assert result.cost_eur_per_h == 0
    assert not len(result.optimum.limits.kind)
    result.certificate.assert_ok()


def test_the_certificate_sees_an_activation_that_has_not_settled() -> None:
    result = clear_iterated(replace(market_12(10, 30), norm=Circle()))
    early = clear(result.market).optimum
    mixed = replace(result.optimum, solution=early.solution)
    checks = replace(result, optimum=mixed).certificate.checks
    bad = {check.name for check in checks if not check.ok}
    assert "AC current at each limit's worst case" in bad
    assert "rows of the set that are missing" in bad
    misfit = replace(result, rounds=result.rounds.assign(misfit=1e-3)).certificate.checks
    bad = {check.name for check in misfit if not check.ok}
    assert bad == {"linear model against AC at the worst cases"}
