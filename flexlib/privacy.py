"""What an outsider recovers of a grid from a light model alone, and what could be done about it.

Radial grids only: there each branch has a side that is fed through it, and its current answers to
the bids on that side and to hardly any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order
from scipy.spatial.distance import squareform

from flexlib.admittance import Admittance
from flexlib.bids import Connected
from flexlib.errors import DataError, Fault
from flexlib.light_model import LightModel

Sets = list[frozenset[int]]  # positions of axes


def sets_by_currents(answer: np.ndarray, share: float = 0.5) -> Sets:
    """Axes behind each current: those that move it by a share of what moves it most.

    Equation :eq:`light-behind`.

    Parameters
    ----------
    answer : numpy.ndarray, shape (l, n)
        Derivatives of currents: one point of `LightModel.di_percent` or `LightModel.ltdf`.
    share : float

    Returns
    -------
    list of frozenset
        One for each row.
    """
    size = np.abs(answer)
    behind = size > share * size.max(axis=1, initial=0.0)[:, None]
    return [frozenset(np.flatnonzero(row).tolist()) for row in behind]


def sets_by_voltages(vtdf: np.ndarray, tolerance: float = 0.01) -> Sets:
    """Axes that share a path from the slack, by hierarchical clustering.

    VTDF is about the resistance of the path that a bus and a site have in common. What two sites
    have in common is the largest, over all buses, of the smaller of their two entries, equation
    :eq:`light-shared`.

    Parameters
    ----------
    vtdf : numpy.ndarray, shape (v, n)
        One point of `LightModel.vtdf`.
    tolerance : float
        Relative difference of resistances from which two clusters count as different.

    Returns
    -------
    list of frozenset
        Clusters, single axes included.
    """
    n = vtdf.shape[1]
    if n < 2 or not len(vtdf):
        return [frozenset([k]) for k in range(n)]
    shared = np.array([np.minimum(vtdf, vtdf[:, [k]]).max(axis=0) for k in range(n)])
    apart = shared.max() - shared
    np.fill_diagonal(apart, 0.0)
    merges = linkage(squareform(apart, checks=False), "single")
    clusters: Sets = [frozenset([k]) for k in range(n)]
    height = [0.0] * n
    above = np.full(2 * n - 1, np.inf)
    for a, b, at in merges[:, :3]:
        clusters.append(clusters[int(a)] | clusters[int(b)])
        height.append(float(at))
        above[[int(a), int(b)]] = at
    common = shared.max() - np.array(height)
    return [
        cluster
        for k, cluster in enumerate(clusters)
        if k < n or shared.max() - above[k] < (1 - tolerance) * common[k]
    ]


def tree(sets: Iterable[frozenset[int]]) -> dict[frozenset[int], frozenset[int]]:
    """Smallest set above each set that has one: the branch that feeds it."""
    by_size = sorted({s for s in sets if s}, key=lambda s: (len(s), sorted(s)))
    found = {}
    for k, s in enumerate(by_size):
        if above := next((other for other in by_size[k + 1 :] if s < other), None):
            found[s] = above
    return found


def scores(found: Iterable[object], true: Iterable[object]) -> dict[str, float]:
    """Count, precision, recall and F1 of things found: distinct sets, or edges of a tree."""
    found, true = set(found) - {frozenset()}, set(true) - {frozenset()}
    right = len(found & true)
    precision, recall = right / max(1, len(found)), right / max(1, len(true))
    f1 = 2 * right / max(1, len(found) + len(true))
    return {"found": len(found), "true": len(true), "precision": precision, "recall": recall,
            "f1": f1}  # fmt: skip


def ratings_kva(answer: np.ndarray, sets: Sets) -> np.ndarray:
    """Rating of each branch end: one kW behind it is ``100 / rating`` per cent, at 1 p.u.

    Equation :eq:`light-rating`.

    Parameters
    ----------
    answer : numpy.ndarray, shape (l, n)
        As in `sets_by_currents`.
    sets : list of frozenset
        Axes behind each row.

    Returns
    -------
    numpy.ndarray, shape (l,)
        kVA; NaN where nothing is behind.
    """
    with_axes = [(np.abs(row), sorted(s)) for row, s in zip(answer, sets, strict=True)]
    return np.array([100 / row[s].mean() if s and row[s].any() else np.nan for row, s in with_axes])


def demands_kva(model: LightModel, cell: int, sets: Sets) -> np.ndarray:
    """Consumption behind each branch end while nothing is activated, from complex currents.

    A kW injected behind it moves the current by ``-1 / conj(v)``, a demand s is a current of
    ``conj(s / v)``: their ratio is ``-conj(s)``, whatever limit and voltage are, equation
    :eq:`light-demand`.

    Returns
    -------
    numpy.ndarray of complex, shape (l,)
        kVA; NaN where nothing is behind.
    """
    di = model.di_percent[cell]
    i = model.i_percent[cell] - di @ model.point[cell]
    one = [row[sorted(s)].mean() if s else 0.0 for row, s in zip(di, sets, strict=True)]
    known = np.abs(one) > 0
    return np.where(known, -np.conj(i / np.where(known, one, 1.0)), np.nan)


def truth(connected: Connected) -> tuple[Sets, np.ndarray, np.ndarray]:
    """What the outsider looks for, to score what was found; for each branch end.

    Returns
    -------
    sets : list of frozenset
        Axes behind it.
    rating_kva : numpy.ndarray
        At nominal voltage; infinite without a limit.
    demand_kva : numpy.ndarray of complex
        Base loads behind it.

    Raises
    ------
    DataError
        If the grid is not radial.
    """
    network = connected.network
    count = len(network.buses)
    if not network.is_radial:
        found, expected = f"{len(network.branches)} branches", f"{count - 1}: a radial grid"
        raise DataError([Fault(f"network {network.name}", "", "branches", found, expected)])
    ends_of = (network.from_bus, network.to_bus)
    graph = coo_array((np.ones(count - 1), ends_of), (count, count))
    order, above = breadth_first_order(graph, network.slack, directed=False)
    fed_by = np.where(above[network.to_bus] == network.from_bus, network.to_bus, network.from_bus)
    behind: list[set[int]] = [set() for _ in range(count)]
    for axis, bus in enumerate(connected.bus):
        behind[bus].add(axis)
    demand = np.zeros(count, dtype=complex)
    np.add.at(demand, network.load_bus, network.s_load_kva)
    for bus in order[:0:-1]:
        behind[above[bus]] |= behind[bus]
        demand[above[bus]] += demand[bus]
    ends = Admittance(network).ends
    v_nom_kv = network.buses.set_index("bus")["v_nom_kv"].loc[ends["bus"]].to_numpy()
    at = np.tile(fed_by, 2)
    rating_kva = np.sqrt(3) * v_nom_kv * ends["i_max_a"].to_numpy()
    return [frozenset(behind[bus]) for bus in at], rating_kva, demand[at]


def rounded(model: LightModel, digits: int) -> LightModel:
    """Light model with derivatives of so many significant digits (of both complex parts)."""

    def short(x: np.ndarray) -> np.ndarray:
        at = digits - 1 - np.floor(np.log10(np.abs(np.where(x == 0, 1.0, x))))
        return np.where(x == 0, 0.0, np.round(x * 10**at) / 10**at)

    di = model.di_percent
    return replace(model, vtdf=short(model.vtdf), di_percent=short(di.real) + 1j * short(di.imag))


def noisy(model: LightModel, share: float, seed: int) -> LightModel:
    """Light model whose derivatives are each multiplied by 1 + share times a normal number."""
    rng = np.random.default_rng(seed)
    v, i = (1 + share * rng.normal(size=d.shape) for d in (model.vtdf, model.di_percent))
    return replace(model, vtdf=model.vtdf * v, di_percent=model.di_percent * i)


def disguised(model: LightModel, seed: int) -> LightModel:
    """Light model with rows in random order, numbered anew, each current turned by an angle.

    The same activations are admissible; the DSO keeps its own model beside it.
    """
    rng = np.random.default_rng(seed)
    v, k = rng.permutation(len(model.bus)), rng.permutation(len(model.end))
    turn = np.exp(2j * np.pi * rng.random(len(k)))
    return replace(
        model,
        v_pu=model.v_pu[:, v],
        vtdf=model.vtdf[:, v],
        i_percent=model.i_percent[:, k] * turn,
        di_percent=model.di_percent[:, k] * turn[:, None],
        v_min_pu=model.v_min_pu[v],
        v_max_pu=model.v_max_pu[v],
        bus=np.arange(len(v)),
        end=np.arange(len(k)),
    )
