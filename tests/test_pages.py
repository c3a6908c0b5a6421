"""The built book in a browser: offline, silent, and readable on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from browser import Browser, chromium, find_chromium

HTML = Path(__file__).parents[1] / "_build" / "html"
PAGES = sorted((HTML / "book").glob("*.html"))
CHROMIUM = find_chromium()

pytestmark = pytest.mark.skipif(not PAGES, reason="no built book in _build/html: run make book")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
every_page = pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with chromium(CHROMIUM) as running:
        yield running


@needs_browser
@every_page
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (360, False)], ids=["desktop", "dark", "phone"]
)
def test_page_is_offline_silent_and_fits(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width, dark=dark)
    outside = [u for u in browser.requests() if not u.startswith(("file:", "data:", "blob:"))]
    assert outside == []
    assert browser.messages() == []
    assert browser.evaluate("document.documentElement.dataset.theme") == (
        "dark" if dark else "light"
    )
    widest = browser.evaluate("document.documentElement.scrollWidth")
    assert widest <= width, f"the page is {widest} px wide on a screen of {width} px"

    # equations: each is typeset, and none with an error
    left = browser.evaluate(
        "[...document.querySelectorAll('.math.notranslate')]"
        ".filter(e => !e.querySelector('mjx-container')).map(e => e.textContent)"
    )
    assert left == []
    errors = "[...document.querySelectorAll('mjx-merror, [data-mjx-error], mtext[mathcolor=red]')]"
    assert browser.evaluate(errors + ".map(e => e.dataset.mjxError || e.textContent)") == []


@needs_browser
@every_page
def test_dark_text_is_readable(browser: Browser, page: Path) -> None:
    """In the dark, text that stands directly in the article keeps a contrast of 4.5."""
    browser.open(page, 1280, dark=True)
    poor = browser.evaluate(CONTRAST)
    assert poor == []


CONTRAST = r"""
(() => {
  const rgb = s => (s.match(/[\d.]+/g) || []).map(Number);
  const light = c => {
    const [r, g, b] = c.slice(0, 3).map(v => {
      v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || (c.length === 4 && c[3] > 0.9)) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const text = '.bd-article :is(p, td, th, li, pre span, dt, h1, h2)';
  for (const e of document.querySelectorAll(text)) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.offsetParent || e.closest('svg')) continue;
    const style = getComputedStyle(e);
    const a = light(rgb(style.color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${e.tagName} ${e.textContent.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
})()
"""


class Elements(HTMLParser):
    """The start tags of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.found if tag == name]


@cache
def anchors(page: Path) -> set[str | None]:
    return {attrs.get("id") for _, attrs in Elements(page).found}


@every_page
def test_images_say_what_they_show(page: Path) -> None:
    for image in Elements(page).of("img"):
        alt = image.get("alt")
        assert alt, f"no alternative text: {image.get('src')}"
        assert not re.search(r"\.(png|svg|jpe?g)$|^<Figure", alt), f"no description: {alt}"


@every_page
def test_links_within_the_book_lead_somewhere(page: Path) -> None:
    for link in Elements(page).of("a"):
        href = (link.get("href") or "").split("?")[0]
        if not href or re.match(r"[a-z]+:", href):
            continue
        path, _, anchor = href.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{href} leads nowhere"
        if anchor and target.suffix == ".html":
            assert anchor in anchors(target), f"{href} has no such anchor"


@every_page
def test_headings_do_not_skip_a_level(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    article = html[html.index("<article") : html.index("</article>")]
    levels = [int(n) for n in re.findall(r"<h([1-6])", article)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_each_chapter_can_be_downloaded_as_notebook_and_source() -> None:
    for notebook in (HTML / "_sources" / "book").glob("*.ipynb"):
        page = (HTML / "book" / notebook.name).with_suffix(".html").read_text(encoding="utf-8")
        assert f"../_sources/book/{notebook.name}" in page
        assert f"../_sources/book/{notebook.stem}.md" in page


@every_page
def test_corrections_for_screen_readers_took_effect(page: Path) -> None:
    """They replace what the theme writes, so a new version of it may undo them."""
    html = page.read_text(encoding="utf-8")
    assert 'class="bd-sidebar-primary bd-sidebar" role="complementary"' in html
    assert not re.search(r'search-button-field[^>]*aria-label="Search"', html)
    assert "<th></th>" not in html
    assert "doc-biblioentry" not in html
    assert 'rel="preload" as="font"' not in html
