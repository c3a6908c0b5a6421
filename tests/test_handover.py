"""The light model as a file: what comes back is what was sent, or it is refused."""

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

import flexlib as fx
from flexlib import handover_schema
from flexlib.handover_schema import ARRAYS, HEADER, SCHEMA
from flexlib.light_model import LightModel
from flexlib.stand_in import stand_in
from flexlib.voronoi_points import merit_order, none_half_all

CREATED = datetime(2026, 1, 15, 6, tzinfo=UTC)
UNTIL = datetime(2026, 1, 16, 6, tzinfo=UTC)
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def drawn(seed=0, m=2, n=4, v=3, currents=3):
    """A light model of random numbers."""
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return rng.normal(size=shape)

    axes = pd.DataFrame({"axis": [f"bid {k}" for k in range(n)]})
    axes["active"] = [True] * (n - 1) + [False]
    axes["kva_per_unit"] = np.array([1 + 0.1j * k for k in range(n - 1)] + [1j])
    axes["lower"], axes["upper"] = -rng.uniform(0, 5, n), rng.uniform(0, 5, n)
    return LightModel(
        axes, (-1 / 3, 2.0), numbers(m, n), 1 + numbers(m, v) / 100, numbers(m, v, n),
        numbers(m, currents) + 1j * numbers(m, currents),
        numbers(m, currents, n) + 1j * numbers(m, currents, n), np.full(v, 0.95), np.full(v, 1.05),
        np.arange(v), np.arange(currents),
    )  # fmt: skip


def written(folder, model=None, **more):
    model = drawn() if model is None else model
    stated = {"valid_until": UNTIL, "created": CREATED, **more}
    return fx.write_light_model(model, folder / "light.zip", **stated)


def same(one, other):
    assert one.request_kw == other.request_kw
    pd.testing.assert_frame_equal(one.axes, other.axes, check_exact=True)
    for name in ARRAYS:
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
        assert ours.tobytes() == theirs.tobytes(), name


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def with_header(path, change):
    """The file with another header."""
    contents = entries(path)
    header = json.loads(contents[HEADER])
    change(header)
    return rewritten(path, {**contents, HEADER: json.dumps(header)})


