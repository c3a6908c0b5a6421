"""Parts of a grid that only the substation joins, and what is computed for one alone.

Each function takes a part and returns named arrays: it is a unit of `flexlib.sweep`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import connected_components

from flexlib.centralised import congestion_cost, with_overloads
from flexlib.hub_followers import followers
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.quadratic_pricing import QuadraticHubs, loaded_rows, quadratic_quotas
from flexlib.quadratic_program import solve_quadratic
from flexlib.quadratic_steps import with_linearised_steps
from flexlib.solver import solve
from flexlib.tariffs import no_tariff


@dataclass(frozen=True)
class Part:
    """Hubs that share lines with each other alone.

    Attributes
    ----------
    members : numpy.ndarray
        Their positions among all hubs.
    hubs : Hubs
    grid : HubGrid
        Their lines; the substation has no limit.
    """

    members: np.ndarray
    hubs: Hubs
    grid: HubGrid


def parts(hubs: Hubs, grid: HubGrid, most_hubs: int = 300) -> list[Part]:
    """Parts of the grid without its substation, neighbours put together.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
    most_hubs : int
        Hubs that a part has at most, unless its lines hold more together.

    Returns
    -------
    list of Part
    """
    grid.assert_fits(hubs)
    joint = grid.factor.T @ grid.factor
    label = connected_components(joint, directed=False)[1]
    found, held = [], 0
    number = np.zeros(label.max() + 1, dtype=int)
    for k, size in enumerate(np.bincount(label)):
        full = held > 0 and held + size > most_hubs
        held = size if full else held + size
        number[k] = number[k - 1] + full if k else 0
    for k in range(number[-1] + 1):
        members = np.flatnonzero(number[label] == k)
        factor = csr_array(grid.factor[:, members])
        rows = np.flatnonzero(np.diff(factor.indptr))
        own = replace(
            grid,
            lines=[grid.lines[row] for row in rows],
            factor=factor[rows],
            background_mw=grid.background_mw[rows],
            limit_mw=grid.limit_mw[rows],
            import_mw=np.inf,
            export_mw=np.inf,
        )
        table = hubs.table.iloc[members].reset_index(drop=True)
        found.append(Part(members, replace(hubs, table=table), own))
    return found


def part_plan(
    part: Part, price_eur_per_mwh: np.ndarray, cap_eur_per_mwh: float, overload_eur_per_mwh: float
) -> dict[str, np.ndarray]:
    """A part's term of the dual function :eq:`scaling-dual` at a price of the substation.

    Returns
    -------
    dict
        value_eur; quota_mw (hours,), its gradient; adder_eur_per_mwh (hubs, hours).
    """
    programme, grid = HubProgramme(part.hubs), part.grid
    program, q = quadratic_quotas(
        programme, grid, np.zeros(programme.shape[:2]), cap_eur_per_mwh, overload_eur_per_mwh,
        price_eur_per_mwh,
    )  # fmt: skip
    solution, n = solve_quadratic(program, q), int(np.prod(programme.shape[:2]))
    columns = len(programme.cost)
    m_in = solution.x[programme.column("m_in")]
    slack = solution.x[columns : columns + n].reshape(m_in.shape)
    dual = solution.row_dual[len(programme.b) :].reshape(-1, grid.hours)
    mu = grid.incidence[loaded_rows(grid)].T @ np.maximum(-dual, 0.0)
    return {
        "value_eur": np.array(solution.bound),
        "quota_mw": (m_in - slack).sum(axis=0),
        "adder_eur_per_mwh": np.clip(mu + price_eur_per_mwh, 0.0, cap_eur_per_mwh),
    }


def part_answer(
    part: Part,
    adder_eur_per_mwh: np.ndarray,
    cap_eur_per_mwh: float,
    room_mw: np.ndarray,
    steps: int,
) -> dict[str, np.ndarray]:
    """A part's answer to its adders, after linearised steps with a share of the import limit.

    Parameters
    ----------
    part : Part
    adder_eur_per_mwh : numpy.ndarray, shape (hubs, hours)
    cap_eur_per_mwh : float
    room_mw : numpy.ndarray, shape (hours,)
        Most that the part may import, :eq:`scaling-shares`; infinite for no limit.
    steps : int

    Returns
    -------
    dict
        adder_eur_per_mwh and w_mw (hubs, hours); check, value, tolerance and unit of the
        certificate.
    """
    grid = part.grid
    if np.isfinite(room_mw).all():
        scale = grid.substation_weight / grid.line_weight
        limit = 2 * float(np.abs(room_mw).max()) + float(part.hubs.connection_mw.sum())
        grid = replace(  # a line beside the others, with a background that makes its limit the room
            grid,
            lines=[*grid.lines, "share of the import limit"],
            factor=csr_array(vstack([grid.factor, csr_array(np.full((1, len(part.hubs)), scale))])),
            background_mw=np.vstack([grid.background_mw, scale * (limit - room_mw)]),
            limit_mw=np.append(grid.limit_mw, scale * limit),
        )
    prices = QuadraticHubs(part.hubs, grid, cap_eur_per_mwh)(adder_eur_per_mwh)
    prices = with_linearised_steps(prices, steps=steps)
    checks = prices.certificate.checks
    return {
        "adder_eur_per_mwh": prices.adder_eur_per_mwh,
        "w_mw": prices.schedule.w_mw,
        "check": np.array([check.name for check in checks]),
        "value": np.array([check.value for check in checks]),
        "tolerance": np.array([check.tolerance for check in checks]),
        "unit": np.array([check.unit for check in checks]),
    }


def part_bound(part: Part, price: np.ndarray) -> dict[str, np.ndarray]:
    """A part's least congestion, with imports at a price: a term of :eq:`scaling-bound`.

    Parameters
    ----------
    part : Part
    price : numpy.ndarray, shape (hours,)
        Weighted MWh for one MWh of net import through the substation.
    """
    return {"bound_mwh": np.array(least_congestion(part, part.grid, price)[0])}


def least_congestion(
    part: Part, grid: HubGrid, price: np.ndarray | float = 0.0
) -> tuple[float, np.ndarray]:
    """Least congestion of a part, with imports at a price.

    Parameters
    ----------
    part : Part
    grid : HubGrid
        Its grid, with or without an import limit.
    price : numpy.ndarray, shape (hours,), optional

    Returns
    -------
    bound_mwh : float
        Proven, on congestion plus price times net import.
    shadow : numpy.ndarray, shape (hours,)
        What one MW more of the import limit would save.
    """
    programme = HubProgramme(part.hubs)
    own = followers(programme, no_tariff(*programme.shape[:2]))
    both = with_overloads(own, programme, grid)
    cost, w = congestion_cost(both, grid), np.zeros(programme.shape[:2]) + price
    cost[programme.column("m_in")] += w
    cost[programme.column("m_out")] -= w
    solution = solve(replace(both, c=cost))
    dual = solution.row_dual[len(programme.b) :].reshape(2, -1, grid.hours)
    shadow = np.clip(-dual[0, -1], 0.0, grid.substation_weight)
    return solution.bound, shadow
