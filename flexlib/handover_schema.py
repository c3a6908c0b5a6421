"""The fields of a light model's file, as a JSON schema: what every reader and writer must keep to.

`flexlib.handover` writes and reads such files; the page on the light model shows the fields.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

FORMAT = "flexlib light model"
VERSION = 1
HEADER = "header.json"


class ArrayField(NamedTuple):
    """One array of the file.

    Attributes
    ----------
    dimensions : tuple of str
        Names in the header's ``dimensions``.
    dtype : str
        Type in NumPy's notation: little-endian, 8 bytes a number (16 a complex one).
    unit : str
    meaning : str
    """

    dimensions: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str


ARRAYS = {
    "point": ArrayField(
        ("points", "axes"), "<f8", "kW or kvar", "activation at each point, P_Flex,i of (11)"
    ),
    "v_pu": ArrayField(("points", "voltages"), "<f8", "p.u.", "voltages at the points, V_i of (7)"),
    "vtdf": ArrayField(
        ("points", "voltages", "axes"), "<f8", "p.u. per kW or kvar", "VTDF_i of (7)"
    ),
    "i_percent": ArrayField(
        ("points", "currents"), "<c16", "%", "complex currents in per cent of their limits"
    ),
    "di_percent": ArrayField(
        ("points", "currents", "axes"), "<c16", "% per kW or kvar", "their derivatives"
    ),
    "v_min_pu": ArrayField(("voltages",), "<f8", "p.u.", "lower limits, V_LB of (14f)"),
    "v_max_pu": ArrayField(("voltages",), "<f8", "p.u.", "upper limits, V_UB of (14g)"),
    "bus": ArrayField(("voltages",), "<i8", "", "number of each voltage, for messages"),
    "end": ArrayField(("currents",), "<i8", "", "number of each current, for messages"),
}


def _closed(what: str, /, **properties: Any) -> dict[str, Any]:
    """Schema of an object with exactly these fields."""
    return {
        "description": what,
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _number(title: str, unit: str) -> dict[str, Any]:
    limits = {"minimum": -1e9, "maximum": 1e9}
    return {"description": title, "unit": unit, "type": "number", **limits}


def _text(title: str, most: int = 200, **more: Any) -> dict[str, Any]:
    return {"description": title, "type": "string", "maxLength": most, **more}


def _time(title: str) -> dict[str, Any]:
    pattern = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z$"
    return _text(f"{title}, ISO 8601 in UTC", 30, pattern=pattern)


def _count(title: str, least: int) -> dict[str, Any]:
    return {"description": title, "type": "integer", "minimum": least}


def _array(name: str, field: ArrayField) -> dict[str, Any]:
    of = f"of {name}.npy"
    return _closed(
        field.meaning,
        unit={"description": f"unit {of}", "const": field.unit},
        dtype={"description": f"type of the numbers {of}", "const": field.dtype},
        dimensions={"description": f"dimensions {of}, outermost first",
                    "const": list(field.dimensions)},
        sha256=_text(f"checksum {of}: of the whole entry", 64, pattern="^[0-9a-f]{64}$"),
    )  # fmt: skip


_AXIS = _closed(
    "one number that an activation sets",
    axis=_text("name: the bid's", minLength=1),
    active={"description": "whether it counts towards a request", "type": "boolean"},
    kw_per_unit=_number("active power injected by one unit", "kW"),
    kvar_per_unit=_number("reactive power injected by one unit", "kvar"),
    lower=_number("least activation for which the model is meant", "kW or kvar"),
    upper=_number("largest activation for which the model is meant", "kW or kvar"),
)
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": f"{FORMAT}, version {VERSION}: {HEADER}",
    **_closed(
        "what a DSO says about a light model",
        format={"description": "what this is", "const": FORMAT},
        version={"description": "of the format", "const": VERSION},
        title=_text("free text for people"),
        created=_time("valid from"),
        valid_until=_time("valid until, this moment included"),
        request_kw={
            "description": "least and largest request, upward positive",
            "unit": "kW",
            "type": "array",
            "prefixItems": [_number("least", "kW"), _number("largest", "kW")],
            "minItems": 2,
            "maxItems": 2,
        },
        dimensions=_closed(
            "sizes of the arrays",
            points=_count("points, m", 1),
            axes=_count("axes, n", 1),
            voltages=_count("voltages that are limited, v", 0),
            currents=_count("currents that are limited, l", 0),
        ),
        axes={"description": "the axes in the order of the arrays", "type": "array",
              "items": _AXIS},
        arrays=_closed(
            "the arrays, each in an entry of its name with the ending .npy",
            **{name: _array(name, field) for name, field in ARRAYS.items()},
        ),
        provenance=_closed("what made the file", software=_text("name and version")),
    ),
}  # fmt: skip
_ANY = ArrayField((), "", "", "the array of this name")


def fields() -> pd.DataFrame:
    """Fields of the header, one row each: field, type, unit, meaning; `*` is a position."""
    return pd.DataFrame(_rows("", SCHEMA), columns=["field", "type", "unit", "meaning"])


def arrays() -> pd.DataFrame:
    """Arrays of the file, one row each: entry, type, dimensions, unit, meaning."""
    rows = [
        (f"{name}.npy", field.dtype, " × ".join(field.dimensions), field.unit, field.meaning)
        for name, field in ARRAYS.items()
    ]
    return pd.DataFrame(rows, columns=["entry", "type", "dimensions", "unit", "meaning"])


def _rows(place: str, part: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of `fields` for one field and what is in it; the arrays once for all."""
    stated = "as in the table of arrays" if "/" in place else f"always {part.get('const')!r}"
    kind = part.get("type", stated)
    rows = [(place, kind, part.get("unit", ""), part["description"])] if place else []
    inner = dict(part.get("properties", {}))
    if place == "arrays":
        inner = {"*": _array("*", _ANY)}
    if "items" in part:
        inner = {"*": part["items"]}
    for name, field in inner.items():
        rows += _rows(f"{place}/{name}" if place else name, field)
    return rows
