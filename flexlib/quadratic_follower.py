"""The quadratic follower: its one answer to a decision, and how the answer moves with it.

    min 1/2 x'Q x + (c + C d)'x  subject to  A x + B d = b,  G x + H d <= h,  lower <= x <= upper

with Q positive definite, :eq:`quadratic-follower`. The answer x(d) is unique, continuous and
piecewise linear. Inside a piece the bounds and rows that are tight stay tight, and the KKT system
of the others, with F the free variables and E the equations and tight rows,

    [Q_FF  E_F'] [ dx_F]     [(C dd)_F]
    [E_F   0   ] [-dy  ]  = -[ (B, H) dd ],      dx = 0 where a bound is tight,

is linear: :eq:`quadratic-implicit`. Where a bound or row is tight with a multiplier of 0 (weakly
active), pieces meet. There it counts as tight. The derivative is then the limit of derivatives at
costs c nearby (raise the multiplier a little: the answer stays, and nothing is weakly active), an
element of the generalised Jacobian with respect to c. The derivative in one direction exists
everywhere, `QuadraticAnswer.directional`. Both need rows of E that do not depend on each other
where decisions are in right-hand sides; in costs alone, as for hubs, they need nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import piqp
from scipy.sparse import block_array, csc_array, csc_matrix, csr_array, diags_array, vstack
from scipy.sparse.linalg import SuperLU, splu

from flexlib.bilevel import Follower
from flexlib.certificate import Certificate, Check, largest
from flexlib.curvature import least_curvature
from flexlib.errors import DataError, Fault, NotProven, SolveError
from flexlib.linear_program import LinearProgram
from flexlib.quadratic_program import independent_quadratic_parts, solve_quadratic

_TOLERANCE = 1e-10  # asked of the interior-point method, absolute and relative
_ACTIVE = 1e-6  # distance from a bound, or multiplier, that counts as zero
_TOUCH = 1e-9  # distance of an exact answer from a bound or row that it touches
_ROUNDS, _NEAR = 20, 4  # of correcting what is tight, from the interior point and from a guess
_ROUNDING = 1e-12  # curvature that counts as none, relative to the largest entry of Q
_SHIFT = 1e-12  # on the diagonal of dependent equations
_PART = 10_000  # columns of followers that are answered together
_INFINITE = 1e30
_ACCEPTED = 1e-6


@dataclass(frozen=True)
class QuadraticAnswer:
    """The answer of a quadratic follower, with multipliers and derivatives.

    Attributes
    ----------
    follower : Follower
    d : numpy.ndarray, shape (k,)
    x : numpy.ndarray, shape (n,)
    equation_dual : numpy.ndarray, shape (equations,)
    row_dual : numpy.ndarray, shape (rows,)
        Not above 0: the change of the least cost for one unit more of h.
    tight : numpy.ndarray of bool, shape (n,)
        Variables held at a bound.
    tight_rows : numpy.ndarray of bool, shape (rows,)
    """

    follower: Follower
    d: np.ndarray
    x: np.ndarray
    equation_dual: np.ndarray
    row_dual: np.ndarray
    tight: np.ndarray
    tight_rows: np.ndarray
    _factor: SuperLU = field(repr=False)

    @cached_property
    def reduced(self) -> np.ndarray:
        """Reduced costs, shape (n,): above 0 at a lower bound, below 0 at an upper one."""
        f = self.follower
        slope = f.c + f.c_leader @ self.d + f.q @ self.x
        return np.asarray(slope - f.a.T @ self.equation_dual - f.g.T @ self.row_dual)

    @property
    def weak(self) -> np.ndarray:
        """Variables at a bound with a multiplier of zero, shape (n,)."""
        free_to_move = self.follower.lower < self.follower.upper
        return self.tight & free_to_move & (np.abs(self.reduced) < _ACTIVE)

    @property
    def weak_rows(self) -> np.ndarray:
        """Rows at their limit with a multiplier of zero, shape (rows,)."""
        return self.tight_rows & (np.abs(self.row_dual) < _ACTIVE)

    @property
    def certificate(self) -> Certificate:
        """Feasibility, and optimality by multipliers of the right sign: proof, as g is convex."""
        f, x, reduced = self.follower, self.x, self.reduced
        room = f.h - f.g_leader @ self.d - f.g @ x
        wrong = np.where(x > f.lower + _ACTIVE, np.maximum(reduced, 0.0), 0.0)
        wrong += np.where(x < f.upper - _ACTIVE, np.maximum(-reduced, 0.0), 0.0)
        row = np.where(room > _ACTIVE, np.abs(self.row_dual), np.maximum(self.row_dual, 0.0))
        equal = f.a @ x + f.a_leader @ self.d - f.b
        beyond = np.maximum(f.lower - x, x - f.upper)
        return Certificate(
            (
                Check("equations", largest(np.abs(equal)), _ACCEPTED, "MW or MWh"),
                Check("rows", max(largest(-room), 0.0), _ACCEPTED, "MW or MWh"),
                Check("bounds", max(largest(beyond), 0.0), _ACCEPTED, "MW or MWh"),
                Check("reduced costs of the wrong sign", largest(wrong), _ACCEPTED, "EUR/MWh"),
                Check("multipliers of the wrong sign", largest(row), _ACCEPTED, "EUR/MWh"),
            )
        )

    def forward(self, d: np.ndarray) -> np.ndarray:
        """Change of the answer with a change of the decision, :eq:`quadratic-implicit`.

        Parameters
        ----------
        d : numpy.ndarray, shape (k,) or (k, directions)

        Returns
        -------
        numpy.ndarray, shape (n,) or (n, directions)
        """
        f = self.follower
        right = np.concatenate(
            [f.c_leader @ d, f.a_leader @ d, f.g_leader[self.tight_rows] @ d]
        )  # fmt: skip
        right[: len(f.c)][self.tight] = 0.0
        return np.asarray(self._factor.solve(-right)[: len(f.c)])

    def adjoint(self, x: np.ndarray) -> np.ndarray:
        """Gradient of a linear function of the answer, :eq:`quadratic-adjoint`.

        One solve of the same system, whatever the number of decisions.

        Parameters
        ----------
        x : numpy.ndarray, shape (n,)
            Its coefficients.

        Returns
        -------
        numpy.ndarray, shape (k,)
        """
        f, n = self.follower, len(self.follower.c)
        right = np.zeros(self._factor.shape[0])
        right[:n] = np.where(self.tight, 0.0, x)
        z = self._factor.solve(right)
        z_rows = np.zeros(len(f.h))
        z_rows[self.tight_rows] = z[n + len(f.b) :]
        z_x = np.where(self.tight, 0.0, z[:n])
        moved = f.c_leader.T @ z_x + f.a_leader.T @ z[n : n + len(f.b)] + f.g_leader.T @ z_rows
        return np.asarray(-moved)

    def directional(self, d: np.ndarray) -> np.ndarray:
        """Derivative in one direction, at kinks too, :eq:`quadratic-directional`.

        Parameters
        ----------
        d : numpy.ndarray, shape (k,)

        Returns
        -------
        numpy.ndarray, shape (n,)
        """
        f, held = self.follower, self.tight & ~self.weak
        at_lower = self.tight & (self.x <= f.lower + _ACTIVE)
        at_upper = self.tight & (self.x >= f.upper - _ACTIVE)
        equal, below = -(f.a_leader @ d), -(f.g_leader @ d)
        rows = self.tight_rows
        stay = rows & ~self.weak_rows
        program = LinearProgram(
            c=f.c_leader @ d,
            a=csr_array(vstack([f.a, f.g[rows]])),
            row_lower=np.concatenate([equal, np.where(stay[rows], below[rows], -np.inf)]),
            row_upper=np.concatenate([equal, below[rows]]),
            lower=np.where(held | at_lower, 0.0, -np.inf),
            upper=np.where(held | at_upper, 0.0, np.inf),
            row_names=[*f.equation_names, *np.array(f.row_names, dtype=object)[rows]],
            column_names=f.names,
        )
        return solve_quadratic(program, f.q).x


class QuadraticFollower:
    """The follower map d -> x(d), set up once for many decisions.

    Followers that share nothing, the hubs, are blocks of one programme: one call answers for all,
    and the factors of the KKT system fall apart likewise.

    Parameters
    ----------
    follower : Follower
        Of a `Bilevel`, which has checked it.

    Raises
    ------
    DataError
        If Q is not positive definite, with one of the variables without curvature: there the
        answer need not be unique, and has no derivative.
    """

    def __init__(self, follower: Follower) -> None:
        f = self.follower = follower
        least, column = least_curvature(f.q)
        if not least > _ROUNDING * float(np.abs(f.q.data).max(initial=0.0)):
            found = f"curvature {least:g} of {f.names[column]}"
            expected = "above 0: without curvature the answer need not be unique"
            raise DataError([Fault("follower", "", "q", found, expected)])
        whole = f.at(np.zeros(f.c_leader.shape[1]))
        parts = independent_quadratic_parts(whole, f.q, _PART)
        self._parts = [_PartSolver(*part, len(f.b)) for part in parts]

    def answer(
        self, d: np.ndarray, near: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    ) -> QuadraticAnswer:
        """Answer to a decision: by the interior point, then exactly with what is tight there.

        Parameters
        ----------
        d : numpy.ndarray, shape (k,)
        near : tuple of numpy.ndarray, optional
            A guess: x, duals of the equations, duals of the rows. Where what is tight there is
            tight at the answer, the interior point is not needed.

        Returns
        -------
        QuadraticAnswer
            With a certificate that holds.

        Raises
        ------
        Infeasible
            If no x is feasible at d, with the rows in conflict.
        NotProven, SolveError
            If the solver stops, or what is tight is not found.
        """
        if near is not None:
            found = self._from(d, *near, rounds=_NEAR)
            if found.certificate.ok:
                return found
        f = self.follower
        c, b, h = f.c + f.c_leader @ d, f.b - f.a_leader @ d, f.h - f.g_leader @ d
        x, y, y_rows = np.zeros(len(c)), np.zeros(len(b)), np.zeros(len(h))
        for part in self._parts:
            status = part.solved(c, b, h, x, y, y_rows)
            if status == piqp.PIQP_MAX_ITER_REACHED:
                raise NotProven("largest number of iterations", -np.inf, np.inf)
            if status != piqp.PIQP_SOLVED:
                solve_quadratic(f.at(d), f.q)  # raises what is wrong
                raise SolveError(f"solver status: {status.name}")
        found = self._from(d, x, y, y_rows, rounds=_ROUNDS)
        if not found.certificate.ok:
            raise SolveError(f"what is tight at the answer was not found:\n{found.certificate}")
        return found

    def _from(
        self, d: np.ndarray, x: np.ndarray, y: np.ndarray, y_rows: np.ndarray, rounds: int
    ) -> QuadraticAnswer:
        """Answer with what is tight at a point nearby, corrected by the signs that this gives."""
        f = self.follower
        fixed, h = f.lower == f.upper, f.h - f.g_leader @ d
        reduced = f.c + f.c_leader @ d + f.q @ x - f.a.T @ y - f.g.T @ y_rows
        lower = fixed | (x - f.lower <= np.maximum(reduced, _ACTIVE))
        upper = ~lower & (f.upper - x <= np.maximum(-reduced, _ACTIVE))
        rows = h - f.g @ x <= np.maximum(-y_rows, _ACTIVE)
        for _ in range(rounds):
            x = np.where(lower, f.lower, np.where(upper, f.upper, x))
            found = self._corrected(d, x, np.concatenate([y, y_rows]), lower | upper, rows)
            if found.certificate.ok:
                break
            x, y, y_rows = found.x, found.equation_dual, found.row_dual
            lower = fixed | (x < f.lower) | (lower & (found.reduced >= -_ACTIVE))
            upper = ~lower & ((x > f.upper) | (upper & (found.reduced <= _ACTIVE)))
            rows = (f.g @ x > h) | (rows & (y_rows <= _ACTIVE))
        return self._with_touched(found) if found.certificate.ok else found

    def _with_touched(self, found: QuadraticAnswer) -> QuadraticAnswer:
        """The same answer, with each bound and row that it touches counted as tight."""
        f, x = found.follower, found.x
        lower, upper = x <= f.lower + _TOUCH, x >= f.upper - _TOUCH
        tight = found.tight | lower | upper
        rows = found.tight_rows | (f.h - f.g_leader @ found.d - f.g @ x <= _TOUCH)
        if (tight == found.tight).all() and (rows == found.tight_rows).all():
            return found
        x = np.where(lower, f.lower, np.where(upper, f.upper, x))
        dual = np.concatenate([found.equation_dual, found.row_dual])
        more = self._corrected(found.d, x, dual, tight, rows)
        return more if more.certificate.ok else found

    def _corrected(
        self, d: np.ndarray, x: np.ndarray, y: np.ndarray, tight: np.ndarray, rows: np.ndarray
    ) -> QuadraticAnswer:
        """Answer for given bounds and rows tight: one linear system, from a point nearby.

        Multipliers of equations that depend on each other stay next to those given.
        """
        f, n, e = self.follower, len(self.follower.c), len(self.follower.b)
        kept = np.concatenate([np.ones(e, dtype=bool), rows])
        equations = csr_array(vstack([f.a, f.g]))[kept]
        move = diags_array(np.where(tight, 0.0, 1.0))
        hold = diags_array(np.where(tight, 1.0, 0.0))
        free = csr_array(equations @ move)
        shift = diags_array(np.full(equations.shape[0], -_SHIFT))
        factor = splu(csc_array(block_array([[move @ f.q @ move + hold, free.T], [free, shift]])))
        slope = f.c + f.c_leader @ d + f.q @ x - equations.T @ y[kept]
        limit = np.concatenate([f.b - f.a_leader @ d, f.h - f.g_leader @ d])[kept]
        z = factor.solve(np.concatenate([np.where(tight, 0.0, -slope), limit - equations @ x]))
        new = np.zeros(len(y))
        new[kept] = y[kept] - z[n:]
        return QuadraticAnswer(f, d, x + z[:n], new[:e], new[e:], tight, rows, factor)


class _PartSolver:
    """Interior point for a part of the followers, set up once."""

    def __init__(
        self,
        rows: np.ndarray,
        columns: np.ndarray,
        part: LinearProgram,
        q: csr_array,
        equations: int,
    ) -> None:
        first = rows < equations
        self.columns, self.equations, self.rows = columns, rows[first], rows[~first] - equations
        self.solver = piqp.SparseSolver()
        settings = self.solver.settings
        settings.eps_abs = settings.eps_rel = _TOLERANCE
        settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = _TOLERANCE
        self.solver.setup(
            csc_matrix(q), part.c, csc_matrix(part.a[first]), part.row_upper[first],
            csc_matrix(part.a[~first]), np.full(len(self.rows), -_INFINITE), part.row_upper[~first],
            np.maximum(part.lower, -_INFINITE), np.minimum(part.upper, _INFINITE),
        )  # fmt: skip

    def solved(
        self, c: np.ndarray, b: np.ndarray, h: np.ndarray,
        x: np.ndarray, y: np.ndarray, y_rows: np.ndarray,
    ) -> piqp.Status:  # fmt: skip
        """Status; point and duals are written to their places in x, y and y_rows."""
        self.solver.update(c=c[self.columns], b=b[self.equations], h_u=h[self.rows])
        status, result = self.solver.solve(), self.solver.result
        x[self.columns], y[self.equations] = result.x, -np.asarray(result.y)
        y_rows[self.rows] = -np.asarray(result.z_u)
        return status
