"""Prices from one linear programme: capped adders as soft quotas on imports.

With X_i the hubs' sets, R >= 0 the grid's rows in the direction of import and D the cap on the
adder, one linear programme

    min sum_i c_i x_i + D 1's + rho 1'z   over  x_i in X_i,  R (m - s) - z <= cap + R o_hat

has multipliers mu of its grid rows whose sums ``delta = R' mu`` lie in [0, D] and make every x_i
optimal for its hub.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack, kron, vstack

from flexlib.errors import DataError, Fault
from flexlib.hub_grid import HubGrid
from flexlib.hub_planning import Schedule, congestion_cost, own_linear_program, with_overloads
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.solver import LinearProgram, Solution, solve

_ZERO_COST = 1e-7  # EUR: reduced costs above it keep a variable at its bound
_UPDATES = 6  # of the exports that import rows are credited with


@dataclass(frozen=True)
class Prices:
    """Adders and the schedule that answers them best for the grid.

    Attributes
    ----------
    adder : numpy.ndarray, shape (hubs, hours)
        delta, EUR/MWh on imports.
    schedule : Schedule
        Optimal for every hub at these adders; of all such the least congested.
    congestion_mwh : float
    follower_gap_eur : numpy.ndarray, shape (hubs,)
        Cost of each hub's schedule less its own minimum at these adders, by duality.
    """

    adder: np.ndarray
    schedule: Schedule
    congestion_mwh: float
    follower_gap_eur: np.ndarray


def quota_prices(
    hubs: Hubs, grid: HubGrid, cap: float, overload_eur_per_mwh: float = 1000.0
) -> Prices:
    """Prices from the linear programme of soft quotas, with exports credited step by step.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
        Its incidence must not be negative anywhere.
    cap : float
        D, EUR/MWh.
    overload_eur_per_mwh : float
        rho.

    Returns
    -------
    Prices
        Of all rounds the one with the least congestion.

    Raises
    ------
    DataError
        If a grid row has a negative entry: a withdrawal that relieves a line has no quota.
    """
    assert_nonnegative(grid)
    programme = HubProgramme(hubs)
    own = own_linear_program(programme)
    exports, best = np.zeros(programme.shape[:2]), None
    for _ in range(_UPDATES):
        adder = quota_adder(programme, own, grid, exports, cap, overload_eur_per_mwh)
        prices = answered(hubs, grid, adder)
        if best is None or prices.congestion_mwh < best.congestion_mwh - 1e-9:
            best = prices
        new = prices.schedule.x[programme.column("m_out")]
        if np.abs(new - exports).max() < 1e-9:
            break
        exports = new
    return best


def quota_adder(
    programme: HubProgramme,
    own: LinearProgram,
    grid: HubGrid,
    exports_mw: np.ndarray,
    cap: float,
    overload_eur_per_mwh: float,
) -> np.ndarray:
    """Adders of the linear programme for given exports, shape (hubs, hours)."""
    hubs, hours, _ = programme.shape
    rows = grid.incidence.shape[0]
    n, count = hubs * hours, rows * hours
    pick = csr_array(
        (np.ones(n), (np.arange(n), programme.column("m_in").ravel())), (n, len(own.c))
    )
    spread = csr_array(kron(grid.incidence, eye_array(hours)))
    more = hstack([spread @ pick, -spread, -eye_array(count)])
    credit = grid.incidence @ exports_mw
    room = grid.upper_mw[:, None] - grid.background + credit
    keys = [f"{name} hour {t} import" for name in grid.names for t in range(hours)]
    program = replace(
        own,
        c=np.concatenate([own.c, np.full(n, cap), np.full(count, overload_eur_per_mwh)]),
        a=csr_array(vstack([hstack([own.a, csr_array((own.a.shape[0], n + count))]), more])),
        row_lower=np.concatenate([own.row_lower, np.full(count, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, room.ravel()]),
        lower=np.concatenate([own.lower, np.zeros(n + count)]),
        upper=np.concatenate([own.upper, np.full(n + count, np.inf)]),
        row_names=[*own.row_names, *keys],
        column_names=[*own.column_names, *["quota slack"] * n, *["overload"] * count],
        integer=np.zeros(len(own.c) + n + count, bool),
    )
    mu = np.maximum(-solve(program).row_dual[len(own.row_names) :], 0).reshape(rows, hours)
    return np.clip(grid.incidence.T @ mu, 0.0, cap)


def answered(hubs: Hubs, grid: HubGrid, adder: np.ndarray, *, worst: bool = False) -> Prices:
    """Answer of the hubs to adders that is best for the grid: the optimistic one."""
    programme = HubProgramme(hubs)
    face, follower = optimal_face(programme, adder)
    both = with_overloads(face, programme, grid)
    solution = solve(replace(both, c=congestion_cost(both, grid)))
    schedule = Schedule(programme, solution.x[: len(face.c)], solution.bound)
    gap = ((face.c * schedule.x).reshape(len(hubs), -1).sum(axis=1)) - (
        (face.c * follower.x).reshape(len(hubs), -1).sum(axis=1)
    )
    return Prices(adder, schedule, grid.congestion_mwh(schedule.w_mw), gap)


def optimal_face(programme: HubProgramme, adder: np.ndarray) -> tuple[LinearProgram, Solution]:
    """All optimal answers of the hubs: their programmes with every variable that has a reduced cost fixed.

    A feasible x is optimal exactly when it is complementary to one optimal dual, any one.
    """
    own = own_linear_program(programme, adder)
    solution = solve(own)
    reduced = own.c - own.a.T @ solution.row_dual
    at_lower, at_upper = reduced > _ZERO_COST, reduced < -_ZERO_COST
    upper = np.where(at_lower, own.lower, own.upper)
    lower = np.where(at_upper, own.upper, own.lower)
    return replace(own, lower=lower, upper=upper), solution


def assert_nonnegative(grid: HubGrid) -> None:
    """Raise `DataError` naming every row in which a withdrawal relieves a line."""
    table = grid.incidence.tocoo()
    faults = [
        Fault("grid", grid.names[row], f"hub {column + 1}", f"{value:g}", "a number not below 0")
        for row, column, value in zip(table.row, table.col, table.data, strict=True)
        if value < 0
    ]
    if faults:
        raise DataError(faults)
