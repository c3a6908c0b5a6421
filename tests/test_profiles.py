"""Profiles: the file that comes with flexlib, faults of a file, and powers of a network by hour."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feeders import small_network
from make_profiles import FILE, GENERATORS, LOADS, hourly, text

from flexlib import DataError, Network, data_path
from flexlib.profiles import ASSIGNMENT, network_at, power_profiles, read_profiles
from flexlib.tables import describe

PV = [f"pv{k}" for k in range(1, 9)]
WIND = ["wind1", "wind2"]


@cache
def year() -> pd.DataFrame:
    return read_profiles(data_path("profiles/simbench-2016-hourly.csv"))


# --------------------------------------------------------------------------------------------
# The file that comes with flexlib


def test_every_hour_of_the_year_and_every_column() -> None:
    assert year().index.equals(pd.date_range("2016-01-01", "2016-12-31 23:00", freq="h"))
    assert (year().index.name, year().index.freqstr) == ("time", "h")
    assert year().columns.tolist() == [*LOADS, *GENERATORS]
    assert set(year().dtypes) == {np.dtype(float)}
    assert year().attrs == {}


def test_shares_of_the_rated_power() -> None:
    loads = year()[list(LOADS)]
    assert loads.min().min() > 0.01
    assert loads.max().max() <= 1
    assert loads.mean().between(0.1, 0.4).all()
    assert year()[PV].min().min() == 0
    assert year()[PV].max().between(0.58, 0.64).all()
    assert (year()[PV].mean() * 8784).between(570, 700).all()  # full-load hours
    assert year()[WIND].min().min() == 0
    assert year()[WIND].max().between(0.99, 1).all()


def test_no_load_stands_still() -> None:
    changed = year()[list(LOADS)].diff().ne(0)
    assert changed.rolling(4).max().dropna().all().all()


def test_the_sun_keeps_to_standard_time() -> None:
    pv = year()[PV]
    dark = pv[(pv.index.hour >= 20) | (pv.index.hour < 3)]
    assert len(dark) == 366 * 7
    assert (dark == 0).all().all()
    power = pv.sum(axis=1)
    noon = (power * (pv.index.hour + 0.5)).resample("D").sum() / power.resample("D").sum()
    for change in ("2016-03-27", "2016-10-30"):
        day = pd.Timestamp(change)
        before = noon[day - pd.Timedelta(days=14) : day - pd.Timedelta(days=1)]
        after = noon[day : day + pd.Timedelta(days=13)]
        assert abs(before.median() - after.median()) < 0.4


def test_loads_keep_to_the_clock() -> None:
    """The morning rise comes an hour earlier in standard time when summer time begins."""

    def rise(first: str, last: str) -> int:
        work = year().loc[first:last, "load_g0_m"]  # type: ignore[misc]
        work = work[work.index.dayofweek < 5]
        return int(np.diff(work.groupby(work.index.hour).mean()).argmax()) + 1

    assert rise("2016-03-07", "2016-03-24") == 8
    assert rise("2016-03-29", "2016-04-15") == 7


def test_sites_are_alike_and_not_the_same() -> None:
    summer = (year() - year().shift(24))[PV]["2016-04-01":"2016-09-30"]  # type: ignore[misc]
    errors = summer[(summer.index.hour >= 11) & (summer.index.hour < 14)]
    between = errors.corr().to_numpy()[np.triu_indices(8, 1)]
    assert 0.3 < between.min() < between.max() < 0.995


def test_wind_of_march_repeats_february() -> None:
    wind = year()[WIND]
    again = wind.shift(32 * 24)["2016-03-03 23:00":"2016-03-31 22:00"]  # type: ignore[misc]
    differ = (wind.loc[again.index] - again).abs().max(axis=1) > 1e-9
    assert differ[differ].index.strftime("%d %H").tolist() == ["27 00", "27 01", "27 02"]


def test_the_file_is_what_the_package_of_simbench_gives() -> None:
    assert FILE.read_bytes() == text().encode()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("make_profiles.simbench.__version__", "1.7.0")
    with pytest.raises(SystemExit, match=r"simbench 1\.7\.0 is installed, 1\.6\.3 is meant"):
        text()


def quarters(names: dict[str, str]) -> pd.DataFrame:
    time = pd.date_range("2016-01-01", periods=35136, freq="15min", tz="Etc/GMT-1")
    clock = time.tz_convert("Europe/Berlin").strftime("%d.%m.%Y %H:%M")
    values = {name: np.arange(35136) / 4 for name in names.values()}
    return pd.DataFrame({"time": clock, **values})


def test_an_hour_is_the_mean_of_the_quarters_that_begin_in_it() -> None:
    made = hourly(quarters(LOADS), quarters(GENERATORS))
    assert made.index.equals(year().index)
    assert made.columns.tolist() == year().columns.tolist()
    np.testing.assert_allclose(made, np.arange(8784)[:, None] + 0.375 + np.zeros(18))


def test_a_source_in_other_time_is_refused() -> None:
    standard = quarters(GENERATORS)
    time = pd.date_range("2016-01-01", periods=35136, freq="15min")
    standard["time"] = time.strftime("%d.%m.%Y %H:%M")
    with pytest.raises(SystemExit, match="clock time"):
        hourly(quarters(LOADS), standard)


# --------------------------------------------------------------------------------------------
# Faults of a file


def faults_of(folder: Path, content: str) -> list[str]:
    path = folder / "p.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_profiles(path)
    return [str(fault) for fault in error.value.faults]


def at(hour: int) -> str:
    return f"2016-03-27 {hour:02d}:00"


DUE = "the next hour in standard time"


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ([at(1), at(3), at(4)], [f"row 3, column time: found {at(3)}, expected {at(2)}, {DUE}"]),
        (
            [at(1), at(2), at(2), at(1), at(3)],
            [
                f"row 4, column time: found {at(2)} again, expected {at(3)}, {DUE}",
                f"row 5, column time: found {at(1)} again, expected {at(3)}, {DUE}",
            ],
        ),
        ([at(5), at(4), at(6)], [f"row 3, column time: found {at(4)}, expected {at(6)}, {DUE}"]),
        (
            ["27.03.2016 01:00", at(2), "", at(4), at(6)],
            [
                "row 2, column time: found '27.03.2016 01:00', expected a full hour, "
                "written like 2016-01-01 00:00",
                f"row 4, column time: found '', expected {at(3)}, {DUE}",
                f"row 6, column time: found {at(6)}, expected {at(5)}, {DUE}",
            ],
        ),
        (
            [at(1), "2016-03-27 01:15"],
            [f"row 3, column time: found '2016-03-27 01:15', expected {at(2)}, {DUE}"],
        ),
        (
            ["9999-12-31 23:00", "0001-01-01 00:00"],
            [
                f"row {row}, column time: found '{cell}', expected a full hour, "
                "written like 2016-01-01 00:00"
                for row, cell in ((2, "9999-12-31 23:00"), (3, "0001-01-01 00:00"))
            ],
        ),
    ],
    ids=["gap", "repeated", "backwards", "unreadable", "quarter of an hour", "no year of ours"],
)
def test_faults_of_the_hours(tmp_path: Path, rows: list[str], faults: list[str]) -> None:
    content = "time,a\n" + "".join(f"{row},0.5\n" for row in rows)
    assert faults_of(tmp_path, content) == [f"p.csv, {fault}" for fault in faults]


def test_all_faults_of_the_cells_at_once(tmp_path: Path) -> None:
    content = f"time,a,b\n{at(1)},x,-1.01\n{at(2)},,2.01\n{at(4)},nan,inf\n{at(5)},-1,2\n"
    share = "expected a number from -1 to 2 p.u."
    assert sorted(faults_of(tmp_path, content)) == [
        "p.csv, row 2, column a: found 'x', expected a number",
        f"p.csv, row 2, column b: found -1.01, {share}",
        f"p.csv, row 3, column a: found an empty cell, {share}",
        f"p.csv, row 3, column b: found 2.01, {share}",
        "p.csv, row 4, column a: found 'nan', expected a number",
        f"p.csv, row 4, column b: found inf, {share}",
        f"p.csv, row 4, column time: found {at(4)}, expected {at(3)}, {DUE}",
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "an empty file"),
        ("time,a\n", "no rows"),
        ("a\n0.5\n", "no such column"),
        (f"time\n{at(1)}\n", "no column of a profile"),
        (f"time,a,a\n{at(1)},1,1\n", "a second column of this name"),
        (f"time,a\n{at(1)},1,1\n", "3 cells"),
    ],
)
def test_faults_of_the_whole_file(tmp_path: Path, content: str, found: str) -> None:
    (fault,) = faults_of(tmp_path, content)
    assert f"found {found}, expected" in fault


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: found no such file"):
        read_profiles(tmp_path / "none.csv")


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("b,time,a\n0.5,2016-12-31 23:00,-1\n2,2017-01-01 00:00,1e-3\n")
    hours = pd.date_range("2016-12-31 23:00", periods=2, freq="h", name="time")
    expected = pd.DataFrame({"b": [0.5, 2.0], "a": [-1.0, 0.001]}, index=hours)
    pd.testing.assert_frame_equal(read_profiles(path), expected, check_index_type=False)


# --------------------------------------------------------------------------------------------
# Powers of a network


def assignment(**columns: list[object]) -> pd.DataFrame:
    table: dict[str, list[object]] = {
        "load": ["sun", "two", "one"],
        "profile": ["pv1", "load_g0_m", "load_lv_rural1"],
        "peak_kw": [-400.0, 1000.0, 2000.0],
    }
    return pd.DataFrame(table | columns)


def test_power_is_the_profile_times_the_peak() -> None:
    p_kw = power_profiles(small_network(), year(), assignment())
    assert p_kw.columns.tolist() == ["one", "two", "sun"]
    assert p_kw.index.equals(year().index)
    for load, factor, profile in (
        ("one", 2000, "load_lv_rural1"),
        ("two", 1000, "load_g0_m"),
        ("sun", -400, "pv1"),
    ):
        np.testing.assert_allclose(p_kw[load], factor * year()[profile], rtol=1e-12)


def test_loads_may_share_a_profile() -> None:
    p_kw = power_profiles(small_network(), year(), assignment(profile=["pv1", "pv1", "pv2"]))
    np.testing.assert_allclose(p_kw["two"], -2.5 * p_kw["sun"], rtol=1e-12)
    assert not p_kw["one"].equals(p_kw["two"])


def test_all_faults_of_an_assignment_at_once() -> None:
    table = assignment(
        load=["sun", "moon", "sun"], profile=["pv9", "pv1", ""], peak_kw=["x", 1, 2e8]
    )
    with pytest.raises(DataError) as error:
        power_profiles(small_network(), year(), table)
    assert {str(fault) for fault in error.value.faults} == {
        "frame assignment, row 1, column load: found 'moon', expected a load of small",
        "frame assignment, row 0, column load: found 'sun', expected an identifier used once",
        "frame assignment, row 2, column load: found 'sun', expected an identifier used once",
        "frame assignment, column load: found no 'one', expected a row for every load of the "
        "network",
        "frame assignment, column load: found no 'two', expected a row for every load of the "
        "network",
        "frame assignment, row 0, column profile: found 'pv9', expected a column of the profiles",
        "frame assignment, row 2, column profile: found an empty cell, expected a name",
        "frame assignment, row 0, column peak_kw: found 'x', expected a number",
        "frame assignment, row 2, column peak_kw: found 2e+08, expected a number from -1e+06 to "
        "1e+06 kW",
    }


@pytest.mark.parametrize("column", list(ASSIGNMENT.columns))
def test_a_missing_column_is_one_fault(column: str) -> None:
    with pytest.raises(DataError) as error:
        power_profiles(small_network(), year(), assignment().drop(columns=column))
    assert [(f.column, f.value) for f in error.value.faults] == [(column, "no such column")]


def test_assignment_is_described() -> None:
    assert describe(ASSIGNMENT)["unit"].tolist() == ["", "", "kW"]


# --------------------------------------------------------------------------------------------
# The network at an hour


def powers(**p_kw: object) -> pd.Series:
    return pd.Series({"sun": -50.0, "two": 300.0, "one": 0.0} | p_kw)


def test_reactive_power_keeps_the_power_factor() -> None:
    network = small_network(loads={"q_kvar": [200.0, 300.0, 40.0]})
    before = network.loads.copy()
    now = network_at(network, powers())
    np.testing.assert_allclose(now.s_load_kva, [0, 300 + 100j, -50 + 10j], atol=1e-12)
    assert now.loads[["load", "bus"]].equals(network.loads[["load", "bus"]])
    assert now.name == "small"
    pd.testing.assert_frame_equal(now.branches, network.branches)
    pd.testing.assert_frame_equal(now.buses, network.buses)
    pd.testing.assert_frame_equal(network.loads, before)


def test_the_own_powers_change_nothing() -> None:
    network = small_network()
    same = network_at(network, network.loads.set_index("load")["p_kw"])
    np.testing.assert_allclose(same.s_load_kva, network.s_load_kva, rtol=1e-14)


def test_an_hour_of_the_profiles() -> None:
    network = small_network()
    p_kw = power_profiles(network, year(), assignment())
    now = network_at(network, p_kw.loc["2016-06-21 12:00"])
    np.testing.assert_array_equal(now.loads["p_kw"], p_kw.loc["2016-06-21 12:00"])


def test_all_faults_of_powers_at_once() -> None:
    p_kw = pd.Series([1.0, np.nan, 2e8, 3.0], index=["one", "two", "moon", "one"])
    with pytest.raises(DataError) as error:
        network_at(small_network(), p_kw)
    assert {str(fault).partition(", expected")[0] for fault in error.value.faults} == {
        "frame p_kw, row 0, column load: found 'one'",
        "frame p_kw, row 3, column load: found 'one'",
        "frame p_kw, row 2, column load: found 'moon'",
        "frame p_kw, column load: found no 'sun'",
        "frame p_kw, row 1, column p_kw: found an empty cell",
        "frame p_kw, row 2, column p_kw: found 2e+08",
    }


def test_reactive_power_without_active_power_has_no_power_factor() -> None:
    network: Network = small_network(loads={"p_kw": [600.0, 0.0, 0.0]})
    with pytest.raises(DataError) as error:
        network_at(network, powers())
    (fault,) = error.value.faults
    assert str(fault).startswith("frame loads, row 1, column p_kw: found 0 with q_kvar = 300, ")
    idle = small_network(loads={"p_kw": [600.0, 900.0, 0.0]})
    assert network_at(idle, powers()).s_load_kva[2] == -50
