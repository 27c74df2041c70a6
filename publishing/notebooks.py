"""Every chapter as a notebook that runs alone, its outputs in it.

The prose is that of `publishing/plain.py`; a figure becomes a cell with the code that draws it.
What a chapter takes from the book (data loaders, its record) is written out in cells of their own.
"""

import ast
import datetime
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from publishing import PublishingError, alone, pages, plain, runner, store
from publishing.modules import Module, library_versions

PROGRAMS = ("alone", "cells", "markdown", "notebooks", "pages", "plain", "results")
"""The modules of `publishing` that decide what is in a notebook."""

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
    "pandas": "pandas",
    "filelock": "filelock",
    "tqdm": "tqdm",
}
"""What a chapter imports, and the package that has it."""

FIGURE_STYLE = """\
import matplotlib.pyplot as plt

plt.rcParams.update(  # as in the book, on white
    {
        "figure.figsize": (4.8, 3.2),
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.labelsize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.facecolor": "white",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.8,
        "image.cmap": "cividis",
        "axes.prop_cycle": plt.cycler(
            color=["#1f5fb4", "#b3420a", "#1d7a3e", "#8b3fa8", "#8a6100", "#0b7285"]
        ),
    }
)
"""


class NotebookError(PublishingError):
    """A cell of one or more notebooks failed; the others are made."""


@dataclass(frozen=True)
class Cell:
    """A cell to be: its kind, `markdown` or `code`, its text, and what the page says it prints."""

    kind: str
    text: str
    where: str = ""
    expected: str | None = None
    hidden: bool = False  # folded away until the reader asks for it


class _Program:
    """What the cells so far have defined, to give a figure's cell only what is missing."""

    def __init__(self, page: str, module: Module):
        self.page, self.module = page, module
        self.defined: dict[str, str] = {}  # name → the statement that last bound it

    @cached_property
    def detached(self) -> alone.Detached:
        return alone.detach(self.module.source, self.module.relative_file)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.detached.code)

    def note(self, code: str) -> None:
        """Take down what a cell defines."""
        for statement in ast.parse(code).body:
            for name in alone.bound(statement):
                self.defined[name] = _meaning(statement, name)

    def _known(self, statement: ast.stmt) -> bool:
        names = alone.bound(statement)
        return all(self.defined.get(name) == _meaning(statement, name) for name in names)

    def needs(self, function: str) -> set[str]:
        """Return the data loaders that a function of the module needs, itself or through others."""
        found: set[str] = set()
        for statement in alone.closure(self.tree, [function]):
            found |= alone.used(statement) & set(self.detached.needs)
        return found

    def reads_record(self, function: str) -> bool:
        code = self.detached.code
        return any(
            alone.RECORD_PATH.search(alone.text_of(statement, code))
            for statement in alone.closure(self.tree, [function])
            if "RECORD" in alone.bound(statement)
        )

    def definitions(self, function: str) -> str:
        """Write out a function of the module and what it needs and no cell has defined yet.

        Raises:
            PublishingError: the page has given one of the names another meaning.
        """
        missing = []
        for statement in alone.closure(self.tree, [function]):
            if self._known(statement) or (
                "RECORD" in alone.bound(statement) and "RECORD" in self.defined
            ):
                continue
            taken = alone.bound(statement) & set(self.defined)
            if taken and not isinstance(statement, alone.IMPORTS):
                raise PublishingError(
                    f"{self.page}: {function}() needs {', '.join(sorted(taken))} of "
                    f"{self.module.relative_file}, which the page defines differently; rename one"
                )
            missing.append(statement)
        return alone.joined(missing, self.detached.code)


def _meaning(statement: ast.stmt, name: str) -> str:
    """Describe what a statement binds a name to, so that two that do the same are equal."""
    if isinstance(statement, alone.IMPORTS):
        origin = getattr(statement, "module", "")
        alias = next(a for a in statement.names if (a.asname or a.name.partition(".")[0]) == name)
        return f"import {origin} {alias.name} {alias.asname}"
    return ast.dump(statement)


def _packages(code: str) -> str:
    """Return the `%pip install` line of a program, with the versions of this environment."""
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, alone.IMPORTS)
        for alias in node.names
    }
    tops = {name.partition(".")[0] for name in imported}
    versions = library_versions()
    pins = []
    for top, package in PACKAGES.items():
        if top in tops:
            version = versions.get(package, "").partition("+")[0]
            pins.append(f"{package}=={version}" if version else package)
    return f"# %pip install {' '.join(pins)}" if pins else "# %pip install"


def _record_cell(module: Module) -> Cell:
    """Return a cell that puts the chapter's record into the reader's folder."""
    name = module.record_file.name
    record = json.loads(module.record_file.read_text(encoding="utf-8"))
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    code = (
        "# 这一章在真实数据上测得的记录，写成文件，供下面读\n"
        "from pathlib import Path\n\n"
        f'RECORD = Path("records/{name}")\n'
        "RECORD.parent.mkdir(exist_ok=True)\n"
        f'_ = RECORD.write_text({text!r}, encoding="utf-8")\n'
    )
    return Cell("code", code, "the record", hidden=True)


