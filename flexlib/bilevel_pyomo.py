"""Bilevel programmes from two Pyomo blocks: what is declared on the follower's is its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
    read = _Reader(leader, follower)
    d, x = read.d, read.x
    own = list(follower.component_data_objects(pyo.Constraint, active=True))
    every = leader.component_data_objects(pyo.Constraint, active=True)
    inside = {row.name for row in own}
    equal = read.rows((row for row in own if row.equality), equal=True)
    most = read.rows((row for row in own if not row.equality), equal=False)
    theirs = read.rows((row for row in every if row.name not in inside), equal=False)
    goal = _objective(follower, set())
    on_d, on_x = read.linear(_objective(leader, {goal.name}))[:2]
    c, c_leader, q = read.quadratic(goal)
    return Bilevel(
        Follower(
            c=c, c_leader=c_leader, q=q,
            a_leader=equal.on_d, a=equal.on_x, b=equal.right,
            g_leader=most.on_d, g=most.on_x, h=most.right,
            lower=_bounds(x, "lb"), upper=_bounds(x, "ub"), names=[v.name for v in x],
            equation_names=equal.names, row_names=most.names,
        ),
        cost=on_d, cost_follower=on_x, lower=_bounds(d, "lb"), upper=_bounds(d, "ub"),
        rows=theirs.on_d, rows_follower=theirs.on_x, limit=theirs.right,
        integer=np.array([not v.is_continuous() for v in d], dtype=bool),
        names=[v.name for v in d], row_names=theirs.names,
    )  # fmt: skip


@dataclass(frozen=True)
class _Rows:
    on_d: csr_array
    on_x: csr_array
    right: np.ndarray
    names: list[str]


class _Reader:
    """Coefficients of expressions in the variables of a leader and of its follower's block."""

    def __init__(self, leader: pyo.ConcreteModel, follower: pyo.Block) -> None:
        self.leader = leader
        self.x = list(follower.component_data_objects(pyo.Var))
        self.inside = {id(v) for v in self.x}
        every = leader.component_data_objects(pyo.Var)
        self.d = [v for v in every if id(v) not in self.inside]
        self.at = {id(v): j for group in (self.d, self.x) for j, v in enumerate(group)}
        faults = [
            Fault(follower.name, v.name, "", "an integer variable", "a continuous one")
            for v in self.x
            if not v.is_continuous()
        ]
        if faults:
            raise DataError(faults)

    def linear(self, what: Any) -> tuple[np.ndarray, np.ndarray, float]:
        """Factors of d and x in a constraint or objective, and its constant."""
        return self._linear(self._standard(what, "a linear expression"))

    def quadratic(self, goal: Any) -> tuple[np.ndarray, csr_array, csr_array]:
        """c, C and Q of a follower's objective; terms without its variables change nothing."""
        form = self._standard(goal, "a quadratic expression")
        q = np.zeros((len(self.x), len(self.x)))
        mixed = np.zeros((len(self.x), len(self.d)))
        for (one, two), factor in zip(form.quadratic_vars, form.quadratic_coefs, strict=True):
            kinds = id(one) in self.inside, id(two) in self.inside
            if all(kinds):
                q[self.at[id(one)], self.at[id(two)]] += factor
                q[self.at[id(two)], self.at[id(one)]] += factor
            elif any(kinds):
                mine, other = (one, two) if kinds[0] else (two, one)
                mixed[self.at[id(mine)], self.at[id(other)]] += factor
        return self._linear(form)[1], csr_array(mixed), csr_array(q)

    def rows(self, constraints: Iterable[Any], *, equal: bool) -> _Rows:
        """Equations, or each side of other constraints as an upper limit."""
        found: list[tuple[np.ndarray, np.ndarray, float, str]] = []
        for row in constraints:
            on_d, on_x, constant = self.linear(row)
            if row.has_ub():
                found.append((on_d, on_x, pyo.value(row.upper) - constant, row.name))
            if row.has_lb() and not equal:
                found.append((-on_d, -on_x, constant - pyo.value(row.lower), row.name))
        return _Rows(
            csr_array(np.array([row[0] for row in found]).reshape(-1, len(self.d))),
            csr_array(np.array([row[1] for row in found]).reshape(-1, len(self.x))),
            np.array([row[2] for row in found], dtype=float),
            [row[3] for row in found],
        )

    def _standard(self, what: Any, expected: str) -> Any:
        form = generate_standard_repn(what.body if hasattr(what, "body") else what.expr)
        squares = form.quadratic_vars and "linear" in expected
        if form.nonlinear_expr is not None or squares:
            raise DataError([Fault(self.leader.name, what.name, "", "another", expected)])
        used = (*form.linear_vars, *(v for pair in form.quadratic_vars for v in pair))
        faults = [
            Fault(self.leader.name, what.name, "", v.name, "a variable of the leader's model")
            for v in used
            if id(v) not in self.at
        ]
        if faults:
            raise DataError(faults)
        return form

    def _linear(self, form: Any) -> tuple[np.ndarray, np.ndarray, float]:
        on_d, on_x = np.zeros(len(self.d)), np.zeros(len(self.x))
        for variable, factor in zip(form.linear_vars, form.linear_coefs, strict=True):
            side = on_x if id(variable) in self.inside else on_d
            side[self.at[id(variable)]] += factor
        return on_d, on_x, float(pyo.value(form.constant))


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


def _bounds(variables: list[Any], side: str) -> np.ndarray:
    none = -np.inf if side == "lb" else np.inf
    values = [v.value if v.fixed else getattr(v, side) for v in variables]
    return np.array([none if value is None else value for value in values], dtype=float)
