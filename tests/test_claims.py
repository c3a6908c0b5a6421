"""The ledger is complete, its statuses hold, and its values are computed, not looked up."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from flexlib import claims, claims_de_simone, claims_digiplat, stand_in, tables
from flexlib.__main__ import app

INPUT_COLUMNS = {"branch", "bus", "case", "pod", "cos_phi"}
RESULT_TABLES = ["2-5", "2-6", "2-7", "2-8", "2-9", "2-10", "2-11", "2-12"]


@pytest.fixture(scope="module")
def ledger():
    return claims.ledger()


@pytest.fixture
def data_copy(tmp_path, monkeypatch):
    """A private copy of the data that flexlib reads, and no cached results."""
    shutil.copytree(tables.data_path(), tmp_path / "data")
    for module in (claims, claims_de_simone, stand_in):
        monkeypatch.setattr(module, "data_path", lambda name="": tmp_path / "data" / name)
    cached = (
        claims_de_simone.market,
        claims_de_simone.published_clearing,
        claims_de_simone.corrected_clearing,
    )
    for function in cached:
        function.cache_clear()
    yield tmp_path / "data"
    for function in cached:
        function.cache_clear()


def published_cells():
    """Printed text of every result cell of the covered tables."""
    for table in RESULT_TABLES:
        path = tables.data_path(f"published/de-simone-table-{table}.csv")
        frame = pd.read_csv(path, dtype=str)
        keys = [c for c in ("case", "branch", "bus", "pod") if c in frame]
        inputs = INPUT_COLUMNS | ({"f_up_kw"} if table == "2-10" else set())
        for _, row in frame.iterrows():
            key = f"case {row['case']} POD {row['pod']}" if len(keys) == 2 else row[keys[0]]
            for column in frame.columns.difference(list(inputs)):
                yield f"de-simone-{table}/{key}/{column}", row[column]
    frame = pd.read_csv(tables.data_path("published/digiplat-table-1.csv"), dtype=str)
    for _, row in frame.iterrows():
        for column in ("voltage_pu", "loading_pct"):
            yield f"digiplat-1/{row['metric']}/{column}", row[column]


def test_every_published_result_cell_is_exactly_one_claim():
    cells = dict(published_cells())
    written = claims.read_claims().set_index("id")["published"]
    assert written.index.is_unique
    assert len(written) == 284
    assert dict(written) == cells


def test_statuses_hold(ledger):
    broken = ledger.loc[~ledger["holds"], ["id", "status", "published", "ours"]]
    assert broken.empty, broken.to_string()
    assert ledger["ours"].notna().all()
    assert set(ledger["status"]) <= set(claims.STATUSES)


def test_every_claim_that_is_not_reproduced_says_why(ledger):
    assert (ledger.loc[ledger["status"] != "reproduced", "reason"] != "").all()


def test_tolerance_is_half_of_the_last_printed_digit(ledger):
    table = ledger["id"].str.split("/").str[0] + ledger["id"].str.split("/").str[-1]
    digits = ledger["published"].map(claims.printed_digits).groupby(table).transform("max")
    np.testing.assert_allclose(ledger["tolerance"], 0.5 * 10.0**-digits, rtol=1e-12)


@pytest.mark.parametrize(
    ("number", "digits"), [("95.673", 3), ("2.3e-05", 6), ("-0.0061", 4), ("120", 0), ("1e3", 0)]
)
def test_printed_digits(number, digits):
    assert claims.printed_digits(number) == digits


def test_one_source_at_a_time(ledger):
    assert len(claims.ledger("digiplat")) == 4
    ours = ledger.loc[ledger["source"] == "digiplat", "ours"]
    np.testing.assert_array_equal(claims.ledger("digiplat")["ours"], ours)
    sources = [set(claims.read_errata(source)["source"]) for source in ("de-simone", "digiplat")]
    assert sources == [{"de-simone"}, {"digiplat"}]


def test_a_stand_in_is_not_held_against_the_published_value(ledger):
    apart = ledger[ledger["status"] == "stand-in"]
    assert set(apart["source"]) == {"digiplat"}
    assert not apart["agrees"].any()  # another grid
    assert apart["ours"].between(1e-6, 1.0).all()


def test_only_base_currents_are_fitted(ledger):
    fitted = ledger.loc[ledger["status"] == "fitted", "id"]
    base = ledger["id"].str.contains("/i0_re_A|/i0_im_A")
    assert set(fitted) == set(ledger.loc[base, "id"])


def test_error_status_only_where_the_exact_value_misses(ledger):
    marked = ledger[ledger["status"] == "reproduced only with the source's error"]
    distance = (marked["corrected"] - marked["published"].astype(float)).abs()
    assert len(marked)
    assert (distance > marked["tolerance"]).all()


def test_ac_worst_case_is_never_below_the_published_draws(ledger):
    ac = ledger[ledger["id"].str.contains("acpf")]
    assert (ac["ours"].abs() >= ac["published"].astype(float).abs() - ac["tolerance"]).all()


def test_published_numbers_do_not_reach_ours(data_copy):
    before = claims_de_simone.ours()
    for path in (data_copy / "published").glob("*.csv"):
        path.write_text("nothing\n0\n")
    (data_copy / "claims.csv").unlink()
    for function in (claims_de_simone.market, claims_de_simone.published_clearing):
        function.cache_clear()
    assert claims_de_simone.ours() == before


def test_an_impedance_reaches_ours(data_copy):
    before = claims_de_simone.ours()
    path = data_copy / "feeders/de-simone-12/branches.csv"
    path.write_text(path.read_text().replace("0.168263", "0.178263"))
    for function in (claims_de_simone.market, claims_de_simone.published_clearing):
        function.cache_clear()
    after = claims_de_simone.ours()
    assert after["de-simone-2-8/12/v0_pu"] < before["de-simone-2-8/12/v0_pu"] - 1e-5
    assert not claims.ledger()["holds"].all()


@pytest.fixture
def one_draw(monkeypatch):
    """The stand-in's values from one draw; returns what forgets them."""

    def forget():
        claims_digiplat.compared.cache_clear()
        claims_digiplat.table_1.cache_clear()

    monkeypatch.setattr(claims_digiplat, "SEEDS", (1,))
    forget()
    yield forget
    forget()


