"""Networks from elsewhere: CSV folders, pandapower nets and SimBench codes."""

from __future__ import annotations

import json
import re
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
_POWERS = {"load": 1, "sgen": -1, "storage": 1}  # consumption: sign of the element's p_mw
_REFUSED = {
    "asymmetric_load": "balanced loads",
    "asymmetric_sgen": "balanced generators",
    "svc": "no static var compensator",
    "tcsc": "no series compensator",
    "ssc": "no static synchronous compensator",
    "vsc": "no voltage source converter",
    "dcline": "no direct-current line",
}
_V_LIMITS_PU = {"min_vm_pu": 0.9, "max_vm_pu": 1.1}  # where the source gives none


def read_network(source: str | Path | pandapower.pandapowerNet) -> Network:
    """Read a network from a CSV folder, a pandapower net or SimBench.

    Parameters
    ----------
    source : str, pathlib.Path or pandapower.pandapowerNet
        A folder with ``buses.csv``, ``branches.csv`` and ``loads.csv``
        (`flexlib.tables.data_path` names the ones that flexlib carries); a pandapower net; or a
        SimBench code such as ``"1-LV-rural1--0-no_sw"``.

    Returns
    -------
    Network
        Of a pandapower net: buses joined by closed switches are one bus, with the name of its
        busbar; what is out of service or has no path to the external grid is left out; limits
        are rated currents times ``max_loading_percent`` (100 where there is none), voltage
        limits 0.9 and 1.1 p.u. where there are none; its names where they are unique, else its
        indices. Generators (``gen``) make PV buses, their reactive limits are not read.

    Raises
    ------
    DataError
        Listing every fault with file, row, column, value and what was expected.
    MissingExtra
        If pandapower or SimBench is needed and not installed.
    """
    if not isinstance(source, str | Path):
        return _from_pandapower(source)
    if _SIMBENCH_CODE.fullmatch(str(source)):
        return _from_pandapower(_extra("simbench").get_simbench_net(str(source)), str(source))
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


