"""Figures of grids say what the AC power flow says."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_voronoi_model import offered, street

from flexlib import Comparison, Connected, activate, figures_grid, linearise
from flexlib.admittance import Admittance
from flexlib.powerflow import power_flow
from flexlib.stand_in import stand_in
from flexlib.voronoi_points import none_half_all


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def compared():
    case = stand_in("down", 1)
    grid = Connected(case.network, case.bids, case.sites)
    model = linearise(grid, none_half_all(case.bids, "down"))
    return Comparison(grid, activate(model, case.bids, case.request_kw))


def test_maps_count_and_colour_what_is_overloaded(compared):
    grid, z = compared.connected, compared.activation.model.point[2]
    figure = figures_grid.maps(grid, {"nothing": 0 * z, "all bids": z})
    flow = power_flow(grid.activated, grid.loads_kva(z[None]))
    loading = np.abs(flow.i_a[0]) / Admittance(grid.network).ends["i_max_a"].to_numpy()
    over = (loading.reshape(2, -1) > 1).any(axis=0).sum()
    outside = (np.abs(flow.v_pu[0]) < 0.95).sum()
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes]
    counts = [list(map(int, re.findall(r"\d+", title))) for title in titles]
    assert counts == [[0, 0], [over, outside]]
    for ax, count in zip(figure.axes, (0, over), strict=True):
        assert sum(line.get_color() == figures_grid.RED for line in ax.lines) == count


def test_critical_elements_are_those_of_ac(compared):
    figure = figures_grid.against_ac(compared, count=5)
    loading = figure.axes[1]
    by_label = {line.get_label(): line.get_ydata() for line in loading.lines}
    largest = np.sort(compared.loading_ac_percent)[::-1][:5]
    np.testing.assert_allclose(by_label["AC power flow"], largest)
    bars = [bar.get_height() for bar in figure.axes[3].patches]
    np.testing.assert_allclose(bars, by_label["linear model"] - by_label["AC power flow"])
    lowest = np.sort(compared.v_ac_pu)[:5]
    by_label = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(by_label["AC power flow"], lowest)
    assert by_label["limit"][0] == 0.95


@pytest.mark.parametrize(("direction", "request_kw"), [("up", 60.0), ("down", -60.0)])
def test_cells_of_two_bids_hold_the_request_and_the_optimum(direction, request_kw):
    network, sites = street(2, (200.0, 140.0))
    bids = offered(direction, [120.0, 120.0], [90.0, 60.0])
    model = linearise(Connected(network, bids, sites), none_half_all(bids, direction), relief=True)
    chosen = activate(model, bids, request_kw)
    (ax,) = figures_grid.cells_of_two(model, bids, request_kw, chosen.z).axes
    by_label = {line.get_label(): line.get_xydata() for line in ax.lines}
    request = by_label[f"request of {request_kw:g} kW"]
    np.testing.assert_allclose(request.sum(axis=1), request_kw)
    np.testing.assert_allclose(by_label["optimum"], chosen.z[None])
    np.testing.assert_allclose(by_label["points $P_i$"], model.point)
    low, high = ax.get_xlim()
    assert low <= chosen.z[0] <= high
