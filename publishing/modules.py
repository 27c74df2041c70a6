"""Find the snippet modules and read, without importing them, what they offer."""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from publishing import ROOT, PublishingError

LIBRARIES = ("torch", "torchvision", "numpy", "matplotlib", "scikit-learn", "pandas")
"""Their versions are part of the cache key: a new version runs everything again."""

SECTION_START = re.compile(r"^\s*#\s*--8<--\s*\[start:(\w+)\]\s*$")
SECTION_END = re.compile(r"^\s*#\s*--8<--\s*\[end:(\w+)\]\s*$")


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries the snippets run on."""
    versions = {"python": python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements below a node; not their expressions, which are nine tenths of a tree."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child
            yield from _statements(child)


@dataclass(frozen=True)
class Module:
    """One snippet module, named by its path below `snippets/` without `.py`."""

    path: str
    root: Path = field(default=ROOT, compare=False)

    @property
    def file(self) -> Path:
        return self.root / "snippets" / f"{self.path}.py"

    @property
    def relative_file(self) -> str:
        return f"snippets/{self.path}.py"

    @property
    def record_file(self) -> Path:
        """Results on a real data set, recorded by hand, which the chapter's figures may show."""
        return self.root / "records" / f"{self.path.rpartition('/')[2]}.json"

    @property
    def import_name(self) -> str:
        return "snippets." + self.path.replace("/", ".")

    @cached_property
    def source(self) -> str:
        try:
            return self.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PublishingError(f"{self.relative_file} cannot be read: {error}") from error

    @cached_property
    def tree(self) -> ast.Module:
        try:
            return ast.parse(self.source)
        except SyntaxError as error:
            where = f"{self.relative_file}:{error.lineno or 1}"
            raise PublishingError(f"{where}: {error.msg}: {(error.text or '').strip()}") from error

    def _functions(self, prefix: str) -> list[str]:
        return [
            node.name.removeprefix(prefix)
            for node in self.tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith(prefix)
        ]

    @property
    def figures(self) -> list[str]:
        """Names of the `figure_<name>()` functions, in file order."""
        return self._functions("figure_")

    @property
    def experiments(self) -> list[str]:
        """Names of the `experiment_<name>(seed)` functions, in file order."""
        return self._functions("experiment_")

    @cached_property
    def sections(self) -> dict[str, int]:
        """Names of the `--8<-- [start:name]` sections, in file order, and their lines of code.

        Raises:
            PublishingError: a section is opened twice, closed without being open or left open.
        """
        lines: dict[str, int] = {}
        open_sections: list[str] = []
        for number, line in enumerate(self.source.splitlines(), 1):
            where = f"{self.relative_file}:{number}"
            if match := SECTION_START.match(line):
                if match[1] in lines:
                    raise PublishingError(f"{where}: section '{match[1]}' starts a second time")
                lines[match[1]] = 0
                open_sections.append(match[1])
            elif match := SECTION_END.match(line):
                if match[1] not in open_sections:
                    raise PublishingError(f"{where}: section '{match[1]}' ends but is not open")
                open_sections.remove(match[1])
            else:
                for name in open_sections:
                    lines[name] += 1
        if open_sections:
            raise PublishingError(f"{self.relative_file}: section '{open_sections[0]}' never ends")
        return lines

    @cached_property
    def local_imports(self) -> list["Module"]:
        """Return the modules below `snippets/` that this one imports, directly or not."""
        found: dict[str, Module] = {}
        queue = [self]
        while queue:
            module = queue.pop()
            for node in _statements(module.tree):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    base = node.module or ""
                    if node.level:
                        package = module.import_name.split(".")[: -node.level]
                        base = ".".join([*package, base] if base else package)
                    names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
                else:
                    continue
                for name in names:
                    if not name.startswith("snippets."):
                        continue
                    other = Module(name.removeprefix("snippets.").replace(".", "/"), self.root)
                    if other.path not in found and other.file.is_file():
                        found[other.path] = other
                        queue.append(other)
        return [found[path] for path in sorted(found)]

    def changed_on_disk(self) -> bool:
        """Say whether this module or one that it imports is no longer what was read."""
        return any(
            Module(module.path, module.root).source != module.source
            for module in (self, *self.local_imports)
        )

    def key(self) -> str:
        """Hash what the outcome depends on: code, local imports, record, runner and versions."""
        digest = hashlib.sha256()
        parts = [self.source, *(other.source for other in self.local_imports)]
        if self.record_file.is_file():
            parts.append(self.record_file.read_text(encoding="utf-8"))
        for name in ("worker.py", "figures.py"):
            parts.append((Path(__file__).parent / name).read_text(encoding="utf-8"))
        parts.append(repr(library_versions()))
        for part in parts:
            digest.update(hashlib.sha256(part.encode()).digest())
        return digest.hexdigest()


def find_modules(root: Path = ROOT) -> list[Module]:
    """Return every module below `snippets/`, sorted by path; editors' hidden files are none."""
    folder = root / "snippets"
    return [
        Module(file.relative_to(folder).with_suffix("").as_posix(), root)
        for file in sorted(folder.rglob("*.py"))
        if file.name != "__init__.py"
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
