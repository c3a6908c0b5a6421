"""The printed model of the exact current limit: second-order and semidefinite cones, with cvxpy.

A second route to what `flexlib.robust.clear` finds with cuts for the norm `Circle`. The image of a
box in the complex plane is a polygon, so its corners have to stay within the circle; the image of
an ellipsoid is an ellipse, and an ellipse lies within a circle if and only if a matrix is positive
semidefinite.
"""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from flexlib.ellipsoid import Ellipsoid
from flexlib.market import Market
from flexlib.robust_limits import CURRENT, in_words, limits_that_can_bind
from flexlib.robust_rows import voltage_rows
from flexlib.uncertainty import Box


def cone_model(market: Market) -> cp.Problem:
    """Least costly activation (75) with :eq:`robust-corners` or :eq:`robust-ellipse`.

    Parameters
    ----------
    market : Market
        Over a box or an ellipsoid, with the band on the baseline.

    Returns
    -------
    cvxpy.Problem
        With the variables ``f_up_kw`` and ``f_down_kw``.

    Raises
    ------
    ValueError
        For another set or band, or if lower voltage limits need a choice between rows.
    """
    uncertainty = market.uncertainty
    if market.band != "baseline" or not isinstance(uncertainty, Box | Ellipsoid):
        raise ValueError("the cone model takes a box or an ellipsoid around the baseline")
    limits = limits_that_can_bind(market)
    rows = voltage_rows(market, limits)
    if rows.big_m.any():
        raise ValueError("a lower voltage limit needs a choice between rows: not a convex model")
    up_kw, down_kw = market.volume_kw
    f_up = cp.Variable(len(up_kw), name="f_up_kw", bounds=[0, up_kw])
    f_down = cp.Variable(len(down_kw), name="f_down_kw", bounds=[0, down_kw])
    net_kw = f_up - f_down
    constraints = [
        (per_kw @ net_kw <= room).set_label(in_words(market, limits.kind[q], limits.at[q]))
        for q, per_kw, room in zip(rows.limit, rows.per_kw, rows.room, strict=True)
    ]
    for q in np.flatnonzero(limits.kind == CURRENT):
        i_a = _parts(limits.base[q]) + _parts(limits.per_kw[q]) @ net_kw
        if isinstance(uncertainty, Box):
            corners = _parts(uncertainty.image(limits.per_xi[q]))
            within = corners_in_circle(i_a, corners, limits.limit[q])
        else:
            shape = uncertainty.omega * _parts(limits.per_xi[q]) @ uncertainty.root
            within = ellipse_in_circle(i_a, shape, limits.limit[q])
        constraints.append(within.set_label(in_words(market, CURRENT, limits.at[q])))
    price_up, price_down = (
        market.offers[f"price_{way}_eur_per_mwh"].to_numpy() / 1000 for way in ("up", "down")
    )
    return cp.Problem(cp.Minimize(price_up @ f_up + price_down @ f_down), constraints)


def corners_in_circle(i_a: cp.Expression, corners: np.ndarray, i_max_a: float) -> cp.Constraint:
    """Every corner of a box's image within the circle, :eq:`robust-corners`: one cone a corner.

    Parameters
    ----------
    i_a : cvxpy.Expression, shape (2,)
        Current at the baseline, ampere.
    corners : numpy.ndarray, shape (2, 2n)
        Corners of the image.
    i_max_a : float

    Returns
    -------
    cvxpy.Constraint
    """
    shifted = corners.T + cp.reshape(i_a, (1, 2), order="C")
    return cp.norm(shifted, axis=1) <= i_max_a


def ellipse_in_circle(i_a: cp.Expression, shape: np.ndarray, i_max_a: float) -> cp.Constraint:
    """An ellipse ``i + E u``, ``|u| <= 1``, within the circle, :eq:`robust-ellipse` (S-lemma).

    Parameters
    ----------
    i_a : cvxpy.Expression, shape (2,)
        Current at the baseline, ampere.
    shape : numpy.ndarray, shape (2, n)
        E.
    i_max_a : float

    Returns
    -------
    cvxpy.Constraint
    """
    turned, axes_a, _ = np.linalg.svd(np.hstack([shape, np.zeros((2, 2))]), full_matrices=False)
    e = turned * axes_a  # the same ellipse, with two axes
    tau = cp.Variable(nonneg=True)
    i = cp.reshape(i_a, (2, 1), order="C")
    matrix = cp.bmat(
        [
            [cp.reshape(i_max_a - tau, (1, 1), order="C"), np.zeros((1, 2)), i.T],
            [np.zeros((2, 1)), tau * np.eye(2), e.T],
            [i, e, i_max_a * np.eye(2)],
        ]
    )
    return matrix >> 0


def _parts(z: np.ndarray) -> np.ndarray:
    """Real part in the first row, imaginary part in the second."""
    return np.array([np.real(z), np.imag(z)])
