"""Method D: prices for hubs with quadratic costs, from one convex programme.

With X_i the hubs' sets, g_i their strictly convex costs, m imports, R >= 0 the grid's rows in the
direction of import and D the cap on the adder, the programme :eq:`quadratic-leader`

    min sum_i g_i(x_i) + D 1's  over  x_i in X_i,  s >= 0,
    R (m - s) <= limit - background + R o_hat

has multipliers mu of the grid's rows whose sums ``delta = R' mu`` lie in [0, D], and every x_i is
the one answer of its hub to them. Where s = 0 and answers export at least o_hat, no row is
overloaded in the direction of import.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, diags_array, eye_array, hstack, kron, vstack

from flexlib.bilevel import Bilevel, Follower
from flexlib.centralised import CONGESTION_MWH
from flexlib.certificate import Certificate, Check
from flexlib.errors import DataError, Fault
from flexlib.hub_followers import Schedule, followers
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.linear_program import LinearProgram
from flexlib.pricing import assert_nonnegative
from flexlib.pricing_inverse import on_import
from flexlib.quadratic_follower import QuadraticAnswer, QuadraticFollower
from flexlib.quadratic_program import solve_quadratic
from flexlib.tariffs import no_tariff

_ROUNDS = 6  # of crediting the rows with the exports of the answers
_ZERO = 1e-6  # EUR/MWh, MW or EUR that count as nothing in a condition
_NO_ADDER = 1e-3  # EUR/MWh at which an export is not worth a credit
_WORTH = 0.01  # of the congestion that is left: exports that are worth another round
_CLEAR = 1e-8  # congestion, as a share of the energy withdrawn, that is an error of rounding


@dataclass(frozen=True)
class QuadraticPrices:
    """Adders, and the one answer of hubs with quadratic costs to them.

    Attributes
    ----------
    hubs : Hubs
    grid : HubGrid
    cap_eur_per_mwh : float
    adder_eur_per_mwh : numpy.ndarray, shape (hubs, hours)
        delta.
    answer : QuadraticAnswer
        Of all hubs to it, with derivatives.
    """

    hubs: Hubs
    grid: HubGrid
    cap_eur_per_mwh: float
    adder_eur_per_mwh: np.ndarray
    answer: QuadraticAnswer

    @cached_property
    def schedule(self) -> Schedule:
        """The answer as schedules."""
        return Schedule(HubProgramme(self.hubs), self.answer.x)

    @cached_property
    def congestion_mwh(self) -> float:
        """Weighted overloads of the answer, recomputed."""
        return self.grid.congestion_mwh(self.schedule.w_mw)

    @property
    def certificate(self) -> Certificate:
        """Feasibility of the schedules, optimality for each hub, and the range of the adders."""
        adder = self.adder_eur_per_mwh
        outside = max(float(adder.max(initial=0.0)) - self.cap_eur_per_mwh, -float(adder.min()))
        reach = Check("adder outside 0 and the cap", max(outside, 0.0), 1e-6, "EUR/MWh")
        return Certificate(
            (*self.schedule.checks(), *self.answer.certificate.checks, reach)
        )  # fmt: skip

    @property
    def conditions(self) -> pd.DataFrame:
        """Conditions of :eq:`quadratic-leader` that make congestion 0, as they are at the answer.

        Returns
        -------
        pandas.DataFrame
            Index the condition; value, most (that is allowed), unit and holds.
        """
        grid = self.grid
        loading = grid.loading_mw(self.schedule.w_mw)
        over = np.maximum(loading - grid.upper_mw[:, None], 0.0).max(initial=0.0)
        reverse = np.maximum(-loading - grid.lower_mw[:, None], 0.0).max(initial=0.0)
        rows = {
            "no withdrawal relieves a row": (abs(grid.incidence.minimum(0).sum()), 0.0, ""),
            "adders up to the cap keep imports within the limits": (over, 0.0, "MW"),
            "no reverse limit is exceeded": (reverse, 0.0, "MW"),
        }
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "most", "unit"])
        table["holds"] = np.where(table["value"] <= table["most"] + _ZERO, "yes", "NO")
        return table.rename_axis("condition")

    def claim(self, bound_mwh: float = 0.0) -> str:
        """Say in a sentence what is proven about the congestion.

        Parameters
        ----------
        bound_mwh : float
            Proven lower bound on the congestion of every schedule; of method B, or 0.
        """
        congestion = self.congestion_mwh
        if _is_clear(congestion - bound_mwh, self.schedule):
            return f"Congestion of {congestion:.3f} MWh is optimal: no schedules have less."
        failed = self.conditions.index[self.conditions["holds"] == "NO"].tolist()
        why = f" Not met: {'; '.join(failed)}." if failed else ""
        return (
            f"Optimality is not claimed: congestion {congestion:.3f} MWh, bound {bound_mwh:.3f} "
            f"MWh.{why}"
        )


def _is_clear(congestion_mwh: float, schedule: Schedule) -> bool:
    """Whether a congestion, or a gap, is nothing beside the energy that hubs withdraw."""
    energy = float(np.abs(schedule.w_mw).sum())
    return congestion_mwh <= max(CONGESTION_MWH, _CLEAR * energy)


def quadratic_prices(
    hubs: Hubs, grid: HubGrid, *, cap_eur_per_mwh: float = 60.0
) -> QuadraticPrices:
    """Adders for hubs with quadratic costs, by one convex programme :eq:`quadratic-leader`.

    Where it leaves an overload and hubs export at hours with an adder, rows are credited with these
    exports and the programme is solved again. Where an overload is left still, the cap binds. What
    the slack of a quota costs then counts a hub's import once, however many overloaded rows carry
    it; the programme is solved with overloads of the rows at half the cap each beside it. The least
    congested plan is kept, and its adders answered.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
        Its incidence must not be negative anywhere.
    cap_eur_per_mwh : float
        D, the largest adder.

    Returns
    -------
    QuadraticPrices

    Raises
    ------
    DataError
        If the cap is not a positive number, a grid row has a negative entry (by name), a variable
        of the hubs has no curvature (by name), or the grid is for other hubs or hours.
    """
    priced_at = QuadraticHubs(hubs, grid, cap_eur_per_mwh)
    found: list[_Plan] = []
    for overload in (np.inf, cap_eur_per_mwh / 2):
        exports = np.zeros((len(hubs), hubs.hours))
        for _ in range(_ROUNDS):
            plan = _quota_plan(priced_at, exports, overload)
            found.append(plan)
            credit = np.where(plan.adder > _NO_ADDER, plan.schedule.m_out_mw, 0.0)
            more = np.abs(credit - exports).sum()
            if plan.clear or more < _WORTH * plan.congestion_mwh:
                break
            exports = credit
        if any(plan.clear for plan in found):
            break
    best = min(found, key=lambda plan: plan.congestion_mwh)
    return priced_at(best.adder, (best.schedule.x, best.equation_dual, np.zeros(0)))


class QuadraticHubs:
    """The hubs' answer to any adders, set up once: call it with adders of shape (hubs, hours).

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
    cap_eur_per_mwh : float

    Raises
    ------
    DataError
        See `quadratic_prices`.
    """

    def __init__(self, hubs: Hubs, grid: HubGrid, cap_eur_per_mwh: float) -> None:
        if not 0 < cap_eur_per_mwh < np.inf:
            found, expected = f"{cap_eur_per_mwh:g}", "a number above 0"
            raise DataError([Fault("quadratic_prices", "", "cap_eur_per_mwh", found, expected)])
        grid.assert_fits(hubs)
        self.hubs, self.grid, self.cap_eur_per_mwh = hubs, grid, cap_eur_per_mwh
        self.programme = HubProgramme(hubs)
        self.map = QuadraticFollower(hub_follower(self.programme))

    def __call__(
        self,
        adder_eur_per_mwh: np.ndarray,
        near: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    ) -> QuadraticPrices:
        """Adders with the hubs' answer, see `flexlib.quadratic_follower.QuadraticFollower`."""
        answer = self.map.answer(adder_eur_per_mwh.ravel(), near)
        return QuadraticPrices(
            self.hubs, self.grid, self.cap_eur_per_mwh, adder_eur_per_mwh, answer
        )


