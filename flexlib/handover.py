"""The light model as a file: what the DSO sends and the TSO reads.

One zip archive, nothing in it compressed: ``header.json`` and one array of NumPy's npy format 1.0
for each matrix. No code is run by reading it. Every field is checked against
`flexlib.handover_schema.SCHEMA` and every array against the header. A file that is damaged, of
another version or out of its time is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import struct
import tokenize
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from flexlib.errors import DataError, Fault
from flexlib.handover_schema import ARRAYS, FORMAT, HEADER, SCHEMA, VERSION
from flexlib.light_model import LightModel

_DATE = (1980, 1, 1, 0, 0, 0)  # of every entry: the same content gives the same bytes
_READ_ONLY_FILE = 0o100444 << 16
_BROKEN = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError,
    OverflowError, KeyError, struct.error,
)  # fmt: skip


def write_light_model(
    model: LightModel,
    path: str | Path,
    *,
    valid_until: datetime,
    title: str = "",
    created: datetime | None = None,
) -> Path:
    """Write a light model to a file: the DSO's side.

    Nothing of the grid is written but what the model holds; the bids' names are, their prices and
    buses are not. The same arguments give the same bytes.

    Parameters
    ----------
    model : LightModel
    path : str or pathlib.Path
        File to write; replaced only when the new one is complete.
    valid_until : datetime.datetime
        With a time zone.
    title : str
        Free text for people, at most 200 characters.
    created : datetime.datetime, optional
        With a time zone; now by default. The file is valid from then on.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        If a time has no zone, the file would expire before it is created, or a field does not
        fit `SCHEMA`.
    """
    path = Path(path)
    created = datetime.now(UTC) if created is None else created
    times = {"created": created, "valid_until": valid_until}
    stated = {"title": title, **{k: _in_utc(path, k, time) for k, time in times.items()}}
    entries = {f"{name}.npy": _to_npy(getattr(model, name), ARRAYS[name].dtype) for name in ARRAYS}
    header = _header(model, stated, entries)
    if faults := _schema_faults(path, header) or _header_faults(path, header):
        raise DataError(faults)
    text = json.dumps(header, indent=1, ensure_ascii=False, allow_nan=False)
    part = path.with_name(path.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {HEADER: text.encode(), **entries}.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = 3, _READ_ONLY_FILE
            archive.writestr(info, content)
    os.replace(part, path)
    return path


def read_light_model(path: str | Path, *, at: datetime | None = None) -> LightModel:
    """Read a light model from a file: the TSO's side.

    Parameters
    ----------
    path : str or pathlib.Path
    at : datetime.datetime, optional
        Moment for which it must be valid, with a time zone; now by default.

    Returns
    -------
    LightModel
        Bit for bit the one that was written.

    Raises
    ------
    DataError
        Naming file, field, what was found and what was expected: if there is no such file, or it
        is damaged, incomplete, of another format or version, out of its time, or not consistent.
    """
    path = Path(path)
    moment = _in_utc(path, "at", datetime.now(UTC) if at is None else at)
    header, entries = _checked(path)
    if _moment(header["valid_until"]) < _moment(moment):
        _refuse(path, "valid_until", header["valid_until"], f"{moment} or later: it has expired")
    if _moment(header["created"]) > _moment(moment):
        _refuse(path, "created", header["created"], f"{moment} or earlier: it is not yet valid")
    axes = pd.DataFrame(header["axes"])
    kva = axes["kw_per_unit"] + 1j * axes["kvar_per_unit"]
    arrays = {name: _from_npy(path, name, header, entries[f"{name}.npy"]) for name in ARRAYS}
    try:
        return LightModel(
            axes=pd.DataFrame(
                {
                    **axes[["axis", "active"]],
                    "kva_per_unit": kva.astype(complex),
                    **axes[["lower", "upper"]].astype(float),
                }
            ),
            request_kw=(float(header["request_kw"][0]), float(header["request_kw"][1])),
            **arrays,
        )
    except DataError as error:
        raise DataError([replace(fault, file=path.name) for fault in error.faults]) from None


def light_model_header(path: str | Path) -> dict[str, Any]:
    """Read what a file says about itself, whether or not it has expired.

    Parameters
    ----------
    path : str or pathlib.Path

    Returns
    -------
    dict
        The fields of `SCHEMA`.

    Raises
    ------
    DataError
        As `read_light_model`, but for the time, the content of the arrays, and what `LightModel`
        checks.
    """
    return _checked(Path(path))[0]


def _header(model: LightModel, stated: dict[str, str], entries: dict[str, bytes]) -> dict[str, Any]:
    """Header of a model's file."""
    kva = model.axes["kva_per_unit"].to_numpy(dtype=complex)
    axes = model.axes[["axis", "active"]].assign(
        kw_per_unit=kva.real, kvar_per_unit=kva.imag, lower=model.axes["lower"],
        upper=model.axes["upper"],
    )  # fmt: skip
    m, v, n = model.vtdf.shape
    sizes = {"points": m, "axes": n, "voltages": v, "currents": len(model.end)}
    return {
        "format": FORMAT,
        "version": VERSION,
        **stated,
        "request_kw": [float(limit) for limit in model.request_kw],
        "dimensions": sizes,
        "axes": axes.to_dict("records"),
        "arrays": {
            name: {
                "unit": field.unit,
                "dtype": field.dtype,
                "dimensions": list(field.dimensions),
                "sha256": hashlib.sha256(entries[f"{name}.npy"]).hexdigest(),
            }
            for name, field in ARRAYS.items()
        },
        "provenance": {"software": f"flexlib {version('flexlib')}"},
    }


