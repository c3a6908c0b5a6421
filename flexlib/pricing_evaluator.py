"""What prices really do: congestion under every kind of follower, and who pays.

Optimistic and pessimistic followers choose among their optimal answers what suits the grid best
and worst; careless ones among all answers within a tolerance of their best.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack, vstack

from flexlib.hub_grid import HubGrid
from flexlib.hub_planning import congestion_cost, own_linear_program, with_overloads
from flexlib.hub_programme import HubProgramme
from flexlib.pricing import optimal_face
from flexlib.solver import LinearProgram, solve


def near_optimal(programme: HubProgramme, adder: np.ndarray, eps_eur: np.ndarray) -> LinearProgram:
    """All answers of the hubs within eps of their best cost at an adder."""
    own = own_linear_program(programme, adder)
    solution = solve(own)
    hubs = programme.shape[0]
    cost = (own.c * solution.x).reshape(hubs, -1).sum(axis=1)
    per_hub = np.arange(hubs).repeat(len(own.c) // hubs)
    rows = csr_array((own.c, (per_hub, np.arange(len(own.c)))), shape=(hubs, len(own.c)))
    return replace(
        own,
        a=csr_array(vstack([own.a, rows])),
        row_lower=np.concatenate([own.row_lower, np.full(hubs, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, cost + eps_eur]),
        row_names=[*own.row_names, *(f"cost of {hub}" for hub in programme.hubs.table["hub"])],
    )


def worst_congestion(
    answers: LinearProgram, programme: HubProgramme, grid: HubGrid, gap: float = 1e-4, time_limit_s: float = 60.0
) -> tuple[float, float]:
    """Largest congestion among answers: value found, and proven bound.

    Maximising a convex function: a binary for each row, hour and direction says whether it counts.
    """
    both = with_overloads(answers, programme, grid)
    weights = congestion_cost(both, grid)
    count = int((weights > 0).sum())
    n = len(both.c) - count
    first = len(both.row_names) - count
    flow = csr_array(both.a[first:][:, :n])
    lo, hi = answers.lower, answers.upper
    positive, negative = flow.maximum(0), flow.minimum(0)
    room = both.row_upper[first:]
    most = positive @ hi + negative @ lo - room
    least = positive @ lo + negative @ hi - room
    can = most > 0
    k = np.flatnonzero(can)
    # z <= flow - room + (1 - b) (-least),  z <= most b
    eye = eye_array(count).tocsr()[k]
    bin_ = eye_array(len(k))
    none = csr_array((answers.a.shape[0], count + len(k)))
    a = vstack([
        hstack([answers.a, none]),
        hstack([-flow[k], eye, csr_array(bin_.multiply(np.maximum(-least[k], 0)[:, None]))]),
        hstack([csr_array((len(k), n)), eye, csr_array(bin_.multiply(-most[k][:, None]))]),
    ])
    upper_z = np.where(can, np.maximum(most, 0), 0.0)
    program = LinearProgram(
        c=np.concatenate([np.zeros(n), -weights[n:], np.zeros(len(k))]),
        a=csr_array(a),
        row_lower=np.concatenate([answers.row_lower, np.full(2 * len(k), -np.inf)]),
        row_upper=np.concatenate([answers.row_upper, -room[k] + np.maximum(-least[k], 0), np.zeros(len(k))]),
        lower=np.concatenate([answers.lower, np.zeros(count + len(k))]),
        upper=np.concatenate([answers.upper, upper_z, np.ones(len(k))]),
        row_names=[*answers.row_names, *[f"worst {j}" for j in range(2 * len(k))]],
        column_names=[*answers.column_names, *[f"z{j}" for j in range(count)], *[f"b{j}" for j in range(len(k))]],
        integer=np.concatenate([np.zeros(n + count, bool), np.ones(len(k), bool)]),
    )
    s = solve(program, gap=gap, time_limit_s=time_limit_s)
    return -s.objective, -s.bound


def congestion_bracket(
    answers: LinearProgram, programme: HubProgramme, grid: HubGrid, rounds: int = 20
) -> tuple[float, float]:
    """Largest congestion among answers, from below by ascent and from above by single maxima.

    Below: congestion is convex, so each step maximises its tangent; it never falls. Above: each
    row in each hour as if the hubs agreed on the worst for it alone.
    """
    n = len(programme.cost)
    hubs, hours, _ = programme.shape
    m_in, m_out = programme.column("m_in"), programme.column("m_out")

    def furthest(slope: np.ndarray) -> np.ndarray:
        cost = np.zeros(n)
        cost[m_in.ravel()], cost[m_out.ravel()] = -slope.ravel(), slope.ravel()
        return programme.withdrawal_mw(solve(replace(answers, c=cost)).x)

    most, least = np.zeros((hubs, hours)), np.zeros((hubs, hours))
    for hour in range(hours):
        only = np.zeros((hubs, hours))
        only[:, hour] = 1.0
        most[:, hour] = furthest(only)[:, hour]
        least[:, hour] = furthest(-only)[:, hour]
    positive, negative = grid.incidence.maximum(0), grid.incidence.minimum(0)
    high = grid.background + positive @ most + negative @ least - grid.upper_mw[:, None]
    low = -grid.background - positive @ least - negative @ most - grid.lower_mw[:, None]
    above = float(grid.weight @ np.maximum(np.maximum(high, low), 0).sum(axis=1))
    best = 0.0
    for start in (most, least):
        w = start
        for _ in range(rounds):
            loading = grid.loading_mw(w)
            up = (loading > grid.upper_mw[:, None]).astype(float)
            down = (-loading > grid.lower_mw[:, None]).astype(float)
            slope = grid.incidence.T @ (grid.weight[:, None] * (up - down))
            w = furthest(slope)
            value = grid.congestion_mwh(w)
            if value <= best + 1e-9:
                break
            best = value
    return best, above
