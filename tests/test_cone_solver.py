"""Cone programmes: optima in closed form, the cones themselves, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import clarabel
import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csc_array

from flexlib import cone_solver
from flexlib.cone_solver import ConeSolution, solve_cone
from flexlib.errors import Infeasible, NotProven, SolveError, Unbounded
from flexlib.solver import solve

INF = np.inf
CORNERS = {  # of a triangle, and the radius of the smallest circle around it
    "acute": ([[0, 0], [4, 0], [1, 3]], np.sqrt(16 * 18 * 10) / (2 * 12)),  # a b c / (4 area)
    "obtuse": ([[0, 0], [4, 0], [1, 0.5]], 2.0),
}


def minimise(expression: cp.Expression, *constraints: cp.Constraint) -> cp.Problem:
    return cp.Problem(cp.Minimize(expression), list(constraints))


def nearest_in_disc() -> tuple[cp.Problem, cp.Variable]:
    x = cp.Variable(2)
    return minimise(cp.norm(x - np.array([3.0, 4.0])) + 7, cp.norm(x) <= 1), x


# --------------------------------------------------------------------------------------------
# Known optima


def test_projection_onto_a_disc() -> None:
    problem, x = nearest_in_disc()
    solution = solve(problem)
    assert isinstance(solution, ConeSolution)
    assert solution.objective == pytest.approx(11, abs=1e-8)
    assert solution.bound == pytest.approx(11, abs=1e-8)
    assert problem.value == pytest.approx(11, abs=1e-8)
    np.testing.assert_allclose(x.value, [0.6, 0.8], atol=1e-7)
    assert problem.constraints[0].dual_value == pytest.approx(1, abs=1e-7)
    assert len(solution.checks) == 3
    assert all(check.ok and check.value < 1e-8 for check in solution.checks)


@pytest.mark.parametrize("kind", CORNERS)
def test_smallest_circle_around_three_points(kind: str) -> None:
    corners, radius = CORNERS[kind]
    r, middle = cp.Variable(), cp.Variable(2)
    problem = minimise(r, *(cp.SOC(r, middle - np.array(corner)) for corner in corners))
    assert solve(problem).objective == pytest.approx(radius, abs=1e-8)
    distances = np.linalg.norm(middle.value - np.array(corners), axis=1)
    assert distances.max() == pytest.approx(radius, abs=1e-7)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 7])
def test_largest_eigenvalue(order: int) -> None:
    matrix = np.random.default_rng(order).normal(size=(order, order))
    matrix = matrix + matrix.T
    t = cp.Variable()
    solution = solve(minimise(t, t * np.eye(order) - matrix >> 0))
    assert solution.objective == pytest.approx(np.linalg.eigvalsh(matrix)[-1], abs=1e-8)


def test_nearest_semidefinite_matrix() -> None:
    # every entry its own size: an entry read as another one moves the eigenvalues
    matrix = np.array([[1.0, 20.0, -3.0], [20.0, -40.0, 0.5], [-3.0, 0.5, 6.0]])
    values, vectors = np.linalg.eigh(matrix)
    expected = (vectors * np.maximum(values, 0)) @ vectors.T
    x = cp.Variable((3, 3), symmetric=True)
    solution = solve(minimise(cp.norm(x - matrix, "fro"), x >> 0))
    assert solution.objective == pytest.approx(np.linalg.norm(np.minimum(values, 0)), abs=1e-7)
    np.testing.assert_allclose(x.value, expected, atol=1e-3)


@pytest.mark.parametrize("columns", [2, 6])
def test_least_disc_that_holds_an_ellipse(columns: int) -> None:
    rng = np.random.default_rng(columns)
    c, e = rng.normal(size=2), rng.normal(size=(2, columns))
    r, tau = cp.Variable(), cp.Variable()
    matrix = cp.bmat(
        [
            [cp.reshape(r - tau, (1, 1), order="C"), np.zeros((1, columns)), c[None, :]],
            [np.zeros((columns, 1)), tau * np.eye(columns), e.T],
            [c[:, None], e, r * np.eye(2)],
        ]
    )
    solution = solve(minimise(r, matrix >> 0))
    axes, lengths, _ = np.linalg.svd(e, full_matrices=False)
    angle = np.linspace(0, 2 * np.pi, 200_001)
    edge = c[:, None] + (axes * lengths) @ [np.cos(angle), np.sin(angle)]
    assert solution.objective == pytest.approx(np.linalg.norm(edge, axis=0).max(), rel=1e-8)


@pytest.mark.parametrize("seed", range(10))
def test_linear_programmes_of_another_solver_and_duals_as_slopes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=(4, 3)), rng.normal(size=3)
    inside = rng.uniform(-1, 1, 3)
    b, total = a @ inside + rng.uniform(0, 0.5, 4), inside.sum() + 0.1
    x, y = cp.Variable(3, bounds=[-2, 2]), cp.Variable(nonneg=True)
    upper, equal = a @ x <= b, cp.sum(x) + y == total
    solution = solve(minimise(c @ x + y + 5, upper, equal))
    columns = {"A_ub": np.column_stack([a, np.zeros(4)]), "A_eq": np.ones((1, 4))}
    limits = {"b_ub": b, "b_eq": [total], "bounds": [(-2, 2)] * 3 + [(0, None)]}
    other = linprog([*c, 1], **columns, **limits)
    assert solution.objective == pytest.approx(other.fun + 5, abs=1e-7)
    assert y.value >= 0
    np.testing.assert_allclose(upper.dual_value, -other.ineqlin.marginals, atol=1e-5)
    assert equal.dual_value == pytest.approx(-other.eqlin.marginals[0], abs=1e-5)


def test_a_quadratic_objective() -> None:
    x = cp.Variable(3, nonneg=True)
    target = np.array([1.0, -2.0, 3.0])
    solution = solve(minimise(cp.sum_squares(x - target) - 10))
    assert solution.objective == pytest.approx(4 - 10, abs=1e-7)
    np.testing.assert_allclose(x.value, [1, 0, 3], atol=1e-4)


def test_a_parameter_may_change() -> None:
    x, least = cp.Variable(), cp.Parameter()
    problem = minimise(x, x >= least)
    for value in (2.0, -3.0):
        least.value = value
        assert solve(problem).objective == pytest.approx(value)
        assert x.value == pytest.approx(value)


def test_without_constraints() -> None:
    x = cp.Variable(2)
    assert solve(minimise(0 * x[0] + 3)).objective == pytest.approx(3)


def test_large_numbers() -> None:
    x = cp.Variable(3)
    problem = minimise(1e5 * cp.sum(x), 1e6 * x >= 1e9, cp.norm(x) <= 1e4)
    assert solve(problem).objective == pytest.approx(3e8, rel=1e-9)


def test_a_large_sparse_matrix() -> None:
    # arrow of order 80: eigenvalues 2 +- |v|; the solver takes it apart into small ones
    v, t = np.linspace(1, 2, 79), cp.Variable()
    matrix = np.zeros((80, 80))
    matrix[0, 1:] = matrix[1:, 0] = v
    solution = solve(minimise(t, (t - 2) * np.eye(80) - matrix >> 0))
    assert solution.objective == pytest.approx(2 + np.linalg.norm(v), abs=1e-7)


def test_the_same_twice() -> None:
    one, two = (solve(nearest_in_disc()[0]) for _ in range(2))
    assert one == two


# --------------------------------------------------------------------------------------------
# Cones


def program(
    zero: int, nonnegative: int, second_order: list[int], semidefinite: list[int]
) -> cone_solver._Program:
    rows = zero + nonnegative + sum(second_order) + sum(k * (k + 1) // 2 for k in semidefinite)
    return cone_solver._Program(
        np.ones(1), csc_array(np.arange(1.0, rows + 1)[:, None]), np.arange(1.0, rows + 1), 0.0,
        zero, nonnegative, second_order, semidefinite,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_projections_split_a_point_into_the_two_cones(seed: int) -> None:
    # Moreau: s is its part in K less its part of -s in K*, at right angles; both are cones
    k = program(2, 3, [1, 2, 4], [1, 2, 3])
    rng = np.random.default_rng(seed)
    s = rng.normal(size=len(k.b))
    one, other = k.project(s), k.project(-s, dual=True)
    np.testing.assert_allclose(one - other, s, atol=1e-12)
    assert one @ other == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(k.project(one), one, atol=1e-12)
    np.testing.assert_allclose(k.project(2.5 * s), 2.5 * one, atol=1e-12)
    for _ in range(20):  # every pair of a point of K and one of K* is at most at right angles
        u, v = k.project(rng.normal(size=len(s))), k.project(rng.normal(size=len(s)), dual=True)
        assert u @ v >= -1e-12


def test_members_of_the_cones() -> None:
    k = program(1, 1, [3], [3])
    g = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, -4.0], [0.5, 0.0, 1.0]])
    m = g @ g.T
    root = np.sqrt(2)
    triangle = [m[0, 0], root * m[0, 1], m[1, 1], root * m[0, 2], root * m[1, 2], m[2, 2]]
    inside = np.array([0, 2, 5, 3, -4, *triangle])
    np.testing.assert_allclose(k.project(inside), inside, atol=1e-12)
    np.testing.assert_allclose(k.norms(inside), [0, 2, np.sqrt(50), np.linalg.norm(m)])
    for row, value in ((0, 1e-3), (1, -1e-3), (2, 4.999), (2, -5), (5, 10.1), (7, 13.1), (10, 1.1)):
        outside = inside.copy()
        outside[row] = value
        assert np.abs(k.project(outside) - outside).max() > 1e-5


def test_part_of_a_programme() -> None:
    k = program(2, 3, [2, 3], [2, 1])
    rows = np.ones(len(k.b), dtype=bool)
    rows[[1, 3, 4, 5, 6, 10, 11, 12]] = False
    part = k.part(rows)
    assert (part.zero, part.nonnegative, part.second_order, part.semidefinite) == (1, 1, [3], [1])
    np.testing.assert_array_equal(part.b, [1, 3, 8, 9, 10, 14])
    np.testing.assert_array_equal(part.a.toarray().ravel(), part.b)


# --------------------------------------------------------------------------------------------
# Infeasible and unbounded


def disc_and_line(distance: float) -> dict[str, cp.Constraint]:
    x = cp.Variable(3, name="x")
    return {
        "total": cp.sum(x) <= 100,
        "line": x[0] + x[1] >= distance,
        "high": x[1] <= 5,
        "disc": cp.norm(x) <= 1,
        "low": x >= -4,
        "plane": x[2] == 0.1,
    }


def named(constraints: dict[str, cp.Constraint]) -> list[cp.Constraint]:
    return [constraint.set_label(name) for name, constraint in constraints.items()]


def test_infeasible_names_an_irreducible_set() -> None:
    # in the plane, the disc's edge is at sqrt(0.99) and the line at distance / sqrt(2)
    reach = np.sqrt(2 * 0.99)
    with pytest.raises(Infeasible, match="disc") as error:
        solve(minimise(0, *named(disc_and_line(reach + 1e-4))))
    assert set(error.value.conflict) == {"line", "disc", "plane"}
    assert solve(minimise(0, *named(disc_and_line(reach - 1e-4)))).objective == 0
    for left in error.value.conflict:
        rest = disc_and_line(reach + 1e-4)
        del rest[left]
        solve(minimise(0, *named(rest)))


def test_infeasible_matrices() -> None:
    x, y = cp.Variable((3, 3), symmetric=True), cp.Variable((2, 2), symmetric=True)
    constraints = {
        "trace": cp.trace(x) <= 1,
        "other matrix": y >> np.eye(2),
        "corner": x[0, 2] >= 0.51,  # at most half of the trace
        "matrix": x >> 0,
        "other trace": cp.trace(y) <= 3,
    }
    with pytest.raises(Infeasible) as error:
        solve(minimise(cp.trace(y), *named(constraints)))
    assert set(error.value.conflict) == {"trace", "corner", "matrix"}


def test_attributes_of_variables_are_named() -> None:
    x, y = cp.Variable(2, nonneg=True, name="x"), cp.Variable(bounds=[0, 1], name="y")
    matrix = cp.Variable((2, 2), PSD=True, name="M")
    with pytest.raises(Infeasible) as error:
        solve(minimise(y, (cp.sum(x) + y <= -1).set_label("sum"), cp.trace(matrix) <= 2))
    assert set(error.value.conflict) == {"limits of x", "limits of y", "sum"}
    with pytest.raises(Infeasible) as error:
        solve(minimise(y, (matrix[0, 0] <= -1).set_label("corner"), cp.sum(x) <= 2))
    assert set(error.value.conflict) == {"limits of M", "corner"}


def test_constraints_without_label_are_named_by_their_text() -> None:
    x = cp.Variable(name="x")
    with pytest.raises(Infeasible) as error:
        solve(minimise(x, x >= -7, x >= 3, x <= 2))
    assert error.value.conflict == ("constraint 1: 3.0 <= x", "constraint 2: x <= 2.0")
    assert str(error.value).endswith("in conflict: constraint 1: 3.0 <= x, constraint 2: x <= 2.0")


def test_constraints_under_one_label_count_as_one() -> None:
    x = cp.Variable(4)
    limits = [(x[k] <= 1).set_label("limits") for k in range(4)]
    with pytest.raises(Infeasible) as error:
        solve(minimise(x[0], *limits, (cp.sum(x) >= 5).set_label("total")))
    assert set(error.value.conflict) == {"limits", "total"}


def test_constraints_of_one_text_are_told_apart() -> None:
    x = cp.Variable(name="x")
    long = "a name as long as that: the text of the constraint is cut before the number"
    y = cp.Variable(name=long)
    with pytest.raises(Infeasible) as error:
        solve(minimise(x, y + x <= 7, y + x <= 2, y + x >= 3, y + x >= 1))
    assert [name[:12] for name in error.value.conflict] == ["constraint 1", "constraint 2"]


def test_many_names_are_cut_short() -> None:
    x = cp.Variable(12)
    limits = [(x[k] <= 1).set_label(f"limit {k}") for k in range(12)]
    with pytest.raises(Infeasible, match=r"limit 1, .* and 5 more$") as error:
        solve(minimise(x[0], *limits, (cp.sum(x) >= 13).set_label("total")))
    assert len(error.value.conflict) == 13


def test_of_two_conflicts_one_is_named_in_full() -> None:
    x = cp.Variable()
    constraints = {"above": x >= 3, "below": x <= 2, "far below": x <= 1}
    with pytest.raises(Infeasible) as error:
        solve(minimise(x, *named(constraints)))
    assert set(error.value.conflict) in ({"above", "below"}, {"above", "far below"})


def test_a_constraint_without_variables() -> None:
    x = cp.Variable(2)
    false = (cp.Constant(1) >= 2).set_label("false")
    with pytest.raises(Infeasible) as error:
        solve(minimise(x[0], x >= 1, false, x <= 3))
    assert error.value.conflict == ("false",)


def test_infeasible_though_the_objective_has_no_bound() -> None:
    x = cp.Variable(3, name="x")
    with pytest.raises(Infeasible) as error:
        solve(minimise(x[0], x[1] >= 1, x[1] <= 0))
    assert set(error.value.conflict) == {
        "constraint 0: 1.0 <= x[1]",
        "constraint 1: x[1] <= 0.0",
    }


def test_infeasible_where_the_solver_diverges() -> None:
    # Clarabel 0.11 calls this solved, at -3e19
    x = cp.Variable(3, name="x")
    one, two = x[0] + x[1] == 1, x[0] + x[1] == 2
    with pytest.raises(Infeasible) as error:
        solve(minimise(x[0], one.set_label("one"), two.set_label("two"), x[2] == 0))
    assert set(error.value.conflict) == {"one", "two"}


@pytest.mark.parametrize("least", [1e6, 1e9, 1e12])
def test_far_is_not_infeasible(least: float) -> None:
    x = cp.Variable(3)
    for problem in (
        minimise(0 * x[0], x[0] >= least),
        minimise(x[0], x[0] >= least, x[1:] >= 0, x[1:] <= 5),
        minimise(0 * x[0], cp.norm(x[:2]) <= 1e-3 * x[2], x[0] >= least),
    ):
        try:
            solve(problem)
        except SolveError as error:
            assert not isinstance(error, (Infeasible, Unbounded))  # noqa: PT017


def rows(a: list[list[float]], b: list[float], c: list[float]) -> cone_solver._Program:
    matrix = csc_array(np.array(a).reshape(len(b), len(c)))
    return cone_solver._Program(np.array(c), matrix, np.array(b), 0.0, 0, len(b), [], [])


def test_certificates_of_infeasibility() -> None:
    def proves(program: cone_solver._Program, *z: float) -> bool:
        return cone_solver._proves_infeasible(program, np.array(z))

    tight = rows([[1], [-1]], [0, -1e-6], [0])  # x <= 0 and x >= 1e-6
    assert proves(tight, 1, 1)
    assert proves(tight, 1, 1 + 1e-13)
    assert not proves(tight, 1, 1 + 1e-9)  # says no more than that x is not below 1000
    assert not proves(rows([[1], [-1]], [1, -1 - 1e-11], [0]), 1, 1)  # may be rounding
    assert not proves(rows([[1], [-1]], [1, 1], [0]), 1, 1)
    assert not proves(rows([[-1]], [-1e9], [0]), 1e-9)  # x >= 1e9
    assert not proves(tight, 0, 0)


def test_certificates_of_no_bound() -> None:
    def proves(program: cone_solver._Program, *x: float) -> bool:
        return cone_solver._proves_dual_infeasible(program, np.array(x))

    half = rows([[1, 0], [0, -1]], [5, -1], [1, 0])  # x <= 5 falls for ever, y >= 1
    assert proves(half, -1, 0)
    assert proves(half, -1, -1e-12)
    assert proves(rows([[0, -1]], [-1], [1, 0]), -1, -1e-12)  # x alone falls
    assert not proves(half, -1, -1e-3)
    assert not proves(half, 1, 0)
    assert not proves(half, 0, 1)
    assert not proves(rows([[1.0]], [1], [-1e9]), 1e-9)


def test_either_certificate_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    k = rows([[1], [-1]], [0, -3], [0])
    nothing = cone_solver._Answer("Solved", np.zeros(1), np.zeros(2))
    with monkeypatch.context() as patch:
        patch.setattr(cone_solver, "_least_violation", lambda *_: nothing)
        assert cone_solver._is_infeasible(k, 10)
    least = cone_solver._least_violation(k, 10)
    monkeypatch.setattr(cone_solver, "_run", lambda *_: nothing)
    monkeypatch.setattr(cone_solver, "_least_violation", lambda *_: least)
    assert cone_solver._is_infeasible(k, 10)


def test_least_violation() -> None:
    k = rows([[1], [-1]], [0, -3], [0])  # x <= 0 and x >= 3: 1.5 each at best
    answer = cone_solver._least_violation(k, 10)
    np.testing.assert_allclose(answer.x, 1.5, atol=1e-9)
    np.testing.assert_allclose(answer.z, 0.5, atol=1e-9)
    pair = replace(k, zero=2, nonnegative=0)  # x = 0 and -x = -3
    answer = cone_solver._least_violation(pair, 10)
    np.testing.assert_allclose(answer.x, 1.5, atol=1e-9)
    np.testing.assert_allclose(answer.z, 0.5, atol=1e-9)
    feasible = cone_solver._least_violation(rows([[1], [-1]], [4, -3], [0]), 10)
    assert 3 <= feasible.x[0] <= 4
    assert not feasible.z.any()
    for second_order, semidefinite, b in ([3], [], [-1, 0, 0]), ([], [2], [-1, 0, 5]):
        k = cone_solver._Program(
            np.zeros(1), csc_array((3, 1)), np.array(b), 0.0, 0, 0, second_order, semidefinite
        )
        answer = cone_solver._least_violation(k, 10)  # 1 on the axis, or on the diagonal
        np.testing.assert_allclose(answer.z, [1, 0, 0], atol=1e-5)


def test_least_violation_next_to_feasible() -> None:
    problem = minimise(0, *disc_and_line(np.sqrt(2 * 0.99) + 1e-4).values())
    data, _, inverse = cone_solver._canonical(problem)
    k = cone_solver._program(data, inverse[-1]["offset"])
    assert cone_solver._proves_infeasible(k, cone_solver._least_violation(k, 10).z)


def test_no_bound_is_claimed_of_what_may_be_infeasible(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = cone_solver._Answer("Solved", np.array([0.0]), np.array([0.0]))
    monkeypatch.setattr(cone_solver, "_least_violation", lambda *_: nothing)
    x = cp.Variable()
    with pytest.raises(SolveError) as error:
        solve(minimise(x, x <= -1))
    assert type(error.value) is SolveError


def unbounded_problems() -> list[cp.Problem]:
    x, m = cp.Variable(3), cp.Variable((2, 2), symmetric=True)
    return [
        minimise(x[0]),
        minimise(x[0], cp.norm(x[1:]) <= 1 - x[0], x[1] == 0.5),
        minimise(-cp.sum(x), x[0] - x[1] <= 1, x >= 0),
        minimise(m[0, 1], m >> 0),
    ]


@pytest.mark.parametrize("which", range(4))
def test_unbounded(which: int) -> None:
    with pytest.raises(Unbounded):
        solve(unbounded_problems()[which])


# --------------------------------------------------------------------------------------------
# Answers that do not hold

Answer = cone_solver._Answer
Change = Callable[[Answer], Answer]
WRONG: dict[str, Change] = {
    "point moved": lambda a: replace(a, x=a.x + 1e-3),
    "point nearly right": lambda a: replace(a, x=a.x * (1 + 1e-5)),
    "point within, not best": lambda a: replace(a, x=a.x * 0.5),
    "dual scaled": lambda a: replace(a, z=a.z * 1.001),
    "dual nearly right": lambda a: replace(a, z=a.z * (1 + 1e-5)),
    "no dual": lambda a: replace(a, z=0 * a.z),
    "dual of another order": lambda a: replace(a, z=a.z[::-1]),
    "origin": lambda a: replace(a, x=0 * a.x, z=0 * a.z),
    "infeasible": lambda a: replace(a, status="PrimalInfeasible", x=0 * a.x),
    "unbounded": lambda a: replace(a, status="DualInfeasible", z=0 * a.z),
}


def tamper(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Change what the solver says; the second look, with its own tolerance, is left alone."""
    solver = clarabel.DefaultSolver

    class Tampered:
        def __init__(self, *arguments: object) -> None:
            self.settings = arguments[-1]
            self.solver = solver(*arguments)

        def solve(self) -> Answer:
            found = self.solver.solve()
            answer = Answer(str(found.status), np.array(found.x), np.array(found.z))
            return answer if self.settings.tol_feas < 1e-9 else change(answer)

    monkeypatch.setattr(clarabel, "DefaultSolver", Tampered)


