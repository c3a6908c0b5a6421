"""Method B: both stages against one weighted programme, shadow prices against differences."""

from dataclasses import replace

import numpy as np
import pytest
from hub_cases import (
    TOL,
    grid_congestion,
    own_programme,
    plan,
    random_benchmark,
    random_case,
)
from scipy.sparse import csr_array

from flexlib import DataError
from flexlib.centralised import centralised
from flexlib.hub_instances import reference
from flexlib.hubs import Hubs

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_one_programme_with_a_large_weight(seed):
    benchmark = random_benchmark(seed)
    benchmark.certificate.assert_ok()
    own = own_programme(benchmark.schedule.programme.hubs)
    once = plan(own, benchmark.grid, own.cost(), 1e5)
    x = own.of(benchmark.schedule.x)
    congestion = grid_congestion(benchmark.grid, own.withdrawal(x))
    assert benchmark.congestion_mwh == pytest.approx(congestion, abs=1e-9)
    assert congestion == pytest.approx(once.congestion, abs=TOL)
    assert own.cost() @ x == pytest.approx(own.cost() @ once.x, rel=1e-6)
    assert benchmark.bound_mwh == pytest.approx(congestion, abs=TOL)
    assert benchmark.cost_bound_eur == pytest.approx(own.cost() @ x, rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_stage_two_is_cheaper_than_other_plans_of_least_congestion(seed):
    rng = np.random.default_rng(seed)
    benchmark = random_benchmark(seed)
    own = own_programme(benchmark.schedule.programme.hubs)
    ceiling = benchmark.bound_mwh + 1e-7
    cost = benchmark.schedule.cost_eur.sum()
    first = own.cost() @ plan(own, benchmark.grid, 0 * own.cost(), 1.0).x
    others = [plan(own, benchmark.grid, rng.normal(size=len(own.hub)), 0.0, ceiling).x
              for _ in range(3)]  # fmt: skip
    dearer = [own.cost() @ x - cost for x in others]
    assert first > cost - 1e-3
    assert min(dearer) > -1e-3
    assert max(dearer) > 1


def test_shadow_prices_are_what_one_mw_more_saves():
    """Least cost at a fixed congestion is convex in a limit, so shadow prices are its slopes.

    Where both one-sided differences agree they are the shadow price, elsewhere it lies between.
    """
    agree = {0: 0, 1: 0}
    step = 1e-3
    for seed in range(60):
        benchmark = random_benchmark(seed)
        own = own_programme(benchmark.schedule.programme.hubs)
        ceiling = benchmark.bound_mwh + 1e-9
        shadows = np.stack([benchmark.import_shadow, benchmark.export_shadow])
        assert (shadows >= 0).all()
        k, line, t = np.unravel_index(shadows.argmax(), shadows.shape)
        if seed % 2 and shadows[1].max() > 1:
            k = 1
            line, t = np.unravel_index(shadows[1].argmax(), shadows[1].shape)
        shadow = shadows[k, line, t]
        if not 1 < shadow < 1000:
            continue

        def least(more, own=own, benchmark=benchmark, ceiling=ceiling, at=(k, t, line)):
            room = np.zeros((2, *benchmark.import_shadow.T.shape))
            room[at] = more
            x = plan(own, benchmark.grid, own.cost(), 0.0, ceiling, room.ravel()).x
            return own.cost() @ x

        now, more = least(0.0), least(step)
        saved = (now - more) / step
        assert saved < shadow + 0.05, seed
        try:
            less = (least(-step) - now) / step
        except ValueError:  # the congestion cannot be kept with less room
            continue
        assert less > shadow - 0.05, seed
        if less - saved < 0.1:
            assert saved == pytest.approx(shadow, abs=0.1), seed
            agree[k] += 1
    assert agree[0] >= 10
    assert agree[1] >= 1


def test_order_of_the_hubs_does_not_matter():
    for seed in range(12):
        benchmark = random_benchmark(seed)
        hubs, grid = random_case(seed)
        order = np.random.default_rng(seed).permutation(len(hubs))
        other = Hubs(hubs.table.iloc[order].reset_index(drop=True), hubs.profiles, hubs.costs)
        turned = centralised(other, replace(grid, factor=csr_array(grid.factor[:, order])))
        assert turned.congestion_mwh == pytest.approx(benchmark.congestion_mwh, abs=TOL)
        assert turned.schedule.cost_eur.sum() == pytest.approx(
            benchmark.schedule.cost_eur.sum(), rel=1e-6
        )


def test_weights_decide_where_congestion_stays():
    """With one line and a substation of which only one can be relieved, the heavier one is."""
    hubs, grid = reference(3, 24, 0.5)
    values = {}
    for line, substation in ((1.0, 1.0), (5.0, 1.0), (1.0, 5.0)):
        weighted = replace(grid, line_weight=line, substation_weight=substation)
        benchmark = centralised(hubs, weighted)
        over = weighted.overload_mw(benchmark.schedule.w_mw).sum(axis=1)
        values[line, substation] = over[:-1].sum(), over[-1]
        assert benchmark.congestion_mwh == pytest.approx(
            line * over[:-1].sum() + substation * over[-1], abs=1e-9
        )
        once = plan(own_programme(hubs), weighted, own_programme(hubs).cost(), 1e5)
        assert benchmark.congestion_mwh == pytest.approx(once.congestion, abs=TOL)
    assert values[5.0, 1.0][0] <= values[1.0, 1.0][0] + TOL
    assert values[1.0, 5.0][1] <= values[1.0, 1.0][1] + TOL


def test_bound_and_certificate_of_the_reference_case():
    benchmark = centralised(*reference(3, 24, 0.5))
    benchmark.certificate.assert_ok()
    assert 0 < benchmark.bound_mwh <= benchmark.congestion_mwh + 1e-9
    worse = replace(benchmark, congestion_mwh=benchmark.congestion_mwh + 0.01)
    assert not worse.certificate.ok
    dear = replace(benchmark, cost_bound_eur=benchmark.cost_bound_eur - 1)
    assert not dear.certificate.ok


def test_a_grid_for_other_hubs_is_refused():
    hubs, _ = reference(3, 24, 0.6)
    _, grid = reference(2, 24, 0.6)
    with pytest.raises(DataError, match="hub"):
        centralised(hubs, grid)
