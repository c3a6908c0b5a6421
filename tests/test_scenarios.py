"""Scenarios: the support is the conditional value at risk by its definition; markets over it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from feeders import STABLE, small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sets import at_points, averages, by_cones, errors_of, faults_of, feeder, per_xi, price_of

from flexlib import Planes, Scenarios, clear

NAMES = ["sun", "one", "two"]
network = cache(small_network)


def scenarios(errors_kw: object, risk: float, radius: float = 0.0) -> Scenarios:
    frame = pd.DataFrame(errors_kw)
    return Scenarios(network(), frame.set_axis(NAMES[: frame.shape[1]], axis=1), risk, radius)


def tail_average(value: np.ndarray, risk: float) -> float:
    """Least over t of ``t + mean(max(value - t, 0)) / risk``, Rockafellar and Uryasev (2000)."""
    count = len(value)
    found = linprog(
        np.append(1.0, np.full(count, 1 / (risk * count))),
        np.column_stack([-np.ones(count), -np.eye(count)]),
        -value,
        bounds=[(None, None), *[(0, None)] * count],
    )
    return float(found.fun)


@settings(STABLE, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.floats(0.0, 1), st.sampled_from([0, 0.4]))
def test_support_is_the_conditional_value_at_risk(
    seed: int, cases: int, share: float, radius: float
) -> None:
    rng = np.random.default_rng(seed)
    risk = max(share, 1.001 / cases)
    errors_kw = np.round(rng.gamma(1, 20, (cases, 3)) - 15, seed % 2)  # ties come up
    errors_kw[:, seed % 3] *= seed % 5 > 0
    one, per_kw = scenarios(errors_kw, risk, radius), rng.normal(size=(4, 3))
    columns = per_kw * np.abs(one.delta_kva.real)
    added = radius / risk * np.linalg.norm(columns, axis=1)
    expected = [tail_average(errors_kw @ row, risk) for row in per_kw] + added
    np.testing.assert_allclose(one.support(columns), expected, atol=1e-7)
    # A limit that holds over the set fails in at most that share of the cases.
    beyond = errors_kw @ per_kw.T > one.support(columns) + 1e-9
    assert (beyond.mean(axis=0) <= risk).all()


def test_a_fraction_of_a_case_by_hand() -> None:
    one = scenarios({"a": [10.0, -20, 40, 0, 30]}, risk=0.5)  # 2.5 cases of 5
    unit = np.array([40.0])
    assert one.support(unit) == pytest.approx((40 + 30 + 0.5 * 10) / 2.5)
    assert one.support(-unit) == pytest.approx((20 + 0 + 0.5 * -10) / 2.5)
    assert one.reach[0] == pytest.approx(30 / 40)
    turned = scenarios({"a": [-10.0, 20, -40, 0, -30]}, risk=0.5)
    assert turned.reach[0] == pytest.approx(30 / 40)
    np.testing.assert_allclose(one.worst(unit), [0.75])
    assert one.vertices() is None


def test_a_risk_of_one_is_the_mean_and_of_one_case_the_worst() -> None:
    errors_kw = np.random.default_rng(0).gamma(1, 10, (40, 3))
    columns = np.random.default_rng(1).normal(size=(9, 3))
    value = columns / errors_kw.max(axis=0) @ errors_kw.T
    np.testing.assert_allclose(scenarios(errors_kw, 1.0).support(columns), value.mean(axis=1))
    np.testing.assert_allclose(scenarios(errors_kw, 1 / 40).support(columns), value.max(axis=1))


def test_the_radius_is_what_the_worst_distribution_nearby_adds() -> None:
    rng, radius, risk = np.random.default_rng(3), 0.3, 0.25
    one = scenarios(rng.normal(0, 20, (20, 2)), risk, radius)
    for columns in rng.normal(size=(5, 2)):
        most, outward = one.support(columns), columns / np.linalg.norm(columns)
        worst = np.argsort(one.xi @ columns)[-5:]
        moved = one.xi.copy()
        moved[worst] += radius / risk * outward  # 5 of 20 cases, by four times the radius
        assert tail_average(moved @ columns, risk) == pytest.approx(most)
        for _ in range(20):
            step = rng.normal(size=moved.shape)
            step *= radius / np.linalg.norm(step, axis=1).mean()
            assert tail_average((one.xi + step) @ columns, risk) <= most + 1e-9


def test_a_case_gives_its_powers_back() -> None:
    errors_kw = np.array([[10.0, -30, 0], [-40, 15, 0]])
    one = scenarios(errors_kw, 0.5)
    s_kva = one.loads_kva(one.xi) - one.network.s_load_kva
    np.testing.assert_allclose(s_kva[:, [2, 0, 1]], errors_kw * [1, 1 + 1j / 3, 1 + 1j / 3])
    assert np.abs(one.xi).max(axis=0).tolist() == [1, 1, 0]


# --------------------------------------------------------------------------------------------
# The market


@pytest.mark.parametrize("band", ["baseline", "remainder"])
@pytest.mark.parametrize("seed", [12, 18, 30])
def test_circles_hold_at_every_average_of_the_worst_cases(seed: int, band: str) -> None:
    plain = feeder(seed)
    cases = Scenarios(plain.network, errors_of(plain, 6), 1 / 3)
    market = replace(plain, uncertainty=cases, band=band)
    expected = by_cones(market, averages(cases.xi, 2))
    assert clear(market).cost_eur_per_h == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert expected > 1e-3


def test_the_tail_average_of_every_plane_is_below_its_limit() -> None:
    plain, risk, radius = feeder(18), 0.3, 0.02
    cases = Scenarios(plain.network, errors_of(plain, 15), risk, radius)
    market = replace(plain, uncertainty=cases, norm=Planes(16))
    x, count = cp.Variable(2 * len(market.offers), nonneg=True), len(market.offers)
    net_kw, within = x[:count] - x[count:], [x <= market.volume_kw.ravel()]
    limit, z, per_kw = at_points(market, cases.xi)
    ends = len(limit) // len(cases.xi)
    each = per_xi(market)
    for normal in np.exp(1j * np.pi * (2 * np.arange(16) + 1) / 16):
        for e in range(ends):
            t, here = cp.Variable(), slice(e, None, ends)
            value = np.real(np.conj(normal) * z[here])
            value = value + np.real(np.conj(normal) * per_kw[here]) @ net_kw
            average = t + cp.sum(cp.pos(value - t)) / (risk * len(cases.xi))
            ball = radius / risk * np.linalg.norm(np.real(np.conj(normal) * each[e]))
            within.append(average + ball <= limit[e] * np.cos(np.pi / 16))
    problem = cp.Problem(cp.Minimize(price_of(market) @ x), within)
    expected = problem.solve(solver="CLARABEL")
    assert clear(market).cost_eur_per_h == pytest.approx(expected, rel=1e-6)
    assert expected > 1e-3


# --------------------------------------------------------------------------------------------
# At the door


def test_cases_at_the_door() -> None:
    frame = "frame errors_kw"
    few = faults_of(lambda: scenarios({"a": [1.0, 2, 3]}, 0.25))
    assert few == [f"{frame}: found 3 cases, expected at least 4 for a risk of 0.25"]
    assert scenarios({"a": [1.0, 2, 3, 4]}, 0.25).xi.shape == (4, 1)
    for risk, found in ((0, "0"), (1.1, "1.1"), (-1, "-1"), (np.nan, "nan")):
        expected = f"scenarios, column risk: found {found}, expected above 0, up to 1"
        assert faults_of(lambda risk=risk: scenarios({"a": [1.0]}, risk)) == [expected]
    for radius, found in ((-0.1, "-0.1"), (np.nan, "nan")):
        expected = f"scenarios, column radius: found {found}, expected at least 0"
        assert faults_of(lambda r=radius: scenarios({"a": [1.0]}, 1, r)) == [expected]
    errors_kw = pd.DataFrame({"one": [1.0, np.nan], "nobody": [np.inf, 2.0]})
    assert faults_of(lambda: Scenarios(network(), errors_kw, 0.5, -1)) == [
        f"{frame}, row 1, column load: found 'nobody', expected a load of small",
        f"{frame}, row 0, column nobody: found no number, expected a number",
        f"{frame}, row 1, column one: found no number, expected a number",
        "scenarios, column radius: found -1, expected at least 0",
    ]
    grid = small_network(loads={"p_kw": [0.0, 900, 0], "q_kvar": [50.0, 300, 0]})
    assert faults_of(lambda: Scenarios(grid, pd.DataFrame({"one": [1.0]}), 1)) == [
        f"{frame}, row 0, column load: found 'one' with p_kw = 0 and q_kvar = 50, "
        "expected a load with active power, whose power factor its deviation follows"
    ]


def test_the_cases_that_are_needed_are_enough() -> None:
    (fault,) = faults_of(lambda: scenarios({"a": [1.0, 2, 3]}, 0.3))
    assert "at least 4 for a risk of 0.3" in fault
    scenarios({"a": np.ones(49)}, 1 / 49)


def test_a_load_comes_once() -> None:
    twice = pd.DataFrame([[1.0, 2], [3, 4]], columns=["one", "one"])
    assert len(faults_of(lambda: Scenarios(network(), twice, 0.5))) == 1


def test_names_that_are_no_text_are_unknown_loads() -> None:
    assert len(faults_of(lambda: Scenarios(network(), pd.DataFrame({0: [1.0]}), 1))) == 1
