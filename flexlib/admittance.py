"""Admittances of a network, in per unit: the only place where per unit is made.

Branches are pi-models with an ideal transformer at the from end. Currents are taken at both ends
of every branch, flowing from the bus into the branch, half of the branch's own charging included
(De Simone (2025), equations (26) to (31)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import csc_array, csr_array, diags_array, vstack
from scipy.sparse.linalg import SuperLU, splu

from flexlib.network import Network

S_BASE_KVA = 1000.0


@dataclass(frozen=True)
class Admittance:
    """Sparse admittance matrices of a network.

    Parameters
    ----------
    network : Network
        The network.

    Attributes
    ----------
    ends : pandas.DataFrame
        One row for each branch end, all from ends first: branch, end ("from" or "to"), bus
        (at this end), i_base_a and i_max_a (infinite where there is no limit).
    y_end : scipy.sparse.csr_array, shape (ends, buses)
        Branch-end currents from bus voltages, equation (63): Y_l of the source.
    y_bus : scipy.sparse.csr_array, shape (buses, buses)
        Bus currents from bus voltages, equation (31): CY_l of the source, bus shunts added.
    """

    network: Network

    @cached_property
    def ends(self) -> pd.DataFrame:
        """Branch ends, see the class."""
        branches, buses = self.network.branches, self.network.buses
        at = np.concatenate([self.network.from_bus, self.network.to_bus])
        i_max_a = branches[["i_max_from_a", "i_max_to_a"]].fillna(np.inf).to_numpy()
        return pd.DataFrame(
            {
                "branch": np.tile(branches["branch"].to_numpy(), 2),
                "end": np.repeat(["from", "to"], len(branches)),
                "bus": buses["bus"].to_numpy()[at],
                "i_base_a": self.i_base_a[at],
                "i_max_a": i_max_a.T.ravel(),
            }
        )

    @cached_property
    def i_base_a(self) -> np.ndarray:
        """Base current of each bus, ampere."""
        return S_BASE_KVA / (np.sqrt(3) * self.network.buses["v_nom_kv"].to_numpy())

    @cached_property
    def i_base_end_a(self) -> np.ndarray:
        """Base current of each branch end, ampere."""
        return self.i_base_a[np.concatenate([self.network.from_bus, self.network.to_bus])]

    @cached_property
    def y_end(self) -> csr_array:
        """Branch-end admittance matrix, see the class."""
        names = ("r_ohm", "x_ohm", "g_us", "b_us", "ratio_pu", "shift_deg")
        r_ohm, x_ohm, g_us, b_us, ratio_pu, shift_deg = (
            self.network.branches[name].to_numpy() for name in names
        )
        z_base_ohm = self._z_base_ohm[self.network.to_bus]
        series = z_base_ohm / (r_ohm + 1j * x_ohm)
        shunt = (g_us + 1j * b_us) * 1e-6 * z_base_ohm / 2
        tap = ratio_pu * np.exp(1j * np.deg2rad(shift_deg))
        y_from = self._rows((series + shunt) / np.abs(tap) ** 2, -series / tap.conj())
        y_to = self._rows(-series / tap, series + shunt)
        return csr_array(vstack([y_from, y_to]))

    @cached_property
    def y_bus(self) -> csr_array:
        """Bus admittance matrix, see the class."""
        buses = self.network.buses
        at = np.concatenate([self.network.from_bus, self.network.to_bus])
        shape = (len(buses), len(at))
        incidence = csr_array((np.ones(len(at)), (at, np.arange(len(at)))), shape=shape)
        return csr_array(incidence @ self.y_end + diags_array(self.y_shunt))

    @cached_property
    def y_shunt(self) -> np.ndarray:
        """Admittances of the bus shunts, shape (buses,)."""
        g_us, b_us = (self.network.buses[name].to_numpy() for name in ("g_us", "b_us"))
        return np.asarray((g_us + 1j * b_us) * 1e-6 * self._z_base_ohm)

    @cached_property
    def free(self) -> np.ndarray:
        """Positions of all buses except the slack."""
        return np.flatnonzero(np.arange(len(self.network.buses)) != self.network.slack)

    @cached_property
    def factor(self) -> SuperLU:
        """Sparse factorisation of the bus admittance matrix without the slack bus."""
        return splu(csc_array(self.y_bus[self.free][:, self.free]))

    @cached_property
    def v_slack_pu(self) -> complex:
        """Voltage of the slack bus (angle zero)."""
        return complex(self.network.buses["v_slack_pu"].iloc[self.network.slack])

    @cached_property
    def v_no_load_pu(self) -> np.ndarray:
        """Bus voltages with nothing connected, the reference of all voltage angles."""
        return self.voltages(np.zeros(len(self.network.buses), dtype=complex))

    @cached_property
    def turn_back(self) -> np.ndarray:
        """Factors of magnitude 1 that turn each bus voltage back by its angle at no load."""
        return np.abs(self.v_no_load_pu) / self.v_no_load_pu

    def voltages(self, i_bus_pu: np.ndarray) -> np.ndarray:
        """Bus voltages from bus current injections, equation (32) with the slack removed.

        Parameters
        ----------
        i_bus_pu : numpy.ndarray of complex, shape (buses,)
            Currents injected into the network; the slack's entry is not read.

        Returns
        -------
        numpy.ndarray of complex, shape (buses,)
        """
        slack = self.network.slack
        y_slack = self.y_bus[self.free][:, [slack]].toarray().ravel()
        v_pu = np.full(len(self.network.buses), self.v_slack_pu)
        v_pu[self.free] = self.factor.solve(i_bus_pu[self.free] - y_slack * self.v_slack_pu)
        return v_pu

    def voltage_response(self, i_bus_pu: np.ndarray) -> np.ndarray:
        """Changes of bus voltages from changes of injected currents (the slack's stays).

        Parameters
        ----------
        i_bus_pu : numpy.ndarray of complex, shape (buses, columns)
            Changes of injected currents, one column a change.

        Returns
        -------
        numpy.ndarray of complex, shape (buses, columns)
        """
        dv_pu = np.zeros(i_bus_pu.shape, dtype=complex)
        if i_bus_pu.shape[1]:
            dv_pu[self.free] = self.factor.solve(np.ascontiguousarray(i_bus_pu[self.free]))
        return dv_pu

    def adjoint_response(self, weights: csr_array) -> np.ndarray:
        """Changes of weighted sums of bus voltages from one unit of current injected at each bus.

        Parameters
        ----------
        weights : scipy.sparse.csr_array of complex, shape (sums, buses)

        Returns
        -------
        numpy.ndarray of complex, shape (sums, buses)
            ``weights Z``: by as many solves as there are sums, however many buses inject.
        """
        response = np.zeros(weights.shape, dtype=complex)
        if weights.shape[0]:
            right = np.ascontiguousarray(weights[:, self.free].toarray().T, dtype=complex)
            response[:, self.free] = self.factor.solve(right, "T").T  # type: ignore[call-overload]
        return response

    @property
    def _z_base_ohm(self) -> np.ndarray:
        v_nom_kv = self.network.buses["v_nom_kv"].to_numpy()
        return v_nom_kv**2 * 1000 / S_BASE_KVA

    def _rows(self, at_from: np.ndarray, at_to: np.ndarray) -> csr_array:
        count = len(self.network.branches)
        rows = np.tile(np.arange(count), 2)
        columns = np.concatenate([self.network.from_bus, self.network.to_bus])
        shape = (count, len(self.network.buses))
        return csr_array((np.concatenate([at_from, at_to]), (rows, columns)), shape=shape)
