"""Uncertainty sets from data: forecast errors, bands, covariances, and what a budget promises."""

from __future__ import annotations

from math import floor

import numpy as np
import pandas as pd
from scipy.special import bdtrc

from flexlib.errors import DataError, Fault
from flexlib.network import Network

_BEYOND = 10  # cases that must lie outside a band, so that its width means something


def persistence_errors_kw(p_kw: pd.DataFrame, lag_h: int) -> pd.DataFrame:
    """Errors of the forecast that repeats what was `lag_h` hours before.

    Parameters
    ----------
    p_kw : pandas.DataFrame
        Hourly active powers, index of times, one column a load.
    lag_h : int
        24 repeats yesterday, 168 last week.

    Returns
    -------
    pandas.DataFrame
        Value less forecast, without the first `lag_h` hours.

    Raises
    ------
    DataError
        If the profiles are not longer than the lag.
    """
    if len(p_kw) <= lag_h:
        expected = f"more than the {lag_h} hours by which the forecast looks back"
        raise DataError([Fault("frame p_kw", "", "", f"{len(p_kw)} hours", expected)])
    return p_kw.diff(lag_h).iloc[lag_h:]


def bands_of(network: Network, errors_kw: pd.DataFrame, coverage: float) -> pd.DataFrame:
    """Bands that hold a share of the errors of each load.

    Parameters
    ----------
    network : Network
        With the baseline to which the bands refer.
    errors_kw : pandas.DataFrame
        Deviations of active power, one column a load, one row a case.
    coverage : float
        Share of the cases that each load's band holds, for example 0.95.

    Returns
    -------
    pandas.DataFrame
        Table with the columns of `flexlib.uncertainty.BANDS`.

    Raises
    ------
    DataError
        If there are too few cases for that coverage, a load is unknown, or a band would be wider
        than the load itself.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"a coverage is a share between 0 and 1, not {coverage:g}")
    needed = int(np.ceil(_BEYOND / (1 - coverage) - 1e-9))
    faults = _too_few(errors_kw, needed, f"for a coverage of {coverage:g}")
    p_kw = network.loads.set_index("load")["p_kw"]
    for load in errors_kw.columns.difference(p_kw.index):
        found, expected = repr(load), f"a load of {network.name}"
        faults.append(Fault("frame errors_kw", "", str(load), found, expected))
    if faults:
        raise DataError(faults)
    inside = int(np.ceil(coverage * len(errors_kw) - 1e-9))
    width_kw = pd.Series(np.sort(errors_kw.abs(), axis=0)[inside - 1], index=errors_kw.columns)
    own_kw = p_kw[errors_kw.columns].abs()
    for load in width_kw.index[width_kw > own_kw]:
        found = f"errors up to {width_kw[load]:.3g} kW"
        expected = f"at most the load's own {own_kw[load]:.3g} kW"
        faults.append(Fault("frame errors_kw", "", str(load), found, expected))
    if faults:
        raise DataError(faults)
    pct = 100 * (width_kw / own_kw.where(own_kw > 0, 1.0))  # without power there is no error
    return pd.DataFrame({"load": pct.index, "band_pct": pct.to_numpy()})


def covariance_of(errors_kw: pd.DataFrame) -> pd.DataFrame:
    """Covariance of errors around zero, the baseline, in kW^2.

    Parameters
    ----------
    errors_kw : pandas.DataFrame
        Deviations of active power, one column a load, one row a case.

    Returns
    -------
    pandas.DataFrame
        For `flexlib.ellipsoid.Ellipsoid`.

    Raises
    ------
    DataError
        If there are not ten cases for each load.
    """
    faults = _too_few(errors_kw, _BEYOND * errors_kw.shape[1], "ten for each load")
    if faults:
        raise DataError(faults)
    return errors_kw.T @ errors_kw / len(errors_kw)


def budget_risk(gamma: float, count: int) -> float:
    """Largest probability that a linear limit fails that holds over a budget, :eq:`price-promise`.

    For independent deviations, symmetric within their bands, whatever their distribution
    (Bertsimas and Sim (2004), theorem 3).

    Parameters
    ----------
    gamma : float
        Budget, from 0 to `count`.
    count : int
        Number of uncertain loads.

    Returns
    -------
    float
    """
    if not 0 <= gamma <= count:
        raise ValueError(f"a budget lies between 0 and {count}, not at {gamma:g}")
    middle = (gamma + count) / 2
    part = middle - floor(middle)
    above, at_least = (bdtrc(floor(middle) - below, count, 0.5) for below in (0, 1))
    return float((1 - part) * at_least + part * above)


def _too_few(errors_kw: pd.DataFrame, needed: int, why: str) -> list[Fault]:
    faults = [
        Fault("frame errors_kw", str(row), str(errors_kw.columns[column]), "no number", "a number")
        for row, column in np.argwhere(~np.isfinite(errors_kw.to_numpy(dtype=float)))
    ]
    if len(errors_kw) < needed:
        expected = f"at least {needed}, {why}"
        faults.append(Fault("frame errors_kw", "", "", f"{len(errors_kw)} cases", expected))
    return faults
