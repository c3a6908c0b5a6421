"""The local flexibility market's data: a network, offers, uncertain loads, planes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from flexlib.errors import DataError, Fault
from flexlib.linear_ac import LinearFlow, linear_flow
from flexlib.network import Network
from flexlib.planes import Circle, Planes
from flexlib.tables import check_table, fault_at, number_column, read_text_table, text_column
from flexlib.uncertainty import UncertaintySet, loads_without_power_factor, unknown_loads

OFFERS = pa.DataFrameSchema(
    {
        "load": text_column("flexible load or generator (POD)", unique=True),
        "up_max_kw": number_column(
            "upward flexibility offered: less consumption or more generation", "kW", 0, 1e6
        ),
        "price_up_eur_per_mwh": number_column(
            "price of upward flexibility", "EUR/MWh", 0, 1e5, optional=True
        ),
        "down_max_kw": number_column(
            "downward flexibility offered: more consumption or less generation",
            "kW",
            0,
            1e6,
            optional=True,
        ),
        "price_down_eur_per_mwh": number_column(
            "price of downward flexibility", "EUR/MWh", 0, 1e5, optional=True
        ),
    }
)


@dataclass(frozen=True)
class Market:
    """A local flexibility market with uncertain baselines (De Simone (2025), section 2.7).

    Flexibility follows the power factor of its load: one kW upward consumes ``1 + j q/p`` kVA
    less.

    Parameters
    ----------
    network : Network
        The network and the baseline of its loads.
    offers : pandas.DataFrame
        Table with the columns of `OFFERS`.
    uncertainty : UncertaintySet
        Uncertainty of the loads, made for the same loads.
    norm : Planes or Circle
        What stands for the magnitude in every current limit.
    band : {"baseline", "remainder"}
        What deviates: the baseline of a load whatever is activated, as in the source, or what
        remains of it: load k then consumes ``r_k (s_k + xi_k delta_k)`` with
        ``r_k = 1 - (f_up - f_down) / p_k``.

    Attributes
    ----------
    flow : LinearFlow
        Linear AC model at the voltages of the baseline's AC power flow.
    offer_load : numpy.ndarray of int, shape (offers,)
        Positions of the offering loads in ``network.loads``.
    direction : numpy.ndarray of complex, shape (offers,)
        Consumption saved by one kW upward, kVA: ``1 + j q/p``.

    Raises
    ------
    DataError
        Listing every fault of the offers, a set that belongs to other loads, and offers beyond
        the load's own power where the band is on what remains.
    """

    network: Network
    offers: pd.DataFrame
    uncertainty: UncertaintySet
    norm: Planes | Circle = field(default_factory=Planes)
    band: str = "baseline"
    offer_load: np.ndarray = field(init=False)
    direction: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        offers, faults = check_table(self.offers, OFFERS, "offers")
        if not self.uncertainty.network.loads.equals(self.network.loads):
            found, expected = "a set of other loads", f"a set of the loads of {self.network.name}"
            faults.append(Fault("uncertainty", "", "", found, expected))
        faults += unknown_loads(offers, self.network, "offers") + _price_faults(offers)
        if not faults:
            faults += loads_without_power_factor(offers, self.network, "offers")
            faults += self._remainder_faults(offers.fillna(0.0))
        if faults:
            raise DataError(faults)
        object.__setattr__(self, "offers", offers.fillna(0.0))
        offer_load = self.network.load_positions(offers["load"])
        object.__setattr__(self, "offer_load", offer_load)
        object.__setattr__(self, "direction", self.network.kva_per_kw[offer_load])

    @cached_property
    def flow(self) -> LinearFlow:
        """Linear AC model, see the class."""
        return linear_flow(self.network)

    @property
    def planes(self) -> Planes:
        """The norm, where a form exists only with planes."""
        if not isinstance(self.norm, Planes):
            raise ValueError("this form of the current limit needs planes, not the exact circle")
        return self.norm

    @cached_property
    def volume_kw(self) -> np.ndarray:
        """Offered flexibility, upward in the first row, downward in the second."""
        return self.offers[["up_max_kw", "down_max_kw"]].to_numpy().T

    @cached_property
    def upward(self) -> tuple[np.ndarray, np.ndarray]:
        """Response of voltages (p.u.) and currents (A) to one kW upward of each offer."""
        return self.flow.response(self.offer_load, -self.direction)

    @cached_property
    def uncertain(self) -> tuple[np.ndarray, np.ndarray]:
        """Response of voltages (p.u.) and currents (A) to each xi, Z D and Y Z D of (45), (46)."""
        return self.flow.response(self.uncertainty.load, self.uncertainty.delta_kva)

    @cached_property
    def remains_per_kw(self) -> np.ndarray:
        """Change of each r_k per net kW upward of each offer, shape (n, offers): 0 or -1/p_k."""
        same = self.uncertainty.load[:, None] == self.offer_load[None, :]
        if self.band == "baseline" or not same.any():
            return np.zeros(same.shape)
        p_kw = self.network.s_load_kva.real[self.uncertainty.load]
        return np.where(same, -1 / np.where(p_kw == 0, 1.0, p_kw)[:, None], 0.0)

    def remains(self, net_kw: np.ndarray) -> np.ndarray:
        """Share r_k of each uncertain load's deviation that remains, shape (n,)."""
        return 1 + self.remains_per_kw @ net_kw

    @cached_property
    def most_remains(self) -> np.ndarray:
        """Largest share r_k that any activation offered leaves, shape (n,)."""
        up_kw, down_kw = self.volume_kw
        return np.maximum(self.remains(up_kw), self.remains(-down_kw))

    def loads_kva(self, xi: np.ndarray, net_kw: np.ndarray) -> np.ndarray:
        """Consumption of every load for each xi under an activation.

        Parameters
        ----------
        xi : numpy.ndarray of float, shape (cases, n)
        net_kw : numpy.ndarray of float, shape (offers,)
            Upward less downward activation.

        Returns
        -------
        numpy.ndarray of complex, shape (cases, loads)
        """
        s_kva = self.uncertainty.loads_kva(xi * self.remains(net_kw))
        s_kva[:, self.offer_load] -= self.direction * net_kw
        return s_kva

    def activated_kva(self, up_kw: np.ndarray, down_kw: np.ndarray) -> np.ndarray:
        """Change of every load's consumption by an activation, kVA, shape (loads,)."""
        change = np.zeros(len(self.network.loads), dtype=complex)
        change[self.offer_load] = -self.direction * (up_kw - down_kw)
        return change

    def _remainder_faults(self, offers: pd.DataFrame) -> list[Fault]:
        if self.band == "baseline":
            return []
        if self.band != "remainder":
            found = repr(self.band)
            return [Fault("market", "", "band", found, '"baseline" or "remainder"')]
        at = self.network.load_positions(offers["load"])
        p_kw = self.network.s_load_kva.real[at]
        faults = []
        for way, sign in (("up", 1), ("down", -1)):
            beyond = offers[f"{way}_max_kw"] > np.maximum(sign * p_kw, 0) * (1 + 1e-9)
            beyond &= np.isin(at, self.uncertainty.load) & (np.sign(p_kw) != -sign)
            for row in offers.index[beyond]:
                expected = f"at most the load's own {p_kw[row]:g} kW, since the band is on the rest"
                found = f"{offers[f'{way}_max_kw'][row]:g}"
                faults.append(fault_at(offers, "offers", row, f"{way}_max_kw", found, expected))
        return faults


def read_offers(path: str | Path) -> pd.DataFrame:
    """Read offers from a CSV file with the columns of `OFFERS`; `Market` checks them.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.

    Returns
    -------
    pandas.DataFrame
        All cells as text.

    Raises
    ------
    DataError
        If there is no such file, or it is empty or not UTF-8.
    """
    offers, faults = read_text_table(Path(path))
    if faults:
        raise DataError(faults)
    return offers


def _price_faults(offers: pd.DataFrame) -> list[Fault]:
    faults = []
    for way in ("up", "down"):
        volume_kw, price = offers[f"{way}_max_kw"], offers[f"price_{way}_eur_per_mwh"]
        for row in offers.index[(volume_kw > 0) & price.isna()]:
            expected = f"a price, since {volume_kw[row]:g} kW are offered"
            faults.append(
                fault_at(offers, "offers", row, str(price.name), "an empty cell", expected)
            )
    return faults
