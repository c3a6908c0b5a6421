"""Tables at the door: every frame that enters is read, typed and checked here.

A table is described by a pandera schema whose columns carry a unit and a description, so that
the check, the error message and the page of the book that documents the column are one text.
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pandera.pandas as pa

from flexlib.errors import Fault


def data_path(relative: str = "") -> Path:
    """Path of a file or folder of the data that flexlib carries.

    Parameters
    ----------
    relative : str
        Path below ``data/``, for example ``"feeders/de-simone-12"``.

    Returns
    -------
    pathlib.Path
        An existing path, in the repository or in the installed package.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    """
    package = Path(__file__).parent
    for root in (package / "data", package.parent / "data"):
        if (root / relative).exists():
            return root / relative
    raise FileNotFoundError(f"flexlib carries no data file or folder {relative!r}")


def fault_at(
    frame: pd.DataFrame, table: str, row: int | None, column: str, found: str, expected: str
) -> Fault:
    """Fault in a frame, named by file and line where the frame was read from a file.

    Parameters
    ----------
    frame : pandas.DataFrame
        The frame, as given or as typed by `check_table`.
    table : str
        Name of the table, used when the frame was made in code.
    row : int or None
        Position of the row, None for a fault of the whole table.
    column, found, expected : str
        See `flexlib.errors.Fault`.

    Returns
    -------
    Fault
    """
    lines = frame.attrs.get("lines", ())
    file = frame.attrs.get("file") if len(lines) == len(frame) else None  # else put together anew
    line = "" if row is None else str(lines[row] if file else row)
    return Fault(file or f"frame {table}", line, column, found, expected)


def text_column(description: str, *, unique: bool = False) -> pa.Column:
    """Column of identifiers: text that is never empty."""
    return pa.Column(str, unique=unique, description=description, metadata={"unit": ""})


def number_column(
    description: str,
    unit: str,
    low: float,
    high: float,
    *,
    optional: bool = False,
    above: bool = False,
) -> pa.Column:
    """Column of numbers with a unit and the range in which a value is plausible.

    Parameters
    ----------
    description, unit : str
        What it is, and its unit.
    low, high : float
        Ends of the valid range.
    optional : bool
        Whether the column, and any cell of it, may be empty.
    above : bool
        Whether `low` itself is outside the range.
    """
    interval = f"a number {'above' if above else 'from'} {low:g} to {high:g} {unit}".strip()
    return pa.Column(
        float,
        pa.Check.in_range(low, high, include_min=not above, error=interval),
        nullable=optional,
        required=not optional,
        description=description,
        metadata={"unit": unit, "range": interval},
    )


def describe(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Documentation of a table: column, type, unit, required, valid range, meaning."""
    rows = [
        {
            "column": name,
            "type": "text" if _is_text(column) else "number",
            "unit": (column.metadata or {}).get("unit", ""),
            "required": "yes" if column.required else "no",
            "valid": (column.metadata or {}).get("range", "not empty"),
            "meaning": column.description or "",
        }
        for name, column in schema.columns.items()
    ]
    return pd.DataFrame(rows)


def read_text_table(path: Path) -> tuple[pd.DataFrame, list[Fault]]:
    """Read a CSV file as text, cell by cell, or say why it cannot be read.

    Parameters
    ----------
    path : pathlib.Path
        A UTF-8 file with comma-separated columns and one header line.

    Returns
    -------
    frame : pandas.DataFrame
        All cells as text; empty on a fault.
    faults : list of Fault
        Missing or empty file, wrong encoding, broken rows.
    """
    name = path.name
    if not path.is_file():
        return pd.DataFrame(), [Fault(name, "", "", "no such file", f"a CSV file at {path}")]
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = str(raw.count(b"\n", 0, error.start) + 1)
        found = f"byte 0x{raw[error.start]:02x}"
        return pd.DataFrame(), [Fault(name, line, "", found, "text in UTF-8 encoding")]
    reader = csv.reader(StringIO(text))
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    rows = [(line, row) for line, row in rows if any(row)]
    if not rows:
        return pd.DataFrame(), [Fault(name, "", "", "an empty file", "a header and rows")]
    (_, header), *body = rows
    faults = [
        Fault(name, str(line), "", f"{len(row)} cells", f"{len(header)}, one for each column")
        for line, row in body
        if len(row) != len(header)
    ]
    faults += [
        Fault(name, "", column, "a second column of this name", "one")
        for column, times in Counter(header).items()
        if times > 1
    ]
    whole = [(line, row) for line, row in body if len(row) == len(header)]
    frame = pd.DataFrame([row for _, row in whole], columns=header, dtype=str)
    lines = [line for line, _ in whole]
    unbroken = range(lines[0], lines[0] + len(lines)) if lines else range(0)
    # pandas copies attrs all the time, and a range costs nothing
    frame.attrs.update(file=name, lines=unbroken if list(unbroken) == lines else lines)
    return frame, faults


