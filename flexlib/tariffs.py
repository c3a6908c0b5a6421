"""Tariffs that a DSO posts: adders on imports, and parts that cost more the more a hub takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from flexlib.errors import DataError, Fault

Quantity = Literal["import", "withdrawal", "injection"]
SIGNS: dict[str, tuple[float, float]] = {
    "import": (1.0, 0.0),
    "withdrawal": (1.0, -1.0),
    "injection": (-1.0, 1.0),
}  # of import and export


@dataclass(frozen=True)
class Block:
    """A further adder above a quantity: ``more max(q - above, 0)``.

    Parameters
    ----------
    above_mw : numpy.ndarray, shape (hubs, hours)
        Of imports from 0, of the other two any finite number.
    more_eur_per_mwh : numpy.ndarray, shape (hubs, hours)
    of : {"import", "withdrawal", "injection"}
        q: the import m, the net withdrawal m - o or the net injection o - m.
    """

    above_mw: np.ndarray
    more_eur_per_mwh: np.ndarray
    of: Quantity = "import"

    def beyond_mw(self, m_in_mw: np.ndarray, m_out_mw: np.ndarray) -> np.ndarray:
        """What is taken above the quantity, shape (hubs, hours)."""
        taken, given = SIGNS[self.of]
        return np.maximum(taken * m_in_mw + given * m_out_mw - self.above_mw, 0.0)


@dataclass(frozen=True)
class DemandCharge:
    """A price of the largest import of some hours.

    Parameters
    ----------
    hours : tuple of int
        Positions of the hours, for example of a part of the day.
    eur_per_mw : numpy.ndarray, shape (hubs,)
    """

    hours: tuple[int, ...]
    eur_per_mw: np.ndarray


@dataclass(frozen=True)
class Tariff:
    """What hubs pay to the DSO, beside energy prices and base tariff, :eq:`ties-bill`.

    Parameters
    ----------
    adder_eur_per_mwh : numpy.ndarray, shape (hubs, hours)
        delta.
    blocks : tuple of Block
    charges : tuple of DemandCharge
    curvature_eur_per_mwh_per_mw : numpy.ndarray, shape (hubs, hours)
        rho of the part ``1/2 rho m^2``: the marginal price of an import is ``delta + rho m``. None
        by default.

    Raises
    ------
    DataError
        Naming what has another shape, every entry that is below 0 or no number, and hours of a
        charge that there are not: with parts not below 0 imports stay dearer than exports, and the
        bill convex.
    """

    adder_eur_per_mwh: np.ndarray
    blocks: tuple[Block, ...] = ()
    charges: tuple[DemandCharge, ...] = ()
    curvature_eur_per_mwh_per_mw: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if not self.curvature_eur_per_mwh_per_mw.size:
            object.__setattr__(self, "curvature_eur_per_mwh_per_mw", np.zeros(self.shape))
        faults = _faults(self)
        if faults:
            raise DataError(faults)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of hubs and of hours."""
        return self.adder_eur_per_mwh.shape

    @property
    def linear(self) -> bool:
        """Whether there is no quadratic part, so that followers solve linear programmes."""
        return not self.curvature_eur_per_mwh_per_mw.any()

    def bill_eur(self, m_in_mw: np.ndarray, m_out_mw: np.ndarray | None = None) -> np.ndarray:
        """Bills for imports and exports of shape (hubs, hours), shape (hubs,).

        Raises
        ------
        ValueError
            If a block counts exports and none are given.
        """
        if m_out_mw is None:
            if any(block.of != "import" for block in self.blocks):
                raise ValueError("a block of this tariff counts exports: bill_eur needs m_out_mw")
            m_out_mw = np.zeros_like(m_in_mw)
        bill = self.adder_eur_per_mwh * m_in_mw
        bill = bill + self.curvature_eur_per_mwh_per_mw * m_in_mw**2 / 2
        for block in self.blocks:
            bill = bill + block.more_eur_per_mwh * block.beyond_mw(m_in_mw, m_out_mw)
        peaks = [c.eur_per_mw * m_in_mw[:, list(c.hours)].max(axis=1) for c in self.charges]
        return np.asarray(bill.sum(axis=1) + sum(peaks))


def no_tariff(hubs: int, hours: int) -> Tariff:
    """Nothing to pay: method A."""
    return Tariff(np.zeros((hubs, hours)))


def day_parts(hours: int, length: int) -> tuple[tuple[int, ...], ...]:
    """Hours in parts of one length, the last one shorter where they do not come out even.

    Raises
    ------
    DataError
        If the length is not a whole number of hours from 1.
    """
    if not (length >= 1 and length == int(length)):
        fault = Fault("day_parts", "", "length", f"{length:g}", "a whole number of hours from 1")
        raise DataError([fault])
    return tuple(tuple(range(t, min(t + length, hours))) for t in range(0, hours, length))


def _faults(tariff: Tariff) -> list[Fault]:
    """Every fault of a tariff, by hub and hour."""
    shape, name = tariff.shape, "adder_eur_per_mwh"
    if len(shape) != 2:
        return [Fault("tariff", "", name, f"shape {shape}", "shape (hubs, hours)")]
    faults = _value_faults(name, tariff.adder_eur_per_mwh, shape)
    name = "curvature_eur_per_mwh_per_mw"
    faults += _value_faults(name, tariff.curvature_eur_per_mwh_per_mw, shape)
    for k, block in enumerate(tariff.blocks):
        name = f"block {k + 1}"
        if block.of not in SIGNS:
            known = " or ".join(SIGNS)
            faults.append(Fault("tariff", "", f"{name}, of", repr(block.of), known))
        faults += _value_faults(f"{name}, more_eur_per_mwh", block.more_eur_per_mwh, shape)
        least = 0.0 if block.of == "import" else -np.inf
        faults += _value_faults(f"{name}, above_mw", block.above_mw, shape, least)
    for k, charge in enumerate(tariff.charges):
        name = f"charge {k + 1}"
        faults += _value_faults(f"{name}, eur_per_mw", charge.eur_per_mw, shape[:1])
        known_hours = set(charge.hours) & set(range(shape[1]))
        if not charge.hours or len(known_hours) < len(charge.hours):
            expected = f"hours from 0 to {shape[1] - 1}, each once"
            faults.append(Fault("tariff", "", f"{name}, hours", f"{charge.hours}", expected))
    return faults


def _value_faults(
    name: str, values: np.ndarray, shape: tuple[int, ...], least: float = 0.0
) -> list[Fault]:
    """Faults of the entries of one array of hubs, or of hubs and hours."""
    if values.shape != shape:
        return [Fault("tariff", "", name, f"shape {values.shape}", f"shape {shape}")]
    expected = "a number from 0" if least == 0 else "a finite number"
    faults = []
    for at in np.argwhere(~(np.isfinite(values) & (values >= least))):
        place = f"hub {at[0] + 1}" + (f", hour {at[1]}" if len(at) == 2 else "")
        faults.append(Fault("tariff", place, name, f"{values[tuple(at)]:g}", expected))
    return faults
