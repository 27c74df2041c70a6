"""Every rule of CONTRIBUTING.md, broken once: one sentence that names page or module."""

import pytest

from publishing import PublishingError, contract
from tests.publishing.tiny import MODULE_FILE, PAGE, PAGE_FILE

WHERE = PAGE_FILE
REFERENCES = PAGE[: PAGE.index("## 参考")].count("\n") + 1
"""The line of the last heading."""

EXTRA_MODULE = '''

# --8<-- [start:unused]
UNUSED = 1
# --8<-- [end:unused]


def figure_unused() -> Figure:
    """Nobody embeds it."""


def experiment_unused(seed: int) -> dict[str, float]:
    """Nobody quotes it."""
'''


def test_a_book_that_keeps_the_rules_has_no_problems(book):
    assert book.problems == []


BROKEN = {
    "no title": (
        ("title: 小章\n", ""),
        ["docs/zh/part/chapter.md: front matter has no 'title'"],
    ),
    "no description": (
        ("description: 一章的最小样子。\n", ""),
        ["docs/zh/part/chapter.md: front matter has no 'description'"],
    ),
    "empty description": (
        ("description: 一章的最小样子。", "description:"),
        ["docs/zh/part/chapter.md: front matter has no 'description'"],
    ),
    "long description": (
        ("一章的最小样子。", "长" * 81),
        ["docs/zh/part/chapter.md: the description is longer than 80 characters"],
    ),
    "front matter without keys": (
        ("title: 小章\ndescription: 一章的最小样子。\n", "小章\n"),
        ["docs/zh/part/chapter.md: front matter must be lines of 'key: value'"],
    ),
    "a missing section": (
        ("## 什么时候没用 {#limits}\n", ""),
        ["docs/zh/part/chapter.md: no section {#limits}; see CONTRIBUTING.md"],
    ),
    "sections out of order": (
        (
            "## 勘误 {#errata}\n\n## 报错诊所 {#clinic}\n",
            "## 报错诊所 {#clinic}\n\n## 勘误 {#errata}\n",
        ),
        [
            "docs/zh/part/chapter.md: sections out of order: guess failure derivation code "
            "comparison limits clinic errata exercises references"
        ],
    ),
    "no conclusion": (
        ("一句话结论", "结论"),
        ['docs/zh/part/chapter.md: no box !!! abstract "一句话结论"'],
    ),
    "too few solutions": (
        ('??? success "解答"\n    四\n', ""),
        ["docs/zh/part/chapter.md: 3 exercises with a folded solution, at least 4 wanted"],
    ),
    "an exercise without a level": (
        ("**2.** ★ 第二题", "**2.** 第二题"),
        [
            "docs/zh/part/chapter.md: 4 solutions, but 3 exercises that start with a number and a "
            "level: '**1.** ★ …', see CONTRIBUTING.md"
        ],
    ),
    "a heading without id": (
        ("## 参考 {#references}\n", "## 参考 {#references}\n\n### 论文\n"),
        [f"{WHERE}:{REFERENCES + 2}: heading '论文' has no ASCII id; add {{#...}}"],
    ),
    "a heading without space and id": (
        ("## 参考 {#references}\n", "## 参考 {#references}\n\n###论文\n"),
        [f"{WHERE}:{REFERENCES + 2}: heading '论文' has no ASCII id; add {{#...}}"],
    ),
    "an underlined heading without id": (
        ("## 参考 {#references}\n", "## 参考 {#references}\n\n论文\n----\n"),
        [f"{WHERE}:{REFERENCES + 2}: heading '论文' has no ASCII id; add {{#...}}"],
    ),
    "a heading in a box without id": (
        ("## 参考 {#references}\n", "## 参考 {#references}\n\n!!! note\n    ### 论文\n"),
        [f"{WHERE}:{REFERENCES + 3}: heading '论文' has no ASCII id; add {{#...}}"],
    ),
    "a Chinese id": (
        ("## 参考 {#references}\n", "## 参考 {#references}\n\n### 论文 {#a论文}\n"),
        [f"{WHERE}:{REFERENCES + 2}: heading '论文 {{#a论文}}' has no ASCII id; add {{#...}}"],
    ),
    "a duplicate id": (
        ("## 参考 {#references}\n", "## 参考 {#references}\n\n### 论文 {#small}\n"),
        [f"{WHERE}:{REFERENCES + 2}: the id 'small' is used twice"],
    ),
    "an id that the build needs": (
        ("## 参考 {#references}\n", "## 参考 {#references}\n\n### 论文 {#source}\n"),
        [f"{WHERE}:{REFERENCES + 2}: the id 'source' is that of the section at the end"],
    ),
    "a formula in a heading": (
        ("## 参考 {#references}", "## 参考 $x$ {#references}"),
        [f"{WHERE}:{REFERENCES}: no formulas in headings: '参考 $x$ {{#references}}'"],
    ),
    "a py fence": (
        ("```python\nprint(double(3))", "```py\nprint(double(3))"),
        [
            "docs/zh/part/chapter.md:33: a fence that runs says ```python, any other its language "
            "or ```text; this one says 'py'",
            "docs/zh/part/chapter.md:37: an output block follows no python fence",
        ],
    ),
    "a Python fence": (
        (
            '```python\n--8<-- "part/chapter.py:imports"',
            '```Python\n--8<-- "part/chapter.py:imports"',
        ),
        [
            "docs/zh/part/chapter.md:17: a fence that runs says ```python, any other its language "
            "or ```text; this one says 'Python'",
        ],
    ),
    "a fence without a language": (
        ("## 参考 {#references}", "## 参考 {#references}\n\n```\nx\n```"),
        [
            f"{WHERE}:{REFERENCES + 2}: a fence that runs says ```python, any other its language "
            "or ```text; this one says ''",
        ],
    ),
    "an output that is not compared": (
        ('```text title="输出"', '```text title="输出："'),
        ['docs/zh/part/chapter.md:37: only ```text title="输出" is compared with the output'],
    ),
    "Chinese in code": (
        ("```python\nprint(double(3))", "```python\nprint(double(3))  # 六"),
        ["docs/zh/part/chapter.md:34: no Chinese in code: 'print(double(3))  # 六'"],
    ),
    "an include by line number": (
        ("part/chapter.py:double", "part/chapter.py:10:13"),
        [
            "docs/zh/part/chapter.md: include 'part/chapter.py:10:13' by section name, "
            "not by line number",
            "snippets/part/chapter.py: no page shows the section 'double'",
        ],
    ),
    "sections shown in another order": (
        (
            '```python\n--8<-- "part/chapter.py:imports"\n```',
            '```python\n--8<-- "part/chapter.py:double"\n--8<-- "part/chapter.py:imports"\n```',
        ),
        ["snippets/part/chapter.py: sections are not in page order: double imports"],
    ),
    "a figure that is not embedded": (
        ("chapter/line.svg", "chapter/curve.svg"),
        ["snippets/part/chapter.py: no page embeds figure_line()"],
    ),
}


