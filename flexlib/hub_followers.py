"""Followers: what hubs answer to a tariff, all at once, and which other answers cost as little.

Each hub's programme is linear, so everything below falls apart into blocks, one a hub. Columns are
the hubs' variables and then, for each block of the tariff, the imports above its quantity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array, eye_array, hstack, vstack

from flexlib.certificate import Certificate, Check, largest
from flexlib.hub_programme import EQUATIONS, HubProgramme
from flexlib.hubs import VARIABLES, Hubs
from flexlib.linear_program import LinearProgram, dual_terms
from flexlib.solver import solve
from flexlib.tariffs import Tariff, no_tariff

GAP_EUR = 1e-6  # of a hub's cost, relative to 1 EUR or to its cost if that is more
_REDUCED_COST = 1e-7  # EUR/MWh from which a variable or a row is held where it is


@dataclass(frozen=True)
class Schedule:
    """What all hubs do.

    Attributes
    ----------
    programme : HubProgramme
    x : numpy.ndarray, shape (columns,)
        In the order hub, hour, variable.
    """

    programme: HubProgramme
    x: np.ndarray

    @property
    def m_in_mw(self) -> np.ndarray:
        """Imports, shape (hubs, hours)."""
        return np.asarray(self.x[self.programme.column("m_in")])

    @property
    def m_out_mw(self) -> np.ndarray:
        """Exports, shape (hubs, hours)."""
        return np.asarray(self.x[self.programme.column("m_out")])

    @property
    def w_mw(self) -> np.ndarray:
        """Net withdrawals :eq:`hubs-withdrawal`, shape (hubs, hours)."""
        return self.m_in_mw - self.m_out_mw

    @cached_property
    def cost_eur(self) -> np.ndarray:
        """Cost of each hub without what it pays to the DSO, shape (hubs,)."""
        cost = self.programme.cost * self.x
        return np.asarray(cost.reshape(self.programme.shape[0], -1).sum(axis=1))

    def frame(self, hub: str) -> pd.DataFrame:
        """Schedule of one hub: one row an hour, one column a variable, MW and MWh."""
        hubs = self.programme.hubs
        k = hubs.table["hub"].tolist().index(hub)
        hour = pd.Index(hubs.profiles["hour"].astype(int), name="hour")
        return pd.DataFrame(
            self.x.reshape(self.programme.shape)[k], index=hour, columns=list(VARIABLES)
        )

    def checks(self) -> tuple[Check, ...]:
        """Largest violation of each equation and of the bounds, recomputed from the tables."""
        programme = self.programme
        residual = np.abs(programme.a @ self.x - programme.b).reshape(-1, len(EQUATIONS))
        beyond = np.maximum(programme.lower - self.x, self.x - programme.upper)
        return (
            *(
                Check(name, largest(residual[:, k]), 1e-6, "MW or MWh")
                for k, name in enumerate(EQUATIONS)
            ),
            Check("bounds of the variables", largest(beyond), 1e-6, "MW or MWh"),
        )


@dataclass(frozen=True)
class Answer:
    """An answer of the hubs to a tariff, optimal for each of them.

    Attributes
    ----------
    tariff : Tariff
    schedule : Schedule
    pays_eur : numpy.ndarray, shape (hubs,)
        Cost of each hub, tariff included.
    least_eur : numpy.ndarray, shape (hubs,)
        Proven lower bound on it, from dual values.
    """

    tariff: Tariff
    schedule: Schedule
    pays_eur: np.ndarray
    least_eur: np.ndarray

    @property
    def gap_eur(self) -> np.ndarray:
        """What each hub could save at most by another schedule, shape (hubs,)."""
        return self.pays_eur - self.least_eur

    @property
    def certificate(self) -> Certificate:
        """Feasibility of the schedules, and that no hub can do better."""
        gap = np.abs(self.gap_eur) / np.maximum(np.abs(self.pays_eur), 1.0)
        check = Check("follower optimality, worst hub", largest(gap), GAP_EUR, "relative")
        return Certificate((*self.schedule.checks(), check))


def no_pricing(hubs: Hubs) -> Answer:
    """Method A of the poster: every hub minimises its own cost and pays the DSO nothing more."""
    return answer(hubs, no_tariff(len(hubs), hubs.hours))


def answer(hubs: Hubs, tariff: Tariff) -> Answer:
    """Answer of the hubs to a tariff; of several that cost as little, the one the solver finds.

    Parameters
    ----------
    hubs : Hubs
    tariff : Tariff
        For these hubs and hours.

    Returns
    -------
    Answer
    """
    programme = HubProgramme(hubs)
    own = followers(programme, tariff)
    solution = solve(own)
    return answered(programme, tariff, solution.x, solution.row_dual)


def answered(
    programme: HubProgramme, tariff: Tariff, x: np.ndarray, row_dual: np.ndarray
) -> Answer:
    """A schedule as an answer: its cost, and the bound that dual values of `followers` prove.

    Parameters
    ----------
    programme : HubProgramme
    tariff : Tariff
    x : numpy.ndarray, shape (columns,)
        Columns beyond those of the programme are not used.
    row_dual : numpy.ndarray, shape (rows,)
        Of `followers`; a wrong vector gives a low bound, never a false one.
    """
    own = followers(programme, tariff)
    schedule = Schedule(programme, x[: len(programme.cost)])
    rows, columns = dual_terms(own, row_dual)
    of_row, of_column = _hub_of(programme, tariff)
    least = np.bincount(of_row, rows) + np.bincount(of_column, columns)
    pays = schedule.cost_eur + tariff.bill_eur(schedule.m_in_mw)
    return Answer(tariff, schedule, pays, least)


def followers(programme: HubProgramme, tariff: Tariff) -> LinearProgram:
    """The hubs' programmes under a tariff, :eq:`prices-follower`.

    Raises
    ------
    ValueError
        If the tariff is for another number of hubs or hours.
    """
    hubs, hours, _ = programme.shape
    if tariff.shape != (hubs, hours):
        raise ValueError(f"tariff for {tariff.shape} hubs and hours, not {(hubs, hours)}")
    cost = programme.cost.copy()
    m_in = programme.column("m_in").ravel()
    cost[m_in] += tariff.adder_eur_per_mwh.ravel()
    rows, columns = programme.names()
    own = LinearProgram(
        cost, programme.a, programme.b, programme.b, programme.lower, programme.upper, rows, columns
    )
    for k, block in enumerate(tariff.blocks):
        own = _with_block(own, m_in, block.above_mw.ravel(), block.more_eur_per_mwh.ravel(), k)
    return own


def optimal_answers(
    programme: HubProgramme, tariff: Tariff
) -> tuple[LinearProgram, np.ndarray, np.ndarray]:
    """All optimal answers to a tariff: a face of the followers' programmes, :eq:`prices-face`.

    A feasible point is optimal exactly if it is complementary to one optimal dual vector, whichever
    that is: variables with a reduced cost stay at their bound, rows with a dual value at theirs.

    Returns
    -------
    face : LinearProgram
    x : numpy.ndarray
        One point of it.
    row_dual : numpy.ndarray
        The dual vector.
    """
    own = followers(programme, tariff)
    solution = solve(own)
    dual = solution.row_dual
    reduced = own.c - own.a.T @ dual
    face = replace(
        own,
        upper=np.where(reduced > _REDUCED_COST, own.lower, own.upper),
        lower=np.where(reduced < -_REDUCED_COST, own.upper, own.lower),
        row_lower=np.where(dual < -_REDUCED_COST, own.row_upper, own.row_lower),
    )
    return face, solution.x, dual


def near_optimal_answers(
    programme: HubProgramme, tariff: Tariff, eps_eur: np.ndarray
) -> LinearProgram:
    """All answers that cost each hub at most its tolerance more than its best.

    The constraints of :eq:`prices-careless`.

    Parameters
    ----------
    programme : HubProgramme
    tariff : Tariff
    eps_eur : numpy.ndarray, shape (hubs,)
    """
    own = followers(programme, tariff)
    hubs = programme.shape[0]
    _, of_column = _hub_of(programme, tariff)
    best = np.bincount(of_column, own.c * solve(own).x)
    cost = csr_array((own.c, (of_column, np.arange(len(own.c)))), shape=(hubs, len(own.c)))
    return replace(
        own,
        a=csr_array(vstack([own.a, cost])),
        row_lower=np.concatenate([own.row_lower, np.full(hubs, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, best + eps_eur]),
        row_names=[*own.row_names, *(f"cost of {name}" for name in programme.hubs.table["hub"])],
    )


def _with_block(
    own: LinearProgram, m_in: np.ndarray, above: np.ndarray, more: np.ndarray, number: int
) -> LinearProgram:
    """Add columns v >= m_in - above, v >= 0 that cost `more`."""
    n, columns = len(m_in), len(own.c)
    pick = coo_array((np.ones(n), (np.arange(n), m_in)), shape=(n, columns))
    keys = [own.column_names[k].replace("m_in", f"block {number + 1}") for k in m_in]
    return replace(
        own,
        c=np.concatenate([own.c, more]),
        a=csr_array(
            vstack([hstack([own.a, csr_array((own.a.shape[0], n))]), hstack([pick, -eye_array(n)])])
        ),
        row_lower=np.concatenate([own.row_lower, np.full(n, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, above]),
        lower=np.concatenate([own.lower, np.zeros(n)]),
        upper=np.concatenate([own.upper, own.upper[m_in]]),
        row_names=[*own.row_names, *keys],
        column_names=[*own.column_names, *keys],
        integer=np.zeros(columns + n, dtype=bool),
    )


def _hub_of(programme: HubProgramme, tariff: Tariff) -> tuple[np.ndarray, np.ndarray]:
    """Hub of each row and of each column of `followers`."""
    hubs, hours, variables = programme.shape
    blocks = np.tile(np.repeat(np.arange(hubs), hours), len(tariff.blocks))
    rows = np.repeat(np.arange(hubs), hours * len(EQUATIONS))
    columns = np.repeat(np.arange(hubs), hours * variables)
    return np.concatenate([rows, blocks]), np.concatenate([columns, blocks])
