"""The light model: what a DSO hands over instead of its grid.

Around each of several points, an activation of the bids, it holds voltages, currents and their
derivatives: the tuples of DigIPlat D5.2, section 3.2. Currents are complex and in per cent of
their limits, so that their magnitude stays exact where a flow turns around; the source's signed
loading and LTDF follow from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from flexlib.bids import Bids, Connected
from flexlib.errors import DataError, Fault
from flexlib.sensitivity import OperatingPoint, along, operating_points

_AXIS = ["axis", "active", "kva_per_unit", "lower", "upper"]
_ACCEPTED = 1e-9  # relative violation of a limit that is rounding
_SHOWN = 8  # faults of one kind that are listed
_DIRECTIONS = 16  # in which a current is bounded when rows are screened


@dataclass(frozen=True)
class LightModel:
    """Linear models of voltages and currents around points, without the grid.

    Shapes: m points, n axes (`flexlib.bids.Bids`), v voltages, l currents at branch ends.

    Attributes
    ----------
    axes : pandas.DataFrame
        Columns axis, active, kva_per_unit, and lower and upper: the activations for which the
        model is meant. Without prices.
    request_kw : tuple of float
        Least and largest request for which it is meant, upward positive.
    point : numpy.ndarray, shape (m, n)
        Activation at each point: P_Flex,i of (11).
    v_pu : numpy.ndarray, shape (m, v)
        V_i of (7).
    vtdf : numpy.ndarray, shape (m, v, n)
        VTDF_i of (7), p.u. for one unit of an axis.
    i_percent : numpy.ndarray of complex, shape (m, l)
        Currents in per cent of their limits.
    di_percent : numpy.ndarray of complex, shape (m, l, n)
        Their derivatives.
    v_min_pu, v_max_pu : numpy.ndarray, shape (v,)
        V_LB and V_UB of (14f), (14g).
    bus, end : numpy.ndarray of int, shapes (v,) and (l,)
        The DSO's own numbers of the rows, by which messages name them.

    Raises
    ------
    DataError
        If a number is missing, a shape does not fit, a range is empty, or two points coincide.
    """

    axes: pd.DataFrame
    request_kw: tuple[float, float]
    point: np.ndarray
    v_pu: np.ndarray
    vtdf: np.ndarray
    i_percent: np.ndarray
    di_percent: np.ndarray
    v_min_pu: np.ndarray
    v_max_pu: np.ndarray
    bus: np.ndarray
    end: np.ndarray

    def __post_init__(self) -> None:
        m, n, v, k = len(self.point), len(self.axes), len(self.bus), len(self.end)
        expected = {
            "point": (m, n),
            "v_pu": (m, v),
            "vtdf": (m, v, n),
            "i_percent": (m, k),
            "di_percent": (m, k, n),
            "v_min_pu": (v,),
            "v_max_pu": (v,),
            "bus": (v,),
            "end": (k,),
        }
        faults = [f for name, shape in expected.items() for f in _shape_faults(self, name, shape)]
        if not faults:
            faults = _range_faults(self)
        if faults:
            raise DataError(faults)

    @cached_property
    def loading_percent(self) -> np.ndarray:
        """Loadings at the points, L_i of (8): magnitudes, shape (m, l)."""
        return np.asarray(np.abs(self.i_percent))

    @cached_property
    def ltdf(self) -> np.ndarray:
        """LTDF_i of (8): changes of the magnitudes, per cent for one unit, shape (m, l, n)."""
        return np.array(
            [along(i, di) for i, di in zip(self.i_percent, self.di_percent, strict=True)]
        )

    def voltages_pu(self, cell: int, z: np.ndarray) -> np.ndarray:
        """Voltages of an activation by one point's model, (7), :eq:`light-model`, shape (v,)."""
        return np.asarray(self.v_pu[cell] + self.vtdf[cell] @ (z - self.point[cell]))

    def currents_percent(self, cell: int, z: np.ndarray) -> np.ndarray:
        """Complex currents of an activation by one point's model, :eq:`light-model`, shape (l,)."""
        return np.asarray(self.i_percent[cell] + self.di_percent[cell] @ (z - self.point[cell]))

    def nearest(self, z: np.ndarray) -> int:
        """Point whose cell holds an activation, (9); of several the first."""
        return int(np.argmin(((self.point - z) ** 2).sum(axis=1)))


