"""Energy hubs against their number: method A, method B and prices; time and memory of each.

``python -m benchmarks.hub_scale`` measures what is missing in the unfinished record and then puts
the record in its place. Each size is measured by a process of its own, so that the peak of memory
is that of the size, and each row is written when it is there: a run that was stopped goes on. To
begin anew, delete ``_build/benchmarks``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks.measure import FOLDER, cpu_s, write_records
from flexlib import solver
from flexlib.centralised import centralised
from flexlib.hub_followers import no_pricing
from flexlib.hub_instances import many_feeders
from flexlib.pricing import linear_prices

ROOT = Path(__file__).parents[1]
UNFINISHED = ROOT / "_build" / "benchmarks" / "hubs-scale.csv"
HUBS_OF_A_FEEDER = 3
RUNS = 3
LONG_S = 2.0  # what takes longer runs once
METHODS = ("A", "B", "prices")
SIZES = [
    (0.6, 3, METHODS),
    (0.6, 30, METHODS),
    (0.6, 300, METHODS),
    (0.6, 3000, METHODS),
    (0.5, 3, METHODS),
    (0.5, 30, METHODS),
    (0.5, 300, METHODS),
]
KEYS = ["level", "hubs", "method"]
COLUMNS = [
    *KEYS, "lines", "runs", "total_s", "arrays_s", "checks_s", "solver_s", "solver_runs",
    "start_mb", "peak_mb", "congestion_mwh", "bound_mwh",
]  # fmt: skip


def hub_record(tick: Callable[[], Any] = int, path: Path = UNFINISHED) -> pd.DataFrame:
    """Rows for all sizes; those that are in the unfinished record are taken from there.

    Parameters
    ----------
    tick : callable
        Called after each row.
    path : pathlib.Path
        Of the unfinished record. It is removed when all rows are there.
    """
    for level, hubs, methods in SIZES:
        done = _kept(path)
        there = {method for *size, method in done[KEYS].to_numpy() if size == [level, hubs]}
        for _ in there:
            tick()
        missing = [method for method in methods if method not in there]
        for row in _measured_apart(level, hubs, missing) if missing else ():
            path.parent.mkdir(parents=True, exist_ok=True)
            first = not path.is_file()
            pd.DataFrame([row], columns=COLUMNS).to_csv(path, mode="a", header=first, index=False)
            tick()
    record = _kept(path)
    path.unlink()
    order = [(level, hubs, method) for level, hubs, methods in SIZES for method in methods]
    return record.set_index(KEYS).loc[order].reset_index()


def size_rows(
    level: float, hubs: int, methods: list[str], runs: int = RUNS
) -> Iterator[dict[str, Any]]:
    """Measure one size in this process.

    Parameters
    ----------
    level : float
        Of `many_feeders`.
    hubs : int
        A multiple of three.
    methods : list of str
        Of `METHODS`.
    runs : int
        One, whatever is given, where a run takes longer than `LONG_S`.
    """
    many, grid = many_feeders(hubs // HUBS_OF_A_FEEDER, level)
    size = {"level": level, "hubs": hubs, "lines": len(grid.lines), "start_mb": peak_rss_mb()}
    if "A" in methods:
        times, found = measured(partial(no_pricing, many), runs)
        found.certificate.assert_ok()
        congestion = {"congestion_mwh": grid.congestion_mwh(found.schedule.w_mw)}
        yield {**size, "method": "A", **times, **congestion}
    if "B" in methods or "prices" in methods:
        run = partial(centralised, many, grid)
        times, benchmark = measured(run, runs) if "B" in methods else ({}, run())
        benchmark.certificate.assert_ok()
        bound = {"bound_mwh": benchmark.bound_mwh}
        if "B" in methods:
            congestion = {"congestion_mwh": benchmark.congestion_mwh}
            yield {**size, "method": "B", **times, **congestion, **bound}
    if "prices" in methods:
        times, found = measured(partial(linear_prices, benchmark), runs)
        found.certificate.assert_ok()
        congestion = {"congestion_mwh": found.congestion_mwh}
        yield {**size, "method": "prices", **times, **congestion, **bound}


def measured(run: Callable[[], Any], runs: int) -> tuple[dict[str, Any], Any]:
    """Medians of CPU seconds of a run, peak memory, and what the run gives.

    Returns
    -------
    dict
        runs; total_s; of it solver_s inside HiGHS, checks_s in `flexlib.solver` around it (handing
        over, recomputing residuals and the bound), arrays_s everything else: building the arrays
        and evaluating the answer; solver_runs; peak_mb, memory of the process so far.
    """
    answers: list[Any] = []
    times: list[tuple[float, ...]] = []
    while not times or (len(times) < runs and times[0][0] <= LONG_S):
        with _door_clock() as inside:
            total_s, solver_s = cpu_s(lambda: answers.append(run()))
        door_s = sum(inside)
        times.append((total_s, total_s - door_s, door_s - solver_s, solver_s, len(inside)))
        del answers[:-1]
    medians = dict(
        zip(
            ["total_s", "arrays_s", "checks_s", "solver_s", "solver_runs"],
            np.median(times, axis=0).tolist(),
            strict=True,
        )
    )
    medians["solver_runs"] = int(medians["solver_runs"])
    return {"runs": len(times), **medians, "peak_mb": peak_rss_mb()}, answers[-1]


@contextmanager
def _door_clock() -> Iterator[list[float]]:
    """Collect the CPU time of every linear programme that goes through `flexlib.solver`."""
    spent: list[float] = []
    solve = solver._solve_arrays

    def timed(*args: Any) -> Any:
        start = process_time()
        try:
            return solve(*args)
        finally:
            spent.append(process_time() - start)

    with patch.object(solver, "_solve_arrays", timed):
        yield spent


def peak_rss_mb() -> float:
    """Peak of this process's resident memory, MB; NaN where the system does not tell it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    kb = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return 1.024e-3 * kb[0] if kb else np.nan


def measured_apart(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Rows that a module prints when a process of its own runs it."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {process.returncode}")


def _measured_apart(level: float, hubs: int, methods: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of one size, measured by a process of its own."""
    yield from measured_apart("benchmarks.hub_scale", f"{level}", f"{hubs}", *methods)


def _kept(path: Path) -> pd.DataFrame:
    """Rows of the unfinished record."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=COLUMNS)


def main(arguments: list[str]) -> None:
    """Measure one size and print its rows, or without arguments all sizes and write the record."""
    if arguments:
        level, hubs, *methods = arguments
        for row in size_rows(float(level), int(hubs), methods):
            print(json.dumps(row), flush=True)
    else:
        write_records({"hubs-scale": hub_record()}, FOLDER)


if __name__ == "__main__":
    main(sys.argv[1:])
