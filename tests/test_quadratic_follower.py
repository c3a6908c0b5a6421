"""Quadratic followers: answers, derivatives at kinks and away from them, hubs, what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import diffcp
import numpy as np
import pytest
from follower_draws import by_clarabel, drawn, filled, with_kinks
from scipy.linalg import block_diag
from scipy.sparse import csc_matrix, csr_array, eye_array, vstack
from test_hub_bilevel import CAP
from test_hub_bilevel_quadratic import Follower as Hubs13

from flexlib import DataError, Infeasible, NotProven, SolveError, quadratic_follower
from flexlib.bilevel import Follower
from flexlib.hub_instances import reference
from flexlib.hub_programme import HubProgramme
from flexlib.quadratic_exact import exact_quadratic_prices
from flexlib.quadratic_follower import QuadraticAnswer, QuadraticFollower
from flexlib.quadratic_pricing import QuadraticHubs, hub_follower, quadratic_prices

TOL = 1e-6
SEEDS = range(60)


@cache
def answered(seed: int) -> QuadraticAnswer:
    follower, d = drawn(seed)
    return QuadraticFollower(follower).answer(d)


def one_sided(answer: QuadraticAnswer, way: np.ndarray) -> np.ndarray | None:
    """Difference quotient of the answer in one direction; none where a kink is near."""
    follower = QuadraticFollower(answer.follower)
    try:
        near, far = (follower.answer(answer.d + step * way).x for step in (5e-4, 1e-3))
    except (Infeasible, NotProven, SolveError):
        return None
    slope = (far - answer.x) / 1e-3
    return slope if np.abs(slope - (near - answer.x) / 5e-4).max() < 1e-5 else None


@pytest.mark.parametrize("seed", SEEDS)
def test_answer_is_that_of_clarabel_with_multipliers_that_prove_it(seed):
    answer = answered(seed)
    f, d, x = answer.follower, answer.d, answer.x
    answer.certificate.assert_ok()
    np.testing.assert_allclose(x, by_clarabel(f, d), atol=2e-4)
    # Stationarity and complementarity, written once more.
    slope = f.c + f.c_leader @ d + f.q @ x
    slope -= f.a.T @ answer.equation_dual + f.g.T @ answer.row_dual
    np.testing.assert_allclose(answer.reduced, slope, atol=1e-12)
    inside = (x > f.lower + 1e-5) & (x < f.upper - 1e-5)
    assert np.abs(slope[inside]).max(initial=0.0) < TOL
    at_lower = (x < f.lower + 1e-9) & (f.lower < f.upper)
    at_upper = (x > f.upper - 1e-9) & (f.lower < f.upper)
    assert slope[at_lower].min(initial=0.0) > -TOL
    assert slope[at_upper].max(initial=0.0) < TOL
    room = f.h - f.g_leader @ d - f.g @ x
    assert answer.row_dual.max(initial=0.0) < TOL
    assert np.abs(answer.row_dual[room > 1e-6]).max(initial=0.0) == 0.0
    np.testing.assert_array_equal(answer.tight, ~inside)
    np.testing.assert_array_equal(answer.tight_rows, room < 1e-9)


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_multipliers_are_slopes_of_the_least_cost(seed):
    """For one unit more on the right-hand side of an equation or a row, by central differences."""
    answer, step = answered(seed), 1e-5
    f, d = answer.follower, answer.d
    for name, dual in (("b", answer.equation_dual), ("h", answer.row_dual)):
        for k in range(len(dual)):
            values = []
            for way in (step, -step):
                more = getattr(f, name).copy()
                more[k] += way
                other = QuadraticFollower(replace(f, **{name: more})).answer(d)
                values.append(f.cost(d, other.x))
            assert dual[k] == pytest.approx((values[0] - values[1]) / 2 / step, abs=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_forward_and_adjoint_against_differences(seed):
    answer, rng = answered(seed), np.random.default_rng(seed)
    assert not answer.weak.any()
    assert not answer.weak_rows.any()
    ways = rng.normal(size=(3, len(answer.d)))
    moved = answer.forward(ways.T)
    assert moved.shape == (len(answer.x), 3)
    seen = 0
    for way, change in zip(ways, moved.T, strict=True):
        np.testing.assert_allclose(answer.forward(way), change, atol=1e-12)
        sides = [one_sided(answer, way), one_sided(answer, -way)]
        if all(side is not None for side in sides):
            np.testing.assert_allclose(change, (sides[0] - sides[1]) / 2, atol=1e-5)
            seen += 1
        np.testing.assert_allclose(answer.directional(way), change, atol=1e-4)
        value = rng.normal(size=len(answer.x))
        assert answer.adjoint(value) @ way == pytest.approx(value @ change, abs=1e-8)
    assert seen or len(answer.x) == answer.tight.sum() + len(answer.follower.b)


def cone(f: Follower, d: np.ndarray) -> tuple[csc_matrix, np.ndarray, np.ndarray, dict]:
    """The follower as diffcp takes it, with a last column t from 1/2 x'Qx as a second-order cone.

    Fixed variables have equations, so that rows do not depend on each other.
    """
    n, fixed = len(f.c), f.lower == f.upper
    low, high = np.isfinite(f.lower) & ~fixed, np.isfinite(f.upper) & ~fixed
    eye, root = np.eye(n), np.linalg.cholesky(f.q.toarray()).T
    linear = np.vstack([f.a.toarray(), eye[fixed], f.g.toarray(), -eye[low], eye[high]])
    a = block_diag(linear, np.array([[-1.0], [1.0]]))  # 1 + t, 1 - t: |root x|^2 <= 2 t
    a = np.vstack([a, np.hstack([-np.sqrt(2) * root, np.zeros((n, 1))])])
    b = [f.b - f.a_leader @ d, f.lower[fixed], f.h - f.g_leader @ d, -f.lower[low], f.upper[high]]
    b += [np.ones(2), np.zeros(n)]
    zero = len(f.b) + int(fixed.sum())
    cones = {"z": zero, "l": len(linear) - zero, "q": [n + 2]}
    return csc_matrix(a), np.concatenate(b), np.append(f.c + f.c_leader @ d, 1.0), cones


def by_diffcp(
    f: Follower, d: np.ndarray, way: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answer, its change in one direction, and the gradient of a linear function of it."""
    a, b, c, cones = cone(f, d)
    n = len(f.c)
    x, y, s, derivative, adjoint = diffcp.solve_and_derivative(
        a, b, c, cones, mode="dense", solve_method="Clarabel",
        tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12,
    )  # fmt: skip
    _, other_b, other_c, _ = cone(f, d + way)
    moved = derivative(0 * a, other_b - b, other_c - c)[0]
    _, db, dc = adjoint(np.append(value, 0.0), np.zeros_like(y), np.zeros_like(s))
    gradient = np.zeros(len(d))
    for k, unit in enumerate(np.eye(len(d))):
        _, unit_b, unit_c, _ = cone(f, d + unit)
        gradient[k] = db @ (unit_b - b) + dc @ (unit_c - c)
    return x[:n], moved[:n], gradient


