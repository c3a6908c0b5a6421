"""Figures of tariffs without ties: bills and marginal prices, what is left, what is proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flexlib.figures import BLUE, GREEN, GREY, ORANGE, RED
from flexlib.tariffs import Tariff

COLOURS = (GREY, ORANGE, BLUE, GREEN, RED)
STYLES = (":", "-.", "-", "--", (0, (5, 1, 1, 1, 1, 1)))
_KINDS = {
    "optimistic": ("o", 6, BLUE, BLUE),
    "pessimistic": ("s", 10, "none", RED),
    "careless, 0.1 %": ("D", 7, RED, RED),
}
_INK = "#333333"
_LEAST_MWH = 0.01  # below, nothing is drawn on an axis of powers of ten


def bills(bill: Axes, price: Axes, w_mw: np.ndarray, tariffs: Mapping[str, Tariff]) -> None:
    """Bill of one hub in one hour against what it withdraws, and the bill's slope.

    Parameters
    ----------
    bill, price : matplotlib.axes.Axes
        Of the bill, EUR, and of its slope, EUR/MWh.
    w_mw : numpy.ndarray, shape (n,)
        Net withdrawals, increasing; below 0 exports.
    tariffs : mapping of str to flexlib.tariffs.Tariff
        For one hub and one hour, under their label; five at most.
    """
    middle = (w_mw[1:] + w_mw[:-1]) / 2
    for (label, tariff), colour, style in zip(tariffs.items(), COLOURS, STYLES, strict=False):
        eur = np.array(
            [tariff.bill_eur(np.array([[max(w, 0)]]), np.array([[max(-w, 0)]]))[0] for w in w_mw]
        )
        bill.plot(w_mw, eur, color=colour, ls=style, lw=2, label=label)
        price.plot(middle, np.diff(eur) / np.diff(w_mw), color=colour, ls=style, lw=2, label=label)
    for axes in (bill, price):
        axes.axhline(0.0, color=_INK, lw=0.8)


def decay(
    axes: Axes, found: pd.DataFrame, colour: str, name: str, mark: str, bound: str = "--"
) -> None:
    """Congestion found, or bracketed, and the proven bound against a margin or a curvature.

    Answers with less than 0.01 MWh are not drawn.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    found : pandas.DataFrame
        Columns size, at_least_mwh, at_most_mwh and bound_mwh.
    colour, name, mark : str
        Of this tariff.
    bound : str
        Style of the bound's line.
    """
    size, drawn = found["size"], found[found["at_least_mwh"] > _LEAST_MWH]
    axes.plot(size, found["bound_mwh"], bound, color=colour, lw=1.6, label=f"{name}: proven bound")
    axes.fill_between(
        drawn["size"], drawn["at_least_mwh"], drawn["at_most_mwh"], color=colour, alpha=0.25
    )
    axes.plot(
        drawn["size"], drawn["at_least_mwh"], mark, ls="-", color=colour, lw=1.6, ms=6,
        label=f"{name}: worst answer",
    )  # fmt: skip


def standings(axes: Axes, rows: Sequence[tuple[str, pd.DataFrame]], best_mwh: float) -> None:
    """Congestion under each tariff by the kind of hub, and what is proven of careless ones.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    rows : sequence of (str, pandas.DataFrame)
        Label and table, index the followers, columns congestion_mwh, at_most_mwh and bound_mwh
        (not a number where nothing is proven), from top to bottom.
    best_mwh : float
        Least congestion there can be.
    """
    axes.axvline(best_mwh, color=_INK, ls=":", lw=1.4)
    for y, (_, table) in enumerate(rows):
        value, most = table["congestion_mwh"], table["at_most_mwh"].max()
        axes.plot([value.min(), most], [y, y], color="#D3D3D3", lw=6, solid_capstyle="round")
        for kind, (marker, size, face, edge) in _KINDS.items():
            label = kind if y == 0 else None
            axes.plot(value[kind], y, marker, ms=size, mfc=face, mec=edge, mew=1.7, label=label)
        bound = table["bound_mwh"].iloc[-1]
        axes.plot(bound, y, "|", ms=15, mew=2.2, color=_INK, label="" if y else None)
    axes.plot([], [], "|", ms=12, mew=2.2, color=_INK, label="proven for careless hubs")
    axes.set_xscale("symlog", linthresh=1.0, linscale=1.2)
    axes.set_xticks([0, 0.5, 1, 5, 10, 50], ["0", "0.5", "1", "5", "10", "50"])
    axes.set_xlim(-0.06, 130)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.minorticks_off()
