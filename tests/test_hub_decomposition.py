"""Decomposition over the substation's price: against one programme for all hubs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flexlib import hub_decomposition
from flexlib.centralised import centralised
from flexlib.errors import DataError
from flexlib.hub_decomposition import decomposed_bound_mwh, decomposed_prices
from flexlib.hub_grid import HubGrid
from flexlib.hub_instances import many_feeders
from flexlib.hub_parts import part_answer, part_plan, parts
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.quadratic_pricing import QuadraticHubs, quadratic_quotas
from flexlib.quadratic_program import solve_quadratic
from flexlib.sweep import workers

CAP = 60.0


@pytest.fixture(scope="module")
def client():
    with workers(count=1) as client:
        yield client


def tight(feeders: int, level: float, share: float) -> tuple[Hubs, HubGrid]:
    """Feeders with a lower import limit, at which the substation has a price."""
    hubs, grid = many_feeders(feeders, level)
    return hubs, replace(grid, import_mw=share * grid.import_mw)


def test_parts_hold_every_hub_and_every_row_once() -> None:
    hubs, grid = many_feeders(30, 0.6)
    whole = parts(hubs, grid, 30)
    assert [len(part.hubs) for part in whole] == [30, 30, 30]
    np.testing.assert_array_equal(np.concatenate([p.members for p in whole]), np.arange(90))
    assert sorted(line for p in whole for line in p.grid.lines) == sorted(grid.lines)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(90, 24))
    of_lines = sum(p.grid.congestion_mwh(w[p.members]) for p in whole)
    alone = replace(grid, import_mw=np.inf, export_mw=np.inf)
    assert of_lines == pytest.approx(alone.congestion_mwh(w), rel=1e-12)
    assert [len(part.hubs) for part in parts(hubs, grid, 89)] == [60, 30]
    assert len(parts(hubs, grid, 1)) == 3  # a trunk's feeders cannot be told apart


def test_dual_function_is_below_the_programme_and_its_gradient_right() -> None:
    hubs, grid = tight(10, 0.6, 0.8)
    (part,) = parts(hubs, grid)
    programme = HubProgramme(hubs)
    none = np.zeros((30, 24))
    least = solve_quadratic(*quadratic_quotas(programme, grid, none, CAP)).objective
    rng = np.random.default_rng(1)
    for _ in range(5):
        price = rng.uniform(0, 30, 24)
        plan = part_plan(part, price, CAP, np.inf)
        assert plan["value_eur"] - grid.import_mw * price.sum() <= least * (1 + 1e-9)
        move = rng.normal(size=24)
        up, down = (
            part_plan(part, price + sign * 1e-3 * move, CAP, np.inf)["value_eur"]
            for sign in (1, -1)
        )
        assert (up - down) / 2e-3 == pytest.approx(plan["quota_mw"] @ move, rel=1e-4)


@pytest.mark.parametrize(("level", "share"), [(0.6, 0.8), (0.5, 0.7)])
def test_prices_are_those_of_one_programme(client, tmp_path: Path, level, share) -> None:
    hubs, grid = tight(20, level, share)
    found = decomposed_prices(client, hubs, grid, tmp_path, most_hubs=30, progress=False)
    found.certificate.assert_ok()
    assert found.unbalanced <= 1e-5
    assert found.substation_eur_per_mwh.max() > 1  # the coupling is at work
    assert found.evaluations > 1
    programme, none = HubProgramme(hubs), np.zeros((len(hubs), 24))
    overload = found.overload_eur_per_mwh
    assert np.isfinite(overload) == (level == 0.5)
    x = solve_quadratic(*quadratic_quotas(programme, grid, none, CAP, overload)).x
    w = programme.withdrawal_mw(x[: len(programme.cost)])
    np.testing.assert_allclose(found.w_mw, w, atol=2e-3)
    slack = 1e-4 * grid.import_mw
    assert found.congestion_mwh == pytest.approx(grid.congestion_mwh(w), rel=1e-4, abs=slack)
    assert found.congestion_mwh == pytest.approx(grid.congestion_mwh(found.w_mw), rel=1e-12)
    answer = QuadraticHubs(hubs, grid, CAP)(found.adder_eur_per_mwh)
    np.testing.assert_allclose(found.w_mw, answer.schedule.w_mw, atol=1e-6)


def test_steps_relieve_and_nothing_is_computed_twice(client, tmp_path: Path) -> None:
    hubs, grid = tight(20, 0.5, 0.95)
    case = {"most_hubs": 30, "progress": False}
    before = decomposed_prices(client, hubs, grid, tmp_path, **case)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    after = decomposed_prices(client, hubs, grid, tmp_path, steps=3, **case)
    assert after.congestion_mwh < 0.99 * before.congestion_mwh
    after.certificate.assert_ok()
    assert all(path.stat().st_mtime_ns == then for path, then in written.items())
    assert len(list(tmp_path.rglob("*.npz"))) == len(written) + 2


def test_bound_is_below_the_benchmark_and_close(client, tmp_path: Path) -> None:
    hubs, grid = tight(20, 0.5, 0.95)
    bound = decomposed_bound_mwh(client, hubs, grid, tmp_path, most_hubs=30, progress=False)
    least = centralised(hubs, grid).congestion_mwh
    assert 0.9 * least < bound <= least * (1 + 1e-9)


def test_a_share_of_the_import_is_a_limit_of_the_part() -> None:
    hubs, grid = many_feeders(10, 0.5)
    (part,) = parts(hubs, grid)
    adder = np.full((30, 24), 5.0)
    free = part_answer(part, adder, CAP, np.full(24, np.inf), 0)
    total = free["w_mw"].sum(axis=0)
    same = part_answer(part, adder, CAP, total + 1, 0)
    np.testing.assert_allclose(same["w_mw"], free["w_mw"], atol=1e-9)
    kept = part_answer(part, adder, CAP, np.minimum(total, 0.7 * total.max()), 8)
    more = np.maximum(kept["w_mw"].sum(axis=0) - 0.7 * total.max(), 0).sum()
    assert more < 0.9 * np.maximum(total - 0.7 * total.max(), 0).sum()


def test_newton_steps_find_the_best_price_of_a_known_function(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(6, 6))
    hessian, top = root @ root.T + np.eye(6), rng.uniform(-2, 6, 6)

    def planned(price, _):
        gap = price - top
        return {"part-0": {"value_eur": -0.5 * gap @ hessian @ gap + 10 * price.sum(),
                           "quota_mw": 10 - hessian @ gap}}  # fmt: skip

    found = hub_decomposition._maximised(planned, 10.0, np.zeros(6), 4.0, lambda _: np.eye(6))
    gradient = -hessian @ (found.price - top)
    assert found.unbalanced <= 1e-5
    assert ((found.price >= -1e-9) & (found.price <= 4 + 1e-9)).all()
    assert gradient[found.price < 4 - 1e-2].max(initial=0.0) < 1e-3
    assert gradient[found.price > 1e-2].min(initial=0.0) > -1e-3
    monkeypatch.setattr(hub_decomposition, "_EVALUATIONS", 2)
    early = hub_decomposition._maximised(planned, 10.0, np.zeros(6), 4.0, lambda _: np.eye(6))
    assert early.evaluations == 2
    assert early.unbalanced > 1e-5  # said, not hidden


def test_a_row_that_a_withdrawal_relieves_is_refused_by_name(client, tmp_path: Path) -> None:
    hubs, grid = many_feeders(1, 0.6)
    factor = grid.factor.tolil()
    factor[0, 0] = -1.0
    with pytest.raises(DataError, match=grid.lines[0]):
        decomposed_prices(
            client, hubs, replace(grid, factor=factor.tocsr()), tmp_path, progress=False
        )


def test_no_import_limit_means_no_price(client, tmp_path: Path) -> None:
    hubs, grid = many_feeders(2, 0.6)
    grid = replace(grid, import_mw=np.inf)
    found = decomposed_prices(client, hubs, grid, tmp_path, progress=False)
    assert found.evaluations == 1
    assert found.substation_eur_per_mwh.max() < 1e-6
    one = QuadraticHubs(hubs, grid, CAP)(found.adder_eur_per_mwh)
    assert found.congestion_mwh == pytest.approx(one.congestion_mwh, abs=1e-6)
