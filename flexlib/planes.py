"""The Euclidean norm and its linear stand-ins: planes for currents, lambda-beta for voltages.

De Simone (2025), section 2.8, after Giraldo et al. (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Planes:
    """Half-planes whose common part is a regular polygon in or around a circle.

    A current i lies in the polygon of a circle of radius I when ``Re(conj(a_n) i) <= I apothem``
    for every outward unit normal a_n.

    Parameters
    ----------
    count : int
        Number of half-planes N, at least 3.
    inscribed : bool
        Whether the polygon has its corners on the circle (as in the source: safe), or its sides
        (circumscribed: lets ``1 / cos(pi / N)`` of the limit pass).
    turned : {"source", "corner", "side"}
        Where the polygon points. "source": corners at the angles 2 pi n / N. "corner", "side": a
        corner, or the middle of a side, in the direction of the phasor that is limited.

    Attributes
    ----------
    apothem : float
        Distance of the sides from the centre of the unit circle: cos(pi / N), or 1.
    error : float
        Largest distance between polygon and unit circle.
    """

    count: int = 32
    inscribed: bool = True
    turned: Literal["source", "corner", "side"] = "source"

    def __post_init__(self) -> None:
        if self.count < 3:
            raise ValueError(f"a polygon needs at least 3 planes, not {self.count}")
        if self.turned not in ("source", "corner", "side"):
            raise ValueError(f'turned is "source", "corner" or "side", not {self.turned!r}')

    @property
    def apothem(self) -> float:
        """Distance of the sides from the centre of the unit circle."""
        return float(np.cos(np.pi / self.count)) if self.inscribed else 1.0

    @property
    def error(self) -> float:
        """Largest distance between polygon and unit circle."""
        outside = 1 / np.cos(np.pi / self.count) - 1
        return 1 - self.apothem if self.inscribed else float(outside)

    def normals(self, phasor: np.ndarray) -> np.ndarray:
        """Outward unit normals of the polygon of each phasor.

        Parameters
        ----------
        phasor : numpy.ndarray of complex, shape (...,)
            What is limited, at the baseline; only its angle is read, and only if `turned`.

        Returns
        -------
        numpy.ndarray of complex, shape (..., count)
        """
        middle = np.exp(1j * np.pi * (2 * np.arange(self.count) + 1) / self.count)
        if self.turned == "source":
            return np.broadcast_to(middle, (*np.shape(phasor), self.count))
        towards = np.exp(1j * np.angle(phasor))[..., None]
        half_side = 1.0 if self.turned == "corner" else np.exp(-1j * np.pi / self.count)
        return np.asarray(towards * middle * half_side)


@dataclass(frozen=True)
class Circle:
    """The exact limit ``|i| <= I``: a second-order cone."""


def along(normals: np.ndarray | complex, z: np.ndarray | complex) -> np.ndarray:
    """Component of complex numbers along normals, ``Re(conj(a) z)``, shapes broadcast."""
    return np.real(np.conj(normals) * z)


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
