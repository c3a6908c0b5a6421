"""Tariffs that a DSO posts: adders on imports, and blocks that cost more above a quantity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexlib.errors import DataError, Fault


@dataclass(frozen=True)
class Block:
    """A further adder on imports above a quantity.

    Parameters
    ----------
    above_mw : numpy.ndarray, shape (hubs, hours)
    more_eur_per_mwh : numpy.ndarray, shape (hubs, hours)
    """

    above_mw: np.ndarray
    more_eur_per_mwh: np.ndarray


@dataclass(frozen=True)
class Tariff:
    """What hubs pay to the DSO for imports, beside energy prices and base tariff.

    Parameters
    ----------
    adder_eur_per_mwh : numpy.ndarray, shape (hubs, hours)
        delta.
    blocks : tuple of Block

    Raises
    ------
    DataError
        Naming what has another shape, and every entry that is below 0 or no number: with adders
        not below 0 imports stay dearer than exports, and the bill convex.
    """

    adder_eur_per_mwh: np.ndarray
    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        entries = {"adder_eur_per_mwh": self.adder_eur_per_mwh}
        for k, block in enumerate(self.blocks):
            entries[f"block {k + 1}, more_eur_per_mwh"] = block.more_eur_per_mwh
            entries[f"block {k + 1}, above_mw"] = block.above_mw
        faults = []
        for name, values in entries.items():
            if values.ndim != 2 or values.shape != self.shape:
                expected = f"shape {self.shape}" if len(self.shape) == 2 else "shape (hubs, hours)"
                shapes = f"shape {values.shape}", expected
                faults.append(Fault("tariff", "", name, *shapes))
                continue
            for i, t in np.argwhere(~(np.isfinite(values) & (values >= 0))):
                place = f"hub {i + 1}, hour {t}"
                faults.append(Fault("tariff", place, name, f"{values[i, t]:g}", "a number from 0"))
        if faults:
            raise DataError(faults)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of hubs and of hours."""
        return self.adder_eur_per_mwh.shape

    def bill_eur(self, m_in_mw: np.ndarray) -> np.ndarray:
        """Bills for imports of shape (hubs, hours), shape (hubs,)."""
        bill = self.adder_eur_per_mwh * m_in_mw
        for block in self.blocks:
            bill = bill + block.more_eur_per_mwh * np.maximum(m_in_mw - block.above_mw, 0.0)
        return np.asarray(bill.sum(axis=1))


def no_tariff(hubs: int, hours: int) -> Tariff:
    """Nothing to pay: method A."""
    return Tariff(np.zeros((hubs, hours)))
