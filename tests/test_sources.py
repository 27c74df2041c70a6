"""Every item of the five notes is listed once, and has a place in the book."""

import pytest

from publishing import ROOT, lists
from tests.site.built import SOURCES

BOOK = lists.Book(ROOT, SOURCES)
COUNTS = {"S0": 77, "S1": 58, "S2": 121, "S3": 57, "S4": 75}
ITEMS = [f"{note}-{number:02d}" for note, count in COUNTS.items() for number in range(1, count + 1)]


def test_the_list_holds_every_item_once_and_in_order():
    listed = [item for _, item in lists.ITEM_ROW.findall(BOOK.texts["sources.md"])]
    assert len(ITEMS) == 388 and listed == ITEMS


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_has_a_place(item):
    assert BOOK.item_places.get(item), f"no page has <!-- items: … {item} … --> below a heading"


def test_pages_name_no_item_that_there_is_not():
    assert sorted(BOOK.item_places.keys() - set(ITEMS)) == []


def test_every_place_has_an_anchor_to_link_to():
    places = {place for found in BOOK.item_places.values() for place in found}
    assert [place for place in places if not place.anchor] == []
