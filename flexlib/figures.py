"""Figures of the book, one function a picture; colours that also work for colour-blind readers."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from flexlib.market import Market
from flexlib.robust_certificate import State

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6E6E6E"
CASE_COLOURS = (BLUE, ORANGE, RED)


def use_style() -> None:
    """Set the look of all figures: white ground, no frame where none is needed, SVG output."""
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E3E3E3",
            "legend.frameon": False,
            "svg.fonttype": "path",
            "svg.hashsalt": "flexlib",
        }
    )
    if "matplotlib_inline" in sys.modules:  # within a notebook
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})  # type: ignore[no-untyped-call]


def feeder(market: Market) -> Figure:
    """Single-line diagram of a feeder drawn at its buses' coordinates, PODs marked by kind.

    Parameters
    ----------
    market : Market
        Its network's buses carry x and y.

    Returns
    -------
    matplotlib.figure.Figure
    """
    network = market.network
    x, y = network.buses["x"].to_numpy(), network.buses["y"].to_numpy()
    figure, ax = plt.subplots(figsize=(7.4, 2.6))
    rated = network.branches[["i_max_from_a", "i_max_to_a"]].min(axis=1)
    for f, t, i_max_a, name in zip(
        network.from_bus, network.to_bus, rated, network.branches["branch"], strict=True
    ):
        limited = bool(np.isfinite(i_max_a))
        ax.plot(x[[f, t]], y[[f, t]], color=RED if limited else GREY, lw=3 if limited else 1.5)
        if limited:
            at = ((x[f] + x[t]) / 2, max(y[f], y[t]) + 0.75)
            label = f"branch {name}: limit {i_max_a:g} A"
            ax.text(*at, label, ha="center", color=RED, fontsize=9)
    flexible = set(network.load_bus[market.offer_load].tolist())
    uncertain = set(network.load_bus[market.uncertainty.load].tolist())
    for bus, name in enumerate(network.buses["bus"]):
        colour = ORANGE if bus in flexible else BLUE
        ax.plot([x[bus]] * 2, y[bus] + np.array([-0.22, 0.22]), color="#333333", lw=4, zorder=3)
        ax.text(x[bus], y[bus] + 0.32, name, ha="center", fontsize=9)
        if bus in flexible | uncertain:
            ax.plot([x[bus]] * 2, [y[bus], y[bus] - 0.62], color=colour, lw=1.2)
            ax.plot(x[bus], y[bus] - 0.74, "o", ms=11, color=colour, zorder=3)
    for load, bus, p_kw in zip(
        network.loads["load"], network.load_bus, network.loads["p_kw"], strict=True
    ):
        ax.text(x[bus], y[bus] - 1.0, f"{load}\n{p_kw:g} kW", ha="center", va="top", fontsize=8)
    slack = network.slack
    ax.plot(x[slack], y[slack], "s", ms=14, color="white", mec="#333333", zorder=4)
    v_pu = network.buses["v_slack_pu"].iloc[slack]
    ax.text(x[slack], y[slack] - 0.45, f"slack\n{v_pu:.1f} p.u.", ha="center", va="top", fontsize=8)
    for colour, text in ((ORANGE, "uncertain and flexible"), (BLUE, "uncertain")):
        ax.plot([], [], "o", ms=9, color=colour, label=text)
    ax.legend(loc="upper right", ncols=2)
    ax.set_ylim(y.min() - 1.7, y.max() + 1.3)
    ax.axis("off")
    return figure


def phasors(
    markets: Sequence[Market],
    before: Sequence[State],
    after: Sequence[State],
    names: Sequence[str],
    end: int,
) -> Figure:
    """Current of one branch end over the box, before and after activation, and its polygon.

    Parameters
    ----------
    markets : sequence of Market
        One for each case, with the same limit.
    before, after : sequence of State
        For each case, the state without and with activation.
    names : sequence of str
        Names of the cases.
    end : int
        Position of the branch end.

    Returns
    -------
    matplotlib.figure.Figure
        The whole circle with the baselines, and for each case the part near the limit.
    """
    planes, i0_a = markets[0].planes, markets[0].flow.i0_a[end]
    i_max_a = float(markets[0].flow.admittance.ends["i_max_a"].iloc[end])
    half_side = np.exp(1j * np.pi / planes.count)
    corners = i_max_a * planes.apothem * planes.normals(i0_a) * half_side / half_side.real
    figure, axes = plt.subplots(2, 2, figsize=(7.4, 7.2))
    whole, *near = axes.ravel()
    reached = []
    for ax, name, market, *states in zip(near, names, markets, before, after, strict=True):
        for state, colour, style in zip(states, (RED, BLUE), ("before", "after"), strict=True):
            image = state.i_end_a[end] + market.uncertainty.image(market.uncertain[1][end])
            ax.add_patch(Polygon(_xy(image), fc=colour, ec=colour, alpha=0.35, lw=1))
            worst = image[np.abs(image).argmax()]
            ax.plot(worst.real, worst.imag, "o", color=colour, ms=6, label=f"worst {style}")
            reached.append(worst)
        ax.set_title(f"{name}, near the limit")
    for colour, state in zip(CASE_COLOURS, after, strict=False):
        tip = state.i_end_a[end]
        whole.plot([0, tip.real], [0, tip.imag], color=colour, lw=1)
        whole.plot(tip.real, tip.imag, "o", color=colour, ms=4)
    for ax in axes.ravel():
        ax.add_patch(Circle((0, 0), i_max_a, fill=False, color="#333333", lw=1.2))
        ax.add_patch(Polygon(_xy(corners), fill=False, color=GREEN, lw=1.4))
        ax.set_aspect("equal")
        ax.set(xlabel="real part [A]", ylabel="imaginary part [A]")
    middle = np.mean(reached)
    half = 1.35 * max(np.abs([z - middle for z in reached]).max(), 1.0)
    for ax in near:
        ax.set(xlim=(middle.real - half, middle.real + half))
        ax.set(ylim=(middle.imag - half, middle.imag + half))
    near[0].legend(loc="lower right", fontsize=8)
    edge = 1.08 * i_max_a
    whole.set(xlim=(-edge, edge), ylim=(-edge, edge), title="baseline after activation")
    whole.plot([], [], color=GREEN, label=f"{planes.count} planes")
    whole.plot([], [], color="#333333", label=f"limit {i_max_a:g} A")
    for colour, name in zip(CASE_COLOURS, names, strict=False):
        whole.plot([], [], "o-", color=colour, ms=4, label=name)
    whole.legend(loc="center left", bbox_to_anchor=(0.12, 0.6), fontsize=8)
    return figure


def worst_currents(table: pd.DataFrame, i_max_a: float) -> Figure:
    """Bars of branch currents: baseline, worst before and worst after activation, per case.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns branch, case, i0_a, i_before_a, i_after_a.
    i_max_a : float
        Limit, drawn as a line.

    Returns
    -------
    matplotlib.figure.Figure
    """
    branches = table["branch"].unique()
    figure, axes = plt.subplots(1, len(branches), figsize=(7.4, 3.6), sharey=True)
    for ax, branch in zip(np.atleast_1d(axes), branches, strict=True):
        rows = table[table["branch"] == branch]
        at = np.arange(len(rows))
        series = (("i0_a", GREY, "baseline"), ("i_before_a", BLUE, "worst case, nothing activated"),
                  ("i_after_a", GREEN, "worst case after activation"))  # fmt: skip
        for k, (column, colour, label) in enumerate(series):
            bars = ax.bar(at + (k - 1) * 0.3, rows[column], 0.28, color=colour, label=label)
            ax.bar_label(
                bars, fmt="%.1f A", fontsize=8, label_type="center", rotation=90, color="white"
            )
        ax.axhline(i_max_a, color=RED, lw=1.2)
        ax.set_xticks(at, [f"case {case}" for case in rows["case"]])
        ax.set_title(f"branch {branch}")
        ax.grid(axis="x", visible=False)
    first, last = np.atleast_1d(axes)[[0, -1]]
    first.set(ylabel="current [A]", ylim=(0, 1.2 * i_max_a))
    _percent_axis(last, i_max_a)
    last.text(-0.45, i_max_a + 1, f"limit {i_max_a:g} A", color=RED, fontsize=8, va="bottom")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def activation(table: pd.DataFrame) -> Figure:
    """Activated upward flexibility by case and POD, in kilowatt and as a share of the offer.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns case, load, up_kw, up_max_kw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.2), width_ratios=(1, 1.5))
    loads, cases = table["load"].unique(), table["case"].unique()
    bottom = np.zeros(len(cases))
    for colour, load in zip((BLUE, ORANGE, GREEN), loads, strict=True):
        rows = table[table["load"] == load]
        left.bar(np.arange(len(cases)), rows["up_kw"], 0.55, bottom, color=colour, label=load)
        bottom += rows["up_kw"].to_numpy()
    for k, total in enumerate(bottom):
        left.text(k, total + 3, f"{total:.1f}", ha="center", fontsize=9)
    left.set_xticks(np.arange(len(cases)), [f"case {case}" for case in cases])
    left.set(ylabel="upward flexibility [kW]", title="total", ylim=(0, 1.15 * max(bottom.max(), 1)))
    left.legend()
    for k, case in enumerate(cases):
        rows = table[table["case"] == case]
        share = 100 * rows["up_kw"] / rows["up_max_kw"]
        at = np.arange(len(loads)) + (k - 1) * 0.27
        bars = right.bar(at, share, 0.25, color=CASE_COLOURS[k], label=f"case {case}")
        right.bar_label(bars, fmt="%.0f", fontsize=8, padding=1)
    right.set_xticks(np.arange(len(loads)), loads)
    right.set(ylabel="share of the offer [%]", title="by POD", ylim=(0, 118))
    right.legend(ncols=3, loc="upper right")
    for ax in (left, right):
        ax.grid(axis="x", visible=False)
    return figure


