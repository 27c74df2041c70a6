"""The built site, a server that compresses as a real one does, and one browser for all tests.

The browser is the system's Chromium; without one, the tests that need it are skipped and say so.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tests.site.built import (
    CHROMIUM,
    CHROMIUM_FLAGS,
    REPO_URL,
    SITE_URL,
    Server,
    Visitor,
    build,
    file_of,
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a browser, leave one of the tests that need it: one line says what is missing."""
    needing = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
    if CHROMIUM or not needing:
        return
    reason = f"{len(needing)} browser tests need Chromium and were not run; install `chromium`"
    needing[0].add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=needing[1:])
    items[:] = [item for item in items if item not in needing[1:]]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    build(folder, REPO_URL=REPO_URL, SITE_URL=SITE_URL)
    return folder


@pytest.fixture(scope="session")
def bare_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as built from a copy that is no clone, and without `publishing/repairs.py`."""
    folder = tmp_path_factory.mktemp("bare")
    no_repairs = "from publishing import repairs; repairs.REPAIRS.clear()"
    no_clone = str(folder / "none")
    build(folder / "site", no_repairs, REPO_URL="", SITE_URL=SITE_URL, GIT_DIR=no_clone)
    return folder / "site"


@pytest.fixture(scope="session")
def soup(site: Path) -> Callable[[str], BeautifulSoup]:
    """Return a function: page → its parsed HTML, which the tests share and leave unchanged."""

    @cache
    def parsed(page: str) -> BeautifulSoup:
        return BeautifulSoup(file_of(site, page).read_text(encoding="utf-8"), "lxml")

    return parsed


@pytest.fixture(scope="session")
def server(site: Path) -> Iterator[Server]:
    with Server(site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*CHROMIUM_FLAGS])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def visit(browser, server: Server):
    """Return a context manager that opens a tab: `with visit(width=360) as visitor: …`."""

    @contextmanager
    def visiting(width: int = 1280, height: int = 900, **options) -> Iterator[Visitor]:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        try:
            yield Visitor(context, server.address)
        finally:
            context.close()

    return visiting


@pytest.fixture(scope="module")
def desktop(visit) -> Iterator[Visitor]:
    with visit() as visitor:
        yield visitor


@pytest.fixture(scope="module")
def phone(visit) -> Iterator[Visitor]:
    with visit(width=360, height=740) as visitor:
        yield visitor
