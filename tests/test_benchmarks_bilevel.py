"""The sides of the bilevel benchmarks solve the same programmes, and the record fits the code.

Nothing here is timed: no test depends on how fast anything is.
"""

from __future__ import annotations

import json
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
from bilevel_problems import load

from benchmarks import bilevel, bilevel_sides
from benchmarks.measure import write_records
from flexlib import data_path, solver
from flexlib.bilevel_kkt import BigM, guessed
from flexlib.bilevel_solve import solve_bilevel
from flexlib.errors import Infeasible, NotProven, Unbounded
from flexlib.hub_bilevel import hub_big_m, priced_hubs
from flexlib.hub_instances import reference

PROBLEMS = load()
SMALL = [
    "bard_1998_ex511", "mitsos_barton_2007_ex31", "ferris_jointc2_leader", "kleinert_2021_example1"
]  # fmt: skip
KINDS = ("quadratic", "integer", "coupling rows", "ties")


@cache
def derived(name: str) -> BigM | None:
    return bilevel.derived(PROBLEMS[name].arrays)


def of_every_kind() -> list[str]:
    """Problems with an M: the first of each kind, and what was once got wrong."""
    optimal = {name: p for name, p in PROBLEMS.items() if p.status == "optimal"}

    def first(kind: str) -> str:
        found = (name for name, p in optimal.items() if kind in p.flags)
        return next(name for name in found if derived(name) is not None)

    return sorted({*map(first, KINDS), *SMALL} & set(optimal))


@cache
def proven() -> tuple[float, float]:
    return bilevel.answer(bilevel.OURS, reference(1, 6, bilevel.LEVEL))


@pytest.mark.parametrize("side", bilevel.COMPARED[1:])
def test_every_side_finds_the_same_objective(side: str) -> None:
    if bilevel.SOLVERS[side] == "pyscipopt":
        pytest.importorskip("pyscipopt")
    value, bound = bilevel.answer(side, reference(1, 6, bilevel.LEVEL))
    assert value == pytest.approx(proven()[0], rel=bilevel.GAP)
    assert bound <= value + 1e-6
    assert value - bound <= 1.01 * bilevel.GAP * value


def test_congestion_meets_its_bound_without_branching() -> None:
    value, bound = bilevel.answer(
        bilevel.THROUGH_B, reference(3, 24, bilevel.LEVEL), bilevel.CONGESTION
    )
    assert 0 <= bound <= value + 1e-9
    assert value == pytest.approx(bound, abs=1e-6)


def test_what_is_found_without_branching_is_no_better_than_its_bound() -> None:
    value, bound = bilevel.answer(bilevel.BOUNDS, reference(2, 6, bilevel.LEVEL))
    assert 0 < bound < value


def test_a_side_that_meets_its_limit_gives_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise NotProven("stopped", 1.0, np.inf)

    monkeypatch.setattr(bilevel, "solve_bilevel", stopped)
    value, bound = bilevel.answer(bilevel.COLD, reference(1, 6, bilevel.LEVEL))
    assert np.isnan(value)
    assert bound == 1.0


@pytest.mark.parametrize("name", of_every_kind())
def test_pyomo_and_indicators_find_the_published_optimum(name: str) -> None:
    problem = PROBLEMS[name]
    found, bound = bilevel_sides.by_pyomo(problem.arrays, derived(name), gap=1e-6)
    assert found == pytest.approx(problem.value, rel=1e-5, abs=1e-6)
    assert bound <= found + 1e-6
    pytest.importorskip("pyscipopt")
    indicators = bilevel_sides.by_indicators(problem.arrays, gap=1e-6)
    assert indicators.value == pytest.approx(problem.value, rel=1e-5, abs=1e-6)


def test_pyomo_has_a_binary_for_both_sides_of_every_open_pair() -> None:
    hubs, grid = reference(1, 6, bilevel.LEVEL)
    problem = priced_hubs(hubs, grid, bilevel.CAP_EUR_PER_MWH)
    m = hub_big_m(problem, hubs, bilevel.CAP_EUR_PER_MWH)
    model = bilevel_sides.pyomo_model(problem, m)
    variables = list(model.component_data_objects(bilevel_sides.pyo.Var))
    assert sum(v.is_binary() for v in variables) == 2 * len(m.open) < 2 * len(m.names)
    largest = [v.ub for v in model.follower.kkt.alpha.values()]
    assert sorted(largest) == sorted(m.multiplier)


