"""Two-block bands: a plan's quantities at a low price, and what goes beyond them at a high one.

With a plan's quantities q^ and prices eta, a hub pays ``delta m + (eta - delta + kappa)(q - q^)^+``
and on net withdrawals also for ``(q^ - q)^+``. Where the top price exceeds eta, by kappa, and delta
does not, what a hub can deviate is linear in the money that it does not mind, :eq:`ties-band`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flexlib.centralised import Centralised
from flexlib.certificate import Certificate, Check, largest
from flexlib.errors import DataError, Fault
from flexlib.hub_grid import HubGrid
from flexlib.pricing_plan import Parts, Plan, assert_from_0, import_plan, net_plan
from flexlib.tariffs import Block, Quantity, Tariff, day_parts

MARGIN = 1e-6  # EUR/MWh above which a margin counts as one
_REGRET = 1e-6  # of a hub's cost, relative to 1 EUR or to its cost if that is more
_FORMS: dict[bool, tuple[Quantity, ...]] = {False: ("import",), True: ("withdrawal", "injection")}


@dataclass(frozen=True)
class Band:
    """A plan, and a tariff of two blocks that holds hubs to it.

    Parameters
    ----------
    plan : Plan
    tariff : Tariff
        An adder, and one block on imports; for a net plan one on net withdrawals above it and one
        on net injections above its negative.
    benchmark : Centralised
        What the congestion is held against.

    Raises
    ------
    DataError
        If the tariff has other blocks, charges or a quadratic part.
    """

    plan: Plan
    tariff: Tariff
    benchmark: Centralised

    def __post_init__(self) -> None:
        found, expected = tuple(block.of for block in self.tariff.blocks), _FORMS[self.plan.net]
        if found != expected or self.tariff.charges or not self.tariff.linear:
            fault = Fault("band", "", "blocks", f"{found}", f"{expected} and an adder, no more")
            raise DataError([fault])

    @property
    def quota_mw(self) -> np.ndarray:
        """q^, what is had at the low price, shape (hubs, hours)."""
        return self.tariff.blocks[0].above_mw

    @property
    def margin_eur_per_mwh(self) -> tuple[np.ndarray, np.ndarray]:
        """What a MWh more, and a MWh less, than the quota costs beyond the plan's price.

        ``delta + kappa - eta`` and ``eta - delta + kappa'``, shapes (hubs, hours).
        """
        below = self.plan.price_eur_per_mwh - self.tariff.adder_eur_per_mwh
        blocks = [block.more_eur_per_mwh for block in self.tariff.blocks]
        return blocks[0] - below, below + blocks[1] if self.plan.net else below

    @property
    def least_margin_eur_per_mwh(self) -> np.ndarray:
        """Least margin of each hub, over the hours, shape (hubs,).

        Above the quota; in a net band on both sides.
        """
        more, less = self.margin_eur_per_mwh
        return np.asarray((np.minimum(more, less) if self.plan.net else more).min(axis=1))

    @property
    def regret_eur(self) -> np.ndarray:
        """What the plan pays above the bound from which deviations are counted, shape (hubs,).

        0 where the plan is optimal at its prices and takes its quotas wherever these have a price
        above the adder. ``c x^ + bill(x^) + (eta - delta) q^ - min_x (c x + eta q(x))``.
        """
        schedule = self.plan.schedule
        pays = schedule.cost_eur + self.tariff.bill_eur(schedule.m_in_mw, schedule.m_out_mw)
        below = self.plan.price_eur_per_mwh - self.tariff.adder_eur_per_mwh
        return np.asarray(pays + (below * self.quota_mw).sum(axis=1) - self.plan.least_eur)

    @property
    def rows_of_hub(self) -> np.ndarray:
        """N of the hubs, see `rows_of_hub`."""
        return rows_of_hub(self.plan.grid)

    @property
    def planned_mwh(self) -> float:
        """Overload if all hubs take their quotas: of imports, or of a net band congestion."""
        grid = self.plan.grid
        if self.plan.net:
            return grid.congestion_mwh(self.quota_mw)
        return import_overload_mwh(grid, self.quota_mw)

    def bound_mwh(self, eps_eur: np.ndarray | float = 0.0) -> float:
        """Upper bound :eq:`ties-band-bound` on the overload of every answer within a tolerance.

        Of a band on imports, overload in the direction of import; of a net band, congestion.

        Parameters
        ----------
        eps_eur : numpy.ndarray, shape (hubs,), or float
            What each hub does not mind. 0 for optimal answers, the worst of them.

        Returns
        -------
        float
            MWh; infinite where a condition fails.
        """
        if self.failed:
            return float(np.inf)
        room = np.maximum(self.regret_eur, 0.0) + eps_eur
        more = self.rows_of_hub * room / self.least_margin_eur_per_mwh
        return self.planned_mwh + float(more.sum())

    @property
    def conditions(self) -> pd.DataFrame:
        """Conditions of the bound: index the condition; value, most, unit, holds."""
        more, less = self.margin_eur_per_mwh
        rows = {
            "top price above the plan's price": (MARGIN - more.min(), 0.0, "EUR/MWh"),
            "low price at most the plan's price": (-less.min(), MARGIN, "EUR/MWh"),
        }
        if self.plan.net:
            rows["low price at most the plan's price"] = (MARGIN - less.min(), 0.0, "EUR/MWh")
        else:
            relief = abs(float(self.plan.grid.incidence.minimum(0).sum()))
            rows["no withdrawal relieves a row"] = (relief, 0.0, "")
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "most", "unit"])
        table["holds"] = np.where(table["value"] <= table["most"], "yes", "NO")
        return table.rename_axis("condition")

    @property
    def failed(self) -> list[str]:
        """Conditions that do not hold."""
        table = self.conditions
        return [str(name) for name in table.index[table["holds"] == "NO"]]

    @property
    def certificate(self) -> Certificate:
        """The plan's feasibility, and that it is optimal at its prices."""
        scale = np.maximum(np.abs(self.plan.schedule.cost_eur), 1.0)
        regret = Check("regret of the plan, worst hub", largest(np.abs(self.regret_eur) / scale),
                       _REGRET, "relative")  # fmt: skip
        return Certificate((*self.plan.schedule.checks(), regret))

    @property
    def claim(self) -> str:
        """What is proven about the overload of every answer, in a sentence."""
        if self.failed:
            return f"No bound is claimed. Not met: {'; '.join(self.failed)}."
        kind = "Congestion" if self.plan.net else "Overload in the direction of import"
        slope = float((self.rows_of_hub / self.least_margin_eur_per_mwh).max())
        return (
            f"{kind} of every optimal answer is at most {self.bound_mwh():.3f} MWh, planned "
            f"{self.planned_mwh:.3f} MWh, and at most {slope:.3f} MWh more for each EUR that a hub "
            f"does not mind; the benchmark's bound is {self.benchmark.bound_mwh:.3f} MWh."
        )


