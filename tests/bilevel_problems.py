"""Bilevel problems of the literature as arrays, with their published optima."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from flexlib.bilevel import Bilevel, Follower

PATH = Path(__file__).resolve().parents[1] / "data" / "bilevel-problems" / "problems.json"
TERM = re.compile(r"([+-]?)\s*(\d+\.?\d*)?\s*((?:[a-z]\d*(?:\^2)?\s*)*)")


@dataclass(frozen=True)
class Problem:
    """A problem in minimisation form with what is known of it.

    `value`, `worst` and `relaxation` are values of the arrays, so without the constant of the
    leader's objective and with the sign turned where the source maximises; `as_printed` gives a
    value of the arrays in the source's own terms. `value`, `d` and `x` are the true ones, `claim`
    is the published value where it is wrong. None stands for not published. `rounded` is the
    error the digits of the published point leave, `change` what a variant of ours changed.
    """

    name: str
    source: str
    arrays: Bilevel
    status: str | None
    value: float | None
    d: np.ndarray | None
    x: np.ndarray | None
    flags: frozenset[str]
    sign: float
    constant: float
    claim: float | None
    claimed_d: np.ndarray | None
    claimed_x: np.ndarray | None
    worst: float | None
    relaxation: float | None
    big_m: dict[float, float]
    rounded: float
    change: str
    note: str

    def as_printed(self, value: float) -> float:
        """Turn a value of the arrays into one of the source."""
        return self.sign * value + self.constant


def terms(text: str) -> list[tuple[float, tuple[str, ...]]]:
    """Coefficients and variables of a polynomial such as '2 x - 3 y^2 + x y - 60'."""
    found, rest = [], text.strip()
    while rest:
        match = TERM.match(rest)
        if match is None or not any(match.group(2, 3)):
            raise ValueError(f"not a polynomial: {text!r}")
        sign, number, names = match.groups()
        variables = []
        for name in names.split():
            base, _, power = name.partition("^")
            variables += [base] * (2 if power else 1)
        found.append((float(sign + (number or "1")), tuple(variables)))
        rest = rest[match.end() :].strip()
    return found


class _Builder:
    """Places of the leader's and the follower's variables, and what is written with them."""

    def __init__(self, leader: dict[str, Any], follower: dict[str, Any]) -> None:
        self.leader = {name: i for i, name in enumerate(leader)}
        self.follower = {name: i for i, name in enumerate(follower)}

    def linear(self, text: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Coefficients of the leader's and of the follower's variables, and the constant."""
        on_d, on_x, constant = np.zeros(len(self.leader)), np.zeros(len(self.follower)), 0.0
        for factor, names in terms(text):
            if not names:
                constant += factor
                continue
            (name,) = names
            if name in self.leader:
                on_d[self.leader[name]] += factor
            else:
                on_x[self.follower[name]] += factor
        return on_d, on_x, constant

    def cost(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """c, C and Q of the follower; terms without its variables change nothing."""
        k, n = len(self.leader), len(self.follower)
        c, c_leader, q = np.zeros(n), np.zeros((n, k)), np.zeros((n, n))
        for factor, names in terms(text):
            inner = [self.follower[name] for name in names if name in self.follower]
            outer = [self.leader[name] for name in names if name in self.leader]
            if len(inner) + len(outer) != len(names) or len(names) > 2:
                raise ValueError(f"unknown term {names} in {text!r}")
            if len(inner) == 2:
                q[inner[0], inner[1]] += factor
                q[inner[1], inner[0]] += factor
            elif inner and outer:
                c_leader[inner[0], outer[0]] += factor
            elif inner:
                c[inner[0]] += factor
        return c, c_leader, q

    def rows(self, texts: list[str], sense: str) -> tuple[csr_array, csr_array, np.ndarray]:
        """Matrices over d and x and right-hand side of the rows of one sense."""
        k, n = len(self.leader), len(self.follower)
        chosen = [text.split(sense) for text in texts if (sense == "<=") == ("<=" in text)]
        lines = [self.linear(left) for left, _ in chosen]
        on_d = np.array([line[0] for line in lines]).reshape(len(lines), k)
        on_x = np.array([line[1] for line in lines]).reshape(len(lines), n)
        right = np.array([float(value) for _, value in chosen])
        return csr_array(on_d), csr_array(on_x), right


def _bounds(variables: dict[str, list[float | None]]) -> tuple[np.ndarray, np.ndarray]:
    lower = [-np.inf if low is None else float(low) for low, _ in variables.values()]
    upper = [np.inf if high is None else float(high) for _, high in variables.values()]
    return np.array(lower), np.array(upper)


def _objective(level: dict[str, Any]) -> tuple[str, float]:
    """Objective and its sign: minus one for a maximum."""
    return (level["minimise"], 1.0) if "minimise" in level else (level["maximise"], -1.0)


def arrays(entry: dict[str, Any]) -> tuple[Bilevel, float, float]:
    """Return the programme of one entry, the sign and the constant of its leader's objective."""
    leader, follower = entry["leader"], entry["follower"]
    build = _Builder(leader["variables"], follower["variables"])
    text, sign = _objective(leader)
    cost, cost_follower, constant = build.linear(text)
    rows, rows_follower, limit = build.rows(leader.get("rows", []), "<=")
    inner, inner_sign = _objective(follower)
    c, c_leader, q = build.cost(inner)
    g_leader, g, h = build.rows(follower.get("rows", []), "<=")
    a_leader, a, b = build.rows(follower.get("rows", []), "=")
    low, high = _bounds(follower["variables"])
    lower, upper = _bounds(leader["variables"])
    integer = [name in leader.get("integer", []) for name in leader["variables"]]
    answer = Follower(
        c=inner_sign * c, a=a, b=b, g=g, h=h, lower=low, upper=high,
        c_leader=csr_array(inner_sign * c_leader), a_leader=a_leader, g_leader=g_leader,
        q=csr_array(inner_sign * q), names=list(follower["variables"]),
    )  # fmt: skip
    programme = Bilevel(
        follower=answer, cost=sign * cost, cost_follower=sign * cost_follower,
        lower=lower, upper=upper, rows=rows, rows_follower=rows_follower, limit=limit,
        integer=np.array(integer), names=list(leader["variables"]),
    )  # fmt: skip
    return programme, sign, constant


def _problem(entry: dict[str, Any], sources: dict[str, dict[str, str]]) -> Problem:
    programme, sign, constant = arrays(entry)
    published = entry["published"]
    known = entry.get("correct", published)

    def inner(value: float | None) -> float | None:
        return None if value is None else sign * (value - constant)

    def point(record: dict[str, Any], key: str) -> np.ndarray | None:
        return np.array(record[key], float) if key in record else None

    wrong = published if "correct" in entry else {}
    cited = "; ".join(sources[key]["cite"] for key in entry["source"])
    return Problem(
        name=entry["name"],
        source=f"{cited}: {entry['where']}",
        arrays=programme,
        status=known.get("status", "optimal" if "value" in known else None),
        value=inner(known.get("value")),
        d=point(known, "leader"),
        x=point(known, "follower"),
        flags=frozenset(entry["flags"]),
        sign=sign,
        constant=constant,
        claim=inner(wrong.get("value")),
        claimed_d=point(wrong, "leader"),
        claimed_x=point(wrong, "follower"),
        worst=inner(published.get("worst")),
        relaxation=inner(published.get("relaxation")),
        big_m={float(m): sign * (v - constant) for m, v in entry.get("big_m", {}).items()},
        rounded=published.get("rounded", 1e-6),
        change=entry.get("change", ""),
        note=entry.get("note", ""),
    )


def read() -> dict[str, Any]:
    """The file as it is."""
    data: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return data


def load() -> dict[str, Problem]:
    """All problems by name."""
    data = read()
    return {entry["name"]: _problem(entry, data["sources"]) for entry in data["problems"]}


def random_problem(
    rng: np.random.Generator, follower: int = 2, rows: int = 2, quadratic: bool = False
) -> Bilevel:
    """Two integer decisions from 0 to 3, bounded follower; small integers, so ties are common.

    The follower is infeasible for some decisions of some draws. Its Q, if any, is positive
    definite.
    """
    k, n = 2, follower

    def draw(low: int, high: int, *shape: int) -> np.ndarray:
        return rng.integers(low, high + 1, shape).astype(float)

    half = draw(-1, 1, n, n) if rows else np.zeros((n, n))
    definite = half @ half.T + np.diag(draw(1, 3, n))
    answer = Follower(
        c=draw(-2, 2, n),
        a=csr_array((0, n)),
        b=np.zeros(0),
        g=csr_array(draw(-1, 2, rows, n)),
        h=draw(2, 5, rows),
        lower=np.zeros(n),
        upper=np.full(n, 4.0),
        c_leader=csr_array(draw(-1, 1, n, k)),
        a_leader=csr_array((0, k)),
        g_leader=csr_array(draw(-1, 1, rows, k)),
        q=csr_array(definite if quadratic else np.zeros((n, n))),
    )
    return Bilevel(
        follower=answer,
        cost=draw(-3, 3, k),
        cost_follower=draw(-3, 3, n),
        lower=np.zeros(k),
        upper=np.full(k, 3.0),
        rows=csr_array(np.ones((1, k))),
        rows_follower=csr_array((1, n)),
        limit=np.array([5.0]),
        integer=np.ones(k, bool),
    )
