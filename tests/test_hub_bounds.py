"""Bounds by truncated adders: what the proof needs, and optima that they must not exceed."""

from __future__ import annotations

import numpy as np
import pytest
from hub_cases import own_programme, random_case

from flexlib.bilevel_solve import solve_bilevel
from flexlib.centralised import centralised
from flexlib.hub_bilevel import hub_big_m, priced_hubs
from flexlib.hub_bounds import _least_cost, searched_bound, truncation_bound
from flexlib.hub_followers import followers
from flexlib.hub_programme import HubProgramme
from flexlib.tariffs import no_tariff

CAP = 25.0
SMALL = [1, 11, 14, 20, 21, 23, 25, 27, 34, 35, 38]


def optimum(seed: int) -> float:
    hubs, grid = random_case(seed)
    problem = priced_hubs(hubs, grid, CAP)
    found = solve_bilevel(problem, m=hub_big_m(problem, hubs, CAP), gap=1e-7)
    return problem.value(found.d, found.x)


def test_hubs_are_networks_with_gains() -> None:
    """With the battery's and the hydrogen's rows turned, a column leaves and enters once."""
    a = HubProgramme(random_case(3)[0]).a.toarray()
    a *= np.tile([1, -1, 1, -1], len(a) // 4)[:, None]
    assert ((a > 0).sum(axis=0) <= 1).all()
    assert ((a < 0).sum(axis=0) <= 1).all()


@pytest.mark.parametrize("seed", SMALL)
def test_truncated_adders_explain_an_answer_as_well_as_the_reference(seed: int) -> None:
    """The inequality itself, at random adders and references, with another code's programmes."""
    rng = np.random.default_rng(seed)
    own = own_programme(random_case(seed)[0])
    m_in, m_out = own.at("m_in"), own.at("m_out")
    delta, pi = rng.uniform(0, CAP, (2, *own.size)) * (rng.random((2, *own.size)) < 0.7)
    x = own.minimum(own.cost(delta))
    both = own.cost(pi)
    both[m_out] -= pi
    least = own.sums(both * own.minimum(both)) - (pi * (x[m_in] - x[m_out])).sum(axis=1)
    t = np.minimum(delta, pi)
    assert (own.best(t) - (t * x[m_in]).sum(axis=1) >= least - 1e-6).all()


@pytest.mark.parametrize("seed", SMALL)
def test_least_cost_at_the_reference_pays_for_exports_too(seed: int) -> None:
    """V(pi, pi) of each hub, by another code's programmes."""
    hubs, _ = random_case(seed)
    programme, own = HubProgramme(hubs), own_programme(hubs)
    pi = np.random.default_rng(seed).uniform(0, CAP, own.size)
    cost = own.cost(pi)
    cost[own.at("m_out")] -= pi
    ours = _least_cost(programme, followers(programme, no_tariff(*own.size)), pi.ravel())
    assert ours == pytest.approx(own.sums(cost * own.minimum(cost)), abs=1e-6)
    assert (ours < own.best(pi) + 1e-9).all()


@pytest.mark.parametrize("seed", SMALL)
def test_bounds_do_not_exceed_the_optimum(seed: int) -> None:
    benchmark = centralised(*random_case(seed))
    best = optimum(seed)
    one = truncation_bound(benchmark, cap_eur_per_mwh=CAP)
    more = searched_bound(benchmark, cap_eur_per_mwh=CAP, evaluations=15)
    assert benchmark.bound_mwh - 1e-6 <= more.value <= best + 1e-6
    assert one.value <= more.value
    reference = np.random.default_rng(seed).uniform(0, 2 * CAP, one.reference.shape)
    rough = truncation_bound(benchmark, cap_eur_per_mwh=CAP, reference=reference)
    assert rough.value <= best + 1e-6


def test_bound_is_the_optimum_where_one_hub_is_priced_out_of_all_overloads() -> None:
    found = truncation_bound(centralised(*random_case(14)), cap_eur_per_mwh=CAP)
    assert found.value == pytest.approx(optimum(14), rel=1e-5)


def test_reference_prices_must_be_numbers_from_0() -> None:
    benchmark = centralised(*random_case(1))
    with pytest.raises(ValueError, match="finite numbers from 0"):
        truncation_bound(benchmark, reference=np.full((2, 4), -1.0))
