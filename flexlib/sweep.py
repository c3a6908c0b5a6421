"""Long work in named units on Dask: each is written as it finishes, and none is done twice.

>>> with workers() as client:
...     results = sweep(client, function, units, folder)
"""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from flexlib.errors import FlexlibError, MissingExtra

if TYPE_CHECKING:
    from distributed import Client

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_MARK = "made_by"  # entry of a file that says what it is the result of
_LOCAL = {  # of Dask's options: a process that pauses, and one that is given up, would not return
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.deploy.lost-worker-timeout": "365 days",
}


class UnitsFailed(FlexlibError):
    """Units of a sweep that failed; the others are written.

    Parameters
    ----------
    failures : mapping of str to str
        Name of each unit and what happened.
    units : int
        Number of all units.
    """

    def __init__(self, failures: Mapping[str, str], units: int) -> None:
        self.failures = dict(failures)
        head = f"{len(failures)} of {units} units failed:"
        super().__init__("\n".join([head, *(f"  {k}: {text}" for k, text in failures.items())]))


@dataclass(frozen=True)
class Results(Mapping[str, dict[str, np.ndarray]]):
    """Arrays of each unit by its name, read from its file whenever they are asked for.

    `FlexlibError` is raised if the file is by then another sweep's.

    Attributes
    ----------
    folder : pathlib.Path
    made_by : dict of str to str
        Units in their order, and what each file must say that it is the result of.
    """

    folder: Path
    made_by: dict[str, str]

    def __getitem__(self, name: str) -> dict[str, np.ndarray]:
        made_by, path = self.made_by[name], _path(self.folder, name)
        with np.load(path) as arrays:
            if str(arrays[_MARK]) != made_by:
                raise FlexlibError(f"{path} was replaced by another sweep")
            return {key: arrays[key] for key in arrays.files if key != _MARK}

    def __iter__(self) -> Iterator[str]:
        return iter(self.made_by)

    def __len__(self) -> int:
        return len(self.made_by)


