"""An activation held against the AC power flow: the DSO's side, section 5 of DigIPlat D5.2."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flexlib.bids import Connected
from flexlib.certificate import Certificate, Check, largest
from flexlib.powerflow import PowerFlow, power_flow
from flexlib.voronoi import Activation

_AC_TOLERANCE = 1e-6  # p.u. of voltage, and per cent of a current's limit


def _mae(error: np.ndarray) -> float:
    """(15); NaN of nothing."""
    return float(np.abs(error).mean()) if len(error) else np.nan


def _rmse(error: np.ndarray) -> float:
    """(16); NaN of nothing."""
    return float(np.sqrt((error**2).mean())) if len(error) else np.nan


@dataclass(frozen=True)
class Comparison:
    """Linear model and AC power flow of one activation.

    Parameters
    ----------
    connected : Connected
    activation : Activation

    Attributes
    ----------
    flow : flexlib.powerflow.PowerFlow
    v_pu, v_ac_pu : numpy.ndarray, shape (v,)
        Voltages of the model's buses by the model and by AC.
    loading_percent, loading_ac_percent : numpy.ndarray, shape (branches of the model,)
        Loadings of lines and transformers, of both ends the larger; `branch` has their numbers.
    """

    connected: Connected
    activation: Activation

    @cached_property
    def flow(self) -> PowerFlow:
        """AC power flow, see the class."""
        s_kva = self.connected.loads_kva(self.activation.z[None])
        return power_flow(self.connected.activated, s_kva)

    @property
    def v_pu(self) -> np.ndarray:
        """Voltages by the model, see the class."""
        return self.activation.v_pu

    @cached_property
    def v_ac_pu(self) -> np.ndarray:
        """Voltages by AC, see the class."""
        return np.asarray(np.abs(self.flow.v_pu[0, self.activation.model.bus]))

    @cached_property
    def branch(self) -> np.ndarray:
        """Positions in the network of the model's branches."""
        return np.unique(self.activation.model.end % len(self.connected.network.branches))

    @cached_property
    def loading_percent(self) -> np.ndarray:
        """Loadings by the model, see the class."""
        return self._by_branch(np.abs(self.activation.loading_percent))

    @cached_property
    def loading_ac_percent(self) -> np.ndarray:
        """Loadings by AC, see the class."""
        return self._by_branch(self.end_loading_ac_percent[self.activation.model.end])

    @cached_property
    def end_loading_ac_percent(self) -> np.ndarray:
        """Loadings of all branch ends of the network by AC; zero where there is no limit."""
        i_max_a = self.flow.admittance.ends["i_max_a"].to_numpy()
        return np.asarray(100 * np.abs(self.flow.i_a[0]) / i_max_a)

    @property
    def v_mae_pu(self) -> float:
        """Mean absolute error of the voltages, (15)."""
        return _mae(self.v_pu - self.v_ac_pu)

    @property
    def v_rmse_pu(self) -> float:
        """Root mean square error of the voltages, (16)."""
        return _rmse(self.v_pu - self.v_ac_pu)

    @property
    def loading_mae_percent(self) -> float:
        """Mean absolute error of the loadings, (15)."""
        return _mae(self.loading_percent - self.loading_ac_percent)

    @property
    def loading_rmse_percent(self) -> float:
        """Root mean square error of the loadings, (16)."""
        return _rmse(self.loading_percent - self.loading_ac_percent)

    @cached_property
    def v_excess_pu(self) -> float:
        """Largest voltage beyond a limit by AC, over all buses but the slack and PV buses."""
        network = self.connected.network
        v_pu = np.abs(self.flow.v_pu[0])
        low, high = network.buses["v_min_pu"].to_numpy(), network.buses["v_max_pu"].to_numpy()
        excess = np.maximum(v_pu - high, low - v_pu)
        return largest(np.delete(excess, [network.slack, *network.pv]))

    @cached_property
    def loading_excess_percent(self) -> float:
        """Largest loading beyond 100 % by AC, over all branch ends."""
        return largest(self.end_loading_ac_percent - 100)

    @cached_property
    def certificate(self) -> Certificate:
        """The activation's certificate and the AC gate."""
        return Certificate(
            (
                *self.activation.certificate.checks,
                Check("AC power flow", self.flow.mismatch_kva, 1e-3, "kVA"),
                Check("AC voltages beyond their limits", self.v_excess_pu, _AC_TOLERANCE, "p.u."),
                Check("AC loadings beyond 100 %", self.loading_excess_percent, _AC_TOLERANCE, "%"),
            )
        )

    def worst(self) -> list[str]:
        """Return the limits that AC breaks most, in words."""
        network = self.connected.network
        v_pu, low = np.abs(self.flow.v_pu[0]), network.buses["v_min_pu"].to_numpy()
        excess = np.maximum(v_pu - network.buses["v_max_pu"].to_numpy(), low - v_pu)
        excess[[network.slack, *network.pv]] = -np.inf
        words = [
            f"{network.buses['bus'][k]} at {v_pu[k]:.5f} p.u."
            for k in np.argsort(-excess)[:3]
            if excess[k] > _AC_TOLERANCE
        ]
        loading = self.end_loading_ac_percent.reshape(2, -1).max(axis=0)
        return words + [
            f"{network.branches['branch'][k]} at {loading[k]:.4f} %"
            for k in np.argsort(-loading)[:3]
            if loading[k] > 100 + _AC_TOLERANCE
        ]

    def _by_branch(self, end_percent: np.ndarray) -> np.ndarray:
        of_end = self.activation.model.end % len(self.connected.network.branches)
        largest_of = np.zeros(len(self.branch))
        np.maximum.at(largest_of, np.searchsorted(self.branch, of_end), end_percent)
        return largest_of
