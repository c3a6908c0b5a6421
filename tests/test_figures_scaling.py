"""Figures of scaling show what is in their tables."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from flexlib import figures_scaling


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_tree_has_every_hub_and_a_colour_for_each_part():
    _, ax = plt.subplots()
    figures_scaling.tree(ax, trunks=3, feeders=2, hubs=4)
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in marks) == 3 * 2 * 4
    assert len({line.get_color() for line in marks}) == 3
    x = np.concatenate([line.get_xdata() for line in marks])
    assert np.diff(np.sort(x)).min() > 0.5


def test_growth_draws_every_series_and_the_guide_in_proportion():
    series = {
        "one": pd.Series([1.0, 20.0, 300.0], index=[3, 30, 300]),
        "two": pd.Series([5.0], index=[3000]),
    }
    _, ax = plt.subplots()
    figures_scaling.growth(ax, series, (30, 10.0))
    assert ax.get_xscale() == ax.get_yscale() == "log"
    one, two, guide = ax.lines
    np.testing.assert_array_equal(one.get_xydata(), [[3, 1], [30, 20], [300, 300]])
    assert two.get_linestyle() == "None"
    np.testing.assert_allclose(guide.get_xydata(), [[3, 1], [3000, 1000]])
    assert [line.get_label() for line in (one, two)] == ["one", "two"]


def test_exponent_is_the_slope_from_the_least_size_on():
    hubs = np.array([3.0, 30.0, 300.0, 3000.0])
    values = pd.Series(0.01 * hubs**1.2, index=hubs)
    assert figures_scaling.exponent(values) == pytest.approx(1.2)
    values.iloc[0] = 100.0
    assert figures_scaling.exponent(values) == pytest.approx(1.2)
    assert figures_scaling.exponent(values, least=0) < 1.0


def test_accounts_mark_what_is_known():
    table = pd.DataFrame(
        {"A": [10.0, 20.0], "D": [1.0, np.nan], "bound": [0.5, 2.0]}, index=["3 hubs", "30 hubs"]
    )
    _, ax = plt.subplots()
    figures_scaling.accounts(ax, table, list(table))
    marks = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(marks) == ["A", "D", "bound"]
    for name in table:
        np.testing.assert_array_equal(marks[name].get_xdata(), table[name])
        np.testing.assert_array_equal(marks[name].get_ydata(), [0, 1])
    bars = [line.get_xdata() for line in ax.lines if line.get_label().startswith("_")]
    assert [list(bar) for bar in bars] == [[0.5, 10.0], [2.0, 20.0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["3 hubs", "30 hubs"]
