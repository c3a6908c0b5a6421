"""Networks from elsewhere: CSV folders, pandapower nets and SimBench codes."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flexlib.errors import DataError, Fault, MissingExtra
from flexlib.network import BRANCHES, BUSES, LOADS, Network
from flexlib.tables import check_table, read_text_table

if TYPE_CHECKING:
    import pandapower

_TABLES = {"buses": BUSES, "branches": BRANCHES, "loads": LOADS}
_SIMBENCH_CODE = re.compile(r"\d-[\w.]+-[\w.]+-[\w.]*-\d-(no_)?sw")
_POWERS = {"load": 1, "sgen": -1, "storage": 1, "gen": -1}  # consumption: sign of p_mw
_REFUSED = {
    "asymmetric_load": "balanced loads",
    "asymmetric_sgen": "balanced generators",
    "svc": "no static var compensator",
    "tcsc": "no series compensator",
    "ssc": "no static synchronous compensator",
    "vsc": "no voltage source converter",
    "vsc_stacked": "no voltage source converter",
    "vsc_bipolar": "no voltage source converter",
    "dcline": "no direct-current line",
}
_V_LIMITS_PU = {"min_vm_pu": 0.9, "max_vm_pu": 1.1}  # where the source gives none
_V_NONE_PU = {"min_vm_pu": 0.0, "max_vm_pu": 2.0}  # what pandapower writes for none
_WINDINGS = ("hv", "mv", "lv")


def read_network(source: str | Path | pandapower.pandapowerNet) -> Network:
    """Read a network from a CSV folder, a pandapower net or SimBench.

    Parameters
    ----------
    source : str, pathlib.Path or pandapower.pandapowerNet
        A folder with ``buses.csv``, ``branches.csv`` and ``loads.csv``
        (`flexlib.tables.data_path` names the ones that flexlib carries); a pandapower net, which
        is not changed; or a SimBench code such as ``"1-LV-rural1--0-no_sw"``.

    Returns
    -------
    Network
        See the notes for what becomes of a pandapower net.

    Raises
    ------
    DataError
        Listing every fault with table, row, column, value and what was expected. Of a pandapower
        net: loads that are not constant power, asymmetric loads and generators, converters,
        direct-current lines, impedances and transformers whose ends differ, and all but one
        external grid (or generator with ``slack``).
    MissingExtra
        If pandapower or SimBench is needed and not installed.

    Notes
    -----
    The power flow of the network is that of ``pandapower.runpp(net,
    calculate_voltage_angles=True)``, angles counted from the external grid's.

    *Names* are those of a table of the net where they are all there and differ, else its indices;
    with the table's name in front where two tables share one. Buses joined by closed switches are
    one bus, named after its busbar. Open ends of lines and stars of three-winding transformers
    are buses ``auxiliary k``. A three-winding transformer has three branches, ``hv``, ``mv`` and
    ``lv`` after its name.

    *Left out* is what is not in service or has no path to the external grid. Generators at the
    external grid's bus are part of it.

    *Loads* are loads, static generators, storages and generators, after scaling. Wards and motors
    are one load a bus, ``others at`` it. Generators (``gen``) and extended wards make PV buses;
    reactive limits are not read.

    *Limits* are rated currents times ``df``, ``parallel`` and ``max_loading_percent`` (100 where
    there is none), of three-winding transformers each winding's; a rated current of zero or above
    100 kA means none. Impedances and switches have none. Voltage limits are 0.9 and 1.1 p.u. where
    there are none (empty, or 0 and 2 p.u., which pandapower writes).
    """
    if not isinstance(source, str | Path):
        return _from_pandapower(source)
    if _SIMBENCH_CODE.fullmatch(str(source)):
        return _from_simbench(str(source))
    folder = Path(source)
    frames, faults = {}, []
    for table in _TABLES:
        frames[table], found = read_text_table(folder / f"{table}.csv")
        faults += found
    if faults:
        for table, frame in frames.items():
            faults += check_table(frame, _TABLES[table], table)[1] if len(frame.columns) else []
        raise DataError(faults)
    return Network(**frames, name=folder.name)


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(module.partition(".")[0], "readers") from error


def _from_simbench(code: str) -> Network:
    simbench = _extra("simbench")
    try:
        net = simbench.get_simbench_net(code)
    except (KeyError, ValueError, FileNotFoundError) as error:
        expected = "one of simbench.collect_all_simbench_codes()"
        raise DataError([Fault("SimBench", "", "", repr(code), expected)]) from error
    return _from_pandapower(net, code)


def _from_pandapower(net: pandapower.pandapowerNet, name: str = "") -> Network:
    """Network of a pandapower net, by way of pandapower's own bus-branch tables."""
    if not (isinstance(net, dict) and {"bus", "ext_grid", "gen"} <= set(net)):
        expected = "a folder, a SimBench code or a pandapower net"
        raise DataError([Fault("read_network", "", "", f"a {type(net).__name__}", expected)])
    if faults := _not_represented(net):
        raise DataError(faults)
    case = _case(net)
    name = name or str(net.get("name") or "pandapower net")
    frames = {"buses": _buses(case), "branches": _branches(case), "loads": _loads(case)}
    try:
        return Network(**frames, name=name)
    except DataError as error:
        raise DataError(_by_name(fault, frames, name) for fault in error.faults) from error


