"""Method C exactly, and the problems of the literature: what proving takes, and the other ways.

Records: each side on each instance (`bilevel`), ways to an M (`bilevel-m`), and every problem of
the literature by every way (`bilevel-literature`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.bilevel_sides import GUESS, by_guess, by_indicators, by_pyomo
from benchmarks.measure import Kept, Parts, cpu_s, records_of
from flexlib.bilevel import Bilevel
from flexlib.bilevel_big_m import NoBigM, big_m
from flexlib.bilevel_kkt import BigM, guessed
from flexlib.bilevel_readings import first_value
from flexlib.bilevel_solve import BilevelOptimum, solve_bilevel
from flexlib.centralised import centralised
from flexlib.errors import FlexlibError, Infeasible, NotProven, Unbounded
from flexlib.hub_bilevel import hub_big_m, priced_hubs
from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import reference
from flexlib.hubs import Hubs
from flexlib.pricing import linear_prices
from flexlib.pricing_exact import exact_prices

CAP_EUR_PER_MWH = 60.0
GAP = 1e-3
LIMIT_S = 60.0  # of branch and bound; HiGHS counts the time that passes, SCIP that of the CPU
OURS, COLD = "exact_prices", "KKT, M derived, no start"
SOS1, CUT = "special ordered sets", "special ordered sets, M derived, cut"
STARTED = "exact_prices, special ordered sets, cut"
INDICATOR, PYOMO = "indicator constraints", "Pyomo core.kkt, gdp.bigm"
GUESSED = f"KKT, M guessed as {GUESS:g}"
BOUNDS, THROUGH_B = "exact_prices, no branch and bound", "linear_prices"
WHOLE, CONGESTION = "whole objective", "congestion"
SOLVERS = {
    OURS: "highspy", COLD: "highspy", SOS1: "pyscipopt", CUT: "pyscipopt",
    STARTED: "pyscipopt", INDICATOR: "pyscipopt", PYOMO: "highspy", GUESSED: "highspy",
    BOUNDS: "highspy", THROUGH_B: "highspy",
}  # fmt: skip
COMPARED = (OURS, COLD, PYOMO, GUESSED, SOS1, CUT, INDICATOR)
CASES = [
    (1, 6, WHOLE, COMPARED, 3),
    (1, 12, WHOLE, COMPARED, 1),
    (2, 6, CONGESTION, (THROUGH_B,), 3),
    (2, 6, WHOLE, (STARTED, OURS), 1),
    (3, 24, CONGESTION, (THROUGH_B,), 3),
    (3, 24, WHOLE, (BOUNDS, COLD), 1),
]
LEVEL = 0.6
COLUMNS = [
    "hubs", "hours", "objective", "side", "solver", "runs", "total_s", "solver_s", "value", "bound",
    "gap", "ratio_median", "ratio_min", "ratio_max",
]  # fmt: skip
GUESSES = (200.0, 250.0, 300.0, 1e3, 1e5, 1e7)
M_COLUMNS = [
    "hubs", "hours", "m", "derived_s", "largest", "open", "pairs", "solved_s", "outcome", "value",
    "alarms",
]  # fmt: skip
KKT = "KKT, M derived"
WAYS = (KKT, SOS1, PYOMO, GUESSED)
LITERATURE_COLUMNS = [
    "problem", "expected", "expected_value", "way", "outcome", "value", "right", "total_s",
]  # fmt: skip
OUTCOMES = {
    Infeasible: "infeasible", Unbounded: "unbounded", NoBigM: "no M", NotProven: "not proven",
}  # fmt: skip

Instance = tuple[Hubs, HubGrid]


def answer(side: str, instance: Instance, objective: str = WHOLE) -> tuple[float, float]:
    """Value and bound that a side finds for method C, from the tables of hubs and grid.

    Without an incumbent the value is NaN.
    """
    hubs, grid = instance
    if objective == CONGESTION:
        benchmark = centralised(hubs, grid)
        return linear_prices(benchmark).congestion_mwh, benchmark.bound_mwh
    if side in (OURS, STARTED, BOUNDS):
        way = {"reformulation": "sos1", "cut": True} if side == STARTED else {}
        seconds = {BOUNDS: 0.0, STARTED: 2 * LIMIT_S}.get(side, LIMIT_S)
        prices = exact_prices(centralised(hubs, grid), gap=GAP, time_limit_s=seconds, **way)
        prices.certificate.assert_ok()
        return prices.objective, prices.bound
    problem = priced_hubs(hubs, grid, CAP_EUR_PER_MWH)
    limits = {"gap": GAP, "time_limit_s": LIMIT_S}
    m = hub_big_m(problem, hubs, CAP_EUR_PER_MWH) if side in (PYOMO, COLD, CUT) else None
    try:
        if side == PYOMO:
            return by_pyomo(problem, m, **limits)
        if side == COLD:
            found = solve_bilevel(problem, m=m, **limits)
        elif side == CUT:
            found = solve_bilevel(problem, "sos1", m=m, cut=True, **limits)
        elif side == SOS1:
            found = solve_bilevel(problem, "sos1", **limits)
        elif side == INDICATOR:
            found = by_indicators(problem, **limits)
        else:
            found = by_guess(problem, GUESS, **limits)
    except NotProven as error:
        return (error.incumbent if np.isfinite(error.incumbent) else np.nan), error.bound
    return found.value, found.bound


def case_rows(
    hubs: int,
    hours: int,
    objective: str,
    sides: Iterable[str],
    runs: int,
    run: Callable[..., tuple[float, float]] = answer,
) -> Iterator[dict[str, Any]]:
    """Rows of one instance: the sides run in turn, ratios to the first are formed in each turn."""
    instance = reference(hubs, hours, LEVEL)
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    answers: dict[str, tuple[float, float]] = {}

    def keep(side: str) -> None:
        answers[side] = run(side, instance, objective)

    for _ in range(runs):
        for side, found in times.items():
            found.append(cpu_s(partial(keep, side)))
    seconds = {side: np.array(found).T for side, found in times.items()}
    first = next(iter(seconds.values()))[0]
    for side, (total, solver) in seconds.items():
        ratio, package = total / first, SOLVERS[side]
        value, bound = answers[side]
        yield {
            "hubs": hubs, "hours": hours, "objective": objective, "side": side,
            "solver": f"{package} {version(package)}", "runs": runs,
            "total_s": np.median(total),
            "solver_s": np.median(solver) if package != "pyscipopt" else np.nan,
            "value": value, "bound": bound,
            "gap": (value - bound) / max(abs(value), 1e-6),
            "ratio_median": np.median(ratio), "ratio_min": ratio.min(), "ratio_max": ratio.max(),
        }  # fmt: skip


def m_rows(hours: int = 6) -> Iterator[dict[str, Any]]:
    """Ways to an M at one hub: how long they take, how large it is, and what is solved with it."""
    hubs, grid = reference(1, hours, LEVEL)
    problem = priced_hubs(hubs, grid, CAP_EUR_PER_MWH)
    ways: dict[str, Callable[[], BigM]] = {
        "hub_big_m": lambda: hub_big_m(problem, hubs, CAP_EUR_PER_MWH),
        "big_m": lambda: big_m(problem),
        **{f"guessed, {m:g}": partial(guessed, problem, m) for m in GUESSES},
    }
    for name, derive in ways.items():
        m, derived_s = timed(derive)
        (outcome, found), solved_s = timed(
            lambda m=m: outcome_of(
                lambda: solve_bilevel(problem, m=m, gap=GAP, time_limit_s=LIMIT_S)
            )
        )
        yield {
            "hubs": 1, "hours": hours, "m": name, "derived_s": derived_s,
            "largest": m.multiplier[m.open].max(), "open": len(m.open), "pairs": len(m.names),
            "solved_s": solved_s, "outcome": outcome,
            "value": found.value if found else np.nan,
            "alarms": len(found.alarms) if found else np.nan,
        }  # fmt: skip


def literature_rows(names: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
    """Every problem of the literature whose outcome is known, by every way.

    Outcome, value in the terms of the arrays, and CPU seconds. Pyomo gets the M that flexlib
    derives, and runs where there is one; deriving it is counted for flexlib alone.

    Parameters
    ----------
    names : iterable of str, optional
        Of the problems; all by default.
    """
    from tests.bilevel_problems import load

    problems = load()
    for name in names or problems:
        known, arrays = problems[name], problems[name].arrays
        if known.status is None:
            continue
        m = derived(arrays)
        runs: dict[str, Callable[[], BilevelOptimum | tuple[float, float]]] = {
            KKT: partial(solve_bilevel, arrays),
            SOS1: partial(solve_bilevel, arrays, "sos1"),
            GUESSED: partial(by_guess, arrays, GUESS, gap=1e-6),
        }
        if m is not None:
            runs[PYOMO] = partial(by_pyomo, arrays, m, gap=1e-6)
        for way in (way for way in WAYS if way in runs):
            row = {"problem": name, "expected": known.status, "way": way}
            row["expected_value"] = np.nan if known.value is None else known.value
            (outcome, found), total_s = timed(partial(outcome_of, runs[way]))
            value = (
                found.value if isinstance(found, BilevelOptimum) else found[0] if found else np.nan
            )
            yield row | {
                "outcome": outcome, "value": value, "total_s": total_s,
                "right": right(outcome, value, known.status, row["expected_value"]),
            }  # fmt: skip


def right(outcome: str, value: float, expected: str, expected_value: float) -> bool:
    """Whether an outcome, and the value where there is an optimum, is what is expected."""
    if outcome == "follower unbounded":  # no decision has an optimal answer
        outcome = "infeasible"
    far = abs(value - expected_value) > 1e-5 * max(1.0, abs(expected_value))
    return outcome == expected and not far


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a run gives, and its CPU seconds."""
    held: list[Any] = []
    total_s, _ = cpu_s(lambda: held.append(run()))
    return held[0], total_s


