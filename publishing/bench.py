"""`make bench`: every budget of the build beside its yardstick, measured in one run.

Works on a copy of the tree, so that neither `.build/` nor `site/` is touched. Times are wall
seconds unless they say CPU; compare ratios, not seconds, between machines.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from publishing import ROOT, labs, store
from publishing.modules import find_modules

MKDOCS = [sys.executable, "-m", "mkdocs"]
ENVIRONMENT = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}


def row(what: str, measured: str, yardstick: str, ratio: str, budget: str) -> None:
    print(f"| {what} | {measured} | {yardstick} | {ratio} | {budget} |", flush=True)


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command quietly; return wall and CPU seconds, its children's included."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed in {folder}:\n{done.stdout}{done.stderr}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return wall, cpu


def copy_of_the_tree(target: Path) -> None:
    names = ("docs", "snippets", "records", "publishing", "tests", "mkdocs.yml", "pyproject.toml")
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, target / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
            )
        else:
            shutil.copy(source, target / name)


ONE_PROCESS = """
import importlib, sys, matplotlib
matplotlib.use("Agg")
import torch
torch.set_num_threads(1)
module = importlib.import_module(sys.argv[1])
for name in list(vars(module)):
    function = getattr(module, name)
    if name.startswith("figure_"):
        for _ in range(2):
            function().savefig(f"/dev/null", format="svg")
    elif name.startswith("experiment_"):
        for seed in getattr(module, "SEEDS", range(5)):
            function(seed)
"""


def bench_snippets(tree: Path) -> None:
    modules = find_modules(tree)
    wall, _ = run([sys.executable, "-m", "publishing"], tree)
    cpu = {m.path: sum(r.cpu_seconds for r in store.load_all(m)) for m in modules}
    alone = {
        module.path: run([sys.executable, "-c", ONE_PROCESS, module.import_name], tree)
        for module in modules
    }
    for path, seconds in cpu.items():
        own_cpu = alone[path][1]
        row(
            f"figures and experiments of {path}, cold",
            f"{seconds:.1f} s CPU",
            f"own interpreter: {own_cpu:.1f} s CPU",
            f"{seconds / own_cpu:.2f}",
            "≤ 15 s CPU",
        )
    in_labs = sum(lab.executed["metadata"]["book"]["seconds"] for lab in labs.find_labs(tree))
    ideal = (sum(cpu.values()) + in_labs) / (os.cpu_count() or 1)
    row(
        f"all {len(modules)} modules and the labs, cold",
        f"{wall:.1f} s",
        f"summed CPU ÷ cores: {ideal:.1f} s",
        f"{wall / ideal:.2f}",
        "≤ 1.25",
    )
    one_by_one = in_labs + sum(own_wall for own_wall, _ in alone.values())
    row(
        f"all {len(modules)} modules and the labs, cold",
        f"{wall:.1f} s",
        f"one process each: {one_by_one:.1f} s",
        f"{wall / one_by_one:.2f}",
        "—",
    )


def plain_tree(tree: Path, target: Path) -> None:
    """The same pages, code pages and figures as files, for MkDocs without hooks and overrides."""
    site = (tree / "mkdocs.yml").read_text(encoding="utf-8")
    site = re.sub(r"(?m)^hooks:\n(?:  .*\n)+|^  custom_dir:.*\n", "", site)
    site = site.replace("!relative $config_dir/snippets", str(tree / "snippets"))
    shutil.copytree(tree / "docs", target / "docs")
    shutil.copytree(tree / "docs" / "assets", target / "docs" / "zh" / "assets")
    (target / "mkdocs.yml").write_text(re.sub(r"(?m)^watch:.*\n", "", site), encoding="utf-8")
    from publishing import pages

    for module in find_modules(tree):
        page = target / "docs" / "zh" / "code" / f"{module.path}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(pages.module_page(module), encoding="utf-8")
        for file in store.folder(module).glob("*.svg"):
            folder = target / "docs" / "zh" / module.path
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.name)


def bench_unchanged(tree: Path, plain: Path) -> None:
    plain_tree(tree, plain)
    ours, theirs = [], []
    for _ in range(5):
        ours.append(run([*MKDOCS, "build", "-q", "-d", str(tree / "site")], tree)[0])
        theirs.append(run([*MKDOCS, "build", "-q", "-d", str(plain / "site")], plain)[0])
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    row(
        "build with nothing changed",
        f"{statistics.median(ours):.2f} s",
        f"plain mkdocs build: {statistics.median(theirs):.2f} s",
        f"{ratio:.2f}",
        "≤ 1.2",
    )


def _wait_for(check: Callable[[], bool], limit: float = 120) -> float:
    started = time.perf_counter()
    while not check():
        if time.perf_counter() - started > limit:
            sys.exit("mkdocs serve did not show the edit")
        time.sleep(0.02)
    return time.perf_counter() - started


def bench_serve(tree: Path) -> None:
    port = 8123
    address = f"http://127.0.0.1:{port}"
    command = [*MKDOCS, "serve", "-q", "-a", f"127.0.0.1:{port}"]
    server = subprocess.Popen(
        command,
        cwd=tree,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def shows(path: str, text: str) -> bool:
        with contextlib.suppress(OSError):
            return text in urllib.request.urlopen(f"{address}{path}", timeout=20).read().decode()
        return False

    try:
        _wait_for(lambda: shows("/", "</html>"))
        time.sleep(15)  # the fork server loads torch in the background
        page = tree / "docs/zh/linear/gradient_descent.md"
        page.write_text(page.read_text(encoding="utf-8") + "\n编辑标记一\n", encoding="utf-8")
        seconds = _wait_for(lambda: shows("/linear/gradient_descent/", "编辑标记一"))
        row("edit a page in serve → shown", f"{seconds:.1f} s", "—", "—", "≤ 2 s")

        module = next(m for m in find_modules(tree) if m.path == "linear/gradient_descent")
        source = module.file.read_text(encoding="utf-8") + "\n# edit marker\n"
        started = time.perf_counter()
        module.file.write_text(source, encoding="utf-8")
        _wait_for(lambda: shows("/code/linear/gradient_descent/", "edit marker"))
        seconds = time.perf_counter() - started
        own = sum(record.cpu_seconds for record in store.load_all(module))
        own_wall = own / (os.cpu_count() or 1)
        row(
            "edit a module in serve → page shown",
            f"{seconds:.1f} s",
            f"its own run: {own_wall:.1f} s",
            f"{seconds - own_wall:+.1f} s",
            "≤ 2 s more",
        )
    finally:
        server.terminate()
        server.wait()


def bench_tests() -> None:
    seconds, _ = run(["make", "test"], ROOT)
    row("make test after set-up", f"{seconds:.0f} s", "—", "—", "≤ 360 s")


def main() -> None:
    print(f"{store.machine()}\n{json.dumps(find_versions())}\n")
    print("| what | measured | yardstick | ratio | budget |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        tree, plain = Path(first), Path(second)
        copy_of_the_tree(tree)
        bench_snippets(tree)
        bench_unchanged(tree, plain)
        bench_serve(tree)
    bench_tests()


def find_versions() -> dict[str, str]:
    from publishing.modules import library_versions

    return library_versions()


if __name__ == "__main__":
    main()
