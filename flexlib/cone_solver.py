"""Convex cone programmes: Clarabel, and every claim recomputed.

A `cvxpy.Problem` stands for its canonical form: min c x + offset over x with b - A x in K, a
product of zero, nonnegative, second-order and positive semidefinite cones. The dual is
max -b z + offset over z in the dual cone K* with c + A'z = 0. Of what the solver says of itself
only its answer x, z is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from textwrap import shorten
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csc_array, hstack, vstack

from flexlib.certificate import Check, largest
from flexlib.errors import Infeasible, NotProven, SolveError, Unbounded

if TYPE_CHECKING:
    import cvxpy

_TOLERANCE = 1e-9  # feasibility and gap asked of the solver
_FINE = 1e-11  # the same where a certificate of infeasibility is wanted
_ACCEPTED = 1e-6  # largest residual and gap accepted when recomputed
_FILTER_TIME_S = 60.0  # time for making a conflict irreducible


@dataclass(frozen=True)
class ConeSolution:
    """A proven optimum; the point itself is in the variables of the problem.

    Attributes
    ----------
    objective, bound : float
        Value of the point, and of the dual point that bounds the minimum; both recomputed.
    checks : tuple of Check
        Recomputed from c, A, b, K, x and z: the distance of b - A x from a cone, relative to one
        plus the norms of its parts of b and A x; an entry of c + A'z, relative to one plus the
        largest cost; and the gap, relative to the objective, if that is above one.
    """

    objective: float
    bound: float
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class _Program:
    """min c x + offset subject to b - A x in K.

    Rows of the zero cone, the nonnegative, the second-order (bound of the norm first) and the
    semidefinite cones: of a matrix the upper triangle by columns, what is off the diagonal times
    sqrt(2), which keeps lengths and angles.
    """

    c: np.ndarray
    a: csc_array
    b: np.ndarray
    offset: float
    zero: int
    nonnegative: int
    second_order: list[int]  # rows of each
    semidefinite: list[int]  # order of each

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each cone; every linear row is a cone of its own."""
        linear = [1] * (self.zero + self.nonnegative)
        triangles = [order * (order + 1) // 2 for order in self.semidefinite]
        return np.array([*linear, *self.second_order, *triangles], dtype=int)

    def norms(self, s: np.ndarray) -> np.ndarray:
        """Euclidean norm of the part of s in each cone."""
        cone = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return np.sqrt(np.bincount(cone, s**2, len(self.sizes)))

    def project(self, s: np.ndarray, *, dual: bool = False) -> np.ndarray:
        """Nearest point of K, or of K*, which differs in that the zero cone is free."""
        near = np.maximum(s, 0.0)
        near[: self.zero] = s[: self.zero] if dual else 0.0
        start = self.zero + self.nonnegative
        for size in self.second_order:
            near[start : start + size] = _nearest_second_order(s[start : start + size])
            start += size
        for order in self.semidefinite:
            size = order * (order + 1) // 2
            near[start : start + size] = _nearest_semidefinite(s[start : start + size], order)
            start += size
        return near

    def objective(self, x: np.ndarray) -> float:
        """Objective at a point."""
        return float(self.c @ x + self.offset)

    def bound(self, z: np.ndarray) -> float:
        """Objective of the dual at a point."""
        return float(self.offset - self.b @ z)

    def part(self, rows: np.ndarray) -> _Program:
        """The programme with some of its rows, a mask; a cone has all of its rows or none."""
        keep = rows[np.cumsum(self.sizes) - self.sizes] if len(rows) else rows
        linear = self.zero + self.nonnegative
        curved = linear + len(self.second_order)
        return replace(
            self,
            a=csc_array(self.a[rows]),
            b=self.b[rows],
            zero=int(keep[: self.zero].sum()),
            nonnegative=int(keep[self.zero : linear].sum()),
            second_order=np.array(self.second_order, int)[keep[linear:curved]].tolist(),
            semidefinite=np.array(self.semidefinite, int)[keep[curved:]].tolist(),
        )


@dataclass(frozen=True)
class _Answer:
    """Of the solver; z is moved to the nearest point of K*."""

    status: str
    x: np.ndarray
    z: np.ndarray


def solve_cone(problem: cvxpy.Problem, time_limit_s: float = 600.0) -> ConeSolution:
    """Solve a convex problem of cvxpy to proven optimality or raise.

    One thread. The values of the problem's variables and the duals of its constraints are set. A
    quadratic objective is put as a second-order cone. An answer that survives recomputation is
    proven, however early the solver stopped.

    Parameters
    ----------
    problem : cvxpy.Problem
        Minimisation, convex by the rules of cvxpy, continuous, with linear, second-order and
        semidefinite constraints.
    time_limit_s : float
        Time after which the solver stops.

    Returns
    -------
    ConeSolution

    Raises
    ------
    Infeasible
        With the labels of the constraints in conflict, or position and text of those that have
        none; "limits of x" are the attributes of a variable. Constraints under one label count as
        one. Proven of all points whose absolute values add up to less than a million, and
        irreducible as far as the solver can tell within a minute.
    Unbounded
        If the objective has no lower bound.
    ValueError
        If the problem is not of the kind above.
    NotProven
        If the solver stops before an optimum is proven; carries bound and incumbent.
    SolveError
        If the solver's answer does not survive recomputation.
    """
    data, chain, inverse = _canonical(problem)
    program = _program(data, inverse[-1]["offset"])
    answer = _run(program, time_limit_s)
    checks = _checks(program, answer)
    if not all(check.ok for check in checks):
        raise _failure(program, answer, _named_rows(problem, data, chain), time_limit_s)
    values = SimpleNamespace(
        status="Solved", x=answer.x, z=answer.z, obj_val=np.nan, solve_time=0.0, iterations=0
    )
    problem.unpack_results(values, chain, inverse)
    return ConeSolution(program.objective(answer.x), program.bound(answer.z), checks)


def _canonical(problem: cvxpy.Problem) -> tuple[dict[str, Any], Any, Any]:
    """Canonical data of a problem and the chain that made them; refuses other kinds."""
    import cvxpy  # takes a second, which only those who need it should wait

    if not isinstance(problem.objective, cvxpy.Minimize):
        raise ValueError("the objective must be minimised")
    if not problem.variables():
        raise ValueError("the problem has no variables")
    if problem.is_mixed_integer():
        raise ValueError("the variables must be continuous")
    if not problem.is_dcp():
        raise ValueError("the problem must be convex by the rules of cvxpy")
    options = {"use_quad_obj": False}
    data, chain, inverse = problem.get_problem_data("CLARABEL", solver_opts=options)
    if data["dims"].exp or data["dims"].p3d or data["dims"].pnd:
        raise ValueError("no exponential and power cones")
    if not np.isfinite(data["b"]).all():
        raise ValueError("a constraint has an infinite limit: leave it out")
    return data, chain, inverse


def _program(data: dict[str, Any], offset: float) -> _Program:
    dims, a = data["dims"], csc_array(data["A"])
    sizes = dims.zero, dims.nonneg, list(dims.soc), list(dims.psd)
    return _Program(data["c"], a, data["b"], float(offset), *sizes)


def _run(program: _Program, time_limit_s: float, tolerance: float = _TOLERANCE) -> _Answer:
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.time_limit = time_limit_s
    for kind in ("gap_abs", "gap_rel", "feas", "infeas_abs", "infeas_rel"):
        setattr(settings, f"tol_{kind}", tolerance)
    cones = [
        clarabel.ZeroConeT(program.zero),
        clarabel.NonnegativeConeT(program.nonnegative),
        *(clarabel.SecondOrderConeT(size) for size in program.second_order),
        *(clarabel.PSDTriangleConeT(order) for order in program.semidefinite),
    ]
    columns = len(program.c)
    solver = clarabel.DefaultSolver(
        csc_array((columns, columns)), program.c, program.a, program.b, cones, settings
    )
    found = solver.solve()
    # a solve that broke off may leave 1e130 or NaN, with which recomputation would overflow
    x, z = (np.clip(np.nan_to_num(values), -1e100, 1e100) for values in (found.x, found.z))
    return _Answer(str(found.status), x, program.project(z, dual=True))


# --------------------------------------------------------------------------------------------
# What an answer proves


def _checks(program: _Program, answer: _Answer) -> tuple[Check, Check, Check]:
    left = program.a @ answer.x
    s = program.b - left
    scale = 1 + program.norms(program.b) + program.norms(left)
    distance = program.norms(s - program.project(s)) / scale
    residual = np.abs(program.c + program.a.T @ answer.z) / (1 + largest(np.abs(program.c)))
    objective, bound = program.objective(answer.x), program.bound(answer.z)
    gap = abs(objective - bound) / max(1.0, abs(objective))
    return (
        Check("distance of constraints from cones", largest(distance), _ACCEPTED, "relative"),
        Check("dual residual", largest(residual), _ACCEPTED, "relative"),
        Check("gap between objective and bound", gap, _ACCEPTED, "relative"),
    )


def _proves_infeasible(program: _Program, z: np.ndarray) -> bool:
    """Whether z in K* has A'z = 0 and b z < 0, though a feasible x needs (b - A x) z >= 0.

    With an error r in A'z the absolute values of x must add up to at least ``-b z / max |r|``:
    a million, as accepted here. The error must be small against the terms of A'z, too.
    """
    margin = -program.b @ z
    size = program.norms((np.abs(program.b) + abs(program.a).sum(axis=1)) * z)
    z = np.where(np.repeat(size > _TOLERANCE * margin, program.sizes), z, 0.0)
    terms, error = abs(program.a).T @ np.abs(z), largest(np.abs(program.a.T @ z))
    return _negligible(error, terms, -program.b @ z, np.abs(program.b) @ np.abs(z))


def _proves_dual_infeasible(program: _Program, x: np.ndarray) -> bool:
    """Whether c x < 0 and -A x in K, so that a feasible point may go along x for ever."""
    margin = -program.c @ x
    size = (np.abs(program.c) + abs(program.a).sum(axis=0)) * np.abs(x)
    x = np.where(size > _TOLERANCE * margin, x, 0.0)
    s, terms = -program.a @ x, abs(program.a) @ np.abs(x)
    error = largest(program.norms(s - program.project(s)))
    return _negligible(error, terms, -program.c @ x, np.abs(program.c) @ np.abs(x))


def _negligible(error: float, terms: np.ndarray, margin: float, rounded: float) -> bool:
    """Whether a certificate holds by a margin that neither its error nor rounding can be."""
    small = error <= _ACCEPTED * min(margin, largest(terms))
    return bool(small and margin > _TOLERANCE * rounded)


def _failure(
    program: _Program, answer: _Answer, named_rows: dict[str, np.ndarray], time_limit_s: float
) -> SolveError:
    """The error for an answer that is no proven optimum."""
    primal, dual, _ = checks = _checks(program, answer)
    late = answer.status == "MaxTime"
    stopped = NotProven(
        f"time limit of {time_limit_s:g} s" if late else f"solver status: {answer.status}",
        program.bound(answer.z) if dual.ok else -np.inf,
        program.objective(answer.x) if primal.ok else np.inf,
    )
    if late:
        return stopped
    if _is_infeasible(program, time_limit_s):
        names = _conflict(program, named_rows)
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if names[8:] else "")
        return Infeasible(f"no feasible point; in conflict: {shown}", names)
    falls = answer.status.endswith("DualInfeasible") and _proves_dual_infeasible(program, answer.x)
    if falls and _checks(program, _least_violation(program, time_limit_s))[0].ok:
        return Unbounded("the objective has no lower bound")
    if "Infeasible" in answer.status:
        return SolveError(f"the solver's claim does not survive recomputation: {answer.status}")
    if answer.status == "Solved":
        what = "; ".join(f"{check.name} {check.value:.3g}" for check in checks if not check.ok)
        return SolveError(f"the solver's answer does not survive recomputation: {what}")
    return stopped


