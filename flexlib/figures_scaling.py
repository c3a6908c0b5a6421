"""Figures of scaling: the grid in parts, time and memory against hubs, who leaves how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flexlib.figures import BLUE, GREEN, GREY, ORANGE, RED

_COLOURS = (BLUE, ORANGE, GREEN, RED, GREY)
_MARKERS = ("o", "s", "D", "^", "v")
_INK = "#333333"
_HUB, _FEEDER, _TRUNK, _TOP = 0.0, 1.0, 2.0, 3.0  # heights of the tree


def tree(axes: Axes, trunks: int = 3, feeders: int = 3, hubs: int = 3) -> None:
    """Single-line picture of a substation, its trunks, their feeders and hubs; a colour a part.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    trunks : int
        The last is drawn apart from the others, for those left out.
    feeders : int
        Of each trunk.
    hubs : int
        Of each feeder.
    """
    width = feeders * hubs + 1.0
    starts = [k * width + (1.5 if k == trunks - 1 else 0.0) for k in range(trunks)]
    middle = (starts[0] + starts[-1] + width - 2) / 2
    for start, colour in zip(starts, _COLOURS, strict=False):
        top = start + (feeders * hubs - 1) / 2
        axes.plot([middle, top], [_TOP, _TRUNK], color=_INK, lw=1.4, zorder=1)
        for feeder in range(feeders):
            x = start + feeder * hubs + np.arange(hubs)
            axes.plot([top, x.mean()], [_TRUNK, _FEEDER], color=colour, lw=1.6, zorder=1)
            for at in x:
                axes.plot([x.mean(), at], [_FEEDER, _HUB], color=colour, lw=1.0, zorder=1)
            axes.plot(x, np.zeros(hubs), "o", ms=6, color=colour, zorder=2)
        axes.plot(top, _TRUNK, "s", ms=8, color=colour, zorder=2)
    gap = (starts[-2] + width - 2 + starts[-1]) / 2
    axes.text(gap, _TRUNK, "...", ha="center", va="center", fontsize=14, color=_INK)
    axes.plot(middle, _TOP, "s", ms=13, mfc="white", mec=_INK, mew=1.8, zorder=3)
    axes.text(middle + 0.9, _TOP, "substation: one row over all hubs", va="center", fontsize=9)
    left = starts[0] - 1.0
    for y, name in ((_TRUNK, "trunks"), (_FEEDER, "feeders"), (_HUB, "hubs")):
        axes.text(left, y, name, ha="right", va="center", fontsize=9, color=_INK)
    axes.set(xlim=(left - 3.0, starts[-1] + width), ylim=(-0.4, _TOP + 0.4))
    axes.axis("off")


def growth(
    axes: Axes,
    series: Mapping[str, pd.Series],
    guide: tuple[float, float] | None = None,
) -> None:
    """Quantities against the number of hubs, both on logarithmic scales.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    series : mapping of str to pandas.Series
        Under their labels; index the number of hubs.
    guide : tuple of float, optional
        A point (hubs, value) through which a line of slope 1 is drawn.
    """
    for (label, values), colour, marker in zip(series.items(), _COLOURS, _MARKERS, strict=False):
        style = "-" if len(values) > 1 else "none"
        axes.plot(
            values.index, values, marker=marker, ls=style, lw=1.8, ms=6, color=colour, label=label
        )
    if guide is not None:
        ends = np.array([float(min(v.index.min() for v in series.values())),
                         float(max(v.index.max() for v in series.values()))])  # fmt: skip
        line = guide[1] * ends / guide[0]
        axes.plot(ends, line, color=_INK, lw=1.0, ls=":", label="in proportion to hubs")
    axes.set(xscale="log", yscale="log", xlabel="hubs")


def exponent(values: pd.Series, least: float = 30.0) -> float:
    """Slope of the logarithm of values against that of their index, by least squares.

    Parameters
    ----------
    values : pandas.Series
        Index the number of hubs.
    least : float
        Fewer hubs are left out: there the fixed part of the time counts.
    """
    kept = values[values.index >= least]
    return float(np.polyfit(np.log(kept.index.to_numpy(float)), np.log(kept.to_numpy()), 1)[0])


def accounts(axes: Axes, congestion: pd.DataFrame, styles: Sequence[str]) -> None:
    """Congestion under each kind of followers and prices, one line of marks for each size.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    congestion : pandas.DataFrame
        One row for each size, from top to bottom; one column for each entry of `styles`. What is
        missing is left out.
    styles : sequence of str
        Columns in their order.
    """
    for y, (_, row) in enumerate(congestion.iterrows()):
        known = row.dropna()
        axes.plot([known.min(), known.max()], [y, y], color="#D3D3D3", lw=5, zorder=1)
    rows = np.arange(len(congestion))
    for column, colour, marker in zip(styles, (RED, ORANGE, GREY, BLUE, GREEN, _INK),
                                      ("o", "o", "^", "s", "D", "|"), strict=False):  # fmt: skip
        axes.plot(
            congestion[column], rows, marker, ls="none", ms=13 if marker == "|" else 8,
            mew=2.4 if marker == "|" else 1.0, color=colour, label=column, zorder=2,
        )  # fmt: skip
    axes.set(ylim=(len(congestion) - 0.5, -0.5))
    axes.set_yticks(rows, [str(name) for name in congestion.index])
    axes.grid(axis="y", visible=False)