def linearise(
    connected: Connected,
    points: np.ndarray,
    *,
    request_kw: tuple[float, float] | None = None,
    only_binding: bool = False,
    relief: bool = False,
) -> LightModel:
    """Make a light model: the DSO's side.

    Parameters
    ----------
    connected : Connected
        The bids in the grid; their prices are not read.
    points : numpy.ndarray, shape (m, axes)
        Activations around which to linearise; `flexlib.voronoi_points` has rules for them.
    request_kw : tuple of float, optional
        Least and largest request that will be made; all that the bids can add up to by default.
    only_binding : bool
        Keep only rows that some admissible activation, with some admissible request, can bring to
        its limit in the model of some point. The others cannot change any result.
    relief : bool
        Accept a grid whose limits are broken while nothing is activated, for requests that are
        meant to mend this.

    Returns
    -------
    LightModel

    Raises
    ------
    DataError
        If a point lies outside the bids' bounds, or limits are broken while nothing is activated.
    PowerFlowError
        If a point has no power flow.
    """
    bids = connected.bids
    points = np.atleast_2d(np.asarray(points, dtype=float))
    if faults := _point_faults(points, bids):
        raise DataError(faults)
    nothing = np.zeros((1, points.shape[1]))
    cases = connected.loads_kva(np.vstack([nothing, points]))
    base, *states = operating_points(connected.activated, cases)
    if not relief and (faults := base_faults(base)):
        raise DataError(faults)
    network = connected.network
    rows: tuple[np.ndarray, np.ndarray] = (
        np.setdiff1d(base.admittance.free, network.pv),
        np.flatnonzero(np.isfinite(base.admittance.ends["i_max_a"])),
    )
    most_kw = (float(bids.lower[bids.active].sum()), float(bids.upper[bids.active].sum()))
    shared = {"axes": bids.axes[_AXIS], "request_kw": request_kw or most_kw}
    items = list(zip(points, states, strict=True))
    if only_binding:
        kept = [rows_that_can_bind(_around(connected, shared, rows, *item)) for item in items]
        by_kind = zip(rows, zip(*kept, strict=True), strict=True)
        bus, end = (at[np.any(keep, axis=0)] for at, keep in by_kind)
        rows = (bus, end)
    first, *rest = items
    part = _around(connected, shared, rows, *first)
    joined: dict[str, Any] = {
        name: np.repeat(getattr(part, name), len(items), axis=0)
        for name in ("point", "v_pu", "vtdf", "i_percent", "di_percent")
    }
    for k, item in enumerate(rest, start=1):
        part = _around(connected, shared, rows, *item)
        for name, array in joined.items():
            array[k] = getattr(part, name)[0]
    return replace(part, **joined)


def rows_that_can_bind(model: LightModel) -> tuple[np.ndarray, np.ndarray]:
    """Rows that some admissible activation can bring to their limit, by the model of some point.

    Voltages exactly, :eq:`light-voltage`: the extremes over all activations within the axes'
    bounds whose sum is an admissible request are those of a knapsack. Currents by upper bounds in
    16 directions, :eq:`light-current`.

    Parameters
    ----------
    model : LightModel

    Returns
    -------
    voltages, currents : numpy.ndarray of bool, shapes (v,) and (l,)
    """
    voltages, currents = np.zeros(len(model.bus), bool), np.zeros(len(model.end), bool)
    lower, upper = model.axes["lower"].to_numpy(), model.axes["upper"].to_numpy()
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    inside = 100 * np.cos(np.pi / _DIRECTIONS)
    for cell, point in enumerate(model.point):
        d, di = model.vtdf[cell], model.di_percent[cell]
        # First by the box of all bounds, which holds every admissible activation.
        centre, radius = model.voltages_pu(cell, middle), np.abs(d) @ half
        here = (centre + radius >= model.v_max_pu) | (centre - radius <= model.v_min_pu)
        here = np.flatnonzero(here & ~voltages)
        d, base = d[here], model.v_pu[cell][here] - d[here] @ point
        voltages[here] = base + furthest(model, d) >= model.v_max_pu[here]
        voltages[here] |= base - furthest(model, -d) <= model.v_min_pu[here]
        centre, radius = np.abs(model.currents_percent(cell, middle)), np.abs(di) @ half
        maybe = np.flatnonzero((centre + radius >= inside) & ~currents)
        base = model.i_percent[cell] - di @ point
        for a in np.exp(2j * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS):
            here = maybe[~currents[maybe]]
            reach = (np.conj(a) * base[here]).real + furthest(model, (np.conj(a) * di[here]).real)
            currents[here] = reach >= inside
    return voltages, currents


def furthest(model: LightModel, d: np.ndarray) -> np.ndarray:
    """Largest ``d @ z`` over admissible activations z, :eq:`light-admissible`, shape (rows,).

    Parameters
    ----------
    model : LightModel
        Its axes' bounds and its range of requests say what is admissible.
    d : numpy.ndarray, shape (rows, axes)
    """
    lower, upper = model.axes["lower"].to_numpy(), model.axes["upper"].to_numpy()
    active = model.axes["active"].to_numpy()
    free = np.maximum(d * lower, d * upper)[:, ~active].sum(axis=1)
    d, lower, upper = d[:, active], lower[active], upper[active]
    order = np.argsort(-d, axis=1)
    best = np.take_along_axis(d, order, axis=1)
    width = (upper - lower)[order]
    wanted = np.where(best > 0, width, 0).sum(axis=1)
    least, most = model.request_kw
    filled = np.clip(wanted, least - lower.sum(), most - lower.sum())[:, None]
    before = np.cumsum(width, axis=1) - width
    taken = np.clip(filled - before, 0, width)
    return np.asarray(free + d @ lower + (best * taken).sum(axis=1))


