"""Seeds, no network, measured results, and each page of the book as one program."""

import os
import socket
from collections.abc import Callable

import numpy as np
import pytest
import torch
from markdown_it.token import Token

from publishing import ROOT, pages, runner
from publishing.modules import Module

# As in the runner: one thread a process, and a process a core. Two processes of pytest with two
# threads each spend half of their time waiting for one another.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # and so do the processes that tests start

# Real data sets, where they lie beside the repository; tests that need them are skipped elsewhere.
BESIDE = ROOT.parent / "shared" / "data"
if BESIDE.is_dir():
    os.environ.setdefault("DATA_DIR", str(BESIDE))

# Scripts that the labs' tests run as notebooks; collecting would import them, which runs them.
collect_ignore_glob = ["docs/zh/labs/*"]

LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@pytest.fixture(autouse=True)
def fresh_torch() -> None:
    """Start every test from the same seed, and with what `torch.compile` may have turned off."""
    torch.manual_seed(0)
    torch.distributions.Distribution.set_default_validate_args(True)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that leave the machine: everything must work without a network."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and address[0] not in LOOPBACK:
            raise OSError(f"a test tried to reach {address}; tests run without a network")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def measured() -> Callable[[Callable], dict[str, np.ndarray]]:
    """Return a function: experiment → its stored values, one array over the seeds for each key."""

    def values(experiment: Callable) -> dict[str, np.ndarray]:
        path = experiment.__module__.removeprefix("snippets.").replace(".", "/")
        module = Module(path)
        runner.bring_up_to_date([module])
        name = experiment.__name__.removeprefix("experiment_")
        return {key: np.array(v) for key, v in runner.values(module, name).items()}

    return values


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="needs CUDA; torch.cuda.is_available() is False")
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


class PageProgram:
    """Gives pytest-markdown-docs a page's fences as one program, a call for each fence."""

    def __init__(self) -> None:
        # Those of every page: a program names them by number, so that a traceback stays short.
        self.steps: list[pages.Step] = []

    def parse(self, text: str) -> list[Token]:
        first = len(self.steps)
        self.steps += pages.program(text)
        calls = [f"__run_step__({n}, globals())\n" for n in range(first, len(self.steps))]
        if not calls:
            return []
        return [Token("fence", "code", 0, map=[0, 1], info="python", content="".join(calls))]


PAGE_PROGRAM = PageProgram()


def pytest_markdown_docs_markdown_it() -> PageProgram:
    return PAGE_PROGRAM


def pytest_markdown_docs_globals() -> dict:
    return {"__run_step__": lambda n, scope: pages.run_step(PAGE_PROGRAM.steps[n], scope)}