def test_pyomo_solves_to_the_tolerances_of_our_door() -> None:
    options = {**bilevel_sides.OPTIONS, **bilevel_sides._EXACT}
    assert options["mip_feasibility_tolerance"] == solver._MIXED
    assert options["primal_feasibility_tolerance"] == solver._TOLERANCE


def test_pyomo_tells_what_is_infeasible_unbounded_and_unproven() -> None:
    problem = PROBLEMS["mitsos_barton_2007_ex32"].arrays
    with pytest.raises(Infeasible):
        bilevel_sides.by_pyomo(problem, guessed(problem, 100.0), gap=1e-6)
    problem = PROBLEMS["hatz_2013_unbounded"].arrays
    with pytest.raises(Unbounded):
        bilevel_sides.by_pyomo(problem, guessed(problem, np.inf), gap=1e-6)
    hubs, grid = reference(1, 6, bilevel.LEVEL)
    problem = priced_hubs(hubs, grid, bilevel.CAP_EUR_PER_MWH)
    m = hub_big_m(problem, hubs, bilevel.CAP_EUR_PER_MWH)
    with pytest.raises(NotProven, match="maxTimeLimit"):
        bilevel_sides.by_pyomo(problem, m, gap=1e-6, time_limit_s=0.0)


def test_a_guess_that_is_too_small_is_wrong_without_an_alarm() -> None:
    hubs, grid = reference(1, 6, bilevel.LEVEL)
    problem = priced_hubs(hubs, grid, bilevel.CAP_EUR_PER_MWH)
    found = bilevel_sides.by_guess(problem, 250.0, gap=bilevel.GAP)
    assert found.value > 1.01 * proven()[0]
    assert not found.alarms
    failed = [check.name for check in found.certificate.checks if not check.ok]
    assert failed == ["big-M values without a derivation"]


@pytest.mark.parametrize(
    ("found", "expected", "is_right"),
    [
        (("optimal", 2.0), ("optimal", 2.0), True),
        (("optimal", 2.0001), ("optimal", 2.0), False),
        (("optimal", 200.001), ("optimal", 200.0), True),
        (("infeasible", np.nan), ("optimal", 2.0), False),
        (("optimal", -50000.0), ("unbounded", np.nan), False),
        (("unbounded", np.nan), ("unbounded", np.nan), True),
        (("follower unbounded", np.nan), ("infeasible", np.nan), True),
        (("unbounded", np.nan), ("infeasible", np.nan), False),
        (("no M", np.nan), ("unbounded", np.nan), False),
    ],
)
def test_right_outcomes(found, expected, is_right: bool) -> None:
    assert bilevel.right(*found, *expected) == is_right


def test_ratios_are_formed_within_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, answers = iter([2.0, 4.0, 1.0, 5.0, 3.0, 3.0]), iter([(2.0, 1.0), (np.nan, 1.0)] * 3)

    def cpu_s(run) -> tuple[float, float]:
        run()
        return next(seconds), 0.5

    monkeypatch.setattr(bilevel, "cpu_s", cpu_s)
    sides = (bilevel.OURS, bilevel.SOS1)
    rows = bilevel.case_rows(1, 6, bilevel.WHOLE, sides, 3, lambda *_: next(answers))
    one, other = rows
    assert [one["total_s"], other["total_s"]] == [2.0, 4.0]
    assert [other[f"ratio_{k}"] for k in ("min", "median", "max")] == [1.0, 2.0, 5.0]
    assert one["gap"] == 0.5
    assert np.isnan([other["gap"], other["value"], other["solver_s"]]).all()
    assert set(one) == set(bilevel.COLUMNS)


def test_outcomes_are_told_apart() -> None:
    def raising(error: Exception) -> tuple[str, object]:
        def run() -> None:
            raise error

        return bilevel.outcome_of(run)

    assert raising(Unbounded("the follower's cost has no lower bound"))[0] == "follower unbounded"
    assert raising(Unbounded("the leader's objective has none"))[0] == "unbounded"
    assert raising(NotProven("time", 0.0, 1.0)) == ("not proven", None)
    assert bilevel.outcome_of(lambda: 3) == ("optimal", 3)


