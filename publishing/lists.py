"""What is gathered from all chapters: places of the notes' items, checks of errata, and the like.

A page asks for a list by a line `<!-- list: exercises -->`; the lines of its own table of items or
its headings of errata are completed. Everything works on the pages' Markdown.
"""

import posixpath
import re
import textwrap
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from publishing import PublishingError, bibliography, contract, downloads, pages, store
from publishing import results as numbers
from publishing.markdown import seeds as seeds_of
from publishing.modules import Module, find_modules

LIST = re.compile(r"(?m)^<!-- list: (\w+) -->$")
ITEMS = re.compile(r"^\s*<!--\s*items:([^>]*)-->\s*$")
ITEM_ROW = re.compile(r"(?m)^(\| (S\d-\d+) \|.*\|)$")
ERRATUM = re.compile(r"(?m)^### (E\d\d)：.*\{#e\d\d\}$")
CHECK = re.compile(r"`(test_\w+)`")
LINK = re.compile(r"(\]\()([^)\s:]*)(\))")


@dataclass(frozen=True)
class Place:
    """A heading of a page: where something is treated."""

    page: str  # "linear/gradient_descent.md"
    chapter: str
    title: str
    anchor: str

    @property
    def link(self) -> str:
        return f"[{self.chapter}]({self.page}#{self.anchor})"


class Book:
    """The pages of the book, read once, and what can be gathered from them.

    Args:
        root: the repository.
        order: the pages in the order of the navigation, `linear/gradient_descent.md`.
    """

    def __init__(self, root: Path, order: list[str]):
        self.root = root
        docs = root / "docs" / "zh"
        self.texts = {
            page: (docs / page).read_text(encoding="utf-8")
            for page in order
            if (docs / page).is_file()
        }

    @property
    def chapters(self) -> dict[str, str]:
        return {page: text for page, text in self.texts.items() if "/" in page}

    def name(self, page: str) -> str:
        """Return a page's title up to the colon: what other pages call it."""
        heading = re.search(r"(?m)^title: *(.+)$", self.texts[page])
        return re.split("[：:]", heading[1].strip())[0] if heading else page

    def sections(self, page: str) -> list[tuple[Place, str]]:
        """Return every heading of a page and the text up to the next heading of any level."""
        text = self.texts[page]
        lines = text.splitlines()
        found = contract.headings(text)
        sections = []
        for index, (number, title, anchor) in enumerate(found):
            end = found[index + 1][0] - 1 if index + 1 < len(found) else len(lines)
            title = re.sub(r"\s*\{[^}]*\}\s*$", "", title)
            place = Place(page, self.name(page), title, anchor or "")
            sections.append((place, "\n".join(lines[number:end])))
        return sections

    def part(self, page: str, anchor: str) -> list[tuple[Place, str]]:
        """Return a section of the second level with its subsections; empty if there is none."""
        kept: list[tuple[Place, str]] = []
        levels = {
            match[2]: len(match[1])
            for match in re.finditer(r"(?m)^(#+) .*\{#([\w-]+)\}\s*$", self.texts[page])
        }
        for place, text in self.sections(page):
            if place.anchor == anchor or (kept and levels.get(place.anchor, 2) > 2):
                kept.append((place, text))
            elif kept:
                break
        return kept

    @cached_property
    def item_places(self) -> dict[str, list[Place]]:
        """Return where each item of the notes is treated, by the `<!-- items: … -->` comments."""
        found: dict[str, list[Place]] = {}
        for page in self.texts:
            for place, text in self.sections(page):
                for line in text.splitlines():
                    if match := ITEMS.match(line):
                        for item in match[1].split():
                            found.setdefault(item, []).append(place)
        return found

    @cached_property
    def errata(self) -> dict[str, list[tuple[Place, str]]]:
        """Return the chapters' sections on each erratum."""
        found: dict[str, list[tuple[Place, str]]] = {}
        for page in self.chapters:
            for place, text in self.sections(page):
                if re.fullmatch(r"e\d\d", place.anchor):
                    found.setdefault(place.anchor.upper(), []).append((place, text))
        return found

    def erratum_checks(self, number: str) -> list[str]:
        """Return the tests that an erratum's sections name, and those that carry its number."""
        names: list[str] = []
        files = [self.root / "tests" / "test_errata.py"]
        for place, text in self.errata.get(number, []):
            names += CHECK.findall(text)
            files.append(contract.test_file(place.page.removesuffix(".md"), self.root))
        for file in files:
            if file.is_file():
                pattern = rf"(?m)^def (test_{number.lower()}_\w+)"
                names += re.findall(pattern, file.read_text(encoding="utf-8"))
        return list(dict.fromkeys(names))


