"""The record of the benchmarks fits the code, and both sides of each compute the same.

Nothing here is timed: no test depends on how fast anything is.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from benchmarks import cases, feeders
from benchmarks.measure import COLUMNS, assert_agreement, machine, measure, write_record
from benchmarks.scale import SIZES, market_of, scale_row
from flexlib import Market, clear, data_path
from flexlib.robust_limits import limits_that_can_bind
from flexlib.robust_rows import current_margins_a, first_rows

SECONDS = ["ours_s", "ours_solver_s", "other_s", "other_solver_s", "data_s"]
RATIOS = ["ratio_min", "ratio_median", "ratio_max"]


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
    pytest.importorskip("pandapower")
    return cases.corner_case(tiny())


every_kind = pytest.mark.parametrize("kind", ["market-12", "market", "margins", "corners"])


def test_record_has_its_columns_and_units() -> None:
    assert list(record().columns) == COLUMNS
    assert {name for name in COLUMNS if name.endswith("_s")} == set(SECONDS)
    assert record()[["ours_s", "other_s", *RATIOS]].gt(0).all(axis=None)
    assert record()[["buses", "uncertain_loads", "offers", "rows"]].gt(0).all(axis=None)
    assert record()["runs"].ge(5).all()
    assert not record().duplicated(["case", "peer"]).any()


def test_record_is_consistent_in_itself() -> None:
    assert np.all(np.diff(record()[RATIOS], axis=1) >= 0)
    for side in ("ours", "other"):
        assert not (record()[f"{side}_solver_s"] > record()[f"{side}_s"]).any()


def test_record_and_code_have_the_same_cases() -> None:
    pytest.importorskip("pandapower")
    built = {name: build() for name, build in cases.CASES.items()}
    expected = {
        (name, case.what, peer, len(case.market.network.buses), len(case.market.uncertainty.load))
        for name, case in built.items()
        for peer in case.peers
    }
    columns = ["case", "what", "peer", "buses", "uncertain_loads"]
    found = record()
    if not find_spec("rsome"):
        found = found[~found["peer"].str.startswith(cases.RSOME)]
    assert set(found[columns].itertuples(index=False, name=None)) == expected


def test_machine_is_named_with_all_versions() -> None:
    about = json.loads(data_path("benchmarks/machine.json").read_text(encoding="utf-8"))
    assert about.keys() == machine().keys()
    assert about["packages"].keys() - {"rsome"} == machine()["packages"].keys() - {"rsome"}
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
    sizes = pd.DataFrame([scale_row(tiny(), runs=1)])
    write_record(rows, sizes, tmp_path)
    assert list(pd.read_csv(tmp_path / "record.csv").columns) == COLUMNS
    kept = pd.read_csv(data_path("benchmarks/scale.csv"))
    assert list(pd.read_csv(tmp_path / "scale.csv").columns) == list(kept.columns)
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
    limits = limits_that_can_bind(case.market)
    assert case.rows == len(first_rows(case.market, limits))
    built = []
    for name in ("limits_that_can_bind", "robust_optimum"):
        real = getattr(cases, name)

        def counted(*args: object, real=real, name=name) -> object:
            built.append(name)
            return real(*args)

        monkeypatch.setattr(cases, name, counted)
    assert case.ours() == case.ours() == clear(case.market).cost_eur_per_h
    assert built == ["limits_that_can_bind", "robust_optimum"] * 2
