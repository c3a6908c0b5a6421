"""Methods C and D of the poster as bilevel programmes, and the bounds on the hubs' multipliers.

The caps of imports and exports are all that can run at once, and imports are never cheaper than
exports. Without the caps, some optimal schedule has not both in one hour, and so keeps the caps all
the same: optimal multipliers of the programme without caps are optimal with them, those of the caps
zero. The multiplier lambda of a hub's balance then lies between the price of exports and the price
of imports.

The value of what is stored is anchored there, :eq:`bilevel-anchors`: some optimal dual vector has
it, less what holding costs up to that hour, between the least and the most that a unit can be worth
in any hour when it is taken out, can cost when it is put in, or is worth after the last hour. For
if it is beyond, cutting it off there keeps all reduced costs of the right sign or makes them zero:
of filling and emptying, because the cut is beyond what any hour offers; of the content, because the
difference of two values is its reduced cost, and cutting off does not turn their order.

The quadratic hubs of method D have the marginal costs ``c + Q x`` in place of c, Q diagonal and not
negative, and all of this holds with them:

- Less of imports and exports at once saves what it saves without Q, and some of 1/2 x'Qx. Without
  the caps, lambda is at most the marginal cost of imports and at least the marginal revenue of
  exports at an optimal x, which is between zero and the caps.
- All optimal x have the same Q x, and all of them are complementary to all optimal multipliers. At
  one of them, cutting off changes no marginal cost. So the argument above holds word for word, at
  the marginal costs of that x. These are not known, but lie between those at the variables' bounds:
  so do the values at which filling and emptying change sign, and so does what holding costs from
  one hour to another. Of the two sums of the latter, all at the lower bounds of the content or all
  at the upper ones, one is the least and the other the most, either way in time.
- The multiplier of a bound is positive only where x is there, which makes its marginal cost known.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array, hstack, vstack

from flexlib.bilevel import Bilevel, Follower
from flexlib.bilevel_kkt import BigM, pairs
from flexlib.centralised import congestion_cost, with_overloads
from flexlib.errors import DataError, Fault
from flexlib.hub_followers import Schedule, followers
from flexlib.hub_grid import HubGrid
from flexlib.hub_programme import EQUATIONS, HubProgramme
from flexlib.hubs import Hubs
from flexlib.pricing_inverse import AdderWeights, adder_changes, on_import
from flexlib.tariffs import no_tariff

_INTERVALS = "reduced cost by intervals of the multipliers"


def priced_hubs(
    hubs: Hubs,
    grid: HubGrid,
    cap_eur_per_mwh: float,
    weights: AdderWeights | None = None,
    *,
    quadratic: bool = False,
) -> Bilevel:
    """Method C or D: the leader's adders, their changes and overloads; all hubs as one follower.

    Parameters
    ----------
    hubs : Hubs
    grid : HubGrid
    cap_eur_per_mwh : float
    weights : AdderWeights, optional
        The poster's by default.
    quadratic : bool
        Whether hubs have their quadratic costs, which makes it method D.

    Returns
    -------
    Bilevel
        Decisions: adders (hub by hub), changes, overloads. Rows: changes, overloads.

    Raises
    ------
    DataError
        Naming a cap that is not a finite number above 0 and weights that are not finite numbers
        from 0; if the grid is for other hubs or hours.
    """
    weights = weights or AdderWeights()
    _assert_priced(cap_eur_per_mwh, weights)
    grid.assert_fits(hubs)
    programme = HubProgramme(hubs)
    own = followers(programme, no_tariff(*programme.shape[:2]))
    both = with_overloads(own, programme, grid)
    change, weight = adder_changes(programme, weights)
    n, rows = len(own.c), len(own.row_names)
    adders, changes, overloads = change.shape[1], len(weight), len(both.c) - n
    k = adders + changes + overloads
    flow = csr_array(both.a[rows:])
    size = eye_array(changes)
    keys = [f"{hub} hour {t}" for hub in hubs.table["hub"] for t in range(hubs.hours)]
    return Bilevel(
        Follower(
            c=own.c,
            a=own.a,
            b=own.row_upper,
            lower=own.lower,
            upper=own.upper,
            c_leader=csr_array(hstack([on_import(programme), csr_array((n, k - adders))])),
            q=csr_array(diags_array(programme.quadratic * quadratic)),
            names=own.column_names,
            equation_names=own.row_names,
        ),
        cost=np.concatenate(
            [np.full(adders, weights.level), weight, congestion_cost(both, grid)[n:]]
        ),
        upper=np.repeat([cap_eur_per_mwh, cap_eur_per_mwh, np.inf], [adders, changes, overloads]),
        rows=csr_array(
            vstack(
                [
                    hstack([change, -size, csr_array((changes, overloads))]),
                    hstack([-change, -size, csr_array((changes, overloads))]),
                    hstack([csr_array((overloads, adders + changes)), flow[:, n:]]),
                ]
            )
        ),
        rows_follower=csr_array(vstack([csr_array((2 * changes, n)), flow[:, :n]])),
        limit=np.concatenate([np.zeros(2 * changes), both.row_upper[rows:]]),
        names=[
            *(f"adder of {key}" for key in keys),
            *(f"change {j + 1}" for j in range(changes)),
            *both.column_names[n:],
        ],
        row_names=[*(f"change {j + 1}" for j in range(2 * changes)), *both.row_names[rows:]],
    )


def _assert_priced(cap_eur_per_mwh: float, weights: AdderWeights) -> None:
    cap = cap_eur_per_mwh
    wrong = [] if 0 < cap < np.inf else [("cap_eur_per_mwh", cap, "a finite number above 0")]
    expected = "a finite number from 0"
    wrong += [(k, v, expected) for k, v in vars(weights).items() if not 0 <= v < np.inf]
    if wrong:
        raise DataError(
            Fault("priced_hubs", "", name, f"{value:g}", why) for name, value, why in wrong
        )


def multiplier_intervals(
    hubs: Hubs, cap_eur_per_mwh: float, *, quadratic: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Interval that holds an optimal multiplier of each equation at all adders up to the cap.

    Parameters
    ----------
    hubs : Hubs
    cap_eur_per_mwh : float
    quadratic : bool
        As for `priced_hubs`.

    Returns
    -------
    low, high : numpy.ndarray, shape (rows,)
        In the order of the programme's equations, EUR/MWh.
    """
    programme = HubProgramme(hubs)
    slope = programme.quadratic * quadratic
    ends = [programme.cost + slope * bound for bound in (programme.lower, programme.upper)]

    def marginal(name: str) -> tuple[np.ndarray, np.ndarray]:
        column = programme.column(name)
        return ends[0][column], ends[1][column]

    eff = {str(name): hubs.table[name].to_numpy() for name in hubs.table if "eff" in str(name)}
    power = -marginal("m_out")[1], marginal("m_in")[1] + cap_eur_per_mwh
    discharge = eff["battery_eff_discharge"]
    wear = marginal("p_dis")
    battery = _worth(
        power, eff["battery_eff_charge"], marginal("p_ch"), discharge,
        (discharge[:, None] * wear[0], discharge[:, None] * wear[1]), marginal("e"),
    )  # fmt: skip
    hydrogen = _worth(
        power, eff["electrolyser_eff"], marginal("p_el"), eff["fuel_cell_eff"],
        marginal("h_fc"), marginal("h"),
    )  # fmt: skip
    served = [worth + own for worth, own in zip(power, marginal("u"), strict=True)]
    late = [_held(cost)[:, :-1] for cost in marginal("a")]
    backlog = [
        np.min([(served[0] + k).min(axis=1)[:, None] - k for k in late], axis=0),
        np.max([(served[1] + k).max(axis=1)[:, None] - k for k in late], axis=0),
    ]
    low = np.stack([power[0], -battery[1], backlog[0], -hydrogen[1]], axis=2)
    high = np.stack([power[1], -battery[0], backlog[1], -hydrogen[0]], axis=2)
    assert low.shape[2] == len(EQUATIONS)
    return low.ravel(), high.ravel()


