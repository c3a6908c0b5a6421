"""Curvature of a quadratic form: whether it is convex, and strictly so."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from flexlib.errors import Fault

_SYMMETRIC, _CONVEX = 1e-12, 1e-9  # relative to the largest entry of Q


def least_curvature(q: csr_array) -> tuple[float, int]:
    """Least eigenvalue of a symmetric Q, block by block, and a column of its block.

    Parameters
    ----------
    q : scipy.sparse.csr_array, shape (n, n)
    """
    label = connected_components(q, directed=False)[1]
    size, diagonal = np.bincount(label)[label], q.diagonal()
    alone = np.where(size == 1, diagonal, np.inf)
    column = int(alone.argmin())
    least = float(alone[column])
    together = np.flatnonzero(size > 1)
    together = together[np.argsort(label[together], kind="stable")]
    for block in np.split(together, np.flatnonzero(np.diff(label[together])) + 1):
        if len(block):
            value = float(np.linalg.eigvalsh(q[block][:, block].toarray())[0])
            least, column = min((least, column), (value, int(block[0])))
    return least, column


def curvature_faults(q: csr_array, names: list[str], where: str) -> list[Fault]:
    """Return what keeps Q from being symmetric and positive semidefinite.

    Parameters
    ----------
    q : scipy.sparse.csr_array, shape (n, n)
    names : list of str
        Of the columns; one of a block with an eigenvalue below 0 is named.
    where : str
        What Q belongs to.
    """
    n = len(names)
    if q.shape != (n, n):
        return [Fault(where, "", "q", f"shape {q.shape}", f"shape {(n, n)}")]
    if not q.nnz:
        return []
    if not np.isfinite(q.data).all():
        return [Fault(where, "", "q", "an entry that is no finite number", "finite numbers")]
    largest = float(np.abs(q.data).max())
    if abs(q - q.T).max() > _SYMMETRIC * largest:
        return [Fault(where, "", "q", "a matrix that is not symmetric", "a symmetric one")]
    least, column = least_curvature(q)
    if least < -_CONVEX * largest:
        found = f"an eigenvalue of {least:g} with {names[column]}"
        return [Fault(where, "", "q", found, "none below 0: the cost must be convex")]
    return []
