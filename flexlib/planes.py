"""Linear stand-ins for the Euclidean norm: planes for currents, lambda-beta for voltages.

De Simone (2025), section 2.8, after Giraldo et al. (2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Planes:
    """Half-planes whose common part is a regular polygon inscribed in a circle.

    A current i lies in the polygon of a circle of radius I when ``Re(conj(a_n) i) <= I apothem``
    for every outward unit normal a_n.

    Parameters
    ----------
    count : int
        Number of half-planes N, at least 3.

    Attributes
    ----------
    normals : numpy.ndarray of complex, shape (count,)
        Outward unit normals; the corners lie at the angles 2 pi n / N, as in the source.
    apothem : float
        Distance of the sides from the centre of the unit circle, cos(pi / N).
    """

    count: int = 32

    def __post_init__(self) -> None:
        if self.count < 3:
            raise ValueError(f"a polygon needs at least 3 planes, not {self.count}")

    @property
    def normals(self) -> np.ndarray:
        """Outward unit normals, see the class."""
        return np.exp(1j * np.pi * (2 * np.arange(self.count) + 1) / self.count)

    @property
    def apothem(self) -> float:
        """Distance of the sides from the centre of the unit circle."""
        return float(np.cos(np.pi / self.count))

    def project(self, z: np.ndarray) -> np.ndarray:
        """Component of each complex number along each normal.

        Parameters
        ----------
        z : numpy.ndarray of complex, shape (...,)

        Returns
        -------
        numpy.ndarray of float, shape (..., count)
        """
        return np.real(np.asarray(z)[..., None] * self.normals.conj())


@dataclass(frozen=True)
class LambdaBeta:
    """Voltage magnitude as ``lambda max(|re|, |im|) + beta (|re| + |im|)``, equation (72).

    For angles within the band, where ``re > |im|``, this is ``alpha re + beta |im|`` with
    alpha = lambda + beta, :eq:`robust-74`.

    Parameters
    ----------
    angle_band_rad : float
        Largest voltage angle for which the coefficients are made, at most pi / 4.

    Attributes
    ----------
    lambda_, beta, alpha : float
        Coefficients with the least largest error over the band (minimax).
    error : float
        That error, relative to the magnitude: tan^2(band / 4).

    Notes
    -----
    On the unit circle ``alpha cos t + beta sin t = R cos(t - phi)``. The error is smallest when
    the maximum R lies as far above 1 as both ends of [0, band] lie below: phi = band / 2 and
    R = 2 / (1 + cos(band / 2)).
    """

    angle_band_rad: float

    def __post_init__(self) -> None:
        if not 0 <= self.angle_band_rad <= np.pi / 4:
            raise ValueError(
                f"voltage angles up to {np.rad2deg(self.angle_band_rad):.1f} degrees: "
                "the lambda-beta norm needs a band between 0 and 45 degrees"
            )

    @property
    def beta(self) -> float:
        """Coefficient of the 1-norm."""
        half = self.angle_band_rad / 2
        return float(2 / (1 + np.cos(half)) * np.sin(half))

    @property
    def alpha(self) -> float:
        """Coefficient of the real part, lambda + beta."""
        half = self.angle_band_rad / 2
        return float(2 / (1 + np.cos(half)) * np.cos(half))

    @property
    def lambda_(self) -> float:
        """Coefficient of the maximum norm."""
        return self.alpha - self.beta

    @property
    def error(self) -> float:
        """Largest relative error of the norm over the band."""
        return float(np.tan(self.angle_band_rad / 4) ** 2)
