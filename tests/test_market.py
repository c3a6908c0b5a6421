"""The market's data: offers and bands at the door, directions and responses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feeders import (
    STABLE,
    Worst,
    bands,
    feeder_12,
    market_12,
    markets,
    offers_up,
    small_market,
    small_network,
)
from hypothesis import given

from flexlib import Box, DataError, Market, Network, read_bands, read_offers

OFFERS = "load,up_max_kw,price_up_eur_per_mwh,down_max_kw,price_down_eur_per_mwh"


def offer_faults(path: Path) -> list[str]:
    network, offers = small_network(), read_offers(path)
    box = Box(network, bands(one=10))
    with pytest.raises(DataError) as error:
        Market(network, offers, box)
    return [str(fault) for fault in error.value.faults]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("nobody,5,1,,", "load: found 'nobody', expected a load of small"),
        (",5,1,,", "load: found an empty cell, expected a name"),
        ("one,,1,,", "up_max_kw: found an empty cell, expected a number from 0 to 1e+06 kW"),
        ("one,-5,1,,", "up_max_kw: found -5, expected a number from 0 to 1e+06 kW"),
        ("one,2e6,1,,", "up_max_kw: found 2e+06, expected a number from 0 to 1e+06 kW"),
        ("one,nan,1,,", "up_max_kw: found 'nan', expected a number"),
        (
            "one,5,,,",
            "price_up_eur_per_mwh: found an empty cell, expected a price, since 5 kW are offered",
        ),
        (
            "one,5,1,7,",
            "price_down_eur_per_mwh: found an empty cell, expected a price, since 7 kW are offered",
        ),
        ("one,5,cheap,,", "price_up_eur_per_mwh: found 'cheap', expected a number"),
        (
            "one,5,-1,,",
            "price_up_eur_per_mwh: found -1, expected a number from 0 to 100000 EUR/MWh",
        ),
        ("one,5,1,x,2", "down_max_kw: found 'x', expected a number"),
    ],
)
def test_a_bad_offer(tmp_path: Path, row: str, expected: str) -> None:
    path = tmp_path / "offers.csv"
    path.write_text(f"{OFFERS}\ntwo,100,50,,\n{row}\n")
    assert offer_faults(path) == [f"offers.csv, row 3, column {expected}"]


def test_all_faults_of_the_offers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "offers.csv"
    path.write_text(f"{OFFERS},phase\none,5,,,,a\none,x,1,,,b\nnobody,1,1,-2,1,c\n")
    found = offer_faults(path)
    for part in (
        "column phase: found an unknown column, expected balanced",
        "row 2, column price_up_eur_per_mwh: found an empty cell",
        "row 2, column load: found 'one', expected an identifier used once",
        "row 3, column load: found 'one', expected an identifier used once",
        "row 3, column up_max_kw: found 'x'",
        "row 4, column load: found 'nobody'",
        "row 4, column down_max_kw: found -2",
    ):
        assert sum(part in fault for fault in found) == 1, part
    assert len(found) == 7


def test_a_missing_column_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "offers.csv"
    path.write_text("load,price_up_eur_per_mwh\none,5\n")
    assert offer_faults(path) == [
        "offers.csv, column up_max_kw: found no such column, expected a column 'up_max_kw' "
        "(upward flexibility offered: less consumption or more generation)"
    ]
    with pytest.raises(DataError, match=r"nowhere\.csv: found no such file"):
        read_offers(tmp_path / "nowhere.csv")
    path.write_text(f"{OFFERS}\n")
    assert offer_faults(path) == ["offers.csv: found no rows, expected at least one row"]


def test_a_load_without_active_power_has_no_power_factor() -> None:
    network = small_network(loads={"p_kw": [600.0, 0.0, -200.0]})
    with pytest.raises(DataError) as error:
        small_market(network=network)
    assert [str(fault) for fault in error.value.faults] == [
        "frame offers, row 1, column load: found 'two' with p_kw = 0 and q_kvar = 300, "
        "expected a load with active power, whose power factor its deviation follows"
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("one,101", "band_pct: found 101, expected a number from 0 to 100 %"),
        ("one,-1", "band_pct: found -1, expected a number from 0 to 100 %"),
        ("one,", "band_pct: found an empty cell, expected a number from 0 to 100 %"),
        ("one,10%", "band_pct: found '10%', expected a number"),
        ("nobody,10", "load: found 'nobody', expected a load of small"),
    ],
)
def test_a_bad_band(tmp_path: Path, row: str, expected: str) -> None:
    path = tmp_path / "bands.csv"
    path.write_text(f"load,band_pct\ntwo,10\n{row}\n")
    with pytest.raises(DataError) as error:
        read_bands(small_network(), path)
    assert [str(fault) for fault in error.value.faults] == [f"bands.csv, row 3, column {expected}"]


def test_bands_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "bands.csv"
    path.write_text("\ufeffload,band_pct\nsun,50\none,10\n", encoding="utf-8")
    box = read_bands(small_network(), path)
    assert box.load.tolist() == [2, 0]
    np.testing.assert_allclose(box.delta_kva, [-100, 60 + 20j])
    with pytest.raises(DataError, match="no such file"):
        read_bands(small_network(), tmp_path / "nowhere.csv")


def test_offers_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "offers.csv"
    path.write_text(f"{OFFERS}\ntwo,100,50,,\nsun,0,,80,20.5\n")
    network = small_network()
    market = Market(network, read_offers(path), Box(network, bands(one=10)))
    assert market.offer_load.tolist() == [1, 2]
    assert market.offers.to_numpy()[:, 1:].tolist() == [[100, 50, 0, 0], [0, 0, 80, 20.5]]
    np.testing.assert_allclose(market.direction, [1 + 1j / 3, 1])


def test_activation_follows_the_power_factor() -> None:
    market = small_market(offers=offers_up(two=90, sun=10))
    change = market.activated_kva(np.array([30.0, 0.0]), np.array([0.0, 50.0]))
    # 30 kW less of two at its power factor; 50 kW down at the sun is 50 kW less generation.
    np.testing.assert_allclose(change, [0, -30 - 10j, 50])
    np.testing.assert_allclose(
        market.activated_kva(np.array([7.0, 0]), np.array([7.0, 0])), np.zeros(3)
    )


@STABLE
@given(markets())
def test_responses_are_those_of_the_dense_model(market: Market) -> None:
    expected = Worst(market).affine
    np.testing.assert_allclose(market.flow.v0_pu, expected.v[0], atol=1e-9)
    np.testing.assert_allclose(market.upward[0], expected.v[1], atol=1e-11)
    np.testing.assert_allclose(market.uncertain[0], expected.v[2], atol=1e-9)
    scale = 1 + np.abs(expected.i[0]).max()
    np.testing.assert_allclose(market.flow.i0_a, expected.i[0], atol=1e-7 * scale)
    np.testing.assert_allclose(market.upward[1], expected.i[1], atol=1e-9 * scale)
    np.testing.assert_allclose(market.uncertain[1], expected.i[2], atol=1e-7 * scale)


def test_the_published_feeder_is_taken_whole() -> None:
    market = market_12(5, 15)
    assert market.offer_load.tolist() == [1, 3, 6]
    assert market.uncertainty.load.tolist() == list(range(7))
    widths = market.uncertainty.delta_kva.real / feeder_12().loads["p_kw"].to_numpy()
    np.testing.assert_allclose(widths, [0.15, 0.05, 0.15, 0.05, 0.15, 0.15, 0.05])


def test_several_offers_of_one_load_are_refused() -> None:
    offers = pd.concat([offers_up(one=10), offers_up(one=20)], ignore_index=True)
    with pytest.raises(DataError, match="found 'one', expected an identifier used once"):
        small_market(offers=offers)


def test_a_box_of_other_loads_is_refused() -> None:
    market = small_market()
    loads = market.network.loads.assign(p_kw=2 * market.network.loads["p_kw"])
    other = Network(market.network.buses, market.network.branches, loads)
    with pytest.raises(DataError, match="uncertainty: found a set of other loads"):
        Market(market.network, market.offers, Box(other, market.uncertainty.bands))
    # limits and impedances do not matter to the box
    same = Network(market.network.buses, market.network.branches, market.network.loads)
    again = Market(market.network, market.offers, Box(same, market.uncertainty.bands))
    assert again.uncertainty.network is same
