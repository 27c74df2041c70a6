"""`python -m publishing.book_pdf`: print the finished site as one PDF, with headless Chromium.

Chromium draws formulas and Chinese as the site does. What it leaves out or gets wrong is mended
afterwards: page numbers in the contents, the text behind Chinese glyphs, names and dates.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pikepdf

from publishing import ROOT, PublishingError
from publishing.combined import Book, combine

SHEET = Path(__file__).parent / "paper.css"
HOST = "http://book.invalid"
"""No such host can exist: every request is answered from the site's folder, or refused."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)

# Fonts have one glyph for 力 and for ⼒, the radical; the PDF then says that it shows the radical,
# and so it would be copied. The Kangxi radicals have their ideograph as compatibility form; for the
# supplement these are the pairs that share a glyph in Noto Sans CJK.
_SUPPLEMENT = (
    "⺂乛⺃乚⺅亻⺉刂⺋㔾⺎兀⺏尣⺐尢⺒巳⺓幺⺔彑⺕彐⺖忄⺘扌⺙攵⺛旡⺞歺⺟母⺠民⺡氵⺣灬⺤爫⺦丬⺨犭⺫罒⺭礻⺯糹⺰纟⺱罓⺲罒⺳㓁"
    "⺹耂⺺肀⺾艹⺿艹⻂衤⻃覀⻄西⻅见⻆角⻈讠⻉贝⻋车⻌辶⻍辶⻎辶⻐钅⻑長⻒镸⻓长⻔门⻖阝⻘青⻙韦⻚页⻛风⻜飞⻝食⻟飠⻠饣⻢马"
    "⻣骨⻤鬼⻥鱼⻦鸟⻧卤⻨麦⻩黄⻪黾⻫斉⻬齐⻭歯⻮齿⻯竜⻰龙⻱龜⻲亀⻳龟"
)
MEANT = {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in range(0x2F00, 0x2FD6)}
MEANT |= dict(zip(_SUPPLEMENT[::2], _SUPPLEMENT[1::2], strict=True))
MEANT["\u2012"] = "\u2013"  # likewise the dash of figures and that of ranges
"""What the text of a PDF says for a glyph, and what the book means by it."""


def find_browser() -> str:
    """Return the path of a Chromium.

    Raises:
        PublishingError: there is none; everything but the PDF works without.
    """
    found = [*map(shutil.which, BROWSERS), *(place for place in PLACES if Path(place).is_file())]
    for path in filter(None, found):
        return path
    raise PublishingError(
        "the PDF is printed by Chromium, and none was found: install `chromium` "
        "(Debian, Ubuntu: apt install chromium fonts-noto-cjk), Chrome or Edge"
    )


def mend_map(text: str) -> str:
    """Return a ToUnicode map in which no ideograph is called a radical.

    Both forms of an entry are read: `<code> <text>`, and `<first> <last> <text of first>`, which is
    written as a list where one of its characters has to change.
    """

    def meant(code: int) -> str:
        return f"{ord(MEANT.get(chr(code), chr(code))):04X}"

    def spread(match: re.Match) -> str:
        first, last, start = (int(part, 16) for part in match.groups())
        codes = range(start, start + last - first + 1)
        if not any(chr(code) in MEANT for code in codes):
            return match[0]
        each = " ".join(f"<{meant(code)}>" for code in codes)
        return f"<{match[1]}> <{match[2]}> [{each}]"

    def section(match: re.Match) -> str:
        if match[1] == "range":
            return re.sub(r"<(\w+)> <(\w+)> <(\w{4})>", spread, match[0])
        return re.sub(
            r"(<\w+> )<(\w{4})>", lambda one: f"{one[1]}<{meant(int(one[2], 16))}>", match[0]
        )

    return re.sub(r"(?s)beginbf(char|range).*?endbf\1", section, text)


def _mend_maps(pdf: pikepdf.Pdf) -> None:
    """Mend every ToUnicode map of a PDF, in place."""
    for thing in pdf.objects:
        if isinstance(thing, pikepdf.Dictionary) and "/ToUnicode" in thing:
            before = thing.ToUnicode.read_bytes().decode("ascii")
            after = mend_map(before)
            if after != before:
                thing.ToUnicode.write(after.encode("ascii"))


def _page_numbers(pdf: pikepdf.Pdf, anchors: list[str]) -> dict[str, int]:
    """Return the page, counted from 1, on which each anchor of the book stands.

    Raises:
        PublishingError: the PDF does not have an anchor.
    """
    order = {page.objgen: number for number, page in enumerate(pdf.pages, 1)}
    places = pdf.Root.get("/Dests", {})
    if missing := [name for name in anchors if f"/{name}" not in places]:
        raise PublishingError(f"the PDF has no place called {', '.join(missing)}")
    return {name: order[places[f"/{name}"][0].objgen] for name in anchors}


def _name_outline(items: list[pikepdf.OutlineItem], names: Iterator[str], level: int = 0) -> None:
    """Give the bookmarks their headings' own text and fold all below the chapters, in place.

    Chromium joins the two ends of a heading that takes two lines, without the space between.
    """
    for item in items:
        item.title = " ".join(next(names).split())
        item.is_closed = level > 0
        _name_outline(item.children, names, level + 1)


