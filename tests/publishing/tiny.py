"""A tiny book that keeps every rule, in a folder of its own, to be broken one rule at a time."""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from publishing import PublishingError, contract, runner
from publishing.modules import Module, find_modules

PATIENCE = 120
"""Seconds after which a test that waits for another process gives up; none waits by the clock."""

PAGE_FILE = "docs/zh/part/chapter.md"
MODULE_FILE = "snippets/part/chapter.py"

MODULE = '''\
"""A chapter in little."""

# --8<-- [start:imports]
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

# --8<-- [end:imports]


# --8<-- [start:double]
def double(x: float) -> float:
    """Return 2 x."""
    return 2 * x


# --8<-- [end:double]


def figure_line() -> Figure:
    """A straight line."""
    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, double(1)])
    return fig


def experiment_noise(seed: int) -> dict[str, float]:
    """Twice the seed."""
    return {"loss": double(seed), "exact": 0.5}
'''

PAGE = """\
---
title: 小章
description: 一章的最小样子。
---

# 小章 {#small}

!!! abstract "一句话结论"
    两倍就是两倍。

## 先猜 {#guess}

见[推导](#derivation)和[首页](../index.md#home)。

## 先失败 {#failure}

```python
--8<-- "part/chapter.py:imports"
```

## 推导 {#derivation}

$$
y = 2x \\quad\\text{两倍} \\tag{1}
$$

## 代码 {#code}

```python
--8<-- "part/chapter.py:double"
```

```python
print(double(3))
```

```text title="输出"
6
```

![一条直线](chapter/line.svg)
/// figure-caption
一条线。
///

## 对照实验 {#comparison}

损失 {{ noise.loss }}，其中 $x$ 是**“自变量”**。

/// results | noise
loss: 损失
exact: 精确值
///

## 什么时候没用 {#limits}

## 勘误 {#errata}

## 报错诊所 {#clinic}

## 练习 {#exercises}

**1.** ★ 第一题，见 [推导](#derivation)。

??? success "解答"
    一

**2.** ★ 第二题，见 [推导](#derivation)。

??? success "解答"
    二

**3.** ★★ 第三题，见 [推导](#derivation)。

??? success "解答"
    三

**4.** ★★★ 第四题，见 [推导](#derivation)。

??? success "解答"
    四

## 参考 {#references}
"""

INDEX = """\
---
title: 首页
description: 一本最小的书。
---

# 首页 {#home}

读[小章](part/chapter.md)。
"""


LAB_FILE = "docs/zh/labs/small.py"

LAB = """\
# ---
# title: 小实验
# description: 一个实验的最小样子。
# ---

# %% [markdown]
# # 小实验 {#small}
#
# 见[那一章](../part/chapter.md)和
# 公式 $x^2$。

# %%
import os
from pathlib import Path

print("DATA_DIR" in os.environ, list(Path().iterdir()))

# %% alt="一条线" caption="一条直线。"
import matplotlib.pyplot as plt

plt.plot([0, 1], [0, 1])
plt.show()

# %%
6 * 7

# %% [markdown]
# ## 接着试 {#next}
"""


class Book:
    """A folder laid out like the repository: `docs`, `snippets`, `tests`, `.build`."""

    def __init__(self, root: Path):
        self.root = root
        self.write("docs/zh/index.md", INDEX)
        self.write(PAGE_FILE, PAGE)
        self.write(MODULE_FILE, MODULE)
        self.write("tests/part/test_chapter.py", "")

    def write(self, path: str, text: str | bytes) -> Path:
        """Write a file; replacing one replaces its time stamp as well."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that must be there."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        self.write(path, text.replace(old, new))

    @property
    def build(self) -> Path:
        return self.root / ".build"

    @property
    def modules(self) -> list[Module]:
        return find_modules(self.root)

    @property
    def problems(self) -> list[str]:
        return contract.problems(self.root, self.modules)

    def run(self) -> list[str]:
        """Run what is stale; return the lines that were reported."""
        lines: list[str] = []
        runner.bring_up_to_date(self.modules, lines.append)
        return lines

    def run_failing(self) -> str:
        """Run what is stale, which must fail; return the message."""
        with pytest.raises(PublishingError) as caught:
            self.run()
        return str(caught.value)

    def results(self) -> dict[str, tuple[bytes, int]]:
        """Return the content and the time stamp of everything in `.build/`."""
        return {
            file.relative_to(self.build).as_posix(): (file.read_bytes(), file.stat().st_mtime_ns)
            for file in sorted(self.build.rglob("*"))
            if file.is_file() and file.name != "lock"
        }


@contextlib.contextmanager
def process(book: Book, *arguments: str, **environment: str) -> Iterator[subprocess.Popen]:
    """Run `python <arguments>` in the book's folder; whatever happens, it ends with the block."""
    started = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=book.root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        started.stdout.close()  # not read to their end: what it left running may hold them open
        started.stderr.close()


def run(book: Book, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run `python <arguments>` in the book's folder; return its exit status and all it said."""
    with process(book, *arguments, **environment) as started:
        out, err = started.communicate(timeout=PATIENCE)
        return started.returncode, out + err


class Signal:
    """A named pipe on which a snippet says where it is, waits, or is known to have ended.

    Nobody sleeps, and a test that would wait for ever fails after PATIENCE seconds.
    """

    def __init__(self, path: Path):
        self.path = path
        os.mkfifo(path)
        # Open for writing as well: opening does not wait, and writers may come and go.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)

    def wait(self) -> bytes:
        """Wait until the snippet has written something."""
        assert self.poll.poll(PATIENCE * 1000), f"nobody wrote to {self.path}"
        return os.read(self.fd, 1000)

    def send(self) -> None:
        """Let a snippet that reads a line from the pipe go on."""
        os.write(self.fd, b"go\n")

    def wait_for_end(self) -> None:
        """Wait until no process holds the pipe open any more."""
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        os.close(self.fd)
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        events = poll.poll(PATIENCE * 1000)
        os.close(reader)
        assert events and events[0][1] & select.POLLHUP, "the process still runs"
