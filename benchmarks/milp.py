"""The whole mixed-integer programme (14) as arrays, solved by HiGHS alone."""

from __future__ import annotations

import highspy
import numpy as np
from scipy.sparse import csc_array, csr_array, hstack, vstack

from flexlib.bids import Bids
from flexlib.light_model import LightModel
from flexlib.linear_program import LinearProgram

GAP = 1e-6
TIME_LIMIT_S = 120.0


def milp_program(model: LightModel, bids: Bids, request_kw: float) -> LinearProgram:
    """Rows (14b) to (14j) of all points over Delta-P and b; `flexlib.voronoi_model` as arrays.

    Parameters
    ----------
    model : LightModel
    bids : Bids
        Each in one direction.
    request_kw : float
    """
    axes, (m, n) = bids.axes, model.point.shape
    price = np.where(axes["upper"] > 0, axes["price_up"], -axes["price_down"])
    parts, upper = [], []
    for i in range(m):
        a, by_b, limit = _rows(model, bids, i)
        left, right = np.zeros((len(a), n * i)), np.zeros((len(a), n * (m - 1 - i)))
        binary = np.zeros((len(a), m))
        binary[:, i] = by_b
        parts.append(hstack([csr_array(part) for part in (left, a, right, binary)]))
        upper.append(limit)
    one = np.repeat([[0.0, 1.0]], [m * n, m], axis=1)
    request = np.concatenate([np.ones(m * n), model.point.sum(axis=1)])[None]
    parts += [csr_array(one), csr_array(request)]
    equal = np.array([1.0, request_kw])
    most = np.concatenate([*upper, equal])
    return LinearProgram(
        c=np.concatenate([np.tile(price, m), model.point @ price]),
        a=csr_array(vstack(parts)),
        row_lower=np.concatenate([np.full(len(most) - 2, -np.inf), equal]),
        row_upper=most,
        lower=np.repeat([-np.inf, 0.0], [m * n, m]),
        upper=np.repeat([np.inf, 1.0], [m * n, m]),
        row_names=[],
        column_names=[],
        integer=np.repeat([False, True], [m * n, m]),
    )


def _rows(model: LightModel, bids: Bids, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows ``a dp + by_b b <= limit`` of one point, (14b) to (14h)."""
    point, eye = model.point[i], np.eye(len(bids.axes))
    ltdf, loading = model.ltdf[i], model.loading_percent[i]
    vtdf, v = 100 * model.vtdf[i], 100 * model.v_pu[i]  # per cent, as our side has them
    towards = np.delete(point - model.point, i, axis=0)
    blocks = [
        (-eye, bids.lower - point),  # (14b)
        (eye, point - bids.upper),  # (14c)
        (-ltdf, -100 - loading),  # (14d)
        (ltdf, loading - 100),  # (14e)
        (-vtdf, 100 * model.v_min_pu - v),  # (14f)
        (vtdf, v - 100 * model.v_max_pu),  # (14g)
        (-towards, np.zeros(len(towards))),  # (14h)
    ]
    a, by_b = (np.concatenate([block[k] for block in blocks]) for k in range(2))
    limit = np.zeros(len(a))
    limit[len(a) - len(towards) :] = (towards**2).sum(axis=1) / 2
    return a, by_b, limit


def highs_cost(programme: LinearProgram) -> float:
    """Least cost, by HiGHS as it comes but for the gap and one thread.

    Raises
    ------
    RuntimeError
        If it proves no optimum within the time limit.
    """
    columns = csc_array(programme.a)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(programme.c), len(programme.row_lower)
    lp.col_cost_ = programme.c
    lp.col_lower_, lp.col_upper_ = programme.lower, programme.upper
    lp.row_lower_, lp.row_upper_ = programme.row_lower, programme.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = columns.indptr
    lp.a_matrix_.index_ = columns.indices
    lp.a_matrix_.value_ = columns.data
    kinds = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
    lp.integrality_ = [kinds[int(integer)] for integer in programme.integer]
    highs = highspy.Highs()
    options = {"output_flag": False, "threads": 1, "mip_rel_gap": GAP, "time_limit": TIME_LIMIT_S}
    for name, value in options.items():
        highs.setOptionValue(name, value)
    highs.passModel(lp)
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"HiGHS: {highs.modelStatusToString(highs.getModelStatus())}")
    return float(highs.getInfo().objective_function_value)