def _around(
    connected: Connected,
    shared: dict[str, Any],
    rows: tuple[np.ndarray, np.ndarray],
    point: np.ndarray,
    state: OperatingPoint,
) -> LightModel:
    """Light model of one point, with the given buses and branch ends."""
    bus, end = rows
    buses = connected.network.buses
    per_a = 100 / state.admittance.ends["i_max_a"].to_numpy()[end]
    dv_pu, di_a = state.response(connected.bus, connected.bids.axes["kva_per_unit"].to_numpy())
    return LightModel(
        **shared,
        point=point[None],
        v_pu=np.abs(state.v_pu[bus])[None],
        vtdf=along(state.v_pu[bus], dv_pu[bus])[None],
        i_percent=(state.i_a[end] * per_a)[None],
        di_percent=(di_a[end] * per_a[:, None])[None],
        v_min_pu=buses["v_min_pu"].to_numpy()[bus],
        v_max_pu=buses["v_max_pu"].to_numpy()[bus],
        bus=bus,
        end=end,
    )


def base_faults(state: OperatingPoint) -> list[Fault]:
    """Limits that an operating point breaks, with the numbers."""
    network, ends = state.admittance.network, state.admittance.ends
    v_pu, faults = np.abs(state.v_pu), []
    for low_high, sign in (("v_min_pu", -1), ("v_max_pu", 1)):
        limit = network.buses[low_high].to_numpy()
        for k in np.flatnonzero(sign * (v_pu - limit) > _ACCEPTED)[:_SHOWN]:
            bus, least = network.buses["bus"][k], "least" if sign < 0 else "most"
            expected = f"at {least} {limit[k]:g} p.u. while nothing is activated"
            faults.append(Fault("base", "", f"voltage at {bus}", f"{v_pu[k]:.5f} p.u.", expected))
    over = np.abs(state.i_a) / ends["i_max_a"].to_numpy() * 100
    for k in np.flatnonzero(over > 100 + 100 * _ACCEPTED)[:_SHOWN]:
        place = f"loading of {ends['branch'][k]} at its {ends['end'][k]} end"
        expected = "at most 100 % while nothing is activated"
        faults.append(Fault("base", "", place, f"{over[k]:.3f} %", expected))
    return faults


def _point_faults(points: np.ndarray, bids: Bids) -> list[Fault]:
    if points.shape[1] != len(bids.axes):
        expected = f"{len(bids.axes)}, one for each axis of the bids"
        return [Fault("points", "", "", f"{points.shape[1]} numbers a point", expected)]
    slack = 1e-9 * (1 + bids.upper - bids.lower)
    outside = ~((points >= bids.lower - slack) & (points <= bids.upper + slack))
    return [
        Fault(
            "points",
            str(row),
            bids.axes["axis"][k],
            f"{points[row, k]:g}",
            f"from {bids.lower[k]:g} to {bids.upper[k]:g}, what the bid offers",
        )
        for row, k in np.argwhere(outside)[:_SHOWN].tolist()
    ]


def _shape_faults(model: LightModel, name: str, shape: tuple[int, ...]) -> list[Fault]:
    array = getattr(model, name)
    if array.shape != shape:
        return [Fault("light model", "", name, f"shape {array.shape}", f"shape {shape}")]
    bad = np.argwhere(~np.isfinite(array))
    if not len(bad):
        return []
    at = ", ".join(str(k) for k in bad[0])
    found = f"{array[tuple(bad[0])]:g}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")
    return [Fault("light model", at, name, found, "finite numbers")]


def _range_faults(model: LightModel) -> list[Fault]:
    faults = []
    least, most = model.request_kw
    lower, upper = model.axes["lower"], model.axes["upper"]
    low, high = (float(bound[model.axes["active"]].sum()) for bound in (lower, upper))
    slack = 1e-9 * (1 + high - low)
    if not (least <= most and least <= high + slack and most >= low - slack):
        found, expected = f"{least:g} to {most:g}", f"a range that meets {low:g} to {high:g} kW"
        faults.append(Fault("light model", "", "request_kw", found, expected))
    for k in np.flatnonzero(~(lower <= upper)):
        found, axis = f"{lower.iloc[k]:g}", model.axes["axis"].iloc[k]
        expected = f"a number up to upper ({upper.iloc[k]:g})"
        faults.append(Fault("light model", str(axis), "lower", found, expected))
    for k in np.flatnonzero(~(model.v_min_pu <= model.v_max_pu)):
        found = f"{model.v_min_pu[k]:g}"
        expected = f"at most v_max_pu ({model.v_max_pu[k]:g})"
        faults.append(Fault("light model", str(k), "v_min_pu", found, expected))
    for j, point in enumerate(model.point):
        same = np.flatnonzero((model.point[:j] == point).all(axis=1))
        if len(same):
            expected = "points that differ: cells have no border between equal ones"
            faults.append(Fault("light model", str(j), "point", f"point {same[0]} again", expected))
    return faults
