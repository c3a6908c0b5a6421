"""Make data/hubs/feeders-1000, data/hubs/feeders-9000 and data/hubs/simbench-mv.

Run by ``make hubs``, some ten minutes on two cores; needs the packages simbench, pandapower and
distributed, which the lock holds. A run that was stopped goes on where it stopped; ``_build/hubs``
holds what is finished.

feeders-1000. The three hubs of the reference instance a thousand times: devices of a hub times one
factor from 0.8 to 1.2, its fixed demand times 0.93 to 1.07, its PV times 0.9 to 1, uniform, seed 1,
rounded to 4 decimals (hubs.csv). What they withdraw without pricing, in MW rounded to 4 decimals
(withdrawals.csv), is method A solved feeder by feeder: limits are shares of the loading that it
gives, and are not stored.

feeders-9000. Feeders 1,001 to 10,000, drawn likewise with seed 2.

simbench-mv. Network, loads, generators and their profiles are SimBench's, hubs and prices are ours.

Network. SimBench's rural medium-voltage grid, scenario 0 (1-MV-rural--0-no_sw), as `read_network`
gives it; every load and generator follows the profile that SimBench gives it, at the power factor
of its rated power (assignment.csv).

Day. That of the hour in which the grid's residual load, loads less generators, is the largest of
the year: 2016-01-27, a Wednesday. Hourly means in standard time as in make_profiles.py, whose names
the profiles have that are there.

Hubs. On the feeder with the most rated load, at its eight largest loads, one a bus (of equal ones
the first), in the order of the feeder. Each stands in for its load, keeps its rated power and its
profile and has no reactive power. Hubs 1, 4 and 7 have the devices and the PV of hub_1 of the
reference instance times the rated power over the peak demand of hub_1; hub_2 and hub_3 are repeated
likewise. PV follows PV3 and PV7 in turn, the sites that SimBench gives this grid; the generators at
the hubs' buses stay where they are.

Prices and costs are those of the reference instance: SimBench has none.
"""

from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import simbench
from make_profiles import GENERATORS, LOADS, read

from flexlib.hub_followers import no_pricing
from flexlib.hub_instances import SIZES, reference, repeated
from flexlib.profiles import power_profiles
from flexlib.readers import read_network
from flexlib.sweep import sweep, workers

FOLDER = Path(__file__).resolve().parents[1] / "data" / "hubs"
UNFINISHED = FOLDER.parents[1] / "_build" / "hubs"
DRAWS = {"feeders-1000": (range(1, 1001), 1), "feeders-9000": (range(1001, 10_001), 2)}  # seeds
TOGETHER = 100  # feeders of a unit of work
CODE = "1-MV-rural--0-no_sw"
HUBS = 8
PV = ("pv3", "pv7")
RANGES = {"size": (0.8, 1.2), "demand": (0.93, 1.07), "pv": (0.9, 1.0)}


def drawn(draw):
    """Factors of all hubs of a draw."""
    feeders, seed = DRAWS[draw]
    names = reference()[0].table["hub"].tolist()
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"feeder": np.repeat(np.array(feeders), len(names)), "hub": names * len(feeders)}
    )
    for name, (low, high) in RANGES.items():
        table[name] = rng.uniform(low, high, len(table)).round(4)
    return table


def method_a(factors):
    """Net withdrawals, in MW rounded to 4 decimals, of the hubs in a table of factors."""
    one, _ = reference()
    parts = [
        no_pricing(repeated(one, feeder)).schedule.w_mw for _, feeder in factors.groupby("feeder")
    ]
    return {"w_mw": np.vstack(parts).round(4) + 0.0}  # without minus zero


def withdrawals(factors, w_mw):
    """Net withdrawals of the hubs in a table of factors, as a table."""
    names = [f"hour_{t}" for t in range(w_mw.shape[1])]
    keys = factors[["feeder", "hub"]].reset_index(drop=True)
    return pd.concat([keys, pd.DataFrame(w_mw, columns=names)], axis=1)


def all_withdrawals(client, draw):
    """Net withdrawals of a draw by method A, a hundred feeders a unit."""
    factors = drawn(draw)
    block = (factors["feeder"] - 1) // TOGETHER * TOGETHER + 1
    units = {f"feeders-{first}": (part,) for first, part in factors.groupby(block)}
    results = sweep(client, method_a, units, UNFINISHED)
    return withdrawals(factors, np.vstack([results[name]["w_mw"] for name in units]))


