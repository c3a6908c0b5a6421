"""The box-robust local flexibility market: clear it, and trust the answer.

After De Simone (2025), chapter 2: the least costly activation of offered flexibility for which,
in the linear AC model, every current and voltage limit holds for every load in the box.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, diags_array, eye_array, hstack, vstack

from flexlib.certificate import Certificate, Check, largest
from flexlib.errors import Infeasible, VoltageAngleError
from flexlib.linear_program import LinearProgram, without_redundant_rows
from flexlib.market import Market
from flexlib.robust_ac import AcWorstCase, ac_checks, ac_worst_case
from flexlib.robust_arrays import Optimum, linear_program, robust_optimum
from flexlib.robust_certificate import (
    State,
    branch_currents,
    model_checks,
    state_of_activation,
)
from flexlib.robust_limits import CURRENT, limits_that_can_bind
from flexlib.robust_rows import first_rows
from flexlib.solver import Solution, solve

_MOST_ROUNDS = 20  # of raising offers until they suffice


@dataclass(frozen=True)
class Clearing:
    """Result of a robust market.

    Attributes
    ----------
    market : Market
        What was cleared.
    optimum : Optimum
        Proven optimum of the programme.
    """

    market: Market
    optimum: Optimum

    @property
    def solution(self) -> Solution:
        """Solution of the programme."""
        return self.optimum.solution

    @cached_property
    def state(self) -> State:
        """All variables of the model at the baseline of the uncertainty."""
        up_kw, down_kw = self.solution.x[: 2 * len(self.market.offers)].reshape(2, -1)
        return state_of_activation(self.market, up_kw, down_kw)

    @property
    def cost_eur_per_h(self) -> float:
        """Cost of the activation, EUR per hour."""
        return self.solution.objective

    @cached_property
    def activation(self) -> pd.DataFrame:
        """Activated flexibility of each offer (load, up_kw, down_kw, cost_eur_per_h)."""
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
        """AC power flow at the corners of the set."""
        return ac_worst_case(self.market, self.state.up_kw, self.state.down_kw)

    @property
    def offer_checks(self) -> tuple[Check, ...]:
        """Whether the activation stays within the offers."""
        activated_kw = np.array([self.state.up_kw, self.state.down_kw])
        beyond = np.maximum(-activated_kw, activated_kw - self.market.volume_kw)
        return (Check("activation within the offers", largest(beyond), 1e-6, "kW"),)

    @property
    def optimality_checks(self) -> tuple[Check, ...]:
        """Cost recomputed, and the gap to its lower bound."""
        s = self.solution
        gap = abs(s.objective - s.bound) / max(1.0, abs(s.objective))
        cost = abs(self.activation["cost_eur_per_h"].sum() - s.objective)
        return (
            Check("cost (75) of the activation", cost, 1e-6, "EUR/h"),
            Check("gap between cost and its lower bound", gap, 1e-6, "relative"),
        )

    @cached_property
    def certificate(self) -> Certificate:
        """Equations, limits over the set, optimality gap and AC worst case, recomputed."""
        norm = self.optimum.limits.voltage_norm
        checks = model_checks(self.market, self.state, norm.error)
        return Certificate(
            (*self.offer_checks, *checks, *self.optimality_checks, *ac_checks(self.ac))
        )


def clear(market: Market) -> Clearing:
    """Find the least costly activation that is safe for every load in the set.

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
    VoltageAngleError
        If the offers reach voltage angles above 45 degrees.
    """
    limits = limits_that_can_bind(market)
    try:
        return Clearing(market, robust_optimum(market, limits))
    except Infeasible as error:
        raise explained(market, error) from error


def explained(market: Market, error: Infeasible) -> Infeasible:
    """The error of a market that no activation saves, in words of limits and offers.

    Parameters
    ----------
    market : Market
    error : Infeasible
        Names rows of its programme.

    Returns
    -------
    Infeasible
        Names the limits in conflict, and says by how much the offers fall short.
    """
    conflict = list(dict.fromkeys(row.rpartition("; ")[0] for row in error.conflict))
    message = f"no activation of the offers is safe; in conflict: {', '.join(conflict)}. "
    return Infeasible(message + _shortfall(market), conflict)


def _shortfall(market: Market) -> str:
    """By how much the offers fall short, or which limits no volume of them can meet."""
    more_kw, wider, at_least = np.zeros_like(market.volume_kw), market, "at least "
    for _ in range(_MOST_ROUNDS):  # a larger offer widens the angle band of the voltage norm
        try:
            added_kw = _least_addition_kw(wider)
        except (Infeasible, VoltageAngleError):
            return _unmet(market)
        more_kw = more_kw + added_kw
        if added_kw.sum() < 1e-6:
            at_least = ""
            break
        up_kw, down_kw = market.volume_kw + more_kw
        offers = market.offers.assign(up_max_kw=up_kw, down_max_kw=down_kw)
        wider = replace(market, offers=offers)
    where = [
        f"{kw:.3f} kW {way} at {load}"
        for way, row in zip(("upward", "downward"), more_kw, strict=True)
        for load, kw in zip(market.offers["load"], row, strict=True)
        if kw > 1e-6
    ]
    return (
        f"The offers fall short by {at_least}{more_kw.sum():.3f} kW in total; "
        f"least addition: {', '.join(where)}."
    )


def _first_program(market: Market) -> LinearProgram:
    limits = limits_that_can_bind(market)
    return linear_program(market, limits, first_rows(market, limits))


def _least_addition_kw(market: Market) -> np.ndarray:
    """Least total volume that makes the market feasible, shape (2, offers)."""
    count = market.volume_kw.size

    def with_additions(program: LinearProgram) -> LinearProgram:
        columns, free = len(program.c), np.full(count, np.inf)
        added = csr_array(hstack([eye_array(count, columns), -eye_array(count)]))
        limited = csr_array(hstack([program.a, csr_array((len(program.row_names), count))]))
        return replace(
            program,
            c=np.concatenate([np.zeros(columns), np.ones(count)]),
            a=csr_array(vstack([limited, added])),
            row_lower=np.concatenate([program.row_lower, -free]),
            row_upper=np.concatenate([program.row_upper, market.volume_kw.ravel()]),
            lower=np.concatenate([program.lower, np.zeros(count)]),
            upper=np.concatenate([free, program.upper[count:], free]),
            row_names=[*program.row_names, *(f"offer; {k}" for k in range(count))],
            column_names=[*program.column_names, *(f"extra {k}" for k in range(count))],
            integer=np.concatenate([program.integer, np.zeros(count, dtype=bool)]),
        )

    found = robust_optimum(market, limits_that_can_bind(market), with_additions)
    return found.solution.x[-count:].reshape(2, -1)


def _unmet(market: Market) -> str:
    """Least violations of the limits when everything offered may be used."""
    program = without_redundant_rows(_first_program(market))
    rows = len(program.row_names)
    missing = np.where(np.isfinite(program.row_lower), 1.0, -1.0)
    relaxed = replace(
        program,
        c=np.concatenate([np.zeros(len(program.c)), np.ones(rows)]),
        a=csr_array(hstack([program.a, diags_array(missing)])),
        lower=np.concatenate([program.lower, np.zeros(rows)]),
        upper=np.concatenate([program.upper, np.full(rows, np.inf)]),
        column_names=program.column_names + [f"violation {name}" for name in program.row_names],
        integer=np.concatenate([program.integer, np.zeros(rows, dtype=bool)]),
    )
    violation = solve(relaxed).x[len(program.c) :]
    worst: dict[str, str] = {}
    for row in np.argsort(-violation, kind="stable"):
        if violation[row] > 1e-6:
            limit = program.row_names[row].rpartition("; ")[0]
            unit = "A" if limit.startswith(CURRENT) else "V"
            worst.setdefault(limit, f"by {violation[row]:.3f} {unit}")
    listed = ", ".join(f"{limit} {amount}" for limit, amount in worst.items())
    return f"No volume of these offers is enough; least violations with them: {listed}."
