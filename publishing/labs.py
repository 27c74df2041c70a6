"""Run the labs: percent scripts `docs/zh/labs/<name>.py`, executed as notebooks, kept in `.build`.

A lab is one jupytext script: front matter, Markdown cells, code cells. It runs in a kernel of its
own, in an empty folder, without DATA_DIR, so that it needs nothing of the repository and of the
machine; its figures take the book's light style, and no code for that stands in the lab.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path

from publishing import ROOT, PublishingError, store
from publishing.modules import library_versions

TOOLS = ("jupytext", "nbclient", "ipykernel", "matplotlib-inline")
"""Their versions are part of the cache key, beside those of the libraries."""

CELL_LIMIT = float(os.environ.get("LAB_CELL_LIMIT", "180"))
"""Seconds that one cell may take."""


class LabError(PublishingError):
    """A cell of a lab failed, hung, or printed a warning; the message names lab and cell."""


@dataclass(frozen=True)
class Lab:
    """One lab, named by its file below `docs/zh/labs/` without `.py`."""

    name: str
    root: Path = field(default=ROOT, compare=False)

    @property
    def path(self) -> str:
        """The lab's page and address: `labs/optimizer_race`."""
        return f"labs/{self.name}"

    @property
    def file(self) -> Path:
        return self.root / "docs" / "zh" / f"{self.path}.py"

    @property
    def relative_file(self) -> str:
        return f"docs/zh/{self.path}.py"

    @property
    def source(self) -> str:
        try:
            return self.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"{self.relative_file} cannot be read: {error}") from error

    @property
    def script(self) -> str:
        """Hash the script: the notebook that is kept says which one it was."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def kept_name(self) -> str:
        return f"{self.path}.ipynb"

    @property
    def printed_file(self) -> Path:
        """The notebook that mkdocs-jupyter renders; see `lab_pages.printed`."""
        return store.build_folder(self.root) / "labs" / "printed" / f"{self.name}.ipynb"

    def kept(self) -> dict | None:
        """Return what was kept of an earlier run of any script under today's versions."""
        body = store.recall(self.root, self.kept_name, _key())
        return json.loads(body) if body else None

    def recall(self) -> dict | None:
        """Return the executed notebook, or None if it is missing, stale or damaged."""
        notebook = self.kept()
        fresh = notebook is not None and notebook["metadata"]["book"]["script"] == self.script
        return notebook if fresh else None

    @cached_property
    def executed(self) -> dict:
        """Return the executed notebook as it was when first asked for.

        Raises:
            LabError: the lab has not been run.
        """
        notebook = self.recall()
        if notebook is None:
            raise LabError(f"{self.relative_file} has not been run; run python -m publishing")
        return notebook