@pytest.mark.parametrize(("edit", "problems"), BROKEN.values(), ids=BROKEN)
def test_a_broken_page_is_named(book, edit, problems):
    book.edit(PAGE_FILE, *edit)
    assert book.problems == problems


def test_a_page_without_front_matter_is_named(book):
    book.write(PAGE_FILE, PAGE[PAGE.index("# 小章") :])
    assert book.problems == [
        "docs/zh/part/chapter.md: front matter has no 'title'",
        "docs/zh/part/chapter.md: front matter has no 'description'",
    ]


def test_front_matter_that_is_not_yaml_is_named_in_one_line(book):
    book.edit(PAGE_FILE, "title: 小章", 'title: "小章')
    (problem,) = book.problems
    assert problem.startswith("docs/zh/part/chapter.md: front matter cannot be read: ")
    assert "\n" not in problem


def test_what_no_page_uses_is_named(book):
    text = (book.root / MODULE_FILE).read_text(encoding="utf-8")
    book.write(MODULE_FILE, text + EXTRA_MODULE)
    book.write("snippets/part/unused.py", "x = 1\n")
    assert book.problems == [
        "snippets/part/chapter.py: no page shows the section 'unused'",
        "snippets/part/chapter.py: no page embeds figure_unused()",
        "snippets/part/chapter.py: no page quotes experiment_unused()",
        "snippets/part/unused.py: its page docs/zh/part/unused.md is missing",
    ]


