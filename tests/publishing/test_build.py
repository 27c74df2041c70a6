"""A strict build and pytest on a tiny book: whole it passes, broken the page is named."""

import shutil

import pytest

from publishing import ROOT
from tests.publishing.tiny import MODULE, MODULE_FILE, PAGE, PAGE_FILE, Book, run

BUILD = ("-m", "mkdocs", "build", "--strict")


def complaints(said: str) -> list[str]:
    """Return the warnings and errors of a build."""
    return [line for line in said.splitlines() if line.startswith(("WARNING", "ERROR"))]


def test_a_cold_strict_build_runs_the_snippets_and_prints_the_book(project):
    # `cli` ends the process, so what is asked of it is asked at its exit.
    code = (
        "import atexit, sys; from mkdocs.__main__ import cli; "
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
        "cli(['build', '--strict'])"
    )
    status, said = run(project, "-c", code)
    assert (status, complaints(said)) == (0, []), said
    assert "ran snippets/part/chapter.py" in said
    assert said.splitlines()[-1] == "False", "the build itself must not load torch: 3 s, 500 MB"
    page = (project.root / "site/part/chapter/index.html").read_text(encoding="utf-8")
    assert "<math" in page and "4.0 ± 3.2" in page and "<strong>“自变量”</strong>" in page
    for file in ("part/chapter/line.light.svg", "part/chapter/line.dark.svg"):
        assert (project.root / "site" / file).read_bytes() == (project.build / file).read_bytes()
    assert (project.root / "site/code/part/chapter.py").read_text() == MODULE
    assert "def</span>" in (project.root / "site/code/part/chapter/index.html").read_text()

    before = project.results()
    status, said = run(project, *BUILD)
    assert (status, complaints(said)) == (0, [])
    assert "ran snippets" not in said
    assert project.results() == before


def test_every_fault_of_a_page_is_one_warning_that_names_it(project):
    faults = {
        "![图](chapter/curve.svg)": "no figure 'curve'; snippets/part/chapter.py draws: line",
        "![](chapter/line.svg)": "figure 'line' has no alternative text",
        "![图](chapter/photo.png)": "'chapter/photo.png', but the target",
        "![图](nowhere/line.svg)": "'nowhere/line.svg', but the target",
        r"$\frac{1$": r"bad formula $\frac{1$: Unexpected end of input",
        r"$\foo$": r"bad formula $\foo$: Unsupported function name: \foo",
        "$y = 二x$": r"bad formula $y = 二x$: put the Chinese '二' inside \text{}",
        "价 $ x$": "a formula that did not render: '$ x$'",
        "[甲](nowhere.md)": "'nowhere.md', but the target",
        "[乙](#nowhere)": "'#nowhere', but there is no such anchor",
        "[丙](../index.md#nowhere)": "'../index.md#nowhere', but the doc",
        "[丁](/part/chapter/)": "an absolute link '/part/chapter/'",
        "[戊][nowhere]": "a link that did not render: '[戊][nowhere]'",
        "文[^1]": "a footnote that did not render: '[^1]'",
        "{{ noise.los }}": "unknown result 'noise.los'; it measures: loss, exact",
        "{{ nois.loss }}": "unknown experiment 'nois'; snippets/part/chapter.py measures: noise",
        "{{ noise }}": "a result that was not filled in: '{{ noise }}'",
        "{{ noise.loss:.3q }}": "'.3q' is not a format for a number",
        "中文** 加粗**": "bold that did not render: '** 加粗**'",
        "段\n{: #code }": "the id 'code' is used 2 times",
        "#### 小节": "heading '小节' has no ASCII id",
        "/// figure-captoin\n题\n///": "a block that did not render: '/// figure-captoin'",
        "/// results | noise\nloss\n///": "results block: expected 'key: label', got 'loss'",
    }
    project.edit(PAGE_FILE, "## 先失败", "\n\n".join(faults) + "\n\n## 先失败")
    project.edit(PAGE_FILE, "description: 一章的最小样子。\n", "")
    project.write("docs/zh/stray.md", "---\ntitle: 甲\ndescription: 乙\n---\n\n# 甲 {#stray}\n")
    project.edit("mkdocs.yml", "  - part/chapter.md\n", "  - part/chapter.md\n  - part/none.md\n")
    project.run()
    status, said = run(project, *BUILD)
    warnings = complaints(said)
    assert status != 0
    assert "Traceback" not in said
    for fault, words in faults.items():
        found = [warning for warning in warnings if words in warning]
        assert len(found) == 1, (fault, found, warnings)
        assert "part/chapter.md" in found[0]
        warnings.remove(found[0])
    nav = [warning for warning in warnings if '"nav"' in warning or "'nav'" in warning]
    assert len(nav) == 2 and "part/none.md" in said and "  - stray.md" in said
    assert [warning for warning in warnings if warning not in nav] == [
        "WARNING -  docs/zh/part/chapter.md: front matter has no 'description'"
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            MODULE_FILE,
            "def double(x: float)",
            "def double(x: float",
            "snippets/part/chapter.py:11: invalid syntax",
        ),
        (
            PAGE_FILE,
            "chapter.py:double",
            "chapter.py:triple",
            "docs/zh/part/chapter.md: line 30: Snippet section 'triple' could not be located",
        ),
        (
            PAGE_FILE,
            "6\n```",
            "6\n",
            "docs/zh/part/chapter.md: line 37: this fence is never closed",
        ),
    ],
    ids=["a module with a SyntaxError", "a missing section", "an unclosed fence"],
)
def test_what_cannot_be_built_at_all_ends_the_build_with_one_error(
    project, file, old, new, message
):
    project.run()
    before = project.results()
    project.edit(file, old, new)
    # Not only where it is strict.
    status, said = run(project, *BUILD[:-1])
    assert status != 0
    (error,) = complaints(said)
    assert error.startswith(f"ERROR   -  {message}")
    assert "Traceback" not in said
    assert project.results() == before


@pytest.fixture
def tested(project) -> Book:
    """The project with what makes its pages tests."""
    for file in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / file, project.root)
    return project


def test_pytest_runs_every_page_and_names_the_one_that_is_wrong(tested):
    tested.write("docs/zh/part/prints.md", PAGE.replace("6\n```", "7\n```"))
    tested.write("docs/zh/part/raises.md", PAGE.replace("print(double(3))", "print(triple(3))"))
    tested.write("docs/zh/part/unclosed.md", PAGE.replace("6\n```", "6\n"))
    status, said = run(
        tested,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"),
        "docs/zh",
    )
    assert status == 1
    assert "2 failed, 1 passed, 1 error" in said
    assert "FAILED docs/zh/part/prints.md" in said and "FAILED docs/zh/part/raises.md" in said
    assert "line 34: this fence prints\n6\nbut the page shows\n7" in said
    assert "line 34: the code of this fence raised NameError: name 'triple' is not defined" in said
    assert "ERROR docs/zh/part/unclosed.md" in said
    assert "line 37: this fence is never closed" in said
