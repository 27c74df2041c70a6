"""The glossary, the one place of the book's terms and abbreviations: its tables, read."""

import re
from dataclasses import dataclass

from publishing import PublishingError

ROW = re.compile(r"(?m)^\| *(.+?) *\| *(.+?) *\| *(.*?) *\|$")
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)(?:#([\w-]+))?\)")
ABBREVIATION = re.compile(r"\| *([A-Z]{2,6}) \{#([\w-]+)\} *\| *(.+?) *\| *(.+?) *\| *(.+?) *\|")
DEFINED = re.compile(r"\| *[A-Z]{2,6}\b")


@dataclass(frozen=True)
class Term:
    """A row of a table of terms: where it is defined, as page and anchor; both may be empty."""

    chinese: str
    english: str
    page: str
    anchor: str


@dataclass(frozen=True)
class Abbreviation:
    short: str
    anchor: str
    chinese: str
    english: str
    definition: str

    @property
    def title(self) -> str:
        return self.chinese if self.chinese == self.english else f"{self.chinese}，{self.english}"


def tables(text: str) -> tuple[str, str]:
    """Split the glossary into its terms and its abbreviations."""
    terms, heading, short = text.partition("{#abbreviations}")
    return terms, heading + short


def terms(text: str) -> list[Term]:
    """Read the tables of terms."""
    found = []
    for chinese, english, definition in ROW.findall(tables(text)[0]):
        if chinese == "中文" or set(chinese) <= set("-:"):
            continue
        link = LINK.fullmatch(definition)
        page, anchor = (link[2], link[3] or "") if link else ("", "")
        found.append(Term(chinese, english, page, anchor))
    return found


def abbreviations(text: str) -> list[Abbreviation]:
    """Read the table of abbreviations.

    Raises:
        PublishingError: a row is not `| MSE {#abbr-mse} | 中文 | English | [章](…) |`.
    """
    found = []
    for line in tables(text)[1].splitlines():
        if match := ABBREVIATION.fullmatch(line):
            found.append(Abbreviation(*match.groups()))
        elif DEFINED.match(line):
            raise PublishingError(f"glossary.md: not a row of abbreviations: {line}")
    return found


def definitions(text: str) -> dict[tuple[str, str], list[str]]:
    """Return what each section defines: page and anchor → Chinese, English and short names."""
    found: dict[tuple[str, str], list[str]] = {}
    for term in terms(text):
        chinese = re.sub("（[^）]*）", "", term.chinese)
        names = [*re.split("[、／]", chinese), *term.english.split(", ")]
        found.setdefault((term.page, term.anchor), []).extend(names)
    for one in abbreviations(text):
        link = LINK.fullmatch(one.definition)
        if link:
            names = [one.short, one.chinese, one.english]
            found.setdefault((link[2], link[3] or ""), []).extend(names)
    return {at: list(dict.fromkeys(names)) for at, names in found.items() if at[0]}
