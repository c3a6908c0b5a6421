"""The ellipsoid against its closed form and its surface, sizes against distributions."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from feeders import STABLE, small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import norm
from sets import faults_of

from flexlib import Ellipsoid, Network, omega_any_distribution, omega_gaussian

NAMES = ["sun", "one", "two"]
network = cache(small_network)


def ellipsoid(
    value: np.ndarray | list[list[float]], omega: float = 1.0, **more: object
) -> Ellipsoid:
    names = more.pop("names", NAMES[: len(value)])
    grid: Network = more.pop("network", None) or network()
    return Ellipsoid(grid, pd.DataFrame(value, names, more.pop("columns", names)), omega)


@settings(STABLE, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.sampled_from([0.0, 0.5, 2.0]))
def test_support_is_the_standard_deviation_times_the_size(
    seed: int, rank: int, omega: float
) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, rank)) * rng.choice([0, 0.1, 1, 30], (3, 1))
    covariance = root @ root.T  # of full rank, singular, or with loads that are certain
    one, sigma_kw = ellipsoid(covariance, omega), np.sqrt(np.diag(covariance))
    per_kw = rng.normal(size=(20, 3))
    expected = omega * np.sqrt(np.einsum("ri,ij,rj->r", per_kw, covariance, per_kw))
    np.testing.assert_allclose(one.support(per_kw * sigma_kw), expected, atol=1e-6)
    np.testing.assert_allclose(one.reach, omega * (sigma_kw > 0), atol=1e-7)
    np.testing.assert_allclose(one.delta_kva.real, sigma_kw)
    np.testing.assert_allclose(one.delta_kva.imag, sigma_kw * [0, 1 / 3, 1 / 3])


def test_support_is_the_largest_value_on_the_surface() -> None:
    covariance = np.array([[100.0, 40, -30], [40, 400, 60], [-30, 60, 25]])
    one = ellipsoid(covariance, 1.7)
    u = np.random.default_rng(0).normal(size=(3, 200_000))
    surface_kw = 1.7 * sqrtm(covariance).real @ (u / np.linalg.norm(u, axis=0))
    for per_kw in np.random.default_rng(1).normal(size=(10, 3)):
        most = one.support(per_kw * np.sqrt(np.diag(covariance)))
        assert (per_kw @ surface_kw).max() == pytest.approx(most, rel=1e-3)
        assert (per_kw @ surface_kw).max() <= most


def test_the_worst_point_is_on_the_surface() -> None:
    covariance = np.array([[100.0, 40], [40, 400]])
    one = ellipsoid(covariance, 1.7)
    moved_kw = one.worst(np.random.default_rng(2).normal(size=(50, 2))) * [10, 20]
    size = np.einsum("ri,ij,rj->r", moved_kw, np.linalg.inv(covariance), moved_kw)
    np.testing.assert_allclose(size, 1.7**2)


@pytest.mark.parametrize("sign", [1, -1])
def test_loads_that_always_move_together_or_apart(sign: int) -> None:
    one = ellipsoid([[9.0, 6.0 * sign], [6.0 * sign, 4.0]], 2.0)
    xi = one.worst(np.array([[1.0, 0], [0, 1], [3, 1], [-1, 0.1]]))
    np.testing.assert_allclose(xi[:, 1], sign * xi[:, 0])
    np.testing.assert_allclose(np.abs(xi), 2)
    assert one.support(np.array([1.0, -sign])) == pytest.approx(0, abs=1e-6)
    assert one.support(np.array([1.0, sign])) == pytest.approx(4)
    assert one.vertices() is None


def test_a_load_without_variance_stays() -> None:
    one = ellipsoid([[9.0, 0, 0], [0, 0, 0], [0, 0, 4]], 2.0)
    np.testing.assert_allclose(one.loads_kva(one.worst(np.ones((1, 3))))[0, 0], 600 + 200j)
    assert one.reach.tolist() == pytest.approx([2, 0, 2])
    none = ellipsoid(np.zeros((2, 2)), 2.0)
    np.testing.assert_array_equal(none.loads_kva(np.ones((1, 2)))[0], network().s_load_kva)


def test_samples_fill_the_ellipsoid_evenly() -> None:
    covariance = np.array([[100.0, 40], [40, 400]])
    xi = ellipsoid(covariance, 1.7).sample(20_000, 5) * [10, 20]
    size = np.sqrt(np.einsum("ri,ij,rj->r", xi, np.linalg.inv(covariance), xi)) / 1.7
    assert size.max() <= 1
    for share in (0.3, 0.6, 0.9):  # of the area
        assert (size**2 <= share).mean() == pytest.approx(share, abs=0.01)


# --------------------------------------------------------------------------------------------
# Its size


@pytest.mark.parametrize("risk", [0.001, 0.05, 0.5])
def test_the_size_for_a_gaussian_is_its_quantile(risk: float) -> None:
    assert norm.sf(omega_gaussian(risk)) == pytest.approx(risk)
    assert omega_any_distribution(risk) > omega_gaussian(risk)


@pytest.mark.parametrize("risk", [0.01, 0.05, 0.5])
def test_the_size_for_any_distribution_is_reached_by_one(risk: float) -> None:
    # The least favourable distribution has two values: it is beyond any smaller size.
    omega = omega_any_distribution(risk)
    value, share = np.array([omega, -1 / omega]), np.array([risk, 1 - risk])
    assert share @ value == pytest.approx(0)
    assert share @ value**2 == pytest.approx(1)
    assert omega_any_distribution(0.05) == pytest.approx(np.sqrt(19))


@pytest.mark.parametrize("size", [omega_gaussian, omega_any_distribution])
def test_risks_that_are_none(size: object) -> None:
    for risk, found in ((0, "0"), (-0.1, "-0.1"), (0.51, "0.51"), (1, "1"), (np.nan, "nan")):
        with pytest.raises(ValueError, match=f"above 0 and up to 0.5, not {found}$"):
            size(risk)


# --------------------------------------------------------------------------------------------
# At the door

FRAME = "frame covariance_kw2"


@pytest.mark.parametrize(
    ("value", "more", "fault"),
    [
        (
            [[1.0, 0], [0, 1]],
            {"names": ["one", "nobody"]},
            f"{FRAME}, row 1, column load: found 'nobody', expected a load of small",
        ),
        (
            [[1.0, 0], [0, 1]],
            {"columns": ["one", "sun"]},
            f"{FRAME}: found columns one, sun, expected each of the rows' loads once, "
            "in their order: sun, one",
        ),
        (
            [[1.0, 0], [0, 1]],
            {"names": ["one", "one"]},
            f"{FRAME}: found columns one, one, expected each of the rows' loads once, "
            "in their order: one, one",
        ),
        (
            [[1.0, 0]],
            {"columns": ["sun", "one"]},
            f"{FRAME}: found columns sun, one, expected each of the rows' loads once, "
            "in their order: sun",
        ),
        (np.zeros((0, 0)), {}, f"{FRAME}: found no rows, expected at least one load"),
        (
            [[1.0, np.nan], [0, 1]],
            {},
            f"{FRAME}, row sun, column one: found nan, expected a number",
        ),
        (
            [[1.0, 0], [-np.inf, 1]],
            {},
            f"{FRAME}, row one, column sun: found -inf, expected a number",
        ),
        (
            [[1.0, 0.25], [0.5, 1]],
            {},
            f"{FRAME}, row sun, column one: found 0.25, "
            "expected the value of its mirror image, 0.5",
        ),
        (
            [[1.0, 2], [2, 1]],
            {},
            f"{FRAME}: found an eigenvalue of -1 kW^2, "
            "expected a positive semidefinite matrix: no eigenvalue below 0",
        ),
        (
            [[-4.0]],
            {},
            f"{FRAME}: found an eigenvalue of -4 kW^2, "
            "expected a positive semidefinite matrix: no eigenvalue below 0",
        ),
    ],
)
def test_a_covariance_that_is_none(value: list, more: dict, fault: str) -> None:
    assert faults_of(lambda: ellipsoid(value, **more)) == [fault]


def test_sizes_that_are_none_and_all_faults_at_once() -> None:
    for omega, found in ((-0.5, "-0.5"), (np.nan, "nan")):
        expected = f"ellipsoid, column omega: found {found}, expected a size of at least 0"
        assert faults_of(lambda omega=omega: ellipsoid([[1.0]], omega)) == [expected]
    assert len(faults_of(lambda: ellipsoid([[-1.0]], -1.0, names=["nobody"]))) == 3


def test_a_load_whose_reactive_power_cannot_follow() -> None:
    grid = small_network(loads={"p_kw": [0.0, 900, 0], "q_kvar": [50.0, 300, 0]})
    assert faults_of(lambda: ellipsoid(np.eye(3), network=grid)) == [
        f"{FRAME}, row 1, column load: found 'one' with p_kw = 0 and q_kvar = 50, "
        "expected a load with active power, whose power factor its deviation follows"
    ]
    np.testing.assert_allclose(ellipsoid([[4.0]], network=grid).delta_kva, [2])


def test_rounding_is_no_fault() -> None:
    tiny = 1e-12
    ellipsoid([[1.0, 0.5 + tiny], [0.5, 1]])
    one = ellipsoid([[1.0, 1 + tiny], [1 + tiny, 1]])  # an eigenvalue of -1e-12
    assert one.reach.tolist() == pytest.approx([1, 1])


def test_a_correlation_above_one_is_refused_whatever_the_units() -> None:
    assert len(faults_of(lambda: ellipsoid([[1e6, 2.0], [2.0, 1e-6]]))) == 1


def test_a_variance_that_rounding_made_negative_is_none() -> None:
    assert ellipsoid([[1.0, 0], [0, -1e-12]]).delta_kva[1] == 0


def test_names_that_are_no_text_are_unknown_loads() -> None:
    assert len(faults_of(lambda: ellipsoid(np.eye(2), names=[0, 1]))) == 2