@pytest.mark.parametrize("seed", range(0, 60, 2))
def test_forward_and_adjoint_against_diffcp(seed):
    answer, rng = answered(seed), np.random.default_rng(seed)
    way, value = rng.normal(size=len(answer.d)), rng.normal(size=len(answer.x))
    x, moved, gradient = by_diffcp(answer.follower, answer.d, way, value)
    np.testing.assert_allclose(answer.x, x, atol=1e-5)
    np.testing.assert_allclose(answer.forward(way), moved, atol=1e-3)
    np.testing.assert_allclose(answer.adjoint(value), gradient, atol=1e-3)


def test_hubs_against_diffcp():
    rng, programme = np.random.default_rng(0), HubProgramme(reference(2, 6)[0])
    f = hub_follower(programme)
    d = rng.uniform(0, 40, 12)
    answer = QuadraticFollower(f).answer(d)
    way, value = rng.normal(size=12), rng.normal(size=len(f.c))
    x, moved, gradient = by_diffcp(f, d, way, value)
    np.testing.assert_allclose(answer.x, x, atol=1e-5)
    assert np.abs(moved).max() > 0.01
    np.testing.assert_allclose(answer.forward(way), moved, atol=1e-4)
    np.testing.assert_allclose(answer.adjoint(value), gradient, atol=1e-4)