def with_array(path, name, array, *, stated=True):
    """The file with another array, its checksum in the header if stated."""
    stream = io.BytesIO()
    np.save(stream, array)
    contents = entries(path)
    header = json.loads(contents[HEADER])
    if stated:
        header["arrays"][name]["sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
    contents |= {HEADER: json.dumps(header), f"{name}.npy": stream.getvalue()}
    return rewritten(path, contents)


def refused(path, *words, at=NOON):
    with pytest.raises(fx.DataError) as caught:
        fx.read_light_model(path, at=at)
    message = str(caught.value)
    for word in (Path(path).name, *words):
        assert word in message, message
    assert all(fault.value and fault.expected for fault in caught.value.faults)


# --------------------------------------------------------------------------------------------
# What is written comes back


@pytest.mark.parametrize("sizes", [{}, {"m": 1}, {"v": 0}, {"currents": 0}, {"n": 1}])
def test_what_is_read_is_what_was_written(tmp_path, sizes):
    model = drawn(**sizes)
    same(fx.read_light_model(written(tmp_path, model), at=NOON), model)


def test_arrays_in_another_order_of_memory_are_written_alike(tmp_path):
    model = drawn()
    turned = replace(model, vtdf=np.asfortranarray(model.vtdf))
    first = written(tmp_path, model).read_bytes()
    assert written(tmp_path, turned).read_bytes() == first


def test_same_content_gives_same_bytes_and_dates_are_fixed(tmp_path):
    first = written(tmp_path, title="ä").read_bytes()
    assert written(tmp_path, title="ä").read_bytes() == first
    assert written(tmp_path, title="b").read_bytes() != first
    with zipfile.ZipFile(tmp_path / "light.zip") as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
    assert [path.name for path in tmp_path.iterdir()] == ["light.zip"]


def test_another_reader_needs_nothing_but_the_page(tmp_path):
    """Zip, JSON and the layout that the page describes, without NumPy's reader."""
    model = drawn()
    with zipfile.ZipFile(written(tmp_path, model)) as archive:
        header = json.loads(archive.read(HEADER))
        for name, field in header["arrays"].items():
            content = archive.read(f"{name}.npy")
            assert hashlib.sha256(content).hexdigest() == field["sha256"]
            (length,) = struct.unpack("<H", content[8:10])
            kind = {"<f8": "d", "<c16": "d", "<i8": "q"}[field["dtype"]]
            numbers = content[10 + length :]
            values = struct.unpack(f"<{len(numbers) // 8}{kind}", numbers)
            if field["dtype"] == "<c16":
                values = tuple(complex(*pair) for pair in zip(*[iter(values)] * 2, strict=True))
            shape = [header["dimensions"][dimension] for dimension in field["dimensions"]]
            assert list(getattr(model, name).shape) == shape
            assert values == tuple(getattr(model, name).ravel().tolist())


def test_header_says_what_the_file_is_and_nothing_of_the_grid(tmp_path):
    stand = stand_in("up")
    connected = fx.Connected(stand.network, stand.bids, stand.sites)
    model = fx.linearise(connected, merit_order(stand.bids, np.array([stand.request_kw])))
    header = fx.light_model_header(written(tmp_path, model, title="tomorrow"))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(header, SCHEMA)
    assert (header["created"], header["valid_until"]) == (
        "2026-01-15T06:00:00Z", "2026-01-16T06:00:00Z",
    )  # fmt: skip
    assert header["provenance"]["software"] == f"flexlib {fx.__version__}"
    assert header["dimensions"] == {
        "points": 1, "axes": 241, "voltages": len(model.bus), "currents": len(model.end),
    }  # fmt: skip
    text = json.dumps(header)
    names = [*stand.network.buses["bus"], *stand.network.branches["branch"]]
    assert not [name for name in names if f'"{name}"' in text or f" {name}" in text]
    assert "price" not in text


def test_times_are_written_in_utc_and_compared_as_moments(tmp_path):
    cet = timezone(timedelta(hours=1))
    path = written(tmp_path, created=datetime(2026, 1, 15, 7, 0, 0, 500, tzinfo=cet))
    assert fx.light_model_header(path)["created"] == "2026-01-15T06:00:00.000500Z"
    fx.read_light_model(path, at=datetime(2026, 1, 15, 7, 0, 1, tzinfo=cet))
    refused(path, "created", "not yet valid", at=CREATED)


def test_every_field_of_the_schema_is_described():
    table = handover_schema.fields()
    assert table["meaning"].str.len().gt(0).all()
    numbers = table[(table["type"] == "number") | (table["field"] == "request_kw")]
    assert len(numbers) == 5
    assert numbers["unit"].str.contains("kW|kvar").all()
    assert list(handover_schema.arrays()["entry"]) == [f"{name}.npy" for name in ARRAYS]
    held = set(LightModel.__dataclass_fields__) - {"axes", "request_kw"}
    assert set(ARRAYS) == held


# --------------------------------------------------------------------------------------------
# What is refused


def test_no_file_and_no_archive(tmp_path):
    refused(tmp_path / "none.zip", "no such file")
    (tmp_path / "text.zip").write_text("bid,price\n")
    refused(tmp_path / "text.zip", "BadZipFile")
    (tmp_path / "empty.zip").write_bytes(b"")
    refused(tmp_path / "empty.zip", "damaged or incomplete")


def test_every_truncation_is_refused(tmp_path):
    path = written(tmp_path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), *range(len(whole) - 60, len(whole))]:
        path.write_bytes(whole[:length])
        refused(path)


