"""Activating flexibility bids with a light model: the TSO's or the market's side.

The formulation is (14) of DigIPlat D5.2, solved exactly by `flexlib.voronoi_cells`;
`flexlib.voronoi_model` has it as printed. Nothing here needs the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from flexlib.bids import Bids
from flexlib.certificate import Certificate, Check, largest
from flexlib.errors import DataError, Fault
from flexlib.light_model import LightModel
from flexlib.voronoi_cells import (
    Search,
    border_excess,
    loading_excess,
    shared_programme,
    voltage_excess,
)

_KW_TOLERANCE = 1e-6
_PERCENT_TOLERANCE = 1e-6
_GAP_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Activation:
    """Activated bids.

    Attributes
    ----------
    model : LightModel
    bids : Bids
    request_kw : float
        Upward positive.
    printed : bool
        Whether loadings are limited as printed.
    gap : float
        Relative gap asked of programmes with least activations.
    z : numpy.ndarray, shape (axes,)
        Value of each axis, P_Flex + Delta-P: kW upward (kvar injected).
    cell : int
        Point whose linear model was used: the one with b_i = 1.
    cell_bound_eur_per_h : numpy.ndarray, shape (m,)
        Proven lower bound on the cost in each cell; infinite where nothing is admissible.
    missed, penalty : float
        What limits are missed by (per cent), and its price (EUR/h for each): above zero only
        between the rounds of `flexlib.relinearisation`.
    """

    model: LightModel
    bids: Bids
    request_kw: float
    printed: bool
    gap: float
    z: np.ndarray
    cell: int
    cell_bound_eur_per_h: np.ndarray
    missed: float = 0.0
    penalty: float = 0.0

    @property
    def cost_eur_per_h(self) -> float:
        """Cost, (14a)."""
        return self.bids.cost_eur_per_h(self.z)

    @cached_property
    def v_pu(self) -> np.ndarray:
        """Voltages by the linear model, (7), shape (v,)."""
        return self.model.voltages_pu(self.cell, self.z)

    @cached_property
    def loading_percent(self) -> np.ndarray:
        """Loadings by the linear model, shape (l,): magnitudes of complex currents, or (8)."""
        if self.printed:
            change = self.model.ltdf[self.cell] @ (self.z - self.model.point[self.cell])
            return np.asarray(self.model.loading_percent[self.cell] + change)
        return np.abs(self.model.currents_percent(self.cell, self.z))

    def frame(self) -> pd.DataFrame:
        """Activated bids: axis, activated (kW up, or kvar injected), share of the volume, cost."""
        axes = self.bids.axes
        up, down = np.maximum(self.z, 0), np.maximum(-self.z, 0)
        volume = np.where(self.z >= 0, axes["upper"], -axes["lower"])
        cost = up * axes["price_up"] + down * axes["price_down"]
        frame = pd.DataFrame({"axis": axes["axis"], "activated": self.z})
        frame["share"] = np.abs(self.z) / np.where(volume > 0, volume, 1.0)
        return frame.assign(cost_eur_per_h=cost)[np.abs(self.z) > _KW_TOLERANCE]

    @cached_property
    def certificate(self) -> Certificate:
        """Every row of the chosen cell, and the gap to the best bound of all cells, recomputed."""
        z, cell, bids = self.z, self.cell, self.bids
        outside = np.maximum(z - bids.upper, bids.lower - z)
        least, own = self.cell_bound_eur_per_h.min(), self.cell_bound_eur_per_h[cell]
        cost, delivered = self.cost_eur_per_h, float(z[bids.active].sum())
        gap_eur_per_h = np.max([abs(cost - least), own - cost])
        loading = loading_excess(self.model, cell, z, printed=self.printed)
        return Certificate(
            (
                Check("request (14j)", abs(delivered - self.request_kw), _KW_TOLERANCE, "kW"),
                Check("volumes (14b), (14c)", largest(outside), _KW_TOLERANCE, "kW"),
                Check("least activations", largest(self._between()), _KW_TOLERANCE, "kW"),
                Check("loadings (14d), (14e)", largest(loading), _PERCENT_TOLERANCE, "%"),
                Check(
                    "voltages (14f), (14g)",
                    largest(voltage_excess(self.model, cell, z)),
                    _PERCENT_TOLERANCE,
                    "%",
                ),
                Check(
                    "borders of the cell (14h)",
                    largest(border_excess(self.model, cell, z)),
                    _KW_TOLERANCE,
                    "kW",
                ),
                Check(
                    "gap to the least bound of all cells",
                    float(gap_eur_per_h) / max(1.0, abs(cost)),
                    max(_GAP_TOLERANCE, 2 * self.gap),
                    "relative",
                ),
            )
        )

    def _between(self) -> np.ndarray:
        """How far each axis is from nothing and from its least activation, where between."""
        axes = self.bids.axes
        least = np.where(self.z >= 0, axes["min_up"], axes["min_down"])
        size = np.abs(self.z)
        return np.where(size < least, np.minimum(size, least - size), 0.0)


def activate(
    model: LightModel,
    bids: Bids,
    request_kw: float,
    *,
    printed: bool = False,
    gap: float = 1e-6,
) -> Activation:
    """Find the cheapest activation that meets a request and all limits of a light model.

    Parameters
    ----------
    model : LightModel
    bids : Bids
        The bids for which the model was made, at any prices; volumes may be smaller.
    request_kw : float
        Sum of the active axes, P_E of (14j), upward positive.
    printed : bool
        Limit loadings as (14d) and (14e) print them instead of the magnitude of the current.
    gap : float
        Relative gap at which an optimum with least activations counts as proven.

    Returns
    -------
    Activation

    Raises
    ------
    DataError
        If the request is beyond what is offered or what the model was made for, or the bids are
        not those of the model.
    Infeasible
        If no cell has an admissible activation; with the rows that conflict.
    """
    assert_matching(model, bids, request_kw)
    search = Search(model, bids, shared_programme(bids, request_kw), printed, gap=gap)
    cell, bounds = search.best()
    return Activation(model, bids, request_kw, printed, gap, cell.z, cell.number, bounds)


def assert_matching(model: LightModel, bids: Bids, request_kw: float) -> None:
    """Raise `DataError` if bids or request are not what a light model was made for."""
    bids.assert_request(request_kw)
    ours, theirs = model.axes, bids.axes
    faults = []
    least, most = model.request_kw
    slack = 1e-9 * (1 + most - least)
    if not least - slack <= request_kw <= most + slack:
        expected = f"from {least:g} to {most:g} kW, for which the light model was made"
        faults.append(Fault("request", "", "request_kw", f"{request_kw:g} kW", expected))
    if list(ours["axis"]) != list(theirs["axis"]):
        unknown = sorted(set(theirs["axis"]) ^ set(ours["axis"]))
        found = ", ".join(unknown[:5]) if unknown else "another order"
        expected = f"the {len(ours)} axes of the light model in its order"
        raise DataError([*faults, Fault("bids", "", "bid", found, expected)])
    for name, wrong in (
        ("kva_per_unit", ~np.isclose(ours["kva_per_unit"], theirs["kva_per_unit"], atol=1e-9)),
        ("lower", theirs["lower"] < ours["lower"] - 1e-9),
        ("upper", theirs["upper"] > ours["upper"] + 1e-9),
    ):
        for k in np.flatnonzero(wrong)[:5]:
            found, expected = f"{theirs[name][k]:g}", f"{ours[name][k]:g} of the light model"
            faults.append(Fault("bids", theirs["axis"][k], name, found, expected))
    if faults:
        raise DataError(faults)
