"""The quadratic follower by others: solvers hub by hub, and differentiable layers.

Each side is set up once with hubs whose variables that cannot move are left out, and then called
with new adders. It returns their answers, of shape (hubs, hours x 12), and, where it can, a
function that takes coefficients of the answers to the gradient of their sum by the adders. One
thread each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import clarabel
import cvxpy as cp
import highspy
import numpy as np
import piqp
from scipy.sparse import (
    coo_array,
    csc_array,
    csc_matrix,
    csr_array,
    diags_array,
    eye_array,
    hstack,
    vstack,
)

from benchmarks.peers import TOLERANCE
from flexlib.hub_programme import HubProgramme
from flexlib.hubs import Hubs
from flexlib.quadratic_follower import QuadraticFollower
from flexlib.quadratic_pricing import hub_follower

INSTALL = "see benchmarks/peers-layers.txt"
Gradient = Callable[[np.ndarray], np.ndarray]
Side = Callable[[np.ndarray], tuple[np.ndarray, Gradient | None]]


@dataclass(frozen=True)
class Block:
    """One hub's programme ``min 1/2 x'Q x + (c + delta)'x, A x = b, lower <= x <= upper``.

    Attributes
    ----------
    free : numpy.ndarray of bool, shape (columns,)
        Variables that can move. What follows is of these alone.
    fixed : numpy.ndarray, shape (columns,)
        Lower bounds, the values of those that cannot.
    q, c, lower, upper : numpy.ndarray
        Q by its diagonal.
    a : scipy.sparse.csr_array
    b : numpy.ndarray
    imports : numpy.ndarray of int, shape (hours,)
        Positions of imports.
    """

    free: np.ndarray
    fixed: np.ndarray
    q: np.ndarray
    c: np.ndarray
    a: csr_array
    b: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    imports: np.ndarray

    def cost(self, adder: np.ndarray) -> np.ndarray:
        """Linear costs with an hour's adder on its import."""
        c = self.c.copy()
        c[self.imports] += adder
        return c

    def whole(self, x: np.ndarray) -> np.ndarray:
        """Values of all variables."""
        every = self.fixed.copy()
        every[self.free] = x
        return every

    @cached_property
    def cone(self) -> tuple[csc_array, np.ndarray]:
        """Rows ``[A; I; -I] x + s = [b; upper; -lower]``, s in the cone of equations and bounds."""
        one = eye_array(len(self.c))
        return (
            csc_array(vstack([self.a, one, -one])),
            np.concatenate([self.b, self.upper, -self.lower]),
        )


def blocks(hubs: Hubs) -> list[Block]:
    """The hubs' programmes apart; hubs of one kind leave out the same variables."""
    programme = HubProgramme(hubs)
    n, hours, kinds = programme.shape
    size, rows = hours * kinds, len(programme.b) // n
    lower, upper = programme.lower.reshape(n, size), programme.upper.reshape(n, size)
    m_in = programme.column("m_in")[0]
    kind = np.array([name.split(" of ")[0] for name in hubs.table["hub"]])
    found = []
    for i in range(n):
        free = (lower < upper)[kind == kind[i]].any(axis=0)
        own = slice(i * size, (i + 1) * size)
        a = csr_array(programme.a[i * rows : (i + 1) * rows, own])
        fixed = np.where(free, 0.0, lower[i])
        found.append(
            Block(
                free, fixed, programme.quadratic[own][free], programme.cost[own][free],
                csr_array(a[:, np.flatnonzero(free)]),
                programme.b[i * rows : (i + 1) * rows] - a @ fixed,
                lower[i][free], upper[i][free], (np.cumsum(free) - 1)[m_in],
            )
        )  # fmt: skip
    return found


def ours(hubs: Hubs) -> Side:
    """All hubs as one programme, `flexlib.quadratic_follower.QuadraticFollower`."""
    follower = QuadraticFollower(hub_follower(HubProgramme(hubs)))

    def side(adder: np.ndarray) -> tuple[np.ndarray, Gradient]:
        found = follower.answer(adder.ravel())
        return (
            found.x.reshape(len(hubs), -1),
            lambda weight: found.adjoint(weight.ravel()).reshape(adder.shape),
        )

    return side


def _hub_by_hub(parts: list[Block], solve: list[Callable[[np.ndarray], np.ndarray]]) -> Side:
    def side(adder: np.ndarray) -> tuple[np.ndarray, None]:
        each = zip(parts, solve, adder, strict=True)
        return np.array([p.whole(run(p.cost(d))) for p, run, d in each]), None

    return side


