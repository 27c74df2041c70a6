"""Keep what the modules made in `.build/`: checked when read, replaced whole or not at all.

.build/<part>/<chapter>/<function>.json     one record per figure or experiment
.build/<part>/<chapter>/<name>.light.svg    the files of a figure
.build/<part>/<chapter>/<name>.dark.svg
.build/<part>/<chapter>/notebook.ipynb      the chapter as a notebook, run
.build/<part>/<chapter>/cells.outputs.json  what its cells gave
.build/downloads/                           the book to take away: zip, plain text
.build/labs/<name>.ipynb                    a lab's notebook as it was executed
.build/labs/printed/<name>.ipynb            the same as mkdocs-jupyter renders it
.build/formulas.json                        the book's formulas as MathML
.build/pages.pickle                         the pages as they were last rendered
.build/cards.pickle                         the chapters' cards for other sites
.build/lock                                 held by the build that is running modules
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import filelock

from publishing import PublishingError
from publishing.modules import Module

THEMES = ("light", "dark")


def build_folder(root: Path) -> Path:
    return root / ".build"


def machine() -> str:
    """Name the processor, for the line that says where a page's numbers were measured."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


@dataclass
class Record:
    """What one function of a module gave, and when, where and on what."""

    function: str
    key: str
    date: str
    cpu_seconds: float
    machine: str
    versions: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)  # file name → sha256
    seeds: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a worker hands back: two SVGs, or values over seeds, or cells' outputs, or an error.

    It lives here, and not in `worker`, so that the parent can receive it without loading torch.
    """

    cpu_seconds: float = 0.0
    error: str | None = None
    svgs: dict[str, bytes] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    outputs: list[list[dict]] = field(default_factory=list)  # of each cell of a notebook


def _cannot_write(path: Path, error: OSError) -> PublishingError:
    return PublishingError(
        f"cannot write {path}: {error.strerror}. Earlier results are unchanged; "
        "free some space, fix the permissions or delete .build, and run again."
    )


def write_atomically(path: Path, data: bytes) -> bool:
    """Write a file whole or not at all, and only if its bytes change; say whether it did.

    Raises:
        PublishingError: the folder cannot be written to (disk full, no permission).
    """
    with contextlib.suppress(OSError):
        if path.read_bytes() == data:
            return False
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    return True


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _pack(record: Record) -> bytes:
    body = asdict(record)
    text = json.dumps(body, sort_keys=True)
    return json.dumps({"sha256": _sha256(text.encode()), "record": body}, indent=1).encode()


def _unpack(data: bytes) -> Record | None:
    try:
        envelope = json.loads(data)
        body = envelope["record"]
        if envelope["sha256"] != _sha256(json.dumps(body, sort_keys=True).encode()):
            return None
        return Record(**body)
    except (ValueError, KeyError, TypeError):
        return None


NOTEBOOK_FILES = {"cells": "cells.outputs.json", "notebook": "notebook.ipynb"}
"""Of a chapter's notebook: the record, and the file that it vouches for."""

KEPT = ("cards.pickle", "formulas.json", "pages.pickle", "downloads.json", "standalone.json")
"""What builds keep beside the modules' results, only to be faster; see `keep`."""


def recall(root: Path, name: str, version: str) -> bytes | None:
    """Return what was kept under a name and a version; None if it is missing, old or damaged."""
    try:
        head, _, body = (build_folder(root) / name).read_bytes().partition(b"\n")
    except OSError:
        return None
    return body if head == f"{version} {_sha256(body)}".encode() else None


def keep(root: Path, name: str, version: str, body: bytes) -> None:
    """Keep bytes for later builds; a disk that takes none makes them slower, and nothing else."""
    with contextlib.suppress(PublishingError):
        head = f"{version} {_sha256(body)}\n".encode()
        write_atomically(build_folder(root) / name, head + body)