@contextmanager
def workers(
    scheduler: str | None = None, *, count: int = 2, memory: str = "2GiB"
) -> Iterator[Client]:
    """Processes that `sweep` sends units to, until the block ends.

    Local ones start anew, so a script that calls this does it below ``if __name__ ==
    "__main__":``. They compute with one thread each, that of numpy's BLAS included, and have no
    dashboard.

    Parameters
    ----------
    scheduler : str, optional
        Address of a running Dask scheduler, such as ``"tcp://10.0.0.1:8786"``, whose workers can
        import flexlib and the function of a unit; they need no disk in common with this process,
        and their number, threads and memory are as they were started. Without it `count` processes
        are started on this machine.
    count : int
        Local processes.
    memory : str
        Memory of each local process, such as ``"2GiB"``. One that comes within a twentieth of it is
        ended and replaced (as often as `sweep` says); nothing is moved to disk before that.

    Yields
    ------
    distributed.Client

    Raises
    ------
    MissingExtra
        Without the package distributed (extra ``cluster``).
    OSError
        If the scheduler does not answer.
    """
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingExtra("distributed", "cluster") from error
    if scheduler is not None:
        with Client(scheduler) as client:
            yield client
        return
    with (
        config.set(_LOCAL),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=memory,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def sweep(
    client: Client,
    function: Callable[..., Mapping[str, Any]],
    units: Mapping[str, tuple[Any, ...]],
    folder: Path,
    *,
    progress: bool = True,
) -> Results:
    """Result of a function for each unit's arguments, kept in a folder.

    This process writes a unit's arrays when they arrive, to ``<name>.npz`` by way of a temporary
    file, so that whatever ends it costs the units under way and no other. A unit whose file is
    there is not run again if the file is of the same function (name and text), the same arguments
    and the same version of flexlib; otherwise its file is replaced. What the function calls or
    reads is not looked at: if that changes, take another folder.

    As many units are under way as the workers have threads, and no result stays in memory once it
    is written. A unit whose worker dies is run again, three times at most unless the scheduler's
    ``allowed-failures`` says otherwise; so may be one whose result was still to be fetched.

    Parameters
    ----------
    client : distributed.Client
        From `workers`.
    function : callable
        Defined at the top level of a module that the workers can import. Gives named numbers or
        arrays, without Python objects. What many units share it had better make by itself and keep
        with `functools.cache`, as arguments are sent with every unit.
    units : mapping of str to tuple
        Arguments of each unit. Its name is that of its file: letters, digits, ``_``, ``.``, ``-``.
    folder : pathlib.Path
        Made if missing; one sweep at a time writes to it.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    Results

    Raises
    ------
    ValueError
        If a name is no name of a file, or the function is none of a module's top level.
    dask.tokenize.TokenizationError
        If arguments hold an object that Dask cannot tell from others.
    UnitsFailed
        If units failed, once all others are written; the next call runs those alone.
    """
    from tqdm import tqdm

    made_by = {name: _fingerprint(name, function, units[name]) for name in units}
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [name for name in units if _stored(folder, name) != made_by[name]]
    done, failures = len(units) - len(waiting), {}
    with tqdm(total=len(units), initial=done, unit="unit", disable=not progress) as bar:
        for name, result in _run(client, function, {name: units[name] for name in waiting}):
            if isinstance(result, str):
                failures[name] = result
            else:
                _write(folder, name, result, made_by[name])
            bar.update()
    if failures:
        raise UnitsFailed(failures, len(units))
    return Results(folder, made_by)


def _run(
    client: Client,
    function: Callable[..., Mapping[str, Any]],
    units: Mapping[str, tuple[Any, ...]],
) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Name and arrays of each unit as it ends, or what was wrong."""
    from distributed import KilledWorker, as_completed

    todo, finished = iter(units), as_completed([])
    under_way: dict[Any, str] = {}
    while True:
        room = max(1, sum(client.nthreads().values())) - len(under_way)
        for name in islice(todo, max(0, room)):
            future = client.submit(_result, function, units[name], pure=False)
            under_way[future] = name
            finished.add(future)
        if not under_way:
            return
        future = next(finished)
        name = under_way.pop(future)
        try:
            result = future.result()
        except KilledWorker as error:
            result = f"its worker died {error.allowed_failures + 1} times, of its memory perhaps"
        except Exception as error:  # on the way; those of the function come as text
            result = _summary(error)
        yield name, result


def _result(
    function: Callable[..., Mapping[str, Any]], arguments: tuple[Any, ...]
) -> dict[str, np.ndarray] | str:
    """On the worker: arrays of a unit, or what is wrong, in words: an error may hold much."""
    try:
        arrays = {key: np.asarray(value) for key, value in function(*arguments).items()}
        for key, array in arrays.items():
            if not key.isidentifier() or key in (_MARK, "file", "allow_pickle"):
                raise ValueError(f"{key!r} cannot be the name of a result")
            if array.dtype.hasobject:
                raise TypeError(f"{key} is neither a number nor an array of them or of text")
    except Exception as error:
        return _summary(error)
    return arrays


def _summary(error: BaseException) -> str:
    return "".join(format_exception_only(error)).strip()


def _fingerprint(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """What a unit's result depends on, as far as it is looked at."""
    from dask.tokenize import tokenize

    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a unit's file")
    place = f"{function.__module__}.{function.__qualname__}"
    try:
        text = inspect.getsource(function)
    except (TypeError, OSError):
        text = ""
    if "<" in place or not text:
        raise ValueError(f"{place} is not a Python function at the top level of a module")
    key = (place, text, version("flexlib"), arguments)
    return tokenize(key, ensure_deterministic=True)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npz"


def _stored(folder: Path, name: str) -> str:
    """What a unit's file is the result of; "" without a file that can be read."""
    try:
        with np.load(_path(folder, name)) as arrays:
            return str(arrays[_MARK])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return ""


def _write(folder: Path, name: str, arrays: Mapping[str, np.ndarray], made_by: str) -> None:
    part = folder / f"{name}.part"
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_MARK: np.asarray(made_by)}, **arrays)
        file.flush()
        os.fsync(file.fileno())
    part.replace(_path(folder, name))
