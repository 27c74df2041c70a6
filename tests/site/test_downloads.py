"""What readers take away lies on the site and is whole."""

import zipfile
from urllib.parse import urljoin

import pytest

from publishing import downloads
from publishing.modules import find_modules
from tests.site.built import CHAPTERS, SITE_URL


@pytest.fixture(scope="module")
def archive(site):
    with zipfile.ZipFile(site / "notes.zip") as packed:
        yield packed


def test_the_archive_holds_everything(archive):
    assert archive.testzip() is None
    names = set(archive.namelist())
    wanted = {"notes/README.md", "notes/LICENSE", "notes/LICENSE-TEXT"}
    for module in find_modules():
        wanted |= {f"notes/code/{module.path}.py"}
        wanted |= {f"notes/figures/{module.path}/{name}.svg" for name in module.figures}
    for page in CHAPTERS:
        path = page.strip("/")
        wanted |= {f"notes/notebooks/{path}.ipynb", f"notes/text/{path}.md"}
    assert wanted - names == set()


def test_the_archive_depends_on_its_contents_alone(archive, site):
    contents = {
        name.removeprefix("notes/"): archive.read(name) for name in reversed(archive.namelist())
    }
    assert downloads.archive(contents) == (site / "notes.zip").read_bytes()


def test_every_chapter_offers_its_notebook_and_its_file(site, soup, archive):
    for page in CHAPTERS:
        links = {urljoin(SITE_URL + page, a["href"]) for a in soup(page).select("a[download]")}
        for folder, suffix in (("notebooks", "ipynb"), ("code", "py")):
            name = f"{folder}/{page.strip('/')}.{suffix}"
            assert SITE_URL + name in links, page
            assert (site / name).read_bytes() == archive.read(f"notes/{name}")


def test_no_link_to_colab_where_the_book_is_not_on_github(soup):
    for page in CHAPTERS:
        assert not soup(page).select('a[href*="colab"]')


def test_the_index_for_programs_leads_to_plain_text(site):
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# 跑得通的深度学习笔记\n\n> ")
    for page in CHAPTERS:
        assert f"]({SITE_URL}{page}index.html.md)：" in text
        assert (site / page / "index.html.md").read_text(encoding="utf-8").startswith("# ")


def test_the_whole_text_holds_every_chapter(site, archive):
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")
    for page in CHAPTERS:
        text = archive.read(f"notes/text/{page.strip('/')}.md").decode()
        assert text in whole


def test_the_page_lists_what_there_is(site, soup):
    links = [a["href"] for a in soup("download/").select("a[download]")]
    assert sorted(links) == ["../llms-full.txt", "../llms.txt", "../notes.zip"]
