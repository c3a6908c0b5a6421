"""Make data/ties: what tariffs leave of an overload if hubs are kind, unkind, careless, or unknown.

Run by ``make ties``, about half an hour on two cores. A run that was stopped goes on where it
stopped; ``_build/ties`` holds what is finished.

The instance is `flexlib.hub_instances.reference`, three hubs and 24 hours, D = 60 EUR/MWh.

tariffs.csv. Each tariff, designed for the hubs at a level of the limits, with the answers of
`flexlib.pricing_evaluation.evaluated`. The column size is

no pricing, linear prices, prices of method D       0
import band, import band, place 0, net band         kappa, EUR/MWh
quadratic tariff                                    rho, EUR/MWh per MW
subscription, demand charge                         hours of a part of the day

with kappa = 60 EUR/MWh in all subscriptions. bound_mwh is what the theorem of a tariff proves of
these followers, empty where there is none: for band and subscription on imports, and for the
quadratic tariff, of the overload in the direction of import. cpu_s is the time of the evaluation.

misestimated.csv. Tariffs designed at level 0.6 for the estimated hubs, evaluated on true ones; the
draw is the seed, and devices, demand and PV of each hub are off by factors of a standard deviation
of 5 %.
"""

from functools import cache
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd

from flexlib.centralised import Centralised, centralised
from flexlib.hub_instances import reference
from flexlib.pricing import linear_prices
from flexlib.pricing_band import import_band, net_band
from flexlib.pricing_evaluation import careless_eur, evaluated
from flexlib.pricing_misestimated import misestimated
from flexlib.pricing_quadratic_tariff import quadratic_tariff
from flexlib.pricing_subscription import capacity_subscription, demand_charges
from flexlib.quadratic_pricing import quadratic_prices
from flexlib.results import provenance
from flexlib.sweep import sweep, workers
from flexlib.tables import data_path
from flexlib.tariffs import Tariff, day_parts, no_tariff

FOLDER = Path(__file__).resolve().parents[1] / "data" / "ties"
UNFINISHED = FOLDER.parents[1] / "_build" / "ties"
LEVELS = (0.6, 0.5)
KAPPA = 60.0  # EUR/MWh, where it is not varied
SIZES: dict[str, tuple[float, ...]] = {
    "no pricing": (0,),
    "linear prices": (0,),
    "prices of method D": (0,),
    "import band": (20, 60),
    "import band, place 0": (60,),
    "net band": (2, 5, 10, 20, 60, 200),
    "quadratic tariff": (1, 10, 50, 100, 200),
    "subscription": (3, 4, 6, 8),
    "demand charge": (3, 4, 6, 8),
}
DRAWS = range(20)
SHARE = 0.05
POSTED = (
    ("no pricing", 0), ("linear prices", 0), ("import band", 60), ("net band", 60),
    ("quadratic tariff", 50), ("subscription", 8), ("demand charge", 8),
)  # fmt: skip
NUMBERS = [
    "congestion_mwh", "at_least_mwh", "at_most_mwh", "hub_cost_eur", "revenue_eur",
]  # fmt: skip
FOLLOWERS = ("optimistic", "pessimistic", "careless, 0.1 %")
KEY = ["level", "tariff", "size", "followers"]
MIS_KEY = ["draw", "tariff", "size", "followers"]


@cache
def benchmark(level: float) -> Centralised:
    """Method B of the reference instance."""
    return centralised(*reference(3, 24, level))


def designed(level: float, tariff: str, size: float):
    """A tariff, and the object that certifies it or None."""
    planner = benchmark(level)
    parts = day_parts(24, int(max(size, 1)))
    if tariff == "no pricing":
        return no_tariff(3, 24), None
    if tariff == "linear prices":
        return linear_prices(planner).answer.tariff, None
    if tariff == "prices of method D":
        return Tariff(quadratic_prices(*reference(3, 24, level)).adder_eur_per_mwh), None
    design = {
        "import band": lambda: import_band(planner, kappa_eur_per_mwh=size),
        "import band, place 0": lambda: import_band(planner, kappa_eur_per_mwh=size, place=0.0),
        "net band": lambda: net_band(planner, kappa_eur_per_mwh=size),
        "quadratic tariff": lambda: quadratic_tariff(planner, rho_eur_per_mwh_per_mw=size),
        "subscription": lambda: capacity_subscription(planner, parts, kappa_eur_per_mwh=KAPPA),
        "demand charge": lambda: demand_charges(planner, parts),
    }[tariff]()
    design.certificate.assert_ok()
    return design.tariff, design


