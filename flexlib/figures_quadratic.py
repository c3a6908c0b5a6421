"""Figures of the quadratic follower: its answer beside a linear one's, tangents, ways downhill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from flexlib.figures import BLUE, GREEN, GREY, ORANGE, RED

_INK = "#333333"
_STYLES = ((RED, "-"), (ORANGE, "--"), (GREY, "-"), (BLUE, "-"), (GREEN, "--"))


def responses(
    axes: Axes, adder: np.ndarray, quadratic: np.ndarray, linear: np.ndarray, kinks: Sequence[float]
) -> None:
    """A quantity against an adder: a line with kinks, and the steps of a linear follower.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    adder : numpy.ndarray, shape (points,)
        EUR/MWh, increasing.
    quadratic, linear : numpy.ndarray, shape (points,)
        Of the two followers.
    kinks : sequence of float
        Adders at which the line has a kink, EUR/MWh.
    """
    axes.plot(adder, linear, color=GREY, lw=1.6, drawstyle="steps-mid", label="linear hub")
    axes.plot(adder, quadratic, color=BLUE, lw=2, label="quadratic hub")
    if len(kinks):
        at = np.interp(kinks, adder, quadratic)
        axes.plot(kinks, at, "o", ms=5, mfc="white", mec=BLUE, mew=1.4, label="kink")


def tangents(
    axes: Axes,
    adder: np.ndarray,
    value: np.ndarray,
    point: tuple[float, float],
    slopes: Mapping[str, float],
) -> None:
    """A line near a kink, with tangents through it.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    adder, value : numpy.ndarray, shape (points,)
    point : tuple of float
        The kink: adder and value.
    slopes : mapping of str to float
        Under their label; at most three, the last one drawn thick behind the others.
    """
    axes.plot(adder, value, color=BLUE, lw=2.2)
    styles = ((RED, ":", 2.2, 3), (GREEN, "--", 1.8, 3), (ORANGE, "-", 6.0, 0.5))
    for (label, slope), (colour, line, width, order) in zip(slopes.items(), styles, strict=False):
        tangent = point[1] + slope * (adder - point[0])
        axes.plot(adder, tangent, line, color=colour, lw=width, zorder=order, label=label)
    axes.plot(*point, "o", ms=7, mfc="white", mec=_INK, mew=1.6, zorder=4)


def descents(axes: Axes, congestion_mwh: Mapping[str, Sequence[float]]) -> None:
    """Congestion after each step, one line a method, with a dot at its end.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    congestion_mwh : mapping of str to sequence of float
        Of the start and of every step, by the label of the method.
    """
    for k, (label, values) in enumerate(congestion_mwh.items()):
        colour, line = _STYLES[k % len(_STYLES)]
        axes.plot(range(len(values)), values, line, color=colour, lw=1.8, label=label)
        axes.plot(len(values) - 1, values[-1], "o", ms=5, color=colour)
    axes.set(xlabel="step", ylabel="congestion [MWh]", ylim=(0, None))