@cache
def kinked(seed: int) -> tuple[QuadraticAnswer, dict[str, np.ndarray]]:
    follower, kinks = with_kinks(answered(seed), seed)
    return QuadraticFollower(follower).answer(answered(seed).d), kinks


@pytest.mark.parametrize("seed", SEEDS)
def test_weakly_active_bounds_and_rows_are_found(seed):
    answer, kinks = kinked(seed)
    np.testing.assert_allclose(answer.x, answered(seed).x, atol=1e-9)
    np.testing.assert_array_equal(answer.weak, kinks["lower"] | kinks["upper"])
    np.testing.assert_array_equal(answer.weak_rows, kinks["rows"])
    assert answer.tight[answer.weak].all()
    assert answer.tight_rows[answer.weak_rows].all()


@pytest.mark.parametrize("seed", SEEDS)
def test_at_a_kink_forward_is_the_derivative_at_costs_nearby(seed):
    """Costs raised towards what is weakly active: the same answer, and nothing weakly active."""
    answer, kinks = kinked(seed)
    f, rng, size = answer.follower, np.random.default_rng(seed), 1e-3
    for _ in range(2):  # whatever the direction in which the multipliers are raised
        up = rng.uniform(0.5, 1.5, len(f.c)) * (kinks["lower"] * 1.0 - kinks["upper"] * 1.0)
        up -= f.g.T @ (rng.uniform(0.5, 1.5, len(f.h)) * kinks["rows"])
        near = QuadraticFollower(replace(f, c=f.c + size * up)).answer(answer.d)
        np.testing.assert_allclose(near.x, answer.x, atol=1e-9)
        assert not near.weak.any()
        assert not near.weak_rows.any()
        way, value = rng.normal(size=len(answer.d)), rng.normal(size=len(f.c))
        np.testing.assert_allclose(answer.forward(way), near.forward(way), atol=1e-8)
        np.testing.assert_allclose(answer.adjoint(value), near.adjoint(value), atol=1e-8)


def test_at_a_kink_directional_is_the_one_sided_difference():
    """In both directions, which differ; the two sides of some are met."""
    seen = two_sided = 0
    for seed in SEEDS:
        answer, kinks = kinked(seed)
        rng = np.random.default_rng(seed)
        if not any(kind.any() for kind in kinks.values()):
            continue
        for way in rng.normal(size=(2, len(answer.d))):
            sides = []
            for sign in (1, -1):
                slope = one_sided(answer, sign * way)
                if slope is not None:
                    found = answer.directional(sign * way)
                    np.testing.assert_allclose(found, slope, atol=1e-4, err_msg=f"{seed}")
                    sides.append(found)
                    seen += 1
            two_sided += len(sides) == 2 and np.abs(sides[0] + sides[1]).max() > 1e-2
    assert seen > 100
    assert two_sided > 30


def one(lower: float, upper: float) -> QuadraticFollower:
    """Minimise x^2 + d x: x = -d/2 between its bounds."""
    follower = Follower(
        c=np.zeros(1), lower=np.array([lower]), upper=np.array([upper]),
        q=csr_array([[2.0]]), c_leader=csr_array([[1.0]]),
    )  # fmt: skip
    return QuadraticFollower(filled(follower, 1))


def test_one_variable_by_hand():
    up, down = np.array([1.0]), np.array([-1.0])
    for follower, at, falls, grows in (
        (one(-1.0, 3.0), 2.0, 0.0, 0.5),  # at its lower bound from d = 2
        (one(-3.0, 1.0), -2.0, -0.5, 0.0),  # at its upper bound to d = -2
        (one(-3.0, 3.0), 2.0, -0.5, 0.5),
    ):
        answer = follower.answer(np.array([at]))
        assert answer.x[0] == pytest.approx(-at / 2, abs=1e-12)
        np.testing.assert_allclose(answer.directional(up), [falls], atol=TOL)
        np.testing.assert_allclose(answer.directional(down), [grows], atol=TOL)
        weak = -falls != grows
        assert answer.weak.tolist() == [weak]
        assert answer.forward(up)[0] == (0.0 if weak else pytest.approx(-0.5))
        assert answer.adjoint(np.ones(1))[0] == (0.0 if weak else pytest.approx(-0.5))
    # Just within and just beyond a piece.
    assert one(-1.0, 3.0).answer(np.array([2.01])).forward(up)[0] == 0.0
    assert one(-1.0, 3.0).answer(np.array([1.99])).forward(up)[0] == pytest.approx(-0.5)