def _checked(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and entries of a file, the header checked."""
    entries = _entries(path)
    header = _parsed(path, entries[HEADER])
    for field, expected in (("format", FORMAT), ("version", VERSION)):
        if header.get(field) != expected or isinstance(header.get(field), bool):
            _refuse(path, field, repr(header.get(field)), repr(expected))
    if faults := _schema_faults(path, header) or _header_faults(path, header):
        raise DataError(faults)
    return header, entries


def _entries(path: Path) -> dict[str, bytes]:
    """Read all entries of an archive, or refuse it."""
    if not path.is_file():
        _refuse(path, "", "no such file", f"a light model at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            size = path.stat().st_size
            if any(i.compress_type != zipfile.ZIP_STORED or i.file_size > size for i in infos):
                raise zipfile.BadZipFile("an entry is compressed, or larger than the file")
            entries = {info.filename: archive.read(info) for info in infos}
    except _BROKEN as error:
        found = f"{type(error).__name__}: {error}"
        _refuse(path, "", found, "a whole, uncompressed zip archive: it is damaged or incomplete")
    wanted = [HEADER, *(f"{name}.npy" for name in ARRAYS)]
    count = Counter(info.filename for info in infos)
    if faults := [
        Fault(path.name, "", name, f"{count[name]} entries of this name", f"{int(name in wanted)}")
        for name in dict.fromkeys([*wanted, *count])
        if count[name] != int(name in wanted)
    ]:
        raise DataError(faults)
    return entries


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    """Header from its text: strict JSON, no field twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := [name for name, times in Counter(k for k, _ in pairs).items() if times > 1]:
            raise ValueError(f"field {twice[0]!r} twice")
        return dict(pairs)

    def no_number(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a number of JSON")

    try:
        header = json.loads(text.decode(), object_pairs_hook=once, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        _refuse(path, HEADER, str(error) or type(error).__name__, "JSON text in UTF-8")
    return header if isinstance(header, dict) else {}


def _schema_faults(path: Path, header: dict[str, Any]) -> list[Fault]:
    """What in a header does not fit `SCHEMA`."""
    from jsonschema import Draft202012Validator

    faults = []
    for error in Draft202012Validator(SCHEMA).iter_errors(header):
        place = "/".join(str(part) for part in error.absolute_path)
        whole_object = error.validator in ("required", "additionalProperties")
        found = error.message if whole_object else repr(error.instance)
        found = found if len(found) <= 100 else found[:97] + "..."
        rule = f"{error.validator} {error.validator_value}"
        expected = "exactly the fields of the schema" if whole_object else rule
        faults.append(Fault(path.name, "", place or HEADER, found, expected))
    return faults


def _header_faults(path: Path, header: dict[str, Any]) -> list[Fault]:
    """What in a header contradicts itself, but for what `LightModel` finds in it."""
    axes, count = header["axes"], header["dimensions"]["axes"]
    found = []
    for name in ("created", "valid_until"):
        try:
            _moment(header[name])
        except ValueError:
            found.append((name, header[name], "a moment that exists"))
    if not found and not _moment(header["created"]) <= _moment(header["valid_until"]):
        found.append(("valid_until", header["valid_until"], f"not before {header['created']}"))
    if len(axes) != count:
        found.append(("axes", f"{len(axes)} axes", f"{count}, as in dimensions"))
    names = Counter(axis["axis"] for axis in axes)
    found += [("axes", f"{k} axes {name!r}", "one") for name, k in names.items() if k > 1]
    return [Fault(path.name, "", *what) for what in found]


def _from_npy(path: Path, name: str, header: dict[str, Any], content: bytes) -> np.ndarray:
    """Array of an entry: type and shape against the header, then its size and checksum."""
    field, sizes, entry = ARRAYS[name], header["dimensions"], f"{name}.npy"
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of the npy format")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    except (*_BROKEN, SyntaxError, tokenize.TokenError) as error:
        _refuse(path, entry, f"{type(error).__name__}: {error}", "an array of npy format 1.0")
    wanted = tuple(sizes[dimension] for dimension in field.dimensions)
    if dtype.str != field.dtype or shape != wanted or fortran_order:
        found = f"{dtype.str} {shape}{', columns first' if fortran_order else ''}"
        _refuse(path, entry, found, f"{field.dtype} {wanted}, rows first, as the header says")
    numbers, size = stream.read(), math.prod(shape) * dtype.itemsize
    if len(numbers) != size:
        _refuse(path, entry, f"{len(numbers)} bytes of numbers", f"{size}")
    digest, stated = hashlib.sha256(content).hexdigest(), header["arrays"][name]["sha256"]
    if digest != stated:
        _refuse(path, entry, f"sha256 {digest}", f"{stated}, as the header says")
    return np.frombuffer(numbers, dtype).reshape(shape).copy()


def _to_npy(array: np.ndarray, dtype: str) -> bytes:
    stream = io.BytesIO()
    content = np.ascontiguousarray(array, dtype=dtype)
    np.lib.format.write_array(stream, content, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _in_utc(path: Path, name: str, moment: datetime) -> str:
    """Moment as the header writes it."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        _refuse(path, name, f"{moment} without a time zone", "a moment with a time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _moment(text: str) -> datetime:
    """Moment from what the header writes."""
    return datetime.fromisoformat(text)


def _refuse(path: Path, field: str, found: str, expected: str) -> NoReturn:
    raise DataError([Fault(path.name, "", field, found, expected)])
