"""Neighbourhood search: prices at hand made better by mixed-integer programmes of a few hours.

In a window of hours, of one hub or of all, branch and bound decides anew which of the hubs'
variables are at their bounds. Elsewhere what is at a bound stays there and what is not stays free
of it; adders and schedules may change everywhere. The windows move over the day until none of them
makes the prices better.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import BigM, pairs
from flexlib.bilevel_solve import solve_bilevel
from flexlib.errors import NotProven
from flexlib.hub_bilevel import decision, hub_big_m, priced_hubs
from flexlib.pricing import Prices, cheaper, priced
from flexlib.pricing_inverse import AdderWeights
from flexlib.pricing_steps import objective

_HOURS = 6  # of one hub that a window holds; windows of all hubs hold as many of all together
_LIMIT_S = 30.0  # for one window
_GAP = 1e-4
_GAIN = 1e-7
_TIGHT, _LOOSE = 1e-10, 1e-6  # MW or MWh from a bound; between the two a pair stays open


def with_neighbourhoods(
    prices: Prices, weights: AdderWeights | None = None, *, time_limit_s: float = 600.0
) -> Prices:
    """Prices of less whole objective :eq:`prices-bilevel`, by neighbourhoods of given ones.

    Parameters
    ----------
    prices : Prices
    weights : AdderWeights, optional
        The poster's by default.
    time_limit_s : float
        No window is begun after it. A window itself is given up after 30 s; where neither limit
        is met, the result is the same on every machine.

    Returns
    -------
    Prices
        The best found, never worse than those given; with its own certificate.
    """
    weights = weights or AdderWeights()
    benchmark, cap = prices.benchmark, prices.cap_eur_per_mwh
    hubs, shape = benchmark.schedule.programme.hubs, prices.adder_eur_per_mwh.shape
    problem = priced_hubs(hubs, benchmark.grid, cap, weights)
    m, end = hub_big_m(problem, hubs, cap), time.monotonic() + time_limit_s
    best, windows, since = prices, list(_windows(*shape)), 0
    while since < len(windows):
        window, left = windows.pop(0), end - time.monotonic()
        windows.append(window)
        if left <= 0:
            break
        start = decision(benchmark.grid, best.adder_eur_per_mwh, best.answer.schedule)
        d = _searched(problem, _within(problem, m, start, window), start, min(left, _LIMIT_S))
        adder = np.clip(d[: window.size], 0.0, cap).reshape(shape)
        found = cheaper(priced(benchmark, cap, adder), weights)
        since += 1
        if objective(found, weights) < objective(best, weights) - _GAIN:
            best, since = found, 0
    return best


def _windows(hubs: int, hours: int) -> Iterator[np.ndarray]:
    """Windows as masks (hubs, hours), each begins in the middle of the one before.

    None holds all hours of all hubs: that is branch and bound itself.
    """
    groups = [(np.arange(hubs), max(_HOURS // hubs, 2))]
    groups += [(np.array([k]), _HOURS) for k in range(hubs) if hubs > 1]
    for which, width in groups:
        for first in range(-(width // 2), hours, max(width // 2, 1)):
            mask = np.zeros((hubs, hours), dtype=bool)
            mask[which, max(first, 0) : first + width] = True
            if mask.any() and not mask.all():
                yield mask


def _within(
    problem: Bilevel, m: BigM, start: tuple[np.ndarray, np.ndarray], window: np.ndarray
) -> BigM:
    """M that leave pairs outside the window on the side on which they are."""
    f = problem.follower
    column = np.concatenate([np.flatnonzero(np.isfinite(end)) for end in (f.lower, f.upper)])
    stays = ~np.repeat(window.ravel(), len(f.c) // window.size)[column]
    slack = pairs(problem).slack(*start)
    return replace(
        m,
        slack=np.where(stays & (slack <= _TIGHT), 0.0, m.slack),
        multiplier=np.where(stays & (slack > _LOOSE), 0.0, m.multiplier),
    )


def _searched(
    problem: Bilevel, m: BigM, start: tuple[np.ndarray, np.ndarray], limit_s: float
) -> np.ndarray:
    """Best decision within some M, the start's where there is none better by the limit."""
    try:
        return solve_bilevel(problem, m=m, start=start, gap=_GAP, time_limit_s=limit_s).d
    except NotProven as error:
        return start[0] if error.x is None else error.x
