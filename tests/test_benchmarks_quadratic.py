"""The record of quadratic hubs fits the code, and the sides of the follower map answer the same.

Nothing here is timed: no test depends on how fast anything is.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import quadratic, quadratic_map, quadratic_sides
from benchmarks.hub_scale import measured_apart
from benchmarks.measure import LAYERS
from flexlib import data_path
from flexlib.centralised import centralised
from flexlib.hub_followers import no_pricing
from flexlib.hub_instances import many_feeders
from flexlib.hub_programme import HubProgramme

HUBS = 6
WRONG = ("diffapqp, OSQP, lsqr", "cvxpylayers, lsqr")  # LSQR stops before its gradient is right


@cache
def decision() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    return draw.uniform(0.0, 60.0, (HUBS, 24)), draw.normal(size=(HUBS, 24 * 12))


def compared(name: str) -> dict[tuple[str, str], float]:
    build, packages, _ = quadratic_map.SIDES[name]
    for package in packages:
        pytest.importorskip(package)
    hubs, _ = many_feeders(HUBS // 3, quadratic_map.LEVEL)
    names = dict.fromkeys([quadratic_map.OURS, name])
    made = {one: quadratic_map.SIDES[one][0](hubs) for one in names} | {name: build(hubs)}
    return quadratic_map.compared(made, dict.fromkeys(names, HUBS), *decision())


@pytest.mark.parametrize("name", quadratic_map.SIDES)
def test_every_side_gives_the_same_answer_and_gradient(name: str) -> None:
    off = compared(name)
    limit = quadratic_map.COST_SHARE if name == quadratic_map.LINEAR else quadratic_map.ANSWER_MW
    assert off[quadratic_map.ANSWER, name] <= limit
    gradient = off.get((quadratic_map.GRADIENT, name), 0.0)
    assert (gradient > quadratic_map.GRADIENT_SHARE) == (name in WRONG)


def test_gradient_is_that_of_central_differences() -> None:
    hubs, _ = many_feeders(HUBS // 3, quadratic_map.LEVEL)
    side = quadratic_sides.ours(hubs)
    adder, weight = decision()
    _, gradient = side(adder)
    direction = np.random.default_rng(4).normal(size=adder.shape)
    step = 1e-4 * direction
    ends = [(weight * side(adder + sign * step)[0]).sum() for sign in (1, -1)]
    moved = (ends[0] - ends[1]) / 2e-4
    assert moved == pytest.approx((gradient(weight) * direction).sum(), rel=1e-6)


@pytest.mark.parametrize("name", [quadratic_map.LINEAR, "PIQP, hub by hub"])
def test_a_wrong_answer_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = quadratic_sides.Block.whole

    def wrong(p: quadratic_sides.Block, x: np.ndarray) -> np.ndarray:
        moved = x.copy()
        moved[p.imports] += 0.01
        return whole(p, moved)

    monkeypatch.setattr(quadratic_sides.Block, "whole", wrong)
    with pytest.raises(AssertionError, match=f"{name}: answer off by"):
        compared(name)


def test_blocks_are_the_programme_of_all_hubs() -> None:
    hubs, _ = many_feeders(2, 0.6)
    programme = HubProgramme(hubs)
    parts = quadratic_sides.blocks(hubs)
    x = np.random.default_rng(5).uniform(size=len(programme.cost)).reshape(len(hubs), -1)
    lower = programme.lower.reshape(x.shape)
    for i, p in enumerate(parts):
        assert (lower[i] == programme.upper.reshape(x.shape)[i])[~p.free].all()
        x[i][~p.free] = lower[i][~p.free]
        np.testing.assert_array_equal(p.whole(x[i][p.free]), x[i])
    left = [p.a @ v[p.free] - p.b for p, v in zip(parts, x, strict=True)]
    np.testing.assert_allclose(np.concatenate(left), programme.a @ x.ravel() - programme.b)
    adder = np.arange(24.0)
    for i, p in enumerate(parts):
        of_all = programme.cost.copy()
        of_all[programme.column("m_in")[i]] += adder
        np.testing.assert_array_equal(p.cost(adder), of_all.reshape(x.shape)[i][p.free])


def test_a_gradient_that_is_wrong_has_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = quadratic_map.SIDES[quadratic_map.OURS]

    def wrong(hubs):
        side = ours[0](hubs)

        def moved(adder: np.ndarray):
            x, gradient = side(adder)
            return x, lambda weight: 1.01 * gradient(weight)

        return moved

    sides = {quadratic_map.OURS: ours, "wrong": (wrong, ("numpy",), 3), "none": (wrong, ("no",), 3)}
    monkeypatch.setattr(quadratic_map, "SIDES", sides)
    rows = pd.DataFrame(quadratic_map.map_rows(runs=2, most=6)).set_index(["task", "side"])
    assert rows["hubs"].tolist() == [6, 3] * 2
    assert rows["right"].tolist() == [True, True, True, False]
    ratios = rows[["ratio_min", "ratio_median", "ratio_max"]]
    assert ratios.loc[quadratic_map.GRADIENT, "wrong"].isna().all()
    assert ratios.drop((quadratic_map.GRADIENT, "wrong")).gt(0).all(axis=None)
    assert list(rows.reset_index()) == quadratic_map.MAP_COLUMNS


def test_without_pytorch_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    hubs, _ = many_feeders(1, 0.6)
    with pytest.raises(ModuleNotFoundError, match=r"peers-layers\.txt"):
        quadratic_sides.by_diffapqp(hubs)
    folder = Path(quadratic_sides.__file__).parent
    listed = (folder / "peers-layers.txt").read_text(encoding="utf-8")
    for name in LAYERS:
        assert f"{name}==" in listed


@pytest.mark.parametrize("level", [0.6, 0.5])
def test_bound_by_trunks_is_not_above_that_of_method_b(level: float) -> None:
    hubs, grid = many_feeders(20, level)
    bound = quadratic.least_congestion_mwh(hubs, grid)
    stage_1 = centralised(hubs, grid).bound_mwh
    assert bound <= stage_1 + 1e-6
    assert bound == pytest.approx(stage_1, rel=1e-6, abs=1e-6)  # the substation does not bind


def test_steps_end_where_the_relief_is_reached_and_their_time_is_added() -> None:
    hubs, grid = many_feeders(1, 0.5)
    bound = centralised(hubs, grid).bound_mwh
    rows = pd.DataFrame(quadratic.price_rows(0.5, 3, bound, runs=1)).set_index("method")
    congestion = rows["congestion_mwh"]
    relief = congestion[quadratic.UNPRICED] - congestion
    relief /= congestion[quadratic.UNPRICED] - bound
    assert relief[quadratic.PRICES] < quadratic.RELIEF <= relief[quadratic.STEPS]
    assert rows.loc[quadratic.STEPS, "steps"] >= 1
    assert rows.loc[quadratic.STEPS, "total_s"] > rows.loc[quadratic.PRICES, "total_s"]
    found = quadratic.quadratic_prices(hubs, grid)
    _, steps = quadratic._stepped(found, -1.0)
    assert steps == quadratic.MOST_STEPS
    assert quadratic._stepped(found, np.inf) == (found, 0)


def test_a_size_is_measured_by_processes_of_their_own() -> None:
    rows = list(quadratic.scale_rows(0.5, 3))
    expected = [quadratic.BOUND, quadratic.UNPRICED, quadratic.PRICES, quadratic.STEPS]
    assert [row["method"] for row in rows] == expected
    assert all(row["bound_mwh"] == rows[0]["bound_mwh"] > 0 for row in rows)
    assert all(set(row) <= set(quadratic.SCALE_COLUMNS) for row in rows)
    methods = [row["method"] for row in quadratic.scale_rows(0.6, 3)]
    assert methods == [quadratic.UNPRICED, quadratic.PRICES]
    with pytest.raises(RuntimeError, match="ended with 1"):
        list(measured_apart("benchmarks.quadratic", quadratic.BOUND, "0.6", "3000000"))


def exact(level: float, methods: tuple[str, ...]) -> pd.DataFrame:
    rows = quadratic.exact_rows(1, 6, level, methods)
    return pd.DataFrame(rows, columns=quadratic.EXACT_COLUMNS).set_index("method")


def test_no_prices_are_better_than_the_exact_ones() -> None:
    pytest.importorskip("pyscipopt")
    rows = exact(0.6, (quadratic.EXACT,))
    bound = rows["bound"][quadratic.EXACT]
    value = rows["objective"]
    assert bound * (1 - 1e-9) <= value[quadratic.EXACT] <= (1 + 2 * quadratic.GAP) * bound
    assert value[quadratic.EXACT] <= value[quadratic.STEPPED] * (1 + quadratic.GAP)
    assert value[quadratic.STEPPED] < value[quadratic.ONE] < value[quadratic.UNPRICED]
    assert (rows["optimistic_mwh"] <= rows["pessimistic_mwh"] + 1e-9).all()
    assert (rows["pessimistic_mwh"] <= rows["at_most_mwh"] + 1e-9).all()


def test_worst_answers_to_bands_are_within_their_theorem() -> None:
    rows = pd.DataFrame(quadratic.band_rows(0.5, 6, runs=1), columns=quadratic.BAND_COLUMNS)
    rows = rows.set_index("method")
    bands = rows.loc[list(quadratic.BANDS)]
    assert (bands["pessimistic_mwh"] <= bands["theorem_mwh"] + 1e-6).all()
    assert (rows["pessimistic_mwh"] >= rows["bound_mwh"] - 1e-6).all()
    for method in (quadratic.UNPRICED, quadratic.LINEAR_PRICES):
        assert rows["pessimistic_mwh"][method] > bands["at_most_mwh"].max()
    assert rows["total_s"].drop(quadratic.UNPRICED).gt(0).all()


def test_parts_are_those_of_the_records() -> None:
    assert {record for record, _ in quadratic.PARTS.values()} == set(quadratic.COLUMNS_OF)
    asked: list[str] = []

    def kept(name: str, run) -> pd.DataFrame:
        asked.append(name)
        record, _ = quadratic.PARTS[name]
        return pd.DataFrame([{}], columns=quadratic.COLUMNS_OF[record])

    records = quadratic.quadratic_records(kept)
    assert asked == list(quadratic.PARTS)
    assert sum(map(len, records.values())) == len(asked)


def kept_record(name: str) -> pd.DataFrame:
    kept = pd.read_csv(data_path(f"benchmarks/{name}.csv"))
    assert list(kept.columns) == quadratic.COLUMNS_OF[name]
    return kept


def test_record_of_sizes_is_what_the_code_finds() -> None:
    kept = kept_record("quadratic-scale")
    assert list(kept[["level", "hubs"]].drop_duplicates().itertuples(index=False, name=None)) == [
        *quadratic.SIZES
    ]
    assert kept[["total_s", "peak_mb", "runs"]].gt(0).all(axis=None)
    own = kept[kept["hubs"] == 30].set_index(["level", "method"])
    for level in (0.6, 0.5):
        again = pd.DataFrame(
            quadratic.price_rows(level, 30, own["bound_mwh"][level, quadratic.PRICES], runs=1)
        ).set_index("method")
        found = own.loc[level].loc[again.index, "congestion_mwh"]
        np.testing.assert_allclose(found, again["congestion_mwh"], rtol=1e-3, atol=1e-3)
        hubs, grid = many_feeders(10, level)
        bound = centralised(hubs, grid).bound_mwh
        assert own["bound_mwh"][level, quadratic.PRICES] == pytest.approx(bound, rel=1e-3)


def test_record_of_the_map_has_the_sides_of_the_code() -> None:
    kept = kept_record("quadratic-map")
    given = [
        name
        for name, (_, packages, _) in quadratic_map.SIDES.items()
        if all(find_spec(package) for package in packages)
    ]
    answers = kept[kept["task"] == quadratic_map.ANSWER].set_index("side")
    assert set(given) <= set(answers.index) <= set(quadratic_map.SIDES)
    assert kept["hub_ms"].gt(0).all()
    assert answers["right"].all()
    assert (kept["ratio_median"].isna() == ~kept["right"]).all()
    for name, (_, _, hubs) in quadratic_map.SIDES.items():
        assert (kept.loc[kept["side"] == name, "hubs"] == hubs).all()
    about = json.loads(data_path("benchmarks/machine.json").read_text(encoding="utf-8"))
    versions = {f"{name} {number}" for name, number in about["packages"].items()}
    assert set(", ".join(kept["version"]).split(", ")) <= versions


def test_record_of_exact_prices_is_what_the_code_finds() -> None:
    kept = kept_record("quadratic-exact")
    keys = ["hubs", "hours", "level"]
    assert [*kept[keys].drop_duplicates().itertuples(index=False, name=None)] == quadratic.CASES
    for _, rows in kept.groupby(keys):
        rows = rows.set_index("method")
        value, bound = rows["objective"], rows["bound"][quadratic.EXACT]
        of_d = value[[quadratic.ONE, quadratic.STEPPED, quadratic.EXACT]]
        assert bound <= of_d.min() * (1 + 1e-3)
    own = kept[(kept["hubs"] == 1) & (kept["level"] == 0.6)].set_index("method")
    again = exact(0.6, ())
    columns = ["objective", "quadratic_mwh", "optimistic_mwh", "pessimistic_mwh"]
    pd.testing.assert_frame_equal(own.loc[again.index, columns], again[columns], rtol=1e-3)


def test_record_of_bands_is_what_the_code_finds() -> None:
    kept = kept_record("quadratic-band")
    assert set(kept["hubs"]) == {quadratic.BAND_HUBS}
    methods = [quadratic.UNPRICED, *quadratic.BANDS, quadratic.LINEAR_PRICES]
    for level, rows in kept.groupby("level"):
        assert rows["method"].tolist() == methods
        hubs, grid = many_feeders(quadratic.BAND_HUBS // 3, level)
        rows = rows.set_index("method")
        careless = grid.congestion_mwh(no_pricing(hubs).schedule.w_mw)
        assert rows["pessimistic_mwh"][quadratic.UNPRICED] >= careless * (1 - 1e-3)
        name = next(iter(quadratic.BANDS))
        theorem = quadratic.BANDS[name](centralised(hubs, grid)).bound_mwh()
        assert rows["theorem_mwh"][name] == pytest.approx(theorem, rel=1e-3, abs=1e-6)
        bands = rows.loc[list(quadratic.BANDS)]
        assert (bands["pessimistic_mwh"] <= bands["theorem_mwh"] * (1 + 1e-3) + 1e-6).all()
