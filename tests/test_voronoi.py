"""Activations: matching of bids and model, and a certificate that catches what is wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from feeders import Offered, offered

from flexlib import Activation, Bids, DataError, Infeasible, activate, linearise
from flexlib.certificate import CertificateError


@cache
def solved(seed: int, kind: str = "up") -> tuple[Offered, Activation]:
    """First case from a seed on that has an activation and at least three cells."""
    while True:
        case = offered(seed, kind, points=4)
        try:
            return case, activate(case.model, case.bids, case.request_kw)
        except Infeasible:
            seed += 1


def fails(found: Activation, *names: str) -> None:
    with pytest.raises(CertificateError) as caught:
        found.certificate.assert_ok()
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_the_certificate_holds_and_counts_what_the_activation_is(seed: int) -> None:
    case, found = solved(seed)
    found.certificate.assert_ok()
    assert found.cost_eur_per_h == case.bids.cost_eur_per_h(found.z)
    assert found.v_pu == pytest.approx(case.model.voltages_pu(found.cell, found.z))
    currents = case.model.currents_percent(found.cell, found.z)
    assert found.loading_percent == pytest.approx(np.abs(currents))
    frame = found.frame()
    assert frame["activated"].sum() == pytest.approx(case.request_kw, abs=1e-4)
    assert frame["cost_eur_per_h"].sum() == pytest.approx(found.cost_eur_per_h, abs=1e-6)
    assert frame["share"].between(0, 1 + 1e-9).all()


def test_loading_as_printed_is_the_signed_one() -> None:
    case, _ = solved(0)
    found = activate(case.model, case.bids, case.request_kw, printed=True)
    change = case.model.ltdf[found.cell] @ (found.z - case.model.point[found.cell])
    assert found.loading_percent == pytest.approx(case.model.loading_percent[found.cell] + change)
    found.certificate.assert_ok()


def test_a_wrong_activation_fails() -> None:
    case, found = solved(0)
    fails(replace(found, z=found.z * 1.001), "request (14j)")
    above = case.bids.upper + 0.01
    fails(replace(found, z=above, request_kw=float(above.sum())), "volumes (14b), (14c)")
    fails(replace(found, z=np.where(np.arange(len(above)) == 0, np.nan, found.z)), "request (14j)")
    up, down = np.argsort(case.bids.axes["price_up"].to_numpy())[[-1, 0]]
    moved = found.z.copy()
    moved[up], moved[down] = moved[up] + 0.5, moved[down] - 0.5
    fails(replace(found, z=moved), "gap to the least bound")


def test_a_wrong_cell_fails() -> None:
    for seed in range(0, 40, 5):
        _, found = solved(seed)
        for cell in range(len(found.model.point)):
            if cell != found.model.nearest(found.z):
                fails(replace(found, cell=cell), "borders of the cell (14h)")


def test_a_wrong_bound_fails() -> None:
    _, found = solved(0)
    for change in (-1.0, 1.0, np.nan, np.inf):
        bound = found.cell_bound_eur_per_h.copy()
        bound[found.cell] += change
        fails(replace(found, cell_bound_eur_per_h=bound), "gap to the least bound")
    lower = found.cell_bound_eur_per_h.copy()
    lower[found.cell - 1] = found.cost_eur_per_h - 1
    fails(replace(found, cell_bound_eur_per_h=lower), "gap to the least bound")


def test_broken_limits_fail() -> None:
    case, found = solved(0)
    model = case.model
    tight = replace(model, v_max_pu=found.v_pu - 1e-7, v_min_pu=found.v_pu - 0.1)
    fails(replace(found, model=tight), "voltages (14f), (14g)")
    tight = replace(model, v_min_pu=found.v_pu + 1e-7, v_max_pu=found.v_pu + 0.1)
    fails(replace(found, model=tight), "voltages (14f), (14g)")
    factor = 101 / found.loading_percent.max()
    over = replace(model, i_percent=factor * model.i_percent, di_percent=factor * model.di_percent)
    fails(replace(found, model=over), "loadings (14d), (14e)")
    fails(replace(found, model=over, printed=True), "loadings (14d), (14e)")


def test_an_activation_below_the_least_fails() -> None:
    case, found = solved(0)
    k = int(np.argmax(found.z))
    table = case.bids.table.copy()
    table.loc[k, "min_up_kw"] = table["up_max_kw"][k]
    z = found.z.copy()
    z[k] = table["up_max_kw"][k] * 0.6
    fails(replace(found, bids=Bids(table), z=z), "least activations")


# --------------------------------------------------------------------------------------------
# What a model was made for


def test_a_request_beyond_the_bids_or_the_model_is_refused() -> None:
    case, _ = solved(0)
    most = float(case.bids.upper.sum())
    for request_kw in (most * 1.01, -1.0, np.nan):
        with pytest.raises(DataError, match="which all bids offer together"):
            activate(case.model, case.bids, request_kw)
    narrow = replace(case.model, request_kw=(10.0, 20.0))
    for request_kw in (9.9, 20.1):
        with pytest.raises(DataError, match="from 10 to 20 kW, for which the light model was made"):
            activate(narrow, case.bids, request_kw)


def test_other_bids_are_refused() -> None:
    case, _ = solved(0)
    table = case.bids.table
    with pytest.raises(DataError, match="found bid 0, new, expected the"):
        activate(case.model, Bids(table.replace({"bid 0": "new"})), 1.0)
    with pytest.raises(DataError, match="found another order"):
        activate(case.model, Bids(table.iloc[::-1]), 1.0)
    with pytest.raises(DataError, match="found bid 0, expected the"):
        activate(case.model, Bids(table.iloc[1:]), 1.0)


def test_other_volumes_and_power_factors_are_refused() -> None:
    case, found = solved(0)
    table = case.bids.table
    more = Bids(table.assign(up_max_kw=table["up_max_kw"] + 1))
    with pytest.raises(DataError, match=r"row bid 0, column upper: found .* of the light model"):
        activate(case.model, more, 1.0)
    both = Bids(table.assign(down_max_kw=1.0, price_down_eur_per_mwh=500.0))
    with pytest.raises(DataError, match="row bid 0, column lower: found -1, expected"):
        activate(case.model, both, 1.0)
    turned = Bids(table.assign(kvar_per_kw=table["kvar_per_kw"] + 0.1))
    with pytest.raises(DataError, match="row bid 0, column kva_per_unit"):
        activate(case.model, turned, 1.0)
    less = Bids(table.assign(up_max_kw=np.minimum(table["up_max_kw"], found.z + 1e-6)))
    again = activate(case.model, less, case.request_kw)
    assert again.cost_eur_per_h == pytest.approx(found.cost_eur_per_h, abs=1e-6)


# --------------------------------------------------------------------------------------------
# Odd bids


def with_prices(case: Offered, price: float) -> Bids:
    return Bids(case.bids.table.assign(price_up_eur_per_mwh=price))


def test_prices_of_zero_and_below() -> None:
    for seed in range(0, 20, 5):
        case, _ = solved(seed)
        for price in (0.0, -30.0):
            found = activate(case.model, with_prices(case, price), case.request_kw)
            found.certificate.assert_ok()
            assert found.cost_eur_per_h == pytest.approx(price / 1000 * case.request_kw, abs=1e-6)


def test_negative_prices_do_not_run_beyond_the_request() -> None:
    case, _ = solved(0, "both")
    found = activate(case.model, case.bids, 0.0)
    found.certificate.assert_ok()
    assert found.z.sum() == pytest.approx(0, abs=1e-6)
    assert found.cost_eur_per_h <= 1e-9


def test_a_request_of_nothing() -> None:
    case, _ = solved(0)
    table = case.bids.table
    bids = Bids(table.assign(price_up_eur_per_mwh=table["price_up_eur_per_mwh"].abs()))
    found = activate(case.model, bids, 0.0)
    found.certificate.assert_ok()
    assert np.abs(found.z).max() < 1e-9
    assert found.frame().empty


def test_bids_without_volume_stay_out() -> None:
    case, found = solved(0)
    none = pd.DataFrame({"bid": ["none"], "up_max_kw": [0.0], "price_up_eur_per_mwh": [-500.0]})
    bids = Bids(pd.concat([case.bids.table, none], ignore_index=True))
    sites = pd.concat(
        [case.connected.sites, case.connected.sites.iloc[:1].assign(bid="none")], ignore_index=True
    )
    points = np.hstack([case.points, np.zeros((len(case.points), 1))])
    connected = replace(case.connected, bids=bids, sites=sites)
    wider = activate(linearise(connected, points), bids, case.request_kw)
    wider.certificate.assert_ok()
    assert wider.z[-1] == 0
    assert wider.cost_eur_per_h == pytest.approx(found.cost_eur_per_h, rel=1e-7)


def test_two_halves_of_a_bid_at_one_bus_are_worth_the_bid() -> None:
    case, _ = solved(0)
    table = case.bids.table.assign(up_max_kw=case.bids.table["up_max_kw"] / 2)
    twice = pd.concat([table, table.assign(bid="second " + table["bid"])], ignore_index=True)
    sites = case.connected.sites
    both = pd.concat([sites, sites.assign(bid="second " + sites["bid"])], ignore_index=True)
    connected = replace(case.connected, bids=Bids(twice), sites=both)
    one = activate(linearise(case.connected, case.points[:1]), case.bids, case.request_kw)
    halves = np.hstack([case.points[:1], case.points[:1]]) / 2
    two = activate(linearise(connected, halves), Bids(twice), case.request_kw)
    assert two.cost_eur_per_h == pytest.approx(one.cost_eur_per_h, rel=1e-6)


def test_free_reactive_power_costs_and_never_hurts() -> None:
    helped = 0
    for seed in range(0, 60, 3):
        case = offered(seed, "up", points=1)
        table = case.bids.table.assign(q_max_kvar=50.0, price_q_eur_per_mvarh=1.0)
        bids = Bids(table)
        point = np.repeat(case.points, 2, axis=1) * bids.active
        wide = linearise(replace(case.connected, bids=bids), point)
        costs = []
        for model, offer in ((case.model, case.bids), (wide, bids)):
            try:
                found = activate(model, offer, case.request_kw)
            except Infeasible:
                costs.append(np.inf)
            else:
                found.certificate.assert_ok()
                costs.append(found.cost_eur_per_h)
        assert costs[1] <= costs[0] + 1e-6 * (1 + abs(costs[1])) or costs[0] == np.inf
        helped += costs[1] < costs[0] - 1e-3
    assert helped >= 3
