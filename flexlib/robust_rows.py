"""Rows that make a limit hold for the whole uncertainty set, exact in the linear model.

De Simone (2025), (65), (66), (82) and (83), in the corrected form: along a normal a limited
quantity is a linear function of the uncertain loads; its largest value is the support function of
the set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flexlib.market import Market
from flexlib.planes import Circle, LambdaBeta, Planes, along
from flexlib.robust_limits import CURRENT, LOWER, UPPER, Limits
from flexlib.uncertainty import UncertaintySet

_MOST_A = 5e-7  # half of what the certificate accepts of a current
_BROKEN = 1e-8  # ampere or volt beyond which a row is missing, above what the solver lets pass
_DIRECTIONS = 33  # in which a least value is sought
_FIRST_SIDES = Planes(32, inscribed=False)  # stand for a circle until cuts are added


@dataclass(frozen=True)
class Rows:
    """Rows ``per_kw net <= room``: each keeps one quantity on one side of a line, for all xi.

    Attributes
    ----------
    limit : numpy.ndarray of int, shape (rows,)
        Position of the quantity in the `Limits`.
    normal : numpy.ndarray of complex, shape (rows,)
        a in ``Re(conj(a) z) <= bound``.
    bound : numpy.ndarray, shape (rows,)
        Ampere or volt.
    per_kw : numpy.ndarray, shape (rows, offers)
        Coefficients of the net upward activation.
    room : numpy.ndarray, shape (rows,)
        Bound less the value at the baseline and the margin for the uncertainty.
    margin : numpy.ndarray, shape (rows,)
        Largest value that the uncertain loads add along the normal.
    margin_per_kw : numpy.ndarray, shape (rows, offers)
        The part of `per_kw` by which activation changes the margin; 0 for a band on the baseline.
    big_m : numpy.ndarray, shape (rows,)
        0 for a row that always holds. Of several rows for one lower limit only one needs to hold;
        each then carries the largest amount by which an activation that is offered can miss it.
    """

    limit: np.ndarray
    normal: np.ndarray
    bound: np.ndarray
    per_kw: np.ndarray
    room: np.ndarray
    margin: np.ndarray
    margin_per_kw: np.ndarray
    big_m: np.ndarray

    def __len__(self) -> int:
        return len(self.limit)

    def take(self, which: np.ndarray) -> Rows:
        """Some of the rows."""
        return Rows(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    def and_more(self, more: Rows) -> Rows:
        """These rows and others."""
        pairs = ((getattr(self, name), getattr(more, name)) for name in self.__dataclass_fields__)
        return Rows(*(np.concatenate(pair) for pair in pairs))


def robust_rows(
    market: Market,
    limits: Limits,
    limit: np.ndarray,
    normal: np.ndarray,
    bound: np.ndarray,
    net_kw: np.ndarray | None = None,
) -> Rows:
    """Rows for given lines, with the worst deviation of each.

    Parameters
    ----------
    market : Market
    limits : Limits
    limit, normal, bound : numpy.ndarray, shape (rows,)
        See `Rows`.
    net_kw : numpy.ndarray, shape (offers,), optional
        Activation for which the worst deviation is sought. It matters only where the band is on
        what remains; for a box not even there, since its worst corner depends on signs alone.

    Returns
    -------
    Rows
    """
    columns = along(normal[:, None], limits.per_xi[limit])
    remains = 1.0 if net_kw is None else market.remains(net_kw)
    worst = columns * market.uncertainty.worst(columns * remains)
    margin = worst.sum(axis=1)
    margin_per_kw = worst @ market.remains_per_kw
    per_kw = along(normal[:, None], limits.per_kw[limit]) + margin_per_kw
    room = bound - along(normal, limits.base[limit]) - margin
    return Rows(limit, normal, bound, per_kw, room, margin, margin_per_kw, np.zeros(len(limit)))


def first_rows(market: Market, limits: Limits) -> Rows:
    """All rows of the planes (83) and of the voltage norm (82).

    Parameters
    ----------
    market : Market
    limits : Limits

    Returns
    -------
    Rows
    """
    return current_rows(market, limits).and_more(voltage_rows(market, limits))


def current_rows(market: Market, limits: Limits) -> Rows:
    """Rows :eq:`robust-83`: planes that some activation and deviation can reach."""
    planes = _FIRST_SIDES if isinstance(market.norm, Circle) else market.planes
    current = np.flatnonzero(limits.kind == CURRENT)
    normal = planes.normals(limits.base[current])
    up_kw, down_kw = market.volume_kw
    steps = market.uncertainty.reach * market.most_remains
    centre = limits.base[current] + limits.per_kw[current] @ (up_kw - down_kw) / 2
    radius = np.abs(limits.per_kw[current]) @ (up_kw + down_kw) / 2
    radius += np.abs(limits.per_xi[current]) @ steps
    bound = np.broadcast_to(limits.limit[current, None] * planes.apothem, normal.shape)
    row, plane = np.nonzero(along(normal, centre[:, None]) + radius[:, None] > bound * (1 - 1e-9))
    return robust_rows(market, limits, current[row], normal[row, plane], bound[row, plane])


def every_plane(market: Market, limits: Limits) -> Rows:
    """Rows :eq:`robust-83` of all planes, one limit after the other.

    Parameters
    ----------
    market : Market
        Its norm is made of planes.
    limits : Limits

    Returns
    -------
    Rows
    """
    current = np.flatnonzero(limits.kind == CURRENT)
    normal = market.planes.normals(limits.base[current])
    limit = np.repeat(current, normal.shape[1])
    bound = limits.limit[limit] * market.planes.apothem
    return robust_rows(market, limits, limit, normal.ravel(), bound)


def current_margins_a(market: Market) -> np.ndarray:
    """Largest current that the uncertain loads add along each plane: the margin of :eq:`robust-83`.

    Parameters
    ----------
    market : Market
        Its norm is made of planes.

    Returns
    -------
    numpy.ndarray, shape (ends, planes)
        ``max over xi of Re(conj(a_n) Y Z D xi)``, ampere, at every branch end.
    """
    normals = market.planes.normals(market.flow.i0_a)
    columns = zip(normals, market.uncertain[1], strict=True)
    support = (market.uncertainty.support(along(a[:, None], di_a)) for a, di_a in columns)
    return np.array(list(support))


def voltage_rows(market: Market, limits: Limits) -> Rows:
    """Rows :eq:`robust-82`, exact over a box.

    Upper: ``alpha re + s beta im`` must stay below the limit for s = 1 and s = -1. Lower: it
    must stay above for some s in [-1, 1], the same for all deviations; over a box only s = 1,
    s = -1 and the s at which one load's term changes sign can be best (over another set, these
    are enough to be safe). Rows that another row makes superfluous for every activation are left
    out. Limits that say where their voltages point have one row each, across that direction.

    Parameters
    ----------
    market : Market
    limits : Limits

    Returns
    -------
    Rows
    """
    if limits.facing is not None:
        voltage = np.flatnonzero(limits.kind != CURRENT)
        side = np.where(limits.kind[voltage] == UPPER, 1.0, -1.0)
        normal, bound = side * limits.facing[voltage], side * limits.limit[voltage]
        return robust_rows(market, limits, voltage, normal, bound)
    norm = limits.voltage_norm
    upper = np.repeat(np.flatnonzero(limits.kind == UPPER), 2)
    sides = np.tile([1.0, -1.0], len(upper) // 2)
    normal = norm.alpha + 1j * sides * norm.beta
    rows = robust_rows(market, limits, upper, normal, limits.limit[upper])
    for lower in np.flatnonzero(limits.kind == LOWER).tolist():
        rows = rows.and_more(_lower_rows(market, limits, lower, norm))
    return rows


def _lower_rows(market: Market, limits: Limits, lower: int, norm: LambdaBeta) -> Rows:
    """Alternatives for one lower limit, of which one must hold; one row if one is enough."""
    uncertain = limits.per_xi[lower]
    with np.errstate(divide="ignore", invalid="ignore"):
        corners = -norm.alpha * uncertain.real / (norm.beta * uncertain.imag)
    s = np.array([1.0, -1.0, *sorted(set(corners[np.abs(corners) < 1].tolist()))])
    limit, bound = np.full(len(s), lower), np.full(len(s), -limits.limit[lower])
    rows = robust_rows(market, limits, limit, -(norm.alpha + 1j * s * norm.beta), bound)
    kept: list[int] = []
    for row in range(len(rows)):
        if any(_least(market, rows, other, row) >= 0 for other in kept):
            continue
        kept = [*(other for other in kept if _least(market, rows, row, other) < 0), row]
    missed = np.array([max(0.0, -_least(market, rows, row)) for row in kept])
    if market.band == "remainder":  # a cut can be missed by more than the row it replaces
        added = np.abs(uncertain) @ (market.uncertainty.reach * market.most_remains)
        missed += 2 * np.hypot(norm.alpha, norm.beta) * added
    if len(kept) == 1 or missed.min() == 0.0:  # one of them holds for every activation
        return rows.take(np.array([kept[int(missed.argmin())]]))
    return replace(rows.take(np.array(kept)), big_m=missed)


def _least(market: Market, rows: Rows, row: int, minus: int | None = None) -> float:
    """Least slack of a row (less another's) over all activations offered."""
    room, per_kw = rows.room[row], rows.per_kw[row]
    if minus is not None:
        room, per_kw = room - rows.room[minus], per_kw - rows.per_kw[minus]
    up_kw, down_kw = market.volume_kw
    moved = np.minimum(np.minimum(-per_kw * up_kw, per_kw * down_kw), 0)
    return float(room + moved.sum())


def cuts(market: Market, limits: Limits, rows: Rows, net_kw: np.ndarray) -> Rows:
    """Rows that an activation breaks although it keeps all others.

    Of the lines that stand, those whose worst deviation has changed; of a circle, the tangent at
    the point of the image that lies farthest out, :eq:`robust-cut`.

    Parameters
    ----------
    market : Market
    limits : Limits
    rows : Rows
        The rows that the activation keeps.
    net_kw : numpy.ndarray, shape (offers,)

    Returns
    -------
    Rows
        None left: the activation is optimal for the whole set.
    """
    again = robust_rows(market, limits, rows.limit, rows.normal, rows.bound, net_kw)
    lines = np.column_stack([rows.limit, rows.normal.real, rows.normal.imag])
    _, first, line = np.unique(lines, axis=0, return_index=True, return_inverse=True)
    missed = np.zeros(len(first))  # by the row of each line that is missed most, if any
    np.maximum.at(missed, line.ravel(), rows.per_kw @ net_kw - rows.room)
    beyond = (again.per_kw @ net_kw - again.room)[first]
    tolerance = np.maximum(_BROKEN, 1e-9 * np.abs(rows.bound[first]))
    worse = np.sort(first[beyond > missed + tolerance])
    found = replace(again.take(worse), big_m=rows.big_m[worse])
    if isinstance(market.norm, Planes):
        return found
    current = np.flatnonzero(limits.kind == CURRENT)
    z = limits.base + limits.per_kw @ net_kw
    columns = limits.per_xi * market.remains(net_kw)
    reach = np.abs(z) + np.abs(columns) @ market.uncertainty.reach
    normal, at = [], []
    for q in current[reach[current] > limits.limit[current]]:
        xi, _ = farthest(market.uncertainty, z[q], columns[q], 0.1 * _BROKEN)
        point = z[q] + columns[q] @ xi
        if abs(point) > limits.limit[q] + min(max(_BROKEN, 1e-9 * limits.limit[q]), _MOST_A):
            normal.append(point / abs(point))
            at.append(q)
    limit = np.array(at, dtype=int)
    tangent = robust_rows(
        market, limits, limit, np.array(normal, dtype=complex), limits.limit[limit], net_kw
    )
    return found.and_more(tangent)


def farthest(
    uncertainty: UncertaintySet, centre: complex, columns: np.ndarray, tolerance: float
) -> tuple[np.ndarray, float]:
    """Deviation at which ``|centre + columns @ xi|`` is largest, and a proven bound on that.

    Each pair of neighbouring supporting lines of the image meets in a point outside it; where that
    point lies farther out than the best one found, the angle between the lines is halved.

    Parameters
    ----------
    uncertainty : UncertaintySet
    centre : complex
    columns : numpy.ndarray of complex, shape (n,)
    tolerance : float
        Largest accepted distance between the magnitude found and the bound.

    Returns
    -------
    xi : numpy.ndarray, shape (n,)
    bound : float
    """
    start, width = 2 * np.pi * np.arange(32) / 32, np.full(32, 2 * np.pi / 32)
    best, bound, best_xi = -1.0, 0.0, np.zeros(len(columns))
    while len(start):
        towards = np.exp(1j * np.concatenate([start, start + width]))
        xi = uncertainty.worst(along(towards[:, None], columns))
        points = centre + xi @ columns
        if not np.isfinite(points).all():
            return best_xi, np.nan
        if np.abs(points).max() > best:
            best, best_xi = float(np.abs(points).max()), xi[np.abs(points).argmax()]
        here, there = along(towards, points).reshape(2, -1)
        sideways = (there - here * np.cos(width)) / np.sin(width)
        between = (sideways >= 0) & (here >= there * np.cos(width))
        most = np.where(between, np.hypot(here, sideways), np.maximum(here, there))
        wide = most > best + tolerance
        bound = max(bound, float(most[~wide].max(initial=0.0)))
        half = width[wide] / 2
        start, width = np.concatenate([start[wide], start[wide] + half]), np.tile(half, 2)
    return best_xi, max(best, bound)


def worst_deviations(market: Market, limits: Limits, net_kw: np.ndarray) -> np.ndarray:
    """Deviation at which each quantity is worst in its linear model, shape (m, n).

    Parameters
    ----------
    market : Market
    limits : Limits
    net_kw : numpy.ndarray, shape (offers,)

    Returns
    -------
    numpy.ndarray
        Where the magnitude is largest; for a lower limit, where it is least of the points that
        the set has farthest towards zero in a fan of directions.
    """
    columns = limits.per_xi * market.remains(net_kw)
    z = limits.base + limits.per_kw @ net_kw
    xi = np.zeros(columns.shape)
    for q, kind in enumerate(limits.kind):
        if kind != LOWER:
            xi[q], _ = farthest(market.uncertainty, z[q], columns[q], _BROKEN)
            continue
        spread = min(np.pi / 2, 2 * (np.abs(columns[q]) @ market.uncertainty.reach) / abs(z[q]))
        towards = z[q] * np.exp(1j * spread * np.linspace(-1, 1, _DIRECTIONS))
        found = market.uncertainty.worst(-along(towards[:, None], columns[q]))
        xi[q] = found[np.abs(z[q] + found @ columns[q]).argmin()]
    return xi
