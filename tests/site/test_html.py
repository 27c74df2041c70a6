"""What can be read off the finished files: structure, links, images, formulas."""

import io
import json
import re
import shutil
import struct
import subprocess
import sysconfig
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont

from publishing import ROOT
from tests.site.built import BASE, BESIDE, CHAPTERS, NAV, PAGES, REPO_URL, SITE_URL, file_of

EDIT = f"{REPO_URL}/edit/main/docs/zh/"


@pytest.mark.parametrize("page", PAGES)
def test_page_says_what_it_is(soup, page):
    html = soup(page)
    assert html.html["lang"] == "zh"
    assert len(html.find_all("h1")) == 1, [h1.get_text() for h1 in html.find_all("h1")]
    assert html.title.get_text(strip=True)
    description = html.find("meta", attrs={"name": "description"})
    assert description and description["content"]
    ids = Counter(element["id"] for element in html.find_all(id=True))
    assert [one for one, times in ids.items() if times > 1] == []


def test_structured_data_say_what_a_page_is(soup):
    for page in NAV:
        data = json.loads(soup(page).find("script", type="application/ld+json").string)
        assert data["@context"] == "https://schema.org" and data["url"] == SITE_URL + page
        kind = data["@type"]
        if page in CHAPTERS:
            assert kind == ["Chapter", "LearningResource"] and data["isPartOf"]["url"] == SITE_URL
        else:
            assert kind == ("WebPage" if page else "Book")
        assert data["name"] and data["description"]


