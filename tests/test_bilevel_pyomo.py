"""Arrays from Pyomo blocks, and our KKT system and dual against Pyomo's own transformations.

Random followers are written as Pyomo models. `core.kkt` of Pyomo is compared with ours coefficient
by coefficient, multipliers mapped by the row or bound they belong to: every stationarity row, and
the inequality of every pair. `core.lp_dual` is compared by the coefficients of its rows
(stationarity without the multipliers of the bounds), by its objective within the row of strong
duality at random points, and by its optimum at random decisions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
from bilevel_problems import load
from pyomo.core.expr.visitor import identify_variables
from pyomo.repn import generate_standard_repn

from flexlib import DataError, Infeasible, Unbounded, solve
from flexlib.bilevel import Bilevel
from flexlib.bilevel_duality import with_strong_duality
from flexlib.bilevel_kkt import kkt_system, pairs
from flexlib.bilevel_pyomo import bilevel_of
from flexlib.bilevel_solve import solve_bilevel

DRAWS = range(30)


def model(seed: int, bounds: bool = True, curved: bool = False) -> pyo.ConcreteModel:
    """Leader with two decisions; follower with rows of every sense whose data may hold them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    m = pyo.ConcreteModel("leader")
    m.d = pyo.Var([1, 2], bounds=(0, 3))
    m.follower = f = pyo.Block()
    f.x = pyo.Var(range(n), domain=pyo.NonNegativeReals)
    if bounds:
        for j in range(n):
            f.x[j].setlb(rng.choice([None, 0.0, -1.0, 0.5]))
            f.x[j].setub(rng.choice([None, 4.0, 6.0]))
            f.x[j].domain = pyo.Reals
    x, d = list(f.x.values()), list(m.d.values())

    def linear(variables: list[Any], low: int = -2, high: int = 2) -> Any:
        factors = rng.integers(low, high + 1, len(variables)).astype(float)
        factors[0] = factors[0] or 1.0  # no row without a variable
        return sum(float(a) * v for a, v in zip(factors, variables, strict=True))

    f.equal = pyo.Constraint(expr=linear(x) + linear(d, -1, 1) == float(rng.integers(1, 5)))
    f.most = pyo.Constraint(expr=linear(x, 0, 3) - d[0] + 1.0 <= 9.0)
    f.least = pyo.Constraint(expr=linear(x) + linear(d, -1, 1) >= -6.0)
    if bounds:
        f.between = pyo.Constraint(expr=pyo.inequality(-7.0, linear(x) + 2.0, 11.0))
    cost = linear(x, 0, 3) + sum(float(rng.integers(-1, 2)) * d[j % 2] * v for j, v in enumerate(x))
    if curved:
        cost += 0.5 * x[0] ** 2 + (x[0] - x[1]) ** 2 + x[-1] * d[0]
    f.cost = pyo.Objective(expr=cost + 3 * d[0] + 2)
    m.sum = pyo.Constraint(expr=d[0] + d[1] + 0.5 * x[0] <= 8.0)
    m.goal = pyo.Objective(expr=linear(d) + linear(x))
    return m


def coefficients(expression: Any) -> tuple[dict[str, float], float]:
    """Of a linear expression, by the variables' names, and its constant."""
    repn = generate_standard_repn(expression)
    assert repn.is_linear()
    terms = {v.name: a for v, a in zip(repn.linear_vars, repn.linear_coefs, strict=True) if a}
    return terms, float(repn.constant)


def pair_names(m: pyo.ConcreteModel) -> list[tuple[Any, int]]:
    """What each of our pairs belongs to and its side, 1 for the upper."""
    rows = [row for row in m.follower.component_data_objects(pyo.Constraint) if not row.equality]
    sides = [(row, s) for row in rows for s in (1, 0) if (row.has_ub() if s else row.has_lb())]
    x = list(m.follower.x.values())
    return [*sides, *((v, 0) for v in x if v.has_lb()), *((v, 1) for v in x if v.has_ub())]


