"""The one door to solvers, proven or raised: HiGHS for linear and integer, Clarabel for convex.

Signs: a dual value is the change of the minimal objective for one unit more on the right-hand
side of its row. A binding upper limit of a minimisation therefore has a dual of at most zero.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

import highspy
import numpy as np
import pyomo.environ as pyo
from scipy.sparse import csc_array, csr_array, eye_array, hstack

from flexlib.certificate import Check, largest
from flexlib.cone_solver import ConeSolution, solve_cone
from flexlib.errors import Infeasible, NotProven, SolveError, Unbounded
from flexlib.linear_program import LinearProgram, dual_bound, independent_parts
from flexlib.pyomo_program import linear_program_of

if TYPE_CHECKING:
    import cvxpy

_TOLERANCE = 1e-9  # primal and dual feasibility asked of the solver
_MIXED = 1e-7  # the same with integers, at first: at 1e-9 HiGHS 1.15 may lose optima
_INCONCLUSIVE = (
    highspy.HighsModelStatus.kNotset,
    highspy.HighsModelStatus.kSolveError,
    highspy.HighsModelStatus.kUnknown,
)
_PART = 3_000  # columns of a part at most, unless nothing in it falls apart
_LARGE = 100_000  # columns from which the interior-point method (with crossover) comes first
_MOST_FILTERED = 500  # rows of a conflict that are tried one by one
_FILTER_TIME_S = 60.0  # time for each of them
_ACCEPTED = 1e-6  # largest violation and relative gap accepted when recomputed


@dataclass(frozen=True)
class Solution:
    """A proven optimum.

    Attributes
    ----------
    x : numpy.ndarray, shape (columns,)
    objective, bound : float
        Value of x and proven lower bound on the minimum, both recomputed from the data for a
        linear programme; the bound of a mixed-integer programme is the solver's.
    row_dual : numpy.ndarray, shape (rows,)
        Dual values; NaN for a mixed-integer programme.
    checks : tuple of Check
        Row, column and integrality violations and the gap, recomputed.
    """

    x: np.ndarray
    objective: float
    bound: float
    row_dual: np.ndarray
    checks: tuple[Check, ...]


Watch = Callable[[float, float], None]


@overload
def solve(
    problem: LinearProgram,
    *,
    gap: float = ...,
    time_limit_s: float = ...,
    start: np.ndarray | None = ...,
    watch: Watch | None = ...,
) -> Solution: ...
@overload
def solve(
    problem: pyo.ConcreteModel | cvxpy.Problem, *, gap: float = ..., time_limit_s: float = ...
) -> Solution | ConeSolution: ...
def solve(
    problem: LinearProgram | pyo.ConcreteModel | cvxpy.Problem,
    *,
    gap: float = 1e-9,
    time_limit_s: float = 600.0,
    start: np.ndarray | None = None,
    watch: Watch | None = None,
) -> Solution | ConeSolution:
    """Solve to proven optimality or raise.

    One thread and a fixed seed. The values of a model's variables are set. Parts of a linear
    programme that share no column are solved one after another.

    Parameters
    ----------
    problem : LinearProgram, pyomo.environ.ConcreteModel or cvxpy.Problem
        Minimisation, linear, with or without integers; for cvxpy see `solve_cone`.
    gap : float
        Relative gap at which a mixed-integer optimum counts as proven.
    time_limit_s : float
        Time after which `NotProven` is raised, of each part.
    start : numpy.ndarray, shape (columns,), optional
        Feasible point of a mixed-integer `LinearProgram` to start from.
    watch : callable, optional
        Called with bound and incumbent of a mixed-integer `LinearProgram` as they change.

    Returns
    -------
    Solution or ConeSolution

    Raises
    ------
    Infeasible
        With the names of an irreducible set of conflicting rows or constraints.
    Unbounded
        If the objective has no lower bound.
    ValueError
        If the objective is to be maximised, or a problem of cvxpy is not of the kind above.
    NotProven
        If the time limit is met first; carries bound, incumbent and the incumbent's point.
    SolveError
        If the solver fails or its answer does not survive recomputation.
    """
    if isinstance(problem, LinearProgram):
        return _solve_arrays(problem, gap, time_limit_s, start, watch)
    if type(problem).__module__.startswith("cvxpy"):  # told without its import, which is slow
        return solve_cone(problem, time_limit_s)
    program, variables = linear_program_of(problem)
    solution = _solve_arrays(program, gap, time_limit_s)
    for variable, value in zip(variables, solution.x, strict=True):
        variable.set_value(value, skip_validation=True)
    return solution


def _solve_arrays(
    problem: LinearProgram,
    gap: float,
    time_limit_s: float,
    start: np.ndarray | None = None,
    watch: Watch | None = None,
) -> Solution:
    """Solve a problem, a linear programme that falls apart part by part."""
    if problem.integer.any() or len(problem.c) <= _PART:
        return _solve_whole(problem, gap, time_limit_s, start, watch)
    parts = independent_parts(problem, _PART)
    if len(parts) == 1:
        return _solve_whole(problem, gap, time_limit_s)
    x, dual = np.zeros(len(problem.c)), np.zeros(len(problem.row_names))
    for rows, columns, part in parts:
        solution = _solve_whole(part, gap, time_limit_s)
        x[columns], dual[rows] = solution.x, solution.row_dual
    return _checked(problem, x, dual_bound(problem, dual), dual, gap)


def _solve_whole(
    problem: LinearProgram,
    gap: float,
    time_limit_s: float,
    start: np.ndarray | None = None,
    watch: Watch | None = None,
    mixed: float = _MIXED,
) -> Solution:
    highs, status = _run(problem, gap, time_limit_s, start, watch, mixed)
    info = highs.getInfo()
    if _is_infeasible(problem, status):
        if start is not None:
            raise SolveError("the solver finds no feasible point, although it was given one")
        conflict = conflicting_rows(problem)
        shown = ", ".join(conflict[:8]) + (f" and {len(conflict) - 8} more" if conflict[8:] else "")
        raise Infeasible(f"no feasible point; in conflict: {shown}", conflict)
    if status == highspy.HighsModelStatus.kUnboundedOrInfeasible:
        without_cost = replace(problem, c=np.zeros_like(problem.c))
        _solve_whole(without_cost, gap, time_limit_s)  # raises if infeasible
        raise Unbounded("the objective has no lower bound")
    if status == highspy.HighsModelStatus.kUnbounded:
        raise Unbounded("the objective has no lower bound")
    if status == highspy.HighsModelStatus.kTimeLimit:
        incumbent = info.objective_function_value
        found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        raise NotProven(
            f"time limit of {time_limit_s:g} s",
            info.mip_dual_bound if problem.integer.any() else -np.inf,
            incumbent if found else np.inf,
            np.array(highs.getSolution().col_value) if found else None,
        )
    if status != highspy.HighsModelStatus.kOptimal:
        raise SolveError(f"solver status: {highs.modelStatusToString(status)}")
    solution = highs.getSolution()
    x, dual = np.array(solution.col_value), np.array(solution.row_dual)
    if problem.integer.any():
        bound, dual = float(info.mip_dual_bound), np.full(len(problem.row_names), np.nan)
        x = _with_whole_integers(problem, x, time_limit_s)
        value = float(problem.c @ x + problem.offset)
        if mixed > _TOLERANCE and value - bound > max(gap, _ACCEPTED) * max(1.0, abs(value)):
            with suppress(Infeasible):  # which is known to be false here
                return _solve_whole(problem, gap, time_limit_s, start, watch, _TOLERANCE)
    else:
        bound = dual_bound(problem, dual)
    if start is not None and bound > problem.c @ start + problem.offset + _ACCEPTED:
        raise SolveError("the solver's bound is above the objective of the start")
    return _checked(problem, x, bound, dual, gap)


def _with_whole_integers(problem: LinearProgram, x: np.ndarray, time_limit_s: float) -> np.ndarray:
    """Optimum with integers rounded and the rest solved anew: large factors magnify remainders.

    The point itself where rounding leaves none.
    """
    rounded = np.round(x)
    fixed = replace(
        problem,
        lower=np.where(problem.integer, rounded, problem.lower),
        upper=np.where(problem.integer, rounded, problem.upper),
        integer=np.zeros(0, dtype=bool),
    )
    highs, status = _run(fixed, 0.0, time_limit_s)
    if status != highspy.HighsModelStatus.kOptimal:
        return x
    return np.array(highs.getSolution().col_value)


def _run(
    problem: LinearProgram,
    gap: float,
    time_limit_s: float,
    start: np.ndarray | None = None,
    watch: Watch | None = None,
    mixed: float = _MIXED,
) -> tuple[highspy.Highs, highspy.HighsModelStatus]:
    """Run HiGHS, large ones by interior point; where it stops for numerical reasons, otherwise.

    HiGHS 1.15 can find a feasible mixed-integer programme infeasible, in presolve (integer columns
    with bounds that are no integers) and by propagation. There the finding counts without presolve
    only.
    """
    doubted = {*_INCONCLUSIVE}
    ways = [("solver", "choose"), ("solver", "ipm"), ("presolve", "off")]
    if problem.integer.any():
        doubted |= {highspy.HighsModelStatus.kInfeasible}
        ways = [("presolve", "choose"), ("presolve", "off")]
    elif len(problem.c) > _LARGE:
        ways = [("solver", "ipm"), ("solver", "simplex"), ("presolve", "off")]
    for option, value in ways:
        highs = _highs(problem, gap, time_limit_s)
        highs.setOptionValue("mip_feasibility_tolerance", mixed)
        highs.setOptionValue(option, value)
        if start is not None:
            point = highspy.HighsSolution()
            point.col_value = start
            highs.setSolution(point)
        if watch is not None:
            _watch(highs, watch)
        highs.run()
        status = highs.getModelStatus()
        if status not in doubted:
            break
    return highs, status


def _watch(highs: highspy.Highs, watch: Watch) -> None:
    """Report bound and incumbent whenever HiGHS writes a line of its log."""
    highs.setOptionValue("output_flag", True)
    highs.setOptionValue("log_to_console", False)
    highs.cbMipLogging.subscribe(
        lambda event: watch(event.data_out.mip_dual_bound, event.data_out.mip_primal_bound)
    )


def _checked(
    problem: LinearProgram, x: np.ndarray, bound: float, dual: np.ndarray, gap: float
) -> Solution:
    objective = float(problem.c @ x + problem.offset)
    rows = problem.a @ x
    row_scale = 1 + np.abs(rows)
    outside = np.maximum(problem.row_lower - rows, rows - problem.row_upper) / row_scale
    beyond = np.maximum(problem.lower - x, x - problem.upper) / (1 + np.abs(x))
    fraction = np.abs(x - np.round(x))[problem.integer]
    relative_gap = (objective - bound) / max(1.0, abs(objective))
    checks = (
        Check("rows of the programme", largest(outside), _ACCEPTED, "relative"),
        Check("bounds of the variables", largest(beyond), _ACCEPTED, "relative"),
        Check("integrality", largest(fraction), _ACCEPTED, ""),
        Check(
            "gap between objective and bound", abs(relative_gap), max(gap, _ACCEPTED), "relative"
        ),
    )
    failed = [check for check in checks if not check.ok]
    if failed:
        what = "; ".join(f"{check.name} {check.value:.3g}" for check in failed)
        raise SolveError(f"the solver's answer does not survive recomputation: {what}")
    return Solution(x, objective, bound, dual, checks)


def conflicting_rows(problem: LinearProgram) -> list[str]:
    """Names of rows that cannot hold together with the variables' bounds.

    The rows of a Farkas certificate, less every row without which the others still conflict.

    Parameters
    ----------
    problem : LinearProgram
        Infeasible.

    Returns
    -------
    list of str
        An irreducible set; a sufficient one where the certificate has more than 500 rows.
    """
    rows = _farkas_rows(problem)
    for row in rows if len(rows) <= _MOST_FILTERED else ():
        others = [other for other in rows if other != row]
        if not _feasible(problem, others):
            rows = others
    return [problem.row_names[row] for row in rows]


def _farkas_rows(problem: LinearProgram) -> list[int]:
    """Rows with a multiplier in the least total violation; all if the relaxation is feasible."""
    count = len(problem.row_names)
    elastic = replace(
        problem,
        c=np.concatenate([np.zeros(len(problem.c)), np.ones(2 * count)]),
        a=csr_array(hstack([problem.a, eye_array(count), -eye_array(count)])),
        lower=np.concatenate([problem.lower, np.zeros(2 * count)]),
        upper=np.concatenate([problem.upper, np.full(2 * count, np.inf)]),
        integer=np.zeros(len(problem.c) + 2 * count, dtype=bool),
        column_names=[],
    )
    highs, status = _run(elastic, 0.0, _FILTER_TIME_S)
    violation = highs.getInfo().objective_function_value
    if status != highspy.HighsModelStatus.kOptimal or violation < _TOLERANCE:
        return list(range(count))
    multipliers = np.abs(np.array(highs.getSolution().row_dual))
    return np.flatnonzero(multipliers > 1e-9).tolist()


def _feasible(problem: LinearProgram, rows: list[int]) -> bool:
    part = replace(
        problem,
        c=np.zeros_like(problem.c),
        a=problem.a[rows],
        row_lower=problem.row_lower[rows],
        row_upper=problem.row_upper[rows],
        row_names=[problem.row_names[row] for row in rows],
    )
    return not _is_infeasible(part, _run(part, 0.0, _FILTER_TIME_S)[1])


def _is_infeasible(problem: LinearProgram, status: highspy.HighsModelStatus) -> bool:
    """Whether a status says infeasible; without a cost, nothing can be unbounded."""
    either = status == highspy.HighsModelStatus.kUnboundedOrInfeasible
    return status == highspy.HighsModelStatus.kInfeasible or (either and not problem.c.any())


def _highs(problem: LinearProgram, gap: float, time_limit_s: float) -> highspy.Highs:
    columns = csc_array(problem.a)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(problem.c), len(problem.row_names)
    lp.col_cost_, lp.offset_ = problem.c, problem.offset
    lp.col_lower_, lp.col_upper_ = problem.lower, problem.upper
    lp.row_lower_, lp.row_upper_ = problem.row_lower, problem.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = columns.indptr
    lp.a_matrix_.index_ = columns.indices
    lp.a_matrix_.value_ = columns.data
    if problem.integer.any():
        kinds = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
        lp.integrality_ = [kinds[int(integer)] for integer in problem.integer]
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, value in {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "primal_feasibility_tolerance": _TOLERANCE,
        "dual_feasibility_tolerance": _TOLERANCE,
        "mip_rel_gap": gap,
        "mip_abs_gap": 0.0,
        "time_limit": time_limit_s,
    }.items():
        highs.setOptionValue(option, value)
    highs.passModel(lp)
    return highs
