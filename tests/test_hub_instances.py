"""Instances: limits of the reference from method A, the stored draw made again."""

import numpy as np
import pandas as pd
import pytest
import simbench
from make_hubs import CODE, DRAWS, HUBS, drawn, method_a, sites, withdrawals
from make_hubs import simbench_mv as made

from flexlib import hub_instances
from flexlib.errors import DataError
from flexlib.hub_followers import no_pricing
from flexlib.hub_grid import read_limits
from flexlib.hub_instances import limited, many_feeders, reference, simbench_mv
from flexlib.profiles import read_profiles
from flexlib.readers import read_network
from flexlib.tables import data_path

CASES = [
    (hubs, hours, level) for hubs in (1, 2, 3) for hours in (6, 12, 24) for level in (0.6, 0.5)
]
FEEDERS = data_path("hubs/feeders-1000")
SIMBENCH = data_path("hubs/simbench-mv")


@pytest.mark.parametrize(("hubs", "hours", "level"), CASES)
def test_limits_of_the_reference_are_those_of_method_a(hubs, hours, level):
    case, grid = reference(hubs, hours, level)
    ours = limited(grid, no_pricing(case).schedule.w_mw, level)
    assert ours.limit_mw.round(3) == pytest.approx(grid.limit_mw, abs=1e-9)
    assert round(ours.import_mw, 3) == pytest.approx(grid.import_mw, abs=1e-9)
    assert round(ours.export_mw, 3) == pytest.approx(grid.export_mw, abs=1e-9)


def test_every_stored_limit_belongs_to_a_case():
    stored = pd.read_csv(data_path("hubs/reference-3") / "limits.csv")
    used = sum(
        len(read_limits(data_path("hubs/reference-3"), hubs=h, hours=t, fl=f)) for h, t, f in CASES
    )
    assert used == len(stored)


@pytest.mark.parametrize("draw", DRAWS)
def test_stored_draw_is_made_again(draw):
    stored = pd.read_csv(data_path(f"hubs/{draw}") / "hubs.csv")
    pd.testing.assert_frame_equal(stored, drawn(draw), check_dtype=False, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("draw", "share"), [("feeders-1000", 0.1), ("feeders-9000", 0.01)])
def test_stored_withdrawals_are_made_again(draw, share):
    """Method A of some ninety feeders of each draw, seeded."""
    feeders, factors = np.array(DRAWS[draw][0]), drawn(draw)
    count = round(share * len(feeders))
    chosen = np.random.default_rng(0).choice(feeders, count, replace=False)
    part = factors[factors["feeder"].isin(chosen)]
    again = withdrawals(part, method_a(part)["w_mw"])
    stored = pd.read_csv(data_path(f"hubs/{draw}") / "withdrawals.csv")
    assert stored["feeder"].unique().tolist() == feeders.tolist()
    kept = stored[stored["feeder"].isin(chosen)].reset_index(drop=True)
    assert len(kept) == 3 * count
    pd.testing.assert_frame_equal(kept, again, check_dtype=False, rtol=0, atol=1e-9)


def test_draws_follow_one_another_and_differ():
    first, second = (DRAWS[draw] for draw in DRAWS)
    assert [*first[0], *second[0]] == list(range(1, 10_001))
    sizes = [drawn(draw)["size"].to_numpy()[:3000] for draw in DRAWS]
    assert abs(np.corrcoef(*sizes)[0, 1]) < 0.05


def test_ten_thousand_feeders_go_on_where_the_thousand_end():
    fewer, small = many_feeders(1000, 0.5)
    hubs, grid = many_feeders(10_000, 0.5)
    assert len(hubs) == 30_000
    grid.assert_fits(hubs)
    assert hubs.table["hub"][29_999] == "hub_3 of 10000"
    assert hubs.table["hub"].is_unique
    pd.testing.assert_frame_equal(hubs.table[:3000], fewer.table)
    assert grid.lines[:5000] == small.lines[:5000]
    assert grid.lines[50_000:50_100] == small.lines[5000:]
    assert len(grid.lines) == 51_000
    assert np.array_equal(grid.limit_mw[:5000], small.limit_mw[:5000])
    assert np.array_equal(grid.limit_mw[50_000:50_100], small.limit_mw[5000:])
    assert (grid.factor[:5000, 3000:].nnz, grid.factor[50_000:50_100, 3000:].nnz) == (0, 0)
    w_mw = np.vstack(
        [pd.read_csv(data_path(f"hubs/{draw}") / "withdrawals.csv").iloc[:, 2:] for draw in DRAWS]
    )
    assert grid.import_mw == pytest.approx(0.5 * w_mw.sum(axis=0).max())
    last = grid.loading_mw(w_mw)[-2]  # trunk 1000, before the substation
    assert grid.limit_mw[-1] == pytest.approx(0.5 * np.abs(last).max())


def test_second_draw_is_read_when_it_is_needed(monkeypatch):
    read = []

    def noted(path, schema):
        read.append(f"{path.parent.name}/{path.name}")
        return real(path, schema)

    real = hub_instances.read_drawn
    monkeypatch.setattr(hub_instances, "read_drawn", noted)
    many_feeders(1000, 0.6)
    assert read == ["feeders-1000/hubs.csv", "feeders-1000/withdrawals.csv"]
    hubs, _ = many_feeders(1001, 0.6)
    assert read[2:] == [
        f"{draw}/{name}.csv" for name in ("hubs", "withdrawals") for draw in DRAWS
    ]  # fmt: skip
    assert len(hubs) == 3003
    assert hubs.table["hub"][3000] == "hub_1 of 1001"


