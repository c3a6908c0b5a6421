"""What robustness adds to the limits of the market: margins over the box, exact.

De Simone (2025), (65), (66), (82) and (83), in the corrected form: each plane, and each row of the
voltage norm, is a linear function of the uncertain loads, whose largest value over the box is
known in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flexlib.errors import VoltageAngleError
from flexlib.market import Market
from flexlib.planes import LambdaBeta


def current_margins_a(market: Market) -> np.ndarray:
    """Largest current that the box adds along each plane, exact: the margin of :eq:`robust-83`.

    Parameters
    ----------
    market : Market

    Returns
    -------
    numpy.ndarray, shape (ends, planes)
        ``max over xi of Re(conj(a_n) Y Z D xi)``, ampere.
    """
    _, di_a = market.uncertain
    along = market.planes.project(di_a)  # ends, loads, planes
    return market.box.support(np.swapaxes(along, 1, 2))


@dataclass(frozen=True)
class VoltageLimit:
    """One linear row of the robust voltage limits :eq:`robust-82`.

    The row bounds ``Re(w v)`` of one bus, which is ``alpha re + s beta im`` of its voltage
    turned back by its no-load angle.

    Attributes
    ----------
    bus : int
        Position of the bus.
    w : complex
        Weight of the voltage.
    margin_pu : float
        Largest change of ``Re(w v)`` over the box, in either direction.
    limit_pu : float
        Voltage limit.
    sign : int
        1 for an upper limit, -1 for a lower one.
    big_m_pu : float
        0 for a row that always holds. Of several rows for one lower limit only one needs to
        hold; each then carries the largest amount by which it can be missed for any activation
        that is offered (derived by interval arithmetic from the offers).
    """

    bus: int
    w: complex
    margin_pu: float
    limit_pu: float
    sign: int
    big_m_pu: float


def lambda_beta(market: Market) -> LambdaBeta:
    """Coefficients of :eq:`robust-74`, for a band that holds every reachable voltage angle.

    Parameters
    ----------
    market : Market

    Returns
    -------
    LambdaBeta
        Made for the largest angle against no load that any bus can have in the linear model, for
        any activation that is offered and any load in the box.

    Raises
    ------
    VoltageAngleError
        If that angle exceeds 45 degrees.
    """
    turn = market.flow.admittance.turn_back
    v0 = turn * market.flow.v0_pu
    changes = [
        turn[:, None] * market.uncertain[0],
        turn[:, None] * market.upward[0] * market.volume_kw.max(axis=0),
    ]
    reach_re = sum(np.abs(change.real).sum(axis=1) for change in changes)
    reach_im = sum(np.abs(change.imag).sum(axis=1) for change in changes)
    angle_rad = np.arctan2(np.abs(v0.imag) + reach_im, v0.real - reach_re)
    worst = int(angle_rad.argmax())
    if angle_rad[worst] > np.pi / 4:
        raise VoltageAngleError(
            f"{market.network.name}: with everything that is offered, the voltage angle of bus "
            f"{market.network.buses['bus'][worst]} can reach {np.rad2deg(angle_rad[worst]):.0f} "
            "degrees; the voltage norm holds up to 45. Offer smaller volumes."
        )
    return LambdaBeta(float(angle_rad[worst]))


def voltage_limits(market: Market) -> list[VoltageLimit]:
    """All rows of the robust voltage limits :eq:`robust-82`, exact over the box.

    Upper: ``alpha re + s beta im`` must stay below the limit for s = 1 and s = -1. Lower: it
    must stay above for some s in [-1, 1], the same for all loads in the box; only s = 1, s = -1
    and the s at which one load's term changes sign can be best. Rows that another row makes
    superfluous for every activation are left out.

    Parameters
    ----------
    market : Market

    Returns
    -------
    list of VoltageLimit
    """
    norm = lambda_beta(market)
    rows = []
    for bus in market.flow.admittance.free.tolist():
        rows += [_row(market, norm, bus, s, 1) for s in (1.0, -1.0)]
        lower = [_row(market, norm, bus, s, -1) for s in _slopes(market, norm, bus)]
        rows += _one_of(market, lower)
    return rows


def _row(market: Market, norm: LambdaBeta, bus: int, s: float, sign: int) -> VoltageLimit:
    w = complex(norm.alpha, -s * norm.beta) * market.flow.admittance.turn_back[bus]
    margin_pu = float(market.box.support(np.real(w * market.uncertain[0][bus])))
    limit_pu = market.network.buses["v_max_pu" if sign > 0 else "v_min_pu"].array[bus]
    return VoltageLimit(bus, w, margin_pu, float(limit_pu), sign, 0.0)


def _slopes(market: Market, norm: LambdaBeta, bus: int) -> list[float]:
    """Values of s at which the lower limit's margin has a corner."""
    uncertain = market.flow.admittance.turn_back[bus] * market.uncertain[0][bus]
    with np.errstate(divide="ignore", invalid="ignore"):
        corners = -norm.alpha * uncertain.real / (norm.beta * uncertain.imag)
    return [1.0, -1.0, *sorted(set(corners[np.abs(corners) < 1].tolist()))]


def _one_of(market: Market, rows: list[VoltageLimit]) -> list[VoltageLimit]:
    """Drop rows that another row dominates; several that remain become alternatives."""
    kept: list[VoltageLimit] = []
    for candidate in rows:
        if any(_never_better(market, candidate, other) for other in kept):
            continue
        kept = [other for other in kept if not _never_better(market, other, candidate)]
        kept.append(candidate)
    if len(kept) == 1:
        return kept
    missed = [max(0.0, -_slack_range(market, row)[0]) for row in kept]
    if min(missed) == 0.0:  # one of them holds for every activation
        return [kept[missed.index(0.0)]]
    return [replace(row, big_m_pu=m) for row, m in zip(kept, missed, strict=True)]


def _never_better(market: Market, row: VoltageLimit, other: VoltageLimit) -> bool:
    low, _ = _slack_range(market, other, minus=row)
    return low >= 0.0


def _slack_range(
    market: Market, row: VoltageLimit, minus: VoltageLimit | None = None
) -> tuple[float, float]:
    """Least and largest slack of a row (less another's) over all activations offered."""
    base, per_kw = slack(market, row)
    if minus is not None:
        base_minus, per_kw_minus = slack(market, minus)
        base, per_kw = base - base_minus, per_kw - per_kw_minus
    up_kw, down_kw = market.volume_kw
    at_up, at_down = per_kw * up_kw, -per_kw * down_kw
    low = base + np.minimum(np.minimum(at_up, at_down), 0).sum()
    high = base + np.maximum(np.maximum(at_up, at_down), 0).sum()
    return float(low), float(high)


def slack(market: Market, row: VoltageLimit) -> tuple[float, np.ndarray]:
    """Slack of a row at the baseline, p.u., and per net kW upward."""
    base = row.sign * (row.limit_pu - np.real(row.w * market.flow.v0_pu[row.bus])) - row.margin_pu
    return float(base), -row.sign * np.real(row.w * market.upward[0][row.bus])