def test_chinese_and_too_long_a_section_in_a_module_are_named(book):
    book.edit(MODULE_FILE, "# --8<-- [end:double]", "# 两倍\n" * 27 + "# --8<-- [end:double]")
    lines = (book.root / MODULE_FILE).read_text(encoding="utf-8").splitlines()
    length = lines.index("# --8<-- [end:double]") - lines.index("# --8<-- [start:double]") - 1
    assert length > 30
    first = lines.index("# 两倍") + 1
    assert book.problems == [
        f"snippets/part/chapter.py: the section 'double' has {length} lines; split it, "
        "30 are the most a reader takes in at once",
        *(
            f"snippets/part/chapter.py:{number}: no Chinese in code: '# 两倍'"
            for number in range(first, first + 27)
        ),
    ]
    text = "\n".join(lines).replace("# 两倍", "# twice")
    while length > 30:  # 30 lines are allowed, 31 are not
        assert len(book.problems) > 0
        text, length = text.replace("# twice\n", "", 1), length - 1
        book.write(MODULE_FILE, text)
    assert book.problems == []


def test_a_page_without_module_and_test_is_named(book):
    book.write("docs/zh/part/other.md", PAGE.replace("part/chapter.py", "part/other.py"))
    with pytest.raises(
        PublishingError, match=r"part/other\.md: line 18: Snippet at path 'part/oth"
    ):
        book.problems  # noqa: B018
    book.write("docs/zh/part/other.md", PAGE)
    assert book.problems == [
        "docs/zh/part/other.md: its module snippets/part/other.py is missing",
        "docs/zh/part/other.md: its test tests/part/test_other.py is missing",
    ]


def test_a_figure_may_be_embedded_and_a_table_printed_elsewhere(book):
    book.edit(PAGE_FILE, "![一条直线](chapter/line.svg)", "")
    book.edit("docs/zh/index.md", "读", "![一条直线](part/chapter/line.svg) 读")
    book.edit(PAGE_FILE, "损失 {{ noise.loss }}，", "")
    book.edit(PAGE_FILE, "/// results | noise\n", '??? note "表"\n    /// results | noise\n')
    assert book.problems == []


def test_an_import_from_another_chapter_is_named_and_data_is_none(book):
    book.write("snippets/data.py", "x = 1\n")
    book.edit(MODULE_FILE, "import matplotlib", "from snippets import data\nimport matplotlib")
    assert [p for p in book.problems if "chapter.py" in p] == []
    book.write("snippets/part/other.py", "x = 1\n")
    book.write("docs/zh/part/other.md", PAGE)
    book.edit(MODULE_FILE, "from snippets import data", "from snippets.part.other import x")
    assert "snippets/part/chapter.py: imports another chapter, snippets/part/other.py" in (
        book.problems
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[end:double]", "[end:doubel]", r"chapter\.py:16: section 'doubel' ends but is not open"),
        ("# --8<-- [end:double]\n", "", r"chapter\.py: section 'double' never ends"),
        (
            "[start:double]",
            "[start:imports]",
            r"chapter\.py:10: section 'imports' starts a second time",
        ),
    ],
)
def test_a_section_that_is_not_a_section_is_named(book, old, new, message):
    book.edit(MODULE_FILE, old, new)
    with pytest.raises(PublishingError, match=f"^snippets/part/{message}$"):
        book.modules[0].sections  # noqa: B018


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("6\n```", "6\n", "docs/zh/part/chapter.md: line 37: this fence is never closed"),
        (
            'double"\n```',
            'double"\n',
            "docs/zh/part/chapter.md: line 29: this fence is not closed before line 33 opens "
            "another",
        ),
        (
            "part/chapter.py:double",
            "part/chapter.py:triple",
            "docs/zh/part/chapter.md: line 30: Snippet section 'triple' could not be located",
        ),
    ],
)
def test_pages_that_cannot_be_read_are_named_before_anything_else(book, old, new, message):
    book.edit(PAGE_FILE, old, new)
    book.edit(PAGE_FILE, " {#guess}", "")
    book.write("docs/zh/latin.md", b"\xe9")
    with pytest.raises(PublishingError) as caught:
        contract.problems(book.root, book.modules)
    assert str(caught.value).splitlines() == [
        "docs/zh/latin.md: 'utf-8' codec can't decode byte 0xe9 in position 0: unexpected end "
        "of data",
        message,
    ]