def rebased(text: str, page: str, root: Path) -> str:
    """Make a page's text right for a page at the root of the book: its links, the values it quotes.

    Raises:
        PublishingError: it quotes a result that there is not.
    """

    def target(match: re.Match) -> str:
        path, _, anchor = match[2].partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        return f"{match[1]}{path}{'#' + anchor if anchor else ''}{match[3]}"

    def value(match: re.Match) -> str:
        record = store.load(
            Module(page.removesuffix(".md"), root), f"experiment_{match['experiment']}"
        )
        if record is None or match["key"] not in record.values:
            raise PublishingError(f"{page}: unknown result '{match['experiment']}.{match['key']}'")
        spec = (match["format"] or ":")[1:] or None
        return numbers.quote(record.values[match["key"]], match["part"], spec)

    return numbers.QUOTE.sub(value, LINK.sub(target, text))


def complete(text: str, book: Book) -> str:
    """Fill in what a page asks for.

    Raises:
        PublishingError: it asks for a list that there is not.
    """

    def listed(match: re.Match) -> str:
        if match[1] not in LISTS:
            known = ", ".join(LISTS)
            raise PublishingError(f"unknown list '{match[1]}'; there are: {known}")
        return LISTS[match[1]](book)

    text = LIST.sub(listed, text)
    text = ITEM_ROW.sub(lambda row: f"{row[1]} {_places(book, row[2])} |", text)
    return _with_checks(text, book) if ERRATUM.search(text) else text


def _places(book: Book, item: str) -> str:
    places = {place.link: None for place in book.item_places.get(item, [])}
    return "、".join(places)


def _with_checks(text: str, book: Book) -> str:
    """End every erratum of the list with its checks and the chapters that treat it."""
    parts = re.split(r"(?m)^(?=##)", text)
    for index, part in enumerate(parts):
        if match := ERRATUM.match(part):
            checks = "、".join(f"`{name}`" for name in book.erratum_checks(match[1]))
            places = "、".join(place.link for place, _ in book.errata.get(match[1], []))
            more = f"**详见**：{places}\n\n" if places else ""
            parts[index] = f"{part.rstrip()}\n\n**检查**：{checks}\n\n{more}"
    return "".join(parts)


def link_errata(text: str, page: str) -> str:
    """Give every erratum in a chapter a link to the list of all errata."""
    up = "../" * page.count("/")

    def linked(match: re.Match) -> str:
        number = match[1]
        return f"{match[0]}\n\n[勘误总表 {number}]({up}errata.md#{number.lower()}){{ .to-list }}\n"

    return ERRATUM.sub(linked, text)


# The lists


def exercises(book: Book) -> str:
    """Every exercise of the book, by difficulty, then in the order of the chapters."""
    levels: dict[str, list[str]] = {stars: [] for stars in ("★", "★★", "★★★")}
    for page in book.chapters:
        for place, text in book.part(page, "exercises"):
            for number, stars, question in contract.EXERCISE.findall(text):
                line = rebased(" ".join(question.split()), page, book.root)
                link = f"[{place.chapter} {number}]({page}#{place.anchor})"
                levels[stars].append(f"- {link}：{line}")
    names = {"★": "回忆和计算", "★★": "推导，或改几行代码", "★★★": "小实验"}
    return "\n\n".join(
        f"## {stars} {names[stars]} {{#level-{len(stars)}}}\n\n" + "\n".join(lines)
        for stars, lines in levels.items()
        if lines
    )


