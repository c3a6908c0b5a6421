"""Flexibility bids: what a market holds of them, and the directions in which they can move.

Upward is more injection or less consumption, downward the opposite, as in
`flexlib.market.OFFERS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from flexlib.errors import DataError, Fault
from flexlib.network import Network
from flexlib.tables import check_table, fault_at, number_column, read_text_table, text_column

_PRICE = (-1e5, 1e5)
BIDS = pa.DataFrameSchema(
    {
        "bid": text_column("identifier of the bid", unique=True),
        "up_max_kw": number_column("largest upward activation", "kW", 0, 1e6, optional=True),
        "price_up_eur_per_mwh": number_column(
            "price of upward activation; negative where the bidder pays",
            "EUR/MWh",
            *_PRICE,
            optional=True,
        ),
        "down_max_kw": number_column("largest downward activation", "kW", 0, 1e6, optional=True),
        "price_down_eur_per_mwh": number_column(
            "price of downward activation; negative where the bidder pays",
            "EUR/MWh",
            *_PRICE,
            optional=True,
        ),
        "min_up_kw": number_column(
            "least upward activation if there is any; equal to the largest: a block",
            "kW",
            0,
            1e6,
            optional=True,
        ),
        "min_down_kw": number_column(
            "least downward activation if there is any", "kW", 0, 1e6, optional=True
        ),
        "kvar_per_kw": number_column(
            "reactive power injected with each kW injected: tan phi of the activation",
            "kvar/kW",
            -5,
            5,
            optional=True,
        ),
        "q_max_kvar": number_column(
            "reactive power offered beside, injected or absorbed", "kvar", 0, 1e6, optional=True
        ),
        "price_q_eur_per_mvarh": number_column(
            "price of this reactive power in both directions",
            "EUR/Mvarh",
            0,
            1e5,
            optional=True,
        ),
    }
)
SITES = pa.DataFrameSchema(
    {
        "bid": text_column("identifier of the bid", unique=True),
        "bus": text_column("bus at which it connects"),
    }
)
_PRICED = (
    ("up_max_kw", "price_up_eur_per_mwh"),
    ("down_max_kw", "price_down_eur_per_mwh"),
    ("q_max_kvar", "price_q_eur_per_mvarh"),
)


@dataclass(frozen=True)
class Bids:
    """Bids of a market; no network is needed to hold them.

    An *axis* is one number that an activation sets: the net upward power of a bid (kW, moving
    ``1 + j kvar_per_kw`` kVA of injection) and, where a bid offers it, its free reactive power
    (kvar injected). Axes come in the order of the bids, active before reactive.

    Parameters
    ----------
    table : pandas.DataFrame
        Table with the columns of `BIDS`.

    Attributes
    ----------
    axes : pandas.DataFrame
        One row an axis: axis (name), bid, active (whether it counts towards a request),
        kva_per_unit (complex injection), lower and upper (kW or kvar), min_up and min_down,
        price_up and price_down (EUR/h for one unit).

    Raises
    ------
    DataError
        Listing every fault: volumes without a price, least activations above the largest, and
        pairs of prices that pay for activating a bid in both directions at once. Negative prices
        are allowed.
    """

    table: pd.DataFrame
    axes: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        table, faults = check_table(self.table, BIDS, "bids")
        if not any(fault.column == "" for fault in faults) and "bid" in self.table:
            faults += _price_faults(table) + _least_faults(table)
        if faults:
            raise DataError(faults)
        object.__setattr__(self, "table", table.fillna(0.0))
        object.__setattr__(self, "axes", _axes(self.table))

    @property
    def active(self) -> np.ndarray:
        """Whether each axis is active power, shape (axes,)."""
        return self.axes["active"].to_numpy()

    @property
    def lower(self) -> np.ndarray:
        """Lowest value of each axis, P_LB of (12), shape (axes,)."""
        return self.axes["lower"].to_numpy()

    @property
    def upper(self) -> np.ndarray:
        """Highest value of each axis, P_UB of (13), shape (axes,)."""
        return self.axes["upper"].to_numpy()

    def cost_eur_per_h(self, z: np.ndarray) -> float:
        """Cost of an activation, (14a): each direction at its own price.

        Parameters
        ----------
        z : numpy.ndarray, shape (axes,)
            Value of each axis.
        """
        up, down = np.maximum(z, 0), np.maximum(-z, 0)
        return float(up @ self.axes["price_up"] + down @ self.axes["price_down"])

    def assert_request(self, request_kw: float) -> None:
        """Raise `DataError` if the bids cannot add up to a request.

        Parameters
        ----------
        request_kw : float
            Upward positive.
        """
        least, most = self.lower[self.active].sum(), self.upper[self.active].sum()
        slack = 1e-9 * (1 + most - least)
        if not least - slack <= request_kw <= most + slack:
            expected = f"from {least:g} to {most:g} kW, which all bids offer together"
            raise DataError([Fault("request", "", "request_kw", f"{request_kw:g} kW", expected)])


def read_bids(path: str | Path) -> Bids:
    """Read bids from a CSV file with the columns of `BIDS`.

    Raises
    ------
    DataError
        Listing every fault with row, column, value and what was expected.
    """
    table, faults = read_text_table(Path(path))
    if faults:
        raise DataError(faults)
    return Bids(table)


@dataclass(frozen=True)
class Connected:
    """Bids at their buses: what the DSO knows and nobody else.

    Parameters
    ----------
    network : Network
        The grid with its market-independent loads, P_Fix of (11).
    bids : Bids
    sites : pandas.DataFrame
        Table with the columns of `SITES`: a row for every bid, rows of other bids are ignored.

    Attributes
    ----------
    bus : numpy.ndarray of int, shape (axes,)
        Position of each axis' bus in the network.

    Raises
    ------
    DataError
        Listing bids without a site, and sites at buses that the network does not have or where
        no power can matter (its slack).
    """

    network: Network
    bids: Bids
    sites: pd.DataFrame
    bus: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        table, faults = check_table(self.sites, SITES, "sites")
        slack = self.network.slack
        position = {bus: k for k, bus in enumerate(self.network.buses["bus"])}
        ours = table["bid"].isin(self.bids.table["bid"])
        for row, bus in enumerate(table["bus"].where(ours)):
            if isinstance(bus, str) and position.get(bus, slack) == slack:
                expected = f"a bus of {self.network.name} other than its slack"
                faults.append(fault_at(table, "sites", row, "bus", repr(bus), expected))
        known = set(table["bid"])
        for bid in self.bids.table["bid"]:
            if bid not in known:
                expected = "a row for every bid"
                faults.append(fault_at(table, "sites", None, "bid", f"no {bid!r}", expected))
        if faults:
            raise DataError(faults)
        bus = table.set_index("bid")["bus"].map(position).loc[self.bids.axes["bid"]]
        object.__setattr__(self, "bus", bus.to_numpy(dtype=int))

    @cached_property
    def activated(self) -> Network:
        """The network with one more load for each axis, of no power until it is activated."""
        network = self.network
        name = "activation of " + self.bids.axes["axis"]
        bus = network.buses["bus"].to_numpy()[self.bus]
        own = pd.DataFrame({"load": name, "bus": bus, "p_kw": 0.0, "q_kvar": 0.0})
        return replace(network, loads=pd.concat([network.loads, own], ignore_index=True))

    def loads_kva(self, z: np.ndarray) -> np.ndarray:
        """Consumption of every load of `activated`.

        Parameters
        ----------
        z : numpy.ndarray, shape (cases, axes)
            Values of the axes in each case.

        Returns
        -------
        numpy.ndarray of complex, shape (cases, loads)
        """
        kva = -z * self.bids.axes["kva_per_unit"].to_numpy()
        base = np.broadcast_to(self.network.s_load_kva, (len(z), len(self.network.loads)))
        return np.hstack([base, kva])


def _axes(table: pd.DataFrame) -> pd.DataFrame:
    common = {"bid": table["bid"], "order": np.arange(len(table))}
    active = pd.DataFrame(
        {
            **common,
            "axis": table["bid"],
            "active": True,
            "kva_per_unit": 1 + 1j * table["kvar_per_kw"],
            "lower": -table["down_max_kw"],
            "upper": table["up_max_kw"],
            "min_up": table["min_up_kw"],
            "min_down": table["min_down_kw"],
            "price_up": table["price_up_eur_per_mwh"] / 1000,
            "price_down": table["price_down_eur_per_mwh"] / 1000,
        }
    )
    reactive = pd.DataFrame(
        {
            **common,
            "axis": table["bid"] + " reactive",
            "active": False,
            "kva_per_unit": 1j,
            "lower": -table["q_max_kvar"],
            "upper": table["q_max_kvar"],
            "min_up": 0.0,
            "min_down": 0.0,
            "price_up": table["price_q_eur_per_mvarh"] / 1000,
            "price_down": table["price_q_eur_per_mvarh"] / 1000,
        }
    )[table["q_max_kvar"] > 0]
    axes = pd.concat([active, reactive]).sort_values("order", kind="stable")
    return axes.drop(columns="order").reset_index(drop=True)


def _price_faults(table: pd.DataFrame) -> list[Fault]:
    faults = []
    for volume, price in _PRICED:
        for row in table.index[(table[volume] > 0) & table[price].isna()]:
            expected = f"a price, since {volume} is {table[volume][row]:g}"
            faults.append(fault_at(table, "bids", row, price, "an empty cell", expected))
    up, down = (table[price] for _, price in _PRICED[:2])
    both = (table["up_max_kw"] > 0) & (table["down_max_kw"] > 0) & (up + down < 0)
    for row in table.index[both]:
        expected = f"at least {-up[row]:g}: less pays for both directions at once"
        found = f"{down[row]:g}"
        faults.append(fault_at(table, "bids", row, "price_down_eur_per_mwh", found, expected))
    return faults


def _least_faults(table: pd.DataFrame) -> list[Fault]:
    return [
        fault_at(
            table,
            "bids",
            row,
            f"min_{way}_kw",
            f"{table[f'min_{way}_kw'][row]:g}",
            f"at most {way}_max_kw ({table[f'{way}_max_kw'].fillna(0)[row]:g})",
        )
        for way in ("up", "down")
        for row in table.index[table[f"min_{way}_kw"] > table[f"{way}_max_kw"].fillna(0)]
    ]
