"""Re-linearisation: admissible by AC, of first order optimal, and an honest end otherwise."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from feeders import Dense, Offered, offered

from flexlib import (
    Bids,
    Comparison,
    Connected,
    DataError,
    Infeasible,
    Network,
    NotSettled,
    Relinearised,
    power_flow,
    relinearisation,
    relinearised,
)
from flexlib.admittance import Admittance
from flexlib.errors import PowerFlowError
from flexlib.powerflow import PowerFlow
from flexlib.voronoi_points import merit_order

KINDS = ("up", "down", "both", "all")
SEEDS = range(32)


@cache
def ended(seed: int) -> tuple[Offered, Relinearised | Infeasible]:
    case = offered(seed, KINDS[seed % 4], pv=seed % 5 == 0)
    try:
        return case, relinearised(case.connected, case.request_kw)
    except Infeasible as error:
        return case, error


def broken(case: Offered, z: np.ndarray) -> np.ndarray:
    """What each activation breaks limits by, per cent, by AC; z of shape (cases, axes)."""
    network = case.connected.network
    flow = power_flow(case.connected.activated, case.connected.loads_kva(z))
    free = np.setdiff1d(np.arange(len(network.buses)), [network.slack, *network.pv])
    v_pu = np.abs(flow.v_pu)[:, free]
    low, high = (network.buses[name].to_numpy()[free] for name in ("v_min_pu", "v_max_pu"))
    loading = np.abs(flow.i_a) / Admittance(network).ends["i_max_a"].to_numpy() * 100 - 100
    return np.hstack([100 * (v_pu - high), 100 * (low - v_pu), loading]).max(axis=1)


def neighbours(bids: Bids, z: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Activations of the same sum and other patterns: pairs moved against each other."""
    active, found = np.flatnonzero(bids.active), []
    for step in size:
        for one in active:
            for other in active[active != one]:
                moved = z.copy()
                moved[one] += step
                moved[other] -= step
                found.append(moved)
    z = np.array(found).reshape(-1, len(z))
    return z[((z >= bids.lower) & (z <= bids.upper)).all(axis=1)]


@pytest.mark.parametrize("seed", SEEDS)
def test_result_is_admissible_by_ac(seed: int) -> None:
    case, found = ended(seed)
    if isinstance(found, Relinearised):
        found.comparison.certificate.assert_ok()
        z = found.activation.z
        assert z[case.bids.active].sum() == pytest.approx(case.request_kw, abs=1e-6)
        assert (z >= case.bids.lower - 1e-6).all()
        assert (z <= case.bids.upper + 1e-6).all()
        assert broken(case, z[None])[0] <= 2e-6
        assert found.rounds["taken"].iloc[-1] or len(found.rounds) > 1


def test_most_cases_settle_within_few_rounds_and_some_have_no_activation() -> None:
    ends = [ended(seed)[1] for seed in SEEDS]
    settled = [len(end.rounds) for end in ends if isinstance(end, Relinearised)]
    assert len(settled) >= 15
    assert len(ends) - len(settled) >= 5
    assert np.median(settled) <= 3


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed % 4 != 3])
def test_no_exchange_of_two_bids_is_cheaper_and_admissible(seed: int) -> None:
    case, found = ended(seed)
    if isinstance(found, Relinearised):
        z = neighbours(case.bids, found.activation.z, np.array([0.01, 0.3, 5.0]))
        if len(z):
            cost = np.array([case.bids.cost_eur_per_h(other) for other in z])
            cheaper = cost < found.activation.cost_eur_per_h - 1e-5
            assert (broken(case, z)[cheaper] > 0).all()


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed % 4 != 3])
def test_no_random_activation_is_cheaper_and_admissible(seed: int) -> None:
    """Also far away, and also where none is said to exist."""
    case, found = ended(seed)
    bids, rng = case.bids, np.random.default_rng(seed)
    z = bids.lower + rng.random((2000, len(bids.axes))) * (bids.upper - bids.lower)
    if isinstance(found, Relinearised):
        z = np.vstack([z, found.activation.z + rng.normal(scale=3.0, size=z.shape)])
    for _ in range(20):
        z += ((case.request_kw - z.sum(axis=1)) / z.shape[1])[:, None]
        z = np.clip(z, bids.lower, bids.upper)
    z = z[np.abs(z.sum(axis=1) - case.request_kw) < 1e-9]
    if len(z):
        admissible = z[broken(case, z) <= 0]
        best = min(map(bids.cost_eur_per_h, admissible), default=np.inf)
        cost = found.activation.cost_eur_per_h if isinstance(found, Relinearised) else np.inf
        assert cost <= best + 1e-5


