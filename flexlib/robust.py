"""The box-robust local flexibility market (source 004, chapter 2): clear it, and trust the answer.

The least costly activation of offered flexibility for which, in the linear AC model, every
current and voltage limit holds for every load in the box.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, hstack

from flexlib.certificate import Certificate, Check
from flexlib.errors import Infeasible
from flexlib.market import Market
from flexlib.robust_arrays import linear_program
from flexlib.robust_certificate import (
    AcWorstCase,
    State,
    ac_checks,
    ac_worst_case,
    branch_currents,
    model_checks,
    state_of_activation,
)
from flexlib.robust_limits import lambda_beta
from flexlib.solve import LinearProgram, Solution, solve


@dataclass(frozen=True)
class Clearing:
    """Result of a robust market.

    Attributes
    ----------
    market : Market
        What was cleared.
    solution : Solution
        Proven optimum of the programme.
    state : State
        All variables of the model at the baseline of the box.
    """

    market: Market
    solution: Solution
    state: State

    @property
    def cost_eur_per_h(self) -> float:
        """Cost of the activation, EUR per hour."""
        return self.solution.objective

    @cached_property
    def activation(self) -> pd.DataFrame:
        """Activated flexibility of each offer: load, up_kw, down_kw, cost_eur_per_h."""
        offers, state = self.market.offers, self.state
        up_eur = offers["price_up_eur_per_mwh"] * state.up_kw / 1000
        down_eur = offers["price_down_eur_per_mwh"] * state.down_kw / 1000
        return pd.DataFrame(
            {
                "load": offers["load"],
                "up_kw": state.up_kw,
                "down_kw": state.down_kw,
                "cost_eur_per_h": up_eur + down_eur,
            }
        )

    @cached_property
    def currents(self) -> pd.DataFrame:
        """Branch-end currents, see `flexlib.robust_certificate.branch_currents`."""
        return branch_currents(self.market, self.state)

    @cached_property
    def ac(self) -> AcWorstCase:
        """AC power flow at the corners of the box."""
        return ac_worst_case(self.market, self.state.up_kw, self.state.down_kw)

    @cached_property
    def certificate(self) -> Certificate:
        """Equations, limits over the box, optimality gap and AC worst case, recomputed."""
        s = self.solution
        gap = abs(s.objective - s.bound) / max(1.0, abs(s.objective))
        checks = model_checks(self.market, self.state, lambda_beta(self.market).error)
        optimality = Check("gap between cost and its lower bound", gap, 1e-6, "relative")
        return Certificate((*checks, optimality, *ac_checks(self.ac)))


def clear(market: Market) -> Clearing:
    """Find the least costly activation that is safe for every load in the box.

    Parameters
    ----------
    market : Market

    Returns
    -------
    Clearing

    Raises
    ------
    Infeasible
        If no activation that is offered is safe: names the limits in conflict, and says by how
        much the offers fall short.
    """
    program = linear_program(market)
    try:
        return clearing(market, solve(program))
    except Infeasible as error:
        limits = _limits(error.conflict)
        message = f"no activation of the offers is safe; in conflict: {', '.join(limits)}. "
        raise Infeasible(message + _shortfall(market, program), limits) from error


def clearing(market: Market, solution: Solution) -> Clearing:
    """Put a solution of the array route into a result.

    Parameters
    ----------
    market : Market
    solution : Solution
        Of `flexlib.robust_arrays.linear_program`.

    Returns
    -------
    Clearing
    """
    up_kw, down_kw = solution.x[: 2 * len(market.offers)].reshape(2, -1)
    return Clearing(market, solution, state_of_activation(market, up_kw, down_kw))


def _limits(rows: tuple[str, ...]) -> list[str]:
    """Network limits in words from the names of rows, each once."""
    words = []
    for row in rows:
        equation, _, index = row.rstrip("]").partition("[")
        first, *rest = index.split(",")
        if equation == "eq_83":
            words.append(f"current limit of branch {first} at its {rest[0]} end")
        else:
            words.append(f"{rest[0] if rest else 'lower'} voltage limit of bus {first}")
    return list(dict.fromkeys(words))


def _shortfall(market: Market, program: LinearProgram) -> str:
    """By how much the offers fall short, or which limits no volume of them can meet."""
    count = 2 * len(market.offers)
    extra = replace(
        program,
        c=np.concatenate([np.zeros(len(program.c)), np.ones(count)]),
        a=_beside(program, np.asarray(program.a[:, :count].toarray())),
        lower=np.concatenate([program.lower, np.zeros(count)]),
        upper=np.concatenate([program.upper, np.full(count, np.inf)]),
        column_names=program.column_names + [f"extra {n}" for n in program.column_names[:count]],
        integer=np.concatenate([program.integer, np.zeros(count, dtype=bool)]),
    )
    try:
        solution = solve(extra)
    except Infeasible:
        return _unmet(program)
    more_kw = solution.x[len(program.c) :]
    where = [
        f"{more_kw[k]:.3f} kW {'upward' if k < count // 2 else 'downward'} at "
        f"{market.offers['load'].iloc[k % (count // 2)]}"
        for k in np.flatnonzero(more_kw > 1e-6)
    ]
    return (
        f"The offers fall short by {more_kw.sum():.3f} kW in total; least addition: "
        + ", ".join(where)
        + "."
    )


def _unmet(program: LinearProgram) -> str:
    """Least violations of the limits when everything offered may be used."""
    rows = len(program.row_names)
    missing = np.where(np.isfinite(program.row_lower), 1.0, -1.0)
    relaxed = replace(
        program,
        c=np.concatenate([np.zeros(len(program.c)), np.ones(rows)]),
        a=_beside(program, np.diag(missing)),
        lower=np.concatenate([program.lower, np.zeros(rows)]),
        upper=np.concatenate([program.upper, np.full(rows, np.inf)]),
        column_names=program.column_names + [f"violation {name}" for name in program.row_names],
        integer=np.concatenate([program.integer, np.zeros(rows, dtype=bool)]),
    )
    violation = solve(relaxed).x[len(program.c) :]
    worst = [
        f"{_limits((program.row_names[row],))[0]} by {violation[row]:.3f} "
        f"{'A' if program.row_names[row].startswith('eq_83') else 'V'}"
        for row in np.flatnonzero(violation > 1e-6)
    ]
    return (
        "No volume of these offers is enough; least violations with them: " + ", ".join(worst) + "."
    )


def _beside(program: LinearProgram, columns: np.ndarray) -> csr_array:
    return csr_array(hstack([program.a, csr_array(columns)]))