def _extra(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtra(package, "readers") from error


def _from_pandapower(net: pandapower.pandapowerNet, name: str = "") -> Network:
    """Network of a pandapower net, by way of pandapower's own bus-branch tables."""
    if faults := _not_represented(net):
        raise DataError(faults)
    to_ppc = _extra("pandapower.converter.pypower.to_ppc").to_ppc
    case = to_ppc(net, calculate_voltage_angles=True, init="flat", mode="pf")
    names, used = _bus_names(net, case), case["bus"][:, 1] != 4
    in_use = case["branch"][:, 10].real.astype(bool)
    in_use &= used[case["branch"][:, :2].real.astype(int)].all(axis=1)
    return Network(
        _buses(net, case, names)[used],
        _branches(net, case, names)[in_use],
        _loads(net, case, names, used),
        name or str(net.name or "pandapower net"),
    )


def _not_represented(net: pandapower.pandapowerNet) -> list[Fault]:
    """Elements that a Network has no place for."""
    faults = [
        Fault(f"net.{element}", "", "", f"{len(net[element])} elements", expected)
        for element, expected in _REFUSED.items()
        if element in net and len(net[element]) and net[element]["in_service"].any()
    ]
    for column in [c for c in net.load if c.startswith("const_")]:
        for row in net.load.index[net.load[column].fillna(0) != 0]:
            value = f"{net.load.at[row, column]:g}"
            faults.append(Fault("net.load", str(row), column, value, "0: constant power"))
    for side in ("r", "x", "g", "b"):
        ends = ("ft", "tf") if side in "rx" else ("f", "t")
        columns = [f"{side}{end}_pu" for end in ends]
        if set(columns) <= set(net.impedance):
            one, other = (net.impedance[column].fillna(0) for column in columns)
            for row in net.impedance.index[one != other]:
                value = f"{one[row]:g} and {other[row]:g}"
                faults.append(Fault("net.impedance", str(row), columns[1], value, "one value"))
    slacks = int(net.ext_grid["in_service"].sum()) + int(net.gen.get("slack", pd.Series()).sum())
    if slacks != 1:
        faults.append(Fault("net.ext_grid", "", "", f"{slacks} in service", "exactly one"))
    return faults


def _unique_names(table: pd.DataFrame) -> pd.Series:
    """Return names where all are there and differ, else indices."""
    names = table["name"] if "name" in table else pd.Series(index=table.index, dtype=object)
    clean = names.notna().all() and names.is_unique and (names.astype(str) != "").all()
    return names.astype(str) if clean else pd.Series(table.index.astype(str), table.index)


def _representatives(net: pandapower.pandapowerNet) -> pd.Series:
    """Buses of the net that name the buses of its case: index the case's, value the net's."""
    lookup = net._pd2ppc_lookups["bus"]
    buses = net.bus.assign(at=[lookup[bus] for bus in net.bus.index])
    buses = buses[buses["at"] >= 0]
    order = buses.assign(busbar=buses["type"] != "b").sort_values("busbar", kind="stable")
    return order.drop_duplicates("at").reset_index().set_index("at")["index"].sort_index()


def _bus_names(net: pandapower.pandapowerNet, case: dict[str, Any]) -> np.ndarray:
    """Names of the buses of the case; those that pandapower adds are numbered."""
    names = np.array([f"auxiliary {k}" for k in range(len(case["bus"]))], dtype=object)
    bus = _representatives(net)
    names[bus.index] = _unique_names(net.bus)[bus].to_numpy()
    return names


def _buses(net: pandapower.pandapowerNet, case: dict[str, Any], names: np.ndarray) -> pd.DataFrame:
    table, bus = case["bus"], _representatives(net)
    s_per_mw = 1 / table[:, 9] ** 2
    held = pd.DataFrame({"bus": case["gen"][:, 0].astype(int), "v_pu": case["gen"][:, 5]})
    held = held[case["gen"][:, 7] > 0].drop_duplicates("bus").set_index("bus")["v_pu"]
    v_held = held.reindex(range(len(table))).to_numpy()
    frame = pd.DataFrame({"bus": names, "v_nom_kv": table[:, 9]})
    frame["v_slack_pu"] = np.where(table[:, 1] == 3, v_held, np.nan)
    frame["v_gen_pu"] = np.where(table[:, 1] == 2, v_held, np.nan)
    for ours, theirs in (("v_min_pu", "min_vm_pu"), ("v_max_pu", "max_vm_pu")):
        frame[ours] = _V_LIMITS_PU[theirs]
        if theirs in net.bus:
            given = net.bus[theirs].reindex(bus).fillna(_V_LIMITS_PU[theirs])
            frame.loc[bus.index, ours] = given.to_numpy(dtype=float)
    frame["g_us"], frame["b_us"] = table[:, 4] * s_per_mw * 1e6, table[:, 5] * s_per_mw * 1e6
    if "geo" in net.bus and net.bus["geo"].notna().any():
        points = [_point(geo) for geo in net.bus["geo"].reindex(bus)]
        frame.loc[bus.index, ["x", "y"]] = np.array(points)
    return frame


def _point(geo: Any) -> tuple[float, float]:
    if not isinstance(geo, str):
        return np.nan, np.nan
    x, y = json.loads(geo)["coordinates"][:2]
    return float(x), float(y)


def _branches(
    net: pandapower.pandapowerNet, case: dict[str, Any], names: np.ndarray
) -> pd.DataFrame:
    branch = case["branch"].real
    ends = branch[:, :2].astype(int)
    z_base_ohm = case["bus"][ends[:, 1], 9] ** 2 / case["baseMVA"]
    g_pu = case.get("branch_g", np.zeros(len(branch)))
    frame = pd.DataFrame({"branch": _branch_names(net, len(branch))})
    frame["from_bus"], frame["to_bus"] = names[ends[:, 0]], names[ends[:, 1]]
    frame["r_ohm"], frame["x_ohm"] = branch[:, 2] * z_base_ohm, branch[:, 3] * z_base_ohm
    frame["b_us"], frame["g_us"] = branch[:, 4] / z_base_ohm * 1e6, g_pu / z_base_ohm * 1e6
    frame["ratio_pu"] = np.where(branch[:, 8] == 0, 1.0, branch[:, 8])
    frame["shift_deg"] = (branch[:, 9] + 180) % 360 - 180
    return frame.assign(**_current_limits(net, len(branch)))


def _branch_names(net: pandapower.pandapowerNet, count: int) -> list[str]:
    names = [f"auxiliary {k}" for k in range(count)]
    found = net._pd2ppc_lookups["branch"]
    plain = {e: _unique_names(net[e]) for e in found if e in net}
    shared = pd.concat(plain.values()).duplicated().any() if plain else False
    for element, (first, last) in found.items():
        own = plain.get(element)
        for k in range(first, last):
            if own is None or last - first != len(own):  # three-winding transformers: a star
                names[k] = f"{element} {k - first}"
            else:
                names[k] = f"{element} {own.iloc[k - first]}" if shared else own.iloc[k - first]
    return names


def _current_limits(net: pandapower.pandapowerNet, count: int) -> dict[str, np.ndarray]:
    """Rated currents times the admitted loading of lines and two-winding transformers."""
    limits = np.full((2, count), np.nan)
    for element, (first, last) in net._pd2ppc_lookups["branch"].items():
        if element not in ("line", "trafo"):
            continue
        table = net[element]
        admitted = table.get("max_loading_percent", 100.0)
        share = np.nan_to_num(np.broadcast_to(admitted, len(table)) / 100, nan=1.0)
        share = share * table["parallel"].to_numpy() * table["df"].to_numpy()
        if element == "line":
            limits[:, first:last] = table["max_i_ka"].to_numpy() * 1e3 * share
            continue
        for end, side in enumerate(("hv", "lv")):
            rated_a = table["sn_mva"] * 1e3 / (np.sqrt(3) * table[f"vn_{side}_kv"])
            limits[end, first:last] = rated_a.to_numpy() * share
    limits[(limits <= 0) | (limits > 1e5)] = np.nan  # such as 99999 kA, which means none
    return {"i_max_from_a": limits[0], "i_max_to_a": limits[1]}


def _loads(
    net: pandapower.pandapowerNet, case: dict[str, Any], names: np.ndarray, used: np.ndarray
) -> pd.DataFrame:
    lookup = net._pd2ppc_lookups["bus"]
    tables = [e for e in _POWERS if len(net[e])]
    plain = {e: _unique_names(net[e]) for e in tables}
    shared = bool(plain) and pd.concat(plain.values()).duplicated().any()
    rows = []
    for element in tables:
        table, sign = net[element], _POWERS[element]
        scale = sign * table["scaling"].to_numpy() * table["in_service"].to_numpy(dtype=bool)
        kva = (table["p_mw"] + 1j * table["q_mvar"]).to_numpy() * scale * 1e3
        at = [int(lookup[bus]) for bus in table["bus"]]
        own = [f"{element} {name}" if shared else name for name in plain[element]]
        on = table["in_service"].to_numpy(dtype=bool)
        rows += [row for row, live in zip(zip(own, at, kva, strict=True), on, strict=True) if live]
    rest = (case["bus"][:, 2] + 1j * case["bus"][:, 3]) * 1e3
    np.add.at(rest, [at for _, at, _ in rows], [-kva for _, _, kva in rows])
    running = case["gen"][
        (case["gen"][:, 7] > 0) & (case["bus"][case["gen"][:, 0].astype(int), 1] != 3)
    ]
    np.add.at(rest, running[:, 0].astype(int), -running[:, 1] * 1e3)
    others = np.flatnonzero(np.abs(rest) > 1e-9)  # generators, wards, motors: one sum a bus
    rows += [(f"others at {names[at]}", int(at), rest[at]) for at in others]
    kept = [(name, names[at], kva.real, kva.imag) for name, at, kva in rows if at >= 0 and used[at]]
    return pd.DataFrame(kept, columns=["load", "bus", "p_kw", "q_kvar"])
