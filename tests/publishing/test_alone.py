"""Code that leaves the book: nothing of it is missing, and nothing of the book is needed."""

import ast
import os
import subprocess
import sys

import pytest

from publishing import PublishingError, alone, runner
from publishing.modules import Module, find_modules

LOADERS = '''\
"""Loaders."""

import math
import random


# Why this number.
SCALE = 2


def scaled(x):
    """Return SCALE x."""
    return SCALE * math.floor(x)


def unwanted():
    return random.random()


def load():
    return [scaled(x) for x in (1.5, 2.5)]
'''

CHAPTER = '''\
"""A chapter."""

# --8<-- [start:imports]
import math

from snippets.data import load

# --8<-- [end:imports]


def total():
    return math.fsum(load())


if __name__ == "__main__":
    print(total())
'''


@pytest.fixture
def chapter(tmp_path) -> Module:
    for path, text in (("data", LOADERS), ("part/chapter", CHAPTER)):
        file = tmp_path / "snippets" / f"{path}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Module("part/chapter", tmp_path)


def test_the_closure_holds_what_is_needed_in_order_and_nothing_else():
    kept = alone.closure(ast.parse(LOADERS), ["load"])
    text = alone.joined(kept, LOADERS)
    assert text.startswith("import math\n\n\n# Why this number.\nSCALE = 2\n\n\ndef scaled(x):")
    assert "unwanted" not in text and "random" not in text


def test_a_name_that_nothing_defines_is_named():
    with pytest.raises(PublishingError, match="nothing"):
        alone.closure(ast.parse(LOADERS), ["nothing"])


def test_statements_that_change_a_name_belong_to_it():
    tree = ast.parse("table = {}\ntable['x'] = 1\nother = {}\nother['y'] = 2\n")
    assert len(alone.closure(tree, ["table"])) == 2


def test_a_downloaded_file_runs_in_an_empty_folder(chapter, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "chapter.py").write_text(alone.standalone(chapter))
    command = [sys.executable, "-I", "chapter.py"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("6.0\n", "")


def test_a_name_defined_twice_is_refused(chapter):
    chapter.file.write_text(CHAPTER + "\n\ndef scaled():\n    pass\n")
    with pytest.raises(PublishingError, match="scaled"):
        alone.standalone(chapter)


@pytest.mark.parametrize(
    "line",
    [
        "import snippets.data",
        "from snippets import data",
        "from snippets.part import chapter",
        "from snippets.data import load as read",
    ],
)
def test_other_imports_of_the_book_are_refused(line):
    with pytest.raises(PublishingError, match=r"x\.py: .*write 'from snippets.data import"):
        alone.detach(f"{line}\n", "x.py")


def test_an_import_within_a_function_is_found_as_well():
    detached = alone.detach(
        "def f():\n    from snippets.data import load\n    return load()\n", "x"
    )
    assert detached == alone.Detached("def f():\n    return load()\n", ["load"])


def test_every_module_of_the_book_loads_in_an_empty_folder():
    head = ("its name", '__name__, __file__ = "alone", "alone.py"', None)
    tasks = [
        runner.CellsTask(module, "alone", "", (head, ("the file", alone.standalone(module), None)))
        for module in find_modules()
    ]
    errors = {task.module.path: outcome.error for task, outcome in runner.outcomes(tasks)}
    assert len(errors) > 20
    assert {path: error for path, error in errors.items() if error} == {}


def test_a_chapter_that_needs_data_runs_alone_as_a_program(tmp_path):
    text = alone.standalone(Module("basics/data_pipeline"))
    assert "snippets import" not in text and "snippets.data import" not in text
    (tmp_path / "data_pipeline.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "data_pipeline.py"],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
