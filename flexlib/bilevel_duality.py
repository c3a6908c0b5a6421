"""Strong duality in place of complementarity: the follower's cost is at most its dual objective.

    (c + C d)'x  <=  (b - B d)'y - (limit - K_d d)'mu          :eq:`bilevel-strong-duality`

Each product of a decision and a variable gets a column of its own and McCormick's envelope, which
is exact where the decision is 0 or 1. Otherwise what stands here is a relaxation: its optimum is a
bound, its rows are cuts. A follower that falls apart has one such row for each part.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array, hstack, vstack
from scipy.sparse.csgraph import connected_components

from flexlib.bilevel import Bilevel
from flexlib.bilevel_kkt import pairs
from flexlib.errors import DataError, Fault
from flexlib.linear_program import LinearProgram

_WIDTH = 1e-8  # of strong duality, relative to the cost: without it, solvers find it infeasible


def in_products(problem: Bilevel) -> np.ndarray:
    """Decisions that are multiplied with a variable in strong duality: in C, B or K_d."""
    f = problem.follower
    used = [abs(part).sum(axis=0) for part in (f.c_leader, f.a_leader, f.g_leader)]
    return np.flatnonzero(np.sum(used, axis=0))


def is_exact(problem: Bilevel) -> bool:
    """Whether McCormick's envelope is exact: every decision in a product is 0 or 1, or fixed."""
    used = in_products(problem)
    low, high = problem.lower[used], problem.upper[used]
    return bool(((low == high) | (problem.integer[used] & (low == 0) & (high == 1))).all())


def with_strong_duality(system: LinearProgram, problem: Bilevel) -> LinearProgram:
    """A system with strong duality and the envelopes of its products, last columns.

    Parameters
    ----------
    system : LinearProgram
        Whose first columns are those of `flexlib.bilevel_kkt.kkt_system`.
    problem : Bilevel
        Its follower is linear.

    Raises
    ------
    DataError
        If the follower is quadratic, or naming each factor of a product that has no finite bound.
    """
    f, pair = problem.follower, pairs(problem)
    if f.q.nnz:
        found = f"{f.q.nnz} quadratic terms"
        raise DataError([Fault("follower", "", "q", found, "none: strong duality is linear")])
    n, k, e = len(f.c), len(problem.cost), len(f.b)
    parts = [
        (f.c_leader.tocoo(), k, 1.0),
        (f.a_leader.tocoo(), k + n, 1.0),
        (pair.slack_d.tocoo(), k + n + e, -1.0),
    ]
    leader = np.concatenate([part.col for part, _, _ in parts])
    other = np.concatenate([first + part.row for part, first, _ in parts])
    factor = np.concatenate([sign * part.data for part, _, sign in parts])
    _assert_finite(system, np.concatenate([leader, other]))
    envelope, above = _envelope(system, leader, other)
    count, used = len(leader), k + n + e + len(pair.limit)
    part = _parts(problem)
    above_dual = coo_array(
        (
            np.concatenate([f.c, -f.b, pair.limit, factor]),
            (
                np.concatenate([part, part[other - k]]),
                np.concatenate([np.arange(k, used), np.arange(count) + len(system.c)]),
            ),
        ),
        shape=(int(part.max(initial=-1)) + 1, len(system.c) + count),
    )
    parts_count = above_dual.shape[0]
    width = np.full(parts_count, _WIDTH * max(1.0, float(np.abs(f.c).max(initial=0.0))))
    names = [f"{system.column_names[i]} x {system.column_names[j]}" for i, j in
             zip(leader, other, strict=True)]  # fmt: skip
    return replace(
        system,
        c=np.append(system.c, np.zeros(count)),
        a=csr_array(
            vstack(
                [hstack([system.a, csr_array((system.a.shape[0], count))]), above_dual, envelope]
            )
        ),
        row_lower=np.append(system.row_lower, np.full(parts_count + len(above), -np.inf)),
        row_upper=np.concatenate([system.row_upper, width, above]),
        lower=np.append(system.lower, np.full(count, -np.inf)),
        upper=np.append(system.upper, np.full(count, np.inf)),
        row_names=[*system.row_names, *["strong duality"] * parts_count, *names * 4],
        column_names=[*system.column_names, *names],
        integer=np.append(system.integer, np.zeros(count, dtype=bool)),
    )


