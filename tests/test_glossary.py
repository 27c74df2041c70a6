"""The glossary: every term leads to its definition, every abbreviation of the book is in it."""

import re

import pytest

from publishing import ROOT, PublishingError, contract, glossary, lists
from tests.site.built import SOURCES

BOOK = lists.Book(ROOT, SOURCES)
TEXT = BOOK.texts["glossary.md"]
TERMS = glossary.terms(TEXT)
SHORT = glossary.abbreviations(TEXT)
ANCHORS = {
    page: {anchor for _, _, anchor in contract.headings(text)} for page, text in BOOK.texts.items()
}

SHORTER = {
    "按时间切分": "按时间切",
    "仿射变换": "仿射",
    "Softmax 回归": "softmax",
    "Nesterov 动量": "nesterov",
    "批量归一化": "这一批",
    "Inception 模块": "googlenet",
    "数据增强": "增强",
    "梯度桶": "桶",
}
"""What the defining section says instead of the whole term."""

NAMES = {
    "ASCII": "a code of characters, known by this name only",
    "CC": "part of a licence's name",
    "BY": "part of a licence's name",
    "CPU": "a word of every day",
    "CUDA": "a product",
    "GPU": "a word of every day",
    "JAX": "a library",
    "MNIST": "a data set",
    "MOOC": "part of a course's name",
    "NCRG": "part of a report's number",
    "NVIDIA": "a company",
    "PRML": "a book, spelled out in the bibliography",
    "ESL": "a book, spelled out in the bibliography",
    "QR": "a factorization named by the letters of its formula",
    "SGDR": "part of a paper's title",
    "UCI": "a university, part of a data set's name",
    "ACM": "a publisher",
    "SIAM": "a publisher",
    "ICML": "a conference",
    "JMLR": "a journal",
    "JPEG": "a format of files",
    "KB": "a unit",
    "MB": "a unit",
    "MIT": "a licence",
    "PDF": "a file format",
    "SVG": "a file format",
    "VS": "part of an editor's name",
    "GB": "a unit",
    "XPU": "a product",
    "VGG": "networks, named after those who made them",
    "TFLOP": "a unit",
    "RGB": "a word of every day",
    "PIL": "a library",
    "MSVC": "a compiler",
    "COCO": "a data set",
}
"""Capitals that are no abbreviations to explain, and why."""


def prose(text: str) -> str:
    """Return what is left of a page without front matter, code, formulas, addresses, comments."""
    text = re.sub(r"(?s)\A---.*?\n---\n", "", text)
    text = re.sub(r"(?ms)^([ \t]*)```.*?^\1```[ \t]*$", "", text)
    text = re.sub(r"(?s)<!--.*?-->|\{\{.*?\}\}|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", "", text)
    return re.sub(r"\]\([^)]*\)|\{[#.][^}]*\}", "]", text)


CAPITALS = re.compile(r"(?<![\w.-])[A-Z]{2,6}(?![\w-])", re.ASCII)
USED = {
    capitals: page
    for page, text in BOOK.texts.items()
    if page != "glossary.md"
    for capitals in CAPITALS.findall(prose(text))
}


def test_every_term_leads_to_an_existing_section():
    missing = [
        term.chinese
        for term in TERMS
        if term.page not in ANCHORS or (term.anchor and term.anchor not in ANCHORS[term.page])
    ]
    assert missing == []


def test_only_what_a_page_is_about_leads_to_its_top():
    titles = {page: re.search(r"(?m)^# (.*)$", text)[1] for page, text in BOOK.texts.items()}
    whole = [term for term in TERMS if term.page and not term.anchor]
    assert [term.chinese for term in whole if term.chinese not in titles[term.page]] == []


def test_the_section_names_the_term():
    lost = []
    for term in TERMS:
        if not term.page:
            continue
        sections = {place.anchor: place.title + text for place, text in BOOK.sections(term.page)}
        text = sections.get(term.anchor, BOOK.texts[term.page]).lower()
        names = re.split("[、／]|（[^）]*）", term.chinese) + term.english.split(", ")
        names.append(SHORTER.get(term.chinese, ""))
        if not any(name and name.lower() in text for name in names):
            lost.append(f"{term.chinese}: {term.page}#{term.anchor}")
    assert lost == []


def test_no_term_has_two_rows():
    names = [term.chinese for term in TERMS]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_every_abbreviation_of_the_pages_is_explained():
    known = {one.short for one in SHORT}
    assert {short: page for short, page in USED.items() if short not in known | set(NAMES)} == {}


def test_every_abbreviation_and_every_exception_is_used():
    assert sorted(({one.short for one in SHORT} | set(NAMES)) - set(USED)) == []


def test_abbreviations_are_sorted_and_lead_to_a_section():
    assert [one.short for one in SHORT] == sorted({one.short for one in SHORT})
    assert [one.anchor for one in SHORT] == [f"abbr-{one.short.lower()}" for one in SHORT]
    for one in SHORT:
        link = glossary.LINK.fullmatch(one.definition)
        assert link and link[3] in ANCHORS[link[2]], one.short


def test_a_broken_row_is_named():
    with pytest.raises(PublishingError, match=r"MSE \| 均方"):
        glossary.abbreviations(TEXT + "| MSE | 均方误差 | mean squared error | 无 |\n")


def test_a_section_is_found_by_every_name_of_what_it_defines():
    found = glossary.definitions(TEXT)
    assert found["training/batch_norm.md", "forward"] == ["批量归一化", "batch normalization", "BN"]
    assert found["basics/tensors.md", "address"][:2] == ["步幅", "偏移"]  # without its bracket
