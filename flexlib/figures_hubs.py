"""Figures of energy hubs: a hub, its feeder, schedules, and what they do to the grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage

from flexlib.errors import DataError, Fault
from flexlib.figures import BLUE, GREEN, GREY, ORANGE, RED
from flexlib.hub_followers import Schedule
from flexlib.hub_grid import HubGrid

PURPLE, SKY = "#CC79A7", "#56B4E9"
_INK = "#333333"
_NEGLIGIBLE_MW = 1e-6
# Of a hub's power balance: label, colour, what is taken, what is given.
_BALANCE = (
    ("fixed demand", GREY, "demand", None),
    ("flexible load", PURPLE, "u", None),
    ("battery", GREEN, "p_ch", "p_dis"),
    ("electrolyser, fuel cell", SKY, "p_el", "power of h_fc"),
    ("PV used", ORANGE, None, "pv"),
    ("generator", RED, None, "g"),
    ("grid", BLUE, "m_out", "m_in"),
)
_CONTENTS = (
    ("e", GREEN, "-", "battery e"),
    ("h", SKY, "--", "hydrogen store h"),
    ("a", PURPLE, ":", "backlog a"),
)


def hour_map(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    *,
    first_hour: int = 0,
    most: float | None = None,
) -> AxesImage:
    """Heat map of values from 0: one row each, hours to the right.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : numpy.ndarray, shape (rows, hours)
        Zeros stay white.
    rows : sequence of str
        Names.
    first_hour : int
        Number of the first hour.
    most : float, optional
        End of the colour scale, to share it between maps; the largest value by default.

    Returns
    -------
    matplotlib.image.AxesImage
        For ``figure.colorbar``.
    """
    top = float(values.max(initial=0.0)) if most is None else most
    hours = values.shape[1]
    image = axes.imshow(
        values,
        cmap="YlOrRd",
        norm=Normalize(0.0, top if top > 0 else 1.0),
        aspect="auto",
        interpolation="nearest",
        extent=(first_hour - 0.5, first_hour + hours - 0.5, len(rows) - 0.5, -0.5),
        alpha=(values > _NEGLIGIBLE_MW).astype(float),
    )
    axes.set_yticks(np.arange(len(rows)), [str(row).replace("_", " ") for row in rows])
    step = 3 if hours > 12 else 1
    axes.set_xticks(np.arange(first_hour, first_hour + hours, step))
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.set_xticks(np.arange(first_hour, first_hour + hours + 1) - 0.5, minor=True)
    axes.grid(visible=False)
    axes.grid(visible=True, which="minor", color="#E3E3E3", lw=0.6)
    axes.tick_params(which="both", length=0)
    return image


def overload_map(
    axes: Axes,
    grid: HubGrid,
    w_mw: np.ndarray,
    *,
    first_hour: int = 0,
    most_mw: float | None = None,
) -> AxesImage:
    """Heat map of overloads, MW: rows of the grid, hours to the right.

    A dot marks what is over in the direction of export.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    grid : HubGrid
    w_mw : numpy.ndarray, shape (hubs, hours)
        Net withdrawals.
    first_hour : int
        Number of the first hour.
    most_mw : float, optional
        End of the colour scale, to share it between maps; the largest overload by default.

    Returns
    -------
    matplotlib.image.AxesImage
        For ``figure.colorbar``.
    """
    over = grid.overload_mw(w_mw)
    image = hour_map(axes, over, grid.names, first_hour=first_hour, most=most_mw)
    reverse = (over > _NEGLIGIBLE_MW) & (grid.loading_mw(w_mw) < 0)
    row, hour = np.nonzero(reverse)
    axes.plot(first_hour + hour, row, "o", ms=4, color=BLUE, mec="white", mew=0.5)
    return image


def schedule_bars(axes: Sequence[Axes], schedule: Schedule, hub: str) -> None:
    """Powers of one hub, hour by hour, and what its stores hold.

    Consumption is above zero and supply below; the two are equal. Export counts as consumption.

    Parameters
    ----------
    axes : sequence of two matplotlib.axes.Axes
        For the powers, and for the contents at the end of each hour.
    schedule : Schedule
    hub : str
        Its identifier.
    """
    powers, contents = axes
    hubs = schedule.programme.hubs
    k = hubs.table["hub"].tolist().index(hub)
    values = schedule.frame(hub)
    hour = values.index.to_numpy()
    values["demand"], values["pv"] = hubs.demand_mw[k], hubs.pv_mw[k] - values["c_pv"]
    values["power of h_fc"] = hubs.table["fuel_cell_eff"].iloc[k] * values["h_fc"]
    above, below = np.zeros(len(hour)), np.zeros(len(hour))
    for label, colour, taken, given in _BALANCE:
        if taken:
            _bars(powers, values[taken], above, colour, label)
            above += values[taken].to_numpy()
        if given:
            _bars(powers, -values[given], below, colour, "" if taken else label)
            below -= values[given].to_numpy()
    powers.axhline(0.0, color=_INK, lw=0.8)
    powers.set(ylabel="supply | consumption [MW]", title=hub.replace("_", " "))
    first = hubs.table.iloc[k]
    start = {
        "e": first["battery_initial_soc"] * first["battery_mwh"],
        "h": first["h2_initial_fill"] * first["h2_store_mwh"],
        "a": 0.0,
    }
    edges = np.append(hour[0] - 0.5, hour + 0.5)
    for name, colour, line, label in _CONTENTS:
        held = np.append(start[name], values[name])
        contents.plot(edges, held, line, color=colour, lw=1.8, label=label)
    contents.set(ylabel="content [MWh]", xlabel="hour")
    contents.set_ylim(bottom=min(0.0, contents.get_ylim()[0]))
    for ax in axes:
        ax.set_xticks(hour[:: 3 if len(hour) > 12 else 1])
        ax.grid(axis="x", visible=False)


def feeder_of_hubs(axes: Axes, hubs: Sequence[str], grid: HubGrid) -> None:
    """Draw a feeder: the substation to the left, each line under its name, hubs to the right.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    hubs : sequence of str
        Names, in the order of the grid's columns.
    grid : HubGrid
        Each line carries some hubs wholly, and two lines share all hubs of one of them or none.

    Raises
    ------
    DataError
        If lines and hubs are no tree.
    """
    carried = [frozenset(np.flatnonzero(row).tolist()) for row in grid.factor.toarray()]
    order = sorted(range(len(carried)), key=lambda k: -len(carried[k]))
    depth, height = _tree(carried, order, grid)
    root = (0.0, (1 - len(hubs)) / 2)
    axes.plot(*root, "s", ms=16, color="white", mec=_INK, zorder=4)
    axes.annotate("substation", root, (0, -22), textcoords="offset points", ha="center", fontsize=9)
    far = max(depth) + 0.45
    for k in order:
        above = [j for j in order[: order.index(k)] if carried[k] <= carried[j]]
        start = (depth[above[-1]], height[above[-1]]) if above else root
        axes.plot([start[0], start[0], depth[k]], [start[1], *[height[k]] * 2], color=GREY, lw=2)
        axes.text(depth[k] - 0.5, height[k] + 0.08, grid.lines[k].replace("_", " "),
                  ha="center", va="bottom", fontsize=9, color=_INK)  # fmt: skip
        axes.plot(depth[k], height[k], "o", ms=6, color=_INK, zorder=3)
        axes.annotate("", (depth[k] - 0.04, height[k] - 0.3), (depth[k] - 0.04, height[k]),
                      arrowprops={"arrowstyle": "-|>", "color": ORANGE, "lw": 1.4})  # fmt: skip
    for k, name in enumerate(hubs):
        last = max((j for j in order if k in carried[j]), key=lambda j: depth[j])
        axes.plot([depth[last], far], [height[last], -k], color=GREY, lw=2, zorder=1)
        _box(axes, far, -k, name.replace("_", " "), BLUE)
    axes.plot([], [], color=ORANGE, marker="v", lw=1.4, label="background consumption")
    axes.legend(loc="lower left", fontsize=9)
    axes.set(xlim=(-0.4, far + 0.4), ylim=(0.3 - len(hubs), 0.5))
    axes.axis("off")


def hub_diagram(axes: Axes) -> None:
    """Draw the node of one hub and what is connected to it, with the twelve variables.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    """
    axes.plot([5, 5], [0.3, 6.7], color=_INK, lw=5, solid_capstyle="round", zorder=3)
    axes.text(5, 6.95, "power balance", ha="center", fontsize=9)
    # text, colour, x, y, label, ends of an arrow (towards the node: True)
    parts = (
        ("grid", BLUE, 1.2, 6.1, (("$m^{in}$", True), ("$m^{out}$", False))),
        ("PV", ORANGE, 1.2, 4.5, (("$PV^{avail} - c^{PV}$", True),)),
        ("generator", RED, 1.2, 2.9, (("$g$", True),)),
        ("battery\ncontent $e$", GREEN, 1.2, 1.1, (("$p^{dis}$", True), ("$p^{ch}$", False))),
        ("fixed demand", GREY, 8.8, 6.1, (("$D^{fix}$", False),)),
        ("flexible load\nbacklog $a$", PURPLE, 8.8, 4.5, (("$u$", False),)),
        ("electrolyser", SKY, 8.8, 2.9, (("$p^{el}$", False),)),
        ("fuel cell", SKY, 8.8, 1.1, (("$\\eta^{fc} h^{fc}$", True),)),
    )
    for text, colour, x, y, flows in parts:
        _box(axes, x, y, text, colour)
        side = -1 if x < 5 else 1
        for k, (label, inward) in enumerate(flows):
            at = y + (0.28 if len(flows) == 2 else 0.0) * (1 - 2 * k)
            ends = [(5 + side * 2.55, at), (5 + side * 0.12, at)]
            start, end = ends if inward else ends[::-1]
            _arrow(axes, start, end, colour)
            axes.text(5 + side * 1.3, at + 0.08, label, ha="center", va="bottom", fontsize=9)
    _box(axes, 12.1, 2.0, "hydrogen store\ncontent $h$", SKY)
    _arrow(axes, (9.7, 2.9), (11.6, 2.55), SKY)
    axes.text(10.75, 2.85, "$\\eta^{el} p^{el}$", ha="center", va="bottom", fontsize=9)
    _arrow(axes, (11.6, 1.45), (9.5, 1.1), SKY)
    axes.text(10.45, 0.78, "$h^{fc}$", ha="center", va="bottom", fontsize=9)
    _arrow(axes, (13.55, 2.0), (14.9, 2.0), SKY)
    axes.text(14.3, 2.1, "offtake", ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(0, 15.0), ylim=(0, 7.5))
    axes.axis("off")


def _bars(axes: Axes, values: pd.Series, bottom: np.ndarray, colour: str, label: str) -> None:
    axes.bar(
        values.index, values, 0.86, bottom, label=label, color=colour, edgecolor="white",
        linewidth=0.4,
    )  # fmt: skip


def _box(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    style = {"boxstyle": "round,pad=0.45", "fc": "white", "ec": colour, "lw": 1.6}
    axes.text(x, y, text, ha="center", va="center", fontsize=9, zorder=4, bbox=style)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6})


def _tree(
    carried: list[frozenset[int]], order: list[int], grid: HubGrid
) -> tuple[list[int], list[float]]:
    """Place of the far end of each line: steps from the substation, mean of its hubs."""
    depth = [0] * len(carried)
    for place, k in enumerate(order):
        above = [j for j in order[:place] if carried[k] & carried[j]]
        if any(not carried[k] <= carried[j] for j in above):
            found = f"hubs {sorted(carried[k])}"
            raise DataError([Fault("grid", grid.lines[k], "factor", found, "a tree of lines")])
        depth[k] = 1 + max((depth[j] for j in above), default=0)
    return depth, [-float(np.mean(sorted(members))) for members in carried]
