"""The stored study of tariffs without ties: complete, consistent, and a part of it made again."""

import numpy as np
import pytest
from make_ties import (
    DRAWS,
    FOLLOWERS,
    KEY,
    LEVELS,
    MIS_KEY,
    NUMBERS,
    POSTED,
    SHARE,
    benchmark,
    cases,
    designed,
    evaluate,
    stored,
)

from flexlib.hub_instances import reference
from flexlib.pricing_misestimated import misestimated

TARIFFS, DRAWN = stored("tariffs"), stored("misestimated")
SHORT_S = 3.0  # CPU time of an evaluation that is made again, with a chance of one in ten
SEED = 7
NEAR = 3e-4  # MWh, relative beyond 1: the mixed-integer programmes are solved to 1e-4
DESIGNS = TARIFFS.drop_duplicates(KEY[:3])
SHORT = DESIGNS[DESIGNS["cpu_s"] < SHORT_S]
AGAIN = SHORT.sample(max(2, round(len(SHORT) / 10)), random_state=SEED)
PAIRS = DRAWN.drop_duplicates(MIS_KEY[:3])
PAIRS_AGAIN = PAIRS.sample(round(len(PAIRS) / 10), random_state=SEED)
CURVED = TARIFFS["tariff"] == "quadratic tariff"
CONGESTION = ["congestion_mwh", "at_least_mwh", "at_most_mwh"]


def assert_same(found, kept):
    """The same congestion; costs of answers that tie may differ, but not by much."""
    tolerance = NEAR * np.maximum(1.0, np.abs(kept[CONGESTION].to_numpy()))
    assert (np.abs(found[:, :3] - kept[CONGESTION].to_numpy()) <= tolerance).all()
    paid = kept["hub_cost_eur"] + kept["revenue_eur"]
    assert found[:2, 3:].sum(axis=1) == pytest.approx(paid.iloc[:2], rel=1e-6)


def test_every_case_is_stored_once():
    expected = [(*case, kind) for case in cases() for kind in FOLLOWERS]
    assert list(TARIFFS[KEY].itertuples(index=False, name=None)) == expected
    expected = [(k, *key, kind) for k in DRAWS for key in POSTED for kind in FOLLOWERS]
    assert list(DRAWN[MIS_KEY].itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize("table", [TARIFFS, DRAWN], ids=["tariffs", "misestimated"])
def test_numbers_are_in_order(table):
    tolerance = NEAR * np.maximum(1.0, table["at_most_mwh"])
    assert (table["at_least_mwh"] <= table["congestion_mwh"] + 1e-9).all()
    assert (table["congestion_mwh"] <= table["at_most_mwh"] + 1e-9).all()
    by_kind = table.set_index(list(table.columns[:4]))["at_most_mwh"].unstack("followers")
    least = table.set_index(list(table.columns[:4]))["at_least_mwh"].unstack("followers")
    slack = tolerance.max()
    assert (least["optimistic"] <= by_kind["pessimistic"] + slack).all()
    assert (least["pessimistic"] <= by_kind[FOLLOWERS[2]] + slack).all()


def test_bounds_hold_and_nothing_is_below_the_benchmark():
    for level in LEVELS:
        rows = TARIFFS[TARIFFS["level"] == level]
        assert rows["at_most_mwh"].min() >= benchmark(level).bound_mwh - 1e-6
    nets = TARIFFS[TARIFFS["tariff"] == "net band"]
    assert len(nets) > 20
    assert (nets["at_least_mwh"] <= nets["bound_mwh"] + 1e-6).all()
    assert TARIFFS.loc[CURVED, "bound_mwh"].notna().all()
    bands = TARIFFS["tariff"].str.contains("band|subscription|quadratic")
    assert (TARIFFS["bound_mwh"].notna() == bands).all()


@pytest.mark.parametrize("case", list(AGAIN[KEY[:3]].itertuples(index=False, name=None)))
def test_evaluation_made_again(case):
    found = evaluate(*case)
    kept = TARIFFS[(TARIFFS[KEY[:3]] == list(case)).all(axis=1)]
    assert_same(found["numbers"], kept)
    np.testing.assert_allclose(found["bound_mwh"], kept["bound_mwh"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pair", list(PAIRS_AGAIN[MIS_KEY[:3]].itertuples(index=False, name=None)))
def test_draw_made_again(pair):
    seed, name, size = pair
    hubs, grid = reference(3, 24, LEVELS[0])
    tariff, _ = designed(LEVELS[0], name, size)
    table = misestimated(hubs, grid, {name: tariff}, share=SHARE, draws=1, seed=seed)
    kept = DRAWN[(DRAWN["draw"] == seed) & (DRAWN["tariff"] == name)]
    assert_same(table[NUMBERS].to_numpy(), kept)