@pytest.mark.parametrize("seed", range(20))
def test_equations_that_depend_on_each_other(seed):
    """The same answer and derivative as without the superfluous ones."""
    f, d = drawn(seed)
    if not len(f.b):
        f = replace(
            f, a=csr_array(np.ones((1, len(f.c)))), b=np.zeros(1) + 0.1,
            a_leader=csr_array((1, len(d))), equation_names=["sum"],
        )  # fmt: skip
    alone = QuadraticFollower(f).answer(d)
    mix = np.vstack([np.eye(len(f.b)), 2.0 * np.ones(len(f.b)), -np.eye(len(f.b))[:1]])
    names = [f"equation {k}" for k in range(len(mix))]
    more = replace(
        f, a=csr_array(mix @ f.a), b=mix @ f.b, a_leader=csr_array(mix @ f.a_leader),
        equation_names=names,
    )  # fmt: skip
    answer = QuadraticFollower(more).answer(d)
    answer.certificate.assert_ok()
    np.testing.assert_allclose(answer.x, alone.x, atol=1e-7)
    rng = np.random.default_rng(seed)
    way, value = rng.normal(size=len(d)), rng.normal(size=len(f.c))
    np.testing.assert_allclose(answer.forward(way), alone.forward(way), atol=1e-5)
    np.testing.assert_allclose(answer.adjoint(value), alone.adjoint(value), atol=1e-5)
    np.testing.assert_allclose(answer.directional(way), alone.directional(way), atol=1e-4)


def test_fixed_variables_do_not_move_and_are_not_weak():
    for seed in range(0, 60, 4):
        answer = answered(seed)
        assert answer.follower.lower[0] == answer.follower.upper[0] == answer.x[0]
        assert answer.tight[0]
        assert answer.forward(np.ones(3))[0] == 0.0
        c = answer.follower.c.copy()
        c[0] -= answer.reduced[0]  # so that its multiplier vanishes
        other = QuadraticFollower(replace(answer.follower, c=c)).answer(answer.d)
        assert abs(other.reduced[0]) < TOL
        assert not other.weak[0]
        assert other.directional(np.ones(3))[0] == 0.0


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_a_guess_changes_nothing_but_the_time(seed):
    f, d = drawn(seed)
    follower, exact, rng = QuadraticFollower(f), answered(seed), np.random.default_rng(seed)
    point = exact.x, exact.equation_dual, exact.row_dual
    wrong = tuple(part + 10 * rng.normal(size=len(part)) for part in point)
    for guess in (point, tuple(part + 1e-4 for part in point), wrong):
        answer = follower.answer(d, guess)
        answer.certificate.assert_ok()
        np.testing.assert_allclose(answer.x, exact.x, atol=TOL)
        np.testing.assert_array_equal(answer.tight, exact.tight)
        np.testing.assert_array_equal(answer.tight_rows, exact.tight_rows)
        np.testing.assert_allclose(answer.forward(d), exact.forward(d), atol=TOL)


def test_a_right_guess_does_without_the_interior_point(monkeypatch):
    f, d = drawn(1)
    follower, exact = QuadraticFollower(f), answered(1)
    point = exact.x, exact.equation_dual, exact.row_dual
    monkeypatch.setattr(follower, "_parts", None)
    np.testing.assert_allclose(follower.answer(d, point).x, exact.x, atol=1e-9)
    with pytest.raises(TypeError):  # with the interior point it would have to be asked
        follower.answer(d)
    kink, kinks = kinked(1)
    assert any(kind.any() for kind in kinks.values())
    follower = QuadraticFollower(kink.follower)
    monkeypatch.setattr(follower, "_parts", None)
    alone = answered(1)
    guess = alone.x, alone.equation_dual, np.append(alone.row_dual, 0.0)[: len(kink.row_dual)]
    again = follower.answer(d, guess)
    np.testing.assert_array_equal(again.weak, kink.weak)
    np.testing.assert_array_equal(again.weak_rows, kink.weak_rows)