def flipped(whole, rng):
    """Several kinds of damage: a bit, a byte, a run of bytes, two bits far apart."""
    damaged = bytearray(whole)
    kind, at = rng.integers(4), int(rng.integers(len(whole)))
    if kind == 0:
        damaged[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        damaged[at] = int(rng.integers(256))
    elif kind == 2:
        run = int(rng.integers(2, 40))
        damaged[at : at + run] = rng.bytes(len(damaged[at : at + run]))
    else:
        for place in (at, int(rng.integers(len(whole)))):
            damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def test_damage_is_refused_or_changes_nothing(tmp_path):
    """Some bytes of an archive mean nothing (dates, permissions); all others are protected."""
    model = drawn(m=1, n=2, v=2, currents=1)
    path = written(tmp_path, model)
    whole, rng = path.read_bytes(), np.random.default_rng(5)
    tail = whole.index(b"PK\x01\x02")  # the directory, where flips do most
    outcomes = {"refused": 0, "the same": 0}
    for k in range(1500):
        start = tail if k % 2 else 0
        path.write_bytes(whole[:start] + flipped(whole[start:], rng))
        try:
            same(fx.read_light_model(path, at=NOON), model)
            outcomes["the same"] += 1
        except fx.DataError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 1000
    assert outcomes["the same"] > 0


@pytest.mark.parametrize("name", ["header.json", *(f"{name}.npy" for name in ARRAYS)])
def test_flips_in_what_an_entry_holds_are_always_refused(tmp_path, name):
    path = written(tmp_path)
    whole, content = path.read_bytes(), entries(path)[name]
    start = whole.index(content)
    for at in np.random.default_rng(1).integers(len(content), size=12):
        damaged = bytearray(whole)
        damaged[start + at] ^= 1 << int(at % 8)
        path.write_bytes(bytes(damaged))
        refused(path)


def test_other_format_and_version(tmp_path):
    refused(with_header(written(tmp_path), lambda h: h.update(version=2)), "version", "2", "1")
    refused(with_header(written(tmp_path), lambda h: h.update(version=True)), "version", "True")
    refused(with_header(written(tmp_path), lambda h: h.update(format="x")), "format", "'x'")
    refused(with_header(written(tmp_path), lambda h: h.pop("version")), "version", "None")
    path = written(tmp_path)
    refused(rewritten(path, {**entries(path), HEADER: "[]"}), "format")


def test_fields_missing_added_or_of_another_kind(tmp_path):
    def changed(change):
        return with_header(written(tmp_path), change)

    refused(changed(lambda h: h.pop("title")), HEADER, "title")
    refused(changed(lambda h: h.update(grid="secret")), "'grid'", "exactly the fields")
    refused(changed(lambda h: h["axes"][1].pop("active")), "axes/1", "active")
    refused(changed(lambda h: h["axes"][1].update(active=1)), "axes/1/active", "boolean")
    refused(changed(lambda h: h["axes"][1].update(lower=99.0)), "row bid 1, column lower", "99")
    refused(changed(lambda h: h["axes"][1].update(axis="bid 0")), "2 axes 'bid 0'")
    refused(changed(lambda h: h["axes"].pop()), "3 axes", "4, as in dimensions")
    refused(changed(lambda h: h.update(request_kw=[1.0])), "request_kw", "minItems")
    refused(changed(lambda h: h.update(request_kw=[2.0, 1.0])), "request_kw", "2 to 1")
    refused(changed(lambda h: h.update(request_kw=[90.0, 95.0])), "column request_kw", "90 to 95")
    refused(changed(lambda h: h["arrays"]["vtdf"].update(unit="V")), "arrays/vtdf/unit", "'V'")
    refused(changed(lambda h: h["dimensions"].update(points=0)), "dimensions/points", "0")
    refused(changed(lambda h: h.update(created="2026-02-30T00:00:00Z")), "created", "exists")
    refused(changed(lambda h: h.update(created="yesterday")), "created", "yesterday")
    refused(changed(lambda h: h.update(valid_until="2026-01-15T05:00:00Z")), "not before")


def test_header_is_strict_json(tmp_path):
    path = written(tmp_path)
    contents = entries(path)
    for text, word in (
        (contents[HEADER].replace(b'"version": 1', b'"version": 1, "version": 1'), "twice"),
        (contents[HEADER].replace(b"-0.3333333333333333", b"NaN"), "NaN"),
        (contents[HEADER].replace(b"-0.3333333333333333", b"1e999"), "inf"),
        (contents[HEADER].replace(b"flexlib", b"\xff", 1), "utf-8"),
        (b"{" * 100_000, "JSON"),
        (contents[HEADER][:-1], "JSON"),
    ):
        assert text != contents[HEADER]
        refused(rewritten(path, {**contents, HEADER: text}), word)


def test_entries_missing_extra_repeated_compressed(tmp_path):
    path = written(tmp_path)
    contents = entries(path)
    without = {name: content for name, content in contents.items() if name != "vtdf.npy"}
    refused(rewritten(path, without), "vtdf.npy", "0 entries", "1")
    refused(rewritten(path, {**contents, "grid.csv": b"x"}), "grid.csv", "1 entries", "0")
    refused(rewritten(path, {**without, "../vtdf.npy": contents["vtdf.npy"]}), "../vtdf.npy")
    refused(rewritten(path, contents, zipfile.ZIP_DEFLATED), "compressed")
    rewritten(path, contents)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("bus.npy", contents["bus.npy"])
    refused(path, "bus.npy", "2 entries")


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_another_shape_type_or_content(tmp_path, name):
    array = getattr(drawn(), name)
    path = written(tmp_path)
    for wrong, word in (
        (array[..., :-1], "as the header says"),
        (array.real.astype("<f4"), "<f4"),
        (array.astype(array.dtype.newbyteorder(">")), ">"),
        (array[None], "as the header says"),
    ):
        refused(with_array(path, name, wrong), f"{name}.npy", word)
    refused(with_array(path, name, array + 1, stated=False), f"{name}.npy", "sha256")
    written(tmp_path)
    same(fx.read_light_model(with_array(path, name, array), at=NOON), drawn())
    if array.dtype.kind != "i":
        bad = array.copy()
        bad.flat[1] = np.nan
        refused(with_array(path, name, bad), name, "nan", "finite")
    if array.ndim > 1:
        refused(with_array(path, name, np.asfortranarray(array)), "columns first")


def test_objects_and_bytes_that_are_no_array(tmp_path):
    path = written(tmp_path)
    refused(with_array(path, "bus", np.array([{}, 1, "x"], dtype=object)), "bus.npy", "|O")
    contents = entries(path)
    for content in (b"", b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16, b"not an array"):
        refused(rewritten(path, {**contents, "bus.npy": content}), "bus.npy", "npy format")
    huge = {**contents, "bus.npy": contents["bus.npy"] + b"12345678"}
    path = written(tmp_path)
    refused(rewritten(path, huge), "bus.npy")


def test_time(tmp_path):
    path = written(tmp_path)
    fx.read_light_model(path, at=CREATED)
    fx.read_light_model(path, at=UNTIL)
    refused(path, "valid_until", "2026-01-16T06:00:00Z", "expired", at=UNTIL + timedelta(seconds=1))
    refused(path, "created", "not yet valid", at=CREATED - timedelta(microseconds=1))
    refused(path, "at", "without a time zone", at=datetime(2026, 1, 15, 12))
    assert fx.light_model_header(path)["valid_until"] == "2026-01-16T06:00:00Z"


def test_now_is_the_default(tmp_path):
    now = datetime.now(UTC)
    path = fx.write_light_model(drawn(), tmp_path / "a.zip", valid_until=now + timedelta(hours=1))
    same(fx.read_light_model(path), drawn())
    path = written(tmp_path, created=now - timedelta(2), valid_until=now - timedelta(1))
    with pytest.raises(fx.DataError, match="expired"):
        fx.read_light_model(path)


def test_writer_refuses_too(tmp_path):
    for more, word in (
        ({"valid_until": datetime(2026, 1, 16)}, "valid_until.*without a time zone"),
        ({"created": datetime(2026, 1, 15)}, "created.*without a time zone"),
        ({"valid_until": CREATED - timedelta(1)}, "valid_until.*not before"),
        ({"title": "x" * 201}, "title.*maxLength 200"),
    ):
        with pytest.raises(fx.DataError, match=word):
            written(tmp_path, **more)
    axes = drawn().axes
    for wrong, word in (
        (axes.assign(lower=99.0), "lower"),
        (axes.assign(upper=np.inf), "axes/0/upper"),
        (axes.assign(axis="one"), "4 axes 'one'"),
        (axes.assign(upper=0.0, lower=0.0), "request_kw|lower"),
    ):
        with pytest.raises(fx.DataError, match=word):
            written(tmp_path, replace(drawn(), axes=wrong, request_kw=(1.0, 2.0)))
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------
# Two parties


def test_bids_that_are_not_those_of_the_file(tmp_path):
    stand = stand_in("up")
    connected = fx.Connected(stand.network, stand.bids, stand.sites)
    points = merit_order(stand.bids, np.array([stand.request_kw]))
    model = fx.linearise(connected, points, request_kw=(1000.0, 1800.0), only_binding=True)
    model = fx.read_light_model(written(tmp_path, model), at=NOON)
    table = stand.bids.table
    for bids, request_kw, word in (
        (table.assign(up_max_kw=table["up_max_kw"] * 1.001), 1800.0, "of the light model"),
        (table.assign(kvar_per_kw=0.1), 1800.0, "kva_per_unit"),
        (table.assign(bid=[f"{bid} x" for bid in table["bid"]]), 1800.0, "bid"),
        (table.iloc[::-1], 1800.0, "another order"),
        (table.iloc[1:], 1800.0, "bid 1"),
        (table, 999.0, "999 kW"),
    ):
        with pytest.raises(fx.DataError, match=word):
            fx.activate(model, fx.Bids(bids.reset_index(drop=True)), request_kw)
    fx.activate(model, fx.Bids(table.assign(up_max_kw=table["up_max_kw"] * 0.99)), 1800.0)


TSO = """
    import sys
    seen = []
    sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event == "open" else None)
    for name in ("pandapower", "simbench", "lightsim2grid"):
        sys.modules[name] = None  # an import of it fails
    from datetime import UTC, datetime
    from pathlib import Path

    import numpy as np
    import flexlib as fx
    import flexlib.powerflow, power_grid_model

    def no_grid(*args, **options):
        raise AssertionError("the TSO has no grid")

    power_grid_model.PowerGridModel = flexlib.powerflow.PowerGridModel = no_grid
    flexlib.network.Network.__post_init__ = no_grid
    try:
        fx.data_path("feeders")
    except FileNotFoundError:
        print("no data")
    model = fx.read_light_model("light.zip", at=datetime(2026, 1, 15, 12, tzinfo=UTC))
    activation = fx.activate(model, fx.read_bids("bids.csv"), 1800.0)
    activation.certificate.assert_ok()
    np.save("z.npy", activation.z)
    np.save("bound.npy", activation.cell_bound_eur_per_h)
    Path("opened.txt").write_text("\\n".join(seen))
"""


def test_tso_activates_with_nothing_but_file_and_bids(tmp_path):
    """Another process, a copy of the library without data, an empty folder: the same bits."""
    root = Path(fx.__file__).parents[1]
    site, desk = tmp_path / "site", tmp_path / "desk"
    site.mkdir()
    desk.mkdir()
    code = site / "flexlib"
    code.mkdir()
    for module in (root / "flexlib").glob("*.py"):
        (code / module.name).write_bytes(module.read_bytes())
    stand = stand_in("up")
    connected = fx.Connected(stand.network, stand.bids, stand.sites)
    dso = fx.linearise(connected, none_half_all(stand.bids, "up"))
    written(desk, dso)
    stand.bids.table.to_csv(desk / "bids.csv", index=False)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TSO)],
        cwd=desk, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no data\n"
    opened = (desk / "opened.txt").read_text().splitlines()
    assert "light.zip" in [Path(name).name for name in opened]
    assert str(code / "voronoi.py") in opened, "another flexlib was imported"
    data = str(root / "data")
    assert [name for name in opened if os.path.realpath(name).startswith(data)] == []
    here = fx.activate(dso, fx.read_bids(desk / "bids.csv"), 1800.0)
    assert np.load(desk / "z.npy").tobytes() == here.z.tobytes()
    assert np.load(desk / "bound.npy").tobytes() == here.cell_bound_eur_per_h.tobytes()
    comparison = fx.Comparison(connected, replace(here, z=np.load(desk / "z.npy")))
    assert comparison.v_mae_pu < 1e-3
