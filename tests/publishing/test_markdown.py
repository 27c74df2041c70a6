"""Measured values and figures on a page: where they are filled in, and where they are not."""

import re

import markdown
import pytest

from publishing.glossary import Abbreviation
from publishing.markdown import PublishingExtension
from tests.publishing.tiny import Book

MODULE = """\
SEEDS = [0, 1, 2]

def figure_line():
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    ax.plot([0, 1])
    return fig

def experiment_noise(seed):
    return {"loss": seed, "exact": 0.25, "rate": -seed / 10}
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> Book:
    book = Book(tmp_path_factory.mktemp("printed"))
    book.write("snippets/part/chapter.py", MODULE)
    book.run()
    return book


class Printer:
    """Renders text as the page `part/chapter.md`; collects what is wrong with it."""

    def __init__(self, book: Book):
        self.book = book
        self.problems: list[str] = []

    def __call__(self, text: str, page: str = "part/chapter.md") -> str:
        modules = self.book.modules
        extension = PublishingExtension(
            module=next((m for m in modules if f"{m.path}.md" == page), None),
            modules=modules,
            page=page,
            problem=self.problems.append,
            code_page=lambda module: f"code/{module.path}.md",
            abbreviations=[
                Abbreviation("MSE", "abbr-mse", "均方误差", "mean squared error", ""),
                Abbreviation("SGD", "abbr-sgd", "随机梯度下降", "stochastic gradient descent", ""),
            ],
            glossary="../glossary.md",
        )
        return markdown.markdown(
            text,
            extensions=[
                "tables",
                "attr_list",
                "admonition",
                "pymdownx.arithmatex",
                "pymdownx.superfences",
                "pymdownx.inlinehilite",
                "pymdownx.blocks.caption",
                extension,
            ],
            extension_configs={"pymdownx.arithmatex": {"generic": True}},
        )


@pytest.fixture
def render(printed) -> Printer:
    return Printer(printed)


def text_of(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html).strip()


@pytest.mark.parametrize(
    ("quoted", "text"),
    [
        ("{{ noise.loss }}", "1.0 ± 1.0"),
        ("{{noise.loss}}", "1.0 ± 1.0"),
        ("{{ noise.loss.max }}", "2.0"),
        ("{{ noise.loss.n }}", "3"),
        ("{{ noise.loss:.3f }}", "1.000 ± 1.000"),
        ("{{ noise.loss.sd:.0% }}", "100%"),
        ("{{ noise.rate }}", "−0.10 ± 0.10"),
        ("{{ noise.exact }}", "0.25"),
        ("中文{{ noise.exact }}中文", "中文0.25中文"),
        ("**{{ noise.exact }}** 与 {{ noise.loss.min:.0f }}", "0.25 与 0"),
        ("[{{ noise.exact }}](x.md)", "0.25"),
        ("- {{ noise.exact }}", "0.25"),
        ("## 比 {{ noise.exact }} {#x}", "比 0.25"),
        ('!!! note "甲"\n    {{ noise.exact }}', "甲\n0.25"),
    ],
)
def test_a_quoted_value_is_filled_in(render, quoted, text):
    assert text_of(render(quoted)) == text
    assert render.problems == []


def test_a_value_says_where_it_comes_from(render):
    html = render("{{ noise.loss }}")
    assert '<span class="measured" title="noise.loss，n = 3">' in html


def test_values_stand_in_the_cells_of_a_table(render):
    html = render(
        "| 量 | 值 |\n|---|---|\n| 损失 | {{ noise.loss }} |\n| 率 | {{ noise.rate.mean:.1f }} |\n"
    )
    assert [text_of(cell) for cell in re.findall(r"<td>.*?</td>", html)] == [
        "损失",
        "1.0 ± 1.0",
        "率",
        "−0.1",
    ]
    assert render.problems == []


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("`{{ noise.loss }}`", "{{ noise.loss }}"),
        ("`#!python {{ noise.loss }}`", "{{ noise.loss }}"),
        ("$\\frac{{ noise.loss }}{2}$", "\\(\\frac{{ noise.loss }}{2}\\)"),
        ("$$\n{{ noise.loss }}\n$$", "\\[\n{{ noise.loss }}\n\\]"),
        ("```text\n{{ noise.loss }}\n```", "{{ noise.loss }}"),
        ("```python\nf'{{ noise.loss }}'\n```", "f'{{ noise.loss }}'"),
    ],
)
def test_code_and_formulas_are_not_touched(render, source, kept):
    html = render(source)
    assert text_of(html).replace("&#39;", "'") == kept
    assert "measured" not in html
    assert render.problems == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ noise.los }}", "unknown result 'noise.los'; it measures: loss, exact, rate"),
        (
            "{{ nois.loss }}",
            "unknown experiment 'nois'; snippets/part/chapter.py measures: noise",
        ),
        ("{{ noise.loss:.3q }}", "'.3q' is not a format for a number: Unknown format code 'q'"),
        (
            "/// results | nois\nloss: 损失\n///",
            "unknown experiment 'nois'; snippets/part/chapter.py measures: noise",
        ),
        (
            "/// results | noise\nlos: 损失\n///",
            "unknown result 'noise.los'; it measures: loss, exact, rate",
        ),
        ("/// results | noise\nloss\n///", "results block: expected 'key: label', got 'loss'"),
        ("![图](chapter/curve.svg)", "no figure 'curve'; snippets/part/chapter.py draws: line"),
        ("![](chapter/line.svg)", "figure 'line' has no alternative text"),
    ],
)
def test_what_cannot_be_printed_is_reported_once(render, source, problem):
    html = render(source)
    (reported,) = render.problems
    assert reported.startswith(problem)
    assert "{{" not in html  # or it would be reported a second time, as not filled in


def test_a_page_without_a_module_cannot_quote(render):
    render("{{ noise.loss }}", page="notation.md")
    assert render.problems == ["this page has no snippet module, so it cannot quote results"]


@pytest.mark.parametrize("half", ["{{ noise }}", "{{ noise.loss | .3f }}", "{{ noise.loss:.3f"])
def test_what_is_no_quotation_stays_visible(render, half):
    assert text_of(render(half)) == half  # and so is reported: see test_pages


def test_a_table_of_results(render):
    html = render("/// results | noise\nloss: 损失 $L$\nrate|.2f: **率**\nexact: 精确\n///")
    rows = [
        [text_of(cell) for cell in re.findall(r"<t[dh]>.*?</t[dh]>", row)]
        for row in re.findall(r"(?s)<tr>.*?</tr>", html)
    ]
    assert rows == [
        ["测得的量", "均值 ± 标准差"],
        ["损失 \\(L\\)", "1.0 ± 1.0"],
        ["率", "−0.10 ± 0.10"],
        ["精确", "0.25"],
    ]
    assert "<strong>率</strong>" in html
    assert '<p class="provenance">n = 3，种子 0–2</p>' in html
    assert render.problems == []


@pytest.mark.parametrize(
    ("page", "source"),
    [
        ("part/chapter.md", "chapter/line.svg"),
        ("part/other.md", "chapter/line.svg"),
        ("part/other.md", "../part/chapter/line.svg"),
        ("index.md", "part/chapter/line.svg"),
    ],
)
def test_a_figure_is_embedded_in_both_themes_from_any_page(render, page, source):
    html = render(f"![一条线]({source})", page=page)
    images = re.findall(r"<img[^>]*>", html)
    assert [re.search(r'src="([^"]*)"', image)[1] for image in images] == [
        source.replace(".svg", ".light.svg#only-light"),
        source.replace(".svg", ".dark.svg#only-dark"),
    ]
    assert all('alt="一条线"' in image and 'width="461"' in image for image in images)
    assert 'href="code/part/chapter.md#figure_line"' in html
    assert render.problems == []


@pytest.mark.parametrize(
    "source", ["photo.png", "https://example.org/part/chapter/line.svg", "elsewhere/line.svg"]
)
def test_other_images_are_left_to_the_site_generator(render, source):
    assert f'src="{source}"' in render(f"![图]({source})")
    assert render.problems == []


def test_the_comments_that_name_items_are_dropped(render):
    assert render("甲\n<!-- items: S3-32 S3-33 -->\n") == "<p>甲</p>"


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("中文**“加粗”**中文", "<p>中文<strong>“加粗”</strong>中文</p>"),
        ("中文**加粗。**中文", "<p>中文<strong>加粗。</strong>中文</p>"),
        ("中文**`x`**中文", "<p>中文<strong><code>x</code></strong>中文</p>"),
        ("第一行，\n第二行", "<p>第一行，第二行</p>"),
        ("第一行\n**第二行**\n第三行", "<p>第一行<strong>第二行</strong>第三行</p>"),
        ("one\ntwo", "<p>one\ntwo</p>"),
    ],
)
def test_chinese_text_is_set_as_a_reader_expects(render, source, html):
    assert render(source) == html


# Abbreviations

EXPLAINED = '<a class="abbreviation" href="../glossary.md#abbr-{}"><abbr title="{}">{}</abbr></a>'
MSE = EXPLAINED.format("mse", "均方误差，mean squared error", "MSE")
SGD = EXPLAINED.format("sgd", "随机梯度下降，stochastic gradient descent", "SGD")


def test_first_use_of_an_abbreviation_is_explained(render):
    html = render("用 SGD 让 MSE 下降，SGD 的 MSE\n\n- **MSE** 和 SGD")
    assert html.startswith(f"<p>用 {SGD} 让 {MSE} 下降，SGD 的 MSE</p>")
    assert html.count("<abbr") == 2


@pytest.mark.parametrize(
    "text",
    [
        "# MSE {#a}",
        "`MSE`",
        "$MSE$",
        "$$\nMSE\n$$",
        "```text\nMSE\n```",
        "[看 MSE](a.md)",
        "RMSE、MSELoss、nn.MSE、MSE-x",
        '!!! note "MSE"\n    正文',
    ],
)
def test_abbreviation_is_left_alone(render, text):
    assert "<abbr" not in render(text)
    assert render(f"{text}\n\n段落里的 MSE。").count("<abbr") == 1


def test_abbreviation_explained_by_its_sentence_needs_nothing(render):
    html = render("均方误差（mean squared error，MSE）。以后只写 MSE 和 SGD。")
    assert "MSE</abbr>" not in html and "SGD</abbr>" in html
    html = render("（MSE，mean squared error）。以后只写 MSE 和 SGD。")
    assert "MSE</abbr>" not in html and "SGD</abbr>" in html


def test_abbreviations_inside_and_after_other_marks(render):
    html = render("**先 MSE** 后 SGD。")
    assert html == f"<p><strong>先 {MSE}</strong> 后 {SGD}。</p>"


NOTED = "```python\nx = 1  # (1)!\ny = 2\n```\n"


def test_notes_of_the_code_are_numbers_that_are_not_copied(render):
    html = render(NOTED + "\n1. 注 $a$\n")
    assert render.problems == []
    assert '<span class="code-note" data-note="1"></span>\n' in html
    assert '<ol class="code-notes">' in html
    code = re.search(r"<code>(.*?)</code>", html, re.S)[1]
    assert re.sub(r"<[^>]+>", "", code) == "x = 1\ny = 2\n"


@pytest.mark.parametrize(
    "source",
    [
        NOTED + "\n文字\n\n1. 列表\n",  # nothing says that the list is the notes'
        NOTED.replace("  # (1)!", "") + "\n1. 列表\n",
        NOTED.replace(" (1)!", " (N, 1)") + "\n1. 列表\n",
    ],
)
def test_a_list_that_is_not_notes_stays_a_list(render, source):
    html = render(source)
    assert "code-note" not in html
    assert "<ol>" in html
