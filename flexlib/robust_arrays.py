"""The array route of the robust market: a programme in the activations alone.

Voltages and currents are eliminated and only limits that can bind are written, so that the size of
the programme does not grow with the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from flexlib.errors import NotSettled
from flexlib.linear_program import LinearProgram, without_redundant_rows
from flexlib.market import Market
from flexlib.robust_limits import Limits, in_words
from flexlib.robust_rows import Rows, cuts, first_rows
from flexlib.solver import Solution, solve

_MOST_ROUNDS = 60  # of cuts


@dataclass(frozen=True)
class Optimum:
    """Proven optimum of a market's programme, with the rows that it took.

    Attributes
    ----------
    solution : Solution
    program : LinearProgram
        The last programme that was solved.
    limits : Limits
        The limits that can bind.
    rows : Rows
        All rows, with those that no activation can break.
    """

    solution: Solution
    program: LinearProgram
    limits: Limits
    rows: Rows

    def row_names(self, market: Market) -> list[str]:
        """Names that `rows` have in the programme, as far as it kept them."""
        return _row_names(market, self.limits, self.rows)

    @property
    def net_kw(self) -> np.ndarray:
        """Net upward activation of each offer."""
        count = self.rows.per_kw.shape[1]
        return self.solution.x[:count] - self.solution.x[count : 2 * count]


def robust_optimum(
    market: Market,
    limits: Limits,
    change: Callable[[LinearProgram], LinearProgram] = without_redundant_rows,
) -> Optimum:
    """Solve, add the rows that the solution breaks, and solve again until there are none.

    With planes and the band on the baseline there are none after the first solve.

    Parameters
    ----------
    market : Market
    limits : Limits
    change : callable
        What is made of the programme before it is solved.

    Returns
    -------
    Optimum

    Raises
    ------
    Infeasible, NotProven, SolveError
        See `flexlib.solver.solve`.
    NotSettled
        If rows are still missing after 60 rounds.
    """
    rows = first_rows(market, limits)
    for _ in range(_MOST_ROUNDS):
        program = change(linear_program(market, limits, rows))
        found = Optimum(solve(program), program, limits, rows)
        new = cuts(market, limits, rows, found.net_kw)
        if not len(new):
            return found
        rows = rows.and_more(new)
    beyond = float((new.per_kw @ found.net_kw - new.room).max())
    raise NotSettled(
        f"after {_MOST_ROUNDS} rounds of cuts a limit is still exceeded by {beyond:.3g} A or V"
    )


def linear_program(market: Market, limits: Limits, rows: Rows) -> LinearProgram:
    """The least costly activation within given rows.

    Parameters
    ----------
    market : Market
    limits : Limits
    rows : Rows

    Returns
    -------
    LinearProgram
        Columns: upward and downward activations in kW, then choices between alternative rows.
        The first rows are `rows`, in ampere or volt, named after their limits.
    """
    offers = market.offers
    lines = [(rows.limit[r], rows.normal[r]) for r in range(len(rows))]
    choices = list(dict.fromkeys(line for line, m in zip(lines, rows.big_m, strict=True) if m > 0))
    missed = np.zeros((len(rows), len(choices)))
    for r in np.flatnonzero(rows.big_m > 0):
        missed[r, choices.index(lines[r])] = rows.big_m[r]
    chosen = list(dict.fromkeys(limit for limit, _ in choices))
    one = np.array([[float(limit == of) for limit, _ in choices] for of in chosen])
    a = np.hstack([rows.per_kw, -rows.per_kw, missed])
    if chosen:
        a = np.vstack([a, np.hstack([np.zeros((len(chosen), 2 * len(offers))), one])])
    names = _row_names(market, limits, rows)
    price = offers[["price_up_eur_per_mwh", "price_down_eur_per_mwh"]].to_numpy().T.ravel()
    return LinearProgram(
        c=np.concatenate([price / 1000, np.zeros(len(choices))]),
        a=csr_array(a),
        row_lower=np.concatenate([np.full(len(rows), -np.inf), np.ones(len(chosen))]),
        row_upper=np.concatenate([rows.room + missed.sum(axis=1), np.full(len(chosen), np.inf)]),
        lower=np.zeros(a.shape[1]),
        upper=np.concatenate([market.volume_kw.ravel(), np.ones(len(choices))]),
        row_names=names
        + [f"{in_words(market, limits.kind[q], limits.at[q])}; one line" for q in chosen],
        column_names=[f"{way}[{load}]" for way in ("f_up", "f_down") for load in offers["load"]]
        + [f"holds[{k}]" for k in range(len(choices))],
        integer=np.arange(a.shape[1]) >= 2 * len(offers),
    )


def _row_names(market: Market, limits: Limits, rows: Rows) -> list[str]:
    words = {q: in_words(market, limits.kind[q], limits.at[q]) for q in set(rows.limit.tolist())}
    degrees = np.rad2deg(np.angle(rows.normal))
    return [
        f"{words[q]}; line at {degrees[r]:.4f} degrees, row {r}"
        for r, q in enumerate(rows.limit.tolist())
    ]
