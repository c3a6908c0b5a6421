"""``python -m benchmarks``: measure every case, print the table, write the record."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.cases import CASES
from benchmarks.measure import RUNS, machine, measure, write_record
from benchmarks.peers import INSTALL
from benchmarks.scale import scale_record

FOLDER = Path(__file__).parents[1] / "data" / "benchmarks"


def main() -> None:
    if not find_spec("rsome"):
        print(f"RSOME is left out; to compare with it too: {INSTALL}")
    parts = []
    with tqdm(total=RUNS * len(CASES), unit="run") as progress:
        for name, build in CASES.items():
            progress.set_description(name)
            parts.append(measure(name, build(), tick=progress.update))
    record = pd.concat(parts, ignore_index=True)
    shown = record.drop(columns=["what", "runs", "peer_version"])
    print(shown.to_string(index=False, float_format=lambda x: f"{x:.3g}", na_rep=""))
    about = machine()
    print(f"\n{about['cpu']}, {about['cores']} cores, Python {about['python']}; CPU seconds.")
    print("Ratios are times of the other side over ours, of alternating runs.")
    scale = scale_record()
    print(scale.T.to_string(header=False, float_format=lambda x: f"{x:.3g}"))
    write_record(record, scale, FOLDER)
    print("Written: record.csv, scale.csv and machine.json in data/benchmarks.")
    print("Next: make data, make references")


if __name__ == "__main__":
    main()