def test_one_follower_for_many_decisions():
    """What was asked before leaves no trace."""
    f, d = drawn(2)
    follower, rng = QuadraticFollower(f), np.random.default_rng(0)
    for _ in range(10):
        way = d + 0.05 * rng.normal(size=len(d))
        try:
            found = follower.answer(way).x
        except (Infeasible, NotProven):
            continue
        np.testing.assert_allclose(found, QuadraticFollower(f).answer(way).x, atol=TOL)
    np.testing.assert_allclose(follower.answer(d).x, answered(2).x, atol=TOL)


@pytest.mark.parametrize("seed", range(0, 60, 5))
def test_the_certificate_fails_for_what_is_not_the_answer(seed):
    answer, rng = answered(seed), np.random.default_rng(seed)
    f, wrong = answer.follower, 1e-4
    way = rng.normal(size=len(answer.x))

    def failed(**parts: np.ndarray) -> set[str]:
        return {c.name for c in replace(answer, **parts).certificate.checks if not c.ok}

    assert not failed()
    assert failed(x=answer.x + wrong * way)
    if len(f.b):
        assert (
            "reduced costs of the wrong sign"
            in failed(equation_dual=answer.equation_dual + rng.normal(size=len(f.b)))
            or answer.tight.all()
        )
        assert "equations" in failed(x=answer.x + wrong * f.a.toarray()[0])
    bounded = np.isfinite(f.upper)
    over = answer.x.copy()
    over[np.flatnonzero(bounded)[0]] = f.upper[bounded][0] + wrong
    assert "bounds" in failed(x=over)
    under = answer.x.copy()
    under[np.flatnonzero(bounded)[0]] = f.lower[bounded][0] - wrong
    assert "bounds" in failed(x=under)
    if len(f.h):
        k = int(np.argmax(np.abs(f.g.toarray()).sum(axis=1)))
        row = f.g.toarray()[k]
        room = (f.h - f.g_leader @ answer.d - f.g @ answer.x)[k]
        assert "rows" in failed(x=answer.x + (room + wrong) / (row @ row) * row)
        dual = answer.row_dual.copy()
        dual[k] = wrong
        assert "multipliers of the wrong sign" in failed(row_dual=dual)
        if room > 1e-3:
            dual[k] = -wrong
            assert "multipliers of the wrong sign" in failed(row_dual=dual)


@pytest.mark.parametrize("kind", ["lower", "upper"])
def test_a_feasible_point_that_is_not_best_fails_by_its_reduced_costs(kind):
    follower = one(-1.0, 3.0)
    good = follower.answer(np.array([1.0]))
    wrong = np.array([-1.0 if kind == "lower" else 3.0])
    found = replace(good, x=wrong)
    assert [c.name for c in found.certificate.checks if not c.ok] == [
        "reduced costs of the wrong sign"
    ]


def test_a_follower_without_an_answer_is_infeasible_by_name():
    f = filled(
        Follower(
            c=np.zeros(2), g=csr_array([[-1.0, -1.0], [1.0, 0.0]]), h=np.array([-1.0, 5.0]),
            upper=np.ones(2), q=csr_array(eye_array(2)), g_leader=csr_array([[1.0], [0.0]]),
            row_names=["at least", "other"],
        ), 1
    )  # fmt: skip
    follower = QuadraticFollower(f)
    np.testing.assert_allclose(follower.answer(np.zeros(1)).x, [0.5, 0.5])
    with pytest.raises(Infeasible) as error:
        follower.answer(np.ones(1) * 1.5)
    assert error.value.conflict == ("at least",)
    with pytest.raises(Infeasible):
        follower.answer(np.ones(1) * 1.5, (np.ones(2), np.zeros(0), np.zeros(2)))
    np.testing.assert_allclose(follower.answer(np.zeros(1)).x, [0.5, 0.5])  # as before


