"""The hubs' grid: signs and sums of the poster, and tables that are refused by name."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hub_cases import random_hubs
from scipy.sparse import csr_array

from flexlib import DataError
from flexlib.centralised import centralised
from flexlib.hub_followers import no_pricing
from flexlib.hub_grid import HubGrid, read_grid, read_limits
from flexlib.hub_instances import reference
from flexlib.hubs import Hubs, read_hubs
from flexlib.tables import data_path

REFERENCE = data_path("hubs/reference-3")
CASE = {"hubs": 3, "hours": 24, "fl": 0.6}


@pytest.fixture(scope="module")
def hubs() -> Hubs:
    return read_hubs(REFERENCE)


@pytest.fixture(scope="module")
def limits() -> pd.Series:
    return read_limits(REFERENCE, **CASE)


def edited(folder: Path, name: str, change: Callable[[list[list[str]]], object]) -> Path:
    """Copy of the reference tables with the rows of one changed."""
    shutil.copytree(REFERENCE, folder, dirs_exist_ok=True)
    with (folder / f"{name}.csv").open() as file:
        rows = list(csv.reader(file))
    change(rows)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def cell(row: int, column: int, value: str) -> Callable[[list[list[str]]], object]:
    def change(rows: list[list[str]]) -> None:
        rows[row - 1][column] = value

    return change


def faults_of(make: Callable[[], object]) -> list[tuple[str, str, str, str, str]]:
    with pytest.raises(DataError) as error:
        make()
    return [(f.file, f.row, f.column, f.value, f.expected) for f in error.value.faults]


def drawn_grid(rng: np.random.Generator, count: int, rows: int, hours: int) -> HubGrid:
    """Signed, dense, limited on both sides."""
    return HubGrid(
        [f"line {k}" for k in range(rows)], csr_array(rng.normal(size=(rows, count))),
        rng.normal(size=(rows, hours)), rng.uniform(0, 2, rows), 0.7, 0.4, 2.0, 3.0,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------
# What the poster's equations say


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (2, 0, 3), (4, 7, 1)])
def test_flows_and_overloads_are_the_posters(shape: tuple[int, int, int]) -> None:
    count, rows, hours = shape
    rng = np.random.default_rng(sum(shape))
    grid = drawn_grid(rng, count, rows, hours)
    w = 2 * rng.normal(size=(count, hours))
    h, total = grid.factor.toarray(), 0.0
    flow, over = grid.flow_mw(w), grid.overload_mw(w)
    assert flow.shape == (rows, hours)
    assert over.shape == (rows + 1, hours)
    for t in range(hours):
        for line in range(rows):
            # f = f_bg - sum of H w, with f_bg the background against the direction of a withdrawal
            f = -grid.background_mw[line, t] - sum(h[line, i] * w[i, t] for i in range(count))
            assert flow[line, t] == pytest.approx(f)
            o = max(abs(f) - grid.limit_mw[line], 0)
            assert over[line, t] == pytest.approx(o)
            total += 2 * o
        s = sum(w[i, t] for i in range(count))
        o = max(s - 0.7, 0) + max(-s - 0.4, 0)
        assert over[rows, t] == pytest.approx(o)
        total += 3 * o
    assert grid.congestion_mwh(w) == pytest.approx(total)
    np.testing.assert_allclose(grid.loading_mw(w)[:-1], -flow)
    np.testing.assert_allclose(grid.loading_mw(w)[-1], w.sum(axis=0))


def test_a_withdrawal_and_a_background_load_a_line_alike() -> None:
    grid = HubGrid(["line"], csr_array([[1.0]]), np.array([[2.0]]), np.array([2.5]), 9.0, 9.0)
    assert grid.loading_mw(np.array([[1.0]]))[0, 0] == 3
    assert grid.flow_mw(np.array([[1.0]]))[0, 0] == -3
    assert grid.congestion_mwh(np.array([[1.0]])) == pytest.approx(0.5)
    assert grid.congestion_mwh(np.array([[-5.0]])) == pytest.approx(0.5)
    assert grid.congestion_mwh(np.array([[-2.0]])) == 0


def test_consequences_by_hand() -> None:
    grid = HubGrid(
        ["a", "b"], csr_array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0, 0.0]] * 2),
        np.array([2.0, np.inf]), 3.0, 1.0,
    )  # fmt: skip
    w = np.array([[1.0, 2.0, -1.0], [1.0, -0.5, -2.5]])
    frame = grid.consequences(w)
    assert frame.index.tolist() == ["a", "b", "substation"]
    # loadings: a 3, 1.5, -3.5; b 2, -0.5, -2.5; substation 2, 1.5, -3.5
    assert frame["most_mw"].tolist() == [3, 2, 2]
    assert frame["least_mw"].tolist() == [-3.5, -2.5, -3.5]
    assert frame["limit_mw"].tolist() == [2, np.inf, 3]
    assert frame["reverse_limit_mw"].tolist() == [2, np.inf, 1]
    assert frame["hours_over"].tolist() == [2, 0, 1]
    assert frame["overload_mwh"].tolist() == [1, 0, 0]
    assert frame["reverse_overload_mwh"].tolist() == [1.5, 0, 2.5]
    assert grid.congestion_mwh(w) == pytest.approx(5)


def test_rounding_is_no_hour_over_its_limit() -> None:
    grid = HubGrid(["a"], csr_array([[1.0]]), np.zeros((1, 2)), np.array([1.0]), 9.0, 9.0)
    assert grid.consequences(np.array([[1 + 1e-9, 1 + 1e-4]]))["hours_over"].tolist() == [1, 0]


def test_rows_of_the_incidence() -> None:
    grid = drawn_grid(np.random.default_rng(1), 3, 2, 4)
    np.testing.assert_allclose(grid.incidence.toarray()[:2], grid.factor.toarray())
    np.testing.assert_allclose(grid.incidence.toarray()[2], 1)
    assert grid.names == ["line 0", "line 1", "substation"]
    np.testing.assert_allclose(grid.background[:2], grid.background_mw)
    assert not grid.background[2].any()
    np.testing.assert_allclose(grid.upper_mw, [*grid.limit_mw, 0.7])
    np.testing.assert_allclose(grid.lower_mw, [*grid.limit_mw, 0.4])
    assert grid.weight.tolist() == [2, 2, 3]
    assert grid.hours == 4


# --------------------------------------------------------------------------------------------
# A grid made in code


BAD_GRIDS: list[tuple[dict[str, object], str, str]] = [
    ({"import_mw": -1.0}, "import_mw", "-1"),
    ({"export_mw": np.nan}, "export_mw", "nan"),
    ({"line_weight": -0.5}, "line_weight", "-0.5"),
    ({"line_weight": np.inf}, "line_weight", "inf"),
    ({"substation_weight": np.nan}, "substation_weight", "nan"),
    ({"limit_mw": np.array([1.0, -2.0])}, "limit_mw", "-2"),
    ({"limit_mw": np.array([np.nan, 1.0])}, "limit_mw", "nan"),
    ({"limit_mw": np.array([1.0])}, "limit_mw", "shape (1,)"),
    ({"background_mw": np.array([[0.0] * 3, [0, np.inf, 0]])}, "background_mw", "inf in hour 1"),
    ({"background_mw": np.zeros(2)}, "background_mw", "shape (2,)"),
    ({"background_mw": np.zeros((3, 3))}, "background_mw", "shape (3, 3)"),
    ({"background_mw": np.zeros((2, 3, 1))}, "background_mw", "shape (2, 3, 1)"),
    ({"factor": csr_array(np.ones((3, 2)))}, "factor", "shape (3, 2)"),
    ({"factor": csr_array([[1.0, np.nan], [0, 1]])}, "factor of hub 2", "nan"),
    ({"lines": ["a", "a"]}, "lines", "'a' again"),
    ({"lines": ["a", "substation"]}, "lines", "'substation' again"),
]


@pytest.mark.parametrize(("changed", "column", "found"), BAD_GRIDS)
def test_a_bad_grid_is_named(changed: dict[str, object], column: str, found: str) -> None:
    good = HubGrid(["a", "b"], csr_array(np.eye(2)), np.zeros((2, 3)), np.ones(2), 1.0, 1.0)
    (fault,) = faults_of(lambda: replace(good, **changed))  # type: ignore[arg-type]
    assert (fault[0], fault[2], fault[3]) == ("grid", column, found)
    line = {"limit_mw": {"-2": "b", "nan": "a"}, "background_mw": {"inf in hour 1": "b"}}
    assert fault[1] == (line.get(column, {}).get(found) or ("a" if "hub 2" in column else ""))


def test_every_fault_of_a_grid_at_once() -> None:
    limit = np.array([-1.0, np.nan])
    found = faults_of(
        lambda: HubGrid(["a", "b"], csr_array(np.eye(2)), np.zeros((2, 3)), limit, -1.0, np.nan)
    )
    assert [fault[1:4] for fault in found] == [
        ("", "import_mw", "-1"), ("", "export_mw", "nan"),
        ("a", "limit_mw", "-1"), ("b", "limit_mw", "nan"),
    ]  # fmt: skip


def test_no_limit_at_all_is_a_grid() -> None:
    grid = HubGrid(["a"], csr_array([[1.0]]), np.zeros((1, 2)), np.array([np.inf]), np.inf, np.inf)
    assert grid.congestion_mwh(np.array([[1e3, -1e3]])) == 0


def test_a_grid_for_others_is_refused() -> None:
    hubs = random_hubs(np.random.default_rng(1), 3, 5)
    grid = drawn_grid(np.random.default_rng(1), 2, 2, 6)
    assert [fault[3:] for fault in faults_of(lambda: grid.assert_fits(hubs))] == [
        ("2 hubs", "3, as in the hubs"),
        ("6 hours", "5, as in the hubs"),
    ]
    assert faults_of(lambda: grid.assert_fits(hubs.only(slice(0, 2))))[0][3] == "6 hours"
    drawn_grid(np.random.default_rng(1), 3, 2, 5).assert_fits(hubs)
    with pytest.raises(DataError, match="6 hours"):
        centralised(hubs, grid)  # before anything is solved


# --------------------------------------------------------------------------------------------
# Tables


def test_the_reference_feeder(hubs: Hubs, limits: pd.Series) -> None:
    grid = read_grid(REFERENCE, hubs, limits)
    assert grid.lines == ["line_1", "line_2", "line_3", "line_4", "line_5"]
    np.testing.assert_allclose(
        grid.factor.toarray(), [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    )
    peak = pd.read_csv(REFERENCE / "lines.csv")["background_peak_mw"]
    np.testing.assert_allclose(grid.background_mw, np.outer(peak, hubs.profiles["background"]))
    assert grid.limit_mw.tolist() == limits[grid.lines].tolist()
    assert grid.import_mw == limits["substation_import"]
    assert grid.export_mw == limits["substation_export"]
    # the limits come from method A: 0.6 of the largest loading of each line and of the import
    loading = grid.loading_mw(no_pricing(hubs).schedule.w_mw)
    np.testing.assert_allclose(grid.limit_mw, 0.6 * np.abs(loading[:-1]).max(axis=1), atol=6e-4)
    assert grid.import_mw == pytest.approx(0.6 * loading[-1].max(), abs=6e-4)


def test_lines_that_carry_none_of_the_hubs_are_left_out(hubs: Hubs) -> None:
    one = hubs.only(slice(0, 1), slice(16, 22))
    grid = read_grid(REFERENCE, one, read_limits(REFERENCE, hubs=1, hours=6, fl=0.5))
    assert grid.lines == ["line_1", "line_2", "line_5"]
    assert grid.factor.shape == (3, 1)
    assert grid.hours == 6
    np.testing.assert_allclose(
        grid.background_mw[0], 3.0 * hubs.profiles["background"].to_numpy()[16:22]
    )


def test_hubs_without_a_line_have_a_substation(tmp_path: Path, hubs: Hubs) -> None:
    def nothing(rows: list[list[str]]) -> None:
        for row in rows[1:]:
            row[3:] = ["0"] * 3

    folder = edited(tmp_path, "lines", nothing)
    grid = read_grid(folder, hubs, pd.Series({"substation_import": 1.0, "substation_export": 2.0}))
    assert grid.names == ["substation"]
    assert grid.congestion_mwh(np.full((3, 24), 1.0)) == pytest.approx(48)


def test_a_hub_without_a_column(tmp_path: Path, hubs: Hubs, limits: pd.Series) -> None:
    folder = edited(tmp_path, "lines", lambda rows: [row.pop(4) for row in rows])
    (fault,) = faults_of(lambda: read_grid(folder, hubs, limits))
    assert fault[:4] == ("lines.csv", "", "hub_2", "no such column")


def test_a_hub_named_like_a_column_of_the_table(hubs: Hubs, limits: pd.Series) -> None:
    names = ["background_peak_mw", "hub_2", "hub_3"]
    other = replace(hubs, table=hubs.table.assign(hub=names))
    (fault,) = faults_of(lambda: read_grid(REFERENCE, other, limits))
    assert fault[2:4] == ("background_peak_mw", "a hub of this name")


BAD_LINES = [
    (2, 1, "", "background_peak_mw", "an empty cell"),
    (3, 1, "x", "background_peak_mw", "'x'"),
    (2, 2, "night", "background_profile", "'night'"),
    (2, 2, "hour", "background_profile", "'hour'"),
    (2, 2, "buy_eur_per_mwh", "background_profile", "'buy_eur_per_mwh'"),
    (4, 4, "11", "hub_2", "11"),
    (4, 4, "", "hub_2", "an empty cell"),
    (5, 0, "line_9", "row", "'line_9'"),
    (5, 0, "", "row", "an empty cell"),
]


@pytest.mark.parametrize(("row", "column", "value", "name", "found"), BAD_LINES)
def test_a_bad_line_is_named(
    tmp_path: Path, hubs: Hubs, limits: pd.Series,
    row: int, column: int, value: str, name: str, found: str,
) -> None:  # fmt: skip
    folder = edited(tmp_path, "lines", cell(row, column, value))
    (fault,) = faults_of(lambda: read_grid(folder, hubs, limits))
    assert fault[:4] == ("lines.csv", str(row), name, found)
    if found in ("'night'", "'hour'"):
        assert fault[4] == "one of pv, demand, background"
    if found == "'line_9'":
        assert fault[4] == "a limit for it"


def test_two_lines_of_one_name(tmp_path: Path, hubs: Hubs, limits: pd.Series) -> None:
    folder = edited(tmp_path, "lines", cell(3, 0, "line_1"))
    found = faults_of(lambda: read_grid(folder, hubs, limits))
    assert ("lines.csv", "3", "row", "'line_1'", "an identifier used once") in found


def test_a_missing_table_of_lines(tmp_path: Path, hubs: Hubs, limits: pd.Series) -> None:
    (fault,) = faults_of(lambda: read_grid(tmp_path, hubs, limits))
    assert (fault[0], fault[3]) == ("lines.csv", "no such file")


def test_limits_go_by_name(hubs: Hubs, limits: pd.Series) -> None:
    one, other = (read_grid(REFERENCE, hubs, some) for some in (limits, limits.iloc[::-1]))
    np.testing.assert_array_equal(one.limit_mw, other.limit_mw)
    assert (one.import_mw, one.export_mw) == (other.import_mw, other.export_mw)


def test_limits_that_are_missing_twice_or_no_numbers(hubs: Hubs, limits: pd.Series) -> None:
    rows = ["substation_import", "substation_export", "line_2"]
    found = faults_of(lambda: read_grid(REFERENCE, hubs, limits.drop(rows)))
    assert [fault[:4] for fault in found] == [
        ("lines.csv", "3", "row", "'line_2'"),
        ("limits", "", "row", "no 'substation_import'"),
        ("limits", "", "row", "no 'substation_export'"),
    ]
    twice = pd.concat([limits, limits[["line_3"]]])
    assert faults_of(lambda: read_grid(REFERENCE, hubs, twice))[0][3] == "'line_3' again"
    text = limits.astype(object)
    text["line_4"] = "much"
    (fault,) = faults_of(lambda: read_grid(REFERENCE, hubs, text))
    assert fault[:4] == ("grid", "line_4", "limit_mw", "nan")


def test_limits_of_a_case(limits: pd.Series) -> None:
    frame = pd.read_csv(REFERENCE / "limits.csv")
    meant = frame[(frame["hubs"] == 3) & (frame["hours"] == 24) & (frame["fl"] == 0.6)]
    assert limits.to_dict() == dict(zip(meant["row"], meant["limit_mw"], strict=True))
    stressed = read_limits(REFERENCE, hubs=3, hours=24, fl=0.5)
    assert stressed["line_1"] == pytest.approx(limits["line_1"] * 5 / 6, rel=1e-3)


def test_a_case_that_is_not_there() -> None:
    (fault,) = faults_of(lambda: read_limits(REFERENCE, hubs=3, hours=7, fl=0.6))
    assert fault == ("limits.csv", "", "", "no such row", "rows of hubs 3, hours 7, fl 0.6")
    with pytest.raises(DataError, match=r"hubs 2, hours 12, fl 0\.7"):
        reference(hubs=2, hours=12, level=0.7)


def test_a_key_that_is_no_column_and_a_column_that_is_no_key() -> None:
    found = faults_of(lambda: read_limits(REFERENCE, hubs=3, hours=24, year=2025))
    assert [fault[2:4] for fault in found] == [
        ("year", "no such column"),
        ("fl", "an unknown column"),
    ]


def test_a_row_of_limits_that_is_there_twice(tmp_path: Path) -> None:
    def repeat(rows: list[list[str]]) -> None:
        rows.append(next(row for row in rows if row[:4] == ["3", "24", "0.6", "line_2"]))

    folder = edited(tmp_path, "limits", repeat)
    (fault,) = faults_of(lambda: read_limits(folder, **CASE))
    lines = len((folder / "limits.csv").read_text().splitlines())
    assert fault == ("limits.csv", str(lines), "row", "'line_2' again", "each row once")
    assert len(read_limits(folder, **CASE | {"fl": 0.5})) == 7  # another case is not concerned


@pytest.mark.parametrize(
    ("value", "found"), [("-1", "-1"), ("", "an empty cell"), ("x", "'x'"), ("inf", "inf")]
)
def test_a_bad_limit_is_named(tmp_path: Path, value: str, found: str) -> None:
    folder = edited(tmp_path, "limits", cell(7, 4, value))
    (fault,) = faults_of(lambda: read_limits(folder, **CASE))
    assert fault[:4] == ("limits.csv", "7", "limit_mw", found)
    assert fault[4].startswith("a number")
