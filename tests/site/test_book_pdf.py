"""The book on paper: its text can be searched and copied, its links and contents lead somewhere."""

import re

import pikepdf
import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader

from publishing import PublishingError, book_pdf
from publishing.combined import combine, navigation, on_paper
from tests.site.built import CHAPTERS, NAV

DESCENT = "linear/gradient_descent/"
ERROR = "linear/mean_squared_error/"
PAGES = [ERROR, DESCENT, "glossary/"]
RADICALS = re.compile("[\u2e80-\u2fdf]")


@pytest.fixture(scope="module")
def book(site):
    return combine(site, PAGES)


@pytest.fixture(scope="module")
def paper(site, browser, book, tmp_path_factory):
    """Two chapters and the glossary, printed."""
    file = tmp_path_factory.mktemp("paper") / "book.pdf"
    book_pdf.print_book(browser, site, book, file)
    return file


@pytest.fixture(scope="module")
def text(paper) -> list[str]:
    """The text of each page, as a reader without regard for ActualText copies it."""
    return [page.extract_text() for page in PdfReader(paper).pages]


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def test_whole_book_is_the_navigation_without_the_lists(site, soup):
    paths = [entry.path for entry in on_paper(navigation(soup("")))]
    assert [path for path in paths if path in CHAPTERS] == CHAPTERS
    assert paths == [path for path in NAV if path in paths]
    assert {"notation/", "glossary/", "errata/"} <= set(paths)
    assert not {"figures/", "results/", "clinic/", "exercises/", "sources/"} & set(paths)


def test_ids_are_unique_and_links_stay_in_the_book(book):
    html = BeautifulSoup(book.html(), "lxml")
    ids = [element["id"] for element in html.find_all(id=True)]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for a in html.find_all("a", href=True)]
    assert [t for t in targets if t.startswith("#") and t[1:] not in ids] == []
    assert [t for t in targets if not re.match(r"#|https://", t)] == []
    assert f"#{ERROR.strip('/').replace('/', '-')}" in targets


def test_page_holds_light_figures_open_folds_and_no_scripts(book):
    html = BeautifulSoup(book.html(), "lxml")
    sources = [image["src"] for image in html.find_all("img")]
    assert sources and not [s for s in sources if "dark" in s]
    folds = html.find_all("details")
    assert folds and all(fold.has_attr("open") for fold in folds)
    assert html.find_all(["script", "button"]) == [] and html.select(".headerlink") == []
    assert "(1)!" not in book.chapters


def test_unknown_page_and_missing_site_are_named(site, tmp_path):
    with pytest.raises(PublishingError, match="no/such/"):
        combine(site, ["no/such/"])
    with pytest.raises(PublishingError, match="make site"):
        combine(tmp_path)


def test_missing_browser_is_named(monkeypatch):
    monkeypatch.setattr(book_pdf, "BROWSERS", ("no-such-browser",))
    monkeypatch.setattr(book_pdf, "PLACES", ())
    with pytest.raises(PublishingError, match="install `chromium`"):
        book_pdf.find_browser()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1 beginbfchar\n<9D> <2F12>\nendbfchar", "1 beginbfchar\n<9D> <529B>\nendbfchar"),
        ("1 beginbfchar\n<0003> <2EC5>\nendbfchar", "1 beginbfchar\n<0003> <89C1>\nendbfchar"),
        # The codes of a font may look like a radical's.
        ("1 beginbfchar\n<2F12> <0041>\nendbfchar", "1 beginbfchar\n<2F12> <0041>\nendbfchar"),
        (
            "1 beginbfrange\n<01> <03> <2F11>\nendbfrange",
            "1 beginbfrange\n<01> <03> [<5200> <529B> <52F9>]\nendbfrange",
        ),
        ("1 beginbfrange\n<01> <02> <529B>\nendbfrange",) * 2,
    ],
)
def test_radicals_of_a_map_become_ideographs(before, after):
    assert book_pdf.mend_map(before) == after


def test_every_kangxi_radical_has_one_ideograph():
    assert len({book_pdf.MEANT[chr(code)] for code in range(0x2F00, 0x2FD6)}) == 214
    assert not RADICALS.search("".join(book_pdf.MEANT.values()))


def test_text_can_be_copied(text):
    whole = squeezed("".join(text))
    assert RADICALS.findall(whole) == []
    assert "一句话结论梯度下降（gradientdescent）每步走" in whole
    assert "学习率" in whole and "一" in whole and "nn.functional.mse_loss" in whole


def test_formulas_and_figures_are_drawn(paper, text):
    assert "𝜂" in "".join(text)
    with pikepdf.open(paper) as pdf:
        fonts = {str(thing.get("/FontName", "")) for thing in pdf.objects if _is_dict(thing)}
    assert any("LMMath" in name or "LatinModernMath" in name for name in fonts)


def _is_dict(thing) -> bool:
    return isinstance(thing, pikepdf.Dictionary)


def test_contents_name_the_page_each_chapter_starts_on(book, text):
    contents = squeezed("".join(text[1:2]))
    for entry in book.entries:
        number = re.search(re.escape(squeezed(entry.name)) + r"(\d+)", contents)
        assert number, entry.name
        # Its running head, and the number at its foot.
        page = squeezed(text[int(number[1]) - 1])
        assert page.startswith(squeezed(entry.name) + number[1])


def test_bookmarks_are_the_headings(paper, book):
    def flat(items):
        for item in items:
            if isinstance(item, list):
                yield from flat(item)
            else:
                yield item.title

    titles = list(flat(PdfReader(paper).outline))
    assert titles == [" ".join(heading.split()) for heading in book.headings]
    assert len(titles) > 30


def test_links_inside_lead_to_places_in_the_book(paper):
    inner = 0
    with pikepdf.open(paper) as pdf:
        places = set(pdf.Root.Dests.keys())
        for page in pdf.pages:
            for note in page.obj.get("/Annots", []):
                if "/Dest" in note:
                    inner += 1
                    assert str(note.Dest) in places
    assert inner > 30


def test_paper_is_a4_and_does_not_say_when_it_was_made(paper, monkeypatch):
    with pikepdf.open(paper) as pdf:
        assert set(pdf.docinfo.keys()) == {"/Title", "/Author"}
        assert [round(float(side)) for side in pdf.pages[5].mediabox] == [0, 0, 595, 842]
        assert str(pdf.Root.Lang) == "zh-CN"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert book_pdf._date() == "D:20231114221320Z"