def refused(q: np.ndarray) -> str:
    n = len(q)
    follower = Follower(
        np.zeros(n), upper=np.ones(n), lower=np.zeros(n), q=csr_array(q), a=csr_array((0, n)),
        g=csr_array((0, n)), names=[f"x{k}" for k in range(n)], c_leader=csr_array((n, 1)),
        a_leader=csr_array((0, 1)), g_leader=csr_array((0, 1)),
    )  # fmt: skip
    with pytest.raises(DataError) as error:
        QuadraticFollower(follower)
    return str(error.value)


def test_what_has_no_curvature_is_refused_by_name():
    assert "curvature 0 of x1, expected above 0" in refused(np.diag([1.0, 0.0, 2.0]))
    assert "curvature -1 of x2" in refused(np.diag([1.0, 1.0, -1.0]))
    assert "curvature -1 of x1" in refused(block_diag([[1.0]], [[1.0, 2.0], [2.0, 1.0]]))
    assert "of x0" in refused(np.zeros((2, 2)))


@pytest.mark.parametrize("seed", range(20))
def test_curvature_that_is_an_error_of_rounding_is_none(seed):
    """A sum of fewer squares than variables, whatever the sign of its least eigenvalue."""
    root = np.random.default_rng(seed).normal(size=(3, 2))
    assert "expected above 0" in refused(root @ root.T)


def test_a_solver_that_stops_early_or_is_wrong_is_told(monkeypatch):
    f, d = drawn(3)
    monkeypatch.setattr(quadratic_follower, "_ACCEPTED", -1.0)
    with pytest.raises(SolveError, match="what is tight at the answer was not found"):
        QuadraticFollower(f).answer(d)
    monkeypatch.undo()
    follower = QuadraticFollower(f)
    follower._parts[0].solver.settings.max_iter = 1
    with pytest.raises(NotProven, match="largest number of iterations"):
        follower.answer(d)


def residual(answer: QuadraticAnswer) -> float:
    """Largest violation of the conditions of optimality, nothing counted as zero."""
    f, x, reduced = answer.follower, answer.x, answer.reduced
    inside = (x > f.lower) & (x < f.upper)
    fixed = f.lower == f.upper
    wrong = [
        np.abs(f.a @ x - f.b), f.lower - x, x - f.upper, np.abs(reduced[inside]),
        -reduced[(x <= f.lower) & ~fixed], reduced[(x >= f.upper) & ~fixed],
    ]  # fmt: skip
    return max(float(part.max(initial=0.0)) for part in wrong)


@pytest.mark.parametrize("level", [0.6, 0.5])
def test_hubs_at_optimal_prices_where_interior_points_know_less(level):
    """At exact D's adders bounds begin to matter: strict complementarity fails."""
    hubs, grid = reference(1, 6, level)
    found = exact_quadratic_prices(hubs, grid)
    adder = np.clip(found.d[:6].reshape(1, 6), 0.0, CAP)
    answer = QuadraticHubs(hubs, grid, CAP)(adder).answer
    assert residual(answer) < 1e-9
    own = Hubs13(hubs)
    np.testing.assert_allclose(answer.x, own.own.back(own.answer(adder)), atol=1e-5)
    for way in np.eye(6):
        for sign in (1, -1):
            slope = one_sided(answer, sign * way)
            if slope is not None:
                np.testing.assert_allclose(answer.directional(sign * way), slope, atol=1e-3)


@pytest.mark.parametrize("level", [0.6, 0.5])
def test_hubs_at_prices_of_the_convex_programme(level):
    hubs, grid = reference(3, 24, level)
    prices = quadratic_prices(hubs, grid)
    answer = prices.answer
    assert residual(answer) < 1e-9
    own = Hubs13(hubs)
    x = own.own.back(own.answer(prices.adder_eur_per_mwh))
    np.testing.assert_allclose(answer.x, x, atol=1e-5)
    fresh = QuadraticFollower(answer.follower).answer(answer.d)
    np.testing.assert_allclose(fresh.x, answer.x, atol=1e-9)
    np.testing.assert_array_equal(fresh.tight, answer.tight)
    rng = np.random.default_rng(0)
    way, value = rng.normal(size=72), rng.normal(size=len(x))
    slope = one_sided(answer, way)
    if slope is not None:
        np.testing.assert_allclose(answer.directional(way), slope, atol=1e-3)
    assert answer.adjoint(value) @ way == pytest.approx(value @ answer.forward(way), abs=1e-8)


