"""Tariffs: bills by hand, and entries that are refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from flexlib import DataError
from flexlib.tariffs import Block, DemandCharge, Quantity, Tariff, day_parts, no_tariff


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


# --------------------------------------------------------------------------------------------
# Net exchange, demand charges, the quadratic part, parts of the day


def test_a_bill_of_every_part_by_hand() -> None:
    one = np.ones((1, 3))
    m_in, m_out = np.array([[3.0, 0.0, 1.0]]), np.array([[0.0, 2.0, 0.0]])
    above = Block(np.array([[1.0, -1.0, 1.0]]), 10 * one, "withdrawal")  # w = 3, -2, 1: 2, 0, 0
    below = Block(np.array([[-4.0, 0.5, 0.0]]), 7 * one, "injection")  # -w = -3, 2, -1: 1, 1.5, 0
    charges = (DemandCharge((0, 1), np.array([5.0])), DemandCharge((2,), np.array([2.0])))
    rho = np.array([[4.0, 9.0, 2.0]])
    parts = {
        "net": (Tariff(0 * one, (above, below)), 10 * 2 + 7 * 2.5),
        "charges": (Tariff(0 * one, charges=charges), 5 * 3 + 2 * 1),
        "curved": (Tariff(0 * one, curvature_eur_per_mwh_per_mw=rho), 2 * 9 + 1),
        "all": (Tariff(6 * one, (above, below), charges, rho), 24 + 37.5 + 17 + 19),
    }
    for name, (tariff, bill) in parts.items():
        np.testing.assert_allclose(tariff.bill_eur(m_in, m_out), [bill], err_msg=name)
        assert tariff.linear == (name in ("net", "charges"))
    with pytest.raises(ValueError, match="bill_eur needs m_out_mw"):
        parts["net"][0].bill_eur(m_in)
    assert parts["curved"][0].bill_eur(m_in) == pytest.approx(19)


def test_marginal_price_of_the_quadratic_part() -> None:
    rho, delta = np.array([[8.0]]), np.array([[3.0]])
    tariff = Tariff(delta, curvature_eur_per_mwh_per_mw=rho)
    m, h = np.array([[1.7]]), 1e-6
    slope = (tariff.bill_eur(m + h) - tariff.bill_eur(m - h)) / (2 * h)
    np.testing.assert_allclose(slope, 3.0 + 8.0 * 1.7, rtol=1e-8)


@pytest.mark.parametrize("of", ["withdrawal", "injection"])
def test_quantities_of_net_blocks_may_be_negative_and_must_be_finite(of: Quantity) -> None:
    good = np.ones((2, 3))
    assert Tariff(good, (Block(-good, good, of),)).blocks[0].of == of
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError) as error:
            Tariff(good, (Block(np.full((2, 3), value), good, of),))
        assert error.value.faults[-1].row == "hub 2, hour 2"
        assert error.value.faults[-1].column == "block 1, above_mw"
        assert error.value.faults[-1].expected == "a finite number"


def test_a_block_of_no_known_quantity() -> None:
    good = np.ones((2, 3))
    with pytest.raises(DataError, match="import or withdrawal or injection"):
        Tariff(good, (Block(good, good, "net"),))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf])
def test_curvature_and_charges_below_0_are_named(value: float) -> None:
    good, bad = np.ones((2, 3)), np.ones((2, 3))
    bad[0, 1] = value
    with pytest.raises(DataError) as error:
        Tariff(good, curvature_eur_per_mwh_per_mw=bad)
    (fault,) = error.value.faults
    assert (fault.row, fault.column) == ("hub 1, hour 1", "curvature_eur_per_mwh_per_mw")
    with pytest.raises(DataError) as error:
        Tariff(good, charges=(DemandCharge((0,), np.array([1.0, value])),))
    (fault,) = error.value.faults
    assert (fault.row, fault.column) == ("hub 2", "charge 1, eur_per_mw")
    assert fault.expected == "a number from 0"


@pytest.mark.parametrize("hours", [(), (0, 0), (3,), (-1,)])
def test_hours_of_a_charge(hours: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as error:
        Tariff(np.ones((2, 3)), charges=(DemandCharge(hours, np.ones(2)),))
    (fault,) = error.value.faults
    assert (fault.column, fault.value) == ("charge 1, hours", str(hours))
    assert fault.expected == "hours from 0 to 2, each once"


def test_parts_of_another_shape() -> None:
    good = np.ones((2, 3))
    for tariff, name in (
        ({"curvature_eur_per_mwh_per_mw": np.ones((3, 2))}, "curvature_eur_per_mwh_per_mw"),
        ({"charges": (DemandCharge((0,), np.ones(3)),)}, "charge 1, eur_per_mw"),
    ):
        with pytest.raises(DataError) as error:
            Tariff(good, **tariff)  # type: ignore[arg-type]
        (fault,) = error.value.faults
        assert fault.column == name
        assert fault.expected.startswith("shape (2,")


def test_parts_of_the_day() -> None:
    assert day_parts(5, 2) == ((0, 1), (2, 3), (4,))
    assert day_parts(4, 4) == ((0, 1, 2, 3),)
    assert day_parts(2, 1) == ((0,), (1,))
    for length in (0, -1, 1.5):
        with pytest.raises(DataError, match="whole number of hours"):
            day_parts(5, length)  # type: ignore[arg-type]
