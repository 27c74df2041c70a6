"""Run what is stale: every figure and experiment in a process of its own, all cores busy."""

import contextlib
import datetime
import gc
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from publishing import ROOT, PublishingError, store
from publishing.modules import Module, library_versions

TIME_LIMIT = float(os.environ.get("SNIPPET_TIME_LIMIT", "120"))
"""Seconds one figure or experiment may take."""


class SnippetError(PublishingError):
    """One or more snippets failed; the others' results are kept."""


@dataclass(frozen=True)
class Task:
    """One figure or experiment to be run, by what `job` names."""

    module: Module
    function: str
    key: str
    job = "publishing.worker:run_function"

    @property
    def arguments(self) -> tuple:
        module = self.module
        return str(module.root), module.import_name, str(module.file), self.function


@dataclass(frozen=True)
class CellsTask(Task):
    """The cells of a notebook to be run: of each its name, its code and what it should print."""

    cells: tuple[tuple[str, str, str | None], ...]
    job = "publishing.cells:run_cells"

    @property
    def arguments(self) -> tuple:
        return str(self.module.root), self.cells


def _call(pipe: Connection, job: str, *arguments) -> None:
    """Run one task in its process; a process whose build has died ends as well."""
    # Imported here, in the worker: the parent process never has to load torch.
    from publishing.worker import end_with_parent

    gc.freeze()  # what the forks share is never garbage; collecting would look at it, and copy it
    end_with_parent()
    module, _, function = job.partition(":")
    pipe.send(getattr(importlib.import_module(module), function)(*arguments))


def _context():
    """Return the start method: forked from a process that holds torch, where forking exists."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["publishing.worker"])
    # It finds `publishing` through its working directory, and hands its workers the way it takes
    # SIGINT: Ctrl-C is for the build, which then stops them.
    with contextlib.chdir(ROOT), _sigint_ignored():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _sigint_ignored():
    try:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone may set handlers
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def warm_up() -> None:
    """Start the fork server, so that the first edit under `mkdocs serve` need not wait for it."""
    _context()


def stale_tasks(modules: Iterable[Module]) -> list[Task]:
    """Return what has no good record under its current key."""
    tasks = []
    for module in modules:
        key = module.key()
        functions = [f"figure_{name}" for name in module.figures]
        functions += [f"experiment_{name}" for name in module.experiments]
        tasks += [
            Task(module, function, key)
            for function in functions
            if store.load(module, function, key) is None
        ]
    return tasks


@dataclass
class Run:
    """A task in a process of its own, the pipe its outcome comes through, its last moment."""

    task: Task
    process: BaseProcess
    pipe: Connection
    deadline: float

    @classmethod
    def start(cls, context, task: Task) -> "Run":
        pipe, far_end = context.Pipe(duplex=False)
        process = context.Process(target=_call, args=(far_end, task.job, *task.arguments))
        try:
            process.start()
        except (OSError, EOFError) as error:
            raise PublishingError(f"cannot start a process for the snippets: {error!r}") from error
        far_end.close()
        return cls(task, process, pipe, time.monotonic() + TIME_LIMIT)

    def outcome(self) -> store.Outcome:
        """Return what the process sent, or say how it ended without sending anything."""
        if not self.pipe.poll():
            return store.Outcome(
                error=f"did not finish within {TIME_LIMIT:g} s and was stopped. Make it smaller; "
                "SNIPPET_TIME_LIMIT=<seconds> raises the limit on a slow machine."
            )
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(timeout=10)
        code = self.process.exitcode
        how = f"exit status {code}"
        if code and code < 0:
            names = {number.value: number.name for number in signal.Signals}
            how = f"killed by {names.get(-code, f'signal {-code}')}"
        return store.Outcome(error=f"ended its process before returning ({how}).")

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _save(task: Task, outcome: store.Outcome, versions: dict[str, str]) -> None:
    record = store.Record(
        function=task.function,
        key=task.key,
        date=datetime.date.today().isoformat(),
        cpu_seconds=round(outcome.cpu_seconds, 3),
        machine=store.machine(),
        versions=versions,
        seeds=outcome.seeds,
        values=outcome.values,
    )
    store.save(task.module, record, outcome.svgs)


def outcomes(tasks: list[Task]) -> Iterator[tuple[Task, store.Outcome]]:
    """Run tasks, as many at once as there are cores; yield what each gives as soon as it does."""
    if not tasks:
        return
    context, waiting = _context(), deque(tasks)
    running: dict[Connection, Run] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (os.cpu_count() or 1):
                run = Run.start(context, waiting.popleft())
                running[run.pipe] = run
            soonest = min(run.deadline for run in running.values())
            ready = wait(list(running), max(0.0, soonest - time.monotonic()))
            late = [pipe for pipe, run in running.items() if run.deadline <= time.monotonic()]
            for pipe in ready or late:
                task, outcome = running[pipe].task, running[pipe].outcome()
                running.pop(pipe).stop()
                if task.module.changed_on_disk():  # then nobody knows what it was that ran
                    outcome.error = "ran while the module was being changed; run it again."
                yield task, outcome
    finally:
        for run in running.values():
            run.stop()


def _run(tasks: list[Task], report: Callable[[str], None]) -> list[str]:
    """Run tasks and store what they give; return the failures in the tasks' order."""
    versions = library_versions()
    pending = Counter(task.module for task in tasks)
    seconds: Counter[Module] = Counter()
    errors: dict[Task, str] = {}
    for task, outcome in outcomes(tasks):
        module = task.module
        if outcome.error:
            errors[task] = outcome.error
        else:
            _save(task, outcome, versions)
        seconds[module] += outcome.cpu_seconds
        pending[module] -= 1
        if not pending[module]:
            failed = any(task.module == module for task in errors)
            state = "FAILED" if failed else "ran"
            report(f"{state} {module.relative_file} ({seconds[module]:.1f} s CPU)")
    failures: dict[tuple[Module, str], list[str]] = {}  # one message where all fail alike
    for task in tasks:
        if task in errors:
            failures.setdefault((task.module, errors[task]), []).append(task.function)
    return [
        f"docs/zh/{module.path}.md: {module.relative_file}: "
        f"{', '.join(f'{name}()' for name in functions)} {error}"
        for (module, error), functions in failures.items()
    ]


def bring_up_to_date(
    modules: list[Module], report: Callable[[str], None] = lambda line: None
) -> None:
    """Run every figure and experiment of the modules whose stored record is missing or stale.

    What succeeds is stored at once, so an interrupted or partly failed run loses nothing.

    Raises:
        SnippetError: a function raised, ran out of time or took its process down.
        PublishingError: a module cannot be parsed or `.build/` cannot be written.
    """
    if not stale_tasks(modules):
        return
    root = modules[0].root
    with store.lock(root, lambda: report("another build is running the snippets; waiting for it")):
        tasks = stale_tasks(modules)
        if not tasks:
            return
        failures = _run(tasks, report)
    if failures:
        raise SnippetError("\n\n".join(failures))


def values(module: Module, experiment: str) -> dict[str, list[float]]:
    """Return what an experiment measured, value by value over its seeds.

    Raises:
        KeyError: nothing is stored under that name.
    """
    record = store.load(module, f"experiment_{experiment}")
    if record is None:
        raise KeyError(f"{module.relative_file} has no stored result of experiment_{experiment}()")
    return record.values


__all__ = ["ROOT", "SnippetError", "bring_up_to_date", "stale_tasks", "values", "warm_up"]
