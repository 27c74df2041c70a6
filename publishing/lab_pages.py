"""Turn a lab's executed notebook into a page of the book, its figures and the notebook to download.

Prose and figures are Markdown, so that the book's own pipeline makes them: explicit ids, formulas
as MathML, figures in two themes, numbered captions, search. Code cells and what they printed are
left to mkdocs-jupyter: `page` marks their places, `printed` is the notebook that it renders. The
offered notebook carries the same cells and outputs, without what only the book understands.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from publishing import lab_records
from publishing.labs import Lab, LabError

TEMPLATES = Path(__file__).parent / "templates"
"""mkdocs-jupyter's templates: a cell in the book's markup."""

HEADING_ID = re.compile(r"(?m)^(#{1,6} .*?)[ \t]*\{#[\w-]+\}[ \t]*$")
PAGE_LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:)[^)]+\)")
TITLE = re.compile(r"(?m)^# .*$")
CELL = re.compile(r'<div data-cell="(\d+)-\w+"></div>')
CHINESE = "\u2e80-\u9fff\uff00-\uffef\u2018-\u201d\u2026"
BROKEN_LINE = re.compile(rf"(?<=[{CHINESE}])\n(?=[{CHINESE}])")


@dataclass(frozen=True)
class Drawing:
    """A figure of a lab: its file name without theme, both drawings, its size in CSS pixels."""

    name: str
    svgs: dict[str, str]
    size: tuple[int, int]


def text(value: str | list[str]) -> str:
    """Join a notebook's multi-line string."""
    return value if isinstance(value, str) else "".join(value)


def _svgs(cell: dict) -> list[str]:
    datas = [output.get("data", {}) for output in cell.get("outputs", [])]
    return [text(data["image/svg+xml"]) for data in datas if "image/svg+xml" in data]


def _size(svg: str) -> tuple[int, int]:
    head = svg[: svg.index(">", svg.index("<svg"))]
    width, height = (
        float(re.search(rf'\b{side}="([\d.]+)pt"', head)[1]) for side in ("width", "height")
    )
    return round(width * 4 / 3), round(height * 4 / 3)


def _dark(svg: str, colours: dict[str, str]) -> str:
    """Return a drawing in the dark theme's colours; one pass, so that no colour changes twice."""
    pattern = re.compile("|".join(map(re.escape, colours)) + r"(?![0-9a-f])")
    return pattern.sub(lambda match: colours[match[0]], svg)


def _places(lab: Lab) -> list[tuple[dict, list[Drawing]]]:
    """Return the cells of a lab, each with its drawings, numbered from 1 through the lab."""
    places, number = [], 0
    colours = lab.executed["metadata"]["book"]["dark"]
    for cell in lab.executed["cells"]:
        drawings = []
        for svg in _svgs(cell):
            number += 1
            both = {"light": svg, "dark": _dark(svg, colours)}
            drawings.append(Drawing(f"figure_{number}", both, _size(svg)))
        places.append((cell, drawings))
    return places


def drawings(lab: Lab) -> dict[str, str]:
    """Return the lab's figures as files: `labs/race/figure_1.light.svg` → SVG."""
    return {
        f"{lab.path}/{drawing.name}.{theme}.svg": svg
        for _, found in _places(lab)
        for drawing in found
        for theme, svg in drawing.svgs.items()
    }


def _figure(lab: Lab, cell: dict, drawing: Drawing) -> str:
    """Return a figure's Markdown: both drawings and the caption.

    Raises:
        LabError: the cell has no `alt` or no `caption`.
    """
    for name in ("alt", "caption"):
        if not cell["metadata"].get(name):
            first = text(cell["source"]).partition("\n")[0]
            raise LabError(
                f'{lab.relative_file}: the cell that starts with "{first}" draws a figure; '
                f'give it a text: # %% alt="..." caption="...". It has no {name}'
            )
    width, height = drawing.size
    images = "\n".join(
        f"![{cell['metadata']['alt']}]({lab.name}/{drawing.name}.{theme}.svg#only-{theme})"
        f'{{ width="{width}" height="{height}" loading="lazy" decoding="async" }}'
        for theme in drawing.svgs
    )
    return f"{images}\n/// figure-caption\n{cell['metadata']['caption']}\n///\n"


def _fence(info: str, body: str) -> str:
    return f"````{info}\n{body.rstrip()}\n````\n"


def _code_cell(lab: Lab, number: int, cell: dict, found: list[Drawing]) -> str:
    # With a hash of the cell, so that the page's text changes whenever the cell does.
    digest = hashlib.sha256(json.dumps([cell["source"], cell["outputs"]]).encode()).hexdigest()
    mark = f'<div data-cell="{number}-{digest[:16]}"></div>\n'
    return "\n".join([mark, *(_figure(lab, cell, drawing) for drawing in found)])


