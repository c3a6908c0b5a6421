"""Bilevel programmes from two Pyomo blocks: what is declared on the follower's is its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.repn import generate_standard_repn
from scipy.sparse import csr_array

from flexlib.bilevel import Bilevel, Follower
from flexlib.errors import DataError, Fault


def bilevel_of(leader: pyo.ConcreteModel, follower: pyo.Block) -> Bilevel:
    """Arrays of a bilevel programme.

    Parameters
    ----------
    leader : pyomo.environ.ConcreteModel
        Minimises its objective; variables and constraints outside of the follower's block are its
        own. Constants of objectives are left out.
    follower : pyomo.environ.Block
        A block of the leader. Its objective is linear or convex quadratic in its own variables, and
        may hold products of one of these and one of the leader's.

    Returns
    -------
    Bilevel
        Variables and rows in the order of their declaration.

    Raises
    ------
    DataError
        Naming what is not linear, quadratic where it must not be, or to be maximised, integer
        variables of the follower, and variables that are not of the leader's model.
    """
    x = list(follower.component_data_objects(pyo.Var))
    inside = {id(v) for v in x}
    d = [v for v in leader.component_data_objects(pyo.Var) if id(v) not in inside]
    at = {id(v): j for group in (d, x) for j, v in enumerate(group)}
    faults = [
        Fault(follower.name, v.name, "", "an integer variable", "a continuous one")
        for v in x
        if not v.is_continuous()
    ]
    if faults:
        raise DataError(faults)
    own = list(follower.component_data_objects(pyo.Constraint, active=True))
    names = {row.name for row in own}
    theirs = [
        row
        for row in leader.component_data_objects(pyo.Constraint, active=True)
        if row.name not in names
    ]

    def parts(what: Any, linear: bool) -> tuple[np.ndarray, np.ndarray, float, Any]:
        repn = generate_standard_repn(what.body if hasattr(what, "body") else what.expr)
        if repn.nonlinear_expr is not None or (linear and repn.quadratic_vars):
            expected = "a linear expression" if linear else "a quadratic expression"
            raise DataError([Fault(leader.name, what.name, "", "another", expected)])
        on_d, on_x = np.zeros(len(d)), np.zeros(len(x))
        faults = [
            Fault(leader.name, what.name, "", v.name, "a variable of the leader's model")
            for v in (*repn.linear_vars, *(v for pair in repn.quadratic_vars for v in pair))
            if id(v) not in at
        ]
        if faults:
            raise DataError(faults)
        for variable, factor in zip(repn.linear_vars, repn.linear_coefs, strict=True):
            side = on_x if id(variable) in inside else on_d
            side[at[id(variable)]] += factor
        return on_d, on_x, float(pyo.value(repn.constant)), repn

    def rows(constraints: Iterable[Any], equalities: bool) -> dict[str, Any]:
        equal: list[tuple[Any, ...]] = []
        most: list[tuple[Any, ...]] = []
        for row in constraints:
            on_d, on_x, constant, _ = parts(row, linear=True)
            if row.equality and equalities:
                equal.append((on_d, on_x, pyo.value(row.upper) - constant, row.name))
                continue
            if row.has_ub():
                most.append((on_d, on_x, pyo.value(row.upper) - constant, row.name))
            if row.has_lb():
                most.append((-on_d, -on_x, constant - pyo.value(row.lower), row.name))
        return {"equal": _stacked(equal, len(d), len(x)), "most": _stacked(most, len(d), len(x))}

    goal, value = (
        _objective(follower, set()),
        _objective(leader, {_objective(follower, set()).name}),
    )
    _, c, _, repn = parts(goal, linear=False)
    q, mixed = np.zeros((len(x), len(x))), np.zeros((len(x), len(d)))
    for (one, two), factor in zip(repn.quadratic_vars, repn.quadratic_coefs, strict=True):
        kinds = id(one) in inside, id(two) in inside
        if kinds == (True, True):
            q[at[id(one)], at[id(two)]] += factor
            q[at[id(two)], at[id(one)]] += factor
        elif any(kinds):
            mine, other = (one, two) if kinds[0] else (two, one)
            mixed[at[id(mine)], at[id(other)]] += factor
    on_d, on_x, _, _ = parts(value, linear=True)
    mine, upper = rows(own, equalities=True), rows(theirs, equalities=False)["most"]
    equal, most = mine["equal"], mine["most"]
    return Bilevel(
        Follower(
            c=c, a=equal[1], b=equal[2], g=most[1], h=most[2], lower=_bounds(x, "lb"),
            upper=_bounds(x, "ub"), c_leader=csr_array(mixed), q=csr_array(q),
            a_leader=equal[0], g_leader=most[0], names=[v.name for v in x],
            equation_names=equal[3], row_names=most[3],
        ),
        cost=on_d, cost_follower=on_x, lower=_bounds(d, "lb"), upper=_bounds(d, "ub"),
        rows=upper[0], rows_follower=upper[1], limit=upper[2],
        integer=np.array([not v.is_continuous() for v in d], dtype=bool),
        names=[v.name for v in d], row_names=upper[3],
    )  # fmt: skip


def _objective(block: pyo.Block, without: set[str]) -> Any:
    """The one active objective of a block, to be minimised."""
    found = [
        o for o in block.component_data_objects(pyo.Objective, active=True) if o.name not in without
    ]
    if len(found) != 1 or found[0].sense != pyo.minimize:
        expected = "one objective, to be minimised"
        which = ", ".join(o.name for o in found) or "none"
        raise DataError([Fault(block.name, "", "", which, expected)])
    return found[0]


def _stacked(rows: list[tuple[Any, ...]], k: int, n: int) -> tuple[Any, ...]:
    on_d = np.array([row[0] for row in rows]).reshape(-1, k)
    on_x = np.array([row[1] for row in rows]).reshape(-1, n)
    rhs = np.array([row[2] for row in rows], dtype=float)
    return csr_array(on_d), csr_array(on_x), rhs, [row[3] for row in rows]


def _bounds(variables: list[Any], side: str) -> np.ndarray:
    none = -np.inf if side == "lb" else np.inf
    values = [v.value if v.fixed else getattr(v, side) for v in variables]
    return np.array([none if value is None else value for value in values], dtype=float)
