"""Random small instances of hubs for tests, and the hubs' programmes written a second time.

What is solved here goes through `scipy.optimize.linprog` on arrays made from the tables, in another
order than the library's: columns hub by hub, variable by variable, hour by hour.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import pandas as pd
from scipy.optimize import OptimizeResult, linprog
from scipy.sparse import csr_array, eye_array, hstack, vstack

from flexlib.centralised import Centralised, centralised
from flexlib.hub_followers import no_pricing
from flexlib.hub_grid import HubGrid
from flexlib.hubs import VARIABLES, Hubs
from flexlib.tariffs import Tariff

TOL = 1e-5  # EUR or MWh; instances are of some MW and some hundred EUR
_DEVICES = [
    "pv_mwp", "flexible_load_mw", "backlog_max_mwh", "battery_mw", "fuel_cell_h2_mw",
    "h2_offtake_mw", "generator_mw", "electrolyser_mw",
]  # fmt: skip


def random_hubs(rng: np.random.Generator, count: int = 3, hours: int = 5) -> Hubs:
    """Hubs of random sizes, prices and profiles."""
    table = pd.DataFrame({"hub": [f"hub_{k + 1}" for k in range(count)]})
    ranges = {
        "demand_peak_mw": (0.2, 2), "pv_mwp": (0, 2), "flexible_load_mw": (0, 0.6),
        "flexible_load_max_factor": (1, 3), "backlog_max_mwh": (0, 1.5), "battery_mw": (0, 1.5),
        "battery_mwh": (0.2, 3), "battery_min_soc": (0, 0.3), "battery_initial_soc": (0.3, 0.9),
        "battery_eff_charge": (0.8, 1), "battery_eff_discharge": (0.8, 1),
        "electrolyser_mw": (0.5, 1.2), "electrolyser_eff": (0.5, 0.8), "fuel_cell_h2_mw": (0, 0.5),
        "fuel_cell_eff": (0.3, 0.6), "h2_store_mwh": (0.5, 3), "h2_initial_fill": (0.2, 0.9),
        "h2_offtake_mw": (0, 0.2), "generator_mw": (0, 0.5),
        "generator_cost_eur_per_mwh": (80, 200), "base_tariff_eur_per_mwh": (10, 30),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        table[name] = rng.uniform(low, high, count)
    table["feeder"] = "feeder"
    table["demand_profile"], table["pv_profile"] = "demand", "pv"
    buy = rng.uniform(30, 140, hours)
    profiles = pd.DataFrame(
        {
            "hour": np.arange(hours),
            "buy_eur_per_mwh": buy,
            "sell_eur_per_mwh": buy - rng.uniform(3, 15, hours),
            "demand": rng.uniform(0.4, 1, hours),
            "pv": rng.uniform(0, 1, hours),
        }
    )
    costs = pd.DataFrame({"variable": list(VARIABLES)})
    linear = {"p_ch": 4, "p_dis": 4, "a": 1.5, "c_pv": 5, "p_el": 3, "h_fc": 6}
    costs["linear_eur_per_mwh"] = costs["variable"].map(linear).fillna(0.0)
    costs["quadratic_eur_per_mwh_per_mw"] = 4.0
    return Hubs(table, profiles, costs)


def random_grid(rng: np.random.Generator, hubs: Hubs, level: float) -> HubGrid:
    """Tree of lines over the hubs, limited below what they load it with alone."""
    count = len(hubs)
    factor = np.vstack([np.ones(count), rng.random((2, count)) < 0.5, np.eye(count)]).astype(float)
    factor = factor[factor.any(axis=1)]
    rows = [f"line {k + 1}" for k in range(len(factor))]
    background = rng.uniform(0, 1, (len(rows), hubs.hours))
    grid = HubGrid(rows, csr_array(factor), background, np.full(len(rows), np.inf), np.inf, np.inf)
    loading = grid.loading_mw(no_pricing(hubs).schedule.w_mw)
    most = max(loading[-1].max(), 0.0)
    return replace(
        grid,
        limit_mw=level * np.abs(loading[:-1]).max(axis=1),
        import_mw=level * most,
        export_mw=max(-0.95 * loading[-1].min(), 0.095 * most),
    )


@cache
def random_case(seed: int) -> tuple[Hubs, HubGrid]:
    """One to three hubs over three to five hours; every fifth has a hub without devices.

    The line of such a hub is overloaded whatever the others do, so that the least congestion of
    the instance is not 0.
    """
    rng = np.random.default_rng(seed)
    hubs = random_hubs(rng, int(rng.integers(1, 4)), int(rng.integers(3, 6)))
    if seed % 5 or len(hubs) == 1:
        grid = random_grid(rng, hubs, rng.uniform(0.7, 0.97))
        return hubs, replace(grid, line_weight=rng.uniform(0.5, 2) if seed % 2 else 1.0)
    table = hubs.table.copy()
    table.loc[0, _DEVICES] = 0.0
    hubs = Hubs(table, hubs.profiles, hubs.costs)
    grid = random_grid(rng, hubs, rng.uniform(0.8, 0.97))
    limit = grid.limit_mw.copy()
    alone = [k for k, row in enumerate(grid.factor.toarray()) if row[0] and row.sum() == 1]
    limit[alone[-1]] *= 0.97
    return hubs, replace(grid, limit_mw=limit)


@cache
def random_benchmark(seed: int) -> Centralised:
    """Method B of a random case."""
    return centralised(*random_case(seed))


def lp(c, lower, upper, a_ub=None, b_ub=None, a_eq=None, b_eq=None) -> OptimizeResult:
    """Linear programme by scipy; raises unless it is solved."""
    result = linprog(
        c, a_ub, b_ub, a_eq, b_eq, bounds=np.column_stack([lower, upper]), method="highs"
    )
    if result.status != 0:
        raise ValueError(result.message)
    return result


@dataclass(frozen=True)
class Own:
    """The programmes of some hubs: min c x over A x = b, lower <= x <= upper."""

    hubs: Hubs
    which: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Number of hubs and of hours."""
        return len(self.which), self.hubs.hours

    def at(self, name: str) -> np.ndarray:
        """Columns of a variable, shape (hubs, hours)."""
        n, hours = self.size
        grid = np.arange(n * 12 * hours).reshape(n, 12, hours)
        return grid[:, VARIABLES.index(name)]

    @cached_property
    def hub(self) -> np.ndarray:
        """Hub of each column."""
        n, hours = self.size
        return np.repeat(np.arange(n), 12 * hours)

    @cached_property
    def arrays(self) -> tuple[np.ndarray, csr_array, np.ndarray, np.ndarray, np.ndarray]:
        """Cost, A, b, lower, upper."""
        n, hours = self.size
        columns = n * 12 * hours
        c, lower, upper = np.zeros(columns), np.zeros(columns), np.zeros(columns)
        own = dict(
            zip(self.hubs.costs["variable"], self.hubs.costs["linear_eur_per_mwh"], strict=True)
        )
        for name in VARIABLES:
            c[self.at(name)] = own[name]
        entries, b = [], []
        at = {name: self.at(name) for name in VARIABLES}
        profiles = self.hubs.profiles
        for k, i in enumerate(self.which):
            hub = self.hubs.table.iloc[i]
            demand = hub.demand_peak_mw * profiles[hub.demand_profile].to_numpy()
            pv = hub.pv_mwp * profiles[hub.pv_profile].to_numpy()
            served = hub.flexible_load_mw * hub.flexible_load_max_factor
            most = {
                "m_in": demand + served + hub.battery_mw + hub.electrolyser_mw,
                "m_out": pv + hub.battery_mw + hub.generator_mw
                + hub.fuel_cell_h2_mw * hub.fuel_cell_eff,
                "u": served, "p_ch": hub.battery_mw, "p_dis": hub.battery_mw,
                "e": hub.battery_mwh, "a": hub.backlog_max_mwh, "c_pv": pv,
                "g": hub.generator_mw, "p_el": hub.electrolyser_mw,
                "h_fc": hub.fuel_cell_h2_mw, "h": hub.h2_store_mwh,
            }  # fmt: skip
            for name, value in most.items():
                upper[at[name][k]] = value
            upper[at["a"][k, -1]] = 0.0
            lower[at["e"][k]] = hub.battery_min_soc * hub.battery_mwh
            lower[at["e"][k, -1]] = hub.battery_initial_soc * hub.battery_mwh
            lower[at["h"][k, -1]] = hub.h2_initial_fill * hub.h2_store_mwh
            c[at["m_in"][k]] += profiles.buy_eur_per_mwh + hub.base_tariff_eur_per_mwh
            c[at["m_out"][k]] -= profiles.sell_eur_per_mwh
            c[at["g"][k]] += hub.generator_cost_eur_per_mwh
            start = {
                "e": hub.battery_initial_soc * hub.battery_mwh, "a": 0.0,
                "h": hub.h2_initial_fill * hub.h2_store_mwh,
            }  # fmt: skip
            for t in range(hours):
                power = {
                    "m_in": 1, "p_dis": 1, "g": 1, "h_fc": hub.fuel_cell_eff,
                    "m_out": -1, "p_ch": -1, "p_el": -1, "u": -1, "c_pv": -1,
                }  # fmt: skip
                entries.append({at[name][k, t]: value for name, value in power.items()})
                b.append(demand[t] - pv[t])
                for store, flows, given in (
                    ("e", {"p_ch": hub.battery_eff_charge,
                           "p_dis": -1 / hub.battery_eff_discharge}, 0.0),
                    ("a", {"u": -1}, hub.flexible_load_mw),
                    ("h", {"p_el": hub.electrolyser_eff, "h_fc": -1}, -hub.h2_offtake_mw),
                ):  # fmt: skip
                    row = {at[name][k, t]: -value for name, value in flows.items()}
                    row[at[store][k, t]] = 1.0
                    if t:
                        row[at[store][k, t - 1]] = -1.0
                    entries.append(row)
                    b.append(given + (0.0 if t else start[store]))
        row = np.repeat(np.arange(len(entries)), [len(e) for e in entries])
        column = np.concatenate([list(e) for e in entries])
        value = np.concatenate([list(e.values()) for e in entries]).astype(float)
        a = csr_array((value, (row, column)), shape=(len(entries), columns))
        return c, a, np.array(b), lower, upper

    def cost(self, adder: np.ndarray | float = 0.0) -> np.ndarray:
        """Cost with an adder on imports."""
        c = self.arrays[0].copy()
        c[self.at("m_in")] += adder
        return c

    def of(self, x: np.ndarray) -> np.ndarray:
        """A schedule of the library, hub, hour, variable, in the order here; all hubs."""
        n, hours = self.size
        return x.reshape(n, hours, 12).transpose(0, 2, 1).ravel()

    def back(self, x: np.ndarray) -> np.ndarray:
        """A schedule in the library's order."""
        n, hours = self.size
        return x.reshape(n, 12, hours).transpose(0, 2, 1).ravel()

    def sums(self, terms: np.ndarray) -> np.ndarray:
        """Sum over each hub's columns."""
        return np.bincount(self.hub, terms, minlength=len(self.which))

    def minimum(self, c: np.ndarray) -> np.ndarray:
        """A schedule of least c x."""
        _, a, b, lower, upper = self.arrays
        return lp(c, lower, upper, a_eq=a, b_eq=b).x

    def best(self, adder: np.ndarray | float = 0.0) -> np.ndarray:
        """Least cost of each hub at an adder, what it pays for it included."""
        c = self.cost(adder)
        return self.sums(c * self.minimum(c))

    def regret(self, x: np.ndarray, adder: np.ndarray) -> np.ndarray:
        """What a schedule costs each hub more than its best at an adder."""
        return self.sums(self.cost(adder) * x) - self.best(adder)

    def soft_quota(
        self, quota: np.ndarray, cap: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """phi of theorem 1 for each hub, a schedule that attains it, multipliers of the quota."""
        c, a, b, lower, upper = self.arrays
        n = quota.size
        result = lp(
            np.concatenate([c, np.full(n, cap)]),
            np.concatenate([lower, np.zeros(n)]),
            np.concatenate([upper, np.full(n, np.inf)]),
            csr_array(hstack([self.pick("m_in"), -eye_array(n)])),
            quota.ravel(),
            csr_array(hstack([a, csr_array((a.shape[0], n))])),
            b,
        )
        x, beyond = result.x[: len(c)], result.x[len(c) :].reshape(self.size)
        value = self.sums(c * x) + cap * beyond.sum(axis=1)
        return value, x, -result.ineqlin.marginals.reshape(self.size)

    def closest(self, x: np.ndarray, cap: float) -> np.ndarray:
        """Adders from 0 to a cap of least regret, by the dual programme of the hubs."""
        c, a, b, lower, upper = self.arrays
        m_in = self.at("m_in").ravel()
        n, rows, columns = len(m_in), len(b), len(c)
        eye = eye_array(columns)
        result = lp(
            np.concatenate([x[m_in], -b, -lower, upper]),
            np.concatenate([np.zeros(n), np.full(rows, -np.inf), np.zeros(2 * columns)]),
            np.concatenate([np.full(n, cap), np.full(rows + 2 * columns, np.inf)]),
            a_eq=csr_array(hstack([-self.pick("m_in").T, a.T, eye, -eye])),
            b_eq=c,
        )
        return result.x[:n].reshape(self.size)

    def pick(self, name: str) -> csr_array:
        """Matrix that takes a schedule to a variable of every hub and hour."""
        at = self.at(name).ravel()
        shape = len(at), 12 * len(at)
        return csr_array((np.ones(len(at)), (np.arange(len(at)), at)), shape=shape)

    def restricted(self, lower: np.ndarray, upper: np.ndarray) -> Own:
        """The same with other bounds."""
        other = Own(self.hubs, self.which)
        other.__dict__["arrays"] = (*self.arrays[:3], lower, upper)
        return other

    def withdrawal(self, x: np.ndarray) -> np.ndarray:
        """Net withdrawals, shape (hubs, hours)."""
        return x[self.at("m_in")] - x[self.at("m_out")]


def own_programme(hubs: Hubs, *which: int) -> Own:
    """The programmes of some hubs, of all by default."""
    return Own(hubs, which or tuple(range(len(hubs))))


def limit_rows(own: Own, grid: HubGrid, imports_only: bool = False) -> tuple[csr_array, np.ndarray]:
    """Rows of the grid in the direction of import, then against it; hour by hour.

    With imports only, the withdrawals are the imports and the second half is left out.
    """
    n, hours = own.size
    w = own.pick("m_in") if imports_only else own.pick("m_in") - own.pick("m_out")
    flow, room = [], []
    incidence = np.vstack([grid.factor.toarray(), np.ones(n)])
    for way in (1,) if imports_only else (1, -1):
        limit = np.append(grid.limit_mw, grid.import_mw if way == 1 else grid.export_mw)
        for t in range(hours):
            flow.append(way * incidence @ csr_array(w)[t::hours])
            room.append(limit - way * np.append(grid.background_mw[:, t], 0.0))
    return csr_array(np.vstack(flow)), np.concatenate(room)


@dataclass(frozen=True)
class Plan:
    """Least cost of a planner: schedule, overload, multipliers of the rows of `limit_rows`."""

    x: np.ndarray
    value: float
    congestion: float
    shadow: np.ndarray


def plan(
    own: Own,
    grid: HubGrid,
    cost: np.ndarray,
    weight: float,
    ceiling: float = np.inf,
    more_room: np.ndarray | float = 0.0,
    cut: tuple[np.ndarray, np.ndarray] | None = None,
) -> Plan:
    """Least ``cost x + weight congestion`` with congestion at most a ceiling, by scipy.

    `cut` are further rows ``C x <= d``.
    """
    _, a, b, lower, upper = own.arrays
    flow, room = limit_rows(own, grid)
    count = len(room)
    weights = np.tile(np.append(np.full(len(grid.lines), grid.line_weight),
                                grid.substation_weight), 2 * own.size[1])  # fmt: skip
    rows = [hstack([csr_array(flow), -eye_array(count)])]
    sides = [room + more_room]
    if np.isfinite(ceiling):
        rows.append(csr_array(np.append(np.zeros(len(cost)), weights)[None]))
        sides.append([ceiling])
    if cut is not None:
        rows.append(csr_array(np.hstack([cut[0], np.zeros((len(cut[1]), count))])))
        sides.append(cut[1])
    result = lp(
        np.concatenate([cost, weight * weights]),
        np.concatenate([lower, np.zeros(count)]),
        np.concatenate([upper, np.full(count, np.inf)]),
        csr_array(vstack(rows)),
        np.concatenate(sides),
        csr_array(hstack([a, csr_array((a.shape[0], count))])),
        b,
    )
    x = result.x[: len(cost)]
    shadow = -result.ineqlin.marginals[:count].reshape(2, own.size[1], -1).transpose(0, 2, 1)
    return Plan(x, result.fun, grid_congestion(grid, own.withdrawal(x)), shadow)


def grid_congestion(grid: HubGrid, w: np.ndarray) -> float:
    """Weighted overloads by the poster's formulas, from flows f and the substation's S."""
    f = -grid.background_mw - grid.factor.toarray() @ w
    lines = np.maximum(np.abs(f) - grid.limit_mw[:, None], 0).sum()
    s = w.sum(axis=0)
    ends = np.maximum(s - grid.import_mw, 0).sum() + np.maximum(-s - grid.export_mw, 0).sum()
    return float(grid.line_weight * lines + grid.substation_weight * ends)


def breakpoints(own: Own, cap: float) -> list[float]:
    """Adders in [0, cap] at which the answer of one hub in one hour can change, and both ends.

    The least cost is a concave function of the adder, made of lines whose slopes are imports: where
    the lines of two answers meet, either the function is that low or a third line is below.
    """

    def line(adder: float) -> tuple[float, float]:
        c = own.cost(adder)
        x = own.minimum(c)
        return float(c @ x), float(x[own.at("m_in")].sum())

    def between(first: float, last: float) -> list[float]:
        (v1, m1), (v2, m2) = line(first), line(last)
        if m1 - m2 < 1e-7:
            return []
        meet = (v2 - v1 + m1 * first - m2 * last) / (m1 - m2)
        if meet - first < 1e-7 or last - meet < 1e-7:
            return []
        if line(meet)[0] > v1 + m1 * (meet - first) - 1e-7:
            return [meet]
        return [*between(first, meet), meet, *between(meet, last)]

    return [0.0, *between(0.0, cap), cap]


def least_priced_congestion(hubs: Hubs, grid: HubGrid, cap: float) -> float:
    """Least congestion that any adders reach, for one hour: the bilevel problem by enumeration.

    Between two breakpoints a hub's optimal answers do not change, and at a breakpoint they are all
    that they are beside it; so breakpoints and ends of [0, cap] are all adders that matter.
    """
    own = own_programme(hubs)
    adders = [breakpoints(own_programme(hubs, k), cap) for k in range(len(hubs))]
    least = np.inf
    for adder in itertools.product(*adders):
        c = own.cost(np.array(adder)[:, None])
        rows = np.where(own.hub[None] == np.arange(len(hubs))[:, None], c, 0.0)
        bill = own.best(np.array(adder)[:, None]) + 1e-8
        least = min(least, plan(own, grid, 0 * c, 1.0, cut=(rows, bill)).congestion)
    return least


def corners(furthest: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Points whose hull is a convex set in the plane: none lies beyond an edge."""
    ways = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    found = [furthest(way) for way in ways]
    edges = list(zip(found, found[1:] + found[:1], strict=True))
    while edges:
        first, last = edges.pop()
        along = last - first
        if np.hypot(*along) < 1e-7:
            continue
        out = np.array([along[1], -along[0]]) / np.hypot(*along)
        new = furthest(out)
        if out @ (new - first) > 1e-7:
            found.append(new)
            edges += [(first, new), (new, last)]
    return np.array(found)


def answer_corners(hubs: Hubs, k: int, tariff: Tariff, eps: float) -> np.ndarray:
    """Corners of what one hub can withdraw in two hours within a tolerance of its best, EUR."""
    own = own_programme(hubs, k)
    c, a, b, lower, upper = own.arrays
    c = own.cost(tariff.adder_eur_per_mwh[[k]])
    pick = own.pick("m_in")
    rows, sides = csr_array((0, len(c))), np.zeros(0)
    for block in tariff.blocks:
        pad = csr_array((rows.shape[0], 2)), csr_array((2, len(c) - pick.shape[1]))
        rows = vstack([hstack([rows, pad[0]]), hstack([pick, pad[1], -eye_array(2)])])
        sides = np.append(sides, block.above_mw[k])
        c = np.append(c, block.more_eur_per_mwh[k])
        lower, upper = np.append(lower, [0.0, 0.0]), np.append(upper, [np.inf, np.inf])
        a = hstack([a, csr_array((a.shape[0], 2))])
    a = csr_array(a)
    least = lp(c, lower, upper, csr_array(rows), sides, a, b).fun
    rows = csr_array(vstack([rows, csr_array(c[None])]))
    sides = np.append(sides, least + eps)

    def furthest(way: np.ndarray) -> np.ndarray:
        slope = np.zeros(len(c))
        slope[own.at("m_in")[0]], slope[own.at("m_out")[0]] = -way, way
        x = lp(slope, lower, upper, rows, sides, a, b).x
        return own.withdrawal(x)[0]

    return corners(furthest)


def most_congested(hubs: Hubs, grid: HubGrid, tariff: Tariff, eps: np.ndarray) -> float:
    """Worst answer in two hours by enumeration: congestion is convex, so it is worst at corners."""
    sets = [answer_corners(hubs, k, tariff, float(eps[k])) for k in range(len(hubs))]
    return max(grid_congestion(grid, np.array(w)) for w in itertools.product(*sets))
