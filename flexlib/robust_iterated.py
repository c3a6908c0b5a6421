"""The robust market with voltages iterated to a fixed point on the worst case.

De Simone (2025) divides powers by the voltages of the baseline, which are neither those under the
activation nor those of the worst case. Here each limit is linear around the AC voltages at its own
worst deviation, under the activation that is found: at a fixed point linear model and AC power flow
agree at the worst case of every limit. Another corner can be worse by AC only where fixed voltages
point the wrong way; the certificate looks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from flexlib.certificate import Certificate, Check, largest
from flexlib.errors import Infeasible, NotSettled
from flexlib.market import Market
from flexlib.robust import Clearing, explained
from flexlib.robust_ac import ac_at_worst, ac_checks
from flexlib.robust_arrays import robust_optimum
from flexlib.robust_limits import CURRENT, LOWER, limits_that_can_bind, relinearised
from flexlib.robust_rows import cuts, worst_deviations

_SPARE = 0.05  # limits that come as close as this at the baseline are iterated
_MOST_ROUNDS = 20
_STEP_KW = 1e-3  # change of an activation, and
_MISFIT = 1e-6  # relative difference of linear model and AC, at which the iteration rests


@dataclass(frozen=True)
class IteratedClearing(Clearing):
    """Result of a robust market whose voltages have settled.

    Attributes
    ----------
    rounds : pandas.DataFrame
        One row a solve: cost_eur_per_h, step_kw (largest change of an activation), misfit
        (largest relative difference of a linear value at its worst deviation from AC).
    """

    rounds: pd.DataFrame

    @cached_property
    def certificate(self) -> Certificate:
        """Limits around their own voltages, agreement with AC, optimality and AC worst case."""
        optimum, net_kw = self.optimum, self.optimum.net_kw
        _, value = ac_at_worst(self.market, optimum.limits, net_kw)
        current = optimum.limits.kind == CURRENT
        over = np.where(optimum.limits.kind == LOWER, -1, 1) * (
            np.abs(value) - optimum.limits.limit
        )
        misfit = float(self.rounds["misfit"].iloc[-1])
        missing = cuts(self.market, optimum.limits, optimum.rows, net_kw)
        return Certificate(
            (
                *self.offer_checks,
                Check("rows of the set that are missing", len(missing), 0, ""),
                Check("linear model against AC at the worst cases", misfit, 1e-5, "relative"),
                Check("AC current at each limit's worst case", largest(over[current]), 1e-3, "A"),
                Check("AC voltage at each limit's worst case", largest(over[~current]), 0.1, "V"),
                *self.optimality_checks,
                *ac_checks(self.ac),
            )
        )


def clear_iterated(market: Market) -> IteratedClearing:
    """Clear with voltages that settle on each limit's worst case, :eq:`robust-fixed-point`.

    Parameters
    ----------
    market : Market
        With `Circle` as its norm each limit is met exactly at the worst case of its linear model.

    Returns
    -------
    IteratedClearing

    Raises
    ------
    Infeasible
        If in some round no activation that is offered is safe.
    NotSettled
        If the activation still moves after 20 rounds; carries their table, as
        `IteratedClearing.rounds`.
    """
    limits = limits_that_can_bind(market, _SPARE)
    rounds: list[tuple[float, float, float]] = []
    before_kw = np.zeros(len(market.offers))
    for _ in range(_MOST_ROUNDS):
        try:
            optimum = robust_optimum(market, limits)
        except Infeasible as error:
            raise explained(market, error) from error
        v_pu, value = ac_at_worst(market, limits, optimum.net_kw)
        linear = limits.values(
            market, worst_deviations(market, limits, optimum.net_kw), optimum.net_kw
        )
        misfit = largest(np.abs(linear - value) / limits.limit)
        step_kw = largest(np.abs(optimum.net_kw - before_kw))
        rounds.append((optimum.solution.objective, step_kw, misfit))
        if limits.facing is not None and misfit <= _MISFIT and step_kw <= _STEP_KW:
            return IteratedClearing(market, optimum, _table(rounds))
        before_kw = optimum.net_kw
        limits = relinearised(market, limits, v_pu, value / np.abs(value))
    steps = ", ".join(f"{step:.3g}" for _, step, _ in rounds[-4:])
    misfits = ", ".join(f"{misfit:.2g}" for _, _, misfit in rounds[-4:])
    raise NotSettled(
        f"{market.network.name}: the voltages do not settle in {_MOST_ROUNDS} rounds; the last "
        f"steps of the activation were {steps} kW, and the linear values differed from AC by "
        f"{misfits} of their limits",
        _table(rounds),
    )


def _table(rounds: list[tuple[float, float, float]]) -> pd.DataFrame:
    return pd.DataFrame(rounds, columns=["cost_eur_per_h", "step_kw", "misfit"])
