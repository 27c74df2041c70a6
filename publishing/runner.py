"""Run what is stale: every figure and experiment in a process of its own, all cores busy."""

import datetime
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed
from dataclasses import dataclass

from pebble import ProcessExpired, ProcessPool

from publishing import ROOT, PublishingError, store
from publishing.modules import Module, library_versions

TIME_LIMIT = float(os.environ.get("SNIPPET_TIME_LIMIT", "120"))
"""Seconds one figure or experiment may take."""


class SnippetError(PublishingError):
    """One or more snippets failed; the others' results are kept."""


@dataclass(frozen=True)
class Task:
    module: Module
    function: str
    key: str

    @property
    def where(self) -> str:
        return f"docs/zh/{self.module.path}.md: {self.module.relative_file}: {self.function}()"


def _call(*arguments):
    # Imported here, in the worker: the parent process never has to load torch.
    from publishing.worker import run_function

    return run_function(*arguments)


def _context():
    """Return the start method: forked from a process that holds torch, where forking exists."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["publishing.worker"])
    return context


def warm_up() -> None:
    """Start the fork server, so that the first edit under `mkdocs serve` need not wait for it."""
    if sys.platform != "win32":
        from multiprocessing import forkserver

        _context()
        forkserver.ensure_running()


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


def _failure(task: Task, error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return (
            f"{task.where} did not finish within {TIME_LIMIT:g} s and was stopped. Make it "
            "smaller; SNIPPET_TIME_LIMIT=<seconds> raises the limit on a slow machine."
        )
    if isinstance(error, ProcessExpired):
        code = error.exitcode
        how = f"killed by signal {-code}" if code and code < 0 else f"exit status {code}"
        return f"{task.where} ended its process before returning ({how})."
    return f"{task.where} could not be run: {error!r}"


def _finish(task: Task, future, versions: dict[str, str]) -> tuple[float, str | None]:
    """Store what a finished task gave; return its CPU seconds and its failure, if any."""
    try:
        outcome = future.result()
    except (TimeoutError, ProcessExpired, Exception) as error:
        return 0.0, _failure(task, error)
    if outcome.error:
        return outcome.cpu_seconds, f"{task.where} failed:\n{outcome.error}"
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
    return outcome.cpu_seconds, None


def _run(tasks: list[Task], report: Callable[[str], None]) -> list[str]:
    versions = library_versions()
    pending = {module.path: 0 for module in (task.module for task in tasks)}
    seconds = dict.fromkeys(pending, 0.0)
    for task in tasks:
        pending[task.module.path] += 1
    failures = []
    with ProcessPool(max_workers=os.cpu_count() or 1, max_tasks=1, context=_context()) as pool:
        try:
            futures = {
                pool.schedule(
                    _call,
                    args=(
                        str(task.module.root),
                        task.module.import_name,
                        str(task.module.file),
                        task.function,
                    ),
                    timeout=TIME_LIMIT,
                ): task
                for task in tasks
            }
            failed_modules = set()
            for future in as_completed(futures):
                task = futures[future]
                path = task.module.path
                used, failure = _finish(task, future, versions)
                seconds[path] += used
                pending[path] -= 1
                if failure:
                    failures.append(failure)
                    failed_modules.add(path)
                if not pending[path]:
                    state = "FAILED" if path in failed_modules else "ran"
                    report(f"{state} {task.module.relative_file} ({seconds[path]:.1f} s CPU)")
        except BaseException:
            pool.stop()
            raise
    return failures


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
