"""The source's own forms of the robust market: for replication only, not safe to use.

De Simone (2025) adds one complex number to each branch current, ``|i0 + Delta-I| <= I``, (57)
and (66). The maximum of a complex number is not defined; what is meant by Delta-I differs between
the equation, the prose and the tables. Each reading has a function here with a name that says
which. The form to use is `flexlib.robust.clear`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flexlib.linear_ac import LinearFlow
from flexlib.market import Market
from flexlib.planes import along
from flexlib.robust import Clearing
from flexlib.robust_arrays import Optimum, linear_program
from flexlib.robust_limits import every_limit
from flexlib.robust_rows import every_plane, voltage_rows
from flexlib.solver import solve


def deviation_unsigned_a(market: Market) -> np.ndarray:
    """Delta-I as (57) prints it: the plain sum of all loads' columns, every xi = 1.

    Unsafe where columns cancel, for example loads beside generators.

    Parameters
    ----------
    market : Market

    Returns
    -------
    numpy.ndarray of complex, shape (ends,)
    """
    return np.asarray(market.uncertain[1].sum(axis=1))


def deviation_by_base_sign_a(market: Market) -> np.ndarray:
    """Delta-I by the prose of section 2.9.3: sums of magnitudes, signed as the base current.

    Real and imaginary parts are treated apart. Unsafe where the flow can reverse.

    Parameters
    ----------
    market : Market

    Returns
    -------
    numpy.ndarray of complex, shape (ends,)
    """
    i0_a, di_a = market.flow.i0_a, market.uncertain[1]
    re = np.where(i0_a.real < 0, -1, 1) * np.abs(di_a.real).sum(axis=1)
    im = np.where(i0_a.imag < 0, -1, 1) * np.abs(di_a.imag).sum(axis=1)
    return np.asarray(re + 1j * im)


def uncertain_with_previous_bus_voltage(market: Market) -> tuple[np.ndarray, np.ndarray]:
    """Responses to each xi when the load at bus k is divided by the voltage of bus k - 1.

    The off-by-one behind the published columns of Delta-I and the published activation.

    Parameters
    ----------
    market : Market

    Returns
    -------
    dv_pu, di_a : numpy.ndarray of complex, shapes (buses, n) and (ends, n)
    """
    v_pu = market.flow.v_fixed_pu
    shifted = LinearFlow(market.network, np.concatenate([v_pu[:1], v_pu[:-1]]))
    return shifted.response(market.uncertainty.load, market.uncertainty.delta_kva)


def clear_with_deviation(market: Market, deviation_a: np.ndarray) -> Clearing:
    """Clear the market with a fixed complex Delta-I at each branch end instead of margins.

    Parameters
    ----------
    market : Market
    deviation_a : numpy.ndarray of complex, shape (ends,)

    Returns
    -------
    Clearing
        Its certificate judges it by the box and may not hold.
    """
    limits = every_limit(market)
    planes = every_plane(market, limits)
    added_a = along(planes.normal, deviation_a[limits.at[planes.limit]])
    planes = replace(planes, margin=added_a, room=planes.room + planes.margin - added_a)
    rows = planes.and_more(voltage_rows(market, limits))
    program = linear_program(market, limits, rows)
    return Clearing(market, Optimum(solve(program), program, limits, rows))
