"""How far the robust market reaches: time, rows and memory against the size of the feeder."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.feeders import feeder_12, generated
from benchmarks.measure import cpu_s
from flexlib import Circle, Market, clear, clear_iterated
from flexlib.robust_arrays import robust_optimum
from flexlib.robust_limits import limits_that_can_bind

SIZES = (12, 100, 1000, 5000)
RUNS = 5


def market_of(buses: int) -> Market:
    """The book's feeder, or a generated one."""
    return feeder_12() if buses == 12 else generated(buses)


def scale_row(market: Market, runs: int = RUNS) -> dict[str, Any]:
    """One row of the record: sizes, CPU seconds (medians) and peak memory.

    Parameters
    ----------
    market : Market
    runs : int
    """
    ends = market.flow.admittance.ends["i_max_a"]
    limits = limits_that_can_bind(market)
    optimum = robust_optimum(market, limits)
    cleared = clear(market)
    cleared.certificate.assert_ok()
    exact = replace(market, norm=Circle())
    clear_iterated(exact).certificate.assert_ok()
    model_s, _ = _median(lambda: limits_that_can_bind(replace(market)), runs)
    total_s, solver_s = _median(lambda: robust_optimum(market, limits), runs)
    certificate_s, _ = _median(lambda: _clear(market).certificate, runs)
    iterated_s, _ = _median(lambda: clear_iterated(replace(exact)), runs)
    clear_s, _ = _median(lambda: _clear(market), runs)
    return {
        "buses": len(market.network.buses),
        "uncertain_loads": len(market.uncertainty.load),
        "offers": len(market.offers),
        "limits": int(np.isfinite(ends).sum()) + 2 * len(market.flow.admittance.free),
        "limits_kept": len(limits.kind),
        "rows": int(np.isfinite(ends).sum()) * market.planes.count,
        "rows_kept": len(optimum.program.row_names),
        "model_s": model_s,
        "build_s": total_s - solver_s,
        "solver_s": solver_s,
        "certificate_s": certificate_s - clear_s,
        "iterated_s": iterated_s,
        "clear_mb": peak_mb(lambda: _clear(market)),
        "certificate_mb": peak_mb(lambda: _clear(market).certificate),
    }


def scale_record() -> pd.DataFrame:
    """Rows for all sizes."""
    return pd.DataFrame([scale_row(market_of(buses)) for buses in SIZES])


def _clear(market: Market) -> Any:
    """Clear with nothing kept from before."""
    return clear(replace(market))


def _median(run: Callable[[], Any], runs: int) -> tuple[float, float]:
    times = np.array([cpu_s(run) for _ in range(runs)])
    total_s, solver_s = np.median(times, axis=0)
    return float(total_s), float(solver_s)


def peak_mb(run: Callable[[], Any]) -> float:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
