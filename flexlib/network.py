"""Networks: buses, branches and loads of a balanced distribution grid, checked at the door.

flexlib takes balanced networks only (their single-phase equivalent). Powers are consumption:
positive for a load, negative for a generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pandera.pandas as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from flexlib.errors import DataError, Fault
from flexlib.tables import check_table, fault_at, number_column, text_column

BUSES = pa.DataFrameSchema(
    {
        "bus": text_column("identifier of the bus", unique=True),
        "v_nom_kv": number_column("nominal line-to-line voltage", "kV", 0.1, 800),
        "v_slack_pu": number_column(
            "voltage held at the slack bus; empty at every other bus",
            "p.u.",
            0.8,
            1.2,
            optional=True,
        ),
        "v_gen_pu": number_column(
            "voltage held by generators at a PV bus; empty at every other bus",
            "p.u.",
            0.8,
            1.2,
            optional=True,
        ),
        "v_min_pu": number_column("lower voltage limit", "p.u.", 0.5, 1.1),
        "v_max_pu": number_column("upper voltage limit", "p.u.", 0.9, 1.5),
        "g_us": number_column("shunt conductance at the bus", "µS", -1e9, 1e9, optional=True),
        "b_us": number_column(
            "shunt susceptance at the bus, positive for a capacitor",
            "µS",
            -1e9,
            1e9,
            optional=True,
        ),
        "x": number_column("coordinate for drawing", "", -1e9, 1e9, optional=True),
        "y": number_column("coordinate for drawing", "", -1e9, 1e9, optional=True),
    }
)
BRANCHES = pa.DataFrameSchema(
    {
        "branch": text_column("identifier of the line or transformer", unique=True),
        "from_bus": text_column("bus at the from end (the tap side of a transformer)"),
        "to_bus": text_column("bus at the to end"),
        "r_ohm": number_column("series resistance, referred to the to bus", "ohm", 0, 1e4),
        "x_ohm": number_column("series reactance, referred to the to bus", "ohm", -1e4, 1e4),
        "b_us": number_column(
            "total charging susceptance, half at each end, referred to the to bus; negative for "
            "a transformer's magnetisation",
            "µS",
            -1e6,
            1e6,
            optional=True,
        ),
        "g_us": number_column(
            "total shunt conductance, half at each end", "µS", 0, 1e6, optional=True
        ),
        "ratio_pu": number_column(
            "off-nominal turns ratio at the from end; empty means 1", "p.u.", 0.5, 2, optional=True
        ),
        "shift_deg": number_column(
            "phase shift of the from end against the to end", "deg", -180, 180, optional=True
        ),
        "i_max_from_a": number_column(
            "limit of the current at the from end; empty means none",
            "A",
            0,
            1e5,
            optional=True,
            above=True,
        ),
        "i_max_to_a": number_column(
            "limit of the current at the to end; empty means none",
            "A",
            0,
            1e5,
            optional=True,
            above=True,
        ),
    }
)
LOADS = pa.DataFrameSchema(
    {
        "load": text_column("identifier of the load, generator or POD", unique=True),
        "bus": text_column("bus to which it is connected"),
        "p_kw": number_column("active power consumed; negative generates", "kW", -1e8, 1e8),
        "q_kvar": number_column("reactive power consumed", "kvar", -1e8, 1e8),
    }
)
_SCHEMAS = {"buses": BUSES, "branches": BRANCHES, "loads": LOADS}
_DEFAULTS = {"g_us": 0.0, "b_us": 0.0, "ratio_pu": 1.0, "shift_deg": 0.0}


@dataclass(frozen=True)
class Network:
    """A balanced network with its loads.

    Parameters
    ----------
    buses, branches, loads : pandas.DataFrame
        Tables with the columns of `BUSES`, `BRANCHES` and `LOADS`. Exactly one bus has a
        ``v_slack_pu``; every bus is connected to it.
    name : str
        Name used in messages and titles.

    Attributes
    ----------
    slack : int
        Position of the slack bus in `buses`.
    pv : numpy.ndarray of int
        Positions of the PV buses: generators there give whatever reactive power holds the
        voltage, without limits.
    from_bus, to_bus, load_bus : numpy.ndarray of int
        Positions of the buses of branch ends and loads.
    s_load_kva : numpy.ndarray of complex, shape (loads,)
        Complex power consumed.
    kva_per_kw : numpy.ndarray of complex, shape (loads,)
        Complex power that one kW at each load's power factor brings, ``1 + j q/p``.
    is_radial : bool
        Whether the network is a tree.

    Raises
    ------
    DataError
        Listing every fault of the three tables.
    """

    buses: pd.DataFrame
    branches: pd.DataFrame
    loads: pd.DataFrame
    name: str = "network"
    slack: int = field(init=False)
    from_bus: np.ndarray = field(init=False)
    to_bus: np.ndarray = field(init=False)
    load_bus: np.ndarray = field(init=False)
    pv: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        frames, faults = {}, []
        for table, schema in _SCHEMAS.items():
            frames[table], found = check_table(getattr(self, table), schema, table)
            faults += found
        faults += _reference_faults(frames) + _impedance_faults(frames)
        if not any(fault.column == "v_slack_pu" for fault in faults):
            faults += _slack_faults(frames) or ([] if faults else _island_faults(frames))
        if faults:
            raise DataError(faults)
        position = {bus: k for k, bus in enumerate(frames["buses"]["bus"])}
        for table, frame in frames.items():
            object.__setattr__(self, table, frame.fillna(_DEFAULTS))
        slack = int(np.flatnonzero(frames["buses"]["v_slack_pu"].notna())[0])
        object.__setattr__(self, "slack", slack)
        object.__setattr__(self, "pv", np.flatnonzero(frames["buses"]["v_gen_pu"].notna()))
        for name, buses in (
            ("from_bus", self.branches["from_bus"]),
            ("to_bus", self.branches["to_bus"]),
            ("load_bus", self.loads["bus"]),
        ):
            object.__setattr__(self, name, buses.map(position).to_numpy(dtype=int))

    @property
    def v_gen_pu(self) -> np.ndarray:
        """Voltages held at the PV buses, shape (PV buses,)."""
        return self.buses["v_gen_pu"].to_numpy()[self.pv]

    @property
    def s_load_kva(self) -> np.ndarray:
        """Complex power consumed by each load, kVA."""
        p_kw, q_kvar = (self.loads[name].to_numpy(dtype=float) for name in ("p_kw", "q_kvar"))
        return np.asarray(p_kw + 1j * q_kvar)

    @property
    def kva_per_kw(self) -> np.ndarray:
        """Complex power that one kW at each load's power factor brings, ``1 + j q/p``."""
        s_kva = self.s_load_kva
        return np.asarray(1 + 1j * s_kva.imag / np.where(s_kva.real == 0, 1.0, s_kva.real))

    @property
    def is_radial(self) -> bool:
        """Whether the network is a tree (it is connected by construction)."""
        return len(self.branches) == len(self.buses) - 1

    def load_positions(self, loads: pd.Series) -> np.ndarray:
        """Positions in `loads` of the loads named."""
        position = {load: k for k, load in enumerate(self.loads["load"])}
        return loads.map(position).to_numpy(dtype=int)


