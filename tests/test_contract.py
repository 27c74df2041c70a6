"""The book keeps its own rules: nothing is missing, nothing is unused, nothing goes unrun."""

import re
import unicodedata
from pathlib import Path

import matplotlib
import pytest
import yaml

from publishing import ROOT, PublishingError, contract, pages
from publishing.labs import find_labs
from publishing.modules import find_modules

DOCS = ROOT / "docs" / "zh"
PAGES = sorted(file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md"))
CHAPTERS = {page.removesuffix(".md") for page in PAGES if "/" in page}


def listed(missing: set[str], what: str) -> list[str]:
    return [f"{name}: {what}" for name in sorted(missing)]


def check(problems: list[str]) -> None:
    """Fail with one line a problem."""
    if problems:
        pytest.fail("\n" + "\n".join(problems), pytrace=False)


def test_no_rule_is_broken():
    try:
        problems = contract.problems(ROOT, find_modules())
    except PublishingError as error:
        problems = str(error).splitlines()
    check(problems)


def test_figures_can_be_drawn_in_matplotlibs_own_style():
    # `make bench` draws them all, in minutes. What differs from the book's: a colour "inherit".
    names = re.compile(r'rcParams\["([\w.]+)"\]')
    unset = {name for name, value in matplotlib.rcParamsDefault.items() if value == "inherit"}
    assert "legend.facecolor" in unset
    check(
        [
            f'{module.relative_file}: rcParams["{name}"] may be "inherit", which is no colour'
            for module in find_modules()
            for name in sorted(set(names.findall(module.source)) & unset)
            if '== "inherit"' not in module.source
        ]
    )


def nav() -> list[str]:
    """Return the pages of mkdocs.yml's nav; its tags (`!ENV`) mean nothing here."""

    class Loader(yaml.SafeLoader):
        pass

    def strings(entry) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        entries = entry.values() if isinstance(entry, dict) else entry
        return [name for one in entries for name in strings(one)]

    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    return strings(config["nav"])


def test_the_nav_names_every_page_once():
    entries = nav()
    labs = {f"{lab.path}.md" for lab in find_labs()}  # pages that the build makes of scripts
    pages = {*PAGES, *labs}
    check(
        listed(set(entries) - pages, "in the nav of mkdocs.yml, but not in docs/zh")
        + listed(pages - set(entries), "in docs/zh, but not in the nav of mkdocs.yml")
        + listed({e for e in entries if entries.count(e) > 1}, "twice in the nav of mkdocs.yml")
    )


def test_every_chapter_is_a_page_a_module_and_a_test():
    parts = {chapter.partition("/")[0] for chapter in CHAPTERS}
    modules = {module.path for module in find_modules() if "/" in module.path}
    tests = {
        f"{part}/{file.stem.removeprefix('test_')}"
        for part in parts
        for file in (ROOT / "tests" / part).glob("*.py")
    }
    check(
        listed(CHAPTERS - modules, "a page without a module in snippets/")
        + listed(modules - CHAPTERS, "a module without a page in docs/zh/")
        + listed(CHAPTERS - tests, "a page without a test in tests/")
        + listed(tests - CHAPTERS, "a test without a page in docs/zh/")
    )


def test_every_name_is_an_identifier():
    """Page = module = test = address: lower snake case, no digits in front."""
    check(
        listed({c for c in CHAPTERS if not re.fullmatch(r"[a-z_]+/[a-z][a-z0-9_]*", c)}, "a name")
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_python_fence_is_in_the_page_s_program(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    # Counted in another way than pages.fences reads them: every line that opens one.
    opened = re.findall(r"(?mi)^[ \t>]*(?:```+|~~~+)[ \t{.]*(?:python|py)\w*\b", text)
    assert len(pages.program(text)) == len(opened)
    shown = len(re.findall(r'(?m)^[ \t>]*(?:```+|~~~+).*title="输出"', text))
    assert sum(step.output is not None for step in pages.program(text)) == shown


INVISIBLE = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}
"""Controls, zero-width and bidirectional marks, private and unassigned characters."""

LOOKALIKES = {
    "a Greek letter that looks Latin": "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "a hyphen that is not on the keyboard": "\u2010\u2011\u2043",
    "a space that is not one": "\u00a0\u1680\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u202f\u205f\u3000",
}


def suspicious(character: str) -> str | None:
    """Say what is wrong with a character that a reader cannot see or takes for another."""
    if character == "\n":
        return None
    if unicodedata.category(character) in INVISIBLE:
        return "invisible"
    for what, characters in LOOKALIKES.items():
        if character in characters:
            return what
    name = unicodedata.name(character)
    if name.startswith("CYRILLIC"):
        return "Cyrillic"
    if name.startswith(("FULLWIDTH LATIN", "FULLWIDTH DIGIT", "MATHEMATICAL")):
        return "a letter or digit that is not the ordinary one"
    if name.startswith(("KANGXI RADICAL", "CJK RADICAL", "CJK COMPATIBILITY IDEOGRAPH")):
        return "a radical or a variant, not the Chinese character"
    if unicodedata.normalize("NFC", character) != character:
        return "another form of an ordinary character"
    return None


def sources() -> list[Path]:
    files = [
        *DOCS.rglob("*.md"),
        *DOCS.rglob("*.py"),
        *(ROOT / "snippets").rglob("*.py"),
        *ROOT.glob("*.md"),
    ]
    return sorted([*files, *(ROOT / "docs" / "theme").rglob("*.html")])


def test_no_character_is_invisible_or_looks_like_another():
    problems = []
    for file in sources():
        text = file.read_bytes().decode("utf-8")
        for number, line in enumerate(text.split("\n"), 1):
            problems += [
                f"{file.relative_to(ROOT)}:{number}: U+{ord(c):04X} is {what}: {line.strip()[:60]}"
                for c in sorted(set(line))
                if (what := suspicious(c))
            ]
            if unicodedata.normalize("NFC", line) != line:
                problems.append(f"{file.relative_to(ROOT)}:{number}: letters with loose accents")
    check(problems)


@pytest.mark.parametrize(
    "character",
    # No-break and ideographic space, zero-width marks; Cyrillic a; Greek A and o; full-width 1 and
    # A; the radicals of water and of dots; a variant of 豈; the signs for ångström and a slanted x.
    "\t\r\x00\u00a0\u3000\u200b\u200d\u2060\ufeff\u00ad\u202e\u2011\u0430\u0391\u03bf\uff11\uff21\u2f54"
    "\u2e80\uf900\u212b\U0001d465",
)
def test_such_characters_are_found(character):
    assert suspicious(character)


@pytest.mark.parametrize("character", "a1中，。“”—–…−±×αηθλΣ∂√≤·ŷé①🙂")
def test_the_characters_of_the_book_are_not(character):
    assert suspicious(character) is None
