"""The stored study of scaling: consistent, and a tenth of its small runs made again."""

import numpy as np
import pandas as pd
import pytest
from make_scaling import (
    COLUMNS,
    DECOMPOSED,
    EXACT,
    EXACT_COLUMNS,
    GAP,
    HUBS,
    KEY,
    LEVELS,
    LIMIT_S,
    REPEATS,
    RUN_KEY,
    RUNS,
    exact,
    run,
    timed,
)

from flexlib.tables import data_path

SEED = 1
SMALL_HUBS = 300  # that are made again, with a chance of one in ten; times are not compared
SMALL_S = 1.0
TOLERANCE = 2e-4  # MWh for one MWh, or one MWh: of interior points and bounds


def stored(name: str) -> pd.DataFrame:
    return pd.read_csv(data_path(f"scaling/{name}.csv"), comment="#")


STUDY, COMMON = stored("runs"), stored("exact")
WHOLE = STUDY[STUDY["import_share"] == 1]
SMALL = STUDY[(STUDY["hubs"] <= SMALL_HUBS) & (STUDY["cpu_s"] < SMALL_S)]
AGAIN = SMALL.sample(max(4, round(len(SMALL) / 10)), random_state=SEED)
QUICK = COMMON[COMMON["cpu_s"] < SMALL_S].sample(2, random_state=SEED)


def value(what: str, rows: pd.DataFrame = WHOLE) -> pd.Series:
    return rows[rows["what"] == what].set_index(["level", "hubs"])["mwh"]


def no_more(less: pd.Series, more: pd.Series, *, large: bool = False) -> bool:
    """Whether one series is nowhere above another, where both have an entry.

    Some must have, unless they are `large`: of runs that take long and may be missing.
    """
    shared = less.index.intersection(more.index)
    assert len(shared) or large
    room = TOLERANCE * np.maximum(1.0, more[shared].abs())
    return bool((less[shared] <= more[shared] + room).all())


