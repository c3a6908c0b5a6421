"""Linear programmes as arrays, and what any dual vector proves about them.

Signs: a dual value is the change of the minimal objective for one unit more on the right-hand
side of its row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from flexlib.certificate import largest


@dataclass(frozen=True)
class LinearProgram:
    """min c x + offset subject to row_lower <= A x <= row_upper, lower <= x <= upper.

    Attributes
    ----------
    c : numpy.ndarray, shape (columns,)
    a : scipy.sparse.csr_array, shape (rows, columns)
    row_lower, row_upper : numpy.ndarray, shape (rows,)
    lower, upper : numpy.ndarray, shape (columns,)
    row_names, column_names : list of str
    integer : numpy.ndarray of bool, shape (columns,)
        Integer columns; none by default.
    offset : float
        Constant of the objective.

    Raises
    ------
    ValueError
        Naming what is not a number.
    """

    c: np.ndarray
    a: csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    row_names: list[str]
    column_names: list[str]
    integer: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.integer):
            object.__setattr__(self, "integer", np.zeros(len(self.c), dtype=bool))
        for name in ("c", "row_lower", "row_upper", "lower", "upper"):
            bad = np.flatnonzero(np.isnan(getattr(self, name)))
            if len(bad):
                names = self.row_names if name.startswith("row") else self.column_names
                raise ValueError(f"{name} of {names[bad[0]] if names else bad[0]} is not a number")
        if np.isnan(self.a.data).any():
            raise ValueError("the matrix has an entry that is not a number")


def dual_bound(problem: LinearProgram, row_dual: np.ndarray) -> float:
    """Lower bound on the minimum of a linear programme that any dual vector proves.

    For multipliers y every feasible x has ``c x >= y b + (c - A'y) x`` with b the row limit on
    the side of y's sign, and the last term is at least its minimum over the variables' bounds.

    Parameters
    ----------
    problem : LinearProgram
    row_dual : numpy.ndarray, shape (rows,)

    Returns
    -------
    float
        The bound, up to rounding: where a limit is infinite, a reduced cost counts as zero within
        1e-7 of the largest cost or 1e-12 of the terms that it is the difference of. Minus
        infinity where a larger one, or a multiplier, meets an infinite limit.
    """
    rows, columns = dual_terms(problem, row_dual)
    return float(rows.sum() + columns.sum() + problem.offset)


def dual_terms(problem: LinearProgram, row_dual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each row and each column contributes to `dual_bound`, shapes (rows,) and (columns,).

    In a problem that falls apart into blocks, the sum over a block bounds its part.
    """
    limit = np.where(row_dual > 0, problem.row_lower, problem.row_upper)
    small = np.abs(row_dual) <= 1e-9 * max(1.0, largest(np.abs(row_dual)))
    y = np.where(small & ~np.isfinite(limit), 0.0, row_dual)
    reduced = problem.c - problem.a.T @ y
    terms = np.abs(problem.c) + abs(problem.a).T @ np.abs(y)
    small = np.abs(reduced) <= np.maximum(1e-7 * largest(np.abs(problem.c)), 1e-12 * terms)
    limit = np.where(reduced > 0, problem.lower, problem.upper)
    reduced = np.where(small & ~np.isfinite(limit), 0.0, reduced)
    rows = _product(y, np.where(y > 0, problem.row_lower, problem.row_upper))
    return rows, _product(reduced, np.where(reduced > 0, problem.lower, problem.upper))


def without_redundant_rows(problem: LinearProgram) -> LinearProgram:
    """Drop the rows that no point within the variables' bounds can break.

    Exact: the largest and least value of a row over a box of variables are known.

    Parameters
    ----------
    problem : LinearProgram

    Returns
    -------
    LinearProgram
        Same optima, fewer rows.
    """
    positive, negative = problem.a.maximum(0), problem.a.minimum(0)
    with np.errstate(invalid="ignore"):
        most = positive @ problem.upper + negative @ problem.lower
        least = positive @ problem.lower + negative @ problem.upper
    can_bind = ~((most <= problem.row_upper) & (least >= problem.row_lower))
    rows = np.flatnonzero(can_bind)
    return replace(
        problem,
        a=problem.a[rows],
        row_lower=problem.row_lower[rows],
        row_upper=problem.row_upper[rows],
        row_names=[problem.row_names[row] for row in rows],
    )


def independent_parts(
    problem: LinearProgram, most: int
) -> list[tuple[np.ndarray, np.ndarray, LinearProgram]]:
    """Parts of a linear programme that share no column, neighbours put together.

    Parameters
    ----------
    problem : LinearProgram
        Without integer columns.
    most : int
        Columns that a part has at most, unless it does not fall apart further.

    Returns
    -------
    list of tuple
        Rows, columns, and the programme of each part, without its offset.
    """
    rows, columns = problem.a.shape
    edge = problem.a.tocoo()
    graph = coo_array(
        (np.ones(edge.nnz), (edge.row, rows + edge.col)), shape=(rows + columns, rows + columns)
    )
    count, label = connected_components(graph, directed=False)
    size = np.bincount(label[rows:], minlength=count)
    part = np.unique((np.cumsum(size) - size) // most, return_inverse=True)[1][label]
    if part.max(initial=0) == 0:
        return [(np.arange(rows), np.arange(columns), problem)]
    found = []
    of_row, of_column = _members(part[:rows], part.max()), _members(part[rows:], part.max())
    blocks = diagonal_blocks(problem.a, of_row, of_column)
    for row, column, block in zip(of_row, of_column, blocks, strict=True):
        found.append(
            (
                row,
                column,
                LinearProgram(
                    problem.c[column],
                    block,
                    problem.row_lower[row],
                    problem.row_upper[row],
                    problem.lower[column],
                    problem.upper[column],
                    [problem.row_names[k] for k in row],
                    [problem.column_names[k] for k in column] if problem.column_names else [],
                ),
            )
        )
    return found


def diagonal_blocks(
    matrix: csr_array, of_row: list[np.ndarray], of_column: list[np.ndarray]
) -> list[csr_array]:
    """Blocks of a matrix at given rows and columns, turned once: parts of thousands take long.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array
    of_row, of_column : list of numpy.ndarray
        Rows and columns of each block.
    """
    turned = csr_array(matrix[np.concatenate(of_row)][:, np.concatenate(of_column)])
    row = np.cumsum([0, *(len(part) for part in of_row)])
    column = np.cumsum([0, *(len(part) for part in of_column)])
    return [
        csr_array(turned[row[k] : row[k + 1], column[k] : column[k + 1]])
        for k in range(len(of_row))
    ]


def _members(label: np.ndarray, last: int) -> list[np.ndarray]:
    """Positions of each label, in order."""
    order = np.argsort(label, kind="stable")
    return np.split(order, np.searchsorted(label[order], np.arange(1, last + 1)))


def _product(factor: np.ndarray, limit: np.ndarray) -> np.ndarray:
    return np.multiply(factor, limit, out=np.zeros_like(factor), where=factor != 0)