def problems() -> dict[str, cp.Problem]:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(3, 3))
    t, x = cp.Variable(), cp.Variable(3)
    a = rng.normal(size=(6, 3))
    return {
        "second-order": nearest_in_disc()[0],
        "semidefinite": minimise(t, t * np.eye(3) - (matrix + matrix.T) >> 0),
        "linear": minimise(cp.sum(x) + 4, cp.abs(a @ x) <= 1, x[0] == 0.1),
    }


@pytest.mark.parametrize("kind", ["second-order", "semidefinite", "linear"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_is_refused(kind: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, WRONG[wrong])
    problem = problems()[kind]
    with pytest.raises(SolveError, match="does not survive recomputation") as error:
        solve(problem)
    assert type(error.value) is SolveError
    assert all(variable.value is None for variable in problem.variables())


def test_a_right_number_needs_a_dual(monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda a: replace(a, z=0 * a.z))
    x = cp.Variable(2)
    with pytest.raises(SolveError, match=r"recomputation: dual residual 0\.5$"):
        solve(minimise(cp.sum(x), x >= 0))


def test_a_dual_beyond_its_cone_is_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda a: replace(a, z=np.array([2.0, -1.0])))
    x = cp.Variable()
    with pytest.raises(SolveError, match="dual residual"):
        solve(minimise(x, x >= 1, x >= 1))


def test_a_huge_point_must_meet_its_constraints_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda a: replace(a, x=np.array([1e9, -1e9])))
    x = cp.Variable(2)
    with pytest.raises(SolveError, match="distance"):
        solve(minimise(0 * x[0], cp.sum(x) == 1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, INF, 1e200])
