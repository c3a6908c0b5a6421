"""Tables of hubs: what is refused is named, what is accepted has a schedule."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from feeders import STABLE
from hub_cases import random_hubs
from hypothesis import given
from hypothesis import strategies as st
from poster import NOTHING, least_cost, small_hubs

from flexlib import DataError
from flexlib.errors import Fault
from flexlib.hub_followers import followers, no_pricing
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import HUBS, VARIABLES, Hubs, read_hubs
from flexlib.solver import solve
from flexlib.tables import data_path
from flexlib.tariffs import no_tariff

REFERENCE = data_path("hubs/reference-3")


@pytest.fixture(scope="module")
def reference() -> Hubs:
    return read_hubs(REFERENCE)


def edited(folder: Path, *cells: tuple[str, int, str, str]) -> Path:
    """Copy of the reference tables with other cells: file, row from 0, column, value."""
    shutil.copytree(REFERENCE, folder, dirs_exist_ok=True)
    for name, row, column, value in cells:
        with (folder / f"{name}.csv").open() as file:
            header, *rows = csv.reader(file)
        rows[row][header.index(column)] = value
        write(folder / f"{name}.csv", [header, *rows])
    return folder


def write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def faults_of(make: Callable[[], object]) -> list[tuple[str, str, str, str, str]]:
    with pytest.raises(DataError) as error:
        make()
    return [(f.file, f.row, f.column, f.value, f.expected) for f in error.value.faults]


def test_the_reference_tables(reference: Hubs) -> None:
    assert (len(reference), reference.hours) == (3, 24)
    demand = reference.profiles["demand"].to_numpy()
    np.testing.assert_allclose(reference.demand_mw, np.outer([1.2, 0.8, 1.0], demand))
    np.testing.assert_allclose(
        reference.pv_mw, np.outer([2.0, 1.2, 2.6], reference.profiles["pv"].to_numpy())
    )
    np.testing.assert_allclose(
        reference.buy_eur_per_mwh[:, 0] - reference.profiles["buy_eur_per_mwh"][0], [24, 26, 25]
    )
    assert reference.sell_eur_per_mwh[0] == 56
    assert reference.neighbours.tolist() == [[0, 1], [1, 2]]
    assert reference.costs["variable"].tolist() == list(VARIABLES)


# --------------------------------------------------------------------------------------------
# One bad cell


SHARES = ["battery_eff_charge", "battery_eff_discharge", "electrolyser_eff", "fuel_cell_eff"]
BAD_CELLS = [
    *[("hubs", 1, name, value, value, "above 0 to 1") for name in SHARES
      for value in ("0", "1.01", "-0.5")],
    *[("hubs", 2, name, "1.5", "1.5", "from 0 to 1")
      for name in ("battery_min_soc", "battery_initial_soc", "h2_initial_fill")],
    *[("hubs", 0, name, "-1", "-1", "a number from 0") for name, column in HUBS.columns.items()
      if "range" in column.metadata and name not in SHARES],
    ("hubs", 1, "battery_mwh", "", "an empty cell", "a number from 0 to 1e+06 MWh"),
    ("hubs", 1, "battery_mwh", "much", "'much'", "a number"),
    ("hubs", 1, "battery_mwh", "nan", "'nan'", "a number"),
    ("hubs", 1, "battery_mwh", "inf", "inf", "a number from 0 to 1e+06 MWh"),
    ("hubs", 1, "hub", "", "an empty cell", "a name"),
    ("hubs", 1, "demand_profile", "sun", "'sun'", "one of pv, demand, background"),
    ("hubs", 2, "pv_profile", "sell_eur_per_mwh", "'sell_eur_per_mwh'", "one of pv, demand"),
    ("hubs", 2, "demand_profile", "hour", "'hour'", "one of pv, demand"),
    ("profiles", 3, "demand", "", "an empty cell", "a number from 0 to 10 p.u."),
    ("profiles", 3, "pv", "-0.1", "-0.1", "a number from 0 to 10 p.u."),
    ("profiles", 3, "background", "x", "'x'", "a number"),
    ("profiles", 3, "buy_eur_per_mwh", "", "an empty cell", "a number from -10000"),
    ("profiles", 3, "hour", "", "an empty cell", "a number from 0"),
    ("profiles", 0, "hour", "-1", "-1", "a number from 0"),
    ("costs", 2, "linear_eur_per_mwh", "", "an empty cell", "a number from -10000"),
    ("costs", 2, "quadratic_eur_per_mwh_per_mw", "-1", "-1", "a number from 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "column", "cell", "found", "expected"), BAD_CELLS)
def test_a_bad_cell_is_named(
    tmp_path: Path, name: str, row: int, column: str, cell: str, found: str, expected: str
) -> None:
    folder = edited(tmp_path, (name, row, column, cell))
    (fault,) = faults_of(lambda: read_hubs(folder))
    assert fault[:4] == (f"{name}.csv", str(row + 2), column, found)
    assert expected in fault[4]


def test_every_fault_of_every_table_at_once(tmp_path: Path) -> None:
    folder = edited(
        tmp_path, ("hubs", 0, "fuel_cell_eff", "2"), ("hubs", 2, "generator_mw", "-3"),
        ("costs", 4, "linear_eur_per_mwh", "x"), ("profiles", 7, "pv", ""),
    )  # fmt: skip
    found = faults_of(lambda: read_hubs(folder))
    assert sorted(fault[:3] for fault in found) == [
        ("costs.csv", "6", "linear_eur_per_mwh"),
        ("hubs.csv", "2", "fuel_cell_eff"),
        ("hubs.csv", "4", "generator_mw"),
        ("profiles.csv", "9", "pv"),
    ]


# --------------------------------------------------------------------------------------------
# Rows and columns


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    edited(tmp_path)
    (tmp_path / "costs.csv").unlink()
    (fault,) = faults_of(lambda: read_hubs(tmp_path))
    assert (fault[0], fault[3]) == ("costs.csv", "no such file")


def changed_rows(folder: Path, name: str, change: Callable[[list[list[str]]], object]) -> Path:
    edited(folder)
    with (folder / f"{name}.csv").open() as file:
        rows = list(csv.reader(file))
    change(rows)
    write(folder / f"{name}.csv", rows)
    return folder


def test_a_missing_hour_is_named(tmp_path: Path) -> None:
    folder = changed_rows(tmp_path, "profiles", lambda rows: rows.pop(6))
    assert faults_of(lambda: read_hubs(folder)) == [
        ("profiles.csv", "7", "hour", "6", "5, one more than before")
    ]


def test_an_hour_that_is_there_twice_is_named(tmp_path: Path) -> None:
    folder = changed_rows(tmp_path, "profiles", lambda rows: rows.insert(6, rows[6]))
    assert faults_of(lambda: read_hubs(folder)) == [
        ("profiles.csv", "8", "hour", "5", "6, one more than before")
    ]


def test_hours_are_whole_numbers(reference: Hubs) -> None:
    profiles = reference.profiles.assign(hour=reference.profiles["hour"] + 0.5)
    found = faults_of(lambda: replace(reference, profiles=profiles))
    assert [fault[1] for fault in found] == [str(line) for line in range(2, 26)]
    assert found[3][2:] == ("hour", "3.5", "a whole number")


def test_hours_need_not_start_at_0(reference: Hubs) -> None:
    profiles = reference.profiles.assign(hour=reference.profiles["hour"] + 8000)
    assert replace(reference, profiles=profiles).hours == 24


def test_a_shorter_row_is_named(tmp_path: Path) -> None:
    folder = changed_rows(tmp_path, "profiles", lambda rows: rows[9].pop())
    (fault,) = faults_of(lambda: read_hubs(folder))
    assert fault == ("profiles.csv", "10", "", "5 cells", "6, one for each column")


def test_a_shorter_column_is_named_at_each_cell(tmp_path: Path) -> None:
    def shorten(rows: list[list[str]]) -> None:
        for row in rows[-3:]:
            row[4] = ""

    folder = changed_rows(tmp_path, "profiles", shorten)
    found = faults_of(lambda: read_hubs(folder))
    assert [fault[:4] for fault in found] == [
        ("profiles.csv", str(line), "demand", "an empty cell") for line in (23, 24, 25)
    ]


@pytest.mark.parametrize("column", ["hour", "buy_eur_per_mwh", "sell_eur_per_mwh"])
def test_profiles_without_hours_or_prices(reference: Hubs, column: str) -> None:
    (fault,) = faults_of(
        lambda: replace(reference, profiles=reference.profiles.drop(columns=column))
    )
    assert fault[:4] == ("profiles.csv", "", column, "no such column")


def test_an_unknown_column_is_named(reference: Hubs) -> None:
    table = reference.table.assign(colour="red")
    (fault,) = faults_of(lambda: replace(reference, table=table))
    assert fault[2:4] == ("colour", "an unknown column")


def test_costs_of_unknown_and_of_missing_variables(tmp_path: Path) -> None:
    folder = edited(tmp_path, ("costs", 3, "variable", "p_charge"))
    missing, unknown = faults_of(lambda: read_hubs(folder))
    assert missing[:4] == ("costs.csv", "", "variable", "no 'p_ch'")
    assert unknown[:4] == ("costs.csv", "5", "variable", "'p_charge'")
    assert all(name in unknown[4] for name in VARIABLES)


def test_two_costs_of_one_variable(tmp_path: Path) -> None:
    folder = edited(tmp_path, ("costs", 3, "variable", "u"))
    found = faults_of(lambda: read_hubs(folder))
    assert ("costs.csv", "5", "variable", "'u'", "an identifier used once") in found


def test_two_hubs_of_one_name(tmp_path: Path) -> None:
    folder = edited(tmp_path, ("hubs", 2, "hub", "hub_1"))
    found = faults_of(lambda: read_hubs(folder))
    assert ("hubs.csv", "4", "hub", "'hub_1'", "an identifier used once") in found
    assert {fault[1] for fault in found} == {"2", "4"}


def test_names_are_text_even_where_they_are_numbers(reference: Hubs) -> None:
    hubs = replace(reference, table=reference.table.assign(hub=[1, 2, 3]))
    assert hubs.table["hub"].tolist() == ["1", "2", "3"]
    found = faults_of(lambda: replace(reference, table=reference.table.assign(hub=[1, 2, "1"])))
    assert {fault[3:] for fault in found} == {("'1'", "an identifier used once")}
    (fault,) = faults_of(lambda: replace(reference, table=reference.table.assign(hub=[1, None, 3])))
    assert fault[1:4] == ("3", "hub", "an empty cell")


@pytest.mark.parametrize("name", ["table", "profiles", "costs"])
def test_a_table_without_rows(reference: Hubs, name: str) -> None:
    found = faults_of(lambda: replace(reference, **{name: getattr(reference, name).iloc[:0]}))
    assert [fault[3:] for fault in found] == [("no rows", "at least one row")]


def test_order_of_costs_does_not_matter(reference: Hubs) -> None:
    turned = replace(reference, costs=reference.costs.iloc[::-1])
    pd.testing.assert_frame_equal(turned.costs, reference.costs)


# --------------------------------------------------------------------------------------------
# Arbitrage


def test_exports_dearer_than_imports(tmp_path: Path) -> None:
    # hub_1 pays least, 80 + 24 in hour 9: 104 is the highest price of exports there
    base = read_hubs(REFERENCE)
    least = base.buy_eur_per_mwh[:, 9].min()
    assert least == base.buy_eur_per_mwh[0, 9]
    folder = edited(tmp_path, ("profiles", 9, "sell_eur_per_mwh", f"{least:g}"))
    assert read_hubs(folder).sell_eur_per_mwh[9] == least  # no profit: accepted
    edited(tmp_path, ("profiles", 9, "sell_eur_per_mwh", f"{least + 0.5:g}"))
    assert faults_of(lambda: read_hubs(tmp_path)) == [
        ("profiles.csv", "11", "sell_eur_per_mwh", f"{least + 0.5:g}",
         f"at most {least:g}, what hub hub_1 pays for imports"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["m_in", "m_out"])
def test_arbitrage_by_linear_costs(name: str) -> None:
    buy, sell = [50.0, 60.0], [40.0, 55.0]
    devices = {"base_tariff_eur_per_mwh": 3.0}, {"base_tariff_eur_per_mwh": 2.0}
    # hour 1 leaves 60 + 2 - 55 = 7 to hub_2 and 8 to hub_1, hour 0 more
    small_hubs(buy, sell, *devices, costs={name: -7.0})
    (fault,) = faults_of(lambda: small_hubs(buy, sell, *devices, costs={name: -7.5}))
    assert fault == (
        "frame profiles", "1", "sell_eur_per_mwh", "55",
        "at most 54.5, what hub hub_2 pays for imports",
    )  # fmt: skip
    # a cost of importing that makes up for a dear export
    small_hubs(buy, [40.0, 70.0], *devices, costs={name: 8.0})
    assert len(faults_of(lambda: small_hubs(buy, [40.0, 70.0], *devices, costs={name: 7.9}))) == 1


# --------------------------------------------------------------------------------------------
# Stores and flexible load


def test_an_offtake_beyond_the_electrolyser(tmp_path: Path) -> None:
    folder = edited(tmp_path, ("hubs", 1, "h2_offtake_mw", "0.5"))  # 0.6 MW at 0.62 give 0.372
    (fault,) = faults_of(lambda: read_hubs(folder))
    assert fault[:4] == ("hubs.csv", "3", "electrolyser_mw", "0.6")
    least = float(re.search(r"at least ([\d.]+)", fault[4])[1])  # type: ignore[index]
    assert least == pytest.approx(0.5 / 0.62, rel=1e-5)


def test_an_initial_content_below_the_least(tmp_path: Path) -> None:
    folder = edited(tmp_path, ("hubs", 2, "battery_initial_soc", "0.09"))
    assert faults_of(lambda: read_hubs(folder)) == [
        ("hubs.csv", "4", "battery_initial_soc", "0.09", "at least battery_min_soc (0.1)")
    ]
    edited(folder, ("hubs", 2, "battery_initial_soc", "0.1"))
    assert no_pricing(read_hubs(folder)).certificate.ok
    # without a battery there is no content to be wrong
    edited(folder, ("hubs", 2, "battery_initial_soc", "0"), ("hubs", 2, "battery_mwh", "0"))
    assert no_pricing(read_hubs(folder)).certificate.ok


def test_flexible_load_that_cannot_be_served(tmp_path: Path) -> None:
    folder = edited(tmp_path, ("hubs", 0, "flexible_load_max_factor", "0.99"))
    (fault,) = faults_of(lambda: read_hubs(folder))
    assert fault[:4] == ("hubs.csv", "2", "flexible_load_max_factor", "0.99")
    assert "at least 1" in fault[4]
    edited(folder, ("hubs", 0, "flexible_load_mw", "0"))  # nothing arrives
    assert no_pricing(read_hubs(folder)).certificate.ok


SIZES = [
    "demand_peak_mw", "pv_mwp", "flexible_load_mw", "backlog_max_mwh", "battery_mw",
    "battery_mwh", "electrolyser_mw", "fuel_cell_h2_mw", "h2_store_mwh", "h2_offtake_mw",
    "generator_mw",
]  # fmt: skip


def drawn_tables(rng: np.random.Generator, count: int, hours: int) -> list[pd.DataFrame]:
    """Tables of hubs of any kind, many without some devices, prices of any sign."""
    table = pd.DataFrame([{"hub": f"hub_{k}", **NOTHING} for k in range(count)])
    for name in SIZES:
        table[name] = rng.choice([0, 1, 1], count) * np.round(rng.uniform(0, 2, count), 2)
    table["h2_offtake_mw"] *= 0.5
    table["flexible_load_max_factor"] = rng.choice([0, 0.9, 1, 1, 1.2, 3], count)
    table["battery_min_soc"] = rng.choice([0, 0.1, 0.5, 1], count)
    table["battery_initial_soc"] = np.maximum(
        table["battery_min_soc"], rng.choice([0, 0.1, 0.5, 1], count)
    )
    table["h2_initial_fill"] = rng.choice([0, 0.4, 1], count)
    for name in SHARES:
        table[name] = rng.choice([0.05, 0.5, 0.9, 1], count)
    table["generator_cost_eur_per_mwh"] = rng.uniform(0, 200, count)
    buy = rng.uniform(-100, 150, hours)
    profiles = pd.DataFrame(
        {
            "hour": np.arange(hours) + 7,
            "buy_eur_per_mwh": buy,
            "sell_eur_per_mwh": buy - 20 - rng.choice([0, 10], hours),
            "demand": rng.uniform(0, 1, hours),
            "pv": rng.choice([0, 0.5, 1], hours),
        }
    )
    costs = pd.DataFrame({"variable": list(VARIABLES)})
    costs["linear_eur_per_mwh"] = rng.uniform(-10, 10, len(VARIABLES))
    costs["quadratic_eur_per_mwh_per_mw"] = 0.0
    return [table, profiles, costs]


@STABLE
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_accepted_hubs_have_a_schedule_and_hubs_refused_for_a_store_have_none(
    seed: int, hours: int
) -> None:
    tables = drawn_tables(np.random.default_rng(seed), 12, hours)
    faults: tuple[Fault, ...] = ()
    try:
        Hubs(*tables)
    except DataError as error:
        faults = error.faults
    assert {fault.column for fault in faults} <= {"electrolyser_mw", "flexible_load_max_factor"}
    refused = {int(fault.row) for fault in faults}
    plain = SimpleNamespace(table=tables[0], profiles=tables[1], costs=tables[2])
    feasible = {k for k in range(12) if least_cost(plain, k) is not None}  # type: ignore[arg-type]
    assert feasible == set(range(12)) - refused
    if feasible:
        accepted = Hubs(tables[0].iloc[sorted(feasible)].reset_index(drop=True), *tables[1:])
        assert no_pricing(accepted).certificate.ok
        programme = HubProgramme(accepted)
        assert np.isfinite(programme.lower).all()
        assert np.isfinite(programme.upper).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_hub_at_rest_is_a_schedule(seed: int) -> None:
    """The schedule of the class's own argument, so that no accepted hub is infeasible."""
    hubs = random_hubs(np.random.default_rng(seed), 4, 6)
    t = {name: hubs.table[name].to_numpy()[:, None] for name in hubs.table}
    programme = HubProgramme(hubs)
    x = np.zeros(programme.shape)
    at = {name: k for k, name in enumerate(VARIABLES)}
    x[:, :, at["e"]] = t["battery_initial_soc"] * t["battery_mwh"]
    x[:, :, at["u"]] = t["flexible_load_mw"]
    x[:, :, at["p_el"]] = t["h2_offtake_mw"] / t["electrolyser_eff"]
    x[:, :, at["h"]] = t["h2_initial_fill"] * t["h2_store_mwh"]
    w = hubs.demand_mw - hubs.pv_mw + x[:, :, at["u"]] + x[:, :, at["p_el"]]
    x[:, :, at["m_in"]], x[:, :, at["m_out"]] = np.maximum(w, 0), np.maximum(-w, 0)
    x = x.ravel()
    np.testing.assert_allclose(programme.a @ x, programme.b, atol=1e-12)
    assert (x >= programme.lower - 1e-12).all()
    assert (x <= programme.upper + 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_connection_costs_nobody_anything(seed: int) -> None:
    hubs = random_hubs(np.random.default_rng(seed), 3, 6)
    programme = HubProgramme(hubs)
    own = followers(programme, no_tariff(3, 6))
    wide = own.upper.copy()
    for name in ("m_in", "m_out"):
        wide[programme.column(name).ravel()] *= 3
    assert (wide != own.upper).any()
    assert solve(replace(own, upper=wide)).objective == pytest.approx(solve(own).objective)


# --------------------------------------------------------------------------------------------
# Parts


def test_part_of_the_hubs_and_hours(reference: Hubs) -> None:
    part = reference.only(slice(1, 3), slice(10, 22))
    assert part.table["hub"].tolist() == ["hub_2", "hub_3"]
    assert part.profiles["hour"].tolist() == list(range(10, 22))
    np.testing.assert_allclose(part.demand_mw, reference.demand_mw[1:, 10:22])
    np.testing.assert_allclose(part.pv_mw, reference.pv_mw[1:, 10:22])
    np.testing.assert_allclose(part.buy_eur_per_mwh, reference.buy_eur_per_mwh[1:, 10:22])
    np.testing.assert_allclose(part.connection_mw, reference.connection_mw[1:, :, 10:22])
    assert part.neighbours.tolist() == [[0, 1]]


def test_a_part_knows_its_lines(reference: Hubs) -> None:
    first, *_ = faults_of(lambda: reference.only(hours=slice(3, 24, 2)))
    assert first == ("profiles.csv", "7", "hour", "5", "4, one more than before")
    part = reference.only(slice(1, 3))
    table = part.table.assign(generator_mw=[-1.0, 0.0])
    (fault,) = faults_of(lambda: replace(part, table=table))
    assert fault[:3] == ("hubs.csv", "3", "generator_mw")
    made = small_hubs([50.0, 60.0, 70.0], [40.0, 50.0, 60.0], {})
    (fault,) = faults_of(lambda: made.only(hours=slice(0, 3, 2)))
    assert fault[:2] == ("frame profiles", "1")


def test_more_hubs_than_the_file_has_are_named_by_their_row(reference: Hubs) -> None:
    table = pd.concat([reference.table] * 2, ignore_index=True)
    found = faults_of(lambda: replace(reference, table=table))
    assert {fault[:4] for fault in found} == {
        ("frame hubs", str(k), "hub", f"'hub_{k % 3 + 1}'") for k in range(6)
    }
    table["hub"] = [f"hub {k}" for k in range(6)]
    assert len(replace(reference, table=table)) == 6
    table.loc[5, "generator_mw"] = -1.0
    (fault,) = faults_of(lambda: replace(reference, table=table))
    assert fault[:4] == ("frame hubs", "5", "generator_mw", "-1")


def test_neighbours_stand_on_one_feeder() -> None:
    feeders = ["a", "a", "b", "b", "b", "a"]
    hubs = small_hubs([50.0], [40.0], *({"feeder": feeder} for feeder in feeders))
    assert hubs.neighbours.tolist() == [[0, 1], [2, 3], [3, 4]]
