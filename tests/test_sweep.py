"""Long work in units: written at once, never done twice, whatever dies."""

import builtins
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pytest
from dask.tokenize import TokenizationError
from distributed import Client, LocalCluster

import flexlib.sweep
from flexlib.errors import DataError, Fault, FlexlibError, MissingExtra
from flexlib.sweep import UnitsFailed, sweep, workers

TRIES = 2  # of a unit whose worker dies, by Dask's option
MEMORY, MEMORY_BYTES = "1GiB", 2**30


def squares(x, count=3):
    return {"square": x * np.arange(count) ** 2, "x": x, "name": f"of {x}"}


def noted(folder, number, pause_s=0.0):
    """A unit that leaves a note of its run and of its process."""
    (folder / f"{number}-{time.monotonic_ns()}-{os.getpid()}").touch()
    time.sleep(pause_s)
    return {"number": number}


def other(folder, number, pause_s=0.0):
    return noted(folder, number, pause_s)


def failing(number):
    if number == 2:
        raise DataError([Fault("a.csv", "2", "b", "-1", "at least 0")])  # it cannot be unpickled
    if number == 4:
        raise ValueError("four")
    return {"number": number}


def dying(folder, number):
    """Unit 1 kills its worker until it is cured, unit 2 once, by its memory."""
    first = not list(folder.glob(f"{number}-*"))
    noted(folder, number)
    if number == 1 and not (folder / "0-cured").exists():
        os._exit(1)
    if number == 2 and first:
        too_much()
    return {"number": number}


