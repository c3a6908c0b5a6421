"""Equations, code and chapter point at each other, and the equations hold at the solution."""

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from flexlib import Box, Market, Network, robust_model, solve, voronoi_model
from flexlib.claims_de_simone import corrected_clearing, market
from flexlib.robust_certificate import residuals, state_of_activation, state_of_model
from flexlib.robust_limits import reach

BOOK = Path(__file__).parents[1] / "book"
CHAPTER = (BOOK / "robust-market.md").read_text(encoding="utf-8")
LABEL = re.compile(r"^\$\$ \(([\w-]+)\)$", re.M)
LABELS = set(LABEL.findall(CHAPTER))
FUNCTIONS = {
    name: function
    for name, function in inspect.getmembers(robust_model, inspect.isfunction)
    if name.startswith("eq_")
}


def number(name):
    return name.split("_")[1]


def test_chapter_labels_the_equations_of_the_model():
    wanted = {f"robust-{n}" for n in (59, 60, 61, 62, 63, 64, 74, 75, 82, 83)}
    assert wanted <= LABELS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_and_equation_point_at_each_other(name):
    label = f"robust-{number(name)}"
    assert label in LABELS
    assert f":eq:`{label}`" in FUNCTIONS[name].__doc__
    assert f"{{py:func}}`flexlib.robust_model.{name}`" in CHAPTER


@pytest.mark.parametrize("name", FUNCTIONS)
def test_source_of_every_constraint_is_on_the_page(name):
    include = f"```{{literalinclude}} ../flexlib/robust_model.py\n:pyobject: {name}\n```"
    assert include in CHAPTER


def test_every_labelled_equation_of_the_source_has_a_function_or_a_link():
    with_function = {f"robust-{number(name)}" for name in FUNCTIONS}
    of_source = {label for label in LABELS if re.search(r"-\d+[a-z]?$", label)}
    assert of_source - with_function == {"robust-74"}
    assert "{py:class}`flexlib.planes.LambdaBeta`" in CHAPTER


def test_every_docstring_reference_has_its_label():
    labels = {
        label for page in BOOK.glob("*.md") for label in LABEL.findall(page.read_text("utf-8"))
    }
    source = Path(inspect.getfile(robust_model)).parent
    for path in source.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                cited = re.findall(r":eq:`([\w-]+)`", ast.get_docstring(node) or "")
                assert set(cited) <= labels, (path.name, node.name)


VORONOI = (BOOK / "voronoi.md").read_text(encoding="utf-8")
VORONOI_FUNCTIONS = {
    name: function
    for name, function in inspect.getmembers(voronoi_model, inspect.isfunction)
    if name.startswith("eq_")
}


def test_chapter_of_cells_labels_every_equation_of_the_source():
    numbers = [*map(str, range(1, 14)), *(f"14{letter}" for letter in "abcdefghij"), "15", "16"]
    of_source = [label for label in LABEL.findall(VORONOI) if re.search(r"-\d+[a-z]?$", label)]
    assert of_source == [f"voronoi-{n}" for n in numbers]


@pytest.mark.parametrize("name", VORONOI_FUNCTIONS)
def test_function_of_the_cells_and_chapter_point_at_each_other(name):
    assert f"{{py:func}}`flexlib.voronoi_model.{name}`" in VORONOI
    assert f"```{{literalinclude}} ../flexlib/voronoi_model.py\n:pyobject: {name}\n```" in VORONOI
    if name != "eq_14j_as_printed":
        label = f"voronoi-{number(name)}"
        assert label in LABEL.findall(VORONOI)
        assert f":eq:`{label}`" in VORONOI_FUNCTIONS[name].__doc__


def test_the_model_is_nothing_but_its_equations():
    model = robust_model.printed_model(market(3))
    components = {c.local_name for c in model.component_objects() if c.local_name[:3] == "eq_"}
    assert components == {
        "eq_59", "eq_60", "eq_61", "eq_62", "eq_63", "eq_64", "eq_75", "eq_82", "eq_82_one",
        "eq_83",
    }  # fmt: skip
    assert {f"eq_{number(name)}" for name in FUNCTIONS} == components - {"eq_82_one"}


@pytest.mark.parametrize("case", [1, 2, 3])
def test_equations_hold_at_the_solution_of_both_routes(case):
    model = robust_model.printed_model(market(case))
    solve(model)
    for state in (state_of_model(model), corrected_clearing(case).state):
        for equation, residual in residuals(market(case), state).items():
            assert residual < 1e-7, equation


def test_cost_is_the_printed_sum():
    model = robust_model.printed_model(market(3))
    cost = solve(model).objective
    up_kw = np.array([model.f_up_kw[o].value for o in model.OFFERS])
    assert cost == pytest.approx(100 * up_kw.sum() / 1000, rel=1e-9)


def test_current_limit_holds_at_every_corner_and_binds():
    m, state = market(3), corrected_clearing(3).state
    i_a = state.i_end_a[1] + m.uncertainty.vertices() @ m.uncertain[1][1]
    theta = 2 * np.pi / 32
    n = np.arange(1, 33)  # the source's own coefficients, below (69)
    a = np.sin(theta * n - theta) - np.sin(n * theta)
    b = np.cos(n * theta) - np.cos(theta * n - theta)
    c = np.cos(n * theta) * np.sin(theta * n - theta) - np.cos(theta * n - theta) * np.sin(
        n * theta
    )
    gamma = (np.outer(i_a.real, a) + np.outer(i_a.imag, b)) / c
    assert gamma.max() == pytest.approx(117, abs=1e-6)


def test_voltage_limit_binds_where_it_is_tight():
    base = market(3)
    v_worst = np.abs(base.flow.v0_pu + base.uncertain[0].sum(axis=1)).min()
    buses = base.network.buses.assign(v_min_pu=v_worst + 2e-4)
    network = Network(buses, base.network.branches.assign(i_max_from_a=np.nan), base.network.loads)
    m = Market(network, base.offers, Box(network, base.uncertainty.bands))
    model = robust_model.printed_model(m)
    solve(model)
    state = state_of_model(model)
    v_pu = state.v_pu[:, None] + m.uncertain[0] @ m.uncertainty.vertices().T
    no_load = m.flow.admittance.v_no_load_pu
    v_pu = v_pu * (np.abs(no_load) / no_load)[:, None]
    norm = reach(m).voltage_norm
    psi = norm.alpha * v_pu.real + norm.beta * np.abs(v_pu.imag)
    assert psi[1:].min() == pytest.approx(v_worst + 2e-4, abs=1e-9)


def test_state_of_activation_moves_with_the_activation():
    m = market(2)
    none, some = (state_of_activation(m, up, np.zeros(3)) for up in (np.zeros(3), np.ones(3)))
    change_a = some.i_end_a - none.i_end_a
    np.testing.assert_allclose(change_a, m.upward[1].sum(axis=1), atol=1e-12)
