"""Radial feeders of any size, drawn with a seed, on which a few current limits bind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from flexlib import Box, Market, Network, data_path, read_bands, read_network, read_offers
from flexlib.planes import along

V_NOM_KV = 20.0
TOTAL_KW = 6000.0
PATH_OHM = 1.5 + 1.0j  # from the slack to the deepest bus
BINDING = 5  # branches that need relief


def feeder_12() -> Market:
    """The 12-bus feeder of the book, case 3."""
    folder = data_path("feeders/de-simone-12")
    network = read_network(folder)
    box = read_bands(network, folder / "uncertainty-case-3.csv")
    return Market(network, read_offers(folder / "offers.csv"), box)


def generated(buses: int, seed: int = 0) -> Market:
    """A market on a random tree: a load at every bus, a third uncertain, a tenth on offer.

    Every branch has a current limit at its from end. An activation of a third of each offer
    meets all of them; without it, `BINDING` of them are exceeded for some load in the box.
    """
    rng = np.random.default_rng(seed)
    network = _tree(buses, rng)
    loads = network.loads["load"].to_numpy()
    uncertain = np.sort(rng.permutation(len(loads))[: len(loads) // 3])
    flexible = np.sort(rng.permutation(len(loads))[: max(3, len(loads) // 10)])
    bands = {"load": loads[uncertain], "band_pct": rng.uniform(5, 30, len(uncertain))}
    offers = pd.DataFrame(
        {
            "load": loads[flexible],
            "up_max_kw": network.loads["p_kw"].to_numpy()[flexible],
            "price_up_eur_per_mwh": rng.uniform(50, 150, len(flexible)),
        }
    )
    return _limited(Market(network, offers, Box(network, pd.DataFrame(bands))))


def _tree(buses: int, rng: np.random.Generator) -> Network:
    reach = max(3, round(1.5 * buses**0.5))  # so that the depth grows with the square root
    parent = np.array([int(rng.integers(max(0, k - reach), k)) for k in range(1, buses)])
    depth = np.zeros(buses, dtype=int)
    for bus in range(1, buses):
        depth[bus] = depth[parent[bus - 1]] + 1
    z_ohm = PATH_OHM / depth.max() * rng.uniform(0.5, 1, buses - 1)
    names = np.array([f"bus {k}" for k in range(buses)])
    p_kw = rng.uniform(0.2, 1, buses - 1)
    p_kw *= TOTAL_KW / p_kw.sum()
    bus = {
        "bus": names,
        "v_nom_kv": V_NOM_KV,
        "v_slack_pu": [1.0, *[np.nan] * (buses - 1)],
        "v_min_pu": 0.9,
        "v_max_pu": 1.1,
    }
    branch = {
        "branch": [f"line {k}" for k in range(1, buses)],
        "from_bus": names[parent],
        "to_bus": names[1:],
        "r_ohm": z_ohm.real,
        "x_ohm": z_ohm.imag,
        "b_us": 300.0 / buses,
    }
    load = {
        "load": [f"load {k}" for k in range(1, buses)],
        "bus": names[1:],
        "p_kw": p_kw,
        "q_kvar": p_kw * rng.uniform(0.1, 0.5, buses - 1),
    }
    frames = [pd.DataFrame(table) for table in (bus, branch, load)]
    return Network(*frames, name=f"generated {buses}")


def _limited(market: Market) -> Market:
    """Set the limits: tight where relief is largest, loose elsewhere."""
    network = market.network
    help_kw = market.offers["up_max_kw"].to_numpy() / 3
    idle_a, helped_a = (
        _needed_a(market, i_a)
        for i_a in (market.flow.i0_a, market.flow.i0_a + market.upward[1] @ help_kw)
    )
    tight = np.argsort(helped_a / idle_a)[:BINDING]
    limit_a = 1.25 * np.maximum(idle_a, helped_a)
    limit_a[tight] = helped_a[tight]
    branches = network.branches.assign(i_max_from_a=limit_a)
    limited = Network(network.buses, branches, network.loads, name=network.name)
    return replace(market, network=limited, uncertainty=Box(limited, market.uncertainty.bands))


def _needed_a(market: Market, i_a: np.ndarray) -> np.ndarray:
    """Least limit of every from end that holds over the box, one end at a time."""
    normals = market.planes.normals(market.flow.i0_a)
    needed_a = np.empty(len(market.network.branches))
    for end in range(len(needed_a)):
        added_a = along(normals[end][:, None], market.uncertain[1][end])
        most_a = along(normals[end], i_a[end]) + market.uncertainty.support(added_a)
        needed_a[end] = most_a.max() / market.planes.apothem
    return needed_a
