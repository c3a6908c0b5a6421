"""Figures of bilevel programmes show what runs and multipliers hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from flexlib import figures_bilevel


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_table_of_reach_shows_seconds_gaps_and_what_was_not_found():
    runs = pd.DataFrame(
        [
            ("1 x 6", "kkt", "cold", "proven", 2.4, 0.0009),
            ("1 x 6", "sos1", "cold", "proven", 0.9, 0.0),
            ("3 x 24", "kkt", "joint steps", "not proven", 100.0, 0.784),
            ("3 x 24", "kkt", "cold", "no incumbent", 100.0, np.nan),
        ],
        columns=["instance", "reformulation", "start", "status", "cpu_s", "gap"],
    )
    _, ax = plt.subplots()
    figures_bilevel.reach(ax, runs)
    ways = list(figures_bilevel.WAYS)
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    assert shown == {
        (ways.index(("kkt", "cold")), 0): "2 s",
        (ways.index(("sos1", "cold")), 0): "1 s",
        (ways.index(("kkt", "joint steps")), 1): "78 %",
        (ways.index(("kkt", "cold")), 1): "none",
    }
    colours = {patch.get_xy(): patch.get_facecolor() for patch in ax.patches}
    assert len(set(colours.values())) == 3
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1 x 6", "3 x 24"]


def test_progress_is_of_one_run_alone():
    trace = pd.DataFrame(
        {
            "reformulation": ["kkt", "kkt", "kkt"],
            "start": ["cold", "cold", "joint steps"],
            "cpu_s": [1.0, 5.0, 2.0],
            "bound": [0.1, 0.2, 0.3],
            "incumbent": [np.nan, 0.9, 0.8],
        }
    )
    _, ax = plt.subplots()
    figures_bilevel.progress(ax, trace, ("kkt", "cold"), "#000000")
    bound, incumbent = ax.lines
    np.testing.assert_array_equal(bound.get_xydata(), [[1.0, 0.1], [5.0, 0.2]])
    np.testing.assert_array_equal(incumbent.get_ydata(), [np.nan, 0.9])
    assert bound.get_linestyle() != incumbent.get_linestyle()


def test_answers_leave_out_followers_that_were_not_asked():
    kinds = ["optimistic", "pessimistic", "careless, 0.1 %"]
    asked = {"none": pd.Series([1.0, 2.0], kinds[:2]), "C": pd.Series([0.0, 3.0, 4.0], kinds)}
    _, ax = plt.subplots()
    figures_bilevel.answers(ax, asked)
    marked = [line.get_xydata()[0].tolist() for line in ax.lines if len(line.get_xydata()) == 1]
    assert marked == [[1.0, 0], [2.0, 0], [0.0, 1], [3.0, 1], [4.0, 1]]
    assert ax.get_legend_handles_labels()[1] == kinds
    bars = [line.get_xdata().tolist() for line in ax.lines if len(line.get_xydata()) == 2]
    assert bars == [[1.0, 2.0], [0.0, 4.0]]


def test_multipliers_stand_in_their_intervals():
    low, high = np.zeros((3, 2)), np.array([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]])
    _, axes = plt.subplots(1, 2)
    hours = np.array([16, 17, 18])
    figures_bilevel.multiplier_bands(axes, hours, low, high, {"solver": high / 2}, ["a", "b"])
    for k, ax in enumerate(axes):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), high[:, k] / 2)
        assert ax.collections[0].get_datalim(ax.transData).ymax == high[:, k].max()
        assert ax.get_title(loc="center") + ax.get_title(loc="left") == "ab"[k]
