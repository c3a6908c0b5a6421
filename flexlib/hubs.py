"""Energy hubs: their tables, profiles and limits, checked at the door.

A hub has a fixed demand, PV, a flexible load that may be served late, a battery, an electrolyser, a
hydrogen store with an offtake, a fuel cell and a generator. Powers in MW, energies in MWh, periods
of one hour. A withdrawal from the grid is positive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from flexlib.errors import DataError, Fault
from flexlib.tables import check_table, fault_at, number_column, read_text_table, text_column

PRICES = ("buy_eur_per_mwh", "sell_eur_per_mwh")
VARIABLES = ("m_in", "m_out", "u", "p_ch", "p_dis", "e", "a", "c_pv", "g", "p_el", "h_fc", "h")


def _mw(description: str) -> pa.Column:
    return number_column(description, "MW", 0, 1e6)


def _share(description: str, *, above: bool = False) -> pa.Column:
    return number_column(description, "", 0, 1, above=above)


HUBS = pa.DataFrameSchema(
    {
        "hub": text_column("identifier of the hub", unique=True),
        "feeder": text_column("feeder that it stands on, among its neighbours of the table"),
        "demand_peak_mw": _mw("fixed demand where its profile is 1"),
        "demand_profile": text_column("column of the profiles that the demand follows"),
        "pv_mwp": _mw("PV where its profile is 1"),
        "pv_profile": text_column("column of the profiles that the PV follows"),
        "flexible_load_mw": _mw("flexible load that arrives in every hour"),
        "flexible_load_max_factor": number_column(
            "most that is served in an hour, in multiples of what arrives", "", 0, 100
        ),
        "backlog_max_mwh": number_column("most that waits", "MWh", 0, 1e6),
        "battery_mw": _mw("largest power of charging and of discharging"),
        "battery_mwh": number_column("capacity of the battery", "MWh", 0, 1e6),
        "battery_min_soc": _share("lowest content, of the capacity"),
        "battery_initial_soc": _share("content at the beginning, and least at the end"),
        "battery_eff_charge": _share("efficiency of charging", above=True),
        "battery_eff_discharge": _share("efficiency of discharging", above=True),
        "electrolyser_mw": _mw("largest power of the electrolyser"),
        "electrolyser_eff": _share("hydrogen for power", above=True),
        "fuel_cell_h2_mw": _mw("largest hydrogen intake of the fuel cell"),
        "fuel_cell_eff": _share("power for hydrogen", above=True),
        "h2_store_mwh": number_column("capacity of the hydrogen store", "MWh", 0, 1e6),
        "h2_initial_fill": _share("content at the beginning, and least at the end"),
        "h2_offtake_mw": _mw("hydrogen that leaves the store in every hour"),
        "generator_mw": _mw("largest power of the generator"),
        "generator_cost_eur_per_mwh": number_column("its cost", "EUR/MWh", 0, 1e5),
        "base_tariff_eur_per_mwh": number_column("tariff on imports", "EUR/MWh", 0, 1e4),
    }
)
COSTS = pa.DataFrameSchema(
    {
        "variable": text_column("variable of a hub", unique=True),
        "linear_eur_per_mwh": number_column(
            "cost of one unit, beside prices and the generator's own cost", "EUR/MWh", -1e4, 1e4
        ),
        "quadratic_eur_per_mwh_per_mw": number_column(
            "growth of the marginal cost, for the quadratic follower", "EUR/MWh per MW", 0, 1e4
        ),
    }
)


@dataclass(frozen=True)
class Hubs:
    """Energy hubs over some hours.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns of `HUBS`, one row a hub.
    profiles : pandas.DataFrame
        One row an hour: hour (consecutive numbers), buy_eur_per_mwh and sell_eur_per_mwh (prices
        of imports without tariff, and of exports), and a column for each profile that a hub or a
        line names, per unit of its peak.
    costs : pandas.DataFrame
        Columns of `COSTS`, one row for each of `VARIABLES`.

    Attributes
    ----------
    demand_mw, pv_mw : numpy.ndarray, shape (hubs, hours)
    buy_eur_per_mwh : numpy.ndarray, shape (hubs, hours)
        Price of imports, tariff included.
    sell_eur_per_mwh : numpy.ndarray, shape (hours,)

    Raises
    ------
    DataError
        Listing every fault, among them exports dearer than imports, hours that are missing, and
        stores that cannot meet their offtake. Hubs that pass have a schedule: the battery rests,
        flexible load is served as it comes, the electrolyser makes what leaves the store and the
        grid gives the rest; and every variable has finite bounds.
    """

    table: pd.DataFrame
    profiles: pd.DataFrame
    costs: pd.DataFrame

    def __post_init__(self) -> None:
        table, faults = check_table(self.table, HUBS, "hubs")
        costs, found = check_table(self.costs, COSTS, "costs")
        profiles, more = check_table(self.profiles, _profile_schema(self.profiles), "profiles")
        faults += found + more
        if not faults:
            faults = _cost_faults(costs) + _unknown_profiles(table, profiles)
        if not faults:
            object.__setattr__(self, "table", table)
            object.__setattr__(self, "profiles", profiles)
            costs = costs.set_index("variable").loc[list(VARIABLES)].reset_index()
            object.__setattr__(self, "costs", costs)
            faults = _hour_faults(profiles) + _price_faults(self) + _store_faults(self)
        if faults:
            raise DataError(faults)

    def __len__(self) -> int:
        """Return the number of hubs."""
        return len(self.table)

    @property
    def hours(self) -> int:
        """Number of hours."""
        return len(self.profiles)

    @cached_property
    def demand_mw(self) -> np.ndarray:
        """Fixed demand, see the class."""
        return self._follow("demand_peak_mw", "demand_profile")

    @cached_property
    def pv_mw(self) -> np.ndarray:
        """Available PV, see the class."""
        return self._follow("pv_mwp", "pv_profile")

    @cached_property
    def buy_eur_per_mwh(self) -> np.ndarray:
        """Price of imports, see the class."""
        tariff = self.table["base_tariff_eur_per_mwh"].to_numpy()[:, None]
        return np.asarray(tariff + self.profiles["buy_eur_per_mwh"].to_numpy())

    @property
    def sell_eur_per_mwh(self) -> np.ndarray:
        """Price of exports, see the class."""
        return self.profiles["sell_eur_per_mwh"].to_numpy()

    @cached_property
    def connection_mw(self) -> np.ndarray:
        """Import that no hub can exceed, and export: all that can run at once, (hubs, 2, hours)."""
        t = {
            name: self.table[name].to_numpy()[:, None]
            for name in self.table
            if str(name).endswith("mw")
        }
        served = t["flexible_load_mw"] * self.table["flexible_load_max_factor"].to_numpy()[:, None]
        taken = self.demand_mw + served + t["battery_mw"] + t["electrolyser_mw"]
        cell = t["fuel_cell_h2_mw"] * self.table["fuel_cell_eff"].to_numpy()[:, None]
        given = self.pv_mw + t["battery_mw"] + t["generator_mw"] + cell
        return np.stack([taken, given], axis=1)

    @property
    def neighbours(self) -> np.ndarray:
        """Pairs of hubs that follow each other in the table on one feeder, shape (pairs, 2)."""
        feeder = self.table["feeder"].to_numpy()
        first = np.flatnonzero(feeder[1:] == feeder[:-1])
        return np.column_stack([first, first + 1])

    def only(self, hubs: slice = slice(None), hours: slice = slice(None)) -> Hubs:
        """Return some of the hubs in some of the hours."""
        return replace(self, table=_part(self.table, hubs), profiles=_part(self.profiles, hours))

    def _follow(self, peak: str, profile: str) -> np.ndarray:
        shape = self.profiles[self.table[profile].tolist()].to_numpy().T
        return np.asarray(self.table[peak].to_numpy()[:, None] * shape)


def profile_names(profiles: pd.DataFrame) -> list[str]:
    """Columns of the profiles that a hub or a line can follow: all but hour and prices."""
    return [name for name in profiles.columns if name not in ("hour", *PRICES)]


def read_hubs(folder: str | Path) -> Hubs:
    """Read hubs from a folder with ``hubs.csv``, ``profiles.csv`` and ``costs.csv``.

    Raises
    ------
    DataError
        Listing every fault with file, row, column, value and what was expected.
    """
    frames, faults = {}, []
    for name in ("hubs", "profiles", "costs"):
        frames[name], found = read_text_table(Path(folder) / f"{name}.csv")
        faults += found
    if faults:
        raise DataError(faults)
    return Hubs(frames["hubs"], frames["profiles"], frames["costs"])


def _part(frame: pd.DataFrame, rows: slice) -> pd.DataFrame:
    """Some rows of a frame, that still know their lines in its file."""
    part = frame.iloc[rows].reset_index(drop=True)
    if "lines" in frame.attrs:
        part.attrs = frame.attrs | {"lines": frame.attrs["lines"][rows]}
    return part


def _profile_schema(profiles: pd.DataFrame) -> pa.DataFrameSchema:
    columns = {
        "hour": number_column("number of the hour", "", 0, 1e6),
        "buy_eur_per_mwh": number_column("price of imports", "EUR/MWh", -1e4, 1e4),
        "sell_eur_per_mwh": number_column("price of exports", "EUR/MWh", -1e4, 1e4),
    }
    share = number_column("share of the peak", "p.u.", 0, 10)
    return pa.DataFrameSchema(columns | dict.fromkeys(profile_names(profiles), share))


def _cost_faults(costs: pd.DataFrame) -> list[Fault]:
    found: list[tuple[int | None, str]] = [
        (None, f"no {name!r}") for name in VARIABLES if name not in set(costs["variable"])
    ]
    found += [(k, repr(name)) for k, name in enumerate(costs["variable"]) if name not in VARIABLES]
    expected = f"one row for each of {', '.join(VARIABLES)}"
    return [fault_at(costs, "costs", row, "variable", value, expected) for row, value in found]


def _unknown_profiles(table: pd.DataFrame, profiles: pd.DataFrame) -> list[Fault]:
    known = profile_names(profiles)
    return [
        fault_at(table, "hubs", row, column, repr(name), f"one of {', '.join(known)}")
        for column in ("demand_profile", "pv_profile")
        for row, name in enumerate(table[column])
        if name not in known
    ]


def _hour_faults(profiles: pd.DataFrame) -> list[Fault]:
    """Hours that are no whole numbers or do not follow the one before."""
    hour = profiles["hour"].to_numpy()
    return [
        fault_at(profiles, "profiles", int(row), "hour", f"{hour[row]:g}", "a whole number")
        for row in np.flatnonzero(hour % 1)
    ] + [
        fault_at(
            profiles, "profiles", int(row) + 1, "hour", f"{hour[row + 1]:g}",
            f"{hour[row] + 1:g}, one more than before",
        )
        for row in np.flatnonzero(np.diff(hour) != 1)
    ]  # fmt: skip


def _price_faults(hubs: Hubs) -> list[Fault]:
    """Hours in which a hub could import and export at once for a profit."""
    own = hubs.costs.set_index("variable")["linear_eur_per_mwh"]
    pays = hubs.buy_eur_per_mwh + own["m_in"] + own["m_out"]
    return [
        fault_at(
            hubs.profiles,
            "profiles",
            int(hour),
            "sell_eur_per_mwh",
            f"{hubs.sell_eur_per_mwh[hour]:g}",
            f"at most {pays[hub, hour]:g}, what hub {hubs.table['hub'][hub]} pays for imports",
        )
        for hour, hub in enumerate(pays.argmin(axis=0))
        if pays[hub, hour] < hubs.sell_eur_per_mwh[hour]
    ]


def _store_faults(hubs: Hubs) -> list[Fault]:
    """Stores whose offtake cannot be met, batteries that start outside their bounds."""
    table, faults = hubs.table, []
    most = table["electrolyser_mw"] * table["electrolyser_eff"] - table["h2_offtake_mw"]
    for row in table.index[most < -1e-12]:
        least = table["h2_offtake_mw"][row] / table["electrolyser_eff"][row]
        expected = f"at least {least:g}, so that the store ends as full as it starts"
        found = f"{table['electrolyser_mw'][row]:g}"
        faults.append(fault_at(table, "hubs", row, "electrolyser_mw", found, expected))
    for row in table.index[
        (table["battery_initial_soc"] < table["battery_min_soc"]) & (table["battery_mwh"] > 0)
    ]:
        expected = f"at least battery_min_soc ({table['battery_min_soc'][row]:g})"
        found = f"{table['battery_initial_soc'][row]:g}"
        faults.append(fault_at(table, "hubs", row, "battery_initial_soc", found, expected))
    for row in table.index[
        (table["flexible_load_max_factor"] < 1) & (table["flexible_load_mw"] > 0)
    ]:
        found = f"{table['flexible_load_max_factor'][row]:g}"
        expected = "at least 1, so that what arrives can be served by the end"
        faults.append(fault_at(table, "hubs", row, "flexible_load_max_factor", found, expected))
    return faults
