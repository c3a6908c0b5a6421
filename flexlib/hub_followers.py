"""Followers: what hubs answer to a tariff, all at once, and which other answers cost as little.

Each hub's programme is linear but for the quadratic part of a tariff, and falls apart into one for
each hub. Columns are the hubs' variables, then for each block of the tariff what is taken above its
quantity, then for each demand charge the largest import. Of a quadratic part, programmes below hold
its tangent at the answer: with the imports held there, the optimal answers are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array, diags_array, eye_array, hstack, vstack

from flexlib.certificate import Certificate, Check, largest
from flexlib.hub_programme import EQUATIONS, HubProgramme
from flexlib.hubs import VARIABLES, Hubs
from flexlib.linear_program import LinearProgram, dual_terms
from flexlib.quadratic_program import solve_quadratic
from flexlib.solver import solve
from flexlib.tariffs import SIGNS, Block, DemandCharge, Tariff, no_tariff

GAP_EUR = 1e-6  # of a hub's cost, relative to 1 EUR or to its cost if that is more
_REDUCED_COST = 1e-7  # EUR/MWh from which a variable or a row is held where it is
_UNIQUE_MW = 1e-6  # within which imports of a quadratic bill are held at their optimum


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
    _, x, row_dual = _least_cost(programme, tariff)
    return answered(programme, tariff, x, row_dual)


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
    schedule = Schedule(programme, x[: len(programme.cost)])
    own = followers(programme, tariff)
    rho, m_in = tariff.curvature_eur_per_mwh_per_mw, programme.column("m_in")
    reduced = (own.c - own.a.T @ row_dual)[m_in]
    at_mw = np.divide(-reduced, rho, out=np.zeros(rho.shape), where=rho > 0)
    at_mw = np.clip(at_mw, own.lower[m_in], own.upper[m_in])  # least of the Lagrangian
    rows, columns = dual_terms(_tangent(own, programme, rho * at_mw), row_dual)
    of_row, of_column = _hub_of(programme, tariff)
    least = np.bincount(of_row, rows) + np.bincount(of_column, columns)
    least -= (rho * at_mw**2).sum(axis=1) / 2
    pays = schedule.cost_eur + tariff.bill_eur(schedule.m_in_mw, schedule.m_out_mw)
    return Answer(tariff, schedule, pays, least)


def followers(programme: HubProgramme, tariff: Tariff) -> LinearProgram:
    """The hubs' programmes under a tariff but for its quadratic part, :eq:`prices-follower`.

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
        own = _with_block(own, programme, block, f"block {k + 1}")
    for k, charge in enumerate(tariff.charges):
        own = _with_charge(own, programme, charge, f"charge {k + 1}")
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
    own, x, dual = _least_cost(programme, tariff)
    reduced = own.c - own.a.T @ dual
    face = replace(
        own,
        upper=np.where(reduced > _REDUCED_COST, own.lower, own.upper),
        lower=np.where(reduced < -_REDUCED_COST, own.upper, own.lower),
        row_lower=np.where(dual < -_REDUCED_COST, own.row_upper, own.row_lower),
    )
    return face, x, dual