def _reference_faults(frames: dict[str, pd.DataFrame]) -> list[Fault]:
    known = set(frames["buses"]["bus"])
    return [
        fault_at(frames[table], table, row, column, repr(bus), "a bus of the table of buses")
        for table, column in (("branches", "from_bus"), ("branches", "to_bus"), ("loads", "bus"))
        for row, bus in enumerate(frames[table][column])
        if isinstance(bus, str) and bus not in known
    ]


def _impedance_faults(frames: dict[str, pd.DataFrame]) -> list[Fault]:
    branches, buses = frames["branches"], frames["buses"]
    faults = []
    for row in branches.index[(branches["r_ohm"] == 0) & (branches["x_ohm"] == 0)]:
        expected = "a series impedance above zero"
        faults.append(fault_at(branches, "branches", row, "r_ohm, x_ohm", "0 and 0", expected))
    for row in branches.index[branches["from_bus"] == branches["to_bus"]]:
        bus = repr(branches.loc[row, "to_bus"])
        faults.append(fault_at(branches, "branches", row, "to_bus", bus, "another bus"))
    for row in buses.index[buses["v_min_pu"] > buses["v_max_pu"]]:
        found = f"{buses.loc[row, 'v_min_pu']:g}"
        expected = f"at most v_max_pu ({buses.loc[row, 'v_max_pu']:g})"
        faults.append(fault_at(buses, "buses", row, "v_min_pu", found, expected))
    return faults


def _slack_faults(frames: dict[str, pd.DataFrame]) -> list[Fault]:
    buses = frames["buses"]
    slacks = buses.loc[buses["v_slack_pu"].notna(), "bus"].astype(str).tolist()
    both = buses.index[buses["v_slack_pu"].notna() & buses["v_gen_pu"].notna()]
    if len(slacks) == 1 and len(both):
        expected = "an empty cell, since the slack holds the voltage"
        value = f"{buses['v_gen_pu'][both[0]]:g}"
        return [fault_at(buses, "buses", int(both[0]), "v_gen_pu", value, expected)]
    if len(slacks) == 1:
        return []
    found = "no slack bus" if not slacks else f"{len(slacks)} slack buses ({', '.join(slacks)})"
    expected = "a value at exactly one bus"
    return [fault_at(buses, "buses", None, "v_slack_pu", found, expected)]


def _island_faults(frames: dict[str, pd.DataFrame]) -> list[Fault]:
    buses, branches = frames["buses"], frames["branches"]
    position = {bus: k for k, bus in enumerate(buses["bus"])}
    ends = [branches[end].map(position).to_numpy() for end in ("from_bus", "to_bus")]
    size = (len(buses), len(buses))
    graph = coo_array((np.ones(len(branches)), (ends[0], ends[1])), shape=size)
    _, part = connected_components(graph, directed=False)
    main = part[np.flatnonzero(buses["v_slack_pu"].notna())[0]]
    expected = "a path of branches to the slack bus"
    return [
        fault_at(buses, "buses", row, "bus", repr(bus), expected)
        for row, bus in enumerate(buses["bus"])
        if part[row] != main
    ]
