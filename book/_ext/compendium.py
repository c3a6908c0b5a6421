"""What the book needs beyond its Sphinx extensions.

* Equations show the number they have in their source.
* The API page lists every module of the library.
* Each chapter can be downloaded as a notebook, with the same bytes every time.
* A build tells how long each chapter took.
* Corrections of the pages for readers offline and for screen readers.
"""

from __future__ import annotations

import json
import pkgutil
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

# What the theme and its extensions write, and what is written instead.
FOR_SCREEN_READERS = {
    # a role that is withdrawn from ARIA, within a list
    ' role="doc-biblioentry"': ' role="listitem"',
    # what scrolls can be reached with the keyboard
    '<div class="pst-scrollable-table-container"': (
        '<div tabindex="0" class="pst-scrollable-table-container"'
    ),
    # the name of a button holds the words that are on it
    'search-button__button" title="Search" aria-label="Search"': (
        'search-button__button" title="Search"'
    ),
    # everything on a page is in a landmark
    '<div class="bd-sidebar-primary bd-sidebar"': (
        '<div class="bd-sidebar-primary bd-sidebar" role="complementary" aria-label="Book"'
    ),
}

logger = logging.getLogger(__name__)

SOURCE_NUMBER = re.compile(r"-(\d+[a-z]*)$")
RANDOM_LABEL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MODULES_HERE = "<!-- flexlib modules -->"


def number_equations(app: Sphinx, doctree: nodes.document) -> None:
    """Give an equation labelled ``<source>-59`` the number 59, as its source does.

    Any other labelled equation of the page is our own: A, B, C and so on, so that
    it cannot be mistaken for one of the source.
    """
    equations = app.env.get_domain("math").equations  # type: ignore[attr-defined]
    own = 0
    for node in doctree.findall(nodes.math_block):
        label = node.get("label")
        if label not in equations:
            continue
        if RANDOM_LABEL.fullmatch(label):
            logger.warning(
                "an equation is numbered but has no label: star it or label it", location=node
            )
        in_source = SOURCE_NUMBER.search(label)
        if in_source:
            number = in_source[1]
        else:
            number, own = chr(ord("A") + own), own + 1
        node["number"] = number
        equations[label] = (equations[label][0], number)


def list_modules(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the marker on the API page by one section for each module."""
    if MODULES_HERE not in source[0]:
        return
    import flexlib

    names = sorted(m.name for m in pkgutil.iter_modules(flexlib.__path__) if m.name[0] != "_")
    sections = [
        f"## `flexlib.{name}`\n\n"
        f"```{{eval-rst}}\n.. automodule:: flexlib.{name}\n   :members:\n```\n"
        for name in names
    ]
    source[0] = source[0].replace(MODULES_HERE, "\n".join(sections))


def whole_streams(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one output of each stream.

    What is printed arrives in pieces, whose number depends on the moment. For the page, myst-nb
    has already added all pieces to the first (nb_merge_streams), but it leaves the others.
    """
    kept: dict[Any, dict[str, Any]] = {}
    for k, output in enumerate(outputs):
        kept.setdefault(output.get("name", k), output)
    for output in kept.values():
        if output["output_type"] == "stream":
            output["text"] = "".join(output["text"]).splitlines(keepends=True)
    return list(kept.values())


def offer_notebook(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Ship the executed notebook of a chapter and name it for the download button."""
    executed = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if doctree is None or "kernelspec" not in app.env.metadata.get(pagename, {}):
        return
    if not executed.is_file():
        raise ExtensionError(f"no executed notebook for {pagename}")
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    for i, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{i:03d}"
        cell["metadata"].pop("execution", None)  # the times of this run
        if cell["cell_type"] == "code":
            cell["outputs"] = whole_streams(cell["outputs"])
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
    target.write_text(text + "\n", encoding="utf-8")
    context["ipynb_source"] = f"{pagename}.ipynb"


def finish_pages(app: Sphinx, exception: Exception | None) -> None:
    """Correct the generated HTML for readers offline and for screen readers."""
    if exception is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        html = old = page.read_text(encoding="utf-8")
        # fonts may not be preloaded from a disk, and are found without it
        html = re.sub(r'<link rel="preload" as="font"[^>]*>\n?', "", html)
        # pandas leaves the header of an index empty; an empty cell is no header
        html = re.sub(r"<th(?: [^>]*)?>\s*</th>", "<td></td>", html)
        for before, after in FOR_SCREEN_READERS.items():
            html = html.replace(before, after)
        if html != old:
            page.write_text(html, encoding="utf-8")


def report_times(app: Sphinx, exception: Exception | None) -> None:
    """Leave a table of the time each chapter took beside the pages."""
    if exception is not None or app.builder.format != "html":
        return
    times = {
        docname: data["exec_data"]["runtime"]
        for docname, data in NbMetadataCollector.get_doc_data(app.env).items()
        if data.get("exec_data")
    }
    lines = ["", "Chapter" + " " * 25 + "seconds"]
    lines += [f"{name:<30}  {seconds:7.1f}" for name, seconds in sorted(times.items())]
    lines += [f"{'all':<30}  {sum(times.values()):7.1f}"]
    report = Path(app.outdir).parent / "chapter-times.txt"
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the parts above to the build."""
    # Jupyter Book sets this value of an extension that is not loaded here.
    app.add_config_value("comments_config", {}, "html")
    app.connect("source-read", list_modules)
    app.connect("doctree-read", number_equations)
    app.connect("html-page-context", offer_notebook)
    app.connect("build-finished", finish_pages)
    app.connect("build-finished", report_times)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": False}
