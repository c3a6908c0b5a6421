"""The theorems on prices from linear programmes, each on hundreds of random instances.

Instances are small, so that every claim is held against programmes of the test's own
(`hub_cases`); where it is said that no adders reach something, that is proven on the instance.
A condition that is dropped is one for which a search finds an instance that breaks the theorem.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hub_cases import (
    TOL,
    least_priced_congestion,
    limit_rows,
    lp,
    own_programme,
    plan,
    random_benchmark,
    random_case,
    random_grid,
    random_hubs,
)
from scipy.sparse import block_array, csr_array, eye_array, hstack, kron

from flexlib import Infeasible
from flexlib.centralised import centralised
from flexlib.hub_programme import HubProgramme
from flexlib.pricing import conditions, linear_prices, quota_adder
from flexlib.pricing_inverse import AdderWeights, cheapest_adder, closest_adder

CAP = 60.0
CLEAR = 0.01  # EUR or MWh by which a counterexample breaks a theorem


# Theorem 1: an answer to some adders from 0 to the cap is a soft quota, and back


def schedules(rng, own):
    """Schedules of many hubs that are some of them answers to adders, some of them not."""
    first, second = (
        own.minimum(own.cost(rng.uniform(0, CAP, own.size) * (rng.random(own.size) < 0.7)))
        for _ in range(2)
    )
    yield "answer to adders", first
    quota = rng.uniform(0, 1.5, own.size)
    yield "answer to a soft quota", own.soft_quota(quota, CAP)[1]
    yield "half of two answers", (first + second) / 2
    yield "any corner", own.minimum(rng.normal(size=len(own.hub)))
    yield "answer to adders without a cap", own.minimum(own.cost(rng.uniform(0, 4 * CAP, own.size)))


@pytest.mark.parametrize("seed", range(50))
def test_theorem_1_answers_to_adders_are_soft_quotas(seed):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 12, int(rng.integers(3, 6)))
    own, programme = own_programme(hubs), HubProgramme(hubs)
    answers = 0
    for kind, x in schedules(rng, own):
        quota = x[own.at("m_in")]
        above = own.sums(own.arrays[0] * x) - own.soft_quota(quota, CAP)[0]
        adder = own.closest(x, CAP)
        regret = own.regret(x, adder)
        ours = closest_adder(programme, own.back(x), CAP)
        for k in range(12):
            where = f"seed {seed}, hub {k}, {kind}"
            assert above[k] == pytest.approx(regret[k], abs=TOL), where
            if kind.startswith("answer to a soft") or kind == "answer to adders":
                assert regret[k] < TOL, where
        # the library's adders give up at most what their weight in its objective allows
        assert (regret - TOL <= own.regret(x, ours)).all(), f"seed {seed}, {kind}"
        assert own.regret(x, ours).sum() <= regret.sum() + 1e-4 * adder.sum() + TOL, kind
        assert (ours >= 0).all()
        assert (ours <= CAP + 1e-9).all()
        answers += (regret < TOL).sum()
    assert 24 <= answers < 60, "of 60 schedules some must be answers and some not"


@pytest.mark.parametrize("seed", range(10))
def test_theorem_1_multipliers_of_a_soft_quota_are_adders(seed):
    rng = np.random.default_rng(seed)
    own = own_programme(random_hubs(rng, 12, 4))
    _, x, adder = own.soft_quota(rng.uniform(0, 1.5, own.size), CAP)
    assert (adder > -1e-9).all()
    assert (adder < CAP + 1e-9).all()
    assert adder.max() > 1
    np.testing.assert_array_less(own.regret(x, adder), TOL)


def on_or_off(seed, convex):
    """Least regret of a soft-quota schedule of a hub whose generator runs fully or not at all.

    The hub's set is a union, one part for each pattern of hours in which the generator runs. The
    schedule is the best for a random quota, so c x = phi(m(x)) on the union.
    """
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 1, 3)
    own = own_programme(hubs)
    c, a, b, lower, upper = own.arrays
    g, parts = own.at("g")[0], []
    for pattern in product((0.0, 1.0), repeat=3):
        ends = lower.copy(), upper.copy()
        if not convex:
            ends[0][g] = ends[1][g] = np.array(pattern) * upper[g]
        parts.append(own.restricted(*ends))
    quota = rng.uniform(0, 1.5, own.size)
    values = [part.soft_quota(quota, CAP)[0][0] for part in parts]
    x = parts[int(np.argmin(values))].soft_quota(quota, CAP)[1]
    phi = min(part.soft_quota(x[own.at("m_in")], CAP)[0][0] for part in parts)
    assert phi == pytest.approx(c @ x, abs=TOL)
    # columns: regret, adders, and the multipliers of each part that bound its least cost
    rows, columns = a.shape
    width = rows + 2 * columns
    m_in = own.at("m_in")[0]
    eye = eye_array(columns)
    bound = [np.concatenate([b, p.arrays[3], -p.arrays[4]]) for p in parts]
    a_ub = csr_array(
        hstack(
            [
                np.full((len(parts), 1), -1.0),
                np.tile(x[m_in], (len(parts), 1)),
                -block_array(
                    [
                        [csr_array(v[None]) if i == j else None for j in range(len(parts))]
                        for i, v in enumerate(bound)
                    ]
                ),
            ]
        )
    )
    duals = hstack([a.T, eye, -eye])
    a_eq = hstack(
        [
            csr_array((columns * len(parts), 1)),
            kron(np.ones((len(parts), 1)), -own.pick("m_in").T),
            kron(eye_array(len(parts)), duals),
        ]
    )
    one = np.concatenate([np.full(rows, -np.inf), np.zeros(2 * columns)])
    free = np.full(width * len(parts), np.inf)
    return lp(
        np.eye(1, 1 + len(m_in) + width * len(parts))[0],
        np.concatenate([[-np.inf], np.zeros(len(m_in)), np.tile(one, len(parts))]),
        np.concatenate([[np.inf], np.full(len(m_in), CAP), free]),
        a_ub,
        np.full(len(parts), -(c @ x)),
        csr_array(a_eq),
        np.tile(c, len(parts)),
    ).fun


def test_theorem_1_fails_for_a_device_that_is_on_or_off():
    assert max(on_or_off(seed, convex=True) for seed in range(10)) < TOL
    assert max(on_or_off(seed, convex=False) for seed in range(40)) > CLEAR


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 3 * CAP), (-40.0, CAP)], ids=["no cap", "adders below 0"]
)
def test_theorem_1_fails_for_adders_outside_the_cap(low, high):
    rng = np.random.default_rng(1)
    own = own_programme(random_hubs(rng, 30, 4))
    found = {}
    for name, ends in {"inside": (0, CAP), "outside": (low, high)}.items():
        x = own.minimum(own.cost(rng.uniform(*ends, own.size)))
        phi = own.soft_quota(x[own.at("m_in")], CAP)[0]
        found[name] = own.sums(own.arrays[0] * x) - phi
        regret = own.regret(x, own.closest(x, CAP))  # least of all adders in [0, CAP]
        np.testing.assert_allclose(found[name], regret, atol=TOL)
    assert found["inside"].max() < TOL
    assert found["outside"].max() > CLEAR


# Theorem 2: multipliers of one linear programme are adders, and its schedules answers


def quota_plan(own, grid, exports, cap, overload, slack=True):
    """The linear programme of theorem 2: schedules and adders R' mu, not cut off anywhere."""
    c, a, b, lower, upper = own.arrays
    flow, room = limit_rows(own, grid, imports_only=True)
    n, hours = own.size
    incidence = np.vstack([grid.factor.toarray(), np.ones(n)])
    count = len(room)
    credit = (incidence @ exports).T.ravel()
    at_once = kron(np.eye(hours), incidence)  # columns hour by hour, hub by hub
    price = np.tile(np.append(np.full(len(grid.lines), grid.line_weight),
                              grid.substation_weight), hours)  # fmt: skip
    s = n * hours
    result = lp(
        np.concatenate([c, np.full(s, cap), overload * price]),
        np.concatenate([lower, np.zeros(s + count)]),
        np.concatenate([upper, np.full(s, np.inf if slack else 0.0), np.full(count, np.inf)]),
        csr_array(hstack([flow, -at_once, -eye_array(count)])),
        room + credit,
        csr_array(hstack([a, csr_array((a.shape[0], s + count))])),
        b,
    )
    mu = -result.ineqlin.marginals.reshape(hours, -1).T
    return result.x[: len(c)], incidence.T @ mu


