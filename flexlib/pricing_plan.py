"""Plans that tariffs hold hubs to: what a planner lets each hub take, and at which prices.

A plan is a schedule x^ of all hubs with prices eta of imports, or of net withdrawals, at which it
costs each hub least, up to a gap that is recomputed from the data. Tariffs that have no ties are
built around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array, hstack, kron, vstack

from flexlib.centralised import Centralised
from flexlib.errors import DataError, Fault
from flexlib.hub_followers import Schedule, followers
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.linear_program import LinearProgram, dual_terms
from flexlib.pricing import assert_nonnegative
from flexlib.solver import solve
from flexlib.tariffs import no_tariff

Parts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Plan:
    """What a planner wants of the hubs.

    Parameters
    ----------
    grid : HubGrid
    schedule : Schedule
        x^.
    price_eur_per_mwh : numpy.ndarray, shape (hubs, hours)
        eta: of imports not below 0, of net withdrawals of any sign.
    net : bool
        Whether the price is one of net withdrawals.
    """

    grid: HubGrid
    schedule: Schedule
    price_eur_per_mwh: np.ndarray
    net: bool = False

    @property
    def quantity_mw(self) -> np.ndarray:
        """Imports of the plan, or its net withdrawals, shape (hubs, hours)."""
        return self.schedule.w_mw if self.net else self.schedule.m_in_mw

    @cached_property
    def least_eur(self) -> np.ndarray:
        """Proven lower bound on what each hub pays at the prices, shape (hubs,).

        ``min c x + eta q(x)`` over its schedules, from the duals of its own programme.
        """
        programme = self.schedule.programme
        own = followers(programme, no_tariff(*programme.shape[:2]))
        c = own.c.copy()
        c[programme.column("m_in")] += self.price_eur_per_mwh
        if self.net:
            c[programme.column("m_out")] -= self.price_eur_per_mwh
        own = replace(own, c=c)
        rows, columns = dual_terms(own, solve(own).row_dual)
        hubs = programme.shape[0]
        return rows.reshape(hubs, -1).sum(axis=1) + columns.reshape(hubs, -1).sum(axis=1)

    @property
    def gap_eur(self) -> np.ndarray:
        """What each hub could save at most by another schedule, at the prices, shape (hubs,)."""
        pays = self.schedule.cost_eur + (self.price_eur_per_mwh * self.quantity_mw).sum(axis=1)
        return np.asarray(pays - self.least_eur)


def net_plan(benchmark: Centralised) -> Plan:
    """Method B's least-cost schedule, with the shadow prices of both directions.

    ``pi = R'(mu - nu)``: a limit against the direction of import pays for withdrawals. Any grid.

    Parameters
    ----------
    benchmark : Centralised
    """
    price = benchmark.grid.incidence.T @ (benchmark.import_shadow - benchmark.export_shadow)
    return Plan(benchmark.grid, benchmark.schedule, np.asarray(price), net=True)


def import_plan(
    benchmark: Centralised, parts: Parts, cap_eur_per_mwh: float, overload_eur_per_mwh: float
) -> Plan:
    """Least cost with one quota on imports for each hub and part of the day, :eq:`ties-quotas`.

    Exports are not credited to the rows. The price of an import is the shadow price of its quota.

    Parameters
    ----------
    benchmark : Centralised
        For its hubs and grid, the incidence of which must not be negative anywhere.
    parts : sequence of sequences of int
        Hours of each part; every hour in one of them.
    cap_eur_per_mwh : float
        Price at which imports beyond the quota can be had, an upper bound on the plan's prices;
        infinite for none.
    overload_eur_per_mwh : float
        Cost of an overload of weight 1.

    Raises
    ------
    DataError
        If a grid row has a negative entry, by name; if an hour is in no part or in two; if the
        cap or the cost of overloads is below 0 or no number.
    """
    programme, grid = benchmark.schedule.programme, benchmark.grid
    assert_nonnegative(grid, programme.hubs)
    _assert_parts(parts, grid.hours)
    assert_from_0(cap_eur_per_mwh=cap_eur_per_mwh)
    assert_from_0(overload_eur_per_mwh=overload_eur_per_mwh, infinite=False)
    program = _quota_programme(programme, grid, parts, cap_eur_per_mwh, overload_eur_per_mwh)
    solution = solve(program)
    first, n = len(programme.b), programme.shape[0] * grid.hours
    price = np.maximum(-solution.row_dual[first : first + n], 0.0).reshape(-1, grid.hours)
    return Plan(grid, Schedule(programme, solution.x[: len(programme.cost)]), price)


def assert_from_0(infinite: bool = True, **values: float) -> None:
    """Raise `DataError` naming the numbers that are below 0, not a number, or infinite."""
    expected = "a number from 0" if infinite else "a finite number from 0"
    faults = [
        Fault("tariff design", "", name, f"{value:g}", expected)
        for name, value in values.items()
        if not (0 <= value < np.inf or (infinite and value == np.inf))
    ]
    if faults:
        raise DataError(faults)


def _quota_programme(
    programme: HubProgramme, grid: HubGrid, parts: Parts, cap: float, overload: float
) -> LinearProgram:
    """Columns of the hubs, s of hubs and hours, quotas p of hubs and parts, overloads z."""
    hubs, hours, _ = programme.shape
    own = followers(programme, no_tariff(hubs, hours))
    n, count, columns = hubs * hours, len(grid.names) * hours, len(own.c)
    part = np.zeros(hours, dtype=int)
    for k, members in enumerate(parts):
        part[list(members)] = k
    of_hour = csr_array((np.ones(hours), (np.arange(hours), part)), shape=(hours, len(parts)))
    quota, m_in = csr_array(kron(eye_array(hubs), of_hour)), programme.column("m_in").ravel()
    pick = coo_array((np.ones(n), (np.arange(n), m_in)), shape=(n, columns))
    none = csr_array((n, count)), csr_array((count, columns + n))
    loading = csr_array(kron(grid.incidence, eye_array(hours))) @ quota
    room = (grid.upper_mw[:, None] - grid.background).ravel()
    priced = np.isfinite(cap)
    spare = n + hubs * len(parts) + count
    names = [own.column_names[k].replace("m_in", "quota") for k in m_in]
    return replace(
        own,
        c=np.concatenate(
            [
                own.c,
                np.full(n, cap if priced else 0.0),
                np.zeros(hubs * len(parts)),
                overload * np.repeat(grid.weight, hours),
            ]
        ),
        a=csr_array(
            vstack(
                [
                    hstack([own.a, csr_array((own.a.shape[0], spare))]),
                    hstack([pick, -eye_array(n), -quota, none[0]]),
                    hstack([none[1], loading, -eye_array(count)]),
                ]
            )
        ),
        row_lower=np.concatenate([own.row_lower, np.full(n + count, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, np.zeros(n), room]),
        lower=np.concatenate([own.lower, np.zeros(spare)]),
        upper=np.concatenate(
            [own.upper, np.full(n, np.inf if priced else 0.0), np.full(spare - n, np.inf)]
        ),
        row_names=[*own.row_names, *names, *(f"{r} hour {t}" for r in grid.names
                                             for t in range(hours))],
        column_names=[*own.column_names, *["beyond quota"] * n,
                      *["quota"] * (hubs * len(parts)), *["overload"] * count],
        integer=np.zeros(columns + spare, dtype=bool),
    )  # fmt: skip


def _assert_parts(parts: Parts, hours: int) -> None:
    """Raise `DataError` unless every hour is in exactly one part."""
    listed = [hour for members in parts for hour in members]
    faults = [
        Fault("tariff design", f"hour {hour}", "parts", f"{listed.count(hour)} parts", "one part")
        for hour in range(hours)
        if listed.count(hour) != 1
    ] + [
        Fault("tariff design", "", "parts", f"hour {hour}", f"an hour from 0 to {hours - 1}")
        for hour in sorted(set(listed) - set(range(hours)))
    ]
    if faults:
        raise DataError(faults)