def check_table(
    frame: pd.DataFrame, schema: pa.DataFrameSchema, table: str
) -> tuple[pd.DataFrame, list[Fault]]:
    """Give a frame the types of its schema and list everything that is wrong with it.

    Parameters
    ----------
    frame : pandas.DataFrame
        Cells as text (from a file) or as numbers (from code).
    schema : pandera.DataFrameSchema
        Columns made with `text_column` and `number_column`.
    table : str
        Name under which the faults of a frame made in code are reported.

    Returns
    -------
    frame : pandas.DataFrame
        Typed copy with the schema's columns in the schema's order; only complete when there is
        no fault.
    faults : list of Fault
        One for each bad cell, missing or unknown column, and repeated identifier.
    """
    faults = _column_faults(frame, schema, table)
    if frame.empty:
        faults.append(fault_at(frame, table, None, "", "no rows", "at least one row"))
    typed = pd.DataFrame(index=pd.RangeIndex(len(frame)))
    typed.attrs.update(frame.attrs)
    unreadable: set[tuple[str, int]] = set()
    for name, column in schema.columns.items():
        given = (
            frame[name].reset_index(drop=True) if name in frame else pd.Series(index=typed.index)
        )
        blank = given.isna() | (given.astype(str) == "")
        if _is_text(column):
            typed[name] = given.astype(str).where(~blank)
            continue
        typed[name] = given.map(_number).astype(float)
        for row in typed.index[typed[name].isna() & ~blank]:
            unreadable.add((name, row))
            faults.append(fault_at(frame, table, row, name, repr(str(given[row])), "a number"))
    for case in _failures(typed, schema):
        if case.column in frame and (case.column, case.row) not in unreadable:
            found, expected = _wording(case, schema)
            faults.append(fault_at(frame, table, case.row, case.column, found, expected))
    return typed, faults


def _number(cell: object) -> float:
    """Nearest number to what a cell says, NaN if it says none (pandas' own may be a bit off)."""
    try:
        return float("nan" if "_" in str(cell) else cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


class _Failure(NamedTuple):
    column: str
    row: int
    check: str
    value: object


def _is_text(column: pa.Column) -> bool:
    return "range" not in (column.metadata or {})


def _failures(typed: pd.DataFrame, schema: pa.DataFrameSchema) -> list[_Failure]:
    """Failed checks of single cells, from pandera."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # pandera's own concatenation
            schema.validate(typed, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases[error.failure_cases["index"].notna()]
        columns = (cases[name] for name in ("column", "index", "check", "failure_case"))
        return [_Failure(str(c), int(r), str(k), v) for c, r, k, v in zip(*columns, strict=True)]
    return []


def _wording(case: _Failure, schema: pa.DataFrameSchema) -> tuple[str, str]:
    """What a failed check found and what it expected."""
    if case.check == "not_nullable":
        return "an empty cell", (schema.columns[case.column].metadata or {}).get("range", "a name")
    if case.check == "field_uniqueness":
        return repr(str(case.value)), "an identifier used once"
    return f"{case.value:g}", case.check


def _column_faults(frame: pd.DataFrame, schema: pa.DataFrameSchema, table: str) -> list[Fault]:
    faults = []
    for name, column in schema.columns.items():
        if column.required and name not in frame:
            expected = f"a column {name!r} ({column.description})"
            faults.append(fault_at(frame, table, None, name, "no such column", expected))
    for name in frame.columns.difference(list(schema.columns), sort=False).astype(str):
        expected = (
            "balanced (single-phase equivalent) data, without phases"
            if _is_phase_column(name)
            else f"only the columns {', '.join(schema.columns)}"
        )
        faults.append(fault_at(frame, table, None, name, "an unknown column", expected))
    return faults


def _is_phase_column(name: str) -> bool:
    return "phase" in name or any(f"_{phase}_" in f"_{name}_" for phase in ("a", "b", "c", "n"))