def test_the_stand_in_reaches_ours_and_published_numbers_do_not(data_copy, one_draw):
    before = claims_digiplat.ours()
    for path in (data_copy / "published").glob("*.csv"):
        path.write_text("nothing\n0\n")
    (data_copy / "claims.csv").unlink()
    one_draw()
    assert claims_digiplat.ours() == before
    path = data_copy / "feeders/simbench-lv-6/branches.csv"
    path.write_text(path.read_text().replace(",0.103,0.058,", ",0.206,0.058,"))
    one_draw()
    after = claims_digiplat.ours()
    assert all(abs(after[k] / before[k] - 1) > 1e-3 for k in before)


def test_a_wrong_status_does_not_hold(data_copy):
    path = data_copy / "claims.csv"
    frame = claims.read_claims()
    wrong = frame.assign(
        status=frame["status"].replace({"differs": "reproduced", "reproduced": "differs"})
    )
    wrong.to_csv(path, index=False)
    holds = claims.ledger()["holds"]
    assert not holds[frame["status"].isin(["differs", "reproduced"])].any()


def test_command_line_prints_the_ledger():
    result = CliRunner().invoke(app, ["claims"])
    assert result.exit_code == 0
    assert "reproduced only with the source's error" in result.stdout


def test_command_line_json_lists_every_claim():
    result = CliRunner().invoke(app, ["claims", "--json"])
    assert result.exit_code == 0
    records = json.loads(result.stdout)
    assert len(records) == 284
    wanted = {"id", "source", "chapter", "quantity", "unit", "published", "ours", "tolerance"}
    assert wanted | {"status", "reason"} <= set(records[0])


def test_command_line_fails_when_a_status_does_not_hold(data_copy):
    path = data_copy / "claims.csv"
    frame = claims.read_claims()
    frame.loc[frame["status"] == "reproduced", "published"] = "9.9999"
    frame.to_csv(path, index=False)
    assert CliRunner().invoke(app, ["claims"]).exit_code == 1