def _by_name(fault: Fault, frames: dict[str, pd.DataFrame], name: str) -> Fault:
    """Fault of a frame made here, its row named by the element and not by a number."""
    table = fault.file.removeprefix("frame ")
    row = str(frames[table].iloc[int(fault.row), 0]) if fault.row else ""
    return Fault(f"{name}, {table}", row, fault.column, fault.value, fault.expected)


def _not_represented(net: pandapower.pandapowerNet) -> list[Fault]:
    """Elements that a Network has no place for."""
    faults = []
    for element, expected in _REFUSED.items():
        table = net.get(element, pd.DataFrame())
        for row in table.index[table["in_service"].astype(bool)] if len(table) else ():
            faults.append(Fault(f"net.{element}", str(row), "in_service", "True", expected))
    load = net.load[net.load["in_service"].astype(bool)]
    for column in [c for c in load if c.startswith("const_")]:
        for row in load.index[load[column].fillna(0) != 0]:
            value = f"{load.at[row, column]:g}"
            faults.append(Fault("net.load", str(row), column, value, "0: constant power"))
    impedance = net.impedance[net.impedance["in_service"].astype(bool)]
    for side in ("r", "x", "g", "b"):
        one, other = [f"{side}{end}_pu" for end in (("ft", "tf") if side in "rx" else ("f", "t"))]
        if {one, other} <= set(impedance):
            for row in impedance.index[impedance[one].fillna(0) != impedance[other].fillna(0)]:
                value = f"{impedance.at[row, other]:g}"
                expected = f"the value of {one} ({impedance.at[row, one]:g})"
                faults.append(Fault("net.impedance", str(row), other, value, expected))
    trafo = net.trafo[net.trafo["in_service"].astype(bool)]
    for column in set(trafo) & {"leakage_resistance_ratio_hv", "leakage_reactance_ratio_hv"}:
        for row in trafo.index[trafo[column] != 0.5]:
            value = f"{trafo.at[row, column]:g}"
            faults.append(Fault("net.trafo", str(row), column, value, "0.5: equal halves"))
    slacks = net.ext_grid["in_service"].sum() + (net.gen["slack"] & net.gen["in_service"]).sum()
    if slacks == 0:
        faults.append(Fault("net.ext_grid", "", "", "none in service", "exactly one"))
    return faults


