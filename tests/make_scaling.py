"""Make data/scaling: what pricing by method D costs, and what it reaches, from 3 to 30,000 hubs.

Run by ``make scaling``, about an hour and a half on two cores. A run that was stopped goes on where
it stopped; ``_build/scaling`` holds what is finished. ``python tests/make_scaling.py finished``
writes the table from that alone.

Cases are those of `flexlib.hub_instances.many_feeders`, D = 60 EUR/MWh. There the trunks bind and
the substation does not; so the same is done with 0.8 of its import limit, the column import_share,
where it does. Each run is a process of its own, one at a time, and so are the workers of a
decomposition.

no pricing, linear hubs         congestion of the stored withdrawals of method A
no pricing, quadratic hubs      of the one answer to adders of 0
one programme                   method D's convex programme, and the answer to its prices
linearised steps                the same, then ten steps at most
decomposition, with steps       the same by parts of the grid, on two workers
bound                           stage one of method B, by one linear programme
decomposed bound                a bound on that by parts of the grid, on two workers
linear hubs, optimistic         answer to the prices of the last of the programme and the steps
linear hubs, pessimistic        likewise; mwh and mwh_most bracket it

runs.csv. Times are those of the computation named, without imports and the reading of data: CPU
time of the process, user's and system's, of its workers, and the wall's. What takes less than a
second is run five times, of which the median is written. Memory is the largest that a process ever
held, with its imports and the data. Evaluations are those of the dual function by all parts.
Congestion is recomputed from the schedules.

exact.csv. The whole objective of method D, with the poster's weights, on cases of the reference
instance: exactly by branch and bound with SCIP (package pyscipopt, which the lock holds), proven at
a relative gap of 0.1 % or stopped after 300 s of its CPU time, and by the convex programme, without
and with the steps.
"""

import json
import multiprocessing
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.measure import machine
from flexlib.centralised import congestion_cost, with_overloads
from flexlib.errors import FlexlibError, NotProven
from flexlib.hub_decomposition import decomposed_bound_mwh, decomposed_prices
from flexlib.hub_followers import followers, optimal_answers
from flexlib.hub_instances import many_feeders, reference
from flexlib.hub_programme import HubProgramme
from flexlib.pricing_evaluation import best, worst
from flexlib.pricing_inverse import AdderWeights
from flexlib.quadratic_exact import exact_quadratic_prices
from flexlib.quadratic_pricing import QuadraticHubs, quadratic_prices
from flexlib.quadratic_steps import quadratic_objective, with_linearised_steps
from flexlib.results import provenance
from flexlib.solver import solve
from flexlib.sweep import workers
from flexlib.tables import data_path
from flexlib.tariffs import Tariff, no_tariff

FOLDER = Path(__file__).resolve().parents[1] / "data" / "scaling"
UNFINISHED = FOLDER.parents[1] / "_build" / "scaling"
CAP = 60.0  # EUR/MWh
HUBS = 3  # a feeder
LEVELS = (0.6, 0.5)
STRESSED = 0.5  # the level at which the cap binds: steps are worth it
STEPS = 10
WORKERS = 2
SHORT_S, REPEATS = 1.0, 5
DRAWS = ("hubs/feeders-1000", "hubs/feeders-9000")
ONE = {  # most feeders of each computation
    "no pricing, linear hubs": 10_000,
    "no pricing, quadratic hubs": 10_000,
    "one programme": 1000,
    "linearised steps": 1000,
    "bound": 1000,
    "linear hubs, optimistic": 100,
    "linear hubs, pessimistic": 10,
}
DECOMPOSED = ("decomposition", "decomposition, with steps", "decomposed bound")
SIZES, DECOMPOSED_SIZES = (1, 10, 100, 1000, 10_000), (1000, 10_000)
ONLY_STRESSED = ("linearised steps", "decomposition, with steps", "decomposed bound")
TIGHT = 0.8
TIGHT_WHAT = ("no pricing, quadratic hubs", "one programme", "decomposition")
RUNS = [
    (feeders, level, share, what)
    for share in (1.0, TIGHT)
    for feeders in SIZES
    for level in LEVELS
    for what in (*ONE, *DECOMPOSED)
    if feeders <= ONE.get(what, 0) or (what in DECOMPOSED and feeders in DECOMPOSED_SIZES)
    if level == STRESSED or what not in ONLY_STRESSED
    if share == 1.0 or (what in TIGHT_WHAT and feeders == 1000)
]
EXACT_CASES = [(1, 6), (1, 12), (2, 6), (3, 24)]
EXACT_LEVEL = 0.6
GAP, LIMIT_S = 1e-3, 300.0
EXACT = [
    (*case, what)
    for case in EXACT_CASES
    for what in ("one programme", "linearised steps", "exact D")
]  # fmt: skip
KEY = ["hubs", "hours", "level", "what"]
RUN_KEY = ["hubs", "hours", "level", "import_share", "what"]
COLUMNS = [
    *RUN_KEY, "workers", "repeats", "evaluations", "cpu_s", "workers_cpu_s", "wall_s", "memory_mib",
    "worker_memory_mib", "mwh", "mwh_most",
]  # fmt: skip
EXACT_COLUMNS = [*KEY, "limit_cpu_s", "cpu_s", "status", "objective", "bound", "gap"]


