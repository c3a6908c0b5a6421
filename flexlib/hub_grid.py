"""The grid that hubs share: lines, a substation, and what is too much on them.

The poster's line flow is ``f = f_bg - H w`` with w the hubs' net withdrawals: a withdrawal loads a
line against the direction of f. Here its negative is used, the loading ``background + H w``, in
which consumption is positive. Congestion is the sum of what is beyond the limits, MWh.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
from scipy.sparse import csr_array, vstack

from flexlib.errors import DataError, Fault
from flexlib.hubs import Hubs, profile_names
from flexlib.tables import check_table, fault_at, number_column, read_text_table, text_column

LINES = pa.DataFrameSchema(
    {
        "row": text_column("line", unique=True),
        "background_peak_mw": number_column("background where its profile is 1", "MW", -1e6, 1e6),
        "background_profile": text_column("column of the profiles that it follows"),
    }
)
LIMITS = pa.DataFrameSchema(
    {
        "row": text_column("line, or substation_import or substation_export"),
        "limit_mw": number_column("limit, of a line in both directions", "MW", 0, 1e9),
    }
)
_NEGLIGIBLE_MW = 1e-6


@dataclass(frozen=True)
class HubGrid:
    """Linear grid of some hubs.

    Parameters
    ----------
    lines : list of str
        Names of the lines.
    factor : scipy.sparse.csr_array, shape (lines, hubs)
        H: MW on a line for one MW withdrawn.
    background_mw : numpy.ndarray, shape (lines, hours)
        Loading without the hubs.
    limit_mw : numpy.ndarray, shape (lines,)
        Limit in both directions; infinite for none.
    import_mw, export_mw : float
        Limits of the substation on what the hubs import and export in sum.
    line_weight, substation_weight : float
        Weights of overloads in the leader's objective.

    Raises
    ------
    DataError
        Naming what has another shape, is not a number, or is a limit or weight below 0, and
        names that two rows share.
    """

    lines: list[str]
    factor: csr_array
    background_mw: np.ndarray
    limit_mw: np.ndarray
    import_mw: float
    export_mw: float
    line_weight: float = 1.0
    substation_weight: float = 1.0

    def __post_init__(self) -> None:
        faults = _shape_faults(self) or _limit_faults(self)
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
        return np.append(np.full(len(self.lines), self.line_weight), self.substation_weight)

    @cached_property
    def names(self) -> list[str]:
        """Names of the rows of `incidence`."""
        return [*self.lines, "substation"]

    def loading_mw(self, w_mw: np.ndarray) -> np.ndarray:
        """Loading of each row in each hour: -f of the poster, and S_t; shape (lines + 1, hours)."""
        return np.asarray(self.background + self.incidence @ w_mw)

    def flow_mw(self, w_mw: np.ndarray) -> np.ndarray:
        """Line flows f with the poster's sign, see :eq:`hubs-flow`, shape (lines, hours)."""
        return np.asarray(-self.background_mw - self.factor @ w_mw)

    def overload_mw(self, w_mw: np.ndarray) -> np.ndarray:
        """Overload of each row in each hour, shape (lines + 1, hours).

        Of lines :eq:`hubs-overload`, of the substation :eq:`hubs-overload-substation`.
        """
        loading = self.loading_mw(w_mw)
        beyond = np.maximum(loading - self.upper_mw[:, None], -loading - self.lower_mw[:, None])
        return np.maximum(beyond, 0.0)

    def congestion_mwh(self, w_mw: np.ndarray) -> float:
        """Weighted sum of all overloads, see :eq:`hubs-congestion` and :eq:`prices-congestion`."""
        return float(self.weight @ self.overload_mw(w_mw).sum(axis=1))

    def consequences(self, w_mw: np.ndarray) -> pd.DataFrame:
        """What withdrawals (hubs, hours) do to each row.

        Returns
        -------
        pandas.DataFrame
            Index the rows; columns most_mw and least_mw (loading over the hours), limit_mw and
            reverse_limit_mw, hours_over, overload_mwh and reverse_overload_mwh.
        """
        loading = self.loading_mw(w_mw)
        over = np.maximum(loading - self.upper_mw[:, None], 0.0)
        reverse = np.maximum(-loading - self.lower_mw[:, None], 0.0)
        return pd.DataFrame(
            {
                "most_mw": loading.max(axis=1),
                "least_mw": loading.min(axis=1),
                "limit_mw": self.upper_mw,
                "reverse_limit_mw": self.lower_mw,
                "hours_over": (over + reverse > _NEGLIGIBLE_MW).sum(axis=1),
                "overload_mwh": over.sum(axis=1),
                "reverse_overload_mwh": reverse.sum(axis=1),
            },
            index=pd.Index(self.names, name="row"),
        )

    def assert_fits(self, hubs: Hubs) -> None:
        """Raise `DataError` if the grid is for another number of hubs or hours."""
        found = {"hubs": self.factor.shape[1], "hours": self.hours}
        expected = {"hubs": len(hubs), "hours": hubs.hours}
        faults = [
            Fault("grid", "", name, f"{found[name]} {name}", f"{expected[name]}, as in the hubs")
            for name in found
            if found[name] != expected[name]
        ]
        if faults:
            raise DataError(faults)


