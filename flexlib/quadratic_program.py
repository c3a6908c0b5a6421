"""Convex quadratic programmes: min c x + 1/2 x'Q x over the constraints of a linear programme.

Solved by PIQP, an interior-point method. Signs: a dual value is the change of the minimal objective
for one unit more on the right-hand side of its row.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import piqp
from scipy.sparse import coo_array, csc_matrix, csr_array, diags_array, eye_array, hstack, vstack

from flexlib.certificate import Check, largest
from flexlib.curvature import curvature_faults
from flexlib.errors import DataError, FlexlibError, NotProven, SolveError, Unbounded
from flexlib.linear_program import LinearProgram, diagonal_blocks, dual_bound, independent_parts
from flexlib.solver import solve

_TOLERANCES = (1e-11, 1e-9)  # asked of the solver, absolute and relative; the next if not met
_ACCEPTED = 1e-6  # largest violation and relative gap accepted when recomputed
_ZERO = 1e-7  # reduced cost of a column without limit, relative to the largest cost
_LONG = 300  # entries of a row beyond which partial sums stand in for them
_PART = 10_000  # columns of a part at most, unless nothing in it falls apart
_INFINITE = 1e30


@dataclass(frozen=True)
class QuadraticSolution:
    """A proven optimum.

    Attributes
    ----------
    x : numpy.ndarray, shape (columns,)
    objective, bound : float
        Value of x and proven lower bound on the minimum, both recomputed from the data.
    row_dual : numpy.ndarray, shape (rows,)
    checks : tuple of Check
        Row and column violations and the gap, recomputed.
    """

    x: np.ndarray
    objective: float
    bound: float
    row_dual: np.ndarray
    checks: tuple[Check, ...]


def solve_quadratic(program: LinearProgram, q: csr_array) -> QuadraticSolution:
    """Solve a convex quadratic programme to proven optimality or raise.

    The bound is that of the tangent: where Q is convex, ``1/2 x'Qx`` is at least ``(Q v)'x -
    1/2 v'Qv`` for every v, and at v = x the duals prove a bound on the linear programme that is
    left. Parts that share nothing are solved one after another, and long rows left out at first.

    Parameters
    ----------
    program : LinearProgram
        Without integer columns.
    q : scipy.sparse.csr_array, shape (columns, columns)
        Symmetric, positive semidefinite.

    Returns
    -------
    QuadraticSolution

    Raises
    ------
    ValueError
        Naming a column that is integer.
    DataError
        If Q is of another shape, not symmetric, or has an eigenvalue below 0.
    Infeasible
        With the names of an irreducible set of conflicting rows.
    Unbounded
        If the objective has no lower bound.
    NotProven
        If the solver stops at its largest number of iterations.
    SolveError
        If the solver fails or its answer does not survive recomputation.
    """
    if program.integer.any():
        raise ValueError(f"{program.column_names[int(program.integer.argmax())]} is integer")
    if faults := curvature_faults(q, program.column_names, "programme"):
        raise DataError(faults)
    long = np.diff(program.a.indptr) > _LONG
    if long.any():  # where these do not bind, the rest may fall apart
        with suppress(FlexlibError):
            x, dual = _in_parts(_with_rows(program, ~long), q)
            beyond = program.a[long] @ x
            limits = program.row_lower[long], program.row_upper[long]
            if ((limits[0] <= beyond) & (beyond <= limits[1])).all():
                every = np.zeros(len(long))
                every[~long] = dual
                return _checked(program, q, x, every)
    return _checked(program, q, *_in_parts(program, q))


def independent_quadratic_parts(
    program: LinearProgram, q: csr_array, most: int
) -> list[tuple[np.ndarray, np.ndarray, LinearProgram, csr_array]]:
    """Parts that share no column, nor an entry of Q; see `flexlib.linear_program`.

    Returns
    -------
    list of tuple
        Rows, columns, the programme of each part, without its offset, and its Q.
    """
    count, columns = program.a.shape
    if columns <= most:
        return [(np.arange(count), np.arange(columns), program, q)]
    free = np.full(columns, np.inf)
    joint = replace(
        program,
        a=csr_array(vstack([program.a, q])),
        row_lower=np.append(program.row_lower, -free),
        row_upper=np.append(program.row_upper, free),
        row_names=[*program.row_names, *program.column_names],
    )
    parts = independent_parts(joint, most)
    of_column = [own for _, own, _ in parts]
    found = []
    squares = diagonal_blocks(q, of_column, of_column)
    for (rows, own, part), square in zip(parts, squares, strict=True):
        kept = rows < count
        found.append((rows[kept], own, _with_rows(part, kept), square))
    return found


def _in_parts(program: LinearProgram, q: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Point and duals of a programme, part by part."""
    x, dual = np.zeros(len(program.c)), np.zeros(len(program.row_lower))
    for rows, columns, part, square in independent_quadratic_parts(program, q, _PART):
        x[columns], dual[rows] = _solved(part, square)
    return x, dual


