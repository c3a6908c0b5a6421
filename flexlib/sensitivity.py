"""Sensitivities of voltages and currents to injected powers, from one sparse factorisation.

The source's VTDF and LTDF (DigIPlat D5.2, equations (3) and (4)) are the exact derivatives of the
AC power flow at one operating point: ``J (dtheta, d|v|) = (dp, dq)`` with J the Jacobian of
``s = v conj(Y v)`` in polar coordinates. A PV bus keeps its voltage and has no row for q.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import block_array, csc_array, csr_array, diags_array
from scipy.sparse.linalg import SuperLU, splu

from flexlib.admittance import S_BASE_KVA, Admittance
from flexlib.network import Network
from flexlib.powerflow import power_flow

_CHUNK = 8  # right-hand sides solved together: more fall out of the cache


@dataclass(frozen=True)
class OperatingPoint:
    """A network at the AC power flow of given loads.

    Parameters
    ----------
    admittance : Admittance
        Admittances of the network.
    v_pu : numpy.ndarray of complex, shape (buses,)
        Bus voltages of its power flow.

    Attributes
    ----------
    i_a : numpy.ndarray of complex, shape (ends,)
        Branch-end currents in the order of `Admittance.ends`.
    """

    admittance: Admittance
    v_pu: np.ndarray

    @cached_property
    def i_a(self) -> np.ndarray:
        """Branch-end currents, see the class."""
        return np.asarray(self.admittance.y_end @ self.v_pu) * self._i_base_a

    @cached_property
    def jacobian(self) -> csr_array:
        """Injected powers (p, then q, in p.u.) against angles and magnitudes of voltage."""
        y_bus, v_pu = self.admittance.y_bus, self.v_pu
        v, direction = diags_array(v_pu), diags_array(v_pu / np.abs(v_pu))
        i_conj = diags_array(np.conj(y_bus @ v_pu))
        by_angle = csr_array(1j * v @ (i_conj - (y_bus @ v).conj()))
        by_magnitude = csr_array(v @ (y_bus @ direction).conj() + i_conj @ direction)
        angle, magnitude = self.admittance.free, self._magnitude
        blocks = [
            [by_angle.real[angle][:, angle], by_magnitude.real[angle][:, magnitude]],
            [by_angle.imag[magnitude][:, angle], by_magnitude.imag[magnitude][:, magnitude]],
        ]
        return csr_array(block_array(blocks))

    @cached_property
    def factor(self) -> SuperLU:
        """Factorisation of the Jacobian, the one that every sensitivity uses."""
        return splu(csc_array(self.jacobian))

    def response(self, bus: np.ndarray, kva: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of all voltages and currents along single injections.

        Parameters
        ----------
        bus : numpy.ndarray of int, shape (n,)
            Bus of each injection.
        kva : numpy.ndarray of complex, shape (n,)
            Power injected there by one unit of it.

        Returns
        -------
        dv_pu : numpy.ndarray of complex, shape (buses, n)
            One column an injection.
        di_a : numpy.ndarray of complex, shape (ends, n)
        """
        free, magnitude = self.admittance.free, self._magnitude
        angle_row = np.full(len(self.v_pu), -1)
        magnitude_row = angle_row.copy()
        angle_row[free] = np.arange(len(free))
        magnitude_row[magnitude] = len(free) + np.arange(len(magnitude))
        y_end, base_a = self.admittance.y_end, self._i_base_a[:, None]
        direction = (self.v_pu / np.abs(self.v_pu))[:, None]
        dv_pu = np.zeros((len(self.v_pu), len(bus)), dtype=complex)
        di_a = np.empty((y_end.shape[0], len(bus)), dtype=complex)
        for first in range(0, len(bus), _CHUNK):
            some = slice(first, first + _CHUNK)
            right = np.zeros((len(free) + len(magnitude), len(bus[some])))
            for rows, power in ((angle_row, kva.real), (magnitude_row, kva.imag)):
                at = rows[bus[some]]
                here = np.flatnonzero(at >= 0)
                right[at[here], here] = power[some][here] / S_BASE_KVA
            change = self.factor.solve(right)
            chunk = np.zeros((len(self.v_pu), right.shape[1]), dtype=complex)
            chunk[free] = 1j * np.abs(self.v_pu[free, None]) * change[: len(free)]
            chunk[magnitude] += change[len(free) :]
            dv_pu[:, some] = chunk * direction
            di_a[:, some] = (y_end @ dv_pu[:, some]) * base_a
        return dv_pu, di_a

    def vtdf(self, dv_pu: np.ndarray) -> np.ndarray:
        """Changes of voltage magnitudes, p.u., from complex changes of shape (buses, n)."""
        return along(self.v_pu, dv_pu)

    def ltdf_a(self, di_a: np.ndarray) -> np.ndarray:
        """Changes of current magnitudes, A, from complex changes of shape (ends, n).

        A magnitude has no derivative where the current is zero: the rows there are zero.
        """
        return along(self.i_a, di_a)

    @property
    def _i_base_a(self) -> np.ndarray:
        return self.admittance.ends["i_base_a"].to_numpy()

    @property
    def _magnitude(self) -> np.ndarray:
        """Buses whose voltage magnitude is free."""
        return np.setdiff1d(self.admittance.free, self.admittance.network.pv)


def along(z: np.ndarray, dz: np.ndarray) -> np.ndarray:
    """Change of the magnitude of z by a complex change: ``Re(conj(z) dz) / |z|``.

    Parameters
    ----------
    z : numpy.ndarray of complex, shape (rows,)
    dz : numpy.ndarray of complex, shape (rows, n)

    Returns
    -------
    numpy.ndarray of float, shape (rows, n)
        Zero in rows where z is zero.
    """
    size = np.abs(z)
    towards = np.where(size > 0, np.conj(z) / np.where(size > 0, size, 1.0), 0.0)
    return towards.real[:, None] * dz.real - towards.imag[:, None] * dz.imag


def operating_points(
    network: Network, s_load_kva: np.ndarray | None = None
) -> list[OperatingPoint]:
    """Solve the AC power flow of one or several load cases.

    Parameters
    ----------
    network : Network
    s_load_kva : numpy.ndarray of complex, shape (cases, loads), optional
        Power consumed by each load; the network's own by default.

    Returns
    -------
    list of OperatingPoint
        One for each case.

    Raises
    ------
    PowerFlowError
        If a case has no power flow.
    """
    admittance = Admittance(network)
    return [OperatingPoint(admittance, v_pu) for v_pu in power_flow(network, s_load_kva).v_pu]
