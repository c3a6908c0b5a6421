"""The linear AC model: current injections at fixed voltages, De Simone (2025), (59) to (64).

With the voltage that divides a power held at a known value, the current of a load is linear in
its power, and so are all bus voltages and branch currents:

    v = v0 + response of v,    i = i0 + response of i,

where v0 and i0 are the state of the baseline loads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flexlib.admittance import S_BASE_KVA, Admittance
from flexlib.errors import DataError, Fault
from flexlib.network import Network
from flexlib.powerflow import power_flow


@dataclass(frozen=True)
class LinearFlow:
    """Linear AC state of a network around its baseline.

    Parameters
    ----------
    network : Network
        The network with its baseline loads.
    v_fixed_pu : numpy.ndarray of complex, shape (buses,)
        The voltages that divide the powers, equations (59) to (61).

    Attributes
    ----------
    v0_pu : numpy.ndarray of complex, shape (buses,)
        Bus voltages at the baseline, equations (32) and (44).
    i0_a : numpy.ndarray of complex, shape (ends,)
        Branch-end currents at the baseline, equation (63).
    """

    network: Network
    v_fixed_pu: np.ndarray

    @cached_property
    def admittance(self) -> Admittance:
        """Admittances of the network."""
        return Admittance(self.network)

    @cached_property
    def v0_pu(self) -> np.ndarray:
        """Bus voltages at the baseline, see the class."""
        bus = self.network.load_bus
        i_pu = np.zeros(len(self.network.buses), dtype=complex)
        np.add.at(i_pu, bus, -np.conj(self.network.s_load_kva / S_BASE_KVA / self.v_fixed_pu[bus]))
        return self.admittance.voltages(i_pu)

    @cached_property
    def i0_a(self) -> np.ndarray:
        """Branch-end currents at the baseline, see the class."""
        return np.asarray(self.admittance.y_end @ self.v0_pu) * self._i_base_a

    def response(self, load: np.ndarray, ds_kva: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Change of voltages and currents when single loads change their power.

        Parameters
        ----------
        load : numpy.ndarray of int, shape (n,)
            Positions of the loads in ``network.loads``.
        ds_kva : numpy.ndarray of complex, shape (n,)
            Change of the power that each consumes.

        Returns
        -------
        dv_pu : numpy.ndarray of complex, shape (buses, n)
            One column a load.
        di_a : numpy.ndarray of complex, shape (ends, n)
        """
        dv_pu = self.admittance.voltage_response(self._injections(load, ds_kva))
        return dv_pu, np.asarray(self.admittance.y_end @ dv_pu) * self._i_base_a[:, None]

    @property
    def _i_base_a(self) -> np.ndarray:
        return self.admittance.ends["i_base_a"].to_numpy()

    def _injections(self, load: np.ndarray, s_kva: np.ndarray) -> np.ndarray:
        """Injected bus currents of single loads, one column each: i = -conj(s / v)."""
        bus = self.network.load_bus[load]
        i_pu = np.zeros((len(self.network.buses), len(load)), dtype=complex)
        i_pu[bus, np.arange(len(load))] = -np.conj(s_kva / S_BASE_KVA / self.v_fixed_pu[bus])
        return i_pu


def linear_flow(network: Network) -> LinearFlow:
    """Linear AC model at the voltages of the baseline's AC power flow.

    Parameters
    ----------
    network : Network

    Returns
    -------
    LinearFlow
        Its baseline state equals the AC power flow's.

    Raises
    ------
    PowerFlowError
        If the baseline has no power flow.
    DataError
        If the network has PV buses: currents at fixed voltages know nothing of them.
    """
    if len(network.pv):
        found = f"{len(network.pv)} PV buses"
        raise DataError([Fault(network.name, "", "v_gen_pu", found, "none in this model")])
    return LinearFlow(network, power_flow(network).v_pu[0])
