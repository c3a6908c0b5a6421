"""Farthest points, cuts and screening up to the optimum, the band on the rest, AC out of sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from feeders import (
    STABLE,
    Dense,
    Worst,
    bands,
    corners_of_set,
    offers_up,
    random_market,
    small_market,
    small_network,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sets import (
    at_points,
    budget_of,
    by_cones,
    by_planes,
    covariance_of,
    faults_of,
    feeder,
    with_set,
)

from flexlib import Box, Circle, Infeasible, Market, Planes, clear, robust, solve
from flexlib.robust_ac import ac_excess
from flexlib.robust_arrays import linear_program, robust_optimum
from flexlib.robust_limits import (
    CURRENT,
    every_limit,
    limits_that_can_bind,
)
from flexlib.robust_rows import cuts, farthest, first_rows, worst_deviations

# --------------------------------------------------------------------------------------------
# The farthest point

part = st.sampled_from([0.0, 1.0, -1.0, 1e-9]) | st.floats(-3, 3)
complexes = st.lists(st.builds(complex, part, part), min_size=4, max_size=4)


@settings(STABLE, max_examples=60)
@given(complexes, st.builds(complex, part, part), st.sampled_from(["box", "budget"]))
def test_the_farthest_corner_is_found_and_no_corner_lies_beyond_the_bound(
    columns: list[complex], centre: complex, kind: str
) -> None:
    one = with_set(feeder(12), kind).uncertainty
    out = np.abs(centre + corners_of_set(one).T @ np.array(columns))
    xi, bound = farthest(one, centre, np.array(columns), 1e-8)
    found = abs(centre + xi @ columns)
    assert found <= out.max() + 1e-12
    assert out.max() <= bound + 1e-12
    assert bound <= found + 1e-8 + 1e-12


@pytest.mark.parametrize("centre", [0j, 0.3 - 0.1j, -5 + 2j, 1j])
@pytest.mark.parametrize("thin", [1.0, 1e-3, 0.0])
def test_the_farthest_point_of_an_ellipse(centre: complex, thin: float) -> None:
    market = with_set(feeder(12), "ellipsoid")
    columns = np.array([0.5 + 2j, 1 - 1j, 0, -1.5 + 0.2j])
    columns = columns.real + 1j * thin * columns.imag
    xi, bound = farthest(market.uncertainty, centre, columns, 1e-7)
    covariance = covariance_of(market).to_numpy()
    scale = columns / np.sqrt(np.diag(covariance))
    shape = 2.0 * np.array([scale.real, scale.imag]) @ sqrtm(covariance).real
    turned, axes, _ = np.linalg.svd(shape)
    at = np.linspace(0, 2 * np.pi, 400_001)
    x, y = turned @ (axes[:2, None] * np.array([np.cos(at), np.sin(at)]))
    most = np.abs(centre + x + 1j * y).max()
    assert most - 1e-7 <= abs(centre + columns @ xi) <= bound <= most + 2e-7


def test_a_circle_around_zero_is_equally_far_everywhere() -> None:
    market = with_set(feeder(12), "ellipsoid")
    # Two columns that turn the first two entries of u into a circle of radius 2 * 3.
    columns = np.linalg.lstsq(market.uncertainty.root.T, np.eye(4)[:, :2] @ [3, 3j])[0]
    xi, bound = farthest(market.uncertainty, 0j, columns, 1e-4)
    assert abs(columns @ xi) == pytest.approx(6, abs=1e-9)
    assert 6 - 1e-9 <= bound <= 6.0001


# --------------------------------------------------------------------------------------------
# Cuts and screening, up to the optimum


@pytest.mark.parametrize("kind", ["box", "budget"])
@pytest.mark.parametrize("seed", [12, 18, 22])
def test_the_circles_hold_at_each_corner_and_the_cuts_are_needed(seed: int, kind: str) -> None:
    market = with_set(feeder(seed), kind)
    points = corners_of_set(market.uncertainty).T
    limit, z, per_kw = at_points(market, points)
    optimum = clear(market).optimum
    first = len(first_rows(market, optimum.limits))
    kept = (np.abs(z + per_kw @ optimum.net_kw) / limit).reshape(len(points), -1).max(axis=0)
    assert kept.max() == pytest.approx(1, abs=1e-8)
    assert len(optimum.rows) > first
    # Without the cuts the optimum breaks a circle, and by no more than 32 sides miss.
    rows = optimum.rows.take(np.arange(first))
    loose = solve(linear_program(market, optimum.limits, rows))
    net_kw = loose.x[: len(market.offers)] - loose.x[len(market.offers) : 2 * len(market.offers)]
    assert loose.objective < optimum.solution.objective - 1e-4
    assert len(cuts(market, optimum.limits, rows, net_kw))
    beyond = np.abs(z + per_kw @ net_kw) / limit
    assert 1 + 1e-6 < beyond.max() <= 1 / np.cos(np.pi / 32) + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_limits_that_are_left_out_do_not_change_the_optimum(seed: int) -> None:
    norm = [Circle(), Planes(8), Planes(8, inscribed=False)][seed % 3]
    market = replace(random_market(seed, 4 + seed, seed % 3, seed % 2, 4), norm=norm)
    every, kept = every_limit(market), limits_that_can_bind(market)
    assert len(kept.kind) < len(every.kind)
    whole, screened = robust_optimum(market, every), clear(market).optimum
    apart = whole.solution.objective - screened.solution.objective
    assert abs(apart) <= 1e-7 * max(1, whole.solution.objective)
    assert not len(cuts(market, every, first_rows(market, every), screened.net_kw))


def test_a_screening_that_leaves_out_too_much_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    market = feeder(18)

    def without_the_first(market: Market) -> object:
        kept = limits_that_can_bind(market)
        names = ("kind", "at", "limit", "base", "per_kw", "per_xi")
        return replace(kept, **{name: getattr(kept, name)[1:] for name in names})

    def broken() -> list[str]:
        checks = clear(market).certificate.checks
        return [check.name for check in checks if check.basis == "exact" and not check.ok]

    assert broken() == []
    monkeypatch.setattr(robust, "limits_that_can_bind", without_the_first)
    assert [name for name in broken() if "current" in name]


def test_a_shortfall_that_only_cuts_can_see_is_not_zero() -> None:
    with pytest.raises(Infeasible) as error:
        clear(with_set(feeder(28), "scenarios"))
    assert "fall short by 0.000 kW" not in str(error.value)


# --------------------------------------------------------------------------------------------
# The band on what remains


def brute_force(market: Market) -> float:
    points = corners_of_set(market.uncertainty).T
    if isinstance(market.norm, Circle):
        return by_cones(market, points)
    return float(by_planes(market, points, market.norm).fun)


@pytest.mark.parametrize("norm", [Planes(64), Circle()])
@pytest.mark.parametrize("kind", ["box", "budget"])
@pytest.mark.parametrize("seed", [2, 12, 18, 26])
def test_the_band_on_the_rest_is_safe_at_each_corner(
    seed: int, kind: str, norm: Planes | Circle
) -> None:
    market = replace(with_set(feeder(seed), kind), norm=norm, band="remainder")
    expected = brute_force(market)
    assert expected > 1e-3
    assert clear(market).cost_eur_per_h == pytest.approx(expected, rel=1e-6)


def test_what_is_activated_changes_which_loads_a_budget_takes() -> None:
    plain = replace(feeder(22), norm=Planes(64), band="remainder")
    market = replace(plain, uncertainty=budget_of(plain, 2.5))
    assert clear(market).cost_eur_per_h == pytest.approx(brute_force(market), rel=1e-6)


def reversed_flow(**offer: float) -> Market:
    """A generator that sends power back through a line of 60 A."""
    network = small_network(
        loads={"p_kw": [100.0, 100.0, -1400.0], "q_kvar": [30.0, 30.0, 0.0]},
        branches={"i_max_from_a": [60.0, np.nan]},
    )
    offers = pd.DataFrame([{"load": "sun", "up_max_kw": 0.0, **offer}])
    offers["price_up_eur_per_mwh"] = offers["price_down_eur_per_mwh"] = 50.0
    return Market(network, offers, Box(network, bands(sun=20, two=10)), Planes(16), "remainder")


def test_a_generator_that_is_turned_down_leaves_less_uncertainty() -> None:
    market = reversed_flow(down_max_kw=1400)
    result, always = clear(market), clear(replace(market, band="baseline"))
    assert result.cost_eur_per_h == pytest.approx(brute_force(market), rel=1e-7)
    assert 50 < result.state.down_kw[0] < 0.9 * always.state.down_kw[0]
    result.certificate.assert_ok()


def test_offers_beyond_the_power_of_the_load_are_refused() -> None:
    assert faults_of(lambda: reversed_flow(down_max_kw=1400.1)) == [
        "frame offers, row 0, column down_max_kw: found 1400.1, "
        "expected at most the load's own -1400 kW, since the band is on the rest"
    ]
    market = small_market(offers=offers_up(one=600, two=900))
    replace(market, band="remainder")
    more = offers_up(two=901, one=601).assign(down_max_kw=5000, price_down_eur_per_mwh=1)
    assert faults_of(lambda: replace(market, offers=more, band="remainder")) == [
        "frame offers, row 0, column up_max_kw: found 901, "
        "expected at most the load's own 900 kW, since the band is on the rest",
        "frame offers, row 1, column up_max_kw: found 601, "
        "expected at most the load's own 600 kW, since the band is on the rest",
    ]
    replace(market, offers=more)  # whatever is activated, the band stays
    certain = Box(market.network, bands(sun=5))
    replace(market, offers=more, band="remainder", uncertainty=certain)
    # Without power there is nothing of which a share could remain.
    idle = small_network(loads={"p_kw": [0.0, 900, -200], "q_kvar": [0.0, 300, 0]})
    box = Box(idle, bands(one=5))
    assert faults_of(lambda: Market(idle, offers_up(one=1), box, band="remainder")) == [
        "frame offers, row 0, column up_max_kw: found 1, "
        "expected at most the load's own 0 kW, since the band is on the rest"
    ]
    assert faults_of(lambda: replace(market, band="rest")) == [
        'market, column band: found \'rest\', expected "baseline" or "remainder"'
    ]


# --------------------------------------------------------------------------------------------
# Worst deviations


def worst_and_bound(market: Market) -> tuple[np.ndarray, np.ndarray]:
    """Largest currents as found by turning towards them, and as bounded; over their limits."""
    limits, net_kw = every_limit(market), (market.volume_kw[0] - market.volume_kw[1]) / 2
    xi = worst_deviations(market, limits, net_kw)
    probe = np.random.default_rng(0).normal(size=(100, len(market.uncertainty.load)))
    assert (xi @ probe.T <= market.uncertainty.support(probe) + 1e-9).all()
    found, z = np.abs(limits.values(market, xi, net_kw)), limits.base + limits.per_kw @ net_kw
    current = np.flatnonzero(limits.kind == CURRENT)
    columns = limits.per_xi * market.remains(net_kw)
    most = [farthest(market.uncertainty, z[q], columns[q], 1e-9)[1] for q in current]
    return found[current] / limits.limit[current], np.array(most) / limits.limit[current]


@pytest.mark.parametrize("kind", ["budget", "ellipsoid", "scenarios"])
@pytest.mark.parametrize("seed", [12, 18, 22])
def test_worst_deviations_reach_the_bound(seed: int, kind: str) -> None:
    found, most = worst_and_bound(replace(with_set(feeder(seed), kind), band="remainder"))
    np.testing.assert_allclose(found, most, rtol=1e-7)


def test_worst_deviations_of_a_skewed_set_reach_the_bound() -> None:
    found, most = worst_and_bound(with_set(feeder(10), "scenarios"))  # 17.7 A of 19.4 A
    np.testing.assert_allclose(found, most, rtol=1e-6)


# --------------------------------------------------------------------------------------------
# AC power flow for deviations that were seen


def test_ac_excess_is_that_of_single_power_flows() -> None:
    plain = random_market(5, 9, 1, 1, 4)
    buses = plain.network.buses.assign(v_min_pu=0.97, v_max_pu=1.01)
    slack = plain.network.slack
    buses.loc[slack, ["v_min_pu", "v_max_pu"]] = [0.5, 0.9]  # the slack bus has no limits
    network = replace(plain.network, buses=buses)
    market = replace(plain, network=network, band="remainder")
    net_kw = 0.4 * (market.volume_kw[0] - market.volume_kw[1])
    loads, rng = network.loads, np.random.default_rng(0)
    seen = loads["load"].to_numpy()[rng.permutation(len(loads))[:3]]
    errors_kw = pd.DataFrame(rng.normal(0, 60, (6, 3)), pd.date_range("2016", periods=6), seen)
    found = ac_excess(market, net_kw, errors_kw)
    assert found.index.equals(errors_kw.index)
    dense, worst = Dense(network), Worst(market)
    limit = network.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()
    factor = 1 + 1j * (loads["q_kvar"] / loads["p_kw"]).to_numpy()
    for hour, error in errors_kw.iterrows():
        p_kw = loads.set_index("load")["p_kw"].copy()
        p_kw[error.index] += error
        for load, kw in zip(market.offers["load"], net_kw, strict=True):
            p_kw[load] -= kw
        v = dense.ac(p_kw.to_numpy() * factor)
        i_excess_a = np.nanmax(np.abs(dense.y_end @ v) - limit)
        v_pu = np.abs(v / dense.u)[worst.free]
        v_excess_pu = max((v_pu - 1.01).max(), (0.97 - v_pu).max())
        assert found.loc[hour, "i_excess_a"] == pytest.approx(i_excess_a, abs=1e-6)
        assert found.loc[hour, "v_excess_pu"] == pytest.approx(v_excess_pu, abs=1e-8)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_deviations_of_loads_that_do_not_exist_are_refused() -> None:
    market = feeder(12)
    errors_kw = pd.DataFrame({"nobody": [1.0]})
    (fault,) = faults_of(lambda: ac_excess(market, np.zeros(len(market.offers)), errors_kw))
    assert "found 'nobody'" in fault
