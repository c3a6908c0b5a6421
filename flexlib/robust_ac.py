"""AC worst case of a robust activation: power flow at the corners of the box.

Evidence and not a bound: between corners, where nothing is computed, AC could be worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexlib.certificate import Check, largest
from flexlib.market import Market
from flexlib.powerflow import PowerFlow, power_flow

_MAX_CORNERS = 2**14  # above this the corners are searched, not enumerated
_TOLERANCE_A = 1e-3
_TOLERANCE_PU = 1e-6


@dataclass(frozen=True)
class AcWorstCase:
    """Worst AC power flow over the box under an activation.

    Attributes
    ----------
    i_excess_a, v_excess_pu : float
        Largest violation of a current limit and of a voltage limit; negative within the limits.
    i_worst_a : numpy.ndarray, shape (ends,)
        Largest current magnitude found at each branch end.
    xi_current, xi_voltage : numpy.ndarray, shape (n,)
        Corners at which the violations were found.
    mismatch_kva : float
        Largest power residual of all power flows.
    cases : int
        Number of power flows.
    enumerated : bool
        Whether all corners were visited; else corners were searched by ascent.
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
    """AC power flow at the corners of the box: all of up to 2^14, else a seeded local ascent.

    Parameters
    ----------
    market : Market
    up_kw, down_kw : numpy.ndarray, shape (offers,)
        Activation.
    seed : int
        Seed of the corners from which the ascent starts.

    Returns
    -------
    AcWorstCase
    """
    search = _AcSearch(market, market.activated_kva(up_kw, down_kw))
    count = len(market.box.load)
    enumerated = 2**count <= _MAX_CORNERS
    if enumerated:
        for chunk in np.array_split(market.box.vertices(), max(1, 2**count // 1024)):
            search.visit(chunk)
    else:
        search.visit(_starting_corners(market, up_kw - down_kw, seed))
        search.climb("current")
        search.climb("voltage")
    return search.result(enumerated)


class _AcSearch:
    """Keeps the worst of all power flows visited."""

    def __init__(self, market: Market, activated_kva: np.ndarray) -> None:
        self.market, self.activated_kva = market, activated_kva
        self.best = {"current": -np.inf, "voltage": -np.inf}
        self.xi = {key: np.zeros(len(market.box.load)) for key in self.best}
        self.i_worst_a = np.zeros(len(market.flow.admittance.ends))
        self.mismatch_kva, self.cases = 0.0, 0

    def visit(self, xi: np.ndarray) -> None:
        """Solve the power flow at every row of xi and remember the worst."""
        flow = power_flow(self.market.network, self.market.box.loads_kva(xi) + self.activated_kva)
        for key, excess in (("current", self._current(flow)), ("voltage", self._voltage(flow))):
            worst = int(np.argmax(excess))
            if excess[worst] > self.best[key]:
                self.best[key], self.xi[key] = float(excess[worst]), xi[worst]
        self.i_worst_a = np.maximum(self.i_worst_a, np.abs(flow.i_a).max(axis=0))
        self.mismatch_kva = max(self.mismatch_kva, flow.mismatch_kva)
        self.cases += len(xi)

    def climb(self, key: str) -> None:
        """Flip one load at a time from the worst corner until nothing gets worse."""
        before = -np.inf
        while self.best[key] > before:
            before, corner = self.best[key], self.xi[key]
            flips = np.where(np.eye(len(corner), dtype=bool), -corner, corner)
            for chunk in np.array_split(flips, max(1, len(flips) // 512)):
                self.visit(chunk)

    def result(self, enumerated: bool) -> AcWorstCase:
        """Everything found."""
        return AcWorstCase(
            self.best["current"], self.best["voltage"], self.i_worst_a, self.xi["current"],
            self.xi["voltage"], self.mismatch_kva, self.cases, enumerated,
        )  # fmt: skip

    def _current(self, flow: PowerFlow) -> np.ndarray:
        i_max_a = self.market.flow.admittance.ends["i_max_a"].to_numpy()
        return np.asarray((np.abs(flow.i_a) - i_max_a).max(axis=1))

    def _voltage(self, flow: PowerFlow) -> np.ndarray:
        buses, free = self.market.network.buses, self.market.flow.admittance.free
        v_pu = np.abs(flow.v_pu)
        over = v_pu - buses["v_max_pu"].to_numpy()
        under = buses["v_min_pu"].to_numpy() - v_pu
        return np.asarray(np.maximum(over, under)[:, free].max(axis=1))


def _starting_corners(market: Market, net_kw: np.ndarray, seed: int) -> np.ndarray:
    """Worst corners of the linear model for the most loaded ends and buses, and random ones."""
    ends = market.flow.admittance.ends
    i_a = market.flow.i0_a + market.upward[1] @ net_kw
    turned = market.uncertain[1] * np.exp(-1j * np.angle(i_a))[:, None]
    reach_a = np.abs(i_a) + np.abs(turned.real).sum(axis=1) - ends["i_max_a"].to_numpy()
    worst_ends = np.argsort(-reach_a)[:32]
    drop = np.real(market.uncertain[0] * np.exp(-1j * np.angle(market.flow.v0_pu))[:, None])
    widest = np.argsort(-np.abs(drop).sum(axis=1))[:32]
    guesses = np.concatenate([turned.real[worst_ends], drop[widest], -drop[widest]])
    random = market.box.sample(64, seed)
    return np.where(np.concatenate([guesses, random]) < 0, -1.0, 1.0)


def ac_checks(worst: AcWorstCase) -> list[Check]:
    """Checks of an AC worst case.

    Parameters
    ----------
    worst : AcWorstCase

    Returns
    -------
    list of Check
    """
    how = "all corners" if worst.enumerated else "corners by ascent"
    return [
        Check(
            f"AC current limit, {how}",
            largest(np.array(worst.i_excess_a)),
            _TOLERANCE_A,
            "A",
            "evidence",
        ),
        Check(
            f"AC voltage limit, {how}",
            largest(np.array(worst.v_excess_pu)),
            _TOLERANCE_PU,
            "p.u.",
            "evidence",
        ),
        Check("AC power balance of every bus", worst.mismatch_kva, 1e-3, "kVA"),
    ]
