"""What an outsider recovers from a light model: scored against the grid, and the mitigations."""

import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import flexlib as fx
from flexlib import privacy
from flexlib.stand_in import stand_in
from flexlib.voronoi_points import merit_order, none_half_all


@cache
def case(direction="up", points="source"):
    stand = stand_in(direction)
    connected = fx.Connected(stand.network, stand.bids, stand.sites)
    request = np.array([stand.request_kw])
    at = none_half_all(stand.bids, direction)
    at = at if points == "source" else merit_order(stand.bids, request)
    return stand, connected, fx.linearise(connected, at, request_kw=(stand.request_kw,) * 2)


def fork():
    """Slack - a - b, a - c; two bids at b, one at c, one at a; b has no other customers."""
    buses = pd.DataFrame({"bus": ["s", "a", "b", "c"], "v_nom_kv": 0.4})
    buses["v_slack_pu"], buses["v_min_pu"], buses["v_max_pu"] = [1, None, None, None], 0.9, 1.1
    lines = pd.DataFrame({"branch": ["sa", "ab", "ca"], "from_bus": ["s", "a", "c"]})
    lines["to_bus"], lines["r_ohm"], lines["x_ohm"] = ["a", "b", "a"], 0.02, 0.01
    lines["i_max_from_a"] = lines["i_max_to_a"] = [200.0, 100.0, 50.0]
    loads = pd.DataFrame({"load": ["A", "C"], "bus": ["a", "c"]})
    loads["p_kw"], loads["q_kvar"] = [20.0, 5.0], [6.0, 2.0]
    bids = pd.DataFrame({"bid": list("abcd"), "up_max_kw": 5.0, "price_up_eur_per_mwh": 50.0})
    sites = pd.DataFrame({"bid": list("abcd"), "bus": ["b", "c", "b", "a"]})
    network = fx.Network(buses, lines, loads, name="fork")
    return fx.Connected(network, fx.Bids(bids), sites)


def test_truth_of_a_fork():
    sets, rating_kva, demand_kva = privacy.truth(fork())
    behind = [{0, 1, 2, 3}, {0, 2}, {1}]
    assert [set(s) for s in sets] == behind + behind
    assert rating_kva[:3] == pytest.approx(np.sqrt(3) * 0.4 * np.array([200, 100, 50]))
    assert demand_kva[3:] == pytest.approx([25 + 8j, 0, 5 + 2j])


def test_truth_by_cutting_every_branch():
    stand, connected, _ = case()
    network, sets = stand.network, privacy.truth(connected)[0]
    count, branches = len(network.buses), len(network.branches)
    for cut in range(0, branches, 11):
        rest = np.flatnonzero(np.arange(branches) != cut)
        at = (network.from_bus[rest], network.to_bus[rest])
        graph = coo_array((np.ones(len(rest)), at), (count, count))
        _, island = connected_components(graph, directed=False)
        away = np.flatnonzero(island[connected.bus] != island[network.slack])
        assert sets[cut] == sets[cut + branches] == frozenset(away.tolist())


def test_rings_are_refused():
    connected = fork()
    branches = connected.network.branches
    ring = pd.concat([branches, branches.iloc[[1]].assign(branch="ring", to_bus="c")])
    ring = fx.Network(connected.network.buses, ring.reset_index(drop=True), connected.network.loads)
    with pytest.raises(fx.DataError, match="4 branches, expected 3: a radial grid"):
        privacy.truth(replace(connected, network=ring))


def test_everything_of_a_fork_is_recovered():
    connected = fork()
    model = fx.linearise(connected, np.full((1, 4), 2.0))
    true, rating_kva, demand_kva = privacy.truth(connected)
    found = privacy.sets_by_currents(model.di_percent[0])
    assert found == true
    assert privacy.sets_by_currents(model.ltdf[0]) == true
    voltages = privacy.sets_by_voltages(model.vtdf[0])
    assert {s for s in voltages if len(s) > 1} == {frozenset(range(4)), frozenset([0, 2])}
    assert privacy.ratings_kva(model.di_percent[0], found) == pytest.approx(rating_kva, rel=0.02)
    recovered = privacy.demands_kva(model, 0, found)
    assert recovered == pytest.approx(demand_kva, abs=0.2)
    assert privacy.tree(found) == {
        frozenset([1]): frozenset(range(4)), frozenset([0, 2]): frozenset(range(4)),
    }  # fmt: skip


