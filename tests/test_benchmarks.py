"""The record of the benchmarks fits the code, and both sides of each compute the same.

Nothing here is timed: no test depends on how fast anything is.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import (
    cases,
    feeders,
    grids,
    hub_scale,
    hub_sides,
    milp,
    peers,
    sensitivities,
    voronoi_scale,
)
from benchmarks.measure import (
    COLUMNS,
    COUNTS,
    EXTRAS,
    LAYERS,
    assert_agreement,
    machine,
    measure,
    write_records,
)
from benchmarks.scale import SIZES, market_of, scale_row
from flexlib import Market, clear, data_path, solve, solver
from flexlib.bids import Connected
from flexlib.hub_instances import many_feeders
from flexlib.hub_programme import HubProgramme
from flexlib.light_model import linearise
from flexlib.linear_program import LinearProgram
from flexlib.robust_limits import limits_that_can_bind
from flexlib.robust_rows import current_margins_a, first_rows
from flexlib.stand_in import StandIn, stand_in
from flexlib.voronoi import activate
from flexlib.voronoi_model import printed_milp
from flexlib.voronoi_points import k_means

MISSING = {*EXTRAS, *LAYERS}  # may not be installed
SECONDS = ["ours_s", "ours_solver_s", "other_s", "other_solver_s", "data_s"]
RATIOS = ["ratio_min", "ratio_median", "ratio_max"]
KINDS = ["market-12", "market", "margins", "corners", "method A", "method B"]


@cache
def record() -> pd.DataFrame:
    return pd.read_csv(data_path("benchmarks/record.csv"))


@cache
def tiny() -> Market:
    return feeders.generated(13)


def tiny_case(kind: str) -> cases.Case:
    if kind == "market-12":
        return cases.market_case(feeders.feeder_12())
    if kind == "market":
        return cases.market_case(tiny())
    if kind == "margins":
        return cases.margin_case(tiny())
    if kind in ("method A", "method B"):
        return cases.hub_case(6, planned=kind == "method B")
    pytest.importorskip("pandapower")
    return cases.corner_case(tiny())


@cache
def small() -> StandIn:
    """The stand-in with every bid but the first 60 left out, 0.7 of what remains requested."""
    given = stand_in("down")
    bids = type(given.bids)(given.bids.table.iloc[:60].reset_index(drop=True))
    return StandIn(given.network, bids, given.sites, 0.7 * bids.lower.sum())


@cache
def injections() -> sensitivities.Injections:
    pytest.importorskip("pandapower")
    return sensitivities.of_the_stand_in()


every_kind = pytest.mark.parametrize("kind", KINDS)


def test_record_has_its_columns_and_units() -> None:
    assert list(record().columns) == COLUMNS
    assert {name for name in COLUMNS if name.endswith("_s")} == set(SECONDS)
    assert record()[["ours_s", "other_s", *RATIOS]].gt(0).all(axis=None)
    assert record()["rows"].gt(0).all()
    assert record()[["buses", "hubs"]].gt(0).sum(axis=1).eq(1).all()
    assert (record()[COUNTS].gt(0) | record()[COUNTS].isna()).all(axis=None)
    assert record()["runs"].ge(1).all()
    assert record()["share"].between(0, 1, inclusive="right").all()
    assert not record().duplicated(["case", "peer"]).any()


def test_record_is_consistent_in_itself() -> None:
    assert np.all(np.diff(record()[RATIOS], axis=1) >= 0)
    for side in ("ours", "other"):
        assert not (record()[f"{side}_solver_s"] > record()[f"{side}_s"]).any()


def sizes(case: cases.Case) -> list[int]:
    return [case.counts.get(count, 0) for count in COUNTS[:-1]]


def test_record_and_code_have_the_same_cases() -> None:
    pytest.importorskip("pandapower")
    pytest.importorskip("simbench")
    built = {name: build() for name, build in cases.CASES.items()}
    expected = {
        (name, case.what, peer, case.rows, round(case.share.get(peer, 1.0), 4), *sizes(case))
        for name, case in built.items()
        for peer in case.peers
    }
    columns = ["case", "what", "peer", "rows", "share", *COUNTS[:-1]]
    found = record().fillna(dict.fromkeys(COUNTS, 0)).round({"share": 4})
    for name, peer in (("rsome", cases.RSOME), ("linopy", cases.LINOPY)):
        if not find_spec(name):
            found = found[~found["peer"].str.startswith(peer)]
    assert set(found[columns].itertuples(index=False, name=None)) == expected


def test_machine_is_named_with_all_versions() -> None:
    about = json.loads(data_path("benchmarks/machine.json").read_text(encoding="utf-8"))
    assert about.keys() == machine().keys()
    assert about["packages"].keys() - MISSING == machine()["packages"].keys() - MISSING
    assert about["cpu"]
    versions = {f"{name} {number}" for name, number in about["packages"].items()}
    assert set(", ".join(record()["peer_version"]).split(", ")) <= versions


@every_kind
def test_both_sides_give_the_same_answer(kind: str) -> None:
    assert_agreement(tiny_case(kind))


@every_kind
def test_a_wrong_side_is_noticed(kind: str) -> None:
    case = tiny_case(kind)
    peer = next(iter(case.peers))
    right = case.peers[peer]
    case.peers[peer] = lambda: right() + 2 * case.tolerance
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_agreement(case)


def test_measured_rows_are_those_of_the_record(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.measure.SAMPLE_S", 0.0)
    case, ticks = tiny_case("market-12"), []
    rows = measure("tiny", case, runs=2, tick=lambda: ticks.append(1))
    assert list(rows["peer"]) == list(case.peers)
    assert len(ticks) == 2
    assert (rows[["ours_solver_s", "other_solver_s"]] > 0).all(axis=None)
    growth = [voronoi_scale.growth_row("points", small(), 3, screened=True, runs=1)]
    growth.append(voronoi_scale.least_row(small(), runs=1))
    records = {
        "record": rows,
        "scale": pd.DataFrame([scale_row(tiny(), runs=1)]),
        "voronoi-scale": pd.DataFrame(growth),
        "hubs-scale": hub_rows(3, runs=1),
    }
    write_records(records, tmp_path)
    assert list(pd.read_csv(tmp_path / "record.csv").columns) == COLUMNS
    for name in ("scale", "voronoi-scale", "hubs-scale"):
        kept = pd.read_csv(data_path(f"benchmarks/{name}.csv"))
        assert list(pd.read_csv(tmp_path / f"{name}.csv").columns) == list(kept.columns)
    assert json.loads((tmp_path / "machine.json").read_text(encoding="utf-8")) == machine()


@pytest.mark.parametrize("buses", [12, 100])
def test_record_of_sizes_counts_what_the_code_counts(buses: int) -> None:
    kept = pd.read_csv(data_path("benchmarks/scale.csv")).set_index("buses")
    assert list(kept.index) == list(SIZES)
    again = scale_row(market_of(buses), runs=1)
    counts = ["uncertain_loads", "offers", "limits", "limits_kept", "rows", "rows_kept"]
    assert kept.loc[buses, counts].to_dict() == {name: again[name] for name in counts}
    assert kept.gt(0).all(axis=None)


@pytest.mark.parametrize("buses", [13, 100])
def test_generated_feeder_is_drawn_by_its_seed_and_limits_bind(buses: int) -> None:
    one, other = feeders.generated(buses, seed=1), feeders.generated(buses, seed=1)
    pd.testing.assert_frame_equal(one.network.branches, other.network.branches)
    assert one.network.is_radial
    assert len(one.uncertainty.load) == (buses - 1) // 3
    result = clear(one)
    assert result.cost_eur_per_h > 0
    binding = np.abs(result.solution.row_dual) > 1e-9
    assert 1 <= binding.sum() <= 10


def test_limits_of_a_generated_feeder_are_what_its_box_needs() -> None:
    market = tiny()
    i_a = market.flow.i0_a
    along = np.real(np.conj(market.planes.normals(i_a)) * i_a[:, None]) + current_margins_a(market)
    from_ends = along[: len(market.network.branches)].max(axis=1) / market.planes.apothem
    np.testing.assert_allclose(feeders._needed_a(market, i_a), from_ends, rtol=1e-12)


def test_our_side_builds_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases.market_case(tiny())
    assert case.rows == len(first_rows(tiny(), limits_that_can_bind(tiny())))
    built = []
    for name in ("limits_that_can_bind", "robust_optimum"):
        real = getattr(cases, name)

        def counted(*args: object, real=real, name=name) -> object:
            built.append(name)
            return real(*args)

        monkeypatch.setattr(cases, name, counted)
    assert case.ours() == case.ours() == clear(tiny()).cost_eur_per_h
    assert built == ["limits_that_can_bind", "robust_optimum"] * 2


def test_sensitivities_of_every_side_are_those_of_central_differences() -> None:
    case = cases.sensitivity_case(injections(), sample=5)
    assert len(case.peers) == 5
    assert_agreement(case)
    right = case.ours
    for part in (0, 1):
        wrong = [change.copy() for change in right()]
        wrong[part][:, 0] *= 1.001
        case = cases.sensitivity_case(injections(), sample=5)
        object.__setattr__(case, "ours", lambda wrong=wrong: tuple(wrong))
        with pytest.raises(AssertionError, match="ours"):
            assert_agreement(case)


@pytest.mark.parametrize("method", ["linear", "linear_current"])
def test_linear_methods_of_power_grid_model_are_not_peers(method: str) -> None:
    method = sensitivities.CalculationMethod[method]
    found, _ = sensitivities.by_power_grid_model(injections(), method)
    ours, _ = injections().ours()
    assert np.abs(found - ours).max() > 5e-3 * np.abs(ours).max()


def test_time_of_a_sample_is_scaled_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.SAMPLE_S", 0.0)
    monkeypatch.setattr("benchmarks.measure.cpu_s", lambda run, repeats=1: (2.0, 0.0))
    case = cases.sensitivity_case(injections(), sample=5)
    rows = measure("tiny", case, runs=1).set_index("peer")
    for name in sensitivities.PANDAPOWER_MODES:
        assert rows.loc[name, "share"] == 6 / 242
        assert rows.loc[name, ["other_s", "ratio_median"]].tolist() == [2 * 242 / 6, 242 / 6]
    for name in sensitivities.PGM_MODES:
        assert rows.loc[name, ["share", "other_s"]].tolist() == [1, 2]


def test_the_programme_as_arrays_is_the_printed_model() -> None:
    given = small()
    connected = Connected(given.network, given.bids, given.sites)
    points = k_means(given.bids, 3, 1, "down")
    model = linearise(connected, points, only_binding=True)
    programme = milp.milp_program(model, given.bids, given.request_kw)
    cost = milp.highs_cost(programme)
    printed = solve(printed_milp(model, given.bids, given.request_kw), gap=milp.GAP)
    assert cost == pytest.approx(printed.objective, rel=2e-6)
    ours = activate(model, given.bids, given.request_kw, printed=True)
    assert cost == pytest.approx(ours.cost_eur_per_h, rel=2e-6)
    beyond = milp.milp_program(model, given.bids, 2.1 * given.request_kw)
    with pytest.raises(RuntimeError, match="Infeasible"):
        milp.highs_cost(beyond)


def test_drawn_bids_overload_a_branch_together_and_a_limit_binds() -> None:
    given = stand_in("down").network
    network = replace(given, loads=given.loads.assign(p_kw=10 * given.loads["p_kw"]))
    given, again = (grids.drawn(network, 12) for _ in "12")
    pd.testing.assert_frame_equal(given.bids.table, again.bids.table)
    connected = Connected(given.network, given.bids, given.sites)
    assert grids._loading_percent(connected) == pytest.approx(150, abs=1)


def test_growth_needs_a_limit_that_binds() -> None:
    given = small()
    tiny_volumes = given.bids.table.assign(down_max_kw=given.bids.table["down_max_kw"] / 100)
    bids = type(given.bids)(tiny_volumes)
    given = StandIn(given.network, bids, given.sites, 0.7 * bids.lower.sum())
    with pytest.raises(RuntimeError, match="no limit binds among 60 bids"):
        voronoi_scale.growth_row("bids", given, 1, screened=False, runs=1)


def test_record_of_growth_has_the_sizes_of_the_code() -> None:
    kept = pd.read_csv(data_path("benchmarks/voronoi-scale.csv"))
    grown = kept[kept["series"] != voronoi_scale.LEAST]
    found = zip(grown["series"], grown["bids"], grown["points"], grown["screened"], strict=True)
    asked = voronoi_scale.SIZES
    assert list(found) == [(series, bids, m, screened) for series, _, bids, m, screened in asked]
    for buses, (_, most, *_) in zip(grown["buses"], asked, strict=True):
        assert 0.95 * most <= buses <= most
    times = ["linearise_s", "activate_s", "again_s"]
    assert grown[[*times, "peak_mb"]].gt(0).all(axis=None)
    (least,) = kept[kept["series"] == voronoi_scale.LEAST].to_dict("records")
    assert least["again_s"] > 0
    again = voronoi_scale.least_row(stand_in("down"), runs=1)
    assert least["rounds"] == again["rounds"]


def hub_rows(hubs: int, runs: int = 2, level: float = 0.6) -> pd.DataFrame:
    rows = hub_scale.size_rows(level, hubs, list(hub_scale.METHODS), runs)
    return pd.DataFrame(rows, columns=hub_scale.COLUMNS)


@pytest.mark.parametrize("side", ["by_linopy", "by_cvxpy", "by_pyomo"])
@pytest.mark.parametrize("level", [0.6, 0.5])
def test_every_tool_finds_method_a_and_b(side: str, level: float) -> None:
    if side == "by_linopy":
        pytest.importorskip("linopy")
    hubs, grid = many_feeders(4, level)
    found = getattr(hub_sides, side)
    np.testing.assert_allclose(found(hubs), hub_sides.ours(hubs), rtol=1e-9)
    congestion, cost = hub_sides.ours(hubs, grid)
    assert found(hubs, grid).tolist() == pytest.approx([congestion, cost], rel=1e-7, abs=1e-6)
    assert cost > hub_sides.ours(hubs)[0] + 1
    assert (congestion > 0.1) == (level == 0.5)


def test_tools_get_the_bounds_and_costs_of_the_arrays() -> None:
    hubs, _ = many_feeders(2, 0.6)
    programme = HubProgramme(hubs)
    for name, (lower, upper) in hub_sides.bounds(hubs).items():
        np.testing.assert_allclose(lower, programme.lower[programme.column(name)])
        np.testing.assert_allclose(upper, programme.upper[programme.column(name)])
        cost = hub_sides.costs(hubs).get(name, np.zeros(1))
        np.testing.assert_allclose(
            *np.broadcast_arrays(cost, programme.cost[programme.column(name)])
        )


@pytest.mark.parametrize(("hubs", "way"), [(30, "choose"), (300, "ipm")])
def test_tools_solve_by_the_method_of_our_door(hubs: int, way: str, monkeypatch) -> None:
    given = many_feeders(hubs // 3, 0.6)
    assert hub_sides.options(*given)["solver"] == way
    assert hub_sides._LARGE == solver._LARGE

    def counted(program: LinearProgram) -> None:
        raise RuntimeError(f"{len(program.c) > solver._LARGE}")

    monkeypatch.setattr(sys.modules["flexlib.centralised"], "solve", counted)
    with pytest.raises(RuntimeError, match=f"{way == 'ipm'}"):
        hub_sides.ours(*given)


def test_without_linopy_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "linopy", None)
    hubs, _ = many_feeders(1, 0.6)
    with pytest.raises(ModuleNotFoundError, match=peers.INSTALL):
        hub_sides.by_linopy(hubs)
    listed = Path(peers.__file__).with_name("peers.txt").read_text(encoding="utf-8")
    assert "\nlinopy==" in listed


def test_times_of_hubs_add_up_and_methods_follow() -> None:
    rows = hub_rows(3, level=0.5).set_index("method")
    parts = rows[["arrays_s", "checks_s", "solver_s"]]
    assert parts.gt(0).all(axis=None)
    assert rows["runs"].eq(2).all()
    assert list(rows["solver_runs"][["A", "B"]]) == [1, 2]
    assert rows["solver_runs"]["prices"] >= 4
    assert rows["congestion_mwh"]["A"] > rows["congestion_mwh"]["prices"]
    assert rows["congestion_mwh"]["prices"] > rows["bound_mwh"]["prices"] - 1e-6
    assert rows["peak_mb"].is_monotonic_increasing
    alone = list(hub_scale.size_rows(0.5, 3, ["prices"], runs=1))
    assert [row["method"] for row in alone] == ["prices"]


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked, ticks = tmp_path / "unfinished.csv", [], []
    sizes = [(0.6, 3, ("A", "B")), (0.5, 3, ("A", "B"))]
    monkeypatch.setattr(hub_scale, "SIZES", sizes)

    def row(level: float, hubs: int, methods: list[str]):
        for method in methods:
            asked.append((level, method))
            if len(asked) == 4:
                raise RuntimeError("stopped")
            yield dict.fromkeys(hub_scale.COLUMNS, 1.0) | {
                "level": level, "hubs": hubs, "method": method,
            }  # fmt: skip

    monkeypatch.setattr(hub_scale, "_measured_apart", row)
    with pytest.raises(RuntimeError, match="stopped"):
        hub_scale.hub_record(path=path)
    record = hub_scale.hub_record(lambda: ticks.append(1), path)
    assert asked == [(0.6, "A"), (0.6, "B"), (0.5, "A"), (0.5, "B"), (0.5, "B")]
    assert len(ticks) == len(record) == 4
    assert list(record.columns) == hub_scale.COLUMNS
    assert not path.exists()


def test_a_size_is_measured_by_a_process_of_its_own() -> None:
    (row,) = hub_scale._measured_apart(0.6, 3, ["A"])
    assert set(hub_scale.COLUMNS) - set(row) == {"bound_mwh"}
    assert row["peak_mb"] >= row["start_mb"] > 10
    with pytest.raises(RuntimeError, match="ended with 1"):
        list(hub_scale._measured_apart(0.6, 3000000, ["A"]))


def test_record_of_hubs_has_the_sizes_and_results_of_the_code() -> None:
    kept = pd.read_csv(data_path("benchmarks/hubs-scale.csv"))
    sizes = [(level, hubs, m) for level, hubs, methods in hub_scale.SIZES for m in methods]
    assert list(kept[hub_scale.KEYS].itertuples(index=False, name=None)) == sizes
    times = ["total_s", "arrays_s", "checks_s", "solver_s"]
    assert kept[[*times, "peak_mb", "runs", "solver_runs"]].gt(0).all(axis=None)
    np.testing.assert_allclose(kept[times[1:]].sum(axis=1), kept["total_s"], rtol=0.1)
    for level in (0.6, 0.5):
        again = hub_rows(30, runs=1, level=level)
        found = kept[(kept["hubs"] == 30) & (kept["level"] == level)]
        for column in ("lines", "congestion_mwh", "bound_mwh"):
            np.testing.assert_allclose(found[column], again[column], rtol=1e-2, atol=1e-6)