def import_band(
    benchmark: Centralised,
    *,
    kappa_eur_per_mwh: float = 20.0,
    place: float = 1.0,
    parts: Parts | None = None,
    cap_eur_per_mwh: float = 60.0,
    top_eur_per_mwh: float = np.inf,
    overload_eur_per_mwh: float = 1000.0,
) -> Band:
    """Band on imports around the quotas of one linear programme, :eq:`ties-band`.

    Parameters
    ----------
    benchmark : Centralised
        Method B for the same hubs and grid, the incidence of which must not be negative anywhere.
    kappa_eur_per_mwh : float
        By how much the top price is above the plan's price, the margin of the bound.
    place : float
        Where in [0, plan's price] the adder is, from 0 to 1: it moves money, not the plan.
    parts : sequence of sequences of int, optional
        Parts of the day with one quota each, a capacity subscription; hours by default.
    cap_eur_per_mwh : float
        D, largest adder; the block above the quota is not held to it.
    top_eur_per_mwh : float
        Largest price above the quota, infinite by default; the plan's own prices are held at it
        less kappa.
    overload_eur_per_mwh : float
        Cost of an overload of weight 1 in the plan.

    Returns
    -------
    Band

    Raises
    ------
    DataError
        As `flexlib.pricing_plan.import_plan`; if kappa, place or a cap are out of range.
    """
    _assert_range(kappa_eur_per_mwh, place, cap_eur_per_mwh)
    if not top_eur_per_mwh >= kappa_eur_per_mwh:
        expected = f"at least kappa, {kappa_eur_per_mwh:g}, so that a price of 0 is possible"
        fault = Fault("tariff design", "", "top_eur_per_mwh", f"{top_eur_per_mwh:g}", expected)
        raise DataError([fault])
    parts = day_parts(benchmark.grid.hours, 1) if parts is None else parts
    most = top_eur_per_mwh - kappa_eur_per_mwh
    plan = import_plan(benchmark, parts, most, overload_eur_per_mwh)
    quota = np.zeros_like(plan.quantity_mw)
    for members in parts:
        most = plan.quantity_mw[:, list(members)].max(axis=1, keepdims=True)
        quota[:, list(members)] = np.maximum(most, 0.0)
    adder = np.minimum(place * plan.price_eur_per_mwh, cap_eur_per_mwh)
    more = plan.price_eur_per_mwh - adder + kappa_eur_per_mwh
    return Band(plan, Tariff(adder, (Block(quota, more),)), benchmark)


