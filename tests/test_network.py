"""Networks: what the door lets in, and what it says to the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feeders import feeder_12, frames, small_network

from flexlib import DataError, Network, data_path, read_network

FEEDER = data_path("feeders/de-simone-12")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FEEDER, tmp_path / "feeder"))


def edit(folder: Path, table: str, row: int, column: str, value: str) -> None:
    """Set one cell; `row` is the line of the file."""
    path = folder / f"{table}.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[row - 2, column] = value
    frame.to_csv(path, index=False)


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(DataError) as error:
        read_network(folder)
    return [str(fault) for fault in error.value.faults]


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "expected"),
    [
        ("branches", 4, "to_bus", "44", "found '44', expected a bus of the table of buses"),
        ("branches", 4, "from_bus", "", "found an empty cell, expected a name"),
        ("loads", 3, "bus", "0", "found '0', expected a bus of the table of buses"),
        ("branches", 4, "r_ohm", "-0.1", "found -0.1, expected a number from 0 to 10000 ohm"),
        (
            "branches",
            4,
            "x_ohm",
            "-2e4",
            "found -20000, expected a number from -10000 to 10000 ohm",
        ),
        ("branches", 4, "r_ohm", "12400", "found 12400, expected a number from 0 to 10000 ohm"),
        ("branches", 3, "i_max_from_a", "0", "found 0, expected a number above 0 to 100000 A"),
        ("branches", 3, "i_max_to_a", "-5", "found -5, expected a number above 0 to 100000 A"),
        ("branches", 4, "b_us", "-2e6", "found -2e+06, expected a number from -1e+06 to 1e+06 µS"),
        ("branches", 4, "b_us", "twelve", "found 'twelve', expected a number"),
        ("branches", 4, "branch", "2-3", "found '2-3', expected an identifier used once"),
        ("branches", 4, "to_bus", "3", "found '3', expected another bus"),
        ("buses", 4, "v_nom_kv", "8400", "found 8400, expected a number from 0.1 to 800 kV"),
        ("buses", 4, "v_nom_kv", "nan", "found 'nan', expected a number"),
        ("buses", 4, "v_min_pu", "0.2", "found 0.2, expected a number from 0.5 to 1.1 p.u."),
        ("buses", 4, "v_min_pu", "1.06", "found 1.06, expected at most v_max_pu (1.05)"),
        ("buses", 4, "v_max_pu", "", "found an empty cell, expected a number from 0.9 to 1.5 p.u."),
        ("buses", 2, "v_slack_pu", "8.4", "found 8.4, expected a number from 0.8 to 1.2 p.u."),
        ("loads", 3, "p_kw", "2e8", "found 2e+08, expected a number from -1e+08 to 1e+08 kW"),
        ("loads", 3, "load", "POD1", "found 'POD1', expected an identifier used once"),
    ],
)
def test_one_bad_cell(
    folder: Path, table: str, row: int, column: str, value: str, expected: str
) -> None:
    edit(folder, table, row, column, value)
    found = faults_of(folder)
    assert f"{table}.csv, row {row}, column {column}: {expected}" in found
    twice = 2 if "used once" in expected else 1
    assert len(found) == twice, found


def test_zero_impedance(folder: Path) -> None:
    edit(folder, "branches", 5, "r_ohm", "0")
    edit(folder, "branches", 5, "x_ohm", "0.0")
    assert faults_of(folder) == [
        "branches.csv, row 5, column r_ohm, x_ohm: found 0 and 0, "
        "expected a series impedance above zero"
    ]


def test_a_voltage_may_be_fixed_by_its_limits(folder: Path) -> None:
    edit(folder, "buses", 4, "v_min_pu", "1.05")
    assert read_network(folder).buses["v_min_pu"][2] == 1.05


def test_pv_buses() -> None:
    network = small_network(buses={"v_gen_pu": [np.nan, np.nan, 1.02]})
    assert network.pv.tolist() == [2]
    assert network.v_gen_pu.tolist() == [1.02]
    assert small_network().pv.tolist() == []
    with pytest.raises(DataError) as error:
        small_network(buses={"v_gen_pu": [np.nan, 1.02, 1.3]})
    assert {str(fault) for fault in error.value.faults} == {
        "frame buses, row 2, column v_gen_pu: found 1.3, expected a number from 0.8 to 1.2 p.u.",
        "frame buses, row 1, column v_gen_pu: found 1.02, "
        "expected an empty cell, since the slack holds the voltage",
    }


def test_no_slack_and_two(folder: Path) -> None:
    edit(folder, "buses", 9, "v_slack_pu", "1.0")
    assert faults_of(folder) == [
        "buses.csv, column v_slack_pu: found 2 slack buses (1, 8), "
        "expected a value at exactly one bus"
    ]
    edit(folder, "buses", 9, "v_slack_pu", "")
    edit(folder, "buses", 2, "v_slack_pu", "")
    assert faults_of(folder) == [
        "buses.csv, column v_slack_pu: found no slack bus, expected a value at exactly one bus"
    ]


def test_a_slack_voltage_that_is_no_number_is_one_fault(folder: Path) -> None:
    edit(folder, "buses", 2, "v_slack_pu", "one")
    assert faults_of(folder) == [
        "buses.csv, row 2, column v_slack_pu: found 'one', expected a number"
    ]


def test_every_bus_of_an_island_is_named(folder: Path) -> None:
    path = folder / "branches.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("9-10")))
    assert faults_of(folder) == [
        f"buses.csv, row {bus + 1}, column bus: found '{bus}', "
        "expected a path of branches to the slack bus"
        for bus in (10, 11, 12)
    ]


def test_several_islands_are_all_named(folder: Path) -> None:
    path = folder / "branches.csv"
    cut = ("4-5", "9-10", "11-12")
    path.write_text("\n".join(x for x in path.read_text().splitlines() if not x.startswith(cut)))
    assert [fault.split(":")[0] for fault in faults_of(folder)] == [
        f"buses.csv, row {row}, column bus" for row in range(6, 14)
    ]


def test_an_identifier_used_three_times(folder: Path) -> None:
    for row in (5, 9):
        edit(folder, "buses", row, "bus", "2")
    found = [fault for fault in faults_of(folder) if fault.startswith("buses.csv")]
    assert [fault.split(":")[0] for fault in found] == [
        f"buses.csv, row {row}, column bus" for row in (3, 5, 9)
    ]


def test_faults_of_all_three_tables_at_once(folder: Path) -> None:
    edit(folder, "buses", 4, "v_min_pu", "x")
    edit(folder, "buses", 9, "v_slack_pu", "1")
    edit(folder, "branches", 3, "from_bus", "nowhere")
    edit(folder, "branches", 5, "r_ohm", "-1")
    edit(folder, "loads", 3, "bus", "")
    found = faults_of(folder)
    assert [fault.split(":")[0] for fault in sorted(found)] == [
        "branches.csv, row 3, column from_bus",
        "branches.csv, row 5, column r_ohm",
        "buses.csv, column v_slack_pu",
        "buses.csv, row 4, column v_min_pu",
        "loads.csv, row 3, column bus",
    ]


def test_missing_files_and_faults_of_the_others_at_once(folder: Path) -> None:
    (folder / "loads.csv").unlink()
    edit(folder, "buses", 4, "v_min_pu", "x")
    found = faults_of(folder)
    assert len(found) == 2
    assert found[0].startswith("loads.csv: found no such file, expected a CSV file at ")
    assert found[1].startswith("buses.csv, row 4, column v_min_pu: found 'x'")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    found = faults_of(tmp_path / "nowhere")
    assert [fault.split(":")[0] for fault in found] == ["buses.csv", "branches.csv", "loads.csv"]


def test_unbalanced_data_are_refused_and_it_is_said(folder: Path) -> None:
    path = folder / "loads.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},phase", *(f"{row},a" for row in rows)]))
    (fault,) = faults_of(folder)
    assert "column phase" in fault
    assert "balanced" in fault


def test_frames_made_in_code_are_checked_alike() -> None:
    tables = frames(branches={"to_bus": ["A", "C"]}, buses={"v_max_pu": [1.1, np.nan, 1.1]})
    with pytest.raises(DataError) as error:
        Network(**tables)
    assert {str(fault) for fault in error.value.faults} == {
        "frame branches, row 1, column to_bus: found 'C', expected a bus of the table of buses",
        "frame buses, row 1, column v_max_pu: found an empty cell, "
        "expected a number from 0.9 to 1.5 p.u.",
    }


def test_numeric_identifiers_that_do_not_match_are_refused() -> None:
    tables = frames(
        buses={"bus": [1, 2, 3]}, loads={"bus": [1.0, 3.0, 3.0]},
        branches={"from_bus": [2, 1], "to_bus": [1, 3]},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"row 1, column bus: found '3\.0', expected a bus"):
        Network(**tables)


def test_numeric_identifiers_of_frames_made_in_code() -> None:
    tables = frames(
        buses={"bus": [1, 2, 3]}, loads={"load": [4, 5, 6], "bus": [1, 3, 3]},
        branches={"branch": [1, 2], "from_bus": [2, 1], "to_bus": [1, 3]},
    )  # fmt: skip
    network = Network(**tables)
    assert network.buses["bus"].tolist() == ["1", "2", "3"]
    assert network.load_bus.tolist() == [0, 2, 2]


def test_positions_follow_the_order_of_the_buses() -> None:
    network = small_network()
    assert network.slack == 1
    assert network.from_bus.tolist() == [1, 0]
    assert network.to_bus.tolist() == [0, 2]
    assert network.load_bus.tolist() == [0, 2, 2]
    assert network.load_positions(pd.Series(["sun", "one"])).tolist() == [2, 0]
    np.testing.assert_array_equal(network.s_load_kva, [600 + 200j, 900 + 300j, -200])


def test_empty_optional_cells_have_their_defaults() -> None:
    network = feeder_12()
    assert (network.branches["ratio_pu"] == 1).all()
    assert (network.branches[["shift_deg", "g_us"]] == 0).all().all()
    assert network.branches["i_max_from_a"].notna().sum() == 1
    assert network.buses["v_slack_pu"].notna().sum() == 1


def test_radial_or_not() -> None:
    assert feeder_12().is_radial
    ring = frames(
        branches={"branch": ["1", "2", "3"], "from_bus": ["S", "A", "B"]}
        | {"to_bus": ["A", "B", "S"], "r_ohm": [1.0] * 3, "x_ohm": [1.0] * 3}
        | {"i_max_from_a": [np.nan] * 3, "i_max_to_a": [np.nan] * 3}
    )
    assert not Network(**ring).is_radial


def test_the_network_is_frozen_and_its_frames_its_own() -> None:
    tables = frames()
    network = Network(**tables)
    with pytest.raises(AttributeError):
        network.name = "other"  # type: ignore[misc]
    tables["loads"].loc[0, "p_kw"] = 1.0
    assert network.loads["p_kw"][0] == 600


def test_a_network_is_read_as_written() -> None:
    network = feeder_12()
    assert network.name == "de-simone-12"
    assert len(network.buses) == 12
    assert len(network.branches) == 11
    assert network.s_load_kva.sum() == pytest.approx(1390.25 + 775.73j, abs=0.01)
