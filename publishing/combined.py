"""Join chapters of the finished site into one HTML page, for paper: the book in reading order.

Works on the site's files alone: the order of the pages and the names of the parts are those of the
front page's navigation.
"""

import posixpath
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from bs4 import BeautifulSoup, Tag

from publishing import PublishingError

APPENDICES = ("errata/", "notation/", "glossary/", "references/")
"""Pages outside the parts that belong on paper; the other lists only repeat the chapters."""

ON_SCREEN_ONLY = (
    ".headerlink, .md-content__button, .figure-code, .mark-read, .md-code__nav, script, style,"
    " img[src$='#only-dark']"
)
REFERRING = ("for", "aria-labelledby", "aria-describedby", "aria-controls")
LONG_BLOCK = 25
"""Lines of code from which a block may be divided between two pages."""


@dataclass(frozen=True)
class Entry:
    """A page of the navigation: its address below the site's root, its name, its part."""

    path: str
    name: str
    part: str

    @property
    def anchor(self) -> str:
        """Return the id that the page has in the book."""
        return self.path.strip("/").replace("/", "-")


@dataclass(frozen=True)
class Book:
    """The book as one HTML page, before its pages have numbers."""

    title: str
    author: str
    entries: list[Entry]
    headings: list[str]
    """The text of every heading of the chapters, in order."""
    head: str
    front: str
    chapters: str

    def html(self) -> str:
        """Return the whole page; its contents hold a place for each number."""
        return f"{self.head}{self._numbered({})}{self.chapters}</body></html>"

    def front_html(self, numbers: dict[str, int]) -> str:
        """Return title page and contents alone, with the page number of each anchor."""
        return f"{self.head}{self._numbered(numbers)}</body></html>"

    def _numbered(self, numbers: dict[str, int]) -> str:
        front = self.front
        for entry in self.entries:
            number = str(numbers.get(entry.anchor, "000"))
            front = front.replace(f"{{page of {entry.anchor}}}", number)
        return front


def _parsed(site: Path, path: str) -> BeautifulSoup:
    file = site / path / "index.html"
    if not file.is_file():
        raise PublishingError(f"{file} does not exist; build the site first: make site")
    return BeautifulSoup(file.read_text(encoding="utf-8"), "lxml")


def navigation(front: BeautifulSoup) -> list[Entry]:
    """Return the pages that the front page's navigation lists, without the front page itself.

    Raises:
        PublishingError: the page has no such navigation.
    """
    entries = []
    for link in front.select(".md-nav--primary a.md-nav__link[href]"):
        if link["href"].startswith((".", "#", "http")):
            continue
        part = link.find_parent("nav").select_one(".md-nav__title")
        name = link.get_text(" ", strip=True)
        entries.append(Entry(link["href"], name, part.get_text(" ", strip=True) if part else ""))
    if not entries:
        raise PublishingError("the front page of the site lists no pages in .md-nav--primary")
    return entries


def on_paper(entries: list[Entry]) -> list[Entry]:
    """Return those of the pages that are printed: chapters and appendices."""
    return [one for one in entries if one.path.count("/") == 2 or one.path in APPENDICES]


def _link(target: str, page: str, anchors: dict[str, str], root: str) -> str:
    """Return where a link of a page leads in the book, or on the published site.

    Args:
        target: the link as written in the page.
        page: the page's address below the site's root.
        anchors: the id of every page of the book, by its address.
        root: the address of the published site.
    """
    if urlsplit(target).scheme:
        return target
    address, _, name = target.partition("#")
    path = posixpath.normpath(posixpath.join(page, address)) if address else page.rstrip("/")
    path = "" if path == "." else path
    folder = f"{path.removesuffix('/index.html')}/"
    if folder in anchors:
        return f"#{anchors[folder]}--{name}" if name else f"#{anchors[folder]}"
    rest = f"#{name}" if name else ""
    return urljoin(root, path + ("/" if address.endswith("/") and path else "") + rest)


def _adapt(article: Tag, entry: Entry, anchors: dict[str, str], root: str) -> None:
    """Make a page's content fit for paper and unique in the book, in place."""
    for element in article.select(ON_SCREEN_ONLY):
        element.decompose()
    for box in article.find_all("details"):
        box["open"] = ""
    for element in article.find_all(True):
        if "id" in element.attrs:
            element["id"] = f"{entry.anchor}--{element['id']}"
        for name in REFERRING:
            if name in element.attrs:
                element[name] = " ".join(f"{entry.anchor}--{one}" for one in element[name].split())
    for control in article.select("input[name]"):
        control["name"] = f"{entry.anchor}--{control['name']}"
    for link in article.select("a[href]"):
        link["href"] = _link(link["href"], entry.path, anchors, root)
        del link["download"]
    for image in article.select("img[src]"):
        path = posixpath.normpath(posixpath.join(entry.path, image["src"].partition("#")[0]))
        image["src"] = f"/{path}"
        del image["loading"]
    for block in article.find_all("pre"):
        if block.get_text().count("\n") >= LONG_BLOCK:
            block["class"] = [*block.get("class", []), "long"]
    # The theme's script turns these marks into numbers.
    for comment in article.select("pre .c1"):
        comment.string = re.sub(r"\((\d+)\)!", r"(\1)", comment.get_text())
    for level in range(5, 0, -1):
        for heading in article.find_all(f"h{level}"):
            heading.name = f"h{level + 1}"


