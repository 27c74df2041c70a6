"""The contract between a page, its module and its test: what is missing, what is unused."""

import re
from pathlib import Path

import yaml

from publishing import PublishingError, lab_pages, pages
from publishing.labs import Lab, find_labs
from publishing.modules import Module

REQUIRED_IDS = (
    "guess",
    "failure",
    "derivation",
    "code",
    "comparison",
    "limits",
    "errata",
    "clinic",
    "exercises",
    "references",
)
"""The sections of a chapter, in order; CONTRIBUTING.md says what belongs in each."""

FRONT_MATTER = re.compile(r"(?s)---\n(.*?)\n---\n")
HEADING = re.compile(r"^ *(#{1,6})\s*(.*?)\s*$")  # to Markdown, `##x` is a heading as well
UNDERLINE = re.compile(r"^(=+|-+) *$")
HEADING_ID = re.compile(r"\{[^}]*#([A-Za-z][\w-]*)(?:\s[^}]*)?\}\s*$", re.ASCII)
CHINESE = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")
EXERCISE = re.compile(r"(?ms)^\*\*(\d+)\.\*\* (★{1,3}) (.*?)(?=\n\n|\Z)")
"""An exercise: its number, its level (one to three stars), its question."""
LONGEST_SECTION = 30
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+?)(\w+)\.svg[^)]*\)")


def test_file(path: str, root: Path) -> Path:
    """Return the test file of a page: `linear/x` → `tests/linear/test_x.py`."""
    folder, _, name = path.rpartition("/")
    return root / "tests" / folder / f"test_{name}.py"


def headings(text: str) -> list[tuple[int, str, str | None]]:
    """Return line number, text and id of every heading outside front matter and fences."""
    found, mark, previous = [], None, ""
    front_matter = FRONT_MATTER.match(text)
    first = front_matter[0].count("\n") if front_matter else 0
    for number, line in list(enumerate(text.splitlines(), 1))[first:]:
        fence = pages.FENCE.match(line)
        if fence and mark is None:
            mark = fence["mark"]
        elif mark and re.match(rf"^\s*{re.escape(mark[0])}{{{len(mark)},}}\s*$", line):
            mark = None
        elif mark is None:
            title = None
            if match := HEADING.match(line):
                title = match[2]
            elif UNDERLINE.match(line) and previous.strip():
                number, title = number - 1, previous.strip()
            if title is not None:
                identifier = HEADING_ID.search(title)
                found.append((number, title, identifier[1] if identifier else None))
        previous = line
    return found


def _heading_problems(where: str, text: str) -> list[str]:
    found, seen = [], set()
    for number, title, identifier in headings(text):
        if identifier is None:
            found.append(f"{where}:{number}: heading '{title}' has no ASCII id; add {{#...}}")
        elif identifier in seen:
            found.append(f"{where}:{number}: the id '{identifier}' is used twice")
        elif identifier == "source":
            found.append(f"{where}:{number}: the id 'source' is that of the section at the end")
        seen.add(identifier)
        if "$" in title:
            found.append(f"{where}:{number}: no formulas in headings: '{title}'")
    return found


def _section_problems(where: str, text: str) -> list[str]:
    found = []
    ids = [identifier for _, _, identifier in headings(text)]
    for required in REQUIRED_IDS:
        if required not in ids:
            found.append(f"{where}: no section {{#{required}}}; see CONTRIBUTING.md")
    present = [identifier for identifier in ids if identifier in REQUIRED_IDS]
    if present != [required for required in REQUIRED_IDS if required in present]:
        found.append(f"{where}: sections out of order: {' '.join(present)}")
    if "一句话结论" not in text:
        found.append(f'{where}: no box !!! abstract "一句话结论"')
    solutions = len(re.findall(r'(?m)^\?\?\?\+? success "', text))
    if solutions < 4:
        found.append(f"{where}: {solutions} exercises with a folded solution, at least 4 wanted")
    exercises = len(EXERCISE.findall(text))
    if exercises < solutions:
        found.append(
            f"{where}: {solutions} solutions, but {exercises} exercises that start with a number "
            "and a level: '**1.** ★ …', see CONTRIBUTING.md"
        )
    return found


