"""What is limited: currents and voltages as linear functions of activation and deviation.

Every limited quantity is a complex number ``z = base + per_kw net + per_xi (r xi)``, De Simone
(2025), (44) to (46) and (63). Only quantities that can reach their limit for some activation and
some deviation are kept, and only for them the functions are computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, diags_array, vstack

from flexlib.admittance import S_BASE_KVA
from flexlib.errors import VoltageAngleError
from flexlib.market import Market
from flexlib.planes import LambdaBeta, Planes

CURRENT, UPPER, LOWER = "current", "upper voltage", "lower voltage"
_CHUNK = 256  # loads whose responses are held at once


@dataclass(frozen=True)
class Limits:
    """Limited quantities, one entry each; currents in ampere, voltages in volt.

    Voltages are line to line and turned back by their angle at no load.

    Attributes
    ----------
    kind : numpy.ndarray of str, shape (m,)
        "current", "upper voltage" or "lower voltage".
    at : numpy.ndarray of int, shape (m,)
        Branch end in ``Admittance.ends``, or bus.
    limit : numpy.ndarray, shape (m,)
        Limit of the magnitude.
    base : numpy.ndarray of complex, shape (m,)
        Value at the baseline.
    per_kw : numpy.ndarray of complex, shape (m, offers)
        Change per net kW upward.
    per_xi : numpy.ndarray of complex, shape (m, n)
        Change per unit of xi.
    voltage_norm : LambdaBeta
        Norm for all voltages that can be reached.
    facing : numpy.ndarray of complex, shape (m,), optional
        Unit phasors of the worst values, if these are known: they then stand for the norm of
        voltages.
    """

    kind: np.ndarray
    at: np.ndarray
    limit: np.ndarray
    base: np.ndarray
    per_kw: np.ndarray
    per_xi: np.ndarray
    voltage_norm: LambdaBeta
    facing: np.ndarray | None = None

    def values(self, market: Market, xi: np.ndarray, net_kw: np.ndarray) -> np.ndarray:
        """Value of each quantity at its row of xi, shape (m, n), under an activation."""
        moved = self.per_xi * (market.remains(net_kw) * xi)
        return np.asarray(self.base + self.per_kw @ net_kw + moved.sum(axis=1))


@dataclass(frozen=True)
class Reach:
    """Discs that hold every reachable current (A) and voltage (V), and the voltage norm."""

    i_centre_a: np.ndarray
    i_radius_a: np.ndarray
    v_centre_v: np.ndarray
    v_radius_v: np.ndarray
    voltage_norm: LambdaBeta


def every_limit(market: Market) -> Limits:
    """All limited quantities of a market, whether they can bind or not.

    Parameters
    ----------
    market : Market

    Returns
    -------
    Limits

    Raises
    ------
    VoltageAngleError
        If the offers reach voltage angles above 45 degrees.
    """
    i_max_a = market.flow.admittance.ends["i_max_a"].to_numpy()
    free = market.flow.admittance.free
    parts = (np.flatnonzero(np.isfinite(i_max_a)), free, free)
    return _limits(market, parts, reach(market).voltage_norm)


def limits_that_can_bind(market: Market, spare: float = 1e-6) -> Limits:
    """Limited quantities that can reach their limit, by a bound that no case exceeds.

    A quantity stays within the disc around its value at half of what is offered, whose radius
    sums the magnitudes of everything that can move it. Where the whole disc is within the limit,
    no activation and no deviation breaks it.

    Parameters
    ----------
    market : Market
    spare : float
        Share of its limit by which a quantity must stay below to be left out.

    Returns
    -------
    Limits

    Raises
    ------
    VoltageAngleError
        If the offers reach voltage angles above 45 degrees.
    """
    disc = reach(market)
    ends, upper, lower = (share > 1 - spare for share in _shares(market, disc))
    parts = (np.flatnonzero(ends), np.flatnonzero(upper), np.flatnonzero(lower))
    return _limits(market, parts, disc.voltage_norm)


def closest_limits(market: Market, count: int) -> Limits:
    """The quantities that come closest to their limits, by the same bound.

    Parameters
    ----------
    market : Market
    count : int
        How many of them; more where several come equally close.

    Returns
    -------
    Limits
    """
    disc = reach(market)
    shares = _shares(market, disc)
    at_least = np.sort(np.concatenate(shares))[::-1][:count][-1]
    parts = tuple(np.flatnonzero((share > 0) & (share >= at_least)) for share in shares)
    return _limits(market, parts, disc.voltage_norm)


def _shares(market: Market, disc: Reach) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest shares of current, upper and lower voltage limits that the discs let be used."""
    admittance, buses = market.flow.admittance, market.network.buses
    i_max_a = admittance.ends["i_max_a"].to_numpy()
    apothem = market.norm.apothem if isinstance(market.norm, Planes) else 1.0
    v_nom_v = 1000 * buses["v_nom_kv"].to_numpy()
    error, centre_v = disc.voltage_norm.error, np.abs(disc.v_centre_v)
    high = (centre_v + disc.v_radius_v) * (1 + error)
    low = np.maximum((centre_v - disc.v_radius_v) * (1 - error), 1e-9)
    upper = high / (buses["v_max_pu"].to_numpy() * v_nom_v)
    lower = buses["v_min_pu"].to_numpy() * v_nom_v / low
    upper[market.network.slack] = lower[market.network.slack] = 0.0
    return (np.abs(disc.i_centre_a) + disc.i_radius_a) / (i_max_a * apothem), upper, lower


