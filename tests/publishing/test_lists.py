"""What is gathered from the chapters is theirs, complete, and leads back to them."""

import textwrap

import pytest

from publishing import PublishingError, lists, store
from publishing.modules import Module
from tests.publishing.tiny import PAGE_FILE, Book

ERRATUM = "## 勘误 {#errata}\n\n### E04：步长 {#e04}\n\n<!-- items: S3-56 -->\n\n检查：`test_a`。\n"
CASE = '## 报错诊所 {#clinic}\n\n### 少了括号 {#brackets}\n\n```python\nprint("no (")\n```\n\n'
CASE += '```text title="输出"\nno (\n```\n'


@pytest.fixture
def gathered(book: Book):
    """Return a function: edits of the chapter → the book as the lists see it."""

    def read(*edits: tuple[str, str]) -> lists.Book:
        for old, new in edits:
            book.edit(PAGE_FILE, old, new)
        return lists.Book(book.root, ["index.md", "part/chapter.md", "missing.md"])

    return read


def test_items_lead_to_the_heading_above_them(gathered):
    read = gathered(("## 勘误 {#errata}\n", ERRATUM))
    row = lists.complete("| S3-56 | 学习率 | 有错 |\n| S3-57 | 标记 | 正确 |", read)
    assert row.splitlines() == [
        "| S3-56 | 学习率 | 有错 | [小章](part/chapter.md#e04) |",
        "| S3-57 | 标记 | 正确 |  |",
    ]


def test_an_erratum_ends_with_its_checks_and_chapters(gathered, book):
    book.write("tests/part/test_chapter.py", "def test_e04_b():\n    pass\n")
    read = gathered(("## 勘误 {#errata}\n", ERRATUM))
    page = lists.complete(
        "## 线性 {#linear}\n\n### E04：步长 {#e04}\n\n文。\n\n## 完 {#end}\n", read
    )
    assert page == (
        "## 线性 {#linear}\n\n### E04：步长 {#e04}\n\n文。\n\n**检查**：`test_a`、`test_e04_b`\n\n"
        "**详见**：[小章](part/chapter.md#e04)\n\n## 完 {#end}\n"
    )


def test_an_erratum_in_a_chapter_leads_to_the_list():
    assert "(../errata.md#e04)" in lists.link_errata(ERRATUM, "part/chapter.md")
    assert lists.link_errata("### 步长 {#e04}\n", "part/chapter.md") == "### 步长 {#e04}\n"


def test_exercises_are_sorted_by_level_and_their_links_still_lead_somewhere(gathered):
    page = lists.complete("<!-- list: exercises -->", gathered())
    assert [line[:30] for line in page.splitlines() if line.startswith("##")] == [
        "## ★ 回忆和计算 {#level-1}",
        "## ★★ 推导，或改几行代码 {#level-2}",
        "## ★★★ 小实验 {#level-3}",
    ]
    line = "- [小章 3](part/chapter.md#exercises)：第三题，见 [推导](part/chapter.md#derivation)。"
    assert line in page


def test_the_clinic_shows_what_is_printed(gathered):
    page = lists.complete("<!-- list: clinic -->", gathered(("## 报错诊所 {#clinic}\n", CASE)))
    assert "- [少了括号](part/chapter.md#brackets)\n\n    ```text\n    no (\n    ```" in page


def test_figures_are_shown_with_their_captions(gathered):
    page = lists.complete("<!-- list: figures -->", gathered())
    figure = "![一条直线](part/chapter/line.svg)\n/// figure-caption\n一条线。\n///"
    assert '??? example "1 张图"\n\n' + textwrap.indent(figure, "    ") in page


def test_results_are_those_that_are_stored(gathered, book):
    book.run()
    page = lists.complete("<!-- list: results -->", gathered())
    assert "- **noise**（n = 5，种子 0–4，" in page and "`exact` 0.5 ± 0" in page
    record = store.load(Module("part/chapter", book.root), "experiment_noise")
    assert f"{record.date}，" in page


def test_a_caption_may_quote_a_result_and_a_wrong_one_is_named(gathered, book):
    book.run()
    text = lists.rebased("损失 {{ noise.exact }}", "part/chapter.md", book.root)
    assert text == "损失 0.5"
    with pytest.raises(PublishingError, match=r"part/chapter.md: unknown result 'noise.lost'"):
        lists.rebased("损失 {{ noise.lost }}", "part/chapter.md", book.root)


def test_an_unknown_list_is_named(gathered):
    with pytest.raises(PublishingError, match=r"unknown list 'songs'; there are: .*exercises, "):
        lists.complete("<!-- list: songs -->", gathered())
