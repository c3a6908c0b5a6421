"""Sensitivities of voltages and currents to injected powers, from one sparse factorisation.

The source's VTDF and LTDF (DigIPlat D5.2, equations (3) and (4)) are the exact derivatives of the
AC power flow at one operating point: ``J (dtheta, d|v|) = (dp, dq)`` with J the Jacobian of
``s = v conj(Y v)`` in polar coordinates. A PV bus keeps its voltage and has no row for q.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array, diags_array
from scipy.sparse.linalg import SuperLU, splu

from flexlib.admittance import S_BASE_KVA, Admittance
from flexlib.network import Network
from flexlib.powerflow import power_flow

_CHUNK = 8  # right-hand sides solved together, at least; more fall out of the cache
_IN_CACHE = 2**15  # numbers of a chunk of a small network


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
    def jacobian(self) -> csc_array:
        """Injected powers (p, then q, in p.u.) against angles and magnitudes of voltage."""
        y_bus, v_pu = coo_array(self.admittance.y_bus), self.v_pu
        row, column = y_bus.coords
        share = v_pu[row] * np.conj(y_bus.data * v_pu[column])  # of the power injected at `row`
        whole = v_pu * np.conj(self.admittance.y_bus @ v_pu)
        bus = np.arange(len(v_pu))
        row, column = np.concatenate([row, bus]), np.concatenate([column, bus])
        by_angle = np.concatenate([-1j * share, 1j * whole])
        by_magnitude = np.concatenate([share, whole]) / np.abs(v_pu[column])
        blocks = [
            (place_row[row], place_column[column], part)
            for place_row, values in zip(self._places, (np.real, np.imag), strict=True)
            for place_column, part in zip(
                self._places, (values(by_angle), values(by_magnitude)), strict=True
            )
        ]
        rows, columns, values = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        there = (rows >= 0) & (columns >= 0)
        return csc_array((values[there], (rows[there], columns[there])))

    @cached_property
    def factor(self) -> SuperLU:
        """Factorisation of the Jacobian, the one that every sensitivity uses.

        Its pattern is symmetric: pivots stay on the diagonal unless they are small.
        """
        symmetric = {"SymmetricMode": True}
        return splu(self.jacobian, "MMD_AT_PLUS_A", diag_pivot_thresh=0.1, options=symmetric)

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
        y_end_a = csr_array(diags_array(self._i_base_a) @ self.admittance.y_end)
        v_pu, size_pu = self.v_pu[:, None], np.abs(self.v_pu[magnitude, None])
        dv_pu = np.empty((len(self.v_pu), len(bus)), dtype=complex, order="F")
        di_a = np.empty((y_end_a.shape[0], len(bus)), dtype=complex, order="F")
        rows = len(free) + len(magnitude)
        chunk = max(_CHUNK, _IN_CACHE // rows)
        for first in range(0, len(bus), chunk):
            some = slice(first, first + chunk)
            right = np.zeros((rows, len(bus[some])), order="F")
            for place, power in zip(self._places, (kva.real, kva.imag), strict=True):
                at = place[bus[some]]
                here = np.flatnonzero(at >= 0)
                right[at[here], here] = power[some][here] / S_BASE_KVA
            change = self.factor.solve(right)
            relative = np.zeros((len(v_pu), right.shape[1]), dtype=complex)  # dv / v
            relative.imag[free] = change[: len(free)]
            relative.real[magnitude] = change[len(free) :] / size_pu
            chunk_pu = relative * v_pu
            dv_pu[:, some] = chunk_pu
            di_a[:, some] = y_end_a @ chunk_pu
        return dv_pu, di_a

    def vtdf(self, dv_pu: np.ndarray) -> np.ndarray:
        """Changes of voltage magnitudes, p.u., from complex changes of shape (buses, n)."""
        return along(self.v_pu, dv_pu)

    def ltdf_a(self, di_a: np.ndarray) -> np.ndarray:
        """Changes of current magnitudes, A, from complex changes of shape (ends, n).

        A magnitude has no derivative where the current is zero: the rows there are zero. A
        current is zero if it could be nothing but the rounding of its two terms.
        """
        y_end, i_a = self.admittance.y_end, self.i_a
        rounding_a = 8 * np.finfo(float).eps * (abs(y_end) @ np.abs(self.v_pu)) * self._i_base_a
        return along(np.where(np.abs(i_a) > rounding_a, i_a, 0.0), di_a)

    @property
    def _i_base_a(self) -> np.ndarray:
        return self.admittance.i_base_end_a

    @property
    def _magnitude(self) -> np.ndarray:
        """Buses whose voltage magnitude is free."""
        return np.setdiff1d(self.admittance.free, self.admittance.network.pv)

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of each bus's angle (and p) and magnitude (and q) in the Jacobian; -1: none."""
        free, magnitude = self.admittance.free, self._magnitude
        angle_place = np.full(len(self.v_pu), -1)
        magnitude_place = angle_place.copy()
        angle_place[free] = np.arange(len(free))
        magnitude_place[magnitude] = len(free) + np.arange(len(magnitude))
        return angle_place, magnitude_place


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
    change = towards.real[:, None] * dz.real
    change -= towards.imag[:, None] * dz.imag
    return change


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
    flow = power_flow(network, s_load_kva)
    return [OperatingPoint(flow.admittance, v_pu) for v_pu in flow.v_pu]
