"""`python -m publishing.offline`: pack the finished site into a zip that opens from a disk.

A browser that opens a file, not an address, shows a folder instead of its `index.html`, refuses
workers and fetching, and refuses a font asked for ahead. So links name the file, the search index
becomes a script, a shim stands in for the worker, and the font is left to the style sheet.

Links are replaced by pattern: the HTML libraries at hand write attributes of SVG in lower case.
"""

import argparse
import html
import json
import posixpath
import re
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from publishing import ROOT, PublishingError

SHIM = Path(__file__).parent / "iframe_worker"
FOLDER = "notes-offline"
"""The one folder that the zip unpacks to."""

LEFT_OUT = re.compile(
    r"404\.html|sitemap\.xml(\.gz)?|search/search_index\.json|book\.pdf|notes-offline\.zip|.*\.map"
)
"""What is of no use on a disk, by its path in the site."""

LINK = re.compile(r'(<(?:a|area|link)\b[^<>]*?\shref=")([^"]*)(")')
FONT_AHEAD = re.compile(r'<link rel="preload"[^<>]*\scrossorigin[^<>]*>')
BUNDLE = re.compile(r'<script src="([^"]*)assets/javascripts/bundle\.[^"]*"></script>')
CANONICAL = re.compile(r'<link rel="canonical" href="([^"]*)"')
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The date of every file in the zip, so that the same site gives the same bytes."""


def _files(site: Path) -> dict[str, Path]:
    """Return the files that are packed, by their path below the site's root, in order."""
    found = {file.relative_to(site).as_posix(): file for file in site.rglob("*") if file.is_file()}
    return {path: found[path] for path in sorted(found) if not LEFT_OUT.fullmatch(path)}


def _target(link: str, page: str, packed: set[str], root: str) -> str:
    """Return a link that leads to a file, or to the published site for what is not packed."""
    address, mark, name = link.partition("#")
    if not address or urlsplit(link).scheme:
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(address)))
    if path in packed:
        return link
    if posixpath.normpath(f"{path}/index.html") in packed:
        return f"{address.rstrip('/')}/index.html{mark}{name}"
    return urljoin(urljoin(root, posixpath.dirname(page) + "/"), link)


def opened_from_disk(text: str, page: str, packed: set[str]) -> str:
    """Return a page of the site as it has to be in a folder on a disk.

    Args:
        text: the page's HTML.
        page: its path below the site's root (`linear/gradient_descent/index.html`).
        packed: the paths of all files beside it.

    Raises:
        PublishingError: the page has no script of the theme, before which the shim must come.
    """
    canonical = CANONICAL.search(text)
    depth = page.count("/")
    root = urljoin(canonical[1], "../" * depth or ".") if canonical else ""

    def link(match: re.Match) -> str:
        target = _target(html.unescape(match[2]), page, packed, root)
        return f"{match[1]}{html.escape(target)}{match[3]}"

    text, found = BUNDLE.subn(r'<script src="\1assets/iframe-worker.js"></script>\g<0>', text)
    if not found:
        raise PublishingError(f"{page}: no script of the theme found; its pattern has changed")
    return LINK.sub(link, FONT_AHEAD.sub("", text))


def search_script(index: str) -> str:
    """Return the search index as a script that sets `__index`, its links naming files."""
    parsed = json.loads(index)
    for entry in parsed["docs"]:
        address, mark, name = entry["location"].partition("#")
        if not address or address.endswith("/"):
            entry["location"] = f"{address}index.html{mark}{name}"
    return f"var __index = {json.dumps(parsed, ensure_ascii=False, separators=(',', ':'))}\n"


def write_zip(site: Path, target: Path) -> int:
    """Pack a finished site and return the number of files.

    Raises:
        PublishingError: there is no finished site in the folder.
    """
    index = site / "search" / "search_index.json"
    if not index.is_file():
        raise PublishingError(f"{index} does not exist; build the site first: make site")
    files = _files(site)
    contents: dict[str, bytes] = {}
    for path, file in files.items():
        contents[path] = file.read_bytes()
        if path.endswith(".html"):
            page = opened_from_disk(contents[path].decode("utf-8"), path, set(files))
            contents[path] = page.encode("utf-8")
    contents["search/search_index.js"] = search_script(index.read_text("utf-8")).encode("utf-8")
    contents["assets/iframe-worker.js"] = (SHIM / "shim.js").read_bytes()
    contents["assets/iframe-worker.LICENSE"] = (SHIM / "LICENSE").read_bytes()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(contents):
            entry = zipfile.ZipInfo(f"{FOLDER}/{path}", EARLIEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[path], zipfile.ZIP_DEFLATED, 9)
    return len(contents)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m publishing.offline", description=__doc__)
    parser.add_argument("--site", type=Path, default=ROOT / "site", help="the finished site")
    parser.add_argument(
        "--to", type=Path, default=ROOT / "notes-offline.zip", help="the zip to write"
    )
    options = parser.parse_args(arguments)
    try:
        files = write_zip(options.site, options.to)
    except PublishingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.to}: {files} files, {options.to.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
