"""Labs: run in a kernel of their own, kept, turned into a page and a notebook."""

import json
from pathlib import Path

import mkdocs_jupyter.config
import pytest
from bs4 import BeautifulSoup
from mkdocs_jupyter.convert import nb2html

from publishing import PublishingError, contract, lab_pages, labs, store
from publishing.labs import Lab, LabError
from tests.publishing.tiny import LAB


def write(root: Path, script: str = LAB) -> Lab:
    lab = Lab("small", root)
    lab.file.parent.mkdir(parents=True, exist_ok=True)
    lab.file.write_text(script, encoding="utf-8")
    test = root / "tests" / "labs" / "test_small.py"
    test.parent.mkdir(parents=True, exist_ok=True)
    test.touch()
    return lab


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Lab:
    lab = write(tmp_path_factory.mktemp("book"))
    labs.bring_up_to_date([lab])
    return lab


def shown(lab: Lab, folder: Path) -> str:
    """Return a lab's cells as mkdocs-jupyter renders them, its prose still Markdown."""
    folder.joinpath("small.ipynb").write_text(lab_pages.printed(lab, lab_pages.page(lab)), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mkdocs_jupyter.config.settings, "templates_dir", str(lab_pages.TEMPLATES))
        html = nb2html(str(folder / "small.ipynb"), custom_mathjax_url="about:blank")
    return lab_pages.without_style(html)


@pytest.fixture(scope="module")
def small_page(small, tmp_path_factory) -> BeautifulSoup:
    return BeautifulSoup(shown(small, tmp_path_factory.mktemp("printed")), "lxml")


def test_lab_runs_in_an_empty_folder_without_the_data_sets(small_page):
    assert small_page.select_one(".language-text").text.strip() == "输出False []"


def test_second_run_does_nothing(small, monkeypatch):
    monkeypatch.setattr(labs, "execute", lambda lab: pytest.fail("ran again"))
    labs.bring_up_to_date([small])
    labs.bring_up_to_date([Lab("small", small.root)])


def test_new_wording_runs_nothing(tmp_path, small, monkeypatch):
    kept = store.build_folder(tmp_path) / small.kept_name
    kept.parent.mkdir(parents=True)
    kept.write_bytes((store.build_folder(small.root) / small.kept_name).read_bytes())
    lab = write(tmp_path, LAB.replace("一条直线。", "一条斜线。").replace("# 见", "# 请见"))
    assert lab.recall() is None
    monkeypatch.setattr(labs, "execute", lambda lab: pytest.fail("ran"))
    labs.bring_up_to_date([lab])
    page = shown(lab, tmp_path)
    assert "一条斜线。" in page and "请见" in page and ">42\n</code>" in page


@pytest.mark.parametrize("damage", ["edit", "truncate", "delete"])
def test_changed_script_and_damaged_notebook_are_stale(tmp_path, small, damage):
    lab = write(tmp_path)
    kept = store.build_folder(tmp_path) / lab.kept_name
    kept.parent.mkdir(parents=True)
    body = (store.build_folder(small.root) / small.kept_name).read_bytes()
    kept.write_bytes(body)
    assert lab.recall()
    if damage == "edit":
        lab = write(tmp_path, LAB.replace("6 * 7", "6 * 8"))
    elif damage == "truncate":
        kept.write_bytes(body[:-10])
    else:
        kept.unlink()
    assert lab.recall() is None
    with pytest.raises(LabError, match="has not been run"):
        lab_pages.page(lab)


def test_prose_and_figures_are_markdown(small):
    page = lab_pages.page(small)
    assert page.startswith("---\ntitle: 小实验\n")
    assert "# 小实验 {#small}\n" in page and "公式 $x^2$" in page
    assert "![一条线](small/figure_1.light.svg#only-light){ width=" in page
    assert "/// figure-caption\n一条直线。\n///" in page
    assert "[下载 `small.ipynb`](small.ipynb)" in page


@pytest.mark.parametrize("part", ["source", "outputs"])
def test_text_of_a_page_changes_with_its_cells(small, part):
    # What is rendered is kept under the page's text.
    changed = Lab("small", small.root)
    changed.__dict__["executed"] = json.loads(json.dumps(small.executed))
    assert lab_pages.page(changed) == lab_pages.page(small)
    changed.executed["cells"][-2][part] = [] if part == "outputs" else "6 * 8"
    assert lab_pages.page(changed) != lab_pages.page(small)


def test_cells_are_shown_once_in_their_places_in_the_markup_of_the_book(small, small_page):
    blocks = small_page.select(".highlight > pre > code")
    cells = [cell for cell in small.executed["cells"] if cell["cell_type"] == "code"]
    first, figure, last = (cell["source"].strip() for cell in cells)
    assert [code.text.strip() for code in blocks] == [first, "False []", figure, last, "42"]
    assert blocks[0].select("span.kn")  # coloured
    text = small_page.text
    assert text.index("公式 $x^2$") < text.index(first) < text.index("一条直线。")
    assert text.index("一条直线。") < text.index("输出42") < text.index("接着试")
    assert text.count("6 * 7") == 1 and "Figure size" not in text
    assert not small_page.select("style, script, svg, .clipboard-copy-txt, [data-cell]")


def test_page_without_a_style_sheet_stays_whole():
    assert lab_pages.without_style("<p>a</p><style>p {}</style>") == "<p>a</p>"
    assert lab_pages.without_style("<p>a</p>") == "<p>a</p>"


