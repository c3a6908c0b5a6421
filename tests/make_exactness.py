"""Make data/exactness: how far each reformulation of method C gets in 100 s of CPU time.

Run by ``make exactness``, about an hour and a half at most; needs the package pyscipopt, which the
lock holds. A run that was stopped goes on where it stopped; ``_build/exactness`` holds what is
finished. ``python tests/make_exactness.py finished`` writes the tables from that alone.

Cases are those of the reference instance with limits at 0.6, D = 60 EUR/MWh and the poster's
weights; an objective counts as proven at a relative gap of 0.1 %. Each run is a process of its own,
one at a time. Its clock is the process's CPU time without imports: joint steps where it starts from
them, M, bounds for the products, branch and bound. A run ends when its solver first looks at the
clock after the limit; its time, bound and incumbent are those of that moment. CPU time is the
user's and the system's. One thread each.

kkt             big-M from intervals of the multipliers, HiGHS
sos1            special ordered sets, SCIP, no M at all
..., cut        and strong duality with McCormick's envelopes as a cut, which for sos1 too has the
                intervals of the multipliers for bounds
strong duality, menu
                adders of 0, 10, ..., 60 EUR/MWh alone, where strong duality is exact, HiGHS. This
                is another problem: its optimum is no less than that of the others.

runs.csv. The objective is recomputed from adders and schedules; their certificate (feasibility, the
hubs' optimality solved anew) must hold, and pricing the adders must not give a worse objective,
also where optimality is not proven. trace.csv holds bound and incumbent as the solvers report them.
"""

import json
import multiprocessing
import re
import sys
from importlib.metadata import version
from pathlib import Path
from time import process_time
from unittest.mock import patch

import numpy as np
import pandas as pd
from pyscipopt import SCIP_EVENTTYPE
from scipy.sparse import eye_array
from tqdm import tqdm

from benchmarks.measure import machine
from flexlib import bilevel_sos1, solver
from flexlib.bilevel_duality import on_menu
from flexlib.bilevel_solve import BilevelOptimum, solve_bilevel
from flexlib.centralised import centralised
from flexlib.errors import FlexlibError, NotProven
from flexlib.hub_bilevel import decision, hub_big_m, priced_hubs
from flexlib.hub_instances import reference
from flexlib.pricing import linear_prices, priced
from flexlib.pricing_inverse import AdderWeights
from flexlib.pricing_steps import objective, with_joint_steps
from flexlib.results import provenance

FOLDER = Path(__file__).resolve().parents[1] / "data" / "exactness"
UNFINISHED = FOLDER.parents[1] / "_build" / "exactness"
CAP = 60.0  # EUR/MWh
LEVEL = 0.6
GAP = 1e-3
INCUMBENT = 1e-5  # relative: integers of an incumbent are whole to 1e-7, and M magnifies that
LIMIT_S = 100.0
WALL_S = 3000.0  # never met first
MENU = np.arange(0.0, CAP + 1, 10.0)
SIZES = [(1, 6), (1, 12), (2, 6), (3, 24), (1, 24), (3, 6), (2, 12), (3, 12)]
MENU_SIZES = [(1, 6), (1, 12), (2, 6), (1, 24)]
WAYS = [
    ("sos1, cut", "joint steps"),
    ("kkt", "cold"),
    ("kkt", "joint steps"),
    ("sos1, cut", "cold"),
    ("kkt, cut", "cold"),
    ("sos1", "cold"),
]
MENU_WAY = ("strong duality, menu", "cold")
RUNS = [
    (*size, *way)
    for size in SIZES
    for way in [*WAYS, *([MENU_WAY] if size in MENU_SIZES else [])]
]  # fmt: skip
KEY = ["hubs", "hours", "level", "reformulation", "start"]
COLUMNS = [*KEY, "limit_cpu_s", "cpu_s", "status", "objective", "bound", "gap"]


