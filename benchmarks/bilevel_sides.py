"""Bilevel programmes the way others would solve them: Pyomo, indicator constraints, a guessed M.

Every side gets the arrays of `flexlib.bilevel` and returns value and bound of the leader's
objective, proven to the same relative gap: one thread, the tolerances of `flexlib.solver`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pyomo.environ as pyo
from pyomo.common.enums import ObjectiveSense
from pyomo.common.numeric_types import RegisterIntegerType
from pyomo.contrib.solver.common.results import TerminationCondition
from pyomo.contrib.solver.solvers.highs import Highs
from scipy.sparse import csr_array

from benchmarks.hub_sides import OPTIONS
from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import BigM, guessed, pairs
from flexlib.bilevel_solve import BilevelOptimum, solve_bilevel
from flexlib.errors import Infeasible, NotProven, Unbounded

RegisterIntegerType(ObjectiveSense)  # core.kkt multiplies by it

GUESS = 1e5  # the value that PAO's solver FA has by default
_EXACT = {"mip_feasibility_tolerance": 1e-7, "mip_abs_gap": 0.0}  # as `flexlib.solver`


def by_pyomo(
    problem: Bilevel, m: BigM, *, gap: float, time_limit_s: float = 600.0
) -> tuple[float, float]:
    """KKT conditions by Pyomo's core.kkt, complementarity by gdp.bigm with given M, by HiGHS.

    Through Pyomo's own interface; nothing of the solution is loaded.

    Parameters
    ----------
    problem : Bilevel
    m : BigM
        Bounds of the multipliers, and what gdp.bigm is given for the slacks.
    gap : float
        Relative.
    time_limit_s : float

    Returns
    -------
    value, bound : float

    Raises
    ------
    Infeasible, Unbounded, NotProven
        As `flexlib.bilevel_solve.solve_bilevel`.
    """
    result = Highs().solve(
        pyomo_model(problem, m),
        threads=1,
        time_limit=time_limit_s,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
        solver_options={**OPTIONS, **_EXACT, "mip_rel_gap": gap},
    )
    how, value = result.termination_condition, result.incumbent_objective
    bound = -np.inf if result.objective_bound is None else float(result.objective_bound)
    if how == TerminationCondition.convergenceCriteriaSatisfied:
        return float(value), bound
    if how == TerminationCondition.provenInfeasible:
        raise Infeasible("no decision has an optimal answer that the leader's rows allow")
    if how in (TerminationCondition.unbounded, TerminationCondition.infeasibleOrUnbounded):
        raise Unbounded("the leader's objective has no lower bound")
    raise NotProven(f"Pyomo: {how.name}", bound, np.inf if value is None else float(value), None)


def pyomo_model(problem: Bilevel, m: BigM) -> pyo.ConcreteModel:
    """The mixed-integer programme as Pyomo's transformations make it.

    Where M leaves no slack or no multiplier, that stands in place of complementarity. Of the rows
    in the disjuncts, those that hold anyway (slack and multiplier at least 0) get an M of 0.
    """
    model, f = pyo.ConcreteModel(), problem.follower
    model.d = d = _variables(problem.lower, problem.upper, problem.integer)
    model.follower = follower = pyo.Block()
    follower.x = x = _variables(f.lower, f.upper, np.zeros(len(f.c), dtype=bool))
    model.cost = pyo.Objective(expr=_dot(problem.cost, d) + _dot(problem.cost_follower, x))
    model.rows = pyo.Constraint(
        range(len(problem.limit)),
        rule=_rule((problem.rows, d), (problem.rows_follower, x), problem.limit, "<="),
    )
    follower.cost = pyo.Objective(
        expr=_dot(f.c, x) + _products(f.c_leader, x, d) + 0.5 * _products(f.q, x, x)
    )
    follower.equal = pyo.Constraint(
        range(len(f.b)), rule=_rule((f.a_leader, d), (f.a, x), f.b, "==")
    )
    follower.most = pyo.Constraint(
        range(len(f.h)), rule=_rule((f.g_leader, d), (f.g, x), f.h, "<=")
    )
    kkt = pyo.TransformationFactory("core.kkt")
    used = sum(abs(part).sum(axis=0) for part in (f.c_leader, f.a_leader, f.g_leader))
    kkt.apply_to(follower, parameterize_wrt=[d[j] for j in np.flatnonzero(used).tolist()])
    multiplier = partial(kkt.get_multiplier_from_object, follower)
    for row, low, high in zip(
        follower.equal.values(), m.equation_low, m.equation_high, strict=True
    ):
        multiplier(row).setlb(_finite(low))
        multiplier(row).setub(_finite(high))
    ours = [multiplier(row)[1] for row in follower.most.values()]
    for side, bound in enumerate((f.lower, f.upper)):
        ours += [multiplier(x[j])[side] for j in np.flatnonzero(np.isfinite(bound)).tolist()]
    place = {id(alpha): j for j, alpha in enumerate(ours)}
    of_pair = [place[id(alpha)] for alpha in follower.kkt.alpha.values()]
    for alpha, most in zip(ours, m.multiplier, strict=True):
        alpha.setub(_finite(most))
    conditions = dict(zip(of_pair, follower.kkt.complements.values(), strict=True))
    closed = sorted(set(conditions) - set(m.open.tolist()))
    for j in closed:
        conditions.pop(j).deactivate()
    pair, tight = pairs(problem), [j for j in closed if m.multiplier[j] > 0]
    model.tight = pyo.Constraint(
        tight, rule=_rule((pair.slack_d, d), (pair.slack_x, x), pair.limit, "==")
    )
    pyo.TransformationFactory("mpec.simple_disjunction").apply_to(model)
    largest: dict[Any, float] = {}
    for j, condition in conditions.items():
        one, other = condition.expr1, condition.expr2
        largest |= {one.c0: 0.0, one.c1: float(m.slack[j])}
        largest |= {other.c0: float(m.multiplier[j]), other.c1: 0.0}
    pyo.TransformationFactory("gdp.bigm").apply_to(model, bigM=largest)
    return model


def by_indicators(problem: Bilevel, *, gap: float, time_limit_s: float = 600.0) -> BilevelOptimum:
    """As `solve_bilevel` with special ordered sets, by SCIP with indicator constraints instead."""
    import pyscipopt

    class Model(pyscipopt.Model):
        def addConsSOS1(self, pair: list[Any]) -> None:
            first = self.addVar(vtype="B")
            for variable, on in zip(pair, (True, False), strict=True):
                self.addConsIndicator(variable <= 0, first, activeone=on)

    with patch.object(pyscipopt, "Model", Model):
        return solve_bilevel(problem, "sos1", gap=gap, time_limit_s=time_limit_s)


def by_guess(
    problem: Bilevel, m: float, *, gap: float, time_limit_s: float = 600.0
) -> BilevelOptimum:
    """As `solve_bilevel` with KKT conditions, one guessed M for all slacks and multipliers."""
    return solve_bilevel(problem, m=guessed(problem, m), gap=gap, time_limit_s=time_limit_s)


def _variables(lower: np.ndarray, upper: np.ndarray, integer: np.ndarray) -> pyo.Var:
    return pyo.Var(
        range(len(lower)),
        bounds=lambda _, j: (_finite(lower[j]), _finite(upper[j])),
        domain=lambda _, j: pyo.Integers if integer[j] else pyo.Reals,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _dot(factors: np.ndarray, variables: pyo.Var) -> Any:
    at = np.flatnonzero(factors).tolist()
    return pyo.quicksum(float(factors[j]) * variables[j] for j in at)


def _products(matrix: csr_array, rows: pyo.Var, columns: pyo.Var) -> Any:
    entry = matrix.tocoo()
    places = zip(entry.data.tolist(), entry.row.tolist(), entry.col.tolist(), strict=True)
    return pyo.quicksum(value * rows[i] * columns[j] for value, i, j in places if value)


def _rule(
    one: tuple[csr_array, pyo.Var], other: tuple[csr_array, pyo.Var], side: np.ndarray, sense: str
) -> Callable[[Any, int], Any]:
    """Rule of the rows ``A v + B w <= side`` or ``== side``."""

    def rule(_: Any, i: int) -> Any:
        body = pyo.quicksum(
            float(matrix.data[k]) * variables[int(matrix.indices[k])]
            for matrix, variables in (one, other)
            for k in range(matrix.indptr[i], matrix.indptr[i + 1])
        )
        if isinstance(body, (int, float)):
            return pyo.Constraint.Feasible
        return body <= float(side[i]) if sense == "<=" else body == float(side[i])

    return rule
