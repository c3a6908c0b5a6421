"""Errors: bad data says where, a failed solve says why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class FlexlibError(Exception):
    """Base class of every error that flexlib raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One fault in input data.

    Attributes
    ----------
    file : str
        File, or name of the frame when the data did not come from a file.
    row : str
        Line of the file (its header is line 1), or "" for a fault of the whole file.
    column : str
        Column, or "" for a fault of the whole row or file.
    value : str
        What was found.
    expected : str
        What was expected instead.
    """

    file: str
    row: str
    column: str
    value: str
    expected: str

    def __str__(self) -> str:
        place = ", ".join(
            part
            for part in (
                self.file,
                f"row {self.row}" if self.row else "",
                f"column {self.column}" if self.column else "",
            )
            if part
        )
        return f"{place}: found {self.value}, expected {self.expected}"


class DataError(FlexlibError):
    """Input data that cannot be used; lists every fault, not the first.

    Parameters
    ----------
    faults : iterable of Fault
        All faults found; of several in one cell the first is kept.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        cells: dict[object, Fault] = {}
        for fault in faults:
            in_cell = (fault.file, fault.row, fault.column) if fault.row and fault.column else fault
            cells.setdefault(in_cell, fault)
        self.faults = tuple(cells.values())
        count = len(self.faults)
        head = f"{count} fault{'s' if count != 1 else ''} in the input data:"
        super().__init__("\n".join([head, *(f"  {fault}" for fault in self.faults)]))


class MissingExtra(FlexlibError):
    """A package that is needed here and not installed.

    Parameters
    ----------
    package : str
        The package.
    extra : str
        The extra of flexlib that holds it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'flexlib[{extra}]'")


class SolveError(FlexlibError):
    """A solve that did not end in a proven optimum."""


class Infeasible(SolveError):
    """No point satisfies all constraints.

    Parameters
    ----------
    message : str
        What conflicts, in words.
    conflict : iterable of str
        Names of constraints and bounds that cannot hold together (an irreducible set).
    """

    def __init__(self, message: str, conflict: Iterable[str] = ()) -> None:
        self.conflict = tuple(conflict)
        super().__init__(message)


class Unbounded(SolveError):
    """The objective has no bound in the direction of optimisation."""


class NotProven(SolveError):
    """A limit was reached before optimality was proven.

    Parameters
    ----------
    message : str
        Which limit.
    bound, incumbent : float
        Best bound and best objective known when the solver stopped.
    x : numpy.ndarray, optional
        The solver's incumbent itself, not checked, if it has one.
    """

    def __init__(
        self, message: str, bound: float, incumbent: float, x: np.ndarray | None = None
    ) -> None:
        self.bound = bound
        self.incumbent = incumbent
        self.x = x
        super().__init__(f"{message} (bound {bound:.9g}, incumbent {incumbent:.9g})")


class PowerFlowError(FlexlibError):
    """A power flow that did not converge, or whose solution fails its own residual."""


class VoltageAngleError(FlexlibError):
    """A voltage angle beyond what the linear norm of voltages can stand for."""


class NotSettled(SolveError):
    """An iteration that did not come to rest.

    Parameters
    ----------
    message : str
        What was still moving.
    rounds : object
        What each round did, where it is known: a table or a list.
    """

    def __init__(self, message: str, rounds: object = None) -> None:
        self.rounds = rounds
        super().__init__(message)