def test_hubs_do_not_see_each_other():
    """An adder of one moves that one alone, and alone it answers the same."""
    hubs, grid = reference(3, 24)
    rng, way = np.random.default_rng(0), np.zeros((3, 24))
    adder = rng.uniform(0, 40, (3, 24))
    answer = QuadraticHubs(hubs, grid, CAP)(adder).answer
    way[1] = rng.normal(size=24)
    moved = answer.forward(way.ravel()).reshape(3, -1)
    assert np.abs(moved[1]).max() > 1e-3
    assert not moved[[0, 2]].any()
    own = hub_follower(HubProgramme(hubs.only(slice(1, 2))))
    alone = QuadraticFollower(own).answer(adder[1])
    np.testing.assert_allclose(alone.x, answer.x.reshape(3, -1)[1], atol=1e-9)
    np.testing.assert_allclose(alone.forward(way[1]), moved[1], atol=1e-9)


def test_rows_that_are_given_twice_give_the_same_answer():
    f, d = drawn(6)
    assert len(f.h)
    twice = replace(
        f, g=csr_array(vstack([f.g, f.g])), h=np.tile(f.h, 2),
        g_leader=csr_array(vstack([f.g_leader] * 2)), row_names=f.row_names * 2,
    )  # fmt: skip
    answer = QuadraticFollower(twice).answer(d)
    np.testing.assert_allclose(answer.x, answered(6).x, atol=TOL)
    np.testing.assert_allclose(answer.forward(d), answered(6).forward(d), atol=1e-5)


def test_rows_that_depend_do_no_harm_where_the_leader_is_in_costs_alone():
    """Multipliers are not unique then; the ways that cost no more at first order are."""
    seen = kinks = 0
    for seed in range(0, 60, 3):
        f, d = kinked(seed)[0].follower, answered(seed).d
        fixed = replace(
            f,
            b=f.b - f.a_leader @ d,
            h=np.concatenate([f.h - f.g_leader @ d, 2 * (f.h - f.g_leader @ d)]),
            a_leader=csr_array(f.a_leader.shape),
            g=csr_array(vstack([f.g, 2 * f.g])),
            g_leader=csr_array((2 * len(f.h), len(d))),
            row_names=f.row_names * 2,
        )
        answer = QuadraticFollower(fixed).answer(d)
        np.testing.assert_allclose(answer.x, answered(seed).x, atol=TOL)
        rng = np.random.default_rng(seed)
        for way in rng.normal(size=(2, len(d))):
            sides = [one_sided(answer, sign * way) for sign in (1, -1)]
            for sign, slope in zip((1, -1), sides, strict=True):
                if slope is not None:
                    found = answer.directional(sign * way)
                    np.testing.assert_allclose(found, slope, atol=1e-3, err_msg=f"{seed}")
                    seen += 1
            if all(side is not None for side in sides):
                kinks += np.abs(sides[0] + sides[1]).max() > 1e-2
    assert seen > 40
    assert kinks > 8


def test_what_is_tight_is_corrected_from_a_wrong_beginning():
    """From points that are far off, without the interior point: nearly always, seldom at once."""
    tried = at_once = found = 0
    for seed in SEEDS:
        answer, rng = answered(seed), np.random.default_rng(seed)
        follower = QuadraticFollower(answer.follower)
        parts = answer.x, answer.equation_dual, answer.row_dual
        for _ in range(2):
            point = [part + 0.3 * rng.normal(size=len(part)) for part in parts]
            tried += 1
            at_once += follower._from(answer.d, *point, rounds=1).certificate.ok
            found += follower._from(answer.d, *point, rounds=20).certificate.ok
    assert at_once < 0.3 * tried
    assert found > 0.9 * tried
