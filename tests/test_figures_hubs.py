"""Figures of hubs show what schedules and grid hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.sparse import csr_array

from flexlib import DataError, centralised, figures_hubs, hub_instances, no_pricing


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def case():
    hubs, grid = hub_instances.reference(3, 6, 0.5)
    return hubs, grid, no_pricing(hubs).schedule


def test_map_shows_the_overloads_and_marks_those_against_the_import(case):
    _, grid, schedule = case
    w = schedule.w_mw - 5.0 * (np.arange(6) == 2)
    _, ax = plt.subplots()
    image = figures_hubs.overload_map(ax, grid, w, first_hour=16, most_mw=9.0)
    over = grid.overload_mw(w)
    np.testing.assert_array_equal(image.get_array(), over)
    np.testing.assert_array_equal(image.get_alpha(), over > 1e-6)
    assert image.norm.vmax == 9.0
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == "substation"
    marked = {(int(x), int(y)) for x, y in ax.lines[0].get_xydata()}
    against = np.argwhere(-grid.loading_mw(w) - grid.lower_mw[:, None] > 1e-6)
    assert marked == {(16 + t, row) for row, t in against.tolist()}
    assert len(marked) > 0


def test_map_without_any_value_has_a_scale():
    _, ax = plt.subplots()
    assert figures_hubs.hour_map(ax, np.zeros((2, 3)), ["a", "b"]).norm.vmax == 1.0


@pytest.mark.parametrize("hub", ["hub_1", "hub_3"])
def test_bars_of_supply_and_consumption_are_equally_long(case, hub):
    hubs, grid, _ = case
    schedule = centralised(hubs, grid).schedule
    _, axes = plt.subplots(2, 1)
    figures_hubs.schedule_bars(axes, schedule, hub)
    bars = axes[0].patches
    at = np.array([bar.get_x() + bar.get_width() / 2 for bar in bars])
    height = np.array([bar.get_height() for bar in bars])
    for t in range(16, 22):
        assert height[np.isclose(at, t)].sum() == pytest.approx(0, abs=1e-9)
        assert np.abs(height[np.isclose(at, t)]).sum() > 1
    held = {line.get_label(): line.get_ydata() for line in axes[1].lines}
    values = schedule.frame(hub)
    np.testing.assert_array_equal(held["battery e"][1:], values["e"])
    assert held["battery e"][0] == pytest.approx(1.0 if hub == "hub_1" else 1.5)
    assert held["backlog a"][0] == 0


def test_feeder_is_drawn_as_a_tree_and_refused_if_it_is_none(case):
    hubs, grid, _ = case
    _, ax = plt.subplots()
    figures_hubs.feeder_of_hubs(ax, hubs.table["hub"], grid)
    texts = {text.get_text() for text in ax.texts}
    assert {"substation", "hub 1", "hub 2", "hub 3", *(f"line {k}" for k in range(1, 6))} <= texts
    across = type(grid)(
        ["one", "two"], csr_array(np.array([[1.0, 1, 0], [0, 1, 1]])), np.zeros((2, 6)),
        np.ones(2), 1.0, 1.0,
    )  # fmt: skip
    with pytest.raises(DataError, match="a tree of lines"):
        figures_hubs.feeder_of_hubs(ax, hubs.table["hub"], across)


def test_diagram_names_the_variables_of_the_balance():
    _, ax = plt.subplots()
    figures_hubs.hub_diagram(ax)
    text = " ".join(text.get_text() for text in ax.texts)
    for symbol in ("m^{in}", "m^{out}", "c^{PV}", "$g$", "p^{dis}", "p^{ch}", "$u$", "p^{el}",
                   "h^{fc}", "$e$", "$a$", "$h$"):  # fmt: skip
        assert symbol in text
