"""What a reader's browser makes of every page: errors, width, figures, keyboard, print."""

import re

import pytest

from tests.site.built import CHAPTERS, CODE, LABS, PAGES, load_images

FIGURES = """() => [...document.querySelectorAll('article img')].map(image => ({
    theme: image.src.match(/#only-(light|dark)$/)?.[1],
    shown: getComputedStyle(image).display !== 'none',
    width: image.getBoundingClientRect().width,
    height: image.getBoundingClientRect().height,
    drawn: image.naturalWidth,
    alt: image.alt,
}))"""

TOO_WIDE = """width => [...document.querySelectorAll('article *')]
    .filter(element => element.getBoundingClientRect().right > width + 0.5)
    .filter(element => !element.closest('pre, div.arithmatex, .md-typeset__scrollwrap'))
    .map(element => `${element.tagName} ${element.textContent.slice(0, 80)}`)"""


@pytest.mark.parametrize("page", PAGES)
def test_page_loads_without_a_complaint(desktop, page):
    tab = desktop.open(page, details=True)
    load_images(tab)
    assert desktop.complaints == []
    assert desktop.foreign == []
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert sorted(ids) == sorted(set(ids))


def test_the_theme_is_at_work_after_the_first_frame(desktop):
    # Its script waits for an event that is over by then; without it, nothing follows the reader.
    tab = desktop.open(CHAPTERS[0])
    item = ".md-sidebar--secondary .md-nav__item"
    for section in ("exercises", "code"):
        tab.locator(f"article #{section}").evaluate("heading => heading.scrollIntoView()")
        tab.wait_for_selector(f"{item}:has(> [href='#{section}']) .md-nav__link--active")
    tab.wait_for_selector(".md-top:not([hidden])")


def test_the_theme_leaves_code_and_tables_as_they_came(desktop):
    # It would lay the page out once for each; see docs/assets/site.js.
    tab = desktop.open(CHAPTERS[-1], details=True)
    assert tab.locator("article pre > code").count() > 10
    assert tab.locator("article table").count() > 2
    assert tab.locator("[id^=__code_]").count() == 0
    assert tab.locator(".md-typeset__scrollwrap .md-typeset__scrollwrap").count() == 0


@pytest.mark.parametrize("page", PAGES)
def test_page_fits_a_phone(phone, page):
    tab = phone.open(page, details=True)
    for width in (360, 320):
        tab.set_viewport_size({"width": width, "height": 740})
        load_images(tab)
        if tab.evaluate("document.documentElement.scrollWidth") > width:
            pytest.fail(f"wider than {width} px: {tab.evaluate(TOO_WIDE, width)}")


def _figures(tab, theme: str) -> None:
    figures = [figure for figure in tab.evaluate(FIGURES) if figure["theme"]]
    assert figures
    for figure in figures:
        assert figure["shown"] == (figure["theme"] == theme), figure
        if figure["shown"]:
            assert figure["width"] > 100 and figure["height"] > 50 and figure["drawn"], figure
            assert figure["alt"]


@pytest.mark.parametrize("page", ["", *CHAPTERS, *LABS])
def test_figures_follow_the_theme(desktop, page):
    tab = desktop.open(page, details=True)
    seen = set()
    for _ in range(2):
        scheme = tab.evaluate("document.body.dataset.mdColorScheme")
        load_images(tab)
        _figures(tab, {"default": "light", "slate": "dark"}[scheme])
        seen.add(scheme)
        tab.click("label[title^='切换到']:visible")
    assert len(seen) == 2
    assert desktop.complaints == []


@pytest.mark.parametrize(
    ("first", "button", "then"), [("light", "深", "dark"), ("dark", "浅", "light")]
)
def test_the_system_chooses_the_theme_until_the_reader_does(visit, first, button, then):
    with visit(color_scheme=first) as visitor:
        tab = visitor.open(CHAPTERS[0])
        load_images(tab)
        _figures(tab, first)
        tab.click(f"label[title='切换到{button}色']")
        for page in (CHAPTERS[0], CHAPTERS[1]):
            load_images(tab)
            _figures(tab, then)
            tab = visitor.open(page)
        assert visitor.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_is_white_and_holds_everything(visit, scheme):
    with visit(color_scheme=scheme, reduced_motion="reduce") as visitor:
        tab = visitor.open(CHAPTERS[0])
        tab.emulate_media(media="print")
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        load_images(tab)
        _figures(tab, "light")
        assert tab.locator("details:not([open])").count() == 0
        assert tab.locator(".md-header:visible, .md-sidebar:visible").count() == 0
        ink = tab.evaluate(
            "getComputedStyle(document.querySelector('article > p:not([class])')).color"
        )
        assert all(int(part) < 100 for part in re.findall(r"\d+", ink)[:3]), ink
        tab.evaluate("dispatchEvent(new Event('afterprint'))")
        assert tab.locator("details[open]").count() == 0


# The keyboard

FOCUS = """() => {
    const element = document.activeElement
    const shown = element.matches('.md-option') ? element.nextElementSibling : element
    const style = getComputedStyle(shown)
    return {
        name: element.getAttribute('aria-label') || element.textContent.trim(),
        outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0,
        width: shown.getBoundingClientRect().width,
    }
}"""


def _tab(page, times: int) -> dict[str, dict]:
    found = {}
    for _ in range(times):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUS)
        found[stop["name"]] = stop
    return found


def test_keyboard_reaches_the_controls_and_shows_where_it_is(desktop):
    stops = _tab(desktop.open(CHAPTERS[0]), 8)
    for name in ("跳到正文", "切换到深色", "搜索"):
        assert name in stops, list(stops)
    assert [name for name, stop in stops.items() if not (stop["outline"] and stop["width"])] == []


def test_keyboard_reaches_menu_and_search_on_a_phone(phone):
    page = phone.open(CHAPTERS[0])
    stops = _tab(page, 6)
    assert {"目录", "搜索"} <= set(stops), list(stops)
    page.focus("[for=__drawer] [role=button]")
    page.keyboard.press("Enter")
    assert page.is_checked("#__drawer")


def test_skip_link_leads_past_the_navigation(desktop):
    page = desktop.open(CHAPTERS[0])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('article') !== null")


def test_boxes_that_scroll_can_be_focused_and_have_a_name(phone):
    page = phone.open(CHAPTERS[0], details=True)
    page.wait_for_timeout(100)  # the observer of sizes reports after the next frame
    boxes = page.evaluate(
        """() => [...document.querySelectorAll('article *')]
            .filter(box => ['auto', 'scroll'].includes(getComputedStyle(box).overflowX))
            .filter(box => box.scrollWidth > box.clientWidth)
            .map(box => [box.className, box.tabIndex, box.getAttribute('aria-label')])"""
    )
    assert boxes
    assert [box for box in boxes if box[1] != 0 or not box[2]] == []


def test_reduced_motion_is_respected(visit):
    with visit(reduced_motion="reduce") as visitor:
        slow = visitor.open(CHAPTERS[0]).evaluate(
            """() => [...document.querySelectorAll('*')].flatMap(element => {
                const style = getComputedStyle(element)
                const times = `${style.transitionDuration},${style.animationDuration}`.split(',')
                return Math.max(...times.map(parseFloat)) > 0.01 ? [element.className] : []
            })"""
        )
        assert slow == []


# Copying and downloading


def test_downloaded_module_is_the_module(server, desktop):
    page = desktop.open(CODE[-1])
    with page.expect_download() as download:
        page.click("article a[download]")
    path = CODE[-1].removeprefix("code/").strip("/")
    assert download.value.suggested_filename == f"{path.rpartition('/')[2]}.py"
