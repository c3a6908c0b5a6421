"""The robust market by general tools for robust optimisation, PyROS and RSOME.

They get the limits as linear functions of activation and deviation, as the array route does, and
the set; what the uncertain loads can add is for each tool to find.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib import pyros
from scipy.sparse import csc_array, csr_array, eye_array, vstack

from flexlib import Box, Budget, Ellipsoid, Market, solve
from flexlib.linear_program import LinearProgram
from flexlib.planes import along
from flexlib.robust_limits import CURRENT, every_limit, limits_that_can_bind
from flexlib.robust_rows import current_rows, every_plane

TOLERANCE = 1e-9  # feasibility asked of every solver
_ROBUST = 1e-8  # and of PyROS; at the solver's own it can add the same scenario for ever
_MOST_ITERATIONS = 100
INSTALL = "pip install -r benchmarks/peers.txt"
_QUIET = logging.getLogger("benchmarks.peers")
_QUIET.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Data:
    """Activations x and rows ``Re(conj(a) z) <= bound`` of ``z = base + per_kw x + per_xi xi``.

    Attributes
    ----------
    volume_kw, price : numpy.ndarray, shape (columns,)
        Of every volume that is offered, first upward, then downward; EUR per kWh.
    base : numpy.ndarray of complex, shape (limits,)
        Limited currents at the baseline, ampere.
    per_kw, per_xi : numpy.ndarray of complex, shapes (limits, columns), (limits, n)
    limit : numpy.ndarray of int, shape (rows,)
        Position of the current.
    normal : numpy.ndarray of complex, shape (rows,)
        a.
    bound : numpy.ndarray, shape (rows,)
    """

    volume_kw: np.ndarray
    price: np.ndarray
    base: np.ndarray
    per_kw: np.ndarray
    per_xi: np.ndarray
    limit: np.ndarray
    normal: np.ndarray
    bound: np.ndarray

    @property
    def room(self) -> np.ndarray:
        """Bound of each row less the value at the baseline."""
        return self.bound - along(self.normal, self.base[self.limit])

    def row(self, functions: np.ndarray) -> np.ndarray:
        """Coefficients of each row, of `per_kw` or `per_xi`."""
        return along(self.normal[:, None], functions[self.limit])


def data(market: Market, every: bool = False) -> Data:
    """What the tools get: the limits and planes that can bind, or all of them.

    Parameters
    ----------
    market : Market
        With the band on the baseline.
    every : bool
        Whether to keep the limits that nothing can reach. Voltage limits are not among them.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        For a band on what remains, and if a voltage limit can bind.
    """
    if market.band != "baseline":
        raise ValueError("the peers take a band on the baseline")
    limits = limits_that_can_bind(market)
    if (limits.kind != CURRENT).any():
        raise ValueError("a voltage limit can bind: the peers take current limits alone")
    if every:
        limits = every_limit(market)
    current = slice(int((limits.kind == CURRENT).sum()))  # they come first
    rows = (every_plane if every else current_rows)(market, limits)
    price = market.offers[["price_up_eur_per_mwh", "price_down_eur_per_mwh"]].to_numpy().T.ravel()
    offered = np.flatnonzero(market.volume_kw.ravel() > 0)
    return Data(
        volume_kw=market.volume_kw.ravel()[offered],
        price=price[offered] / 1000,
        base=limits.base[current],
        per_kw=np.hstack([limits.per_kw, -limits.per_kw])[current, offered],
        per_xi=limits.per_xi[current],
        limit=rows.limit,
        normal=rows.normal,
        bound=rows.bound,
    )


# --------------------------------------------------------------------------------------------
# PyROS


def pyros_cost(market: Market, every: bool = False) -> float:
    """Cost of the market that PyROS finds, EUR per hour.

    Parameters
    ----------
    market : Market
        Over a box or a budget.
    every : bool
        See `data`.

    Returns
    -------
    float
    """
    return float(solve_by_pyros(market, every).final_objective_value)


def solve_by_pyros(market: Market, every: bool = False) -> Any:
    """Solve the market with PyROS, the cutting-set solver that comes with Pyomo.

    In the fastest mode found: currents are state variables, so that a row has two terms in the
    separation problems; these are solved by the global solver alone, the rows with least room at
    the baseline first, until one is broken; and the persistent interface to HiGHS looks for
    nothing but a new objective.

    Parameters
    ----------
    market : Market
        Over a box or a budget.
    every : bool
        See `data`.

    Returns
    -------
    pyomo.contrib.pyros.ROSolveResults
        Proven robust optimum.

    Raises
    ------
    RuntimeError
        If PyROS ends otherwise.
    """
    model = pyros_model(data(market, every))
    highs = _persistent_highs()
    result = pyo.SolverFactory("pyros").solve(
        model,
        first_stage_variables=model.x_kw,
        second_stage_variables=[],
        uncertain_params=model.xi,
        uncertainty_set=pyros_set(market.uncertainty),
        local_solver=highs,
        global_solver=highs,
        objective_focus=pyros.ObjectiveType.worst_case,
        solve_master_globally=True,
        bypass_local_separation=True,
        robust_feasibility_tolerance=_ROBUST,
        max_iter=_MOST_ITERATIONS,
        load_solution=False,
        progress_logger=_QUIET,
    )
    ended = result.pyros_termination_condition
    if ended is not pyros.pyrosTerminationCondition.robust_optimal:
        raise RuntimeError(f"PyROS ended with {ended.name}")
    return result


def pyros_model(given: Data) -> pyo.ConcreteModel:
    """The deterministic model from which PyROS makes the robust one; xi is 0 in it."""
    m = pyo.ConcreteModel()
    m.x_kw = pyo.Var(range(len(given.price)), bounds=lambda m, o: (0.0, float(given.volume_kw[o])))
    m.xi = pyo.Param(range(given.per_xi.shape[1]), initialize=0.0, mutable=True)
    m.cost = pyo.Objective(expr=_linear(given.price, m.x_kw))
    parts = [
        (part(given.base).tolist(), part(given.per_kw), part(given.per_xi))
        for part in (np.real, np.imag)
    ]
    limits = range(len(given.base))
    m.i_a = pyo.Var(limits, (0, 1), initialize=lambda m, q, p: parts[p][0][q])
    m.current = pyo.Constraint(
        limits,
        (0, 1),
        rule=lambda m, q, p: (
            m.i_a[q, p]
            == parts[p][0][q] + _linear(parts[p][1][q], m.x_kw) + _linear(parts[p][2][q], m.xi)
        ),
    )
    limit, normal, bound = (a.tolist() for a in (given.limit, given.normal, given.bound))
    m.limit = pyo.Constraint(
        range(len(bound)),
        rule=lambda m, r: (
            normal[r].real * m.i_a[limit[r], 0] + normal[r].imag * m.i_a[limit[r], 1] <= bound[r]
        ),
    )
    m.pyros_separation_priority = pyo.Suffix()
    for priority, r in enumerate(np.argsort(-given.room, kind="stable").tolist()):
        m.pyros_separation_priority[m.limit[r]] = priority
    return m


def pyros_set(uncertainty: Box | Budget) -> Any:
    """The uncertainty set in the words of PyROS."""
    one = np.ones(len(uncertainty.load))
    if type(uncertainty) is Box:
        return pyros.BoxSet(np.column_stack([-one, one]).tolist())
    if type(uncertainty) is Budget:
        return pyros.CardinalitySet(0 * one, one, uncertainty.gamma, negative_deviation=one)
    raise ValueError(f"no LP solver separates over {type(uncertainty).__name__}")


def _persistent_highs() -> Any:
    """HiGHS that rebuilds a model when it is another one, and else only renews its objective."""
    highs = pyo.SolverFactory("appsi_highs")
    highs.highs_options = {
        "threads": 1,
        "random_seed": 0,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": TOLERANCE,
    }
    for check in (
        "check_for_new_or_removed_constraints",
        "check_for_new_or_removed_vars",
        "check_for_new_or_removed_params",
        "update_constraints",
        "update_params",
        "update_named_expressions",
    ):
        highs.update_config[check] = False
    return highs


def _linear(coefficients: np.ndarray, of: Any) -> Any:
    """A sum that Pyomo keeps flat; a nested one of many parameters is too deep to be copied."""
    return pyo.quicksum(c * x for c, x in zip(coefficients.tolist(), of.values(), strict=True))


# --------------------------------------------------------------------------------------------
# RSOME


def rsome_cost(market: Market, every: bool = False) -> float:
    """Cost of the market that RSOME finds, EUR per hour.

    RSOME writes the robust counterpart; it is solved with our options, since RSOME's interface to
    SciPy passes none on.

    Parameters
    ----------
    market : Market
        Over a box, a budget or an ellipsoid.
    every : bool
        See `data`.

    Returns
    -------
    float
    """
    counterpart = rsome_model(market, every).do_math()
    if counterpart.qmat:
        return _by_clarabel(counterpart)
    count, columns = counterpart.linear.shape
    program = LinearProgram(
        c=counterpart.obj,
        a=csr_array(counterpart.linear),
        row_lower=np.where(counterpart.sense == 1, counterpart.const, -np.inf),
        row_upper=counterpart.const,
        lower=counterpart.lb,
        upper=counterpart.ub,
        row_names=[""] * count,
        column_names=[""] * columns,
    )
    return solve(program).objective


def rsome_model(market: Market, every: bool = False) -> Any:
    """The market in RSOME, all rows in one expression.

    The random variables of a box and of a budget are at least 0, which halves the variables that
    RSOME adds to each row.

    Parameters
    ----------
    market : Market
        Over a box, a budget or an ellipsoid.
    every : bool
        See `data`.

    Returns
    -------
    rsome.ro.Model

    Raises
    ------
    ModuleNotFoundError
        Saying how to install RSOME.
    """
    try:
        from rsome import norm, ro
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"RSOME is not installed: {INSTALL}", name="rsome") from error
    given, uncertainty = data(market, every), market.uncertainty
    per_x, per_xi, room = given.row(given.per_kw), given.row(given.per_xi), given.room
    n = per_xi.shape[1]
    model = ro.Model()
    x_kw = model.dvar(len(given.price))
    if type(uncertainty) is Box:  # xi = 2 u - 1
        u = model.rvar(n)
        per_u, room = 2 * per_xi, room + per_xi.sum(axis=1)
        inside = [u >= 0, u <= 1]
    elif type(uncertainty) is Budget:  # xi = u' - u'', the halves of u
        u = model.rvar(2 * n)
        per_u = np.hstack([per_xi, -per_xi])
        inside = [u >= 0, u[:n] + u[n:] <= 1, u.sum() <= uncertainty.gamma]
    elif type(uncertainty) is Ellipsoid:  # xi = omega L u
        u = model.rvar(n)
        per_u = uncertainty.omega * per_xi @ uncertainty.root
        inside = [norm(u, 2) <= 1]
    else:
        raise ValueError(f"no form of {type(uncertainty).__name__} for RSOME")
    model.min(given.price @ x_kw)
    model.st(x_kw >= 0, x_kw <= given.volume_kw)
    if len(room):  # RSOME takes no empty arrays
        model.st((per_x @ x_kw + per_u @ u <= room).forall(inside))
    return model


def _by_clarabel(program: Any) -> float:
    """Optimum of a second-order cone programme in RSOME's standard form."""
    import clarabel

    equal = program.sense == 1
    upper, lower = np.isfinite(program.ub), np.isfinite(program.lb)
    columns = len(program.obj)
    one = csr_array(eye_array(columns))
    linear = csr_array(program.linear)
    norms = [np.asarray(q, dtype=int) for q in program.qmat]
    parts = [linear[equal], linear[~equal], one[upper], -one[lower], -one[np.concatenate(norms)]]
    right = [
        program.const[equal],
        program.const[~equal],
        program.ub[upper],
        -program.lb[lower],
        np.zeros(sum(map(len, norms))),
    ]
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = TOLERANCE
    cones = [
        clarabel.ZeroConeT(int(equal.sum())),
        clarabel.NonnegativeConeT(int((~equal).sum() + upper.sum() + lower.sum())),
        *(clarabel.SecondOrderConeT(len(q)) for q in norms),
    ]
    solver = clarabel.DefaultSolver(
        csc_array((columns, columns)),
        program.obj,
        csc_array(vstack(parts)),
        np.concatenate(right),
        cones,
        settings,
    )
    found = solver.solve()
    if str(found.status) != "Solved":
        raise RuntimeError(f"Clarabel ended with {found.status}")
    return float(found.obj_val)
