"""Figures of the quadratic follower show what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from flexlib import figures_quadratic


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_responses_mark_the_kinks_on_the_line_alone():
    adder = np.array([0.0, 1.0, 2.0, 3.0])
    _, ax = plt.subplots()
    figures_quadratic.responses(ax, adder, 3 - adder, np.array([5.0, 5, 1, 1]), [0.5, 2.0])
    linear, quadratic, kinks = ax.lines
    np.testing.assert_array_equal(linear.get_ydata(), [5, 5, 1, 1])
    assert linear.get_drawstyle() == "steps-mid"
    np.testing.assert_array_equal(quadratic.get_ydata(), 3 - adder)
    np.testing.assert_allclose(kinks.get_xydata(), [[0.5, 2.5], [2.0, 1.0]])


def test_no_kinks_have_no_entry_in_the_legend():
    _, ax = plt.subplots()
    figures_quadratic.responses(ax, np.arange(2.0), np.ones(2), np.zeros(2), [])
    assert ax.get_legend_handles_labels()[1] == ["linear hub", "quadratic hub"]


def test_tangents_pass_through_the_kink_with_their_slopes():
    adder = np.linspace(1, 3, 5)
    _, ax = plt.subplots()
    slopes = {"left": -1.0, "right": 0.5, "element": 0.5}
    figures_quadratic.tangents(ax, adder, adder**2, (2.0, 4.0), slopes)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    for label, slope in slopes.items():
        np.testing.assert_allclose(drawn[label], 4.0 + slope * (adder - 2.0))
    assert ax.lines[-1].get_xydata().tolist() == [[2.0, 4.0]]


def test_descents_start_at_step_zero_and_end_in_a_dot():
    _, ax = plt.subplots()
    figures_quadratic.descents(ax, {"a": [3.0, 2.0, 1.0], "b": [3.0, 2.5]})
    assert ax.get_legend_handles_labels()[1] == ["a", "b"]
    lines = [line.get_xydata().tolist() for line in ax.lines]
    assert lines == [[[0, 3], [1, 2], [2, 1]], [[2, 1]], [[0, 3], [1, 2.5]], [[1, 2.5]]]
    colours = [line.get_color() for line in ax.lines]
    assert colours[0] == colours[1] != colours[2]
