"""The array route of the robust market: a programme in the activations alone.

Voltages and currents are eliminated through the linear AC model's responses, so that the size
of the programme does not grow with the network, only with its limits.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from flexlib.market import Market
from flexlib.robust_limits import VoltageLimit, current_margins_a, slack, voltage_limits
from flexlib.solve import LinearProgram


def linear_program(market: Market, margins_a: np.ndarray | None = None) -> LinearProgram:
    """Build the same programme in the activations alone; voltages and currents are eliminated.

    Parameters
    ----------
    market : Market
    margins_a : numpy.ndarray, shape (ends, planes), optional
        What the uncertain loads add along each plane; `current_margins_a` by default.

    Returns
    -------
    LinearProgram
        Columns: upward and downward activations in kW, then choices between alternative rows.
        Rows of currents are in ampere, of voltages in volt.
    """
    margins_a = current_margins_a(market) if margins_a is None else margins_a
    offers, limits = market.offers, voltage_limits(market)
    choices = [r for r, row in enumerate(limits) if row.big_m_pu > 0]
    current, current_limit, current_names = _current_rows(market, margins_a)
    voltage, voltage_limit, voltage_names = _voltage_rows(market, limits)
    scale_v = np.array([_v_nom_v(market, row.bus) for row in limits])
    missed = np.zeros((len(limits), len(choices)))
    for column, r in enumerate(choices):
        missed[r, column] = limits[r].big_m_pu * scale_v[r]
    buses = sorted({limits[r].bus for r in choices})
    one = np.array([[float(limits[r].bus == bus) for r in choices] for bus in buses])
    net = np.vstack([current, voltage])
    blank = np.zeros((len(current), len(choices)))
    a = np.hstack([net, -net, np.vstack([blank, missed])])
    row_upper = np.concatenate([current_limit, voltage_limit + missed.sum(axis=1)])
    row_lower = np.full(len(row_upper), -np.inf)
    if buses:
        a = np.vstack([a, np.hstack([np.zeros((len(buses), 2 * len(offers))), one])])
        row_lower = np.concatenate([row_lower, np.ones(len(buses))])
        row_upper = np.concatenate([row_upper, np.full(len(buses), np.inf)])
    price = offers[["price_up_eur_per_mwh", "price_down_eur_per_mwh"]].to_numpy().T.ravel()
    volume_kw = offers[["up_max_kw", "down_max_kw"]].to_numpy().T.ravel()
    name = market.network.buses["bus"]
    return LinearProgram(
        c=np.concatenate([price / 1000, np.zeros(len(choices))]),
        a=csr_array(a),
        row_lower=row_lower,
        row_upper=row_upper,
        lower=np.zeros(a.shape[1]),
        upper=np.concatenate([volume_kw, np.ones(len(choices))]),
        row_names=current_names + voltage_names + [f"eq_82_one[{name[bus]}]" for bus in buses],
        column_names=[f"{way}[{load}]" for way in ("f_up", "f_down") for load in offers["load"]]
        + [f"holds[{r}]" for r in choices],
        integer=np.arange(a.shape[1]) >= 2 * len(offers),
    )


def _current_rows(
    market: Market, margins_a: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows (83): coefficients per net kW upward, right-hand sides, names."""
    ends = market.flow.admittance.ends
    rated = np.flatnonzero(np.isfinite(ends["i_max_a"]))
    per_kw = np.swapaxes(market.planes.project(market.upward[1][rated]), 1, 2)
    base = market.planes.project(market.flow.i0_a[rated])
    limit_a = ends["i_max_a"].to_numpy()[rated, None] * market.planes.apothem
    names = [
        f"eq_83[{ends['branch'][e]},{ends['end'][e]},{n}]"
        for e in rated
        for n in range(market.planes.count)
    ]
    room = limit_a - base - margins_a[rated]
    return per_kw.reshape(-1, len(market.offers)), room.ravel(), names


def _voltage_rows(
    market: Market, limits: list[VoltageLimit]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows (82) in volts: coefficients per net kW upward, right-hand sides, names."""
    slacks = [slack(market, row) for row in limits]
    scale_v = np.array([_v_nom_v(market, row.bus) for row in limits])
    per_kw = -np.array([per_kw for _, per_kw in slacks]).reshape(-1, len(market.offers))
    name = market.network.buses["bus"]
    names = [
        f"eq_82[{name[row.bus]},{'upper' if row.sign > 0 else 'lower'},{r}]"
        for r, row in enumerate(limits)
    ]
    return per_kw * scale_v[:, None], np.array([base for base, _ in slacks]) * scale_v, names


def _v_nom_v(market: Market, bus: int) -> float:
    return float(market.network.buses["v_nom_kv"].iloc[bus]) * 1000
