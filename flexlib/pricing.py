"""Prices from one linear programme: capped adders as soft quotas on imports.

With X_i the hubs' sets, m imports, o exports, R >= 0 the grid's rows in the direction of import and
D the cap on the adder, one linear programme

    min sum_i c_i x_i + D 1's + rho 1'z  over  x_i in X_i,  s, z >= 0,
    R (m - s) - z <= limit - background + R o_hat

has multipliers mu of its grid rows whose sums ``delta = R' mu`` lie in [0, D] and make every x_i
optimal for its hub.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array, eye_array, hstack, kron, vstack

from flexlib.centralised import (
    CONGESTION_MWH,
    Centralised,
    congestion_cost,
    with_overloads,
)
from flexlib.certificate import Certificate, Check
from flexlib.errors import DataError, Fault
from flexlib.hub_followers import Answer, Schedule, answered, followers, optimal_answers
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.linear_program import LinearProgram
from flexlib.pricing_inverse import AdderWeights, cheapest_adder, closest_adder
from flexlib.solver import solve
from flexlib.tariffs import Tariff, no_tariff

_UPDATES = 6  # of the exports that the grid's rows are credited with
_ZERO = 1e-6  # EUR/MWh, MW or EUR that count as nothing in a condition


@dataclass(frozen=True)
class Prices:
    """Adders, and the hubs' answer to them that is best for the grid.

    Attributes
    ----------
    benchmark : Centralised
    cap_eur_per_mwh : float
    answer : Answer
        Tariff and schedules; the optimistic answer: of all that are optimal for the hubs, the
        least congested.
    congestion_mwh : float
        Weighted overloads of the answer, recomputed.
    """

    benchmark: Centralised
    cap_eur_per_mwh: float
    answer: Answer
    congestion_mwh: float

    @property
    def adder_eur_per_mwh(self) -> np.ndarray:
        """delta, shape (hubs, hours)."""
        return self.answer.tariff.adder_eur_per_mwh

    @property
    def gap_mwh(self) -> float:
        """Congestion above the proven bound of the benchmark."""
        return self.congestion_mwh - self.benchmark.bound_mwh

    @property
    def optimal(self) -> bool:
        """Whether no adders do better, by :eq:`prices-bounds`: the benchmark's bound is met."""
        return self.gap_mwh <= CONGESTION_MWH * max(1.0, self.congestion_mwh)

    @property
    def certificate(self) -> Certificate:
        """Bilevel feasibility: the schedules, the hubs' optimality, the cap."""
        above = float(self.adder_eur_per_mwh.max(initial=0.0)) - self.cap_eur_per_mwh
        cap = Check("adder above the cap", max(above, 0.0), 1e-6, "EUR/MWh")
        return Certificate((*self.answer.certificate.checks, cap))

    @property
    def claim(self) -> str:
        """What is proven about the congestion, in a sentence."""
        if self.optimal:
            return (
                f"Congestion of {self.congestion_mwh:.3f} MWh is optimal: "
                "it equals the bound of the centralised benchmark."
            )
        failed = self.conditions.index[self.conditions["holds"] == "NO"].tolist()
        why = "; ".join(failed) if failed else "no condition of the theorem fails"
        return (
            f"Optimality is not claimed: congestion {self.congestion_mwh:.3f} MWh, "
            f"bound {self.benchmark.bound_mwh:.3f} MWh. Not met: {why}."
        )

    @property
    def conditions(self) -> pd.DataFrame:
        """Conditions under which congestion must equal the benchmark's, see `conditions`."""
        return conditions(self.benchmark, self.cap_eur_per_mwh)