def _prose(lab: Lab, cell: dict) -> str:
    return lab_records.fill_in(text(cell["source"]), lab.root) + "\n"


def page(lab: Lab) -> str:
    """Return a lab's page as Markdown, front matter first, with a mark for each code cell.

    Raises:
        LabError: the lab has not been run, has no front matter, or a figure has no text.
    """
    parts = []
    for number, (cell, found) in enumerate(_places(lab)):
        code = cell["cell_type"] == "code"
        parts.append(_code_cell(lab, number, cell, found) if code else _prose(lab, cell))
    if not parts or not parts[0].startswith("---"):
        raise LabError(f"{lab.relative_file}: no front matter with title and description")
    body = "\n".join(parts)
    return TITLE.sub(lambda title: f"{title[0]}\n\n{_facts(lab)}", body, count=1) + _source(lab)


def _facts(lab: Lab) -> str:
    seconds = lab.executed["metadata"]["book"]["seconds"]
    return (
        f"实验室 · 全部代码 {max(1, round(seconds))} 秒跑完 · "
        f"[下载笔记本]({lab.name}.ipynb){{ download }}\n{{: .page-facts }}\n"
    )


def _source(lab: Lab) -> str:
    """Return the closing section: the files, and when and on what the lab last ran."""
    book = lab.executed["metadata"]["book"]
    names = (("torch", "torch"), ("numpy", "NumPy"), ("python", "Python"))
    versions = "，".join(f"{label} {book['versions'][key]}" for key, label in names)
    return (
        "\n## 本页的代码 {#files}\n\n"
        f"- 带输出的笔记本：[下载 `{lab.name}.ipynb`]({lab.name}.ipynb){{ download }}；"
        f"纯脚本：[下载 `{lab.name}.py`]({lab.name}.py){{ download }}。"
        "两个都不依赖这个仓库。\n"
        f"- 最近一次运行：{book['date']}，{versions}，{book['machine']}，"
        f"{book['seconds']} 秒 CPU。\n"
    )


def printed(lab: Lab, html: str) -> str:
    """Return the notebook that mkdocs-jupyter renders: a page's HTML, a code cell at each mark.

    Args:
        lab: the lab.
        html: what the site's Markdown made of `page(lab)`.
    """
    cells = []
    for place, part in enumerate(CELL.split(html)):
        if place % 2 == 0:
            cell = {"cell_type": "raw", "source": part}
        else:
            cell = lab.executed["cells"][int(part)]
            output = {"output_type": "stream", "name": "stdout", "text": output_text(cell)}
            cell = cell | {"outputs": [output] if output["text"] else []}
        cells.append(cell | {"id": f"part-{place}", "metadata": {}})
    return _written(cells)


def output_text(cell: dict) -> str:
    """Return what a code cell printed, and its last value unless that is a figure."""
    parts = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        if output["output_type"] == "stream":
            parts.append(text(output["text"]))
        elif "image/svg+xml" not in data and "text/plain" in data:
            parts.append(text(data["text/plain"]) + "\n")
    return "".join(parts)


def without_style(html: str) -> str:
    """Return what mkdocs-jupyter made without the style sheet that it puts at the end."""
    page, style, _ = html.rpartition("<style>")
    return page if style else html


def notebook(lab: Lab) -> str:
    """Return the notebook to download: the same cells and outputs, and nothing of the book's."""
    cells = []
    for cell in lab.executed["cells"]:
        if cell["cell_type"] == "raw":
            continue
        cell = json.loads(json.dumps(cell))
        cell["metadata"] = {}
        if cell["cell_type"] == "markdown":
            cell["source"] = plain(_prose(lab, cell).rstrip("\n"))
        cells.append(cell)
    return _written(cells)


def _written(cells: list[dict]) -> str:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    whole = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def plain(markdown: str) -> str:
    """Return a Markdown cell for Jupyter: no ids, no links into the book, no broken lines."""
    markdown = HEADING_ID.sub(r"\1", markdown)
    return BROKEN_LINE.sub("", PAGE_LINK.sub(r"\1", markdown))


def source_text(lab: Lab) -> str:
    """Return front matter, Markdown and code of a lab as one Markdown text, without outputs."""
    kept = lab.recall()
    if kept is None:
        import jupytext  # slow to load, and an unchanged book does without

        kept = jupytext.reads(lab.source, fmt="py:percent")
    return "\n".join(
        _fence("python", text(cell["source"]))
        if cell["cell_type"] == "code"
        else text(cell["source"]) + "\n"
        for cell in kept["cells"]
    )
