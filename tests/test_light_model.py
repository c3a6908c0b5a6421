"""The light model against finite differences of the AC power flow, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from feeders import Offered, offered
from scipy.optimize import linprog

from flexlib import Bids, Connected, DataError, LightModel, linearise, power_flow
from flexlib.admittance import Admittance
from flexlib.light_model import furthest, rows_that_can_bind

CASES = [offered(seed, ("up", "down", "all")[seed % 3], pv=seed % 4 == 0) for seed in range(12)]


def ac(case: Offered, model: LightModel, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voltages (p.u.) and complex currents (per cent) of the model's rows by AC."""
    flow = power_flow(case.connected.activated, case.connected.loads_kva(z[None]))
    i_max_a = Admittance(case.connected.network).ends["i_max_a"].to_numpy()
    return np.abs(flow.v_pu[0, model.bus]), 100 * (flow.i_a[0] / i_max_a)[model.end]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.seed))
def test_values_at_the_points_are_those_of_ac(case: Offered) -> None:
    for cell, point in enumerate(case.model.point):
        v_pu, i_percent = ac(case, case.model, point)
        assert case.model.voltages_pu(cell, point) == pytest.approx(v_pu, abs=1e-12)
        assert case.model.currents_percent(cell, point) == pytest.approx(i_percent, abs=1e-8)
        assert case.model.loading_percent[cell] == pytest.approx(np.abs(i_percent), abs=1e-8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.seed))
def test_slopes_are_central_differences_of_ac(case: Offered) -> None:
    model, step = case.model, 0.05  # kW
    for cell, point in enumerate(model.point[:2]):
        for k, unit in enumerate(np.eye(len(point))):
            (v_up, i_up), (v_down, i_down) = (ac(case, model, point + s * step * unit)
                                              for s in (1, -1))  # fmt: skip
            dv, di = (v_up - v_down) / (2 * step), (i_up - i_down) / (2 * step)
            assert model.vtdf[cell, :, k] == pytest.approx(dv, rel=1e-5, abs=1e-10)
            assert model.di_percent[cell, :, k] == pytest.approx(di, rel=1e-5, abs=2e-5)
            size = (np.abs(i_up) - np.abs(i_down)) / (2 * step)
            clear = np.abs(i_up) > 10 * np.abs(i_up - i_down)
            assert model.ltdf[cell, clear, k] == pytest.approx(size[clear], rel=1e-3, abs=2e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.seed))
def test_error_of_the_model_is_of_second_order(case: Offered) -> None:
    point = case.model.point[0]
    away = case.bids.upper - point + 1.0
    error = []
    for step in (1e-2, 1e-3):
        v_pu, i_percent = ac(case, case.model, point + step * away)
        error.append(np.abs(case.model.voltages_pu(0, point + step * away) - v_pu).max())
        error.append(
            np.abs(case.model.currents_percent(0, point + step * away) - i_percent).max(initial=0)
        )
    assert error[2] <= error[0] / 50 + 1e-12
    assert error[3] <= error[1] / 50 + 1e-9


def test_limits_axes_and_numbers_of_rows_are_those_of_the_network() -> None:
    for case in CASES:
        network, model = case.connected.network, case.model
        buses = network.buses.iloc[model.bus]
        assert (model.v_min_pu == buses["v_min_pu"]).all()
        assert (model.v_max_pu == buses["v_max_pu"]).all()
        fixed = {network.slack, *network.pv}
        assert set(model.bus) == set(range(len(network.buses))) - fixed
        limited = np.isfinite(Admittance(network).ends["i_max_a"])
        assert (model.end == np.flatnonzero(limited)).all()
        assert list(model.axes) == ["axis", "active", "kva_per_unit", "lower", "upper"]
        active = case.bids.active
        sums = case.bids.lower[active].sum(), case.bids.upper[active].sum()
        assert model.request_kw == pytest.approx(sums)


def test_nearest_is_the_cell_that_holds_an_activation() -> None:
    rng = np.random.default_rng(0)
    for case in CASES:
        for z in rng.uniform(-100, 400, (20, len(case.bids.axes))):
            distance = [np.linalg.norm(z - point) for point in case.model.point]
            assert case.model.nearest(z) == int(np.argmin(distance))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.seed))
def test_furthest_is_the_optimum_of_its_linear_programme(case: Offered) -> None:
    active, (least, most) = case.bids.active, case.model.request_kw
    ranges = [(least, most), (0.3 * most + 0.7 * least,) * 2, (least, 0.5 * (least + most))]
    for seed, request_kw in enumerate(ranges):
        model = replace(case.model, request_kw=request_kw)
        d = np.random.default_rng(seed).normal(size=(4, len(active)))
        bounds = np.column_stack([case.bids.lower, case.bids.upper])
        rows = np.array([active, ~active * 0 - active], dtype=float)
        for row, found in zip(d, furthest(model, d), strict=True):
            best = linprog(-row, rows, [request_kw[1], -request_kw[0]], bounds=bounds)
            assert found == pytest.approx(-best.fun, rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.seed))
