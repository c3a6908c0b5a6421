"""Less of the leader's objective from prices at hand, by the derivative of the hubs' answer.

Linearised steps. Inside a trust region the answer is replaced by its tangent, and the best adders
for that are the optimum of a linear programme, :eq:`quadratic-step`. It is solved feeder by feeder:
the room on a row, or what is beyond its limit, is split evenly among the feeders on it, so that the
sum of the feeders' overloads is never less than the true one, and equal to it where one stands,
:eq:`quadratic-shares`. A feeder's step is kept if its own objective falls with its true answer;
then the sum falls.

Gradient steps. The gradient of the congestion by one adjoint solve, for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from flexlib.linear_program import LinearProgram
from flexlib.pricing_inverse import AdderWeights, changes_between
from flexlib.quadratic_pricing import QuadraticHubs, QuadraticPrices
from flexlib.solver import solve

_RADIUS, _LEAST_RADIUS = 1.0, 0.01  # EUR/MWh
_GAIN = 1e-7  # weighted MWh


def quadratic_objective(prices: QuadraticPrices, weights: AdderWeights) -> float:
    """Leader's whole objective :eq:`prices-bilevel`, weighted MWh."""
    adder = prices.adder_eur_per_mwh
    return prices.congestion_mwh + weights.value(adder, prices.hubs.neighbours)


def with_linearised_steps(
    prices: QuadraticPrices, *, steps: int = 10, weights: AdderWeights | None = None
) -> QuadraticPrices:
    """Prices of less whole objective, by steps on the tangent of the hubs' answer.

    Parameters
    ----------
    prices : QuadraticPrices
    steps : int
        At most.
    weights : AdderWeights, optional
        The poster's by default.

    Returns
    -------
    QuadraticPrices
        Never worse than those given.
    """
    weights = weights or AdderWeights()
    priced_at = QuadraticHubs(prices.hubs, prices.grid, prices.cap_eur_per_mwh)
    feeders = _feeders(prices, weights)
    radius = np.full(len(feeders), _RADIUS)
    for _ in range(steps):
        slopes, room = _slopes(prices), _room(prices, feeders)
        adder = prices.adder_eur_per_mwh.copy()
        active = np.flatnonzero(radius >= _LEAST_RADIUS)
        for k in active:
            adder[feeders[k].hubs] = _step(prices, feeders[k], room, slopes, radius[k], weights)
        tried = priced_at(adder)
        fallen = [
            _part(tried, prices, feeders[k], room, weights)
            < _part(prices, prices, feeders[k], room, weights) - _GAIN
            for k in active
        ]
        radius[active] *= np.where(fallen, 1.5, 1 / 3)
        if all(fallen):
            prices = tried
        elif any(fallen):
            kept = np.zeros(len(prices.hubs), dtype=bool)
            kept[np.concatenate([feeders[k].hubs for k in active[fallen]])] = True
            prices = _mixed(priced_at, prices, tried, kept)
        if (radius < _LEAST_RADIUS).all():
            break
    return prices


def congestion_gradient(prices: QuadraticPrices) -> np.ndarray:
    """Gradient of the congestion with respect to the adders, by one adjoint solve.

    A row that is just at its limit counts as not overloaded.

    Returns
    -------
    numpy.ndarray, shape (hubs, hours)
        Weighted MWh for one EUR/MWh.
    """
    grid, programme = prices.grid, prices.schedule.programme
    loading = grid.loading_mw(prices.schedule.w_mw)
    side = (loading > grid.upper_mw[:, None]).astype(float)
    side -= -loading > grid.lower_mw[:, None]
    slope = grid.incidence.T @ (grid.weight[:, None] * side)
    x = np.zeros(len(prices.answer.x))
    x[programme.column("m_in")], x[programme.column("m_out")] = slope, -slope
    return prices.answer.adjoint(x).reshape(slope.shape)


def with_gradient_steps(
    prices: QuadraticPrices, *, steps: int, rate_eur_per_mwh: float, adam: bool
) -> list[QuadraticPrices]:
    """Projected steps along the gradient of the congestion: plain, or Adam's.

    Parameters
    ----------
    prices : QuadraticPrices
        Start.
    steps : int
    rate_eur_per_mwh : float
        Length of a step: of its largest entry for the plain gradient, about that of every entry for
        Adam. It falls with the root of the step's number.
    adam : bool

    Returns
    -------
    list of QuadraticPrices
        The start and every step.

    References
    ----------
    Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015, algorithm 1, with decay
    rates of 0.9 and 0.99.
    """
    priced_at = QuadraticHubs(prices.hubs, prices.grid, prices.cap_eur_per_mwh)
    mean, square = np.zeros((2, *prices.adder_eur_per_mwh.shape))
    path = [prices]
    for k in range(1, steps + 1):
        gradient = congestion_gradient(path[-1])
        move = gradient / max(float(np.abs(gradient).max()), 1e-12)
        if adam:
            mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
            move = (mean / (1 - 0.9**k)) / (np.sqrt(square / (1 - 0.99**k)) + 1e-8)
        adder = path[-1].adder_eur_per_mwh - rate_eur_per_mwh / np.sqrt(k) * move
        path.append(priced_at(np.clip(adder, 0.0, prices.cap_eur_per_mwh)))
    return path


