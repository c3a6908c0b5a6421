"""Bilevel programmes with a linear or convex quadratic follower, in the poster's canonical form.

The follower chooses x given the leader's d, :eq:`bilevel-follower`:

    min (c + C d)'x + 1/2 x'Q x  subject to  A x + B d = b,  G x + H d <= h,  lower <= x <= upper

and the leader chooses d, and x among the follower's optimal answers where there are several (the
optimistic reading), :eq:`bilevel-leader`:

    min F'd + f'x  subject to  P d + S x <= r,  lower <= d <= upper, some of d integer
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array, hstack, vstack

from flexlib.curvature import curvature_faults
from flexlib.errors import DataError, Fault
from flexlib.linear_program import LinearProgram


def _empty() -> csr_array:
    return csr_array((0, 0))


def _nothing() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True)
class Follower:
    """The follower's programme.

    What is left out does not occur; bounds that are left out are 0 and infinity. A `Bilevel` fills
    it in and checks it: use the follower of that.

    Attributes
    ----------
    c : numpy.ndarray, shape (n,)
    a : scipy.sparse.csr_array, shape (equations, n)
    b : numpy.ndarray, shape (equations,)
    g : scipy.sparse.csr_array, shape (rows, n)
    h : numpy.ndarray, shape (rows,)
    lower, upper : numpy.ndarray, shape (n,)
    c_leader : scipy.sparse.csr_array, shape (n, k)
        C: change of the cost with the leader's decisions.
    a_leader, g_leader : scipy.sparse.csr_array, shapes (equations, k) and (rows, k)
        B and H.
    q : scipy.sparse.csr_array, shape (n, n)
        Q, symmetric and positive semidefinite.
    names, equation_names, row_names : list of str
        Of x, of the equations and of the rows.
    """

    c: np.ndarray
    a: csr_array = field(default_factory=_empty)
    b: np.ndarray = field(default_factory=_nothing)
    g: csr_array = field(default_factory=_empty)
    h: np.ndarray = field(default_factory=_nothing)
    lower: np.ndarray = field(default_factory=_nothing)
    upper: np.ndarray = field(default_factory=_nothing)
    c_leader: csr_array = field(default_factory=_empty)
    a_leader: csr_array = field(default_factory=_empty)
    g_leader: csr_array = field(default_factory=_empty)
    q: csr_array = field(default_factory=_empty)
    names: list[str] = field(default_factory=list)
    equation_names: list[str] = field(default_factory=list)
    row_names: list[str] = field(default_factory=list)

    def cost(self, d: np.ndarray, x: np.ndarray) -> float:
        """Cost of x at the leader's d."""
        return float((self.c + self.c_leader @ d) @ x + 0.5 * x @ (self.q @ x))

    def at(self, d: np.ndarray) -> LinearProgram:
        """The follower's programme at the leader's d, without its quadratic term."""
        equal, most = self.b - self.a_leader @ d, self.h - self.g_leader @ d
        return LinearProgram(
            c=self.c + self.c_leader @ d,
            a=csr_array(vstack([self.a, self.g])),
            row_lower=np.concatenate([equal, np.full(len(self.h), -np.inf)]),
            row_upper=np.concatenate([equal, most]),
            lower=self.lower,
            upper=self.upper,
            row_names=[*self.equation_names, *self.row_names],
            column_names=self.names,
        )


