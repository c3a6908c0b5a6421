"""Feeders for the tests, and a second linear AC model: dense, in volts and amperes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from flexlib import (
    Bids,
    Box,
    Budget,
    Connected,
    LightModel,
    Market,
    Network,
    Planes,
    data_path,
    linearise,
    power_flow,
    read_network,
)
from flexlib.robust_limits import reach

STABLE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


# --------------------------------------------------------------------------------------------
# Feeders made by hand


def frames(**changes: dict[str, list[Any]]) -> dict[str, pd.DataFrame]:
    """Tables of a small 10 kV feeder S - A - B."""
    tables: dict[str, dict[str, list[Any]]] = {
        "buses": {
            "bus": ["A", "S", "B"],
            "v_nom_kv": [10.0, 10.0, 10.0],
            "v_slack_pu": [np.nan, 1.0, np.nan],
            "v_min_pu": [0.9, 0.9, 0.9],
            "v_max_pu": [1.1, 1.1, 1.1],
        },
        "branches": {
            "branch": ["S-A", "A-B"],
            "from_bus": ["S", "A"],
            "to_bus": ["A", "B"],
            "r_ohm": [0.5, 0.8],
            "x_ohm": [0.7, 0.4],
            "i_max_from_a": [np.nan, np.nan],
            "i_max_to_a": [np.nan, np.nan],
        },
        "loads": {
            "load": ["one", "two", "sun"],
            "bus": ["A", "B", "B"],
            "p_kw": [600.0, 900.0, -200.0],
            "q_kvar": [200.0, 300.0, 0.0],
        },
    }
    for table, columns in changes.items():
        tables[table] = {**tables[table], **columns}
    return {name: pd.DataFrame(columns) for name, columns in tables.items()}


def small_network(**changes: dict[str, list[Any]]) -> Network:
    return Network(**frames(**changes), name="small")


def bands(**percent: float) -> pd.DataFrame:
    return pd.DataFrame({"load": list(percent), "band_pct": list(percent.values())})


def offers_up(price: float = 100.0, **up_max_kw: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "load": list(up_max_kw),
            "up_max_kw": list(up_max_kw.values()),
            "price_up_eur_per_mwh": price,
        }
    )


def small_market(i_max_a: float = 75.0, **changes: Any) -> Market:
    """The small feeder with a limit on its first line that the base case exceeds."""
    network = changes.pop("network", None) or small_network(
        branches={"i_max_from_a": [i_max_a, np.nan]}
    )
    return Market(
        network,
        changes.pop("offers", offers_up(one=300, two=600)),
        Box(network, changes.pop("bands", bands(one=10, two=10, sun=20))),
        **changes,
    )


def corners_of_offers(market: Market) -> np.ndarray:
    """Net activations at which every offer is used fully upward or downward, (offers, corners)."""
    ends = market.offers[["up_max_kw", "down_max_kw"]].to_numpy() * [1, -1]
    return np.array(np.meshgrid(*ends, indexing="ij")).reshape(len(ends), -1)


FLEXIBLE = {"POD2": 250.0, "POD4": 150.0, "POD7": 250.0}


@cache
def feeder_12() -> Network:
    return read_network(data_path("feeders/de-simone-12"))


def market_12(flexible_pct: float, other_pct: float, planes: int = 32, **tables: Any) -> Market:
    """The 12-bus feeder of De Simone (2025) with its seven uncertain PODs."""
    network = tables.get("network", feeder_12())
    percent = {
        load: flexible_pct if load in FLEXIBLE else other_pct for load in network.loads["load"]
    }
    offers = tables.get("offers", offers_up(**FLEXIBLE))
    return Market(network, offers, Box(network, bands(**percent)), Planes(planes))


# --------------------------------------------------------------------------------------------
# Random feeders


def random_network(
    seed: int, size: int = 8, chords: int = 0, transformers: int = 0, load: float = 1.0
) -> Network:
    """Radial or meshed feeder in any bus order, without current limits.

    Impedances and loads are drawn per unit of 1 MVA, so that the voltage drop stays near 10 %
    whatever the size. Chords join buses between which no phase shift lies.
    """
    rng = np.random.default_rng(seed)
    parent = np.array([0, *(int(rng.integers(max(0, k - 3), k)) for k in range(1, size))])
    steps = set(rng.choice(np.arange(1, size), min(transformers, size - 1), replace=False))
    v_nom_kv, phase, rows = np.full(size, float(rng.choice([6.0, 10.0, 20.0]))), np.zeros(size), []
    depth = max(2.0, np.sqrt(size))

    def row(one: int, other: int, **extra: float) -> dict[str, Any]:
        z_pu = 0.05 / depth * rng.uniform(0.3, 1)
        angle = rng.choice([0.0, np.pi / 2, rng.uniform(0.2, 1.4)], p=[0.05, 0.05, 0.9])
        z_ohm = z_pu * v_nom_kv[other] ** 2 * np.exp(1j * angle)
        return {
            "from_bus": one,
            "to_bus": other,
            "r_ohm": max(0.0, z_ohm.real),
            "x_ohm": max(0.0, z_ohm.imag),
            "b_us": rng.choice([0.0, rng.uniform(0, 0.02)]) / v_nom_kv[other] ** 2 * 1e6,
            "g_us": rng.choice([0.0, rng.uniform(0, 0.002)]) / v_nom_kv[other] ** 2 * 1e6,
            **extra,
        }

    for k in range(1, size):
        one, other = (int(parent[k]), k) if rng.random() < 0.7 else (k, int(parent[k]))
        v_nom_kv[k], phase[k], extra = v_nom_kv[parent[k]], phase[parent[k]], {}
        if k in steps:
            v_nom_kv[k] = float(rng.choice([0.4, 3.0, v_nom_kv[k]]))
            shift_deg = float(rng.choice([0.0, 30.0, 150.0, -30.0]))
            phase[k] += -shift_deg if other == k else shift_deg
            extra = {"ratio_pu": rng.uniform(0.975, 1.025), "shift_deg": shift_deg, "b_us": 0.0}
            extra["g_us"] = 0.0
        rows.append(row(one, other, **extra))
    for _ in range(chords):
        one = int(rng.integers(size))
        same = np.flatnonzero((v_nom_kv == v_nom_kv[one]) & (phase == phase[one]))
        same = same[same != one]
        if len(same):
            rows.append(row(one, int(rng.choice(same))))
    branches = pd.DataFrame(rows).reindex(columns=[*rows[0], "ratio_pu", "shift_deg"])
    branches = branches.loc[:, ~branches.columns.duplicated()]
    order = rng.permutation(size)
    names = np.array([f"bus {chr(65 + k % 26)}{k}" for k in range(size)])
    for end in ("from_bus", "to_bus"):
        branches[end] = names[branches[end].astype(int)]
    branches.insert(0, "branch", [f"line {k}" for k in range(len(branches))])
    branches["i_max_from_a"] = branches["i_max_to_a"] = np.nan
    y_us = (rng.random((2, size)) < 0.2) * rng.uniform([[0], [-0.05]], 0.05, (2, size))
    buses = pd.DataFrame(
        {
            "bus": names,
            "v_nom_kv": v_nom_kv,
            "v_slack_pu": [rng.uniform(0.98, 1.03), *[np.nan] * (size - 1)],
            "v_min_pu": 0.6,
            "v_max_pu": 1.4,
            "g_us": y_us[0] / v_nom_kv**2 * 1e6,
            "b_us": y_us[1] / v_nom_kv**2 * 1e6,
        }
    )
    count = int(rng.integers(3, 16))
    p_kw = rng.uniform(0.2, 1, count)
    p_kw *= 1000 / p_kw.sum() * load
    p_kw *= np.where(rng.random(count) < rng.choice([0.0, 0.3, 0.8]), -1, 1)
    loads = pd.DataFrame(
        {
            "load": [f"POD {k}" for k in range(count)],
            "bus": names[rng.integers(0, size, count)],
            "p_kw": p_kw,
            "q_kvar": p_kw * rng.uniform(-0.3, 0.6, count),
        }
    )
    return Network(buses.iloc[order], branches, loads, name=f"random {seed}")


def random_market(
    seed: int, size: int = 8, chords: int = 0, transformers: int = 0, uncertain: int = 4,
    planes: int = 32, band: str = "baseline",
) -> Market:  # fmt: skip
    """Market on a random feeder whose limits are met by a hidden activation, most not without."""
    network = random_network(seed, size, chords, transformers)
    rng = np.random.default_rng([seed, 1])
    count = len(network.loads)
    chosen = rng.permutation(count)[: min(uncertain, count)]
    box = Box(
        network,
        pd.DataFrame(
            {"load": network.loads["load"].to_numpy()[chosen]}
            | {"band_pct": rng.choice([0.0, 5.0, 10.0, 30.0], len(chosen), p=[0.1, 0.3, 0.3, 0.3])}
        ),
    )
    flexible = rng.permutation(count)[: int(rng.integers(1, min(6, count) + 1))]
    size_kw = np.abs(network.s_load_kva.real[flexible])
    offers = pd.DataFrame(
        {
            "load": network.loads["load"].to_numpy()[flexible],
            "up_max_kw": size_kw * rng.choice([0.0, 0.5, 1.0], len(flexible), p=[0.1, 0.4, 0.5]),
            "price_up_eur_per_mwh": rng.uniform(20, 200, len(flexible)),
            "down_max_kw": size_kw * rng.choice([0.0, 0.8], len(flexible)),
            "price_down_eur_per_mwh": rng.uniform(20, 200, len(flexible)),
        }
    )
    market = Market(network, offers, box, Planes(planes), band)
    share = rng.uniform(0.2, 0.7, len(offers))
    ways = rng.random(len(offers)) < 0.7
    hidden_kw = share * np.where(ways, offers["up_max_kw"], -offers["down_max_kw"])
    return replace(market, network=_limited(market, hidden_kw, rng), uncertainty=market.uncertainty)


def _limited(market: Market, hidden_kw: np.ndarray, rng: np.random.Generator) -> Network:
    """Set limits that the hidden activation meets exactly where it helps, else by a margin."""
    network, worst = market.network, Worst(market)
    idle_a, hidden_a = worst.plane_a(0 * hidden_kw), worst.plane_a(hidden_kw)
    i_max_a = hidden_a * np.where(hidden_a < idle_a, 1.0001, 1.2)
    helped = np.flatnonzero((hidden_a < 0.999 * idle_a) & (hidden_a > 0.1))
    rated = set(rng.permutation(helped)[:3]) | set(rng.permutation(len(i_max_a))[:2])
    limits = np.where([k in rated for k in range(len(i_max_a))], np.maximum(i_max_a, 0.01), np.nan)
    branches = network.branches.assign(
        i_max_from_a=limits[: len(network.branches)], i_max_to_a=limits[len(network.branches) :]
    )
    buses = network.buses.copy()
    low, high = worst.norm_low_pu(hidden_kw), worst.norm_high_pu(hidden_kw)
    idle_low, idle_high = worst.norm_low_pu(0 * hidden_kw), worst.norm_high_pu(0 * hidden_kw)
    for bus in rng.permutation(worst.free)[:3]:
        if low[bus] > idle_low[bus] + 1e-4 and 0.6 < low[bus] < 1.09:
            buses.loc[bus, "v_min_pu"] = low[bus] - 1e-7
        if high[bus] < idle_high[bus] - 1e-4 and 0.91 < high[bus] < 1.4:
            buses.loc[bus, "v_max_pu"] = high[bus] + 1e-7
    return Network(buses, branches, network.loads, name=network.name)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    return random_network(
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(3, 30)),
        draw(st.integers(0, 3)),
        draw(st.integers(0, 2)),
    )


@st.composite
def markets(draw: st.DrawFn, uncertain: int = 12, band: str = "baseline") -> Market:
    return random_market(
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(3, 30)),
        draw(st.integers(0, 3)),
        draw(st.integers(0, 2)),
        draw(st.integers(1, uncertain)),
        draw(st.sampled_from([5, 8, 32, 33, 96])),
        band,
    )


# --------------------------------------------------------------------------------------------
# The second model


class Dense:
    """Admittances of a network in volts and amperes, phase to neutral, as dense matrices."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.u = network.buses["v_nom_kv"].to_numpy() * 1000 / np.sqrt(3)
        size, count = len(network.buses), len(network.branches)
        name = {bus: k for k, bus in enumerate(network.buses["bus"])}
        self.y_end = np.zeros((2 * count, size), dtype=complex)
        self.at = np.zeros(2 * count, dtype=int)
        for k, line in network.branches.iterrows():
            one, other = name[line["from_bus"]], name[line["to_bus"]]
            turns = self.u[one] / self.u[other] * line["ratio_pu"]
            turns = turns * np.exp(1j * np.radians(line["shift_deg"]))
            series = 1 / complex(line["r_ohm"], line["x_ohm"])
            half = complex(line["g_us"], line["b_us"]) * 1e-6 / 2
            self.y_end[k, one] += (series + half) / abs(turns) ** 2
            self.y_end[k, other] += -series / np.conj(turns)
            self.y_end[count + k, other] += series + half
            self.y_end[count + k, one] += -series / turns
            self.at[k], self.at[count + k] = one, other
        shunt = (network.buses["g_us"] + 1j * network.buses["b_us"]).to_numpy() * 1e-6
        self.y_bus = np.diag(shunt)
        for end, bus in enumerate(self.at):
            self.y_bus[bus] += self.y_end[end]
        self.slack = int(np.flatnonzero(network.buses["v_slack_pu"].notna())[0])
        self.free = np.array([k for k in range(size) if k != self.slack])
        self.bus_of = np.array([name[bus] for bus in network.loads["bus"]], dtype=int)
        self.z = np.zeros((size, size), dtype=complex)
        self.z[np.ix_(self.free, self.free)] = np.linalg.inv(self.y_bus[np.ix_(*[self.free] * 2)])
        v_slack = network.buses["v_slack_pu"].iloc[self.slack] * self.u[self.slack]
        self.v_idle = -self.z @ self.y_bus[:, self.slack] * v_slack
        self.v_idle[self.slack] = v_slack

    def injected(self, s_kva: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Bus currents injected by loads that consume s (three-phase) at the voltages v."""
        i = np.zeros(len(self.u), dtype=complex)
        np.add.at(i, self.bus_of, -np.conj(s_kva * 1000 / 3 / v[self.bus_of]))
        return i

    def linear(self, s_kva: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Bus voltages of the linear model whose powers are divided by v."""
        return self.v_idle + self.z @ self.injected(s_kva, v)

    def ac(self, s_kva: np.ndarray) -> np.ndarray:
        """Bus voltages of the AC power flow, by fixed-point iteration."""
        v = self.v_idle
        for _ in range(500):
            before, v = v, self.linear(s_kva, v)
            if np.abs((v - before) / self.u).max() < 1e-14:
                break
        return v


@dataclass(frozen=True)
class Affine:
    """Voltages (p.u.) and currents (A) of the linear model: base, per net kW up, per xi."""

    v: tuple[np.ndarray, np.ndarray, np.ndarray]
    i: tuple[np.ndarray, np.ndarray, np.ndarray]


def affine(market: Market, dense: Dense) -> Affine:
    """Derive all of it from the tables alone."""
    loads = market.network.loads.set_index("load")
    s_kva = (loads["p_kw"] + 1j * loads["q_kvar"]).to_numpy()
    v_ac = dense.ac(s_kva)

    def change(load: str, ds_kva: complex) -> np.ndarray:
        only = np.where(loads.index == load, ds_kva, 0)
        return dense.z @ dense.injected(only, v_ac)

    per_kw, per_xi = [], []
    for load in market.offers["load"]:
        p, q = loads.loc[load, ["p_kw", "q_kvar"]]
        per_kw.append(change(load, -(1 + 1j * (q / p if p else 0))))
    for load, pct in market.uncertainty.bands[["load", "band_pct"]].itertuples(index=False):
        per_xi.append(change(load, pct / 100 * complex(*loads.loc[load, ["p_kw", "q_kvar"]])))
    v = dense.linear(s_kva, v_ac), np.array(per_kw).T, np.array(per_xi).T
    return Affine(
        (v[0] / dense.u, v[1] / dense.u[:, None], v[2] / dense.u[:, None]),
        (dense.y_end @ v[0], dense.y_end @ v[1], dense.y_end @ v[2]),
    )


def corners_of_set(uncertainty: Box | Budget) -> np.ndarray:
    """Points of a box or budget whose hull it is, shape (loads, points)."""
    count, gamma = len(uncertainty.bands), getattr(uncertainty, "gamma", None)
    ends = [-1.0, 1.0] if gamma is None else [-1.0, -(gamma % 1), 0.0, gamma % 1, 1.0]
    points = np.array(list(product(sorted(set(ends), reverse=True), repeat=count))).T
    within = np.inf if gamma is None else gamma + 1e-9
    return points[:, np.abs(points).sum(axis=0) <= within]


class Worst:
    """Worst cases of the linear model over all vertices of a box or budget, enumerated."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.dense = Dense(market.network)
        self.free, self.affine = self.dense.free, affine(market, self.dense)
        self.xi = corners_of_set(market.uncertainty)
        count = market.norm.count if isinstance(market.norm, Planes) else 32
        n, t = np.arange(1, count + 1), 2 * np.pi / count
        # The source's own coefficients: (A x + B y) / C <= I.
        self.A = np.sin((n - 1) * t) - np.sin(n * t)
        self.B = np.cos(n * t) - np.cos((n - 1) * t)
        self.C = np.cos(n * t) * np.sin((n - 1) * t) - np.cos((n - 1) * t) * np.sin(n * t)
        norm = reach(market).voltage_norm
        self.alpha, self.beta = norm.alpha, norm.beta
        turn = np.conj(self.dense.v_idle) / np.abs(self.dense.v_idle)
        self.v = tuple(part * (turn if part.ndim == 1 else turn[:, None]) for part in self.affine.v)

    @property
    def share_per_kw(self) -> np.ndarray:
        """Change of what is left of each deviation per net kW, (loads, offers)."""
        p_kw = self.market.network.loads.set_index("load")["p_kw"]
        names, offers = self.market.uncertainty.bands["load"], self.market.offers["load"]
        return np.array(
            [
                [
                    -1 / p_kw[load] if load == offer and self.market.band == "remainder" else 0.0
                    for offer in offers
                ]
                for load in names
            ]
        )

    def share(self, net_kw: np.ndarray) -> np.ndarray:
        """What an activation leaves of each deviation, (loads,)."""
        return 1 + self.share_per_kw @ net_kw

    def left(self, net_kw: np.ndarray) -> np.ndarray:
        """All vertices, (loads, vertices), with what an activation leaves of them."""
        return self.share(net_kw)[:, None] * self.xi

    def planes(self, i: np.ndarray) -> np.ndarray:
        return (i.real[..., None] * self.A + i.imag[..., None] * self.B) / self.C

    def margins(self) -> np.ndarray:
        """What the vertices add at most along each plane, shape (ends, planes)."""
        return np.array([self.planes(row @ self.xi).max(axis=0) for row in self.affine.i[2]])

    def plane_a(self, net_kw: np.ndarray) -> np.ndarray:
        """Largest plane value of each end over all vertices."""
        i, xi = self.affine.i[0] + self.affine.i[1] @ net_kw, self.left(net_kw)
        return np.array(
            [self.planes(z + row @ xi).max() for z, row in zip(i, self.affine.i[2], strict=True)]
        )

    def slopes(self, bus: int) -> np.ndarray:
        """A grid of s in [-1, 1], with the points where the least vertex may change."""
        re, im = self.v[2][bus].real, self.v[2][bus].imag
        with np.errstate(divide="ignore", invalid="ignore"):
            turning = -self.alpha * re / (self.beta * im)
        return np.concatenate([np.linspace(-1, 1, 9), turning[np.abs(turning) <= 1]])

    def norm_low_pu(self, net_kw: np.ndarray) -> np.ndarray:
        """Largest over s of the least over all vertices of alpha re + s beta im."""
        base, low = self.v[0] + self.v[1] @ net_kw, np.full(len(self.dense.u), np.inf)
        xi = self.left(net_kw)
        for bus in self.free:
            z = base[bus] + self.v[2][bus] @ xi
            low[bus] = max(
                float((self.alpha * z.real + s * self.beta * z.imag).min())
                for s in self.slopes(bus)
            )
        return low

    def norm_high_pu(self, net_kw: np.ndarray) -> np.ndarray:
        """Largest norm over all vertices."""
        base, high = self.v[0] + self.v[1] @ net_kw, np.full(len(self.dense.u), -np.inf)
        xi = self.left(net_kw)
        for bus in self.free:
            z = base[bus] + self.v[2][bus] @ xi
            high[bus] = float((self.alpha * z.real + self.beta * np.abs(z.imag)).max())
        return high

    def rows_at_vertices(
        self, weights: np.ndarray, parts: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Re(w z) of one quantity at every vertex: per net kW (w, vertices, offers), and idle."""
        base, per_kw, per_xi = parts
        left = self.xi.T[:, :, None] * self.share_per_kw  # vertices, loads, offers
        moved = per_kw + np.einsum("k,vko->vo", per_xi, left)
        idle = base + per_xi @ self.xi
        return np.real(weights[:, None, None] * moved), np.real(weights[:, None] * idle)

    def optimum(self) -> tuple[float, np.ndarray]:
        """Least cost and net kW: every vertex its rows, lower limits as choices of s."""
        market, rows, room = self.market, [], []
        ends = market.network.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()

        def add(weights: np.ndarray, parts: tuple[np.ndarray, ...], limit: float) -> None:
            per_kw, idle = self.rows_at_vertices(weights, parts)
            if market.band == "baseline":  # all vertices of a weight differ by a constant alone
                per_kw, idle = per_kw[:, :1], idle.max(axis=1, keepdims=True)
            rows.append(per_kw.reshape(-1, len(market.offers)))
            room.append(limit - idle.ravel())

        for e in np.flatnonzero(np.isfinite(ends)):
            add((self.A - 1j * self.B) / self.C, tuple(part[e] for part in self.affine.i), ends[e])
        buses = market.network.buses
        for bus in self.free:
            w = self.alpha - 1j * self.beta * np.array([-1.0, 1.0])
            add(w, tuple(part[bus] for part in self.v), buses["v_max_pu"].iloc[bus])
        a, b = np.vstack(rows), np.concatenate(room)
        disjunctions: list[tuple[np.ndarray, np.ndarray]] = []
        while True:
            cost, net_kw = self._milp(a, b, disjunctions)
            low = self.norm_low_pu(net_kw)
            missing = np.flatnonzero(low < buses["v_min_pu"].to_numpy() - 1e-9)
            new = [bus for bus in missing if bus in self.free]
            if not new or len(disjunctions) > 200:
                return cost, net_kw
            for bus in new:
                w = self.alpha - 1j * self.beta * self.slopes(bus)
                per_kw, idle = self.rows_at_vertices(w, tuple(part[bus] for part in self.v))
                if market.band == "baseline":
                    per_kw, idle = per_kw[:, :1], idle.min(axis=1, keepdims=True)
                disjunctions.append((per_kw, buses["v_min_pu"].iloc[bus] - idle))

    def _milp(
        self, a: np.ndarray, b: np.ndarray, disjunctions: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[float, np.ndarray]:
        """Optimum with one row of each disjunction, voltages in units of 1e-4 p.u."""
        offers, scale = self.market.offers, 1e4
        count, choices = len(offers), sum(len(need) for _, need in disjunctions)
        price = offers[["price_up_eur_per_mwh", "price_down_eur_per_mwh"]].to_numpy().T.ravel()
        volume = offers[["up_max_kw", "down_max_kw"]].to_numpy().T.ravel()
        fixed_a, fixed_b = [np.hstack([a, -a]) * scale], [b * scale]
        if disjunctions:
            constraints = [LinearConstraint(np.hstack([a, -a, np.zeros((len(a), choices))]), ub=b)]
            first, big = 0, 0.5  # p.u.: no voltage is missed by more
            for per_kw, need in disjunctions:
                which = np.zeros((*need.shape, choices))
                for s in range(len(need)):
                    which[s, :, first + s] = 1
                rows = np.concatenate([per_kw, -per_kw, -big * which], axis=2) * scale
                rows, low = rows.reshape(-1, rows.shape[2]), ((need - big) * scale).ravel()
                constraints.append(LinearConstraint(rows, lb=low))
                one = np.concatenate([np.zeros(2 * count), which[:, 0].sum(axis=0)])
                constraints.append(LinearConstraint(one[None], lb=1))
                first += len(need)
            found = milp(
                np.concatenate([price / 1000, np.zeros(choices)]),
                constraints=constraints,
                bounds=Bounds(0, np.concatenate([volume, np.ones(choices)])),
                integrality=np.arange(2 * count + choices) >= 2 * count,
                options={"mip_rel_gap": 1e-9},
            )
            assert found.success, found.message
            chosen, first = found.x[2 * count :] > 0.5, 0
            for per_kw, need in disjunctions:
                here = chosen[first : first + len(need)]
                rows = per_kw[here].reshape(-1, count)
                fixed_a.append(np.hstack([-rows, rows]) * scale)
                fixed_b.append(-need[here].ravel() * scale)
                first += len(need)
        least = linprog(
            price / 1000,
            np.vstack(fixed_a),
            np.concatenate(fixed_b),
            bounds=np.column_stack([np.zeros(2 * count), volume]),
            options={"primal_feasibility_tolerance": 1e-9},
        )
        assert least.success, least.message
        return float(least.fun), least.x[:count] - least.x[count:]


# --------------------------------------------------------------------------------------------
# Small networks with bids


@dataclass(frozen=True)
class Offered:
    """A small network with bids, limits that some requests bring into play, and points."""

    connected: Connected
    points: np.ndarray
    request_kw: float
    seed: int

    @property
    def bids(self) -> Bids:
        return self.connected.bids

    @cached_property
    def model(self) -> LightModel:
        return linearise(self.connected, self.points)


def bids_table(count: int, rng: np.random.Generator, kind: str) -> pd.DataFrame:
    """Bids that only inject ("up"), only consume ("down"), or both, with every extra ("all")."""
    up_kw, down_kw = rng.uniform(20, 400, (2, count)) * (rng.random((2, count)) < 0.9)
    table = pd.DataFrame({"bid": [f"bid {k}" for k in range(count)]})
    if kind != "down":
        table["up_max_kw"] = up_kw
        table["price_up_eur_per_mwh"] = rng.uniform(-20, 200, count)
    if kind != "up":
        table["down_max_kw"] = down_kw
        table["price_down_eur_per_mwh"] = rng.uniform(21, 150, count)
    table["kvar_per_kw"] = rng.choice([0.0, -0.3, 0.5], count)
    if kind == "all":
        table["min_up_kw"] = up_kw * rng.choice([0.0, 0.5, 1.0], count)
        table["min_down_kw"] = down_kw * rng.choice([0.0, 0.4], count)
        table["q_max_kvar"] = rng.choice([0.0, 100.0], count)
        table["price_q_eur_per_mvarh"] = rng.uniform(0, 20, count)
    return table


def offered(seed: int, kind: str = "up", points: int | None = None, pv: bool = False) -> Offered:
    """Draw a network of 3 to 8 buses with 2 to 6 bids, 1 to 6 points and a request.

    Limits are drawn between what nothing and what a hidden activation bring about, so that they
    hold while nothing is activated, and most cheapest activations break some; a few requests are
    not admissible at all.
    """
    rng = np.random.default_rng([seed, 7])
    network = random_network(seed, int(rng.integers(3, 9)), int(rng.integers(0, 3)), seed % 2)
    buses = network.buses
    if pv:
        held = int(rng.choice(np.flatnonzero(buses["v_slack_pu"].isna())))
        volt = np.where(np.arange(len(buses)) == held, buses["v_slack_pu"].max(), np.nan)
        network = replace(network, buses=buses.assign(v_gen_pu=volt))
    bids = Bids(bids_table(int(rng.integers(2, 7)), rng, kind))
    others = [bus for bus in buses["bus"] if bus != buses["bus"][network.slack]]
    table = bids.table["bid"]
    sites = pd.DataFrame({"bid": table, "bus": rng.choice(others, len(table))})
    loose = Connected(network, bids, sites)
    hidden = bids.lower + rng.random(len(bids.axes)) * (bids.upper - bids.lower)
    flow = power_flow(loose.activated, loose.loads_kva(np.array([0 * hidden, hidden])))
    v_pu, i_a = np.abs(flow.v_pu), np.abs(flow.i_a)
    room, slack = rng.choice([1e-5, 1e-3, 0.05], len(buses)), rng.choice([0.9, 1.05, 2.0], 2)
    limits = {
        "v_min_pu": np.clip(v_pu.min(axis=0) - room, 0.5, 1.1),
        "v_max_pu": np.clip(v_pu.max(axis=0) + room, 0.9, 1.5),
    }
    i_max_a = np.maximum(1.001 * i_a[0], i_a[1] * np.repeat(slack, len(network.branches))) + 1e-3
    i_max_a[rng.random(len(i_max_a)) < 0.3] = np.nan
    ends = dict(zip(("i_max_from_a", "i_max_to_a"), np.split(i_max_a, 2), strict=True))
    limited = Network(
        network.buses.assign(**limits), network.branches.assign(**ends), network.loads, network.name
    )
    sample = rng.random((points or int(rng.integers(1, 7)), len(bids.axes)))
    drawn = np.where(bids.active, bids.lower + sample * (bids.upper - bids.lower), 0.0)
    spread = rng.choice([0.0, 0.0, rng.uniform(-0.5, 0.5)])
    request_kw = float(np.clip(
        hidden[bids.active].sum() * (1 + spread),
        bids.lower[bids.active].sum(),
        bids.upper[bids.active].sum(),
    ))  # fmt: skip
    return Offered(Connected(limited, bids, sites), np.unique(drawn, axis=0), request_kw, seed)
