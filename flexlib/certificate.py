"""Certificates: what is known about a result without trusting the solver that found it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flexlib.errors import FlexlibError


class CertificateError(FlexlibError):
    """A result whose certificate does not hold."""


@dataclass(frozen=True)
class Check:
    """One line of a certificate: a number that must not exceed its tolerance.

    Attributes
    ----------
    name : str
        What was checked.
    value : float
        Violation, residual or gap, recomputed from the data.
    tolerance : float
        Largest accepted value.
    unit : str
        Unit of both.
    basis : str
        "exact" where the value is a proof up to rounding, "evidence" where it rests on samples.
    """

    name: str
    value: float
    tolerance: float
    unit: str
    basis: str = "exact"

    @property
    def ok(self) -> bool:
        """Whether the value is a number within its tolerance."""
        return bool(self.value <= self.tolerance)


@dataclass(frozen=True, repr=False)
class Certificate:
    """All checks of one result.

    Parameters
    ----------
    checks : tuple of Check
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def assert_ok(self) -> None:
        """Raise `CertificateError` naming every check that does not hold."""
        failed = [check for check in self.checks if not check.ok]
        if failed:
            raise CertificateError(
                "; ".join(
                    f"{c.name}: {c.value:.3g} {c.unit}, at most {c.tolerance:.1g} allowed"
                    for c in failed
                )
            )

    def frame(self) -> pd.DataFrame:
        """The certificate as a table: check, value, tolerance, unit, basis, holds."""
        return pd.DataFrame(
            {
                "check": [c.name for c in self.checks],
                "value": [c.value for c in self.checks],
                "tolerance": [c.tolerance for c in self.checks],
                "unit": [c.unit for c in self.checks],
                "basis": [c.basis for c in self.checks],
                "holds": ["yes" if c.ok else "NO" for c in self.checks],
            }
        )

    def __str__(self) -> str:
        """Small table; values below a tenth of their tolerance are not spelt out."""
        return self._shown().to_string(index=False)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return str(self._shown().to_html(index=False, border=0))

    def _shown(self) -> pd.DataFrame:
        frame = self.frame()
        frame["value"] = [
            f"<{c.tolerance / 10:.0e}" if abs(c.value) < c.tolerance / 10 else f"{c.value:.2e}"
            for c in self.checks
        ]
        frame["tolerance"] = [f"{c.tolerance:.0e}" for c in self.checks]
        return frame


def largest(violation: np.ndarray) -> float:
    """Largest entry of an array of violations, 0 if there is none; NaN stays NaN."""
    return float(np.max(violation, initial=0.0))
