"""What the tests of the built site share: its pages, a build, a server, a browser tab."""

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from publishing import ROOT
from publishing.modules import find_modules

REPO_URL = "https://github.example/someone/notes"
SITE_URL = "https://someone.example/notes/"
BASE = urlsplit(SITE_URL).path
"""The site is served below the same path as in the world, so that the 404 page's links work."""

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    # Names do not resolve: a request to anybody else cannot succeed by accident.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def _strings(entry) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        yield from _strings(list(entry.values()))
    elif isinstance(entry, list):
        for one in entry:
            yield from _strings(one)


def _nav() -> list[str]:
    """Return the source paths of mkdocs.yml's nav; its tags (`!ENV`) mean nothing here."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return list(_strings(yaml.load(text, Loader)["nav"]))


def _address(source: str) -> str:
    path = source.removesuffix(".md").removesuffix("index")
    return path if path.endswith("/") or not path else f"{path}/"


SOURCES = _nav()
"""The pages' source files, in the order of the navigation."""
NAV = [_address(source) for source in SOURCES]
LABS = [path for path in NAV if path.startswith("labs/")]
CHAPTERS = [path for path in NAV if path.count("/") == 2 and path not in LABS]
CODE = [_address(f"code/{module.path}") for module in find_modules()]
PAGES = [*NAV, *CODE, "404.html"]
"""Every page of the site, as an address below its root; the front page is ''."""


BESIDE = {"book.pdf", "notes-offline.zip"}
"""Made from the finished site and published beside it: `make pdf`, `make offline`."""


def build(folder: Path, before: str = "", **environment: str) -> None:
    """Build the site strictly into a folder, in a process of its own.

    Args:
        folder: where the site goes.
        before: Python to run in that process first.
        environment: REPO_URL, SITE_URL and the like.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in {"REPO_URL", "SITE_URL"}}
    run = f"{before}\nfrom mkdocs.__main__ import cli; cli()"
    done = subprocess.run(
        [sys.executable, "-c", run, "build", "--strict", "-d", str(folder)],
        cwd=ROOT,
        env=inherited | {"NO_MKDOCS_2_WARNING": "1"} | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"mkdocs build --strict failed:\n{done.stdout}{done.stderr}", pytrace=False)


def file_of(site: Path, page: str) -> Path:
    return site / page if page.endswith(".html") else site / page / "index.html"


COMPRESSED = {".html", ".css", ".js", ".json", ".svg", ".xml", ".py", ".txt", ".map"}


class Server(ThreadingHTTPServer):
    """Serves a folder below BASE; notes every path asked for."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{BASE}"

    @cache  # noqa: B019  one server a session
    def answer(self, path: str) -> tuple[int, str, bool, bytes]:
        file = self.folder / path.removeprefix(BASE)
        if path.endswith("/"):
            file /= "index.html"
        status = 200
        if not path.startswith(BASE) or not file.is_file():
            status, file = 404, self.folder / "404.html"
        kind = guess_type(file.name)[0] or "application/octet-stream"
        if kind.startswith("text/") or kind.endswith(("javascript", "json")):
            kind += "; charset=utf-8"
        small = file.suffix in COMPRESSED
        data = file.read_bytes()
        return status, kind, small, gzip.compress(data, 6) if small else data


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        status, kind, small, data = self.server.answer(path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "max-age=600")
        if small:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


class Visitor:
    """One browser tab, and what went wrong in it."""

    def __init__(self, context, address: str):
        self.context, self.address = context, address
        self.page = context.new_page()
        self.requests: list = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._response)

    def _console(self, message) -> None:
        if message.type in {"error", "warning"} and "status of 404" not in message.text:
            self.complaints.append(f"console {message.type}: {message.text}")

    def _failed(self, request) -> None:
        # Aborted: the browser itself gave up, on a favicon say, because the next page was opened.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed ({request.failure}): {request.url}")

    def _response(self, response) -> None:
        expected = response.request.is_navigation_request() and response.url.endswith("/404.html")
        if response.status >= 400 and not expected:
            self.complaints.append(f"status {response.status}: {response.url}")

    @property
    def foreign(self) -> list[str]:
        """Requests to anybody but the server."""
        own = (self.address, "data:", "blob:")
        return [request.url for request in self.requests if not request.url.startswith(own)]

    def open(self, path: str, details: bool = False):
        """Go to a page, wait until it and the theme are ready, unfold its boxes if asked."""
        self.requests.clear()
        self.complaints.clear()
        self.page.goto(self.address + path)
        self.page.wait_for_function("window.document$")  # the theme's script sets it
        if details:
            self.page.evaluate(
                "for (const box of document.querySelectorAll('details')) box.open = true"
            )
        return self.page


def load_images(tab) -> None:
    """Load the images that are shown, those far below as well."""
    tab.evaluate(
        """async () => {
            const shown = [...document.images].filter(i => getComputedStyle(i).display !== 'none')
            for (const image of shown) image.loading = 'eager'
            await Promise.all(shown.map(image => image.decode()))
        }"""
    )
