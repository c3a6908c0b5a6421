"""Make data/profiles/simbench-2016-hourly.csv from the SimBench wheel.

Run by ``make profiles``, which fetches the wheel with pip, or with the path of the wheel:
``python tests/make_profiles.py simbench-1.6.3-py3-none-any.whl``. Run ``make data`` afterwards.

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

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

FILE = Path(__file__).resolve().parents[1] / "data" / "profiles" / "simbench-2016-hourly.csv"
VERSION = "1.6.3"
SHA256 = "8b48bdab2445286a96649eb18bb09476d000a0e212fd57fdba83399df54af4de"
FOLDER = "simbench/networks/1-complete_data-mixed-all-0-sw"
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


def fetched(folder):
    """Path of the wheel, fetched with pip into a folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
    subprocess.run([*command, f"simbench=={VERSION}"], check=True)
    (wheel,) = Path(folder).glob("simbench-*.whl")
    return wheel


def read(wheel):
    """Load and generation profiles of a wheel, quarter-hourly as in the source."""
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{wheel.name} is not the wheel of simbench {VERSION} (other sha256)")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("LoadProfile", "RESProfile"):
            with archive.open(f"{FOLDER}/{name}.csv") as file:
                yield pd.read_csv(file, sep=";")


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


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(sys.argv[1]) if sys.argv[1:] else fetched(folder)
        profiles = hourly(*read(wheel))
    FILE.parent.mkdir(exist_ok=True)
    profiles.to_csv(FILE, float_format="%.4g", date_format="%Y-%m-%d %H:%M", lineterminator="\n")
