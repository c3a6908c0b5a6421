"""The cases: what is compared with what, on which network, and how closely both must agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from time import process_time
from typing import Any

import numpy as np
from pyomo.contrib.solver.solvers.highs import Highs

from benchmarks.feeders import feeder_12, generated
from benchmarks.peers import pyros_cost, rsome_cost
from flexlib import Market, Network, power_flow, printed_model, solve
from flexlib.planes import along
from flexlib.robust_arrays import robust_optimum
from flexlib.robust_limits import limits_that_can_bind
from flexlib.robust_rows import current_margins_a, first_rows

Side = Callable[[], Any]

OWN_DOOR = "printed model, flexlib.solver"
PYOMO = "printed model, Pyomo's HiGHS"
PYROS, RSOME, EVERY = "PyROS", "RSOME", ", every limit"
CORNERS = "every corner, NumPy"
PANDAPOWER = "pandapower, one corner at a time"
TOLERANCE = 1e-9  # primal and dual feasibility asked of HiGHS on every side


@dataclass(frozen=True)
class Case:
    """One computation, ours and that of others; every side returns the same numbers.

    Attributes
    ----------
    what : str
        Name of the computation, the same at every size.
    market : Market
    rows : int
        Rows of our programme, margins computed, or load cases solved.
    ours : callable
    peers : dict
        The other sides by name.
    versions : dict
        What each of them runs on.
    tolerance : float
        Largest accepted difference between the sides.
    data_s : float
        CPU time of the model data that is counted on neither side.
    """

    what: str
    market: Market
    rows: int
    ours: Side
    peers: dict[str, Side]
    versions: dict[str, str]
    tolerance: float
    data_s: float


def market_case(market: Market, every: tuple[str, ...] = ()) -> Case:
    """Build and solve the robust market; the sides return its cost.

    Parameters
    ----------
    market : Market
    every : tuple of str
        Tools that also run with the limits that nothing can reach. RSOME runs if installed.
    """
    data_s = _prepare(market, lambda fresh: fresh.flow.i0_a)
    peers: dict[str, Side] = {
        OWN_DOOR: lambda: solve(printed_model(market)).objective,
        PYOMO: lambda: pyomo_cost(market),
    }
    for name, cost in {PYROS: pyros_cost, RSOME: rsome_cost}.items():
        if name == PYROS or find_spec("rsome"):
            peers[name] = partial(cost, market)
            if name in every:
                peers[name + EVERY] = partial(cost, market, every=True)
    versions = {peer: "rsome" if peer.startswith(RSOME) else "pyomo" for peer in peers}
    return Case(
        what="robust market",
        market=market,
        rows=len(first_rows(market, limits_that_can_bind(market))),
        ours=lambda: robust_optimum(market, limits_that_can_bind(market)).solution.objective,
        peers=peers,
        versions={peer: _versions(package, "highspy") for peer, package in versions.items()},
        tolerance=1e-6,
        data_s=data_s,
    )


def pyomo_cost(market: Market) -> float:
    """Solve the printed model by Pyomo's own interface; only the activations are loaded."""
    model = printed_model(market)
    result = Highs().solve(
        model,
        threads=1,
        load_solutions=False,
        solver_options={
            "random_seed": 0,
            "primal_feasibility_tolerance": TOLERANCE,
            "dual_feasibility_tolerance": TOLERANCE,
        },
    )
    activation = [*model.f_up_kw.values(), *model.f_down_kw.values()]
    result.solution_loader.load_vars(activation)
    return float(result.incumbent_objective)


def margin_case(market: Market) -> Case:
    """What the box adds along every plane of every branch end: closed form and enumeration."""
    data_s = _prepare(market, lambda fresh: fresh.uncertain)
    corners = market.uncertainty.vertices().T.copy()
    return Case(
        what="exact margins",
        market=market,
        rows=len(market.uncertain[1]) * market.planes.count,
        ours=lambda: current_margins_a(market),
        peers={CORNERS: lambda: margins_by_enumeration_a(market, corners)},
        versions={CORNERS: _versions("numpy")},
        tolerance=1e-9,
        data_s=data_s,
    )