def year():
    """All profiles of SimBench, hourly means in standard time, by the names of make_profiles."""
    loads, generators = read()
    active = [name for name in loads if name.endswith("_pload")]
    names = {name: f"load_{name[:-6].lower().replace('-', '_')}" for name in active}
    assert all(names[theirs] == ours for ours, theirs in LOADS.items())
    known = {theirs: ours for ours, theirs in GENERATORS.items()}
    for name in generators.columns.drop("time"):
        names[name] = known.get(name, f"gen_{name.lower()}")
    quarters = pd.concat([loads[active], generators.drop(columns="time")], axis=1)
    time = pd.date_range("2016-01-01", periods=len(quarters), freq="15min", name="time")
    return quarters.set_axis(time).rename(columns=names).resample("h").mean().round(4) + 0.0


def assignment(net, network):
    """Profile and rated power of each load and generator of the grid."""
    known = {theirs: ours for ours, theirs in GENERATORS.items()}
    profile = {
        row.name: f"load_{row.profile.lower().replace('-', '_')}"
        for row in net.load.itertuples(index=False)
    } | {
        row.name: known.get(row.profile, f"gen_{row.profile.lower()}")
        for row in net.sgen.itertuples(index=False)
    }
    table = network.loads[["load"]].copy()
    table["profile"] = table["load"].map(profile)
    table["peak_kw"] = network.loads["p_kw"]
    return table


def sites(network):
    """Loads that become hubs."""
    graph = nx.Graph(network.branches[["from_bus", "to_bus"]].itertuples(index=False))
    slack = network.buses["bus"][network.slack]
    station = next(iter(graph[slack]))  # both transformers end there
    graph.remove_nodes_from([slack, station])
    loads = network.loads[network.loads["p_kw"] > 0]
    feeders = [loads[loads["bus"].isin(buses)] for buses in nx.connected_components(graph)]
    most = max(feeders, key=lambda feeder: feeder["p_kw"].sum())
    largest = most.sort_values("p_kw", ascending=False, kind="stable").drop_duplicates("bus")
    order = {bus: k for k, bus in enumerate(network.buses["bus"])}
    return largest.head(HUBS).sort_values("bus", key=lambda bus: bus.map(order))


def simbench_mv(net):
    """Tables of the instance by name, and the beginning of its day."""
    network, profiles, one = read_network(net), year(), reference()[0]
    follows, chosen = assignment(net, network), sites(network)
    residual = power_profiles(network, profiles, follows).sum(axis=1)
    day = residual.idxmax().normalize()
    hubs = one.table.iloc[np.arange(HUBS) % len(one)].reset_index(drop=True)
    scale = chosen["p_kw"].to_numpy() / 1000 / hubs["demand_peak_mw"].to_numpy()
    rated = [*SIZES, "demand_peak_mw", "pv_mwp"]
    hubs[rated] = hubs[rated].mul(scale, axis=0).round(4)
    hubs["hub"] = [f"hub_{k + 1}" for k in range(HUBS)]
    hubs["demand_profile"] = follows.set_index("load")["profile"][chosen["load"]].to_numpy()
    hubs["pv_profile"] = np.resize(PV, HUBS)
    rest = ~network.loads["load"].isin(chosen["load"])
    used = sorted({*follows["profile"], *PV})
    hours = profiles.loc[day : day + pd.Timedelta(hours=23), used].reset_index(drop=True)
    prices = one.profiles[["hour", "buy_eur_per_mwh", "sell_eur_per_mwh"]]
    tables = {
        "hubs": hubs,
        "sites": pd.DataFrame({"hub": hubs["hub"], "bus": chosen["bus"].to_numpy()}),
        "profiles": pd.concat([prices, hours], axis=1),
        "costs": one.costs,
        "buses": network.buses.drop(columns=["x", "y", "v_gen_pu", "g_us", "b_us"]),
        "branches": network.branches,
        "loads": network.loads[rest],
        "assignment": follows[rest],
    }
    return tables, day


def write(table, name):
    """Write a table below data/hubs."""
    (FOLDER / name).parent.mkdir(exist_ok=True)
    table.to_csv(FOLDER / name, index=False, float_format="%.10g", lineterminator="\n")


if __name__ == "__main__":
    with workers() as client:
        for draw in DRAWS:
            write(drawn(draw), f"{draw}/hubs.csv")
            write(all_withdrawals(client, draw), f"{draw}/withdrawals.csv")
    tables, day = simbench_mv(simbench.get_simbench_net(CODE))
    for name, table in tables.items():
        write(table, f"simbench-mv/{name}.csv")
    print(f"simbench-mv: {day:%Y-%m-%d}")
