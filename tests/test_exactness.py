"""The stored study of how far exactness reaches: consistent, and its small runs made again."""

import numpy as np
import pandas as pd
import pytest
from make_exactness import (
    CAP,
    COLUMNS,
    GAP,
    KEY,
    LEVEL,
    LIMIT_S,
    MENU_WAY,
    RUNS,
    changes,
    run,
)

from flexlib.centralised import centralised
from flexlib.hub_instances import reference
from flexlib.pricing import linear_prices
from flexlib.pricing_inverse import AdderWeights
from flexlib.pricing_steps import objective, with_joint_steps
from flexlib.tables import data_path

STATUSES = {"proven", "not proven", "no incumbent"}
SMALL_S = 5.0  # CPU time of a run that is made again, with a chance of one in ten
SEED = 1
TOLERANCE = 1e-6  # of stored digits and of the solvers, relative
COMPLETE = [(1, 6), (1, 12)]  # cases of which no run may be missing
WAY, CASE = ["reformulation", "start"], ["hubs", "hours"]


def stored(name: str) -> pd.DataFrame:
    return pd.read_csv(data_path(f"exactness/{name}.csv"), comment="#")


STUDY, TRACE = stored("runs"), stored("trace")
PROVEN = STUDY[STUDY["status"] == "proven"]
SMALL = PROVEN[PROVEN["cpu_s"] < SMALL_S]
AGAIN = SMALL.sample(max(2, round(len(SMALL) / 10)), random_state=SEED)


def margin(value: pd.Series | float) -> pd.Series | float:
    return TOLERANCE * np.maximum(1.0, np.abs(value))


def assert_monotone(trace: pd.DataFrame) -> None:
    """Bounds never fall, incumbents never rise, neither is lost again, time goes on."""
    assert trace["cpu_s"].is_monotonic_increasing
    bound = trace["bound"].fillna(-np.inf).to_numpy()
    incumbent = trace["incumbent"].fillna(np.inf).to_numpy()
    assert (bound[1:] >= bound[:-1] - TOLERANCE).all()
    assert (incumbent[1:] <= incumbent[:-1] + TOLERANCE).all()
    assert (bound <= incumbent + TOLERANCE).all()


def test_every_run_is_stored_once() -> None:
    assert STUDY.columns.tolist() == COLUMNS
    assert not STUDY.duplicated(KEY).any()
    jobs = set(map(tuple, STUDY[CASE + WAY].to_numpy().tolist()))
    assert jobs <= set(RUNS)
    assert {job for job in RUNS if job[:2] in COMPLETE} <= jobs
    assert set(STUDY["level"]) == {LEVEL}
    assert set(STUDY["limit_cpu_s"]) == {LIMIT_S}


@pytest.mark.parametrize("name", ["runs", "trace"])
def test_table_says_what_made_it(name: str) -> None:
    first = data_path(f"exactness/{name}.csv").read_text(encoding="utf-8").splitlines()[0]
    assert all(part in first for part in ("# flexlib", "highspy", "pyscipopt", "sha256", "cores"))


def test_status_is_that_of_the_numbers() -> None:
    assert set(STUDY["status"]) <= STATUSES
    nothing = STUDY["status"] == "no incumbent"
    assert (STUDY[["objective", "gap"]].isna().all(axis=1) == nothing).all()
    assert STUDY.loc[~nothing, ["objective", "bound", "gap"]].notna().all(axis=None)
    assert (PROVEN["gap"] <= GAP + TOLERANCE).all()
    stopped = STUDY[STUDY["status"] == "not proven"]
    assert (stopped["gap"] > GAP).all()
    assert (STUDY.loc[STUDY["status"] != "proven", "cpu_s"] >= LIMIT_S).all()
    gap = (STUDY["objective"] - STUDY["bound"]) / STUDY["objective"]
    np.testing.assert_allclose(gap[~nothing], STUDY.loc[~nothing, "gap"], atol=2 * TOLERANCE)


