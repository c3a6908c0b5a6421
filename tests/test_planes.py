"""Planes are the source's, in or around the circle; lambda-beta is the minimax norm."""

from __future__ import annotations

import numpy as np
import pytest
from feeders import STABLE
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from flexlib import LambdaBeta, Planes
from flexlib.planes import along


def sides(planes: Planes, z: np.ndarray, phasor: complex = 0j) -> np.ndarray:
    """Component of each number along each normal."""
    return along(planes.normals(np.array(phasor)), np.asarray(z)[..., None])


@pytest.mark.parametrize("count", [3, 4, 7, 32, 256])
def test_planes_are_the_printed_coefficients(count: int) -> None:
    n, t = np.arange(1, count + 1), 2 * np.pi / count
    A = np.sin((n - 1) * t) - np.sin(n * t)
    B = np.cos(n * t) - np.cos((n - 1) * t)
    C = np.cos(n * t) * np.sin((n - 1) * t) - np.cos((n - 1) * t) * np.sin(n * t)
    rng = np.random.default_rng(count)
    z = rng.normal(size=50) + 1j * rng.normal(size=50)
    printed = (z.real[:, None] * A + z.imag[:, None] * B) / C
    planes = Planes(count)
    np.testing.assert_allclose(sides(planes, z) / planes.apothem, printed, atol=1e-12)


@STABLE
@given(st.integers(3, 400), st.floats(0, 2 * np.pi), st.floats(0, 2))
def test_polygon_lies_in_the_circle_and_touches_it(count: int, angle: float, size: float) -> None:
    planes = Planes(count)
    z = np.array(size * np.exp(1j * angle))
    np.testing.assert_allclose(np.abs(planes.normals(z)), 1, atol=1e-15)
    value = sides(planes, z).max() / planes.apothem
    assert size <= value + 1e-12  # inside the polygon is inside the circle
    assert value <= size / planes.apothem + 1e-12  # and the error is at most 1 / cos(pi / N)
    corner = size * np.exp(2j * np.pi * 5 / count)
    assert sides(planes, corner).max() / planes.apothem == pytest.approx(size)


def test_normals_of_every_phasor() -> None:
    z = np.zeros((2, 3), dtype=complex)
    assert Planes(5).normals(z).shape == (2, 3, 5)
    assert Planes(5, turned="side").normals(z).shape == (2, 3, 5)
    assert sides(Planes(5), z).shape == (2, 3, 5)
    assert sides(Planes(5), 1j * np.ones(1)).max() == pytest.approx(1, abs=0.2)


@STABLE
@given(st.integers(3, 400), st.floats(0, 2 * np.pi), st.floats(0, 2))
def test_circumscribed_polygon_contains_the_circle_and_touches_it(
    count: int, angle: float, size: float
) -> None:
    planes = Planes(count, inscribed=False)
    assert planes.apothem == 1
    assert planes.error == pytest.approx(1 / np.cos(np.pi / count) - 1)
    value = sides(planes, size * np.exp(1j * angle)).max()
    assert value <= size + 1e-12
    assert value >= size * np.cos(np.pi / count) - 1e-12
    middle = size * np.exp(1j * np.pi * 5 / count)
    assert sides(planes, middle).max() == pytest.approx(size)


@STABLE
@given(st.integers(3, 400), st.floats(-3, 3), st.floats(0.1, 2), st.booleans())
def test_a_turned_polygon_has_its_corner_or_its_side_in_the_direction_asked_for(
    count: int, angle: float, size: float, inscribed: bool
) -> None:
    phasor = size * np.exp(1j * angle)
    at = phasor / abs(phasor)
    corner, side = (Planes(count, inscribed, turned) for turned in ("corner", "side"))
    # How far the boundary is from the centre in that direction, and in that of its neighbours.
    half = np.exp(1j * np.pi / count)
    for planes, far, near in ((corner, at, at * half), (side, at * half, at)):
        half_plane = sides(planes, np.array([far, near]), phasor).max(axis=-1)
        out = planes.apothem / half_plane
        assert out[0] == pytest.approx(planes.apothem / np.cos(np.pi / count))
        assert out[1] == pytest.approx(planes.apothem)
    assert len(np.unique(np.round(np.angle(corner.normals(np.array(phasor))), 9))) == count


@pytest.mark.parametrize("count", [3, 32, 33])
def test_error_is_the_largest_distance_of_polygon_and_circle(count: int) -> None:
    at = np.exp(1j * np.linspace(0, 2 * np.pi, 4 * 9 * count, endpoint=False))
    for inscribed in (True, False):
        planes = Planes(count, inscribed)
        boundary = planes.apothem / sides(planes, at).max(axis=-1)
        assert np.abs(boundary - 1).max() == pytest.approx(planes.error)
        assert (boundary <= 1 + 1e-12).all() is np.bool_(inscribed)


def test_a_direction_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match='"source", "corner" or "side", not \'up\''):
        Planes(32, turned="up")


@pytest.mark.parametrize("count", [2, 0, -1])
def test_too_few_planes(count: int) -> None:
    with pytest.raises(ValueError, match=f"at least 3 planes, not {count}"):
        Planes(count)


@pytest.mark.parametrize(
    ("degrees", "printed"), [(2, ("0.98247", "0.01745")), (10, ("0.9108", "0.0873"))]
)
def test_lambda_and_beta_of_the_literature(degrees: float, printed: tuple[str, str]) -> None:
    norm = LambdaBeta(np.deg2rad(degrees))
    for value, text in zip((norm.lambda_, norm.beta), printed, strict=True):
        assert f"{value:.{len(text) - 2}f}" == text
    assert norm.alpha == norm.lambda_ + norm.beta


def largest_error(alpha: float, beta: float, band: float) -> float:
    t = np.linspace(-band, band, 2001)
    return float(np.abs(alpha * np.cos(t) + beta * np.abs(np.sin(t)) - 1).max())


@pytest.mark.parametrize("degrees", [1, 5, 20, 45])
def test_lambda_beta_is_the_minimax(degrees: float) -> None:
    band = np.deg2rad(degrees)
    norm = LambdaBeta(band)
    assert largest_error(norm.alpha, norm.beta, band) == pytest.approx(norm.error, rel=1e-6)
    assert norm.error == pytest.approx(np.tan(band / 4) ** 2)
    for alpha in norm.alpha + norm.error * np.linspace(-2, 2, 21):
        best = minimize_scalar(
            lambda beta, alpha=alpha: largest_error(alpha, beta, band),
            bounds=(norm.beta - band, norm.beta + band),
            method="bounded",
            options={"xatol": 1e-12},
        )
        assert best.fun >= norm.error * (1 - 1e-5)


@STABLE
@given(st.floats(0, np.pi / 4), st.floats(-1, 1), st.floats(0.5, 1.5))
def test_lambda_beta_error_holds_over_the_band(band: float, share: float, size: float) -> None:
    norm = LambdaBeta(band)
    z = size * np.exp(1j * share * band)
    value = norm.lambda_ * max(abs(z.real), abs(z.imag)) + norm.beta * (abs(z.real) + abs(z.imag))
    assert abs(value - size) <= norm.error * size + 1e-12


def test_a_band_of_zero_reads_the_real_part() -> None:
    norm = LambdaBeta(0.0)
    assert (norm.alpha, norm.beta, norm.error) == (1, 0, 0)


@pytest.mark.parametrize("band", [-0.1, 0.8, np.nan])
def test_bands_that_the_norm_does_not_take(band: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 45 degrees"):
        LambdaBeta(band)
