"""The hubs' own programmes, all at once: min c x subject to A x = b, l <= x <= u.

One block a hub, the same pattern in every block; variables in the order hub, hour, variable of
`flexlib.hubs.VARIABLES`, rows in the order hub, hour, equation of `EQUATIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from flexlib.hubs import VARIABLES, Hubs

EQUATIONS = ("balance", "battery", "backlog", "hydrogen")
_AT = {name: k for k, name in enumerate(VARIABLES)}


@dataclass(frozen=True)
class HubProgramme:
    """Arrays of the hubs' programmes.

    Parameters
    ----------
    hubs : Hubs

    Attributes
    ----------
    a : scipy.sparse.csr_array, shape (rows, columns)
        Equations: power balance :eq:`hubs-balance`, battery :eq:`hubs-battery`, backlog of the
        flexible load :eq:`hubs-backlog`, hydrogen store :eq:`hubs-hydrogen`.
    b : numpy.ndarray, shape (rows,)
    lower, upper : numpy.ndarray, shape (columns,)
    cost : numpy.ndarray, shape (columns,)
        EUR for one unit, without a price adder, see :eq:`hubs-cost`.
    quadratic : numpy.ndarray, shape (columns,)
        Diagonal of Q of the quadratic follower.
    """

    hubs: Hubs

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of x as hubs, hours, variables."""
        return len(self.hubs), self.hubs.hours, len(VARIABLES)

    @cached_property
    def a(self) -> csr_array:
        """Equations, see the class."""
        n, hours, _ = self.shape
        t = self.hubs.table
        one = np.ones(n)
        now: dict[str, dict[str, npt.ArrayLike]] = {
            "balance": {
                "m_in": one, "m_out": -one, "p_dis": one, "p_ch": -one, "g": one,
                "h_fc": t["fuel_cell_eff"], "p_el": -one, "u": -one, "c_pv": -one,
            },
            "battery": {
                "e": one, "p_ch": -t["battery_eff_charge"], "p_dis": 1 / t["battery_eff_discharge"],
            },
            "backlog": {"a": one, "u": one},
            "hydrogen": {"h": one, "p_el": -t["electrolyser_eff"], "h_fc": one},
        }  # fmt: skip
        before: dict[str, dict[str, np.ndarray]] = {
            "battery": {"e": -one},
            "backlog": {"a": -one},
            "hydrogen": {"h": -one},
        }
        parts = [
            self._entries(EQUATIONS.index(row), _AT[name], np.asarray(value), late)
            for late, table in ((0, now), (1, before))
            for row, entries in table.items()
            for name, value in entries.items()
        ]
        row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        shape = (n * hours * len(EQUATIONS), n * hours * len(VARIABLES))
        return csr_array((value, (row, column)), shape=shape)

    @cached_property
    def b(self) -> np.ndarray:
        """Right-hand sides, see the class."""
        hubs, t = self.hubs, self.hubs.table
        b = np.zeros((len(hubs), hubs.hours, len(EQUATIONS)))
        b[:, :, 0] = hubs.demand_mw - hubs.pv_mw
        b[:, 0, 1] = t["battery_initial_soc"] * t["battery_mwh"]
        b[:, :, 2] = t["flexible_load_mw"].to_numpy()[:, None]
        b[:, :, 3] = -t["h2_offtake_mw"].to_numpy()[:, None]
        b[:, 0, 3] += t["h2_initial_fill"] * t["h2_store_mwh"]
        return b.ravel()

    @cached_property
    def lower(self) -> np.ndarray:
        """Lower bounds: contents, and what stores must hold at the end."""
        t = self.hubs.table
        lower = np.zeros(self.shape)
        lower[:, :, _AT["e"]] = (t["battery_min_soc"] * t["battery_mwh"]).to_numpy()[:, None]
        lower[:, -1, _AT["e"]] = t["battery_initial_soc"] * t["battery_mwh"]
        lower[:, -1, _AT["h"]] = t["h2_initial_fill"] * t["h2_store_mwh"]
        return lower.ravel()

    @cached_property
    def upper(self) -> np.ndarray:
        """Upper bounds: ratings, capacities, available PV, an empty backlog at the end."""
        hubs, t = self.hubs, self.hubs.table
        upper = np.zeros(self.shape)
        upper[:, :, _AT["m_in"]], upper[:, :, _AT["m_out"]] = hubs.connection_mw.transpose(1, 0, 2)
        upper[:, :, _AT["c_pv"]] = hubs.pv_mw
        served = t["flexible_load_mw"] * t["flexible_load_max_factor"]
        for name, most in (
            ("u", served), ("p_ch", t["battery_mw"]), ("p_dis", t["battery_mw"]),
            ("e", t["battery_mwh"]), ("a", t["backlog_max_mwh"]), ("g", t["generator_mw"]),
            ("p_el", t["electrolyser_mw"]), ("h_fc", t["fuel_cell_h2_mw"]),
            ("h", t["h2_store_mwh"]),
        ):  # fmt: skip
            upper[:, :, _AT[name]] = most.to_numpy()[:, None]
        upper[:, -1, _AT["a"]] = 0.0
        return upper.ravel()

    @cached_property
    def cost(self) -> np.ndarray:
        """Linear costs, see the class."""
        hubs = self.hubs
        cost = np.tile(hubs.costs["linear_eur_per_mwh"].to_numpy(), (*self.shape[:2], 1))
        cost[:, :, _AT["m_in"]] += hubs.buy_eur_per_mwh
        cost[:, :, _AT["m_out"]] -= hubs.sell_eur_per_mwh
        cost[:, :, _AT["g"]] += hubs.table["generator_cost_eur_per_mwh"].to_numpy()[:, None]
        return cost.ravel()

    @cached_property
    def quadratic(self) -> np.ndarray:
        """Diagonal of Q, see the class."""
        return np.tile(self.hubs.costs["quadratic_eur_per_mwh_per_mw"], np.prod(self.shape[:2]))

    def column(self, name: str) -> np.ndarray:
        """Positions in x of one variable, shape (hubs, hours)."""
        return np.arange(np.prod(self.shape)).reshape(self.shape)[:, :, _AT[name]]

    def withdrawal_mw(self, x: np.ndarray) -> np.ndarray:
        """Net withdrawals w of schedules x, shape (hubs, hours)."""
        return np.asarray(x[self.column("m_in")] - x[self.column("m_out")])

    def names(self) -> tuple[list[str], list[str]]:
        """Names of rows and columns."""
        keys = [f"{hub} hour {t}" for hub in self.hubs.table["hub"] for t in range(self.hubs.hours)]
        return (
            [f"{row} of {key}" for key in keys for row in EQUATIONS],
            [f"{name} of {key}" for key in keys for name in VARIABLES],
        )

    def _entries(
        self, equation: int, variable: int, value: np.ndarray, late: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Entries of one variable in one equation, `late` hours before."""
        n, hours, _ = self.shape
        hub, hour = np.meshgrid(np.arange(n), np.arange(late, hours), indexing="ij")
        row = (hub * hours + hour) * len(EQUATIONS) + equation
        column = (hub * hours + hour - late) * len(VARIABLES) + variable
        return row.ravel(), column.ravel(), np.repeat(value, hours - late)