def outcome_of(run: Callable[[], Any]) -> tuple[str, Any]:
    """Outcome in a word or two, and what is found if it is an optimum."""
    try:
        return "optimal", run()
    except Unbounded as error:
        return "follower unbounded" if "the follower" in str(error) else "unbounded", None
    except FlexlibError as error:
        return OUTCOMES.get(type(error), type(error).__name__), None


def derived(problem: Bilevel) -> BigM | None:
    """M as `solve_bilevel` derives it; none where none follows or nothing is feasible."""
    try:
        return big_m(problem, first_value(problem))
    except FlexlibError:
        return None


PARTS: Parts = {
    **{
        f"bilevel-{hubs}x{hours}-{objective.split()[0]}": (
            "bilevel", partial(case_rows, hubs, hours, objective, sides, runs)
        )
        for hubs, hours, objective, sides, runs in CASES
    },
    "bilevel-m": ("bilevel-m", m_rows),
    "bilevel-literature": ("bilevel-literature", literature_rows),
}  # fmt: skip
COLUMNS_OF = {
    "bilevel": COLUMNS, "bilevel-m": M_COLUMNS, "bilevel-literature": LITERATURE_COLUMNS
}  # fmt: skip


def bilevel_records(kept: Kept, tick: Callable[[], Any] = int) -> dict[str, pd.DataFrame]:
    """Three records, part by part, see `benchmarks.measure.records_of`."""
    return records_of(PARTS, COLUMNS_OF, kept, tick)


def main() -> None:
    """Measure and print, without writing a record."""
    for record in bilevel_records(lambda _, run: run()).values():
        print(record.to_string(index=False, float_format=lambda x: f"{x:.4g}"))


if __name__ == "__main__":
    main()