def _is_infeasible(program: _Program, time_limit_s: float) -> bool:
    """Whether there is a proof that a programme is infeasible.

    Near the edge of being feasible one of two certificates may be accurate and the other not:
    the solver's own, and the multipliers of the least violation.
    """
    own = _run(replace(program, c=np.zeros_like(program.c)), time_limit_s)
    if own.status.endswith("PrimalInfeasible") and _proves_infeasible(program, own.z):
        return True
    return _proves_infeasible(program, _least_violation(program, time_limit_s).z)


def _least_violation(program: _Program, time_limit_s: float) -> _Answer:
    """Point and multipliers of min t subject to t >= -1 and b - A x + t e in K, e inside K.

    Equations count as pairs of inequalities. The multipliers prove that the programme without t
    is infeasible, if t > 0; else they are put to zero.
    """
    k, a, b = program.zero, program.a, program.b
    e = np.concatenate(
        [
            np.ones(2 * k + 1 + program.nonnegative),
            *(np.eye(1, size)[0] for size in program.second_order),
            *(np.eye(order)[np.tril_indices(order)] for order in program.semidefinite),
        ]
    )
    rows = csc_array(vstack([a[:k], -a[:k], csc_array((1, len(program.c))), a[k:]]))
    elastic = replace(
        program,
        c=np.append(np.zeros_like(program.c), 1.0),
        a=csc_array(hstack([rows, csc_array(-e[:, None])])),
        b=np.concatenate([b[:k], -b[:k], [1.0], b[k:]]),
        zero=0,
        nonnegative=2 * k + 1 + program.nonnegative,
    )
    answer = _run(elastic, time_limit_s, _FINE)
    z = np.concatenate([answer.z[:k] - answer.z[k : 2 * k], answer.z[2 * k + 1 :]])
    return _Answer(answer.status, answer.x[:-1], z if answer.x[-1] > 0 else 0 * z)