@pytest.mark.parametrize("block", range(10))
def test_theorem_2_one_programme_gives_adders_and_answers(block):
    priced = 0
    for seed in range(100 * block, 100 * block + 51):
        rng = np.random.default_rng(seed)
        benchmark = random_benchmark(seed)
        hubs, grid = random_case(seed)
        own, programme = own_programme(hubs), HubProgramme(hubs)
        exports = rng.uniform(0, 1, own.size) * (rng.random(own.size) < 0.5)
        cap, overload = rng.uniform(5, 120), rng.choice([30.0, 1000.0])
        x, adder = quota_plan(own, grid, exports, cap, overload)
        assert adder.min() > -1e-6, seed
        assert adder.max() < cap + 1e-6, seed
        assert own.regret(x, adder).max() < TOL, seed
        # every optimal schedule is complementary to every optimal multiplier, so also to ours
        ours = quota_adder(programme, grid, exports, cap, overload)
        assert ours.min() >= 0, seed
        assert ours.max() <= cap, seed
        assert own.regret(x, ours).max() < TOL, seed
        assert grid.congestion_mwh(own.withdrawal(x)) >= benchmark.bound_mwh - TOL, seed
        priced += adder.max() > 1
    assert priced >= 35


def test_theorem_2_fails_for_a_withdrawal_that_relieves_a_line():
    lowest, regret = 0.0, 0.0
    for seed in range(40):
        hubs, grid = random_case(seed)
        if len(hubs) == 1:
            continue
        own = own_programme(hubs)
        none = np.zeros(own.size)
        x, adder = quota_plan(own, grid, none, CAP, 1000.0)
        assert own.regret(x, own.closest(x, CAP)).max() < TOL, seed
        factor = grid.factor.toarray()
        factor[0, 1] = -0.5
        grid = replace(grid, factor=csr_array(factor))
        alone = grid.loading_mw(own.withdrawal(own.minimum(own.cost())))[0].max()
        limit = np.append(0.8 * max(alone, 0.0), grid.limit_mw[1:])
        x, adder = quota_plan(own, replace(grid, limit_mw=limit), none, CAP, 1000.0)
        lowest = min(lowest, adder.min())
        regret = max(regret, own.regret(x, own.closest(x, CAP)).max())
    assert lowest < -1
    assert regret > CLEAR, "no adders from 0 to the cap make these schedules answers"


