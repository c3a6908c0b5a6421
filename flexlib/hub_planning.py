"""Methods A and B of the poster: every hub alone, and all together by a benevolent planner."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack, kron, vstack

from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.solver import LinearProgram, solve


@dataclass(frozen=True)
class Schedule:
    """Schedules of all hubs.

    Attributes
    ----------
    programme : HubProgramme
    x : numpy.ndarray, shape (columns,)
    bound : float
        Proven lower bound on the objective that was minimised.
    """

    programme: HubProgramme
    x: np.ndarray
    bound: float

    @property
    def w_mw(self) -> np.ndarray:
        """Net withdrawals, shape (hubs, hours)."""
        return self.programme.withdrawal_mw(self.x)

    @property
    def cost_eur(self) -> np.ndarray:
        """Cost of each hub without adders, shape (hubs,)."""
        hubs = self.programme.shape[0]
        return (self.programme.cost * self.x).reshape(hubs, -1).sum(axis=1)


def own_linear_program(programme: HubProgramme, adder: np.ndarray | None = None) -> LinearProgram:
    """The hubs' programmes under an adder on imports (hubs, hours), EUR/MWh."""
    cost = programme.cost.copy()
    if adder is not None:
        cost[programme.column("m_in")] += adder
    rows, columns = programme.names()
    return LinearProgram(
        cost, programme.a, programme.b, programme.b, programme.lower, programme.upper, rows, columns
    )


def with_overloads(program: LinearProgram, programme: HubProgramme, grid: HubGrid) -> LinearProgram:
    """Add the grid: overload columns z >= 0 of each row, hour and direction, and their rows."""
    n = len(program.c)
    hubs, hours, _ = programme.shape
    rows = grid.incidence.shape[0]
    pick = csr_array(
        (
            np.concatenate([np.ones(hubs * hours), -np.ones(hubs * hours)]),
            (
                np.tile(np.arange(hubs * hours), 2),
                np.concatenate([programme.column(v).ravel() for v in ("m_in", "m_out")]),
            ),
        ),
        shape=(hubs * hours, n),
    )
    flow = csr_array(kron(grid.incidence, eye_array(hours))) @ pick
    count = rows * hours
    none = csr_array((count, count))
    eye = eye_array(count)
    more = vstack([hstack([flow, -eye, none]), hstack([-flow, none, -eye])])
    background = grid.background.ravel()
    room = np.concatenate(
        [
            np.repeat(grid.upper_mw, hours) - background,
            np.repeat(grid.lower_mw, hours) + background,
        ]
    )
    keys = [f"{name} hour {t}" for name in grid.names for t in range(hours)]
    names = [f"{key} {way}" for way in ("import", "export") for key in keys]
    return replace(
        program,
        c=np.concatenate([program.c, np.zeros(2 * count)]),
        a=csr_array(
            vstack([hstack([program.a, csr_array((program.a.shape[0], 2 * count))]), more])
        ),
        row_lower=np.concatenate([program.row_lower, np.full(2 * count, -np.inf)]),
        row_upper=np.concatenate([program.row_upper, room]),
        lower=np.concatenate([program.lower, np.zeros(2 * count)]),
        upper=np.concatenate([program.upper, np.full(2 * count, np.inf)]),
        row_names=[*program.row_names, *names],
        column_names=[*program.column_names, *(f"overload of {name}" for name in names)],
        integer=np.zeros(n + 2 * count, bool),
    )


def congestion_cost(program: LinearProgram, grid: HubGrid) -> np.ndarray:
    """Objective that counts the overload columns of `with_overloads` alone."""
    weights = np.tile(np.repeat(grid.weight, grid.hours), 2)
    return np.concatenate([np.zeros(len(program.c) - len(weights)), weights])


def alone(hubs: Hubs, adder: np.ndarray | None = None) -> Schedule:
    """Method A: every hub minimises its own cost."""
    programme = HubProgramme(hubs)
    solution = solve(own_linear_program(programme, adder))
    return Schedule(programme, solution.x, solution.bound)


@dataclass(frozen=True)
class Together:
    """Method B: least congestion, then least cost.

    Attributes
    ----------
    schedule : Schedule
    congestion_mwh : float
    congestion_bound_mwh : float
        Proven lower bound, which also bounds every priced outcome.
    adder : numpy.ndarray, shape (rows, hours)
        Shadow prices of the grid's rows in stage 2.
    """

    schedule: Schedule
    congestion_mwh: float
    congestion_bound_mwh: float
    price: np.ndarray


def together(hubs: Hubs, grid: HubGrid) -> Together:
    """Method B: least weighted congestion, then least cost at that congestion."""
    programme = HubProgramme(hubs)
    own = own_linear_program(programme)
    both = with_overloads(own, programme, grid)
    weights = congestion_cost(both, grid)
    first = solve(replace(both, c=weights))
    least = max(first.objective, 0.0)
    second = solve(
        replace(
            both,
            a=csr_array(vstack([both.a, weights[None]])),
            row_lower=np.append(both.row_lower, -np.inf),
            row_upper=np.append(both.row_upper, least + 1e-9 * (1 + least)),
            row_names=[*both.row_names, "congestion of stage 1"],
        )
    )
    x = second.x[: len(own.c)]
    count = grid.incidence.shape[0] * grid.hours
    dual = second.row_dual[len(own.row_names) : len(own.row_names) + count]
    schedule = Schedule(programme, x, second.bound)
    return Together(
        schedule,
        grid.congestion_mwh(schedule.w_mw),
        first.bound,
        np.maximum(-dual, 0).reshape(-1, grid.hours),
    )
