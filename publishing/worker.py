"""What runs inside a worker process. The fork server imports this module once, with torch."""

import contextlib
import importlib
import io
import os
import sys
import time
import traceback
from dataclasses import dataclass, field

import torch

from publishing import figures

torch.set_num_threads(1)
# The first optimizer of a process imports torch._dynamo, 3 s of CPU: once here, not in every fork.
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)

DEFAULT_SEEDS = range(5)


@dataclass
class Outcome:
    """What one function gave: two SVGs, or values over seeds, or a traceback."""

    cpu_seconds: float = 0.0
    error: str | None = None
    svgs: dict[str, bytes] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)


def _figure(function, outcome: Outcome) -> None:
    for theme in ("light", "dark"):
        torch.manual_seed(0)
        outcome.svgs[theme] = figures.draw(function, theme)


def _experiment(function, seeds, outcome: Outcome) -> None:
    for seed in seeds:
        torch.manual_seed(seed)
        values = function(seed)
        if not isinstance(values, dict) or not values:
            raise TypeError(f"seed {seed}: returned {values!r}, expected a dict of numbers")
        if outcome.values and values.keys() != outcome.values.keys():
            raise ValueError(f"seed {seed}: other keys than the first seed: {sorted(values)}")
        for key, value in values.items():
            outcome.values.setdefault(key, []).append(float(value))
        outcome.seeds.append(int(seed))


def _traceback(error: BaseException, module_file: str) -> str:
    """Format the traceback from the module's own frames on; the worker's are of no interest."""
    frames = traceback.extract_tb(error.__traceback__)
    start = next((i for i, frame in enumerate(frames) if frame.filename == module_file), None)
    lines = traceback.format_list(frames[start:]) if start is not None else []
    return "".join(lines + traceback.format_exception_only(error)).rstrip()


def run_function(root: str, import_name: str, module_file: str, function_name: str) -> Outcome:
    """Import a snippet module and run one of its figure or experiment functions."""
    if root not in sys.path:
        sys.path.insert(0, root)
    os.chdir(root)
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
    except Exception as error:
        outcome.error = _traceback(error, module_file)
    outcome.cpu_seconds = time.process_time() - started
    return outcome
