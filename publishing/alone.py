"""Make a chapter's code run where the book is not: what it takes from elsewhere is written out.

A chapter may import `snippets/data.py` and read its record; whoever downloads one file has neither.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from publishing import PublishingError, store
from publishing.modules import SECTION_END, SECTION_START, Module

DATA = "data"
"""The one module that chapters may import: `snippets/data.py`."""

KEPT = "standalone.json"

IMPORTS = ast.Import | ast.ImportFrom
BLOCKS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
RECORD_PATH = re.compile(r'(?m)^RECORD = .*__file__.*"([\w.]+\.json)"$')
"""How a chapter names its record, which lies beside the book's code."""


def _bound_by_target(target: ast.expr) -> Iterator[str]:
    """Yield what an assignment binds or, as in `table["x"] = 1`, changes."""
    for node in ast.walk(target):
        if isinstance(node, ast.Name):
            yield node.id


def bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds or changes in the scope it stands in."""
    if isinstance(statement, BLOCKS):
        return {statement.name}
    if isinstance(statement, IMPORTS):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    names: set[str] = set()
    for node in _in_scope(statement):
        if isinstance(node, ast.Assign | ast.Delete):
            for target in node.targets:
                names |= set(_bound_by_target(target))
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr):
            names |= set(_bound_by_target(node.target))
        elif isinstance(node, ast.withitem) and node.optional_vars:
            names |= set(_bound_by_target(node.optional_vars))
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif isinstance(node, BLOCKS | IMPORTS):
            names |= bound(node)
    return names


def _in_scope(statement: ast.AST) -> Iterator[ast.AST]:
    """Yield a statement and what is below it, but nothing inside functions and classes."""
    yield statement
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, BLOCKS):
            yield child
        elif not isinstance(child, ast.Lambda):
            yield from _in_scope(child)


def used(node: ast.AST) -> set[str]:
    """Return every name that a piece of code mentions, whether its own or from outside."""
    names = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    for child in ast.walk(node):  # `def f(x: "Tensor")`
        if isinstance(child, ast.arg) and isinstance(child.annotation, ast.Constant):
            names |= set(re.findall(r"\w+", str(child.annotation.value)))
    return names


def closure(tree: ast.Module, names: Iterable[str]) -> list[ast.stmt]:
    """Return the top-level statements that define some names and all that these need, in order.

    Raises:
        PublishingError: nothing at the top level defines one of the names.
    """
    makers: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        if not isinstance(statement, ast.If) or not _is_main(statement):
            for name in bound(statement):
                makers.setdefault(name, []).append(statement)
    queue, wanted = list(names), set()
    if missing := [name for name in queue if name not in makers]:
        raise PublishingError(f"nothing at the top level defines: {', '.join(missing)}")
    kept: set[ast.stmt] = set()
    while queue:
        name = queue.pop()
        if name in wanted:
            continue
        wanted.add(name)
        for statement in makers.get(name, []):
            if statement not in kept:
                kept.add(statement)
                if not isinstance(statement, IMPORTS):
                    queue += used(statement)
    needed = {name for name in wanted if name in makers}
    return [_narrowed(statement, needed) for statement in tree.body if statement in kept]


def _narrowed(statement: ast.stmt, names: set[str]) -> ast.stmt:
    """Leave of an import only what is needed."""
    if not isinstance(statement, IMPORTS):
        return statement
    kept = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) in names]
    if len(kept) == len(statement.names):
        return statement
    narrow = type(statement)(**{key: getattr(statement, key) for key in statement._fields})
    narrow.names = kept
    return ast.copy_location(narrow, statement)


def _is_main(statement: ast.If) -> bool:
    return "__name__" in used(statement.test)


def text_of(statement: ast.stmt, source: str) -> str:
    """Return a statement's lines, with its decorators and the comments right above it."""
    if isinstance(statement, IMPORTS):
        return ast.unparse(statement)
    lines = source.splitlines()
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    while (
        first > 1
        and lines[first - 2].startswith("#")
        and not (SECTION_START.match(lines[first - 2]) or SECTION_END.match(lines[first - 2]))
    ):
        first -= 1
    return "\n".join(lines[first - 1 : statement.end_lineno])