def deviation_errors(errors: pd.DataFrame) -> Figure:
    """Largest error of the linear Delta-I against AC power flow, per case.

    Parameters
    ----------
    errors : pandas.DataFrame
        Columns case, error_a (all corners), published_a (random draws of the source).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, ax = plt.subplots(figsize=(5.5, 3))
    at = np.arange(len(errors))
    for shift, column, colour, label in (
        (-0.19, "error_a", BLUE, "all corners of the box (ours)"),
        (0.19, "published_a", GREY, "random draws (published)"),
    ):
        bars = ax.bar(at + shift, errors[column], 0.36, color=colour, label=label)
        ax.bar_label(bars, fmt="%.3f", fontsize=8, padding=1)
    ax.set_xticks(at, [f"case {case}" for case in errors["case"]])
    ax.set(ylabel="AC less model [A]", ylim=(0, 1.3 * errors["error_a"].max()))
    ax.legend(loc="upper left")
    ax.grid(axis="x", visible=False)
    return figure


def relief(table: pd.DataFrame) -> Figure:
    """What one kilowatt of each POD takes off the line, beside its apparent power.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns load, relief_a_per_kw, s_kva_per_kw; flexible (bool).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, ax = plt.subplots(figsize=(6, 3.4))
    for flexible, colour, label, size in (
        (False, BLUE, "not flexible", 11),
        (True, ORANGE, "flexible", 7),
    ):
        rows = table[table["flexible"] == flexible]
        ax.plot(rows["s_kva_per_kw"], 1000 * rows["relief_a_per_kw"], "o", color=colour, ms=size,
                label=label)  # fmt: skip
    for _, group in table.groupby(table["s_kva_per_kw"].round(3)):
        at = (group["s_kva_per_kw"].mean(), 1000 * group["relief_a_per_kw"].max())
        text = ", ".join(group["load"])
        ax.annotate(text, at, (-9, 5), textcoords="offset points", fontsize=9, ha="right")
    ax.set(xlabel="apparent power per kW [kVA/kW]", ylabel="relief of branch 2-3 [mA/kW]")
    ax.margins(0.2)
    ax.legend(loc="upper left")
    return figure


def _xy(z: np.ndarray) -> np.ndarray:
    return np.column_stack([z.real, z.imag])


def _percent_axis(ax: Axes, full: float) -> None:
    def to_percent(value: np.ndarray) -> np.ndarray:
        return 100 * value / full

    def from_percent(value: np.ndarray) -> np.ndarray:
        return value * full / 100

    percent = ax.secondary_yaxis("right", functions=(to_percent, from_percent))  # type: ignore[arg-type]
    percent.set_ylabel("of the limit [%]")
    percent.spines["right"].set_visible(True)
