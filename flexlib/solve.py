"""The one door to solvers: HiGHS on a linear or mixed-integer programme, proven or raised.

Signs: a dual value is the change of the minimal objective for one unit more on the right-hand
side of its row. A binding upper limit of a minimisation therefore has a dual of at most zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import highspy
import numpy as np
import pyomo.environ as pyo
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler
from scipy.sparse import csc_array, csr_array

from flexlib.certificate import Check, largest
from flexlib.errors import Infeasible, NotProven, SolveError, Unbounded

_TOLERANCE = 1e-9  # primal and dual feasibility asked of the solver
_ACCEPTED = 1e-6  # largest violation and relative gap accepted when recomputed


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


def solve(
    problem: LinearProgram | pyo.ConcreteModel,
    *,
    gap: float = 1e-9,
    time_limit_s: float = 600.0,
) -> Solution:
    """Solve to proven optimality or raise.

    One thread and a fixed seed. The values of a Pyomo model's variables are set.

    Parameters
    ----------
    problem : LinearProgram or pyomo.environ.ConcreteModel
        Minimisation, linear, with or without integers.
    gap : float
        Relative gap at which a mixed-integer optimum counts as proven.
    time_limit_s : float
        Time after which `NotProven` is raised.

    Returns
    -------
    Solution

    Raises
    ------
    Infeasible
        With the names of an irreducible set of conflicting rows.
    Unbounded
        If the objective has no lower bound.
    NotProven
        If the time limit is met first; carries bound and incumbent.
    SolveError
        If the solver fails or its answer does not survive recomputation.
    """
    if isinstance(problem, LinearProgram):
        return _solve_arrays(problem, gap, time_limit_s)
    program, variables = _arrays(problem)
    solution = _solve_arrays(program, gap, time_limit_s)
    for variable, value in zip(variables, solution.x, strict=True):
        variable.set_value(value, skip_validation=True)
    return solution


def _solve_arrays(problem: LinearProgram, gap: float, time_limit_s: float) -> Solution:
    highs = _highs(problem, gap, time_limit_s)
    highs.run()
    status, info = highs.getModelStatus(), highs.getInfo()
    if status == highspy.HighsModelStatus.kInfeasible:
        conflict = conflicting_rows(problem)
        shown = ", ".join(conflict[:8]) + (f" and {len(conflict) - 8} more" if conflict[8:] else "")
        raise Infeasible(f"no feasible point; in conflict: {shown}", conflict)
    if status == highspy.HighsModelStatus.kUnboundedOrInfeasible:
        _solve_arrays(_without_objective(problem), gap, time_limit_s)  # raises if infeasible
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
        )
    if status != highspy.HighsModelStatus.kOptimal:
        raise SolveError(f"solver status: {highs.modelStatusToString(status)}")
    solution = highs.getSolution()
    x, dual = np.array(solution.col_value), np.array(solution.row_dual)
    if problem.integer.any():
        bound, dual = float(info.mip_dual_bound), np.full(len(problem.row_names), np.nan)
    else:
        bound = dual_bound(problem, dual)
    return _checked(problem, x, bound, dual)


def _checked(problem: LinearProgram, x: np.ndarray, bound: float, dual: np.ndarray) -> Solution:
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
        Check("gap between objective and bound", abs(relative_gap), _ACCEPTED, "relative"),
    )
    failed = [check for check in checks if not check.ok]
    if failed:
        what = "; ".join(f"{check.name} {check.value:.3g}" for check in failed)
        raise SolveError(f"the solver's answer does not survive recomputation: {what}")
    return Solution(x, objective, bound, dual, checks)


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
        The bound; minus infinity where a multiplier meets an infinite limit.
    """
    small = 1e-9 * max(1.0, largest(np.abs(row_dual)))
    y = np.where(np.abs(row_dual) > small, row_dual, 0.0)
    reduced = problem.c - problem.a.T @ y
    reduced[np.abs(reduced) < 1e-9 * np.maximum(1.0, np.abs(problem.c))] = 0.0
    rows = _product(y, np.where(y > 0, problem.row_lower, problem.row_upper))
    columns = _product(reduced, np.where(reduced > 0, problem.lower, problem.upper))
    return float(rows.sum() + columns.sum() + problem.offset)


def conflicting_rows(problem: LinearProgram) -> list[str]:
    """Names of an irreducible set of rows that cannot hold together.

    Parameters
    ----------
    problem : LinearProgram
        Infeasible; integer columns are relaxed, and if the relaxation is feasible every row is
        named.

    Returns
    -------
    list of str
    """
    relaxed = LinearProgram(
        problem.c, problem.a, problem.row_lower, problem.row_upper, problem.lower,
        problem.upper, problem.row_names, problem.column_names,
    )  # fmt: skip
    highs = _highs(relaxed, 0.0, 600.0)
    highs.setOptionValue("iis_strategy", 2)
    _, iis = highs.getIis()
    names = [problem.row_names[row] for row in iis.row_index_]
    return names or list(problem.row_names)


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
        "mip_feasibility_tolerance": _TOLERANCE,
        "mip_rel_gap": gap,
        "mip_abs_gap": 0.0,
        "time_limit": time_limit_s,
    }.items():
        highs.setOptionValue(option, value)
    highs.passModel(lp)
    return highs


def _arrays(model: pyo.ConcreteModel) -> tuple[LinearProgram, list[pyo.Var]]:
    form = LinearStandardFormCompiler().write(model, mixed_form=True)
    sense = [row.bound_type for row in form.rows]
    rhs = np.asarray(form.rhs, dtype=float)
    lower, upper = zip(*(variable.bounds for variable in form.columns), strict=True)
    program = LinearProgram(
        c=form.c.toarray().ravel(),
        a=csr_array(form.A),
        row_lower=np.where(np.equal(sense, 1), -np.inf, rhs),
        row_upper=np.where(np.equal(sense, -1), np.inf, rhs),
        lower=np.array([-np.inf if value is None else value for value in lower], dtype=float),
        upper=np.array([np.inf if value is None else value for value in upper], dtype=float),
        row_names=[str(row.constraint.name) for row in form.rows],
        column_names=[str(variable.name) for variable in form.columns],
        integer=np.array([variable.is_integer() for variable in form.columns]),
        offset=float(np.ravel(form.c_offset)[0]),
    )
    return program, list(form.columns)


def _without_objective(problem: LinearProgram) -> LinearProgram:
    return LinearProgram(
        np.zeros_like(problem.c), problem.a, problem.row_lower, problem.row_upper, problem.lower,
        problem.upper, problem.row_names, problem.column_names, problem.integer,
    )  # fmt: skip


def _product(factor: np.ndarray, limit: np.ndarray) -> np.ndarray:
    return np.multiply(factor, limit, out=np.zeros_like(factor), where=factor != 0)