def _contents(entries: list[Entry]) -> str:
    lines, part = [], ""
    for entry in entries:
        if entry.part != part:
            part = entry.part
            lines.append(f'<div class="part-name">{escape(part)}</div>')
        lines.append(
            f'<div class="line"><a href="#{entry.anchor}">{escape(entry.name)}</a>'
            f'<span class="dots"></span><a class="number" href="#{entry.anchor}">'
            f"{{page of {entry.anchor}}}</a></div>"
        )
    return "\n".join(lines)


def combine(site: Path, only: list[str] | None = None) -> Book:
    """Return the book that a finished site holds.

    Args:
        site: the folder of the site, with an `index.html` in a folder for each page.
        only: addresses of the pages wanted (`linear/gradient_descent/`); default: the whole book.

    Raises:
        PublishingError: the site is not there, or a wanted page is not in its navigation.
    """
    home = _parsed(site, "")
    known = navigation(home)
    entries = on_paper(known)
    if only is not None:
        if missing := set(only) - {entry.path for entry in known}:
            raise PublishingError(f"not in the navigation of {site}: {', '.join(sorted(missing))}")
        entries = [entry for entry in known if entry.path in only]
    canonical = home.find("link", rel="canonical")
    root = canonical["href"] if canonical else "/"
    anchors = {entry.path: entry.anchor for entry in entries}

    chapters, headings, part = [], [], None
    for entry in entries:
        article = _parsed(site, entry.path).find("article")
        _adapt(article, entry, anchors, root)
        opening = ""
        if entry.part != part:
            part = entry.part
            headings.append(part)
            opening = f'<h1 class="part">{escape(part)}</h1>'
        headings += [one.get_text() for one in article.find_all(re.compile("^h[1-6]$"))]
        chapters.append(
            f'<section class="chapter" id="{entry.anchor}" style="page: {entry.anchor}">'
            f'<div class="md-typeset">{opening}{article.decode_contents()}</div></section>'
        )
    title = home.select_one(".md-header__title .md-ellipsis").get_text(strip=True)
    return Book(
        title=title,
        author=_said(home, "author"),
        entries=entries,
        headings=headings,
        head=_head(home, title, entries),
        front=_front(home, title, root, entries),
        chapters="".join(chapters),
    )


def _said(home: BeautifulSoup, name: str) -> str:
    """Return what the front page says in a `<meta>`, or nothing."""
    found = home.find("meta", attrs={"name": name})
    return found["content"] if found else ""


def _css_string(text: str) -> str:
    """Return text as a CSS string that is safe in a `<style>`, where `<` would end it."""
    escaped = re.sub(r'[\\"<]', lambda match: f"\\{ord(match[0]):x} ", text)
    return f'"{escaped}"'


def _head(home: BeautifulSoup, title: str, entries: list[Entry]) -> str:
    """Return the start of the page: the site's styles, and each chapter's name above its pages."""
    sheets = [link["href"] for link in home.select("link[rel=stylesheet]")]
    links = "".join(f'<link rel="stylesheet" href="/{sheet}">' for sheet in sheets)
    names = "".join(
        f"@page {entry.anchor} {{ @top-right {{ content: {_css_string(entry.name)} }} }}"
        for entry in entries
    )
    return (
        f'<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><title>{escape(title)}'
        f'</title>{links}<link rel="stylesheet" href="/paper.css"><style>{names}</style></head>'
        '<body dir="ltr" data-md-color-scheme="default" data-md-color-primary="custom">'
    )


def _front(home: BeautifulSoup, title: str, root: str, entries: list[Entry]) -> str:
    """Return title page and contents; `{page of anchor}` stands for a number."""
    licence = home.select_one(".md-copyright__highlight")
    return (
        '<div class="front title-page"><div class="md-typeset">'
        f'<p class="title">{escape(title)}</p>'
        f'<p class="about">{escape(_said(home, "description"))}</p>'
        f"<p>{licence.decode_contents() if licence else ''}</p>"
        f'<p><a href="{escape(root)}">{escape(root)}</a></p></div></div>'
        f'<div class="front contents"><div class="md-typeset"><p class="title">目录</p>'
        f"{_contents(entries)}</div></div>"
    )
