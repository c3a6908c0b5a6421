"""Certificates hold, fail, and say which line failed."""

from __future__ import annotations

import numpy as np
import pytest

from flexlib.certificate import Certificate, CertificateError, Check, largest


@pytest.mark.parametrize(
    ("value", "ok"),
    [(0.0, True), (1e-6, True), (1.1e-6, False), (np.nan, False), (np.inf, False), (-1.0, True)],
)
def test_a_check_is_a_number_within_its_tolerance(value: float, ok: bool) -> None:
    check = Check("residual", value, 1e-6, "A")
    assert check.ok is ok
    assert Certificate((check,)).ok is ok


def certificate(*values: float) -> Certificate:
    names = ("planes", "balance", "gap")
    return Certificate(
        tuple(
            Check(name, value, 1e-6, "A", "evidence" if name == "gap" else "exact")
            for name, value in zip(names, values, strict=True)
        )
    )


def test_a_certificate_that_holds() -> None:
    certificate(0.0, 1e-9, 5e-7).assert_ok()


@pytest.mark.parametrize("bad", [2e-6, np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_bad_line_spoils_it_and_is_named(position: int, bad: float) -> None:
    values = [0.0, 0.0, 0.0]
    values[position] = bad
    broken = certificate(*values)
    assert not broken.ok
    with pytest.raises(CertificateError) as error:
        broken.assert_ok()
    names = ("planes", "balance", "gap")
    assert [name in str(error.value) for name in names] == [k == position for k in range(3)]
    assert "at most 1e-06 allowed" in str(error.value)


def test_all_bad_lines_are_named() -> None:
    with pytest.raises(CertificateError, match=r"planes: 1 A.*; gap: nan A"):
        certificate(1.0, 0.0, np.nan).assert_ok()


def test_the_table_says_what_does_not_hold() -> None:
    broken = certificate(1.0, 0.0, np.nan)
    table = broken.frame()
    assert table["holds"].tolist() == ["NO", "yes", "NO"]
    assert table["check"].tolist() == ["planes", "balance", "gap"]
    assert table["basis"].tolist() == ["exact", "exact", "evidence"]
    for text in (str(broken), broken._repr_html_()):
        assert "NO" in text
        assert "<1e-07" in text.replace("&lt;", "<")
        assert "1.00e+00" in text


def test_largest() -> None:
    assert largest(np.array([])) == 0
    assert largest(np.array([-3.0, -1.0])) == 0
    assert largest(np.array([1.0, 3.0])) == 3
    assert np.isnan(largest(np.array([1.0, np.nan])))