def test_two_bids_against_a_fine_grid() -> None:
    """With one number left to choose, every admissible activation can be tried."""
    tried = 0
    for seed in range(0, 80, 2):
        case = offered(seed, "up", points=1)
        if len(case.bids.axes) != 2:
            continue
        low = max(case.bids.lower[0], case.request_kw - case.bids.upper[1])
        high = min(case.bids.upper[0], case.request_kw - case.bids.lower[1])
        first = np.linspace(low, high, 4001)
        z = np.column_stack([first, case.request_kw - first])
        inside = broken(case, z) <= 1e-9
        try:
            found = relinearised(case.connected, case.request_kw)
        except Infeasible:
            assert not inside.any()
        else:
            tried += 1
            best = min(map(case.bids.cost_eur_per_h, z[inside]), default=np.inf)
            step = np.diff(first)[0] * np.abs(np.diff(case.bids.axes["price_up"]))[0]
            assert found.activation.cost_eur_per_h <= best + 1e-6
            if np.isfinite(best):
                assert found.activation.cost_eur_per_h >= best - step - 1e-6
    assert tried >= 2


def feeder(i_max_a: float = 1e4, v_max_pu: float = 1.1) -> Network:
    """Two branches from the slack, 0.4 kV, each with a bid at its end."""
    return Network(
        pd.DataFrame(
            {
                "bus": ["S", "A", "B"],
                "v_nom_kv": 0.4,
                "v_slack_pu": [1.0, np.nan, np.nan],
                "v_min_pu": 0.9,
                "v_max_pu": v_max_pu,
            }
        ),
        pd.DataFrame(
            {
                "branch": ["S-A", "S-B"],
                "from_bus": "S",
                "to_bus": ["A", "B"],
                "r_ohm": 0.05,
                "x_ohm": 0.02,
                "i_max_from_a": [i_max_a, 1e4],
            }
        ),
        pd.DataFrame({"load": ["l"], "bus": ["A"], "p_kw": [10.0], "q_kvar": [2.0]}),
    )


def two(network: Network, price: float = 100.0, volume: float = 100.0) -> Connected:
    bids = pd.DataFrame(
        {
            "bid": ["a", "b"],
            "up_max_kw": volume,
            "price_up_eur_per_mwh": [price / 2, price],
        }
    )
    return Connected(network, Bids(bids), pd.DataFrame({"bid": ["a", "b"], "bus": ["A", "B"]}))


def test_requests_of_nothing_and_of_everything() -> None:
    connected = two(feeder())
    assert relinearised(connected, 0.0).activation.z == pytest.approx([0, 0])
    found = relinearised(connected, 200.0)
    assert found.activation.z == pytest.approx([100, 100])
    assert len(found.rounds) == 1
    with pytest.raises(DataError, match=r"200\.1 kW, expected from 0 to 200 kW"):
        relinearised(connected, 200.1)


def test_a_start_that_misses_the_request() -> None:
    connected = two(feeder(i_max_a=80.0))
    best = relinearised(connected, 100.0)
    assert best.activation.z[0] < 99
    for start in ([0.0, 0.0], [100.0, 100.0], [3.0, 90.0]):
        found = relinearised(connected, 100.0, start=np.array(start))
        found.comparison.certificate.assert_ok()
        cost = best.activation.cost_eur_per_h
        assert found.activation.cost_eur_per_h == pytest.approx(cost, rel=1e-7)
    with pytest.raises(DataError, match="what the bid offers"):
        relinearised(connected, 100.0, start=np.array([101.0, 0.0]))


@pytest.mark.parametrize("price", [0.0, 1e-6, 100.0, 1e5])
def test_prices_do_not_decide_whether_limits_hold(price: float) -> None:
    found = relinearised(two(feeder(i_max_a=80.0), price), 100.0)
    found.comparison.certificate.assert_ok()
    v = Dense(found.comparison.connected.activated).ac(
        found.comparison.connected.loads_kva(found.activation.z[None])[0]
    )
    assert np.abs(Dense(found.comparison.connected.activated).y_end @ v)[0] <= 80 * (1 + 2e-8)


