"""AC worst case of a robust activation: power flow at the corners of the uncertainty set.

Evidence and not a bound: between corners, where nothing is computed, AC could be worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flexlib.certificate import Check, largest
from flexlib.errors import DataError
from flexlib.market import Market
from flexlib.powerflow import PowerFlow, power_flow
from flexlib.robust_limits import (
    CURRENT,
    Limits,
    closest_limits,
    relinearised,
)
from flexlib.robust_rows import worst_deviations
from flexlib.uncertainty import unknown_loads

_TOLERANCE_A = 1e-3
_TOLERANCE_PU = 1e-6
_CLIMBED = 64  # limits that come closest in the linear model
_MOST_VOLTAGES = 2_000_000  # bus voltages that are held at once
_MOST_STEPS = 20  # of an ascent
_STEP = 1e-4  # of xi, for the slopes


@dataclass(frozen=True)
class AcWorstCase:
    """Worst AC power flow over the set under an activation.

    Attributes
    ----------
    i_excess_a, v_excess_pu : float
        Largest violation of a current limit and of a voltage limit; negative within the limits.
    i_worst_a : numpy.ndarray, shape (ends,)
        Largest current magnitude found at each branch end.
    xi_current, xi_voltage : numpy.ndarray, shape (n,)
        Points at which the violations were found.
    mismatch_kva : float
        Largest power residual of all power flows.
    cases : int
        Number of power flows.
    enumerated : bool
        Whether all corners were visited; else each limit was climbed.
    """

    i_excess_a: float
    v_excess_pu: float
    i_worst_a: np.ndarray
    xi_current: np.ndarray
    xi_voltage: np.ndarray
    mismatch_kva: float
    cases: int
    enumerated: bool


def ac_worst_case(
    market: Market, up_kw: np.ndarray, down_kw: np.ndarray, seed: int = 0
) -> AcWorstCase:
    """AC power flow at the corners of the set: all of up to 2^14, else an ascent for each limit.

    The ascent linearises each limit around the AC voltages at its worst point, goes to the worst
    point of that, and repeats; from the worst of all it follows the slopes of the AC power flow.

    Parameters
    ----------
    market : Market
    up_kw, down_kw : numpy.ndarray, shape (offers,)
        Activation.
    seed : int
        Seed of the random directions in which corners are visited as well.

    Returns
    -------
    AcWorstCase
    """
    search = _AcSearch(market, up_kw - down_kw)
    corners = market.uncertainty.vertices()
    if corners is not None:
        search.visit(corners)
    else:
        n = len(market.uncertainty.load)
        directions = np.random.default_rng(seed).standard_normal((64, n))
        search.visit(market.uncertainty.worst(directions))
        search.climb(closest_limits(market, _CLIMBED))
        for index, key in enumerate(search.best):
            search.follow(key, index)
    return search.result(corners is not None)


class _AcSearch:
    """Keeps the worst of all power flows visited."""

    def __init__(self, market: Market, net_kw: np.ndarray) -> None:
        self.market, self.net_kw, self.buses = market, net_kw, len(market.network.buses)
        self.best = {"current": -np.inf, "voltage": -np.inf}
        self.xi = {key: np.zeros(len(market.uncertainty.load)) for key in self.best}
        self.i_worst_a = np.zeros(len(market.flow.admittance.ends))
        self.mismatch_kva, self.cases = 0.0, 0

    def visit(self, xi: np.ndarray) -> np.ndarray:
        """Solve the power flow at every row of xi, remember the worst, return the voltages."""
        parts = max(1, len(xi) * self.buses // _MOST_VOLTAGES)
        voltages = []
        for some in np.array_split(xi, parts):
            flow = self.flow(some)
            for key, excess in zip(self.best, _excess(self.market, flow), strict=True):
                worst = int(np.argmax(excess))
                if excess[worst] > self.best[key]:
                    self.best[key], self.xi[key] = float(excess[worst]), some[worst]
            self.i_worst_a = np.maximum(self.i_worst_a, np.abs(flow.i_a).max(axis=0))
            self.mismatch_kva = max(self.mismatch_kva, flow.mismatch_kva)
            voltages.append(flow.v_pu)
        self.cases += len(xi)
        return np.concatenate(voltages)

    def climb(self, limits: Limits) -> None:
        """Go to the worst point of every limit, until all of them stay where they are."""
        before = None
        for _ in range(_MOST_STEPS if len(limits.kind) else 0):
            xi = worst_deviations(self.market, limits, self.net_kw)
            if before is not None and np.allclose(xi, before, rtol=0, atol=1e-6):
                break
            before, v_pu = xi, self.visit(xi)
            limits = relinearised(self.market, limits, v_pu)

    def follow(self, key: str, index: int) -> None:
        """From the worst point go where the slopes of its excess point, while that gets worse."""
        n = len(self.market.uncertainty.load)
        before = -np.inf
        while self.best[key] > before and n:
            before = self.best[key]
            near = np.vstack([self.xi[key], self.xi[key] + _STEP * np.eye(n)])
            parts = np.array_split(near, max(1, near.size // n * self.buses // _MOST_VOLTAGES))
            excess = np.concatenate(
                [_excess(self.market, self.flow(part))[index] for part in parts]
            )
            self.cases += len(near)
            self.visit(self.market.uncertainty.worst((excess[1:] - excess[0]) / _STEP)[None, :])

    def flow(self, xi: np.ndarray) -> PowerFlow:
        """Power flow at every row of xi."""
        return power_flow(self.market.network, self.market.loads_kva(xi, self.net_kw))

    def result(self, enumerated: bool) -> AcWorstCase:
        """Everything found."""
        return AcWorstCase(
            self.best["current"], self.best["voltage"], self.i_worst_a, self.xi["current"],
            self.xi["voltage"], self.mismatch_kva, self.cases, enumerated,
        )  # fmt: skip


def ac_checks(worst: AcWorstCase) -> list[Check]:
    """Checks of an AC worst case.

    Parameters
    ----------
    worst : AcWorstCase

    Returns
    -------
    list of Check
    """
    how = "all corners" if worst.enumerated else "by ascent"
    current, voltage = (largest(np.array(x)) for x in (worst.i_excess_a, worst.v_excess_pu))
    return [
        Check(f"AC current limit, {how}", current, _TOLERANCE_A, "A", "evidence"),
        Check(f"AC voltage limit, {how}", voltage, _TOLERANCE_PU, "p.u.", "evidence"),
        Check("AC power balance of every bus", worst.mismatch_kva, 1e-3, "kVA"),
    ]


def ac_at_worst(
    market: Market, limits: Limits, net_kw: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AC voltages and the AC value of each quantity at its own worst deviation.

    Parameters
    ----------
    market : Market
    limits : Limits
    net_kw : numpy.ndarray, shape (offers,)

    Returns
    -------
    v_pu : numpy.ndarray of complex, shape (m, buses)
    value : numpy.ndarray of complex, shape (m,)
        Ampere, or volt turned back by the angle at no load.
    """
    xi = worst_deviations(market, limits, net_kw)
    flow = power_flow(market.network, market.loads_kva(xi, net_kw))
    row, current = np.arange(len(xi)), limits.kind == CURRENT
    turn_v = market.flow.admittance.turn_back * 1000 * market.network.buses["v_nom_kv"].to_numpy()
    value = np.empty(len(xi), dtype=complex)
    value[current] = flow.i_a[row[current], limits.at[current]]
    at = limits.at[~current]
    value[~current] = flow.v_pu[row[~current], at] * turn_v[at]
    return flow.v_pu, value


