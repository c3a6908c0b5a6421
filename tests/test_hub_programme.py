"""The hubs' programme against the poster's equations written one by one, and single devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hub_cases import random_hubs
from poster import arrays, least_cost, small_hubs

from flexlib.hub_followers import Schedule, answer, no_pricing
from flexlib.hub_programme import EQUATIONS, HubProgramme
from flexlib.hubs import VARIABLES, Hubs
from flexlib.tariffs import Tariff

SIZES = [
    "demand_peak_mw", "pv_mwp", "flexible_load_mw", "backlog_max_mwh", "battery_mw",
    "battery_mwh", "electrolyser_mw", "fuel_cell_h2_mw", "h2_store_mwh", "h2_offtake_mw",
    "generator_mw",
]  # fmt: skip


def schedule(hubs: Hubs) -> Schedule:
    found = no_pricing(hubs)
    found.certificate.assert_ok()
    return found.schedule


# --------------------------------------------------------------------------------------------
# Arrays


@pytest.mark.parametrize(("count", "hours"), [(1, 1), (1, 2), (2, 1), (3, 5), (2, 24)])
def test_arrays_are_the_posters_equations(count: int, hours: int) -> None:
    hubs = random_hubs(np.random.default_rng(100 * count + hours), count, hours)
    hubs = replace(hubs, costs=hubs.costs.assign(linear_eur_per_mwh=np.arange(1.0, 13.0)))
    programme = HubProgramme(hubs)
    rows, columns = hours * len(EQUATIONS), hours * len(VARIABLES)
    assert programme.shape == (count, hours, 12)
    dense = programme.a.toarray()
    assert dense.shape == (count * rows, count * columns)
    for k in range(count):
        own = arrays(hubs, k)
        row, column = slice(k * rows, (k + 1) * rows), slice(k * columns, (k + 1) * columns)
        np.testing.assert_allclose(dense[row, column], own["a"], rtol=1e-14)
        np.testing.assert_allclose(programme.b[row], own["b"], rtol=1e-14)
        for name in ("lower", "upper", "cost"):
            np.testing.assert_allclose(getattr(programme, name)[column], own[name], rtol=1e-14)
        dense[row, column] = 0
    assert not dense.any()  # no hub is in another's equation


def test_quadratic_costs_follow_the_variable() -> None:
    hubs = small_hubs([50.0, 60.0], [40.0, 50.0], {}, {}, {})
    quadratic = HubProgramme(hubs).quadratic.reshape(3, 2, 12)
    np.testing.assert_allclose(quadratic, np.tile(np.arange(12) / 10, (3, 2, 1)))


def test_names_and_positions_of_rows_and_columns() -> None:
    hubs = random_hubs(np.random.default_rng(3), 2, 3)
    programme = HubProgramme(hubs)
    rows, columns = programme.names()
    assert (len(rows), len(columns)) == programme.a.shape
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert columns[:2] == ["m_in of hub_1 hour 0", "m_out of hub_1 hour 0"]
    assert rows[:5] == [*(f"{row} of hub_1 hour 0" for row in EQUATIONS), "balance of hub_1 hour 1"]
    for name in VARIABLES:
        for k, t in np.ndindex(2, 3):
            assert columns[programme.column(name)[k, t]] == f"{name} of hub_{k + 1} hour {t}"


def test_a_withdrawal_is_positive() -> None:
    hubs = small_hubs([50.0] * 2, [40.0] * 2, {"demand_peak_mw": 1.0}, {"pv_mwp": 2.0})
    found = schedule(hubs)
    np.testing.assert_allclose(found.w_mw, [[1, 1], [-2, -2]], atol=1e-9)
    np.testing.assert_allclose(found.programme.withdrawal_mw(found.x), found.w_mw)
    np.testing.assert_allclose(found.cost_eur, [100, -160])


# --------------------------------------------------------------------------------------------
# Other hubs, hours, orders and units


@pytest.mark.parametrize("seed", range(4))
def test_least_cost_of_each_hub_by_another_solver(seed: int) -> None:
    hubs = random_hubs(np.random.default_rng(seed), 3, 7)
    least = [least_cost(hubs, k) for k in range(3)]
    np.testing.assert_allclose(schedule(hubs).cost_eur, least, rtol=1e-8)


def test_part_of_the_hubs_and_hours_is_part_of_the_arrays() -> None:
    hubs = random_hubs(np.random.default_rng(8), 4, 6)
    whole, part = HubProgramme(hubs), HubProgramme(hubs.only(slice(1, 3), slice(0, 4)))
    cost = whole.cost.reshape(whole.shape)[1:3, :4]
    np.testing.assert_allclose(part.cost.reshape(part.shape), cost)
    one = HubProgramme(hubs.only(slice(2, 3)))
    block = slice(2 * one.a.shape[0], 3 * one.a.shape[0])
    wide = slice(2 * one.a.shape[1], 3 * one.a.shape[1])
    np.testing.assert_allclose(whole.a.toarray()[block, wide], one.a.toarray())
    alone = [schedule(hubs.only(slice(k, k + 1))).cost_eur[0] for k in range(4)]
    np.testing.assert_allclose(schedule(hubs).cost_eur, alone)


def test_another_order_of_hubs_is_the_same_hubs() -> None:
    hubs = random_hubs(np.random.default_rng(9), 4, 5)
    order = np.array([2, 0, 3, 1])
    turned = replace(hubs, table=hubs.table.iloc[order].reset_index(drop=True))
    one, other = schedule(hubs), schedule(turned)
    np.testing.assert_allclose(other.cost_eur, one.cost_eur[order])
    frame = other.frame("hub_3")
    np.testing.assert_allclose(
        frame.to_numpy().ravel() @ one.programme.cost.reshape(4, -1)[2], one.cost_eur[2]
    )


def test_twice_the_sizes_cost_twice_as_much() -> None:
    hubs = random_hubs(np.random.default_rng(10), 3, 5)
    table = hubs.table.copy()
    table[SIZES] *= 2
    double = replace(hubs, table=table)
    np.testing.assert_allclose(schedule(double).cost_eur, 2 * schedule(hubs).cost_eur)
    tariff = Tariff(np.random.default_rng(1).uniform(0, 60, (3, 5)))
    np.testing.assert_allclose(answer(double, tariff).pays_eur, 2 * answer(hubs, tariff).pays_eur)


def test_twice_the_prices_cost_twice_as_much() -> None:
    hubs = random_hubs(np.random.default_rng(11), 3, 5)
    prices = ["buy_eur_per_mwh", "sell_eur_per_mwh"]
    own = ["generator_cost_eur_per_mwh", "base_tariff_eur_per_mwh"]
    profiles, table, costs = hubs.profiles.copy(), hubs.table.copy(), hubs.costs.copy()
    profiles[prices] *= 2
    table[own] *= 2
    costs["linear_eur_per_mwh"] *= 2
    double = Hubs(table, profiles, costs)
    np.testing.assert_allclose(schedule(double).cost_eur, 2 * schedule(hubs).cost_eur)


# --------------------------------------------------------------------------------------------
# One device at a time, by hand


BATTERY = {
    "battery_mw": 1.0, "battery_mwh": 10.0, "battery_initial_soc": 0.5,
    "battery_eff_charge": 0.9, "battery_eff_discharge": 0.8,
}  # fmt: skip


def test_battery_buys_cheap_and_sells_dear() -> None:
    frame = schedule(small_hubs([20.0, 100.0], [15.0, 90.0], BATTERY)).frame("hub_1")
    # 1 MWh bought fills 0.9 MWh, of which 0.72 MWh are sold
    np.testing.assert_allclose(frame["p_ch"], [1, 0], atol=1e-9)
    np.testing.assert_allclose(frame["p_dis"], [0, 0.72], atol=1e-9)
    np.testing.assert_allclose(frame["m_in"], [1, 0], atol=1e-9)
    np.testing.assert_allclose(frame["m_out"], [0, 0.72], atol=1e-9)
    np.testing.assert_allclose(frame["e"], [5.9, 5], atol=1e-9)


@pytest.mark.parametrize(("sale", "charged"), [(27.7, 0.0), (27.9, 1.0)])
def test_battery_rests_where_its_losses_cost_more(sale: float, charged: float) -> None:
    # 20 / (0.9 x 0.8) = 27.78 EUR/MWh is where a cycle pays
    found = schedule(small_hubs([20.0, 100.0], [15.0, sale], BATTERY))
    np.testing.assert_allclose(found.frame("hub_1")["p_ch"], [charged, 0], atol=1e-9)
    assert found.cost_eur[0] == pytest.approx(min(0, 20 - 0.72 * sale), abs=1e-9)


def test_battery_costs_of_use_count() -> None:
    costs = {"p_ch": 5.0, "p_dis": 4.0, "e": 0.5}
    found = schedule(small_hubs([20.0, 100.0], [15.0, 90.0], BATTERY, costs=costs))
    by_hand = 20 + 5 + 0.72 * (4 - 90) + 0.5 * (5.9 + 5)
    assert found.cost_eur[0] == pytest.approx(by_hand)


def test_battery_lends_from_its_store_and_gives_it_back() -> None:
    found = schedule(small_hubs([120.0, 20.0], [100.0, 15.0], BATTERY))
    # content 5 at the beginning: 0.72 MWh out of 0.9 sold first, 1 MWh bought later
    np.testing.assert_allclose(found.frame("hub_1")["p_dis"], [0.72, 0], atol=1e-9)
    assert found.cost_eur[0] == pytest.approx(20 - 72)


def test_battery_keeps_its_least_content() -> None:
    own = BATTERY | {"battery_mwh": 2.0, "battery_min_soc": 0.4}  # from 1 MWh to 0.8
    found = schedule(small_hubs([120.0, 20.0], [100.0, 15.0], own)).frame("hub_1")
    np.testing.assert_allclose(found["e"], [0.8, 1], atol=1e-9)
    np.testing.assert_allclose(found["p_dis"], [0.16, 0], atol=1e-9)


ELECTROLYSER = {
    "electrolyser_mw": 1.0, "electrolyser_eff": 0.5, "h2_offtake_mw": 0.2, "h2_store_mwh": 10.0,
}  # fmt: skip


def test_electrolyser_runs_in_the_cheapest_hours() -> None:
    hubs = small_hubs([50.0, 20.0, 30.0, 40.0], [10.0] * 4, ELECTROLYSER | {"h2_initial_fill": 0.5})
    found = schedule(hubs)
    # four offtakes of 0.2 need 1.6 MWh: 1 at 20 and 0.6 at 30
    np.testing.assert_allclose(found.frame("hub_1")["p_el"], [0, 1, 0.6, 0], atol=1e-9)
    assert found.cost_eur[0] == pytest.approx(38)


def test_electrolyser_with_an_empty_store_serves_the_first_hour() -> None:
    found = schedule(small_hubs([50.0, 20.0, 30.0, 40.0], [10.0] * 4, ELECTROLYSER))
    frame = found.frame("hub_1")
    np.testing.assert_allclose(frame["p_el"], [0.4, 1, 0.2, 0], atol=1e-9)
    np.testing.assert_allclose(frame["h"], [0, 0.3, 0.2, 0], atol=1e-9)
    small = schedule(
        small_hubs([50.0, 20.0, 30.0, 40.0], [10.0] * 4, ELECTROLYSER | {"h2_store_mwh": 0.1})
    )
    # no more than 0.1 MWh waits: 0.6 MWh at 20, then 0.4 at 30 (0.3 + the store), 0.2 at 40
    np.testing.assert_allclose(small.frame("hub_1")["p_el"], [0.4, 0.6, 0.4, 0.2], atol=1e-9)


def test_fuel_cell_gives_back_what_the_electrolyser_made() -> None:
    own = {
        "electrolyser_mw": 1.0, "electrolyser_eff": 0.8, "fuel_cell_h2_mw": 2.0,
        "fuel_cell_eff": 0.6, "h2_store_mwh": 3.0,
    }  # fmt: skip
    found = schedule(small_hubs([20.0, 70.0], [15.0, 50.0], own))
    frame = found.frame("hub_1")
    np.testing.assert_allclose(frame["h_fc"], [0, 0.8], atol=1e-9)
    np.testing.assert_allclose(frame["m_out"], [0, 0.48], atol=1e-9)
    assert found.cost_eur[0] == pytest.approx(20 - 24)
    # a small intake, and a store that starts half full
    own |= {"fuel_cell_h2_mw": 0.5, "h2_initial_fill": 0.5}
    frame = schedule(small_hubs([70.0, 20.0], [50.0, 15.0], own)).frame("hub_1")
    np.testing.assert_allclose(frame["h_fc"], [0.5, 0], atol=1e-9)
    np.testing.assert_allclose(frame["h"], [1, 1.5], atol=1e-9)
    np.testing.assert_allclose(frame["p_el"], [0, 0.625], atol=1e-9)


FLEXIBLE = {"flexible_load_mw": 1.0, "flexible_load_max_factor": 3.0, "backlog_max_mwh": 1.5}


def test_flexible_load_waits_for_the_cheapest_hour_allowed() -> None:
    hubs = small_hubs([100.0, 50.0, 10.0, 80.0], [5.0] * 4, FLEXIBLE)
    frame = schedule(hubs).frame("hub_1")
    np.testing.assert_allclose(frame["u"], [0, 0.5, 2.5, 1], atol=1e-9)
    np.testing.assert_allclose(frame["a"], [1, 1.5, 0, 0], atol=1e-9)


def test_flexible_load_is_never_served_early() -> None:
    found = schedule(small_hubs([10.0, 100.0], [5.0] * 2, FLEXIBLE))
    np.testing.assert_allclose(found.frame("hub_1")["u"], [1, 1], atol=1e-9)


@pytest.mark.parametrize(
    ("changed", "served"),
    [
        ({"flexible_load_max_factor": 2.0}, [0, 1, 2, 1]),  # at most 2 MW in an hour
        ({"backlog_max_mwh": 0.0}, [1, 1, 1, 1]),
        ({"flexible_load_max_factor": 1.0}, [1, 1, 1, 1]),
    ],
)
def test_flexible_load_within_its_limits(changed: dict[str, float], served: list[float]) -> None:
    hubs = small_hubs([100.0, 50.0, 10.0, 80.0], [5.0] * 4, FLEXIBLE | changed)
    np.testing.assert_allclose(schedule(hubs).frame("hub_1")["u"], served, atol=1e-9)


@pytest.mark.parametrize(("waiting", "served"), [(39.0, [0, 2]), (41.0, [1, 1])])
def test_flexible_load_weighs_waiting_against_the_price(
    waiting: float, served: list[float]
) -> None:
    hubs = small_hubs([90.0, 50.0], [5.0] * 2, FLEXIBLE, costs={"a": waiting})
    np.testing.assert_allclose(schedule(hubs).frame("hub_1")["u"], served, atol=1e-9)


def test_generator_runs_where_it_is_cheaper_than_the_grid() -> None:
    own = {"generator_mw": 0.4, "generator_cost_eur_per_mwh": 60.0, "base_tariff_eur_per_mwh": 5.0}
    hubs = small_hubs(
        [50.0, 56.0, 80.0], [40.0, 50.0, 70.0], own | {"demand_peak_mw": 1.0}, own,
        demand=[1.0, 1.0, 0.2],
    )  # fmt: skip
    found = schedule(hubs)
    # with demand: 55 < 60 < 61; in hour 2 the 0.2 MW left over are sold at 70
    np.testing.assert_allclose(found.frame("hub_1")["g"], [0, 0.4, 0.4], atol=1e-9)
    np.testing.assert_allclose(found.w_mw, [[1, 0.6, -0.2], [0, 0, -0.4]], atol=1e-9)
    own_cost = [55 + 0.6 * 61 + 0.8 * 60 - 0.2 * 70, 0.4 * (60 - 70)]
    np.testing.assert_allclose(found.cost_eur, own_cost)


def test_an_adder_starts_the_generator() -> None:
    own = {"generator_mw": 0.4, "generator_cost_eur_per_mwh": 60.0, "demand_peak_mw": 1.0}
    hubs = small_hubs([50.0], [40.0], own)
    for adder, run in ((9.0, 0.0), (11.0, 0.4)):
        found = answer(hubs, Tariff(np.array([[adder]])))
        assert found.schedule.frame("hub_1")["g"][0] == pytest.approx(run)
        cost = (1 - run) * 50 + 60 * run
        assert found.schedule.cost_eur[0] == pytest.approx(cost)
        assert found.pays_eur[0] == pytest.approx(cost + adder * (1 - run))


@pytest.mark.parametrize(("price", "curtailed"), [(-6.0, 2.0), (-4.0, 0.0)])
def test_pv_is_curtailed_where_that_is_cheaper_than_selling(price: float, curtailed: float) -> None:
    hubs = small_hubs([20.0], [price], {"pv_mwp": 2.0}, costs={"c_pv": 5.0})
    found = schedule(hubs)
    assert found.frame("hub_1")["c_pv"][0] == pytest.approx(curtailed)
    assert found.cost_eur[0] == pytest.approx(min(10, -2 * price))


def test_frame_of_a_schedule() -> None:
    hubs = random_hubs(np.random.default_rng(12), 2, 4)
    shifted = replace(hubs, profiles=hubs.profiles.assign(hour=hubs.profiles["hour"] + 10))
    found = schedule(shifted)
    frame = found.frame("hub_2")
    assert frame.columns.tolist() == list(VARIABLES)
    assert frame.index.tolist() == [10, 11, 12, 13]
    assert frame.index.name == "hour"
    np.testing.assert_allclose(frame["m_in"] - frame["m_out"], found.w_mw[1])
    assert isinstance(frame, pd.DataFrame)
    with pytest.raises(ValueError, match="hub_9"):
        found.frame("hub_9")