def test_theorem_2_fails_without_slack_at_the_cap():
    highest, regret = 0.0, 0.0
    for seed in range(20):
        hubs, grid = random_case(seed)
        own = own_programme(hubs)
        x, adder = quota_plan(own, grid, np.zeros(own.size), CAP, 1000.0, slack=False)
        highest = max(highest, adder.max())
        regret = max(regret, own.regret(x, own.closest(x, CAP)).max())
    assert highest > CAP + 1
    assert regret > CLEAR, "no adders from 0 to the cap make these schedules answers"


# Theorem 3: when the bound of the benchmark is reached


def cap_that_does_not_bind(benchmark):
    adder = benchmark.grid.incidence.T @ benchmark.import_shadow
    return 1.001 * adder.max() + 0.01


def conditions_met(benchmark):
    """Whether reverse limits and exports leave theorem 3 alone, recomputed."""
    incidence = benchmark.grid.incidence.toarray()
    adder, reverse = (incidence.T @ s for s in (benchmark.import_shadow, benchmark.export_shadow))
    own = own_programme(benchmark.schedule.programme.hubs)
    exports = own.of(benchmark.schedule.x)[own.at("m_out")]
    return np.abs(reverse).max() < 1e-6 and (adder * exports).sum() < 1e-6


@pytest.mark.parametrize("block", range(10))
def test_theorem_3_prices_reach_the_benchmark(block):
    met, relieved, positive = 0, 0, 0
    for seed in range(100 * block, 100 * (block + 1)):
        if met == 51:
            break
        benchmark = random_benchmark(seed)
        cap = cap_that_does_not_bind(benchmark)
        holds = conditions(benchmark, cap)["holds"]
        assert conditions_met(benchmark) == (holds == "yes").all(), f"seed {seed}: {holds}"
        if not conditions_met(benchmark) or cap > 2000:
            continue
        own = own_programme(benchmark.schedule.programme.hubs)
        adder = benchmark.grid.incidence.T @ benchmark.import_shadow
        assert own.regret(own.of(benchmark.schedule.x), adder).max() < TOL, seed
        prices = linear_prices(benchmark, cap_eur_per_mwh=cap)
        prices.certificate.assert_ok()
        x = own.of(prices.answer.schedule.x)
        assert prices.adder_eur_per_mwh.min() >= 0, seed
        assert prices.adder_eur_per_mwh.max() <= cap + 1e-9, seed
        assert own.regret(x, prices.adder_eur_per_mwh).max() < TOL, seed
        congestion = benchmark.grid.congestion_mwh(own.withdrawal(x))
        least = plan(own, benchmark.grid, 0 * own.cost(), 1.0).congestion
        assert congestion == pytest.approx(least, abs=TOL), seed
        assert prices.optimal, seed
        assert "is optimal" in prices.claim, seed
        met += 1
        free = benchmark.grid.congestion_mwh(own.withdrawal(own.minimum(own.cost())))
        relieved += free > congestion + CLEAR
        positive += least > CLEAR
    assert met == 51
    assert relieved >= 45
    assert positive >= 3


