"""Labs: run in a kernel of their own, kept, turned into a page and a notebook."""

import json
from pathlib import Path

import pytest

from publishing import PublishingError, contract, lab_pages, labs, store
from publishing.labs import Lab, LabError

SCRIPT = """\
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


def write(root: Path, script: str = SCRIPT) -> Lab:
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


def test_lab_runs_in_an_empty_folder_without_the_data_sets(small, monkeypatch):
    assert "False []" in lab_pages.page(small)


def test_second_run_does_nothing(small, monkeypatch):
    monkeypatch.setattr(labs, "execute", lambda lab: pytest.fail("ran again"))
    labs.bring_up_to_date([small])
    labs.bring_up_to_date([Lab("small", small.root)])


def test_new_wording_runs_nothing(tmp_path, small, monkeypatch):
    kept = store.build_folder(tmp_path) / small.kept_name
    kept.parent.mkdir(parents=True)
    kept.write_bytes((store.build_folder(small.root) / small.kept_name).read_bytes())
    lab = write(tmp_path, SCRIPT.replace("一条直线。", "一条斜线。").replace("# 见", "# 请见"))
    assert lab.recall() is None
    monkeypatch.setattr(labs, "execute", lambda lab: pytest.fail("ran"))
    labs.bring_up_to_date([lab])
    page = lab_pages.page(lab)
    assert "一条斜线。" in page and "请见" in page and "\n42\n" in page


@pytest.mark.parametrize("damage", ["edit", "truncate", "delete"])
def test_changed_script_and_damaged_notebook_are_stale(tmp_path, small, damage):
    lab = write(tmp_path)
    kept = store.build_folder(tmp_path) / lab.kept_name
    kept.parent.mkdir(parents=True)
    body = (store.build_folder(small.root) / small.kept_name).read_bytes()
    kept.write_bytes(body)
    assert lab.recall()
    if damage == "edit":
        lab = write(tmp_path, SCRIPT.replace("6 * 7", "6 * 8"))
    elif damage == "truncate":
        kept.write_bytes(body[:-10])
    else:
        kept.unlink()
    assert lab.recall() is None
    with pytest.raises(LabError, match="has not been run"):
        lab_pages.page(lab)


def test_page_is_markdown_with_outputs_figures_and_files(small):
    page = lab_pages.page(small)
    assert page.startswith("---\ntitle: 小实验\n")
    assert "# 小实验 {#small}\n" in page and "公式 $x^2$" in page
    assert '````text title="输出"\n42\n````' in page
    assert "![一条线](small/figure_1.light.svg#only-light){ width=" in page
    assert "/// figure-caption\n一条直线。\n///" in page
    assert "[下载 `small.ipynb`](small.ipynb)" in page and "Figure size" not in page


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
    script = SCRIPT.replace("# %%\n6 * 7", f"# %%\n1 + 1\n\n# %%\n{cell}\n\n# %%\n6 * 7")
    lab = write(tmp_path, script)
    with pytest.raises(LabError, match=message):
        labs.bring_up_to_date([lab])
    assert lab.recall() is None


def test_hanging_cell_is_stopped_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(labs, "CELL_LIMIT", 1)
    lab = write(tmp_path, SCRIPT.replace("import os\n", "while True: pass\n"))
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
    assert old in SCRIPT
    problems = contract._lab_problems(write(tmp_path, SCRIPT.replace(old, new)), tmp_path)
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