@dataclass(frozen=True)
class _Piece:
    """A part of a page and, of code that runs, what it becomes away from the book."""

    part: plain.Part
    code: str = ""
    step: pages.Step | None = None
    needs: tuple[str, ...] = ()


def _pieces(source: plain.Source) -> Iterator[_Piece]:
    parts = plain.parts(source)  # first, for it says more of what is wrong with a page
    steps = iter(pages.program(source.text, source.root))
    for part in parts:
        if part.kind != "code":
            yield _Piece(part)
            continue
        step = next(steps)
        detached = alone.detach(part.text, f"docs/zh/{source.page}:{step.line}")
        yield _Piece(part, detached.code, step, tuple(detached.needs))


def _opening(
    source: plain.Source, pieces: list[_Piece], programs: dict[Module, _Program]
) -> Iterator[Cell]:
    """Yield the cells before the text: versions and figure style, data loaders, records."""
    functions = [
        (programs[piece.part.module], f"figure_{piece.part.figure}")
        for piece in pieces
        if piece.part.module
    ]
    needs = [name for piece in pieces for name in piece.needs]
    for program, function in functions:
        needs += sorted(program.needs(function))
    data = ""
    if needs:
        loaders = alone.loaders(source.module)
        data = alone.data_code(list(dict.fromkeys(needs)), loaders) + "\n"
    code = "\n".join(piece.code for piece in pieces)
    everything = "\n".join([data, code, *(module.source for module in programs)])
    pins = f"# 书里的输出来自这些版本；缺哪个，去掉下一行开头的 # 再运行\n{_packages(everything)}\n"
    yield Cell("code", pins + (f"\n{FIGURE_STYLE}" if functions else ""), "the set-up")
    if data:
        note = "# 本书的数据装载程序 snippets/data.py，这一章用到的部分\n"
        yield Cell("code", note + data, "the data loaders")
    for module in dict.fromkeys([source.module, *programs]):
        shown = any(p.module == module and p.reads_record(name) for p, name in functions)
        if shown or f"records/{module.record_file.name}" in code:
            yield _record_cell(module)


def cells(source: plain.Source) -> list[Cell]:
    """Turn a chapter into cells.

    Raises:
        PublishingError: see `plain.parts`, `alone.detach` and `_Program.definitions`.
    """
    pieces = list(_pieces(source))
    modules = dict.fromkeys(piece.part.module for piece in pieces if piece.part.module)
    programs = {module: _Program(source.page, module) for module in modules}
    made: list[Cell] = []

    def add(cell: Cell) -> None:
        for program in programs.values() if cell.kind == "code" else ():
            program.note(cell.text)
        made.append(cell)

    address = plain.address(source.page, source.site_url)
    about = f"网页版：<{address}>。从上到下运行，不需要别的文件。文字 CC BY-SA 4.0，代码 MIT。"
    if pieces and pieces[0].part.kind == "prose":  # the title, then the set-up, then the rest
        title, _, rest = pieces[0].part.text.partition("\n")
        about = f"{title}\n\n{about}"
        pieces[0] = _Piece(plain.Part("prose", rest.strip("\n")))
    add(Cell("markdown", about))
    for cell in _opening(source, pieces, programs):
        add(cell)
    for piece in pieces:
        part = piece.part
        if part.kind == "prose" and part.text:
            add(Cell("markdown", part.text))
        elif piece.step and piece.code.strip():
            step = piece.step
            add(Cell("code", piece.code, f"line {step.line} of the page", step.output))
        elif part.module:
            function = f"figure_{part.figure}"
            definitions = programs[part.module].definitions(function)
            call = f"{function}()\nplt.show()\n"
            text = f"{definitions}\n\n\n{call}" if definitions else call
            add(Cell("code", text, f"{function}() of {part.module.relative_file}"))
            add(Cell("markdown", part.text))
    return made


def notebook(made: list[Cell], outputs: list[list[dict]]) -> bytes:
    """Write cells and the outputs of those that run as an `.ipynb` file, checked by nbformat."""
    import nbformat  # here, for it takes longer to load than a build with nothing changed may
    from nbformat import v4

    given = iter(outputs)
    written, count = [], 0
    for number, cell in enumerate(_merged(made), 1):
        name = f"cell-{number:03}"
        text = cell.text.strip("\n")
        if cell.kind == "markdown":
            written.append(v4.new_markdown_cell(text, id=name))
            continue
        count += 1
        results = [nbformat.from_dict(output) for output in next(given)]
        hidden = {"jupyter": {"source_hidden": True}, "cellView": "form"} if cell.hidden else {}
        code = v4.new_code_cell(
            text, id=name, execution_count=count, outputs=results, metadata=hidden
        )
        written.append(code)
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    book = v4.new_notebook(cells=written, metadata=metadata)
    nbformat.validate(book)
    return (nbformat.writes(book) + "\n").encode()


