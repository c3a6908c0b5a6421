"""Hubs at buses of a network: their grid from its AC sensitivities, and the AC check of a plan.

The grid of a formulation is linear: active powers of branches by AC at an operating point of every
hour, and H, what one MW more adds to them, by the AC Jacobian in one of the hours. What this leaves
out (H changes from hour to hour, losses grow with the square of the flow, limits are currents) is
measured by the AC power flow of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from flexlib.admittance import S_BASE_KVA
from flexlib.certificate import Certificate, Check, largest
from flexlib.errors import DataError, Fault
from flexlib.hub_grid import HubGrid
from flexlib.network import Network
from flexlib.powerflow import PowerFlow, power_flow
from flexlib.sensitivity import OperatingPoint

H_LEAST = 1e-3  # MW for one MW: what is less is neglected, as are losses on lines elsewhere
LINEAR_PERCENT = 1.0  # accepted error of linear flows, of the limit
_AC_PU = 1e-6


@dataclass(frozen=True)
class HubNetwork:
    """A network in some hours, and the buses of its hubs.

    Parameters
    ----------
    network : Network
        Its loads are the background; hubs are not among them.
    hub_bus : pandas.Series of str
        Bus of each hub, in the order of the hubs. Hubs have no reactive power.
    load_kva : numpy.ndarray of complex, shape (hours, loads)
        Power consumed by each load in each hour.
    hub_mw : numpy.ndarray, shape (hubs, hours)
        Operating point: withdrawals around which flows are linear.
    limit_share : float
        Share of the branches' current limits that may be used, above 0.

    Attributes
    ----------
    flow : flexlib.powerflow.PowerFlow
        AC power flow of the hours at the operating point.
    slope_hour : int
        Hour in which H is taken: that of the largest load.
    slope : numpy.ndarray, shape (branches, hubs)
        MW into each branch at its from end for one MW withdrawn, by AC in that hour.
    line : numpy.ndarray of int
        Branches with a limit that some hub loads by `H_LEAST` or more: the lines of the grid.
    turn : numpy.ndarray, shape (lines,)
        1, or -1 where the hubs in sum load the line against its from end.

    Raises
    ------
    DataError
        Naming hubs at buses that the network does not have, loads and withdrawals of another shape
        or not finite, and a share that is not above 0.
    """

    network: Network
    hub_bus: pd.Series
    load_kva: np.ndarray
    hub_mw: np.ndarray
    limit_share: float = 1.0

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise DataError(faults)

    @cached_property
    def flow(self) -> PowerFlow:
        """AC power flow at the operating point, see the class."""
        return self.with_hubs(self.hub_mw)

    @property
    def slope_hour(self) -> int:
        """Hour in which H is taken, see the class."""
        return int((self.load_kva.real.sum(axis=1) + 1000 * self.hub_mw.sum(axis=0)).argmax())

    @cached_property
    def slope(self) -> np.ndarray:
        """Derivatives of the branches' active powers, see the class."""
        state = OperatingPoint(self.flow.admittance, self.flow.v_pu[self.slope_hour])
        return power_slopes(state, self.bus)

    @cached_property
    def line(self) -> np.ndarray:
        """Lines of the grid, see the class."""
        limited = np.isfinite(self.limit_a).any(axis=0)
        return np.flatnonzero(limited & (np.abs(self.slope) >= H_LEAST).any(axis=1))

    @cached_property
    def turn(self) -> np.ndarray:
        """Direction of the lines, see the class."""
        return np.where(self.slope[self.line].sum(axis=1) < 0, -1.0, 1.0)

    @cached_property
    def bus(self) -> np.ndarray:
        """Positions of the hubs' buses."""
        position = {bus: k for k, bus in enumerate(self.network.buses["bus"])}
        return self.hub_bus.map(position).to_numpy(dtype=int)

    @property
    def limit_a(self) -> np.ndarray:
        """Usable currents at both ends of the branches, infinite for no limit, (2, branches)."""
        i_max_a = self.flow.admittance.ends["i_max_a"].to_numpy().reshape(2, -1)
        return np.asarray(self.limit_share * i_max_a)

    @cached_property
    def limit_mw(self) -> np.ndarray:
        """Active power at which a line has its limit, the least of all hours, shape (lines,).

        At the voltages and the reactive powers of the operating point.
        """
        ends = self.flow.admittance.i_base_end_a.reshape(2, -1)
        v_pu = np.abs(self.flow.v_pu[:, self._end_bus])
        most = v_pu * self.limit_a / ends * S_BASE_KVA / 1000  # MVA
        p_mw = np.sqrt(np.maximum(most**2 - end_mva(self.flow).imag ** 2, 0.0))
        return np.asarray(p_mw[:, :, self.line].min(axis=(0, 1)))

    def at(self, w_mw: np.ndarray) -> HubNetwork:
        """Return the same with another operating point, for example a plan that was found."""
        return replace(self, hub_mw=w_mw)

    def with_hubs(self, w_mw: np.ndarray) -> PowerFlow:
        """AC power flow of every hour with withdrawals, MW, shape (hubs, hours)."""
        hub = pd.DataFrame(
            {
                "load": [f"hub {k + 1} at {bus}" for k, bus in enumerate(self.hub_bus)],
                "bus": self.hub_bus.to_numpy(),
                "p_kw": 0.0,
                "q_kvar": 0.0,
            }
        )
        loads = pd.concat([self.network.loads, hub], ignore_index=True)
        return power_flow(
            replace(self.network, loads=loads), np.hstack([self.load_kva, 1000 * w_mw.T])
        )

    def line_mw(self, flow: PowerFlow) -> np.ndarray:
        """Active power of each line by AC, positive in its direction, shape (lines, hours)."""
        return np.asarray(self.turn[:, None] * end_mva(flow)[:, 0, self.line].real.T)

    def line_percent(self, flow: PowerFlow) -> np.ndarray:
        """Current of each line by AC, of both ends the larger share of its limit, %."""
        i_a = np.abs(flow.i_a).reshape(len(flow.i_a), 2, -1)
        return np.asarray((100 * i_a / self.limit_a)[:, :, self.line].max(axis=1).T)

    @property
    def _end_bus(self) -> np.ndarray:
        return np.stack([self.network.from_bus, self.network.to_bus])