@dataclass(frozen=True)
class Bilevel:
    """A bilevel programme.

    What is left out does not occur; bounds that are left out are 0 and infinity.

    Attributes
    ----------
    follower : Follower
    cost : numpy.ndarray, shape (k,)
        F.
    cost_follower : numpy.ndarray, shape (n,)
        f.
    lower, upper : numpy.ndarray, shape (k,)
        Bounds of the leader's decisions.
    rows, rows_follower : scipy.sparse.csr_array, shapes (m, k) and (m, n)
        P and S. Rows in which the follower's variables occur are coupling constraints: the follower
        does not see them, and an answer that breaks them is not the leader's to choose.
    limit : numpy.ndarray, shape (m,)
        r.
    integer : numpy.ndarray of bool, shape (k,)
    names, row_names : list of str

    Raises
    ------
    DataError
        Naming every array of another shape, what is not a number, bounds that exclude each other,
        and a Q that is not symmetric and positive semidefinite.
    """

    follower: Follower
    cost: np.ndarray
    cost_follower: np.ndarray = field(default_factory=_nothing)
    lower: np.ndarray = field(default_factory=_nothing)
    upper: np.ndarray = field(default_factory=_nothing)
    rows: csr_array = field(default_factory=_empty)
    rows_follower: csr_array = field(default_factory=_empty)
    limit: np.ndarray = field(default_factory=_nothing)
    integer: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    names: list[str] = field(default_factory=list)
    row_names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        f, k, n = self.follower, len(self.cost), len(self.follower.c)
        e, p, m = len(f.b), len(f.h), len(self.limit)
        follower = _Completion(
            "follower",
            f,
            matrices={
                "a": (e, n), "g": (p, n), "q": (n, n),
                "c_leader": (n, k), "a_leader": (e, k), "g_leader": (p, k),
            },
            vectors={"c": (n, 0.0), "b": (e, 0.0), "h": (p, 0.0)},
            bounds={"lower": (n, 0.0), "upper": (n, np.inf)},
            names={"names": (n, "x"), "equation_names": (e, "equation"), "row_names": (p, "row")},
        )  # fmt: skip
        leader = _Completion(
            "leader",
            self,
            matrices={"rows": (m, k), "rows_follower": (m, n)},
            vectors={"cost": (k, 0.0), "cost_follower": (n, 0.0), "limit": (m, 0.0)},
            bounds={"lower": (k, 0.0), "upper": (k, np.inf), "integer": (k, False)},
            names={"names": (k, "d"), "row_names": (m, "leader's row")},
        )
        faults = follower.faults + leader.faults
        if not faults:
            object.__setattr__(self, "follower", replace(f, **follower.filled))
            for name, value in leader.filled.items():
                object.__setattr__(self, name, value)
            faults = [*_bound_faults("follower", self.follower), *_bound_faults("leader", self)]
            faults = faults or curvature_faults(self.follower.q, self.follower.names, "follower")
        if faults:
            raise DataError(faults)

    def value(self, d: np.ndarray, x: np.ndarray) -> float:
        """Leader's objective."""
        return float(self.cost @ d + self.cost_follower @ x)

    def high_point(self) -> LinearProgram:
        """All that leader and follower could do together: the single-level relaxation in (d, x)."""
        f = self.follower
        below = np.full(len(f.h) + len(self.limit), -np.inf)
        rows = [
            hstack([f.a_leader, f.a]),
            hstack([f.g_leader, f.g]),
            hstack([self.rows, self.rows_follower]),
        ]
        return LinearProgram(
            c=np.concatenate([self.cost, self.cost_follower]),
            a=csr_array(vstack(rows)),
            row_lower=np.concatenate([f.b, below]),
            row_upper=np.concatenate([f.b, f.h, self.limit]),
            lower=np.concatenate([self.lower, f.lower]),
            upper=np.concatenate([self.upper, f.upper]),
            row_names=[*f.equation_names, *f.row_names, *self.row_names],
            column_names=[*self.names, *f.names],
            integer=np.concatenate([self.integer, np.zeros(len(f.c), dtype=bool)]),
        )


class _Completion:
    """Arrays of one level: what was left out filled in, and every fault of what was given."""

    def __init__(
        self,
        level: str,
        part: Follower | Bilevel,
        matrices: dict[str, tuple[int, int]],
        vectors: dict[str, tuple[int, float]],
        bounds: dict[str, tuple[int, float | bool]],
        names: dict[str, tuple[int, str]],
    ) -> None:
        self.level, self.faults = level, list[Fault]()
        self.filled: dict[str, Any] = {}
        for name, shape in matrices.items():
            matrix = csr_array(getattr(part, name), dtype=float, copy=True)
            matrix.eliminate_zeros()
            matrix = csr_array(shape) if matrix.shape == (0, 0) else matrix
            self._check(name, matrix.shape, shape, matrix.data, finite=True)
            self.filled[name] = matrix
        for name, (size, fill) in {**vectors, **bounds}.items():
            vector = np.asarray(getattr(part, name), dtype=bool if name == "integer" else float)
            vector = np.full(size, fill) if vector.shape == (0,) else vector
            self._check(name, vector.shape, (size,), vector, finite=name in vectors)
            self.filled[name] = vector
        for name, (size, word) in names.items():
            given = list(getattr(part, name)) or [f"{word} {j + 1}" for j in range(size)]
            self._check(name, (len(given),), (size,), np.zeros(0), finite=True)
            self.filled[name] = given

    def _check(
        self, name: str, shape: tuple[int, ...], wanted: tuple[int, ...], data: np.ndarray,
        *, finite: bool,
    ) -> None:  # fmt: skip
        bad = ~np.isfinite(data) if finite else np.isnan(data)
        if shape != wanted:
            self.faults.append(Fault(self.level, "", name, f"shape {shape}", f"shape {wanted}"))
        elif bad.any():
            at, expected = int(np.flatnonzero(bad)[0]), "a finite number" if finite else "a number"
            self.faults.append(Fault(self.level, f"{at}", name, f"{data[at]:g}", expected))


def _bound_faults(level: str, part: Follower | Bilevel) -> list[Fault]:
    crossed = (part.lower > part.upper) | (part.lower == np.inf) | (part.upper == -np.inf)
    return [
        Fault(level, part.names[j], "lower", f"{part.lower[j]:g}", f"at most {part.upper[j]:g}")
        for j in np.flatnonzero(crossed)
    ]