def joined(statements: list[ast.stmt], source: str) -> str:
    """Write statements out as a program: imports first, two blank lines around definitions."""
    text = "\n".join(ast.unparse(s) for s in statements if isinstance(s, IMPORTS))
    before: ast.stmt | None = None
    for statement in statements:
        if not isinstance(statement, IMPORTS):
            close = before and not isinstance(statement, BLOCKS) and not isinstance(before, BLOCKS)
            text += ("\n" if close else "\n\n\n") + text_of(statement, source)
            before = statement
    return text.strip("\n")


@dataclass
class Detached:
    """Code that no longer imports the book, and what of `snippets/data.py` it needs instead."""

    code: str
    needs: list[str] = field(default_factory=list)


def detach(code: str, where: str) -> Detached:
    """Take the imports of the book's data loaders out of a program.

    They may stand at the top level or inside functions.

    Raises:
        PublishingError: it imports anything else of the book, or renames what it imports.
    """
    if "snippets" not in code:
        return Detached(code)
    needs: list[str] = []
    cut: set[int] = set()
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, IMPORTS):
            continue
        origin = getattr(node, "module", None)
        names = [origin or ""] if origin else [alias.name for alias in node.names]
        if not any(name.partition(".")[0] == "snippets" for name in names):
            continue
        if origin != f"snippets.{DATA}" or any(alias.asname for alias in node.names):
            raise PublishingError(
                f"{where}: of the book, only loaders can be imported, each under its own name: "
                f"write 'from snippets.{DATA} import …'"
            )
        needs += [alias.name for alias in node.names]
        cut |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    kept = [line for number, line in enumerate(code.splitlines(), 1) if number not in cut]
    return Detached("\n".join(kept).rstrip("\n") + "\n", list(dict.fromkeys(needs)))


def loaders(module: Module) -> Module:
    """Return `snippets/data.py`, as a module that imports it has read it."""
    imported = {other.path: other for other in module.local_imports}
    return imported.get(DATA) or Module(DATA, module.root)


def data_code(needs: list[str], data: Module) -> str:
    """Write out what is needed of `snippets/data.py`.

    Raises:
        PublishingError: it does not define one of the names.
    """
    try:
        return joined(closure(data.tree, needs), data.source)
    except PublishingError as error:
        raise PublishingError(f"{data.relative_file}: {error}") from error


def _defined(statements: Iterable[ast.stmt]) -> set[str]:
    """Return what statements bind otherwise than by importing it."""
    return {name for s in statements if not isinstance(s, IMPORTS) for name in bound(s)}


def standalone(module: Module) -> str:
    """Return a chapter's whole file so that it runs alone in an empty folder.

    The data loaders stand below its imports; its record is looked for beside the file.

    Raises:
        PublishingError: it imports more of the book, or defines a name of the loaders itself.
    """
    where = module.relative_file
    detached = detach(module.source, where)
    source = RECORD_PATH.sub(
        lambda match: f'RECORD = Path(__file__).with_name("{match[1]}")', detached.code
    )
    if not detached.needs:
        return source
    data = loaders(module)
    tree = ast.parse(source)
    added = closure(data.tree, detached.needs)
    if clash := _defined(tree.body) & _defined(added):
        raise PublishingError(
            f"{where}: {', '.join(sorted(clash))} is defined here and among the data loaders that "
            "it imports; rename it, so that the downloaded file can hold both"
        )
    lines = source.splitlines()
    imports = [s.end_lineno for s in tree.body if isinstance(s, IMPORTS)]
    last = max((line for line in imports if line), default=0)
    while last < len(lines) and SECTION_END.match(lines[last]):
        last += 1
    note = f"# From {data.relative_file}, written out so that this file runs alone."
    body = f"{note}\n{joined(added, data.source)}"
    return "\n".join([*lines[:last], "", body, "", *lines[last:]]) + "\n"


def standalone_files(modules: list[Module]) -> dict[str, str]:
    """Return the standalone text of every module by its path, kept from build to build.

    Raises:
        PublishingError: see `standalone`.
    """
    if not modules:
        return {}
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in modules:
        digest.update(repr((module.path, module.source)).encode())
    root, version = modules[0].root, digest.hexdigest()
    if kept := store.recall(root, KEPT, version):
        return json.loads(kept)
    files = {module.path: standalone(module) for module in modules}
    store.keep(root, KEPT, version, json.dumps(files).encode())
    return files