def net_band(
    benchmark: Centralised,
    *,
    kappa_eur_per_mwh: float = 20.0,
    place: float = 1.0,
    cap_eur_per_mwh: float = 60.0,
) -> Band:
    """Band on net withdrawals around method B's least-cost schedule, :eq:`ties-net-band`.

    Parameters
    ----------
    benchmark : Centralised
        Of any grid; its shadow prices have no cap.
    kappa_eur_per_mwh : float
        Margin of the bound on either side.
    place : float
        Where in [0, plan's price] the adder on imports is, from 0 to 1, in hours in which the plan
        has a positive price and no export.
    cap_eur_per_mwh : float
        D, largest adder; the blocks beside the quota are not held to it.

    Returns
    -------
    Band

    Raises
    ------
    DataError
        If kappa, place or the cap are out of range.
    """
    _assert_range(kappa_eur_per_mwh, place, cap_eur_per_mwh)
    plan = net_plan(benchmark)
    price, w_mw = plan.price_eur_per_mwh, plan.quantity_mw
    adder = np.clip(place * price, 0.0, cap_eur_per_mwh)
    adder[plan.schedule.m_out_mw > 0] = 0.0
    more, less = price - adder + kappa_eur_per_mwh, adder - price + kappa_eur_per_mwh
    above = Block(w_mw, np.maximum(more, 0.0), "withdrawal")
    below = Block(-w_mw, np.maximum(less, 0.0), "injection")
    return Band(plan, Tariff(adder, (above, below)), benchmark)


def rows_of_hub(grid: HubGrid) -> np.ndarray:
    """N: weighted sum of the rows that one MW of a hub loads or relieves, shape (hubs,)."""
    return np.asarray(abs(grid.incidence).T @ grid.weight)


def import_overload_mwh(grid: HubGrid, m_in_mw: np.ndarray) -> float:
    """Weighted overload in the direction of import if exports are not credited, MWh."""
    beyond = grid.loading_mw(m_in_mw) - grid.upper_mw[:, None]
    return float(grid.weight @ np.maximum(beyond, 0.0).sum(axis=1))


def _assert_range(kappa: float, place: float, cap: float) -> None:
    assert_from_0(kappa_eur_per_mwh=kappa, infinite=False)
    assert_from_0(cap_eur_per_mwh=cap)
    if not 0 <= place <= 1:
        raise DataError([Fault("tariff design", "", "place", f"{place:g}", "a number from 0 to 1")])
