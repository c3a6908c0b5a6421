"""Method D for tens of thousands of hubs: parts of the grid that only the substation joins.

With the substation's row priced at pi, the leader's convex programme :eq:`quadratic-leader` falls
apart into parts, :eq:`scaling-dual`. The dual function is concave; its gradient is the sum of the
parts' quotas less the import limit, :eq:`scaling-gradient`. Newton steps on the 24 prices, with the
curvature of one part at first and secants after, are kept within 0 <= pi <= D,
:eq:`scaling-newton`. The adders ``R' mu + pi`` are then answered part by part, and where the cap
binds improved by linearised steps with each part's share of the import limit,
:eq:`scaling-shares`. Each part is a unit of `flexlib.sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from flexlib.certificate import Certificate, Check
from flexlib.hub_grid import HubGrid
from flexlib.hub_parts import Part, least_congestion, part_answer, part_bound, part_plan, parts
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.linear_program import LinearProgram
from flexlib.pricing import assert_nonnegative
from flexlib.quadratic_pricing import quadratic_quotas
from flexlib.quadratic_program import solve_quadratic
from flexlib.sweep import Results, sweep

if TYPE_CHECKING:
    from distributed import Client

_BALANCED = 1e-5  # import above its limit, or room at a price, as a share of the limit
_EVALUATIONS = 30
_ROUNDING = 1e-9  # of the dual function
_STEP = 0.5  # EUR/MWh, of the differences that give the curvature of a part
_BELOW_CAP = 1e-3  # EUR/MWh that the substation's price stays below D: there slack would be free


_Unit = Callable[..., dict[str, np.ndarray]]


@dataclass(frozen=True)
class DecomposedPrices:
    """Adders, and the answer of hubs with quadratic costs to them.

    Attributes
    ----------
    adder_eur_per_mwh, w_mw : numpy.ndarray, shape (hubs, hours)
        Adders, and the hubs' withdrawals at them.
    congestion_mwh : float
        Weighted overloads of these withdrawals.
    substation_eur_per_mwh : numpy.ndarray, shape (hours,)
        pi.
    overload_eur_per_mwh : float
        rho of the programme, see `flexlib.quadratic_pricing.quadratic_quotas`: infinite, or half
        the cap where that leaves the first part less congested.
    evaluations : int
        Of the dual function.
    unbalanced : float
        What the quotas import above the limit, or leave of it at a price, as a share of it.
    certificate : Certificate
        Feasibility and optimality of every hub's answer, and the range of the adders.
    """

    adder_eur_per_mwh: np.ndarray
    w_mw: np.ndarray
    congestion_mwh: float
    substation_eur_per_mwh: np.ndarray
    overload_eur_per_mwh: float
    evaluations: int
    unbalanced: float
    certificate: Certificate


def decomposed_prices(
    client: Client,
    hubs: Hubs,
    grid: HubGrid,
    folder: Path,
    *,
    cap_eur_per_mwh: float = 60.0,
    steps: int = 0,
    most_hubs: int = 300,
    progress: bool = True,
) -> DecomposedPrices:
    """Adders of :eq:`quadratic-leader` by decomposition over the substation's price.

    Parameters
    ----------
    client : distributed.Client
        From `flexlib.sweep.workers`.
    hubs : Hubs
    grid : HubGrid
        Without negative entries in its incidence.
    folder : pathlib.Path
        Results of the parts; what is there is not computed again.
    cap_eur_per_mwh : float
        D.
    steps : int
        Linearised steps of each part, from the prices.
    most_hubs : int
        See `parts`.
    progress : bool
        Show bars on stderr.

    Returns
    -------
    DecomposedPrices
    """
    assert_nonnegative(grid, hubs)
    whole, cap = parts(hubs, grid, most_hubs), cap_eur_per_mwh

    def run(function: _Unit, step: str, *each: Sequence[Any]) -> Results:
        units = {
            f"part-{k}": (part, *arguments)
            for k, (part, *arguments) in enumerate(zip(whole, *each, strict=True))
        }
        return sweep(client, function, units, folder / step, progress=progress)

    def planned(price: np.ndarray, k: int) -> Results:
        every = [[value] * len(whole) for value in (price, cap, overload)]
        return run(part_plan, f"plan-{k}", *every)

    sample = whole[0]
    limit = _limit(hubs, grid)
    overload, start = _from_sample(sample, limit * len(sample.hubs) / len(hubs), cap)
    most = min(cap - _BELOW_CAP, overload * grid.substation_weight)

    def curvature(price: np.ndarray) -> np.ndarray:
        return _curvature(sample, price, cap, overload) * (len(hubs) / len(sample.hubs))

    found = _maximised(planned, limit, np.minimum(start, most), most, curvature)
    adder, w_mw = np.zeros((2, len(hubs), grid.hours))
    for part, result in zip(whole, found.plans.values(), strict=True):
        adder[part.members] = result["adder_eur_per_mwh"]
    room = [np.full(grid.hours, np.inf)] * len(whole)
    for count in (0, steps) if steps else (0,):
        now = [adder[part.members] for part in whole]
        same = [cap] * len(whole), room, [count] * len(whole)
        answers = run(part_answer, f"answers-{count}", now, *same)
        for part, result in zip(whole, answers.values(), strict=True):
            adder[part.members], w_mw[part.members] = result["adder_eur_per_mwh"], result["w_mw"]
        room = _shares(whole, grid, w_mw)
    return DecomposedPrices(
        adder, w_mw, grid.congestion_mwh(w_mw), found.price, overload, found.evaluations,
        found.unbalanced, Certificate(_worst_checks(answers)),
    )  # fmt: skip


def decomposed_bound_mwh(
    client: Client,
    hubs: Hubs,
    grid: HubGrid,
    folder: Path,
    *,
    most_hubs: int = 300,
    progress: bool = True,
) -> float:
    """Lower bound on the congestion of every schedule, method B's too, :eq:`scaling-bound`.

    Any price of the substation from 0 to its weight proves one; here it is the first part's, with a
    share of the import limit.

    Parameters
    ----------
    client, hubs, grid, folder, most_hubs, progress
        See `decomposed_prices`.

    Returns
    -------
    float
        Weighted MWh, not below 0.
    """
    whole = parts(hubs, grid, most_hubs)
    sample, limit = whole[0], _limit(hubs, grid)
    share = limit * len(sample.hubs) / len(hubs)
    price = least_congestion(sample, replace(sample.grid, import_mw=share))[1]
    units = {f"part-{k}": (part, price) for k, part in enumerate(whole)}
    found = sweep(client, part_bound, units, folder / "bound", progress=progress)
    total = sum(float(result["bound_mwh"]) for result in found.values())
    return max(total - float(price.sum()) * limit, 0.0)


def _limit(hubs: Hubs, grid: HubGrid) -> float:
    """Import limit, or what the hubs can import at most."""
    return min(grid.import_mw, float(hubs.connection_mw[:, 0].sum(axis=0).max()))


def _from_sample(sample: Part, import_mw: float, cap: float) -> tuple[float, np.ndarray]:
    """Cost of an overload, and prices of the substation, that are best for a part with a share."""
    share = replace(sample.grid, import_mw=import_mw)
    programme = HubProgramme(sample.hubs)
    found = []
    for overload in (np.inf, cap / 2):
        none = np.zeros(programme.shape[:2])
        solution = solve_quadratic(*quadratic_quotas(programme, share, none, cap, overload))
        w = programme.withdrawal_mw(solution.x[: len(programme.cost)])
        price = np.maximum(-solution.row_dual[-share.hours :], 0.0)
        found.append((share.congestion_mwh(w), overload, price))
        if found[-1][0] <= _BALANCED * float(w.sum()):
            break
    _, overload, price = min(found, key=lambda case: case[0])
    return overload, price


def _curvature(sample: Part, price: np.ndarray, cap: float, overload: float) -> np.ndarray:
    """Fall of a part's quotas with the substation's prices, by differences, (hours, hours)."""
    base = part_plan(sample, price, cap, overload)["quota_mw"]
    columns = []
    for t in range(len(price)):
        step = _STEP if price[t] + _STEP < cap else -_STEP
        moved = price + step * np.eye(len(price))[t]
        columns.append((base - part_plan(sample, moved, cap, overload)["quota_mw"]) / step)
    matrix = np.column_stack(columns)
    return (matrix + matrix.T) / 2


@dataclass(frozen=True)
class _Optimum:
    price: np.ndarray
    plans: Results
    evaluations: int
    unbalanced: float


def _maximised(
    planned: Callable[[np.ndarray, int], Results],
    limit: float,
    price: np.ndarray,
    most: float,
    first_curvature: Callable[[np.ndarray], np.ndarray],
) -> _Optimum:
    """Best price of the substation, :eq:`scaling-newton`, or the best after some evaluations."""
    curvature = np.zeros(0)
    best: tuple[float, np.ndarray, np.ndarray, Results] | None = None
    unbalanced, k = np.inf, 0
    for k in range(1, _EVALUATIONS + 1):
        plans = planned(price, k)
        results = list(plans.values())
        value = sum(float(r["value_eur"]) for r in results) - limit * float(price.sum())
        gradient = np.sum([r["quota_mw"] for r in results], axis=0) - limit
        if best is not None:
            moved, fallen = price - best[1], best[2] - gradient
            if moved @ fallen > 1e-9 * (moved @ moved):
                turned = curvature @ moved
                curvature = curvature - np.outer(turned, turned) / (moved @ turned)
                curvature = curvature + np.outer(fallen, fallen) / (moved @ fallen)
        if best is None or value > best[0] - _ROUNDING * abs(best[0]):
            best = value, price, gradient, plans
            at_least = np.where(price <= _BELOW_CAP, np.maximum(gradient, 0.0), np.abs(gradient))
            at_most = np.where(price >= most - _BELOW_CAP, np.maximum(-gradient, 0.0), at_least)
            unbalanced = float(at_most.sum()) / limit
        if unbalanced <= _BALANCED:
            break
        if k == 1:
            curvature = first_curvature(price)
        price = _newton(best[1], best[2], curvature, most)
    assert best is not None
    return _Optimum(best[1], best[3], k, unbalanced)


def _newton(
    price: np.ndarray, gradient: np.ndarray, curvature: np.ndarray, most: float
) -> np.ndarray:
    """Best price within its bounds on the quadratic model of the dual function."""
    hours = len(price)
    least = 1e-9 * float(np.abs(curvature).max())
    values, vectors = np.linalg.eigh(curvature)
    convex = (vectors * np.maximum(values, least)) @ vectors.T
    names = [f"price of hour {t}" for t in range(hours)]
    model = LinearProgram(
        -gradient - convex @ price, csr_array((0, hours)), np.zeros(0), np.zeros(0),
        np.zeros(hours), np.full(hours, most), [], names,
    )  # fmt: skip
    return solve_quadratic(model, csr_array((convex + convex.T) / 2)).x


def _shares(whole: list[Part], grid: HubGrid, w_mw: np.ndarray) -> list[np.ndarray]:
    """What each part may import, shape (hours,): what it does, and its share of the rest."""
    rest = grid.import_mw - w_mw.sum(axis=0)
    return [w_mw[part.members].sum(axis=0) + rest / len(whole) for part in whole]


def _worst_checks(answers: Results) -> tuple[Check, ...]:
    """Largest value of each check over the parts."""
    results = list(answers.values())
    value = np.max([result["value"] for result in results], axis=0)
    kind = zip(results[0]["check"], value, results[0]["tolerance"], results[0]["unit"], strict=True)
    return tuple(Check(str(name), float(v), float(most), str(unit)) for name, v, most, unit in kind)