@pytest.mark.parametrize("seed", DRAWS)
def test_our_kkt_system_is_that_of_pyomo(seed: int) -> None:
    m = model(seed, curved=seed % 3 == 0)
    problem = bilevel_of(m, m.follower)
    belongs, pair, system = pair_names(m), pairs(problem), kkt_system(problem)
    assert len(belongs) == len(pair.limit)
    kkt = pyo.TransformationFactory("core.kkt")
    used = list(identify_variables(m.follower.cost.expr)) + [
        v for row in m.follower.component_data_objects(pyo.Constraint)
        for v in identify_variables(row.body)
    ]  # fmt: skip
    kkt.apply_to(
        m.follower, parameterize_wrt=[d for d in m.d.values() if any(d is v for v in used)]
    )
    multiplier = [
        kkt.get_multiplier_from_object(m.follower, what)[side].name for what, side in belongs
    ]
    equal = kkt.get_multiplier_from_object(m.follower, m.follower.equal).name
    columns = [*problem.names, *problem.follower.names, equal, *multiplier]
    assert len(columns) == len(system.column_names)

    ours = []
    for j in range(len(problem.follower.c)):
        row = system.a[[j]].toarray()[0]
        assert system.row_lower[j] == system.row_upper[j]
        terms = {name: a for name, a in zip(columns, row, strict=True) if a}
        ours.append((terms, -system.row_upper[j]))
    theirs = [coefficients(row.body - row.upper)
              for row in m.follower.kkt.stationarity_conditions.values()]  # fmt: skip
    key = lambda row: (sorted(row[0].items()), row[1])  # noqa: E731
    assert sorted(map(key, ours)) == sorted(map(key, theirs))

    limits = {}
    for condition in m.follower.kkt.complements.values():
        at_least, inequality = condition._args
        (alpha,) = (v.name for v in identify_variables(at_least))
        limits[alpha] = coefficients(inequality.args[0] - inequality.args[1])
    assert set(limits) == set(multiplier)
    for j, alpha in enumerate(multiplier):
        row = np.concatenate([pair.slack_d[[j]].toarray()[0], pair.slack_x[[j]].toarray()[0]])
        terms = {name: a for name, a in zip(columns, row, strict=False) if a}
        assert limits[alpha] == (terms, pytest.approx(-pair.limit[j])), alpha