@dataclass(frozen=True)
class _Case:
    """A pandapower net and its bus-branch tables (those of PYPOWER), in service only."""

    net: pandapower.pandapowerNet
    tables: dict[str, Any]

    @property
    def bus(self) -> np.ndarray:
        return np.asarray(self.tables["bus"])

    @property
    def branch(self) -> np.ndarray:
        return np.asarray(self.tables["branch"].real)

    def at(self, buses: pd.Series) -> np.ndarray:
        """Positions in the case of buses of the net; -1 where they are not part of it."""
        lookup = np.append(np.asarray(self.net._pd2ppc_lookups["bus"]), -1)
        at = lookup[buses.to_numpy(dtype=int)]
        live = self.net.bus["in_service"].reindex(buses).to_numpy(dtype=bool)
        return np.asarray(np.where(live & (at < len(self.bus)), at, -1))

    @cached_property
    def representative(self) -> pd.Series:
        """Buses of the net that name those of the case: index the case's, value the net's."""
        buses = self.net.bus.assign(at=self.at(self.net.bus.index.to_series()))
        buses = buses[buses["at"] >= 0].assign(joint=self.net.bus["type"] != "b")
        buses = buses.sort_values("joint", kind="stable").drop_duplicates("at")
        return buses.reset_index(names="own").set_index("at")["own"].sort_index()

    @cached_property
    def names(self) -> np.ndarray:
        """Names of the buses of the case."""
        names = np.array([f"auxiliary {k}" for k in range(len(self.bus))], dtype=object)
        bus = self.representative
        names[bus.index] = _unique_names(self.net.bus)[bus].to_numpy()
        return names

    @cached_property
    def branch_of(self) -> pd.DataFrame:
        """Elements of the branches of the case: element, position in its table, winding."""
        rows = []
        for element, (first, last) in self.net._pd2ppc_lookups["branch"].items():
            count = len(self.net[element]) if element != "switch" else last - first
            for k in range(last - first):
                winding = _WINDINGS[k // count] if element == "trafo3w" else ""
                rows.append((element, k % count, winding))
        frame = pd.DataFrame(rows, columns=["element", "row", "winding"])
        return frame[self.tables["internal"]["branch_is"]].reset_index(drop=True)


def _case(net: pandapower.pandapowerNet) -> _Case:
    """Convert a net by pandapower; the net itself stays as it is."""
    own = copy.copy(net)
    for key, value in net.items():
        own[key] = value.copy() if isinstance(value, pd.DataFrame) else copy.copy(value)
    # The converter would cut the reactive power of static generators at their limits.
    own.sgen = own.sgen.drop(columns=["min_q_mvar", "max_q_mvar"], errors="ignore")
    own.pop("q_capability_characteristic", None)
    to_ppc = _extra("pandapower.converter.pypower.to_ppc").to_ppc
    try:
        tables = to_ppc(own, calculate_voltage_angles=True, init="flat", mode="pf")
    except UserWarning as error:
        expected = "a net that pandapower can convert"
        raise DataError([Fault("net", "", "", f"'{error}'", expected)]) from error
    case = _Case(own, tables)
    slacks = case.names[case.bus[:, 1] == 3]
    if len(slacks) != 1:
        found = f"{len(slacks)} in service ({', '.join(slacks)})"
        raise DataError([Fault("net.ext_grid", "", "bus", found, "exactly one")])
    return case


def _unique_names(table: pd.DataFrame) -> pd.Series:
    """Return names where all are there and differ, else indices."""
    names = table["name"] if "name" in table else pd.Series(index=table.index, dtype=object)
    text = names.astype(str)
    if names.notna().all() and text.is_unique and (text.str.strip() != "").all():
        return text
    return pd.Series(table.index.astype(str), table.index)


def _element_names(net: pandapower.pandapowerNet, elements: list[str]) -> dict[str, pd.Series]:
    """Names of the elements of several tables, each used once."""
    plain = {element: _unique_names(net[element]) for element in elements}
    if not plain or not pd.concat(plain.values()).duplicated().any():
        return plain
    return {element: f"{element} " + names for element, names in plain.items()}


def _buses(case: _Case) -> pd.DataFrame:
    table, bus, net = case.bus, case.representative, case.net
    gen = case.tables["gen"]
    held = pd.DataFrame({"bus": gen[:, 0].real.astype(int), "v_pu": gen[:, 5].real})
    v_held = held.drop_duplicates("bus").set_index("bus")["v_pu"].reindex(range(len(table)))
    frame = pd.DataFrame({"bus": case.names, "v_nom_kv": table[:, 9]})
    frame["v_slack_pu"] = np.where(table[:, 1] == 3, v_held, np.nan)
    frame["v_gen_pu"] = np.where(table[:, 1] == 2, v_held, np.nan)
    for ours, theirs in (("v_min_pu", "min_vm_pu"), ("v_max_pu", "max_vm_pu")):
        frame[ours] = _V_LIMITS_PU[theirs]
        if theirs in net.bus:
            given = net.bus[theirs].reindex(bus).replace(_V_NONE_PU[theirs], np.nan)
            given = given.fillna(_V_LIMITS_PU[theirs])
            frame.loc[bus.index, ours] = given.to_numpy(dtype=float)
    us_per_mw = 1e6 / table[:, 9] ** 2
    frame["g_us"], frame["b_us"] = table[:, 4] * us_per_mw, table[:, 5] * us_per_mw
    if "geo" in net.bus and net.bus["geo"].notna().any():
        points = [_point(geo) for geo in net.bus["geo"].reindex(bus)]
        frame.loc[bus.index, ["x", "y"]] = np.array(points)
    return frame


def _point(geo: Any) -> tuple[float, float]:
    if not isinstance(geo, str) or not geo:
        return np.nan, np.nan
    x, y = json.loads(geo)["coordinates"][:2]
    return float(x), float(y)


def _branches(case: _Case) -> pd.DataFrame:
    branch = case.branch
    ends = branch[:, :2].astype(int)
    z_base_ohm = case.bus[ends[:, 1], 9] ** 2 / case.tables["baseMVA"]
    g_pu = np.real(case.tables.get("branch_g", np.zeros(len(branch))))
    frame = pd.DataFrame({"branch": _branch_names(case)})
    frame["from_bus"], frame["to_bus"] = case.names[ends[:, 0]], case.names[ends[:, 1]]
    frame["r_ohm"], frame["x_ohm"] = branch[:, 2] * z_base_ohm, branch[:, 3] * z_base_ohm
    frame["b_us"], frame["g_us"] = branch[:, 4] / z_base_ohm * 1e6, g_pu / z_base_ohm * 1e6
    frame["ratio_pu"] = np.where(branch[:, 8] == 0, 1.0, branch[:, 8])
    frame["shift_deg"] = (branch[:, 9] + 180) % 360 - 180
    limits_a = np.array([_limits_a(case, *of) for of in case.branch_of.itertuples(index=False)])
    limits_a = limits_a.reshape(-1, 2)
    limits_a[(limits_a <= 0) | (limits_a > 1e5)] = np.nan  # such as 99999 kA, which means none
    return frame.assign(i_max_from_a=limits_a[:, 0], i_max_to_a=limits_a[:, 1])


def _branch_names(case: _Case) -> list[str]:
    of = case.branch_of
    names = _element_names(case.net, [e for e in of["element"].unique() if e != "switch"])
    return [
        f"{names[element].iloc[row]} {winding}".strip() if element in names else f"switch {row}"
        for element, row, winding in of.itertuples(index=False)
    ]


def _limits_a(case: _Case, element: str, row: int, winding: str) -> tuple[float, float]:
    """Rated currents times the admitted loading, at the from and the to end of a branch."""
    if element not in ("line", "trafo", "trafo3w"):
        return np.nan, np.nan
    of = case.net[element].iloc[row]
    percent = of.get("max_loading_percent", 100.0)
    share = (100.0 if pd.isna(percent) else percent) / 100
    share *= of.get("parallel", 1) * of.get("df", 1.0)
    if element == "line":
        return (of["max_i_ka"] * 1e3 * share,) * 2

    def rated_a(side: str, s_mva: float) -> float:
        return float(s_mva * 1e3 / (np.sqrt(3) * of[f"vn_{side}_kv"]) * share)

    if element == "trafo":
        return rated_a("hv", of["sn_mva"]), rated_a("lv", of["sn_mva"])
    limit_a = rated_a(winding, of[f"sn_{winding}_mva"])
    return (limit_a, np.nan) if winding == "hv" else (np.nan, limit_a)  # the star has none


def _loads(case: _Case) -> pd.DataFrame:
    net, rest = case.net, (case.bus[:, 2] + 1j * case.bus[:, 3]) * 1e3
    tables = [element for element in _POWERS if len(net[element])]
    parts = []
    for element, names in _element_names(net, tables).items():
        table, at = net[element], case.at(net[element]["bus"])
        part = pd.DataFrame({"load": names, "at": at})
        scale = _POWERS[element] * table["scaling"] * 1e3
        part["p_kw"], part["q_kvar"] = table["p_mw"] * scale, 0.0
        live = table["in_service"].to_numpy(dtype=bool) & (at >= 0)
        if element == "gen":  # at the slack it is part of the external grid
            live &= case.bus[at, 1] != 3
        else:
            part["q_kvar"] = table["q_mvar"] * scale
        part = part[live]
        if element != "gen":
            s_kva = (part["p_kw"] + 1j * part["q_kvar"]).to_numpy()
            np.add.at(rest, part["at"].to_numpy(), -s_kva)
        parts.append(part)
    others = np.flatnonzero(np.abs(rest) > 1e-6)  # wards and motors
    parts.append(
        pd.DataFrame(
            {"load": [f"others at {bus}" for bus in case.names[others]], "at": others}
            | {"p_kw": rest[others].real, "q_kvar": rest[others].imag}
        )
    )
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(bus=case.names[frame["at"].to_numpy(dtype=int)])[[*LOADS.columns]]
