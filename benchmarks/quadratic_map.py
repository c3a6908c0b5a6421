"""The follower map, answer and gradient, beside solvers hub by hub and differentiable layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks import quadratic_sides as sides
from benchmarks.bilevel import timed
from flexlib.hub_followers import answer
from flexlib.hub_instances import many_feeders
from flexlib.hub_programme import HubProgramme
from flexlib.tariffs import Tariff

ANSWER, GRADIENT = "answer", "gradient"
OURS, LINEAR = "QuadraticFollower", "HiGHS, hub by hub, without Q"
HUBS = 300
SIDES: dict[str, tuple[Callable[..., sides.Side], tuple[str, ...], int]] = {
    OURS: (sides.ours, ("piqp", "scipy"), HUBS),
    "PIQP, hub by hub": (sides.by_piqp, ("piqp",), HUBS),
    "Clarabel, hub by hub": (sides.by_clarabel, ("clarabel",), HUBS),
    "HiGHS, hub by hub": (sides.by_highs, ("highspy",), HUBS),
    LINEAR: (partial(sides.by_highs, curved=False), ("highspy",), HUBS),
    "diffapqp, OSQP, spsolve": (sides.by_diffapqp, ("diffapqp", "torch"), HUBS),
    "diffapqp, OSQP, lsqr": (
        partial(sides.by_diffapqp, mode="lsqr"), ("diffapqp", "torch"), 6
    ),
    "diffcp, dense": (sides.by_diffcp, ("diffcp", "clarabel"), 6),
    "cvxpylayers, dense": (sides.by_cvxpylayers, ("cvxpylayers", "diffcp", "torch"), 6),
    "cvxpylayers, lsqr": (
        partial(sides.by_cvxpylayers, mode="lsqr"), ("cvxpylayers", "diffcp", "torch"), 30
    ),
}  # fmt: skip
RUNS = 3
LEVEL = 0.6
ANSWER_MW = 1e-3  # most that an answer may be away from ours; costs are flat
GRADIENT_SHARE = 1e-3  # of the largest entry, by which a gradient may be away from ours
COST_SHARE = 1e-6
MAP_COLUMNS = [
    "task", "side", "version", "hubs", "hours", "runs", "hub_ms", "ratio_median", "ratio_min",
    "ratio_max", "off", "right",
]  # fmt: skip


def map_rows(runs: int = RUNS, most: int = HUBS) -> Iterator[dict[str, Any]]:
    """Rows of each task, ours first: milliseconds for one hub, ratios formed within a turn.

    All sides are set up before, answer one decision, which is compared with ours, and then another
    in each turn. Some get fewer hubs, the first ones. A gradient that is away from ours has no
    ratio; an answer that is away raises.

    Parameters
    ----------
    runs : int
        Turns.
    most : int
        Hubs, a multiple of three.
    """
    given = {name: side for name, side in SIDES.items() if all(map(find_spec, side[1]))}
    many, _ = many_feeders(most // 3, LEVEL)
    draw = np.random.default_rng(0)
    adders = draw.uniform(0.0, 60.0, (runs + 1, most, many.hours))
    weight = draw.normal(size=(most, many.hours * HubProgramme(many).shape[2]))
    size = {name: min(hubs, most) for name, (_, _, hubs) in given.items()}
    made = {name: given[name][0](many.only(slice(0, n))) for name, n in size.items()}
    off = compared(made, size, adders[0], weight)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in off}
    for adder in adders[1:]:
        for name, side in made.items():
            n = size[name]
            (_, gradient), answer_s = timed(partial(side, adder[:n]))
            times[ANSWER, name].append(answer_s / n)
            if gradient is not None:
                _, gradient_s = timed(partial(gradient, weight[:n]))
                times[GRADIENT, name].append(gradient_s / n)
    for (task, name), found in times.items():
        limit = {ANSWER: ANSWER_MW, GRADIENT: GRADIENT_SHARE}[task]
        if name == LINEAR:
            limit = COST_SHARE
        right = off[task, name] <= limit
        ratio = np.array(found) / times[task, OURS] if right else np.full(runs, np.nan)
        yield {
            "task": task, "side": name,
            "version": ", ".join(f"{one} {version(one)}" for one in given[name][1]),
            "hubs": size[name], "hours": many.hours, "runs": runs,
            "hub_ms": 1000 * np.median(found), "ratio_median": np.median(ratio),
            "ratio_min": ratio.min(), "ratio_max": ratio.max(), "off": off[task, name],
            "right": right,
        }  # fmt: skip


def compared(
    made: dict[str, sides.Side], size: dict[str, int], adder: np.ndarray, weight: np.ndarray
) -> dict[tuple[str, str], float]:
    """How far each side is from ours: answers in MW, gradients as a share of the largest entry.

    Without Q another programme is solved; its cost is compared with that of
    `flexlib.hub_followers.answer`, relatively.

    Raises
    ------
    AssertionError
        If an answer, or that cost, is further away than its limit.
    """
    x, gradient = made[OURS](adder)
    ours = gradient(weight)
    off: dict[tuple[str, str], float] = {}
    for name, side in made.items():
        n = size[name]
        found, moved = side(adder[:n])
        if name == LINEAR:
            off[ANSWER, name] = _cost_off(found, adder[:n])
            limit = COST_SHARE
        else:
            off[ANSWER, name] = float(np.abs(found - x[:n]).max())
            limit = ANSWER_MW
        if not off[ANSWER, name] <= limit:
            raise AssertionError(f"{name}: answer off by {off[ANSWER, name]:.3g}")
        if moved is not None:
            off[GRADIENT, name] = float(
                np.abs(moved(weight[:n]) - ours[:n]).max() / np.abs(ours[:n]).max()
            )
    return dict(sorted(off.items(), key=lambda one: one[0][0]))


def _cost_off(x: np.ndarray, adder: np.ndarray) -> float:
    many, _ = many_feeders(len(x) // 3, LEVEL)
    programme = HubProgramme(many)
    pays = programme.cost @ x.ravel() + (adder * x.ravel()[programme.column("m_in")]).sum()
    least = answer(many, Tariff(adder)).pays_eur.sum()
    return float(abs(pays - least) / abs(least))
