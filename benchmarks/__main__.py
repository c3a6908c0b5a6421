"""``python -m benchmarks``: measure every case, print the tables, write the records.

A run that was stopped goes on where it stopped. After a change of the code, delete
``_build/benchmarks`` to measure all of it anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec

import pandas as pd
from tqdm import tqdm

from benchmarks import bilevel, hub_scale, quadratic, quadratic_sides
from benchmarks.cases import CASES
from benchmarks.measure import EXTRAS, FOLDER, LAYERS, machine, measure, write_records
from benchmarks.peers import INSTALL
from benchmarks.scale import scale_record
from benchmarks.voronoi_scale import SIZES, growth_record

UNFINISHED = FOLDER.parents[1] / "_build" / "benchmarks"


def kept(name: str, run: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Result of a run, written at once, so that a run that was stopped goes on after it."""
    path = UNFINISHED / f"{name}.pickle"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run().to_pickle(path)
    return pd.read_pickle(path)


def main() -> None:
    for name in EXTRAS:
        if not find_spec(name):
            print(f"{name} is left out; to compare with it too: {INSTALL}")
    for name in LAYERS:
        if not find_spec(name):
            print(f"{name} is left out; to compare with it too, {quadratic_sides.INSTALL}")
    parts = []
    with tqdm(total=len(CASES), unit="case") as progress:
        for name, build in CASES.items():
            progress.set_description(name)
            parts.append(kept(name, lambda build=build, name=name: measure(name, build())))
            progress.update()
    record = pd.concat(parts, ignore_index=True)
    shown = record.drop(columns=["what", "runs", "peer_version"])
    print(shown.to_string(index=False, float_format=lambda x: f"{x:.3g}", na_rep=""))
    about = machine()
    print(f"\n{about['cpu']}, {about['cores']} cores, Python {about['python']}; CPU seconds.")
    print("Ratios are times of the other side over ours, of alternating runs.")
    records = {"record": record, "scale": kept("scale", scale_record)}
    print(records["scale"].T.to_string(header=False, float_format=lambda x: f"{x:.3g}"))
    with tqdm(total=len(SIZES) + 1, unit="size") as progress:
        records["voronoi-scale"] = kept("voronoi", lambda: growth_record(progress.update))
    print(records["voronoi-scale"].to_string(index=False, float_format=lambda x: f"{x:.3g}"))
    with tqdm(total=sum(len(methods) for _, _, methods in hub_scale.SIZES), unit="row") as progress:
        records["hubs-scale"] = hub_scale.hub_record(progress.update)
    print(records["hubs-scale"].to_string(index=False, float_format=lambda x: f"{x:.3g}"))
    with tqdm(total=len(bilevel.PARTS), unit="part") as progress:
        more = bilevel.bilevel_records(kept, progress.update)
    with tqdm(total=len(quadratic.PARTS), unit="part") as progress:
        more |= quadratic.quadratic_records(kept, progress.update)
    for record in more.values():
        print(record.to_string(index=False, float_format=lambda x: f"{x:.3g}", na_rep=""))
    records |= more
    write_records(records, FOLDER)
    shutil.rmtree(UNFINISHED)
    print(f"Written: {', '.join(records)} (CSV) and machine.json in data/benchmarks.")
    print("Next: make data, make references")


if __name__ == "__main__":
    main()