def test_what_is_no_number_is_refused(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda a: replace(a, x=0 * a.x + value, z=0 * a.z + value))
    for problem in problems().values():
        with pytest.raises(SolveError, match="does not survive recomputation"):
            solve(problem)


def test_a_rounded_answer_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda a: replace(a, x=a.x + 1e-10, z=a.z * (1 + 1e-10)))
    assert solve(nearest_in_disc()[0]).objective == pytest.approx(11, abs=1e-8)


def test_a_feasible_point_is_no_proof_of_infeasibility(monkeypatch: pytest.MonkeyPatch) -> None:
    # the multipliers of an optimum, called a certificate
    tamper(monkeypatch, lambda a: replace(a, status="PrimalInfeasible", x=a.x + 1))
    x = cp.Variable(2)
    with pytest.raises(SolveError) as error:
        solve(minimise(x[0], x >= 5, x <= 7))
    assert type(error.value) is SolveError


def test_an_early_stop_carries_bound_and_incumbent(monkeypatch: pytest.MonkeyPatch) -> None:
    x, t = cp.Variable(2), cp.Variable()
    problem = minimise(t + 1, cp.SOC(t, x - np.array([3.0, 4.0])), cp.norm(x) <= 1)
    columns = problem.get_problem_data("CLARABEL")[0]["param_prob"].var_id_to_col
    start = np.zeros(4)  # feasible: x at the origin, t beyond the distance
    start[columns[t.id]] = 6.0
    tamper(monkeypatch, lambda a: replace(a, status="MaxIterations", x=start))
    with pytest.raises(NotProven, match="MaxIterations") as error:
        solve(problem)
    assert error.value.incumbent == pytest.approx(7)
    assert error.value.bound == pytest.approx(5, abs=1e-6)
    tamper(monkeypatch, lambda a: replace(a, x=a.x + 1, z=2 * a.z))
    with pytest.raises(NotProven) as error:
        solve(problem)
    assert (error.value.bound, error.value.incumbent) == (-INF, INF)