def relinearised(
    market: Market, limits: Limits, v_fixed_pu: np.ndarray, facing: np.ndarray | None = None
) -> Limits:
    """The same quantities, each linear around voltages of its own.

    Parameters
    ----------
    market : Market
    limits : Limits
    v_fixed_pu : numpy.ndarray of complex, shape (m, buses)
        The voltages that divide the powers, a row for each quantity.
    facing : numpy.ndarray of complex, shape (m,), optional
        See `Limits`.

    Returns
    -------
    Limits
    """
    base, per_kw, per_xi = _functions(market, limits.kind, limits.at, v_fixed_pu)
    return replace(limits, base=base, per_kw=per_kw, per_xi=per_xi, facing=facing)


def in_words(market: Market, kind: str, at: int) -> str:
    """Name of a limit, for messages."""
    if kind == CURRENT:
        end = market.flow.admittance.ends.iloc[at]
        return f"current limit of branch {end['branch']} at its {end['end']} end"
    return f"{kind} limit of bus {market.network.buses['bus'][at]}"


def reach(market: Market) -> Reach:
    """Discs that hold everything reachable, summed over loads a few at a time.

    Parameters
    ----------
    market : Market

    Returns
    -------
    Reach

    Raises
    ------
    VoltageAngleError
        If a voltage angle can exceed 45 degrees.
    """
    flow, admittance = market.flow, market.flow.admittance
    up_kw, down_kw = market.volume_kw
    steps = market.uncertainty.reach * market.most_remains
    load = np.concatenate([market.offer_load, market.uncertainty.load])
    ds_kva = np.concatenate([-market.direction, market.uncertainty.delta_kva])
    middle = np.concatenate([(up_kw - down_kw) / 2, np.zeros(len(steps))])
    radius = np.concatenate([(up_kw + down_kw) / 2, steps])
    farthest = np.concatenate([np.maximum(up_kw, down_kw), steps])
    v_centre, i_centre_a = flow.v0_pu.copy(), flow.i0_a.copy()
    v_radius, re, im = np.zeros((3, len(v_centre)))
    i_radius_a = np.zeros(len(i_centre_a))
    for start in range(0, len(load), _CHUNK):
        part = slice(start, start + _CHUNK)
        dv_pu, di_a = flow.response(load[part], ds_kva[part])
        v_centre += dv_pu @ middle[part]
        i_centre_a += di_a @ middle[part]
        v_radius += np.abs(dv_pu) @ radius[part]
        i_radius_a += np.abs(di_a) @ radius[part]
        turned = admittance.turn_back[:, None] * dv_pu
        re += np.abs(turned.real) @ farthest[part]
        im += np.abs(turned.imag) @ farthest[part]
    v_nom_v = 1000 * market.network.buses["v_nom_kv"].to_numpy()
    norm = _voltage_norm(market, re, im)
    return Reach(i_centre_a, i_radius_a, v_centre * v_nom_v, v_radius * v_nom_v, norm)