def test_scores():
    a, b, c = frozenset([1]), frozenset([2]), frozenset([1, 2])
    right = privacy.scores([a, a, b, frozenset()], [a, c, frozenset()])
    assert right == {"found": 2, "true": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert privacy.scores([], [a])["f1"] == 0.0


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("digits", [None, 2])
def test_the_tree_comes_out_exactly(direction, digits):
    _, connected, model = case(direction)
    true = privacy.truth(connected)[0]
    model = model if digits is None else privacy.rounded(model, digits)
    for answer in (model.di_percent[0], model.ltdf[0]):
        found = privacy.sets_by_currents(answer)
        assert privacy.scores(found, true)["f1"] == 1.0
        edges = (privacy.tree(sets).items() for sets in (found, true))
        assert privacy.scores(*edges)["f1"] == 1.0
    clusters = [s for s in privacy.sets_by_voltages(model.vtdf[0]) if len(s) > 1]
    assert privacy.scores(clusters, [s for s in true if len(s) > 1])["f1"] > 0.9


@pytest.mark.parametrize("direction", ["up", "down"])
def test_complex_currents_give_away_more_than_magnitudes(direction):
    _, connected, model = case(direction)
    true, rating_kva, demand_kva = privacy.truth(connected)
    leaf = np.array([len(s) == 1 for s in true]) & (np.abs(demand_kva) > 0)
    by_current, by_magnitude = (
        privacy.ratings_kva(answer, true) for answer in (model.di_percent[0], model.ltdf[0])
    )
    assert np.nanmedian(np.abs(by_current / rating_kva - 1)) < 0.02
    assert np.nanmedian(np.abs(by_magnitude / rating_kva - 1)) > 0.04
    error = privacy.demands_kva(model, 0, true)[leaf] - demand_kva[leaf]
    assert np.median(np.abs(error / demand_kva[leaf])) < 0.01
    magnitude_kva = (model.loading_percent[0] / 100 * by_magnitude)[leaf]
    relative = magnitude_kva / np.abs(demand_kva[leaf]) - 1
    assert 0.03 < np.median(np.abs(relative)) < 0.2


def test_recovered_loads_are_what_flows_into_a_branch_losses_included():
    """Behind a transformer its losses add to the loads; against AC they are counted in."""
    stand, connected, model = case("down")
    true, _, demand_kva = privacy.truth(connected)
    network = stand.network
    found = privacy.demands_kva(model, 0, true)
    bus = np.concatenate([network.from_bus, network.to_bus])
    flow = fx.power_flow(network)
    v_v = flow.v_pu[0, bus] * network.buses["v_nom_kv"].to_numpy()[bus] * 1000 / np.sqrt(3)
    sign = np.repeat([1, -1], len(network.branches))
    s_kva = 3 * sign * v_v * np.conj(flow.i_a[0]) / 1000
    behind = np.array([bool(s) for s in true]) & (np.abs(demand_kva) > 0)
    away = np.where(s_kva.real > 0, 1, -1)  # some branches are drawn towards the slack
    assert found[behind] == pytest.approx((away * s_kva)[behind], rel=0.02)
    over = np.abs(found / np.where(demand_kva == 0, 1, demand_kva))[behind]
    upstream = network.branches["branch"].str.contains("segment|Trafo").to_numpy()
    at_20_kv = np.tile(upstream, 2)[behind] & (
        network.buses["v_nom_kv"].to_numpy()[bus][behind] > 1
    )
    assert (over[at_20_kv] > 1.03).all()
    assert np.abs(over[~at_20_kv] - 1).max() < 0.01


def test_screening_hides_currents_but_not_what_many_voltages_say():
    stand, connected, _ = case("down", "merit order")
    true = privacy.truth(connected)[0]
    few = fx.linearise(
        connected, merit_order(stand.bids, np.array([stand.request_kw])),
        request_kw=(stand.request_kw,) * 2, only_binding=True,
    )  # fmt: skip
    by_currents = privacy.scores(privacy.sets_by_currents(few.di_percent[0]), true)
    assert by_currents["precision"] == 1.0
    assert by_currents["recall"] < 0.15
    clusters = [s for s in privacy.sets_by_voltages(few.vtdf[0]) if len(s) > 1]
    assert privacy.scores(clusters, [s for s in true if len(s) > 1])["recall"] > 0.6


def test_rounded_keeps_its_digits():
    model = case()[2]
    for digits in (1, 2, 6):
        short = privacy.rounded(model, digits)
        for name in ("vtdf", "di_percent"):
            new, old = getattr(short, name), getattr(model, name)
            for part in ("real", "imag"):
                a, b = getattr(new, part), getattr(old, part)
                assert (np.abs(a - b) <= 0.5001 * 10.0 ** (1 - digits) * np.abs(b)).all()
        sample = [f"{x:.{digits - 1}e}" for x in short.vtdf.ravel()[:500]]
        assert np.array(sample, float) == pytest.approx(short.vtdf.ravel()[:500], rel=1e-13)
    zero = replace(model, vtdf=np.zeros_like(model.vtdf))
    assert not privacy.rounded(zero, 2).vtdf.any()


def test_noise_is_of_its_size_and_by_its_seed():
    model = case()[2]
    noisy = privacy.noisy(model, 0.1, seed=1)
    assert np.std(noisy.vtdf / model.vtdf - 1) == pytest.approx(0.1, rel=0.01)
    assert np.std((noisy.di_percent / model.di_percent).real - 1) == pytest.approx(0.1, rel=0.01)
    assert (privacy.noisy(model, 0.1, seed=1).vtdf == noisy.vtdf).all()
    assert (privacy.noisy(model, 0.1, seed=2).vtdf != noisy.vtdf).any()
    assert (privacy.noisy(model, 0.0, seed=2).vtdf == model.vtdf).all()


def test_disguise_changes_numbers_and_no_result():
    stand, _, model = case()
    other = privacy.disguised(model, seed=1)
    assert (other.bus == np.arange(len(model.bus))).all()
    assert (other.v_pu != model.v_pu).any()
    assert sorted(other.loading_percent[0]) == pytest.approx(sorted(model.loading_percent[0]))
    one, two = (fx.activate(m, stand.bids, stand.request_kw) for m in (model, other))
    assert two.cost_eur_per_h == pytest.approx(one.cost_eur_per_h, rel=1e-9)
    replace(two, model=model).certificate.assert_ok()
    found = (privacy.sets_by_currents(m.di_percent[0]) for m in (model, other))
    assert privacy.scores(*found)["f1"] == 1.0


def test_few_axes_and_no_rows():
    assert privacy.sets_by_voltages(np.ones((3, 1))) == [frozenset([0])]
    assert privacy.sets_by_voltages(np.ones((0, 2))) == [frozenset([0]), frozenset([1])]
    assert privacy.sets_by_currents(np.zeros((2, 3))) == [frozenset()] * 2
    assert privacy.sets_by_currents(np.zeros((0, 3))) == []
    assert np.isnan(privacy.ratings_kva(np.zeros((1, 2)), [frozenset()])).all()


@pytest.mark.parametrize("label", ["behind", "shared", "rating", "demand"])
def test_equations_of_the_page_and_functions_point_at_each_other(label):
    page = (Path(__file__).parents[1] / "book" / "light-model.md").read_text(encoding="utf-8")
    assert f"$$ (light-{label})" in page
    functions = [f for _, f in inspect.getmembers(privacy, inspect.isfunction)]
    (function,) = [f for f in functions if f":eq:`light-{label}`" in (f.__doc__ or "")]
    assert f"{{py:func}}`flexlib.privacy.{function.__name__}`" in page
