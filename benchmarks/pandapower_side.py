"""Networks in pandapower, and its power flow in its fastest documented modes."""

from __future__ import annotations

from typing import Any

import numpy as np

from flexlib import Network

_RECYCLED = {"bus_pq": True, "trafo": False, "gen": False}  # only powers of loads change
DEFAULT = {"numba": True, "lightsim2grid": False}
NUMBA = DEFAULT | {"init": "results", "recycle": _RECYCLED}
LIGHTSIM = {"lightsim2grid": True, "init": "results", "recycle": _RECYCLED}


def pandapower_net(network: Network, mode: dict[str, Any]) -> Any:
    """Translate lines and transformers without taps, solved once so that runs can recycle it.

    Parameters
    ----------
    network : Network
    mode : dict
        Options of `pandapower.runpp` with which it will be solved.
    """
    import pandapower as pp

    net = pp.create_empty_network(f_hz=50.0)
    v_nom_kv = network.buses["v_nom_kv"].to_numpy()
    for kv in v_nom_kv:
        pp.create_bus(net, kv)
    pp.create_ext_grid(net, network.slack, network.buses["v_slack_pu"].iloc[network.slack])
    for one, other, branch in zip(
        network.from_bus, network.to_bus, network.branches.itertuples(), strict=True
    ):
        if branch.ratio_pu != 1:
            raise ValueError(f"branch {branch.branch} has a tap")
        if v_nom_kv[one] != v_nom_kv[other]:
            _create_transformer(net, one, other, branch)
        elif (branch.shift_deg, branch.g_us) == (0, 0):
            c_nf = branch.b_us * 1e3 / (2 * np.pi * net.f_hz)
            pp.create_line_from_parameters(
                net, one, other, 1.0, branch.r_ohm, branch.x_ohm, c_nf, 1.0
            )
        else:
            raise ValueError(f"branch {branch.branch} is neither line nor transformer")
    for bus, s_kva in zip(network.load_bus, network.s_load_kva, strict=True):
        pp.create_load(net, bus, s_kva.real / 1e3, s_kva.imag / 1e3)
    prepare(net, mode)
    return net


def prepare(net: Any, mode: dict[str, Any]) -> None:
    """Solve a net in full, so that runs in a mode can start from it and recycle it."""
    run(net, {name: value for name, value in mode.items() if name not in ("init", "recycle")})


def run(net: Any, mode: dict[str, Any]) -> None:
    """One power flow. Recycled, it keeps the options of the last full one."""
    import pandapower as pp

    pp.runpp(net, **({"trafo_model": "pi", "tolerance_mva": 1e-9} | mode))


def solution(net: Any) -> np.ndarray:
    """Complex bus voltages, p.u., in the order of the net."""
    angle_rad = np.deg2rad(net.res_bus["va_degree"].to_numpy())
    return net.res_bus["vm_pu"].to_numpy() * np.exp(1j * angle_rad)


def voltages_pu(net: Any, s_kva: np.ndarray, mode: dict[str, Any]) -> np.ndarray:
    """Bus voltages of every load case; the admittances and the last voltages are reused."""
    v_pu = np.empty((len(s_kva), len(net.bus)), dtype=complex)
    for case, loads_kva in enumerate(s_kva):
        net.load["p_mw"], net.load["q_mvar"] = loads_kva.real / 1e3, loads_kva.imag / 1e3
        run(net, mode)
        v_pu[case] = solution(net)
    return v_pu


def _create_transformer(net: Any, one: int, other: int, branch: Any) -> None:
    """Transformer of the same pi-model: 1 MVA, its data in ohm at the to end."""
    import pandapower as pp

    kv_from, kv_to = net.bus["vn_kv"][one], net.bus["vn_kv"][other]
    base_ohm = kv_to**2
    pp.create_transformer_from_parameters(
        net,
        one,
        other,
        sn_mva=1.0,
        vn_hv_kv=kv_from,
        vn_lv_kv=kv_to,
        vkr_percent=100 * branch.r_ohm / base_ohm,
        vk_percent=100 * abs(branch.r_ohm + 1j * branch.x_ohm) / base_ohm,
        pfe_kw=branch.g_us * 1e-3 * base_ohm,
        i0_percent=1e-4 * abs(branch.g_us + 1j * branch.b_us) * base_ohm,
        shift_degree=branch.shift_deg,
    )
