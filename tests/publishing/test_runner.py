"""What goes wrong in a snippet stops the build with one message; what went well is kept."""

import multiprocessing
import os
import py_compile
import re
import signal
import sys

import pytest

from publishing import PublishingError, modules, runner, store
from publishing.modules import Module
from tests.publishing.tiny import MODULE_FILE, PATIENCE, Signal, process, run

FIGURE = """\
import matplotlib.pyplot as plt

def figure_wrong():
    fig, ax = plt.subplots()
    {body}
    return fig
"""

EXPERIMENT = """\
import os
import signal
import sys

def experiment_wrong(seed):
    {body}
"""

FAULTS = {
    "raises": (EXPERIMENT, "return {'x': 1 / seed}", "ZeroDivisionError"),
    "sys.exit": (EXPERIMENT, "sys.exit(0)", "SystemExit: 0"),
    "SIGKILL": (EXPERIMENT, "os.kill(os.getpid(), signal.SIGKILL)", "(killed by SIGKILL)"),
    "os._exit": (EXPERIMENT, "os._exit(3)", "(exit status 3)"),
    # As if all were well; it must not be taken for a function that never ends either.
    "os._exit(0)": (EXPERIMENT, "os._exit(0)", "(exit status 0)"),
    "failing import": (
        "import nonexistent\n" + EXPERIMENT,
        "pass",
        "No module named 'nonexistent'",
    ),
    "late SyntaxError": (EXPERIMENT + "return 1", "pass", "'return' outside function"),
    "no dict": (EXPERIMENT, "return 5", "seed 0: returned 5, expected a dict of numbers"),
    "empty dict": (EXPERIMENT, "return {}", "seed 0: returned {}, expected a dict of numbers"),
    "no number": (EXPERIMENT, "return {'x': 'many'}", "seed 0: x is 'many', expected a number"),
    "no name": (EXPERIMENT, "return {'a b': 1}", "seed 0: the key 'a b' is not an identifier"),
    "other keys": (EXPERIMENT, "return {'xy'[seed // 3]: 1}", "seed 3: other keys than the first"),
    "no seeds": ("SEEDS = []\n" + EXPERIMENT, "return {'x': 1}", "SEEDS is empty"),
    "empty figure": (FIGURE, "pass", "the figure is empty"),
    "wide figure": (FIGURE, "ax.plot([1]); fig.set_figwidth(7)", "the figure is 7.0 in wide"),
    "Chinese text": (FIGURE, "ax.plot([1]); ax.set_title('损失')", "must not be Chinese: '损失'"),
    "faint text": (FIGURE, "ax.plot([1]); ax.set_title('hint', color='0.7')", "a contrast of 2.1"),
    "no figure": (FIGURE, "return None", "returned NoneType, expected a matplotlib Figure"),
    "axes": (FIGURE, "return ax", "returned Axes, expected a matplotlib Figure"),
}


def test_each_fault_is_reported_once_and_costs_nobody_else_anything(book):
    book.run()
    before = book.results()
    for number, (template, body, _) in enumerate(FAULTS.values()):
        book.write(f"snippets/part/wrong{number}.py", template.replace("{body}", body))
    book.write("snippets/part/late.py", "def experiment_fine(seed):\n    return {'x': seed}\n")
    messages = book.run_failing().split("\n\n")
    assert len(messages) == len(FAULTS)
    for number, (name, (template, _, what)) in enumerate(FAULTS.items()):
        function = "figure_wrong()" if template is FIGURE else "experiment_wrong()"
        where = f"docs/zh/part/wrong{number}.md: snippets/part/wrong{number}.py: {function} "
        (message,) = (m for m in messages if m.startswith(where))
        assert what in message, name
        assert "publishing" not in message, f"{name}: the worker's own frames are of no interest"
    after = book.results()
    assert after.pop("part/late/experiment_fine.json")
    assert after == before
    assert not multiprocessing.active_children()