_Range = tuple[np.ndarray, np.ndarray]  # least and most, shapes (hubs, hours)


def _worth(
    power: _Range, fill: np.ndarray, cost_in: _Range, empty: np.ndarray, cost_out: _Range,
    hold: _Range,
) -> _Range:  # fmt: skip
    """Least and most that a stored unit is worth in each hour.

    `power` bounds the value of power, `fill` and `empty` are efficiencies, `cost_in` is for a unit
    of power in, `cost_out` for a unit taken out, `hold` for keeping one for an hour.
    """
    ends = []
    for k, extreme in enumerate((np.minimum, np.maximum)):
        turn = extreme(
            (power[k] + cost_in[k]) / fill[:, None], empty[:, None] * power[k] - cost_out[1 - k]
        )
        turn = np.column_stack([turn, np.zeros(len(turn))])  # what is left is worth nothing
        worth = [
            extreme.reduce(turn - held, axis=1)[:, None] + held[:, :-1] for held in map(_held, hold)
        ]
        ends.append(extreme(*worth))
    return ends[0], ends[1]


def _held(cost: np.ndarray) -> np.ndarray:
    """What holding has cost up to each hour and after the last, shape (hubs, hours + 1)."""
    return np.column_stack([np.zeros(len(cost)), np.cumsum(cost, axis=1)])


