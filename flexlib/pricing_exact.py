"""Method C exactly: the leader's whole objective, proven as far as branch and bound gets.

From prices of one linear programme by joint steps and neighbourhood search to a good start, from
there by branch and bound. Two bounds stand beside the result: the centralised benchmark's on
congestion, and on the whole objective the best of strong duality's with McCormick's envelopes, of
that by truncated adders and of branch and bound's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import BigM
from flexlib.bilevel_solve import duality_bound, solve_bilevel
from flexlib.centralised import Centralised
from flexlib.certificate import Certificate, Check
from flexlib.errors import DataError, Fault, NotProven
from flexlib.hub_bilevel import decision, hub_big_m, priced_hubs
from flexlib.hub_bounds import truncation_bound
from flexlib.pricing import Prices, cheaper, linear_prices, priced
from flexlib.pricing_inverse import AdderWeights
from flexlib.pricing_neighbourhood import with_neighbourhoods
from flexlib.pricing_steps import objective, with_joint_steps
from flexlib.solver import Watch

REFORMULATIONS = ("kkt", "sos1")  # strong duality is not exact: adders are not integer
_TOLERANCE = 1e-6
_LEAST = 1e-3  # weighted MWh: gaps of smaller objectives are relative to this


@dataclass(frozen=True)
class ExactPrices:
    """Prices with a bound on the leader's whole objective.

    Attributes
    ----------
    prices : Prices
        With the certificate of the hubs' optimality and the bound on congestion.
    weights : AdderWeights
    bound : float
        Proven lower bound on the whole objective, in weighted MWh.
    source : str
        Where the bound comes from.
    gap_asked : float
        Relative gap at which the objective counts as proven.
    alarms : list of str
        Pairs whose multiplier sits at its M at the optimum; no fault, the M are derived.
    """

    prices: Prices
    weights: AdderWeights
    bound: float
    source: str
    gap_asked: float
    alarms: list[str]

    @property
    def objective(self) -> float:
        """Congestion and regularisation :eq:`prices-bilevel`, recomputed, weighted MWh."""
        return objective(self.prices, self.weights)

    @property
    def gap(self) -> float:
        """Objective above its bound, relative to it, or to 0.001 weighted MWh if that is more."""
        return (self.objective - self.bound) / max(self.objective, _LEAST)

    @property
    def proven(self) -> bool:
        """Whether the whole objective is optimal within the gap that was asked for."""
        return self.gap <= self.gap_asked + _TOLERANCE

    @property
    def certificate(self) -> Certificate:
        """Bilevel feasibility, each hub's optimality solved anew, and the bound below the value."""
        below = Check("bound above the objective", max(-self.gap, 0.0), _TOLERANCE, "relative")
        return Certificate((*self.prices.certificate.checks, below))

    @property
    def claim(self) -> str:
        """What is proven about the whole objective, in a sentence."""
        if self.proven:
            return (
                f"Objective {self.objective:.4f} is optimal within "
                f"{100 * self.gap_asked:g} % ({self.source})."
            )
        return (
            f"Optimality is not claimed: objective {self.objective:.4f}, bound {self.bound:.4f} "
            f"({self.source}), gap {100 * self.gap:.0f} %."
        )


