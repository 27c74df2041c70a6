"""What can be read off a page's Markdown or HTML: its program, its source page, its faults."""

import ast
import io
import re
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from pathlib import Path

import markdown
from markdown.preprocessors import Preprocessor
from pymdownx.snippets import SnippetMissingError

from publishing import ROOT, PublishingError, store
from publishing.modules import SECTION_END, SECTION_START, Module

FENCE = re.compile(r"^(?P<indent>[ ]*)(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)$")
INCLUDE = re.compile(r'^\s*--8<--\s+"([^"]+)"\s*$')
OUTPUT = 'title="输出"'


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language, its text with the indentation taken off, and its place."""

    language: str
    info: str
    text: str
    line: int  # of the first line of text, counted from 1

    @property
    def included(self) -> list[str]:
        """The `path:section` of every include line."""
        return [m[1] for line in self.text.splitlines() if (m := INCLUDE.match(line))]


def fences(text: str) -> list[Fence]:
    """Return the fenced blocks of a page in reading order, those in boxes and tabs as well.

    Raises:
        PublishingError: a fence is opened and not closed, or only by the next fence's end.
    """
    found, lines, number = [], text.splitlines(), 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        number += 1
        if not opening:
            continue
        indent, mark, body, start = opening["indent"], opening["mark"], [], number
        closing = re.compile(rf"^[ ]*{re.escape(mark[0])}{{{len(mark)},}}\s*$")
        while number < len(lines) and not closing.match(lines[number]):
            line = lines[number]
            inner = FENCE.match(line)
            if inner and inner["info"].strip() and inner["mark"].startswith(mark):
                raise PublishingError(
                    f"line {start}: this fence is not closed before line {number + 1} opens another"
                )
            body.append(line[len(indent) :] if line.startswith(indent) else line.lstrip())
            number += 1
        if number == len(lines):
            raise PublishingError(f"line {start}: this fence is never closed")
        number += 1
        info = opening["info"].strip()
        language = (re.match(r"\{?\s*\.?([\w+-]+)", info) or [None, ""])[1]
        found.append(Fence(language, info, "\n".join(body) + "\n", start + 1))
    return found


@lru_cache
def _includer(root: Path) -> Preprocessor:
    md = markdown.Markdown(
        extensions=["pymdownx.snippets"],
        extension_configs={
            "pymdownx.snippets": {
                "base_path": [str(root / "snippets")],
                "check_paths": True,
                "dedent_subsections": True,
            }
        },
    )
    return md.preprocessors["snippet"]


def expand(fence: Fence, root: Path = ROOT) -> str:
    """Replace the include lines of a fence by what they include, as the site does.

    Raises:
        PublishingError: a module or a section does not exist.
    """
    if "--8<--" not in fence.text:
        return fence.text
    lines = fence.text.splitlines()
    try:
        return "\n".join(_includer(root).run(lines)) + "\n"
    except SnippetMissingError as error:
        places = [str(n) for n, line in enumerate(lines, fence.line) if INCLUDE.match(line)]
        raise PublishingError(f"line {', '.join(places) or fence.line}: {error}") from error


@dataclass(frozen=True)
class Step:
    """One python fence of a page's program, and the output that the page shows below it."""

    code: str
    line: int
    output: str | None


def program(text: str, root: Path = ROOT) -> list[Step]:
    """Return the page's ```python fences, includes expanded, top to bottom.

    Raises:
        PublishingError: an include is missing, or an output block follows no python fence.
    """
    steps: list[Step] = []
    previous = None
    for fence in fences(text):
        if fence.language == "python":
            steps.append(Step(expand(fence, root), fence.line, None))
        elif fence.language == "text" and OUTPUT in fence.info:
            if previous is None or previous.language != "python":
                raise PublishingError(f"line {fence.line}: an output block follows no python fence")
            steps[-1] = Step(steps[-1].code, steps[-1].line, fence.text)
        previous = fence
    return steps


class PageFailure(Exception):
    """A fence of a page raised, or printed something other than what the page shows."""


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def run_step(step: Step, namespace: dict) -> None:
    """Execute one step of a page's program in the namespace that all its steps share.

    Raises:
        PageFailure: the code raised, or its output differs from what the page shows.
    """
    printed = io.StringIO()
    # Padded, so that tracebacks carry the page's line numbers (an include counts from its fence).
    code = "\n" * (step.line - 1) + step.code
    try:
        with redirect_stdout(printed):
            exec(compile(code, "<page>", "exec"), namespace)
    except (Exception, SystemExit) as error:
        raise PageFailure(
            f"line {step.line}: the code of this fence raised {type(error).__name__}: {error}"
        ) from error
    if step.output is not None and _plain(printed.getvalue()) != _plain(step.output):
        raise PageFailure(
            f"line {step.line}: this fence prints\n{_plain(printed.getvalue())}\n"
            f"but the page shows\n{_plain(step.output)}"
        )


def reading_minutes(text: str) -> int:
    """Estimate reading time: 400 Chinese characters or 200 words a minute, code at half speed."""
    code = sum(len(f.text.split()) for f in fences(text))
    prose = re.sub(r"(?ms)^ *(```+|~~~+).*?^ *\1\s*$", "", text)
    chinese = len(re.findall(r"[\u4e00-\u9fff]", prose))
    words = len(re.findall(r"[A-Za-z]{2,}", prose))
    return max(1, round(chinese / 400 + words / 200 + code / 100))


