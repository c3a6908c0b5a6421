"""Hubs with quadratic costs: pricing against their number, against the optimum, and bands.

Records: time, memory and congestion of each size (`quadratic-scale`), the follower map beside
solvers and differentiable layers (`quadratic-map`), method D beside its optimum (`quadratic-exact`)
and prices that survive ties (`quadratic-band`). Each size of the first is measured by a process of
its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.bilevel import timed
from benchmarks.hub_scale import measured, measured_apart
from benchmarks.measure import Kept, Parts, cpu_s, records_of
from benchmarks.quadratic_map import MAP_COLUMNS, map_rows
from flexlib.centralised import centralised
from flexlib.errors import NotProven
from flexlib.hub_followers import optimal_answers
from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import many_feeders, reference
from flexlib.hub_parts import least_congestion, parts
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.pricing import linear_prices
from flexlib.pricing_band import import_band, net_band
from flexlib.pricing_evaluation import best, worst
from flexlib.pricing_exact import exact_prices
from flexlib.pricing_inverse import AdderWeights
from flexlib.quadratic_exact import exact_quadratic_prices
from flexlib.quadratic_pricing import QuadraticHubs, QuadraticPrices, quadratic_prices
from flexlib.quadratic_steps import quadratic_objective, with_linearised_steps
from flexlib.tariffs import Tariff, no_tariff

CAP_EUR_PER_MWH = 60.0
RUNS = 3
HUBS_OF_A_TRUNK = 30
UNPRICED, BOUND, PRICES, STEPS = "no prices", "bound", "prices", "prices, steps"
SIZES = [(level, hubs) for level in (0.6, 0.5) for hubs in (3, 30, 300, 3000)]
RELIEF = 0.98  # share of the achievable relief at which steps end
MOST_STEPS = 6
SCALE_COLUMNS = [
    "level", "hubs", "method", "runs", "steps", "total_s", "peak_mb", "congestion_mwh", "bound_mwh",
]  # fmt: skip
ONE, STEPPED, EXACT, LINEAR = "one programme", "one programme, steps", "D exactly", "C exactly"
CASES = [(1, 6, 0.6), (1, 6, 0.5), (2, 6, 0.5), (2, 6, 0.6)]
GAP = 1e-3
LIMIT_S = {EXACT: 300.0, LINEAR: 120.0}  # CPU seconds of SCIP
EXACT_COLUMNS = [
    "hubs", "hours", "level", "method", "total_s", "objective", "bound", "quadratic_mwh",
    "optimistic_mwh", "pessimistic_mwh", "at_most_mwh",
]  # fmt: skip
BAND_HUBS = 30
BANDS = {
    "band on imports, kappa 20": partial(import_band, kappa_eur_per_mwh=20.0),
    "band on imports, kappa 60": partial(import_band, kappa_eur_per_mwh=60.0),
    "band on net withdrawals, kappa 20": partial(net_band, kappa_eur_per_mwh=20.0),
}
LINEAR_PRICES = "linear prices"
BAND_COLUMNS = [
    "level", "hubs", "method", "runs", "total_s", "theorem_mwh", "pessimistic_mwh", "at_most_mwh",
    "bound_mwh",
]  # fmt: skip


# --------------------------------------------------------------------------------------------
# Size


def scale_rows(level: float, hubs: int) -> Iterator[dict[str, Any]]:
    """Rows of one size: the bound on congestion in one process, prices in another.

    At 0.6 the bound is 0, below which no congestion is: it takes no time.
    """
    bound = {"bound_mwh": 0.0}
    if level < 0.6:
        (bound,) = measured_apart("benchmarks.quadratic", BOUND, f"{level}", f"{hubs}")
        yield bound
    arguments = f"{level}", f"{hubs}", repr(bound["bound_mwh"])
    yield from measured_apart("benchmarks.quadratic", PRICES, *arguments)


def bound_row(level: float, hubs: int, runs: int = RUNS) -> dict[str, Any]:
    """Lower bound on the congestion of every schedule, see `least_congestion_mwh`."""
    many, grid = many_feeders(hubs // 3, level)
    times, bound = measured(partial(least_congestion_mwh, many, grid), runs)
    row = {"level": level, "hubs": hubs, "method": BOUND}
    return row | _times(times) | {"bound_mwh": bound}


def least_congestion_mwh(hubs: Hubs, grid: HubGrid) -> float:
    """Proven lower bound on congestion: stage 1 of method B for each trunk line apart.

    The substation is left out, which can only lower it.
    """
    found = parts(hubs, grid, HUBS_OF_A_TRUNK)
    return max(sum(least_congestion(part, part.grid)[0] for part in found), 0.0)


def price_rows(
    level: float, hubs: int, bound_mwh: float, runs: int = RUNS
) -> Iterator[dict[str, Any]]:
    """Measure one size in this process: the answer without prices, prices, and steps from them."""
    many, grid = many_feeders(hubs // 3, level)

    def row(method: str, found: QuadraticPrices, times: dict[str, Any], steps: int) -> dict:
        found.certificate.assert_ok()
        return {
            "level": level, "hubs": hubs, "method": method, **_times(times), "steps": steps,
            "congestion_mwh": found.congestion_mwh, "bound_mwh": bound_mwh,
        }  # fmt: skip

    nothing = np.zeros((hubs, grid.hours))
    times, unpriced = measured(lambda: QuadraticHubs(many, grid, CAP_EUR_PER_MWH)(nothing), runs)
    yield row(UNPRICED, unpriced, times, 0)
    run = partial(quadratic_prices, many, grid, cap_eur_per_mwh=CAP_EUR_PER_MWH)
    first, prices = measured(run, runs)
    yield row(PRICES, prices, first, 0)
    enough = unpriced.congestion_mwh - RELIEF * (unpriced.congestion_mwh - bound_mwh)
    times, (stepped, steps) = measured(lambda: _stepped(prices, enough), runs)
    if steps:
        times["total_s"] += first["total_s"]
        yield row(STEPS, stepped, times, steps)


def _stepped(prices: QuadraticPrices, enough_mwh: float) -> tuple[QuadraticPrices, int]:
    """Prices after as many linearised steps as it takes, and how many."""
    for steps in range(MOST_STEPS):
        if prices.congestion_mwh <= enough_mwh:
            return prices, steps
        prices = with_linearised_steps(prices, steps=1)
    return prices, MOST_STEPS


def _times(times: dict[str, Any]) -> dict[str, Any]:
    return {name: times[name] for name in ("runs", "total_s", "peak_mb")}


# --------------------------------------------------------------------------------------------
# Optimum


def exact_rows(
    hubs: int, hours: int, level: float, methods: Iterable[str] = (EXACT, LINEAR)
) -> Iterator[dict[str, Any]]:
    """Method D by one programme and by steps, exactly, and method C: what each kind of hub does.

    Parameters
    ----------
    hubs, hours : int
    level : float
        Of `reference`.
    methods : iterable of str
        Of those by branch and bound, which to run.
    """
    case, grid = reference(hubs, hours, level)
    weights, shape = AdderWeights(), (hubs, hours)
    priced_at = QuadraticHubs(case, grid, CAP_EUR_PER_MWH)

    def row(method: str, adder: np.ndarray, total_s: float, value: float, bound: float) -> dict:
        programme, tariff = HubProgramme(case), Tariff(adder)
        face, _, _ = optimal_answers(programme, tariff)
        most = worst(face, programme, grid)
        return {
            "hubs": hubs, "hours": hours, "level": level, "method": method, "total_s": total_s,
            "objective": value, "bound": bound,
            "quadratic_mwh": priced_at(adder).congestion_mwh,
            "optimistic_mwh": best(face, programme, grid).congestion_mwh,
            "pessimistic_mwh": most.congestion_mwh, "at_most_mwh": most.most_mwh,
        }  # fmt: skip

    none = priced_at(np.zeros(shape))
    yield row(UNPRICED, none.adder_eur_per_mwh, np.nan, none.congestion_mwh, np.nan)
    prices, first_s = timed(lambda: quadratic_prices(case, grid, cap_eur_per_mwh=CAP_EUR_PER_MWH))
    stepped, more_s = timed(lambda: with_linearised_steps(prices))
    for method, found, total_s in ((ONE, prices, first_s), (STEPPED, stepped, first_s + more_s)):
        found.certificate.assert_ok()
        value = quadratic_objective(found, weights)
        yield row(method, found.adder_eur_per_mwh, total_s, value, np.nan)
    if EXACT in methods:
        (decision, bound), total_s = timed(lambda: _exactly(case, grid))
        adder = np.clip(decision[: hubs * hours], 0.0, CAP_EUR_PER_MWH).reshape(shape)
        value = quadratic_objective(priced_at(adder), weights)
        yield row(EXACT, adder, total_s, value, bound)
    if LINEAR in methods:
        linear, total_s = timed(
            lambda: exact_prices(
                centralised(case, grid), cap_eur_per_mwh=CAP_EUR_PER_MWH, gap=GAP,
                reformulation="sos1", cut=True, time_limit_s=LIMIT_S[LINEAR],
            )
        )  # fmt: skip
        linear.certificate.assert_ok()
        adder = linear.prices.adder_eur_per_mwh
        yield row(LINEAR, adder, total_s, linear.objective, linear.bound)


def _exactly(hubs: Hubs, grid: HubGrid) -> tuple[np.ndarray, float]:
    """Decision of method D's optimum and bound; at the time limit, of the incumbent."""
    try:
        found = exact_quadratic_prices(
            hubs, grid, cap_eur_per_mwh=CAP_EUR_PER_MWH, gap=GAP, time_limit_s=LIMIT_S[EXACT]
        )
    except NotProven as error:
        if error.x is None:
            raise
        return error.x, error.bound
    return found.d, found.bound