def _answer(site: Path, html: str):
    """Return a Playwright route that answers with the book and the site's files."""

    def route(route) -> None:
        path = unquote(urlsplit(route.request.url).path)
        file = site / path.lstrip("/")
        if not route.request.url.startswith(f"{HOST}/"):
            route.abort()
        elif path == "/":
            route.fulfill(body=html, content_type="text/html; charset=utf-8")
        elif path == "/paper.css":
            route.fulfill(body=SHEET.read_text(encoding="utf-8"), content_type="text/css")
        elif file.is_file():
            kind = guess_type(file.name)[0] or "application/octet-stream"
            route.fulfill(body=file.read_bytes(), content_type=kind)
        else:
            route.fulfill(status=404, body="")

    return route


def _print(browser, site: Path, html: str, file: Path) -> None:
    """Print one HTML page.

    Raises:
        PublishingError: the page asks for a file that the site does not have.
    """
    missing: list[str] = []
    tab = browser.new_page()
    tab.set_default_timeout(0)
    tab.route("**/*", _answer(site, html))
    tab.on("response", lambda answer: answer.status >= 400 and missing.append(answer.url))
    tab.goto(f"{HOST}/", wait_until="load")
    tab.emulate_media(media="print")
    tab.evaluate("document.fonts.ready.then(() => true)")
    tab.pdf(path=file, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
    tab.close()
    if missing:
        names = ", ".join(url.removeprefix(HOST) for url in sorted(set(missing)))
        raise PublishingError(f"the book shows files that {site} does not have: {names}")


def _date() -> str | None:
    """Return SOURCE_DATE_EPOCH as a PDF date; without it the PDF carries none."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return None
    return datetime.fromtimestamp(int(epoch), UTC).strftime("D:%Y%m%d%H%M%SZ")


def _finish(pdf: pikepdf.Pdf, front: pikepdf.Pdf, book: Book) -> None:
    """Put the numbered contents, names and true text into a printed book, in place.

    Raises:
        PublishingError: the contents printed alone take another number of pages.
    """
    first = min(_page_numbers(pdf, [entry.anchor for entry in book.entries]).values())
    if len(front.pages) != first - 1:
        raise PublishingError(
            f"title page and contents take {first - 1} pages in the book, {len(front.pages)} alone"
        )
    for page, numbered in zip(pdf.pages, front.pages, strict=False):
        copied = pdf.copy_foreign(numbered.obj)
        page.obj.Contents, page.obj.Resources = copied.Contents, copied.Resources
    _mend_maps(pdf)
    with pdf.open_outline() as outline:
        _name_outline(outline.root, iter(book.headings))
    for key in list(pdf.docinfo):
        del pdf.docinfo[key]
    pdf.docinfo["/Title"], pdf.docinfo["/Author"] = book.title, book.author
    if date := _date():
        pdf.docinfo["/CreationDate"] = date
    pdf.Root.ViewerPreferences = pikepdf.Dictionary(DisplayDocTitle=True)
    pdf.Root.PageMode = pikepdf.Name.UseOutlines


def print_book(browser, site: Path, book: Book, target: Path) -> int:
    """Print a book in a browser that Playwright has started; return the number of pages.

    Raises:
        PublishingError: something in the book cannot be printed.
    """
    anchors = [entry.anchor for entry in book.entries]
    with tempfile.TemporaryDirectory() as folder:
        whole, alone = Path(folder) / "book.pdf", Path(folder) / "front.pdf"
        _print(browser, site, book.html(), whole)
        with pikepdf.open(whole) as pdf:
            _print(browser, site, book.front_html(_page_numbers(pdf, anchors)), alone)
            with pikepdf.open(alone) as front:
                _finish(pdf, front, book)
                pdf.save(
                    target,
                    deterministic_id=True,
                    object_stream_mode=pikepdf.ObjectStreamMode.generate,
                )
            return len(pdf.pages)


def write_pdf(site: Path, target: Path, only: list[str] | None = None) -> int:
    """Print the book of a finished site into a file and return the number of pages.

    Args:
        site: the folder of the finished site.
        target: the PDF to write.
        only: addresses of the pages wanted; default: the whole book.

    Raises:
        PublishingError: no browser, no site, or something in the site that cannot be printed.
    """
    from playwright.sync_api import sync_playwright

    program, book = find_browser(), combine(site, only)
    with sync_playwright() as playwright:
        # The pages are our own, and a container has no sandbox to give.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            return print_book(browser, site, book, target)
        finally:
            browser.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m publishing.book_pdf", description=__doc__)
    parser.add_argument("--site", type=Path, default=ROOT / "site", help="the finished site")
    parser.add_argument("--to", type=Path, default=ROOT / "book.pdf", help="the PDF to write")
    parser.add_argument("pages", nargs="*", help="only these, say linear/gradient_descent/")
    options = parser.parse_args(arguments)
    try:
        pages = write_pdf(options.site, options.to, options.pages or None)
    except PublishingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.to}: {pages} pages, {options.to.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
