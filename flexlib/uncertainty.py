"""Uncertainty sets of the loads: the box."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Box:
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
    half_width_kva : numpy.ndarray of complex, shape (n,)
        Half-width of each band: Delta_pod of the source.

    Raises
    ------
    DataError
        Listing every fault of the table.
    """

    network: Network
    bands: pd.DataFrame
    load: np.ndarray = field(init=False)
    half_width_kva: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        bands, faults = check_table(self.bands, BANDS, "bands")
        faults += unknown_loads(bands, self.network, "bands")
        if faults:
            raise DataError(faults)
        load = self.network.load_positions(bands["load"])
        width = bands["band_pct"].to_numpy() / 100 * self.network.s_load_kva[load]
        object.__setattr__(self, "bands", bands)
        object.__setattr__(self, "load", load)
        object.__setattr__(self, "half_width_kva", width)

    def support(self, columns: np.ndarray) -> np.ndarray:
        """Largest value of ``columns @ xi`` over the set, equations (9) to (11).

        Parameters
        ----------
        columns : numpy.ndarray of float, shape (..., n)
            One row a linear function of xi.

        Returns
        -------
        numpy.ndarray of float, shape (...,)
        """
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

    def vertices(self) -> np.ndarray:
        """All corners of the set, shape (2^n, n), entries -1 and 1."""
        count = len(self.load)
        bits = np.arange(2**count)[:, None] >> np.arange(count)[None, :] & 1
        return 1.0 - 2.0 * bits

    def sample(self, size: int, seed: int) -> np.ndarray:
        """Points drawn uniformly from the set, shape (size, n)."""
        return np.random.default_rng(seed).uniform(-1, 1, (size, len(self.load)))

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
        s_kva[:, self.load] += xi * self.half_width_kva
        return s_kva


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