def fingerprint(module: Module) -> str:
    """Hash what is stored of a module, figures included; no results, no hash worth comparing."""
    digest = hashlib.sha256()
    for name in (*module.figures, *module.experiments):
        for function in (f"figure_{name}", f"experiment_{name}"):
            with contextlib.suppress(OSError):
                digest.update((folder(module) / f"{function}.json").read_bytes())
    return digest.hexdigest()


def folder(module: Module) -> Path:
    return build_folder(module.root) / module.path


def figure_file(module: Module, name: str, theme: str) -> Path:
    return folder(module) / f"{name}.{theme}.svg"


def figure_size(module: Module, name: str, theme: str) -> tuple[int, int]:
    """Return a drawing's width and height in CSS pixels; its root element states them in points.

    Zeros stand for a drawing that is missing.
    """
    try:
        svg = figure_file(module, name, theme).read_bytes()
    except OSError:
        return 0, 0
    root = svg[: svg.index(b">", svg.index(b"<svg"))]
    width, height = (
        float(re.search(rb'\b%s="([\d.]+)pt"' % side, root)[1]) for side in (b"width", b"height")
    )
    return round(width * 4 / 3), round(height * 4 / 3)


def load(module: Module, function: str, key: str | None = None) -> Record | None:
    """Return a function's record, or None if there is none, it is damaged or has another key.

    A truncated or edited record or figure counts as missing, so that it is made again.
    """
    try:
        record = _unpack((folder(module) / f"{function}.json").read_bytes())
        if record is None or (key is not None and record.key != key):
            return None
        for name, digest in record.files.items():
            if _sha256((folder(module) / name).read_bytes()) != digest:
                return None
    except OSError:
        return None
    return record


def load_all(module: Module) -> list[Record]:
    """Return the records of a module's figures, then of its experiments, in file order."""
    functions = [f"figure_{name}" for name in module.figures]
    functions += [f"experiment_{name}" for name in module.experiments]
    return [record for name in functions if (record := load(module, name))]


def save(module: Module, record: Record, svgs: dict[str, bytes]) -> None:
    """Write a figure's files, then the record that vouches for them."""
    name = record.function.removeprefix("figure_")
    save_files(
        module, record, {figure_file(module, name, t).name: data for t, data in svgs.items()}
    )


def save_files(module: Module, record: Record, files: dict[str, bytes]) -> None:
    """Write files into a module's folder, then the record that vouches for them."""
    for name, data in files.items():
        write_atomically(folder(module) / name, data)
        record.files[name] = _sha256(data)
    write_atomically(folder(module) / f"{record.function}.json", _pack(record))


def prune(modules: list[Module]) -> None:
    """Delete what no function of any module makes any more, and what an interruption left.

    Not while another build holds the lock: its files are about to be wanted.
    """
    if not modules or not build_folder(modules[0].root).is_dir():
        return
    build = build_folder(modules[0].root)
    wanted = {build / name for name in KEPT}
    for module in modules:
        for name in module.figures:
            wanted |= {folder(module) / f"figure_{name}.json"}
            wanted |= {figure_file(module, name, theme) for theme in THEMES}
        for name in module.experiments:
            wanted |= {folder(module) / f"experiment_{name}.json"}
        for function, file in NOTEBOOK_FILES.items():
            wanted |= {folder(module) / f"{function}.json", folder(module) / file}
    # Only housekeeping: a folder that cannot be written to is left as it is.
    with contextlib.suppress(OSError), filelock.FileLock(build / "lock", timeout=0):
        made = {".ipynb", ".json", ".pickle", ".svg", ".part"}
        for file in build.rglob("*"):
            ours = file.suffix in made and build / "labs" not in file.parents  # see labs.prune
            if ours and file.is_file() and file not in wanted:
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(root: Path, waiting=lambda: None) -> Iterator[None]:
    """Hold `.build/lock`; a second build waits, then finds everything done.

    The operating system releases the lock when its holder dies, however it dies.
    """
    path = build_folder(root) / "lock"
    guard = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=0)
        except filelock.Timeout:
            waiting()
            guard.acquire()
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield
    finally:
        guard.release()
