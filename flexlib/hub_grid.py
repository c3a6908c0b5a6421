"""The grid that hubs share: lines, a substation, and what is too much on them.

A background flow and the hubs' withdrawals load a line in the same direction: its loading is
``background + H w``, the poster's ``-f``. Congestion is the sum of everything beyond the limits,
MWh.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, vstack

from flexlib.errors import DataError, Fault
from flexlib.hubs import Hubs
from flexlib.tables import check_table, fault_at, number_column, read_text_table, text_column


@dataclass(frozen=True)
class HubGrid:
    """Linear grid of some hubs.

    Parameters
    ----------
    row : list of str
        Names of the lines.
    factor : scipy.sparse.csr_array, shape (lines, hubs)
        H: MW on a line for one MW withdrawn.
    background_mw : numpy.ndarray, shape (lines, hours)
        Loading without the hubs.
    limit_mw : numpy.ndarray, shape (lines,)
        Limit in both directions.
    import_mw, export_mw : float
        Limits of the substation.
    line_weight, substation_weight : float
        Weights of overloads in the leader's objective.
    """

    row: list[str]
    factor: csr_array
    background_mw: np.ndarray
    limit_mw: np.ndarray
    import_mw: float
    export_mw: float
    line_weight: float = 1.0
    substation_weight: float = 1.0

    def __post_init__(self) -> None:
        lines, hours = len(self.row), self.background_mw.shape[1]
        faults = []
        for name, shape in (("factor", (lines, self.factor.shape[1])), ("limit_mw", (lines,)),
                            ("background_mw", (lines, hours))):  # fmt: skip
            found = getattr(self, name).shape
            if found != shape:
                faults.append(Fault("grid", "", name, f"shape {found}", f"shape {shape}"))
        for name in ("import_mw", "export_mw"):
            if not getattr(self, name) >= 0:
                value = f"{getattr(self, name)}"
                faults.append(Fault("grid", "", name, value, "a number not below 0"))
        if not faults:
            for k in np.flatnonzero(~(self.limit_mw >= 0)):
                value = f"{self.limit_mw[k]:g}"
                faults.append(Fault("grid", self.row[k], "limit_mw", value, "not below 0"))
        if faults:
            raise DataError(faults)

    @property
    def hours(self) -> int:
        """Number of hours."""
        return self.background_mw.shape[1]

    @cached_property
    def incidence(self) -> csr_array:
        """H with a row of ones for the substation, R of the theorems, shape (lines + 1, hubs)."""
        return csr_array(vstack([self.factor, csr_array(np.ones((1, self.factor.shape[1])))]))

    @cached_property
    def background(self) -> np.ndarray:
        """Background of the rows of `incidence`: none at the substation, where hubs count alone."""
        return np.vstack([self.background_mw, np.zeros((1, self.hours))])

    @cached_property
    def upper_mw(self) -> np.ndarray:
        """Limits of the rows of `incidence` in the direction of import, shape (lines + 1,)."""
        return np.append(self.limit_mw, self.import_mw)

    @cached_property
    def lower_mw(self) -> np.ndarray:
        """Limits against the direction of import, shape (lines + 1,)."""
        return np.append(self.limit_mw, self.export_mw)

    @cached_property
    def weight(self) -> np.ndarray:
        """Weight of each row, shape (lines + 1,)."""
        return np.append(np.full(len(self.row), self.line_weight), self.substation_weight)

    @cached_property
    def names(self) -> list[str]:
        """Names of the rows of `incidence`."""
        return [*self.row, "substation"]

    def loading_mw(self, w_mw: np.ndarray) -> np.ndarray:
        """Loading of each row in each hour, -f of the poster and S_t, shape (lines + 1, hours)."""
        return np.asarray(self.background + self.incidence @ w_mw)

    def overload_mw(self, w_mw: np.ndarray) -> np.ndarray:
        """Overload of each row in each hour, shape (lines + 1, hours)."""
        loading = self.loading_mw(w_mw)
        beyond = np.maximum(loading - self.upper_mw[:, None], -loading - self.lower_mw[:, None])
        return np.maximum(beyond, 0.0)

    def congestion_mwh(self, w_mw: np.ndarray) -> float:
        """Weighted sum of all overloads."""
        return float(self.weight @ self.overload_mw(w_mw).sum(axis=1))


def read_grid(folder: str | Path, hubs: Hubs, limits: dict[str, float]) -> HubGrid:
    """Read the lines of a feeder from ``lines.csv``.

    Parameters
    ----------
    folder : str or pathlib.Path
        Columns row, background_peak_mw, background_profile and one for each hub.
    hubs : Hubs
        Lines that carry none of them are left out.
    limits : dict of str to float
        Limit of each line by name, of substation_import and substation_export, MW.

    Returns
    -------
    HubGrid

    Raises
    ------
    DataError
        Listing every fault, also lines without a limit.
    """
    text, faults = read_text_table(Path(folder) / "lines.csv")
    if faults:
        raise DataError(faults)
    names = [name for name in text if name.startswith("hub_")]
    schema = {
        "row": text_column("line", unique=True),
        "background_peak_mw": number_column("background where its profile is 1", "MW", -1e6, 1e6),
        "background_profile": text_column("column of the profiles that it follows"),
    }
    import pandera.pandas as pa

    factors = {name: number_column("MW for one MW withdrawn", "", -10, 10) for name in names}
    table, faults = check_table(text, pa.DataFrameSchema(schema | factors), "lines")
    carried = [name for name in hubs.table["hub"] if name in names]
    used = table[(table[carried] != 0).any(axis=1)]
    for row in used.index[~used["row"].isin(list(limits))]:
        faults.append(
            fault_at(table, "lines", row, "row", repr(table["row"][row]), "a limit for it")
        )
    if faults:
        raise DataError(faults)
    shape = hubs.profiles[used["background_profile"].tolist()].to_numpy().T
    return HubGrid(
        used["row"].tolist(),
        csr_array(used[carried].to_numpy()),
        used["background_peak_mw"].to_numpy()[:, None] * shape,
        used["row"].map(limits).to_numpy(dtype=float),
        limits["substation_import"],
        limits["substation_export"],
    )


def read_limits(folder: str | Path, hubs: int, hours: int, level: float) -> dict[str, float]:
    """Read the limits of one case from ``limits.csv``: columns hubs, hours, fl, row, limit_mw."""
    table = pd.read_csv(Path(folder) / "limits.csv")
    case = table[(table["hubs"] == hubs) & (table["hours"] == hours) & (table["fl"] == level)]
    return dict(zip(case["row"], case["limit_mw"].astype(float), strict=True))