def hub_follower(programme: HubProgramme) -> Follower:
    """All hubs with costs :eq:`quadratic-hub` as one follower; decisions are adders, hub by hub."""
    own = followers(programme, no_tariff(*programme.shape[:2]))
    follower = Follower(
        c=own.c,
        a=own.a,
        b=own.row_upper,
        lower=own.lower,
        upper=own.upper,
        c_leader=on_import(programme),
        q=csr_array(diags_array(programme.quadratic)),
        names=own.column_names,
        equation_names=own.row_names,
    )
    return Bilevel(follower, cost=np.zeros(int(np.prod(programme.shape[:2])))).follower


def quadratic_quotas(
    programme: HubProgramme,
    grid: HubGrid,
    exports_mw: np.ndarray,
    cap_eur_per_mwh: float,
    overload_eur_per_mwh: float = np.inf,
    charge_eur_per_mwh: np.ndarray | float = 0.0,
) -> tuple[LinearProgram, csr_array]:
    """The convex programme of soft quotas :eq:`quadratic-leader`.

    Parameters
    ----------
    programme : HubProgramme
    grid : HubGrid
    exports_mw : numpy.ndarray, shape (hubs, hours)
        o_hat.
    cap_eur_per_mwh : float

    Returns
    -------
    program : LinearProgram
        Columns of the hubs, then s of each hub and hour, then overloads; rows of the hubs, then of
        those rows of the grid that carry hubs, `loaded_rows`.
    q : scipy.sparse.csr_array
    """
    assert_nonnegative(grid, programme.hubs)
    own = followers(programme, no_tariff(*programme.shape[:2]))
    columns, hours = len(own.c), grid.hours
    pick, carry = on_import(programme).T, loaded_rows(grid)
    n = pick.shape[0]
    spread = csr_array(kron(grid.incidence[carry], eye_array(hours)))
    room = grid.upper_mw[:, None] - grid.background + grid.incidence @ exports_mw
    keys = [f"import limit of {grid.names[k]} hour {t}" for k in carry for t in range(hours)]
    beyond = overload_eur_per_mwh * np.repeat(grid.weight[carry], hours)
    over = eye_array(len(keys), format="csr")[:, np.isfinite(beyond)]
    beyond = beyond[np.isfinite(beyond)]
    more = n + len(beyond)
    charge = np.broadcast_to(charge_eur_per_mwh, (len(programme.hubs), hours)).ravel()
    program = replace(
        own,
        c=np.concatenate([own.c + pick.T @ charge, cap_eur_per_mwh - charge, beyond]),
        a=csr_array(
            vstack(
                [
                    hstack([own.a, csr_array((own.a.shape[0], more))]),
                    hstack([spread @ pick, -spread, -over]),
                ]
            )
        ),
        row_lower=np.append(own.row_lower, np.full(len(keys), -np.inf)),
        row_upper=np.append(own.row_upper, room[carry].ravel()),
        lower=np.append(own.lower, np.zeros(more)),
        upper=np.append(own.upper, np.full(more, np.inf)),
        row_names=[*own.row_names, *keys],
        column_names=[*own.column_names, *["quota slack"] * n, *["overload"] * len(beyond)],
        integer=np.zeros(columns + more, dtype=bool),
    )
    return program, csr_array(diags_array(np.append(programme.quadratic, np.zeros(more))))