def too_much():
    held = []
    for _ in range(int(1.5 * MEMORY_BYTES) // 2**24):
        held.append(np.ones(2**21))  # 16 MiB
        time.sleep(0.01)


def surroundings():
    threads = [os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL")]
    return {"threads": np.array(threads), "pid": os.getpid()}


def anything(value):
    return {"value": value}


def named(name):
    return {name: 1.0}


DASK = [f"distributed.worker.memory.{step}" for step in ("target", "spill", "pause")]
LOST = "distributed.deploy.lost-worker-timeout"


def runs(folder):
    """How often each unit ran."""
    return Counter(int(path.name.split("-")[0]) for path in folder.iterdir())


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": TRIES - 1}),
        workers(count=1, memory=MEMORY) as started,  # so that it is known whose unit it dies of
    ):
        yield started


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def test_results_are_those_of_a_plain_loop(client, tmp_path):
    units = {f"unit-{k}_{k / 4}": (k / 4, k + 1) for k in range(20)}
    results = sweep(client, squares, units, tmp_path / "new" / "folder", progress=False)
    assert list(results) == list(units)
    assert len(results) == 20
    for name, arguments in units.items():
        again = squares(*arguments)
        assert results[name].keys() == again.keys()
        for key, value in again.items():
            assert results[name][key].dtype == np.asarray(value).dtype
            assert np.array_equal(results[name][key], value)
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == sorted(f"{name}.npz" for name in units)


def test_results_are_read_when_asked_for(client, tmp_path):
    results = sweep(client, squares, {"a": (1.0,), "b": (2.0,)}, tmp_path, progress=False)
    (tmp_path / "a.npz").unlink()
    sweep(client, squares, {"b": (3.0,), "c": (4.0,)}, tmp_path, progress=False)
    with pytest.raises(FileNotFoundError):
        results["a"]
    with pytest.raises(FlexlibError, match=r"b.npz was replaced by another sweep"):
        results["b"]
    with pytest.raises(KeyError):
        results["c"]
    sweep(client, squares, {"b": (2.0,)}, tmp_path, progress=False)
    assert results["b"]["square"].tolist() == [0.0, 2.0, 8.0]


def test_files_are_the_same_bytes_each_time(client, tmp_path):
    units = {"a": (0.1,)}
    for name in ("one", "two"):
        sweep(client, squares, units, tmp_path / name, progress=False)
    assert (tmp_path / "one/a.npz").read_bytes() == (tmp_path / "two/a.npz").read_bytes()


def test_finished_units_are_not_run_again(client, notes, tmp_path):
    units = {f"u{k}": (notes, k) for k in range(4)}
    sweep(client, noted, {name: units[name] for name in ("u0", "u2")}, tmp_path, progress=False)
    sweep(client, noted, units, tmp_path, progress=False)
    results = sweep(client, noted, units, tmp_path, progress=False)
    assert runs(notes) == dict.fromkeys(range(4), 1)
    assert [int(results[name]["number"]) for name in units] == [0, 1, 2, 3]


def test_other_arguments_functions_and_versions_are_run_anew(client, notes, tmp_path, monkeypatch):
    def numbers(function, first):
        units = {"a": (notes, first), "b": (notes, 2)}
        results = sweep(client, function, units, tmp_path, progress=False)
        return [int(results[name]["number"]) for name in results]

    monkeypatch.setattr(flexlib.sweep.inspect, "getsource", lambda _: "text")
    assert numbers(noted, 1) == [1, 2]
    assert numbers(noted, 3) == [3, 2]
    assert runs(notes) == {1: 1, 2: 1, 3: 1}
    assert numbers(other, 3) == [3, 2]
    assert runs(notes) == {1: 1, 2: 2, 3: 2}
    monkeypatch.setattr(flexlib.sweep.inspect, "getsource", lambda _: "another text")
    assert numbers(other, 3) == [3, 2]
    assert runs(notes) == {1: 1, 2: 3, 3: 3}
    monkeypatch.setattr(flexlib.sweep, "version", lambda _: "0.0.0")
    assert numbers(other, 3) == [3, 2]
    assert runs(notes) == {1: 1, 2: 4, 3: 4}


@dataclass(frozen=True)
class Holder:
    values: np.ndarray


def test_arrays_inside_arguments_are_told_apart(client, tmp_path):
    for change in (0.0, 1e-15):
        held = Holder(np.array([1.0, 2.0 + change]))
        results = sweep(client, held_sum, {"a": (held,)}, tmp_path, progress=False)
        assert results["a"]["sum"] == 3.0 + change


def held_sum(held):
    return {"sum": held.values.sum()}


def test_failing_units_are_named_and_the_others_finish(client, tmp_path):
    units = {f"u{k}": (k,) for k in range(6)}
    with pytest.raises(UnitsFailed) as caught:
        sweep(client, failing, units, tmp_path, progress=False)
    failures = caught.value.failures
    assert sorted(failures) == ["u2", "u4"]
    assert failures["u4"] == "ValueError: four"
    fault = "a.csv, row 2, column b: found -1, expected at least 0"
    assert failures["u2"] == f"flexlib.errors.DataError: 1 fault in the input data:\n  {fault}"
    assert str(caught.value).startswith("2 of 6 units failed:\n  u")
    assert "  u4: ValueError: four" in str(caught.value)
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == ["u0", "u1", "u3", "u5"]


def test_units_whose_worker_dies_are_run_again_then_named(client, notes, tmp_path):
    units = {f"u{k}": (notes, k) for k in range(1, 5)}
    with pytest.raises(UnitsFailed) as caught:
        sweep(client, dying, units, tmp_path, progress=False)
    died = f"its worker died {TRIES} times, of its memory perhaps"
    assert caught.value.failures == {"u1": died}
    assert runs(notes) == {1: TRIES, 2: 2, 3: 1, 4: 1}
    (notes / "0-cured").touch()
    results = sweep(client, dying, units, tmp_path, progress=False)
    assert [int(results[name]["number"]) for name in units] == [1, 2, 3, 4]
    assert runs(notes) == {0: 1, 1: TRIES + 1, 2: 2, 3: 1, 4: 1}


def test_workers_are_processes_of_one_thread_with_the_memory_asked_for(client, tmp_path):
    """And start beside others, such as the fixture's, without a word."""
    with warnings.catch_warnings(action="error"), workers(memory="600MiB") as client:
        told = list(client.scheduler_info(n_workers=-1)["workers"].values())
        results = sweep(client, surroundings, {"a": ()}, tmp_path, progress=False)
        options = {key: set(client.run(dask.config.get, key).values()) for key in DASK}
        assert dask.config.get(LOST) == "365 days"
    assert [worker["nthreads"] for worker in told] == [1, 1]
    assert [worker["memory_limit"] for worker in told] == [600 * 2**20] * 2
    assert results["a"]["threads"].tolist() == ["1", "1", "1"]
    assert options == {key: {False} for key in DASK}
    assert int(results["a"]["pid"]) != os.getpid()
    assert gone(int(results["a"]["pid"]))  # with the block


def test_bar_counts_what_was_done_before(client, tmp_path, capsys):
    units = {f"u{k}": (k,) for k in range(4)}
    sweep(client, squares, {"u0": (0,)}, tmp_path, progress=False)
    assert capsys.readouterr().err == ""
    sweep(client, squares, units, tmp_path)
    bars = re.findall(r"(\d)/4", capsys.readouterr().err)
    assert bars[0] == "1"
    assert bars[-1] == "4"


@pytest.mark.parametrize("kept", [0, 100, -30])
def test_file_that_is_cut_short_is_not_taken(client, tmp_path, kept):
    units = {"a": (1.0, 500)}
    sweep(client, squares, units, tmp_path, progress=False)
    path = tmp_path / "a.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    sweep(client, squares, units, tmp_path, progress=False)
    assert path.read_bytes() == whole


def test_file_of_somebody_else_is_not_taken(client, tmp_path):
    np.savez(tmp_path / "a.npz", square=0.0)
    results = sweep(client, squares, {"a": (1.0,)}, tmp_path, progress=False)
    assert results["a"]["square"].tolist() == [0.0, 1.0, 4.0]


def test_interrupted_writing_leaves_no_file(client, tmp_path, monkeypatch):
    def half(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", half)
        with pytest.raises(KeyboardInterrupt):
            sweep(client, squares, {"a": (1.0,)}, tmp_path, progress=False)
    assert not (tmp_path / "a.npz").exists()
    sweep(client, squares, {"a": (1.0,)}, tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_scheduler_by_address_has_as_many_units_under_way_as_threads(tmp_path, monkeypatch):
    held = []
    with LocalCluster(
        n_workers=1,
        threads_per_worker=3,
        processes=False,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tcp://")
        with workers(address) as client:
            assert client.scheduler.address == address
            submit = client.submit

            def counting(*args, **kwargs):
                held.append(len(client.futures))  # those whose results somebody still holds
                return submit(*args, **kwargs)

            monkeypatch.setattr(client, "submit", counting)
            units = {f"u{k}": (float(k),) for k in range(12)}
            results = sweep(client, squares, units, tmp_path, progress=False)
        assert results["u2"]["square"].tolist() == [0.0, 2.0, 8.0]
        with Client(cluster) as after:  # it is not ours to close
            assert after.submit(int, "7").result() == 7
    assert len(held) == 12
    assert held[:3] == [0, 1, 2]
    assert max(held) <= 3


def gone(pid, within_s=10.0):
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


CLIENT = """
import sys
from pathlib import Path
from test_sweep import killed_client
killed_client(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def mixed(kind, *arguments):
    return {"failing": failing, "dying": dying, "noted": noted}[kind](*arguments)


def mixed_units(notes):
    broken = {"fails": ("failing", 4), "dies": ("dying", notes, 1)}
    return broken | {f"u{k}": ("noted", notes, k, 0.2) for k in range(10, 16)}


def killed_client(notes, folder):
    with workers(memory=MEMORY) as client:
        sweep(client, mixed, mixed_units(notes), folder, progress=False)


def test_killed_client_costs_the_units_under_way_alone(client, notes, tmp_path):
    """And is silent without a bar, also when units fail and workers die."""
    folder = tmp_path / "results"
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, notes, folder],
        cwd=Path(__file__).parent,
        env=os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    while len(list(folder.glob("*.npz"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate()
    told = [line for line in err.splitlines() if b"resource_tracker" not in line]  # Python's own
    assert (out, told) == (b"", [])
    before = {int(path.stem[1:]) for path in folder.glob("*.npz")}
    assert 3 <= len(before) <= 5  # so it was killed midway
    pids = {int(path.name.split("-")[2]) for path in notes.iterdir()}
    assert all(gone(pid) for pid in pids)
    first = runs(notes)
    units = {name: unit for name, unit in mixed_units(notes).items() if name.startswith("u")}
    results = sweep(client, mixed, units, folder, progress=False)
    assert [int(results[name]["number"]) for name in units] == list(range(10, 16))
    again = {number: count - first[number] for number, count in runs(notes).items()}
    assert again == {1: 0} | {number: int(number not in before) for number in range(10, 16)}
    assert sum(first.values()) - first[1] - len(before) <= 2


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".a", "a b", "ä", "-a", "a\n"])
def test_names_that_are_no_files_are_refused(client, tmp_path, name):
    with pytest.raises(ValueError, match="cannot be the name of a unit's file"):
        sweep(client, squares, {"good": (1.0,), name: (1.0,)}, tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_functions_that_cannot_be_told_apart_are_refused(client, tmp_path):
    def inner():
        return {"x": 1}

    for function in (lambda: {"x": 1}, inner, dict):
        with pytest.raises(ValueError, match="not a Python function at the top level of a module"):
            sweep(client, function, {"a": ()}, tmp_path, progress=False)


def test_arguments_that_cannot_be_told_apart_are_refused(client, tmp_path):
    with pytest.raises(TokenizationError):
        sweep(client, anything, {"a": (object(),)}, tmp_path, progress=False)


@pytest.mark.parametrize("value", [None, object, {"a": 1}, np.array([None])])
def test_python_objects_are_no_results(client, tmp_path, value):
    with pytest.raises(UnitsFailed, match="a: TypeError: value is neither a number nor an array"):
        sweep(client, anything, {"a": (value,)}, tmp_path, progress=False)


@pytest.mark.parametrize("name", ["made_by", "file", "allow_pickle", "a/b"])
def test_names_of_results_are_refused(client, tmp_path, name):
    with pytest.raises(UnitsFailed, match=f"a: ValueError: '{name}' cannot be the name"):
        sweep(client, named, {"a": (name,)}, tmp_path, progress=False)


def test_missing_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] in ("dask", "distributed"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra) as error, workers():
        pass
    assert str(error.value) == "distributed is not installed: pip install 'flexlib[cluster]'"