def test_the_traceback_starts_in_the_module_and_ends_with_the_error(book):
    book.edit(MODULE_FILE, "return 2 * x", "return 2 * y")
    message = book.run_failing()
    assert message.startswith("docs/zh/part/chapter.md: snippets/part/chapter.py: ")
    lines = message.splitlines()
    assert "chapter.py" in lines[1] and "in figure_line" in lines[1]
    assert "NameError: name 'y' is not defined" in lines


def test_a_module_that_cannot_be_imported_is_reported_once_for_all_its_functions(book):
    book.write(MODULE_FILE, "import nonexistent\n" + (book.root / MODULE_FILE).read_text())
    message = book.run_failing()
    assert message.count("nonexistent'") == 1
    assert "snippets/part/chapter.py: figure_line(), experiment_noise() failed:" in message


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (b"def experiment_a(seed:\n    pass\n", r"chapter\.py:1: '\(' was never closed: def exp"),
        (b"x = '\xff'\n", r"chapter\.py cannot be read: 'utf-8' codec can't decode byte 0xff"),
        (b"x = '\0'\n", r"chapter\.py:1: source code string cannot contain null bytes"),
    ],
)
def test_a_module_that_is_not_python_is_named_with_its_line(book, source, what):
    book.write(MODULE_FILE, source)
    message = book.run_failing()
    assert re.match(r"snippets/part/" + what, message)
    assert "\n" not in message


def test_a_snippet_without_end_is_stopped(book, monkeypatch):
    monkeypatch.setattr(runner, "TIME_LIMIT", 0.5)
    alive = Signal(book.root / "alive")
    book.write(
        MODULE_FILE,
        f"""\
import time
pipe = open({str(alive.path)!r}, "w")

def experiment_e(seed):
    end = time.monotonic() + {PATIENCE}  # only should nobody stop it
    while time.monotonic() < end:
        pass
    return {{"x": 1}}
""",
    )
    assert book.run_failing() == (
        "docs/zh/part/chapter.md: snippets/part/chapter.py: experiment_e() did not finish within "
        "0.5 s and was stopped. Make it smaller; SNIPPET_TIME_LIMIT=<seconds> raises the limit on "
        "a slow machine."
    )
    alive.wait_for_end()


