"""Timing: alternating runs, CPU time of this process, answers compared first."""

from __future__ import annotations

import gc
import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import highspy
import numpy as np
import pandas as pd

from benchmarks.cases import RUNS, Case, Side

FOLDER = Path(__file__).parents[1] / "data" / "benchmarks"
SAMPLE_S = 0.05  # shorter computations are repeated within one run
COUNTS = ["buses", "uncertain_loads", "offers", "bids", "points", "hubs", "rows"]
COLUMNS = [
    "case", "what", *COUNTS, "runs", "ours_s", "ours_solver_s", "other_s", "other_solver_s",
    "ratio_median", "ratio_min", "ratio_max", "share", "data_s", "peer", "peer_version",
]  # fmt: skip
PACKAGES = ["cvxpy", "flexlib", "highspy", "lightsim2grid", "numba", "numpy", "pandapower"]
PACKAGES += ["power-grid-model", "pyomo", "pyscipopt", "scipy", "simbench"]
EXTRAS = ("linopy", "rsome")  # peers of peers.txt
PACKAGES += [name for name in EXTRAS if find_spec(name)]
LAYERS = ("cvxpylayers", "diffapqp", "torch")  # peers of peers-layers.txt
PACKAGES += ["clarabel", "diffcp", "piqp", *(name for name in LAYERS if find_spec(name))]
Kept = Callable[[str, Callable[[], pd.DataFrame]], pd.DataFrame]
Parts = dict[str, tuple[str, Callable[[], Iterator[dict[str, Any]]]]]


def measure(
    name: str, case: Case, runs: int | None = None, tick: Callable[[], Any] = int
) -> pd.DataFrame:
    """Rows of the record for one case, one for each peer.

    Parameters
    ----------
    name : str
    case : Case
    runs : int, optional
        Rounds; in each, our side runs and then every peer. The case's own number by default.
    tick : callable
        Called after each round.
    """
    assert_agreement(case)
    sides = {"ours": case.ours, **case.peers}
    repeats = {side: _repeats(run) if case.runs == RUNS else 1 for side, run in sides.items()}
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(case.runs if runs is None else runs):
        for side, run in sides.items():
            times[side].append(cpu_s(run, repeats[side]))
        tick()
    seconds = {side: np.array(found).T / case.share.get(side, 1) for side, found in times.items()}
    rows = [_row(name, case, peer, seconds["ours"], seconds[peer]) for peer in case.peers]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COUNTS, "Int64"))


def assert_agreement(case: Case) -> None:
    """Raise if a side's answer is not what is expected: ours, or that of a third computation."""
    sides = case.peers
    if case.expected is None:
        expected = case.compared(case.ours())
    else:
        expected = case.compared(case.expected())
        sides = {"ours": case.ours, **case.peers}
    for side, run in sides.items():
        tolerance = case.tolerances.get(side, case.tolerance)
        found = case.compared(run())
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=side)


def cpu_s(run: Side, repeats: int = 1) -> tuple[float, float]:
    """CPU time of one call, and the part of it inside HiGHS; garbage is collected before."""
    gc.collect()
    gc.disable()
    try:
        with _solver_clock() as solver:
            start = process_time()
            for _ in range(repeats):
                run()
            total = process_time() - start
    finally:
        gc.enable()
    return total / repeats, sum(solver) / repeats


def machine() -> dict[str, Any]:
    """What the record was measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "threads_per_side": 1,
        "runs": RUNS,
    }


def write_records(records: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write records by their names, and the machine they were measured on."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in records.items():
        text = frame.to_csv(index=False, float_format="%.4g", lineterminator="\n")
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    about = json.dumps(machine(), indent=1)
    (folder / "machine.json").write_text(about + "\n", encoding="utf-8")


def records_of(
    parts: Parts, columns_of: dict[str, list[str]], kept: Kept, tick: Callable[[], Any] = int
) -> dict[str, pd.DataFrame]:
    """Records made of parts, each of which is measured only if it is not there yet.

    Parameters
    ----------
    parts : dict
        Record and rows of each part, by its name.
    columns_of : dict
        Columns of each record, by its name.
    kept : callable
        Gives the result of a part by its name, running it if it is not there yet.
    tick : callable
        Called after each part.
    """
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in columns_of}
    for part, (record, rows) in parts.items():
        columns = columns_of[record]
        found[record].append(
            kept(part, lambda rows=rows, columns=columns: pd.DataFrame(rows(), columns=columns))
        )
        tick()
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


def _row(name: str, case: Case, peer: str, ours: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    ratio = other[0] / ours[0]
    solver_s = [np.median(side[1]) if side[1].any() else np.nan for side in (ours, other)]
    return {
        "case": name,
        "what": case.what,
        **case.counts,
        "rows": case.rows,
        "runs": len(ratio),
        "ours_s": np.median(ours[0]),
        "ours_solver_s": solver_s[0],
        "other_s": np.median(other[0]),
        "other_solver_s": solver_s[1],
        "ratio_median": np.median(ratio),
        "ratio_min": ratio.min(),
        "ratio_max": ratio.max(),
        "share": case.share.get(peer, 1.0),
        "data_s": case.data_s,
        "peer": peer,
        "peer_version": case.versions[peer],
    }


def _repeats(run: Side) -> int:
    return max(1, round(SAMPLE_S / max(cpu_s(run)[0], 1e-6)))


@contextmanager
def _solver_clock() -> Iterator[list[float]]:
    """Collect the CPU time of every run of HiGHS, whoever starts it."""
    spent: list[float] = []
    run = highspy.Highs.run

    def timed(highs: highspy.Highs) -> Any:
        start = process_time()
        status = run(highs)
        spent.append(process_time() - start)
        return status

    with patch.object(highspy.Highs, "run", timed):
        yield spent


def _cpu_model() -> str:
    """Name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