def evaluate(level: float, tariff: str, size: float) -> dict[str, np.ndarray]:
    """One tariff: numbers of each kind of followers, bounds, CPU seconds of the evaluation."""
    hubs, grid = reference(3, 24, level)
    posted, design = designed(level, tariff, size)
    start = process_time()
    table = evaluated(hubs, grid, posted)
    cpu_s = process_time() - start
    bounds = np.full(3, np.nan)
    if hasattr(design, "bound_mwh"):
        careless = design.bound_mwh(careless_eur(hubs))
        bounds = np.array([design.bound_mwh(), design.bound_mwh(), careless])
    return {"numbers": table[NUMBERS].to_numpy(), "bound_mwh": bounds, "cpu_s": np.array(cpu_s)}


def draw(seed: int) -> dict[str, np.ndarray]:
    """One draw of true hubs: numbers of each tariff and kind of followers."""
    hubs, grid = reference(3, 24, LEVELS[0])
    tariffs = {f"{name} {size}": designed(LEVELS[0], name, size)[0] for name, size in POSTED}
    table = misestimated(hubs, grid, tariffs, share=SHARE, draws=1, seed=seed)
    return {"numbers": table[NUMBERS].to_numpy()}


def cases():
    """Level, tariff and size of every row of tariffs.csv."""
    return [(level, name, float(size)) for level in LEVELS
            for name, sizes in SIZES.items() for size in sizes]  # fmt: skip


def slow(case: tuple[float, str, float]) -> bool:
    """What takes minutes, which is left for the end."""
    return case[1] == "quadratic tariff" and case[2] < 100


def label(level: float, tariff: str, size: float) -> str:
    return f"{level}-{tariff.replace(', ', '-').replace(' ', '-')}-{size:g}"


def tariffs_table(results) -> pd.DataFrame:
    """Rows of tariffs.csv from what the units found."""
    rows = []
    for case in cases():
        found = results[label(*case)]
        for kind, numbers, bound in zip(
            FOLLOWERS, found["numbers"], found["bound_mwh"], strict=True
        ):
            rows.append([*case, kind, *numbers, bound, float(found["cpu_s"])])
    return pd.DataFrame(rows, columns=[*KEY, *NUMBERS, "bound_mwh", "cpu_s"])


def misestimated_table(results) -> pd.DataFrame:
    """Rows of misestimated.csv from what the units found."""
    keys = [(name, size, kind) for name, size in POSTED for kind in FOLLOWERS]
    rows = []
    for seed in DRAWS:
        numbers = results[f"draw-{seed}"]["numbers"]
        rows += [[seed, *key, *values] for key, values in zip(keys, numbers, strict=True)]
    return pd.DataFrame(rows, columns=[*MIS_KEY, *NUMBERS])


def write(frame: pd.DataFrame, name: str) -> None:
    """Write a table below data/ties, its provenance in a comment on the first line."""
    text = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.csv"
    path.write_text(f"# {provenance()}\n{text}", encoding="utf-8")


def stored(name: str) -> pd.DataFrame:
    """A table below data/ties."""
    return pd.read_csv(data_path(f"ties/{name}.csv"), comment="#")


if __name__ == "__main__":
    with workers() as client:
        units = {label(*case): case for case in sorted(cases(), key=slow)}
        write(tariffs_table(sweep(client, evaluate, units, UNFINISHED)), "tariffs")
        draws = {f"draw-{seed}": (seed,) for seed in DRAWS}
        write(misestimated_table(sweep(client, draw, draws, UNFINISHED)), "misestimated")