def linear_prices(
    benchmark: Centralised,
    *,
    cap_eur_per_mwh: float = 60.0,
    overload_eur_per_mwh: float = 1000.0,
    weights: AdderWeights | None = None,
) -> Prices:
    """Adders on imports for least congestion in :eq:`prices-bilevel`, by linear programmes alone.

    Two kinds of adders are tried: those of the soft quotas, with exports that follow the answers
    for some rounds, and those at which the benchmark's own schedule costs the hubs least more than
    their best. The least congested answer is kept, and the cheapest adders at which it is optimal
    are found; where another answer to these is better for the grid, that step is repeated.

    Parameters
    ----------
    benchmark : Centralised
        Method B for the same hubs and grid, whose bound the congestion is held against. The grid's
        incidence must not be negative anywhere.
    cap_eur_per_mwh : float
        D, the largest adder.
    overload_eur_per_mwh : float
        rho, cost of an overload of weight 1 in the programme of soft quotas.
    weights : AdderWeights, optional
        What the leader minimises beside congestion; the poster's by default.

    Returns
    -------
    Prices

    Raises
    ------
    DataError
        If a grid row has a negative entry, by name: a withdrawal that relieves a line has no
        quota. If the cap is not a positive number.
    """
    if not 0 < cap_eur_per_mwh < np.inf:
        found = f"{cap_eur_per_mwh:g}"
        raise DataError([Fault("linear_prices", "", "cap_eur_per_mwh", found, "a number above 0")])
    programme = benchmark.schedule.programme
    best = _from_quotas(benchmark, cap_eur_per_mwh, overload_eur_per_mwh)
    if not best.optimal:
        adder = closest_adder(programme, benchmark.schedule.x, cap_eur_per_mwh)
        best = _better(best, priced(benchmark, cap_eur_per_mwh, adder))
    return cheaper(best, weights or AdderWeights())


def cheaper(prices: Prices, weights: AdderWeights) -> Prices:
    """The cheapest adders for the answer; where these have a better one, for that, and so on."""
    benchmark, cap = prices.benchmark, prices.cap_eur_per_mwh
    while True:
        schedule = prices.answer.schedule
        now = priced(benchmark, cap, cheapest_adder(schedule.programme, schedule.x, cap, weights))
        if _better(prices, now) is prices:
            return replace(prices, answer=as_answer(schedule, now.answer))
        prices = now


def _from_quotas(benchmark: Centralised, cap: float, overload: float) -> Prices:
    """Best answer to the adders of the soft quotas, over the updates of the exports."""
    programme = benchmark.schedule.programme
    exports = np.zeros(programme.shape[:2])
    found: list[Prices] = []
    while len(found) < _UPDATES:
        adder = quota_adder(programme, benchmark.grid, exports, cap, overload)
        found.append(priced(benchmark, cap, adder))
        new = found[-1].answer.schedule.m_out_mw
        if found[-1].optimal or np.abs(new - exports).max(initial=0.0) < _ZERO:
            break
        exports = new
    return functools.reduce(_better, found)


def as_answer(schedule: Schedule, other: Answer) -> Answer:
    """A schedule as the answer to the tariff of another answer."""
    pays = schedule.cost_eur + other.tariff.bill_eur(schedule.m_in_mw)
    return Answer(other.tariff, schedule, pays, other.least_eur)


def _better(first: Prices, second: Prices) -> Prices:
    """The less congested of two, the first where they are equal."""
    margin = CONGESTION_MWH * max(1.0, first.congestion_mwh)
    return second if second.congestion_mwh < first.congestion_mwh - margin else first


def quota_adder(
    programme: HubProgramme,
    grid: HubGrid,
    exports_mw: np.ndarray,
    cap_eur_per_mwh: float,
    overload_eur_per_mwh: float,
) -> np.ndarray:
    """Adders :eq:`prices-adder` of the linear programme of soft quotas for given exports.

    Parameters
    ----------
    programme, grid, exports_mw, cap_eur_per_mwh, overload_eur_per_mwh
        See `quota_programme`.

    Returns
    -------
    numpy.ndarray, shape (hubs, hours)
        delta, EUR/MWh.
    """
    program = quota_programme(programme, grid, exports_mw, cap_eur_per_mwh, overload_eur_per_mwh)
    dual = solve(program).row_dual[len(programme.b) :]
    mu = np.maximum(-dual, 0.0).reshape(-1, grid.hours)
    return np.clip(grid.incidence.T @ mu, 0.0, cap_eur_per_mwh)


