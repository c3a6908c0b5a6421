"""Curvature: against dense eigenvalues, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.sparse import csr_array

from flexlib.curvature import curvature_faults, least_curvature


def shuffled(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric matrix of blocks in any order of columns, and the block of each column."""
    sizes = rng.integers(1, 5, int(rng.integers(1, 6)))
    parts = [rng.normal(size=(size, size)) for size in sizes]
    dense = block_diag(*[part + part.T for part in parts])
    order = rng.permutation(len(dense))
    return dense[order][:, order], np.repeat(np.arange(len(sizes)), sizes)[order]


def found(q: np.ndarray, count: int | None = None) -> list[str]:
    names = [f"x{k}" for k in range(len(q) if count is None else count)]
    return [str(fault) for fault in curvature_faults(csr_array(q), names, "somewhere")]


@pytest.mark.parametrize("seed", range(100))
def test_least_eigenvalue_and_a_column_of_its_block(seed):
    rng = np.random.default_rng(seed)
    q, block = shuffled(rng)
    least, column = least_curvature(csr_array(q))
    assert least == pytest.approx(np.linalg.eigvalsh(q)[0], abs=1e-12)
    own = block == block[column]
    assert np.linalg.eigvalsh(q[own][:, own])[0] == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_a_positive_definite_matrix_has_no_fault_and_an_indefinite_one_is_named(seed):
    rng = np.random.default_rng(seed)
    q, block = shuffled(rng)
    least = np.linalg.eigvalsh(q)[0]
    eye = np.eye(len(q))
    assert not found(q - (least - 0.1) * eye)
    (fault,) = found(q - (least + 0.1) * eye)
    assert "expected none below 0" in fault
    assert "eigenvalue of -0.1" in fault
    k = int(fault.split(" with x")[1].split(",")[0])
    own = block == block[k]
    assert np.linalg.eigvalsh(q[own][:, own])[0] == pytest.approx(least, abs=1e-9)


def test_a_column_alone_is_as_much_a_block_as_several():
    assert least_curvature(csr_array(np.diag([3.0, -2.0, 1.0]))) == (-2.0, 1)
    assert least_curvature(csr_array(np.diag([3.0, 0.0, 1.0]))) == (0.0, 1)
    mixed = csr_array(block_diag([[1.0, 2.0], [2.0, 1.0]], [[-0.5]]))
    assert least_curvature(mixed) == (pytest.approx(-1.0), 0)
    mixed = csr_array(block_diag([[1.0, 2.0], [2.0, 1.0]], [[-1.5]]))
    assert least_curvature(mixed) == (-1.5, 2)


def test_semidefinite_matrices_pass_whatever_their_scale():
    for scale in (1e-6, 1.0, 1e6):
        for seed in range(20):
            v = np.random.default_rng(seed).normal(size=(4, 2))
            assert not found(scale * v @ v.T)  # of rank two
    assert not found(np.zeros((3, 3)))
    assert not curvature_faults(csr_array((0, 0)), [], "somewhere")


def test_small_negative_curvature_is_measured_against_the_largest_entry():
    for scale in (1e-6, 1.0, 1e6):
        assert len(found(scale * np.diag([1.0, -1e-8]))) == 1
        assert not found(scale * np.diag([1.0, -1e-10]))


def test_what_is_no_symmetric_matrix_of_numbers_is_named():
    assert "somewhere, column q: found shape (2, 2), expected shape (3, 3)" in found(np.eye(2), 3)
    assert "shape (2, 3)" in found(np.ones((2, 3)), 2)[0]
    for bad in (np.nan, np.inf, -np.inf):
        assert "no finite number" in found(np.diag([1.0, bad]))[0]
    for scale in (1e-6, 1.0, 1e6):
        lopsided = scale * np.array([[2.0, 1.0], [1.0 + 1e-9, 2.0]])
        assert "not symmetric" in found(lopsided)[0]
        rounded = scale * np.array([[2.0, 1.0], [1.0 + 1e-14, 2.0]])
        assert not found(rounded)
    assert "not symmetric" in found(np.array([[1.0, 0.5], [0.0, 1.0]]))[0]
