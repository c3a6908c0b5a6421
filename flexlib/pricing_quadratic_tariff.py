"""A quadratic tariff: the marginal price of an import rises with the import, ``delta + rho m``.

One convex programme has the tariff's own quadratic in its objective; its shadow prices are the
adders, and each hub's answer has no ties in its imports, :eq:`ties-quadratic`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, diags_array

from flexlib.centralised import Centralised
from flexlib.certificate import Certificate, Check, largest
from flexlib.hub_followers import Schedule
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.linear_program import LinearProgram
from flexlib.pricing import quota_programme
from flexlib.pricing_band import import_overload_mwh, rows_of_hub
from flexlib.pricing_plan import Plan, assert_from_0
from flexlib.quadratic_program import solve_quadratic
from flexlib.tariffs import Tariff

_REGRET = 1e-6  # of a hub's cost, relative to 1 EUR or to its cost if that is more
_ZERO_MWH = 1e-6  # beyond the quotas at the cap, that counts as nothing


@dataclass(frozen=True)
class QuadraticTariff:
    """A quadratic tariff, and the plan that is every hub's answer to it.

    Parameters
    ----------
    plan : Plan
        Its prices are the marginal prices ``delta + rho m^``.
    tariff : Tariff
    benchmark : Centralised
        What the congestion is held against.
    beyond_mwh : float
        Imports that the programme buys at the cap: above 0 the cap binds.
    """

    plan: Plan
    tariff: Tariff
    benchmark: Centralised
    beyond_mwh: float

    @property
    def regret_eur(self) -> np.ndarray:
        """What the plan pays above the bound from which deviations are counted, shape (hubs,).

        ``c x^ + bill(m^)`` less a lower bound on ``c x + bill'(m^) (m - m^) + bill(m^)``; 0 where
        the plan is the hub's answer.
        """
        rho = self.tariff.curvature_eur_per_mwh_per_mw
        marginal = self.tariff.adder_eur_per_mwh + rho * self.plan.quantity_mw
        apart = np.abs(marginal - self.plan.price_eur_per_mwh).max(initial=0.0)
        return self.plan.gap_eur if apart < _ZERO_MWH else np.full(len(rho), np.inf)

    @property
    def planned_mwh(self) -> float:
        """Overload of the plan in the direction of import, exports not credited."""
        return import_overload_mwh(self.plan.grid, self.plan.quantity_mw)

    def deviation_mw(self, eps_eur: np.ndarray | float = 0.0) -> np.ndarray:
        """How far imports can be from the plan, root of the sum of squares over the hours.

        ``sqrt(2 eps / rho)`` with the least rho of the hub, :eq:`ties-curved`; shape (hubs,).
        """
        least = self.tariff.curvature_eur_per_mwh_per_mw.min(axis=1)
        return _root(2 * self._room(eps_eur), least)

    def bound_mwh(self, eps_eur: np.ndarray | float = 0.0) -> float:
        """Upper bound on the import-side overload of every answer within a tolerance, MWh.

        Planned overload and ``sum_i N_i sqrt(2 eps_i sum_t 1 / rho_it)``; infinite without
        curvature.
        """
        if self.failed:
            return float(np.inf)
        spread = (1 / self.tariff.curvature_eur_per_mwh_per_mw).sum(axis=1)
        more = rows_of_hub(self.plan.grid) * np.sqrt(2 * self._room(eps_eur) * spread)
        return self.planned_mwh + float(more.sum())

    @property
    def conditions(self) -> pd.DataFrame:
        """Conditions of uniqueness and of the bound: index the condition; value, unit, holds."""
        least = float(self.tariff.curvature_eur_per_mwh_per_mw.min())
        relief = abs(float(self.plan.grid.incidence.minimum(0).sum()))
        rows = {
            "curvature above 0": (least, "EUR/MWh per MW", least > 0),
            "no withdrawal relieves a row": (relief, "", relief == 0),
        }
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "unit", "holds"])
        table["holds"] = np.where(table["holds"], "yes", "NO")
        return table.rename_axis("condition")

    @property
    def failed(self) -> list[str]:
        """Conditions that do not hold."""
        table = self.conditions
        return [str(name) for name in table.index[table["holds"] == "NO"]]

    @property
    def certificate(self) -> Certificate:
        """The plan's feasibility, and that it is each hub's answer."""
        scale = np.maximum(np.abs(self.plan.schedule.cost_eur), 1.0)
        regret = Check("regret of the plan, worst hub", largest(np.abs(self.regret_eur) / scale),
                       _REGRET, "relative")  # fmt: skip
        return Certificate((*self.plan.schedule.checks(), regret))

    @property
    def claim(self) -> str:
        """What is proven about every answer, in a sentence."""
        if self.failed:
            return f"Neither uniqueness nor a bound is claimed. Not met: {'; '.join(self.failed)}."
        binds = "The cap binds" if self.beyond_mwh > _ZERO_MWH else "The cap does not bind"
        return (
            "Imports of optimal answers are unique; their overload in the direction of import is "
            f"{self.planned_mwh:.3f} MWh, the benchmark's bound "
            f"{self.benchmark.bound_mwh:.3f} MWh. {binds}. Imports of a hub "
            "that does not mind 1 EUR are within "
            f"{self.deviation_mw(1.0).max():.3f} MW of them."
        )

    def _room(self, eps_eur: np.ndarray | float) -> np.ndarray:
        return np.asarray(np.maximum(self.regret_eur, 0.0) + eps_eur)


def quadratic_tariff(
    benchmark: Centralised,
    *,
    rho_eur_per_mwh_per_mw: np.ndarray | float = 10.0,
    cap_eur_per_mwh: float = 60.0,
    overload_eur_per_mwh: float = 1000.0,
) -> QuadraticTariff:
    """Adders for a given curvature, by one convex quadratic programme.

    The programme of soft quotas :eq:`prices-lp` without exports that are credited, and with
    ``1/2 rho m^2`` in its objective.

    Parameters
    ----------
    benchmark : Centralised
        Method B for the same hubs and grid, the incidence of which must not be negative anywhere.
    rho_eur_per_mwh_per_mw : numpy.ndarray, shape (hubs, hours), or float
        rho. Where it is 0 nothing is unique, and the claim is withdrawn.
    cap_eur_per_mwh : float
        D, the largest adder.
    overload_eur_per_mwh : float
        Cost of an overload of weight 1.

    Returns
    -------
    QuadraticTariff

    Raises
    ------
    DataError
        If a grid row has a negative entry, by name; if rho, the cap or the cost of overloads are
        below 0 or no finite number.
    """
    assert_from_0(
        cap_eur_per_mwh=cap_eur_per_mwh, overload_eur_per_mwh=overload_eur_per_mwh, infinite=False
    )
    programme, grid = benchmark.schedule.programme, benchmark.grid
    shape = programme.shape[:2]
    rho = np.broadcast_to(np.asarray(rho_eur_per_mwh_per_mw, dtype=float), shape).copy()
    nothing = np.zeros(shape)
    Tariff(nothing, curvature_eur_per_mwh_per_mw=rho)  # raises where rho is below 0
    program = quota_programme(programme, grid, nothing, cap_eur_per_mwh, overload_eur_per_mwh)
    program = _bounded(program, programme, grid)
    q = np.zeros(len(program.c))
    q[programme.column("m_in")] = rho
    solution = solve_quadratic(program, csr_array(diags_array(q)))
    mu = np.maximum(-solution.row_dual[len(programme.b) :], 0.0).reshape(-1, grid.hours)
    adder = np.clip(grid.incidence.T @ mu, 0.0, cap_eur_per_mwh)
    columns = len(programme.cost)
    schedule = Schedule(programme, solution.x[:columns])
    beyond = float(solution.x[columns : columns + nothing.size].sum())
    plan = Plan(grid, schedule, adder + rho * schedule.m_in_mw)
    tariff = Tariff(adder, curvature_eur_per_mwh_per_mw=rho)
    return QuadraticTariff(plan, tariff, benchmark, beyond)


def _bounded(program: LinearProgram, programme: HubProgramme, grid: HubGrid) -> LinearProgram:
    """Bound what is bought beyond quotas and limits by what can be: no optimum is cut off."""
    most = programme.upper[programme.column("m_in")]
    beyond = np.maximum(grid.loading_mw(most) - grid.upper_mw[:, None], 0.0)
    upper = np.concatenate([programme.upper, most.ravel(), beyond.ravel()])
    return replace(program, upper=upper)


def _root(square: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Root of a quotient, infinite where the divisor is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(np.divide(square, by, np.full(len(by), np.inf), where=by > 0)))
