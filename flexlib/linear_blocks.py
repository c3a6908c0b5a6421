"""Linear programmes put together from blocks: named columns, rows as sums of blocks."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, hstack, sparray, vstack

from flexlib.linear_program import LinearProgram


class LinearBlocks:
    """A linear programme in the making, in blocks of named columns and of rows."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}
        self._blocks: list[tuple[dict[str, sparray], np.ndarray, np.ndarray]] = []

    def add_columns(
        self, name: str, low: np.ndarray, high: np.ndarray, cost: np.ndarray | None = None
    ) -> None:
        """Add a block of columns.

        Parameters
        ----------
        name : str
        low, high : numpy.ndarray, shape (count,)
        cost : numpy.ndarray, shape (count,), optional
            None by default.
        """
        self._parts[name] = [low, high, np.zeros(len(low)) if cost is None else cost]

    def add_rows(self, low: np.ndarray | float, high: np.ndarray, **terms: sparray) -> None:
        """Add rows ``low <= sum of term @ columns <= high``.

        Parameters
        ----------
        low : numpy.ndarray, shape (count,), or float
        high : numpy.ndarray, shape (count,)
        **terms : scipy.sparse.sparray
            By the name of their columns; blocks that are left out are zero.
        """
        self._blocks.append((terms, np.broadcast_to(low, high.shape), high))

    def programme(self) -> LinearProgram:
        """Return the whole."""
        low, high, cost = (
            np.concatenate([part[j] for part in self._parts.values()]) for j in range(3)
        )
        a = vstack(
            [
                hstack(
                    [
                        terms.get(name, csr_array((len(top), len(part[0]))))
                        for name, part in self._parts.items()
                    ]
                )
                for terms, _, top in self._blocks
            ]
        )
        return LinearProgram(
            c=cost,
            a=csr_array(a),
            row_lower=np.concatenate([bottom for _, bottom, _ in self._blocks]),
            row_upper=np.concatenate([top for _, _, top in self._blocks]),
            lower=low,
            upper=high,
            row_names=[
                f"{' + '.join(terms)}, {j + 1}"
                for terms, _, top in self._blocks
                for j in range(len(top))
            ],
            column_names=[
                f"{name} {j + 1}" for name, part in self._parts.items() for j in range(len(part[0]))
            ],
        )
