"""The cases: what is compared with what, on which network, and how closely both must agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from time import process_time
from typing import Any

import numpy as np
from pyomo.contrib.solver.solvers.highs import Highs

from benchmarks.feeders import feeder_12, generated
from benchmarks.hub_sides import by_cvxpy, by_linopy, by_pyomo, ours
from benchmarks.milp import highs_cost, milp_program
from benchmarks.pandapower_side import LIGHTSIM, NUMBA, pandapower_net, voltages_pu
from benchmarks.peers import pyros_cost, rsome_cost
from benchmarks.sensitivities import (
    PANDAPOWER_MODES,
    PGM_MODES,
    Injections,
    by_pandapower,
    by_power_grid_model,
    central_differences,
    of_the_semi_urban_grid,
    of_the_stand_in,
)
from flexlib import Market, power_flow, printed_model, solve
from flexlib.bids import Connected
from flexlib.hub_instances import many_feeders
from flexlib.hub_programme import HubProgramme
from flexlib.light_model import linearise
from flexlib.planes import along
from flexlib.robust_arrays import robust_optimum
from flexlib.robust_limits import limits_that_can_bind
from flexlib.robust_rows import current_margins_a, first_rows
from flexlib.stand_in import stand_in
from flexlib.voronoi import activate
from flexlib.voronoi_points import k_means

Side = Callable[[], Any]

OWN_DOOR = "printed model, flexlib.solver"
PYOMO = "printed model, Pyomo's HiGHS"
PYROS, RSOME, EVERY = "PyROS", "RSOME", ", every limit"
CORNERS = "every corner, NumPy"
ONE_CORNER = "pandapower, {}, one corner at a time"
HIGHS = "whole programme, HiGHS"
LINOPY, CVXPY = "linopy", "cvxpy"
TOLERANCE = 1e-9  # primal and dual feasibility asked of HiGHS on every side
RUNS = 7
FEW = 3  # runs of cases that take long


def unchanged(answer: Any) -> Any:
    """Return an answer as it is."""
    return answer


@dataclass(frozen=True)
class Case:
    """One computation, ours and that of others; every side returns the same numbers.

    Attributes
    ----------
    what : str
        Name of the computation, the same at every size.
    counts : dict
        Its size: whichever of buses, uncertain_loads, offers, bids, points and hubs it has.
    rows : int
        Rows of our programme, margins computed, load cases solved, or sensitivities.
    ours : callable
    peers : dict
        The other sides by name.
    versions : dict
        What each of them runs on.
    tolerance : float
        Largest accepted difference between the sides.
    data_s : float
        CPU time of the model data that is counted on neither side.
    runs : int
        How often every side runs.
    share : dict
        Part of its work that a side does; its time is divided by this.
    expected : callable, optional
        What every answer is compared with, ours too; our answer by default.
    compared : callable
        What of an answer is compared.
    tolerances : dict
        Of sides that have their own.
    """

    what: str
    counts: dict[str, int]
    rows: int
    ours: Side
    peers: dict[str, Side]
    versions: dict[str, str]
    tolerance: float
    data_s: float = np.nan
    runs: int = RUNS
    share: dict[str, float] = field(default_factory=dict)
    expected: Side | None = None
    compared: Callable[[Any], Any] = unchanged
    tolerances: dict[str, float] = field(default_factory=dict)


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
        counts=_counts(market),
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
        counts=_counts(market),
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
    modes = {
        ONE_CORNER.format(name): mode
        for name, mode in (("numba", NUMBA), ("lightsim2grid", LIGHTSIM))
    }
    nets = {name: pandapower_net(market.network, mode) for name, mode in modes.items()}
    return Case(
        what="AC at all corners",
        counts=_counts(market),
        rows=len(s_kva),
        ours=lambda: power_flow(market.network, s_kva).v_pu,
        peers={name: partial(voltages_pu, net, s_kva, modes[name]) for name, net in nets.items()},
        versions=_pandapower_versions(modes),
        tolerance=1e-8,
    )


def sensitivity_case(injections: Injections, sample: int | None = None, runs: int = RUNS) -> Case:
    """Derivatives of voltages and branch currents; the others by differences of power flows.

    Parameters
    ----------
    injections : Injections
    sample : int, optional
        Injections for which pandapower runs; its time is scaled to all.
    runs : int
    """
    count = len(injections.bus)
    some = np.arange(count)
    if sample is not None:
        some = np.linspace(0, count - 1, sample).round().astype(int)
    right, shared = central_differences(injections, some), injections.shared
    scale = [float(np.abs(part).max()) for part in right]

    def compared(answer: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Of the sample, in multiples of the largest entry."""
        column = some if answer[0].shape[1] == count else slice(None)
        parts = zip(answer, scale, shared, strict=True)
        return np.concatenate([(part[:, column][at] / size).ravel() for part, size, at in parts])

    peers: dict[str, Side] = {
        name: partial(by_power_grid_model, injections, method) for name, method in PGM_MODES.items()
    }
    for name, mode in PANDAPOWER_MODES.items():
        peers[name] = partial(by_pandapower, injections, some, injections.net_in(mode), mode)
    return Case(
        what="sensitivities",
        counts={"buses": len(injections.network.buses), "bids": count},
        rows=count * (len(injections.network.buses) + 2 * len(injections.network.branches)),
        ours=injections.ours,
        peers=peers,
        versions={name: _versions("power-grid-model") for name in PGM_MODES}
        | _pandapower_versions(PANDAPOWER_MODES),
        tolerance=2e-3,  # of differences over 1 kW
        tolerances={"ours": 1e-5},
        runs=runs,
        share=dict.fromkeys(PANDAPOWER_MODES, (len(some) + 1) / (count + 1)),
        expected=lambda: right,
        compared=compared,
    )


