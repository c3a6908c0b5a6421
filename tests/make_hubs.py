"""Make data/hubs/feeders-1000 and data/hubs/simbench-mv.

Run by ``make hubs``.

feeders-1000. The three hubs of the reference instance a thousand times: devices of a hub times one
factor from 0.8 to 1.2, its fixed demand times 0.93 to 1.07, its PV times 0.9 to 1, uniform, seed 1,
rounded to 4 decimals (hubs.csv). What they withdraw without pricing, in MW rounded to 4 decimals
(withdrawals.csv), is method A solved feeder by feeder: limits are shares of the loading that it
gives, and are not stored.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from flexlib.hub_followers import no_pricing
from flexlib.hub_instances import reference, repeated

FOLDER = Path(__file__).resolve().parents[1] / "data" / "hubs"
SEED = 1
FEEDERS = 1000
RANGES = {"size": (0.8, 1.2), "demand": (0.93, 1.07), "pv": (0.9, 1.0)}


def drawn():
    """Factors of all hubs."""
    names = reference()[0].table["hub"].tolist()
    rng = np.random.default_rng(SEED)
    table = pd.DataFrame(
        {"feeder": np.repeat(np.arange(FEEDERS) + 1, len(names)), "hub": names * FEEDERS}
    )
    for name, (low, high) in RANGES.items():
        table[name] = rng.uniform(low, high, len(table)).round(4)
    return table


def withdrawals(factors):
    """Net withdrawals by method A of the feeders in a table of factors."""
    one, _ = reference()
    parts = [
        no_pricing(repeated(one, feeder)).schedule.w_mw for _, feeder in factors.groupby("feeder")
    ]
    w_mw = np.vstack(parts).round(4) + 0.0  # without minus zero
    names = [f"hour_{t}" for t in range(one.hours)]
    keys = factors[["feeder", "hub"]].reset_index(drop=True)
    return pd.concat([keys, pd.DataFrame(w_mw, columns=names)], axis=1)


def write(table, name):
    """Write a table below data/hubs."""
    (FOLDER / name).parent.mkdir(exist_ok=True)
    table.to_csv(FOLDER / name, index=False, float_format="%.10g", lineterminator="\n")


if __name__ == "__main__":
    factors = drawn()
    write(factors, "feeders-1000/hubs.csv")
    write(withdrawals(factors), "feeders-1000/withdrawals.csv")
