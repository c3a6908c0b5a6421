"""Figures of bilevel programmes: multipliers in their intervals, bounds over time, reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from flexlib.figures import BLUE, GREEN, RED

WAYS = {
    ("kkt", "cold"): "KKT",
    ("kkt", "joint steps"): "KKT from\njoint steps",
    ("kkt, cut", "cold"): "KKT\nwith cut",
    ("sos1", "cold"): "SOS1",
    ("sos1, cut", "cold"): "SOS1\nwith cut",
    ("sos1, cut", "joint steps"): "SOS1 with cut\nfrom joint steps",
}
_KINDS = {
    "optimistic": ("o", 7, BLUE, BLUE),
    "pessimistic": ("s", 11, "none", RED),
    "careless, 0.1 %": ("D", 8, RED, RED),
}
_PROVEN, _OPEN, _NOTHING = "#BFE3D3", "#EDEDED", "#F3D3C2"
_INK = "#333333"


def multiplier_bands(
    axes: Sequence[Axes],
    hours: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    values: dict[str, np.ndarray],
    names: Sequence[str],
) -> None:
    """Multipliers of a hub's equations in the intervals that hold them.

    Parameters
    ----------
    axes : sequence of matplotlib.axes.Axes
        One an equation.
    hours : numpy.ndarray, shape (hours,)
    low, high : numpy.ndarray, shape (hours, equations)
        Ends of the intervals, EUR/MWh.
    values : dict of str to numpy.ndarray, shape (hours, equations)
        Multipliers under their label.
    names : sequence of str
        Titles.
    """
    styles = (("o", BLUE, 7), ("x", RED, 7), ("s", GREEN, 5))
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        ax.fill_between(hours, low[:, k], high[:, k], step="mid", color="#D9D9D9", label="interval")
        for (label, value), (marker, colour, size) in zip(values.items(), styles, strict=False):
            ax.plot(
                hours, value[:, k], marker, ms=size, mfc="none", mec=colour, mew=1.6, label=label
            )
        ax.set(title=name, xticks=hours)


def answers(axes: Axes, congestion_mwh: dict[str, pd.Series]) -> None:
    """Congestion that prices leave, by the kind of hub; a bar from the best to the worst.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    congestion_mwh : dict of str to pandas.Series
        By prices, from top to bottom; index the followers of
        `flexlib.pricing_evaluation.evaluated`, or some of them.
    """
    for y, value in enumerate(congestion_mwh.values()):
        axes.plot([value.min(), value.max()], [y, y], color="#D3D3D3", lw=6, solid_capstyle="round")
        for kind, (marker, size, face, edge) in _KINDS.items():
            if kind not in value.index:
                continue
            label = kind if y == len(congestion_mwh) - 1 else ""
            axes.plot(value[kind], y, marker, ms=size, mfc=face, mec=edge, mew=1.8, label=label)
    axes.set(ylim=(len(congestion_mwh) - 0.4, -0.6))
    axes.set_yticks(range(len(congestion_mwh)), list(congestion_mwh))
    axes.grid(axis="y", visible=False)


def progress(axes: Axes, trace: pd.DataFrame, way: tuple[str, str], colour: str) -> None:
    """Bound (full line) and incumbent (dashed) of one run over its process time.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    trace : pandas.DataFrame
        Columns reformulation, start, cpu_s, bound and incumbent of one instance.
    way : tuple of str
        Reformulation and start.
    colour : str
    """
    run = trace[(trace["reformulation"] == way[0]) & (trace["start"] == way[1])]
    for column, style in (("bound", "-"), ("incumbent", "--")):
        axes.step(run["cpu_s"], run[column], where="post", ls=style, color=colour, lw=1.8)
    axes.set_xscale("log")


def reach(axes: Axes, runs: pd.DataFrame) -> None:
    """Table of instances and ways to solve them: seconds where proven, else the gap that is left.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    runs : pandas.DataFrame
        Columns instance, reformulation, start, status ("proven", "not proven" or "no incumbent"),
        cpu_s and gap; one row a cell, none for runs that were not made.
    """
    cases, ways = list(dict.fromkeys(runs["instance"])), list(WAYS)
    for run in runs.to_dict("records"):
        column = ways.index((run["reformulation"], run["start"]))
        row = cases.index(run["instance"])
        if run["status"] == "proven":
            colour, text = _PROVEN, f"{run['cpu_s']:.0f} s"
        elif run["status"] == "no incumbent":
            colour, text = _NOTHING, "none"
        else:
            colour, text = _OPEN, f"{100 * run['gap']:.0f} %"
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=colour, ec="white", lw=2))
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=_INK)
    axes.set(xlim=(-0.5, len(ways) - 0.5), ylim=(len(cases) - 0.5, -0.5))
    axes.set_xticks(range(len(ways)), list(WAYS.values()), fontsize=8)
    axes.set_yticks(range(len(cases)), cases, fontsize=9)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
