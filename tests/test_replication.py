"""The source's own forms do what their names say, and the exact form is never below them."""

import numpy as np
import pytest

from flexlib.claims_de_simone import market, published_clearing
from flexlib.planes import along
from flexlib.replication import (
    clear_with_deviation,
    deviation_by_base_sign_a,
    deviation_unsigned_a,
    uncertain_with_previous_bus_voltage,
)
from flexlib.robust import clear
from flexlib.robust_rows import current_margins_a


def test_base_sign_raises_both_parts_of_the_base_current():
    m = market(3)
    i0_a, deviation_a = m.flow.i0_a, deviation_by_base_sign_a(m)
    to_1_2 = len(m.network.branches)
    assert i0_a[to_1_2].real < 0 < i0_a[to_1_2].imag
    for part in (np.real, np.imag):
        assert (part(deviation_a) * np.where(part(i0_a) < 0, -1, 1) >= 0).all()
        spread = np.abs(part(m.uncertainty.vertices() @ m.uncertain[1].T)).max(axis=0)
        np.testing.assert_allclose(np.abs(part(deviation_a)), spread, rtol=1e-12, atol=1e-15)


def test_unsigned_sum_is_the_corner_at_which_all_loads_are_large():
    m = market(3)
    all_large = m.uncertainty.vertices()[0]
    assert (all_large == 1).all()
    np.testing.assert_allclose(deviation_unsigned_a(m), m.uncertain[1] @ all_large, rtol=1e-12)


def test_previous_bus_voltage_is_that_of_the_bus_before():
    m = market(2)
    _, shifted = uncertain_with_previous_bus_voltage(m)
    v_pu, bus = m.flow.v_fixed_pu, m.network.load_bus[m.uncertainty.load]
    ratio = np.conj(v_pu[bus] / v_pu[bus - 1])
    np.testing.assert_allclose(shifted, m.uncertain[1] * ratio, rtol=1e-9, atol=1e-13)


def test_exact_margins_are_never_below_a_corner():
    m = market(3)
    unsigned = along(m.norm.normals(m.flow.i0_a), deviation_unsigned_a(m)[:, None])
    assert (current_margins_a(m) >= unsigned - 1e-12).all()


@pytest.mark.parametrize("case", [2, 3])
def test_on_this_feeder_the_unsigned_sum_clears_as_the_exact_form(case):
    # all columns point the same way, so only the voltage of the previous bus is wrong
    m = market(case)
    unsigned = clear_with_deviation(m, deviation_unsigned_a(m))
    assert unsigned.cost_eur_per_h == pytest.approx(clear(m).cost_eur_per_h, abs=1e-6)
    assert published_clearing(case).cost_eur_per_h < unsigned.cost_eur_per_h - 1e-3