FAILURES = {
    "the cap does not bind": 0.7,
    "no reverse limit binds": 0.9,
    "no export where there is an adder": 0.8,
}


@pytest.mark.parametrize("condition", FAILURES)
def test_theorem_3_fails_once_a_condition_is_dropped(condition):
    """One hour, two hubs: the least congestion of any adders by enumeration of breakpoints."""
    for seed in range(400):
        rng = np.random.default_rng(seed)
        hubs = random_hubs(rng, 2, 1)
        grid = random_grid(rng, hubs, FAILURES[condition])
        benchmark = centralised(hubs, grid)
        holds = conditions(benchmark, CAP)["holds"]
        if holds.index[holds == "NO"].tolist() != [condition]:
            continue
        least = least_priced_congestion(hubs, grid, CAP)
        if least > benchmark.congestion_mwh + CLEAR:
            break
    else:
        pytest.fail("no counterexample found")
    prices = linear_prices(benchmark, cap_eur_per_mwh=CAP)
    assert prices.congestion_mwh >= least - TOL
    assert not prices.optimal
    assert condition in prices.claim
    assert "not claimed" in prices.claim


def test_theorem_3_fails_without_the_second_stage():
    """A dear plan of least congestion is an answer to no adders, the cheap one is to some."""
    found = 0
    for seed in range(30):
        benchmark = random_benchmark(seed)
        cap = cap_that_does_not_bind(benchmark)
        if not (conditions(benchmark, cap)["holds"] == "yes").all():
            continue
        programme = benchmark.schedule.programme
        own = own_programme(programme.hubs)
        dear = plan(own, benchmark.grid, -own.cost(), 0.0, benchmark.bound_mwh + 1e-7).x
        cheap = own.of(benchmark.schedule.x)
        assert own.regret(cheap, own.closest(cheap, cap)).max() < TOL, seed
        if own.regret(dear, own.closest(dear, cap)).max() < CLEAR:
            continue
        found += 1
        with pytest.raises(Infeasible):
            cheapest_adder(programme, own.back(dear), cap, AdderWeights())
    assert found > 0
