"""The sources of the book: contents, headers, links to code, executed references."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from chapters import NOTEBOOKS, ROOT, chapters, code, front_matter, has_code, reference, toc_files

BOOK = ROOT / "book"
PAGES = [p for p in toc_files() if p.is_file()]
every_page = pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])
every_chapter = pytest.mark.parametrize("page", chapters(), ids=[p.stem for p in chapters()])

LABEL = re.compile(r"^\$\$ \(([\w-]+)\)$|\$\$ \(([\w-]+)\)$|^:label: ([\w-]+)$", re.MULTILINE)


def labels() -> list[str]:
    """Return the labels of all equations (and exercises) of the book."""
    texts = [p.read_text(encoding="utf-8") for p in PAGES]
    return [next(filter(None, m)) for text in texts for m in LABEL.findall(text)]


def test_contents_and_pages_agree() -> None:
    assert [p for p in toc_files() if not p.is_file()] == []
    assert sorted(toc_files()) == sorted(BOOK.glob("*.md"))


@every_page
def test_page_with_code_names_its_kernel(page: Path) -> None:
    header = front_matter(page)
    if has_code(page):
        assert header["kernelspec"]["name"] == "python3"
        assert header["jupytext"]["text_representation"]["format_name"] == "myst"
    else:
        assert "kernelspec" not in header, "a page without code needs no kernel"


@every_chapter
def test_cells_are_short(page: Path) -> None:
    long = [c.splitlines()[0] for c in code(page) if len(c.splitlines()) > 25]
    assert long == []


@every_chapter
def test_chapter_finds_its_data_through_the_library(page: Path) -> None:
    """A downloaded chapter must run anywhere, so it names no path of this repository."""
    wrong = [c for c in code(page) if re.search(r"\.\./|[\"'](data|book|tests)/|sys\.path", c)]
    assert wrong == []


@every_chapter
def test_reference_is_of_this_chapter_and_was_run(page: Path) -> None:
    assert reference(page).is_file(), "no executed reference: run make references"
    assert code(reference(page)) == code(page), "the code has changed: run make references"
    cells = json.loads(reference(page).read_text(encoding="utf-8"))["cells"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]


def test_every_reference_has_its_chapter() -> None:
    assert set(NOTEBOOKS.glob("*.ipynb")) == {reference(page) for page in chapters()}


def test_equations_are_labelled_once() -> None:
    found = labels()
    assert sorted(found) == sorted(set(found))


def test_docstrings_cite_equations_that_exist() -> None:
    known = set(labels())
    missing = {
        f"{module.name}: {label}"
        for module in (ROOT / "flexlib").rglob("*.py")
        for label in re.findall(r":eq:`([\w-]+)`", module.read_text(encoding="utf-8"))
        if label not in known
    }
    assert missing == set()


@every_page
def test_page_cites_what_the_bibliography_has(page: Path) -> None:
    bibliography = (BOOK / "references.bib").read_text(encoding="utf-8")
    keys = set(re.findall(r"^@\w+\{([^,\s]+),", bibliography, re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    cited = {
        k.strip()
        for group in re.findall(r"\{cite[:\w]*\}`([^`]+)`", text)
        for k in group.split(",")
    }
    assert cited <= keys


def test_book_is_built_strictly_and_offline() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["execute"]["execute_notebooks"] == "force"
    assert config["execute"]["raise_on_error"] is True
    sphinx = config["sphinx"]["config"]
    assert "sphinx_thebe" not in sphinx["extensions"]
    assert sphinx["nb_ipywidgets_js"] == {}
    assert (BOOK / "_static" / sphinx["mathjax_path"]).is_file()
    assert not (ROOT / "_static").exists(), "every script under it would land on every page"
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "build . --all -n -W --keep-going" in recipe
