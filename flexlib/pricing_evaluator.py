"""What prices really do: congestion under every kind of follower, and who pays.

Optimistic and pessimistic followers choose among their optimal answers what suits the grid best
and worst; careless ones among all answers within a tolerance of their best cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, diags_array, eye_array, hstack, vstack

from flexlib.hub_grid import HubGrid
from flexlib.hub_planning import alone, congestion_cost, own_linear_program, with_overloads
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.pricing import optimal_face
from flexlib.solver import LinearProgram, solve

CARELESS = 1e-3  # share of its cost alone that a careless hub does not mind
_FLOOR_EUR = 0.01  # where that cost is near zero
_EXACT_BINARIES = 2000  # beyond, the worst case is bracketed
_GAP = 1e-4
_ASCENTS = 20


@dataclass(frozen=True)
class Answer:
    """What hubs may do at given adders.

    Attributes
    ----------
    x : numpy.ndarray, shape (columns,)
        Schedules.
    congestion_mwh : float
        Their congestion, recomputed.
    least_mwh, most_mwh : float
        Proven bounds on the congestion of the best or worst answer of this kind.
    """

    x: np.ndarray
    congestion_mwh: float
    least_mwh: float
    most_mwh: float


def evaluated(hubs: Hubs, grid: HubGrid, adder: np.ndarray) -> pd.DataFrame:
    """Evaluate adders under optimistic, pessimistic and careless followers.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
    adder : numpy.ndarray, shape (hubs, hours)
        EUR/MWh on imports.

    Returns
    -------
    pandas.DataFrame
        Index the followers; columns congestion_mwh, at_least_mwh, at_most_mwh (proven bounds on
        the best or worst answer), hub_cost_eur (without adders) and revenue_eur (of the DSO).
    """
    programme = HubProgramme(hubs)
    face, _ = optimal_face(programme, adder)
    eps = np.maximum(CARELESS * np.abs(alone(hubs).cost_eur), _FLOOR_EUR)
    answers = {
        "optimistic": best_answer(face, programme, grid),
        "pessimistic": worst_answer(face, programme, grid),
        "careless, 0.1 %": worst_answer(near_optimal(programme, adder, eps), programme, grid),
    }
    m_in = programme.column("m_in")
    rows = {
        name: {
            "congestion_mwh": answer.congestion_mwh,
            "at_least_mwh": answer.least_mwh,
            "at_most_mwh": answer.most_mwh,
            "hub_cost_eur": programme.cost @ answer.x,
            "revenue_eur": (adder * answer.x[m_in]).sum(),
        }
        for name, answer in answers.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def near_optimal(programme: HubProgramme, adder: np.ndarray, eps_eur: np.ndarray) -> LinearProgram:
    """All answers within a tolerance of each hub's best cost at an adder.

    Parameters
    ----------
    programme : HubProgramme
    adder : numpy.ndarray, shape (hubs, hours)
    eps_eur : numpy.ndarray, shape (hubs,)
    """
    own = own_linear_program(programme, adder)
    hubs, columns = programme.shape[0], len(own.c)
    best = (own.c * solve(own).x).reshape(hubs, -1).sum(axis=1)
    hub = np.arange(hubs).repeat(columns // hubs)
    cost = csr_array((own.c, (hub, np.arange(columns))), shape=(hubs, columns))
    return replace(
        own,
        a=csr_array(vstack([own.a, cost])),
        row_lower=np.concatenate([own.row_lower, np.full(hubs, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, best + eps_eur]),
        row_names=[*own.row_names, *(f"cost of {name}" for name in programme.hubs.table["hub"])],
    )


def best_answer(answers: LinearProgram, programme: HubProgramme, grid: HubGrid) -> Answer:
    """Answer with the least congestion: a linear programme."""
    both = with_overloads(answers, programme, grid)
    solution = solve(replace(both, c=congestion_cost(both, grid)))
    x = solution.x[: len(answers.c)]
    value = grid.congestion_mwh(programme.withdrawal_mw(x))
    return Answer(x, value, solution.bound, value)


def worst_answer(answers: LinearProgram, programme: HubProgramme, grid: HubGrid) -> Answer:
    """Answer with the most congestion: exact where the binaries are few, bracketed beyond."""
    x, below, above = congestion_bracket(answers, programme, grid)
    both = with_overloads(answers, programme, grid)
    if above - below > _GAP * max(1.0, below) and 2 * grid.background.size <= _EXACT_BINARIES:
        x, above = _worst_by_binaries(answers, both, programme, grid)
    value = grid.congestion_mwh(programme.withdrawal_mw(x))
    return Answer(x, value, value, max(above, value))


def congestion_bracket(
    answers: LinearProgram, programme: HubProgramme, grid: HubGrid
) -> tuple[np.ndarray, float, float]:
    """Bracket the largest congestion: an answer, its value, and a proven bound.

    From below by ascent: congestion is convex, so the answer that maximises its tangent is at
    least as bad. From above as if all hubs did in every hour what is worst for each row alone.
    """
    hubs, hours, _ = programme.shape
    m_in, m_out = programme.column("m_in").ravel(), programme.column("m_out").ravel()

    def furthest(slope: np.ndarray) -> tuple[np.ndarray, float]:
        cost = np.zeros(len(answers.c))
        cost[m_in], cost[m_out] = -slope.ravel(), slope.ravel()
        solution = solve(replace(answers, c=cost))
        return solution.x, -solution.bound

    most, least = np.zeros((hubs, hours)), np.zeros((hubs, hours))
    for hour in range(hours):
        only = np.zeros((hubs, hours))
        only[:, hour] = 1.0
        most[:, hour] = programme.withdrawal_mw(furthest(only)[0])[:, hour]
        least[:, hour] = programme.withdrawal_mw(furthest(-only)[0])[:, hour]
    towards, against = grid.incidence.maximum(0), grid.incidence.minimum(0)
    high = grid.background + towards @ most + against @ least - grid.upper_mw[:, None]
    low = -(grid.background + towards @ least + against @ most) - grid.lower_mw[:, None]
    above = float(grid.weight @ np.maximum(np.maximum(high, low), 0).sum(axis=1))
    best, value = np.zeros(0), -1.0
    for w in (most, least):
        for _ in range(_ASCENTS):
            loading = grid.loading_mw(w)
            side = (loading > grid.upper_mw[:, None]).astype(float)
            side -= -loading > grid.lower_mw[:, None]
            x, _ = furthest(grid.incidence.T @ (grid.weight[:, None] * side))
            w = programme.withdrawal_mw(x)
            if grid.congestion_mwh(w) <= value + 1e-9:
                break
            best, value = x, grid.congestion_mwh(w)
    return best, value, above


def _worst_by_binaries(
    answers: LinearProgram, both: LinearProgram, programme: HubProgramme, grid: HubGrid
) -> tuple[np.ndarray, float]:
    """Worst answer and a proven bound: a binary for each overload says whether it counts.

    Overloads are at most what the variables' bounds allow, which makes every big-M from data.
    """
    n, first = len(answers.c), len(answers.row_names)
    flow, room = csr_array(both.a[first:][:, :n]), both.row_upper[first:]
    towards, against = flow.maximum(0), flow.minimum(0)
    most = towards @ answers.upper + against @ answers.lower - room
    least = towards @ answers.lower + against @ answers.upper - room
    k = np.flatnonzero(most > 0)
    count, weight = len(k), congestion_cost(both, grid)[n:][k]
    below = np.maximum(-least[k], 0)
    eye = eye_array(count)
    none = csr_array((len(answers.row_names), 2 * count))
    rows = [
        hstack([answers.a, none]),
        hstack([-flow[k], eye, diags_array(below)]),  # z <= flow - room where b is 1
        hstack([csr_array((count, n)), eye, -diags_array(most[k])]),  # z = 0 where b is 0
    ]
    program = LinearProgram(
        c=np.concatenate([np.zeros(n), -weight, np.zeros(count)]),
        a=csr_array(vstack(rows)),
        row_lower=np.concatenate([answers.row_lower, np.full(2 * count, -np.inf)]),
        row_upper=np.concatenate([answers.row_upper, below - room[k], np.zeros(count)]),
        lower=np.concatenate([answers.lower, np.zeros(2 * count)]),
        upper=np.concatenate([answers.upper, most[k], np.ones(count)]),
        row_names=[*answers.row_names, *["overload counts"] * (2 * count)],
        column_names=[*answers.column_names, *["overload"] * count, *["counts"] * count],
        integer=np.repeat([False, True], [n + count, count]),
    )
    solution = solve(program, gap=_GAP)
    return solution.x[:n], -solution.bound
