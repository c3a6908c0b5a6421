"""Bids: what is refused at the door, and the axes in which they move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feeders import small_network

from flexlib import Bids, Connected, DataError, read_bids


def bids(**columns: list[Any]) -> Bids:
    table = {"bid": ["a", "b"], "up_max_kw": [10.0, 20.0], "price_up_eur_per_mwh": [50.0, 80.0]}
    return Bids(pd.DataFrame({**table, **columns}))


def faults(**columns: list[Any]) -> list[str]:
    with pytest.raises(DataError) as caught:
        bids(**columns)
    return [str(fault) for fault in caught.value.faults]


def sites(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"bid": ["a", "b"], "bus": ["A", "B"], **columns})


def test_axes_come_bid_by_bid_active_before_reactive() -> None:
    found = bids(
        down_max_kw=[3.0, 0.0],
        price_down_eur_per_mwh=[-7.0, np.nan],
        min_up_kw=[2.0, np.nan],
        min_down_kw=[1.0, np.nan],
        kvar_per_kw=[0.5, np.nan],
        q_max_kvar=[4.0, np.nan],
        price_q_eur_per_mvarh=[9.0, np.nan],
    )
    axes = found.axes
    assert axes["axis"].tolist() == ["a", "a reactive", "b"]
    assert axes["bid"].tolist() == ["a", "a", "b"]
    assert found.active.tolist() == [True, False, True]
    assert axes["kva_per_unit"].tolist() == [1 + 0.5j, 1j, 1]
    assert found.lower.tolist() == [-3, -4, 0]
    assert found.upper.tolist() == [10, 4, 20]
    assert axes["min_up"].tolist() == [2, 0, 0]
    assert axes["min_down"].tolist() == [1, 0, 0]
    assert axes["price_up"].tolist() == [0.05, 0.009, 0.08]
    assert axes["price_down"].tolist() == [-0.007, 0.009, 0]


def test_cost_takes_each_direction_at_its_own_price() -> None:
    found = bids(down_max_kw=[3.0, 0.0], price_down_eur_per_mwh=[-7.0, np.nan])
    assert found.cost_eur_per_h(np.array([10.0, 5.0])) == pytest.approx(0.5 + 0.4)
    assert found.cost_eur_per_h(np.array([-3.0, 5.0])) == pytest.approx(-0.021 + 0.4)


@pytest.mark.parametrize(
    ("columns", "place", "words"),
    [
        ({"bid": ["a", "a"]}, "bid", "an identifier used once"),
        ({"up_max_kw": [-1.0, 2.0]}, "up_max_kw", "from 0"),
        ({"up_max_kw": [np.inf, 2.0]}, "up_max_kw", "from 0"),
        ({"up_max_kw": ["ten", 2.0]}, "up_max_kw", "a number"),
        ({"price_up_eur_per_mwh": [np.nan, 5.0]}, "price_up_eur_per_mwh", "since up_max_kw is 10"),
        ({"min_up_kw": [11.0, 0.0]}, "min_up_kw", r"at most up_max_kw \(10\)"),
        ({"min_down_kw": [0.0, 1.0]}, "min_down_kw", r"at most down_max_kw \(0\)"),
        ({"kvar_per_kw": [9.0, 0.0]}, "kvar_per_kw", "from -5 to 5"),
        ({"q_max_kvar": [9.0, 0.0]}, "price_q_eur_per_mvarh", "since q_max_kvar is 9"),
        ({"q_max_kvar": [9.0, 0.0], "price_q_eur_per_mvarh": [-1.0, 0.0]}, "price_q", "from 0"),
        ({"volume": [1.0, 2.0]}, "volume", "only the columns"),
    ],
)
def test_faults_name_the_place_and_what_was_expected(
    columns: dict[str, list[Any]], place: str, words: str
) -> None:
    fault, *_ = faults(**columns)
    assert place in fault
    with pytest.raises(DataError, match=words):
        bids(**columns)


def test_all_faults_are_listed() -> None:
    assert len(faults(up_max_kw=[-1.0, 5.0], min_up_kw=[0.0, 6.0], kvar_per_kw=[7.0, 8.0])) >= 4


def test_negative_prices_are_allowed_but_not_pay_for_both_directions_at_once() -> None:
    down = {"down_max_kw": [5.0, 0.0]}
    bids(**down, price_down_eur_per_mwh=[-50.0, np.nan])
    (fault,) = faults(**down, price_down_eur_per_mwh=[-50.5, np.nan])
    assert "row 0" in fault
    assert "found -50.5, expected at least -50" in fault
    bids(price_up_eur_per_mwh=[-50.0, -80.0])


def test_request_beyond_what_is_offered_is_refused_with_the_range() -> None:
    found = bids(down_max_kw=[5.0, 0.0], price_down_eur_per_mwh=[1.0, np.nan],
                 q_max_kvar=[100.0, 0.0], price_q_eur_per_mvarh=[1.0, 0.0])  # fmt: skip
    for request_kw in (-5.0, 0.0, 30.0):
        found.assert_request(request_kw)
    for request_kw in (-5.001, 30.001, np.nan, np.inf):
        with pytest.raises(DataError, match="from -5 to 30 kW, which all bids offer together"):
            found.assert_request(request_kw)


def test_the_table_given_may_change_afterwards() -> None:
    table = pd.DataFrame({"bid": ["a"], "up_max_kw": [10.0], "price_up_eur_per_mwh": [50.0]})
    found = Bids(table)
    table.loc[0, "up_max_kw"] = 99.0
    assert found.upper.tolist() == [10]
    assert found.table["up_max_kw"].tolist() == [10]


def test_bids_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "bids.csv"
    path.write_text("bid,up_max_kw,price_up_eur_per_mwh\nx,5,10\ny,,\n")
    assert read_bids(path).upper.tolist() == [5, 0]
    path.write_text("bid,up_max_kw,price_up_eur_per_mwh\nx,5,\ny,abc,1\n")
    with pytest.raises(DataError, match="2 faults") as caught:
        read_bids(path)
    assert "bids.csv, row 2, column price_up_eur_per_mwh" in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        read_bids(tmp_path / "none.csv")


def test_sites_give_the_bus_of_every_axis_in_any_order() -> None:
    offer = bids(q_max_kvar=[4.0, 0.0], price_q_eur_per_mvarh=[1.0, 0.0])
    table = sites(bid=["b", "a"], bus=["B", "A"])
    assert Connected(small_network(), offer, table).bus.tolist() == [0, 0, 2]
    same = sites(bus=["B", "B"])
    assert Connected(small_network(), bids(), same).bus.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"bus": ["A", "nowhere"]}, "row 1, column bus: found 'nowhere', expected a bus of small"),
        ({"bus": ["A", "S"]}, "found 'S', expected a bus of small other than its slack"),
        ({"bid": ["a", "c"]}, "found no 'b', expected a row for every bid"),
        ({"bid": ["a", "a"]}, "an identifier used once"),
    ],
)
def test_sites_that_do_not_fit(columns: dict[str, list[str]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Connected(small_network(), bids(), sites(**columns))


def test_sites_of_other_bids_are_ignored() -> None:
    table = sites(bid=["other", "a", "b"], bus=["nowhere", "A", "B"])
    assert Connected(small_network(), bids(), table).bus.tolist() == [0, 2]


def test_activations_are_loads_that_inject() -> None:
    offer = bids(kvar_per_kw=[0.5, 0.0])
    connected = Connected(small_network(), offer, sites())
    loads = connected.loads_kva(np.array([[0.0, 0.0], [4.0, -2.0]]))
    own = small_network().s_load_kva
    assert loads[0] == pytest.approx(np.concatenate([own, [0, 0]]))
    assert loads[1] == pytest.approx(np.concatenate([own, [-4 - 2j, 2]]))
    added = connected.activated.loads.tail(2)
    assert added["bus"].tolist() == ["A", "B"]
    assert (added[["p_kw", "q_kvar"]] == 0).all(axis=None)
