"""The notation page maps every symbol to a name that exists in code."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pandas as pd
import pytest

import flexlib

BOOK = Path(__file__).parents[1] / "book"
PAGE = (BOOK / "notation.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(flexlib\.[\w.]+)`", PAGE)))
ENDINGS = set(re.findall(r"`_(\w+)`", PAGE))


def resolve(name):
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for part in parts[k:]:
            if part in getattr(found, "__dataclass_fields__", {}):
                return found
            found = getattr(found, part)
        return found
    raise AttributeError(name)


@pytest.mark.parametrize("name", NAMES)
def test_name_in_code_exists(name):
    assert resolve(name) is not None


def test_every_symbol_of_the_chapters_model_box_is_on_the_page():
    chapter = (BOOK / "robust-market.md").read_text(encoding="utf-8")
    box = chapter.split("## The model box")[1].split("### Objective")[0]
    symbols = re.findall(
        r"\\(?:tilde|bar) \w|\\[Dx]\w+_k|\\pi|[A-Z]\^\{?\w+\}?_b|I_l|i_[kbl]|v_b", box
    )
    assert len(symbols) > 8
    for symbol in symbols:
        assert symbol in PAGE, symbol


def test_every_equation_symbol_of_the_source_is_mapped():
    mapped = PAGE.split("in De Simone")
    for symbol in (
        "A_D", "A_G", "A^0_{pod}", "Delta_{pod}", "X_{pod}", "CY_l^b", "Y_l", "D_{A,pod}",
        "i_l^{UB}", "V^{LB}", "lambda_\\varphi", "tilde v_b", "Psi(v_b)",
    ):  # fmt: skip
        assert any(symbol in part for part in mapped[1:]), symbol


def test_units_in_names_are_those_of_the_page():
    used = set()
    for module in pkgutil.iter_modules(flexlib.__path__):
        loaded = importlib.import_module(f"flexlib.{module.name}")
        for _, schema in inspect.getmembers(loaded, lambda o: hasattr(o, "columns")):
            if isinstance(schema, pd.DataFrame):
                continue
            for name, column in schema.columns.items():
                unit = (column.metadata or {}).get("unit")
                if unit:
                    assert any(name.endswith(f"_{ending}") for ending in ENDINGS), name
                    used.add(unit)
    assert {"kW", "kvar", "A", "kV", "p.u.", "ohm", "µS", "deg", "%", "EUR/MWh"} <= used