def by_piqp(hubs: Hubs) -> Side:
    """PIQP, hub by hub, with new costs by its update."""
    parts = blocks(hubs)

    def made(p: Block) -> Callable[[np.ndarray], np.ndarray]:
        solver = piqp.SparseSolver()
        settings = solver.settings
        settings.eps_abs = settings.eps_rel = TOLERANCE
        settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = TOLERANCE
        none = csc_matrix((0, len(p.c)))
        solver.setup(csc_matrix(diags_array(p.q)), p.c, csc_matrix(p.a), p.b, none,
                     np.zeros(0), np.zeros(0), p.lower, p.upper)  # fmt: skip

        def solve(c: np.ndarray) -> np.ndarray:
            solver.update(c=c)
            if (status := solver.solve()) != piqp.PIQP_SOLVED:
                raise RuntimeError(f"PIQP ended with {status}")
            return np.array(solver.result.x)

        return solve

    return _hub_by_hub(parts, [made(p) for p in parts])


def by_clarabel(hubs: Hubs) -> Side:
    """Clarabel, hub by hub, with new costs by its update of data."""
    parts = blocks(hubs)

    def made(p: Block) -> Callable[[np.ndarray], np.ndarray]:
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_threads = False, 1
        settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = TOLERANCE
        settings.presolve_enable = False  # else data cannot be renewed
        matrix, right = p.cone
        kinds = [clarabel.ZeroConeT(len(p.b)), clarabel.NonnegativeConeT(len(right) - len(p.b))]
        solver = clarabel.DefaultSolver(
            csc_array(diags_array(p.q)), p.c, matrix, right, kinds, settings
        )

        def solve(c: np.ndarray) -> np.ndarray:
            solver.update(q=c)
            found = solver.solve()
            if str(found.status) != "Solved":
                raise RuntimeError(f"Clarabel ended with {found.status}")
            return np.array(found.x)

        return solve

    return _hub_by_hub(parts, [made(p) for p in parts])


def by_highs(hubs: Hubs, *, curved: bool = True) -> Side:
    """HiGHS, hub by hub, from its last answer with new costs; without Q a linear programme."""
    parts = blocks(hubs)

    def made(p: Block) -> Callable[[np.ndarray], np.ndarray]:
        n = len(p.c)
        highs, model = highspy.Highs(), highspy.HighsModel()
        for name, value in (("output_flag", False), ("threads", 1), ("random_seed", 0)):
            highs.setOptionValue(name, value)
        for name in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
            highs.setOptionValue(name, TOLERANCE)
        lp, matrix = model.lp_, csc_array(p.a)
        lp.num_col_, lp.num_row_ = n, len(p.b)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = p.c, p.lower, p.upper
        lp.row_lower_ = lp.row_upper_ = p.b
        lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
        lp.a_matrix_.value_ = matrix.data
        if curved:
            model.hessian_.dim_ = n
            model.hessian_.start_, model.hessian_.index_ = np.arange(n + 1), np.arange(n)
            model.hessian_.value_ = p.q
        highs.passModel(model)

        def solve(c: np.ndarray) -> np.ndarray:
            highs.changeColsCost(n, np.arange(n, dtype=np.int32), c)
            highs.run()
            if (status := highs.getModelStatus()) != highspy.HighsModelStatus.kOptimal:
                raise RuntimeError(f"HiGHS ended with {status}")
            return np.array(highs.getSolution().col_value)

        return solve

    return _hub_by_hub(parts, [made(p) for p in parts])


def by_diffcp(hubs: Hubs, mode: str = "dense") -> Side:
    """Use diffcp: Clarabel for the answer, then the derivative of the conic residual map.

    Its derivative knows no quadratic objective (but for differences of perturbed answers, which
    Clarabel does not do), so that ``1/2 x'Q x <= t`` is a second-order cone: ``|(2 sqrt(Q) x,
    2 t - 1)| <= 2 t + 1``.
    """
    import diffcp

    parts = blocks(hubs)
    cones = [_with_epigraph(p) for p in parts]
    kinds = [{"z": len(p.b), "l": 2 * len(p.c), "q": [len(p.c) + 2]} for p in parts]

    def side(adder: np.ndarray) -> tuple[np.ndarray, Gradient]:
        costs = [np.append(p.cost(d), 1.0) for p, d in zip(parts, adder, strict=True)]
        x, y, s, _, adjoint = diffcp.solve_and_derivative_batch(
            [matrix.copy() for matrix, _ in cones], [right for _, right in cones], costs, kinds,
            n_jobs_forward=1, n_jobs_backward=1, mode=mode, solve_method="CLARABEL",
            tol_feas=TOLERANCE, tol_gap_abs=TOLERANCE, tol_gap_rel=TOLERANCE,
        )  # fmt: skip

        def gradient(weight: np.ndarray) -> np.ndarray:
            own = [np.append(w[p.free], 0.0) for p, w in zip(parts, weight, strict=True)]
            found = adjoint(own, [np.zeros_like(v) for v in y], [np.zeros_like(v) for v in s])
            return np.array([dc[p.imports] for p, dc in zip(parts, found[2], strict=True)])

        return np.array([p.whole(v[:-1]) for p, v in zip(parts, x, strict=True)]), gradient

    return side


