"""axe-core finds nothing, in light, in dark, on a phone; code and formulas are legible in each."""

import re

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe

from publishing import ROOT
from tests.site.built import CODE, NAV

CHECKED = [*NAV, CODE[0], "404.html"]


READERS = {
    "phone": {"width": 360, "height": 740},
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
}


@pytest.fixture(scope="module", params=READERS)
def reader(request, visit):
    with visit(reduced_motion="reduce", **READERS[request.param]) as visitor:
        yield visitor


# Axe takes a millisecond for the contrast of one element, and of formulas it says that it does not
# know. Most elements of a chapter are words of code and signs of formulas: those are left to FAINT,
# which measures them with all other text.
AXE = Axe(
    f"{AXE_SCRIPT}; axe.configure({{rules: "
    "[{id: 'color-contrast', selector: '*:not(pre code span, math *)'}]})"
)

FAINT = """() => {
    const brush = Object.assign(document.createElement('canvas'), {width: 1, height: 1})
        .getContext('2d', {willReadFrequently: true})
    const remembered = (function_, found = new Map()) => argument => {
        if (!found.has(argument)) found.set(argument, function_(argument))
        return found.get(argument)
    }
    const colour = remembered(text => {
        brush.clearRect(0, 0, 1, 1)
        brush.fillStyle = text
        brush.fillRect(0, 0, 1, 1)
        const [red, green, blue, alpha] = brush.getImageData(0, 0, 1, 1).data
        return [red, green, blue, alpha / 255]
    })
    const over = ([r, g, b, alpha], ground) =>
        [r, g, b].map((part, index) => part * alpha + ground[index] * (1 - alpha))
    const ground = remembered(element => {
        if (!element) return [255, 255, 255]
        const own = colour(getComputedStyle(element).backgroundColor)
        return own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement))
    })
    const opacity = remembered(element =>
        element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1)
    const luminance = parts => parts
        .map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0)
    const faint = {}
    for (const element of document.querySelectorAll('body *')) {
        const text = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE)
        if (!text.some(node => node.data.trim()) || element.closest('annotation')) continue
        if (!element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue
        const ink = [...colour(getComputedStyle(element).color)]
        ink[3] *= opacity(element)
        const [low, high] = [over(ink, ground(element)), ground(element)]
            .map(luminance).sort((a, b) => a - b)
        const ratio = (high + 0.05) / (low + 0.05)
        if (ratio < 4.5) faint[`${element.tagName}.${element.className}: ${ratio.toFixed(2)}`] =
            element.textContent
    }
    return faint
}"""
"""Text with too little contrast, one example for each kind of element and contrast."""


def _faults(tab) -> list[str]:
    found = [f"faint: {kind}: {text}" for kind, text in tab.evaluate(FAINT).items()]
    for violation in AXE.run(tab).response["violations"]:
        for node in violation["nodes"]:
            # axe does not count MathML as text (daisy/ace#398); screen readers read it.
            if violation["id"] == "empty-table-header" and "<math" in node["html"]:
                continue
            found.append(f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}")
    return found


@pytest.mark.parametrize("page", CHECKED)
def test_axe_finds_nothing(reader, page):
    tab = reader.open(page, details=True)
    tab.wait_for_timeout(50)  # the observer of sizes reports after the next frame
    assert _faults(tab) == []


def test_open_search_and_menu_have_no_fault(visit):
    with visit(width=360, height=740, reduced_motion="reduce") as visitor:
        tab = visitor.open("glossary/")
        tab.click("[for=__drawer].md-header__button")
        assert _faults(tab) == []
        tab.click(".md-overlay", position={"x": 350, "y": 400})
        tab.click("[for=__search].md-header__button")
        tab.fill("[data-md-component=search-query]", "学习率")
        tab.press("[data-md-component=search-query]", "End")
        tab.wait_for_selector(".md-search-result__item")
        assert _faults(tab) == []


# Colours of code, in both themes, those that no page uses at present as well.


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted([_luminance(one), _luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("selector", ["[data-md-color-scheme]", '[data-md-color-scheme="slate"]'])
def test_code_colours_are_legible(selector):
    css = (ROOT / "docs" / "assets" / "site.css").read_text(encoding="utf-8")
    block = re.search(re.escape(selector) + r" \{(.*?)\}", css, re.S)[1]
    colours = dict(re.findall(r"--md-code-([\w-]+)-color: (#[0-9a-f]{6});", block))
    ground = colours.pop("bg")
    colours.pop("hl", None)  # the ground of a marked line
    assert len(colours) >= 10
    assert {name: c for name, c in colours.items() if _contrast(c, ground) < 4.5} == {}