def _voltage_norm(market: Market, reach_re: np.ndarray, reach_im: np.ndarray) -> LambdaBeta:
    """Coefficients of :eq:`robust-74` for a band that holds every reachable voltage angle."""
    v0 = market.flow.admittance.turn_back * market.flow.v0_pu
    angle_rad = np.arctan2(np.abs(v0.imag) + reach_im, v0.real - reach_re)
    worst = int(angle_rad.argmax())
    if angle_rad[worst] > np.pi / 4:
        raise VoltageAngleError(
            f"{market.network.name}: with everything that is offered, the voltage angle of bus "
            f"{market.network.buses['bus'][worst]} can reach {np.rad2deg(angle_rad[worst]):.0f} "
            "degrees; the voltage norm holds up to 45. Offer smaller volumes."
        )
    return LambdaBeta(float(angle_rad[worst]))


def _limits(market: Market, parts: tuple[np.ndarray, ...], norm: LambdaBeta) -> Limits:
    kinds = (CURRENT, UPPER, LOWER)
    kind = np.repeat(kinds, [len(part) for part in parts])
    at = np.concatenate(parts)
    buses = market.network.buses
    v_nom_v = 1000 * buses["v_nom_kv"].to_numpy()
    bounds = (
        market.flow.admittance.ends["i_max_a"].to_numpy(),
        buses["v_max_pu"].to_numpy() * v_nom_v,
        buses["v_min_pu"].to_numpy() * v_nom_v,
    )
    limit = np.concatenate([bound[part] for bound, part in zip(bounds, parts, strict=True)])
    v_fixed_pu = market.flow.v_fixed_pu[None, :]
    return Limits(kind, at, limit, *_functions(market, kind, at, v_fixed_pu), norm)


def _functions(
    market: Market, kind: np.ndarray, at: np.ndarray, v_fixed_pu: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base, per_kw and per_xi of quantities, each around its row of voltages."""
    network, admittance = market.network, market.flow.admittance
    current, bus = kind == CURRENT, at[kind != CURRENT]
    i_base_a = admittance.ends["i_base_a"].to_numpy()[at[current]]
    turn_v = admittance.turn_back[bus] * 1000 * network.buses["v_nom_kv"].to_numpy()[bus]
    entries = (turn_v, (np.arange(len(bus)), bus))
    weights = vstack(
        [
            diags_array(i_base_a) @ admittance.y_end[at[current]],
            csr_array(entries, shape=(len(bus), len(network.buses))),
        ]
    ).tocsr()
    per_bus = admittance.adjoint_response(weights)

    def per_load(load: np.ndarray, ds_kva: np.ndarray) -> np.ndarray:
        where = network.load_bus[load]
        return -per_bus[:, where] * np.conj(ds_kva / S_BASE_KVA / v_fixed_pu[:, where])

    loads = per_load(np.arange(len(network.loads)), network.s_load_kva).sum(axis=1)
    base = weights @ admittance.v_no_load_pu + loads
    per_kw = per_load(market.offer_load, -market.direction)
    per_xi = per_load(market.uncertainty.load, market.uncertainty.delta_kva)
    return base, per_kw, per_xi
