"""Sets from data: what bands hold, whose covariance, what a budget promises at worst."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
from feeders import bands, small_network
from scipy.stats import binom
from sets import faults_of

from flexlib import Box, Budget, Ellipsoid
from flexlib.calibration import bands_of, budget_risk, covariance_of, persistence_errors_kw

network = cache(small_network)
FRAME = "frame errors_kw"


def errors(cases: int, seed: int = 0, **scale: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({load: size * rng.laplace(size=cases) for load, size in scale.items()})


# --------------------------------------------------------------------------------------------
# Forecasts


@pytest.mark.parametrize("lag_h", [1, 24])
def test_persistence_repeats_what_was(lag_h: int) -> None:
    rng, hours = np.random.default_rng(1), pd.date_range("2016-01-01", periods=60, freq="h")
    p_kw = pd.DataFrame(rng.normal(size=(60, 2)), hours, ["one", "two"])
    found = persistence_errors_kw(p_kw, lag_h)
    assert found.index.tolist() == hours[lag_h:].tolist()
    for row, hour in enumerate(range(lag_h, 60)):
        np.testing.assert_allclose(found.iloc[row], p_kw.iloc[hour] - p_kw.iloc[hour - lag_h])


def test_a_forecast_that_looks_back_too_far() -> None:
    p_kw = pd.DataFrame({"one": np.arange(24.0)})
    assert faults_of(lambda: persistence_errors_kw(p_kw, 24)) == [
        "frame p_kw: found 24 hours, "
        "expected more than the 24 hours by which the forecast looks back"
    ]
    assert len(persistence_errors_kw(p_kw, 23)) == 1


# --------------------------------------------------------------------------------------------
# Bands


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("cases", [200, 201, 333])
def test_bands_hold_the_share_and_hardly_more(cases: int, coverage: float) -> None:
    errors_kw = errors(cases, one=30, sun=8, two=60) * [1, -1, 1]
    table = bands_of(network(), errors_kw, coverage)
    assert table["load"].tolist() == ["one", "sun", "two"]
    width_kw = Box(network(), table).delta_kva.real * [1, -1, 1]
    held = errors_kw.abs() <= width_kw + 1e-9
    assert (held.mean() >= coverage).all()
    assert ((errors_kw.abs() < width_kw - 1e-9).mean() < coverage + 1 / cases).all()


def test_bands_are_the_least_that_hold_the_share() -> None:
    errors_kw = errors(200, one=30)
    width_kw = Box(network(), bands_of(network(), errors_kw, 0.95)).delta_kva.real
    assert (errors_kw.abs() < width_kw - 1e-9).mean()["one"] < 0.95


def test_a_band_is_a_share_of_the_load() -> None:
    errors_kw = pd.DataFrame({"sun": [-60.0] + [10.0] * 99, "one": [600.0] * 100})
    expected = bands(sun=5.0, one=100.0)
    pd.testing.assert_frame_equal(bands_of(network(), errors_kw, 0.9), expected)


def test_bands_without_enough_data() -> None:
    assert len(bands_of(network(), errors(200, one=5), 0.95)) == 1
    assert faults_of(lambda: bands_of(network(), errors(199, one=5), 0.95)) == [
        f"{FRAME}: found 199 cases, expected at least 200, for a coverage of 0.95"
    ]
    assert faults_of(lambda: bands_of(network(), errors(99, one=5), 0.9)) == [
        f"{FRAME}: found 99 cases, expected at least 100, for a coverage of 0.9"
    ]
    broken = errors(30, one=5, nobody=1)
    broken.loc[7, "one"] = np.nan
    assert faults_of(lambda: bands_of(network(), broken, 0.5)) == [
        f"{FRAME}, row 7, column one: found no number, expected a number",
        f"{FRAME}, column nobody: found 'nobody', expected a load of small",
    ]


def test_bands_wider_than_the_load() -> None:
    errors_kw = pd.DataFrame({"sun": [200.5] * 20, "one": [-601.0] * 20, "two": [900.0] * 20})
    assert faults_of(lambda: bands_of(network(), errors_kw, 0.5)) == [
        f"{FRAME}, column sun: found errors up to 200 kW, expected at most the load's own 200 kW",
        f"{FRAME}, column one: found errors up to 601 kW, expected at most the load's own 600 kW",
    ]


@pytest.mark.parametrize(("coverage", "found"), [(0, "0"), (1, "1"), (1.2, "1.2"), (np.nan, "nan")])
def test_coverages_that_are_none(coverage: float, found: str) -> None:
    with pytest.raises(ValueError, match=f"share between 0 and 1, not {found}$"):
        bands_of(network(), errors(500, one=1), coverage)


def test_a_load_without_power_and_without_errors_has_no_band() -> None:
    grid = small_network(loads={"p_kw": [600.0, 900, 0], "q_kvar": [200.0, 300, 0]})
    table = bands_of(grid, pd.DataFrame({"one": [1.0] * 40, "sun": [0.0] * 40}), 0.5)
    assert Box(grid, table).delta_kva[1] == 0


# --------------------------------------------------------------------------------------------
# Covariance


def test_the_covariance_is_taken_around_the_baseline() -> None:
    errors_kw = errors(40, one=3, two=10).add([2.0, -5.0])
    found = covariance_of(errors_kw)
    x, y = errors_kw["one"], errors_kw["two"]
    expected = [[(x * x).mean(), (x * y).mean()], [(x * y).mean(), (y * y).mean()]]
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected, ["one", "two"], ["one", "two"]))
    assert Ellipsoid(network(), found, 1.0).delta_kva.real[0] == pytest.approx(
        np.sqrt((x * x).mean())
    )


def test_a_covariance_without_enough_data() -> None:
    assert covariance_of(errors(20, one=1, two=2)).shape == (2, 2)
    assert faults_of(lambda: covariance_of(errors(19, one=1, two=2))) == [
        f"{FRAME}: found 19 cases, expected at least 20, ten for each load"
    ]
    broken = errors(20, one=1)
    broken.loc[3, "one"] = np.inf
    assert faults_of(lambda: covariance_of(broken)) == [
        f"{FRAME}, row 3, column one: found no number, expected a number"
    ]


# --------------------------------------------------------------------------------------------
# Budget


def binomial_bound(gamma: float, count: int) -> float:
    """Theorem 3: between two tails of the number of loads that go up."""
    middle = (gamma + count) / 2
    part = middle % 1
    below, above = (binom.sf(np.floor(middle) - 1 + k, count, 0.5) for k in (0, 1))
    return float((1 - part) * below + part * above)


@pytest.mark.parametrize("count", [1, 2, 5, 12, 99, 300])
def test_the_risk_of_a_budget_is_the_theorem(count: int) -> None:
    gammas = np.linspace(0, count, 41)
    found = [budget_risk(gamma, count) for gamma in gammas]
    np.testing.assert_allclose(found, [binomial_bound(g, count) for g in gammas], rtol=1e-9)
    assert (np.diff(found) <= 0).all()
    assert found[0] >= 0.5
    assert found[-1] == pytest.approx(0.5**count)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 12])
def test_no_limit_over_a_budget_fails_more_often(count: int) -> None:
    grid = small_network(
        loads={"load": [f"l{k}" for k in range(count)], "bus": ["A"] * count}
        | {"p_kw": [10.0] * count, "q_kvar": [0.0] * count}
    )
    table, rng = bands(**{f"l{k}": 10.0 for k in range(count)}), np.random.default_rng(count)
    signs = np.array(list(product((1, -1), repeat=count)))
    sure = [np.ones(count), *rng.choice([0.2, 1.0], (6, count)), *rng.random((6, count))]
    closest = 1.0
    for gamma in {0, 0.5, 1, 1.5, count / 2, count - 0.5, count}:
        if 0 <= gamma <= count:
            most = Budget(grid, table, gamma).support(np.array(sure))
            fails = (signs @ np.array(sure).T > most + 1e-9).mean(axis=0)
            assert fails.max() <= budget_risk(gamma, count) + 1e-12
    for gamma in range(count % 2, count + 1, 2):  # equal swings: at the budget or beyond it
        closest = (signs.sum(axis=1) >= gamma).mean()
        assert closest == pytest.approx(budget_risk(gamma, count))


@pytest.mark.parametrize(
    ("gamma", "found"), [(-0.1, "-0.1"), (3.1, "3.1"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_budgets_that_are_none(gamma: float, found: str) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 3, not at {found}$"):
        budget_risk(gamma, 3)


def test_the_risk_of_a_budget_over_many_loads() -> None:
    assert budget_risk(60.3, 2000) == pytest.approx(binomial_bound(60.3, 2000))