def run(hubs, hours, reformulation, start, limit_s=LIMIT_S):
    """One run: its row of runs.csv and its rows of trace.csv."""
    began, trace, weights = process_time(), [], AdderWeights()

    def elapsed():
        return process_time() - began

    def watch(bound, incumbent):
        trace.append((elapsed(), bound, incumbent))

    # Both solvers stop in order at a time limit of 0, which is set once the CPU time is over.

    def stopping_highs(highs, watch):
        watch_highs(highs, watch)

        def look(_):
            if elapsed() > limit_s:
                highs.setOptionValue("time_limit", 0.0)

        highs.cbMipInterrupt.subscribe(look)

    def stopping_scip(model, watch):
        watch_scip(model, watch)

        def look(model, _):
            if elapsed() > limit_s:
                model.setParam("limits/time", 0.0)

        events = [SCIP_EVENTTYPE.NODEFOCUSED, SCIP_EVENTTYPE.LPSOLVED]
        model.attachEventHandlerCallback(look, events)

    watch_highs, watch_scip = solver._watch, bilevel_sos1._watch
    case, grid = reference(hubs, hours, LEVEL)
    benchmark = centralised(case, grid)
    problem = priced_hubs(case, grid, CAP, weights)
    m, name = hub_big_m(problem, case, CAP), reformulation.partition(",")[0]
    levels = eye_array(len(problem.cost))
    if reformulation == "sos1":
        m = None
    if reformulation == MENU_WAY[0]:
        problem, levels = on_menu(problem, dict.fromkeys(range(hubs * hours), MENU))
    point = None
    if start == "joint steps":
        best = with_joint_steps(linear_prices(benchmark, cap_eur_per_mwh=CAP), weights)
        point = decision(grid, best.adder_eur_per_mwh, best.answer.schedule)
    with (
        patch.object(solver, "_watch", stopping_highs),
        patch.object(bilevel_sos1, "_watch", stopping_scip),
    ):
        try:
            found = solve_bilevel(
                problem, name, m=m, cut=reformulation.endswith("cut"), start=point, gap=GAP,
                time_limit_s=WALL_S, watch=watch,
            )  # fmt: skip
            status, bound = "proven", found.bound
        except NotProven as error:
            found, bound = None, error.bound
            status = "no incumbent" if error.x is None else "not proven"
            if error.x is not None:
                k = len(problem.cost)
                d = np.where(problem.integer, np.round(error.x[:k]), error.x[:k])
                found = BilevelOptimum(problem, d, error.x[k:], bound, np.inf, [], 0)
    cpu_s, value = elapsed(), np.nan
    if found is not None:
        found.certificate.assert_ok()
        value = found.value
        adder = np.clip((levels @ found.d)[: hubs * hours].reshape(hubs, hours), 0.0, CAP)
        recomputed = objective(priced(benchmark, CAP, adder), weights)
        assert recomputed < value + INCUMBENT * max(1.0, value), (recomputed, value)
    trace.append((cpu_s, bound, value if found is not None else np.inf))
    row = [hubs, hours, LEVEL, reformulation, start, limit_s, cpu_s, status, value, bound,
           (value - bound) / value]  # fmt: skip
    return row, trace


def file(hubs, hours, reformulation, start):
    """Where a finished run is kept."""
    name = re.sub(r"\W+", "-", f"{hubs}x{hours} {reformulation} {start}")
    return UNFINISHED / f"{name}.json"


def kept(job):
    """A run in a process of its own, written at once."""
    path = file(*job)
    if not path.exists():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row, trace = pool.apply(run, job)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"row": row, "trace": trace}), encoding="utf-8")


def changes(trace):
    """Times at which bound or incumbent change in what is written, and the last."""
    table = pd.DataFrame(trace, columns=["cpu_s", "bound", "incumbent"])
    table = table.replace([np.inf, -np.inf], np.nan)
    shown = table[["bound", "incumbent"]].map("{:.4g}".format)
    changed = (shown != shown.shift()).any(axis=1)
    changed.iloc[-1] = True
    return table[changed]


def tables(jobs):
    """Both tables from the runs that are finished."""
    rows, traces = [], []
    for job in jobs:
        finished = json.loads(file(*job).read_text(encoding="utf-8"))
        rows.append(finished["row"])
        trace = changes(finished["trace"])
        for j, value in enumerate(finished["row"][: len(KEY)]):
            trace.insert(j, KEY[j], value)
        traces.append(trace)
    runs = pd.DataFrame(rows, columns=COLUMNS)
    runs = runs.replace([np.inf, -np.inf], np.nan)
    return {"runs": runs, "trace": pd.concat(traces)}


def write(table, name):
    """Write a table below data/exactness, its provenance in a comment on the first line."""
    about = machine()
    header = f"# {provenance()}, pyscipopt {version('pyscipopt')}, Python {about['python']}, "
    text = table.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.csv"
    path.write_text(f"{header}{about['cpu']}, {about['cores']} cores\n{text}", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["finished"]:
        failed = []
        for job in tqdm(RUNS, unit="run"):
            try:
                kept(job)
            except FlexlibError as error:  # the others can still be run
                failed.append(f"{job}: {error}")
        if failed:
            sys.exit("\n".join(failed))
    for name, table in tables([job for job in RUNS if file(*job).exists()]).items():
        write(table, name)
