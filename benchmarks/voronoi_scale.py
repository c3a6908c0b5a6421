"""Activation against buses, bids and points: time and memory of each side's steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.grids import instance
from benchmarks.measure import COUNTS, cpu_s
from benchmarks.scale import peak_mb
from flexlib.bids import Bids, Connected
from flexlib.light_model import LightModel, linearise
from flexlib.relinearisation import relinearised
from flexlib.stand_in import StandIn
from flexlib.voronoi import activate
from flexlib.voronoi_points import k_means, merit_order

RUNS = 3
LONG_S = 2.0  # what takes longer runs once
BUSES = (456, 2000, 9105)
BIDS = (100, 241, 500, 1000)
POINTS = (1, 3, 10, 50, 200)
SIZES = [
    *(("buses", buses, 241, 1, True) for buses in BUSES),
    *(("bids", 9105, bids, 1, screened) for bids in BIDS for screened in (True, False)),
    *(("points", 456, 241, points, False) for points in POINTS),
]
LEAST = "least volumes"
_BORDER = 1e-6  # relative difference of costs below which no limit binds


def growth_record(tick: Callable[[], Any] = int) -> pd.DataFrame:
    """Rows for all sizes, and for the programme with least activations.

    Parameters
    ----------
    tick : callable
        Called after each row.
    """
    rows = []
    for series, buses, bids, points, screened in SIZES:
        rows.append(growth_row(series, instance(buses, bids), points, screened=screened))
        tick()
    rows.append(least_row(instance(456, 241)))
    tick()
    counts = [name for name in COUNTS if name in rows[0]] + ["voltages", "currents", "rounds"]
    return pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))


def growth_row(
    series: str, given: StandIn, points: int, *, screened: bool, runs: int = RUNS
) -> dict[str, Any]:
    """One row: sizes, CPU seconds (medians) and peak memory of NumPy's arrays.

    Parameters
    ----------
    series : str
    given : StandIn
    points : int
        The cheapest activation without a grid, or as many centres by k-means.
    screened : bool
        Whether the light model has only rows that can bind.
    runs : int
        One, whatever is given, where linearising takes longer than `LONG_S`.

    Raises
    ------
    RuntimeError
        If no limit binds.
    """
    connected = Connected(given.network, given.bids, given.sites)
    bids, request_kw = given.bids, given.request_kw
    cheapest = merit_order(bids, np.array([request_kw]))
    at = cheapest if points == 1 else k_means(bids, points, 1, "down")

    def prepare(where: np.ndarray) -> LightModel:
        window = (request_kw, request_kw)
        return linearise(connected, where, request_kw=window, only_binding=screened)

    models: list[LightModel] = []
    if cpu_s(lambda: models.append(prepare(at)))[0] > LONG_S:
        runs = 1
    (model,) = models
    found = activate(model, bids, request_kw)
    found.certificate.assert_ok()
    unlimited = bids.cost_eur_per_h(cheapest[0])
    if found.cost_eur_per_h - unlimited <= _BORDER * unlimited:
        raise RuntimeError(f"{series}: no limit binds among {len(bids.table)} bids")

    def again() -> Any:
        return activate(prepare(found.z[None]), bids, request_kw)

    return {
        **_sizes(series, given),
        "points": points,
        "screened": screened,
        "voltages": len(model.bus),
        "currents": len(model.end),
        "rounds": 2,
        "runs": runs,
        "linearise_s": _median(lambda: prepare(at), runs),
        "activate_s": _median(lambda: activate(model, bids, request_kw), runs),
        "again_s": _median(again, runs),
        "peak_mb": peak_mb(lambda: activate(prepare(at), bids, request_kw)),
    }


def least_row(given: StandIn, runs: int = RUNS) -> dict[str, Any]:
    """Re-linearised until AC agrees, no bid below half of its volume, every other one whole.

    Parameters
    ----------
    given : StandIn
    runs : int
    """
    bids = with_least_volumes(given.bids)
    connected = Connected(given.network, bids, given.sites)
    found = relinearised(connected, given.request_kw)
    found.activation.certificate.assert_ok()
    found.comparison.certificate.assert_ok()
    return {
        **_sizes(LEAST, given),
        "points": 1,
        "screened": False,
        "voltages": len(found.activation.model.bus),
        "currents": len(found.activation.model.end),
        "rounds": len(found.rounds),
        "runs": runs,
        "again_s": _median(lambda: relinearised(connected, given.request_kw), runs),
        "peak_mb": peak_mb(lambda: relinearised(connected, given.request_kw)),
    }


def with_least_volumes(bids: Bids) -> Bids:
    """At least half of the volume of each bid, all of every other one."""
    table = bids.table.copy()
    share = np.where(np.arange(len(table)) % 2 == 0, 1.0, 0.5)
    for way in ("up", "down"):
        table[f"min_{way}_kw"] = share * table[f"{way}_max_kw"]
    return Bids(table)


def _sizes(series: str, given: StandIn) -> dict[str, Any]:
    return {
        "series": series,
        "buses": len(given.network.buses),
        "bids": len(given.bids.table),
    }


def _median(run: Callable[[], Any], runs: int) -> float:
    return float(np.median([cpu_s(run)[0] for _ in range(runs)]))
