"""Uncertainty sets of the loads: what they have in common, the box and the budget.

A set is known by its support function, the largest value of a linear function over it: that is all
that a linear limit needs in order to hold for the whole set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from flexlib.errors import DataError, Fault
from flexlib.network import Network
from flexlib.tables import check_table, fault_at, number_column, read_text_table, text_column

BANDS = pa.DataFrameSchema(
    {
        "load": text_column("load whose baseline is uncertain", unique=True),
        "band_pct": number_column(
            "half-width of the band around P and Q of the baseline", "%", 0, 100
        ),
    }
)
_MOST_VERTICES = 2**14
_OUTLINE = 720  # directions in which a smooth image is drawn


class UncertaintySet(ABC):
    """A convex set of load deviations: load k consumes ``s_k + xi_k delta_k``.

    Attributes
    ----------
    network : Network
        Network that holds the loads.
    load : numpy.ndarray of int, shape (n,)
        Positions of the uncertain loads in ``network.loads``.
    delta_kva : numpy.ndarray of complex, shape (n,)
        Consumption that one unit of xi adds to each.
    """

    network: Network
    load: np.ndarray
    delta_kva: np.ndarray

    @abstractmethod
    def worst(self, columns: np.ndarray) -> np.ndarray:
        """A point of the set at which ``columns @ xi`` is largest.

        Parameters
        ----------
        columns : numpy.ndarray of float, shape (..., n)
            One row a linear function of xi.

        Returns
        -------
        numpy.ndarray of float, shape (..., n)
        """

    def support(self, columns: np.ndarray) -> np.ndarray:
        """Largest value of ``columns @ xi`` over the set.

        Parameters
        ----------
        columns : numpy.ndarray of float, shape (..., n)
            One row a linear function of xi.

        Returns
        -------
        numpy.ndarray of float, shape (...,)
        """
        return np.asarray((columns * self.worst(columns)).sum(axis=-1))

    def image(self, columns: np.ndarray) -> np.ndarray:
        """Boundary points of the image of the set in the complex plane.

        The directions are those in which the image of the box around the set looks round, so that
        a thin one is drawn as well.

        Parameters
        ----------
        columns : numpy.ndarray of complex, shape (n,)
            The map ``xi -> columns @ xi``.

        Returns
        -------
        numpy.ndarray of complex
            In counter-clockwise order; for a polygon that is known, its corners.
        """
        parts = np.array([columns.real, columns.imag])
        turned, size, _ = np.linalg.svd(np.hstack([parts * self.reach, np.zeros((2, 2))]))
        turned[:, 1] *= np.linalg.det(turned)  # a turn and no reflection: counter-clockwise
        angle = 2 * np.pi * np.arange(_OUTLINE) / _OUTLINE
        size = np.maximum(size, 1e-9 * max(size[0], 1e-300))
        towards = turned @ (np.array([np.cos(angle), np.sin(angle)]) / size[:, None])
        return self.worst(towards.T @ parts) @ columns

    def vertices(self) -> np.ndarray | None:
        """All corners of the set, shape (count, n); None if there are more than 2^14 or no end."""
        return None

    @cached_property
    def reach(self) -> np.ndarray:
        """Largest magnitude of each xi_k: the half-widths of the box around the set."""
        each = np.eye(len(self.load))
        return np.maximum(self.support(each), self.support(-each))

    def loads_kva(self, xi: np.ndarray) -> np.ndarray:
        """Complex power consumed by every load of the network for each xi.

        Parameters
        ----------
        xi : numpy.ndarray of float, shape (cases, n)

        Returns
        -------
        numpy.ndarray of complex, shape (cases, loads)
        """
        s_kva = np.tile(self.network.s_load_kva, (len(xi), 1))
        s_kva[:, self.load] += xi * self.delta_kva
        return s_kva


@dataclass(frozen=True)
class Box(UncertaintySet):
    """Loads that vary independently, each within a band around its baseline.

    The load of row k consumes ``(1 + xi_k band_k) s_k`` with xi_k in [-1, 1]: P and Q move
    together (De Simone (2025), equations (3), (7) and (35)).

    Parameters
    ----------
    network : Network
        Network that holds the loads.
    bands : pandas.DataFrame
        Table with the columns of `BANDS`; loads that are not in it are certain.

    Attributes
    ----------
    load : numpy.ndarray of int, shape (n,)
        Positions of the uncertain loads in ``network.loads``.
    delta_kva : numpy.ndarray of complex, shape (n,)
        Half-width of each band: Delta_pod of the source.

    Raises
    ------
    DataError
        Listing every fault of the table.
    """

    network: Network
    bands: pd.DataFrame
    load: np.ndarray = field(init=False)
    delta_kva: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        _set_bands(self)

    def worst(self, columns: np.ndarray) -> np.ndarray:
        """Corner with the sign of every column."""
        return np.where(columns < 0, -1.0, 1.0)

    def support(self, columns: np.ndarray) -> np.ndarray:
        """Sum of magnitudes, equations (9) to (11)."""
        return np.abs(columns).sum(axis=-1)

    def image(self, columns: np.ndarray) -> np.ndarray:
        """Corners of the image of the set in the complex plane, a zonotope.

        The boundary is walked by turning a direction once around: each generator changes sign
        where the direction passes its normal, so 2n corners suffice.

        Parameters
        ----------
        columns : numpy.ndarray of complex, shape (n,)
            The map ``xi -> columns @ xi``.

        Returns
        -------
        numpy.ndarray of complex, shape (2n,)
            Corners in counter-clockwise order.
        """
        upward = np.where((columns.imag < 0) | ((columns.imag == 0) & (columns.real < 0)), -1, 1)
        generators = upward * columns
        generators = generators[np.argsort(np.angle(generators), kind="stable")]
        steps = np.concatenate([generators, -generators]) * 2
        return np.asarray(-generators.sum() + np.cumsum(steps))

    def vertices(self) -> np.ndarray | None:
        """All corners of the box, shape (2^n, n), entries -1 and 1; None if more than 2^14."""
        count = len(self.load)
        if 2**count > _MOST_VERTICES:
            return None
        bits = np.arange(2**count)[:, None] >> np.arange(count)[None, :] & 1
        return 1.0 - 2.0 * bits

    def sample(self, size: int, seed: int) -> np.ndarray:
        """Points drawn uniformly from the box, shape (size, n)."""
        return np.random.default_rng(seed).uniform(-1, 1, (size, len(self.load)))


@dataclass(frozen=True)
class Budget(UncertaintySet):
    """The box with a budget: ``sum_k |xi_k| <= gamma``, De Simone (2025), equation (4).

    With a budget of gamma at most so many loads are at an end of their band at once (Bertsimas
    and Sim, 2004); a fraction lets one more go that part of the way.

    Parameters
    ----------
    network : Network
        Network that holds the loads.
    bands : pandas.DataFrame
        Table with the columns of `BANDS`; loads that are not in it are certain.
    gamma : float
        Budget, from 0 (no uncertainty) to n (the box).

    Attributes
    ----------
    load, delta_kva
        See `UncertaintySet`; ``delta_kva`` is the half-width of each band.

    Raises
    ------
    DataError
        Listing every fault of the table, and a budget outside [0, n].
    """

    network: Network
    bands: pd.DataFrame
    gamma: float
    load: np.ndarray = field(init=False)
    delta_kva: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        _set_bands(self)
        if not 0 <= self.gamma <= len(self.load):
            expected = f"a budget from 0 to {len(self.load)}, the number of uncertain loads"
            raise DataError([Fault("budget", "", "gamma", f"{self.gamma:g}", expected)])

    def worst(self, columns: np.ndarray) -> np.ndarray:
        """A point of :eq:`price-4` that reaches :eq:`price-budget`: largest columns first."""
        rank = np.argsort(np.argsort(-np.abs(columns), axis=-1, kind="stable"), axis=-1)
        share = np.clip(self.gamma - rank, 0.0, 1.0)
        return np.where(columns < 0, -share, share)

    def vertices(self) -> np.ndarray | None:
        """All corners: whole loads at their ends, one at the fraction; None if more than 2^14."""
        n, whole = len(self.load), int(self.gamma)
        part = self.gamma - whole
        if comb(n, whole) * 2**whole * (2 * (n - whole) if part else 1) > _MOST_VERTICES:
            return None
        corners = []
        for chosen in combinations(range(n), whole):
            others = [k for k in range(n) if k not in chosen]
            for at in [(*chosen, k) for k in others] if part else [chosen]:
                for signs in product((1.0, -1.0), repeat=len(at)):
                    corner = np.zeros(n)
                    corner[list(at)] = np.array(signs) * np.append(np.ones(whole), part)[: len(at)]
                    corners.append(corner)
        return np.array(corners)

    def sample(self, size: int, seed: int) -> np.ndarray:
        """Points of the box drawn uniformly, those beyond the budget drawn in, shape (size, n)."""
        xi = np.random.default_rng(seed).uniform(-1, 1, (size, len(self.load)))
        used = np.abs(xi).sum(axis=1, keepdims=True)
        return xi * np.minimum(1.0, self.gamma / np.maximum(used, 1e-300))


def _set_bands(banded: Box | Budget) -> None:
    """Check the bands of a set and compute its deviations."""
    bands, faults = check_table(banded.bands, BANDS, "bands")
    faults += unknown_loads(bands, banded.network, "bands")
    if faults:
        raise DataError(faults)
    load = banded.network.load_positions(bands["load"])
    width_kva = bands["band_pct"].to_numpy() / 100 * banded.network.s_load_kva[load]
    for name, value in (("bands", bands), ("load", load), ("delta_kva", width_kva)):
        object.__setattr__(banded, name, value)


def read_bands(network: Network, path: str | Path) -> Box:
    """Read the bands of uncertain loads from a CSV file with the columns of `BANDS`.

    Parameters
    ----------
    network : Network
        Network that holds the loads.
    path : str or pathlib.Path
        The file.

    Returns
    -------
    Box

    Raises
    ------
    DataError
        Listing every fault of the file.
    """
    bands, faults = read_text_table(Path(path))
    if faults:
        raise DataError(faults)
    return Box(network, bands)


def unknown_loads(frame: pd.DataFrame, network: Network, table: str) -> list[Fault]:
    """Faults of a table whose column ``load`` must name loads of the network."""
    known = set(network.loads["load"])
    return [
        fault_at(frame, table, row, "load", repr(load), f"a load of {network.name}")
        for row, load in enumerate(frame["load"])
        if isinstance(load, str) and load not in known
    ]


def loads_without_power_factor(frame: pd.DataFrame, network: Network, table: str) -> list[Fault]:
    """Faults of a table whose column ``load`` must name loads whose Q can follow their P."""
    s_kva = network.s_load_kva[network.load_positions(frame["load"])]
    expected = "a load with active power, whose power factor its deviation follows"
    return [
        fault_at(
            frame,
            table,
            row,
            "load",
            f"{frame.loc[row, 'load']!r} with p_kw = 0 and q_kvar = {s_kva[row].imag:g}",
            expected,
        )
        for row in np.flatnonzero((s_kva.real == 0) & (s_kva.imag != 0)).tolist()
    ]
