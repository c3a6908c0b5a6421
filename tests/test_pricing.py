"""Prices from one linear programme: the theorems, tried on random instances."""

from dataclasses import replace

import numpy as np
import pytest
from hub_cases import random_grid, random_hubs
from scipy.sparse import csr_array, eye_array, hstack

from flexlib import DataError
from flexlib.centralised import centralised
from flexlib.hub_followers import followers
from flexlib.hub_instances import reference
from flexlib.hub_programme import HubProgramme
from flexlib.pricing import best_answer, linear_prices
from flexlib.pricing_inverse import AdderWeights, cheapest_adder
from flexlib.solver import solve
from flexlib.tariffs import Tariff, no_tariff

CAP = 60.0


def soft_quota(programme, quota, cap):
    """phi of theorem 1: least cost with imports beyond a quota priced at the cap."""
    own = followers(programme, no_tariff(*programme.shape[:2]))
    m_in = programme.column("m_in").ravel()
    n = len(m_in)
    pick = csr_array((np.ones(n), (np.arange(n), m_in)), shape=(n, len(own.c)))
    return solve(
        replace(
            own,
            c=np.concatenate([own.c, np.full(n, cap)]),
            a=csr_array(
                np.vstack(
                    [
                        hstack([own.a, csr_array((own.a.shape[0], n))]).toarray(),
                        hstack([pick, -eye_array(n)]).toarray(),
                    ]
                )
            ),
            row_lower=np.concatenate([own.row_lower, np.full(n, -np.inf)]),
            row_upper=np.concatenate([own.row_upper, quota.ravel()]),
            lower=np.concatenate([own.lower, np.zeros(n)]),
            upper=np.concatenate([own.upper, np.full(n, np.inf)]),
            row_names=[*own.row_names, *["quota"] * n],
            column_names=[*own.column_names, *["beyond"] * n],
            integer=np.zeros(len(own.c) + n, bool),
        )
    )


@pytest.mark.parametrize("seed", range(20))
def test_an_answer_to_an_adder_is_a_soft_quota_and_back(seed):
    rng = np.random.default_rng(seed)
    programme = HubProgramme(random_hubs(rng, 1, 5))
    adder = rng.uniform(0, CAP, programme.shape[:2]) * (rng.random(programme.shape[:2]) < 0.7)
    x = solve(followers(programme, Tariff(adder))).x
    quota = soft_quota(programme, x[programme.column("m_in")], CAP)
    assert programme.cost @ x == pytest.approx(quota.objective, abs=1e-6)
    found = cheapest_adder(programme, x, CAP, AdderWeights())
    assert (found >= -1e-9).all()
    assert (found <= CAP + 1e-9).all()
    best = solve(followers(programme, Tariff(found))).objective
    assert followers(programme, Tariff(found)).c @ x == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_linear_prices_are_bilevel_feasible_and_bounded_by_b(seed):
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, 3, 5)
    grid = random_grid(rng, hubs, 0.7)
    prices = linear_prices(centralised(hubs, grid), cap_eur_per_mwh=CAP)
    prices.certificate.assert_ok()
    assert prices.gap_mwh >= -1e-6


def test_reference_case_reaches_the_bound():
    hubs, grid = reference(2, 6, 0.6)
    assert linear_prices(
        centralised(hubs, grid), cap_eur_per_mwh=CAP
    ).congestion_mwh == pytest.approx(0, abs=1e-6)
    assert centralised(hubs, grid).bound_mwh == pytest.approx(0, abs=1e-6)


def test_negative_entry_of_the_grid_is_refused():
    hubs, grid = reference()
    factor = grid.factor.toarray()
    factor[2, 0] = -0.3
    with pytest.raises(DataError, match=r"line_3.*hub_1.*-0.3"):
        linear_prices(centralised(hubs, replace(grid, factor=csr_array(factor))))


def test_answer_without_adder_is_method_a():
    hubs, grid = reference()
    free = best_answer(HubProgramme(hubs), grid, no_tariff(3, 24))
    assert grid.congestion_mwh(free.schedule.w_mw) == pytest.approx(34.105, abs=1e-3)