def _merged(made: list[Cell]) -> Iterator[Cell]:
    """Join neighbouring prose into one cell, but start a new one at every heading."""
    waiting: list[str] = []
    for cell in made:
        starts = cell.kind == "code" or re.match("#{1,6} ", cell.text)
        if waiting and starts:
            yield Cell("markdown", "\n\n".join(waiting))
            waiting = []
        if cell.kind == "code":
            yield cell
        else:
            waiting.append(cell.text)
    if waiting:
        yield Cell("markdown", "\n\n".join(waiting))


def digest_of(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()


def programs_text(names: tuple[str, ...]) -> str:
    """Return the source of modules of `publishing`, which is part of a key."""
    folder = Path(__file__).parent
    return "".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in names)


def key(source: plain.Source, programs: str) -> str:
    """Hash everything that a chapter's notebook depends on."""
    module = source.module
    record = module.record_file
    return digest_of(
        source.page,
        source.text,
        source.site_url,
        module.source,
        *(other.source for other in module.local_imports),
        record.read_text(encoding="utf-8") if record.is_file() else "",
        store.fingerprint(module),
        repr(library_versions()),
        programs,
    )


def _task(source: plain.Source, made: list[Cell]) -> runner.CellsTask:
    code = [cell for cell in made if cell.kind == "code"]
    named = tuple(
        (f"cell {number} ({cell.where})", cell.text, cell.expected)
        for number, cell in enumerate(code, 1)
    )
    run_key = digest_of(repr(named), repr(library_versions()), programs_text(("cells",)))
    return runner.CellsTask(source.module, "cells", run_key, named)


def _save(module: Module, function: str, key: str, seconds: float, data: bytes) -> None:
    record = store.Record(
        function=function,
        key=key,
        date=datetime.date.today().isoformat(),
        cpu_seconds=round(seconds, 3),
        machine=store.machine(),
        versions=library_versions(),
    )
    store.save_files(module, record, {store.NOTEBOOK_FILES[function]: data})


def _outputs(task: runner.CellsTask) -> list[list[dict]] | None:
    """Return what a notebook's cells gave when they last ran, unless they have changed since."""
    if store.load(task.module, "cells", task.key) is None:
        return None
    file = store.folder(task.module) / store.NOTEBOOK_FILES["cells"]
    return json.loads(file.read_bytes())


def bring_up_to_date(
    sources: list[plain.Source], report: Callable[[str], None] = lambda line: None
) -> dict[Module, str]:
    """Make the notebooks that are missing or stale; run those whose code changed.

    Returns:
        the key of each notebook: it changes with what is in it.

    Raises:
        NotebookError: a cell raised, or printed something else than its page shows.
        PublishingError: a page or module is at fault in a way that needs no running.
    """
    programs = programs_text(PROGRAMS)
    keys = {source: key(source, programs) for source in sources}

    def stale() -> list[plain.Source]:
        return [s for s in sources if store.load(s.module, "notebook", keys[s]) is None]

    failures: dict[Module, str] = {}
    if stale():
        root = sources[0].root
        with store.lock(root, lambda: report("another build is running the book; waiting for it")):
            failures = _make({source: keys[source] for source in stale()}, report)
    if failures:
        texts = [
            f"docs/zh/{source.page}: notebook: {failures[source.module]}"
            for source in sources
            if source.module in failures
        ]
        raise NotebookError("\n\n".join(texts))
    return {source.module: keys[source] for source in sources}


def _make(keys: dict[plain.Source, str], report: Callable[[str], None]) -> dict[Module, str]:
    """Make notebooks under their keys; return the errors of those that do not run."""
    made = {source: cells(source) for source in keys}
    tasks = {source: _task(source, made[source]) for source in keys}
    failures: dict[Module, str] = {}
    for task, outcome in runner.outcomes([t for t in tasks.values() if _outputs(t) is None]):
        if outcome.error:
            failures[task.module] = outcome.error
            continue
        data = json.dumps(outcome.outputs).encode()
        _save(task.module, "cells", task.key, outcome.cpu_seconds, data)
        report(f"ran the notebook of {task.module.path} ({outcome.cpu_seconds:.1f} s CPU)")
    for source, task in tasks.items():
        if (outputs := _outputs(task)) is not None:
            _save(task.module, "notebook", keys[source], 0.0, notebook(made[source], outputs))
    return failures


def file(module: Module) -> Path | None:
    """Return a chapter's notebook as it was last made; None if it never was."""
    path = store.folder(module) / store.NOTEBOOK_FILES["notebook"]
    return path if path.is_file() else None


def colab(repo_url: str, module: Module) -> str:
    """Return the address that opens a chapter in Colab, which reads them off GitHub; else "".

    The publish workflow puts the notebooks on a branch of their own.
    """
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", repo_url)
    if not match:
        return ""
    return f"https://colab.research.google.com/github/{match[1]}/blob/notebooks/{module.path}.ipynb"
