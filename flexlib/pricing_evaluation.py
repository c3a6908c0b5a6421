"""What prices really do: congestion under every kind of follower, and who pays.

Optimistic and pessimistic followers choose among their optimal answers what suits the grid best
and worst; careless ones what suits it worst among all answers within a tolerance of their best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, diags_array, eye_array, hstack, vstack

from flexlib.centralised import congestion_cost, with_overloads
from flexlib.errors import NotProven
from flexlib.hub_followers import (
    Answer,
    Schedule,
    answer,
    near_optimal_answers,
    no_pricing,
    optimal_answers,
)
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve
from flexlib.tariffs import Tariff

CARELESS = 1e-3  # share of its cost without pricing that a careless hub does not mind
FLOOR_EUR = 0.01  # least tolerance of a careless hub, where that cost is near zero
_MOST_BINARIES = 150  # beyond, and beyond the time limit, the worst case is bracketed
_FEW_BINARIES = 40
_TIME_LIMIT_S = 300.0
_GAP = 1e-4
_ASCENTS = 20
_TOUCH = (-1.0, -0.5, 0.5, 1.0)  # of the largest deviation, where tangents touch at first
_ROUNDS = 12  # of tangents
_GAP_CURVED = 0.05  # of a larger mixed-integer programme, where tangents leave as much
_HALVINGS = 40


@dataclass(frozen=True)
class Extreme:
    """The best or worst of some answers for the grid.

    Attributes
    ----------
    x : numpy.ndarray, shape (columns,)
        An answer.
    congestion_mwh : float
        Its congestion, recomputed.
    least_mwh, most_mwh : float
        Proven bounds on the congestion of the extreme answer.
    """

    x: np.ndarray
    congestion_mwh: float
    least_mwh: float
    most_mwh: float

    @property
    def exact(self) -> bool:
        """Whether the bounds meet, within the gap of the mixed-integer programme."""
        return self.most_mwh - self.least_mwh <= 2 * _GAP * max(1.0, self.most_mwh)


def evaluated(hubs: Hubs, grid: HubGrid, tariff: Tariff) -> pd.DataFrame:
    """Evaluate a tariff under the followers of :eq:`prices-readings` and :eq:`prices-careless`.

    A careless hub accepts 0.1 % of its cost without pricing, and 0.01 EUR at least.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
    tariff : Tariff

    Returns
    -------
    pandas.DataFrame
        Index the followers; columns congestion_mwh (of the answer found), at_least_mwh and
        at_most_mwh (proven bounds on the best or worst answer), proof ("exact" where they meet
        within 2e-4, "bracket" where they do not), hub_cost_eur (without what is paid to the DSO)
        and revenue_eur (of the DSO). The last two belong to the answer found; others of the same
        congestion may have others.

    Raises
    ------
    DataError
        If the grid is for other hubs or hours.
    """
    grid.assert_fits(hubs)
    programme = HubProgramme(hubs)
    face, _, _ = optimal_answers(programme, tariff)
    extremes = {
        "optimistic": best(face, programme, grid),
        "pessimistic": worst(face, programme, grid),
        "careless, 0.1 %": worst_within(programme, grid, tariff, careless_eur(hubs)),
    }
    rows = {
        name: {
            "congestion_mwh": found.congestion_mwh,
            "at_least_mwh": found.least_mwh,
            "at_most_mwh": found.most_mwh,
            "proof": "exact" if found.exact else "bracket",
            "hub_cost_eur": programme.cost @ found.x,
            "revenue_eur": tariff.bill_eur(
                found.x[programme.column("m_in")], found.x[programme.column("m_out")]
            ).sum(),
        }
        for name, found in extremes.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("followers")


def careless_eur(hubs: Hubs) -> np.ndarray:
    """What a careless hub does not mind, epsilon of :eq:`prices-careless`, shape (hubs,)."""
    cost = no_pricing(hubs).schedule.cost_eur
    return np.asarray(np.maximum(CARELESS * np.abs(cost), FLOOR_EUR))


def worst_within(
    programme: HubProgramme, grid: HubGrid, tariff: Tariff, eps_eur: np.ndarray
) -> Extreme:
    """Answer with the most congestion of all within a tolerance of each hub's best.

    Where the bill is quadratic, bracketed: from above in the set that tangents of the bill bound,
    from below at the point on the way from an optimal answer to the worst one of that set at which
    a hub's tolerance is used up. Tangents at the worst answer are added until the two meet, for
    some rounds.

    Parameters
    ----------
    programme : HubProgramme
    grid : HubGrid
    tariff : Tariff
    eps_eur : numpy.ndarray, shape (hubs,)
    """
    if tariff.linear:
        return worst(near_optimal_answers(programme, tariff, eps_eur), programme, grid)
    start = answer(programme.hubs, tariff)
    rho = tariff.curvature_eur_per_mwh_per_mw
    reach = np.sqrt(2 * eps_eur[:, None] / np.where(rho > 0, rho, np.inf))
    at_mw = [start.schedule.m_in_mw + share * reach for share in _TOUCH]
    answers = near_optimal_answers(programme, tariff, eps_eur, tuple(at_mw))
    ends = _reach(answers, programme)[::-1]
    inside, below = start.schedule.x, -1.0
    for rounds in range(_ROUNDS + 1):
        last = rounds == _ROUNDS
        found = worst(answers, programme, grid, _GAP_CURVED) if last else None
        outside = found.x if found else _ascent(answers, programme, grid, ends)
        x = _drawn_back(outside, start, eps_eur)
        value = grid.congestion_mwh(programme.withdrawal_mw(x))
        if value > below:
            inside, below = x, value
        at_mw.append(outside[programme.column("m_in")])
        if not last:
            answers = near_optimal_answers(programme, tariff, eps_eur, tuple(at_mw))
    return Extreme(inside, below, below, max(found.most_mwh if found else np.inf, below))


def _drawn_back(x: np.ndarray, start: Answer, eps_eur: np.ndarray) -> np.ndarray:
    """Point on the way from an optimal answer to x, for each hub as far as its tolerance allows."""
    programme, tariff = start.schedule.programme, start.tariff
    most = start.pays_eur + eps_eur
    inside, outside = np.zeros(len(most)), np.ones(len(most))

    def at(share: np.ndarray) -> Schedule:
        each = np.repeat(share, programme.shape[1] * programme.shape[2])
        return Schedule(programme, start.schedule.x + each * (x - start.schedule.x))

    def allowed(share: np.ndarray) -> np.ndarray:
        plan = at(share)
        return np.asarray(plan.cost_eur + tariff.bill_eur(plan.m_in_mw, plan.m_out_mw) <= most)

    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        fits = allowed(middle)
        inside, outside = np.where(fits, middle, inside), np.where(fits, outside, middle)
    return at(inside).x


def best(answers: LinearProgram, programme: HubProgramme, grid: HubGrid) -> Extreme:
    """Answer with the least congestion: a linear programme.

    Parameters
    ----------
    answers : LinearProgram
        Their set; its first columns are those of the programme, its objective is not used.
    programme : HubProgramme
    grid : HubGrid
    """
    both = with_overloads(answers, programme, grid)
    solution = solve(replace(both, c=congestion_cost(both, grid)))
    x = solution.x[: len(programme.cost)]
    value = grid.congestion_mwh(programme.withdrawal_mw(x))
    return Extreme(x, value, max(solution.bound, 0.0), value)


def worst(
    answers: LinearProgram, programme: HubProgramme, grid: HubGrid, gap: float = _GAP
) -> Extreme:
    """Answer with the most congestion: exact where the binaries are few, bracketed beyond.

    The maxima of :eq:`prices-readings` and :eq:`prices-careless`.

    Congestion is convex, so an ascent along its tangents finds an answer and a bound from below.
    From above: as if all hubs did in every hour and for each row alone what is worst for it; or
    with each overload replaced by its chord between the ends of what its row can carry.

    Parameters
    ----------
    answers : LinearProgram
        As for `best`.
    programme : HubProgramme
    grid : HubGrid
    gap : float
        Relative gap at which a mixed-integer programme of more than 40 binaries ends, 1e-4 by
        default, to which smaller ones are always solved.
    """
    least_w, most_w = _reach(answers, programme)
    beyond, kept = _furthest_from_limits(grid, least_w, most_w)
    above = float(np.tile(grid.weight, 2) @ np.maximum(beyond, 0.0).sum(axis=1))
    x = _ascent(answers, programme, grid, (most_w, least_w))
    below = grid.congestion_mwh(programme.withdrawal_mw(x))
    if above - below > _GAP * max(1.0, below):
        counted = _counted(answers, programme, grid, beyond.ravel(), kept.ravel())
        above = min(above, -solve(replace(counted, integer=np.zeros(0, dtype=bool))).bound)
        if counted.integer.sum() <= _MOST_BINARIES:
            few = counted.integer.sum() <= _FEW_BINARIES
            try:
                solution = solve(counted, gap=_GAP if few else gap, time_limit_s=_TIME_LIMIT_S)
            except NotProven as stopped:
                above = min(above, -stopped.bound)
            else:
                above = min(above, -solution.bound)
                found = solution.x[: len(programme.cost)]
                value = grid.congestion_mwh(programme.withdrawal_mw(found))
                if value > below:  # within its gap the solver may stop short of the ascent
                    x, below = found, value
    return Extreme(x, below, below, max(above, below))


def _furthest(
    answers: LinearProgram, programme: HubProgramme, slope: np.ndarray
) -> tuple[np.ndarray, float]:
    """Answer with the largest sum of slope times withdrawal, and how far the bound is from it."""
    cost = np.zeros(len(answers.c))
    cost[programme.column("m_in").ravel()] = -slope.ravel()
    cost[programme.column("m_out").ravel()] = slope.ravel()
    solution = solve(replace(answers, c=cost))
    return solution.x[: len(programme.cost)], solution.objective - solution.bound


def _reach(answers: LinearProgram, programme: HubProgramme) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on the net withdrawal of each hub in each hour, shapes (hubs, hours)."""
    shape = programme.shape[:2]
    ends = np.zeros((2, *shape))
    for hour in range(shape[1]):
        only = np.zeros(shape)
        only[:, hour] = 1.0
        for end, sign in enumerate((-1.0, 1.0)):
            x, gap = _furthest(answers, programme, sign * only)
            ends[end, :, hour] = programme.withdrawal_mw(x)[:, hour] + sign * max(gap, 0.0)
    return ends[0], ends[1]


