"""Tariffs on hubs that are not as estimated."""

from __future__ import annotations

import numpy as np
import pytest

from flexlib import DataError
from flexlib.centralised import centralised
from flexlib.hub_instances import SIZES, reference
from flexlib.pricing import linear_prices
from flexlib.pricing_band import import_band
from flexlib.pricing_evaluation import evaluated
from flexlib.pricing_misestimated import mean_and_range, misestimated, true_hubs
from flexlib.tariffs import no_tariff


def test_a_draw_scales_devices_demand_and_pv_of_each_hub():
    hubs, _ = reference(3, 6, 0.6)
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(100):
        true = true_hubs(hubs, 0.05, rng).table
        by = [true[name].to_numpy() / hubs.table[name].to_numpy()
              for name in ("battery_mwh", "demand_peak_mw", "pv_mwp")]  # fmt: skip
        ratios.append(np.array(by))
        for name in SIZES:
            some = hubs.table[name] > 0
            np.testing.assert_allclose(true[name][some], (by[0] * hubs.table[name])[some])
        assert (true["battery_eff_charge"] == hubs.table["battery_eff_charge"]).all()
    ratios = np.array(ratios)
    assert ratios.mean() == pytest.approx(1, abs=0.008)
    assert ratios.std(axis=0) == pytest.approx(0.05, abs=0.013)
    assert 0.1 < np.abs(ratios - 1).max() <= 0.15 + 1e-12
    flat = ratios.reshape(100, 9)
    assert np.abs(np.corrcoef(flat.T) - np.eye(9)).max() < 0.4  # each factor is its own


def test_no_error_is_the_evaluation_itself_and_seeds_are_kept():
    hubs, grid = reference(3, 6, 0.6)
    tariffs = {"none": no_tariff(3, 6)}
    exact = misestimated(hubs, grid, tariffs, share=0.0, draws=2)
    table = evaluated(hubs, grid, tariffs["none"])
    for draw in range(2):
        np.testing.assert_allclose(
            exact.loc[draw, "none"]["congestion_mwh"], table["congestion_mwh"], atol=1e-6
        )
    one, again = (misestimated(hubs, grid, tariffs, draws=2, seed=3) for _ in range(2))
    other = misestimated(hubs, grid, tariffs, draws=2, seed=4)
    assert one.equals(again)
    apart = np.abs(one["congestion_mwh"] - other["congestion_mwh"])
    assert apart.max() > 0.01


def test_mean_and_range_of_a_few_draws():
    hubs, grid = reference(3, 6, 0.6)
    b = centralised(hubs, grid)
    tariffs = {
        "linear": linear_prices(b).answer.tariff,
        "band": import_band(b, kappa_eur_per_mwh=60.0).tariff,
    }
    table = misestimated(hubs, grid, tariffs, draws=3, seed=1)
    assert len(table) == 3 * 2 * 3
    short = mean_and_range(table)
    for key in short.index:
        rows = table.xs(key, level=("tariff", "followers"))
        assert short.loc[key, "mean_mwh"] == pytest.approx(rows["congestion_mwh"].mean())
        assert short.loc[key, "least_mwh"] == pytest.approx(rows["at_least_mwh"].min())
        assert short.loc[key, "most_mwh"] == pytest.approx(rows["at_most_mwh"].max())
    careless = short.xs("careless, 0.1 %", level="followers")["mean_mwh"]
    assert careless["band"] < 0.5 * careless["linear"]


@pytest.mark.parametrize("share", [-0.01, 1 / 3, np.nan])
def test_a_share_that_is_refused(share):
    hubs, _ = reference(3, 6, 0.6)
    with pytest.raises(DataError, match="share"):
        true_hubs(hubs, share, np.random.default_rng(0))
