"""Lower bound on the leader's whole objective, by truncating the adders at reference prices.

With price changes (delta, psi) on imports m and exports o, let V(delta, psi) be a hub's least
cost, and g(delta, psi) = V(delta, psi) - delta'm + psi'o. A schedule is optimal at delta
exactly if (delta, 0) maximises g. The hub is a network flow with gains, so its dual objective is a
sum of concave functions of differences of its multipliers, adders and export prices, V is
supermodular, and so is g. Hence for all reference prices pi, psi >= 0, :eq:`bilevel-truncation`,

    g(min(delta, pi), 0) >= g(pi, psi) + g(delta, 0) - g(max(delta, pi), psi) >= g(pi, psi).

What is left of the bill is the product of imports with the truncated adders t = min(delta, pi).
The grid's rows, multiplied by t and by pi - t, bound it from above, McCormick's envelope over the
short interval [0, pi] from below: one linear programme.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array, kron

from flexlib.centralised import Centralised, congestion_cost, with_overloads
from flexlib.hub_bilevel import multiplier_intervals
from flexlib.hub_followers import followers
from flexlib.hub_programme import HubProgramme
from flexlib.linear_blocks import LinearBlocks
from flexlib.linear_program import LinearProgram, dual_terms
from flexlib.pricing_inverse import AdderWeights, adder_changes, on_import
from flexlib.solver import solve
from flexlib.tariffs import no_tariff

_STEPS = (8.0, 4.0, 2.0, 1.0, 0.5)  # of the search, EUR/MWh
_GAIN = 1e-6
_NONE = 1e-9  # EUR/MWh below which a reference price is none


@dataclass(frozen=True)
class ObjectiveBound:
    """A proven lower bound on the leader's whole objective.

    Attributes
    ----------
    value : float
        Recomputed from dual values; in units of weighted congestion, MWh.
    reference : numpy.ndarray, shape (hubs, hours)
        pi, EUR/MWh. Any gives a bound; they differ in how tight it is.
    evaluations : int
        Linear programmes that the search has solved.
    """

    value: float
    reference: np.ndarray
    evaluations: int = 1


def truncation_bound(
    benchmark: Centralised,
    *,
    cap_eur_per_mwh: float = 60.0,
    weights: AdderWeights | None = None,
    reference: np.ndarray | None = None,
) -> ObjectiveBound:
    """Bound from one vector of reference prices.

    Parameters
    ----------
    benchmark : Centralised
        Method B for the hubs and the grid.
    cap_eur_per_mwh : float
    weights : AdderWeights, optional
        The poster's by default.
    reference : numpy.ndarray, shape (hubs, hours), optional
        pi >= 0, EUR/MWh; by default what the benchmark's shadow prices put on each hub.

    Raises
    ------
    ValueError
        If a reference price is negative or not finite.
    """
    if reference is None:
        shadow = benchmark.grid.incidence.T @ benchmark.import_shadow
        reference = np.maximum(shadow, 0.0)
    if not (np.isfinite(reference).all() and (reference >= 0).all()):
        raise ValueError("reference prices must be finite numbers from 0")
    programme = truncation_programme(
        benchmark, cap_eur_per_mwh, weights or AdderWeights(), reference
    )
    return ObjectiveBound(solve(programme).bound, reference)


def searched_bound(
    benchmark: Centralised,
    *,
    cap_eur_per_mwh: float = 60.0,
    weights: AdderWeights | None = None,
    reference: np.ndarray | None = None,
    evaluations: int = 500,
) -> ObjectiveBound:
    """Best bound of a pattern search on reference prices: of one hub, or all, in one hour.

    Parameters
    ----------
    benchmark, cap_eur_per_mwh, weights, reference
        See `truncation_bound`; the search starts at the reference.
    evaluations : int
        Linear programmes to solve at most.
    """

    def bound(prices: np.ndarray | None) -> ObjectiveBound:
        return truncation_bound(
            benchmark, cap_eur_per_mwh=cap_eur_per_mwh, weights=weights, reference=prices
        )

    best, count = bound(reference), 1
    for step in _STEPS:
        better = True
        while better and count < evaluations:
            before = best.value
            for move in _moves(best.reference, step):
                for sign in (-1.0, 1.0):
                    prices = np.maximum(best.reference + sign * move, 0.0)
                    if count >= evaluations or (prices == best.reference).all():
                        continue
                    found, count = bound(prices), count + 1
                    if found.value > best.value + _GAIN:
                        best = found
                        break
            better = best.value > before
    return replace(best, evaluations=count)


def _moves(reference: np.ndarray, step: float) -> Iterator[np.ndarray]:
    """Steps for all hubs of an hour, then for each, in the hours that have a reference price."""
    hubs = len(reference)
    for hour in np.flatnonzero(reference.max(axis=0) > _NONE):
        for some in (slice(None), *range(hubs)):
            move = np.zeros_like(reference)
            move[some, hour] = step
            yield move


def truncation_programme(
    benchmark: Centralised, cap: float, weights: AdderWeights, reference: np.ndarray
) -> LinearProgram:
    """Schedules, overloads, adders, truncated adders with a dual vector, and their products."""
    programme, grid = benchmark.schedule.programme, benchmark.grid
    hubs, hours, _ = programme.shape
    pi = np.where(reference > _NONE, reference, 0.0).ravel()
    short = np.minimum(pi, cap)
    own = followers(programme, no_tariff(hubs, hours))
    both = with_overloads(own, programme, grid)
    change, weight = adder_changes(programme, weights)
    n, k, limits = len(own.c), len(pi), len(both.c) - len(own.c)
    model = LinearBlocks()
    model.add_columns("x", own.lower, own.upper)
    model.add_columns(
        "z", np.zeros(limits), np.full(limits, np.inf), congestion_cost(both, grid)[n:]
    )
    model.add_columns("delta", np.zeros(k), np.full(k, cap), np.full(k, weights.level))
    model.add_columns("change", 0 * weight, np.full(len(weight), np.inf), weight)
    model.add_columns("t", np.zeros(k), short)
    model.add_rows(both.row_lower, both.row_upper, x=both.a[:, :n], z=both.a[:, n:])
    size = eye_array(len(weight))
    model.add_rows(-np.inf, 0 * weight, delta=change, change=-size)
    model.add_rows(-np.inf, 0 * weight, delta=-change, change=-size)
    model.add_rows(-np.inf, np.zeros(k), t=eye_array(k), delta=-eye_array(k))
    value = _dual(model, own, programme, cap)
    # products of t of one hub with imports and exports of each, in one hour, and with overloads
    place = np.arange(k).reshape(hubs, hours)
    first, other = (a.ravel() for a in np.broadcast_arrays(place[:, None], place[None]))
    used = pi[first] > 0
    first, other = first[used], other[used]
    m_in, m_out = (programme.column(name).ravel() for name in ("m_in", "m_out"))
    t = _pick(first, k)
    for name, column in (("import", m_in), ("export", m_out)):
        _envelope(model, name, t, short[first], _pick(column[other], n), own.upper[column[other]])
    # g(t, 0) >= g(pi, pi), hub by hub
    least = _least_cost(programme, own, pi)
    of_hub = csr_array(kron(eye_array(hubs), np.ones((1, hours))))
    bill = of_hub @ diags_array(pi) @ (_pick(m_in, n) - _pick(m_out, n))
    own_products = of_hub @ csr_array(t.T) @ diags_array((first == other).astype(float))
    terms = {**value, "x": bill, "import": -own_products}
    model.add_rows(least, np.full(hubs, np.inf), **terms)
    _grid_products(model, both, programme, grid.incidence.tocsr(), pi, first, other)
    _differences(model, programme, own.upper, short, first, other)
    return model.programme()


def _dual(
    model: LinearBlocks, own: LinearProgram, programme: HubProgramme, cap: float
) -> dict[str, csr_array]:
    """Add a dual vector of the hubs at adders t; the terms of its value, hub by hub."""
    low, high = multiplier_intervals(programme.hubs, cap)
    towards, against = own.a.maximum(0).T, own.a.minimum(0).T
    upper, m_in = own.upper.copy(), programme.column("m_in").ravel()
    upper[[m_in, programme.column("m_out").ravel()]] = np.inf  # never tight, see `hub_big_m`
    most = own.c - (towards @ low + against @ high)
    most[m_in] += cap
    least = own.c - (towards @ high + against @ low)
    finite = np.where(np.isfinite(upper), upper, 0.0)
    model.add_columns("y", low, high)
    model.add_columns("up", np.zeros(len(upper)), np.maximum(most, 0.0))
    down = np.where(np.isfinite(upper), np.maximum(-least, 0.0), 0.0)
    model.add_columns("down", np.zeros(len(upper)), down)
    eye = eye_array(len(upper))
    model.add_rows(-own.c, -own.c, t=on_import(programme), y=-own.a.T, up=-eye, down=eye)
    hubs = programme.shape[0]

    def by_hub(values: np.ndarray) -> csr_array:
        hub = np.repeat(np.arange(hubs), len(values) // hubs)
        return csr_array((values, (hub, np.arange(len(values)))), shape=(hubs, len(values)))

    return {"y": by_hub(own.row_upper), "up": by_hub(own.lower), "down": by_hub(-finite)}


def _least_cost(programme: HubProgramme, own: LinearProgram, pi: np.ndarray) -> np.ndarray:
    """Proven lower bound on V(pi, pi) of each hub, EUR."""
    cost = own.c.copy()
    cost[programme.column("m_in").ravel()] += pi
    cost[programme.column("m_out").ravel()] -= pi
    priced = replace(own, c=cost)
    rows, columns = dual_terms(priced, solve(priced).row_dual)
    hubs = programme.shape[0]
    return np.asarray(rows.reshape(hubs, -1).sum(axis=1) + columns.reshape(hubs, -1).sum(axis=1))


def _envelope(
    model: LinearBlocks, name: str, t: csr_array, most: np.ndarray, x: csr_array, reach: np.ndarray
) -> None:
    """Products t x with 0 <= t <= most and 0 <= x <= reach, McCormick's envelope."""
    count = len(most)
    model.add_columns(name, np.zeros(count), most * reach)
    w, d, e = eye_array(count), diags_array(most), diags_array(reach)
    model.add_rows(-np.inf, most * reach, t=e @ t, x=d @ x, **{name: -w})
    model.add_rows(-np.inf, np.zeros(count), x=-d @ x, **{name: w})
    model.add_rows(-np.inf, np.zeros(count), t=-e @ t, **{name: w})