def _front_matter_problems(where: str, text: str) -> list[str]:
    match = FRONT_MATTER.match(text)
    try:
        meta = (yaml.safe_load(match[1]) if match else None) or {}
    except yaml.YAMLError as error:
        return [f"{where}: front matter cannot be read: {' '.join(str(error).split())}"]
    if not isinstance(meta, dict):
        return [f"{where}: front matter must be lines of 'key: value'"]
    found = [
        f"{where}: front matter has no '{key}'"
        for key in ("title", "description")
        if not meta.get(key)
    ]
    if len(str(meta.get("description", ""))) > 80:
        found.append(f"{where}: the description is longer than 80 characters")
    return found


def _fence_problems(where: str, text: str) -> list[str]:
    """Find fences that look as if they were tested and are not."""
    found, previous = [], None
    for fence in pages.fences(text):
        line = fence.line - 1
        if not fence.language or (
            fence.language != "python"
            and re.fullmatch(r"i?py(thon)?[\d.]*|pycon", fence.language, re.IGNORECASE)
        ):
            found.append(
                f"{where}:{line}: a fence that runs says ```python, any other its language or "
                f"```text; this one says '{fence.info}'"
            )
        if "输出" in fence.info and (fence.language != "text" or pages.OUTPUT not in fence.info):
            found.append(f"{where}:{line}: only ```text {pages.OUTPUT} is compared with the output")
        elif "输出" in fence.info and (previous is None or previous.language != "python"):
            found.append(f"{where}:{line}: an output block follows no python fence")
        previous = fence
        if fence.language == "python":
            for number, code in enumerate(fence.text.splitlines(), fence.line):
                if CHINESE.search(code):
                    found.append(f"{where}:{number}: no Chinese in code: '{code.strip()}'")
    return found


def _module_problems(module: Module) -> list[str]:
    found = [
        f"{module.relative_file}: the section '{name}' has {lines} lines; split it, "
        f"{LONGEST_SECTION} are the most a reader takes in at once"
        for name, lines in module.sections.items()
        if lines > LONGEST_SECTION
    ]
    for number, line in enumerate(module.source.splitlines(), 1):
        if CHINESE.search(line):
            where = f"{module.relative_file}:{number}"
            found.append(f"{where}: no Chinese in code: '{line.strip()}'")
    return found


def _use_problems(where: str, module: Module, text: str, shown_figures: set[str]) -> list[str]:
    included = [name for fence in pages.fences(text) for name in fence.included]
    shown = [name.partition(":")[2] for name in included if name.startswith(f"{module.path}.py:")]
    found = []
    for name in included:
        if re.search(r":\d", name):
            found.append(f"{where}: include '{name}' by section name, not by line number")
    for section in module.sections:
        if section not in shown:
            found.append(f"{module.relative_file}: no page shows the section '{section}'")
    order = [name for name in dict.fromkeys(shown) if name in module.sections]
    if order != [section for section in module.sections if section in order]:
        found.append(f"{module.relative_file}: sections are not in page order: {' '.join(order)}")
    for figure in module.figures:
        if f"{module.path}/{figure}" not in shown_figures:
            found.append(f"{module.relative_file}: no page embeds figure_{figure}()")
    quoted = re.findall(r"\{\{\s*(\w+)\.", text) + re.findall(
        r"(?m)^ */// +results *\| *(\w+)", text
    )
    for experiment in module.experiments:
        if experiment not in quoted:
            found.append(f"{module.relative_file}: no page quotes experiment_{experiment}()")
    return found


