"""Every repair of `publishing/repairs.py` is still needed, and mends all there is to mend."""

import pytest

from publishing.repairs import REPAIRS, repair
from tests.site.built import PAGES, file_of


@pytest.mark.parametrize("name", REPAIRS)
def test_the_fault_is_still_there(bare_site, name):
    texts = (file_of(bare_site, page).read_text(encoding="utf-8") for page in PAGES)
    assert any(REPAIRS[name].pattern.search(text) for text in texts), (
        f"nothing on the site has a '{name}' any more: the theme has changed; remove the repair, "
        "or adapt its pattern if the fault only looks different now"
    )


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_left_to_repair(site, page):
    text = file_of(site, page).read_text(encoding="utf-8")
    assert [name for name, one in REPAIRS.items() if one.pattern.search(text)] == []


def test_repairing_twice_changes_nothing(bare_site):
    once = repair(file_of(bare_site, "").read_text(encoding="utf-8"))
    assert repair(once) == once