@dataclass
class Case:
    """An instance with what the computations share."""

    feeders: int
    level: float
    import_share: float

    def __post_init__(self):
        self.hubs, grid = many_feeders(self.feeders, self.level)
        self.grid = replace(grid, import_mw=self.import_share * grid.import_mw)

    def unpriced_linear(self):
        tables = [pd.read_csv(data_path(f"{name}/withdrawals.csv"), comment="#") for name in DRAWS]
        table = pd.concat(tables)
        hours = [f"hour_{t}" for t in range(self.hubs.hours)]
        w_mw = table.loc[table["feeder"] <= self.feeders, hours].to_numpy()
        return self.grid.congestion_mwh(w_mw)

    def unpriced_quadratic(self):
        """Hubs answer alone: some at a time, for memory."""
        w_mw = np.zeros((len(self.hubs), self.hubs.hours))
        for first in range(0, len(self.hubs), 3000):
            some = slice(first, min(first + 3000, len(self.hubs)))
            columns = self.grid.factor[:, some]
            part = QuadraticHubs(self.hubs.only(some), replace(self.grid, factor=columns), CAP)
            none = np.zeros((len(part.hubs), part.hubs.hours))
            w_mw[some] = part(none).schedule.w_mw
        return self.grid.congestion_mwh(w_mw)

    def prices(self, steps):
        found = quadratic_prices(self.hubs, self.grid, cap_eur_per_mwh=CAP)
        found = with_linearised_steps(found, steps=steps) if steps else found
        found.certificate.assert_ok()
        return found

    def bound(self):
        programme = HubProgramme(self.hubs)
        own = followers(programme, no_tariff(*programme.shape[:2]))
        both = with_overloads(own, programme, self.grid)
        return max(solve(replace(both, c=congestion_cost(both, self.grid))).bound, 0.0)

    def answers_to_prices(self):
        """What linear hubs do at the best prices found: programme of all their optimal answers."""
        adder = self.prices(STEPS if self.level == STRESSED else 0).adder_eur_per_mwh
        programme = HubProgramme(self.hubs)
        face, _, _ = optimal_answers(programme, Tariff(adder))
        return face, programme, self.grid


def run(feeders, level, import_share, what):
    """One run: its row of runs.csv."""
    case = Case(feeders, level, import_share)
    head = [HUBS * feeders, case.hubs.hours, level, import_share, what]
    if what in DECOMPOSED:
        return [*head, *decomposed(case, what)]
    if what.startswith("linear hubs"):
        answers = case.answers_to_prices()
        extreme = best if what.endswith("optimistic") else worst
        repeats, cpu_s, wall_s, found = timed(lambda: extreme(*answers))
        values = [found.least_mwh, found.most_mwh]
    else:
        computation = {
            "no pricing, linear hubs": case.unpriced_linear,
            "no pricing, quadratic hubs": case.unpriced_quadratic,
            "one programme": lambda: case.prices(0).congestion_mwh,
            "linearised steps": lambda: case.prices(STEPS).congestion_mwh,
            "bound": case.bound,
        }[what]
        repeats, cpu_s, wall_s, value = timed(computation)
        values = [value, value]
    return [*head, 0, repeats, 1, cpu_s, 0.0, wall_s, peak_mib(), 0.0, *values]


