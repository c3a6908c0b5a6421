"""The array route of the robust market: a programme in the activations alone.

Voltages and currents are eliminated through the linear AC model's responses, so that the size
of the programme does not grow with the network, only with its limits.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from flexlib.market import Market
from flexlib.robust_limits import VoltageLimit, current_margins_a, slack, voltage_limits
from flexlib.solver import LinearProgram


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
    current, current_limit = _current_rows(market, margins_a)
    voltage, voltage_limit = _voltage_rows(market, limits)
    scale_v = _v_nom_v(market, limits)
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
    return LinearProgram(
        c=np.concatenate([price / 1000, np.zeros(len(choices))]),
        a=csr_array(a),
        row_lower=row_lower,
        row_upper=row_upper,
        lower=np.zeros(a.shape[1]),
        upper=np.concatenate([market.volume_kw.ravel(), np.ones(len(choices))]),
        row_names=list(rows_in_words(market, limits)),
        column_names=[f"{way}[{load}]" for way in ("f_up", "f_down") for load in offers["load"]]
        + [f"holds[{r}]" for r in choices],
        integer=np.arange(a.shape[1]) >= 2 * len(offers),
    )


def rows_in_words(market: Market, limits: list[VoltageLimit]) -> dict[str, str]:
    """Network limit that each row of the programme stands for, by the row's name, in order.

    Parameters
    ----------
    market : Market
    limits : list of VoltageLimit
        From `flexlib.robust_limits.voltage_limits`.

    Returns
    -------
    dict of str to str
    """
    ends, bus_names = market.flow.admittance.ends, market.network.buses["bus"].to_list()
    words: dict[str, str] = {}
    for branch, end, i_max_a in zip(ends["branch"], ends["end"], ends["i_max_a"], strict=True):
        if np.isfinite(i_max_a):
            limit = f"current limit of branch {branch} at its {end} end"
            words |= {f"eq_83[{branch},{end},{n}]": limit for n in range(market.planes.count)}
    for r, row in enumerate(limits):
        side = "upper" if row.sign > 0 else "lower"
        limit = f"{side} voltage limit of bus {bus_names[row.bus]}"
        words[f"eq_82[{bus_names[row.bus]},{side},{r}]"] = limit
    for bus in sorted({row.bus for row in limits if row.big_m_pu > 0}):
        words[f"eq_82_one[{bus_names[bus]}]"] = f"lower voltage limit of bus {bus_names[bus]}"
    return words


def _current_rows(market: Market, margins_a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (83): coefficients per net kW upward, and right-hand sides."""
    ends = market.flow.admittance.ends
    rated = np.flatnonzero(np.isfinite(ends["i_max_a"]))
    per_kw = np.swapaxes(market.planes.project(market.upward[1][rated]), 1, 2)
    base = market.planes.project(market.flow.i0_a[rated])
    limit_a = ends["i_max_a"].to_numpy()[rated, None] * market.planes.apothem
    room = limit_a - base - margins_a[rated]
    return per_kw.reshape(-1, len(market.offers)), room.ravel()


def _voltage_rows(market: Market, limits: list[VoltageLimit]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (82) in volts: coefficients per net kW upward, and right-hand sides."""
    slacks = [slack(market, row) for row in limits]
    scale_v = _v_nom_v(market, limits)
    per_kw = -np.array([per_kw for _, per_kw in slacks]).reshape(-1, len(market.offers))
    return per_kw * scale_v[:, None], np.array([base for base, _ in slacks]) * scale_v


def _v_nom_v(market: Market, limits: list[VoltageLimit]) -> np.ndarray:
    v_nom_kv = market.network.buses["v_nom_kv"].to_numpy()
    return np.asarray(1000 * v_nom_kv[[row.bus for row in limits]])