@cache
def _key() -> str:
    """Hash what an outcome depends on beside the script: this module, the style and versions."""
    parts = [repr(library_versions()), repr({name: version(name) for name in TOOLS})]
    for name in ("labs.py", "figures.py"):
        parts.append((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def find_labs(root: Path = ROOT) -> list[Lab]:
    """Return every lab, sorted by name; editors' hidden files are none."""
    files = sorted((root / "docs" / "zh" / "labs").glob("[!.]*.py"))
    return [Lab(file.stem, root) for file in files]


def _style_file(style: dict) -> str:
    """Return rcParams as the text of a matplotlibrc, where `#` would start a comment."""
    lines = []
    for name, value in style.items():
        if name == "axes.prop_cycle":
            value = f"cycler('color', {[c.lstrip('#') for c in value.by_key()['color']]})"
        elif isinstance(value, tuple):
            value = ", ".join(map(str, value))
        lines.append(f"{name}: {str(value).lstrip('#')}")
    return "\n".join(lines) + "\n"


def _colours() -> tuple[dict, dict[str, str]]:
    """Return the light style, on white, and what each of its colours is in the dark theme."""
    from publishing import figures  # only here: a build that runs nothing need not load matplotlib

    white = {"figure.facecolor": figures.GROUND["light"]}
    white["savefig.facecolor"] = white["figure.facecolor"]
    pairs = zip(figures.COLOURS["light"], figures.COLOURS["dark"], strict=True)
    dark = dict(pairs) | {"#000000": figures.INK["dark"]}
    for ground in (figures.GROUND, figures.INK, figures.FAINT):
        dark[ground["light"]] = ground["dark"]
    return figures.style("light") | white, dark


def _read(lab: Lab):
    """Return a lab's script as a notebook without outputs."""
    import jupytext  # slow to load, and a build that runs nothing does without

    notebook = jupytext.reads(lab.source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext's are random
    return notebook


def _reworded(lab: Lab) -> dict | None:
    """Return the kept notebook with the script's present text, if no code has changed."""
    kept = lab.kept()
    if kept is None:
        return None
    code = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    notebook = json.loads(json.dumps(_read(lab)))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if [cell["source"] for cell in cells] != [cell["source"] for cell in code]:
        return None
    for cell, ran in zip(cells, code, strict=True):
        cell |= {name: ran[name] for name in ("outputs", "execution_count")}
    notebook["metadata"]["book"] = kept["metadata"]["book"] | {"script": lab.script}
    return notebook


def _environment(folder: Path, style: dict, data_dir: str | None) -> dict[str, str]:
    """Return a kernel's environment: the book's style, one thread, nothing of the repository."""
    (folder / "matplotlibrc").write_text(_style_file(style))
    environment = {k: v for k, v in os.environ.items() if k not in {"DATA_DIR", "PYTHONPATH"}}
    environment |= {"DATA_DIR": data_dir} if data_dir else {}
    return environment | {
        "MATPLOTLIBRC": str(folder / "matplotlibrc"),
        "IPYTHONDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "SOURCE_DATE_EPOCH": "0",  # no date in the figures
        "PYTHONHASHSEED": "0",
    }


def _run(lab: Lab, notebook, style: dict, data_dir: str | None) -> None:
    """Run a notebook's cells in a new kernel, in an empty folder; outputs go into the notebook.

    Raises:
        LabError: a cell raised, took longer than CELL_LIMIT, or took the kernel down.
    """
    import nbclient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from traitlets.config import Config

    running = {"cell": 0}
    with tempfile.TemporaryDirectory(prefix="lab-") as parent:
        settings, work = Path(parent) / "settings", Path(parent) / "work"
        settings.mkdir()
        work.mkdir()
        # Sockets in the folder, where they exist: nobody else on the machine can listen in.
        ipc = {"transport": "ipc", "ip": str(settings / "channel")}
        client = nbclient.NotebookClient(
            notebook,
            config=Config({"KernelManager": {} if os.name == "nt" else ipc}),
            timeout=CELL_LIMIT,
            kernel_name="python3",
            allow_errors=False,
            record_timing=False,
            resources={"metadata": {"path": str(work)}},
            extra_arguments=[
                "--InlineBackend.figure_formats=svg",
                "--InlineBackend.print_figure_kwargs={'bbox_inches': None}",
                "--HistoryManager.enabled=False",
            ],
        )
        client.on_cell_start = lambda cell, cell_index: running.update(cell=cell_index)
        try:
            client.execute(env=_environment(settings, style, data_dir))
        except CellTimeoutError as error:
            message = f"did not finish within {CELL_LIMIT:g} s"
            raise _failure(lab, notebook, running["cell"], message) from error
        except (CellExecutionError, DeadKernelError, RuntimeError) as error:
            raise _failure(lab, notebook, running["cell"], str(error).strip()) from error


def _failure(lab: Lab, notebook, number: int, message: str) -> LabError:
    line = _line(lab.source, notebook.cells[number].source)
    return LabError(f"{lab.relative_file}:{line}: cell {number}: {message}")


def execute(lab: Lab, data_dir: str | None = None, last: str | None = None) -> dict:
    """Run a lab from its script and return the notebook with its outputs.

    Args:
        lab: the lab.
        data_dir: the folder of the real data sets, for a run that is to be recorded.
        last: code of one more cell, which ends such a run.

    Raises:
        LabError: a cell failed (see `_run`) or wrote to stderr, a warning say.
    """
    import nbformat

    script, notebook = lab.script, _read(lab)
    if last:
        notebook.cells.append(nbformat.v4.new_code_cell(last))
    style, dark = _colours()
    before, started = os.times(), time.monotonic()
    _run(lab, notebook, style, data_dir)
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise _failure(lab, notebook, number, f"wrote to stderr:\n{output.text.strip()}")
    after = os.times()
    spent = sum(after[2:4]) - sum(before[2:4])  # of children that have ended
    notebook.metadata["book"] = {
        "date": date.today().isoformat(),
        "seconds": round(spent or time.monotonic() - started, 1),
        "machine": store.machine(),
        "versions": library_versions(),
        "dark": dark,
        "script": script,
    }
    return json.loads(json.dumps(notebook))


def _line(script: str, source: str) -> int:
    """Return the line of a script where a cell's code starts; 1 if it cannot be found."""
    place = script.find(source)
    return script.count("\n", 0, max(place, 0)) + 1


def bring_up_to_date(labs: list[Lab], report: Callable[[str], None] = lambda line: None) -> None:
    """Run every lab whose kept notebook is missing or stale, one after the other.

    Raises:
        LabError: some failed; the others are kept.
        PublishingError: `.build/` cannot be written.
    """
    if not labs or all(lab.recall() for lab in labs):
        return
    failures = []
    root = labs[0].root
    with store.lock(root, lambda: report("another build is running; waiting for it")):
        for lab in labs:
            if lab.recall():
                continue
            try:
                notebook = _reworded(lab) or execute(lab)
            except LabError as error:
                failures.append(str(error))
                continue
            body = json.dumps(notebook, ensure_ascii=False, sort_keys=True).encode()
            store.keep(root, lab.kept_name, _key(), body)
            report(f"ran {lab.relative_file} ({notebook['metadata']['book']['seconds']} s CPU)")
    if failures:
        raise LabError("\n\n".join(failures))


def prune(labs: list[Lab], root: Path = ROOT) -> None:
    """Delete the kept notebooks of labs that are no more."""
    wanted = {lab.kept_name for lab in labs}
    for file in (store.build_folder(root) / "labs").rglob("*.ipynb"):
        if f"labs/{file.name}" not in wanted:
            file.unlink(missing_ok=True)