def quota_programme(
    programme: HubProgramme,
    grid: HubGrid,
    exports_mw: np.ndarray,
    cap_eur_per_mwh: float,
    overload_eur_per_mwh: float,
) -> LinearProgram:
    """The linear programme of soft quotas :eq:`prices-lp`.

    Parameters
    ----------
    programme : HubProgramme
    grid : HubGrid
    exports_mw : numpy.ndarray, shape (hubs, hours)
        o_hat.
    cap_eur_per_mwh, overload_eur_per_mwh : float
        D and rho.

    Returns
    -------
    LinearProgram
        Columns of the hubs, then s of each hub and hour, then z of each row and hour; rows of the
        hubs, then of the grid.

    Raises
    ------
    DataError
        If a grid row has a negative entry, by name.
    """
    assert_nonnegative(grid, programme.hubs)
    hubs, hours, _ = programme.shape
    own = followers(programme, no_tariff(hubs, hours))
    n, count, columns = hubs * hours, len(grid.names) * hours, len(own.c)
    m_in = programme.column("m_in").ravel()
    pick = coo_array((np.ones(n), (np.arange(n), m_in)), shape=(n, columns))
    spread = csr_array(kron(grid.incidence, eye_array(hours)))
    rows = hstack([spread @ pick, -spread, -eye_array(count)])
    room = grid.upper_mw[:, None] - grid.background + grid.incidence @ exports_mw
    beyond = overload_eur_per_mwh * np.repeat(grid.weight, hours)
    keys = [f"import limit of {name} hour {t}" for name in grid.names for t in range(hours)]
    return replace(
        own,
        c=np.concatenate([own.c, np.full(n, cap_eur_per_mwh), beyond]),
        a=csr_array(vstack([hstack([own.a, csr_array((own.a.shape[0], n + count))]), rows])),
        row_lower=np.concatenate([own.row_lower, np.full(count, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, room.ravel()]),
        lower=np.concatenate([own.lower, np.zeros(n + count)]),
        upper=np.concatenate([own.upper, np.full(n + count, np.inf)]),
        row_names=[*own.row_names, *keys],
        column_names=[*own.column_names, *["quota slack"] * n, *["overload"] * count],
        integer=np.zeros(columns + n + count, dtype=bool),
    )


def best_answer(programme: HubProgramme, grid: HubGrid, tariff: Tariff) -> Answer:
    """Of all optimal answers the least congested: the optimistic one of :eq:`prices-readings`."""
    face, _, dual = optimal_answers(programme, tariff)
    both = with_overloads(face, programme, grid)
    x = solve(replace(both, c=congestion_cost(both, grid))).x
    return answered(programme, tariff, x, dual)


def conditions(benchmark: Centralised, cap_eur_per_mwh: float) -> pd.DataFrame:
    """Conditions :eq:`prices-conditions` of reaching the benchmark's congestion, at its duals.

    Parameters
    ----------
    benchmark : Centralised
    cap_eur_per_mwh : float

    Returns
    -------
    pandas.DataFrame
        Index the condition; value, most (that is allowed), unit and holds.
    """
    grid, schedule = benchmark.grid, benchmark.schedule
    adder = grid.incidence.T @ benchmark.import_shadow
    reverse = grid.incidence.T @ benchmark.export_shadow
    rows = {
        "no withdrawal relieves a row": (abs(grid.incidence.minimum(0).sum()), 0.0, ""),
        "the cap does not bind": (adder.max(initial=0.0), cap_eur_per_mwh, "EUR/MWh"),
        "no reverse limit binds": (np.abs(reverse).max(initial=0.0), 0.0, "EUR/MWh"),
        "no export where there is an adder": ((adder * schedule.m_out_mw).sum(), 0.0, "EUR"),
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "most", "unit"])
    table["holds"] = np.where(table["value"] <= table["most"] + _ZERO, "yes", "NO")
    return table.rename_axis("condition")


def assert_nonnegative(grid: HubGrid, hubs: Hubs) -> None:
    """Raise `DataError` naming every row in which a withdrawal relieves a line."""
    table = grid.incidence.tocoo()
    faults = [
        Fault(
            "grid", grid.names[row], f"factor of {hubs.table['hub'][hub]}", f"{value:g}",
            "a number from 0: a withdrawal that relieves a line has no quota",
        )
        for row, hub, value in zip(table.row, table.col, table.data, strict=True)
        if value < 0
    ]  # fmt: skip
    if faults:
        raise DataError(faults)


def priced(benchmark: Centralised, cap_eur_per_mwh: float, adder: np.ndarray) -> Prices:
    """Adders with the answer that is best for the grid.

    Parameters
    ----------
    benchmark : Centralised
    cap_eur_per_mwh : float
    adder : numpy.ndarray, shape (hubs, hours)
    """
    grid, programme = benchmark.grid, benchmark.schedule.programme
    reply = best_answer(programme, grid, Tariff(adder))
    congestion = grid.congestion_mwh(reply.schedule.w_mw)
    return Prices(benchmark, cap_eur_per_mwh, reply, congestion)
