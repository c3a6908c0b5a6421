"""The search through the cells against routes that share nothing with it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from feeders import Offered, offered
from scipy.optimize import linprog

from flexlib import (
    Bids,
    DataError,
    Infeasible,
    LightModel,
    NotSettled,
    activate,
    linearise,
    solve,
    voronoi_cells,
)
from flexlib.voronoi_cells import (
    ROW_TOLERANCE,
    CellRows,
    Search,
    border_excess,
    broken_rows,
    loading_excess,
    shared_programme,
    voltage_excess,
    with_rows,
)
from flexlib.voronoi_model import printed_milp
from flexlib.voronoi_points import latin_hypercube

SIGNS = ("up", "down", "both")


def least_cost(model: LightModel, case: Offered, *, printed: bool = False) -> float:
    """Cost of the fast route, infinite where it says that there is no activation."""
    try:
        found = activate(model, case.bids, case.request_kw, printed=printed)
    except Infeasible:
        return np.inf
    found.certificate.assert_ok()
    return found.cost_eur_per_h


def milp_cost(case: Offered) -> float:
    try:
        return solve(printed_milp(case.model, case.bids, case.request_kw)).objective
    except Infeasible:
        return np.inf


def cone_costs(model: LightModel, bids: Bids, request_kw: float) -> np.ndarray:
    """Least cost in each cell with the magnitude of every current limited, by Clarabel."""
    axes, costs = bids.axes, []
    for point, v, dv, i, di in zip(
        model.point, model.v_pu, model.vtdf, model.i_percent, model.di_percent, strict=True
    ):
        up, down = cp.Variable(len(axes), nonneg=True), cp.Variable(len(axes), nonneg=True)
        z = up - down
        v_pu = v + dv @ (z - point)
        rows = [up <= bids.upper, down <= -bids.lower, bids.active.astype(float) @ z == request_kw]
        rows += [100 * v_pu <= 100 * model.v_max_pu, 100 * v_pu >= 100 * model.v_min_pu]
        if len(model.end):
            parts = [part(i) + part(di) @ (z - point) for part in (np.real, np.imag)]
            rows.append(cp.norm(cp.vstack(parts), axis=0) <= 100)
        for other in model.point:
            if (away := np.linalg.norm(other - point)) > 0:
                rows.append((other - point) / away @ (z - (point + other) / 2) <= 0)
        price = axes["price_up"].to_numpy() @ up + axes["price_down"].to_numpy() @ down
        problem = cp.Problem(cp.Minimize(price), rows)
        problem.solve(solver="CLARABEL", tol_gap_rel=1e-10, tol_gap_abs=1e-10, tol_feas=1e-10)
        assert problem.status in ("optimal", "infeasible")
        costs.append(problem.value)
    return np.array(costs)


@cache
def by_cone(seed: int) -> tuple[Offered, np.ndarray]:
    case = offered(seed, SIGNS[seed % 3], pv=seed % 5 == 0)
    return case, cone_costs(case.model, case.bids, case.request_kw)


# --------------------------------------------------------------------------------------------
# Other routes


@pytest.mark.parametrize("first", range(0, 200, 25))
def test_printed_rows_give_the_optimum_of_the_mixed_integer_programme(first: int) -> None:
    seen = []
    for seed in range(first, first + 25):
        case = offered(seed, SIGNS[seed % 2], pv=seed % 5 == 0)
        fast, slow = least_cost(case.model, case, printed=True), milp_cost(case)
        assert fast == pytest.approx(slow, rel=1e-6, abs=1e-6), seed
        seen.append(np.isfinite(fast))
    assert 0 < sum(seen) < len(seen)  # some are infeasible, by both


@pytest.mark.parametrize("seed", range(40))
def test_optimum_is_that_of_the_cone_programmes_of_the_cells(seed: int) -> None:
    case, costs = by_cone(seed)
    assert least_cost(case.model, case) == pytest.approx(costs.min(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_bound_of_a_cell_is_below_its_own_optimum(seed: int) -> None:
    case, costs = by_cone(seed)
    if np.isfinite(costs).any():
        bound = activate(case.model, case.bids, case.request_kw).cell_bound_eur_per_h
        assert bound.shape == costs.shape
        finite = np.isfinite(costs)
        assert (bound[finite] <= costs[finite] + 1e-6 * (1 + np.abs(costs[finite]))).all()
        assert bound.min() == pytest.approx(costs.min(), rel=1e-6, abs=1e-6)


def test_some_optima_are_dearer_than_without_a_grid_and_some_cases_have_none() -> None:
    dearer, none = 0, 0
    for seed in range(40):
        case, costs = by_cone(seed)
        free = solve(shared_programme(case.bids, case.request_kw)).objective
        none += not np.isfinite(costs.min())
        dearer += bool(np.isfinite(costs.min()) and costs.min() > free + 1e-3)
    assert dearer >= 8
    assert none >= 5


@pytest.mark.parametrize("seed", range(12))
def test_random_admissible_activations_are_not_cheaper(seed: int) -> None:
    case = offered(seed, SIGNS[seed % 3])
    model, bids, rng = case.model, case.bids, np.random.default_rng(seed)
    cost = least_cost(model, case)
    for z in bids.lower + rng.random((3000, len(bids.axes))) * (bids.upper - bids.lower):
        z = z + (case.request_kw - z.sum()) / len(z)
        if (z < bids.lower).any() or (z > bids.upper).any():
            continue
        cell = model.nearest(z)
        over = loading_excess(model, cell, z, printed=False).max(initial=0.0)
        if max(over, voltage_excess(model, cell, z).max(initial=0.0)) <= 0:
            assert bids.cost_eur_per_h(z) >= cost - 1e-9 * (1 + abs(cost))


def patterns_cost(model: LightModel, bids: Bids, request_kw: float) -> float:
    """Least cost over every pattern of directions that are on, each a linear programme."""
    axes, best, n = bids.axes, np.inf, len(bids.axes)
    least, most = axes[["min_up", "min_down"]].to_numpy().T, np.array([bids.upper, -bids.lower])
    price = axes[["price_up", "price_down"]].to_numpy().T.ravel()
    switched = np.flatnonzero((least > 0).any(axis=0))
    sum_row = np.concatenate([bids.active, -1.0 * bids.active])[None]
    for on in product((-1, 0, 1), repeat=len(switched)):
        low, high = np.zeros((2, n)), most.copy()
        for k, way in zip(switched, on, strict=True):
            high[:, k] = 0
            if way:
                side = 0 if way > 0 else 1
                low[side, k], high[side, k] = least[side, k], most[side, k]
        bounds = np.column_stack([low.ravel(), high.ravel()])
        for cell in range(len(model.point)):
            a, b = linear_rows(model, cell)
            found = linprog(
                price, np.hstack([a, -a]), b, sum_row, [request_kw], bounds=bounds, method="highs"
            )
            if found.status == 0:
                best = min(best, found.fun)
    return best


def linear_rows(model: LightModel, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """All rows of a cell as printed, (14d) to (14h), written out at once."""
    p, ltdf, vtdf = model.point[cell], model.ltdf[cell], model.vtdf[cell]
    loading = model.loading_percent[cell] - ltdf @ p
    v_pu = model.v_pu[cell] - vtdf @ p
    towards = np.delete(model.point, cell, axis=0) - p
    middle = (np.delete(model.point, cell, axis=0) + p) / 2
    a = np.vstack([ltdf, -ltdf, 100 * vtdf, -100 * vtdf, towards])
    b = [100 - loading, 100 + loading, 100 * (model.v_max_pu - v_pu), 100 * (v_pu - model.v_min_pu)]
    return a, np.concatenate([*b, (towards * middle).sum(axis=1)])


@pytest.mark.parametrize("seed", range(24))
def test_least_activations_against_every_pattern(seed: int) -> None:
    case = offered(seed, "all", points=1 + seed % 3)
    bids = Bids(case.bids.table.iloc[:4])
    connected = replace(case.connected, bids=bids)
    points = np.unique(case.points[:, : len(bids.axes)], axis=0)
    sum_kw = float(0.4 * bids.upper[bids.active].sum() + 0.1 * bids.lower[bids.active].sum())
    model = linearise(connected, points, relief=True)
    best = patterns_cost(model, bids, sum_kw)
    try:
        found = activate(model, bids, sum_kw, printed=True)
    except Infeasible:
        assert best == np.inf
    else:
        found.certificate.assert_ok()
        assert found.cost_eur_per_h == pytest.approx(best, rel=1e-5, abs=1e-5)


# --------------------------------------------------------------------------------------------
# The search itself


def test_the_infeasible_end_names_rows_that_conflict_and_no_more() -> None:
    seen = 0
    for seed in range(20):
        case, costs = by_cone(seed)
        if np.isfinite(costs.min()):
            continue
        with pytest.raises(Infeasible, match="misses by at least") as caught:
            activate(case.model, case.bids, case.request_kw)
        seen += 1
        assert caught.value.conflict
        assert "(14j) request" in caught.value.conflict or len(caught.value.conflict) >= 1
        assert all(name.startswith("(14") for name in caught.value.conflict)
    assert seen >= 3


def test_a_cell_that_cannot_meet_its_rows_ends() -> None:
    """Rows that are missed are not written again and again."""
    case = next(c for c in map(offered, range(60)) if least_cost(c.model, c) == np.inf)
    shared = shared_programme(case.bids, case.request_kw)
    cell, bounds = Search(linearise(case.connected, case.points[:1]), case.bids, shared,
                          elastic=True).best()  # fmt: skip
    assert cell.missed > ROW_TOLERANCE
    assert cell.solved < 50
    assert len(cell.rows.names) < 200
    assert bounds.tolist() == [cell.bound_eur_per_h]


def test_missed_rows_are_missed_by_the_worst_row_exactly() -> None:
    for seed in range(30):
        case = offered(seed, SIGNS[seed % 3], points=1)
        shared = shared_programme(case.bids, case.request_kw)
        cell, _ = Search(case.model, case.bids, shared, elastic=True).best()
        worst = max(
            loading_excess(case.model, 0, cell.z, printed=False).max(initial=0.0),
            voltage_excess(case.model, 0, cell.z).max(initial=0.0),
        )
        assert cell.missed == pytest.approx(worst, abs=2 * ROW_TOLERANCE)


def test_a_penalty_that_is_too_small_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = [by_cone(seed)[1].min() for seed in range(20)]
    monkeypatch.setattr(voronoi_cells, "_PENALTY", 2.0)
    for seed, cost in enumerate(costs):
        case, _ = by_cone(seed)
        if np.isfinite(cost):
            found = Search(
                case.model, case.bids, shared_programme(case.bids, case.request_kw), penalty=1e-7
            ).best()[0]
            assert case.bids.cost_eur_per_h(found.z) == pytest.approx(cost, rel=1e-6, abs=1e-6)


def test_a_solver_that_answers_loosely_does_not_keep_the_search_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = next(
        c
        for c in map(offered, range(60))
        if np.isfinite(least_cost(c.model, c))
        and least_cost(c.model, c) > solve(shared_programme(c.bids, c.request_kw)).objective + 1
    )
    exact = solve

    def loose(*args: object, **options: object) -> object:
        solution = exact(*args, **options)
        x = solution.x * (1 + 1e-5)
        x[-1] = solution.x[-1]
        return replace(solution, x=x)

    monkeypatch.setattr(voronoi_cells, "solve", loose)
    monkeypatch.setattr(voronoi_cells, "_MOST_ROUNDS", 40)
    with pytest.raises(NotSettled, match=r"40 programmes solved, the last with \d+ rows"):
        activate(case.model, case.bids, case.request_kw)


def test_two_hundred_points() -> None:
    case = next(c for c in map(offered, range(60)) if np.isfinite(least_cost(c.model, c)))
    points = latin_hypercube(case.bids, 200, 1, "up")
    model = linearise(case.connected, points)
    found = activate(model, case.bids, case.request_kw)
    found.certificate.assert_ok()
    assert found.cell == model.nearest(found.z) or border_excess(
        model, found.cell, found.z
    ).max() == pytest.approx(0, abs=1e-6)


# --------------------------------------------------------------------------------------------
# Rows and programme


def small_bids(**columns: list[float]) -> Bids:
    table = {"bid": ["a", "b"], "up_max_kw": [10.0, 20.0], "price_up_eur_per_mwh": [50.0, 80.0]}
    return Bids(pd.DataFrame({**table, **columns}))


def plane(points: list[list[float]], **changes: object) -> LightModel:
    """Model of two axes with one voltage and one current, by hand."""
    point = np.array(points)
    axes = pd.DataFrame(
        {
            "axis": ["a", "b"],
            "active": True,
            "kva_per_unit": 1 + 0j,
            "lower": 0.0,
            "upper": [10.0, 20.0],
        }
    )
    m = len(point)
    parts = {
        "axes": axes,
        "request_kw": (0.0, 30.0),
        "point": point,
        "v_pu": 1 + point @ [[0.001], [0.002]],
        "vtdf": np.tile([[[0.001, 0.002]]], (m, 1, 1)),
        "i_percent": (point @ [[6.0], [0.0]]) + 1j * (point @ [[0.0], [2.0]]),
        "di_percent": np.tile([[[6.0 + 0j, 2.0j]]], (m, 1, 1)),
        "v_min_pu": np.array([0.9]),
        "v_max_pu": np.array([1.1]),
        "bus": np.array([3]),
        "end": np.array([7]),
    }
    return LightModel(**{**parts, **changes})  # type: ignore[arg-type]


def test_border_excess_is_the_distance_beyond_the_middle() -> None:
    model = plane([[0, 0], [8, 6]])
    at = np.array([4.0, 3.0])
    assert border_excess(model, 0, at) == pytest.approx([0, 0])
    assert border_excess(model, 0, at * 1.2) == pytest.approx([0, 1])
    assert border_excess(model, 1, at * 1.2) == pytest.approx([-1, 0])


def test_rows_pass_through_what_breaks_them() -> None:
    model, z = plane([[0, 0]], v_max_pu=np.array([1.02])), np.array([20.0, 10.0])
    for printed in (False, True):
        rows = broken_rows(model, 0, z, printed=printed)
        slack = rows.a @ z - rows.upper
        assert dict(zip(rows.names, slack, strict=True))["(14g) bus 3"] == pytest.approx(2.0)
    current = abs(120 + 20j) - 100
    rows = broken_rows(model, 0, z, printed=False)
    assert rows.names == ("(14g) bus 3", "(14e) branch end 7")
    assert (rows.a @ z - rows.upper)[1] == pytest.approx(current)
    for angle in np.linspace(0, 2 * np.pi, 50):  # the tangent holds every admissible current
        inside = np.array([100 * np.cos(angle) / 6, 100 * np.sin(angle) / 2])
        assert rows.a[1] @ inside <= rows.upper[1] + 1e-9
    assert broken_rows(model, 0, z, printed=False, missed=2.1).names == ("(14e) branch end 7",)
    assert broken_rows(model, 0, z, printed=False, missed=22.0).names == ()


def test_lower_voltage_and_reversed_loading_have_their_own_rows() -> None:
    model = plane([[10, 0]], v_min_pu=np.array([1.0]))
    z = np.array([-40.0, 0.0])
    rows = broken_rows(model, 0, z, printed=True)
    assert rows.names == ("(14f) bus 3", "(14d) branch end 7")
    assert rows.a @ z - rows.upper == pytest.approx([4.0, 140.0])
    assert rows.a == pytest.approx(np.array([[-0.1, -0.2], [-6.0, 0.0]]))


def test_at_most_five_rows_of_a_kind_the_worst_first() -> None:
    count = 9
    model = plane(
        [[0, 0]],
        v_pu=np.ones((1, count)),
        vtdf=np.tile([[[0.001, 0.0]]], (1, count, 1)),
        v_min_pu=np.full(count, 0.9),
        v_max_pu=1.1 - 0.01 * np.arange(count),
        bus=np.arange(count),
    )
    rows = broken_rows(model, 0, np.array([150.0, 0.0]), printed=True)
    assert rows.names[:5] == tuple(f"(14g) bus {k}" for k in (8, 7, 6, 5, 4))


def test_the_shared_programme_has_both_directions_and_the_request() -> None:
    bids = small_bids(
        down_max_kw=[0.0, 5.0],
        price_down_eur_per_mwh=[0.0, 10.0],
        q_max_kvar=[0.0, 4.0],
        price_q_eur_per_mvarh=[0.0, 7.0],
    )
    programme = shared_programme(bids, 12.0)
    assert programme.column_names == [
        "a up", "b up", "b reactive up", "a down", "b down", "b reactive down", "missed",
    ]  # fmt: skip
    assert programme.c == pytest.approx([0.05, 0.08, 0.007, 0, 0.01, 0.007, 0])
    assert programme.upper == pytest.approx([10, 20, 4, 0, 5, 4, np.inf])
    assert programme.a.toarray() == pytest.approx(np.array([[1, 1, 0, -1, -1, 0, 0]]))
    assert (programme.row_lower, programme.row_upper) == ([12.0], [12.0])
    assert not programme.integer.any()


def test_trust_region_bounds_the_axes() -> None:
    bids = small_bids()
    found = solve(shared_programme(bids, 12.0, np.array([[0.0, 3.0], [4.0, 20.0]])))
    assert found.x[:2] == pytest.approx([4.0, 8.0])


def test_missed_rows_cost_the_penalty_and_may_be_forbidden() -> None:
    rows = CellRows(np.array([[1.0, 0.0]]), np.array([2.0]), ("row",))
    shared = shared_programme(small_bids(), 25.0)
    found = solve(with_rows(shared, rows, 1.0))
    assert found.x[-1] == pytest.approx(3.0)
    assert found.objective == pytest.approx(5 * 0.05 + 20 * 0.08 + 3.0)
    with pytest.raises(Infeasible, match="row"):
        solve(with_rows(shared, rows, np.inf))


def test_a_request_that_blocks_cannot_add_up_to() -> None:
    blocks = small_bids(min_up_kw=[10.0, 20.0])
    model = plane([[0, 0]])
    assert activate(model, blocks, 30.0).z == pytest.approx([10, 20])
    with pytest.raises(Infeasible, match="request"):
        activate(model, blocks, 15.0)


def test_a_bid_with_a_least_activation_moves_in_one_direction_at_a_time() -> None:
    bids = small_bids(
        down_max_kw=[10.0, 0.0],
        price_up_eur_per_mwh=[50.0, 40.0],
        price_down_eur_per_mwh=[-50.0, 0.0],
        min_up_kw=[4.0, 0.0],
        min_down_kw=[3.0, 0.0],
    )
    model = plane([[0, 0]], axes=plane([[0, 0]]).axes.assign(lower=[-10.0, 0.0]),
                  request_kw=(-10.0, 30.0))  # fmt: skip
    for request_kw, z in ((2.0, [-10.0, 12.0]), (-2.0, [-10.0, 8.0]), (25.0, [5.0, 20.0])):
        found = activate(model, bids, request_kw)
        found.certificate.assert_ok()
        assert found.z == pytest.approx(z)


def test_ties_between_cells_and_points_on_borders() -> None:
    model = plane([[0, 0], [4, 4], [2, 2], [2, 2 + 1e-9]])
    for request_kw in (0.0, 4.0, 8.0, 30.0):
        found = activate(model, small_bids(price_up_eur_per_mwh=[0.0, 0.0]), request_kw)
        found.certificate.assert_ok()
        assert found.cost_eur_per_h == 0


def test_points_that_coincide_are_refused() -> None:
    with pytest.raises(DataError, match="point 0 again"):
        plane([[1, 2], [3, 4], [1, 2]])


def test_no_rows_at_all() -> None:
    none = {
        "v_pu": np.zeros((1, 0)), "vtdf": np.zeros((1, 0, 2)), "v_min_pu": np.zeros(0),
        "v_max_pu": np.zeros(0), "bus": np.zeros(0, int), "end": np.zeros(0, int),
        "i_percent": np.zeros((1, 0), complex), "di_percent": np.zeros((1, 0, 2), complex),
    }  # fmt: skip
    for printed in (False, True):
        found = activate(plane([[0, 0]], **none), small_bids(), 12.0, printed=printed)
        found.certificate.assert_ok()
        assert found.z == pytest.approx([10, 2])


def test_a_border_is_the_plane_half_way_and_comes_before_the_grid() -> None:
    model = plane([[0, 0], [8, 6]], v_max_pu=np.array([1.0]))
    rows = broken_rows(model, 0, np.array([9.0, 9.0]), printed=False)
    assert rows.names == ("(14h) border to 1",)
    assert rows.a == pytest.approx(np.array([[0.8, 0.6]]))
    assert rows.upper == pytest.approx([5.0])
