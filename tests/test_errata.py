"""All 51 errata are listed, treated in a chapter and demonstrated by tests that exist; E51 here."""

import re

import markdown
import pytest
from pymdownx.slugs import slugify

from publishing import ROOT, contract, formulas, lists
from tests.site.built import SOURCES

BOOK = lists.Book(ROOT, SOURCES)
NUMBERS = [f"E{number:02d}" for number in range(1, 52)]
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"(?m)^def (test_\w+)", file.read_text(encoding="utf-8"))
}


def test_the_list_holds_every_erratum_once():
    listed = lists.ERRATUM.findall(BOOK.texts["errata.md"])
    assert sorted(listed) == NUMBERS


@pytest.mark.parametrize("number", NUMBERS)
def test_an_erratum_says_what_is_wrong_what_is_right_and_on_what_ground(number):
    [(_, text)] = [
        (place, text)
        for place, text in BOOK.sections("errata.md")
        if place.anchor == number.lower()
    ]
    assert [part for part in ("**原笔记**：", "**正确**：", "**出处**：") if part not in text] == []


@pytest.mark.parametrize("number", NUMBERS)
def test_an_erratum_is_treated_in_a_chapter_and_checked(number):
    assert number == "E51" or BOOK.errata.get(number), "no chapter has a section on it"
    checks = BOOK.erratum_checks(number)
    assert checks, "no test demonstrates it"
    assert set(checks) <= TESTS, "it names a test that there is not"


def test_every_test_that_a_page_names_exists():
    named = {
        (page, name) for page, text in BOOK.texts.items() for name in lists.CHECK.findall(text)
    }
    assert sorted(one for one in named if one[1] not in TESTS) == []


# E51: mark-up that another site does not understand


def converted(text: str, **settings) -> str:
    return markdown.markdown(text, extensions=["toc"], extension_configs={"toc": settings})


def test_e51_the_default_anchor_of_a_chinese_heading_says_nothing():
    assert '<h1 id="_1">' in converted("# 输出尺寸")
    assert '<h1 id="输出尺寸">' in converted("# 输出尺寸", slugify=slugify(case="lower"))


def test_e51_no_rule_makes_an_anchor_with_a_full_width_bracket_or_an_ampersand():
    for rule in ({}, {"slugify": slugify(case="lower")}):
        anchor = re.search('id="([^"]*)"', converted("# 模型选择（过拟合 & 欠拟合）", **rule))[1]
        assert not re.search("[（）&]", anchor)


def test_e51_a_paragraph_that_starts_with_a_tab_is_code():
    assert "<pre><code>" in markdown.markdown("\t卷积层的输出深度等于滤波器的个数。")


def test_e51_chinese_in_a_formula_belongs_into_text():
    with pytest.raises(formulas.FormulaError, match="put the Chinese"):
        formulas.render("y = 预测")
    assert "预测" in formulas.render(r"y = \text{预测}")


def test_e51_every_heading_of_this_book_has_an_anchor_of_its_own():
    for text in BOOK.texts.values():
        assert all(anchor and anchor.isascii() for _, _, anchor in contract.headings(text))
