"""Linear programmes for tests."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from flexlib.linear_program import LinearProgram

INF = np.inf


def program(
    c: list[float],
    a: list[list[float]],
    row_lower: list[float],
    row_upper: list[float],
    lower: float | list[float] = 0.0,
    upper: float | list[float] = np.inf,
    integer: list[bool] | None = None,
    offset: float = 0.0,
) -> LinearProgram:
    count = len(c)
    return LinearProgram(
        np.array(c, dtype=float),
        csr_array(np.array(a, dtype=float).reshape(-1, count)),
        np.array(row_lower, dtype=float),
        np.array(row_upper, dtype=float),
        np.broadcast_to(np.array(lower, dtype=float), count).copy(),
        np.broadcast_to(np.array(upper, dtype=float), count).copy(),
        [f"row {k}" for k in range(len(row_lower))],
        [f"x{k}" for k in range(count)],
        np.array(integer if integer else [False] * count),
        offset,
    )


def diet() -> LinearProgram:
    # Furniture (Dantzig): max 60 x + 30 y + 20 z, optimum 280 at (2, 0, 8).
    rows = [[8, 6, 1], [4, 2, 1.5], [2, 1.5, 0.5]]
    return program([-60, -30, -20], rows, [-INF] * 3, [48, 20, 8], offset=1000)


def random_program(seed: int) -> LinearProgram:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(2, 7)), int(rng.integers(2, 6))
    a = rng.normal(size=(rows, columns))
    inside = rng.uniform(-1, 1, columns)
    room = rng.uniform(0.1, 1, (2, rows)) * rng.choice([1, INF], (2, rows), p=[0.7, 0.3])
    return program(
        rng.normal(size=columns), a, a @ inside - room[0], a @ inside + room[1], -2, 2.5,
        offset=rng.normal(),
    )  # fmt: skip
