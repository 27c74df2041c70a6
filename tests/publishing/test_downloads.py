"""The downloads are made when something in them changed, and only then."""

import pytest

from publishing import downloads
from tests.publishing.tiny import MODULE_FILE, PAGE_FILE, Book

NAV = ["index.md", {"部分": ["part/chapter.md"]}]


def make(book: Book) -> list[str]:
    site = downloads.Site("书", "一本书。", "https://x.example/", downloads.sections(NAV))
    texts = {
        page: (book.root / "docs" / "zh" / page).read_text(encoding="utf-8")
        for page in ("index.md", "part/chapter.md")
    }
    said: list[str] = []
    downloads.bring_up_to_date(site, book.modules, texts, {"index.md"}, said.append)
    return [line for line in said if line.startswith("packed")]


@pytest.fixture
def packed(book) -> Book:
    book.run()
    assert len(make(book)) == 1
    return book


def test_sections_of_a_nav():
    nav = [{"首页": "index.md"}, {"甲": ["a/b.md", {"题": "a/c.md"}]}, "d.md"]
    assert downloads.sections(nav) == {"开始": ["index.md", "d.md"], "甲": ["a/b.md", "a/c.md"]}


def test_nothing_changed_nothing_made(packed):
    before = packed.results()
    assert make(packed) == []
    assert packed.results() == before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [(PAGE_FILE, "一条线。", "一条直线。"), (MODULE_FILE, "A straight line", "A line")],
)
def test_a_change_is_packed(packed, path, old, new):
    packed.edit(path, old, new)
    packed.run()
    assert len(make(packed)) == 1


@pytest.mark.parametrize("name", [downloads.ARCHIVE, downloads.INDEX, downloads.WHOLE])
def test_a_damaged_file_is_made_again(packed, name):
    file = downloads.folder(packed.root) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert len(make(packed)) == 1
    assert file.read_bytes() == whole


def test_the_index_and_the_whole_text(packed):
    folder = downloads.folder(packed.root)
    index = (folder / "llms.txt").read_text(encoding="utf-8")
    assert index.startswith("# 书\n\n> 一本书。\n")
    assert "## 部分\n\n- [小章](https://x.example/part/chapter/index.html.md)：一章" in index
    whole = (folder / "llms-full.txt").read_text(encoding="utf-8")
    assert "# 小章" in whole and "# 首页" not in whole  # one that only gathers what others say