def test_rows_that_some_corner_brings_to_its_limit_are_kept(case: Offered) -> None:
    voltages, currents = rows_that_can_bind(case.model)
    for corner in product(*zip(case.bids.lower, case.bids.upper, strict=True)):
        for cell in range(len(case.model.point)):
            v_pu = case.model.voltages_pu(cell, np.array(corner))
            beyond = (v_pu >= case.model.v_max_pu) | (v_pu <= case.model.v_min_pu)
            assert not (beyond & ~voltages).any()
            over = np.abs(case.model.currents_percent(cell, np.array(corner))) >= 100
            assert not (over & ~currents).any()
    kept = linearise(case.connected, case.points, only_binding=True)
    assert (kept.bus == case.model.bus[voltages]).all()
    assert (kept.end == case.model.end[currents]).all()


# --------------------------------------------------------------------------------------------
# Refused


def changed(**changes: object) -> LightModel:
    return replace(CASES[1].model, **changes)  # type: ignore[arg-type]


def test_a_missing_number_is_named_with_its_place() -> None:
    model = CASES[1].model
    for name in ("point", "v_pu", "vtdf", "i_percent", "di_percent", "v_min_pu", "v_max_pu"):
        for bad in (np.nan, np.inf):
            array = getattr(model, name).copy()
            array[(0,) * array.ndim] = bad
            with pytest.raises(DataError, match=f"column {name}: .*expected finite numbers"):
                changed(**{name: array})
    array = model.vtdf.copy()
    array[0, 0] = np.nan
    others = array.shape[2] - 1
    with pytest.raises(DataError, match=f"row 0, 0, 0, column vtdf: found nan and {others} more"):
        changed(vtdf=array)


def test_a_shape_that_does_not_fit_is_named() -> None:
    model = CASES[1].model
    with pytest.raises(DataError, match=r"column vtdf: found shape .*, expected shape"):
        changed(vtdf=model.vtdf[:, :, :1])
    with pytest.raises(DataError, match="column v_max_pu"):
        changed(v_max_pu=model.v_max_pu[:-1])


def test_empty_ranges_are_refused() -> None:
    model = CASES[1].model
    with pytest.raises(DataError, match="request_kw: found 5 to 4, expected a range"):
        changed(request_kw=(5.0, 4.0))
    with pytest.raises(DataError, match="found 2, expected at most v_max_pu"):
        changed(v_min_pu=np.full(len(model.bus), 2.0))
    for lower in (np.nan, 1e9):
        with pytest.raises(DataError, match="column lower"):
            changed(axes=model.axes.assign(lower=lower))


def test_points_outside_the_bids_are_refused() -> None:
    case = CASES[0]
    points = case.points.copy()
    points[0, 1] = case.bids.upper[1] + 1
    with pytest.raises(DataError, match=r"row 0, column bid 1: .*what the bid offers"):
        linearise(case.connected, points)
    points[0, 1] = np.nan
    with pytest.raises(DataError, match="found nan"):
        linearise(case.connected, points)
    with pytest.raises(DataError, match="one for each axis"):
        linearise(case.connected, case.points[:, :-1])


def test_limits_broken_while_nothing_is_activated_are_refused_with_the_numbers() -> None:
    case = CASES[0]
    network = case.connected.network
    v_pu = np.abs(power_flow(network).v_pu[0])
    bus = int(case.model.bus[0])
    high = network.buses["v_max_pu"].to_numpy().copy()
    high[bus] = max(v_pu[bus] - 0.01, 0.9)
    tight = Connected(
        replace(network, buses=network.buses.assign(v_min_pu=0.5, v_max_pu=high)),
        case.bids,
        case.connected.sites,
    )
    number = f"found {v_pu[bus]:.5f} p.u., expected at most {high[bus]:g} p.u."
    with pytest.raises(DataError, match=number.replace(".", r"\.")):
        linearise(tight, case.points)
    assert linearise(tight, case.points, relief=True).v_max_pu[0] == high[bus]  # to mend it


def test_currents_over_their_limits_while_nothing_is_activated_are_refused() -> None:
    case = CASES[0]
    network = case.connected.network
    i_a = np.abs(power_flow(network).i_a[0, : len(network.branches)])
    branches = network.branches.assign(i_max_from_a=i_a / 1.25)
    tight = replace(case.connected, network=replace(network, branches=branches))
    with pytest.raises(DataError, match=r"at its from end: found 125\.000 %, expected at most 100"):
        linearise(tight, case.points)
    linearise(tight, case.points, relief=True)


def test_prices_are_not_part_of_the_model() -> None:
    case = CASES[1]
    table = case.bids.table
    dear = Bids(table.assign(**{name: 2 * table[name] for name in table if "price" in name}))
    one, two = case.model, linearise(replace(case.connected, bids=dear), case.points)
    pd.testing.assert_frame_equal(one.axes, two.axes)
    assert (one.vtdf == two.vtdf).all()


def test_the_points_given_may_change_afterwards() -> None:
    case = CASES[0]
    points = case.points.copy()
    model = linearise(case.connected, points)
    points[:] = 0
    assert (model.point == case.points).all()
