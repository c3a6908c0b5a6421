"""Figures of activated bids in a grid: maps of its state, and the linear model beside AC."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flexlib.admittance import Admittance
from flexlib.bids import Bids, Connected
from flexlib.figures import BLUE, GREEN, GREY, ORANGE, RED
from flexlib.light_model import LightModel
from flexlib.network import Network
from flexlib.powerflow import power_flow
from flexlib.voronoi_ac import Comparison
from flexlib.voronoi_cells import border_excess, loading_excess, voltage_excess

_ACCEPTED = 1e-6  # p.u. and per cent beyond a limit that are rounding
_HEAVY_PERCENT = 50.0
_ENLARGED = 1.6  # how much wider low-voltage grids are drawn around their stations


def maps(connected: Connected, activations: Mapping[str, np.ndarray]) -> Figure:
    """Draw the AC state of a grid for some activations, two maps beside each other.

    Overloaded branches are red (the source's Figures 5 and 6), buses beyond a voltage limit carry
    an orange dot. Not to scale.

    Parameters
    ----------
    connected : Connected
        Its network's buses carry x and y.
    activations : mapping of str to numpy.ndarray, shape (axes,)
        Title of each map and the value of each axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    network = connected.network
    flow = power_flow(connected.activated, connected.loads_kva(np.array([*activations.values()])))
    i_max_a = Admittance(network).ends["i_max_a"].to_numpy()
    loading = 100 * np.abs(flow.i_a) / i_max_a
    branch_percent = loading.reshape(len(loading), 2, -1).max(axis=1)
    xy = _places(network)
    lines = -(-len(activations) // 2)
    figure, axes = plt.subplots(lines, 2, figsize=(7.4, 3.2 * lines + 0.5), squeeze=False)
    for ax in axes.ravel():
        ax.axis("off")
    states = zip(axes.ravel(), activations, branch_percent, np.abs(flow.v_pu), strict=False)
    for ax, title, percent, v_pu in states:
        _map(ax, network, xy, percent, v_pu)
        over = int((percent > 100 + _ACCEPTED).sum())
        outside = int(_outside(network, v_pu).sum())
        branches = "1 branch" if over == 1 else f"{over} branches"
        voltages = "1 voltage" if outside == 1 else f"{outside} voltages"
        found = f"{branches} overloaded, {voltages} out"
        ax.set_title(f"{title}\n{found}", fontsize=9)
    figure.legend(handles=_map_legend(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def against_ac(comparison: Comparison, count: int = 12) -> Figure:
    """Voltages and loadings of critical elements by the model and by AC, and their difference.

    The source's Figures 7 and 8.

    Parameters
    ----------
    comparison : Comparison
    count : int
        Buses nearest to a voltage limit, and most loaded branches, that are shown.

    Returns
    -------
    matplotlib.figure.Figure
    """
    network, model = comparison.connected.network, comparison.activation.model
    room_pu = np.minimum(model.v_max_pu - comparison.v_ac_pu, comparison.v_ac_pu - model.v_min_pu)
    shown = np.argsort(room_pu, kind="stable")[:count]
    nearest = comparison.v_ac_pu[shown[0]]
    limit_pu = min(
        (model.v_min_pu[shown[0]], model.v_max_pu[shown[0]]), key=lambda v: abs(v - nearest)
    )
    figure, axes = plt.subplots(
        2, 2, figsize=(7.4, 5.6), height_ratios=(1.6, 1), sharex="col", squeeze=False
    )
    names = network.buses["bus"].to_numpy()[model.bus[shown]]
    pair = comparison.v_pu[shown], comparison.v_ac_pu[shown]
    _beside(axes[:, 0], list(names), *pair, float(limit_pu))
    axes[0, 0].set(ylabel="voltage [p.u.]", title="buses nearest to a limit")
    axes[1, 0].set(ylabel="model less AC [p.u.]")
    shown = np.argsort(-comparison.loading_ac_percent, kind="stable")[:count]
    names = network.branches["branch"].to_numpy()[comparison.branch[shown]]
    pair = comparison.loading_percent[shown], comparison.loading_ac_percent[shown]
    _beside(axes[:, 1], list(names), *pair, 100.0)
    axes[0, 1].set(ylabel="loading [%]", title="most loaded branches")
    axes[1, 1].set(ylabel="model less AC [%]")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    return figure


def cells_of_two(model: LightModel, bids: Bids, request_kw: float, chosen: np.ndarray) -> Figure:
    """Cells of a light model of two bids, what is admissible in each, and the request.

    Parameters
    ----------
    model : LightModel
        Of two axes, both upward or both downward.
    bids : Bids
    request_kw : float
        Upward positive.
    chosen : numpy.ndarray, shape (2,)
        The optimum, marked by a star.

    Returns
    -------
    matplotlib.figure.Figure
    """
    side = np.linspace(0.0, 1.0, 201)
    end = np.where(bids.upper > 0, bids.upper, bids.lower)
    x, y = end[0] * side, end[1] * side
    z = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    cell = np.array([model.nearest(at) for at in z])
    excess = [
        max(voltage_excess(model, c, at).max(), loading_excess(model, c, at, printed=False).max())
        for c, at in zip(cell, z, strict=True)
    ]
    figure, ax = plt.subplots(figsize=(5.8, 4.8))
    shape = (len(y), len(x))
    ax.contourf(x, y, np.reshape(excess, shape), [-1e9, 0], colors=[GREEN], alpha=0.25)
    cost = np.array([bids.cost_eur_per_h(at) for at in z]).reshape(shape)
    lines = ax.contour(x, y, cost, 6, colors=GREY, linewidths=0.7)
    ax.clabel(lines, fmt="%.0f EUR/h", fontsize=8)
    for k in range(len(model.point)):
        beyond = np.array([np.delete(border_excess(model, k, at), k) for at in z])
        inside = beyond.max(axis=1).reshape(shape)
        ax.contour(x, y, inside, [0.0], colors=[BLUE], linewidths=1.4)
    ax.plot(*model.point.T, "o", color=BLUE, ms=7, label="points $P_i$", clip_on=False, zorder=4)
    ax.plot(x, request_kw - x, color=RED, lw=1.6, label=f"request of {request_kw:g} kW")
    ax.plot(*chosen, "*", ms=16, color=ORANGE, mec="#333333", label="optimum", zorder=5)
    ax.set(xlim=sorted((0, end[0])), ylim=sorted((0, end[1])))
    ax.set(xlabel=f"{bids.axes['axis'][0]} [kW]", ylabel=f"{bids.axes['axis'][1]} [kW]")
    handles, _ = ax.get_legend_handles_labels()
    handles += [
        Line2D([], [], color=BLUE, lw=1.4, label="borders of cells"),
        Line2D([], [], color=GREEN, alpha=0.4, lw=8, label="limits hold"),
        Line2D([], [], color=GREY, lw=0.7, label="equal cost"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _places(network: Network) -> np.ndarray:
    """Coordinates of the buses, low-voltage grids enlarged around their stations."""
    xy = network.buses[["x", "y"]].to_numpy(dtype=float)
    v_nom_kv = network.buses["v_nom_kv"].to_numpy()
    low = v_nom_kv < v_nom_kv.max()
    stations = xy[~low]
    away = np.linalg.norm(xy[:, None] - stations[None], axis=2)
    station = stations[away.argmin(axis=1)]
    return np.where(low[:, None], station + _ENLARGED * (xy - station), xy)


def _outside(network: Network, v_pu: np.ndarray) -> np.ndarray:
    """Whether each voltage is beyond a limit; never at the slack and PV buses, shape (buses,)."""
    low, high = network.buses["v_min_pu"].to_numpy(), network.buses["v_max_pu"].to_numpy()
    outside = np.maximum(v_pu - high, low - v_pu) > _ACCEPTED
    outside[[network.slack, *network.pv]] = False
    return np.asarray(outside)


def _map(ax: Axes, network: Network, xy: np.ndarray, percent: np.ndarray, v_pu: np.ndarray) -> None:
    """Draw one state of a grid."""
    v_nom_kv = network.buses["v_nom_kv"].to_numpy()
    medium = v_nom_kv == v_nom_kv.max()
    for f, t, loading in zip(network.from_bus, network.to_bus, percent, strict=True):
        colour, width = GREY, 0.8
        style = "--" if medium[[f, t]].all() else "-"
        if loading > 100 + _ACCEPTED:
            colour, width = RED, 3.0
        elif loading > _HEAVY_PERCENT:
            colour, width = BLUE, 1.6
        line = ax.plot(*xy[[f, t]].T, style, color=colour, lw=width, zorder=width)
        line[0].set_solid_capstyle("round")
    outside = _outside(network, v_pu)
    ax.plot(*xy[outside].T, "o", ms=3, color=ORANGE, alpha=0.6, zorder=0.5)
    ax.plot(*xy[medium].T, "s", ms=5, color="#333333", zorder=6)
    ax.plot(*xy[network.slack], "s", ms=10, color="white", mec="#333333", zorder=6)
    ax.margins(0.03)


def _map_legend() -> list[Line2D]:
    return [
        Line2D([], [], color=RED, lw=3, label="above 100 % (AC)"),
        Line2D([], [], color=BLUE, lw=1.6, label=f"above {_HEAVY_PERCENT:g} %"),
        Line2D([], [], color=GREY, lw=0.8, label="below"),
        Line2D([], [], ls="", marker="o", ms=4, color=ORANGE, label="voltage out of limits"),
        Line2D([], [], ls="", marker="s", ms=5, color="#333333", label="station"),
        Line2D([], [], ls="", marker="s", ms=9, color="white", mec="#333333", label="slack"),
    ]


def _beside(
    axes: np.ndarray, names: list[str], by_model: np.ndarray, by_ac: np.ndarray, limit: float
) -> None:
    """Fill a column of two panels: values with their limit, and differences."""
    at = np.arange(len(names))
    axes[0].axhline(limit, color=RED, lw=1.2, label="limit")
    axes[0].plot(at, by_ac, "o", ms=5, color=BLUE, label="AC power flow")
    axes[0].plot(at, by_model, "o", ms=10, mfc="none", mec=ORANGE, mew=1.6, label="linear model")
    axes[1].bar(at, by_model - by_ac, 0.6, color=GREY)
    axes[1].axhline(0.0, color="#333333", lw=0.8)
    axes[1].set_xticks(at, names, rotation=90, fontsize=7)
    axes[0].ticklabel_format(axis="y", useOffset=False)
    axes[1].ticklabel_format(axis="y", scilimits=(-2, 3))
    for ax in axes:
        ax.grid(axis="x", visible=False)