def test_an_early_stop_with_a_proof_is_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda a: replace(a, status="AlmostSolved"))
    assert solve(nearest_in_disc()[0]).objective == pytest.approx(11, abs=1e-8)


def test_an_optimum_that_no_point_attains_is_not_proven() -> None:
    x = cp.Variable()
    with pytest.raises(NotProven, match="AlmostSolved"):
        solve(minimise(cp.inv_pos(x)))


@pytest.mark.filterwarnings("error")
def test_a_time_limit_before_any_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cone_solver, "_is_infeasible")  # no time for a second look
    with pytest.raises(NotProven, match="time limit of 1e-09 s") as error:
        solve(nearest_in_disc()[0], time_limit_s=1e-9)
    assert error.value.bound <= 11 <= error.value.incumbent


# --------------------------------------------------------------------------------------------
# Other kinds of problems


def refused_problems() -> dict[str, cp.Problem]:
    x = cp.Variable(2)
    return {
        "the objective must be minimised": cp.Problem(cp.Maximize(x[0]), [x <= 1]),
        "continuous": minimise(cp.Variable(integer=True)),
        "the variables must be": minimise(cp.Variable(2, boolean=True)[0]),
        "convex": minimise(cp.sqrt(x[0])),
        "no variables": minimise(cp.Constant(1)),
        "no exponential": minimise(cp.exp(x[0])),
        "and power": minimise(cp.PowCone3D(x[0], x[1], 1, 0.3).args[0], cp.PowCone3D(*x, 1, 0.3)),
        "exponential and power": minimise(
            x[0], cp.PowConeND(cp.hstack([x, 1]), x[0], np.array([0.2, 0.3, 0.5]))
        ),
        "infinite limit": minimise(x[0], x[0] >= 1, x[1] <= INF),
    }


@pytest.mark.parametrize("words", refused_problems())
def test_refused(words: str) -> None:
    with pytest.raises(ValueError, match=words):
        solve(refused_problems()[words])


def test_cvxpy_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, flexlib; sys.exit('cvxpy' in sys.modules or 'clarabel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_problem_can_be_solved_after_a_failure() -> None:
    problem, x = nearest_in_disc()
    with pytest.raises(NotProven):
        solve_cone(problem, 1e-9)
    assert x.value is None
    assert solve_cone(problem).objective == pytest.approx(11, abs=1e-8)