def milp_case(count: int, *, only_binding: bool, runs: int = FEW) -> Case:
    """Cheapest activation with k-means points, as printed; the sides return its cost.

    Parameters
    ----------
    count : int
        Points.
    only_binding : bool
        Whether both sides get only the rows that can bind.
    runs : int
    """
    instance = stand_in("down")
    bids, request_kw = instance.bids, instance.request_kw
    connected = Connected(instance.network, bids, instance.sites)
    points = k_means(bids, count, 1, "down")
    model = linearise(
        connected, points, request_kw=(request_kw, request_kw), only_binding=only_binding
    )
    programme = milp_program(model, bids, request_kw)
    return Case(
        what="activation" + (", rows that can bind" if only_binding else ""),
        counts={"buses": len(instance.network.buses), "bids": len(bids.table), "points": count},
        rows=len(programme.row_lower),
        ours=lambda: activate(model, bids, request_kw, printed=True).cost_eur_per_h,
        peers={HIGHS: partial(highs_cost, programme)},
        versions={HIGHS: _versions("highspy")},
        tolerance=1e-3,
        runs=runs,
    )


def hub_case(hubs: int, *, planned: bool, printed: bool = True, runs: int = FEW) -> Case:
    """Build and solve method A or B of energy hubs; the sides return what `hub_sides` says.

    Parameters
    ----------
    hubs : int
        A multiple of three.
    planned : bool
        Method B instead of A.
    printed : bool
        Whether the printed model runs too. linopy runs if installed.
    runs : int
    """
    many, grid = many_feeders(hubs // 3, 0.6)
    given = (many, grid) if planned else (many,)
    tools = {LINOPY: by_linopy, CVXPY: by_cvxpy, PYOMO: by_pyomo}
    packages = {LINOPY: "linopy", CVXPY: "cvxpy", PYOMO: "pyomo"}
    names = [LINOPY] if find_spec("linopy") else []
    names += [CVXPY, PYOMO] if printed else [CVXPY]
    limits = 2 * len(grid.names) * many.hours if planned else 0
    return Case(
        what="method B" if planned else "method A",
        counts={"hubs": hubs},
        rows=len(HubProgramme(many).b) + limits,
        ours=partial(ours, *given),
        peers={name: partial(tools[name], *given) for name in names},
        versions={name: _versions(packages[name], "highspy") for name in names},
        tolerance=1e-3,
        runs=runs,
    )


def _counts(market: Market) -> dict[str, int]:
    return {
        "buses": len(market.network.buses),
        "uncertain_loads": len(market.uncertainty.load),
        "offers": len(market.offers),
    }


def _pandapower_versions(modes: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {
        name: _versions("pandapower", "lightsim2grid" if mode["lightsim2grid"] else "numba")
        for name, mode in modes.items()
    }


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
    "sensitivities-456": lambda: sensitivity_case(of_the_stand_in(), sample=40),
    "sensitivities-9105": lambda: sensitivity_case(of_the_semi_urban_grid(), sample=20, runs=FEW),
    "activation-3": lambda: milp_case(3, only_binding=False),
    "activation-10": lambda: milp_case(10, only_binding=True, runs=1),
    "hubs-A-30": lambda: hub_case(30, planned=False, runs=RUNS),
    "hubs-A-300": lambda: hub_case(300, planned=False),
    "hubs-B-30": lambda: hub_case(30, planned=True),
    "hubs-B-300": lambda: hub_case(300, planned=True, printed=False),
}
