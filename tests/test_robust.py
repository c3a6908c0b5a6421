"""The robust market: three routes to one optimum, published activations, shortfalls."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from feeders import (
    STABLE,
    Worst,
    bands,
    feeder_12,
    frames,
    market_12,
    markets,
    offers_up,
    random_market,
    small_market,
    small_network,
)
from hypothesis import given, settings

from flexlib import (
    Box,
    Circle,
    Clearing,
    Infeasible,
    Market,
    Network,
    Planes,
    clear,
    printed_model,
    solve,
)
from flexlib.planes import along
from flexlib.robust_certificate import State, state_of_model
from flexlib.solver import Solution


def by_print(market: Market) -> tuple[Solution, State]:
    model = printed_model(market)
    return solve(model), state_of_model(model)


def assert_three_routes_agree(market: Market) -> Clearing:
    arrays, (printed, state) = clear(market), by_print(market)
    worst = Worst(market)
    cost, net_kw = worst.optimum()
    scale = 1 + abs(cost)
    assert arrays.cost_eur_per_h == pytest.approx(cost, abs=1e-7 * scale)
    assert printed.objective == pytest.approx(cost, abs=1e-7 * scale)
    # Random prices make the optimum unique, so that all three activate the same.
    ours_kw = arrays.state.up_kw - arrays.state.down_kw
    np.testing.assert_allclose(ours_kw, net_kw, atol=1e-4)
    np.testing.assert_allclose(arrays.state.i_end_a, state.i_end_a, atol=1e-6)
    np.testing.assert_allclose(arrays.state.v_pu, state.v_pu, atol=1e-9)
    # Every limit, at every vertex of the box.
    i_max_a = market.flow.admittance.ends["i_max_a"].to_numpy()
    plane_a = worst.plane_a(ours_kw)
    assert (plane_a - i_max_a).max() < 1e-6
    buses = market.network.buses.iloc[worst.free]
    assert (buses["v_min_pu"] - worst.norm_low_pu(ours_kw)[worst.free]).max() < 1e-9
    assert (worst.norm_high_pu(ours_kw)[worst.free] - buses["v_max_pu"]).max() < 1e-9
    # The library's own worst case along the planes is the enumerated one.
    left = market.uncertain[1] * market.remains(ours_kw)
    corners = [market.uncertainty.image(row) for row in left]
    for e in np.flatnonzero(np.isfinite(i_max_a)):
        normals = market.norm.normals(market.flow.i0_a[e])
        value_a = along(normals[:, None], arrays.state.i_end_a[e] + corners[e]).max()
        assert value_a / market.norm.apothem == pytest.approx(plane_a[e], abs=1e-6)
    failed = [c.name for c in arrays.certificate.checks if c.basis == "exact" and not c.ok]
    assert failed == []
    return arrays


@settings(STABLE, max_examples=80)
@given(markets())
def test_printed_model_arrays_and_all_vertices_agree(market: Market) -> None:
    assert_three_routes_agree(market)


@settings(STABLE, max_examples=40)
@given(markets(uncertain=6, band="remainder"))
def test_the_routes_agree_on_a_band_on_the_remainder(market: Market) -> None:
    assert_three_routes_agree(market)


def test_random_cases_are_not_idle() -> None:
    active, lower, upper = 0, 0, 0
    for seed in range(30):
        result = assert_three_routes_agree(random_market(seed, 3 + seed % 12, seed % 3, seed % 2))
        active += result.cost_eur_per_h > 1e-3
        market, net_kw = result.market, result.state.up_kw - result.state.down_kw
        worst, buses = Worst(market), market.network.buses
        lower += np.abs(worst.norm_low_pu(net_kw) - buses["v_min_pu"]).min() < 1e-7
        upper += np.abs(worst.norm_high_pu(net_kw) - buses["v_max_pu"]).min() < 1e-7
    assert active >= 18
    assert lower >= 4
    assert upper >= 2


# --------------------------------------------------------------------------------------------
# The 12-bus feeder


@pytest.mark.parametrize(
    ("flexible_pct", "other_pct", "expected_kw"),
    [(2.5, 7.5, [0, 0, 0]), (5, 15, [0, 54.303, 0]), (10, 30, [45.940, 150, 0])],
)
def test_activation_of_the_12_bus_feeder(
    flexible_pct: float, other_pct: float, expected_kw: list[float]
) -> None:
    market = market_12(flexible_pct, other_pct)
    result, (printed, state) = clear(market), by_print(market)
    np.testing.assert_allclose(result.activation["up_kw"], expected_kw, atol=1e-3)
    np.testing.assert_allclose(state.up_kw, expected_kw, atol=1e-3)
    np.testing.assert_allclose(state.i_end_a, result.state.i_end_a, atol=1e-6)
    assert printed.objective == pytest.approx(result.cost_eur_per_h, abs=1e-9)
    cost, net_kw = Worst(market).optimum()
    np.testing.assert_allclose(net_kw, expected_kw, atol=1e-3)
    assert cost == pytest.approx(result.cost_eur_per_h, abs=1e-8)
    worst = Worst(market).plane_a(result.state.up_kw)
    ends = result.currents
    limited = ends.index[(ends["branch"] == "2-3") & (ends["end"] == "from")][0]
    if result.cost_eur_per_h > 0:
        assert worst[limited] == pytest.approx(117, abs=1e-6)
    else:
        assert worst[limited] < 117
    result.certificate.assert_ok()


def test_worst_current_of_the_result_is_the_enumerated_one() -> None:
    result = clear(market_12(10, 30))
    worst = Worst(result.market)
    i = worst.affine.i[0] + worst.affine.i[1] @ result.state.up_kw
    expected = np.abs(i[:, None] + worst.affine.i[2] @ worst.xi).max(axis=1)
    np.testing.assert_allclose(result.currents["i_worst_a"], expected, atol=1e-6)
    np.testing.assert_allclose(result.currents["i_a"], np.abs(i), atol=1e-6)


def test_two_from_current_is_the_published_convention() -> None:
    # Bus 2 has no load: what leaves through 2-3 is what 1-2 brings.
    currents = clear(market_12(5, 15)).state.i_end_a
    ends = market_12(5, 15).flow.admittance.ends
    at = {(e.branch, e.end): k for k, e in enumerate(ends.itertuples())}
    assert currents[at["1-2", "to"]] == pytest.approx(-currents[at["2-3", "from"]], abs=1e-9)


# --------------------------------------------------------------------------------------------
# What a market must do when its data move


def test_a_wider_box_never_costs_less() -> None:
    costs = [clear(market_12(k, 3 * k)).cost_eur_per_h for k in (0, 2.5, 5, 7.5, 10)]
    assert costs == sorted(costs)
    assert costs[-1] > costs[1]


def test_more_planes_never_cost_more() -> None:
    # 32, 64, 128 share their corners: each polygon contains the one before.
    costs = [clear(market_12(10, 30, planes)).cost_eur_per_h for planes in (32, 64, 128, 1024)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1] + 0.1


def test_cost_is_price_times_activation() -> None:
    offers = offers_up(POD2=250, POD4=150, POD7=250).assign(price_up_eur_per_mwh=[90, 80, 70])
    result = clear(market_12(10, 30, offers=offers))
    table = result.activation
    by_hand = (table["up_kw"] * [90, 80, 70]).sum() / 1000
    assert result.cost_eur_per_h == pytest.approx(by_hand, abs=1e-9)
    assert table["cost_eur_per_h"].sum() == pytest.approx(by_hand, abs=1e-9)
    assert result.cost_eur_per_h > 0


def test_cheaper_offers_first_when_they_help_alike() -> None:
    network = small_network(
        loads={"load": ["one", "two", "sun"], "bus": ["B"] * 3, "p_kw": [500.0, 500, -1]}
        | {"q_kvar": [100.0, 100, 0]},
        branches={"i_max_from_a": [50.0, np.nan]},
    )
    for prices, cheap in (((50, 60), 0), ((60, 50), 1)):
        offers = offers_up(one=500, two=500).assign(price_up_eur_per_mwh=list(prices))
        result = clear(small_market(network=network, offers=offers, bands=bands(one=5, two=5)))
        assert result.state.up_kw[cheap] > 10
        assert result.state.up_kw[1 - cheap] == pytest.approx(0, abs=1e-6)


def test_downward_flexibility_relieves_a_reversed_flow() -> None:
    network = small_network(
        loads={"p_kw": [100.0, 100.0, -1200.0], "q_kvar": [30.0, 30.0, 0.0]},
        branches={"i_max_from_a": [np.nan] * 2, "i_max_to_a": [55.0, np.nan]},
    )
    offers = offers_up(sun=0, two=50).assign(down_max_kw=[800, 50], price_down_eur_per_mwh=[40, 90])
    result = clear(small_market(network=network, offers=offers))
    assert result.state.down_kw[0] > 10  # less generation
    assert result.state.up_kw.max() == pytest.approx(0, abs=1e-6)
    rated = result.currents.query("i_max_a == 55")["i_worst_a"]
    assert rated.max() == pytest.approx(55 * np.cos(np.pi / 32), abs=0.5)


# --------------------------------------------------------------------------------------------
# Lower voltage limits with alternatives


def market_with_a_choice(prices: tuple[float, float], v_min_pu: float = 0.9945) -> Market:
    """Active power through a reactance: it turns the voltage and hardly changes its real part.

    A turn either way lengthens the vector, so the activations that meet the lower limit are in
    two separate pieces.
    """
    tables = frames(
        buses={
            "bus": ["S", "A", "B"],
            "v_slack_pu": [1.0, np.nan, np.nan],
            "v_min_pu": [0.5, 0.5, v_min_pu],
        },
        branches={"from_bus": ["S", "A"], "to_bus": ["A", "B"], "r_ohm": [0.0, 0.0]}
        | {"x_ohm": [6.0, 6.0], "b_us": [0.0, 0.0]},
        loads={"bus": ["B", "B", "B"], "p_kw": [600.0, -580.0, 100.0]}
        | {"q_kvar": [6.0, 0.0, -60.0]},
    )
    network = Network(**tables)
    offers = pd.DataFrame(
        {
            "load": ["one", "sun"],
            "up_max_kw": [600.0, 2000.0],
            "price_up_eur_per_mwh": [prices[0], 10 * prices[0]],
            "down_max_kw": [1800.0, 500.0],
            "price_down_eur_per_mwh": [prices[1], 10 * prices[1]],
        }
    )
    return Market(network, offers, Box(network, bands(one=10, sun=10, two=20)), Planes(16))


@cache
def cheapest_on_a_grid(prices: tuple[float, float]) -> tuple[float, int]:
    """Least cost over a grid of activations and of s, all vertices; pieces of the safe set."""
    market = market_with_a_choice(prices)
    worst, offers = Worst(market), market.offers
    grids = [
        np.linspace(-o.down_max_kw, o.up_max_kw, points)
        for o, points in zip(offers.itertuples(index=False), (961, 101), strict=True)
    ]
    nets = np.array(np.meshgrid(*grids, indexing="ij")).reshape(2, -1)
    s = np.linspace(-1, 1, 101)
    need = market.network.buses["v_min_pu"].to_numpy()
    safe = np.ones(nets.shape[1], dtype=bool)
    for bus in worst.free:
        w = worst.alpha - 1j * worst.beta * s
        base = np.real(w * worst.v[0][bus]) + np.min(
            np.real(w[:, None] * (worst.v[2][bus] @ worst.xi)[None]), axis=1
        )
        reach = base[:, None] + np.real(w[:, None] * (worst.v[1][bus] @ nets)[None])
        safe &= reach.max(axis=0) >= need[bus]
        high = [
            np.real(complex(worst.alpha, -sign * worst.beta) * worst.v[part][bus])
            for sign in (1, -1)
            for part in (0, 1, 2)
        ]
        for k in (0, 3):
            top = high[k] + high[k + 1] @ nets + np.abs(high[k + 2]).sum()
            safe &= top <= market.network.buses["v_max_pu"].iloc[bus]
    up, down = np.maximum(nets, 0), np.maximum(-nets, 0)
    cost = (
        offers["price_up_eur_per_mwh"].to_numpy() @ up
        + offers["price_down_eur_per_mwh"].to_numpy() @ down
    ) / 1000
    alone = safe.reshape(961, 101)[:, np.argmin(np.abs(grids[1]))]
    return float(cost[safe].min()), int((np.diff(alone.astype(int)) != 0).sum())


@pytest.mark.parametrize("prices", [(50.0, 50.0), (50.0, 500.0), (500.0, 50.0)])
def test_lower_limit_with_alternatives_against_a_grid(prices: tuple[float, float]) -> None:
    market = market_with_a_choice(prices)
    result = assert_three_routes_agree(market)
    assert (printed_model(market).voltages.big_m > 0).any()
    least, changes = cheapest_on_a_grid(prices)
    assert changes >= 2  # the safe activations are not convex
    assert result.cost_eur_per_h <= least + 1e-9
    assert result.cost_eur_per_h > least - 2.5 * max(prices) / 1000  # one step of the grid
    assert result.cost_eur_per_h > 1


@pytest.mark.parametrize("prices", [(50.0, 500.0), (500.0, 50.0)])
@pytest.mark.parametrize("v_min_pu", [1.0, 1.02])
def test_alternatives_with_a_band_on_the_remainder(
    prices: tuple[float, float], v_min_pu: float
) -> None:
    market = market_with_a_choice(prices, v_min_pu)
    offers = market.offers.assign(up_max_kw=[600.0, 100.0])  # no more than the loads have
    market = replace(market, offers=offers, band="remainder")
    assert (printed_model(market).voltages.big_m > 0).any()
    assert assert_three_routes_agree(market).cost_eur_per_h > 1


def test_price_decides_between_the_alternatives() -> None:
    turned = [
        np.angle(clear(market_with_a_choice(prices)).state.v_pu[2])
        for prices in ((50.0, 500.0), (500.0, 50.0))
    ]
    assert turned[0] > 0.01
    assert turned[1] < -0.01


# --------------------------------------------------------------------------------------------
# Infeasible markets

ADDED = re.compile(r"([\d.]+) kW (upward|downward) at ([^,]+?)(?:,|\.$|$)")


def shortfall(error: pytest.ExceptionInfo[Infeasible]) -> dict[tuple[str, str], float]:
    message = str(error.value)
    assert "fall short by" in message
    least = message.split("least addition: ")[1]
    return {(load, way): float(kw) for kw, way, load in ADDED.findall(least)}


def raised(market: Market, missing: dict[tuple[str, str], float], factor: float) -> Market:
    offers = market.offers.set_index("load")
    for (load, way), kw in missing.items():
        column = {"upward": "up_max_kw", "downward": "down_max_kw"}[way]
        offers.loc[load, column] += kw * factor
    return replace(market, offers=offers.reset_index(), uncertainty=market.uncertainty)


def assert_shortfall_is_right(market: Market) -> None:
    with pytest.raises(Infeasible) as error:
        clear(market)
    missing = shortfall(error)
    total = float(re.search(r"short by ([\d.]+) kW", str(error.value))[1])
    assert total == pytest.approx(sum(missing.values()), abs=2e-3)
    # The message prints three decimals.
    clear(raised(market, {key: kw + 1e-3 for key, kw in missing.items()}, 1.0))
    with pytest.raises(Infeasible):
        clear(raised(market, missing, 0.99))


def test_shortfall_of_a_current_limit() -> None:
    market = market_12(10, 30, offers=offers_up(POD2=40, POD4=60, POD7=20))
    with pytest.raises(Infeasible, match="current limit of branch 2-3 at its from end") as error:
        clear(market)
    assert error.value.conflict == ("current limit of branch 2-3 at its from end",)
    assert_shortfall_is_right(market)


@pytest.mark.parametrize("offered_kw", [38.9, 20.0])  # between polygon and circle; below both
def test_shortfall_of_an_exact_circle(offered_kw: float) -> None:
    offers = offers_up(POD2=offered_kw, POD4=150)
    assert_shortfall_is_right(replace(market_12(10, 30, offers=offers), norm=Circle()))


def test_shortfall_of_an_upper_voltage_limit() -> None:
    network = small_network(
        buses={"v_max_pu": [1.1, 1.1, 1.008]},
        loads={"p_kw": [100.0, 100.0, -1500.0], "q_kvar": [30.0, 30.0, 0.0]},
    )
    offers = offers_up(sun=0).assign(down_max_kw=100, price_down_eur_per_mwh=40)
    market = small_market(network=network, offers=offers)
    with pytest.raises(Infeasible, match="upper voltage limit of bus B"):
        clear(market)
    assert_shortfall_is_right(market)


def test_shortfall_of_a_lower_voltage_limit() -> None:
    network = small_network(buses={"v_min_pu": [0.9, 0.9, 0.985]})
    market = small_market(network=network, offers=offers_up(two=50))
    with pytest.raises(Infeasible, match="lower voltage limit of bus B"):
        clear(market)
    assert_shortfall_is_right(market)


def test_shortfall_where_a_lower_limit_has_alternatives() -> None:
    wide = market_with_a_choice((50.0, 60.0), v_min_pu=1.02)
    needed = clear(wide).state
    offers = wide.offers.assign(
        up_max_kw=0.5 * needed.up_kw, down_max_kw=np.maximum(0.5 * needed.down_kw, 10)
    )
    market = replace(wide, offers=offers, uncertainty=wide.uncertainty)
    assert (printed_model(market).voltages.big_m > 0).any()
    with pytest.raises(Infeasible, match="lower voltage limit of bus B") as error:
        clear(market)
    clear(raised(market, {key: kw + 1e-3 for key, kw in shortfall(error).items()}, 1.0))


def test_no_volume_helps() -> None:
    # POD at the end of A-B cannot relieve what A takes through S-A.
    network = small_network(
        loads={"bus": ["A", "B", "B"], "p_kw": [2000.0, 50.0, 0.0], "q_kvar": [1500.0, 0.0, 0.0]},
        branches={"i_max_from_a": [60.0, np.nan]},
    )
    market = small_market(network=network, offers=offers_up(two=50), bands=bands(one=5, two=5))
    with pytest.raises(Infeasible, match="No volume of these offers is enough") as error:
        clear(market)
    assert "current limit of branch S-A at its from end by" in str(error.value)
    amount = float(re.search(r"from end by ([\d.]+) A", str(error.value))[1])
    assert amount > 1


@pytest.mark.parametrize(
    "branch",
    [
        "S, to A [1]",
        "S; to A",
    ],
)
def test_limits_in_conflict_are_named_whatever_the_identifiers(branch: str) -> None:
    network = small_network(branches={"branch": [branch, "A-B"], "i_max_from_a": [20.0, np.nan]})
    with pytest.raises(Infeasible) as error:
        clear(small_market(network=network, offers=offers_up(one=10)))
    assert error.value.conflict == (f"current limit of branch {branch} at its from end",)


# --------------------------------------------------------------------------------------------
# Extreme but valid


def test_an_offer_of_zero_volume_changes_nothing() -> None:
    plain = clear(small_market(offers=offers_up(one=300)))
    more = clear(small_market(offers=offers_up(one=300, two=0)))
    assert plain.cost_eur_per_h > 0
    assert more.cost_eur_per_h == pytest.approx(plain.cost_eur_per_h, abs=1e-9)
    assert_three_routes_agree(more.market)


def test_offers_of_zero_volume_only() -> None:
    market = small_market(i_max_a=500, offers=offers_up(one=0, two=0))
    assert assert_three_routes_agree(market).cost_eur_per_h == 0


def test_a_load_without_power_offers_at_unit_power_factor() -> None:
    network = small_network(
        loads={"load": ["one", "two", "new"], "p_kw": [600.0, 900, 0], "q_kvar": [200.0, 300, 0]},
        branches={"i_max_from_a": [85.0, np.nan]},
    )
    market = small_market(network=network, offers=offers_up(new=600), bands=bands(one=10, new=30))
    assert market.direction[0] == 1
    assert assert_three_routes_agree(market).state.up_kw[0] > 10


def test_a_box_of_zero_bands_is_the_deterministic_market() -> None:
    market = small_market(bands=bands(one=0, two=0, sun=0))
    result = assert_three_routes_agree(market)
    normals = market.norm.normals(market.flow.i0_a[0])
    assert along(normals, result.state.i_end_a[0]).max() == pytest.approx(
        75 * market.norm.apothem, abs=1e-6
    )
    one_fewer = small_market(bands=bands(two=0))
    assert clear(one_fewer).cost_eur_per_h == pytest.approx(result.cost_eur_per_h, abs=1e-9)


def test_a_network_of_a_single_branch() -> None:
    network = Network(
        pd.DataFrame(
            {"bus": ["end", "head"], "v_nom_kv": 0.4, "v_slack_pu": [np.nan, 1.02]}
            | {"v_min_pu": 0.9, "v_max_pu": 1.1}
        ),
        pd.DataFrame(
            {"branch": ["only"], "from_bus": ["head"], "to_bus": ["end"], "r_ohm": 0.03}
            | {"x_ohm": 0.01, "i_max_from_a": 55.0, "i_max_to_a": 55.0}
        ),
        pd.DataFrame({"load": ["house"], "bus": ["end"], "p_kw": [40.0], "q_kvar": [4.0]}),
    )
    market = Market(network, offers_up(house=40), Box(network, bands(house=10)))
    result = assert_three_routes_agree(market)
    result.certificate.assert_ok()
    assert 0 < result.state.up_kw[0] < 40


def test_the_order_of_rows_does_not_matter() -> None:
    market = random_market(7, 9, 1, 1)
    network, rng = market.network, np.random.default_rng(0)

    def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.iloc[rng.permutation(len(frame))]

    again = Network(shuffled(network.buses), shuffled(network.branches), shuffled(network.loads))
    other = Market(
        again, shuffled(market.offers), Box(again, shuffled(market.uncertainty.bands)), market.norm
    )
    a, b = clear(market), clear(other)
    assert a.cost_eur_per_h > 0
    assert b.cost_eur_per_h == pytest.approx(a.cost_eur_per_h, abs=1e-8)
    columns = ["load", "up_kw", "down_kw"]
    pd.testing.assert_frame_equal(
        a.activation[columns].sort_values("load", ignore_index=True),
        b.activation[columns].sort_values("load", ignore_index=True),
        atol=1e-5,
    )


def test_turning_a_branch_around_swaps_its_ends_only() -> None:
    market = market_12(5, 15)
    branches = feeder_12().branches.copy()
    swap = ["from_bus", "to_bus", "i_max_from_a", "i_max_to_a"]
    branches.loc[1, swap] = branches.loc[1, [swap[k] for k in (1, 0, 3, 2)]].to_numpy()
    turned = market_12(5, 15, network=replace(feeder_12(), branches=branches))
    assert turned.network.branches["i_max_to_a"][1] == 117
    assert clear(turned).state.up_kw == pytest.approx(clear(market).state.up_kw, abs=1e-6)


def test_numeric_identifiers_of_frames_made_in_code() -> None:
    number = {"A": 1, "S": 2, "B": 3, "one": 11, "two": 12, "sun": 13}
    tables = {name: frame.map(lambda x: number.get(x, x)) for name, frame in frames().items()}
    tables["branches"] = tables["branches"].assign(branch=[1, 2], i_max_from_a=[75.0, np.nan])
    network = Network(**{k: v.infer_objects() for k, v in tables.items()})
    market = Market(
        network,
        pd.DataFrame({"load": [11, 12], "up_max_kw": [300, 600], "price_up_eur_per_mwh": 100}),
        Box(network, pd.DataFrame({"load": [11, 12, 13], "band_pct": [10, 10, 20]})),
    )
    assert clear(market).cost_eur_per_h == pytest.approx(
        clear(small_market()).cost_eur_per_h, abs=1e-9
    )


def test_results_show_units_in_their_columns() -> None:
    result = clear(market_12(5, 15))
    assert list(result.currents.columns) == ["branch", "end", "bus", "i_a", "i_worst_a", "i_max_a"]
    assert list(result.activation.columns) == ["load", "up_kw", "down_kw", "cost_eur_per_h"]
