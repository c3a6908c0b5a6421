"""The chapters of the book, as the table of contents lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import yaml

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "tests" / "notebooks"


def toc_files() -> list[Path]:
    """Return every page of the table of contents, in order, root first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def files(entry: dict[str, Any]) -> list[str]:
        found = [entry["file"]] if "file" in entry else []
        for key in ("parts", "chapters", "sections"):
            for child in entry.get(key, []):
                found += files(child)
        return found

    return [ROOT / f"{name}.md" for name in (toc["root"], *files(toc))]


def front_matter(page: Path) -> dict[str, Any]:
    """Return the YAML header of a page, empty if it has none."""
    text = page.read_text(encoding="utf-8")
    if not text.startswith("---\n"):
        return {}
    return yaml.safe_load(text.split("---\n", 2)[1]) or {}


def has_code(page: Path) -> bool:
    """Tell whether a page has cells to execute."""
    return "```{code-cell}" in page.read_text(encoding="utf-8")


def chapters() -> list[Path]:
    """Return the pages that have cells to execute."""
    return [page for page in toc_files() if page.is_file() and has_code(page)]


def reference(page: Path) -> Path:
    """Return where the executed reference of a chapter lives."""
    return NOTEBOOKS / f"{page.stem}.ipynb"


def code(page: Path) -> list[str]:
    """Return the code cells of a chapter or a notebook, one string each."""
    format_ = "md:myst" if page.suffix == ".md" else "ipynb"
    cells = jupytext.reads(page.read_text(encoding="utf-8"), fmt=format_).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]