def test_no_objective_is_below_any_bound() -> None:
    """Of any reformulation of the same case; for the menu the others' bounds hold too."""
    whole = STUDY[STUDY["reformulation"] != MENU_WAY[0]]
    bound = whole.groupby(CASE)["bound"].max()
    for case, runs in STUDY.groupby(CASE):
        least = runs["objective"].min()
        assert bound[case] <= least + margin(least), case
    menu = STUDY[STUDY["reformulation"] == MENU_WAY[0]].dropna(subset="objective")
    assert (menu["bound"] <= menu["objective"] + margin(menu["objective"])).all()


def test_reformulations_agree_where_they_prove() -> None:
    whole = PROVEN[PROVEN["reformulation"] != MENU_WAY[0]]
    compared = 0
    for case, runs in whole.groupby(CASE):
        compared += len(set(runs["reformulation"])) > 1
        spread = runs["objective"].max() - runs["objective"].min()
        assert spread <= GAP * runs["objective"].min() + TOLERANCE, case
    assert compared >= 2


def test_every_trace_ends_with_its_run() -> None:
    assert TRACE.columns.tolist() == [*KEY, "cpu_s", "bound", "incumbent"]
    traces = dict(list(TRACE.groupby(KEY)))
    assert len(traces) == len(STUDY)
    for row in STUDY.itertuples(index=False):
        trace = traces[row.hubs, row.hours, row.level, row.reformulation, row.start]
        assert_monotone(trace)
        last = trace.iloc[-1]
        np.testing.assert_allclose(
            last[["cpu_s", "bound", "incumbent"]].to_numpy(float),
            [row.cpu_s, row.bound, row.objective], rtol=1e-9,
        )  # fmt: skip


@pytest.mark.parametrize("row", [*AGAIN.itertuples(index=False)], ids=lambda r: "-".join(
    map(str, (r.hubs, r.hours, r.reformulation, r.start))))  # fmt: skip
def test_small_run_made_again(row: object) -> None:
    job = (row.hubs, row.hours, row.reformulation, row.start)
    again, trace = run(*job)
    again = dict(zip(COLUMNS, again, strict=True))
    assert again["status"] == "proven"
    assert again["objective"] == pytest.approx(row.objective, rel=GAP)
    assert again["bound"] <= row.objective + margin(row.objective)
    assert row.bound <= again["objective"] + margin(row.objective)
    assert_monotone(changes(trace))


@pytest.mark.parametrize("size", [(1, 6), (2, 6)])
def test_joint_steps_are_where_runs_from_them_start(size: tuple[int, int]) -> None:
    weights = AdderWeights()
    benchmark = centralised(*reference(*size, LEVEL))
    best = with_joint_steps(linear_prices(benchmark, cap_eur_per_mwh=CAP), weights)
    first = objective(best, weights)
    at = (TRACE[CASE] == size).all(axis=1) & (TRACE["start"] == "joint steps")
    traces = TRACE[at].groupby("reformulation")["incumbent"].first()
    assert len(traces) >= 2
    assert (traces <= first + margin(first)).all()


@pytest.mark.parametrize("reformulation", ["kkt", "sos1"])
def test_a_run_ends_at_its_limit(reformulation: str) -> None:
    limit_s = 1.0
    row, trace = run(1, 12, reformulation, "cold", limit_s)
    row = dict(zip(COLUMNS, row, strict=True))
    assert row["status"] in STATUSES - {"proven"}
    assert limit_s <= row["cpu_s"] < 3 * limit_s
    least = PROVEN.set_index(CASE).loc[(1, 12), "objective"].min()
    assert row["bound"] <= least + margin(least)
    assert_monotone(changes(trace))


def test_changes_are_kept_and_the_last() -> None:
    bounds = [-np.inf, -np.inf, 0.5, 0.5000001, 0.5, 0.5, 0.5]
    incumbents = [np.inf, np.inf, np.inf, np.inf, 0.8, 0.8, 0.8]
    times = np.arange(1.0, 8.0)
    kept = changes(list(zip(times, bounds, incumbents, strict=True)))
    assert kept["cpu_s"].tolist() == [1.0, 3.0, 5.0, 7.0]
    assert kept["incumbent"].isna().tolist() == [True, True, False, False]
    assert kept["bound"].isna().tolist() == [True, False, False, False]