def timed(computation):
    """Repeats, median CPU and wall time of a computation, and what it gives."""
    seconds = []
    while not seconds or (len(seconds) < REPEATS and seconds[0][0] < SHORT_S):
        start, clock = process_time(), perf_counter()
        found = computation()
        seconds.append((process_time() - start, perf_counter() - clock))
    return len(seconds), *np.median(seconds, axis=0).tolist(), found


def peak_mib():
    """Largest memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def decomposed(case, what):
    """The columns of a decomposition after the key: on workers of its own, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder, workers(count=WORKERS) as client:
        before = sum(client.run(process_time).values())
        start, clock = process_time(), perf_counter()
        place, both = Path(folder), (case.hubs, case.grid)
        if what == "decomposed bound":
            value, evaluations = decomposed_bound_mwh(client, *both, place, progress=False), 1
        else:
            steps = STEPS if what.endswith("steps") else 0
            found = decomposed_prices(
                client, *both, place, cap_eur_per_mwh=CAP, steps=steps, progress=False
            )
            found.certificate.assert_ok()
            value, evaluations = found.congestion_mwh, found.evaluations
        cpu_s, wall_s = process_time() - start, perf_counter() - clock
        workers_s = sum(client.run(process_time).values()) - before
        worker_mib = max(client.run(peak_mib).values())
    times = [cpu_s, workers_s, wall_s, peak_mib(), worker_mib]
    return [WORKERS, 1, evaluations, *times, value, value]


def exact(hubs, hours, what):
    """A row of exact.csv."""
    case, weights = reference(hubs, hours, EXACT_LEVEL), AdderWeights()
    head = [hubs, hours, EXACT_LEVEL, what]
    if what != "exact D":
        steps = STEPS if what == "linearised steps" else 0

        def prices():
            found = with_linearised_steps(quadratic_prices(*case, cap_eur_per_mwh=CAP), steps=steps)
            found.certificate.assert_ok()
            return quadratic_objective(found, weights)

        _, cpu_s, _, value = timed(prices)
        return [*head, np.nan, cpu_s, "incumbent", value, np.nan, np.nan]
    start = process_time()
    try:
        found = exact_quadratic_prices(
            *case, cap_eur_per_mwh=CAP, weights=weights, gap=GAP, time_limit_s=LIMIT_S
        )
        found.certificate.assert_ok()
        status, value, bound = "proven", found.value, found.bound
    except NotProven as error:
        status, value, bound = "no incumbent", np.nan, error.bound
        if error.x is not None:
            k = hubs * hours
            adder = np.clip(error.x[:k].reshape(hubs, hours), 0.0, CAP)
            value = quadratic_objective(QuadraticHubs(*case, CAP)(adder), weights)
            status = "not proven"
    cpu_s = process_time() - start
    return [*head, LIMIT_S, cpu_s, status, value, bound, (value - bound) / value]


def file(*job):
    """Where a finished run is kept."""
    name = " ".join(map(str, job)).replace(",", "").replace(" ", "-")
    return UNFINISHED / f"{name}.json"


def kept(function, job):
    """A run in a process of its own, written at once."""
    path = file(function.__name__, *job)
    if not path.exists():
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:  # whose process may start workers
            row = pool.submit(function, *job).result()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(row), encoding="utf-8")
        part.replace(path)


def table(function, jobs, columns):
    """Rows of the runs that are finished."""
    paths = [file(function.__name__, *job) for job in jobs]
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    return pd.DataFrame(rows, columns=columns)


def write(frame, name):
    """Write a table below data/scaling, its provenance in a comment on the first line."""
    about = machine()
    header = f"# {provenance()}, piqp {version('piqp')}, Python {about['python']}, "
    text = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.csv"
    path.write_text(f"{header}{about['cpu']}, {about['cores']} cores\n{text}", encoding="utf-8")


if __name__ == "__main__":
    tables = {"runs": (run, RUNS, COLUMNS), "exact": (exact, EXACT, EXACT_COLUMNS)}
    if sys.argv[1:] != ["finished"]:
        failed = []
        for function, job in tqdm([(f, job) for f, jobs, _ in tables.values() for job in jobs]):
            try:
                kept(function, job)
            except (FlexlibError, BrokenProcessPool) as error:  # the others can still be run
                failed.append(f"{job}: {error}")
        if failed:
            print("\n".join(failed), file=sys.stderr)
    for name, parts in tables.items():
        write(table(*parts), name)
