"""Joint steps on adders and schedules: less of the leader's whole objective, from prices at hand.

What keeps the bilevel programme from being linear is one product, the hubs' bill ``delta'm``. Each
step puts its tangent at the present point in its place, penalises what the schedules then cost the
hubs above their dual objective, :eq:`bilevel-joint-step`, stays within a trust region of the
adders, and is kept if objective and true penalty together fall. Every point's adders are answered
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import kkt_system, pairs
from flexlib.hub_bilevel import decision, priced_hubs
from flexlib.pricing import Prices, cheaper, priced
from flexlib.pricing_inverse import AdderWeights
from flexlib.solver import solve

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # MWh of objective for one EUR above the dual
_STEPS = 40
_RADIUS, _LEAST_RADIUS = 10.0, 1e-3  # EUR/MWh
_GAIN = 1e-7


def objective(prices: Prices, weights: AdderWeights) -> float:
    """Leader's whole objective :eq:`prices-bilevel`, weighted MWh."""
    pairs = prices.benchmark.schedule.programme.hubs.neighbours
    return prices.congestion_mwh + weights.value(prices.adder_eur_per_mwh, pairs)


def with_joint_steps(prices: Prices, weights: AdderWeights | None = None) -> Prices:
    """Prices of less whole objective, by joint steps from given ones with several penalties.

    Parameters
    ----------
    prices : Prices
    weights : AdderWeights, optional
        The poster's by default.

    Returns
    -------
    Prices
        The best found, never worse than those given; with its own certificate.
    """
    weights = weights or AdderWeights()
    benchmark, cap = prices.benchmark, prices.cap_eur_per_mwh
    hubs = benchmark.schedule.programme.hubs
    problem = priced_hubs(hubs, benchmark.grid, cap, weights)
    shape = prices.adder_eur_per_mwh.shape
    start = decision(benchmark.grid, prices.adder_eur_per_mwh, prices.answer.schedule)
    best = prices
    for penalty in PENALTIES:
        for delta in _descent(problem, start, int(np.prod(shape)), penalty):
            adder = np.clip(delta, 0.0, cap).reshape(shape)
            found = cheaper(priced(benchmark, cap, adder), weights)
            if objective(found, weights) < objective(best, weights) - _GAIN:
                best = found
    return best


def _descent(
    problem: Bilevel, start: tuple[np.ndarray, np.ndarray], adders: int, penalty: float
) -> Iterator[np.ndarray]:
    """Adders of the points that a descent with one penalty passes."""
    f, pair, program = problem.follower, pairs(problem), kkt_system(problem)
    k, n = len(problem.cost), len(f.c)
    dual = np.concatenate([np.zeros(k + n), f.b, -pair.limit])
    (d, x), radius = start, _RADIUS
    merit = problem.value(d, x)  # an optimal answer costs no more than its dual
    for _ in range(_STEPS):
        if radius < _LEAST_RADIUS:
            return
        c = program.c - penalty * dual
        c[:k] += penalty * (f.c_leader.T @ x)
        c[k : k + n] += penalty * (f.c + f.c_leader @ d)
        lower, upper = program.lower.copy(), program.upper.copy()
        lower[:adders] = np.maximum(d[:adders] - radius, problem.lower[:adders])
        upper[:adders] = np.minimum(d[:adders] + radius, problem.upper[:adders])
        point = solve(replace(program, c=c, lower=lower, upper=upper)).x
        new_d, new_x = point[:k], point[k : k + n]
        value = problem.value(new_d, new_x) + penalty * (f.cost(new_d, new_x) - dual @ point)
        if value > merit - _GAIN:
            radius /= 3
            continue
        merit, radius, d, x = value, 1.5 * radius, new_d, new_x
        yield d[:adders]
