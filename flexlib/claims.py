"""The ledger: every published number the book speaks about, beside ours, with a status.

``data/claims.csv`` holds what is published and what we say of it; the value that is ours is
computed, by a function that never reads the published one. A status is a statement that is
checked, not a label.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pandas as pd

from flexlib import claims_de_simone, claims_digiplat
from flexlib.tables import data_path

AGREES = (
    "reproduced",
    "predicted",
    "fitted",
    "reproduced only with the source's error",
)
DISAGREES = ("differs",)
APART = ("stand-in", "not attempted")  # no number of ours is held against the published one
STATUSES = (*AGREES, *DISAGREES, *APART)

_OURS: dict[str, Callable[[], dict[str, float]]] = {
    "de-simone": claims_de_simone.ours,
    "digiplat": claims_digiplat.ours,
}
_CORRECTED: dict[str, Callable[[], dict[str, float]]] = {
    "de-simone": claims_de_simone.corrected,
    "digiplat": dict,  # no number carries an error of the source
}
_ROUNDING = 1e-9  # so that a value on the edge of a rounding interval counts as inside


def read_claims() -> pd.DataFrame:
    """Read the claims as they are written down.

    Returns
    -------
    pandas.DataFrame
        Text columns id, chapter, source, place, quantity, unit, published (with its printed
        digits), status and reason; number column tolerance (half of the last printed digit).
    """
    claims = pd.read_csv(data_path("claims.csv"), dtype=str, keep_default_na=False)
    return claims.assign(tolerance=claims["tolerance"].astype(float))


def ledger(source: str | None = None) -> pd.DataFrame:
    """Compute our value of every claim and hold the status against it.

    Parameters
    ----------
    source : str, optional
        Only claims of this source, for example ``"de-simone"``.

    Returns
    -------
    pandas.DataFrame
        The columns of `read_claims`, and ours, corrected (what the exact formulation gives;
        empty unless the published value carries the source's error), agrees (whether ours is
        within the tolerance) and holds (whether the status says the same).
    """
    claims = read_claims()
    if source is not None:
        claims = claims[claims["source"] == source].reset_index(drop=True)
    values = _values(_OURS, claims)
    corrected = _values(_CORRECTED, claims)
    claims["ours"] = claims["id"].map(values)
    with_error = claims["status"] == "reproduced only with the source's error"
    claims["corrected"] = claims["id"].map(corrected).where(with_error)
    distance = (claims["ours"] - pd.to_numeric(claims["published"])).abs()
    claims["agrees"] = distance <= claims["tolerance"] + _ROUNDING
    claims["holds"] = (
        (claims["status"].isin(AGREES) & claims["agrees"])
        | (claims["status"].isin(DISAGREES) & ~claims["agrees"] & claims["ours"].notna())
        | claims["status"].isin(APART)
    )
    return claims


def totals(claims: pd.DataFrame) -> pd.DataFrame:
    """Number of claims of each status, in the order of `STATUSES`, and how many hold."""
    counts = claims.groupby("status")["holds"].agg(["size", "sum"]).reindex(STATUSES).dropna()
    counts = counts.astype(int).rename(columns={"size": "claims", "sum": "status holds"})
    return counts.reset_index()


def printed_digits(number: str) -> int:
    """Decimals of a printed number: 3 of ``"95.673"``, 6 of ``"2.3e-05"``."""
    exponent = Decimal(number).as_tuple().exponent
    assert isinstance(exponent, int)  # a number
    return max(0, -exponent)


MARKS = dict(zip(STATUSES, "RPFEDSN", strict=True))


def beside(claims: pd.DataFrame, table: str, quantities: list[str]) -> pd.DataFrame:
    """Published cells of one table beside ours, each with the initial of its status.

    Parameters
    ----------
    claims : pandas.DataFrame
        From `ledger`.
    table : str
        First part of the claims' ids, for example ``"de-simone-2-5"``.
    quantities : list of str
        Last parts of the ids: the columns of the table to show.

    Returns
    -------
    pandas.DataFrame
        Text; columns in two levels, for each quantity published, ours (rounded to the digits of
        its column) and status (an initial of `MARKS`).
    """
    parts = claims["id"].str.split("/", expand=True).set_axis(["table", "row", "column"], axis=1)
    rows = claims.join(parts)
    digits = rows["published"].map(printed_digits)
    digits = digits.groupby([rows["table"], rows["column"]]).transform("max")
    rows["ours"] = [f"{round(v, n) + 0.0:.{n}f}" for v, n in zip(rows["ours"], digits, strict=True)]
    rows["status"] = rows["status"].map(MARKS)
    shown = rows[rows["table"] == table].set_index("row")
    order = list(dict.fromkeys(shown.index))
    columns = ["published", "ours", "status"]
    return pd.concat(
        {q: shown.loc[shown["column"] == q, columns].reindex(order) for q in quantities}, axis=1
    ).rename_axis(None)


def read_errata(source: str | None = None) -> pd.DataFrame:
    """Read the list of what is wrong in the sources.

    Parameters
    ----------
    source : str, optional
        Only errata of this source.

    Returns
    -------
    pandas.DataFrame
        Text columns id, kind (wrong, silent, misprint), source, place, printed, problem,
        correction and test (the function in ``tests/test_errata.py`` that demonstrates it).
    """
    errata = pd.read_csv(data_path("errata.csv"), dtype=str, keep_default_na=False)
    if source is not None:
        errata = errata[errata["source"] == source].reset_index(drop=True)
    return errata


def errata_markdown(errata: pd.DataFrame) -> str:
    """Errata as a Markdown list, for a page.

    Parameters
    ----------
    errata : pandas.DataFrame
        From `read_errata`.

    Returns
    -------
    str
    """
    return "\n".join(
        f"- **{e.id}**, {e.kind}: {e.place}. *Printed:* {e.printed}. *Problem:* {e.problem}. "
        f"*Instead:* {e.correction}. Test: `{e.test}`."
        for e in errata.itertuples()
    )


def _values(
    sources: dict[str, Callable[[], dict[str, float]]], claims: pd.DataFrame
) -> dict[str, float]:
    values: dict[str, float] = {}
    for source in claims["source"].unique():
        values |= sources[source]()
    return values
