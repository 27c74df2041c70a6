"""Plain Markdown: what any tool shows of a page, with nothing of the site's extensions left."""

import re

import pytest

from publishing import ROOT, plain
from publishing.modules import Module
from tests.publishing.tiny import PAGE_FILE

URL = "https://someone.example/notes/"
PAGE = "part/chapter.md"


@pytest.fixture
def plain_text(book):
    def of(text: str) -> str:
        return plain.text(plain.Source(PAGE, text, URL, Module("part/chapter", book.root)))

    return of


def test_a_whole_page(book, plain_text):
    book.run()
    text = plain_text((book.root / PAGE_FILE).read_text(encoding="utf-8"))
    assert text.startswith("# 小章\n\n> **一句话结论**\n>\n> 两倍就是两倍。\n\n## 先猜\n")
    assert f"见[推导]({URL}part/chapter/#derivation)和[首页]({URL}#home)。" in text
    assert '```python\ndef double(x: float) -> float:\n    """Return 2 x."""' in text
    assert "输出：\n\n```text\n6\n```" in text
    assert f"![一条直线]({URL}part/chapter/line.light.svg)\n\n图 1：一条线。" in text
    assert "损失 4.0 ± 3.2，其中 $x$" in text
    assert "| 损失 | 4.0 ± 3.2 |\n| 精确值 | 0.5 |\n\nn = 5，种子 0–4" in text
    assert "> **解答**\n>\n> 一" in text


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("[读](x.md){ .md-button download }", f"[读]({URL}part/x/)"),
        ("[读](https://a.example/b)", "[读](https://a.example/b)"),
        ("[文件](chapter.py){ download }", f"[文件]({URL}part/chapter.py)"),
        ("`layers[0](x)` 和 $f[1](x)$", "`layers[0](x)` 和 $f[1](x)$"),
        ("`{{ noise.loss }}`", "`{{ noise.loss }}`"),
        ("一行\n两行", "一行两行"),
        ("一 a\nb 二", "一 a\nb 二"),
        ("字\n{: .facts }", "字"),
        ("<!-- items: S1-01 -->\n字", "字"),
        ("*[MSE]: 均方误差\n字", "字"),
        ('=== "甲"\n    一\n\n=== "乙"\n    二', "> **甲**\n>\n> 一\n\n> **乙**\n>\n> 二"),
        ("```python\nx = 1  # (1)!\n```\n\n1. 注", "```python\nx = 1  # (1)\n```\n\n1. 注"),
        ('??? note "码"\n    ```text\n    {{ a.b }}\n    ```', "**码**\n\n```text\n{{ a.b }}\n```"),
        ("- 一\n\n    ```text\n    x\n    ```", "- 一\n\n    ```text\n    x\n    ```"),
        ("/// table-caption\n一张表\n///", "表 1：一张表"),
        ("## 题 {#title}\n字", "## 题\n\n字"),
    ],
)
def test_each_extension(plain_text, markdown, expected):
    assert plain_text(f"---\ntitle: 题\n---\n\n{markdown}\n") == f"{expected}\n"


@pytest.mark.parametrize(
    "markdown",
    ["{{ noise.none }}", "/// results | none\n///", "/// results | noise", "```python\nx"],
)
def test_a_fault_names_the_page(book, plain_text, markdown):
    book.run()
    with pytest.raises(plain.PageError, match=PAGE_FILE):
        plain_text(f"# 题\n\n{markdown}\n")


@pytest.mark.parametrize(
    ("page", "address"), [("index.md", URL), ("a.md", f"{URL}a/"), ("a/b.md", f"{URL}a/b/")]
)
def test_the_address_of_a_page(page, address):
    assert plain.address(page, URL) == address


def test_nothing_of_the_extensions_is_left_in_the_book():
    docs = ROOT / "docs" / "zh"
    left = []
    for file in sorted(docs.glob("*/*.md")):
        page = file.relative_to(docs).as_posix()
        module = Module(page.removesuffix(".md"))
        text = plain.text(plain.Source(page, file.read_text(encoding="utf-8"), URL, module))
        text = plain.VERBATIM.sub("", re.sub(r"(?ms)^( *)(```+).*?^\1\2\s*$", "", text))
        pattern = (
            r"\{\{|--8<--|^\s*(?:///|!!!|\?\?\?|===)|\{[:.#]|<!--|<div|\]\((?!https?:|mailto:)"
        )
        left += [f"{page}: {match[0]}" for match in re.finditer(f"(?m){pattern}.*", text)]
    assert left == []