def test_many_feeders_nest_and_share_trunks():
    hubs, grid = many_feeders(23, 0.6)
    fewer, small = many_feeders(20, 0.6)
    assert hubs.table["hub"].tolist()[:60] == fewer.table["hub"].tolist()
    assert hubs.table["hub"][68] == "hub_3 of 23"
    assert len(hubs) == 69
    assert grid.lines[-3:] == ["trunk 1", "trunk 2", "trunk 3"]
    assert grid.limit_mw[:100] == pytest.approx(small.limit_mw[:100], abs=0)
    assert grid.limit_mw[115:117] == pytest.approx(small.limit_mw[100:], abs=0)
    trunk = grid.factor.toarray()[-1]
    assert np.flatnonzero(trunk).tolist() == list(range(60, 69))
    assert set(np.unique(grid.factor.toarray())) == {0.0, 1.0}


def test_trunk_carries_nine_tenths_of_its_feeders_backgrounds():
    _, grid = many_feeders(12, 0.6)
    first = grid.background_mw[0]  # line_1 has the largest background of a feeder
    assert grid.background_mw[-2] == pytest.approx(9 * first)
    assert grid.background_mw[-1] == pytest.approx(1.8 * first)


def test_limits_are_shares_of_the_stored_loading():
    hubs, grid = many_feeders(10, 0.5)
    w_mw = pd.read_csv(FEEDERS / "withdrawals.csv").iloc[:30, 2:].to_numpy()
    loading = grid.loading_mw(w_mw)
    assert grid.limit_mw == pytest.approx(0.5 * np.abs(loading[:-1]).max(axis=1))
    assert grid.import_mw == pytest.approx(0.5 * w_mw.sum(axis=0).max())
    export = max(-0.95 * w_mw.sum(axis=0).min(), 0.095 * w_mw.sum(axis=0).max())
    assert grid.export_mw == pytest.approx(export)
    grid.assert_fits(hubs)


@pytest.mark.parametrize("feeders", [0, 10_001])
def test_other_numbers_of_feeders_are_refused(feeders):
    with pytest.raises(DataError, match="1 to 10000"):
        many_feeders(feeders, 0.6)


def test_missing_case_of_the_reference_is_named():
    with pytest.raises(DataError, match="no such row"):
        reference(3, 24, 0.7)


@pytest.fixture(scope="module")
def net():
    return simbench.get_simbench_net(CODE)


@pytest.fixture(scope="module")
def tables(net):
    return made(net)


@pytest.mark.parametrize(
    "name", ["hubs", "sites", "profiles", "costs", "buses", "branches", "loads", "assignment"]
)
def test_tables_of_simbench_are_made_again(tables, name):
    stored = pd.read_csv(SIMBENCH / f"{name}.csv")
    again = tables[0][name].reset_index(drop=True)
    pd.testing.assert_frame_equal(stored, again, check_dtype=False, rtol=1e-9, atol=0)


def test_day_of_simbench_is_that_of_the_profiles(tables):
    """The columns that both files have, on 2016-01-27."""
    hubs, _ = simbench_mv()
    year = read_profiles(data_path("profiles/simbench-2016-hourly.csv"))
    assert f"{tables[1]:%Y-%m-%d %a}" == "2016-01-27 Wed"
    both = [name for name in hubs.profiles if name in year]
    assert len(both) == 9
    day = year.loc["2016-01-27", both].to_numpy()
    assert hubs.profiles[both].to_numpy() == pytest.approx(day, abs=0)


def test_hubs_stand_in_for_the_largest_loads_of_the_feeder(net):
    hubs, site = simbench_mv()
    whole = read_network(net)
    gone = whole.loads[~whole.loads["load"].isin(site.network.loads["load"])]
    assert sorted(gone["bus"]) == sorted(site.hub_bus)
    assert len(hubs) == HUBS
    assert hubs.table["demand_peak_mw"].sum() == pytest.approx(gone["p_kw"].sum() / 1000)
    feeder = [f"MV1.101 Bus {k}" for k in [*range(48, 69), 70]]
    rest = whole.loads[whole.loads["bus"].isin(feeder) & ~whole.loads["load"].isin(gone["load"])]
    others = rest[~rest["bus"].isin(gone["bus"])]
    assert others["p_kw"].max() <= gone["p_kw"].min()
    assert sites(whole)["bus"].tolist() == site.hub_bus.tolist()


def test_sizes_of_simbench_hubs_are_in_proportion():
    hubs, _ = simbench_mv()
    one, _ = reference()
    for k, row in hubs.table.iterrows():
        model = one.table.iloc[k % 3]
        scale = row["demand_peak_mw"] / model["demand_peak_mw"]
        for name in ("battery_mwh", "electrolyser_mw", "pv_mwp", "h2_offtake_mw", "generator_mw"):
            assert row[name] == pytest.approx(scale * model[name], abs=6e-5)