def test_every_page_has_a_card_for_other_sites(site, soup):
    shown = {soup(page).find("meta", property="og:image")["content"] for page in NAV}
    assert len(shown) >= len(CHAPTERS)
    for address in shown:
        picture = (site / address.removeprefix(SITE_URL)).read_bytes()
        assert address.startswith(SITE_URL) and picture[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", picture[16:24]) == (1200, 630)
        assert len(picture) <= 200_000


def test_titles_and_descriptions_differ(soup):
    pages = [page for page in PAGES if page != "404.html"]
    titles = Counter(soup(page).title.get_text(strip=True) for page in pages)
    assert titles.most_common(1)[0][1] == 1, titles.most_common(3)
    texts = Counter(
        soup(page).find("meta", attrs={"name": "description"})["content"] for page in pages
    )
    assert texts.most_common(1)[0][1] == 1, texts.most_common(3)


def test_sitemap_lists_the_pages(site):
    sitemap = BeautifulSoup((site / "sitemap.xml").read_bytes(), "xml")
    listed = {loc.get_text(strip=True) for loc in sitemap.find_all("loc")}
    assert {SITE_URL + page for page in NAV} <= listed


LYCHEE = shutil.which("lychee", path=sysconfig.get_path("scripts"))


def broken(site: Path, root: Path) -> str:
    """Return what lychee says about links, images, files and anchors within a site.

    Args:
        site: the folder of the site.
        root: an empty folder; there the site lies below its path in the world, /notes/.
    """
    (root / BASE.strip("/")).symlink_to(site, target_is_directory=True)
    command = [LYCHEE, "--offline", "--include-fragments", "--no-progress", "--root-dir", root]
    command += ["--exclude", rf"{BASE}({'|'.join(map(re.escape, sorted(BESIDE)))})$"]
    command += ["--index-files", "index.html", f"{root}{BASE}**/*.html"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


needs_lychee = pytest.mark.skipif(LYCHEE is None, reason="lychee has no wheel for this machine")


@needs_lychee
def test_internal_links_resolve(site, tmp_path):
    assert broken(site, tmp_path) == ""


@needs_lychee
@pytest.mark.parametrize(
    "element",
    [
        '<a href="other.html">file</a>',
        '<a href="/elsewhere/">address outside the site</a>',
        '<a href="folder/#b">anchor of a folder</a>',
        '<a href="#b">anchor of the page</a>',
        '<img src="none.svg" alt="">',
        '<link href="none.css" rel="stylesheet">',
    ],
)
def test_a_broken_link_is_found(tmp_path, element):
    site, root = tmp_path / "site", tmp_path / "root"
    (site / "folder").mkdir(parents=True)
    root.mkdir()
    (site / "folder" / "index.html").write_text('<h1 id="a">A</h1>', encoding="utf-8")
    page = f'<a href="folder/#a">right</a><a href="/notes/folder/">right</a>{element}'
    (site / "index.html").write_text(page, encoding="utf-8")
    assert re.findall(r"(?m)^\[(?:ERROR|\d+)\]", broken(site, root)), element


@needs_lychee
def test_what_is_published_beside_the_site_may_be_linked(tmp_path):
    site, root = tmp_path / "site", tmp_path / "root"
    site.mkdir()
    root.mkdir()
    links = "".join(f'<a href="{name}">{name}</a>' for name in BESIDE)
    (site / "index.html").write_text(links, encoding="utf-8")
    assert broken(site, root) == ""


def test_scripts_exist(site, soup):
    """Lychee passes them over."""
    addresses = {
        urljoin(SITE_URL + page, script["src"]).removeprefix(SITE_URL)
        for page in PAGES
        for script in soup(page).find_all("script", src=True)
    }
    assert addresses and [path for path in addresses if not (site / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_to_elsewhere_are_encrypted(soup, page):
    targets = [a["href"] for a in soup(page).find_all("a", href=True)]
    assert [target for target in targets if target.startswith("http://")] == []


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_loaded_from_elsewhere(soup, page):
    for element in soup(page).find_all(["img", "script", "link", "iframe", "source"]):
        rel = element.get("rel") or []
        if {"canonical", "next", "prev"} & set(rel):
            continue
        for name in ("src", "href"):
            assert not re.match(r"(https?:)?//", element.get(name, "")), element


def test_styles_load_nothing_from_elsewhere(site):
    for file in site.rglob("*.css"):
        addresses = re.findall(r"url\(\s*['\"]?([^'\")]+)", file.read_text(encoding="utf-8"))
        assert [a for a in addresses if re.match(r"(https?:)?//", a)] == [], file


@pytest.mark.parametrize("page", PAGES)
def test_images_have_text_and_size(soup, page):
    for image in soup(page).find_all("img"):
        assert image.get("alt"), image
        if image.find_parent("article"):
            assert int(image["width"]) > 0 and int(image["height"]) > 0, image


def test_every_chapter_has_figures_in_both_themes(soup):
    for page in CHAPTERS:
        sources = [image["src"] for image in soup(page).find_all("img")]
        light = [source for source in sources if source.endswith(".light.svg#only-light")]
        dark = [source for source in sources if source.endswith(".dark.svg#only-dark")]
        assert len(light) == len(dark) > 0, page


@pytest.mark.parametrize("page", NAV)
def test_every_note_of_the_code_has_its_text_below(soup, page):
    for notes in soup(page).find_all("ol", class_="code-notes"):
        marks = notes.find_previous("pre").find_all(class_="code-note")
        wanted = [
            str(number) for number in range(1, len(notes.find_all("li", recursive=False)) + 1)
        ]
        assert sorted({mark["data-note"] for mark in marks}, key=int) == wanted, notes
    for code in soup(page).select("pre code"):
        assert not re.search(r"# \(\d+\)!", code.get_text()), code


# Formulas


@pytest.mark.parametrize("page", PAGES)
def test_formulas_are_mathml_with_their_tex(soup, page):
    html = soup(page)
    for math in html.find_all("math"):
        annotation = math.find("annotation", encoding="application/x-tex")
        assert annotation and annotation.get_text(strip=True), math
    article = BeautifulSoup(str(html.article), "lxml")
    for hidden in article.find_all(["math", "code", "script", "style"]):
        hidden.decompose()
    assert re.findall(r"\\[(\[].{0,40}|\$[^$\n]{1,60}\$|\\[a-z]+\{", article.get_text()) == []


def test_chapters_have_formulas(soup):
    assert {page: 0 for page in CHAPTERS if not soup(page).find("math")} == {}


def test_math_font_has_every_character(soup):
    file = ROOT / "docs" / "assets" / "fonts" / "latin-modern-math.woff2"
    font = set(TTFont(io.BytesIO(file.read_bytes())).getBestCmap())
    # Chinese in \text{} comes from the reader's own font; invisible operators are never drawn.
    elsewhere = re.compile(r"[\u2061-\u2064\u200b\ufe0e\u3000-\u9fff\uff00-\uffef\s]")
    missing = {}
    for page in PAGES:
        for math in soup(page).find_all("math"):
            drawn = BeautifulSoup(str(math), "lxml")
            for annotation in drawn.find_all("annotation"):
                annotation.decompose()
            for element in drawn.find_all(["mi", "mn", "mo", "mtext", "ms"]):
                for character in element.get_text():
                    if not elsewhere.match(character) and ord(character) not in font:
                        missing.setdefault(f"{character} U+{ord(character):04X}", page)
    assert missing == {}, "add these to docs/assets/fonts/characters.txt (see README.md there)"


# The links to the repository


@pytest.mark.parametrize("page", NAV)
def test_edit_link_leads_to_the_source(soup, page):
    link = soup(page).find("a", rel="edit")
    assert link["href"].startswith(EDIT)
    assert (ROOT / "docs" / "zh" / link["href"].removeprefix(EDIT)).is_file()


@pytest.mark.parametrize("page", CHAPTERS)
def test_report_link_names_the_page(soup, page):
    links = [a["href"] for a in soup(page).find_all("a", href=True)]
    report = [link for link in links if link.startswith(f"{REPO_URL}/issues/new")]
    assert len(report) == 1
    assert page.strip("/") in unquote(report[0])
    form = re.search(r"template=([\w.]+)", report[0])
    assert form is None or (ROOT / ".github" / "ISSUE_TEMPLATE" / form[1]).is_file()


def test_generated_pages_have_no_edit_link(soup):
    for page in PAGES:
        if page.startswith("code/"):
            assert soup(page).find("a", rel="edit") is None


def test_without_a_repository_no_link_pretends_there_is_one(bare_site):
    for page in [*NAV, "404.html"]:
        html = BeautifulSoup(file_of(bare_site, page).read_text(encoding="utf-8"), "lxml")
        assert html.find("a", rel="edit") is None
        assert html.find(class_="md-source") is None
        targets = [a["href"] for a in html.find_all("a", href=True)]
        assert [t for t in targets if not t.strip() or "None" in t or "/issues/new" in t] == []
