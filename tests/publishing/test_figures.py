"""Lines and text of the figures can be read on the page, in both themes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from publishing import figures


def ratio(one: str, other: str) -> float:
    return figures.contrast(np.array(to_rgb(one)), np.array(to_rgb(other)))


def test_contrast_is_that_of_the_standard():
    assert ratio("#000000", "#ffffff") == pytest.approx(21)
    assert ratio("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the known near miss
    assert ratio("#123456", "#123456") == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_is_legible_on_its_ground(theme):
    colours = [*figures.COLOURS[theme], figures.INK[theme]]
    assert [c for c in colours if ratio(c, figures.GROUND[theme]) < 4.5] == []


def written(colour: str | None, ground: str | None, alpha: float = 1.0):
    """Return a function that draws a word in a colour, on a box or on the page."""

    def figure_word():
        fig, ax = plt.subplots(layout="constrained")
        ax.plot([0, 1], alpha=0)
        if ground:
            ax.axhspan(0, 1, facecolor=ground, alpha=alpha)
        ax.text(0.5, 0.5, "word", ha="center", va="center", color=colour)
        return fig

    return figure_word


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("colour", "ground", "alpha", "legible"),
    [
        (None, None, 1.0, True),
        ("C3", None, 1.0, True),
        ("0.5", None, 1.0, False),
        (None, "C0", 0.4, True),
        (None, "C0", 0.9, False),
        ("C0", "C0", 1.0, False),
    ],
)
def test_text_is_measured_against_what_lies_below_it(theme, colour, ground, alpha, legible):
    function = written(colour, ground, alpha)
    if legible:
        assert figures.draw(function, theme)
    else:
        with pytest.raises(ValueError, match=r"the text 'word' has a contrast of \d\.\d"):
            figures.draw(function, theme)


def test_the_check_leaves_the_drawing_as_it_was(monkeypatch):
    checked = figures.draw(written("C1", "C0", 0.1), "light")
    monkeypatch.setattr(figures, "_check_contrast", lambda figure, theme: None)
    assert figures.draw(written("C1", "C0", 0.1), "light") == checked