def loaded_rows(grid: HubGrid) -> np.ndarray:
    """Rows of the grid that carry a hub and have a limit in the direction of import."""
    return np.flatnonzero((np.diff(grid.incidence.indptr) > 0) & np.isfinite(grid.upper_mw))


@dataclass(frozen=True)
class _Plan:
    """Adders :eq:`quadratic-adder` and the schedules of the programme they come from."""

    adder: np.ndarray
    schedule: Schedule
    equation_dual: np.ndarray
    congestion_mwh: float

    @property
    def clear(self) -> bool:
        return _is_clear(self.congestion_mwh, self.schedule)


def _quota_plan(
    priced_at: QuadraticHubs, exports_mw: np.ndarray, overload_eur_per_mwh: float
) -> _Plan:
    programme, grid, cap = priced_at.programme, priced_at.grid, priced_at.cap_eur_per_mwh
    program, q = quadratic_quotas(programme, grid, exports_mw, cap, overload_eur_per_mwh)
    solution, equations = solve_quadratic(program, q), len(programme.b)
    dual = solution.row_dual[equations:].reshape(-1, grid.hours)
    adder = grid.incidence[loaded_rows(grid)].T @ np.maximum(-dual, 0.0)
    schedule = Schedule(programme, solution.x[: len(programme.cost)])
    return _Plan(
        np.clip(adder, 0.0, cap), schedule, solution.row_dual[:equations],
        grid.congestion_mwh(schedule.w_mw),
    )  # fmt: skip