def near_optimal_answers(
    programme: HubProgramme,
    tariff: Tariff,
    eps_eur: np.ndarray,
    at_mw: tuple[np.ndarray, ...] = (),
) -> LinearProgram:
    """All answers that cost each hub at most its tolerance more than its best.

    The constraints of :eq:`prices-careless`. Where the bill is quadratic, a set that contains them:
    in it the quadratic part is the largest of its tangents, and imports are as near to the optimum
    as they must be, ``1/2 rho (m - m*)^2 <= eps``, :eq:`ties-curved`.

    Parameters
    ----------
    programme : HubProgramme
    tariff : Tariff
    eps_eur : numpy.ndarray, shape (hubs,)
    at_mw : tuple of numpy.ndarray, shape (hubs, hours)
        Imports at which further tangents touch the quadratic part.
    """
    own, x, row_dual = _least_cost(programme, tariff)
    hubs = programme.shape[0]
    _, of_column = _hub_of(programme, tariff)
    best = np.bincount(of_column, own.c * x)
    if not tariff.linear:
        found = answered(programme, tariff, x, row_dual)
        best, room = found.pays_eur, eps_eur + np.maximum(found.gap_eur, 0.0)
        own, of_column = _with_tangents(programme, tariff, found.schedule.m_in_mw, room, at_mw)
    cost = csr_array((own.c, (of_column, np.arange(len(own.c)))), shape=(hubs, len(own.c)))
    return replace(
        own,
        a=csr_array(vstack([own.a, cost])),
        row_lower=np.concatenate([own.row_lower, np.full(hubs, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, best + eps_eur]),
        row_names=[*own.row_names, *(f"cost of {name}" for name in programme.hubs.table["hub"])],
    )


def _least_cost(
    programme: HubProgramme, tariff: Tariff
) -> tuple[LinearProgram, np.ndarray, np.ndarray]:
    """Programme of the followers, linear at their optimum; a point and the duals of it."""
    own = followers(programme, tariff)
    if not tariff.linear:
        rho, m_in = tariff.curvature_eur_per_mwh_per_mw, programme.column("m_in")
        q = np.zeros(len(own.c))
        q[m_in] = rho
        m_in_mw = solve_quadratic(own, csr_array(diags_array(q))).x[m_in]
        own = _tangent(own, programme, rho * m_in_mw)
        own = _held_near(own, programme, m_in_mw, np.where(rho > 0, _UNIQUE_MW, np.inf))
    solution = solve(own)
    return own, solution.x, solution.row_dual


def _tangent(own: LinearProgram, programme: HubProgramme, more: np.ndarray) -> LinearProgram:
    """Charge more for imports, (hubs, hours)."""
    c = own.c.copy()
    c[programme.column("m_in")] += more
    return replace(own, c=c)


def _held_near(
    own: LinearProgram, programme: HubProgramme, m_in_mw: np.ndarray, within_mw: np.ndarray
) -> LinearProgram:
    """Keep imports near given ones."""
    lower, upper, m_in = own.lower.copy(), own.upper.copy(), programme.column("m_in")
    lower[m_in] = np.maximum(lower[m_in], m_in_mw - within_mw)
    upper[m_in] = np.minimum(upper[m_in], m_in_mw + within_mw)
    return replace(own, lower=lower, upper=upper)


def _with_tangents(
    programme: HubProgramme,
    tariff: Tariff,
    m_in_mw: np.ndarray,
    room_eur: np.ndarray,
    at_mw: tuple[np.ndarray, ...],
) -> tuple[LinearProgram, np.ndarray]:
    """Followers with the quadratic part from below, near optimal imports; hub of each column."""
    rho = tariff.curvature_eur_per_mwh_per_mw
    with np.errstate(divide="ignore"):
        reach = np.where(rho > 0, np.sqrt(2 * room_eur[:, None] / rho), np.inf)
    own = _held_near(followers(programme, tariff), programme, m_in_mw, reach)
    _, of_column = _hub_of(programme, tariff)
    n, columns, count = rho.size, len(own.c), len(at_mw) + 1
    m_in, eye = programme.column("m_in").ravel(), eye_array(n)
    pick = csr_array((np.ones(n), (np.arange(n), m_in)), shape=(n, columns))
    touch = [np.clip(m.ravel(), own.lower[m_in], own.upper[m_in]) for m in (m_in_mw, *at_mw)]
    rows = [hstack([diags_array(rho.ravel() * m) @ pick, -eye]) for m in touch]
    names = ["quadratic part"] * n
    own = replace(
        own,
        c=np.concatenate([own.c, np.ones(n)]),
        a=csr_array(vstack([hstack([own.a, csr_array((own.a.shape[0], n))]), *rows])),
        row_lower=np.concatenate([own.row_lower, np.full(n * count, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, *(rho.ravel() * m**2 / 2 for m in touch)]),
        lower=np.concatenate([own.lower, np.zeros(n)]),
        upper=np.concatenate([own.upper, rho.ravel() * own.upper[m_in] ** 2 / 2]),
        row_names=[*own.row_names, *names * count],
        column_names=[*own.column_names, *names],
        integer=np.zeros(columns + n, dtype=bool),
    )
    hubs, hours = rho.shape
    return own, np.concatenate([of_column, np.repeat(np.arange(hubs), hours)])


def _with_block(
    own: LinearProgram, programme: HubProgramme, block: Block, name: str
) -> LinearProgram:
    """Add columns v >= q - above, v >= 0 that cost more."""
    taken, given = SIGNS[block.of]
    m_in, m_out = (programme.column(key).ravel() for key in ("m_in", "m_out"))
    n, columns, above = len(m_in), len(own.c), block.above_mw.ravel()
    entries = np.concatenate([np.full(n, taken), np.full(n, given)])
    places = np.tile(np.arange(n), 2), np.concatenate([m_in, m_out])
    q = coo_array((entries, places), shape=(n, columns)).tocsr()
    q.eliminate_zeros()
    most = own.upper[m_out if block.of == "injection" else m_in]
    keys = [own.column_names[k].replace("m_in", name) for k in m_in]
    return _with_columns(
        own, block.more_eur_per_mwh.ravel(), q, csr_array(-eye_array(n)), above,
        most - np.minimum(above, 0.0), keys, keys,
    )  # fmt: skip


def _with_charge(
    own: LinearProgram, programme: HubProgramme, charge: DemandCharge, name: str
) -> LinearProgram:
    """Add a column p >= m_in of some hours for each hub, that is charged."""
    m_in = programme.column("m_in")[:, list(charge.hours)]
    hubs, hours = m_in.shape
    n = hubs * hours
    q = csr_array((np.ones(n), (np.arange(n), m_in.ravel())), shape=(n, len(own.c)))
    peak = csr_array((np.ones(n), (np.arange(n), np.repeat(np.arange(hubs), hours))))
    rows = [own.column_names[k].replace("m_in", name) for k in m_in.ravel()]
    columns = [f"{name} of {hub}" for hub in programme.hubs.table["hub"]]
    return _with_columns(
        own, charge.eur_per_mw, q, -peak, np.zeros(n), own.upper[m_in].max(axis=1), rows, columns
    )


def _with_columns(
    own: LinearProgram, cost: np.ndarray, old: csr_array, new: csr_array, row_upper: np.ndarray,
    upper: np.ndarray, row_names: list[str], column_names: list[str],
) -> LinearProgram:  # fmt: skip
    """Add columns from 0, and rows ``old x + new v <= row_upper``."""
    n, count = len(cost), len(row_upper)
    return replace(
        own,
        c=np.concatenate([own.c, cost]),
        a=csr_array(vstack([hstack([own.a, csr_array((own.a.shape[0], n))]), hstack([old, new])])),
        row_lower=np.concatenate([own.row_lower, np.full(count, -np.inf)]),
        row_upper=np.concatenate([own.row_upper, row_upper]),
        lower=np.concatenate([own.lower, np.zeros(n)]),
        upper=np.concatenate([own.upper, upper]),
        row_names=[*own.row_names, *row_names],
        column_names=[*own.column_names, *column_names],
        integer=np.zeros(len(own.c) + n, dtype=bool),
    )


def _hub_of(programme: HubProgramme, tariff: Tariff) -> tuple[np.ndarray, np.ndarray]:
    """Hub of each row and of each column of `followers`."""
    hubs, hours, variables = programme.shape
    hub = np.arange(hubs)
    blocks = np.tile(np.repeat(hub, hours), len(tariff.blocks))
    peaks = [np.repeat(hub, len(charge.hours)) for charge in tariff.charges]
    rows = np.concatenate([np.repeat(hub, hours * len(EQUATIONS)), blocks, *peaks])
    columns = np.concatenate([np.repeat(hub, hours * variables), blocks])
    return rows, np.concatenate([columns, np.tile(hub, len(tariff.charges))])