def clinic(book: Book) -> str:
    """Every case of the chapters' clinics: what is printed, and where it is cured."""
    lines = []
    for page in book.chapters:
        cases = book.part(page, "clinic")[1:]
        if not cases:
            continue
        lines.append(f"\n## {book.name(page)} {{#{page.removesuffix('.md').replace('/', '-')}}}\n")
        for place, text in cases:
            lines.append(f"- [{place.title}]({page}#{place.anchor})")
            outputs = [f for f in pages.fences(text) if pages.OUTPUT in f.info]
            if outputs:
                shown = outputs[0].text.strip("\n").splitlines()[:4]
                lines.append("\n    ```text\n    " + "\n    ".join(shown) + "\n    ```\n")
    return "\n".join(lines)


def figures(book: Book) -> str:
    """Every figure of the book, with its caption and a link to its place."""
    lines = []
    for page, text in book.chapters.items():
        shown = [
            (alt, folder, name, caption) for alt, folder, name, caption in FIGURE.findall(text)
        ]
        if not shown:
            continue
        lines.append(f"## {book.name(page)} {{#{page.removesuffix('.md').replace('/', '-')}}}\n")
        lines.append(f"[读这一章]({page})\n")
        lines.append(f'??? example "{len(shown)} 张图"\n')  # a closed box loads none of them
        for alt, folder, name, caption in shown:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), folder))
            caption = rebased(caption.strip(), page, book.root)
            figure = f"![{alt}]({path}/{name}.svg)\n/// figure-caption\n{caption}\n///\n"
            lines.append(textwrap.indent(figure, "    "))
    return "\n".join(lines)


FIGURE = re.compile(r"(?ms)^!\[([^\]]*)\]\(([^)\s]+?)/(\w+)\.svg\)\n/// figure-caption\n(.*?)\n///")


def results(book: Book) -> str:
    """Every measured value: mean, standard deviation, n; seeds, seconds and versions above."""
    lines = []
    modules = {f"{module.path}.md": module for module in find_modules(book.root)}
    for page in filter(modules.get, book.texts):
        module = modules[page]
        records = [record for record in store.load_all(module) if record.seeds]
        if not records:
            continue
        lines.append(f"## {book.name(page)} {{#{module.path.replace('/', '-')}}}\n")
        lines.append(f"[读这一章]({page}) · {_provenance(module, records)}\n")
        for record in records:
            seeds = (
                f"n = {len(record.seeds)}，{seeds_of(record.seeds)}，{record.cpu_seconds:.1f} 秒"
            )
            values = "；".join(
                f"`{key}` {numbers.quote(values, 'mean')} ± {numbers.quote(values, 'sd')}"
                for key, values in record.values.items()
            )
            name = record.function.removeprefix("experiment_")
            lines.append(f"- **{name}**（{seeds}）：{values}")
        lines.append("")
    return "\n".join(lines)


def _provenance(module: Module, records: list[store.Record]) -> str:
    last = max(records, key=lambda record: record.date)
    return f"{last.date}，torch {last.versions.get('torch', '?')}，{last.machine}"


def references(book: Book) -> str:
    """Every work of the bibliography by first author, and the sections that cite it.

    Raises:
        PublishingError: the bibliography cannot be read.
    """
    places = [
        (link, place)
        for page in book.texts
        for place, text in book.sections(page)
        for link in bibliography.cited(text)
    ]
    letters: dict[str, list[str]] = {}
    for work in bibliography.read(book.root / "docs" / "references.bib"):
        letter = unicodedata.normalize("NFD", work.family)[0].upper()
        cited: dict[str, str] = {}  # the first section of each page
        for link, place in places:
            if work.is_at(link):
                cited.setdefault(place.page, place.link)
        letters.setdefault(letter, []).append(_reference(work, list(cited.values())))
    return "\n\n".join(
        f"## {letter} {{#works-{letter.lower()}}}\n\n" + "\n".join(lines)
        for letter, lines in letters.items()
    )


def _reference(work: bibliography.Work, cited: list[str]) -> str:
    (_, best), *others = work.links.items()
    parts = [work.authors, work.year, f"[*{work.title}*]({best})"]
    parts += [f"*{work.venue}*"] if work.venue else []
    parts += [f"[{name}]({link})" for name, link in others]
    return f"- {'，'.join(parts)}。见{'、'.join(cited)}。\n  {{: #{work.key} }}"


LISTS: dict[str, Callable[[Book], str]] = {
    "downloads": lambda book: downloads.listing(book.root),
    "exercises": exercises,
    "clinic": clinic,
    "figures": figures,
    "results": results,
    "references": references,
}
