"""Sets of every kind on the random feeders, and markets cleared point by point.

The second route has no support function and no rows: in the dense model every limited current is
written at every point of a list, and the list holds all corners of the set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from feeders import Dense, random_market
from scipy.optimize import OptimizeResult, linprog

from flexlib import Budget, Circle, DataError, Ellipsoid, Market, Planes, Scenarios, solve
from flexlib.uncertainty import UncertaintySet

KINDS = ("box", "budget", "ellipsoid", "scenarios")


def faults_of(make: Callable[[], object]) -> list[str]:
    """The faults that an attempt is refused with."""
    with pytest.raises(DataError) as error:
        make()
    return [str(fault) for fault in error.value.faults]


@cache
def feeder(seed: int) -> Market:
    """Random feeder with a box of four loads, limits of currents only, as exact circles."""
    market = random_market(seed, 5 + seed % 6, seed % 2, seed % 3, uncertain=4)
    buses = market.network.buses.assign(v_min_pu=0.5, v_max_pu=1.5)
    return replace(market, network=replace(market.network, buses=buses), norm=Circle())


def names_of(market: Market) -> list[str]:
    return market.network.loads["load"].to_numpy()[market.uncertainty.load].tolist()


def budget_of(market: Market, gamma: float) -> Budget:
    return Budget(market.network, market.uncertainty.bands, min(gamma, len(names_of(market))))


def covariance_of(market: Market, seed: int = 0) -> pd.DataFrame:
    """A standard deviation of a third of the band of each load, correlated at random."""
    rng, names = np.random.default_rng(seed), names_of(market)
    root = rng.normal(size=(len(names), len(names) + 1))
    root *= (np.abs(market.uncertainty.delta_kva.real) / 3 / np.linalg.norm(root, axis=1))[:, None]
    return pd.DataFrame(root @ root.T, names, names)


def errors_of(market: Market, cases: int = 9, seed: int = 0) -> pd.DataFrame:
    """Skewed errors, up to about the band of each load."""
    rng, names = np.random.default_rng(seed), names_of(market)
    width_kw = np.abs(market.uncertainty.delta_kva.real)
    return pd.DataFrame((rng.gamma(1.0, 0.5, (cases, len(names))) - 0.4) * width_kw, columns=names)


def with_set(market: Market, kind: str) -> Market:
    """The market, over another set of the same loads."""
    uncertainty: UncertaintySet = market.uncertainty
    if kind == "budget":
        uncertainty = budget_of(market, 1.5)
    elif kind == "ellipsoid":
        uncertainty = Ellipsoid(market.network, covariance_of(market), 2.0)
    elif kind == "scenarios":
        uncertainty = Scenarios(market.network, errors_of(market), 1 / 3)
    return replace(market, uncertainty=uncertainty)


def averages(cases: np.ndarray, size: int) -> np.ndarray:
    """Corners of the set of all averages of that many cases."""
    chosen = combinations(range(len(cases)), size)
    return np.array([cases[list(some)].mean(axis=0) for some in chosen])


# --------------------------------------------------------------------------------------------
# Markets cleared point by point


def at_points(market: Market, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limit, value without activation and change per kW of each limited current at each point."""
    dense, loads = Dense(market.network), market.network.loads
    s_kva = (loads["p_kw"] + 1j * loads["q_kvar"]).to_numpy()
    v_ac, where = dense.ac(s_kva), {load: k for k, load in enumerate(loads["load"])}
    limit = market.network.branches[["i_max_from_a", "i_max_to_a"]].to_numpy().T.ravel()
    limited = np.flatnonzero(np.isfinite(limit))

    def change(load: int, ds_kva: complex) -> np.ndarray:
        only = np.where(np.arange(len(loads)) == load, ds_kva, 0)
        return (dense.y_end @ dense.z @ dense.injected(only, v_ac))[limited]

    base = (dense.y_end @ dense.linear(s_kva, v_ac))[limited]
    offered = [where[load] for load in market.offers["load"]]
    per_kw = np.array([-change(k, s_kva[k] / (s_kva[k].real or 1)) for k in offered]).T
    uncertainty = market.uncertainty
    per_xi = np.array(
        [change(k, ds) for k, ds in zip(uncertainty.load, uncertainty.delta_kva, strict=True)]
    ).T
    less = np.zeros((len(uncertainty.load), len(offered)))
    if market.band == "remainder":
        for o, k in enumerate(offered):
            less[uncertainty.load == k, o] = -1 / s_kva[k].real
    moved = points[:, None, :] * per_xi
    z, per_kw = base + moved.sum(axis=-1), per_kw + moved @ less
    count = len(market.offers)
    return np.tile(limit[limited], len(points)), z.ravel(), per_kw.reshape(-1, count)


def per_xi(market: Market) -> np.ndarray:
    """Change of each limited current per unit of each xi, shape (ends, n)."""
    units = np.eye(len(market.uncertainty.load))
    z = [at_points(market, point[None])[1] for point in (0 * units[0], *units)]
    return np.array(z[1:]).T - z[0][:, None]


def price_of(market: Market) -> np.ndarray:
    columns = ["price_up_eur_per_mwh", "price_down_eur_per_mwh"]
    return market.offers[columns].to_numpy().T.ravel() / 1000


def by_planes(
    market: Market,
    points: np.ndarray,
    planes: Planes,
    free_kw: np.ndarray | float = 0.0,
    cost: np.ndarray | None = None,
    **more: Any,
) -> OptimizeResult:
    """Least cost over planes, with an activation that is there for nothing."""
    limit, z, per_kw = at_points(market, points)
    a = np.exp(1j * np.pi * (2 * np.arange(planes.count) + 1) / planes.count)[:, None]
    z = z + per_kw @ np.broadcast_to(free_kw, len(market.offers))
    rows = np.real(np.conj(a)[..., None] * per_kw).reshape(-1, len(market.offers))
    room = (limit * planes.apothem - np.real(np.conj(a) * z)).ravel()
    return linprog(
        price_of(market) if cost is None else cost,
        np.hstack([rows, -rows]),
        room,
        bounds=np.column_stack([np.zeros(2 * len(market.offers)), market.volume_kw.ravel()]),
        options={"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9},
        **more,
    )


def by_cones(market: Market, points: np.ndarray) -> float:
    """Least cost over circles: one cone for each limit at each point."""
    limit, z, per_kw = at_points(market, points)
    x = cp.Variable(2 * len(market.offers), nonneg=True)  # in 100 kW
    net_kw = x[: len(market.offers)] - x[len(market.offers) :]
    parts = [cp.multiply(1 / limit, f(z) + 100 * f(per_kw) @ net_kw) for f in (np.real, np.imag)]
    within = [cp.norm(cp.vstack(parts), axis=0) <= 1, x <= market.volume_kw.ravel() / 100]
    problem = cp.Problem(cp.Minimize(100 * price_of(market) @ x), within)
    return float(solve(problem).objective)
