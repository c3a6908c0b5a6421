"""Rows that can bind: the bound behind the screening against independent programmes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

import flexlib as fx
from flexlib.light_model import LightModel, furthest, rows_that_can_bind
from flexlib.stand_in import stand_in
from flexlib.voronoi_points import merit_order, none_half_all

RANGES = ("all", "a range", "one request", "the least", "the most")


def drawn(seed, ranges="a range", m=2, v=6, currents=5, ties=False):
    """A light model of random rows whose limits are near what its activations reach."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    active = rng.random(n) < 0.7
    active[0] |= not active.any()
    lower, upper = -rng.uniform(0, 4, n), rng.uniform(0, 4, n)
    lower[rng.random(n) < 0.3] = 0.0
    upper[rng.random(n) < 0.2] = 0.0  # with the line above some axes cannot move

    def numbers(*shape):
        return rng.integers(-2, 3, shape) * 1.0 if ties else rng.normal(size=shape)

    least, most = lower[active].sum(), upper[active].sum()
    a, b = np.sort(rng.uniform(least, most, 2))
    request = {"all": (least, most), "a range": (a, b), "one request": (a, a),
               "the least": (least, least), "the most": (most, most)}[ranges]  # fmt: skip
    axes = pd.DataFrame({"axis": [f"axis {k}" for k in range(n)], "active": active})
    axes = axes.assign(kva_per_unit=np.where(active, 1, 1j), lower=lower, upper=upper)
    return LightModel(
        axes, request, rng.uniform(lower, upper, (m, n)), 1 + numbers(m, v) / 200,
        numbers(m, v, n) / 100, 30 * (numbers(m, currents) + 1j * numbers(m, currents)),
        8 * (numbers(m, currents, n) + 1j * numbers(m, currents, n)), np.full(v, 0.95),
        np.full(v, 1.05), np.arange(v), np.arange(currents),
    )  # fmt: skip


def extreme(model, d):
    """Largest d z over admissible activations, by a linear programme."""
    active = model.axes["active"].to_numpy(float)
    least, most = model.request_kw
    result = linprog(
        -d,
        A_ub=np.array([active, -active]),
        b_ub=np.array([most, -least]) + 1e-12,
        bounds=model.axes[["lower", "upper"]].to_numpy(),
    )
    assert result.status == 0, result.message
    return -result.fun


def admissible(model, rng, count=100):
    """Corners and inner points of the admissible activations."""
    lower, upper = model.axes["lower"].to_numpy(), model.axes["upper"].to_numpy()
    active = model.axes["active"].to_numpy()
    z = rng.uniform(lower, upper, (count, len(lower)))
    corner = rng.random(count) < 0.7
    z[corner] = np.where(rng.random((corner.sum(), len(lower))) < 0.5, lower, upper)
    wanted = rng.uniform(*model.request_kw, count)
    order = rng.permuted(np.tile(np.flatnonzero(active), (count, 1)), axis=1)
    for row, request_kw, axes in zip(z, wanted, order, strict=True):
        for k in axes:  # move one axis after the other until the request is met
            missing = request_kw - row[active].sum()
            row[k] = np.clip(row[k] + missing, lower[k], upper[k])
    return z


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("ties", [False, True])
def test_furthest_is_the_optimum_of_the_linear_programme(ranges, ties):
    for seed in range(25):
        model = drawn(seed, ranges, ties=ties)
        for d in (*model.vtdf[0], *model.di_percent[1].real):
            assert furthest(model, d[None])[0] == pytest.approx(extreme(model, d), abs=1e-8)


@pytest.mark.parametrize("ranges", RANGES)
def test_voltages_are_kept_exactly_if_they_can_bind(ranges):
    decided = {True: 0, False: 0}
    for seed in range(25):
        model = drawn(seed, ranges)
        kept, _ = rows_that_can_bind(model)
        for row in range(len(kept)):
            margin = []
            for cell, point in enumerate(model.point):
                d = model.vtdf[cell][row]
                base = model.v_pu[cell][row] - d @ point
                margin.append(base + extreme(model, d) - model.v_max_pu[row])
                margin.append(model.v_min_pu[row] - base + extreme(model, -d))
            if abs(max(margin)) > 1e-9:
                assert kept[row] == (max(margin) > 0), (seed, row)
                decided[bool(kept[row])] += 1
    assert min(decided.values()) > 20


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("ties", [False, True])
def test_no_admissible_activation_brings_a_dropped_row_to_its_limit(ranges, ties):
    dropped = reached = 0
    for seed in range(25):
        model = drawn(seed, ranges, ties=ties)
        voltages, currents = rows_that_can_bind(model)
        for z in admissible(model, np.random.default_rng(seed)):
            for cell in range(len(model.point)):
                v_pu = model.voltages_pu(cell, z)
                outside = (v_pu > model.v_max_pu) | (v_pu < model.v_min_pu)
                assert not outside[~voltages].any()
                over = np.abs(model.currents_percent(cell, z)) >= 100
                assert not over[~currents].any()
                reached += int(over.sum() + outside.sum())
        dropped += int((~voltages).sum() + (~currents).sum())
    assert dropped > 10
    assert reached > 100


