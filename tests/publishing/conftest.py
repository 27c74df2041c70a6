"""Fixtures: the tiny book, with and without what prints it."""

import re
import shutil
from pathlib import Path

import pytest

from publishing import ROOT
from tests.publishing.tiny import Book


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


@pytest.fixture
def project(book: Book) -> Book:
    """The book with a copy of everything that prints it, so that it can be built on its own."""
    for folder in ("publishing", "docs/theme", "docs/assets"):
        shutil.copytree(
            ROOT / folder, book.root / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    book.write("docs/references.bib", "")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = "nav:\n  - index.md\n  - part/chapter.md\n\n"
    config, replaced = re.subn(r"(?ms)^nav:\n.*?\n(?=\S)", nav, config)
    assert replaced == 1
    book.write("mkdocs.yml", config)
    return book
