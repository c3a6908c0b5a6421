"""Inverse programmes: adders for given schedules."""

import numpy as np
import pytest
from hub_cases import TOL, lp, own_programme, random_hubs
from scipy.sparse import csr_array, eye_array, hstack, vstack

from flexlib import Infeasible
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.pricing_inverse import AdderWeights, cheapest_adder, closest_adder

CAP = 60.0
SEEDS = range(30)


def feeders(rng, hours):
    """Four hubs, two on either of two feeders."""
    hubs = random_hubs(rng, 4, hours)
    table = hubs.table.assign(feeder=["first", "first", "second", "second"])
    return Hubs(table, hubs.profiles, hubs.costs)


def value(weights, adder):
    """The leader's regularisation, written out for `feeders`."""
    level = sum(abs(d) for row in adder for d in row)
    smooth = sum(abs(row[t + 1] - row[t]) for row in adder for t in range(len(row) - 1))
    fair = sum(abs(adder[a][t] - adder[b][t]) for a, b in ((0, 1), (2, 3))
               for t in range(len(adder[0])))  # fmt: skip
    return weights.level * level + weights.smooth * smooth + weights.fair * fair


def cheapest(own, x, cap, weights):
    """Least regularisation of all adders without regret, by the dual programme of the hubs.

    Strong duality for every hub instead of complementary slackness for every variable.
    """
    c, a, b, lower, upper = own.arrays
    n, hours = own.size
    m_in = own.at("m_in")
    count, rows, columns = n * hours, len(b), len(c)
    pairs = [(i * hours + t, i * hours + t + 1, weights.smooth)
             for i in range(n) for t in range(hours - 1)]  # fmt: skip
    pairs += [(i * hours + t, (i + 1) * hours + t, weights.fair)
              for i in (0, 2) for t in range(hours)]  # fmt: skip
    change = np.zeros((len(pairs), count))
    for k, (first, second, _) in enumerate(pairs):
        change[k, [first, second]] = -1.0, 1.0
    others = 2 * columns + len(pairs)
    size = eye_array(len(pairs))
    wide = csr_array((len(pairs), rows + 2 * columns))
    gap = np.zeros((n, count + rows + 2 * columns + len(pairs)))
    for i in range(n):
        mine = own.hub == i
        gap[i, i * hours : (i + 1) * hours] = x[m_in[i]]
        gap[i, count : count + rows] = -b * (np.arange(rows) // (rows // n) == i)
        gap[i, count + rows : count + rows + columns] = -lower * mine
        gap[i, count + rows + columns : count + rows + 2 * columns] = upper * mine
    eye, none = eye_array(columns), csr_array((columns, len(pairs)))
    result = lp(
        np.concatenate([np.full(count, weights.level), np.zeros(rows + 2 * columns),
                        [w for *_, w in pairs]]),
        np.concatenate([np.zeros(count), np.full(rows, -np.inf), np.zeros(others)]),
        np.concatenate([np.full(count, cap), np.full(rows + others, np.inf)]),
        csr_array(vstack([csr_array(gap), hstack([csr_array(change), wide, -size]),
                          hstack([csr_array(-change), wide, -size])])),
        np.concatenate([-own.sums(c * x) + 1e-6, np.zeros(2 * len(pairs))]),
        csr_array(hstack([-own.pick("m_in").T, a.T, eye, -eye, none])),
        c,
    )  # fmt: skip
    return result.fun


@pytest.mark.parametrize("seed", SEEDS)
def test_cheapest_adder_is_feasible_and_cheaper_than_any_known_one(seed):
    rng = np.random.default_rng(seed)
    hubs = feeders(rng, int(rng.integers(3, 6)))
    own, programme = own_programme(hubs), HubProgramme(hubs)
    known = rng.uniform(0, CAP, own.size) * (rng.random(own.size) < 0.8)
    x = own.minimum(own.cost(known))
    for weights in (AdderWeights(), AdderWeights(1.0, 0.0, 0.0), AdderWeights(0.1, 1.0, 3.0)):
        adder = cheapest_adder(programme, own.back(x), CAP, weights)
        assert adder.min() >= 0
        assert adder.max() <= CAP + 1e-9
        assert own.regret(x, adder).max() < TOL
        ours = weights.value(adder, hubs.neighbours)
        assert ours == pytest.approx(value(weights, adder), rel=1e-9)
        assert ours <= value(weights, known) + 1e-6
        least = cheapest(own, x, CAP, weights)
        assert ours == pytest.approx(least, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_closest_adder_has_no_regret_where_there_is_none(seed):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 4, int(rng.integers(3, 6)))
    own, programme = own_programme(hubs), HubProgramme(hubs)
    # imports at a quota: such schedules are one of several answers, between bounds
    _, x, known = own.soft_quota(rng.uniform(0, 1.5, own.size), CAP)
    adder = closest_adder(programme, own.back(x), CAP)
    assert adder.min() >= 0
    assert adder.max() <= CAP + 1e-9
    assert own.regret(x, adder).max() < TOL
    assert adder.sum() <= known.sum() + 1e-6


def test_closest_adder_has_the_least_regret_where_there_is_some():
    worst = 0.0
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        hubs = random_hubs(rng, 4, 4)
        own = own_programme(hubs)
        x = own.minimum(own.cost() + 40 * rng.normal(size=len(own.hub)))
        adder = closest_adder(HubProgramme(hubs), own.back(x), CAP)
        least = own.closest(x, CAP)
        regret = own.regret(x, least).sum()
        assert own.regret(x, adder).sum() <= regret + 1e-4 * least.sum() + TOL, seed
        assert own.regret(x, adder).sum() >= regret - TOL, seed
        worst = max(worst, regret)
    assert worst > 1


@pytest.mark.parametrize("seed", range(10))
def test_a_schedule_that_needs_more_than_the_cap_is_refused(seed):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 8, 4)
    own, programme = own_programme(hubs), HubProgramme(hubs)
    x = own.minimum(own.cost(rng.uniform(0, 4 * CAP, own.size)))
    assert own.regret(x, own.closest(x, CAP)).max() > 0.01
    with pytest.raises(Infeasible):
        cheapest_adder(programme, own.back(x), CAP, AdderWeights())
    assert (
        own.regret(x, cheapest_adder(programme, own.back(x), 4 * CAP, AdderWeights())).max() < TOL
    )


def test_schedules_of_one_hour_have_adders():
    hubs = random_hubs(np.random.default_rng(3), 2, 1)
    own, programme = own_programme(hubs), HubProgramme(hubs)
    x = own.minimum(own.cost(30.0))
    for adder in (
        cheapest_adder(programme, own.back(x), CAP, AdderWeights()),
        closest_adder(programme, own.back(x), CAP),
    ):
        assert adder.shape == (2, 1)
        assert own.regret(x, adder).max() < TOL
