"""Method D exactly: the leader's whole objective with quadratic hubs, proven on small cases.

Stationarity times x says that an answer is optimal for a hub exactly if

    (c + delta)'x + x'Q x  <=  b'y - limit'mu,

strong duality, in which x'Q x stands and not half of it. Each square is at least all of its
tangents, ``x^2 >= 2 a x - a^2``, and each product of an adder and an import is within McCormick's
envelope. What is then left is linear and holds at all optimal answers: a cut beside
complementarity, and a bound without it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array, hstack, vstack

from flexlib.bilevel import Bilevel
from flexlib.bilevel_duality import with_strong_duality
from flexlib.bilevel_kkt import BigM, kkt_system
from flexlib.bilevel_multipliers import at_big_m, multipliers
from flexlib.bilevel_solve import BilevelOptimum, with_reach
from flexlib.bilevel_sos1 import solve_sos1
from flexlib.errors import NotProven
from flexlib.hub_bilevel import hub_big_m, priced_hubs
from flexlib.hub_grid import HubGrid
from flexlib.hubs import Hubs
from flexlib.linear_program import LinearProgram
from flexlib.pricing_inverse import AdderWeights
from flexlib.solver import Watch, solve

_TANGENTS = 9  # of a square, evenly from the variable's lower to its upper bound


def exact_quadratic_prices(
    hubs: Hubs,
    grid: HubGrid,
    *,
    cap_eur_per_mwh: float = 60.0,
    weights: AdderWeights | None = None,
    gap: float = 1e-3,
    time_limit_s: float = 600.0,
    watch: Watch | None = None,
) -> BilevelOptimum:
    """Adders of least whole objective with quadratic hubs: method D, by branch and bound.

    KKT conditions with special ordered sets, by SCIP, with multipliers in their derived intervals
    and strong duality by tangents as a cut.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
    cap_eur_per_mwh : float
        D, the largest adder.
    weights : AdderWeights, optional
        The poster's by default.
    gap : float
        Relative gap at which the objective counts as proven.
    time_limit_s : float
        CPU seconds of SCIP.
    watch : callable, optional
        Called with bound and incumbent as SCIP finds them.

    Returns
    -------
    BilevelOptimum
        Its first decisions are the adders, hub by hub.

    Raises
    ------
    DataError
        As `flexlib.hub_bilevel.priced_hubs`.
    MissingExtra
        Without the package pyscipopt.
    NotProven
        At the time limit: with bound, incumbent and its decision and answer as ``x``.
    """
    problem, m, system = _relaxation(hubs, grid, cap_eur_per_mwh, weights)
    k, n = len(problem.cost), len(problem.follower.c)
    try:
        point, bound = solve_sos1(system, problem, gap=gap, time_limit_s=time_limit_s, watch=watch)
    except NotProven as error:
        error.x = None if error.x is None else error.x[: k + n]
        raise
    d, x = point[:k], point[k : k + n]
    alarms = at_big_m(problem, m, d, x, multipliers(problem, point))
    return BilevelOptimum(problem, d, x, bound, gap, alarms, 0)


def quadratic_bound(
    hubs: Hubs,
    grid: HubGrid,
    *,
    cap_eur_per_mwh: float = 60.0,
    weights: AdderWeights | None = None,
) -> float:
    """Lower bound on the whole objective of method D, in weighted MWh, by one linear programme.

    Parameters
    ----------
    hubs, grid, cap_eur_per_mwh, weights
        See `exact_quadratic_prices`.

    Raises
    ------
    DataError
        As `flexlib.hub_bilevel.priced_hubs`.
    """
    return solve(_relaxation(hubs, grid, cap_eur_per_mwh, weights)[2]).bound


def _relaxation(
    hubs: Hubs, grid: HubGrid, cap: float, weights: AdderWeights | None
) -> tuple[Bilevel, BigM, LinearProgram]:
    """Method D, its M, and all of its single level that is linear, the cut included."""
    problem = priced_hubs(hubs, grid, cap, weights, quadratic=True)
    m = hub_big_m(problem, hubs, cap)
    return problem, m, with_tangents(with_reach(kkt_system(problem, m), problem), problem)


def with_tangents(
    system: LinearProgram, problem: Bilevel, tangents: int = _TANGENTS
) -> LinearProgram:
    """A system with strong duality of quadratic hubs, squares by tangents, last columns.

    Parameters
    ----------
    system : LinearProgram
        Whose first columns are those of `flexlib.bilevel_kkt.kkt_system`.
    problem : Bilevel
        From `flexlib.hub_bilevel.priced_hubs`: Q is diagonal, all bounds are finite.
    tangents : int
        Of each square, at least 2.
    """
    f, k, n = problem.follower, len(problem.cost), len(problem.follower.c)
    flat = replace(problem, follower=replace(f, q=csr_array((n, n))))
    cut = with_strong_duality(system, flat)
    duality = np.flatnonzero(np.array(cut.row_names) == "strong duality")  # hub by hub
    growth = f.q.diagonal()
    curved = np.flatnonzero(growth)
    count, size, rows = len(curved), len(cut.c), cut.a.shape[0]
    place = duality[curved // (n // len(duality))], np.arange(count)
    squares = coo_array((growth[curved], place), shape=(rows, count))
    blocks, least = [hstack([cut.a, squares])], [cut.row_lower]
    for share in np.linspace(0.0, 1.0, tangents):
        at = (f.lower + share * (f.upper - f.lower))[curved]
        slope = coo_array((-2 * at, (np.arange(count), k + curved)), shape=(count, size))
        blocks.append(hstack([slope, eye_array(count)]))
        least.append(-(at**2))
    names = [f"square of {f.names[j]}" for j in curved]
    return replace(
        cut,
        c=np.append(cut.c, np.zeros(count)),
        a=csr_array(vstack(blocks)),
        row_lower=np.concatenate(least),
        row_upper=np.append(cut.row_upper, np.full(count * tangents, np.inf)),
        lower=np.append(cut.lower, np.zeros(count)),
        upper=np.append(cut.upper, np.full(count, np.inf)),
        row_names=[*cut.row_names, *names * tangents],
        column_names=[*cut.column_names, *names],
        integer=np.append(cut.integer, np.zeros(count, dtype=bool)),
    )
