"""Command line: ``python -m flexlib claims`` and ``python -m flexlib errata``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flexlib.claims import ledger, read_errata, totals

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Evidence of the compendium: published numbers beside ours, and what is wrong in them.",
)
_FIELDS = [
    "id", "source", "chapter", "place", "quantity", "unit", "published", "ours", "corrected",
    "tolerance", "status", "reason", "holds",
]  # fmt: skip


@app.command()
def claims(
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """Print every published number beside ours; exit 1 if a status does not hold."""
    table = ledger()
    if as_json:
        records = json.loads(table[_FIELDS].to_json(orient="records"))
        typer.echo(json.dumps(records, indent=1, ensure_ascii=False))
    else:
        shown = table[["id", "published", "ours", "unit", "status"]]
        typer.echo(shown.to_string(index=False, float_format=lambda x: f"{x:.6g}"))
        typer.echo()
        typer.echo(totals(table).to_string(index=False))
        for claim in table[~table["holds"]].itertuples():
            typer.echo(
                f"does not hold: {claim.id} is marked {claim.status}, "
                f"published {claim.published}, ours {claim.ours:.9g}",
                err=True,
            )
    if not table["holds"].all():
        raise typer.Exit(1)


@app.command()
def errata() -> None:
    """Print what is wrong in the sources, with the test that demonstrates it."""
    for erratum in read_errata().itertuples():
        typer.echo(f"{erratum.id}  {erratum.source}, {erratum.place}")
        typer.echo(f"  printed:    {erratum.printed}")
        typer.echo(f"  problem:    {erratum.problem}")
        typer.echo(f"  correction: {erratum.correction}")
        typer.echo(f"  test:       {erratum.test}")


if __name__ == "__main__":
    app(prog_name="python -m flexlib")
