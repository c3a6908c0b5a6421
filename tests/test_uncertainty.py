"""The box: support, image and samples against its corners."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from feeders import STABLE, bands, small_network
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, QhullError

from flexlib import Box, Network


def box_of(count: int) -> Box:
    names = [f"load {k}" for k in range(count)]
    network = small_network(
        loads={"load": names, "bus": ["A"] * count}
        | {"p_kw": [10.0] * count, "q_kvar": [5.0] * count}
    )
    return Box(network, pd.DataFrame({"load": names, "band_pct": 10.0}))


# Small whole numbers: zero, equal, opposite and parallel generators come up often.
whole = st.integers(-3, 3).map(float)
generators = st.lists(st.builds(complex, whole, whole), min_size=1, max_size=8)
anything = st.lists(
    st.complex_numbers(max_magnitude=10, allow_nan=False, allow_infinity=False),
    min_size=1, max_size=8,
)  # fmt: skip


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.real * b.imag - a.imag * b.real


@STABLE
@given(generators | anything)
def test_image_is_the_hull_of_all_corners(columns: list[complex]) -> None:
    box, column = box_of(len(columns)), np.array(columns)
    corners = box.image(column)
    assert corners.shape == (2 * len(columns),)
    cloud = box.vertices() @ column
    # Same support in every direction, and every corner is the image of a vertex.
    directions = np.exp(1j * np.linspace(0, 2 * np.pi, 73))
    support = np.real(np.conj(directions)[:, None] * cloud).max(axis=1)
    ours = np.real(np.conj(directions)[:, None] * corners).max(axis=1)
    np.testing.assert_allclose(ours, support, atol=1e-9)
    assert np.abs(corners[:, None] - cloud[None]).min(axis=1).max() < 1e-9
    # Counter-clockwise, never turning right.
    step = np.roll(corners, -1) - corners
    assert cross(step, np.roll(step, -1)).min() > -1e-9
    try:
        hull = ConvexHull(np.column_stack([cloud.real, cloud.imag]))
    except QhullError:
        return  # flat
    area = cross(corners, np.roll(corners, -1)).sum() / 2
    assert area == pytest.approx(hull.volume, abs=1e-9)


@STABLE
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_support_is_the_largest_value_at_a_corner(count: int, seed: int) -> None:
    box, rng = box_of(count), np.random.default_rng(seed)
    rows = rng.normal(size=(3, 4, count)) * (rng.random((3, 4, count)) < 0.8)
    expected = (rows @ box.vertices().T).max(axis=-1)
    np.testing.assert_allclose(box.support(rows), expected, atol=1e-12)
    inside = rows @ box.sample(200, seed).T
    assert (inside <= box.support(rows)[..., None] + 1e-12).all()


def test_vertices_are_all_corners_once() -> None:
    vertices = box_of(5).vertices()
    assert vertices.shape == (32, 5)
    assert len({tuple(row) for row in vertices}) == 32
    assert set(np.unique(vertices)) == {-1.0, 1.0}


def test_samples_lie_in_the_box_and_follow_their_seed() -> None:
    box = box_of(3)
    xi = box.sample(1000, 7)
    assert xi.shape == (1000, 3)
    assert np.abs(xi).max() <= 1
    np.testing.assert_array_equal(xi, box.sample(1000, 7))
    assert not np.array_equal(xi, box.sample(1000, 8))
    np.testing.assert_allclose(xi.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(xi.std(axis=0), 1 / np.sqrt(3), atol=0.03)


def small_box(network: Network | None = None) -> Box:
    return Box(network or small_network(), bands(sun=50, one=10))


def test_p_and_q_move_together_and_certain_loads_stay() -> None:
    box = small_box()
    np.testing.assert_allclose(box.delta_kva, [-100, 60 + 20j])
    s_kva = box.loads_kva(np.array([[1.0, -1.0], [0.0, 0.5]]))
    np.testing.assert_allclose(
        s_kva, [[540 + 180j, 900 + 300j, -300], [630 + 210j, 900 + 300j, -200]]
    )
    assert box.network.s_load_kva[0] == 600 + 200j  # untouched


def test_bands_are_half_widths_in_percent() -> None:
    box = Box(small_network(), bands(one=100, two=0))
    s_kva = box.loads_kva(np.array([[1.0, 1.0], [-1.0, -1.0]]))
    np.testing.assert_allclose(s_kva[:, 0], [1200 + 400j, 0])
    np.testing.assert_allclose(s_kva[:, 1], 900 + 300j)