def test_a_price_of_broken_limits_that_is_too_low_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mending a limit may cost more than the first price: then the price was wrong."""
    wanted = relinearised(two(feeder(i_max_a=80.0)), 100.0)
    monkeypatch.setattr(relinearisation, "first_penalty", lambda bids: 1e-3)
    found = relinearised(two(feeder(i_max_a=80.0)), 100.0)
    found.comparison.certificate.assert_ok()
    assert found.activation.cost_eur_per_h == pytest.approx(wanted.activation.cost_eur_per_h)


@pytest.mark.parametrize("seed", [2, 49, 53])
def test_limits_whose_mending_is_dear_are_mended(seed: int) -> None:
    case = offered(seed, KINDS[seed % 4], pv=seed % 5 == 0)
    found = relinearised(case.connected, case.request_kw)
    found.comparison.certificate.assert_ok()


def test_infeasible_by_ac_says_by_how_much_and_where() -> None:
    connected = two(feeder(i_max_a=80.0))
    with pytest.raises(Infeasible, match=r"by AC the limits are broken by [\d.]+ %") as caught:
        relinearised(connected, 190.0)
    text = str(caught.value)
    assert "S-A at" in text
    number = float(text.split("broken by ")[1].split(" %")[0])
    least = connected.loads_kva(np.array([[90.0, 100.0]]))
    current = np.abs(power_flow(connected.activated, least).i_a[0, 0])
    assert number == pytest.approx(100 * current / 80 - 100, rel=1e-3)


def test_infeasible_cases_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    exact = relinearisation.linearise

    def counted(*args: object, **options: object) -> object:
        nonlocal count
        count += 1
        return exact(*args, **options)

    monkeypatch.setattr(relinearisation, "linearise", counted)
    seeds = [seed for seed in SEEDS if isinstance(ended(seed)[1], Infeasible) and seed % 4 != 3]
    for seed in seeds:
        case, count = offered(seed, KINDS[seed % 4], pv=seed % 5 == 0), 0
        with pytest.raises(Infeasible):
            relinearised(case.connected, case.request_kw)
        assert count <= 12, seed


def test_base_limits_that_are_broken_need_relief() -> None:
    network = feeder()
    loads = network.loads.assign(p_kw=90.0, q_kvar=0.0)
    tight = replace(network, loads=loads, branches=feeder(i_max_a=100.0).branches)
    with pytest.raises(DataError, match="while nothing is activated"):
        relinearised(two(tight), 60.0)
    found = relinearised(two(tight, price=-100.0), 60.0, relief=True)
    found.comparison.certificate.assert_ok()


def test_rounds_that_do_not_suffice_are_handed_over() -> None:
    connected = two(feeder(i_max_a=80.0))
    with pytest.raises(NotSettled, match="1 rounds of re-linearisation") as caught:
        relinearised(connected, 100.0, most_rounds=1)
    assert isinstance(caught.value.rounds, pd.DataFrame)
    assert len(caught.value.rounds) == 1
    with pytest.raises(DataError, match="most_rounds: found 0, expected 1 or more"):
        relinearised(connected, 100.0, most_rounds=0)


def test_steps_that_ac_does_not_confirm_are_not_taken() -> None:
    """A step that is taken keeps or widens the region, another shrinks it."""
    for seed in SEEDS:
        found = ended(seed)[1]
        if isinstance(found, Infeasible):
            continue
        rounds = found.rounds
        for (_, one), (_, other) in pairwise(rounds.iterrows()):
            if not one["taken"]:
                assert other["radius"] < min(one["radius"], 1.0)
            else:
                assert other["radius"] >= one["radius"]


def test_a_step_without_a_power_flow_is_made_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """AC has no solution for the first step here; the next ones are within reach of the start."""
    connected = two(feeder(i_max_a=80.0))
    wanted = relinearised(connected, 100.0)
    exact, failures = Comparison.flow.func, 0  # type: ignore[attr-defined]

    def failing(self: Comparison) -> PowerFlow:
        nonlocal failures
        if not failures or self.activation.z[1] > 60:
            failures += 1
            raise PowerFlowError("no power flow")
        return exact(self)

    monkeypatch.setattr(Comparison, "flow", property(failing))
    found = relinearised(connected, 100.0)
    assert failures >= 1
    assert not found.rounds["taken"].iloc[0]
    assert np.isnan(found.rounds["v_mae_pu"].iloc[0])
    cost = wanted.activation.cost_eur_per_h
    assert found.activation.cost_eur_per_h == pytest.approx(cost, rel=1e-7)


def three_blocks(network: Network) -> Connected:
    table = pd.DataFrame(
        {
            "bid": ["a", "b", "c"],
            "up_max_kw": [60.0, 50.0, 30.0],
            "min_up_kw": [60.0, 50.0, 0.0],
            "price_up_eur_per_mwh": [10.0, 40.0, 90.0],
        }
    )
    sites = pd.DataFrame({"bid": ["a", "b", "c"], "bus": ["A", "B", "B"]})
    return Connected(network, Bids(table), sites)


def test_blocks_are_whole_and_near_the_best_pattern() -> None:
    connected = three_blocks(feeder(i_max_a=60.0))
    found = relinearised(connected, 70.0)  # the cheap block is too large for its line
    found.comparison.certificate.assert_ok()
    assert found.activation.z == pytest.approx([0, 50, 20])
    wide = relinearised(replace(connected, network=feeder()), 70.0)
    assert wide.activation.z == pytest.approx([60, 0, 10])


def test_bounds_of_blocks_hold_beyond_the_trust_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """AC has no solution for the cheap block; no other pattern is within reach of the start."""
    exact = Comparison.flow.func  # type: ignore[attr-defined]

    def failing(self: Comparison) -> PowerFlow:
        if self.activation.z[0] > 30:
            raise PowerFlowError("no power flow")
        return exact(self)

    monkeypatch.setattr(Comparison, "flow", property(failing))
    found = relinearised(three_blocks(feeder()), 70.0, start=np.array([0.0, 50.0, 20.0]))
    assert found.activation.z == pytest.approx([0, 50, 20])
    assert np.isfinite(found.rounds["radius"].iloc[-1])
    assert found.activation.cell_bound_eur_per_h == pytest.approx([0.6 + 0.9], abs=1e-6)
    gap = {check.name: check for check in found.comparison.certificate.checks}
    assert not gap["gap to the least bound of all cells"].ok


def test_the_merit_order_is_kept_where_it_is_admissible() -> None:
    connected = two(feeder())
    found = relinearised(connected, 130.0)
    assert found.activation.z == pytest.approx(merit_order(connected.bids, np.array([130.0]))[0])
