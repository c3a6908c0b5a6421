"""Complementarity as special ordered sets of type 1, by SCIP: a second opinion without any M."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack, vstack

from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import pairs
from flexlib.errors import Infeasible, MissingExtra, NotProven, SolveError, Unbounded
from flexlib.linear_program import LinearProgram
from flexlib.solver import Watch, solve

if TYPE_CHECKING:
    import pyscipopt


def solve_sos1(
    system: LinearProgram,
    problem: Bilevel,
    *,
    gap: float,
    time_limit_s: float,
    start: np.ndarray | None = None,
    watch: Watch | None = None,
) -> tuple[np.ndarray, float]:
    """Optimum of a system in which of each pair's slack and multiplier one is zero.

    Parameters
    ----------
    system : LinearProgram
        Whose first columns are those of `flexlib.bilevel_kkt.kkt_system`.
    problem : Bilevel
    gap : float
        Relative.
    time_limit_s : float
        CPU seconds of SCIP, wherever else the machine is busy.
    start : numpy.ndarray, shape (columns,), optional
        Feasible point.
    watch : callable, optional
        Called with bound and incumbent as SCIP finds them.

    Returns
    -------
    x : numpy.ndarray, shape (columns,)
    bound : float
        Of SCIP.

    Raises
    ------
    MissingExtra
        Without the package pyscipopt (extra ``scip``).
    Infeasible, Unbounded, NotProven, SolveError
        As `flexlib.solver.solve`.
    """
    try:
        import pyscipopt
    except ImportError as error:
        raise MissingExtra("pyscipopt", "scip") from error
    model = pyscipopt.Model()
    model.hideOutput()
    for name, value in {
        "limits/gap": gap,
        "limits/time": time_limit_s,
        "timing/clocktype": 1,  # CPU
        "numerics/feastol": 1e-9,
        "numerics/dualfeastol": 1e-9,
        "randomization/randomseedshift": 0,
    }.items():
        model.setParam(name, value)
    columns, slacks = _filled(model, system, problem)
    if start is not None:
        point, pair = model.createSol(), pairs(problem)
        d, x, _ = np.split(start, np.cumsum([len(problem.cost), len(problem.follower.c)]))
        for variable, number in zip([*columns, *slacks], [*start, *pair.slack(d, x)], strict=True):
            model.setSolVal(point, variable, float(number))
        model.addSol(point)
    if watch is not None:
        _watch(model, watch)
    model.optimize()
    if model.getStatus() == "inforunbd" and system.c.any():
        without_cost = replace(system, c=np.zeros_like(system.c))
        solve_sos1(without_cost, problem, gap=gap, time_limit_s=time_limit_s)  # or infeasible
    x, bound = _proven(model, columns, time_limit_s)
    _assert_least(system, problem, float(system.c @ x), gap, time_limit_s)
    return x, bound


def _assert_least(
    system: LinearProgram, problem: Bilevel, value: float, gap: float, time_limit_s: float
) -> None:
    """Raise if there is a point far below SCIP's optimum, where the relaxation has no bound.

    SCIP can call a point optimal although the objective has no lower bound.
    """
    least = np.where(system.c > 0, system.lower, system.upper)[system.c != 0]
    if np.isfinite(least).all():
        return
    try:
        solve(replace(system, integer=np.zeros(0, dtype=bool)))
    except Infeasible:  # within tolerances: there is a point
        return
    except Unbounded:
        below = replace(
            system,
            c=np.zeros_like(system.c),
            a=csr_array(vstack([system.a, csr_array(system.c[None])])),
            row_lower=np.append(system.row_lower, -np.inf),
            row_upper=np.append(system.row_upper, value - max(1.0, abs(value))),
            row_names=[*system.row_names, "below"],
        )
        try:
            solve_sos1(below, problem, gap=gap, time_limit_s=time_limit_s)
        except Infeasible:
            return
        raise SolveError(f"a point lies far below SCIP's optimum of {value:.9g}") from None


def _filled(
    model: pyscipopt.Model, system: LinearProgram, problem: Bilevel
) -> tuple[list[pyscipopt.Variable], list[pyscipopt.Variable]]:
    """The model's columns and slacks, after they, all rows and the ordered sets are added."""
    from pyscipopt import quicksum

    pair = pairs(problem)

    def limit(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    columns = [
        model.addVar(lb=limit(low), ub=limit(high), obj=float(c), vtype="I" if whole else "C")
        for low, high, c, whole in zip(
            system.lower, system.upper, system.c, system.integer, strict=True
        )
    ]
    slacks = [model.addVar(lb=0.0, ub=None) for _ in pair.names]
    variables = [*columns, *slacks]

    def add(a: csr_array, lower: np.ndarray, upper: np.ndarray) -> None:
        for j in range(a.shape[0]):
            at = slice(a.indptr[j], a.indptr[j + 1])
            terms = zip(a.data[at], a.indices[at], strict=True)
            body = quicksum(float(value) * variables[i] for value, i in terms)
            if lower[j] == upper[j]:
                model.addCons(body == float(upper[j]))
                continue
            if np.isfinite(upper[j]):
                model.addCons(body <= float(upper[j]))
            if np.isfinite(lower[j]):
                model.addCons(body >= float(lower[j]))

    add(csr_array(system.a), system.row_lower, system.row_upper)
    used = hstack([pair.slack_d, pair.slack_x])
    fill = csr_array((used.shape[0], len(columns) - used.shape[1]))
    eye = csr_array(eye_array(len(slacks)))
    add(csr_array(hstack([used, fill, eye])), pair.limit, pair.limit)
    first = len(problem.cost) + len(problem.follower.c) + len(problem.follower.b)
    for j, slack in enumerate(slacks):
        model.addConsSOS1([columns[first + j], slack])
    return columns, slacks


def _proven(
    model: pyscipopt.Model, columns: list[pyscipopt.Variable], time_limit_s: float
) -> tuple[np.ndarray, float]:
    """Values of the columns and SCIP's bound, or what its status says instead."""
    status = model.getStatus()
    if status == "infeasible":
        raise Infeasible("no decision has an optimal answer that the leader's rows allow")
    if status in ("unbounded", "inforunbd"):
        raise Unbounded("the leader's objective has no lower bound")
    found = model.getNSols() > 0
    values = np.array([model.getVal(v) for v in columns]) if found else None
    if status == "timelimit":
        most = float(model.getObjVal()) if found else np.inf
        raise NotProven(f"time limit of {time_limit_s:g} s", model.getDualbound(), most, values)
    if status not in ("optimal", "gaplimit") or values is None:
        raise SolveError(f"solver status: {status}")
    return values, float(model.getDualbound())


def _watch(model: pyscipopt.Model, watch: Watch) -> None:
    """Report bound and incumbent whenever SCIP has a better one."""
    from pyscipopt import SCIP_EVENTTYPE  # type: ignore[attr-defined]

    def report(model: pyscipopt.Model, _: object) -> None:
        known = model.getDualbound(), model.getPrimalbound()
        watch(*(float(v) if abs(v) < model.infinity() else np.copysign(np.inf, v) for v in known))

    events = [SCIP_EVENTTYPE.BESTSOLFOUND, SCIP_EVENTTYPE.DUALBOUNDIMPROVED]
    model.attachEventHandlerCallback(report, events)
