"""Simpler substitutes of the band: quotas and prices for parts of the day instead of hours.

A *capacity subscription* gives each hub one quota on imports for a part of the day, free of charge
below it and dear above. A *demand charge* prices the largest import of a part. Both come from one
linear programme, :eq:`ties-quotas`: quotas are its solution, charges its shadow prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flexlib.centralised import Centralised
from flexlib.certificate import Certificate, Check, largest
from flexlib.hub_followers import Answer, answer
from flexlib.pricing_band import Band, import_band, import_overload_mwh
from flexlib.pricing_plan import Parts, Plan, import_plan
from flexlib.tariffs import DemandCharge, Tariff

_REGRET = 1e-6  # of a hub's cost, relative to 1 EUR or to its cost if that is more


@dataclass(frozen=True)
class DemandCharges:
    """Demand charges, and the plan that is an optimal answer to them.

    Parameters
    ----------
    plan : Plan
    tariff : Tariff
    benchmark : Centralised
        What the congestion is held against.
    """

    plan: Plan
    tariff: Tariff
    benchmark: Centralised

    @cached_property
    def reply(self) -> Answer:
        """Answer of the hubs, with the proven least bill of each."""
        return answer(self.plan.schedule.programme.hubs, self.tariff)

    @property
    def regret_eur(self) -> np.ndarray:
        """What the plan pays above a proven lower bound on the hub's bill, shape (hubs,)."""
        schedule = self.plan.schedule
        pays = schedule.cost_eur + self.tariff.bill_eur(schedule.m_in_mw, schedule.m_out_mw)
        return np.asarray(pays - self.reply.least_eur)

    @property
    def planned_mwh(self) -> float:
        """Overload of the plan in the direction of import, exports not credited."""
        return import_overload_mwh(self.plan.grid, self.plan.quantity_mw)

    @property
    def certificate(self) -> Certificate:
        """The plan's feasibility, and that it is an optimal answer."""
        scale = np.maximum(np.abs(self.plan.schedule.cost_eur), 1.0)
        regret = Check("regret of the plan, worst hub", largest(np.abs(self.regret_eur) / scale),
                       _REGRET, "relative")  # fmt: skip
        return Certificate((*self.plan.schedule.checks(), regret))

    @property
    def claim(self) -> str:
        """What is proven, in a sentence: of one answer, not of every one."""
        if not self.certificate.ok:
            return "Nothing is claimed: the plan is not an optimal answer."
        return (
            "One optimal answer has an overload in the direction of import of "
            f"{self.planned_mwh:.3f} MWh; the benchmark's bound is {self.benchmark.bound_mwh:.3f} "
            "MWh. Nothing is claimed of the others."
        )


def capacity_subscription(
    benchmark: Centralised,
    parts: Parts,
    *,
    kappa_eur_per_mwh: float = 20.0,
    overload_eur_per_mwh: float = 1000.0,
) -> Band:
    """One quota for each hub and part of the day: a band without an adder, :eq:`ties-quotas`.

    Parameters
    ----------
    benchmark : Centralised
    parts : sequence of sequences of int
        Hours of each part, see `flexlib.tariffs.day_parts`.
    kappa_eur_per_mwh, overload_eur_per_mwh
        See `flexlib.pricing_band.import_band`.

    Returns
    -------
    Band

    Raises
    ------
    DataError
        As `flexlib.pricing_band.import_band`.
    """
    return import_band(
        benchmark, kappa_eur_per_mwh=kappa_eur_per_mwh, place=0.0, parts=parts,
        overload_eur_per_mwh=overload_eur_per_mwh,
    )  # fmt: skip


def demand_charges(
    benchmark: Centralised, parts: Parts, *, overload_eur_per_mwh: float = 1000.0
) -> DemandCharges:
    """Charges on the largest import of each part of the day, :eq:`ties-charge`.

    The charge of a part is the sum of the shadow prices of its hours, at which the plan is an
    optimal answer. Other answers may be optimal, too.

    Parameters
    ----------
    benchmark : Centralised
        For its hubs and grid, the incidence of which must not be negative anywhere.
    parts : sequence of sequences of int
        Hours of each part; every hour in one of them.
    overload_eur_per_mwh : float
        Cost of an overload of weight 1 in the plan.

    Returns
    -------
    DemandCharges

    Raises
    ------
    DataError
        As `flexlib.pricing_plan.import_plan`.
    """
    plan = import_plan(benchmark, parts, np.inf, overload_eur_per_mwh)
    price = plan.price_eur_per_mwh
    charges = tuple(
        DemandCharge(tuple(hours), price[:, list(hours)].sum(axis=1)) for hours in parts
    )
    return DemandCharges(plan, Tariff(np.zeros(price.shape), charges=charges), benchmark)
