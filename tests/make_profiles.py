"""Make data/profiles/simbench-2016-hourly.csv from the package simbench.

Run by ``make profiles``; needs the package simbench, which the lock holds.

Each value is the mean of the four quarter-hours that begin in the hour, per unit of the rated
power, rounded to 4 decimals.

Time. The source counts 35136 quarter-hours without a gap and writes them in German clock time:
2016-03-27 has no 02:00 to 02:45, 2016-10-30 has them twice. The sun keeps to the count (its noon
does not move on these days), the loads keep to the clock. The file is in standard time, UTC+1, all
year, so every hour is there once; in summer a load follows the clock one hour ahead of it.

Loads. The six ``lv_*`` are the low-voltage grids that hang on SimBench's medium-voltage feeders, a
load each. Their weekly errors on winter evenings correlate by 0.7 to 0.97, but for lv_rural1, which
moves with the farms (0.07 to 0.2). G0-M (business) and L2-M (farm) are single customers at medium
voltage, nearly independent of these. ``mv_*`` and ``hv_*`` are left out (whole grids, some net of
generation), and so are households and other customers at low voltage. None of the eight has a gap,
a copied day or a stretch of more than 90 minutes without change.

PV. All eight sites. The daily errors around noon in summer correlate by 0.74 to 0.97 within PV1, 3,
4, 7, by 0.80 to 0.99 within PV2, 5, 6, 8 and by 0.31 to 0.42 between these groups. The source sets
everything below 1.25 % to zero, so each site has 17 to 25 days without any power, from September to
February; dull summer days have hours of zero, too. No site exceeds 64 % of its rated power.

Wind. WP4 and WP8, sites of medium-voltage feeders whose errors are least alike (WP4, 7 and 10
nearly coincide). In all wind sites of the source March repeats February: 2016-03-03 23:00 to
2016-03-31 22:00 is what was 32 days before, but for three hours on 2016-03-27, and the days up to
2016-04-03 21:00 are what was 31 days before.
"""

import sys
from pathlib import Path

import pandas as pd
import simbench

FILE = Path(__file__).resolve().parents[1] / "data" / "profiles" / "simbench-2016-hourly.csv"
VERSION = "1.6.3"
SOURCE = Path(simbench.__file__).parent / "networks" / "1-complete_data-mixed-all-0-sw"
LOADS = {
    "load_lv_rural1": "lv_rural1_pload",
    "load_lv_rural2": "lv_rural2_pload",
    "load_lv_rural3": "lv_rural3_pload",
    "load_lv_semiurb4": "lv_semiurb4_pload",
    "load_lv_semiurb5": "lv_semiurb5_pload",
    "load_lv_urban6": "lv_urban6_pload",
    "load_g0_m": "G0-M_pload",
    "load_l2_m": "L2-M_pload",
}
GENERATORS = {f"pv{k}": f"PV{k}" for k in range(1, 9)} | {"wind1": "WP4", "wind2": "WP8"}


def read():
    """Load and generation profiles, quarter-hourly as in the source."""
    if simbench.__version__ != VERSION:
        sys.exit(f"simbench {simbench.__version__} is installed, {VERSION} is meant")
    return [pd.read_csv(SOURCE / f"{name}.csv", sep=";") for name in ("LoadProfile", "RESProfile")]


def hourly(loads, generators):
    """Return the columns of the file by the hour, in standard time."""
    start = pd.Timestamp("2016-01-01", tz="Etc/GMT-1")  # UTC+1, in the notation of POSIX
    time = pd.date_range(start, periods=len(loads), freq="15min")
    clock = time.tz_convert("Europe/Berlin").strftime("%d.%m.%Y %H:%M")
    for table in (loads, generators):
        if table["time"].tolist() != clock.tolist():
            sys.exit("the source is not in German clock time from 2016-01-01")
    chosen = [
        table[list(names.values())].set_axis(list(names), axis=1)
        for table, names in ((loads, LOADS), (generators, GENERATORS))
    ]
    quarters = pd.concat(chosen, axis=1).set_axis(time.tz_localize(None).rename("time"))
    return quarters.resample("h").mean().round(4) + 0.0  # without minus zero


def text():
    """Text of the file."""
    form = {"float_format": "%.4g", "date_format": "%Y-%m-%d %H:%M", "lineterminator": "\n"}
    return hourly(*read()).to_csv(**form)


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text(), encoding="utf-8")