def _parts(problem: Bilevel) -> np.ndarray:
    """Number of the independent part of the follower that each x, equation and pair belongs to."""
    f = problem.follower
    ties = csr_array(vstack([f.a, pairs(problem).slack_x, f.q]))
    rows, n = ties.shape
    entry = ties.tocoo()
    graph = coo_array((np.ones(entry.nnz), (n + entry.row, entry.col)), shape=(n + rows, n + rows))
    label = connected_components(graph, directed=False)[1]
    return np.asarray(label[: len(label) - n])


def _assert_finite(system: LinearProgram, columns: np.ndarray) -> None:
    faults = [
        Fault("bilevel", system.column_names[j], name, f"{value[j]:g}",
              "a finite bound: it is a factor of a product")
        for j in np.unique(columns)
        for name, value in (("lower", system.lower), ("upper", system.upper))
        if not np.isfinite(value[j])
    ]  # fmt: skip
    if faults:
        raise DataError(faults)


def _envelope(
    system: LinearProgram, leader: np.ndarray, other: np.ndarray
) -> tuple[csr_array, np.ndarray]:
    """McCormick's rows :eq:`bilevel-mccormick` for products, whose own columns are the last."""
    count, size = len(leader), len(system.c)
    d_low, d_high = system.lower[leader], system.upper[leader]
    v_low, v_high = system.lower[other], system.upper[other]
    product = eye_array(count)

    def rows(of_d: np.ndarray, of_v: np.ndarray, sign: float) -> csr_array:
        at = np.tile(np.arange(count), 2)
        places = at, np.concatenate([leader, other])
        own = coo_array((np.concatenate([of_d, of_v]), places), shape=(count, size))
        return csr_array(hstack([sign * own, -sign * product]))

    blocks = [
        rows(v_low, d_low, 1.0),
        rows(v_high, d_high, 1.0),
        rows(v_low, d_high, -1.0),
        rows(v_high, d_low, -1.0),
    ]
    above = [d_low * v_low, d_high * v_high, -d_high * v_low, -d_low * v_high]
    return csr_array(vstack(blocks)), np.concatenate(above)


def on_menu(problem: Bilevel, menu: dict[int, np.ndarray]) -> tuple[Bilevel, csr_array]:
    """The same programme with some decisions chosen from lists, each entry by a binary.

    Parameters
    ----------
    problem : Bilevel
    menu : dict
        Values that a decision may take, by its position in d.

    Returns
    -------
    problem : Bilevel
        Strong duality is exact for it where all decisions in products are on the menu.
    value : scipy.sparse.csr_array, shape (k, decisions)
        Maps its decisions to those of the given programme.

    Raises
    ------
    DataError
        Naming every entry that the decision's bounds, or its being integer, do not allow.
    """
    k, f = len(problem.cost), problem.follower
    faults = [
        Fault("menu", problem.names[j], "", f"{v:g}", "a value that the decision may take")
        for j, values in menu.items()
        for v in values
        if not problem.lower[j] <= v <= problem.upper[j] or (problem.integer[j] and v != round(v))
    ]
    if faults:
        raise DataError(faults)
    columns: list[tuple[int, float, str]] = []
    for j in range(k):
        if j in menu:
            columns += [(j, float(v), f"{problem.names[j]} is {v:g}") for v in menu[j]]
        else:
            columns.append((j, 1.0, problem.names[j]))
    row, level = np.array([j for j, _, _ in columns]), np.array([v for _, v, _ in columns])
    binary = np.isin(row, list(menu))
    size = len(columns)
    value = csr_array(coo_array((level, (row, np.arange(size))), shape=(k, size)))
    one = csr_array(
        coo_array((np.ones(size), (row, np.arange(size))), shape=(k, size))
    )[sorted(menu)]  # fmt: skip
    count = one.shape[0]
    none = csr_array((2 * count, len(f.c)))
    names = [f"one entry for {problem.names[j]}" for j in sorted(menu)]
    chosen = replace(
        problem,
        follower=replace(
            f,
            c_leader=csr_array(f.c_leader @ value),
            a_leader=csr_array(f.a_leader @ value),
            g_leader=csr_array(f.g_leader @ value),
        ),
        cost=value.T @ problem.cost,
        lower=np.where(binary, 0.0, problem.lower[row]),
        upper=np.where(binary, 1.0, problem.upper[row]),
        rows=csr_array(vstack([problem.rows @ value, one, -one])),
        rows_follower=csr_array(vstack([problem.rows_follower, none])),
        limit=np.concatenate([problem.limit, np.ones(count), -np.ones(count)]),
        integer=np.where(binary, True, problem.integer[row]),
        names=[name for _, _, name in columns],
        row_names=[*problem.row_names, *names, *names],
    )
    return chosen, value
