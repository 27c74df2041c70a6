"""A card is the figure, whole, in the middle of a picture of the right shape."""

import struct

import pytest

from publishing import PublishingError, cards, store


def svg(width: float, height: float) -> str:
    return (
        '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" '
        f'width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}">'
        f'<rect width="{width}" height="{height}" fill="#f00"/></svg>'
    )


@pytest.mark.parametrize(("width", "height"), [(100, 100), (2000, 100), (50, 900)])
def test_a_figure_of_any_shape_fits_into_the_card(width, height):
    composed = cards.compose(svg(width, height))
    inner = composed[composed.index("<rect", 1) :]
    x, y, w, h = (
        float(inner.split(f' {name}="')[-1].split('"')[0])
        if name in "xy"
        else float(inner.split("<svg")[1].split(f' {name}="')[1].split('"')[0])
        for name in ("x", "y", "width", "height")
    )
    assert w / h == pytest.approx(width / height, rel=1e-3)
    assert 2 * x + w == pytest.approx(cards.WIDTH, abs=0.05)
    assert 2 * y + h == pytest.approx(cards.HEIGHT, abs=0.05)
    assert min(x, y) == pytest.approx(cards.MARGIN, abs=0.05)


def test_a_card_is_a_picture_of_the_size_that_is_declared():
    picture = cards.draw(svg(345.6, 230.4))
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1200, 630)


def test_what_is_no_drawing_is_refused():
    with pytest.raises(PublishingError, match="viewBox"):
        cards.compose("<p>no drawing</p>")


def test_cards_are_kept_and_only_new_ones_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "_used", {})
    monkeypatch.setattr(cards, "_kept", {})
    first = cards.draw(svg(100, 50))
    cards.keep(tmp_path)
    monkeypatch.setattr(cards, "_used", {})
    cards.recall(tmp_path)
    monkeypatch.setattr(cards, "_draw", lambda composed: pytest.fail("drawn again"))
    assert cards.draw(svg(100, 50)) == first
    assert (store.build_folder(tmp_path) / "cards.pickle").is_file()