def test_parts_that_are_kept_are_not_measured_again(tmp_path, monkeypatch) -> None:
    ran: list[str] = []

    def rows(name: str):
        ran.append(name)
        yield {"hubs": 1, "m": name}

    names = ["bilevel-m 1", "bilevel-m 2"]
    parts = {name: ("bilevel-m", partial(rows, name)) for name in names}
    monkeypatch.setattr(bilevel, "PARTS", parts)
    monkeypatch.setattr(bilevel, "COLUMNS_OF", {"bilevel-m": bilevel.M_COLUMNS})

    def kept(name: str, run):
        if name.endswith("1"):
            return pd.DataFrame([{"hubs": 1, "m": "kept"}], columns=bilevel.M_COLUMNS)
        return run()

    ticks: list[int] = []
    records = bilevel.bilevel_records(kept, lambda: ticks.append(1))
    assert ran == names[1:]
    assert len(ticks) == 2
    assert records["bilevel-m"]["m"].tolist() == ["kept", "bilevel-m 2"]
    write_records(records, tmp_path)
    assert list(pd.read_csv(tmp_path / "bilevel-m.csv").columns) == bilevel.M_COLUMNS


def kept_record(name: str) -> pd.DataFrame:
    return pd.read_csv(data_path(f"benchmarks/{name}.csv"))


def test_record_has_the_sides_of_the_code() -> None:
    kept = kept_record("bilevel")
    assert list(kept.columns) == bilevel.COLUMNS
    keys = ["hubs", "hours", "objective", "side", "runs"]
    asked = [
        (hubs, hours, objective, side, runs)
        for hubs, hours, objective, sides, runs in bilevel.CASES
        for side in sides
    ]
    assert list(kept[keys].itertuples(index=False, name=None)) == asked
    assert kept[["total_s", "ratio_min", "ratio_median", "ratio_max"]].gt(0).all(axis=None)
    assert not (kept["solver_s"] > kept["total_s"]).any()
    about = json.loads(data_path("benchmarks/machine.json").read_text(encoding="utf-8"))
    versions = {f"{name} {number}" for name, number in about["packages"].items()}
    assert set(kept["solver"]) <= versions
    at = kept.set_index(keys[:-1]).loc[(1, 6, bilevel.WHOLE, bilevel.OURS)]
    np.testing.assert_allclose([at["value"], at["bound"]], proven(), rtol=1e-3)


def test_sides_of_the_record_contradict_no_bound() -> None:
    for _, rows in kept_record("bilevel").groupby(["hubs", "hours", "objective"]):
        assert rows["bound"].max() <= rows["value"].min() * (1 + 1e-3) + 1e-6


def test_record_of_m_is_what_the_code_finds() -> None:
    kept = kept_record("bilevel-m").set_index("m")
    problem = priced_hubs(*reference(1, 6, bilevel.LEVEL), bilevel.CAP_EUR_PER_MWH)
    m = hub_big_m(problem, reference(1, 6, bilevel.LEVEL)[0], bilevel.CAP_EUR_PER_MWH)
    at = kept.loc["hub_big_m"]
    assert at["largest"] == pytest.approx(m.multiplier.max(), rel=1e-3)
    assert [at["open"], at["pairs"]] == [len(m.open), len(m.names)]
    assert list(kept.index[2:]) == [f"guessed, {m:g}" for m in bilevel.GUESSES]
    for name in ("hub_big_m", "big_m"):
        assert kept.loc[name, "value"] == pytest.approx(proven()[0], rel=1e-3)
    found = solve_bilevel(problem, m=guessed(problem, 250.0), gap=bilevel.GAP)
    assert kept.loc["guessed, 250", "value"] == pytest.approx(found.value, rel=1e-3)


def test_record_of_the_literature_is_what_the_code_finds() -> None:
    pytest.importorskip("pyscipopt")
    kept = kept_record("bilevel-literature")
    known = [name for name, p in PROBLEMS.items() if p.status is not None]
    solved = set(kept[(kept["way"] == bilevel.KKT) & (kept["outcome"] == "optimal")]["problem"])
    asked = [
        (name, way)
        for name in known
        for way in bilevel.WAYS
        if way != bilevel.PYOMO or name in solved
    ]
    assert list(kept[["problem", "way"]].itertuples(index=False, name=None)) == asked
    assert kept.loc[kept["way"] == bilevel.SOS1, "right"].all()
    some = [*of_every_kind()[:3], "hatz_2013_unbounded", "bard_1991_ex1"]
    columns = ["problem", "way", "outcome", "right"]
    again = pd.DataFrame(bilevel.literature_rows(some))[columns]
    of_kept = kept[kept["problem"].isin(some)][columns]
    order = ["problem", "way"]
    pd.testing.assert_frame_equal(
        again.sort_values(order, ignore_index=True),
        of_kept.sort_values(order, ignore_index=True),
        check_dtype=False,
    )
