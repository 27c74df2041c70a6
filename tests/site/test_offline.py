"""The zip of the site, unpacked somewhere on a disk, is the whole site, without any server."""

import shutil
import zipfile

import pytest
from bs4 import BeautifulSoup

from publishing import PublishingError, offline
from tests.site.built import CHAPTERS, SITE_URL, Visitor, file_of, load_images

INPUT = "[data-md-component=search-query]"


@pytest.fixture(scope="module")
def archive(site, tmp_path_factory):
    file = tmp_path_factory.mktemp("zip") / "notes-offline.zip"
    offline.write_zip(site, file)
    return file


@pytest.fixture(scope="module")
def unpacked(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk") / "下载 的书"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return folder / offline.FOLDER


@pytest.fixture(scope="module")
def reader(browser, unpacked):
    """A tab without a network; its requests can only be for files."""
    context = browser.new_context(offline=True, color_scheme="light")
    yield Visitor(context, f"{unpacked.as_uri()}/")
    context.close()


def test_links_name_files_that_are_there(unpacked):
    files = sorted(unpacked.rglob("*.html"))
    assert len(files) > len(CHAPTERS)
    for file in files:
        html = BeautifulSoup(file.read_text(encoding="utf-8"), "lxml")
        for element in html.find_all(["a", "link", "img", "script"]):
            target = element.get("href") or element.get("src") or "#"
            path = target.partition("#")[0]
            if path and not path.startswith("https://"):
                assert (file.parent / path).is_file(), f"{file}: {target}"


def test_what_is_not_packed_is_linked_on_the_published_site():
    page = "linear/gradient_descent/index.html"
    packed = {page, "index.html", "linear/dropout/index.html"}
    wanted = {
        "../../book.pdf": f"{SITE_URL}book.pdf",
        "../..": "../../index.html",
        "./": "./index.html",
        "../dropout/#limits": "../dropout/index.html#limits",
        "#limits": "#limits",
        "https://arxiv.org/abs/1/": "https://arxiv.org/abs/1/",
    }
    found = {link: offline._target(link, page, packed, SITE_URL) for link in wanted}
    assert found == wanted


def test_same_site_gives_the_same_bytes(site, archive, tmp_path):
    offline.write_zip(site, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_neither_copy_nor_paper_is_packed(site, tmp_path):
    folder = tmp_path / "site"
    shutil.copytree(site, folder)
    for name in ("book.pdf", "notes-offline.zip"):
        (folder / name).write_bytes(b"x")
    offline.write_zip(folder, tmp_path / "copy.zip")
    with zipfile.ZipFile(tmp_path / "copy.zip") as packed:
        names = {name.removeprefix(f"{offline.FOLDER}/") for name in packed.namelist()}
    assert "index.html" in names and not names & {"book.pdf", "notes-offline.zip", "404.html"}


def test_faults_are_named(tmp_path):
    with pytest.raises(PublishingError, match="make site"):
        offline.write_zip(tmp_path, tmp_path / "x.zip")
    with pytest.raises(PublishingError, match=r"a/index\.html"):
        offline.opened_from_disk("<p>no theme", "a/index.html", set())


def test_pages_ask_for_nothing_that_a_disk_does_not_give(site):
    page = file_of(site, CHAPTERS[0]).read_text(encoding="utf-8")
    assert offline.FONT_AHEAD.search(page) and offline.BUNDLE.search(page)


@pytest.mark.parametrize("page", ["", CHAPTERS[0], CHAPTERS[-1]])
def test_page_opens_whole(reader, page):
    tab = reader.open(f"{page}index.html", details=True)
    load_images(tab)
    assert tab.locator("article img:visible").count() > 0
    assert tab.evaluate("document.fonts.ready.then(fonts => fonts.size)") == 1
    if page:
        assert tab.locator("math").count() > 10
    assert reader.complaints == [] and reader.foreign == []


def test_search_finds_and_its_first_hit_opens(reader):
    tab = reader.open("index.html")
    tab.focus(INPUT)
    tab.fill(INPUT, "学习率")
    tab.press(INPUT, "End")
    tab.wait_for_selector(".md-search-result__item a")
    assert tab.locator(".md-search-result__item").count() > 3
    tab.press(INPUT, "Enter")
    tab.wait_for_url("**/index.html?h=*")
    tab.wait_for_selector("article mark")
    assert set(tab.locator("article mark").all_text_contents()) == {"学习率"}
    assert reader.complaints == [] and reader.foreign == []


def test_theme_switches_and_stays(reader):
    def scheme():
        return reader.page.evaluate("document.body.dataset.mdColorScheme")

    tab = reader.open("index.html")
    assert scheme() == "default"
    tab.locator("label[title='切换到深色']").click()
    assert scheme() == "slate"
    reader.open(f"{CHAPTERS[0]}index.html")
    assert scheme() == "slate"
    assert reader.complaints == []


def test_links_between_pages_work(reader):
    tab = reader.open("index.html")
    tab.locator(f"article a[href='{CHAPTERS[0]}index.html']").first.click()
    tab.wait_for_selector("#derivation")
    assert reader.complaints == []