def network_grid(
    site: HubNetwork, *, import_mw: float = np.inf, export_mw: float = np.inf
) -> HubGrid:
    """Active power flows of a network, linear in what hubs withdraw.

    Parameters
    ----------
    site : HubNetwork
    import_mw, export_mw : float
        Limits of the substation on the hubs' sum; by default none, for the substation's
        transformers are lines of the grid.

    Returns
    -------
    HubGrid
        Lines at their from end, positive in the direction of the hubs' withdrawals in sum. In a
        meshed network some entries of H are negative.
    """
    slope = site.turn[:, None] * site.slope[site.line]
    factor = np.where(np.abs(slope) >= H_LEAST, slope, 0.0)
    return HubGrid(
        site.network.branches["branch"].iloc[site.line].tolist(),
        csr_array(factor),
        site.line_mw(site.flow) - factor @ site.hub_mw,
        site.limit_mw,
        import_mw,
        export_mw,
    )


@dataclass(frozen=True)
class AcCheck:
    """Withdrawals of hubs held against the AC power flow.

    Parameters
    ----------
    site : HubNetwork
    grid : HubGrid
        By `network_grid`.
    w_mw : numpy.ndarray, shape (hubs, hours)

    Attributes
    ----------
    flow : flexlib.powerflow.PowerFlow
        AC power flow of every hour with the hubs.
    linear_percent, ac_percent : numpy.ndarray, shape (lines, hours)
        Loadings of the lines: active power of its limit, and current of its limit.
    error_mw : numpy.ndarray, shape (lines, hours)
        Linear less AC active power.
    """

    site: HubNetwork
    grid: HubGrid
    w_mw: np.ndarray

    @cached_property
    def flow(self) -> PowerFlow:
        """AC power flow, see the class."""
        return self.site.with_hubs(self.w_mw)

    @cached_property
    def linear_percent(self) -> np.ndarray:
        """Loadings by the linear model, see the class."""
        return np.asarray(100 * np.abs(self._linear_mw) / self.grid.limit_mw[:, None])

    @cached_property
    def ac_percent(self) -> np.ndarray:
        """Loadings by AC, see the class."""
        return self.site.line_percent(self.flow)

    @cached_property
    def error_mw(self) -> np.ndarray:
        """Error of the linear model, see the class."""
        return np.asarray(self._linear_mw - self.site.line_mw(self.flow))

    @cached_property
    def v_excess_pu(self) -> np.ndarray:
        """Voltages beyond their limits in each hour, of all buses the largest; below 0: inside."""
        buses = self.site.network.buses
        v_pu = np.abs(self.flow.v_pu)
        excess = np.maximum(
            v_pu - buses["v_max_pu"].to_numpy(), buses["v_min_pu"].to_numpy() - v_pu
        )
        held = [self.site.network.slack, *self.site.network.pv]
        return np.asarray(np.delete(excess, held, axis=1).max(axis=1))

    @property
    def certificate(self) -> Certificate:
        """Whether AC confirms what the linear grid says of these withdrawals.

        An overload that the linear grid reports is no fault of it: a line may be loaded by AC up
        to its limit, or up to its linear loading if that is more.
        """
        error = 100 * np.abs(self.error_mw) / self.grid.limit_mw[:, None]
        beyond = self.ac_percent - np.maximum(self.linear_percent, 100)
        return Certificate(
            (
                Check("AC power flow", self.flow.mismatch_kva, 1e-3, "kVA"),
                Check("linear flows against AC", largest(error), LINEAR_PERCENT, "% of limit"),
                Check("AC current beyond limit and linear loading", largest(beyond),
                      LINEAR_PERCENT, "% of limit"),
                Check("AC voltages beyond their limits", largest(self.v_excess_pu), _AC_PU, "p.u."),
            )
        )  # fmt: skip

    def frame(self) -> pd.DataFrame:
        """One row a line, the most of all hours.

        Returns
        -------
        pandas.DataFrame
            Index the lines; columns limit_mw, linear_percent and ac_percent (largest loadings),
            hours_over and ac_hours_over (beyond 100 %), error_mw (largest error of the linear
            active power).
        """
        return pd.DataFrame(
            {
                "limit_mw": self.grid.limit_mw,
                "linear_percent": self.linear_percent.max(axis=1),
                "ac_percent": self.ac_percent.max(axis=1),
                "hours_over": (self.linear_percent > 100 + _AC_PU).sum(axis=1),
                "ac_hours_over": (self.ac_percent > 100 + _AC_PU).sum(axis=1),
                "error_mw": np.abs(self.error_mw).max(axis=1),
            },
            index=pd.Index(self.grid.lines, name="line"),
        )

    @cached_property
    def _linear_mw(self) -> np.ndarray:
        return self.grid.loading_mw(self.w_mw)[:-1]


