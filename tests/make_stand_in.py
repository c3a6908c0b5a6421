"""Make data/feeders/simbench-lv-6: the six SimBench low-voltage grids on one 20 kV feeder.

Run by ``make stand-in``; needs the package simbench, which the lock holds. The grids are those of
scenario 0 without switches, their transformers at neutral taps, their generators left out, the
loads of a bus added up. The feeder is ours: a 20 kV station at 1.0 p.u. and a segment of 0.5 km
(0.206 + j 0.116 ohm/km, 315 A) to each of the six in turn. Voltage limits are 0.95 and 1.05 p.u.
Coordinates are in km within each grid, around its own station; the stations stand where the
drawing has room.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import simbench

from flexlib import read_network

FOLDER = Path(__file__).resolve().parents[1] / "data" / "feeders" / "simbench-lv-6"
VERSION = "1.6.3"
GRIDS = ("rural1", "rural2", "rural3", "semiurb4", "semiurb5", "urban6")
PLACES_KM = ((0.8, 1.0), (1.6, -1.0), (2.8, 1.0), (3.6, -1.0), (4.8, 1.0), (5.8, -1.0))
KM_PER_DEGREE = (111.3 * np.cos(np.deg2rad(53.5)), 111.3)
SEGMENT = {"r_ohm": 0.103, "x_ohm": 0.058, "i_max_from_a": 315.0, "i_max_to_a": 315.0}
COLUMNS = {
    "buses": ["bus", "v_nom_kv", "v_slack_pu", "v_min_pu", "v_max_pu", "x", "y"],
    "branches": [
        "branch", "from_bus", "to_bus", "r_ohm", "x_ohm", "b_us", "g_us", "shift_deg",
        "i_max_from_a", "i_max_to_a",
    ],
    "loads": ["load", "bus", "p_kw", "q_kvar"],
}  # fmt: skip


def grid(name, place_km):
    """Tables of one grid, its medium-voltage bus renamed, its loads added up by bus."""
    network = read_network(f"1-LV-{name}--0-no_sw")
    (medium,) = network.buses.loc[network.buses["v_nom_kv"] > 1, "bus"]
    rename = {medium: f"{name} station"}
    buses = network.buses.set_index("bus")
    at = buses.loc[medium, ["x", "y"]].to_numpy(dtype=float)
    if np.isnan(at).any():
        sys.exit(f"{name}: its station has no coordinates")
    buses[["x", "y"]] = (buses[["x", "y"]].to_numpy() - at) * KM_PER_DEGREE + place_km
    buses = buses.rename(index=rename).reset_index().assign(v_slack_pu=np.nan)
    branches = network.branches.replace({"from_bus": rename, "to_bus": rename})
    loads = network.loads[network.loads["p_kw"] > 0]
    loads = loads.groupby("bus", sort=False)[["p_kw", "q_kvar"]].sum().reset_index()
    loads.insert(0, "load", loads["bus"].str.replace("Bus", "Load"))
    return buses, branches, loads


def feeder(parts):
    """Join the grids by the 20 kV feeder."""
    buses, branches, loads = (pd.concat(tables) for tables in zip(*parts, strict=True))
    stations = ["substation", *(f"{name} station" for name in GRIDS)]
    head = {"bus": "substation", "v_nom_kv": 20.0, "v_slack_pu": 1.0, "x": 0.0, "y": 0.0}
    segments = pd.DataFrame({"branch": [f"segment {k + 1}" for k in range(len(GRIDS))]})
    segments = segments.assign(from_bus=stations[:-1], to_bus=stations[1:], **SEGMENT)
    buses = pd.concat([pd.DataFrame([head]), buses]).assign(v_min_pu=0.95, v_max_pu=1.05)
    branches = pd.concat([segments, branches])
    return {"buses": buses, "branches": branches, "loads": loads}


def texts():
    """Text of each of the three files, by name."""
    tables = feeder([grid(*item) for item in zip(GRIDS, PLACES_KM, strict=True)])
    return {
        name: tables[name][columns].to_csv(index=False, float_format="%.7g", lineterminator="\n")
        for name, columns in COLUMNS.items()
    }


if __name__ == "__main__":
    if simbench.__version__ != VERSION:
        sys.exit(f"simbench {simbench.__version__} is installed, {VERSION} is meant")
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / f"{name}.csv").write_text(text, encoding="utf-8")
