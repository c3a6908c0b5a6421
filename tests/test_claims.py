"""The ledger is complete, its statuses hold, and its values are computed, not looked up."""

import json
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from flexlib import claims, claims_de_simone, tables
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
    for module in (claims, claims_de_simone):
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


def test_every_published_result_cell_is_exactly_one_claim():
    cells = dict(published_cells())
    written = claims.read_claims().set_index("id")["published"]
    assert written.index.is_unique
    assert len(written) == 280
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
    digits = ledger["published"].str.partition(".")[2].str.len().groupby(table).transform("max")
    assert (ledger["tolerance"] == 0.5 * 10.0**-digits).all()


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
    assert len(records) == 280
    wanted = {"id", "source", "chapter", "quantity", "unit", "published", "ours", "tolerance"}
    assert wanted | {"status", "reason"} <= set(records[0])


def test_command_line_fails_when_a_status_does_not_hold(data_copy):
    path = data_copy / "claims.csv"
    frame = claims.read_claims()
    frame.loc[frame["status"] == "reproduced", "published"] = "9.9999"
    frame.to_csv(path, index=False)
    assert CliRunner().invoke(app, ["claims"]).exit_code == 1