@pytest.mark.parametrize("seed", DRAWS)
def test_our_dual_is_that_of_pyomo(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = model(seed, bounds=False)
    problem = bilevel_of(m, m.follower)
    f = problem.follower
    transform = pyo.TransformationFactory("core.lp_dual")
    dual = transform.create_using(m.follower, parameterize_wrt=list(m.d.values()))
    z = {name: transform.get_dual_var(dual, getattr(m.follower, name))
         for name in ("equal", "most", "least")}  # fmt: skip
    d = rng.integers(0, 4, 2).astype(float)
    for variable, value in zip(m.d.values(), d, strict=True):
        variable.fix(value)

    # rows: A'y - G'mu <= c + C d, with y and the dual values -mu of <= and mu of >= rows
    for j, x in enumerate(m.follower.x.values()):
        terms, constant = coefficients(
            transform.get_dual_constraint(dual, x).expr.args[0]
            - transform.get_dual_constraint(dual, x).expr.args[1]
        )
        expected = {z["equal"].name: f.a.toarray()[0, j], z["most"].name: f.g.toarray()[0, j],
                    z["least"].name: -f.g.toarray()[1, j]}  # fmt: skip
        assert terms == {name: a for name, a in expected.items() if a}
        assert constant == pytest.approx(-(f.c + f.c_leader @ d)[j])

    # objective: strong duality is the primal less the dual objective
    boxed = replace(problem, follower=replace(f, upper=np.full(len(f.c), 9.0)))
    system = kkt_system(boxed)
    n = len(f.c)
    finite = replace(
        system, lower=np.maximum(system.lower, -99), upper=np.minimum(system.upper, 99)
    )
    strong = with_strong_duality(finite, boxed)
    x, y, mu = rng.random(n), rng.normal(size=1), rng.random(len(pairs(boxed).limit))
    mu[2 + n :] = 0.0  # of the box
    point = np.concatenate([d, x, y, mu])
    columns = [name.split(" x multiplier", 1) for name in strong.column_names[len(point) :]]
    products = []
    for name, parts in zip(strong.column_names[len(point) :], columns, strict=True):
        first = parts[0] if len(parts) == 2 else name.split(" x ")[0]
        second = name[len(first) + 3 :]
        products.append(point[system.column_names.index(first)]
                        * point[system.column_names.index(second)])  # fmt: skip
    rows = [i for i, name in enumerate(strong.row_names) if name == "strong duality"]
    ours = float(sum(strong.a[[i]].toarray()[0] @ np.append(point, products) for i in rows))
    for name, value in {"equal": y[0], "most": -mu[0], "least": mu[1]}.items():
        z[name].set_value(value, skip_validation=True)
    assert ours == pytest.approx(f.cost(d, x) - pyo.value(dual.obj))
    width = strong.row_upper[rows]
    assert (width >= 0).all()
    assert (width <= 1e-7 * max(1, abs(f.c).max())).all()

    # optimum at this decision
    dual.obj.deactivate()
    dual.least = pyo.Objective(expr=-dual.obj.expr)
    try:
        least = solve(f.at(d)).objective
    except (Infeasible, Unbounded):
        with pytest.raises((Infeasible, Unbounded)):
            solve(dual)
        return
    assert -solve(dual).objective == pytest.approx(least, abs=1e-7)


def by_hand() -> pyo.ConcreteModel:
    m = pyo.ConcreteModel("hand")
    m.d = pyo.Var(bounds=(-1, 5))
    m.f = pyo.Block()
    m.f.x = pyo.Var(bounds=(None, 7))
    m.n = pyo.Var(domain=pyo.Integers, bounds=(0, 2))
    m.f.y = pyo.Var(domain=pyo.NonNegativeReals)
    m.f.equal = pyo.Constraint(expr=m.f.x - 2 * m.d == m.f.y + 3)
    m.f.range = pyo.Constraint(expr=pyo.inequality(-2, m.f.x + 4 * m.n + 1, 6))
    m.f.least = pyo.Constraint(expr=m.f.y >= 0.5 * m.d)
    m.f.off = pyo.Constraint(expr=m.f.y <= 0)
    m.f.off.deactivate()
    m.f.cost = pyo.Objective(expr=2 * m.f.x + m.f.x * m.d + 3 * m.f.x**2 + m.f.x * m.f.y
                             + m.f.y**2 + 9 * m.d**2 + m.d * m.n)  # fmt: skip
    m.row = pyo.Constraint(expr=m.d + m.f.y == 4)
    m.goal = pyo.Objective(expr=m.d - m.n + 5 * m.f.y + 8)
    return m


def test_a_model_by_hand_gives_its_arrays() -> None:
    m = by_hand()
    p = bilevel_of(m, m.f)
    f = p.follower
    assert p.names == ["d", "n"]
    assert f.names == ["f.x", "f.y"]
    np.testing.assert_array_equal(p.integer, [False, True])
    np.testing.assert_array_equal(p.cost, [1, -1])
    np.testing.assert_array_equal(p.cost_follower, [0, 5])
    np.testing.assert_array_equal(np.stack([p.lower, p.upper]), [[-1, 0], [5, 2]])
    np.testing.assert_array_equal(np.stack([f.lower, f.upper]), [[-np.inf, 0], [7, np.inf]])
    np.testing.assert_array_equal(f.a.toarray(), [[1, -1]])
    np.testing.assert_array_equal(f.a_leader.toarray(), [[-2, 0]])
    np.testing.assert_array_equal(f.b, [3])
    np.testing.assert_array_equal(f.g.toarray(), [[1, 0], [-1, 0], [0, -1]])
    np.testing.assert_array_equal(f.g_leader.toarray(), [[0, 4], [0, -4], [0.5, 0]])
    np.testing.assert_array_equal(f.h, [5, 3, 0])
    assert f.equation_names == ["f.equal"]
    assert f.row_names == ["f.range", "f.range", "f.least"]
    np.testing.assert_array_equal(f.c, [2, 0])
    np.testing.assert_array_equal(f.c_leader.toarray(), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(f.q.toarray(), [[6, 1], [1, 2]])
    np.testing.assert_array_equal(p.rows.toarray(), [[1, 0], [-1, 0]])
    np.testing.assert_array_equal(p.rows_follower.toarray(), [[0, 1], [0, -1]])
    np.testing.assert_array_equal(p.limit, [4, -4])
    assert p.row_names == ["row", "row"]


def test_fixed_variables_stay_where_they_are() -> None:
    m = by_hand()
    m.d.fix(1.5)
    p = bilevel_of(m, m.f)
    np.testing.assert_array_equal([p.lower[0], p.upper[0]], [1.5, 1.5])
    np.testing.assert_array_equal(p.follower.b, [6])  # 2 d has become a constant
    np.testing.assert_array_equal(p.follower.c, [3.5, 0])


def nonlinear(m: pyo.ConcreteModel) -> None:
    m.f.bad = pyo.Constraint(expr=m.f.x**3 <= 1)


def bilinear_row(m: pyo.ConcreteModel) -> None:
    m.f.bad = pyo.Constraint(expr=m.f.x * m.d <= 1)


def cubic_cost(m: pyo.ConcreteModel) -> None:
    m.f.cost.set_value(m.f.x**4)


def curved_leader(m: pyo.ConcreteModel) -> None:
    m.goal.set_value(m.d**2)


def maximum(m: pyo.ConcreteModel) -> None:
    m.goal.sense = pyo.maximize


def maximum_below(m: pyo.ConcreteModel) -> None:
    m.f.cost.sense = pyo.maximize


def two_objectives(m: pyo.ConcreteModel) -> None:
    m.other = pyo.Objective(expr=m.d)


def none_below(m: pyo.ConcreteModel) -> None:
    m.f.cost.deactivate()


def integer_below(m: pyo.ConcreteModel) -> None:
    m.f.z = pyo.Var(domain=pyo.Binary)


def concave(m: pyo.ConcreteModel) -> None:
    m.f.cost.set_value(-(m.f.x**2))


ELSEWHERE = pyo.ConcreteModel("elsewhere")
ELSEWHERE.v = pyo.Var()


def foreign(m: pyo.ConcreteModel) -> None:
    m.f.bad = pyo.Constraint(expr=m.f.x + ELSEWHERE.v <= 1)


FAULTS = {
    nonlinear: ("f.bad", "a linear expression"), bilinear_row: ("f.bad", "a linear expression"),
    cubic_cost: ("f.cost", "a quadratic expression"),
    curved_leader: ("goal", "a linear expression"),
    maximum: ("goal", "to be minimised"), maximum_below: ("f.cost", "to be minimised"),
    two_objectives: ("goal, other", "one objective"), none_below: ("none", "one objective"),
    integer_below: ("f.z", "a continuous one"), concave: ("eigenvalue", "convex"),
    foreign: ("v", "a variable of the leader's model"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_what_is_not_a_bilevel_programme_is_named(spoil: Any) -> None:
    m = by_hand()
    spoil(m)
    with pytest.raises(DataError) as error:
        bilevel_of(m, m.f)
    assert all(part in str(error.value) for part in FAULTS[spoil])


def test_a_problem_of_the_literature_from_pyomo_has_its_optimum() -> None:
    # Bialas and Karwan 1984: see the collection
    problem = load()["bialas_karwan_1984_b"]
    p: Bilevel = problem.arrays
    f = p.follower
    m = pyo.ConcreteModel()
    m.d = pyo.Var(range(len(p.cost)), bounds=lambda m, j: (p.lower[j], p.upper[j]))
    m.f = pyo.Block()
    m.f.x = pyo.Var(range(len(f.c)), bounds=lambda m, j: (f.lower[j], f.upper[j]))
    d, x = list(m.d.values()), list(m.f.x.values())
    rows = zip(f.g_leader.toarray(), f.g.toarray(), f.h, strict=True)
    m.f.rows = pyo.ConstraintList()
    for on_d, on_x, most in rows:
        m.f.rows.add(on_d @ np.array(d) + on_x @ np.array(x) <= most)
    m.f.cost = pyo.Objective(expr=f.c @ np.array(x))
    m.goal = pyo.Objective(expr=p.cost @ np.array(d) + p.cost_follower @ np.array(x))
    assert not len(p.limit)
    assert solve_bilevel(bilevel_of(m, m.f)).value == pytest.approx(problem.value)
