"""The cells of a light model: the cheapest activation, exactly, one small programme at a time.

Exactly one binary of (14i) is 1, so the mixed-integer programme (14) is the best of m programmes,
one for each cell. Of these the one with the lowest bound is taken up again and again: the rows of
(14d) to (14h) that its optimum breaks are added, until the best breaks none. Most cells are left
with a bound alone, most rows are never written.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_array, diags_array, hstack, vstack

from flexlib.bids import Bids
from flexlib.errors import Infeasible, NotSettled
from flexlib.light_model import LightModel
from flexlib.linear_program import LinearProgram
from flexlib.sensitivity import along
from flexlib.solver import conflicting_rows, solve

ROW_TOLERANCE = 1e-7  # violation at which a row counts as met: per cent, or kW of a border
_AT_ONCE = 5  # rows of one kind added in one round
_PENALTY = 1e3  # first price of a missed row, in multiples of the dearest unit
_MOST_ROUNDS = 500  # programmes solved for one cell


@dataclass(frozen=True)
class CellRows:
    """Rows ``a z <= upper`` over the axes, each with a name.

    Attributes
    ----------
    a : numpy.ndarray, shape (rows, n)
    upper : numpy.ndarray, shape (rows,)
    names : tuple of str
    """

    a: np.ndarray
    upper: np.ndarray
    names: tuple[str, ...]

    def and_more(self, *others: CellRows) -> CellRows:
        """Return these rows and others."""
        parts = (self, *others)
        return CellRows(
            np.vstack([part.a for part in parts]),
            np.concatenate([part.upper for part in parts]),
            sum((part.names for part in parts), ()),
        )


def border_excess(model: LightModel, cell: int, z: np.ndarray) -> np.ndarray:
    """How far an activation lies beyond each border of a cell, kW, shape (m,).

    (14h): ``-H_ij(z - P_i)`` of (10), divided by the distance of the two points.
    """
    towards = model.point - model.point[cell]
    distance = np.linalg.norm(towards, axis=1)
    beyond = towards @ z - (towards * (model.point + model.point[cell])).sum(axis=1) / 2
    return np.asarray(beyond / np.where(distance == 0, 1.0, distance))


def voltage_excess(model: LightModel, cell: int, z: np.ndarray) -> np.ndarray:
    """Voltages above (14g) and below (14f) their limits, per cent of nominal, shape (2, v)."""
    v_pu = model.voltages_pu(cell, z)
    return 100 * np.array([v_pu - model.v_max_pu, model.v_min_pu - v_pu])


def loading_excess(model: LightModel, cell: int, z: np.ndarray, *, printed: bool) -> np.ndarray:
    """Loadings beyond 100 %, per cent, shape (1, l); as printed (14e), (14d) shape (2, l)."""
    if printed:
        loading = model.loading_percent[cell] + model.ltdf[cell] @ (z - model.point[cell])
        return np.array([loading - 100, -loading - 100])
    return np.asarray(np.abs(model.currents_percent(cell, z))[None] - 100)


def broken_rows(
    model: LightModel, cell: int, z: np.ndarray, *, printed: bool, missed: float = 0.0
) -> CellRows:
    """Rows of a cell that an activation breaks most, up to five of each kind; borders first.

    Only rows broken by more than what they may be missed by. A complex current is limited by its
    tangent at z: the limit is convex and holds all tangents, and where z breaks it the tangent
    cuts z off.
    """
    excess = border_excess(model, cell, z)
    _, j = _most(excess[None], missed)
    if len(j):  # most cells are left with a bound by their borders alone
        towards = model.point[j] - model.point[cell]
        a = towards / np.linalg.norm(towards, axis=1)[:, None]
        return _through(z, a, excess[j], [f"(14h) border to {k}" for k in j])
    sign = np.array([1.0, -1.0])
    excess = voltage_excess(model, cell, z)
    side, k = _most(excess, missed)
    a = 100 * sign[side, None] * model.vtdf[cell][k]
    names = [f"({('14g', '14f')[s]}) bus {b}" for s, b in zip(side, model.bus[k], strict=True)]
    voltages = _through(z, a, excess[side, k], names)
    excess = loading_excess(model, cell, z, printed=printed)
    side, k = _most(excess, missed)
    if printed:
        a = sign[side, None] * model.ltdf[cell][k]
    else:
        a = along(model.currents_percent(cell, z)[k], model.di_percent[cell][k])
    ends = zip(side, model.end[k], strict=True)
    names = [f"({('14e', '14d')[s]}) branch end {e}" for s, e in ends]
    return voltages.and_more(_through(z, a, excess[side, k], names))


def _most(excess: np.ndarray, missed: float) -> tuple[np.ndarray, ...]:
    """Places of the largest entries above what may be missed, by more than the tolerance."""
    order = np.argsort(-excess, axis=None)[:_AT_ONCE]
    above = excess.ravel()[order] > missed + ROW_TOLERANCE
    return np.unravel_index(order[above], excess.shape)


def _through(z: np.ndarray, a: np.ndarray, excess: np.ndarray, names: list[str]) -> CellRows:
    """Rows with given slopes that z breaks by given amounts."""
    return CellRows(a, a @ z - excess, tuple(names))


def shared_programme(
    bids: Bids, request_kw: float, within: np.ndarray | None = None
) -> LinearProgram:
    """Programme that all cells share: (14a) to (14c) and (14j), no rows of the grid yet.

    Columns are the upward parts of all axes, then their downward parts (each at its own price), a
    binary for each part that is on or off, and last what all later rows are missed by.

    Parameters
    ----------
    bids : Bids
    request_kw : float
        Upward positive.
    within : numpy.ndarray, shape (2, n), optional
        Further bounds on the axes: a trust region.

    Returns
    -------
    flexlib.linear_program.LinearProgram
    """
    axes, n = bids.axes, len(bids.axes)
    least = axes[["min_up", "min_down"]].to_numpy().T.ravel()
    most = np.concatenate([bids.upper, -bids.lower])
    pair = np.tile((least > 0).reshape(2, n).any(axis=0), 2)  # one direction at a time
    switched = np.flatnonzero(pair & (most > 0))
    b = len(switched)
    parts = [_over_z(axes["active"].to_numpy(float)[None], b)]
    lower, upper, names = [np.array([request_kw])], [np.array([request_kw])], ["(14j) request"]
    if b:
        part = csr_array((np.ones(b), (np.arange(b), switched)), (b, 2 * n))
        once = csr_array((np.ones(b), (switched % n, np.arange(b))), (n, b))
        parts += [
            hstack([part, csr_array(diags_array(-most[switched])), csr_array((b, 1))]),
            hstack([-part, csr_array(diags_array(least[switched])), csr_array((b, 1))]),
            hstack([csr_array((n, 2 * n)), once, csr_array((n, 1))]),
        ]
        lower.append(np.full(2 * b + n, -np.inf))
        upper.append(np.concatenate([np.zeros(2 * b), np.ones(n)]))
        which = [f"{axes['axis'][k % n]} {'up' if k < n else 'down'}" for k in switched]
        names += [f"{what} of {name}" for what in ("volume", "least volume") for name in which]
        names += [f"one direction of {axis}" for axis in axes["axis"]]
    if within is not None:
        parts.append(_over_z(np.eye(n), b))
        lower.append(within[0])
        upper.append(within[1])
        names += [f"trust region of {axis}" for axis in axes["axis"]]
    columns = [f"{axis} {way}" for way in ("up", "down") for axis in axes["axis"]]
    columns += [f"on {columns[k]}" for k in switched]
    return LinearProgram(
        c=np.concatenate([axes["price_up"], axes["price_down"], np.zeros(b + 1)]),
        a=csr_array(vstack(parts)),
        row_lower=np.concatenate(lower),
        row_upper=np.concatenate(upper),
        lower=np.zeros(2 * n + b + 1),
        upper=np.concatenate([most, np.ones(b), [np.inf]]),
        row_names=names,
        column_names=[*columns, "missed"],
        integer=np.repeat([False, True, False], [2 * n, b, 1]),
    )


def with_rows(shared: LinearProgram, rows: CellRows, penalty: float) -> LinearProgram:
    """Add rows, each missed at a price.

    Parameters
    ----------
    shared : flexlib.linear_program.LinearProgram
        From `shared_programme`.
    rows : CellRows
    penalty : float
        EUR/h for one unit of what the rows are missed by; infinite: not at all.
    """
    count = len(rows.names)
    c, upper = shared.c.copy(), shared.upper.copy()
    c[-1], upper[-1] = (0.0, 0.0) if np.isinf(penalty) else (penalty, np.inf)
    more = _over_z(rows.a, len(c) - 2 * rows.a.shape[1] - 1, missed=-1.0)
    return replace(
        shared,
        c=c,
        a=csr_array(vstack([shared.a, more])),
        row_lower=np.concatenate([shared.row_lower, np.full(count, -np.inf)]),
        row_upper=np.concatenate([shared.row_upper, rows.upper]),
        upper=upper,
        row_names=[*shared.row_names, *rows.names],
    )


def _over_z(a: np.ndarray, binaries: int, missed: float = 0.0) -> csr_array:
    """Rows over the axes as rows over the columns of `shared_programme`."""
    nothing = np.zeros((len(a), binaries))
    return csr_array(np.hstack([a, -a, nothing, np.full((len(a), 1), missed)]))


@dataclass
class Cell:
    """One cell in the search: the rows written so far, and what their optimum says.

    Attributes
    ----------
    number : int
    rows : CellRows
    penalty : float
        Price of missing rows, EUR/h for one unit.
    bound_eur_per_h : float
        Proven lower bound on the cost of every admissible activation in the cell.
    z : numpy.ndarray, shape (n,)
        Cheapest activation that meets the rows but for `missed`.
    missed : float
    solved : int
        Programmes solved for it.
    """

    number: int
    rows: CellRows
    penalty: float
    bound_eur_per_h: float = -np.inf
    z: np.ndarray = field(default_factory=lambda: np.zeros(0))
    missed: float = 0.0
    solved: int = 0


def first_penalty(bids: Bids) -> float:
    """Price at which a search first lets rows be missed, EUR/h for one unit."""
    dearest = np.abs(bids.axes[["price_up", "price_down"]].to_numpy()).max()
    return _PENALTY * max(float(dearest), 1e-3)


@dataclass(frozen=True)
class Search:
    """Search through the cells of a light model.

    Parameters
    ----------
    model : LightModel
    bids : Bids
    shared : flexlib.linear_program.LinearProgram
        From `shared_programme`.
    printed : bool
        Limit loadings as printed, (14d) and (14e), instead of complex currents.
    elastic : bool
        Accept an activation that misses rows, at the penalty, where every one does.
    gap : float
        Relative gap for programmes with least activations.
    penalty : float, optional
        First price of missing rows, EUR/h for one unit; `first_penalty` by default.
    """

    model: LightModel
    bids: Bids
    shared: LinearProgram
    printed: bool = False
    elastic: bool = False
    gap: float = 1e-6
    penalty: float | None = None

    def best(self) -> tuple[Cell, np.ndarray]:
        """Find the cell with the cheapest admissible activation.

        Returns
        -------
        cell : Cell
        bound_eur_per_h : numpy.ndarray, shape (m,)
            Lower bounds on the cost in every cell; infinite where nothing is admissible.

        Raises
        ------
        Infeasible
            If no cell has an admissible activation; names rows that conflict.
        NotSettled
            If 500 programmes were solved for one cell and its optimum still breaks rows.
        """
        nothing = CellRows(np.zeros((0, len(self.bids.axes))), np.zeros(0), ())
        start = Cell(-1, nothing, self.penalty or first_penalty(self.bids))
        self._solve(start)
        cells = [replace(start, number=k) for k in range(len(self.model.point))]
        near = np.argsort(np.argsort(np.linalg.norm(self.model.point - start.z, axis=1)))
        queue = [(cell.bound_eur_per_h, int(near[cell.number])) for cell in cells]
        at = {int(rank): cell for rank, cell in zip(near, cells, strict=True)}
        heapq.heapify(queue)
        while queue[0][0] < np.inf:
            cell = at[queue[0][1]]
            broken = broken_rows(
                self.model, cell.number, cell.z, printed=self.printed, missed=cell.missed
            )
            if broken.names:
                cell.rows = cell.rows.and_more(broken)
                self._solve(cell)
            elif self.elastic or cell.missed <= ROW_TOLERANCE:
                return cell, np.array([c.bound_eur_per_h for c in cells])
            elif (least := self._least_missed(cell)) > ROW_TOLERANCE:
                cell.bound_eur_per_h, cell.missed = np.inf, least
            else:
                cell.penalty *= _PENALTY
                self._solve(cell)
            heapq.heapreplace(queue, (cell.bound_eur_per_h, queue[0][1]))
        raise self._infeasible(min(cells, key=lambda cell: cell.missed))

    def _solve(self, cell: Cell) -> None:
        """Solve a cell's programme with the rows it has."""
        n = len(self.bids.axes)
        cell.solved += 1
        if cell.solved > _MOST_ROUNDS:
            raise NotSettled(
                f"cell {cell.number}: {_MOST_ROUNDS} programmes solved, the last with "
                f"{len(cell.rows.names)} rows missed by {cell.missed:.3g} at "
                f"{cell.penalty:.3g} EUR/h for each; rows were still broken by more"
            )
        solution = solve(with_rows(self.shared, cell.rows, cell.penalty), gap=self.gap)
        cell.bound_eur_per_h = max(cell.bound_eur_per_h, solution.bound)
        cell.z = solution.x[:n] - solution.x[n : 2 * n]
        cell.missed = float(solution.x[-1])

    def _least_missed(self, cell: Cell) -> float:
        """Lower bound on what a cell's rows are missed by, at any cost."""
        programme = with_rows(self.shared, cell.rows, 1.0)
        without_cost = replace(
            programme, c=np.where(np.arange(len(programme.c)) < len(programme.c) - 1, 0.0, 1.0)
        )
        return solve(without_cost, gap=self.gap).bound

    def _infeasible(self, cell: Cell) -> Infeasible:
        conflict = conflicting_rows(with_rows(self.shared, cell.rows, np.inf))
        shown = ", ".join(conflict[:8]) + (f" and {len(conflict) - 8} more" if conflict[8:] else "")
        return Infeasible(
            f"no activation meets all limits in any of {len(self.model.point)} cells; nearest is "
            f"cell {cell.number}, which misses by at least {cell.missed:.4g} (per cent of a limit, "
            f"or kW of a border); in conflict there: {shown}",
            conflict,
        )
