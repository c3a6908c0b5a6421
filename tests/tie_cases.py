"""Hundreds of random instances at once: each its own hubs, rows and limits, all in one programme.

Instances share nothing, so what a solver finds for all of them is what it would find for each; a
theorem on one instance is tested on each of them, from sums over its own hubs and rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from hub_cases import random_hubs
from scipy.sparse import block_diag, csr_array

from flexlib.centralised import Centralised, centralised
from flexlib.hub_followers import no_pricing
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.linear_program import LinearProgram
from flexlib.solver import solve

INSTANCES = 25
SEEDS = range(21)  # times 25: more than 500 instances
CLEAR = 0.01  # MWh by which a counterexample breaks a bound


@dataclass(frozen=True)
class Batch:
    """Instances side by side: a hub and a row belong to one of them."""

    hubs: Hubs
    grid: HubGrid
    of_hub: np.ndarray
    of_row: np.ndarray

    @property
    def programme(self) -> HubProgramme:
        return HubProgramme(self.hubs)

    def of_each(self, by_hub: np.ndarray) -> np.ndarray:
        """Sum over the hubs of each instance."""
        return np.bincount(self.of_hub, by_hub, minlength=INSTANCES)

    def overload(self, quantity: np.ndarray, both: bool = False) -> np.ndarray:
        """Weighted overload of each instance, written out: rows, hours, directions."""
        load = self.grid.background_mw + self.grid.factor.toarray() @ quantity
        limit = self.grid.limit_mw[:, None]
        beyond = np.maximum(load - limit, 0) + both * np.maximum(-load - limit, 0)
        by_row = self.grid.line_weight * beyond.sum(axis=1)
        return np.bincount(self.of_row, by_row, minlength=INSTANCES)

    def rows_of_hub(self) -> np.ndarray:
        """Weighted number of rows that each hub loads."""
        return self.grid.line_weight * np.abs(self.grid.factor.toarray()).sum(axis=0)


@cache
def batch(seed: int, tight: bool = False, signed: bool = False) -> Batch:
    """One to three hubs an instance, three to five hours.

    `tight`: much PV, and backgrounds that feed in, so that lines are overloaded by exports, some of
    them whatever the hubs do; `signed`: some withdrawals relieve a row.
    """
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 4, INSTANCES)
    hubs = random_hubs(rng, int(count.sum()), int(rng.integers(3, 6)))
    if tight:
        table = hubs.table.copy()
        table["pv_mwp"] *= 3
        hubs = Hubs(table, hubs.profiles, hubs.costs)
    of_hub = np.repeat(np.arange(INSTANCES), count)
    factors = []
    for n in count:
        rows = np.vstack([np.ones(n), rng.random((1, n)) < 0.5, np.eye(n)]).astype(float)
        if signed:
            rows[:2] *= rng.choice([-1.0, 1.0], (2, n))
        factors.append(np.unique(rows[rows.any(axis=1)], axis=0))
    of_row = np.repeat(np.arange(INSTANCES), [len(rows) for rows in factors])
    names = [f"row {k}" for k in range(len(of_row))]
    background = rng.uniform(-3.0 if tight else 0.0, 0.5, (len(names), hubs.hours))
    grid = HubGrid(
        names, csr_array(block_diag(factors)), background, np.full(len(names), np.inf),
        np.inf, np.inf, line_weight=float(rng.choice([1.0, 0.5, 2.0])), substation_weight=0.0,
    )  # fmt: skip
    most = np.abs(grid.loading_mw(no_pricing(hubs).schedule.w_mw)[:-1]).max(axis=1)
    level = rng.uniform(0.5, 0.95, INSTANCES)[of_row]
    return Batch(hubs, replace(grid, limit_mw=level * most), of_hub, of_row)


@cache
def planner(seed: int, tight: bool = False, signed: bool = False) -> Centralised:
    """Method B of a batch."""
    case = batch(seed, tight, signed)
    return centralised(case.hubs, case.grid)


def pushed(
    case: Batch, answers: LinearProgram, rng: np.random.Generator, net: bool, rounds: int = 2
) -> list[np.ndarray]:
    """Answers with much overload in every instance: random directions, then up the overloads."""
    programme = case.programme
    m_in, m_out = programme.column("m_in"), programme.column("m_out")
    shape = case.grid.background_mw.shape
    found = []
    for _ in range(rounds):
        side = rng.random(shape) * (rng.random(shape) < 0.5)
        if net:
            side *= rng.choice([-1.0, 1.0], shape)
        for _ in range(2):
            slope = case.grid.factor.toarray().T @ side
            cost = np.zeros(len(answers.c))
            cost[m_in] = -slope
            if net:
                cost[m_out] = slope
            found.append(solve(replace(answers, c=cost)).x[: len(programme.cost)])
            load = case.grid.background_mw + case.grid.factor.toarray() @ quantity(
                case, found[-1], net
            )
            side = (load > case.grid.limit_mw[:, None]) * 1.0
            if net:
                side -= -load > case.grid.limit_mw[:, None]
            side += 1e-3 * rng.random(shape)
    return found


def quantity(case: Batch, x: np.ndarray, net: bool) -> np.ndarray:
    """Imports of a schedule, or its net withdrawals."""
    m_in = x[case.programme.column("m_in")]
    return m_in - x[case.programme.column("m_out")] if net else m_in