def exact_prices(
    benchmark: Centralised,
    *,
    cap_eur_per_mwh: float = 60.0,
    weights: AdderWeights | None = None,
    reformulation: str = "kkt",
    cut: bool = False,
    search: bool = True,
    gap: float = 1e-3,
    time_limit_s: float = 600.0,
    watch: Watch | None = None,
) -> ExactPrices:
    """Adders of least whole objective :eq:`prices-bilevel`, with what is proven about them.

    Parameters
    ----------
    benchmark : Centralised
        Method B for the same hubs and grid.
    cap_eur_per_mwh : float
        D, the largest adder.
    weights : AdderWeights, optional
        The poster's by default.
    reformulation : {"kkt", "sos1"}
    cut : bool
        See `flexlib.bilevel_solve.solve_bilevel`.
    search : bool
        Whether neighbourhood search improves the start.
    gap : float
        Relative gap at which the objective counts as proven.
    time_limit_s : float
        Of the search, and again of branch and bound; neither with 0. What is found by then is
        returned with its bound.
    watch : callable, optional
        Called with bound and incumbent of branch and bound.

    Returns
    -------
    ExactPrices

    Raises
    ------
    DataError
        As `flexlib.pricing.linear_prices` and `flexlib.hub_bilevel.priced_hubs`; naming another
        reformulation, and a gap or time limit below 0.
    MissingExtra
        With "sos1" without the package pyscipopt, if it comes to branch and bound.
    """
    _assert_choices(reformulation, gap, time_limit_s)
    weights = weights or AdderWeights()
    hubs, grid = benchmark.schedule.programme.hubs, benchmark.grid
    problem = priced_hubs(hubs, grid, cap_eur_per_mwh, weights)
    best = with_joint_steps(linear_prices(benchmark, cap_eur_per_mwh=cap_eur_per_mwh,
                                          weights=weights), weights)  # fmt: skip
    m = hub_big_m(problem, hubs, cap_eur_per_mwh)
    bounds = {
        "congestion of the centralised benchmark": benchmark.bound_mwh,
        "strong duality with McCormick's envelopes": duality_bound(problem, m),
        "truncated adders": _truncated(best, weights),
    }
    alarms: list[str] = []

    def result() -> ExactPrices:
        source = max(bounds, key=bounds.__getitem__)
        return ExactPrices(best, weights, bounds[source], source, gap, alarms)

    if result().proven or time_limit_s == 0:
        return result()
    if search:
        best = with_neighbourhoods(best, weights, time_limit_s=time_limit_s)
        if result().proven:
            return result()
    adder, bounds["branch and bound"], alarms = _branched(
        problem, best, m if cut or reformulation == "kkt" else None,
        reformulation=reformulation, cut=cut, gap=gap, time_limit_s=time_limit_s, watch=watch,
    )  # fmt: skip
    tried = priced(benchmark, cap_eur_per_mwh, adder)
    best = min((best, tried, cheaper(tried, weights)), key=lambda one: objective(one, weights))
    return result()


def _branched(
    problem: Bilevel, prices: Prices, m: BigM | None, **options: Any
) -> tuple[np.ndarray, float, list[str]]:
    """Adders, bound and alarms of branch and bound from given prices."""
    before = prices.adder_eur_per_mwh
    start = decision(prices.benchmark.grid, before, prices.answer.schedule)
    try:
        found = solve_bilevel(problem, m=m, start=start, **options)
        d, bound, alarms = found.d, found.bound, found.alarms
    except NotProven as error:
        d, bound, alarms = start[0] if error.x is None else error.x, error.bound, []
    adder = d[: before.size].reshape(before.shape)
    return np.clip(adder, 0.0, prices.cap_eur_per_mwh), bound, alarms


def _truncated(prices: Prices, weights: AdderWeights) -> float:
    """Better of two bounds by truncated adders: at shadow prices, and nowhere above the adders."""
    benchmark, cap = prices.benchmark, prices.cap_eur_per_mwh
    shadow = truncation_bound(benchmark, cap_eur_per_mwh=cap, weights=weights)
    least = np.minimum(shadow.reference, prices.adder_eur_per_mwh)
    below = truncation_bound(benchmark, cap_eur_per_mwh=cap, weights=weights, reference=least)
    return max(shadow.value, below.value)


def _assert_choices(reformulation: str, gap: float, time_limit_s: float) -> None:
    faults = [
        Fault("exact_prices", "", name, f"{value:g}", "a number from 0")
        for name, value in (("gap", gap), ("time_limit_s", time_limit_s))
        if not value >= 0
    ]
    if reformulation not in REFORMULATIONS:
        expected = "one of " + ", ".join(map(repr, REFORMULATIONS))
        faults.append(Fault("exact_prices", "", "reformulation", repr(reformulation), expected))
    if faults:
        raise DataError(faults)