def _mixed(
    priced_at: QuadraticHubs, prices: QuadraticPrices, tried: QuadraticPrices, kept: np.ndarray
) -> QuadraticPrices:
    """The adders that were tried for some hubs, the others as they were; hubs answer alone."""
    adder = np.where(kept[:, None], tried.adder_eur_per_mwh, prices.adder_eur_per_mwh)
    new, old = tried.answer, prices.answer

    def mixed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.where(np.repeat(kept, len(one) // len(kept)), one, other)

    point = mixed(new.x, old.x), mixed(new.equation_dual, old.equation_dual), new.row_dual
    return priced_at(adder, point)


@dataclass(frozen=True)
class _Feeder:
    """Hubs of a feeder, neighbours and changes among them, and the grid's rows that carry them."""

    hubs: np.ndarray
    neighbours: np.ndarray
    change: np.ndarray
    change_weight: np.ndarray
    rows: np.ndarray
    incidence: np.ndarray


def _feeders(prices: QuadraticPrices, weights: AdderWeights) -> list[_Feeder]:
    name, columns = prices.hubs.table["feeder"], prices.grid.incidence.tocsc()
    place, found = np.zeros(len(name), dtype=int), []
    for members in name.groupby(name, sort=False).indices.values():
        hubs = np.asarray(members)
        place[hubs] = np.arange(len(hubs))
        beside = hubs[:-1][np.diff(hubs) == 1]  # neighbours follow each other in the table
        neighbours = np.column_stack([place[beside], place[beside] + 1])
        change, weight = changes_between(neighbours, (len(hubs), prices.hubs.hours), weights)
        part = columns[:, hubs]
        rows, at = np.unique(part.indices, return_inverse=True)
        incidence = np.zeros((len(rows), len(hubs)))
        incidence[at, np.repeat(np.arange(len(hubs)), np.diff(part.indptr))] = part.data
        found.append(_Feeder(hubs, neighbours, change.toarray(), weight, rows, incidence))
    return found


def _room(prices: QuadraticPrices, feeders: list[_Feeder]) -> np.ndarray:
    """Room of a feeder on each row, towards import and against it, shape (2, rows, hours)."""
    grid, loading = prices.grid, prices.grid.loading_mw(prices.schedule.w_mw)
    count = np.bincount(np.concatenate([f.rows for f in feeders]), minlength=len(loading))
    room = np.stack([grid.upper_mw[:, None] - loading, loading + grid.lower_mw[:, None]])
    return room / np.maximum(count, 1)[:, None]


def _slopes(prices: QuadraticPrices) -> np.ndarray:
    """Derivative of each hub's withdrawals by its adders, shape (hubs, hours, hours of adders)."""
    programme = prices.schedule.programme
    hubs, hours, _ = programme.shape
    moved = prices.answer.forward(np.tile(np.eye(hours), (hubs, 1)))
    return np.asarray(moved[programme.column("m_in")] - moved[programme.column("m_out")])


def _part(
    tried: QuadraticPrices,
    prices: QuadraticPrices,
    feeder: _Feeder,
    room: np.ndarray,
    weights: AdderWeights,
) -> float:
    """A feeder's part of the objective :eq:`quadratic-shares` after a step from given prices."""
    more = feeder.incidence @ (tried.schedule.w_mw - prices.schedule.w_mw)[feeder.hubs]
    over = np.maximum(more - room[0, feeder.rows], 0.0)
    over += np.maximum(-more - room[1, feeder.rows], 0.0)
    adder = tried.adder_eur_per_mwh[feeder.hubs]
    congestion = float(prices.grid.weight[feeder.rows] @ over.sum(axis=1))
    return congestion + weights.value(adder, feeder.neighbours)


def _step(
    prices: QuadraticPrices,
    feeder: _Feeder,
    room: np.ndarray,
    slopes: np.ndarray,
    radius: float,
    weights: AdderWeights,
) -> np.ndarray:
    """Best adders of a feeder on the tangent of its answer, shape (hubs, hours).

    Columns: adders, sizes of their changes, overloads. Only limits that can be reached within the
    trust region have rows.
    """
    now = prices.adder_eur_per_mwh[feeder.hubs]
    n, hours = now.size, now.shape[1]
    lower, upper = np.maximum(now - radius, 0.0), np.minimum(now + radius, prices.cap_eur_per_mwh)
    flow = feeder.incidence[:, None, :, None] * slopes[feeder.hubs].transpose(1, 0, 2)
    flow = flow.reshape(-1, n)
    sides = np.concatenate([flow, -flow])
    most = np.maximum(sides * (lower - now).ravel(), sides * (upper - now).ravel()).sum(axis=1)
    limit = room[:, feeder.rows].reshape(2 * len(flow))
    k = np.flatnonzero(most > limit)
    sides, limit = sides[k], limit[k]
    weight = np.tile(np.repeat(prices.grid.weight[feeder.rows], hours), 2)[k]
    changes, overloads = len(feeder.change_weight), len(k)
    count, columns = 2 * changes + overloads, n + changes + overloads
    rows = np.zeros((count, columns))
    rows[:changes, :n], rows[changes : 2 * changes, :n] = feeder.change, -feeder.change
    rows[2 * changes :, :n] = sides
    rows[:changes, n : n + changes] = rows[changes : 2 * changes, n : n + changes] = -np.eye(
        changes
    )
    rows[2 * changes :, n + changes :] = -np.eye(overloads)
    program = LinearProgram(
        c=np.concatenate([np.full(n, weights.level), feeder.change_weight, weight]),
        a=csr_array(rows),
        row_lower=np.full(count, -np.inf),
        row_upper=np.append(np.zeros(2 * changes), limit + sides @ now.ravel()),
        lower=np.append(lower.ravel(), np.zeros(changes + overloads)),
        upper=np.append(upper.ravel(), np.full(changes + overloads, np.inf)),
        row_names=["row"] * count,
        column_names=["column"] * columns,
    )
    return solve(program).x[:n].reshape(now.shape)
