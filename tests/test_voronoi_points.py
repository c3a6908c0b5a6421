"""Points by rule: within the bids' bounds, and what each rule says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from feeders import bids_table

from flexlib import Bids, DataError
from flexlib.voronoi_points import k_means, latin_hypercube, merit_order, none_half_all


def bids() -> Bids:
    return Bids(
        pd.DataFrame(
            {
                "bid": ["a", "b", "c"],
                "up_max_kw": [10.0, 20.0, 0.0],
                "price_up_eur_per_mwh": [80.0, 50.0, np.nan],
                "down_max_kw": [4.0, 0.0, 6.0],
                "price_down_eur_per_mwh": [-10.0, np.nan, 5.0],
                "q_max_kvar": [3.0, 0.0, 0.0],
                "price_q_eur_per_mvarh": [1.0, 0.0, 0.0],
            }
        )
    )


def test_nothing_half_and_all_of_one_direction() -> None:
    up = none_half_all(bids(), "up")
    assert up == pytest.approx(np.array([[0, 0, 0, 0], [5, 0, 10, 0], [10, 0, 20, 0]]))
    down = none_half_all(bids(), "down")
    assert down == pytest.approx(np.array([[0, 0, 0, 0], [-2, 0, 0, -3], [-4, 0, 0, -6]]))


def test_merit_order_takes_the_cheapest_first() -> None:
    points = merit_order(bids(), np.array([0.0, 15.0, 25.0, 30.0, -3.0, -8.0]))
    expected = [
        [0, 0, 0, 0], [0, 0, 15, 0], [5, 0, 20, 0], [10, 0, 20, 0], [-3, 0, 0, 0], [-4, 0, 0, -4],
    ]  # fmt: skip
    assert points == pytest.approx(np.array(expected))


def test_merit_order_refuses_more_than_is_offered() -> None:
    with pytest.raises(DataError, match="31 kW, expected from -10 to 30 kW"):
        merit_order(bids(), np.array([1.0, 31.0]))


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("seed", range(4))
def test_rules_stay_within_the_volumes_and_repeat(direction: str, seed: int) -> None:
    offer = Bids(bids_table(6, np.random.default_rng(seed), "all"))
    side = np.where(offer.active, offer.upper if direction == "up" else offer.lower, 0)
    least, most = np.minimum(side, 0), np.maximum(side, 0)
    for rule in (latin_hypercube, k_means):
        points = rule(offer, 12, seed, direction)
        assert points.shape == (12, len(offer.axes))
        assert (points >= least - 1e-9).all()
        assert (points <= most + 1e-9).all()
        assert (rule(offer, 12, seed, direction) == points).all()
        assert (rule(offer, 12, seed + 1, direction) != points).any()
        assert len(np.unique(points, axis=0)) == 12


def test_latin_hypercube_has_one_point_in_each_layer() -> None:
    points = latin_hypercube(bids(), 8, 3, "up")
    for axis, volume in ((0, 10.0), (2, 20.0)):
        assert sorted(np.floor(points[:, axis] / volume * 8).tolist()) == list(range(8))


def test_k_means_spreads_over_the_requests() -> None:
    sums = np.sort(k_means(bids(), 10, 0, "up").sum(axis=1))
    assert sums[0] < 6
    assert sums[-1] > 24
    assert (sums <= 30).all()


def test_another_direction_is_refused() -> None:
    with pytest.raises(DataError, match="found 'Up', expected 'up' or 'down'"):
        none_half_all(bids(), "Up")
