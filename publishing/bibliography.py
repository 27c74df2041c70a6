"""The works that the book cites: `docs/references.bib`, and which page links to which work.

A chapter cites a work by an ordinary link; the link is what ties it to its entry, by DOI, arXiv
number or address. Documentation, source code and discussions are linked without an entry.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pybtex.backends.plaintext import Backend
from pybtex.database import Entry, Person, parse_file
from pybtex.exceptions import PybtexError
from pybtex.richtext import Text
from pybtex.style.names.plain import NameStyle

from publishing import PublishingError

# A link's address; it may hold brackets in pairs, as some DOIs do.
EXTERNAL = re.compile(r"\]\((https?://(?:[^()\s]|\([^()\s]*\))+)\)")
FORMS = {
    "year": re.compile(r"(1[89]|20)\d\d"),
    "doi": re.compile(r"10\.\d{4,9}/\S+"),
    "eprint": re.compile(r"\d{4}\.\d{4,5}"),
    "url": re.compile(r"https://\S+"),
}
"""What a field must look like; an eprint is an arXiv number."""

DOCUMENTATION = {
    "docs.nvidia.com",
    "docs.pytorch.org",
    "github.com",
    "images.nvidia.com",
    "inria.github.io",
    "llmstxt.org",
    "numpy.org",
    "pandas.pydata.org",
    "pillow.readthedocs.io",
    "python-markdown.github.io",
    "pytorch.org",
    "scikit-learn.org",
}
"""Hosts of manuals, source code and discussions: links to them need no entry."""


@dataclass(frozen=True)
class Work:
    """An entry of the bibliography, ready to print.

    Attributes:
        family: the first author's family name, by which the list is sorted.
        authors: up to three authors, of more the first and 等.
        venue: journal, conference or publisher; may be empty.
        links: the work's addresses by what they are called, the best first.
    """

    key: str
    family: str
    authors: str
    title: str
    venue: str
    year: str
    links: dict[str, str]

    def is_at(self, link: str) -> bool:
        """Say whether a link leads to this work, or to a part of it below an address with a /."""
        wanted = identity(link)
        own = [identity(address) for address in self.links.values()]
        return any(wanted == one or (one.endswith("/") and wanted.startswith(one)) for one in own)


@cache
def identity(link: str) -> str:
    """Reduce a link to what names the work: `doi:…`, `arxiv:…`, or host and path."""
    parts = urlsplit(link)
    host, path = parts.netloc.lower().removeprefix("www."), unquote(parts.path)
    if host == "doi.org":
        return f"doi:{path.strip('/').lower()}"
    if host == "arxiv.org":
        number = path.rpartition("/")[2].removesuffix(".pdf")
        return "arxiv:" + re.sub(r"v\d+$", "", number)
    return host + path


def needs_an_entry(link: str) -> bool:
    return urlsplit(link).netloc.lower() not in DOCUMENTATION


def cited(text: str) -> list[str]:
    """Return the links of a page's Markdown that need an entry."""
    return [link for link in EXTERNAL.findall(text) if needs_an_entry(link)]


def read(file: Path) -> list[Work]:
    """Read a BibTeX file, sorted by first author, year and title.

    Raises:
        PublishingError: it is no BibTeX, a key comes twice, a field is missing or ill-formed.
    """
    try:
        entries = parse_file(file, bib_format="bibtex").entries
    except (PybtexError, OSError) as error:
        raise PublishingError(f"{file.name}: {error}") from error
    works = [_work(file, key, entry) for key, entry in entries.items()]
    return sorted(works, key=lambda work: (work.family.lower(), work.year, work.title))


def _work(file: Path, key: str, entry: Entry) -> Work:
    fields, people = entry.fields, entry.persons.get("author", [])
    missing = [name for name in ("title", "year") if name not in fields]
    missing += [] if people else ["author"]
    missing += [] if {"doi", "eprint", "url"} & set(fields) else ["doi, eprint or url"]
    if missing:
        raise PublishingError(f"{file.name}: {key} has no {', '.join(missing)}")
    for name, form in FORMS.items():
        if name in fields and not form.fullmatch(fields[name]):
            raise PublishingError(f"{file.name}: {key} has an ill-formed {name}: {fields[name]}")
    venues = ("journal", "booktitle", "publisher", "institution", "howpublished")
    return Work(
        key=key,
        family=_family(people[0]),
        authors=_authors(people),
        title=_plain(fields["title"]),
        venue=next((_plain(fields[name]) for name in venues if name in fields), ""),
        year=fields["year"],
        links=_links(fields),
    )


def _links(fields: dict[str, str]) -> dict[str, str]:
    found = {}
    if "doi" in fields:
        # Brackets would end a Markdown link.
        found["DOI"] = "https://doi.org/" + fields["doi"].replace("(", "%28").replace(")", "%29")
    if "eprint" in fields:
        found["arXiv"] = f"https://arxiv.org/abs/{fields['eprint']}"
    if "url" in fields:
        found["网页"] = fields["url"]
    return found


def _plain(latex: str) -> str:
    return str(Text.from_latex(latex))


def _family(person: Person) -> str:
    return _plain(" ".join([*person.prelast_names, *person.last_names]))


def _authors(people: list[Person]) -> str:
    style, plain_text = NameStyle(), Backend()
    names = [
        style.format(person, abbr=True).format().render(plain_text).replace("\u00a0", " ")
        for person in people
    ]
    if len(names) > 3 or names[-1] == "others":
        return f"{names[0]} 等"
    return ", ".join(names)