def hub_big_m(problem: Bilevel, hubs: Hubs, cap_eur_per_mwh: float) -> BigM:
    """M of the hubs' pairs: :eq:`bilevel-reduced-costs` by intervals, slacks by ratings.

    Parameters
    ----------
    problem : Bilevel
        From `priced_hubs`, linear or quadratic.
    hubs : Hubs
        The same.
    cap_eur_per_mwh : float
        The same, or more.
    """
    f, programme = problem.follower, HubProgramme(hubs)
    low, high = multiplier_intervals(hubs, cap_eur_per_mwh, quadratic=f.q.nnz > 0)
    towards, against = f.a.maximum(0).T, f.a.minimum(0).T
    least = f.c + f.q @ f.upper - (towards @ high + against @ low)
    most = f.c + f.q @ f.lower - (towards @ low + against @ high)
    most[programme.column("m_in").ravel()] += cap_eur_per_mwh
    down, up = np.flatnonzero(np.isfinite(f.lower)), np.flatnonzero(np.isfinite(f.upper))
    never = np.concatenate([programme.column(name).ravel() for name in ("m_in", "m_out")])
    least[never] = 0.0
    how = np.where(np.isin(up, never), "never tight: all that can run at once", _INTERVALS)
    reach = f.upper - f.lower
    return BigM(
        slack=np.concatenate([reach[down], reach[up]]),
        multiplier=np.concatenate([np.maximum(most[down], 0.0), np.maximum(-least[up], 0.0)]),
        equation_low=low,
        equation_high=high,
        how=[_INTERVALS] * len(down) + how.tolist(),
        names=pairs(problem).names,
    )


def decision(grid: HubGrid, adder: np.ndarray, schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """Decision and answer of `priced_hubs` for given adders and schedules.

    Parameters
    ----------
    grid : HubGrid
    adder : numpy.ndarray, shape (hubs, hours)
        EUR/MWh.
    schedule : Schedule

    Returns
    -------
    d, x : numpy.ndarray, shapes (k,) and (n,)
    """
    changes = np.abs(adder_changes(schedule.programme, AdderWeights())[0] @ adder.ravel())
    loading = grid.loading_mw(schedule.w_mw)
    over = [loading - grid.upper_mw[:, None], -loading - grid.lower_mw[:, None]]
    overloads = np.maximum(np.concatenate([part.ravel() for part in over]), 0.0)
    return np.concatenate([adder.ravel(), changes, overloads]), schedule.x