def _grid_products(
    model: LinearBlocks,
    both: LinearProgram,
    programme: HubProgramme,
    incidence: csr_array,
    pi: np.ndarray,
    first: np.ndarray,
    other: np.ndarray,
) -> None:
    """Rows in the direction of import times t >= 0 and pi - t >= 0 of each hub on the row."""
    hubs, hours, _ = programme.shape
    room = both.row_upper[len(programme.b) :]
    line, hub = incidence.nonzero()
    line, hub, hour = (
        a.ravel() for a in np.broadcast_arrays(line[:, None], hub[:, None], np.arange(hours))
    )
    row, price = line * hours + hour, hub * hours + hour
    kept = (pi[price] > 0) & np.isfinite(room[row])
    line, row, price = line[kept], row[kept], price[kept]
    count, limits = len(row), len(both.c) - len(programme.cost)
    number = np.full((len(pi), hubs), 0)
    number[first, other // hours] = np.arange(len(first))
    each, share = np.repeat(np.arange(count), hubs), incidence[line].toarray().ravel()
    product = number[np.repeat(price, hubs), np.tile(np.arange(hubs), count)]
    flow = csr_array((share, (each, product)), shape=(count, len(first)))
    flow.eliminate_zeros()
    t, z, at = _pick(price, len(pi)), _pick(row, limits), diags_array(pi[price])
    grid_rows = csr_array(both.a)[len(programme.b) + row][:, : len(programme.cost)]
    eye, limit = eye_array(count), room[row]
    model.add_columns("overload", np.zeros(count), np.full(count, np.inf))
    model.add_rows(-np.inf, np.zeros(count), overload=eye, z=-at @ z)
    terms = {"import": flow, "export": -flow, "overload": -eye, "t": -diags_array(limit) @ t}
    model.add_rows(-np.inf, np.zeros(count), **terms)
    rest = {name: -block for name, block in terms.items()}
    model.add_rows(-np.inf, pi[price] * limit, x=at @ grid_rows, z=-at @ z, **rest)


def _differences(
    model: LinearBlocks,
    programme: HubProgramme,
    upper: np.ndarray,
    short: np.ndarray,
    first: np.ndarray,
    other: np.ndarray,
) -> None:
    """Products of one hub's t and its neighbour's differ by (t - t') m <= (t - t')+ max m."""
    hubs, hours, _ = programme.shape
    near = programme.hubs.neighbours
    near = np.vstack([near, near[:, ::-1]])
    a, b = (near[:, [j]] * hours + np.arange(hours) for j in (0, 1))
    a, b = a.ravel(), b.ravel()
    k, count = len(short), len(a)
    model.add_columns("above", np.zeros(count), short[a])
    model.add_rows(-np.inf, np.zeros(count), t=_pick(a, k) - _pick(b, k), above=-eye_array(count))
    number = np.full((k, hubs), -1)
    number[first, other // hours] = np.arange(len(first))
    for name, variable in (("import", "m_in"), ("export", "m_out")):
        reach = upper[programme.column(variable)]
        for hub in range(hubs):
            pick = [_pick(number[p, hub], len(first)) for p in (a, b)]
            most = diags_array(reach[hub, a % hours])
            model.add_rows(-np.inf, np.zeros(count), above=-most, **{name: pick[0] - pick[1]})


def _pick(columns: np.ndarray, count: int) -> csr_array:
    """Matrix that takes some of the columns; no column where the position is -1."""
    row = np.flatnonzero(columns >= 0)
    return csr_array((np.ones(len(row)), (row, columns[row])), shape=(len(columns), count))