def test_a_current_is_kept_beyond_need_only_near_its_limit():
    """Sixteen directions overestimate a magnitude by at most 1 / cos(pi / 16)."""
    for seed in range(40):
        model = drawn(seed, "all", m=1)
        _, currents = rows_that_can_bind(model)
        angles = np.exp(2j * np.pi * np.arange(720) / 720)
        base = model.i_percent[0] - model.di_percent[0] @ model.point[0]
        reach = np.max(
            [(a.conj() * base).real + furthest(model, (a.conj() * model.di_percent[0]).real)
             for a in angles], axis=0)  # fmt: skip
        assert (reach[currents] > 100 * np.cos(np.pi / 16) - 1e-9).all()
        assert currents[reach > 100 + 1e-9].all()


def test_printed_loadings_of_dropped_rows_cannot_bind_either():
    for seed in range(25):
        model = drawn(seed)
        _, currents = rows_that_can_bind(model)
        for z in admissible(model, np.random.default_rng(seed), 100):
            for cell in range(len(model.point)):
                change = model.ltdf[cell] @ (z - model.point[cell])
                assert (np.abs(model.loading_percent[cell] + change)[~currents] < 100).all()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_screened_model_gives_the_same_activation(direction):
    stand = stand_in(direction, seed=2)
    connected = fx.Connected(stand.network, stand.bids, stand.sites)
    points = np.vstack(
        [
            none_half_all(stand.bids, direction),
            merit_order(stand.bids, np.array([stand.request_kw])),
        ]
    )
    some = tuple(sorted((stand.request_kw, stand.request_kw / 2)))
    whole = fx.linearise(connected, points)
    few = fx.linearise(connected, points, request_kw=some, only_binding=True)
    assert len(few.bus) + len(few.end) < 0.7 * (len(whole.bus) + len(whole.end))
    for row, number in enumerate(few.bus):
        assert (few.vtdf[:, row] == whole.vtdf[:, whole.bus == number][:, 0]).all()
    rng = np.random.default_rng(3)
    for request_kw in (stand.request_kw, 0.7 * stand.request_kw):
        price = rng.uniform(20, 200, len(stand.bids.table))
        table = stand.bids.table.assign(**{f"price_{direction}_eur_per_mwh": price})
        bids = fx.Bids(table)
        one, other = (fx.activate(model, bids, request_kw) for model in (whole, few))
        assert other.cost_eur_per_h == pytest.approx(one.cost_eur_per_h, rel=1e-7)
        other.certificate.assert_ok()
        # what the screened optimum does to the rows that were dropped
        on_all = replace(other, model=whole)
        on_all.certificate.assert_ok()


def test_a_grid_that_never_binds_leaves_no_rows_and_still_clears():
    stand = stand_in("up")
    connected = fx.Connected(stand.network, stand.bids, stand.sites)
    nothing = np.zeros((1, len(stand.bids.axes)))
    model = fx.linearise(connected, nothing, request_kw=(0.0, 0.0), only_binding=True)
    full = fx.linearise(connected, nothing, request_kw=(0.0, 0.0))
    assert len(model.bus) < len(full.bus)
    tiny = fx.Bids(stand.bids.table.assign(up_max_kw=0.01))
    small = fx.Connected(stand.network, tiny, stand.sites)
    model = fx.linearise(small, nothing, only_binding=True)
    assert (len(model.bus), len(model.end)) == (0, 0)
    activation = fx.activate(model, tiny, 1.0)
    activation.certificate.assert_ok()
    assert activation.z.sum() == pytest.approx(1.0)
