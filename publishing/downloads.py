"""The book to take away: one zip archive, `llms.txt` and `llms-full.txt` (https://llmstxt.org).

They are made only when something in them has changed, and have the same bytes wherever they are
made from the same things.
"""

import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import yaml

from publishing import alone, contract, notebooks, plain, store
from publishing.modules import Module

ARCHIVE, INDEX, WHOLE = "notes.zip", "llms.txt", "llms-full.txt"
KEPT = "downloads.json"
PROGRAMS = (*notebooks.PROGRAMS, "downloads")

CONTENTS = """\
# {name}

{description}

网站：<{url}>

| 文件夹 | 内容 |
|---|---|
| `notebooks/` | 每章一个 Jupyter 笔记本，带输出，各自能单独运行 |
| `code/` | 每章一个 Python 文件，各自能单独运行 |
| `figures/` | 全部图，SVG |
| `text/` | 全部正文，纯 Markdown |

代码采用 MIT 许可（LICENSE），文字采用 CC BY-SA 4.0（LICENSE-TEXT）。
"""


@dataclass(frozen=True)
class Site:
    """What the downloads say about the book as a whole; its pages, by the nav's sections."""

    name: str
    description: str
    url: str
    sections: dict[str, list[str]]


def sections(nav: list, rest: str = "开始") -> dict[str, list[str]]:
    """Return the pages of a nav by section; those outside any go into one of their own."""
    found: dict[str, list[str]] = {}
    for entry in nav or []:
        named = entry.items() if isinstance(entry, dict) else [(rest, entry)]
        for title, inner in named:
            pages = list(_pages(inner))
            found.setdefault(rest if isinstance(inner, str) else title, []).extend(pages)
    return found


def _pages(entry) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from _pages(inner)


def folder(root: Path) -> Path:
    return store.build_folder(root) / "downloads"


def _index(site: Site, texts: dict[str, str], taken: set[str]) -> str:
    """Write `llms.txt`: what the book is, then a link and a sentence for each page."""
    lines = [f"# {site.name}", "", f"> {site.description}", ""]
    lines += [f"- [全书的纯文本]({site.url.rstrip('/')}/{WHOLE})：一个文件", ""]
    for title, pages in site.sections.items():
        lines += [f"## {title}", ""]
        for page in filter(texts.__contains__, pages):
            front_matter = contract.FRONT_MATTER.match(texts[page])
            meta = (yaml.safe_load(front_matter[1]) if front_matter else None) or {}
            address = plain.address(page, site.url)
            address += "index.html.md" if page in taken else ""
            lines.append(f"- [{meta.get('title', page)}]({address})：{meta.get('description', '')}")
        lines.append("")
    return "\n".join(lines)