def _conflict(program: _Program, named_rows: dict[str, np.ndarray]) -> list[str]:
    """Names of rows that cannot hold together: all, less those without which the rest cannot.

    A certificate from an interior-point method has a part in nearly every row, whether needed or
    not, so that it does not tell them apart.
    """
    kept, conflict = np.ones(len(program.b), dtype=bool), []
    end = perf_counter() + _FILTER_TIME_S
    for name, rows in named_rows.items():
        if _is_infeasible(program.part(kept & ~rows), max(end - perf_counter(), 0.0)):
            kept &= ~rows
        else:
            conflict.append(name)
    return conflict


def _named_rows(problem: cvxpy.Problem, data: dict[str, Any], chain: Any) -> dict[str, np.ndarray]:
    """Rows of every constraint of the problem, and of the attributes of its variables."""
    final = chain.compose_constr_id_map()
    names = {
        final.get(c.id, c.id): c.label or f"constraint {k}: {shorten(str(c), 60)}"
        for k, c in enumerate(problem.constraints)
    }
    final = chain.compose_var_id_map()
    variables = {new: v.name() for v in problem.variables() for new in final.get(v.id, [v.id])}
    named: dict[str, np.ndarray] = {}
    start = 0
    for part in data["param_prob"].constraints:
        rows = slice(start, start + part.size)
        start += part.size
        if part.id in names:
            name = names[part.id]
        elif all(v.id in variables for v in part.variables()):
            name = "limits of " + ", ".join(variables[v.id] for v in part.variables())
        else:
            continue  # part of an atom: says nothing without the constraint that has the atom
        named.setdefault(name, np.zeros(len(data["b"]), dtype=bool))[rows] = True
    return named


def _nearest_second_order(s: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(s[1:]))
    if length <= abs(s[0]):
        return s if s[0] >= 0 else np.zeros_like(s)
    return (s[0] + length) / 2 * np.concatenate([[1.0], s[1:] / length])


def _nearest_semidefinite(s: np.ndarray, order: int) -> np.ndarray:
    column, row = np.tril_indices(order)  # the upper triangle by columns
    scale = np.where(row == column, 1.0, np.sqrt(2))
    matrix = np.zeros((order, order))
    matrix[row, column] = matrix[column, row] = s / scale
    values, vectors = np.linalg.eigh(matrix)
    nearest = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return nearest[row, column] * scale