def _figures_on(path: str, text: str) -> set[str]:
    """Return the `module/figure` paths of the generated figures a page embeds."""
    base = path.rpartition("/")[0]
    found = set()
    for folder, name in IMAGE.findall(text):
        parts: list[str] = base.split("/") if base else []
        for part in folder.strip("/").split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part != ".":
                parts.append(part)
        found.add("/".join([*parts, name]))
    return found


def _read_pages(root: Path) -> dict[str, str]:
    """Return the text of every page.

    Raises:
        PublishingError: a page cannot be read, has a fence without an end, or includes what does
            not exist; nothing useful could be said or built on top of that.
    """
    docs = root / "docs" / "zh"
    texts, unreadable = {}, []
    for file in sorted(docs.rglob("*.md")):
        where = f"docs/zh/{file.relative_to(docs).as_posix()}"
        try:
            text = file.read_text(encoding="utf-8")
            for fence in pages.fences(text):
                pages.expand(fence, root)
            texts[file.relative_to(docs).with_suffix("").as_posix()] = text
        except (PublishingError, UnicodeDecodeError) as error:
            unreadable.append(f"{where}: {error}")
    if unreadable:
        raise PublishingError("\n".join(unreadable))
    return texts


def problems(root: Path, modules: list[Module]) -> list[str]:
    """Return one sentence for each broken rule, naming page or module; empty if all is well.

    Raises:
        PublishingError: see `_read_pages`.
    """
    texts = _read_pages(root)
    figures = set().union(*(_figures_on(path, text) for path, text in texts.items()), set())
    by_path = {module.path: module for module in modules}
    found = []
    for path, text in texts.items():
        where = f"docs/zh/{path}.md"
        try:
            found += _front_matter_problems(where, text)
            found += _heading_problems(where, text)
            found += _fence_problems(where, text)
            if "/" in path:
                found += _section_problems(where, text)
                if path not in by_path:
                    found.append(f"{where}: its module snippets/{path}.py is missing")
                if not test_file(path, root).is_file():
                    test = test_file(path, root).relative_to(root).as_posix()
                    found.append(f"{where}: its test {test} is missing")
            if path in by_path:
                found += _use_problems(where, by_path[path], text, figures)
        except PublishingError as error:
            found.append(f"{where}: {error}")
    for path, module in by_path.items():
        found += _module_problems(module)
        found += [
            f"{module.relative_file}: imports another chapter, {other.relative_file}"
            for other in module.local_imports
            if other.path in texts
        ]
        if path not in texts:
            found += _pageless_problems(module, texts)
    for lab in find_labs(root):
        found += _lab_problems(lab, root)
    return found


def _lab_problems(lab: Lab, root: Path) -> list[str]:
    """Check a lab's script: its text as a page's, its code as a page's, its test."""
    where = lab.relative_file
    text = lab_pages.source_text(lab)
    found = _front_matter_problems(where, text)
    # Lines are those of the text without the comment signs: as a place they would mislead.
    for problem in [*_heading_problems(where, text), *_fence_problems(where, text)]:
        found.append(re.sub(rf"^{re.escape(where)}:\d+", where, problem))
    if not any(identifier == "next" for _, _, identifier in headings(text)):
        found.append(f"{where}: no section {{#next}}: end with what the reader should try")
    test = test_file(lab.path, root)
    if not test.is_file():
        found.append(f"{where}: its test {test.relative_to(root).as_posix()} is missing")
    return found


def _pageless_problems(module: Module, texts: dict[str, str]) -> list[str]:
    """A module without a page of its own must be shown whole by the other pages."""
    shown = {
        name
        for text in texts.values()
        for fence in pages.fences(text)
        for name in fence.included
        if name.startswith(f"{module.path}.py:")
    }
    if not shown:
        return [f"{module.relative_file}: its page docs/zh/{module.path}.md is missing"]
    return [
        f"{module.relative_file}: no page shows the section '{section}'"
        for section in module.sections
        if f"{module.path}.py:{section}" not in shown
    ]
