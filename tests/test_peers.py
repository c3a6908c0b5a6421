"""General tools for robust optimisation find what the array route finds."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import feeders, peers
from flexlib import Box, Budget, Ellipsoid, Market, clear, data_path, read_bands

every_or_not = pytest.mark.parametrize("every", [False, True])


@cache
def feeder(case: int = 3) -> Market:
    market = feeders.feeder_12()
    bands = data_path(f"feeders/de-simone-12/uncertainty-case-{case}.csv")
    return replace(market, uncertainty=read_bands(market.network, bands))


@cache
def hundred() -> Market:
    return feeders.generated(100)


@cache
def exporting() -> Market:
    """Generators outweigh the loads: the worst case has less of the one, more of the other."""
    market = feeder()
    offering = market.network.loads["load"].isin(market.offers["load"])
    loads = market.network.loads
    for column in ("p_kw", "q_kvar"):
        loads = loads.assign(**{column: loads[column].where(offering, -2 * loads[column])})
    branches = market.network.branches
    branches = branches.assign(i_max_from_a=branches["i_max_from_a"].clip(upper=70.0))
    network = replace(market.network, loads=loads, branches=branches)
    offers = market.offers.assign(down_max_kw=500.0, price_down_eur_per_mwh=[70.0, 90.0, 80.0])
    bands = market.uncertainty.bands
    return replace(market, network=network, offers=offers, uncertainty=Box(network, bands))


def over_budget(market: Market, gamma: float) -> Market:
    bands = market.uncertainty.bands
    return replace(market, uncertainty=Budget(market.network, bands, gamma=gamma))


def over_ellipsoid(market: Market) -> Market:
    box = market.uncertainty
    sigma_kw = box.delta_kva.real / 2
    covariance = np.outer(sigma_kw, sigma_kw) * (0.3 + 0.7 * np.eye(len(sigma_kw)))
    names = market.network.loads["load"][box.load]
    frame = pd.DataFrame(covariance, names, names)
    return replace(market, uncertainty=Ellipsoid(market.network, frame, omega=2.0))


def without_uncertainty(market: Market) -> float:
    nothing = market.uncertainty.bands.assign(band_pct=0.0)
    return clear(replace(market, uncertainty=Box(market.network, nothing))).cost_eur_per_h


@every_or_not
@pytest.mark.parametrize("case", [1, 2, 3])
def test_pyros_finds_our_optimum_over_each_box(case: int, every: bool) -> None:
    cost = clear(feeder(case)).cost_eur_per_h
    assert peers.pyros_cost(feeder(case), every) == pytest.approx(cost, rel=0, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 2.5, 4.0, 7.0])
def test_pyros_finds_our_optimum_over_a_budget(gamma: float) -> None:
    market = over_budget(feeder(), gamma)
    cost = clear(market).cost_eur_per_h
    assert peers.pyros_cost(market, every=True) == pytest.approx(cost, rel=0, abs=1e-6)


@pytest.mark.parametrize("gamma", [2.5, 6.0, 7.0])
def test_both_find_our_optimum_where_downward_flexibility_helps(gamma: float) -> None:
    market = exporting() if gamma == 7 else over_budget(exporting(), gamma)
    result = clear(market)
    assert result.activation["down_kw"].sum() > 10
    cost = pytest.approx(result.cost_eur_per_h, rel=0, abs=1e-6)
    assert peers.pyros_cost(market) == cost
    if find_spec("rsome"):
        assert peers.rsome_cost(market) == cost


def test_pyros_finds_our_optimum_where_several_limits_bind() -> None:
    found = peers.solve_by_pyros(hundred())
    cost = clear(hundred()).cost_eur_per_h
    assert found.final_objective_value == pytest.approx(cost, rel=0, abs=1e-6)
    assert cost > without_uncertainty(hundred()) + 1
    assert found.iterations > 2


@every_or_not
@pytest.mark.parametrize("case", [1, 2, 3])
def test_rsome_finds_our_optimum_over_each_box(case: int, every: bool) -> None:
    pytest.importorskip("rsome")
    cost = clear(feeder(case)).cost_eur_per_h
    assert peers.rsome_cost(feeder(case), every) == pytest.approx(cost, rel=0, abs=1e-6)


@every_or_not
@pytest.mark.parametrize("name", ["box", "budget", "ellipsoid"])
def test_rsome_finds_our_optimum_over_each_set(name: str, every: bool) -> None:
    pytest.importorskip("rsome")
    market = {
        "box": hundred(),
        "budget": over_budget(feeder(), 2.5),
        "ellipsoid": over_ellipsoid(feeder()),
    }[name]
    cost = clear(market).cost_eur_per_h
    assert peers.rsome_cost(market, every) == pytest.approx(cost, rel=0, abs=1e-6)


def test_the_rows_kept_are_among_all() -> None:
    some, everything = (peers.data(hundred(), every) for every in (False, True))
    assert 0 < len(some.bound) < len(everything.bound) == 32 * 99
    for name in ("per_kw", "per_xi"):
        rows, all_rows = (given.row(getattr(given, name)) for given in (some, everything))
        near = np.abs(rows[:, None] - all_rows).max(axis=2).min(axis=1)
        np.testing.assert_allclose(near, 0, atol=1e-12)


def test_without_rsome_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rsome", None)
    with pytest.raises(ModuleNotFoundError, match=peers.INSTALL):
        peers.rsome_cost(feeder())
    listed = Path(peers.__file__).with_name("peers.txt").read_text(encoding="utf-8")
    assert "\nrsome==1.3.1 --hash=sha256:" in listed


def test_what_the_peers_do_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="band on the baseline"):
        peers.data(replace(feeder(), band="remainder"))
    with pytest.raises(ValueError, match="no LP solver separates over Ellipsoid"):
        peers.pyros_cost(over_ellipsoid(feeder()))
    low = feeder().network
    low = replace(low, buses=low.buses.assign(v_min_pu=0.999))
    box = Box(low, feeder().uncertainty.bands)
    with pytest.raises(ValueError, match="a voltage limit can bind"):
        peers.data(replace(feeder(), network=low, uncertainty=box))


def test_pyros_says_how_it_ended() -> None:
    tenth = feeder().offers.assign(up_max_kw=feeder().offers["up_max_kw"] / 10)
    with pytest.raises(RuntimeError, match="robust_infeasible"):
        peers.pyros_cost(replace(feeder(), offers=tenth))