def _solved(program: LinearProgram, q: csr_array) -> tuple[np.ndarray, np.ndarray]:
    short = _with_short_rows(program)
    padded = csr_array(
        (q.data, q.indices, np.pad(q.indptr, (0, len(short.c) - len(program.c)), "edge")),
        shape=(len(short.c),) * 2,
    )
    for tolerance in _TOLERANCES:
        status, x, dual = _run(short, padded, tolerance)
        if status != piqp.PIQP_MAX_ITER_REACHED:
            break
    if status in (piqp.PIQP_PRIMAL_INFEASIBLE, piqp.PIQP_DUAL_INFEASIBLE):
        solve(replace(program, c=np.zeros_like(program.c)))  # raises, with the rows in conflict
    if status == piqp.PIQP_DUAL_INFEASIBLE:
        raise Unbounded("the objective has no lower bound")
    if status == piqp.PIQP_MAX_ITER_REACHED:
        raise NotProven("largest number of iterations", -np.inf, np.inf)
    if status != piqp.PIQP_SOLVED:
        raise SolveError(f"solver status: {status.name}")
    return x[: len(program.c)], dual[: len(program.row_lower)]


def _with_rows(program: LinearProgram, kept: np.ndarray) -> LinearProgram:
    names = [program.row_names[k] for k in np.flatnonzero(kept)]
    lower, upper = program.row_lower[kept], program.row_upper[kept]
    return replace(
        program, a=csr_array(program.a[kept]), row_lower=lower, row_upper=upper, row_names=names
    )


def _run(
    program: LinearProgram, q: csr_array, tolerance: float
) -> tuple[piqp.Status, np.ndarray, np.ndarray]:
    """Status, point and duals of PIQP, equations and inequalities told apart."""
    equal = program.row_lower == program.row_upper
    rows, g = csc_matrix(program.a[equal]), csc_matrix(program.a[~equal])
    solver = piqp.SparseSolver()
    settings = solver.settings
    settings.eps_abs = settings.eps_rel = tolerance
    settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = tolerance
    limits = (program.row_lower[~equal], program.row_upper[~equal], program.lower, program.upper)
    solver.setup(
        csc_matrix(q), program.c, rows, program.row_upper[equal], g,
        *(np.clip(limit, -_INFINITE, _INFINITE) for limit in limits),
    )  # fmt: skip
    status, result = solver.solve(), solver.result
    dual = np.zeros(len(equal))
    dual[equal], dual[~equal] = -np.asarray(result.y), result.z_l - np.asarray(result.z_u)
    return status, np.array(result.x), dual


def _with_short_rows(program: LinearProgram) -> LinearProgram:
    """Write each long row by partial sums of its entries, in a tree, as columns of their own.

    A row over thousands of columns makes the factors of an interior-point method dense.
    """
    while (long := np.flatnonzero(np.diff(program.a.indptr) > _LONG)).size:
        program = _with_partial_sums(program, long)
    return program


def _with_partial_sums(program: LinearProgram, long: np.ndarray) -> LinearProgram:
    """Put a column in the place of neighbouring entries of the long rows."""
    a = program.a
    rows, columns = a.shape
    table = a[long].tocoo()
    start = a[long].indptr[table.row]
    part = (np.arange(table.nnz) - start) // (_LONG - 1)  # a sum is an entry of its own row
    key, which = np.unique(np.column_stack([table.row, part]), axis=0, return_inverse=True)
    count = len(key)
    kept = np.ones(rows)
    kept[long] = 0.0
    sums = coo_array((table.data, (which, table.col)), shape=(count, columns))
    totals = coo_array((np.ones(count), (long[key[:, 0]], np.arange(count))), shape=(rows, count))
    blocks = [hstack([diags_array(kept) @ a, totals]), hstack([sums, -eye_array(count)])]
    matrix = csr_array(vstack(blocks))
    matrix.eliminate_zeros()
    return replace(
        program,
        c=np.append(program.c, np.zeros(count)),
        a=matrix,
        row_lower=np.append(program.row_lower, np.zeros(count)),
        row_upper=np.append(program.row_upper, np.zeros(count)),
        lower=np.append(program.lower, np.full(count, -np.inf)),
        upper=np.append(program.upper, np.full(count, np.inf)),
        row_names=[*program.row_names, *["partial sum"] * count],
        column_names=[*program.column_names, *["partial sum"] * count],
        integer=np.zeros(columns + count, dtype=bool),
    )


def _checked(
    program: LinearProgram, q: csr_array, x: np.ndarray, dual: np.ndarray
) -> QuadraticSolution:
    """Solution with its certificate, all recomputed from the data."""
    x = np.clip(x, program.lower, program.upper)
    slope = q @ x
    curved = 0.5 * float(x @ slope)
    objective = float(program.c @ x) + curved + program.offset
    cost, size = program.c + slope, max(largest(np.abs(program.c)), largest(np.abs(slope)))
    reduced = cost - program.a.T @ dual
    limit = np.where(reduced > 0, program.lower, program.upper)
    zero = ~np.isfinite(limit) & (np.abs(reduced) <= _ZERO * size)  # beside terms that cancel
    tangent = replace(program, c=cost - zero * reduced, offset=program.offset - curved)
    bound = dual_bound(tangent, dual)
    rows = program.a @ x
    outside = np.maximum(program.row_lower - rows, rows - program.row_upper) / (1 + np.abs(rows))
    gap = (objective - bound) / max(1.0, abs(objective))
    checks = (
        Check("rows of the programme", largest(outside), _ACCEPTED, "relative"),
        Check("gap between objective and bound", abs(gap), _ACCEPTED, "relative"),
    )
    failed = [check for check in checks if not check.ok]
    if failed:
        what = "; ".join(f"{check.name} {check.value:.3g}" for check in failed)
        raise SolveError(f"the solver's answer does not survive recomputation: {what}")
    return QuadraticSolution(x, objective, bound, dual, checks)