def _contents(
    site: Site, root: Path, modules: list[Module], texts: dict[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every file of the archive."""
    yield "README.md", CONTENTS.format(**site.__dict__).encode()
    for name in ("LICENSE", "LICENSE-TEXT"):
        with contextlib.suppress(OSError):
            yield name, (root / name).read_bytes()
    standalone = alone.standalone_files(modules)
    for module in modules:
        yield f"code/{module.path}.py", standalone[module.path].encode()
        if module.record_file.is_file():
            beside = module.path.rpartition("/")[0]
            yield f"code/{beside}/{module.record_file.name}", module.record_file.read_bytes()
        for name in module.figures:
            yield (
                f"figures/{module.path}/{name}.svg",
                store.figure_file(module, name, "light").read_bytes(),
            )
        if file := notebooks.file(module):
            yield f"notebooks/{module.path}.ipynb", file.read_bytes()
    for page, text in texts.items():
        yield f"text/{page}", text.encode()


def archive(contents: dict[str, bytes]) -> bytes:
    """Return a zip archive whose bytes depend on its contents alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(contents):
            info = zipfile.ZipInfo(f"notes/{name}", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # the same everywhere
            info.external_attr = 0o644 << 16
            packed.writestr(info, contents[name], compresslevel=6)
    return buffer.getvalue()


def _key(
    site: Site, root: Path, modules: list[Module], texts: dict[str, str], made: dict[Module, str]
) -> str:
    licences = [root / "LICENSE", root / "LICENSE-TEXT"]
    return notebooks.digest_of(
        repr(site),
        repr(sorted(texts.items())),
        *(f"{module.path} {module.source} {store.fingerprint(module)}" for module in modules),
        *(m.record_file.read_text(encoding="utf-8") for m in modules if m.record_file.is_file()),
        *(f"{module.path} {key}" for module, key in sorted(made.items(), key=lambda x: x[0].path)),
        *(file.read_text(encoding="utf-8") for file in licences if file.is_file()),
        notebooks.programs_text(PROGRAMS),
    )


def _is_current(root: Path, key: str) -> bool:
    """Say whether all files are there, undamaged, as made under a key."""
    kept = store.recall(root, KEPT, key)
    if kept is None:
        return False
    try:
        return all(
            sha256((folder(root) / name).read_bytes()).hexdigest() == digest
            for name, digest in json.loads(kept).items()
        )
    except OSError:
        return False


def bring_up_to_date(
    site: Site,
    modules: list[Module],
    texts: dict[str, str],
    gathered: set[str],
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Make the notebooks, then the archive and the plain texts, where they are missing or stale.

    Args:
        site: the book as a whole.
        modules: all snippet modules, up to date.
        texts: the Markdown of every page in the nav, by its path.
        gathered: pages that only repeat what others say; they are not taken away.

    Raises:
        PublishingError: a page cannot be read, or a notebook does not run.
    """
    root = modules[0].root
    by_path = {module.path: module for module in modules}
    sources = [
        plain.Source(page, text, site.url, by_path.get(path) or Module(path, root))
        for page, text in texts.items()
        if page not in gathered
        for path in [page.removesuffix(".md")]
    ]
    chapters = [s for s in sources if s.module.path in by_path and "/" in s.page]
    made = notebooks.bring_up_to_date(chapters, report)
    key = _key(site, root, modules, texts, made)
    if _is_current(root, key):
        return
    plain_texts = {source.page: plain.text(source) for source in sources}
    packed = archive(dict(_contents(site, root, modules, plain_texts)))
    files = {
        ARCHIVE: packed,
        INDEX: _index(site, texts, set(plain_texts)).encode(),
        WHOLE: "\n\n".join(plain_texts.values()).encode(),
    }
    for name, data in files.items():
        store.write_atomically(folder(root) / name, data)
    digests = {name: sha256(data).hexdigest() for name, data in files.items()}
    store.keep(root, KEPT, key, json.dumps(digests).encode())
    report(f"packed {ARCHIVE}: {len(packed) / 1e6:.1f} MB")


def publish(root: Path, modules: list[Module], site_folder: Path) -> None:
    """Copy to a finished site what there is to be downloaded.

    Beside each page of the book lies its plain text, `index.html.md`, as llmstxt.org proposes.
    """
    for module in modules:
        if file := notebooks.file(module):
            target = site_folder / "notebooks" / f"{module.path}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    for name in (ARCHIVE, INDEX, WHOLE):
        if (folder(root) / name).is_file():
            shutil.copyfile(folder(root) / name, site_folder / name)
    with contextlib.suppress(OSError), zipfile.ZipFile(folder(root) / ARCHIVE) as packed:
        for name in packed.namelist():
            page = name.removeprefix("notes/text/")
            if page != name:
                target = site_folder / plain.address(page, "").lstrip("/") / "index.html.md"
                if target.parent.is_dir():
                    target.write_bytes(packed.read(name))


def listing(root: Path) -> str:
    """Return the list of the downloads of the whole book, with their sizes."""
    descriptions = {
        ARCHIVE: "全部笔记本、Python 文件、图和正文",
        WHOLE: "全书正文，一个 Markdown 文件",
        INDEX: "目录，每页一句话，给读网页的程序",
    }
    lines = []
    for name, description in descriptions.items():
        with contextlib.suppress(OSError):
            size = (folder(root) / name).stat().st_size
            shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"
            link = f'<a href="../{name}" download>{name}</a>'
            lines.append(f"- {link}（{shown}）：{description}。")
    return "\n".join(lines) or "运行一次 `make site`，下载的文件就会列在这里。"