def ac_excess(market: Market, net_kw: np.ndarray, errors_kw: pd.DataFrame) -> pd.DataFrame:
    """AC power flow under an activation for given deviations, as far as limits are exceeded.

    Parameters
    ----------
    market : Market
    net_kw : numpy.ndarray, shape (offers,)
    errors_kw : pandas.DataFrame
        Deviations of active power from the baseline, one column a load, one row a case; reactive
        power follows at each load's power factor.

    Returns
    -------
    pandas.DataFrame
        Columns i_excess_a and v_excess_pu, negative within the limits; one row a case.

    Raises
    ------
    DataError
        Listing every column that is no load of the network.
    """
    network = market.network
    names = pd.DataFrame({"load": errors_kw.columns.astype(str)})
    faults = unknown_loads(names, network, "errors_kw")
    if faults:
        raise DataError(faults)
    load = network.load_positions(names["load"])
    none = np.zeros((1, len(market.uncertainty.load)))
    loads_kva = np.repeat(market.loads_kva(none, net_kw), len(errors_kw), axis=0)
    loads_kva[:, load] += errors_kw.to_numpy() * network.kva_per_kw[load]
    flow = power_flow(network, loads_kva)
    i_excess_a, v_excess_pu = _excess(market, flow)
    return pd.DataFrame(
        {"i_excess_a": i_excess_a, "v_excess_pu": v_excess_pu}, index=errors_kw.index
    )


def _excess(market: Market, flow: PowerFlow) -> tuple[np.ndarray, np.ndarray]:
    """Largest excess over a current limit (A) and over a voltage limit (p.u.) in each case."""
    i_max_a = market.flow.admittance.ends["i_max_a"].to_numpy()
    current = (np.abs(flow.i_a) - i_max_a).max(axis=1)
    buses, free = market.network.buses, market.flow.admittance.free
    v_pu = np.abs(flow.v_pu)
    over, under = v_pu - buses["v_max_pu"].to_numpy(), buses["v_min_pu"].to_numpy() - v_pu
    return current, np.maximum(over, under)[:, free].max(axis=1)
