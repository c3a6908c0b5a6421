"""Execute the chapters into tests/notebooks, the reference of later runs.

Run by ``make references``, with the names of chapters to do only those:
``python tests/make_references.py feeder-12``. Look at the difference before
committing it: it is what the chapter now says otherwise. Only the code cells are
kept, so that a change of words changes no reference.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
from chapters import NOTEBOOKS, chapters, reference
from nbclient import NotebookClient

NO_DRAWING = {"image/png": "", "image/svg+xml": "<svg></svg>"}


def execute(page: Path) -> dict[str, Any]:
    """Return the executed code cells of a chapter as a plain notebook."""
    notebook = jupytext.reads(page.read_text(encoding="utf-8"), fmt="md:myst")
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()
    cells = []
    for i, cell in enumerate(notebook.cells):
        for output in cell.outputs:
            data = output.get("data", {})
            data.update({kind: text for kind, text in NO_DRAWING.items() if kind in data})
        cells.append(
            {
                "cell_type": "code",
                "execution_count": cell.execution_count,
                "id": f"cell-{i:03d}",
                "metadata": {k: cell.metadata[k] for k in ("tags",) if k in cell.metadata},
                "outputs": cell.outputs,
                "source": cell.source,
            }
        )
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def main(names: list[str]) -> None:
    """Write the references of the named chapters, or of all, and drop leftovers."""
    NOTEBOOKS.mkdir(exist_ok=True)
    pages = chapters()
    for page in pages:
        if names and page.stem not in names:
            continue
        print(page.name, "...", flush=True)
        text = json.dumps(execute(page), indent=1, ensure_ascii=False, sort_keys=True)
        reference(page).write_text(text + "\n", encoding="utf-8")
    for leftover in set(NOTEBOOKS.glob("*.ipynb")) - {reference(page) for page in pages}:
        leftover.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
