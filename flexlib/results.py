"""Results a reader can take away: tables as CSV with provenance, figures as SVG, PDF and PNG.

Files go to the folder ``results`` of the working directory. The same inputs on the same versions
give the same bytes.
"""

from __future__ import annotations

import hashlib
import itertools
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from flexlib.tables import data_path

_FOLDER = "results"
_SOLVERS = ("highspy", "power-grid-model", "pyomo")


def provenance() -> str:
    """One line that says what made a result: versions and a checksum of all input data."""
    digest = hashlib.sha256()
    root = data_path()
    folders = ("feeders", "hubs", "profiles", "published")
    inputs = ((root / folder).rglob("*.csv") for folder in folders)
    for path in sorted(itertools.chain(*inputs)):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    versions = [f"{name} {version(name)}" for name in ("flexlib", *_SOLVERS)]
    return f"{', '.join(versions)}, data sha256 {digest.hexdigest()[:16]}"


def write_table(frame: pd.DataFrame, name: str) -> Path:
    """Write a table as CSV, its provenance in a comment on the first line.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns whose names carry their units.
    name : str
        File name without ending.

    Returns
    -------
    pathlib.Path
    """
    path = _folder() / f"{name}.csv"
    text = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    path.write_text(f"# {provenance()}\n{text}", encoding="utf-8")
    return path


def write_figure(figure: Figure, name: str) -> None:
    """Write a figure as SVG, PDF and PNG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        File name without ending.
    """
    with mpl.rc_context({"svg.hashsalt": name, "pdf.fonttype": 42}):
        undated: dict[str, dict[str, str | None]] = {
            "svg": {"Date": None},
            "pdf": {"CreationDate": None, "ModDate": None},
            "png": {},
        }
        for ending, metadata in undated.items():
            path = _folder() / f"{name}.{ending}"
            figure.savefig(path, dpi=200, bbox_inches="tight", metadata=metadata)


def _folder() -> Path:
    folder = Path(_FOLDER)
    folder.mkdir(exist_ok=True)
    return folder
