"""Tariffs: bills by hand, and entries that are refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from flexlib import DataError
from flexlib.tariffs import Block, Tariff, no_tariff


def test_a_bill_by_hand() -> None:
    adder = np.array([[10.0, 0.0], [0.0, 5.0]])
    blocks = (
        Block(np.array([[1.0, 0.0], [2.0, 2.0]]), np.array([[20.0, 3.0], [0.0, 7.0]])),
        Block(np.full((2, 2), 2.0), np.full((2, 2), 100.0)),
    )
    m_in = np.array([[1.5, 2.0], [9.0, 2.5]])
    one, two = Tariff(adder), Tariff(adder, blocks)
    np.testing.assert_allclose(one.bill_eur(m_in), [15, 12.5])
    # hub 1: 15 + 20 x 0.5, 3 x 2; hub 2: 100 x 7, 5 x 2.5 + 7 x 0.5 + 100 x 0.5
    np.testing.assert_allclose(two.bill_eur(m_in), [15 + 10 + 6, 700 + 12.5 + 3.5 + 50])
    assert two.shape == (2, 2)


def test_a_bill_grows_with_imports_and_is_convex() -> None:
    rng = np.random.default_rng(1)
    block = Block(rng.uniform(0, 2, (3, 4)), rng.uniform(0, 50, (3, 4)))
    tariff = Tariff(rng.uniform(0, 60, (3, 4)), (block, block))
    for _ in range(20):
        one, more = rng.uniform(0, 3, (3, 4)), rng.uniform(0, 3, (3, 4))
        bills = [tariff.bill_eur(m) for m in (one, one + more, one + more / 2)]
        assert (bills[1] >= bills[0]).all()
        assert (bills[2] <= (bills[0] + bills[1]) / 2 + 1e-9).all()
    np.testing.assert_array_equal(tariff.bill_eur(np.zeros((3, 4))), np.zeros(3))


def test_no_tariff() -> None:
    tariff = no_tariff(2, 3)
    assert tariff.shape == (2, 3)
    np.testing.assert_array_equal(tariff.bill_eur(np.ones((2, 3))), np.zeros(2))
    assert tariff.blocks == ()


@pytest.mark.parametrize("value", [-1e-9, -5.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["adder", "more", "above"])
def test_an_entry_that_is_no_number_from_0_is_named(where: str, value: float) -> None:
    bad = np.ones((2, 3))
    bad[1, 2] = value
    good = np.ones((2, 3))
    name = {
        "adder": "adder_eur_per_mwh", "more": "block 2, more_eur_per_mwh",
        "above": "block 2, above_mw",
    }[where]  # fmt: skip
    second = {"more": Block(good, bad), "above": Block(bad, good)}.get(where)
    blocks = (Block(good, good), second) if second else ()
    with pytest.raises(DataError) as error:
        Tariff(good if second else bad, blocks)
    (fault,) = error.value.faults
    assert (fault.file, fault.row, fault.column) == ("tariff", "hub 2, hour 2", name)
    assert fault.value == f"{value:g}"
    assert fault.expected == "a number from 0"


def test_every_bad_entry_at_once() -> None:
    with pytest.raises(DataError) as error:
        Tariff(np.array([[-1.0, 0.0], [np.nan, 2.0]]))
    assert [fault.row for fault in error.value.faults] == ["hub 1, hour 0", "hub 2, hour 0"]


@pytest.mark.parametrize("shape", [(3,), (), (2, 3, 1)])
def test_adders_of_another_shape(shape: tuple[int, ...]) -> None:
    for value in (1.0, -1.0):
        with pytest.raises(DataError) as error:
            Tariff(np.full(shape, value))
        (fault,) = error.value.faults
        assert (fault.column, fault.value) == ("adder_eur_per_mwh", f"shape {shape}")
        assert fault.expected == "shape (hubs, hours)"


@pytest.mark.parametrize("shape", [(3, 2), (3,), (2, 3, 1)])
def test_blocks_of_another_shape(shape: tuple[int, ...]) -> None:
    good = np.ones((2, 3))
    with pytest.raises(DataError) as error:
        Tariff(good, (Block(good, np.ones(shape)),))
    (fault,) = error.value.faults
    assert fault.column == "block 1, more_eur_per_mwh"
    assert (fault.value, fault.expected) == (f"shape {shape}", "shape (2, 3)")
