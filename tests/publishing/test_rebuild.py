"""Only what changed is rendered, under `mkdocs serve` and from build to build; the site is that of
a fresh build."""

import json
from pathlib import Path

from publishing import store
from publishing.modules import Module
from tests.publishing.tiny import LAB, LAB_FILE, MODULE_FILE, PAGE_FILE, Book, run

# What `mkdocs serve` does: hooks are told of the command once, then a config of its own each time.
REBUILDS = """
import json, logging, pathlib, sys
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.structure import pages

logging.basicConfig()
rendered = []
render = pages.Page.render
pages.Page.render = lambda page, *rest: (rendered.append(page.file.src_uri), render(page, *rest))
load_config().plugins.on_startup(command="serve", dirty=False)
said = []
for number, edit in enumerate([None, *json.loads(sys.argv[1])]):
    if edit:
        path, old, new = edit
        file = pathlib.Path(path)
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")
    rendered.clear()
    build(load_config(site_dir=f"site{number}"))
    said.append(sorted(rendered))
print("RENDERED " + json.dumps(said))
"""


def rebuilds(project: Book, *edits: tuple[str, str, str]) -> tuple[list[list[str]], str]:
    """Build, then edit and build again; return what each build rendered, and all that was said."""
    status, said = run(project, "-c", REBUILDS, json.dumps(edits))
    assert status == 0, said
    last = next(line for line in said.splitlines() if line.startswith("RENDERED "))
    return json.loads(last.removeprefix("RENDERED ")), said


def site(folder: Path) -> dict[str, bytes]:
    """Return the pages of a site and its search index."""
    files = [*folder.rglob("*.html"), *folder.rglob("*.json")]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


ALL = ["code/part/chapter.md", "index.md", PAGE_FILE.removeprefix("docs/zh/")]


def test_an_edit_renders_what_it_touches_and_the_site_is_that_of_a_fresh_build(project):
    rendered, _ = rebuilds(
        project,
        ("docs/zh/index.md", "读", "读完"),
        (MODULE_FILE, "return 2 * x", "return x + x"),
        ("mkdocs.yml", "permalink_title: 本节的链接", "permalink_title: 链接"),
    )
    assert rendered == [ALL, ["index.md"], ["code/part/chapter.md", "part/chapter.md"], ALL]
    status, said = run(project, "-m", "mkdocs", "build", "-d", "fresh")
    assert status == 0, said
    last, fresh = site(project.root / "site3"), site(project.root / "fresh")
    assert last.keys() == fresh.keys() and "part/chapter/index.html" in fresh
    for file in fresh.keys() - {"404.html"}:  # serve knows its address, 404.html needs it
        assert last[file] == fresh[file], file


def test_a_lab_whose_code_changed_is_rendered_again(project):
    project.write(LAB_FILE, LAB)
    project.write("tests/labs/test_small.py", "")
    project.edit("mkdocs.yml", "  - part/chapter.md\n", "  - part/chapter.md\n  - labs/small.md\n")
    rendered, _ = rebuilds(project, (LAB_FILE, "6 * 7", "6 * 8"))
    assert rendered == [sorted([*ALL, "labs/small.md"]), ["labs/small.md"]]
    first, second = (
        (project.root / f"site{number}/labs/small/index.html").read_text(encoding="utf-8")
        for number in (0, 1)
    )
    assert ">42\n</code>" in first and ">48\n</code>" in second
    assert '<a href="#next"' in second and "<math" in second  # contents and formulas are the book's
    assert "highlight-ipynb" not in second and "mathjax" not in second.lower()


def test_a_fault_is_reported_at_every_rebuild_until_it_is_mended(project):
    project.edit(PAGE_FILE, "## 先失败", "[甲](nowhere.md) [乙](../index.md#lost)\n\n## 先失败")
    rendered, said = rebuilds(
        project,
        ("docs/zh/index.md", "读", "读完"),
        (PAGE_FILE, "[甲](nowhere.md) ", ""),
        ("docs/zh/index.md", "读完", "读"),
        ("docs/zh/index.md", "{#home}", "{#home}\n\n## 丢失 {#lost}"),
    )
    assert rendered[1] == ["index.md", "part/chapter.md"]
    assert rendered[3] == ["index.md"]
    assert said.count("'nowhere.md', but the target") == 2
    assert said.count("does not contain an anchor '#lost'") == 4


COUNTED = """
from mkdocs.structure import pages
from mkdocs.__main__ import cli

render = pages.Page.render
pages.Page.render = lambda page, *rest: (print("RENDERED", page.file.src_uri), render(page, *rest))
cli()
"""


def rendered_by_build(project: Book, folder: str) -> list[str]:
    """Build in a process of its own; return the pages whose Markdown it converted."""
    status, said = run(project, "-c", COUNTED, "build", "--strict", "-d", folder)
    assert status == 0, said
    lines = (line for line in said.splitlines() if line.startswith("RENDERED "))
    return sorted(line.removeprefix("RENDERED ") for line in lines)


def test_a_build_converts_only_what_changed_and_the_site_is_that_of_a_fresh_build(project):
    chapter = PAGE_FILE.removeprefix("docs/zh/")
    assert rendered_by_build(project, "first") == ALL
    assert rendered_by_build(project, "second") == []
    assert site(project.root / "first") == site(project.root / "second")

    # Another machine may measure other values: a page is not the same because its code is.
    module = Module("part/chapter", project.root)
    record = store.load(module, "experiment_noise")
    record.values["loss"] = [7.25] * 5
    store.save(module, record, {})
    project.edit("docs/zh/index.md", "读", "读完")
    assert set(rendered_by_build(project, "third")) >= {chapter, "index.md"}
    assert "7.25" in (project.root / "third/part/chapter/index.html").read_text(encoding="utf-8")

    for name in store.KEPT:
        (store.build_folder(project.root) / name).write_bytes(b"\x80\x04 what a crash left")
    assert rendered_by_build(project, "fourth") == ALL
    assert site(project.root / "third") == site(project.root / "fourth")
