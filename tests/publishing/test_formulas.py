"""Formulas become MathML, or are named."""

import pytest

from publishing.formulas import FormulaError, render, replace_formulas


@pytest.mark.parametrize(
    "tex",
    [
        "x^2",
        r"\frac12",
        r"y = 2x \quad\text{两倍}",
        r"\text{若 }x>0\text{，则…}",
        r"\operatorname*{arg\,min}_\theta L",
        r"\begin{aligned} a &= b \\ &= c \end{aligned}",
    ],
)
def test_a_good_formula_becomes_mathml_that_carries_its_source(tex):
    math = render(tex)
    assert math.startswith("<math") and math.endswith("</math>")
    assert '<annotation encoding="application/x-tex">' in math


def test_a_displayed_formula_says_so():
    assert 'display="block"' in render("x", True)
    assert 'display="block"' not in render("x", False)


@pytest.mark.parametrize(
    ("tex", "what"),
    [
        (r"\frac{1", "Unexpected end of input"),
        (r"\foo x", r"Unsupported function name: \foo"),
        ("x_1_2", "Double subscript"),
        ("a & b", "Expected 'EOF', got '&'"),
        (r"\begin{matrix} 1", "end of input"),
        ("y = 二 x", r"put the Chinese '二' inside \text{}"),
        ("（x）", r"put the Chinese '（' inside \text{}"),
        (r"\text{好}，x", r"put the Chinese '，' inside \text{}"),
    ],
)
def test_a_bad_formula_is_named_in_one_line_as_it_was_typed(tex, what):
    with pytest.raises(FormulaError) as caught:
        render(tex)
    message = str(caught.value)
    assert message.startswith(f"bad formula ${tex}$: ")
    assert what in message
    assert "\n" not in message and "\u0332" not in message


def test_a_page_keeps_its_bad_formulas_and_all_are_reported():
    page = (
        r'<p>好<span class="arithmatex">\(a &lt; b\)</span>，'
        r'坏<span class="arithmatex">\(\foo\)</span></p>'
        r'<div class="arithmatex">\[\bar{\]</div><code>\(x\)</code>'
    )
    problems: list[str] = []
    printed = replace_formulas(page, problems.append)
    assert printed.count("<math") == 1
    assert "a < b</annotation>" in printed or "a &lt; b</annotation>" in printed
    assert r"\(\foo\)" in printed and r"<code>\(x\)</code>" in printed
    assert [problem.split(":")[0] for problem in problems] == [
        r"bad formula $\foo$",
        r"bad formula $\bar{$",
    ]