# --------------------------------------------------------------------------------------------
# Bands


def band_rows(level: float, hubs: int = BAND_HUBS, runs: int = RUNS) -> Iterator[dict[str, Any]]:
    """Bands and linear prices, from the tables of hubs and grid, and the worst answer to each.

    Time is that of method B and of the design; the worst answer is not counted.
    """
    many, grid = many_feeders(hubs // 3, level)
    programme = HubProgramme(many)

    def row(method: str, tariff: Tariff, times: list[float], theorem_mwh: float) -> dict[str, Any]:
        face, _, _ = optimal_answers(programme, tariff)
        most = worst(face, programme, grid)
        return {
            "level": level, "hubs": hubs, "method": method, "runs": len(times),
            "total_s": np.median(times) if times else np.nan, "theorem_mwh": theorem_mwh,
            "pessimistic_mwh": most.congestion_mwh, "at_most_mwh": most.most_mwh,
            "bound_mwh": benchmark.bound_mwh,
        }  # fmt: skip

    benchmark = centralised(many, grid)
    benchmark.certificate.assert_ok()
    yield row(UNPRICED, no_tariff(hubs, grid.hours), [], np.nan)
    for method, design in BANDS.items():
        times, band = _timed_runs(lambda design=design: design(centralised(many, grid)), runs)
        band.certificate.assert_ok()
        yield row(method, band.tariff, times, band.bound_mwh())
    times, prices = _timed_runs(lambda: linear_prices(centralised(many, grid)), runs)
    yield row(LINEAR_PRICES, Tariff(prices.adder_eur_per_mwh), times, np.nan)


def _timed_runs(run: Callable[[], Any], runs: int) -> tuple[list[float], Any]:
    found: list[Any] = []
    times = [cpu_s(lambda: found.append(run()))[0] for _ in range(runs)]
    return times, found[-1]


PARTS: Parts = {
    **{
        f"quadratic-{hubs}-{level}": ("quadratic-scale", partial(scale_rows, level, hubs))
        for level, hubs in SIZES
    },
    "quadratic-map": ("quadratic-map", map_rows),
    **{
        f"quadratic-{hubs}x{hours}-{level}": (
            "quadratic-exact", partial(exact_rows, hubs, hours, level)
        )
        for hubs, hours, level in CASES
    },
    **{
        f"quadratic-band-{level}": ("quadratic-band", partial(band_rows, level))
        for level in (0.6, 0.5)
    },
}  # fmt: skip
COLUMNS_OF = {
    "quadratic-scale": SCALE_COLUMNS, "quadratic-map": MAP_COLUMNS,
    "quadratic-exact": EXACT_COLUMNS, "quadratic-band": BAND_COLUMNS,
}  # fmt: skip


def quadratic_records(kept: Kept, tick: Callable[[], Any] = int) -> dict[str, pd.DataFrame]:
    """Four records, part by part, see `benchmarks.measure.records_of`."""
    return records_of(PARTS, COLUMNS_OF, kept, tick)


def main(arguments: list[str]) -> None:
    """Measure one size and print its rows; without arguments everything, writing no record."""
    if arguments:
        what, level, hubs, *bound = arguments
        size = float(level), int(hubs)
        for row in [bound_row(*size)] if what == BOUND else price_rows(*size, float(bound[0])):
            print(json.dumps(row), flush=True)
        return
    for record in quadratic_records(lambda _, run: run()).values():
        print(record.to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep=""))


if __name__ == "__main__":
    main(sys.argv[1:])