def read_grid(folder: str | Path, hubs: Hubs, limits: pd.Series) -> HubGrid:
    """Read the lines of a feeder from ``lines.csv``.

    Parameters
    ----------
    folder : str or pathlib.Path
        Columns row, background_peak_mw, background_profile and, named after it, one for each hub:
        MW on the line for one MW that the hub withdraws.
    hubs : Hubs
        Columns of others are not used; lines that carry none of these are left out.
    limits : pandas.Series
        Limit of each line by name, of substation_import and substation_export, MW; see
        `read_limits`.

    Returns
    -------
    HubGrid

    Raises
    ------
    DataError
        Listing every fault, also hubs without a column and lines without a limit.
    """
    text, faults = read_text_table(Path(folder) / "lines.csv")
    if faults:
        raise DataError(faults)
    names = hubs.table["hub"].tolist()
    factors = [name for name in text if name not in LINES.columns] + names
    schema = LINES.add_columns(
        {name: number_column("MW for one MW withdrawn", "", -10, 10) for name in factors}
    )
    table, faults = check_table(text, schema, "lines")
    faults += [
        fault_at(text, "lines", None, name, "a hub of this name", "another name for the hub")
        for name in names
        if name in LINES.columns
    ]
    if faults:
        raise DataError(faults)
    used = table[(table[names] != 0).any(axis=1)]
    followed = profile_names(hubs.profiles)
    for column, known, expected in (
        ("row", limits.index, "a limit for it"),
        ("background_profile", followed, f"one of {', '.join(followed)}"),
    ):
        faults += [
            fault_at(table, "lines", row, column, repr(used[column][row]), expected)
            for row in used.index[~used[column].isin(known)]
        ]
    faults += _row_faults(limits)
    if faults:
        raise DataError(faults)
    limits = pd.to_numeric(limits, errors="coerce").astype(float)
    shape = hubs.profiles[used["background_profile"].tolist()].to_numpy().T
    return HubGrid(
        used["row"].tolist(),
        csr_array(used[names].to_numpy()),
        used["background_peak_mw"].to_numpy()[:, None] * shape,
        limits[used["row"]].to_numpy(),
        float(limits["substation_import"]),
        float(limits["substation_export"]),
    )


def read_limits(folder: str | Path, **case: float) -> pd.Series:
    """Read limits from ``limits.csv``: columns row and limit_mw, and one for each key of a case.

    Parameters
    ----------
    folder : str or pathlib.Path
    **case : float
        Value of each further column in the rows that are meant.

    Returns
    -------
    pandas.Series
        limit_mw by row.

    Raises
    ------
    DataError
        Listing every fault, also a case that is not there and a row that is there twice.
    """
    text, faults = read_text_table(Path(folder) / "limits.csv")
    if faults:
        raise DataError(faults)
    keys = {name: number_column("key of the case", "", -1e9, 1e9) for name in case}
    table, faults = check_table(text, LIMITS.add_columns(keys), "limits")
    if not faults:
        meant = table[(table[list(case)] == pd.Series(case, dtype=float)).all(axis=1)]
        wanted = ", ".join(f"{name} {value:g}" for name, value in case.items())
        if meant.empty:
            faults.append(fault_at(table, "limits", None, "", "no such row", f"rows of {wanted}"))
        for row in meant.index[meant["row"].duplicated()]:
            found = repr(meant["row"][row])
            faults.append(fault_at(table, "limits", row, "row", f"{found} again", "each row once"))
    if faults:
        raise DataError(faults)
    return meant.set_index("row")["limit_mw"]


def _row_faults(limits: pd.Series) -> list[Fault]:
    """Limits of the substation that are missing, and rows with two limits."""
    return [
        Fault("limits", "", "row", f"no {name!r}", "a limit for it")
        for name in ("substation_import", "substation_export")
        if name not in limits
    ] + [
        Fault("limits", "", "row", f"{name!r} again", "each row once")
        for name in limits.index[limits.index.duplicated()]
    ]


def _shape_faults(grid: HubGrid) -> list[Fault]:
    lines, background = len(grid.lines), grid.background_mw.shape
    if len(background) != 2:
        found = f"shape {background}"
        return [Fault("grid", "", "background_mw", found, f"shape ({lines}, hours)")]
    expected = {
        "factor": (lines, grid.factor.shape[1]),
        "limit_mw": (lines,),
        "background_mw": (lines, background[1]),
    }
    faults = [
        Fault("grid", "", name, f"shape {getattr(grid, name).shape}", f"shape {shape}")
        for name, shape in expected.items()
        if getattr(grid, name).shape != shape
    ]
    names = pd.Index(grid.names)
    return faults + [
        Fault("grid", "", "lines", f"{name!r} again", "a name for each row, the substation too")
        for name in names[names.duplicated()].unique()
    ]


def _limit_faults(grid: HubGrid) -> list[Fault]:
    faults = [
        Fault("grid", "", name, f"{getattr(grid, name):g}", "a number from 0")
        for name in ("import_mw", "export_mw")
        if not getattr(grid, name) >= 0
    ]
    faults += [
        Fault("grid", "", name, f"{getattr(grid, name):g}", "a finite number from 0")
        for name in ("line_weight", "substation_weight")
        if not 0 <= getattr(grid, name) < np.inf
    ]
    faults += [
        Fault("grid", grid.lines[k], "limit_mw", f"{grid.limit_mw[k]:g}", "a number from 0")
        for k in np.flatnonzero(~(grid.limit_mw >= 0))
    ]
    faults += [
        Fault("grid", grid.lines[k], "background_mw", f"{grid.background_mw[k, t]} in hour {t}",
              "a finite number")
        for k, t in np.argwhere(~np.isfinite(grid.background_mw))
    ]  # fmt: skip
    table = grid.factor.tocoo()
    faults += [
        Fault("grid", grid.lines[k], f"factor of hub {i + 1}", f"{value}", "a finite number")
        for k, i, value in zip(table.row, table.col, table.data, strict=True)
        if not np.isfinite(value)
    ]
    return faults
