"""Uncertainty known from cases that were seen: tail averages, and a ball of distributions.

A constraint on the average of the worst cases (conditional value at risk) is a robust constraint
over a set made of the cases (Bertsimas and Brown, 2009). Widened by a ball, it holds for all
distributions near the one seen (Mohajerin Esfahani and Kuhn, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from flexlib.errors import DataError, Fault
from flexlib.network import Network
from flexlib.uncertainty import UncertaintySet, loads_without_power_factor, unknown_loads


@dataclass(frozen=True)
class Scenarios(UncertaintySet):
    """All averages of the worst `risk` of the cases, widened by ``radius / risk``.

    The largest value of a linear function over this set is its conditional value at risk, the
    mean over its worst cases, for the worst distribution within `radius` (type-1 Wasserstein
    distance, Euclidean in xi) of the cases. It bounds the value at risk: a limit that holds over
    the set fails with a probability of at most `risk`. xi_k is the deviation of load k as a share
    of its largest one.

    Parameters
    ----------
    network : Network
        Network that holds the loads.
    errors_kw : pandas.DataFrame
        Deviations of active power from the baseline, one column a load, one row a case.
    risk : float
        Share of the cases over whose worst is averaged, above 0 and up to 1.
    radius : float
        Radius of the ball of distributions.

    Attributes
    ----------
    load, delta_kva
        See `flexlib.uncertainty.UncertaintySet`.
    xi : numpy.ndarray, shape (cases, n)
        The cases.

    Raises
    ------
    DataError
        Listing every fault of the cases; if there are fewer than ``1 / risk``.
    """

    network: Network
    errors_kw: pd.DataFrame
    risk: float
    radius: float = 0.0
    load: np.ndarray = field(init=False)
    delta_kva: np.ndarray = field(init=False)
    xi: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        names = pd.DataFrame({"load": self.errors_kw.columns.astype(str)})
        faults = unknown_loads(names, self.network, "errors_kw")
        errors_kw = self.errors_kw.to_numpy(dtype=float)
        faults += [
            Fault("frame errors_kw", "", load, "a second column of this name", "one")
            for load in names["load"][names["load"].duplicated()]
        ]
        bad = np.argwhere(~np.isfinite(errors_kw))
        faults += [
            Fault("frame errors_kw", str(row), str(names["load"][column]), "no number", "a number")
            for row, column in bad
        ]
        if not 0 < self.risk <= 1:
            faults.append(Fault("scenarios", "", "risk", f"{self.risk:g}", "above 0, up to 1"))
        elif self.risk * len(errors_kw) < 1 - 1e-9:
            found = f"{len(errors_kw)} cases"
            needed = int(np.ceil(1 / self.risk - 1e-9))
            expected = f"at least {needed} for a risk of {self.risk:g}"
            faults.append(Fault("frame errors_kw", "", "", found, expected))
        if not self.radius >= 0:
            faults.append(Fault("scenarios", "", "radius", f"{self.radius:g}", "at least 0"))
        faults = faults or loads_without_power_factor(names, self.network, "errors_kw")
        if faults:
            raise DataError(faults)
        load = self.network.load_positions(names["load"])
        largest_kw = np.abs(errors_kw).max(axis=0)
        scale_kw = np.where(largest_kw > 0, largest_kw, 1.0)
        object.__setattr__(self, "load", load)
        object.__setattr__(self, "delta_kva", largest_kw * self.network.kva_per_kw[load])
        object.__setattr__(self, "xi", errors_kw / scale_kw)

    def worst(self, columns: np.ndarray) -> np.ndarray:
        """Average of the worst cases, moved by the ball: :eq:`price-cases`."""
        value = columns @ self.xi.T
        rank = np.argsort(np.argsort(-value, axis=-1, kind="stable"), axis=-1)
        weight = np.clip(self.risk * len(self.xi) - rank, 0.0, 1.0) / (self.risk * len(self.xi))
        length = np.linalg.norm(columns, axis=-1, keepdims=True)
        outward = columns / np.maximum(length, 1e-300)
        return np.asarray(weight @ self.xi + self.radius / self.risk * outward)
