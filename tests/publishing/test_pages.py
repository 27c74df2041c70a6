"""What is read off a page: its fences, its program, what it says that it prints."""

import pytest

from publishing import PublishingError, pages
from tests.publishing.tiny import PAGE

PAGE_OF_FENCES = """\
# Title

```python
one = 1
```

!!! note "boxes"
    ```{ .python .annotate title="two.py" }
    if one:
        two = 2
    ```

    === "tab"

        ~~~python hl_lines="1"
        three = "```"
        ~~~

````text
```python
not run
```
````

- in a list

    ``` python
    four = 4
    ```

/// tab | block
```python linenums="1"
five = 5
```
///
"""


def run(text: str, root) -> dict:
    namespace: dict = {}
    for step in pages.program(text, root):
        pages.run_step(step, namespace)
    return namespace


def test_the_fences_of_boxes_tabs_and_lists_are_all_in_the_program(book):
    steps = pages.program(PAGE_OF_FENCES, book.root)
    assert [step.code for step in steps] == [
        "one = 1\n",
        "if one:\n    two = 2\n",
        'three = "```"\n',
        "four = 4\n",
        "five = 5\n",
    ]
    assert [PAGE_OF_FENCES.splitlines()[step.line - 1].strip() for step in steps] == [
        step.code.splitlines()[0] for step in steps
    ]
    assert [fence.language for fence in pages.fences(PAGE_OF_FENCES)].count("text") == 1


def test_a_page_runs_as_one_program_with_its_includes(book):
    namespace = run(PAGE, book.root)
    assert namespace["double"](4) == 8


def test_an_include_is_the_section_without_its_markers(book):
    (step, *_) = pages.program(PAGE, book.root)
    assert step.code.startswith("import matplotlib") and "--8<--" not in step.code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n```python\nx = 1\n", "line 2: this fence is never closed"),
        ("```python\nx = 1\n~~~\n", "line 1: this fence is never closed"),
        ("````text\nx\n```\n", "line 1: this fence is never closed"),
        (
            "a\n\n```text\nx = 1\n\nb\n\n```python\ny = 2\n```\n",
            "line 3: this fence is not closed before line 8 opens another",
        ),
        (
            '\n```python\n\n--8<-- "part/chapter.py:triple"\n```\n',
            "line 4: Snippet section 'triple' could not be located",
        ),
        (
            '```python\n--8<-- "part/none.py:double"\n```\n',
            "line 2: Snippet at path 'part/none.py' could not be found",
        ),
        (
            '```text title="输出"\n1\n```\n',
            "line 2: an output block follows no python fence",
        ),
        (
            '```python\nprint(1)\n```\n```text\n```\n```text title="输出"\n1\n```\n',
            "line 7: an output block follows no python fence",
        ),
    ],
)
def test_a_page_that_is_no_program_says_where(book, text, message):
    with pytest.raises(PublishingError) as caught:
        pages.program(text, book.root)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\nprint(y)", "line 2: the code of this fence raised NameError: name 'y' is not"),
        ("print('a'", "line 2: the code of this fence raised SyntaxError: '(' was never closed"),
        ("raise SystemExit(0)", "line 2: the code of this fence raised SystemExit: 0"),
        ("assert 1 > 2, 'no'", "line 2: the code of this fence raised AssertionError: no"),
    ],
)
def test_a_fence_that_fails_says_where_and_why(book, code, message):
    with pytest.raises(pages.PageFailure) as caught:
        run(f"```python\n{code}\n```\n", book.root)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("code", "shown", "same"),
    [
        ("print(1)\nprint(2)", "1\n2", True),
        ("print('a  ')\nprint()", "a", True),  # what cannot be seen does not count
        ("print('  a')", "  a", True),
        ("print('  a')", "a", False),
        ("print(1.0)", "1", False),
        ("print(1)", "1\n2", False),
        ("print(1)\nprint(2)", "1", False),
        ("x = 1", "1", False),
        ("print(1)\n\nprint(2)", "1\n\n2", False),
    ],
)
def test_what_a_page_shows_is_what_its_code_prints(book, code, shown, same):
    page = f'```python\n{code}\n```\n\n```text title="输出"\n{shown}\n```\n'
    if same:
        run(page, book.root)
        return
    with pytest.raises(pages.PageFailure) as caught:
        run(page, book.root)
    assert str(caught.value).startswith("line 2: this fence prints\n")
    assert str(caught.value).endswith(f"but the page shows\n{shown}")


def test_output_in_a_box_loses_the_indentation_of_the_box(book):
    run(
        '??? note "x"\n    ```python\n    print(" a\\n  b")\n    ```\n\n'
        '    ```text title="输出"\n     a\n      b\n    ```\n',
        book.root,
    )


def test_an_output_that_nobody_shows_is_not_compared(book):
    run("```python\nprint(1)\n```\n\n```text\n2\n```\n", book.root)


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ("<p>中文**“加粗”中文</p>", "bold that did not render: '**“加粗”中文'"),
        ("<p>中文** 加粗 **中文</p>", "bold that did not render: '** 加粗 **'"),
        ("<p>价 $x$ 元</p>", "a formula that did not render: '$x$'"),
        ("<p>$$</p>", "a formula that did not render: '$$'"),
        ("<td>{{ a.b }}</td>", "a result that was not filled in: '{{ a.b }}'"),
        ("<p>[文字](x.md)</p>", "a link that did not render: '[文字](x.md)'"),
        ("<p>[文字][x]</p>", "a link that did not render: '[文字][x]'"),
        ("<p>文[^1]</p>", "a footnote that did not render: '[^1]'"),
        ("<p>/// tab | x\n甲\n///</p>", "a block that did not render: '/// tab | x'"),
        ("<p>!!! note</p>", "a block that did not render: '!!! note'"),
        ("<p>???+ note</p>", "a block that did not render: '???+ note'"),
        ("<p>文{: .x }</p>", "an attribute list that did not render: '{: .x }'"),
        ("<h2 id='a'>文 {#x}</h2>", "an attribute list that did not render: '{#x}'"),
        ("<p>--8&lt;-- &quot;x&quot;</p>", "an include that did not render: '--8<-- \"x\"'"),
        ('<p id="a">一</p><p class="x" id="a">二</p>', "the id 'a' is used 2 times"),
        ('<h2 id="a">一</h2><p id="a">二</p>', "the id 'a' is used 2 times"),
    ],
)
def test_markdown_that_did_not_render_is_quoted(html, problem):
    assert pages.rendering_problems(html) == [problem]


@pytest.mark.parametrize(
    "html",
    [
        "<p>中文<strong>“加粗”</strong>中文</p>",
        "<p><code>x**2</code>，<code>{{ a.b }}</code></p>",
        "<pre><code>d = {**a}\n!!! note\n[x](y) [^1] {: .x }\n</code></pre>",
        r'<p><span class="arithmatex">\(x^{**}\)</span></p>',
        "<p>区间 [0, 1]，5 * 3 * 2，100 $，集合 {1, 2}</p>",
        '<h2 id="a">一</h2><h2 id="b">二</h2><p id="c">三</p>',
    ],
)
def test_what_rendered_is_left_in_peace(html):
    assert pages.rendering_problems(html) == []
