"""What a reader has marked as read is remembered by the browser, shown, undone, never needed."""

from playwright.sync_api import expect

from tests.site.built import CHAPTERS

BOX = ".mark-read input"
COPY = "button[data-md-type=copy]"
READ = "() => [...document.querySelectorAll('.is-read')].map(link => link.textContent.trim())"


def test_a_chapter_is_marked_remembered_shown_and_unmarked(visit):
    with visit() as visitor:
        tab = visitor.open(CHAPTERS[0])
        expect(tab.locator(BOX)).not_to_be_checked()
        assert tab.evaluate(READ) == []
        tab.check(BOX)
        title = tab.evaluate(READ)
        assert title
        tab.reload()
        assert tab.is_checked(BOX)
        tab = visitor.open("")
        assert (
            tab.locator(".reading-progress").inner_text().startswith(f"读完 1 / {len(CHAPTERS)} 章")
        )
        assert len(tab.evaluate(READ)) >= 1
        tab = visitor.open(CHAPTERS[0])
        tab.uncheck(BOX)
        assert tab.evaluate(READ) == []
        tab = visitor.open("")
        expect(tab.locator(".reading-progress")).to_be_attached()
        assert tab.locator(".reading-progress").is_hidden()
        assert visitor.complaints == []


def test_all_marks_can_be_cleared_by_the_keyboard(visit):
    with visit() as visitor:
        for chapter in CHAPTERS[:2]:
            visitor.open(chapter).check(BOX)
        tab = visitor.open("")
        tab.focus(".reading-progress button")
        tab.keyboard.press("Enter")
        expect(tab.locator(".reading-progress")).to_be_attached()
        assert tab.locator(".reading-progress").is_hidden()
        assert not visitor.open(CHAPTERS[0]).is_checked(BOX)


def test_rubbish_in_the_store_counts_as_nothing(visit):
    with visit() as visitor:
        visitor.page.add_init_script("localStorage.setItem('runnable-notes.read', '{oops')")
        tab = visitor.open(CHAPTERS[0])
        assert not tab.is_checked(BOX)
        assert visitor.complaints == []


def test_without_storage_the_page_is_whole_and_has_no_box(visit):
    with visit() as visitor:
        visitor.page.add_init_script(
            "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no') }})"
        )
        tab = visitor.open(CHAPTERS[0], details=True)
        for block in tab.locator("pre > code").all():  # the buttons come when one comes near
            block.scroll_into_view_if_needed()
        expect(tab.locator("pre > code").last.locator("..").locator(COPY)).to_have_count(1)
        assert tab.locator(COPY).count() > 10
        assert tab.locator(BOX).count() == 0
