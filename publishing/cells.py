"""Run a notebook's cells as Jupyter would, in a worker process, without starting a kernel."""

import ast
import base64
import contextlib
import io
import linecache
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import torch

from publishing import ROOT
from publishing.store import Outcome


def _traceback(error: BaseException) -> str:
    """Format a traceback from the first cell's frame on; the worker's are of no interest."""
    frames = traceback.extract_tb(error.__traceback__)
    start = next((i for i, f in enumerate(frames) if f.filename.startswith("cell ")), len(frames))
    lines = traceback.format_list(frames[start:])
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()


@contextlib.contextmanager
def _away_from_the_book(root: str) -> Iterator[None]:
    """Run in an empty folder, with nothing of the book to import: as at a reader's home."""
    books = ("publishing", "snippets")
    loaded = {name: sys.modules[name] for name in sys.modules if name.split(".")[0] in books}
    roots = {Path(root).resolve(), ROOT.resolve()}
    path = list(sys.path)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sys.path[:] = [folder] + [p for p in path if p and Path(p).resolve() not in roots]
        for name in loaded:
            del sys.modules[name]
        try:
            yield
        finally:
            sys.path[:] = path
            sys.modules.update(loaded)


def _run_cell(code: str, name: str, namespace: dict) -> object:
    """Execute a cell; return the value of its last line, if that is an expression."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), name, "eval"), namespace)


def _drawings() -> Iterator[dict]:
    """Yield the open figures as outputs of a cell, and close them: as Jupyter does."""
    for number in plt.get_fignums():
        figure, file = plt.figure(number), io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
        data = {
            "image/png": base64.b64encode(file.getvalue()).decode(),
            "text/plain": repr(figure),
        }
        yield {"output_type": "display_data", "data": data, "metadata": {}}
    plt.close("all")


def _outputs(printed: str, value: object, number: int) -> Iterator[dict]:
    if printed:
        yield {"output_type": "stream", "name": "stdout", "text": printed}
    yield from _drawings()
    if value is not None:
        yield {
            "output_type": "execute_result",
            "data": {"text/plain": repr(value)},
            "metadata": {},
            "execution_count": number,
        }


def _same_text(one: str, other: str) -> bool:
    first, second = (
        [line.rstrip() for line in text.strip("\n").splitlines()] for text in (one, other)
    )
    return first == second


def run_cells(root: str, cells: list[tuple[str, str, str | None]]) -> Outcome:
    """Run a notebook's cells in an empty folder, one after the other in one namespace.

    Args:
        root: the repository, which the cells cannot see.
        cells: of each cell its name, its code, and what the page says that it prints.

    Returns:
        an outcome with the outputs of every cell; warnings, on stderr, are left out.
    """
    outcome = Outcome()
    started = time.process_time()
    main = ModuleType("__main__")
    name = ""
    plt.rcdefaults()
    plt.switch_backend("Agg")
    torch.manual_seed(0)
    try:
        with _away_from_the_book(root), contextlib.redirect_stderr(io.StringIO()):
            sys.modules["__main__"] = main  # where what the cells define is looked for
            for number, (name, code, expected) in enumerate(cells, 1):
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    value = _run_cell(code, name, main.__dict__)
                text = printed.getvalue()
                if expected is not None and not _same_text(text, expected):
                    raise ValueError(f"prints\n{text}\nbut the page shows\n{expected}")
                outcome.outputs.append(list(_outputs(text, value, number)))
    except BaseException as error:
        outcome.error = f"{name}: failed:\n{_traceback(error)}"
    outcome.cpu_seconds = time.process_time() - started
    return outcome
