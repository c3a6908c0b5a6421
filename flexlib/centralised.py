"""Method B of the poster: one planner for all hubs, first least congestion, then least cost.

No market and no price: the best that any coordination of these hubs could do for the grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array, hstack, kron, vstack

from flexlib.certificate import Certificate, Check
from flexlib.hub_followers import Schedule, followers
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve
from flexlib.tariffs import no_tariff

CONGESTION_MWH = 1e-6  # relative to 1 MWh or to the congestion if that is more
_SLACK = 1e-9  # of stage 1 that stage 2 may give up, likewise


@dataclass(frozen=True)
class Centralised:
    """Method B: the benchmark.

    Attributes
    ----------
    grid : HubGrid
    schedule : Schedule
    congestion_mwh : float
        Weighted overloads of the schedule, recomputed.
    bound_mwh : float
        Proven lower bound on the congestion of every schedule, and so of every priced one.
    cost_bound_eur : float
        Proven lower bound on the hubs' cost at that congestion.
    import_shadow, export_shadow : numpy.ndarray, shape (lines + 1, hours)
        Shadow prices of the limits in the direction of import and against it, EUR/MWh: what one
        MW more would save in stage 2.
    """

    grid: HubGrid
    schedule: Schedule
    congestion_mwh: float
    bound_mwh: float
    cost_bound_eur: float
    import_shadow: np.ndarray
    export_shadow: np.ndarray

    @property
    def certificate(self) -> Certificate:
        """Feasibility of the schedules, and both stages against their bounds."""
        gap = (self.congestion_mwh - self.bound_mwh) / max(1.0, self.congestion_mwh)
        cost = float(self.schedule.cost_eur.sum())
        dear = (cost - self.cost_bound_eur) / max(1.0, abs(cost))
        return Certificate(
            (
                *self.schedule.checks(),
                Check("stage 1, congestion above its bound", abs(gap), CONGESTION_MWH, "relative"),
                Check("stage 2, cost above its bound", abs(dear), 1e-6, "relative"),
            )
        )


def centralised(hubs: Hubs, grid: HubGrid) -> Centralised:
    """Method B: least weighted congestion :eq:`hubs-congestion`, then :eq:`hubs-least-cost`.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid

    Returns
    -------
    Centralised

    Raises
    ------
    DataError
        If the grid is for other hubs or hours.
    """
    grid.assert_fits(hubs)
    programme = HubProgramme(hubs)
    both = with_overloads(followers(programme, no_tariff(*programme.shape[:2])), programme, grid)
    weights = congestion_cost(both, grid)
    first = solve(replace(both, c=weights))
    least = max(first.objective, 0.0)
    second = solve(
        replace(
            both,
            a=csr_array(vstack([both.a, csr_array(weights[None])])),
            row_lower=np.append(both.row_lower, -np.inf),
            row_upper=np.append(both.row_upper, least + _SLACK * max(1.0, least)),
            row_names=[*both.row_names, "congestion of stage 1"],
        )
    )
    schedule = Schedule(programme, second.x[: len(programme.cost)])
    dual = second.row_dual[len(programme.b) : -1].reshape(2, -1, grid.hours)
    import_shadow, export_shadow = np.maximum(-dual, 0.0)
    return Centralised(
        grid, schedule, grid.congestion_mwh(schedule.w_mw), max(first.bound, 0.0), second.bound,
        import_shadow, export_shadow,
    )  # fmt: skip


def with_overloads(program: LinearProgram, programme: HubProgramme, grid: HubGrid) -> LinearProgram:
    """Add the grid's limits :eq:`hubs-epigraph`: overloads z >= 0 of rows, hours and directions.

    Parameters
    ----------
    program : LinearProgram
        Its first columns are those of the programme.
    programme : HubProgramme
    grid : HubGrid

    Returns
    -------
    LinearProgram
        Two rows and two columns more for each row of the grid and hour: first all in the direction
        of import, ``R w - z <= upper - background``, then all against it.
    """
    columns, hours = len(program.c), grid.hours
    flow = csr_array(kron(grid.incidence, eye_array(hours))) @ withdrawals(programme, columns)
    count = flow.shape[0]
    eye, none = eye_array(count), csr_array((count, count))
    background = grid.background.ravel()
    room = [
        np.repeat(grid.upper_mw, hours) - background,
        np.repeat(grid.lower_mw, hours) + background,
    ]
    keys = [f"{name} hour {t}" for name in grid.names for t in range(hours)]
    names = [f"{way} limit of {key}" for way in ("import", "export") for key in keys]
    return replace(
        program,
        c=np.concatenate([program.c, np.zeros(2 * count)]),
        a=csr_array(
            vstack(
                [
                    hstack([program.a, csr_array((program.a.shape[0], 2 * count))]),
                    hstack([flow, -eye, none]),
                    hstack([-flow, none, -eye]),
                ]
            )
        ),
        row_lower=np.concatenate([program.row_lower, np.full(2 * count, -np.inf)]),
        row_upper=np.concatenate([program.row_upper, *room]),
        lower=np.concatenate([program.lower, np.zeros(2 * count)]),
        upper=np.concatenate([program.upper, np.full(2 * count, np.inf)]),
        row_names=[*program.row_names, *names],
        column_names=[*program.column_names, *(f"overload, {name}" for name in names)],
        integer=np.zeros(columns + 2 * count, dtype=bool),
    )


def congestion_cost(program: LinearProgram, grid: HubGrid) -> np.ndarray:
    """Objective that counts the overloads of `with_overloads` alone."""
    weights = np.tile(np.repeat(grid.weight, grid.hours), 2)
    return np.concatenate([np.zeros(len(program.c) - len(weights)), weights])


def withdrawals(programme: HubProgramme, columns: int) -> csr_array:
    """Matrix that takes columns to net withdrawals, hub by hub and hour by hour."""
    m_in, m_out = (programme.column(name).ravel() for name in ("m_in", "m_out"))
    n = len(m_in)
    entries = np.concatenate([np.ones(n), -np.ones(n)])
    places = np.tile(np.arange(n), 2), np.concatenate([m_in, m_out])
    return csr_array(coo_array((entries, places), shape=(n, columns)))
