"""Our value of every result that De Simone (2025) prints in Tables 2-5 to 2-12.

Nothing here reads a published number: values come from the reconstructed feeder alone.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from flexlib.market import Market, read_offers
from flexlib.powerflow import power_flow
from flexlib.readers import read_network
from flexlib.replication import (
    clear_with_deviation,
    deviation_unsigned_a,
    uncertain_with_previous_bus_voltage,
)
from flexlib.robust import Clearing, clear
from flexlib.tables import data_path
from flexlib.uncertainty import read_bands

CASES = (1, 2, 3)
_MONITORED = ("2-3", "from")  # the branch end whose current the source limits


@cache
def market(case: int) -> Market:
    """The source's market in one of its three cases (Table 2-4), on the reconstructed feeder."""
    folder = data_path("feeders/de-simone-12")
    network = read_network(folder)
    bands = read_bands(network, folder / f"uncertainty-case-{case}.csv")
    return Market(network, read_offers(folder / "offers.csv"), bands)


@cache
def published_clearing(case: int) -> Clearing:
    """The market cleared with the source's off-by-one voltage, as its tables are."""
    _, di_a = uncertain_with_previous_bus_voltage(market(case))
    return clear_with_deviation(market(case), di_a.sum(axis=1))


@cache
def corrected_clearing(case: int) -> Clearing:
    """The market cleared with the exact margins."""
    return clear(market(case))


def ours() -> dict[str, float]:
    """Our value of every claim, by its id."""
    values: dict[str, float] = {}
    for case in CASES:
        values |= _deviations(case)
        values |= _activation(case, published_clearing(case))
        values |= _monitored_current(case, published_clearing(case), off_by_one=True)
    return values | _voltages() | _one_kilowatt()


def corrected() -> dict[str, float]:
    """What the exact formulation gives where the published value carries an error."""
    values: dict[str, float] = {}
    for case in CASES:
        deviation_a = deviation_unsigned_a(market(case))
        values |= _model_deviations(case, deviation_a)
        values |= _activation(case, corrected_clearing(case))
        values |= _monitored_current(case, corrected_clearing(case), off_by_one=False)
    return values


def _deviations(case: int) -> dict[str, float]:
    """Tables 2-5 to 2-7: base currents and deviations, by the model and by AC power flow."""
    m = market(case)
    _, di_a = uncertain_with_previous_bus_voltage(m)
    model_a = di_a.sum(axis=1)
    corners = m.uncertainty.vertices()
    assert corners is not None  # seven loads
    loads_kva = m.uncertainty.loads_kva(corners)
    change_a = power_flow(m.network, loads_kva).i_a - m.flow.i0_a
    ac_re = np.sign(model_a.real) * (change_a.real * np.sign(model_a.real)).max(axis=0)
    ac_im = np.sign(model_a.imag) * (change_a.imag * np.sign(model_a.imag)).max(axis=0)
    columns = {
        "i0_re_A": m.flow.i0_a.real,
        "i0_im_A": m.flow.i0_a.imag,
        "dI_re_acpf_A": ac_re,
        "dI_im_acpf_A": ac_im,
    }
    return _by_branch(case, columns) | _model_deviations(case, model_a)


def _model_deviations(case: int, deviation_a: np.ndarray) -> dict[str, float]:
    columns = {"dI_re_model_A": deviation_a.real, "dI_im_model_A": deviation_a.imag}
    return _by_branch(case, columns)


def _by_branch(case: int, columns: dict[str, np.ndarray]) -> dict[str, float]:
    """Rows of Tables 2-5 to 2-7: branches are named by the bus at which the current is taken."""
    ends = market(case).flow.admittance.ends
    rows = {}
    for e, (branch, end) in enumerate(zip(ends["branch"], ends["end"], strict=True)):
        first, second = branch.split("-")
        if end == "from" and first != "1":
            rows[branch] = e
        elif end == "to" and first == "1":
            rows[f"{second}-{first}"] = e
    return {
        f"de-simone-2-{4 + case}/{row}/{name}": float(values[e])
        for row, e in rows.items()
        for name, values in columns.items()
    }


def _voltages() -> dict[str, float]:
    """Table 2-8: voltage magnitudes at the baseline and with every load at its upper end."""
    values = {}
    for case in (0, *CASES):
        m = market(case or 1)
        v_pu = m.flow.v0_pu + (m.uncertain[0].sum(axis=1) if case else 0.0)
        name = f"v_case{case}_pu" if case else "v0_pu"
        for bus, v in zip(m.network.buses["bus"], v_pu, strict=True):
            values[f"de-simone-2-8/{bus}/{name}"] = float(abs(v))
    return values


def _activation(case: int, cleared: Clearing) -> dict[str, float]:
    """Table 2-9: activated upward flexibility."""
    return {
        f"de-simone-2-9/case {case} POD {load.removeprefix('POD')}/f_up_kw": float(up_kw)
        for load, up_kw in zip(cleared.activation["load"], cleared.activation["up_kw"], strict=True)
    }


def _one_kilowatt() -> dict[str, float]:
    """Table 2-10: reactive and apparent power of one kilowatt at each POD's power factor."""
    loads = market(1).network.loads
    values = {}
    for load, p_kw, q_kvar in zip(loads["load"], loads["p_kw"], loads["q_kvar"], strict=True):
        row = f"de-simone-2-10/{load.removeprefix('POD')}"
        values[f"{row}/q_kvar"] = float(q_kvar / p_kw)
        values[f"{row}/s_kva"] = float(np.hypot(1, q_kvar / p_kw))
    return values


def _monitored_current(case: int, cleared: Clearing, *, off_by_one: bool) -> dict[str, float]:
    """Tables 2-11 and 2-12: worst current of branch 2-3 after activation."""
    m, ends = cleared.market, cleared.market.flow.admittance.ends
    e = int(np.flatnonzero((ends["branch"] == _MONITORED[0]) & (ends["end"] == _MONITORED[1]))[0])
    _, di_a = uncertain_with_previous_bus_voltage(m) if off_by_one else m.uncertain
    model_a = float(abs(cleared.state.i_end_a[e] + di_a[e].sum()))
    ac_a = float(cleared.ac.i_worst_a[e])
    values = {
        f"de-simone-2-12/{case}/i_l2_model_A": model_a,
        f"de-simone-2-12/{case}/i_l2_acpf_A": ac_a,
        f"de-simone-2-12/{case}/delta_pct": 100 * (ac_a - model_a) / ac_a,
    }
    if case > 1:
        values[f"de-simone-2-11/{case}/i_l2_acpf_A"] = ac_a
    return values