def _with_epigraph(p: Block) -> tuple[csc_matrix, np.ndarray]:
    """Rows and right-hand side of a hub's conic programme, t the last column."""
    matrix, right = p.cone
    n = len(p.c)
    last = coo_array(([-2.0, -2.0], ([0, 1], [n, n])), shape=(n + 2, n + 1))
    roots = coo_array((-2 * np.sqrt(p.q), (np.arange(n) + 2, np.arange(n))), shape=(n + 2, n + 1))
    wide = hstack([matrix, csr_array((len(right), 1))])
    return csc_matrix(vstack([wide, last + roots])), np.concatenate([right, [1, -1], np.zeros(n)])


def by_cvxpylayers(hubs: Hubs, mode: str = "dense") -> Side:
    """A layer of cvxpylayers for PyTorch for each kind of hub, its hubs as a batch."""
    torch = _torch()
    from cvxpylayers.torch import CvxpyLayer

    def made(p: Block) -> Callable[..., tuple[Any, Any]]:
        problem, x, parameters = _problem(p)
        layer = CvxpyLayer(problem, parameters=parameters, variables=[x])
        options = dict.fromkeys(("tol_feas", "tol_gap_abs", "tol_gap_rel"), TOLERANCE)
        options |= {
            "solve_method": "CLARABEL",
            "n_jobs_forward": 1,
            "n_jobs_backward": 1,
            "mode": mode,
        }
        return lambda data: layer(*data, solver_args=options)[0]

    return _layers(torch, blocks(hubs), made)


def by_diffapqp(hubs: Hubs, **options: Any) -> Side:
    """A layer of diffapqp for each kind of hub, its hubs as a batch.

    By default OSQP and a direct solve of the whole KKT system: the fastest of its ways whose
    gradient is right for every hub.
    """
    torch = _torch()
    from diffapqp import Layer

    def made(p: Block) -> Callable[..., tuple[Any, Any]]:
        problem, x, parameters = _problem(p)
        layer, names = Layer(problem, max_n_cores=1), [one.name() for one in parameters]
        how = {"solver": "OSQP", "mode": "spsolve"} | options
        how.setdefault("solver_args", {"eps_abs": TOLERANCE, "eps_rel": TOLERANCE})
        return lambda data: layer(dict(zip(names, data, strict=True)), **how)[0][x.name()]

    return _layers(torch, blocks(hubs), made)


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"PyTorch is not installed, {INSTALL}", name="torch") from error
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    return torch


def _problem(p: Block) -> tuple[cp.Problem, cp.Variable, list[cp.Parameter]]:
    """A kind of hub for cvxpy; what differs from hub to hub and with the adders is a parameter."""
    n = len(p.c)
    x = cp.Variable(n, name="x")
    c, lower, upper = (cp.Parameter(n, name=name) for name in ("c", "lower", "upper"))
    b = cp.Parameter(len(p.b), name="b")
    cost = 0.5 * cp.quad_form(x, diags_array(p.q).tocsc()) + c @ x
    problem = cp.Problem(cp.Minimize(cost), [p.a @ x == b, x >= lower, x <= upper])
    return problem, x, [c, b, lower, upper]


def _layers(torch: Any, parts: list[Block], made: Callable[[Block], Any]) -> Side:
    kinds: dict[bytes, list[int]] = {}
    for i, p in enumerate(parts):
        kinds.setdefault(p.free.tobytes() + p.a.data.tobytes() + p.q.tobytes(), []).append(i)
    layers = {key: made(parts[members[0]]) for key, members in kinds.items()}

    def side(adder: np.ndarray) -> tuple[np.ndarray, Gradient]:
        found, costs = {}, {}
        x = np.array([p.fixed for p in parts])
        for key, members in kinds.items():
            own = [parts[i] for i in members]
            cost = torch.tensor(np.array([parts[i].cost(adder[i]) for i in members]))
            costs[key] = cost.requires_grad_()
            data = [np.array([getattr(p, n) for p in own]) for n in ("b", "lower", "upper")]
            found[key] = layers[key]([cost, *map(torch.tensor, data)])
            x[np.ix_(members, np.flatnonzero(own[0].free))] = found[key].detach().numpy()

        def gradient(weight: np.ndarray) -> np.ndarray:
            moved = np.zeros_like(adder)
            for key, members in kinds.items():
                own = torch.tensor(weight[members][:, parts[members[0]].free])
                (found[key] * own).sum().backward()
                moved[members] = costs[key].grad.numpy()[:, parts[members[0]].imports]
            return moved

        return x, gradient

    return side