def margins_by_enumeration_a(market: Market, corners: np.ndarray) -> np.ndarray:
    """Largest value over the columns of `corners`, by one matrix product."""
    normals = market.planes.normals(market.flow.i0_a)
    added_a = along(normals[:, :, None], market.uncertain[1][:, None, :])
    at_corners = added_a.reshape(-1, len(corners)) @ corners
    return np.asarray(at_corners.max(axis=1).reshape(normals.shape))


def corner_case(market: Market) -> Case:
    """AC power flow at every corner of the box; the sides return complex bus voltages."""
    s_kva = market.uncertainty.loads_kva(market.uncertainty.vertices())
    net = pandapower_net(market.network)
    return Case(
        what="AC at all corners",
        market=market,
        rows=len(s_kva),
        ours=lambda: power_flow(market.network, s_kva).v_pu,
        peers={PANDAPOWER: lambda: pandapower_voltages(net, s_kva)},
        versions={PANDAPOWER: _versions("pandapower")},
        tolerance=1e-8,
        data_s=np.nan,
    )


def pandapower_net(network: Network) -> Any:
    """Translate a network of lines, solved once so that later runs can recycle it."""
    import pandapower as pp

    net = pp.create_empty_network(f_hz=50.0)
    for v_nom_kv in network.buses["v_nom_kv"]:
        pp.create_bus(net, v_nom_kv)
    pp.create_ext_grid(net, network.slack, network.buses["v_slack_pu"].iloc[network.slack])
    for one, other, line in zip(
        network.from_bus, network.to_bus, network.branches.itertuples(), strict=True
    ):
        if (line.ratio_pu, line.shift_deg, line.g_us) != (1, 0, 0):
            raise ValueError(f"branch {line.branch} is not a plain line")
        c_nf = line.b_us * 1e3 / (2 * np.pi * net.f_hz)
        pp.create_line_from_parameters(net, one, other, 1.0, line.r_ohm, line.x_ohm, c_nf, 1.0)
    for bus, s_kva in zip(network.load_bus, network.s_load_kva, strict=True):
        pp.create_load(net, bus, s_kva.real / 1e3, s_kva.imag / 1e3)
    _run_pandapower(net)
    return net


def pandapower_voltages(net: Any, s_kva: np.ndarray) -> np.ndarray:
    """Bus voltages of every load case; the admittances and the last voltages are reused."""
    v_pu = np.empty((len(s_kva), len(net.bus)), dtype=complex)
    for case, loads_kva in enumerate(s_kva):
        net.load["p_mw"], net.load["q_mvar"] = loads_kva.real / 1e3, loads_kva.imag / 1e3
        _run_pandapower(net, recycle={"bus_pq": True, "trafo": False, "gen": False})
        angle_rad = np.deg2rad(net.res_bus["va_degree"].to_numpy())
        v_pu[case] = net.res_bus["vm_pu"].to_numpy() * np.exp(1j * angle_rad)
    return v_pu


def _run_pandapower(net: Any, **options: Any) -> None:
    import pandapower as pp

    pp.runpp(net, numba=False, lightsim2grid=False, tolerance_mva=1e-9, **options)


def _prepare(market: Market, data: Callable[[Market], Any]) -> float:
    """Compute data of a market that both sides use; CPU time of doing so, second time."""
    for fresh in (market, replace(market)):
        start = process_time()
        data(fresh)
    return process_time() - start


def _versions(*packages: str) -> str:
    return ", ".join(f"{name} {version(name)}" for name in packages)


CASES: dict[str, Callable[[], Case]] = {
    "market-12": lambda: market_case(feeder_12(), every=(PYROS, RSOME)),
    "market-37": lambda: market_case(generated(37), every=(RSOME,)),
    "market-100": lambda: market_case(generated(100), every=(RSOME,)),
    "market-300": lambda: market_case(generated(300)),
    "market-1000": lambda: market_case(generated(1000)),
    "margins-7": lambda: margin_case(feeder_12()),
    "margins-12": lambda: margin_case(generated(37)),
    "corners-7": lambda: corner_case(feeder_12()),
}