def test_every_run_is_stored_once() -> None:
    assert STUDY.columns.tolist() == COLUMNS
    assert not STUDY.duplicated(RUN_KEY).any()
    keys = STUDY[RUN_KEY].drop(columns="hours").to_numpy().tolist()
    jobs = {(hubs // HUBS, *rest) for hubs, *rest in keys}
    assert jobs <= set(RUNS)
    assert {job for job in RUNS if HUBS * job[0] <= SMALL_HUBS} <= jobs
    assert {job[0] for job in jobs} == {job[0] for job in RUNS}
    assert set(STUDY["level"]) == set(LEVELS)
    assert COMMON.columns.tolist() == EXACT_COLUMNS
    keys = COMMON[KEY].drop(columns="level").to_numpy().tolist()
    assert {tuple(key) for key in keys} <= set(EXACT)
    assert {key for key in EXACT if key[1] <= 12} <= {tuple(key) for key in keys}


@pytest.mark.parametrize("name", ["runs", "exact"])
def test_table_says_what_made_it(name: str) -> None:
    first = data_path(f"scaling/{name}.csv").read_text(encoding="utf-8").splitlines()[0]
    assert all(part in first for part in ("# flexlib", "highspy", "piqp", "sha256", "cores"))


def test_workers_are_those_of_decompositions() -> None:
    in_parts = STUDY["what"].isin(DECOMPOSED)
    for column in ("workers", "workers_cpu_s", "worker_memory_mib"):
        assert ((STUDY[column] > 0) == in_parts).all(), column
    assert (STUDY.loc[~in_parts, "evaluations"] == 1).all()
    assert (STUDY[["cpu_s", "wall_s", "memory_mib", "repeats", "evaluations"]] > 0).all(axis=None)
    assert (STUDY["mwh"] <= STUDY["mwh_most"] + TOLERANCE).all()


def test_nothing_is_below_a_bound() -> None:
    achieved = ["no pricing, linear hubs", "no pricing, quadratic hubs", "one programme",
                "linearised steps", "decomposition", "decomposition, with steps",
                "linear hubs, optimistic", "linear hubs, pessimistic"]  # fmt: skip
    for what in achieved:
        for bound in ("bound", "decomposed bound"):
            if value(what).index.intersection(value(bound).index).size:
                assert no_more(value(bound), value(what)), (what, bound)
    assert no_more(value("decomposed bound"), value("bound"), large=True)


def test_steps_and_prices_relieve() -> None:
    assert no_more(value("linearised steps"), value("one programme"))
    assert no_more(value("decomposition, with steps"), value("decomposition"), large=True)
    assert no_more(value("one programme"), value("no pricing, quadratic hubs"))
    assert no_more(value("no pricing, quadratic hubs"), value("no pricing, linear hubs"))
    assert no_more(value("linear hubs, optimistic"), value("linear hubs, pessimistic"))


@pytest.mark.parametrize(
    "share", sorted(set(STUDY.loc[STUDY["what"] == "decomposition", "import_share"]))
)
def test_parts_are_the_whole(share: float) -> None:
    """Decomposition leaves what one programme does, in the sizes that have both."""
    rows = STUDY[STUDY["import_share"] == share]
    one, other = value("one programme", rows), value("decomposition", rows)
    shared = one.index.intersection(other.index)
    assert len(shared)
    free = value("no pricing, linear hubs")[shared]
    np.testing.assert_array_less(np.abs(one[shared] - other[shared]), 1e-4 * free)


def test_at_level_06_nothing_is_left() -> None:
    left = value("one programme").combine_first(value("decomposition"))[0.6]
    assert (left < 1e-5 * value("no pricing, linear hubs")[0.6][left.index]).all()


def test_status_is_that_of_the_numbers() -> None:
    branched = COMMON["what"] == "exact D"
    assert set(COMMON.loc[~branched, "status"]) == {"incumbent"}
    found = COMMON[branched]
    assert (found["limit_cpu_s"] == LIMIT_S).all()
    proven = found[found["status"] == "proven"]
    assert len(proven)
    assert (proven["gap"] <= GAP * (1 + 1e-6)).all()
    assert (found.loc[found["status"] != "proven", "cpu_s"] >= 0.9 * LIMIT_S).all()
    assert (found.loc[found["status"] == "no incumbent", ["objective", "gap"]].isna()).all(
        axis=None
    )


def test_no_heuristic_beats_a_proven_bound() -> None:
    least = COMMON.groupby(["hubs", "hours"])["objective"].min()
    bound = COMMON.groupby(["hubs", "hours"])["bound"].max()
    assert len(bound.dropna()) >= 3
    assert (bound.dropna() <= least[bound.dropna().index] * (1 + 1e-6)).all()
    table = COMMON.pivot_table("objective", ["hubs", "hours"], "what")
    assert (table["linearised steps"] <= table["one programme"] + 1e-9).all()


@pytest.mark.parametrize("row", [*AGAIN.itertuples(index=False)], ids=lambda r: "-".join(
    map(str, (r.hubs, r.level, r.import_share, r.what))))  # fmt: skip
def test_small_run_made_again(row: object) -> None:
    again = dict(zip(COLUMNS, run(row.hubs // HUBS, row.level, row.import_share, row.what),
                     strict=True))  # fmt: skip
    room = TOLERANCE * max(1.0, row.mwh)
    assert again["mwh"] <= row.mwh_most + room
    assert row.mwh <= again["mwh_most"] + room


@pytest.mark.parametrize("row", [*QUICK.itertuples(index=False)], ids=lambda r: "-".join(
    map(str, (r.hubs, r.hours, r.what))))  # fmt: skip
def test_small_case_solved_again(row: object) -> None:
    again = dict(zip(EXACT_COLUMNS, exact(row.hubs, row.hours, row.what), strict=True))
    assert again["status"] == row.status
    assert again["objective"] == pytest.approx(row.objective, rel=2 * GAP)


def test_short_computation_is_repeated() -> None:
    calls = []

    def computation() -> int:
        calls.append(sum(k * k for k in range(300_000 if not calls else 1000)))
        return len(calls)

    repeats, cpu_s, wall_s, found = timed(computation)
    assert repeats == found == len(calls) == REPEATS
    assert 0 < cpu_s <= 1.5 * wall_s + 0.01
