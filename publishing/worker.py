"""What runs inside a worker process. The fork server imports this module once, with torch."""

import contextlib
import gc
import importlib
import io
import os
import sys
import time
import traceback
from importlib.machinery import FileFinder, SourceFileLoader
from multiprocessing import parent_process
from threading import Thread

gc.disable()  # collecting while a hundred thousand objects are being imported costs 1 s in 9

import torch  # noqa: E402

from publishing import figures  # noqa: E402
from publishing.store import Outcome  # noqa: E402

torch.set_num_threads(1)
# The first optimizer of a process imports torch._dynamo, 3 s of CPU: once here, not in every fork.
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
# So do the libraries that only some chapters use; an environment may lack them.
for library in ("pandas", "sklearn.datasets", "torchvision"):
    with contextlib.suppress(ImportError):
        importlib.import_module(library)


def _any_figure() -> figures.Figure:
    figure = figures.Figure()
    axes = figure.subplots()
    axes.plot([0, 1])
    axes.set(title="text", xlabel=r"$\alpha_1$")
    return figure


figures.draw(_any_figure, "light")  # the first of a process looks for fonts, learns to read TeX
gc.enable()

DEFAULT_SEEDS = range(5)


def _figure(function, outcome: Outcome) -> None:
    for theme in ("light", "dark"):
        torch.manual_seed(0)
        outcome.svgs[theme] = figures.draw(function, theme)


def _experiment(function, seeds, outcome: Outcome) -> None:
    if not len(seeds):
        raise ValueError("SEEDS is empty")
    for seed in seeds:
        torch.manual_seed(seed)
        values = function(seed)
        if not isinstance(values, dict) or not values:
            raise TypeError(f"seed {seed}: returned {values!r}, expected a dict of numbers")
        if outcome.values and values.keys() != outcome.values.keys():
            raise ValueError(f"seed {seed}: other keys than the first seed: {sorted(values)}")
        for key, value in values.items():
            if not str(key).isidentifier():
                raise ValueError(f"seed {seed}: the key {key!r} is not an identifier")
            try:
                outcome.values.setdefault(key, []).append(float(value))
            except (TypeError, ValueError):
                raise TypeError(f"seed {seed}: {key} is {value!r}, expected a number") from None
        outcome.seeds.append(int(seed))


def _traceback(error: BaseException, module_file: str) -> str:
    """Format the traceback from the module's own frames on; the worker's are of no interest."""
    frames = traceback.extract_tb(error.__traceback__)
    start = next((i for i, frame in enumerate(frames) if frame.filename == module_file), None)
    lines = traceback.format_list(frames[start:]) if start is not None else []
    return "".join(lines + traceback.format_exception_only(error)).rstrip()


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however that ended."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class _SourceLoader(SourceFileLoader):
    """Compiles what is on disk: a .pyc passes for current if the source was changed, within one
    second, to a text of the same length."""

    def path_stats(self, path: str) -> dict:
        raise OSError  # without which nothing is read from or written to __pycache__


def _never_cache(folder: str) -> None:
    """Make imports from below a folder use the source alone."""

    def hook(path: str) -> FileFinder:
        if not (path + os.sep).startswith(folder + os.sep):
            raise ImportError
        return FileFinder(path, (_SourceLoader, [".py"]))

    sys.path_hooks.insert(0, hook)


def run_function(root: str, import_name: str, module_file: str, function_name: str) -> Outcome:
    """Import a snippet module and run one of its figure or experiment functions."""
    sys.path.insert(0, root)
    os.chdir(root)
    _never_cache(os.path.join(root, "snippets"))
    outcome = Outcome()
    started = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            module = importlib.import_module(import_name)
            function = getattr(module, function_name)
            if function_name.startswith("figure_"):
                _figure(function, outcome)
            else:
                _experiment(function, getattr(module, "SEEDS", DEFAULT_SEEDS), outcome)
    except BaseException as error:  # SystemExit as well: it would end the build without a word
        outcome.error = f"failed:\n{_traceback(error, module_file)}"
    outcome.cpu_seconds = time.process_time() - started
    return outcome
