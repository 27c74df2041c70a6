"""The copy button gives exactly the code of the module, and what is copied runs by itself."""

import re

import pytest
from playwright.sync_api import expect

from publishing.modules import SECTION_END, SECTION_START, Module
from publishing.pages import Fence, expand, fences
from tests.site.built import CHAPTERS, ROOT


def _included(page: str) -> list[Fence]:
    text = (ROOT / "docs" / "zh" / f"{page.strip('/')}.md").read_text(encoding="utf-8")
    return [fence for fence in fences(text) if fence.language == "python" and fence.included]


def _section(page: str, name: str) -> str:
    """Return a section as it stands in the module, without the markers of sections inside it."""
    lines, kept, inside = Module(page.strip("/")).source.splitlines(), [], False
    for line in lines:
        if match := SECTION_START.match(line):
            inside = inside or match[1] == name
        elif match := SECTION_END.match(line):
            if match[1] == name:
                return "\n".join(kept)
        elif inside:
            kept.append(line)
    raise AssertionError(f"no section {name}")


def _copy(tab, block) -> str:
    tab.evaluate("navigator.clipboard.writeText('')")
    block.scroll_into_view_if_needed()
    block.locator("button[data-md-type=copy]").click()
    for _ in range(100):
        if text := tab.evaluate("navigator.clipboard.readText()"):
            return text
        tab.wait_for_timeout(20)
    raise AssertionError("nothing was copied")


@pytest.fixture(scope="module")
def copying(visit):
    with visit(permissions=["clipboard-read", "clipboard-write"]) as visitor:
        yield visitor


def test_every_block_has_one_button_and_says_that_it_copied(copying):
    tab = copying.open(CHAPTERS[0], details=True)
    buttons, blocks = tab.locator("button[data-md-type=copy]"), tab.locator("pre > code")
    for block in blocks.all():  # a button comes when its block comes near the screen
        block.scroll_into_view_if_needed()
        expect(block.locator("xpath=..").locator(buttons)).to_have_count(1)
    assert blocks.count() > 10
    buttons.first.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("[role=status].md-dialog--active:has-text('已复制')")


@pytest.mark.parametrize("page", CHAPTERS)
def test_copied_code_is_the_module_section_and_runs(copying, page):
    wanted = _included(page)[:2]
    tab = copying.open(page, details=True)
    copied = []
    for fence in wanted:
        head = expand(fence).strip().splitlines()[0]
        blocks = tab.locator("article .language-python").filter(has_text=head.partition("#")[0])
        copied.append(_copy(tab, blocks.first))
    for fence, text in zip(wanted, copied, strict=True):
        names = [name.partition(":")[2] for name in fence.included]
        section = "\n".join(_section(page, name) for name in names)
        # `# (1)!` is a note's marker: the reader sees a number, and copies neither.
        plain = [re.sub(r"\s*# \(\d+\)!?\s*$", "", line) for line in section.strip().splitlines()]
        assert [line.rstrip() for line in text.strip().splitlines()] == plain
    exec(compile("\n\n".join(copied), "<copied>", "exec"), {"__name__": "copied"})