def test_html_that_a_cell_prints_is_shown_and_not_obeyed(tmp_path):
    printed = {"output_type": "stream", "name": "stdout", "text": "<b>&amp;</b>\n"}
    cell = {"cell_type": "code", "source": "'<b>'", "outputs": [printed]}
    lab = Lab("small", tmp_path)
    lab.__dict__["executed"] = {"cells": [cell | {"execution_count": 1}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_pages, "page", lambda lab: '<div data-cell="0-0"></div>')
        page = BeautifulSoup(shown(lab, tmp_path), "lxml")
    code, output = page.select("pre > code")
    assert code.text.strip() == "'<b>'" and output.text == "<b>&amp;</b>\n"
    assert not page.select("b")


def test_dark_figure_is_the_light_one_in_other_colours(small):
    found = lab_pages.drawings(small)
    light, dark = (found[f"labs/small/figure_1.{theme}.svg"] for theme in store.THEMES)
    assert "#1f5fb4" in light and "#1f5fb4" not in dark
    assert "#7db4ff" in dark and "#7db4ff" not in light
    assert "#ffffff" not in dark  # the ground
    assert len(light) == len(dark)


def test_a_colour_changes_only_once():
    swap = {"#111111": "#222222", "#222222": "#333333"}
    assert lab_pages._dark("#111111 #222222 #444444", swap) == "#222222 #333333 #444444"


def test_notebook_holds_the_outputs_and_nothing_of_the_book(small):
    notebook = json.loads(lab_pages.notebook(small))
    assert [cell["cell_type"] for cell in notebook["cells"]] == [
        "markdown", "code", "code", "code", "markdown",
    ]  # fmt: skip
    first = notebook["cells"][0]["source"]
    assert first == "# 小实验\n\n见那一章和公式 $x^2$。"
    assert notebook["cells"][3]["outputs"][0]["data"]["text/plain"] == "42"
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}


def test_notebook_is_one_that_jupyter_reads(small):
    import nbformat

    nbformat.validate(nbformat.reads(lab_pages.notebook(small), as_version=4))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("raise ValueError('bad luck')", "small.py:28: cell 5: (?s:.*)bad luck"),
        ("import sys\nprint('careful', file=sys.stderr)", "small.py:28: cell 5: wrote to stderr"),
        ("import warnings\nwarnings.warn('old')", "small.py:28: cell 5: wrote to stderr"),
        ("import os\nos._exit(3)", "small.py:28: cell 5"),
    ],
)
def test_failing_cell_is_named(tmp_path, cell, message):
    script = LAB.replace("# %%\n6 * 7", f"# %%\n1 + 1\n\n# %%\n{cell}\n\n# %%\n6 * 7")
    lab = write(tmp_path, script)
    with pytest.raises(LabError, match=message):
        labs.bring_up_to_date([lab])
    assert lab.recall() is None


def test_hanging_cell_is_stopped_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(labs, "CELL_LIMIT", 1)
    lab = write(tmp_path, LAB.replace("import os\n", "while True: pass\n"))
    with pytest.raises(LabError, match=r"small\.py:13: cell 2: did not finish within 1 s"):
        labs.bring_up_to_date([lab])


def test_figure_without_text_is_refused(small):
    for name in ("alt", "caption"):
        notebook = json.loads(json.dumps(small.executed))
        del notebook["cells"][3]["metadata"][name]
        lab = Lab("small", small.root)
        lab.__dict__["executed"] = notebook
        with pytest.raises(LabError, match=f"import matplotlib.*It has no {name}"):
            lab_pages.page(lab)


def test_kept_notebook_of_a_lab_that_is_no_more_is_deleted(tmp_path):
    for name in ("gone", "small"):
        store.keep(tmp_path, f"labs/{name}.ipynb", "key", b"{}")
    labs.prune([write(tmp_path)], tmp_path)
    assert [file.name for file in (tmp_path / ".build" / "labs").iterdir()] == ["small.ipynb"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" {#small}", "", "heading '小实验' has no ASCII id"),
        ("# description: 一个实验的最小样子。\n", "", "front matter has no 'description'"),
        ("# ## 接着试 {#next}", "# 完。", "no section {#next}"),
        ("6 * 7", "'六乘七'", "no Chinese in code"),
    ],
)
def test_contract_covers_labs(tmp_path, old, new, message):
    lab = write(tmp_path)
    assert contract._lab_problems(lab, tmp_path) == []
    assert old in LAB
    problems = contract._lab_problems(write(tmp_path, LAB.replace(old, new)), tmp_path)
    assert len(problems) == 1 and message in problems[0]
    assert problems[0].startswith("docs/zh/labs/small.py: ")


def test_contract_wants_a_test_for_every_lab(tmp_path):
    lab = write(tmp_path)
    (tmp_path / "tests" / "labs" / "test_small.py").unlink()
    assert "tests/labs/test_small.py is missing" in contract._lab_problems(lab, tmp_path)[0]


def test_unreadable_lab_is_named(tmp_path):
    lab = write(tmp_path)
    lab.file.write_bytes(b"\xff\xfe")
    with pytest.raises(PublishingError, match=r"docs/zh/labs/small\.py cannot be read"):
        labs.bring_up_to_date([lab])