def ac_check(site: HubNetwork, grid: HubGrid, w_mw: np.ndarray) -> AcCheck:
    """Hold withdrawals against the AC power flow of every hour.

    Parameters
    ----------
    site : HubNetwork
    grid : HubGrid
        By `network_grid` of the same site.
    w_mw : numpy.ndarray, shape (hubs, hours)
        For example ``schedule.w_mw``.

    Returns
    -------
    AcCheck

    Raises
    ------
    PowerFlowError
        If an hour has no power flow.
    ValueError
        If the withdrawals are of another shape.
    """
    if w_mw.shape != site.hub_mw.shape:
        raise ValueError(f"withdrawals of shape {w_mw.shape}, not {site.hub_mw.shape}")
    return AcCheck(site, grid, w_mw)


def power_slopes(state: OperatingPoint, bus: np.ndarray) -> np.ndarray:
    """Active power into each branch at its from end for one unit withdrawn at a bus.

    Parameters
    ----------
    state : OperatingPoint
    bus : numpy.ndarray of int, shape (n,)
        Positions of buses.

    Returns
    -------
    numpy.ndarray, shape (branches, n)
    """
    start = state.admittance.network.from_bus
    base_a = state.admittance.i_base_end_a[: len(start), None]
    dv_pu, di_a = state.response(bus, -np.ones(len(bus), dtype=complex))  # for 1 kW
    i_pu = (state.admittance.y_end[: len(start)] @ state.v_pu)[:, None]
    v_pu = state.v_pu[start, None]
    change = dv_pu[start] * np.conj(i_pu) + v_pu * np.conj(di_a[: len(start)] / base_a)
    return np.asarray(change.real * S_BASE_KVA)


def end_mva(flow: PowerFlow) -> np.ndarray:
    """Complex power into each branch at both its ends, shape (hours, 2, branches)."""
    network = flow.admittance.network
    at = np.concatenate([network.from_bus, network.to_bus])
    i_pu = flow.i_a / flow.admittance.i_base_end_a
    s_mva = flow.v_pu[:, at] * np.conj(i_pu) * S_BASE_KVA / 1000
    return np.asarray(s_mva.reshape(len(s_mva), 2, -1))


def _faults(site: HubNetwork) -> list[Fault]:
    known = set(site.network.buses["bus"])
    faults = [
        Fault("hub_bus", str(row), "bus", repr(bus), f"a bus of {site.network.name}")
        for row, bus in enumerate(site.hub_bus)
        if bus not in known
    ]
    hours = site.load_kva.shape[0]
    expected = {
        "load_kva": (hours, len(site.network.loads)),
        "hub_mw": (len(site.hub_bus), hours),
    }
    for name, shape in expected.items():
        values = getattr(site, name)
        if values.shape != shape:
            faults.append(Fault(name, "", "", f"shape {values.shape}", f"shape {shape}"))
        elif not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            found = f"{values[row, column]}"
            faults.append(Fault(name, str(row), str(column), found, "a finite number"))
    if not 0 < site.limit_share < np.inf:
        found = f"{site.limit_share:g}"
        faults.append(Fault("HubNetwork", "", "limit_share", found, "a finite number above 0"))
    return faults
