"""Ellipsoid of correlated loads, and the three meanings of its size.

The outlook of De Simone (2025), conclusions; Ben-Tal and Nemirovski (1999).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import ndtri

from flexlib.errors import DataError, Fault
from flexlib.network import Network
from flexlib.uncertainty import UncertaintySet, loads_without_power_factor, unknown_loads


@dataclass(frozen=True)
class Ellipsoid(UncertaintySet):
    """Loads that vary together: ``xi = L u`` with ``|u| <= omega`` and ``L L' = correlation``.

    xi_k counts standard deviations of load k, whose P and Q move together.

    Parameters
    ----------
    network : Network
        Network that holds the loads.
    covariance_kw2 : pandas.DataFrame
        Covariance of the active powers; rows and columns are named after loads, in one order.
    omega : float
        Size, in standard deviations. See `omega_gaussian` and `omega_any_distribution`.

    Attributes
    ----------
    load, delta_kva
        See `flexlib.uncertainty.UncertaintySet`; ``delta_kva`` is one standard deviation.
    root : numpy.ndarray, shape (n, n)
        L.

    Raises
    ------
    DataError
        If the covariance is not square, symmetric and positive semidefinite, or the size is
        negative; names entries and eigenvalues.
    """

    network: Network
    covariance_kw2: pd.DataFrame
    omega: float
    load: np.ndarray = field(init=False)
    delta_kva: np.ndarray = field(init=False)
    root: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        names = pd.DataFrame({"load": self.covariance_kw2.index.astype(str)})
        faults = unknown_loads(names, self.network, "covariance_kw2")
        faults += _covariance_faults(self.covariance_kw2)
        if not self.omega >= 0:
            faults.append(
                Fault("ellipsoid", "", "omega", f"{self.omega:g}", "a size of at least 0")
            )
        faults = faults or loads_without_power_factor(names, self.network, "covariance_kw2")
        if faults:
            raise DataError(faults)
        load = self.network.load_positions(names["load"])
        sigma_kw, correlation = _correlation(self.covariance_kw2.to_numpy(dtype=float))
        value, vector = np.linalg.eigh(correlation)
        object.__setattr__(self, "load", load)
        object.__setattr__(self, "delta_kva", sigma_kw * self.network.kva_per_kw[load])
        object.__setattr__(self, "root", vector * np.sqrt(np.maximum(value, 0.0)))

    def worst(self, columns: np.ndarray) -> np.ndarray:
        """The point of the surface that faces the columns, :eq:`price-ellipsoid`."""
        pulled = columns @ self.root
        length = np.linalg.norm(pulled, axis=-1, keepdims=True)
        return np.asarray(self.omega * pulled / np.maximum(length, 1e-300) @ self.root.T)

    def sample(self, size: int, seed: int) -> np.ndarray:
        """Points drawn uniformly from the ellipsoid, shape (size, n)."""
        rng = np.random.default_rng(seed)
        u = rng.standard_normal((size, len(self.load)))
        u *= rng.uniform(size=(size, 1)) ** (1 / len(self.load)) / np.linalg.norm(
            u, axis=1, keepdims=True
        )
        return np.asarray(self.omega * u @ self.root.T)


def omega_gaussian(risk: float) -> float:
    """Size at which each linear limit fails with probability `risk` if deviations are Gaussian.

    Parameters
    ----------
    risk : float
        Accepted probability, between 0 and one half.

    Returns
    -------
    float
        The quantile of the standard normal distribution at ``1 - risk``, :eq:`price-gaussian`.
    """
    _check_risk(risk)
    return float(ndtri(1 - risk))


def omega_any_distribution(risk: float) -> float:
    """Size at which each linear limit fails with at most `risk` under any distribution.

    Whatever the distribution is, given its mean (zero) and covariance: the one-sided Chebyshev
    inequality, which is tight (Calafiore and El Ghaoui, 2006).

    Parameters
    ----------
    risk : float
        Accepted probability, between 0 and one half.

    Returns
    -------
    float
        ``sqrt((1 - risk) / risk)``, :eq:`price-any`.
    """
    _check_risk(risk)
    return float(np.sqrt((1 - risk) / risk))


def _check_risk(risk: float) -> None:
    if not 0 < risk <= 0.5:
        raise ValueError(f"a risk is a probability above 0 and up to 0.5, not {risk:g}")


def _covariance_faults(covariance_kw2: pd.DataFrame) -> list[Fault]:
    def fault(row: str, column: str, found: str, expected: str) -> Fault:
        return Fault("frame covariance_kw2", row, column, found, expected)

    names = [str(name) for name in covariance_kw2.index]
    if names != [str(name) for name in covariance_kw2.columns] or len(set(names)) < len(names):
        expected = f"each of the rows' loads once, in their order: {', '.join(names)}"
        return [fault("", "", f"columns {', '.join(map(str, covariance_kw2.columns))}", expected)]
    if not names:
        return [fault("", "", "no rows", "at least one load")]
    value = covariance_kw2.to_numpy(dtype=float)
    if not np.isfinite(value).all():
        row, column = np.argwhere(~np.isfinite(value))[0]
        return [fault(names[row], names[column], f"{value[row, column]:g}", "a number")]
    apart = np.abs(value - value.T)
    if apart.max() > 1e-9 * np.abs(value).max():
        row, column = np.unravel_index(apart.argmax(), apart.shape)
        expected = f"the value of its mirror image, {value[column, row]:g}"
        return [fault(names[row], names[column], f"{value[row, column]:g}", expected)]
    expected = "a positive semidefinite matrix: no eigenvalue below 0"
    least = float(np.linalg.eigvalsh(value)[0])
    if least < -1e-9 * np.abs(value).max():
        return [fault("", "", f"an eigenvalue of {least:.6g} kW^2", expected)]
    least = float(np.linalg.eigvalsh(_correlation(value)[1])[0])
    if least < -1e-9 * len(value):
        return [fault("", "", f"an eigenvalue of {least:.6g} of the correlation", expected)]
    return []


def _correlation(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations and correlation; what has no variance is correlated with nothing."""
    variance = np.diag(covariance)
    sigma = np.sqrt(np.maximum(variance, 0.0))
    scale = np.where(sigma > 0, sigma, 1.0)
    return sigma, covariance / np.outer(scale, scale)
