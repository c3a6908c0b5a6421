"""Tables at the door: every fault is found, and said with its place, value and expectation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flexlib import DataError, data_path
from flexlib.errors import Fault
from flexlib.network import BRANCHES, BUSES, LOADS
from flexlib.tables import check_table, describe, read_text_table

HEADER = "load,bus,p_kw,q_kvar"


def faults_of(path: Path) -> list[str]:
    frame, faults = read_text_table(path)
    if not faults:
        _, faults = check_table(frame, LOADS, "loads")
    return [str(fault) for fault in faults]


@pytest.fixture
def written(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(content: str | bytes) -> Path:
        path = tmp_path / "loads.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def number(unit: str) -> str:
    return f"a number from -1e+08 to 1e+08 {unit}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["loads.csv: found an empty file, expected a header and rows"]),
        (" \n\n", ["loads.csv: found an empty file, expected a header and rows"]),
        (HEADER, ["loads.csv: found no rows, expected at least one row"]),
        (
            f"{HEADER}\nä,1,2,3\n".encode("latin-1"),
            ["loads.csv, row 2: found byte 0xe4, expected text in UTF-8 encoding"],
        ),
        (
            f"{HEADER}\na,1,,3\n",
            [f"loads.csv, row 2, column p_kw: found an empty cell, expected {number('kW')}"],
        ),
        (
            f"{HEADER}\na,1,nan,3\n",
            ["loads.csv, row 2, column p_kw: found 'nan', expected a number"],
        ),
        (
            f"{HEADER}\na,1,2,3\nb,1,NA,3\n",
            ["loads.csv, row 3, column p_kw: found 'NA', expected a number"],
        ),
        (
            f"{HEADER}\na,1,2_0,3\n",
            ["loads.csv, row 2, column p_kw: found '2_0', expected a number"],
        ),
        (
            f"{HEADER}\na,1,2 kW,3\n",
            ["loads.csv, row 2, column p_kw: found '2 kW', expected a number"],
        ),
        (
            f'{HEADER}\na,1,2,"1,5"\n',
            ["loads.csv, row 2, column q_kvar: found '1,5', expected a number"],
        ),
        (
            f"{HEADER}\na,1,inf,3\n",
            [f"loads.csv, row 2, column p_kw: found inf, expected {number('kW')}"],
        ),
        (
            f"{HEADER}\na,1,2,-3e9\n",
            [f"loads.csv, row 2, column q_kvar: found -3e+09, expected {number('kvar')}"],
        ),
        (
            f"{HEADER}\n,1,2,3\n",
            ["loads.csv, row 2, column load: found an empty cell, expected a name"],
        ),
        (
            f"{HEADER}\n,1,2,3\n,1,2,3\n",
            [
                "loads.csv, row 2, column load: found an empty cell, expected a name",
                "loads.csv, row 3, column load: found an empty cell, expected a name",
            ],
        ),
        (
            f"{HEADER}\na,1,2,3\nb,1,2,3\na,1,2,3\n",
            [
                "loads.csv, row 2, column load: found 'a', expected an identifier used once",
                "loads.csv, row 4, column load: found 'a', expected an identifier used once",
            ],
        ),
        (
            "load,bus,p_kw\na,1,2\n",
            [
                "loads.csv, column q_kvar: found no such column, expected a column 'q_kvar' "
                "(reactive power consumed)"
            ],
        ),
        (
            f"{HEADER},colour\na,1,2,3,red\n",
            [
                "loads.csv, column colour: found an unknown column, expected only the columns "
                "load, bus, p_kw, q_kvar"
            ],
        ),
        (
            f"{HEADER},phase\na,1,2,3,abc\n",
            [
                "loads.csv, column phase: found an unknown column, expected balanced "
                "(single-phase equivalent) data, without phases"
            ],
        ),
        (
            f"{HEADER},p_a_kw\na,1,2,3,1\n",
            [
                "loads.csv, column p_a_kw: found an unknown column, expected balanced "
                "(single-phase equivalent) data, without phases"
            ],
        ),
    ],
)
def test_each_fault_is_said_in_full(written, content, expected) -> None:  # type: ignore[no-untyped-def]
    assert faults_of(written(content)) == expected


def test_all_faults_are_listed_at_once(written) -> None:  # type: ignore[no-untyped-def]
    path = written("load,bus,p_kw,phases\na,1,x,1\n,1,2,1\na,,1e9,1\n")
    found = faults_of(path)
    for part in (
        "column q_kvar: found no such column",
        "column phases: found an unknown column",
        "row 2, column p_kw: found 'x'",
        "row 3, column load: found an empty cell",
        "row 2, column load: found 'a'",
        "row 4, column load: found 'a'",
        "row 4, column bus: found an empty cell",
        "row 4, column p_kw: found 1e+09",
    ):
        assert sum(part in fault for fault in found) == 1, part
    assert len(found) == 8


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}\na,1,2,3\nb,1,2,3,4\n",
        f"{HEADER}\na,1,2,3,4\nb,1,2,3,4\n",
        f"{HEADER}\na,1,2,3\nb,1,2\n",
        f"{HEADER}\na,1,2,3\nb\n",
    ],
    ids=["more in one", "more in all", "fewer in one", "one only"],
)
def test_rows_with_more_or_fewer_cells_are_refused(written, content: str) -> None:  # type: ignore[no-untyped-def]
    found = faults_of(written(content))
    assert found
    assert any("row 3" in fault or "line 3" in fault for fault in found)


def test_a_row_that_ends_early_in_optional_cells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "branches.csv"
    path.write_text(
        "branch,from_bus,to_bus,r_ohm,x_ohm,b_us,i_max_from_a\na,1,2,1,1,0,50\nb,2,3,1,1,0\n"
    )
    frame, faults = read_text_table(path)
    if not faults:
        _, faults = check_table(frame, BRANCHES, "branches")
    assert any(fault.row == "3" or "line 3" in fault.value for fault in faults)


def test_rows_are_counted_as_an_editor_does(written) -> None:  # type: ignore[no-untyped-def]
    found = faults_of(written(f"{HEADER}\na,1,2,3\n\n\nb,1,x,3\n"))
    assert found == ["loads.csv, row 5, column p_kw: found 'x', expected a number"]


def test_a_column_given_twice_is_refused(written) -> None:  # type: ignore[no-untyped-def]
    found = faults_of(written(f"{HEADER},p_kw\na,1,2,3,4\n"))
    assert len(found) == 1
    assert "p_kw" in found[0]


def test_a_broken_quote_is_refused(written) -> None:  # type: ignore[no-untyped-def]
    assert len(faults_of(written(f'{HEADER}\n"a,1,2,3\nb,1,2,3\n'))) == 1


def test_a_missing_file(tmp_path: Path) -> None:
    found = faults_of(tmp_path / "nowhere.csv")
    assert found == [
        f"nowhere.csv: found no such file, expected a CSV file at {tmp_path / 'nowhere.csv'}"
    ]
    assert faults_of(tmp_path)  # a folder is no file


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff{HEADER}\na,1,2,3\n",
        f"{HEADER}\r\na,1,2,3\r\n",
        f"{HEADER}\n a , 1 , 2 , 3 \n",
        f"{HEADER}\na,1,2,3",
        "q_kvar,p_kw,bus,load\n3,2,1,a\n",
        f'{HEADER}\n"a","1","2","3"\n',
    ],
    ids=["byte order mark", "CRLF", "spaces", "no last newline", "other order", "quotes"],
)
def test_the_same_table_in_other_clothes(written, content: str) -> None:  # type: ignore[no-untyped-def]
    frame, faults = read_text_table(written(content))
    typed, more = check_table(frame, LOADS, "loads")
    assert [*faults, *more] == []
    assert typed.to_dict("records") == [{"load": "a", "bus": "1", "p_kw": 2.0, "q_kvar": 3.0}]
    assert list(typed.columns) == list(LOADS.columns)


def test_identifiers_stay_text(written) -> None:  # type: ignore[no-untyped-def]
    frame, _ = read_text_table(written(f"{HEADER}\n007,NA,2,3\nBüs,1e3,2,3\n"))
    typed, faults = check_table(frame, LOADS, "loads")
    assert faults == []
    assert typed["load"].tolist() == ["007", "Büs"]
    assert typed["bus"].tolist() == ["NA", "1e3"]


def test_frames_made_in_code_are_named_by_table_and_position() -> None:
    frame = pd.DataFrame(
        {"load": [1, 2], "bus": [7, None], "p_kw": [np.nan, 1.0], "q_kvar": ["x", 2]}, index=[5, 9]
    )
    _, faults = check_table(frame, LOADS, "loads")
    assert {str(fault).split(", expected")[0] for fault in faults} == {
        "frame loads, row 1, column bus: found an empty cell",
        "frame loads, row 0, column p_kw: found an empty cell",
        "frame loads, row 0, column q_kvar: found 'x'",
    }


def test_the_frame_given_is_left_alone() -> None:
    frame = pd.DataFrame({"load": [1], "bus": [2], "p_kw": ["3"], "q_kvar": [4]}, index=[8])
    before = frame.copy()
    check_table(frame, LOADS, "loads")
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("schema", [BUSES, BRANCHES, LOADS])
def test_every_column_is_described(schema) -> None:  # type: ignore[no-untyped-def]
    table = describe(schema)
    assert table["column"].tolist() == list(schema.columns)
    assert (table["meaning"].str.len() > 5).all()
    numbers = table[table["type"] == "number"]
    suffix = {"kV": "_kv", "p.u.": "_pu", "µS": "_us", "ohm": "_ohm", "deg": "_deg", "A": "_a"}
    suffix |= {"kW": "_kw", "kvar": "_kvar"}
    for row in numbers.itertuples():
        assert row.column.endswith(suffix.get(row.unit, "")), row.column
        assert row.valid.startswith("a number ")
    assert set(table["required"]) <= {"yes", "no"}


def test_an_error_counts_its_faults() -> None:
    fault = Fault("a.csv", "3", "p_kw", "'x'", "a number")
    assert str(DataError([fault])).startswith("1 fault in the input data:\n  a.csv, row 3")
    other = Fault("a.csv", "4", "p_kw", "'x'", "a number")
    assert str(DataError([fault, other])).startswith("2 faults")
    assert DataError([fault]).faults == (fault,)


def test_data_path() -> None:
    assert (data_path("feeders/de-simone-12") / "buses.csv").is_file()
    with pytest.raises(FileNotFoundError, match="no data file or folder 'feeders/nowhere'"):
        data_path("feeders/nowhere")


def test_numbers_are_the_nearest_to_what_is_written() -> None:
    """Read as written: no cell is a bit off its own text."""
    rng = np.random.default_rng(0)
    p_kw = rng.uniform(-1e3, 1e3, 500)
    written = pd.DataFrame({"load": [f"l{k}" for k in range(500)], "bus": "a", "q_kvar": "0"})
    typed, faults = check_table(written.assign(p_kw=[repr(float(p)) for p in p_kw]), LOADS, "loads")
    assert not faults
    assert (typed["p_kw"].to_numpy() == p_kw).all()
