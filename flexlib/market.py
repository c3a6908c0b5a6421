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
from flexlib.planes import Planes
from flexlib.tables import check_table, fault_at, number_column, read_text_table, text_column
from flexlib.uncertainty import Box, unknown_loads

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
    less. The band of uncertainty stays on the baseline whatever is activated, as in the source.

    Parameters
    ----------
    network : Network
        The network and the baseline of its loads.
    offers : pandas.DataFrame
        Table with the columns of `OFFERS`.
    box : Box
        Uncertainty of the loads, made for the same loads.
    planes : Planes
        Polygon that stands for every current limit.

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
        Listing every fault of the offers, and a box that belongs to other loads.
    """

    network: Network
    offers: pd.DataFrame
    box: Box
    planes: Planes = field(default_factory=Planes)
    offer_load: np.ndarray = field(init=False)
    direction: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        offers, faults = check_table(self.offers, OFFERS, "offers")
        if not self.box.network.loads.equals(self.network.loads):
            found, expected = "a box of other loads", f"a box of the loads of {self.network.name}"
            faults.append(Fault("box", "", "", found, expected))
        faults += unknown_loads(offers, self.network, "offers") + _price_faults(offers)
        if not faults:
            faults += _power_factor_faults(offers, self.network)
        if faults:
            raise DataError(faults)
        object.__setattr__(self, "offers", offers.fillna(0.0))
        offer_load = self.network.load_positions(offers["load"])
        s_kva = self.network.s_load_kva[offer_load]
        active = np.where(s_kva.real == 0, 1.0, s_kva.real)
        object.__setattr__(self, "offer_load", offer_load)
        object.__setattr__(self, "direction", 1 + 1j * s_kva.imag / active)

    @cached_property
    def flow(self) -> LinearFlow:
        """Linear AC model, see the class."""
        return linear_flow(self.network)

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
        return self.flow.response(self.box.load, self.box.half_width_kva)

    def activated_kva(self, up_kw: np.ndarray, down_kw: np.ndarray) -> np.ndarray:
        """Change of every load's consumption by an activation, kVA, shape (loads,)."""
        change = np.zeros(len(self.network.loads), dtype=complex)
        change[self.offer_load] = -self.direction * (up_kw - down_kw)
        return change


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


def _power_factor_faults(offers: pd.DataFrame, network: Network) -> list[Fault]:
    s_kva = network.s_load_kva[network.load_positions(offers["load"])]
    expected = "a load with active power, whose power factor its flexibility follows"
    return [
        fault_at(
            offers,
            "offers",
            row,
            "load",
            f"{offers.loc[row, 'load']!r} with p_kw = 0 and q_kvar = {s_kva[row].imag:g}",
            expected,
        )
        for row in np.flatnonzero((s_kva.real == 0) & (s_kva.imag != 0)).tolist()
    ]
