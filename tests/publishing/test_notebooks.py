"""Notebooks: all chapters run alone, and what the runner gives is what Jupyter gives."""

import json
from functools import cache

import nbformat
import pytest

from publishing import ROOT, figures, notebooks, plain, runner
from publishing.modules import Module, find_modules
from tests.publishing.tiny import PAGE_FILE, Book
from tests.site.built import SITE_URL  # that of the site that is built beside these tests

DOCS = ROOT / "docs" / "zh"
CHAPTERS = [m.path for m in find_modules() if "/" in m.path and (DOCS / f"{m.path}.md").is_file()]


def source(path: str, root=ROOT) -> plain.Source:
    text = (root / "docs" / "zh" / f"{path}.md").read_text(encoding="utf-8")
    return plain.Source(f"{path}.md", text, SITE_URL, Module(path, root))


@cache
def made(path: str) -> nbformat.NotebookNode:
    """The notebook of a chapter, from `.build/`, which is brought up to date."""
    notebooks.bring_up_to_date([source(path)])
    return nbformat.reads(notebooks.file(Module(path)).read_text(encoding="utf-8"), as_version=4)


@pytest.mark.parametrize("path", CHAPTERS)
def test_a_notebook_is_valid_ran_and_needs_nothing_of_the_book(path):
    book = made(path)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for left in ("--8<--", "{{ "):
        assert not [cell for cell in book.cells if left in cell.source]
    for left in ("from snippets", "import snippets", "from publishing"):
        assert not [cell for cell in code if left in cell.source]
    assert code[0].source.splitlines()[1].startswith("# %pip install torch==")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [part for part in plain.parts(source(path)) if part.kind == "figure"]
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(drawn) >= len(shown) > 0


@pytest.mark.parametrize("path", ["basics/tensors", "generalization/model_selection"])
def test_from_scratch_the_same_function_gives_the_same(path):
    task = notebooks._task(source(path), notebooks.cells(source(path)))
    [(_, outcome)] = list(runner.outcomes([task]))
    assert outcome.error is None
    stored = [cell.outputs for cell in made(path).cells if cell.cell_type == "code"]
    assert json.loads(json.dumps(outcome.outputs)) == json.loads(json.dumps(stored))


def test_a_real_kernel_gives_the_same(tmp_path):
    from nbclient import NotebookClient

    book = made("basics/autograd")
    again = nbformat.from_dict(json.loads(json.dumps(book)))
    for cell in again.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    where = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(again, timeout=120, resources=where, coalesce_streams=True)
    client.execute(env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"})

    def outputs(notebook) -> list:
        return [
            (output.output_type, output.get("text"), sorted(output.get("data", {})))
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if output.get("name") != "stderr"
        ]

    assert outputs(again) == outputs(book)


def test_the_figures_look_as_in_the_book():
    import matplotlib.pyplot as plt

    namespace: dict = {}
    with plt.rc_context():
        plt.rcdefaults()
        before = dict(plt.rcParams)
        exec(notebooks.FIGURE_STYLE, namespace)
        changed = {key: value for key, value in plt.rcParams.items() if before[key] != value}
    style = figures.style("light") | {"legend.facecolor": "white"}
    assert changed
    with plt.rc_context():
        plt.rcParams.update(style)
        assert {key: plt.rcParams[key] for key in changed} == changed


# In a tiny book, where things go wrong


def bring(book: Book) -> list[str]:
    lines: list[str] = []
    notebooks.bring_up_to_date([source("part/chapter", book.root)], lines.append)
    return lines


def test_only_changed_code_runs_again(book):
    book.run()
    assert len(bring(book)) == 1
    first = notebooks.file(Module("part/chapter", book.root)).read_bytes()
    assert bring(book) == []
    book.edit(PAGE_FILE, "两倍就是两倍", "两倍还是两倍")
    assert bring(book) == []
    assert notebooks.file(Module("part/chapter", book.root)).read_bytes() != first
    book.edit(PAGE_FILE, "print(double(3))", "print(double(3.0))")
    book.edit(PAGE_FILE, "\n6\n", "\n6.0\n")
    assert len(bring(book)) == 1


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("print(double(3))", "print(double(nothing))", "NameError"),
        ("print(double(3))", "print(double(4))", "but the page shows"),
        ("print(double(3))", "import snippets", "write 'from snippets.data import"),
        ("print(double(3))", "import publishing; print(6)", "No module named 'publishing'"),
        ("print(double(3))", "open('mkdocs.yml')", "No such file"),
        ("print(double(3))", "double = 5; print(6)", "which the page defines differently"),
        ("print(double(3))", "exit()", "SystemExit"),
    ],
)
def test_a_cell_that_fails_is_named(book, old, new, what):
    book.run()
    book.edit(PAGE_FILE, old, new)
    with pytest.raises(notebooks.PublishingError) as caught:
        bring(book)
    message = str(caught.value)
    assert what in message and "part/chapter.md" in message
    if isinstance(caught.value, notebooks.NotebookError):
        assert "cell 4 (line 34 of the page)" in message
    assert notebooks.file(Module("part/chapter", book.root)) is None


@pytest.mark.parametrize(
    ("repository", "address"),
    [
        ("https://github.com/someone/notes", "someone/notes"),
        ("https://github.com/someone/notes/", "someone/notes"),
        ("https://gitlab.com/someone/notes", ""),
        ("", ""),
    ],
)
def test_colab_opens_what_is_on_github(repository, address):
    expected = ""
    if address:
        base = "https://colab.research.google.com/github"
        expected = f"{base}/{address}/blob/notebooks/part/chapter.ipynb"
    assert notebooks.colab(repository, Module("part/chapter")) == expected
