"""Linear programmes from Pyomo models."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
from pyomo.common.errors import InfeasibleConstraintException
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler
from scipy.sparse import csr_array

from flexlib.errors import Infeasible
from flexlib.linear_program import LinearProgram


def linear_program_of(model: pyo.ConcreteModel) -> tuple[LinearProgram, list[pyo.Var]]:
    """Arrays of a linear model, and its variables in the order of the columns.

    Raises
    ------
    ValueError
        If the objective is to be maximised.
    Infeasible
        Naming a constraint without variables that does not hold.
    """
    if any(
        o.sense != pyo.minimize for o in model.component_data_objects(pyo.Objective, active=True)
    ):
        raise ValueError(f"{model.name}: the objective must be minimised")
    try:
        form = LinearStandardFormCompiler().write(model, mixed_form=True)
    except InfeasibleConstraintException as error:
        raise Infeasible(f"{model.name}: {error}") from error
    sense = [row.bound_type for row in form.rows]
    rhs = np.asarray(form.rhs, dtype=float)
    lower, upper = zip(*(variable.bounds for variable in form.columns), strict=True)
    program = LinearProgram(
        c=form.c.toarray().ravel(),
        a=csr_array(form.A),
        row_lower=np.where(np.equal(sense, 1), -np.inf, rhs),
        row_upper=np.where(np.equal(sense, -1), np.inf, rhs),
        lower=np.array([-np.inf if value is None else value for value in lower], dtype=float),
        upper=np.array([np.inf if value is None else value for value in upper], dtype=float),
        row_names=[str(row.constraint.name) for row in form.rows],
        column_names=[str(variable.name) for variable in form.columns],
        integer=np.array([variable.is_integer() for variable in form.columns]),
        offset=float(np.ravel(form.c_offset)[0]),
    )
    return program, list(form.columns)