def _furthest_from_limits(
    grid: HubGrid, least_w: np.ndarray, most_w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Most by which each limit can be broken, and can be kept, shapes (2 rows, hours)."""
    towards, against = grid.incidence.maximum(0), grid.incidence.minimum(0)
    most = grid.background + towards @ most_w + against @ least_w
    least = grid.background + towards @ least_w + against @ most_w
    upper, lower = grid.upper_mw[:, None], grid.lower_mw[:, None]
    return np.vstack([most - upper, -least - lower]), np.vstack([upper - least, lower + most])


def _ascent(
    answers: LinearProgram,
    programme: HubProgramme,
    grid: HubGrid,
    starts: tuple[np.ndarray, ...],
) -> np.ndarray:
    """Answer with much congestion: the best of its tangent, until none is better."""
    best_x, value = np.zeros(0), -1.0
    for w in starts:
        for _ in range(_ASCENTS):
            loading = grid.loading_mw(w)
            side = (loading > grid.upper_mw[:, None]).astype(float)
            side -= -loading > grid.lower_mw[:, None]
            x, _ = _furthest(answers, programme, grid.incidence.T @ (grid.weight[:, None] * side))
            w = programme.withdrawal_mw(x)
            if grid.congestion_mwh(w) <= value + 1e-9:
                break
            best_x, value = x, grid.congestion_mwh(w)
    return best_x


def _counted(
    answers: LinearProgram,
    programme: HubProgramme,
    grid: HubGrid,
    beyond: np.ndarray,
    kept: np.ndarray,
) -> LinearProgram:
    """Most congested answer: a binary for each overload says whether it counts.

    For a row that can exceed its limit by at most M and stay below it by at most L,
    ``z <= M b`` and ``z <= loading - limit + L (1 - b)``.
    """
    n, first = len(answers.c), len(answers.row_names)
    both = with_overloads(answers, programme, grid)
    k = np.flatnonzero(beyond > 0)
    flow, room = csr_array(both.a[first:][k][:, :n]), both.row_upper[first:][k]
    below, count = np.maximum(kept[k], 0.0), len(k)
    eye, none = eye_array(count), csr_array((count, n))
    names = [both.row_names[first + j] for j in k]
    return LinearProgram(
        c=np.concatenate([np.zeros(n), -congestion_cost(both, grid)[n:][k], np.zeros(count)]),
        a=csr_array(
            vstack(
                [
                    hstack([answers.a, csr_array((first, 2 * count))]),
                    hstack([-flow, eye, diags_array(below)]),
                    hstack([none, eye, -diags_array(beyond[k])]),
                ]
            )
        ),
        row_lower=np.concatenate([answers.row_lower, np.full(2 * count, -np.inf)]),
        row_upper=np.concatenate([answers.row_upper, below - room, np.zeros(count)]),
        lower=np.concatenate([answers.lower, np.zeros(2 * count)]),
        upper=np.concatenate([answers.upper, beyond[k], np.ones(count)]),
        row_names=[*answers.row_names, *names, *(f"{name} counts" for name in names)],
        column_names=[*answers.column_names, *names, *(f"{name} counts" for name in names)],
        integer=np.repeat([False, True], [n + count, count]),
    )