def module_page(module: Module) -> str:
    """Return the Markdown page that shows a module whole, one heading for each definition."""
    lines = module.source.splitlines()
    starts = [
        (min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.name)
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]

    def block(first: int, last: int) -> str:
        kept = [
            line
            for line in lines[first:last]
            if not SECTION_START.match(line) and not SECTION_END.match(line)
        ]
        code = "\n".join(kept).strip("\n")
        return f"````python\n{code}\n````\n" if code else ""

    name = module.path.rpartition("/")[2]
    up = "../" * (module.path.count("/") + 1)
    page = module.root / "docs" / "zh" / f"{module.path}.md"
    note = ""
    if module.local_imports:
        note = "下载的文件里写进了它用到的 `snippets/data.py`，单独能运行。\n"
    back = f"[回到这一章]({up}{module.path}.md) · " if page.is_file() else ""
    text = [
        "---",
        f"title: {module.relative_file}",
        f"description: {module.relative_file} 的完整源代码。",
        "search:\n  exclude: true",
        "---",
        f"# `{module.relative_file}` {{#module}}\n",
        f"{back}[下载 `{name}.py`]({name}.py){{ download }}\n",
        note,
        block(0, starts[0][0] - 1 if starts else len(lines)),
    ]
    for index, (first, definition) in enumerate(starts):
        last = starts[index + 1][0] - 1 if index + 1 < len(starts) else len(lines)
        text.append(f"## `{definition}` {{#{definition}}}\n")
        text.append(block(first - 1, last))
    return "\n".join(text)


def add_facts(text: str, module: Module) -> str:
    """Put one line below a page's title: reading time, and what its code costs to run."""
    seconds = sum(record.cpu_seconds for record in store.load_all(module))
    line = (
        f"约 {reading_minutes(text)} 分钟读完 · 全部图和实验 {max(1, round(seconds))} 秒跑完\n"
        "{: .page-facts }\n"
    )
    return re.sub(r"(?m)^(# .*)$", lambda title: f"{title[1]}\n\n{line}", text, count=1)


def provenance(module: Module, up: str, report_url: str | None = None, colab: str = "") -> str:
    """Return the closing section of a page: where its code is, and when and on what it last ran.

    Args:
        module: the page's module.
        up: the way from the page's folder to the root of the book, `../`.
        report_url: where mistakes are reported, if anywhere.
        colab: the address that opens the page's notebook in Colab, if there is one.
    """
    records = store.load_all(module)
    name = module.path.rpartition("/")[2]
    notebook = ""
    if up:  # a chapter; a notebook is no page, and a page's address is one level deeper
        link = f"../{up}notebooks/{module.path}.ipynb"
        notebook = f'，<a href="{link}" download>下载笔记本</a>'
        notebook += f"，[在 Colab 中打开]({colab})" if colab else ""
    lines = [
        "",
        '<div class="mark-read"></div>',
        "",
        "## 本页的代码 {#source}",
        "",
        f"- 全部代码：[`{module.relative_file}`]({up}code/{module.path}.md)，"
        f"[下载 `{name}.py`]({up}code/{module.path}.py){{ download }}{notebook}；"
        f"`python -m {module.import_name}` 单独运行它。",
    ]
    if records:
        last = max(records, key=lambda record: record.date)
        versions = "，".join(
            f"{label} {last.versions[key]}"
            for key, label in (("torch", "torch"), ("numpy", "NumPy"), ("python", "Python"))
            if key in last.versions
        )
        total = sum(record.cpu_seconds for record in records)
        lines.append(
            f"- 最近一次运行：{last.date}，{versions}，{last.machine}，"
            f"{len(module.figures)} 张图、{len(module.experiments)} 个实验共 {total:.1f} 秒 CPU。"
        )
        if module.experiments and (module.root / "docs" / "zh" / "results.md").is_file():
            anchor = module.path.replace("/", "-")
            lines.append(f"- 每个实验的种子、用时和全部数值：[全部结果]({up}results.md#{anchor})。")
    if report_url:
        lines.append(f"- 哪里不对，或者跑出来不一样：[报告这一页的错误]({report_url})。")
    return "\n".join(lines) + "\n"


def _visible_text(html: str) -> str:
    html = re.sub(r"(?s)<(pre|code|script|style|math)\b.*?</\1>", " ", html)
    html = re.sub(r'(?s)<(span|div) class="arithmatex">.*?</\1>', " ", html)
    return unescape(re.sub(r"<[^>]+>", "", html))


def rendering_problems(html: str) -> list[str]:
    """Find Markdown that did not render, and ids that occur twice."""
    # Two headings of one id are the contract's business; here, whatever else carries ids.
    headings = set(re.findall(r'<h[1-6][^<>]*?\sid="([^"]*)"', html))
    ids = Counter([*re.findall(r'<(?!h[1-6]\b)[a-z][^<>]*?\sid="([^"]*)"', html), *headings])
    found = [f"the id '{name}' is used {n} times" for name, n in ids.items() if n > 1]
    text = _visible_text(html)
    for pattern, what in (
        (r"\*\*[^*\n]{0,60}(?:\*\*)?", "bold that did not render"),
        (r"\$[^$\n]{1,60}\$", "a formula that did not render"),
        (r"\$\$", "a formula that did not render"),
        (r"\{\{[^}\n]*\}\}", "a result that was not filled in"),
        (r"\[[^\]\n]{1,60}\]\([^)\n]{1,80}\)", "a link that did not render"),
        (r"\[[^\]\n]{1,60}\]\[[^\]\n]{0,60}\]", "a link that did not render"),
        (r"\[\^[^\]\n]{1,60}\]", "a footnote that did not render"),
        (r"\{:?\s*[#.][\w-][^}\n]*\}", "an attribute list that did not render"),
        (r"(?m)^\s*(?:///|:::|!!!|\?\?\?\+?|===)[ \t]+\S.*$", "a block that did not render"),
        (r"--8<--.*", "an include that did not render"),
    ):
        found += [f"{what}: {match[0].strip()!r}" for match in re.finditer(pattern, text)]
    return found