def test_one_after_the_other_where_there_is_one_core(book, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert [line[: line.index(" (")] for line in book.run()] == ["ran snippets/part/chapter.py"]


@pytest.fixture
def light_project(project):
    """The project with a mock of torch, without pandas and scikit-learn.

    Importing the real ones is most of a new process's time.
    """
    project.write(
        "torch.py",
        "import sys\nfrom unittest.mock import MagicMock\nsys.modules[__name__] = MagicMock()\n",
    )
    for library in ("pandas", "sklearn"):
        project.write(f"{library}.py", "raise ImportError\n")
    return project


SLOW = """\
import time

def experiment_slow(seed):
    end = time.monotonic() + {patience}  # only should nobody stop it
    with open({path!r}, "w") as pipe:
        print("running", file=pipe, flush=True)
        while time.monotonic() < end:
            pass
"""


@pytest.mark.parametrize(
    ("stop", "status", "words"),
    [
        (signal.SIGINT, 130, "\ninterrupted; what had finished is kept\n"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_an_interrupted_run_keeps_what_had_finished_and_leaves_no_process(
    light_project, stop, status, words
):
    project = light_project
    running = Signal(project.root / "running")
    project.write("snippets/part/slow.py", SLOW.format(path=str(running.path), patience=PATIENCE))
    with process(project, "-m", "publishing") as build:
        assert build.stdout.readline().startswith("ran snippets/part/chapter.py")
        running.wait()
        build.send_signal(stop)
        _, err = build.communicate(timeout=PATIENCE)
        assert build.returncode == status
        assert err == words
    running.wait_for_end()
    kept = project.results()
    assert {"part/chapter/figure_line.json", "part/chapter/experiment_noise.json"} <= kept.keys()

    project.write("snippets/part/slow.py", "def experiment_slow(seed):\n    return {'x': 1}\n")
    assert len(project.run()) == 1  # a line for part/slow, none for part/chapter
    after = project.results()
    assert after.pop("part/slow/experiment_slow.json")
    assert after == kept


def test_two_builds_at_once_run_each_function_once(light_project, monkeypatch):
    project = light_project
    running, go = Signal(project.root / "running"), Signal(project.root / "go")
    log = project.root / "log"
    project.write(
        MODULE_FILE,
        f"""\
SEEDS = [0]

def experiment_first(seed):
    with open({str(log)!r}, "a") as file:
        print("first", file=file)
    with open({str(running.path)!r}, "w") as pipe:
        print("running", file=pipe, flush=True)
    with open({str(go.path)!r}) as pipe:
        return {{"x": len(pipe.readline())}}

def experiment_second(seed):
    with open({str(log)!r}, "a") as file:
        print("second", file=file)
    return {{"x": seed}}
""",
    )
    monkeypatch.setattr(runner, "TIME_LIMIT", 30)  # or both would wait for `go` for long
    with process(project, "-m", "publishing", SNIPPET_TIME_LIMIT="30") as one:
        running.wait()
        lines = []

        def report(line: str) -> None:
            lines.append(line)
            go.send()  # only now can the first build finish

        runner.bring_up_to_date(project.modules, report)
        out, err = one.communicate(timeout=PATIENCE)
    assert (one.returncode, err) == (0, "")
    assert out.startswith("ran snippets/part/chapter.py")
    assert lines == ["another build is running the snippets; waiting for it"]
    assert sorted(log.read_text().split()) == ["first", "second"]
    assert runner.values(project.modules[0], "first") == {"x": [3.0]}


def test_nothing_is_run_again_until_something_changes(book):
    assert len(book.run()) == 1
    before = book.results()
    assert book.run() == []
    assert book.results() == before


def test_an_edit_runs_only_its_own_module_again(book):
    book.write("snippets/part/other.py", "def experiment_o(seed):\n    return {'x': seed}\n")
    book.run()
    before = book.results()
    book.edit(MODULE_FILE, "return 2 * x", "return 3 * x")
    (line,) = book.run()
    assert line.startswith("ran snippets/part/chapter.py")
    after = book.results()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {
        "part/chapter/experiment_noise.json",
        "part/chapter/figure_line.json",
        "part/chapter/line.dark.svg",
        "part/chapter/line.light.svg",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "from snippets import data",
        "import snippets.data as data",
        "from snippets.data import SIZE",
        "from .. import data",
        "from ..data import SIZE",
        "def late():\n    from snippets.data import SIZE",
        "from snippets.part import between",
    ],
)
def test_an_edit_of_an_imported_module_makes_its_importers_stale(book, statement):
    book.write("snippets/data.py", "SIZE = 1\n")
    book.write("snippets/part/between.py", "from snippets import data\n")
    book.write("snippets/part/other.py", "def experiment_o(seed):\n    return {'x': 1}\n")
    book.edit(MODULE_FILE, "import matplotlib", f"{statement}\nimport matplotlib")
    keys = {module.path: module.key() for module in book.modules}
    book.write("snippets/data.py", "SIZE = 2\n")
    changed = {module.path for module in book.modules if module.key() != keys[module.path]}
    assert changed == {"data", "part/between", "part/chapter"}


def test_an_import_takes_effect_in_the_worker(book):
    book.write("snippets/data.py", "SIZE = 7\n")
    book.edit(MODULE_FILE, "import matplotlib", "from snippets import data\nimport matplotlib")
    book.edit(MODULE_FILE, '"exact": 0.5', '"exact": data.SIZE')
    book.run()
    chapter = Module("part/chapter", book.root)
    assert runner.values(chapter, "noise")["exact"] == [7.0] * 5
    book.write("snippets/data.py", "SIZE = 8\n")
    book.run()
    assert runner.values(Module("part/chapter", book.root), "noise")["exact"] == [8.0] * 5


def test_what_is_on_disk_is_what_runs_even_where_the_bytecode_looks_current(book):
    file = book.write("snippets/part/chapter.py", "def experiment_e(seed):\n    return {'x': 1}\n")
    py_compile.compile(str(file))  # as an import by somebody else would
    before = file.stat()
    book.edit(MODULE_FILE, "'x': 1", "'x': 2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    book.run()
    assert runner.values(book.modules[0], "e") == {"x": [2.0] * 5}


def test_a_module_that_is_changed_while_it_runs_is_not_stored(book):
    book.write("snippets/data.py", "SIZE = 1\n")
    book.write(
        MODULE_FILE,
        "from pathlib import Path\n"
        "from snippets import data\n"
        "SEEDS = [0]\n"
        "def experiment_e(seed):\n"
        "    Path(data.__file__).write_text('SIZE = 2\\n')\n"
        "    return {'x': data.SIZE}\n",
    )
    assert book.run_failing() == (
        "docs/zh/part/chapter.md: snippets/part/chapter.py: experiment_e() "
        "ran while the module was being changed; run it again."
    )
    book.run()
    assert runner.values(Module("part/chapter", book.root), "e") == {"x": [2.0]}


def test_another_version_of_a_library_makes_everything_stale(book, monkeypatch):
    book.run()
    assert runner.stale_tasks(book.modules) == []
    newer = {name: "999" for name in modules.library_versions()}
    monkeypatch.setattr(modules, "library_versions", lambda: newer)
    assert len(runner.stale_tasks(book.modules)) == 2


def test_a_new_record_makes_its_chapter_stale(book):
    book.run()
    book.write("records/other.json", "[]")
    assert runner.stale_tasks(book.modules) == []
    book.write("records/chapter.json", "[]")
    assert len(runner.stale_tasks(book.modules)) == 2


def test_another_runner_makes_everything_stale(project):
    # The copy's own `figures.py` is part of the key.
    key = "from publishing.modules import find_modules; print(find_modules()[0].key())"
    _, before = run(project, "-c", key)
    assert before.strip() == project.modules[0].key()
    project.edit("publishing/figures.py", "MAX_WIDTH = 5.2", "MAX_WIDTH = 5.1")
    assert run(project, "-c", key)[1] != before


def test_hidden_files_of_editors_are_no_modules(book):
    (book.root / "snippets/part/.#chapter.py").symlink_to("nowhere")
    book.write("snippets/part/.ipynb_checkpoints/chapter-checkpoint.py", "x = 1\n")
    book.write("snippets/part/__init__.py", "")
    assert [module.path for module in book.modules] == ["part/chapter"]


def test_values_come_back_by_seed_and_an_unknown_name_says_so(book):
    book.run()
    (module,) = book.modules
    assert runner.values(module, "noise") == {
        "loss": [0.0, 2.0, 4.0, 6.0, 8.0],
        "exact": [0.5] * 5,
    }
    with pytest.raises(KeyError, match=r"snippets/part/chapter\.py has no stored result of exp"):
        runner.values(module, "nois")


def test_every_record_says_where_and_on_what_it_was_made(book):
    book.run()
    for record in store.load_all(book.modules[0]):
        assert record.machine and record.cpu_seconds > 0
        assert record.versions.keys() >= {"python", "torch", "numpy", "matplotlib"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", record.date)


def test_processes_are_spawned_where_there_is_no_forking(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert runner._context().get_start_method() == "spawn"


def test_processes_are_forked_from_one_that_holds_torch_elsewhere():
    handler = signal.getsignal(signal.SIGINT)
    assert runner._context().get_start_method() == "forkserver"
    assert signal.getsignal(signal.SIGINT) is handler


def test_failures_are_publishing_errors(book):
    book.edit(MODULE_FILE, "return 2 * x", "raise ValueError")
    with pytest.raises(runner.SnippetError) as caught:
        book.run()
    assert isinstance(caught.value, PublishingError)
